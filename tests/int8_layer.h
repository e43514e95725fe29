/* SPDX-License-Identifier: Apache-2.0 */
/* Layers of random shapes and numbers for the tests of the integer kernels. */
#ifndef SK_TEST_INT8_LAYER_H
#define SK_TEST_INT8_LAYER_H

#include <math.h>
#include <string.h>

#include "base/base.h"
#include "kernels/int8/int8.h"

static inline int between(sk_rng *rng, int low, int high) {
    return low + (int)sk_rng_below(rng, (uint32_t)(high - low + 1));
}

static inline void random_codes(sk_rng *rng, int8_t *codes, size_t count, int lowest) {
    const int extremes = sk_rng_below(rng, 8) == 0;
    for (size_t i = 0; i < count; i++) {
        const int code = between(rng, lowest, 127);
        codes[i] = (int8_t)(extremes ? (code & 1 ? 127 : lowest) : code);
    }
}

static inline void random_layer(sk_rng *rng, sk_q_layer *l) {
    static const sk_op ops[] = {SK_OP_CONV,  SK_OP_DEPTHWISE, SK_OP_POINTWISE, SK_OP_POOL,
                                SK_OP_SCALE, SK_OP_ADD,       SK_OP_LINEAR};
    memset(l, 0, sizeof *l);
    l->op = ops[sk_rng_below(rng, 7)];
    const int spatial = l->op == SK_OP_CONV || l->op == SK_OP_DEPTHWISE;
    l->kernel = spatial ? 1 + 2 * between(rng, 0, 3) : 1;
    l->stride = spatial ? between(rng, 1, 3) : 1;
    l->pad = spatial ? between(rng, 0, l->kernel - 1) : 0;
    l->in_c = between(rng, 1, l->op == SK_OP_CONV ? 20 : 70);
    l->in_h = l->op == SK_OP_LINEAR ? 1 : between(rng, 1, 12);
    l->in_w = l->op == SK_OP_LINEAR ? 1 : between(rng, 1, 12);
    while (l->in_h + 2 * l->pad < l->kernel || l->in_w + 2 * l->pad < l->kernel) {
        l->in_h++;
        l->in_w++;
    }
    const int gemm = l->op == SK_OP_CONV || l->op == SK_OP_POINTWISE || l->op == SK_OP_LINEAR;
    l->out_c = gemm ? between(rng, 1, 40) : l->in_c;
    l->out_h = l->op == SK_OP_POOL ? 1 : (l->in_h + 2 * l->pad - l->kernel) / l->stride + 1;
    l->out_w = l->op == SK_OP_POOL ? 1 : (l->in_w + 2 * l->pad - l->kernel) / l->stride + 1;
    l->zero_in = between(rng, -128, 127);
    l->zero_in2 = between(rng, -128, 127);
    l->zero_out = between(rng, -128, 127);
    l->low = sk_rng_below(rng, 2) ? -128 : between(rng, -128, 0);
    l->high = 127;
    l->act = gemm || l->op == SK_OP_DEPTHWISE ? (sk_act)sk_rng_below(rng, 4) : SK_ACT_NONE;
    l->shift = between(rng, 34, 50);
    l->mult2 = between(rng, 1, INT32_MAX - 1);
    l->factor = (float)exp(-8 + 8 * sk_rng_uniform(rng));
    l->factor2 = (float)exp(-8 + 8 * sk_rng_uniform(rng));
}
#endif
