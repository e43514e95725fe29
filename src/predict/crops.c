/* SPDX-License-Identifier: Apache-2.0 */
/* The one preprocessing of verdicts: full-height squares of a wide frame (or the whole frame squeezed), at the
 * network's size. Everything that judges pictures goes through here, so that evaluation, calibration and the board see
 * the same bytes. */
#include <string.h>

#include "base/base.h"
#include "siskin/classifier.h"

#define SHORTER_SIDE 256

sk_status sk_crops_parse(const char *text, sk_crops *out, sk_error *err) {
    if (text && strcmp(text, "1") == 0) {
        *out = SK_CROPS_ONE;
    } else if (text && strcmp(text, "3") == 0) {
        *out = SK_CROPS_THREE;
    } else if (text && strcmp(text, "squeeze") == 0) {
        *out = SK_CROPS_SQUEEZE;
    } else {
        return sk_fail(err, SK_ERR_ARGUMENT, "crops '%s' are not known: choose 1, 3 or squeeze", text ? text : "");
    }
    return SK_OK;
}

int sk_crops_count(sk_crops crops) {
    return crops == SK_CROPS_THREE ? 3 : 1;
}

/* Square number `index` (0 centre, 1 left or top, 2 right or bottom); whole pixels, so that no crop is blurred by half
 * a pixel against the others. */
static sk_box square(const sk_image *image, int index) {
    const int w = image->width, h = image->height, side = w < h ? w : h;
    const int free_x = w - side, free_y = h - side;
    const int x = index == 0 ? free_x / 2 : index == 1 ? 0 : free_x;
    const int y = index == 0 ? free_y / 2 : index == 1 ? 0 : free_y;
    return (sk_box){(float)x, (float)y, (float)(x + side), (float)(y + side)};
}

sk_status sk_crops_prepare(const sk_image *image, sk_crops crops, int size, uint8_t *out, sk_error *err) {
    if (!image || !image->data || image->width < 1 || image->height < 1 || size < 1 || !out) {
        return sk_fail(err, SK_ERR_ARGUMENT, "cannot cut crops: the picture is empty or the size is not positive");
    }
    sk_image small = {0};
    const sk_image *base = image;
    const int shorter = image->width < image->height ? image->width : image->height;
    sk_status status = SK_OK;
    if (shorter != SHORTER_SIDE) {
        status = sk_image_resize_shorter(image, SHORTER_SIDE, &small, err);
        base = &small;
    }
    const size_t bytes = (size_t)size * (size_t)size * 3;
    for (int i = 0; status == SK_OK && i < sk_crops_count(crops); i++) {
        const sk_box box = square(base, i);
        status = sk_image_resize(base, crops == SK_CROPS_SQUEEZE ? NULL : &box, size, size, out + bytes * (size_t)i,
                                 err);
    }
    sk_image_free(&small);
    return status;
}
