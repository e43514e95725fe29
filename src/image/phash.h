/* SPDX-License-Identifier: Apache-2.0 */
/* Perceptual hash: 63 bits that stay nearly the same when a picture is scaled, recompressed or slightly changed. */
#ifndef SK_IMAGE_PHASH_H
#define SK_IMAGE_PHASH_H

#include <stdint.h>

#include "siskin/image.h"

/* Signs, against their median, of the 8x8 lowest frequencies but the mean, of the grey 32x32 thumbnail's DCT. */
sk_status sk_phash(const sk_image *image, uint64_t *out);

/* Number of differing bits, 0..63; up to about 6 means nearly the same picture. */
int sk_phash_distance(uint64_t a, uint64_t b);

#endif
