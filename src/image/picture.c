/* SPDX-License-Identifier: Apache-2.0 */
/* A picture in memory. Part of the board runtime. */
#include "image/codec.h"

sk_status sk_image_create(int width, int height, sk_image *out, sk_error *err)
{
    *out = (sk_image){0};
    if (width < 1 || height < 1 || (int64_t)width * height > SK_IMAGE_MAX_PIXELS)
        return sk_fail(err, SK_ERR_ARGUMENT, "a picture of %d x %d pixels is not possible: 1 to 100 million pixels",
                       width, height);
    out->data = sk_alloc((size_t)width * (size_t)height, 3);
    if (!out->data)
        return sk_fail_memory(err, "a picture");
    out->width = width;
    out->height = height;
    return SK_OK;
}

void sk_image_free(sk_image *image)
{
    if (!image)
        return;
    sk_free(image->data);
    *image = (sk_image){0};
}
