/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of a runner, shared by runner.c, which folds and packs, and run.c, which runs. Internal. */
#ifndef SK_NET_RUNNER_H
#define SK_NET_RUNNER_H

#include "net/net.h"

enum {
    SK_RUN_TEAM = 4,        /* threads that share a picture's rows: more would mostly wait for each other */
    SK_RUN_GROUP = 64,      /* pictures whose features meet in the classifier */
    SK_RUN_LARGE = 4,       /* buffers of `large` values: input, output, expanded and depthwise output of a block */
    SK_RUN_BAND = 96 * 1024 /* values that an expanded band may have to stay in the second-level cache */
};

typedef struct sk_packed_layer {
    sk_real *weight, *bias; /* into runner->packs */
} sk_packed_layer;

struct sk_runner {
    const sk_net *net;
    const sk_kernels *k;
    int threads;
    sk_real mean[3], gain[3]; /* of the first layer's bytes */
    sk_packed_layer layers[SK_MAX_LAYERS];
    sk_real *packs;
    double *fold; /* one layer's folded weights */
    sk_real *fold_real;
    size_t large, small; /* values of one buffer */
    size_t width;        /* of the widest layer, rounded up */
    sk_real *buffers;    /* [threads][SK_RUN_LARGE * large + small] */
    sk_real *features;   /* [SK_RUN_GROUP][features] */
    sk_real *hidden;     /* [SK_RUN_GROUP][hidden] */
};

static inline size_t sk_run_round_up(size_t count) { return (count + 15) / 16 * 16; }
static inline size_t sk_run_slot(const sk_runner *r) { return SK_RUN_LARGE * r->large + r->small; }
#endif
