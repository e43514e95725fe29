/* SPDX-License-Identifier: Apache-2.0 */
/* The pictures the network sees: torchvision's training and evaluation transforms up to, but not including, the
 * conversion to float. Both write size x size x 3 bytes straight from a (cached) picture, with one resampling. */
#ifndef SK_IMAGE_AUGMENT_H
#define SK_IMAGE_AUGMENT_H

#include "base/base.h"
#include "siskin/augment.h"
#include "siskin/image.h"

/* Both steps of training below, one after the other, without paste. With sk_augment_seed(): RandomResizedCrop(size,
 * scale .08-1, ratio 3/4-4/3) and RandomHorizontalFlip(.5). Draws from `rng` alone: the same state gives the same
 * bytes. */
sk_status sk_transform_train(const sk_image *image, const sk_augment *augment, sk_rng *rng, int size, uint8_t *out,
                             sk_error *err);
/* Where the picture lies: scale, flip, shrink, cut. */
sk_status sk_transform_place(const sk_image *image, const sk_augment *augment, sk_rng *rng, int size, uint8_t *out,
                             sk_error *err);
/* What light, lens, sensor and recorder do to it: all fields from brightness on, in place on size x size x 3 bytes. */
sk_status sk_transform_camera(const sk_augment *augment, sk_rng *rng, int size, uint8_t *pixels, sk_error *err);

/* Resize(256) and CenterCrop(size); above 256 Resize(size). A picture whose shorter side is 256 already is only cut. */
sk_status sk_transform_eval(const sk_image *image, int size, uint8_t *out, sk_error *err);

#endif
