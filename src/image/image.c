/* SPDX-License-Identifier: Apache-2.0 */
/* Pictures in memory and the choice of the format: by content when reading, by extension when writing, because
 * collections from the web are full of PNGs called .jpg. */
#include "siskin/image.h"

#include <string.h>

#include "image/codec.h"

sk_status sk_image_decode(const void *bytes, size_t size, const char *name, sk_image *out, sk_error *err)
{
    *out = (sk_image){0};
    if (size == 0)
        return sk_fail(err, SK_ERR_FORMAT, "cannot read %s: the file is empty", name);
    if (sk_jpeg_is(bytes, size))
        return sk_jpeg_decode(bytes, size, name, out, err);
    if (sk_png_is(bytes, size))
        return sk_png_decode(bytes, size, name, out, NULL, err);
    return sk_fail(err, SK_ERR_FORMAT, "cannot read %s: not a JPEG or PNG picture", name);
}

sk_status sk_image_read(const char *path, sk_image *out, sk_error *err)
{
    *out = (sk_image){0};
    uint8_t *bytes = NULL;
    size_t size = 0;
    sk_status status = sk_file_read(path, &bytes, &size, err);
    if (status == SK_OK)
        status = sk_image_decode(bytes, size, path, out, err);
    sk_free(bytes);
    return status;
}

sk_status sk_image_read_cutout(const char *path, sk_image *out, sk_image *alpha, sk_error *err)
{
    *out = (sk_image){0};
    *alpha = (sk_image){0};
    uint8_t *bytes = NULL;
    size_t size = 0;
    sk_status status = sk_file_read(path, &bytes, &size, err);
    if (status == SK_OK && !sk_png_is(bytes, size))
        status = sk_fail(err, SK_ERR_FORMAT, "cannot read %s: not a PNG picture, and only those have an opacity", path);
    if (status == SK_OK)
        status = sk_png_decode(bytes, size, path, out, alpha, err);
    sk_free(bytes);
    return status;
}

static int image_is_usable(const sk_image *image)
{
    return image->data && image->width > 0 && image->height > 0;
}

sk_status sk_image_encode(const sk_image *image, int quality, uint8_t **bytes, size_t *size, sk_error *err)
{
    *bytes = NULL;
    *size = 0;
    if (!image_is_usable(image))
        return sk_fail(err, SK_ERR_ARGUMENT, "cannot encode an empty picture");
    if (quality < 0 || quality > 100)
        return sk_fail(err, SK_ERR_ARGUMENT, "JPEG quality %d is outside 1 to 100 (0 asks for PNG)", quality);
    if (quality == 0)
        return sk_png_encode(image, bytes, size, err);
    return sk_jpeg_encode(image, quality, bytes, size, err);
}

void sk_free_bytes(uint8_t *bytes)
{
    sk_free(bytes);
}

sk_status sk_image_write(const char *path, const sk_image *image, int quality, sk_error *err)
{
    const int jpeg = sk_has_suffix(path, ".jpg") || sk_has_suffix(path, ".jpeg");
    if (!jpeg && !sk_has_suffix(path, ".png"))
        return sk_fail(err, SK_ERR_ARGUMENT, "cannot write %s: the name must end in .png, .jpg or .jpeg", path);
    if (jpeg && (quality < 1 || quality > 100))
        return sk_fail(err, SK_ERR_ARGUMENT, "cannot write %s: JPEG quality %d is outside 1 to 100", path, quality);
    uint8_t *bytes = NULL;
    size_t size = 0;
    sk_status status = sk_image_encode(image, jpeg ? quality : 0, &bytes, &size, err);
    if (status == SK_OK)
        status = sk_file_write(path, bytes, size, err);
    sk_free(bytes);
    return status;
}
