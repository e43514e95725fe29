/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of quantisation: ranges of activations, scales of weights, the .skn writer. Internal. */
#ifndef SK_QUANT_QUANT_H
#define SK_QUANT_QUANT_H

#include "base/base.h"
#include "siskin/quant.h"

/* ---- ranges (range.c) -------------------------------------------------------------------------------------- */
#define SK_RANGE_BINS 4096
typedef struct sk_range {
    float low, high;
    uint64_t seen;
    uint64_t *bins; /* SK_RANGE_BINS over [low, high], NULL for min and max alone */
} sk_range;
void sk_range_widen(sk_range *range, const float *data, size_t count);
void sk_range_count(sk_range *range, const float *data, size_t count);
/* The [low, high] whose 256 codes give the least squared error over the histogram; contains 0. */
void sk_range_best(const sk_range *range, float *low, float *high);
/* Low and high per channel of one pixel. */
void sk_channels_widen(float *low, float *high, const float *data, int channels);
/* Replaces `low` by a factor per channel such that every channel divided by its factor fills the same range, which goes
 * into *range. The lower side gets 1, 1/2, 1/4 ... of the upper one, whichever makes finer codes on the whole. */
void sk_channels_equalize(float *low, const float *high, int channels, sk_range *range);
void sk_range_count_equal(sk_range *range, const float *factor, const float *data, size_t pixels, int channels);
/* The scale s of codes -127..127 for which sum (w - s*code)^2 is least, at most max|w| / 127. */
double sk_weight_scale_best(const float *weights, size_t count, size_t step);

/* ---- the writer (build.c) ---------------------------------------------------------------------------------- */
typedef struct sk_skn_recipe {
    const sk_card *card;
    const sk_layer *layers;
    size_t count;
    float *const *weight; /* per layer as sk_model_folded gives them, NULL where there are none */
    float *const *bias;
    const float (*range)[2]; /* of each layer's output, divided by `equal` */
    float *const *equal;     /* NULL, or per layer NULL or a factor per output channel (readers all depthwise) */
    sk_quant_algorithm algorithm;
    int pictures;
    uint64_t seed;
} sk_skn_recipe;
/* *bytes is released with sk_free. The result has passed the runtime's own check. */
sk_status sk_skn_build(const sk_skn_recipe *recipe, uint8_t **bytes, size_t *size, sk_error *err);
#endif
