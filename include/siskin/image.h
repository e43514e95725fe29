/* SPDX-License-Identifier: Apache-2.0 */
/* Pictures: 8-bit RGB in memory, decoding, encoding and the one resizer. */
#ifndef SISKIN_IMAGE_H
#define SISKIN_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "siskin/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* RGB, 8 bit, interleaved, rows tightly packed: data[(y*width + x)*3 + channel].
 * `data` is owned by the image and released by sk_image_free. */
typedef struct sk_image {
    int width, height;
    uint8_t *data;
} sk_image;

/* A region in pixels of the source picture; x0 < x1, y0 < y1, fractions allowed. */
typedef struct sk_box {
    float x0, y0, x1, y1;
} sk_box;

sk_status sk_image_create(int width, int height, sk_image *out, sk_error *err);
void sk_image_free(sk_image *image);

/* Decodes JPEG (grey, YCbCr, CMYK, YCCK; EXIF orientation applied) or PNG (any colour type, 16 bit reduced
 * to 8, alpha dropped) by content, not by name. At most 100 million pixels. Errors: IO, FORMAT, MEMORY. */
sk_status sk_image_read(const char *path, sk_image *out, sk_error *err);
/* `name` is used in messages only. */
sk_status sk_image_decode(const void *bytes, size_t size, const char *name, sk_image *out, sk_error *err);

/* A PNG with its opacity: `alpha` receives a grey picture of the same size, 255 where `out` is opaque. */
sk_status sk_image_read_cutout(const char *path, sk_image *out, sk_image *alpha, sk_error *err);

/* Written aside and renamed. The extension chooses: .png, .jpg, .jpeg. quality 1..100 counts for JPEG. */
sk_status sk_image_write(const char *path, const sk_image *image, int quality, sk_error *err);
/* Encodes to memory as PNG (quality 0) or JPEG (1..100); *bytes is released with sk_free_bytes. */
sk_status sk_image_encode(const sk_image *image, int quality, uint8_t **bytes, size_t *size, sk_error *err);
void sk_free_bytes(uint8_t *bytes);

/* Antialiased bilinear (triangle filter whose support grows with the scale when shrinking), half-pixel
 * centres, 8-bit intermediate like Pillow's BILINEAR with `box`. box NULL: the whole picture. Writes
 * out_width x out_height x 3 bytes to `out`, which the caller owns. Deterministic. */
sk_status sk_image_resize(const sk_image *image, const sk_box *box, int out_width, int out_height, uint8_t *out,
                          sk_error *err);
/* Shorter side becomes `side`, aspect kept (longer = trunc(side*longer/shorter) as torchvision's Resize). */
sk_status sk_image_resize_shorter(const sk_image *image, int side, sk_image *out, sk_error *err);

/* A camera's frame, its shorter side resized to `side` as sk_image_resize_shorter does it, without an RGB copy of the
 * whole. y: height rows of width bytes, y_stride apart; uv: height / 2 rows of Cb and Cr in turn (width bytes),
 * uv_stride apart; width and height even. BT.601, values 0..255 or, with limited_range, 16..235 (16..240); each pair of
 * chroma bytes serves four pixels. Errors: ARGUMENT, MEMORY. */
sk_status sk_image_from_nv12(const uint8_t *y, size_t y_stride, const uint8_t *uv, size_t uv_stride, int width,
                             int height, int limited_range, int side, sk_image *out, sk_error *err);

#ifdef __cplusplus
}
#endif
#endif
