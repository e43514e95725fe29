/* SPDX-License-Identifier: Apache-2.0 */
/* What image.c asks of the single formats, and the pieces of this room that tests and neighbours look into. */
#ifndef SK_IMAGE_CODEC_H
#define SK_IMAGE_CODEC_H

#include "base/base.h"
#include "siskin/image.h"

#define SK_IMAGE_MAX_PIXELS 100000000LL

int sk_jpeg_is(const uint8_t *bytes, size_t size);
sk_status sk_jpeg_decode(const uint8_t *bytes, size_t size, const char *name, sk_image *out, sk_error *err);
sk_status sk_jpeg_encode(const sk_image *image, int quality, uint8_t **bytes, size_t *size, sk_error *err);
/* Pixels through an encoder and back, for its artefacts. The colour has the resolution of the brightness (444), half of
 * it across (422), or half of it both ways (420). */
typedef enum sk_jpeg_colour { SK_JPEG_444, SK_JPEG_422, SK_JPEG_420 } sk_jpeg_colour;
sk_status sk_jpeg_recode(uint8_t *pixels, int width, int height, int quality, sk_jpeg_colour colour, sk_error *err);

int sk_png_is(const uint8_t *bytes, size_t size);
/* `alpha` may be NULL; else it receives the opacity as a grey picture of the same size. */
sk_status sk_png_decode(const uint8_t *bytes, size_t size, const char *name, sk_image *out, sk_image *alpha,
                        sk_error *err);
sk_status sk_png_encode(const sk_image *image, uint8_t **bytes, size_t *size, sk_error *err);

/* The EXIF orientation 1..8 of a JPEG; 1 if there is none or it is damaged. Never reads outside the bytes. */
int sk_exif_orientation(const uint8_t *jpeg, size_t size);
/* Turns and mirrors the picture as an EXIF orientation demands. */
sk_status sk_image_orient(sk_image *image, int orientation, sk_error *err);

/* The resizer on a view: `width` x `height` pixels, rows `stride` bytes apart; nothing outside the view is read, so a
 * view is a crop, while `box` (NULL: all) lets the filter see its neighbourhood. With `mirror` the result is mirrored
 * from left to right. */
sk_status sk_resize_view(const uint8_t *data, size_t stride, int width, int height, const sk_box *box, int mirror,
                         int out_width, int out_height, uint8_t *out, sk_error *err);
/* The resizer on a picture that is nowhere whole: `make` writes the RGB bytes of row y, each row once or, the last one,
 * a few times. */
typedef void (*sk_row_maker)(const void *user, int y, uint8_t *rgb);
sk_status sk_resize_rows(sk_row_maker make, const void *user, int width, int height, int out_width, int out_height,
                         uint8_t *out, sk_error *err);
/* The size that sk_image_resize_shorter gives a picture. Errors: ARGUMENT. */
sk_status sk_shorter_size(int width, int height, int side, int *out_width, int *out_height, sk_error *err);

#endif
