/* SPDX-License-Identifier: Apache-2.0 */
/* Values rounded to their int8 codes, the gradient of that, and weights likewise. */
#include "net/fake.h"

#include <math.h>
#include <string.h>

enum { WIDTH = 2048 }; /* values that are worked on together, whole rows or a part of one */

/* ---- codes ----------------------------------------------------------------------------------------------------- */
void sk_quantizer_ready(sk_quantizer *q) {
    double low = fmin(q->low, 0), high = fmax(q->high, 0), zero;

    if (!(high - low > 1e-6)) high = low + 1e-6; /* a dead tensor */
    q->scale = (double)(float)((high - low) / 255);
    zero = fmin(fmax(floor(-128 - low / q->scale + 0.5), -128), 127);
    q->least = (sk_real)(-128 - zero);
    q->most = (sk_real)(127 - zero);
    q->pull_least = (sk_real)(fmin(q->pull_low, 0) / q->scale);
    q->pull_most = (sk_real)(fmax(q->pull_high, 0) / q->scale);
}

void sk_fake_ready(sk_fake *fake, const sk_card *card) {
    fake->input = (sk_quantizer){.on = 1};
    for (int ch = 0; ch < 3; ch++) {
        fake->input.low = fmin(fake->input.low, (0 - (double)card->mean[ch]) / (double)card->std[ch]);
        fake->input.high = fmax(fake->input.high, (1 - (double)card->mean[ch]) / (double)card->std[ch]);
    }
    sk_quantizer_ready(&fake->input);
    for (int i = 0; i < SK_MAX_LAYERS; i++) {
        sk_quantizer_ready(&fake->output[i]);
        sk_quantizer_ready(&fake->before[i]);
    }
}

/* To the nearest whole number for |x| up to 2^21: adding what has no room for fractions drops them, and unlike rint it
 * is one vector instruction everywhere. */
static inline sk_real nearest(sk_real x) {
    const sk_real large = sizeof x == 4 ? (sk_real)12582912.0 : (sk_real)6755399441055744.0;

    return (x + large) - large;
}

static inline sk_real clamp(sk_real x, sk_real least, sk_real most) {
    x = x > least ? x : least;
    return x < most ? x : most;
}

/* What one value of channel j is worth, for WIDTH channels from `at` on. */
static void units(const sk_quantizer *q, int at, int count, sk_real *unit, sk_real *inverse) {
    for (int j = 0; j < count; j++) {
        const double u = q->scale * (q->equal ? (double)q->equal[at + j] : 1);

        unit[j] = (sk_real)u;
        inverse[j] = (sk_real)(1 / u);
    }
}

void sk_quantize_values(const sk_quantizer *q, int rows, int c, const sk_real *x, sk_act act, sk_real *to) {
    const size_t all = (size_t)rows * (size_t)c;
    sk_real unit[WIDTH], inverse[WIDTH];
    const sk_real least = q->least, most = q->most;

    if (act != SK_ACT_NONE) sk_kernels_get()->act(all, x, act, to);
    else if (to != x) memcpy(to, x, all * sizeof *to);
    for (int at = 0; q->on && at < c; at += WIDTH) {
        const int count = c - at < WIDTH ? c - at : WIDTH;

        units(q, at, count, unit, inverse);
        for (int r = 0; r < rows; r++) {
            sk_real *out = to + (size_t)r * (size_t)c + (size_t)at;

            for (int j = 0; j < count; j++) out[j] = nearest(clamp(out[j] * inverse[j], least, most)) * unit[j];
        }
    }
}

typedef struct ends {
    sk_real inside[WIDTH], below[WIDTH], above[WIDTH]; /* per channel: sums of d (round(v) - v), of d beyond an end */
} ends;

static void backward_row(const sk_quantizer *q, int count, const sk_real *x, const sk_real *inverse, sk_real pull,
                         sk_real *d, ends *e) {
    const sk_real least = q->least, most = q->most, from = q->pull_least, to = q->pull_most;

    for (int j = 0; j < count; j++) {
        const sk_real v = x[j] * inverse[j], g = d[j], near = nearest(clamp(v, least, most));
        /* what is rounded to the last code from just outside is still inside, as it is for the integers */
        const sk_real under = v < least - (sk_real)0.5 ? 1 : 0, over = v > most + (sk_real)0.5 ? 1 : 0;
        const sk_real in = 1 - under - over;

        e->inside[j] += g * in * (near - v);
        e->below[j] += g * under;
        e->above[j] += g * over;
        d[j] = g * in + pull * ((v > to ? v - to : 0) + (v < from ? v - from : 0));
    }
}

void sk_quantize_backward(const sk_quantizer *q, int rows, int c, const sk_real *x, sk_act act, sk_real pull,
                          sk_real *d, double *sums) {
    sk_real unit[WIDTH], inverse[WIDTH], active[WIDTH];
    ends e;

    for (int at = 0; q->on && at < c; at += WIDTH) {
        const int count = c - at < WIDTH ? c - at : WIDTH;

        units(q, at, count, unit, inverse);
        memset(e.inside, 0, (size_t)count * sizeof *e.inside);
        memset(e.below, 0, (size_t)count * sizeof *e.below);
        memset(e.above, 0, (size_t)count * sizeof *e.above);
        for (int r = 0; r < rows; r++) {
            const size_t first = (size_t)r * (size_t)c + (size_t)at;
            const sk_real *from = x + first;

            if (act != SK_ACT_NONE) {
                sk_kernels_get()->act((size_t)count, from, act, active);
                from = active;
            }
            backward_row(q, count, from, inverse, pull, d + first, &e);
        }
        for (int j = 0; j < count; j++) {
            const double equal = q->equal ? (double)q->equal[at + j] : 1, step = (double)e.inside[j] / 255;

            sums[0] += equal * ((double)e.below[j] - step);
            sums[1] += equal * ((double)e.above[j] + step);
        }
    }
}

/* ---- weights --------------------------------------------------------------------------------------------------- */
static double largest(const sk_real *w, int count, size_t step) {
    double most = 0;

    for (int i = 0; i < count; i++) most = fmax(most, fabs((double)w[(size_t)i * step]));
    return most;
}

void sk_quantize_weights(sk_real *w, int rows, int c, int by_column, int per_tensor, const float *factor) {
    const int channels = by_column ? c : rows, count = by_column ? rows : c;
    const size_t step = by_column ? (size_t)c : 1, next = by_column ? 1 : (size_t)c;
    double common = 0;

    for (int i = 0; per_tensor && i < channels; i++)
        common = fmax(common, largest(w + (size_t)i * next, count, step) * (factor ? (double)factor[i] : 1));
    for (int i = 0; i < channels; i++) {
        const double by = factor ? (double)factor[i] : 1;
        sk_real *row = w + (size_t)i * next;
        const double most = per_tensor ? common : largest(row, count, step) * by;
        const double scale = fmax(most / 127, 1e-12) / by;
        const sk_real unit = (sk_real)scale, inverse = (sk_real)(1 / scale);

        for (int k = 0; k < count; k++)
            row[(size_t)k * step] = nearest(clamp(row[(size_t)k * step] * inverse, -127, 127)) * unit;
    }
}
