/* SPDX-License-Identifier: Apache-2.0 */
/* Rounding that is learned (AdaRound). Which of its two whole neighbours each code becomes is decided by the error that
 * the sum over the input makes, not by the weight's own: errors of weights whose inputs go together may cancel. The
 * squared error over the calibration data is a quadratic form of the input's second moments, so that each step costs a
 * product with these instead of a pass over the data. */
#include <math.h>
#include <string.h>

#include "kernels/kernels.h"
#include "quant/quant.h"

enum { STEPS = 100, WARM = 20, SWEEPS = 30, STAGES = 5 };
static const float STRETCH = 1.2f; /* of what leads from v to h, so that 0 and 1 are reached */
static const float RATE = 0.05f, REGULARISER = 0.05f;

typedef struct state {
    const sk_rounding *p;
    const sk_kernels *k;
    size_t count;
    float *packed;              /* gram */
    float *v, *m1, *m2;         /* what is learned, and Adam's moments */
    float *soft, *low, *slope;  /* codes as they are now, the lower neighbours, and the derivative of soft by v */
    float *pull;                /* derivative of the whole by v */
    float *product;             /* soft times gram */
    double *gradient;           /* of one channel */
    int8_t *learned;
} state;

double sk_rounding_error(const sk_rounding *p, int channel, const int8_t *codes) {
    const size_t d = (size_t)p->depth;
    const float *cross = p->cross + d * (size_t)channel;
    double sum = 0;
    for (size_t i = 0; i < d; i++) {
        double row = 0;
        for (size_t k = 0; k < d; k++) {
            row += (double)p->gram[i * d + k] * codes[k];
        }
        sum += codes[i] * (row - 2 * (double)cross[i]);
    }
    return sum;
}

/* The lower of the two codes; a weight beyond the codes has no choice. */
static float lower(const sk_rounding *p, float real) {
    return fminf(fmaxf(floorf(real), (float)p->least), (float)(p->most - 1));
}

static int is_fixed(const sk_rounding *p, float real) {
    return real >= (float)p->most || real <= (float)p->least;
}

static float end_of(const sk_rounding *p, float real) {
    return (float)(real > 0 ? p->most : p->least);
}

static void start(state *s) {
    for (size_t i = 0; i < s->count; i++) {
        const float rest = fminf(fmaxf(s->p->real[i] - lower(s->p, s->p->real[i]), 0.01f), 0.99f);
        const float side = (2 * rest - 1) / STRETCH;
        s->v[i] = side / (1 - fabsf(side));
    }
    memset(s->m1, 0, s->count * sizeof *s->m1);
    memset(s->m2, 0, s->count * sizeof *s->m2);
}

/* h = 1/2 + STRETCH/2 * v / (1 + |v|), clipped: as good as the paper's sigmoid, without an exponential. */
static void soften(state *s) {
    for (size_t i = 0; i < s->count; i++) {
        const float wide = 1 + fabsf(s->v[i]), h = 0.5f + STRETCH / 2 * s->v[i] / wide, real = s->p->real[i];
        const int inside = h > 0 && h < 1 && !is_fixed(s->p, real);
        const float low = lower(s->p, real), soft = low + (h < 0 ? 0 : h > 1 ? 1 : h);
        s->soft[i] = is_fixed(s->p, real) ? end_of(s->p, real) : soft;
        s->low[i] = low;
        s->slope[i] = inside ? STRETCH / 2 / (wide * wide) : 0;
    }
}

/* Adam on the error, relative to what one code is worth, and on 1 - |2h - 1|^beta, which drives h to 0 or 1: gently
 * near the middle at first (beta - 1 = 16, 8, 4, 2, 1). */
static void learn(state *s, int step, float worth) {
    const sk_rounding *p = s->p;
    const int squarings = STAGES - 1 - (step < WARM ? 0 : (step - WARM) * STAGES / (STEPS - WARM));
    const float strength = step < WARM ? 0 : REGULARISER * 2 * (float)((1 << squarings) + 1);
    const sk_gemm g = {.m = p->channels, .n = p->depth, .k = p->depth, .a = s->soft, .lda = p->depth,
                       .packed = s->packed, .c = s->product, .ldc = p->depth};
    const float bias1 = 1 - powf(0.9f, (float)step + 1), bias2 = 1 - powf(0.999f, (float)step + 1);
    soften(s);
    s->k->gemm(&g);
    for (size_t i = 0; i < s->count; i++) {
        const float side = 2 * (s->soft[i] - s->low[i]) - 1;
        float power = fabsf(side);
        for (int k = 0; k < squarings; k++) {
            power *= power;
        }
        const float pull = side < 0 ? strength * power : -strength * power;
        s->pull[i] = (2 * (s->product[i] - p->cross[i]) / worth + pull) * s->slope[i];
    }
    for (size_t i = 0; i < s->count; i++) {
        s->m1[i] = 0.9f * s->m1[i] + 0.1f * s->pull[i];
        s->m2[i] = 0.999f * s->m2[i] + 0.001f * s->pull[i] * s->pull[i];
        s->v[i] -= RATE * s->m1[i] / bias1 / (sqrtf(s->m2[i] / bias2) + 1e-8f);
    }
}

/* Turns single codes to their other neighbour while that lowers the error. */
static void polish(state *s, int channel, int8_t *codes) {
    const size_t d = (size_t)s->p->depth;
    const float *gram = s->p->gram, *cross = s->p->cross + d * (size_t)channel;
    const float *real = s->p->real + d * (size_t)channel;
    for (size_t i = 0; i < d; i++) {
        double row = -(double)cross[i];
        for (size_t k = 0; k < d; k++) {
            row += (double)gram[i * d + k] * codes[k];
        }
        s->gradient[i] = row;
    }
    int turned = 1;
    for (int sweep = 0; turned && sweep < SWEEPS; sweep++) {
        turned = 0;
        for (size_t i = 0; i < d; i++) {
            const int up = codes[i] <= lower(s->p, real[i]) ? 1 : -1;
            const double gain = 2 * up * s->gradient[i] + (double)gram[i * d + i];
            if (is_fixed(s->p, real[i]) || gain >= -1e-9 * (double)gram[i * d + i]) {
                continue;
            }
            codes[i] = (int8_t)(codes[i] + up);
            for (size_t k = 0; k < d; k++) {
                s->gradient[k] += up * (double)gram[i * d + k];
            }
            turned = 1;
        }
    }
}

static void finish(state *s, int8_t *codes) {
    const size_t d = (size_t)s->p->depth;
    for (int c = 0; c < s->p->channels; c++) {
        int8_t *mine = codes + d * (size_t)c, *other = s->learned;
        for (size_t i = 0; i < d; i++) {
            const float real = s->p->real[d * (size_t)c + i];
            const float soft = s->soft[d * (size_t)c + i];
            other[i] = (int8_t)(is_fixed(s->p, real) ? end_of(s->p, real) : floorf(soft + 0.5f));
        }
        polish(s, c, other);
        polish(s, c, mine);
        if (sk_rounding_error(s->p, c, other) < sk_rounding_error(s->p, c, mine)) {
            memcpy(mine, other, d);
        }
    }
}

static void release(state *s) {
    sk_free(s->packed);
    sk_free(s->v);
    sk_free(s->m1);
    sk_free(s->m2);
    sk_free(s->soft);
    sk_free(s->low);
    sk_free(s->slope);
    sk_free(s->pull);
    sk_free(s->product);
    sk_free(s->gradient);
    sk_free(s->learned);
}

sk_status sk_adaround(const sk_rounding *p, int8_t *codes, sk_error *err) {
    const size_t d = (size_t)p->depth, count = d * (size_t)p->channels;
    state s = {.p = p, .k = sk_kernels_get(), .count = count};
    s.packed = sk_alloc(s.k->gemm_pack_size(p->depth, p->depth), sizeof *s.packed);
    s.v = sk_alloc(count, sizeof *s.v);
    s.m1 = sk_alloc(count, sizeof *s.m1);
    s.m2 = sk_alloc(count, sizeof *s.m2);
    s.soft = sk_alloc(count, sizeof *s.soft);
    s.low = sk_alloc(count, sizeof *s.low);
    s.slope = sk_alloc(count, sizeof *s.slope);
    s.pull = sk_alloc(count, sizeof *s.pull);
    s.product = sk_alloc(count, sizeof *s.product);
    s.gradient = sk_alloc(d, sizeof *s.gradient);
    s.learned = sk_alloc(d, 1);
    if (!s.packed || !s.v || !s.m1 || !s.m2 || !s.soft || !s.low || !s.slope || !s.pull || !s.product ||
        !s.gradient || !s.learned) {
        release(&s);
        return sk_fail_memory(err, "the learned rounding");
    }
    double worth = 0;
    for (size_t i = 0; i < d; i++) {
        worth += (double)p->gram[i * d + i] / (double)d;
    }
    s.k->gemm_pack(s.packed, p->depth, p->depth, p->gram, p->depth, 1);
    start(&s);
    for (int step = 0; step < STEPS; step++) {
        learn(&s, step, (float)fmax(worth, 1e-12));
    }
    soften(&s);
    finish(&s, codes);
    release(&s);
    return SK_OK;
}
