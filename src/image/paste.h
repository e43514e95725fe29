/* SPDX-License-Identifier: Apache-2.0 */
/* Pasting one picture's object into another: a soft mask guessed from the picture's own colours, a place that may lie
 * partly outside, and light that leans towards the ground's. Pictures with a bird and without one are pasted alike, so
 * that the traces of pasting say nothing about the label. Internal. */
#ifndef SK_IMAGE_PASTE_H
#define SK_IMAGE_PASTE_H

#include "base/base.h"
#include "siskin/augment.h"
#include "siskin/image.h"

/* ---- mask --------------------------------------------------------------------------------------- */
#define SK_MASK_SIDE 48
/* How opaque the object is at each point of a picture, on a grid whose longer side has SK_MASK_SIDE points. The mask
 * is 0 along the picture's edge, and never empty. */
typedef struct sk_mask {
    int width, height;
    int separated; /* 0: object and surroundings could not be told apart, and the mask is a soft ragged oval */
    uint8_t alpha[SK_MASK_SIDE * SK_MASK_SIDE]; /* rows tightly packed; 0 transparent, 255 opaque */
} sk_mask;

/* Mixtures of colours of the picture's border and of its middle, refined twice (the idea of GrabCut: Rother,
 * Kolmogorov, Blake 2004, without its graph cut), an oval as the prior, the edge led by the picture (He, Sun, Tang
 * 2010). `seed` shapes the oval's edge only. */
sk_status sk_mask_guess(const sk_image *picture, uint64_t seed, sk_mask *out, sk_error *err);
/* Its two steps, for who pastes a picture more than once: what the picture tells, which is the costly one and no matter
 * of chance; the oval of a mask that is not separated, which until then has its width and height alone. */
sk_status sk_mask_find(const sk_image *picture, sk_mask *out, sk_error *err);
void sk_mask_oval(uint64_t seed, sk_mask *mask);

/* ---- place -------------------------------------------------------------------------------------- */
/* The rectangle that the whole picture, transparent parts included, takes in the ground, in pixels of the ground; it
 * may leave it on any side. */
typedef struct sk_place {
    int x, y, width, height;
    int mirrored;
    float light; /* 0: the picture keeps its light; 1: mean, contrast and colourfulness become the ground's */
    float shade; /* the object's exposure after that: 1 as it is, less is darker */
} sk_place;

/* What a place is drawn from. The object is what the mask shows; its side is the longer one, as a share of the
 * ground's shorter side. */
typedef struct sk_place_range {
    float side_min, side_max; /* drawn evenly in the logarithm: small ones as often as large ones */
    float cut_min, cut_max;   /* share of the mask outside the ground, over one of its four borders; 0 and 0: none */
} sk_place_range;

/* Draws from `rng` alone: seven draws whatever the picture. light .5, shade 1. */
sk_place sk_place_draw(const sk_mask *mask, const sk_image *picture, int ground_width, int ground_height,
                       const sk_place_range *range, sk_rng *rng);

/* ---- paste -------------------------------------------------------------------------------------- */
/* Pastes `picture` into `ground`. `alpha` (may be NULL) receives ground->width * ground->height bytes: how much of
 * each pixel is the picture's; 0 means that the pixel is untouched. A place wholly outside changes nothing. */
sk_status sk_paste(sk_image *ground, const sk_image *picture, const sk_mask *mask, const sk_place *place,
                   uint8_t *alpha, sk_error *err);

/* A square piece of `ground`, .6 to 1 of its shorter side, mirrored half the time, resized to `size`. */
sk_status sk_ground_crop(const sk_image *ground, sk_rng *rng, int size, uint8_t *out, sk_error *err);

/* The picture of training: a piece of the ground with `picture` pasted on it, between options->paste_min of the side
 * and .8; half of the objects stand against the light. With the chance options->cut up to options->cut_max of the
 * object lies outside. `found`: what sk_mask_find says of the picture. Writes size x size x 3 bytes. */
sk_status sk_paste_train(const sk_image *picture, const sk_mask *found, const sk_image *ground,
                         const sk_augment *options, sk_rng *rng, int size, uint8_t *out, sk_error *err);

#endif
