/* SPDX-License-Identifier: Apache-2.0 */
/* Which pictures an epoch shows, and in which order: a function of (seed, epoch). Internal. */
#ifndef SK_TRAIN_SAMPLER_H
#define SK_TRAIN_SAMPLER_H

#include "base/base.h"
#include "siskin/train.h"

typedef struct sk_sampler_item {
    int label;  /* 0 up to SK_CLASS_COUNT - 1 */
    int source; /* any small number from 0: the same for pictures of one source */
} sk_sampler_item;

typedef struct sk_sampler_options {
    int balanced;      /* every class equally often */
    double source_mix; /* 0..1: each source's share to the power 1 - source_mix; classes go first */
    size_t epoch_size; /* 0: as many as there are items */
    uint64_t seed;
} sk_sampler_options;

/* An item of the epoch, and how often it came before in this epoch. */
typedef struct sk_draw {
    uint32_t item, copy;
} sk_draw;

typedef struct sk_sampler sk_sampler;

/* items: `count` of them, copied. */
sk_status sk_sampler_create(const sk_sampler_item *items, size_t count, const sk_sampler_options *options,
                            sk_sampler **out, sk_error *err);
void sk_sampler_free(sk_sampler *sampler);
size_t sk_sampler_size(const sk_sampler *sampler); /* draws per epoch */
/* Expected share of a label among the draws. */
double sk_sampler_share(const sk_sampler *sampler, int label);
/* draws[sk_sampler_size()]. With neither balance, mix nor size each item comes once. Otherwise every item comes as
 * often as its share of the epoch says, rounded up or down by lot, and so does every source of every label. */
void sk_sampler_draw(sk_sampler *sampler, int epoch, sk_draw *draws);
#endif
