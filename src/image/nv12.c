/* SPDX-License-Identifier: Apache-2.0 */
/* NV12, what cameras deliver, row by row into the resizer: a frame of 2304 x 1296 would be 9 MB as RGB, which a board
 * of 64 MB does not have to spare. */
#include "image/codec.h"

typedef struct frame {
    const uint8_t *y, *uv;
    size_t y_stride, uv_stride;
    int width, limited;
} frame;

/* ITU-R BT.601, in 1/65536: gain of Y, its zero, and the shares of Cb and Cr. */
typedef struct matrix {
    int luma, black, red_cr, green_cb, green_cr, blue_cb;
} matrix;
static const matrix full_range = {65536, 0, 91881, 22554, 46802, 116130};
static const matrix limited_range = {76309, 16, 104597, 25675, 53279, 132201};

static uint8_t clip(int value)
{
    value = (value + 32768) >> 16;
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

static void make_row(const void *user, int y, uint8_t *rgb)
{
    const frame *f = user;
    const matrix *m = f->limited ? &limited_range : &full_range;
    const uint8_t *luma = f->y + (size_t)y * f->y_stride, *chroma = f->uv + (size_t)(y / 2) * f->uv_stride;
    for (int x = 0; x < f->width; x++, rgb += 3) {
        const int base = (luma[x] - m->black) * m->luma;
        const int cb = chroma[x / 2 * 2] - 128, cr = chroma[x / 2 * 2 + 1] - 128;
        rgb[0] = clip(base + m->red_cr * cr);
        rgb[1] = clip(base - m->green_cb * cb - m->green_cr * cr);
        rgb[2] = clip(base + m->blue_cb * cb);
    }
}

sk_status sk_image_from_nv12(const uint8_t *y, size_t y_stride, const uint8_t *uv, size_t uv_stride, int width,
                             int height, int limited, int side, sk_image *out, sk_error *err)
{
    *out = (sk_image){0};
    if (!y || !uv || width < 2 || height < 2 || width % 2 || height % 2 || y_stride < (size_t)width ||
        uv_stride < (size_t)width)
        return sk_fail(err, SK_ERR_ARGUMENT, "an NV12 frame of %d x %d pixels is not possible: both must be even",
                       width, height);
    int out_width = 0, out_height = 0;
    sk_status status = sk_shorter_size(width, height, side, &out_width, &out_height, err);
    if (status == SK_OK)
        status = sk_image_create(out_width, out_height, out, err);
    const frame f = {y, uv, y_stride, uv_stride, width, limited};
    if (status == SK_OK)
        status = sk_resize_rows(make_row, &f, width, height, out_width, out_height, out->data, err);
    if (status != SK_OK)
        sk_image_free(out);
    return status;
}
