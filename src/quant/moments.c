/* SPDX-License-Identifier: Apache-2.0 */
/* One layer's weights rounded by what they do: first and second moments of what they see, and of that with what the sum
 * should be, at a few places of every picture. */
#include <math.h>
#include <string.h>

#include "kernels/kernels.h"
#include "quant/quant.h"

enum { BLOCK = 32 }; /* output channels that a thread rounds at a time */

typedef struct rounding {
    const sk_moments *m;
    int8_t *codes;
} rounding;

void sk_moments_close(sk_moments *m) {
    sk_free(m->x);
    sk_free(m->gram);
    sk_free(m->cross);
    sk_free(m->real);
    sk_free(m->mean_x);
    sk_free(m->mean_t);
    memset(m, 0, sizeof *m);
}

sk_status sk_moments_open(const sk_layer *l, int rows, sk_moments *m, sk_error *err) {
    const size_t width = (size_t)sk_layer_taps(l) * (size_t)l->in_c;
    const size_t c = (size_t)l->out_c, d = (size_t)sk_layer_depth(l);
    *m = (sk_moments){.rows = rows, .depth = (int)d, .channels = l->out_c, .depthwise = l->op == SK_OP_DEPTHWISE};
    m->x = sk_alloc((size_t)rows * width, sizeof *m->x);
    m->gram = sk_calloc(d * d * (m->depthwise ? c : 1), sizeof *m->gram);
    m->cross = sk_calloc(c * d, sizeof *m->cross);
    m->real = sk_alloc(c * d, sizeof *m->real);
    m->mean_x = sk_calloc(width, sizeof *m->mean_x);
    m->mean_t = sk_calloc(c, sizeof *m->mean_t);
    const int complete = m->x && m->gram && m->cross && m->real && m->mean_x && m->mean_t;
    return complete ? SK_OK : sk_fail_memory(err, "the moments of a layer");
}

void sk_moments_settle(sk_moments *m) {
    const size_t c = (size_t)m->channels, width = (size_t)m->depth * (m->depthwise ? c : 1);
    for (int i = 0; i < m->rows; i++) {
        for (size_t k = 0; k < width; k++) {
            m->mean_x[k] += (double)m->x[(size_t)i * width + k];
        }
        for (size_t o = 0; o < c; o++) {
            m->mean_t[o] += (double)m->target[(size_t)i * c + o];
        }
    }
    for (size_t k = 0; k < width; k++) {
        m->mean_x[k] /= m->rows;
    }
    for (size_t o = 0; o < c; o++) {
        m->mean_t[o] /= m->rows;
    }
}

static void depthwise_moments(sk_moments *m) {
    const size_t c = (size_t)m->channels, d = (size_t)m->depth;
    for (int i = 0; i < m->rows; i++) {
        const float *x = m->x + (size_t)i * d * c, *t = m->target + (size_t)i * c;
        for (size_t a = 0; a < d; a++) {
            for (size_t b = 0; b < d; b++) {
                float *gram = m->gram + (a * d + b) * c;
                for (size_t o = 0; o < c; o++) {
                    gram[o] += x[a * c + o] * x[b * c + o];
                }
            }
            for (size_t o = 0; o < c; o++) {
                m->cross[a * c + o] += x[a * c + o] * t[o];
            }
        }
    }
}

static void dense_moments(sk_moments *m) {
    const sk_kernels *k = sk_kernels_get();
    k->gemm_tn(m->rows, m->depth, m->depth, m->x, m->depth, m->x, m->depth, m->gram);
    k->gemm_tn(m->rows, m->channels, m->depth, m->target, m->channels, m->x, m->depth, m->cross);
}

/* Sums to means; about the means where a bias takes the mean error away. Few rows say little about many weights: a
 * share of the mean diagonal, which is returned, holds those that they say nothing about near their real codes. */
static double settle_gram(const sk_moments *m, float *gram, const double *mean) {
    const size_t d = (size_t)m->depth;
    double diagonal = 0;
    for (size_t a = 0; a < d; a++) {
        for (size_t b = 0; b < d; b++) {
            gram[a * d + b] = (float)((double)gram[a * d + b] / m->rows - (m->centred ? mean[a] * mean[b] : 0));
        }
        diagonal += (double)gram[a * d + a] / (double)d;
    }
    const double hold = fmax(0.02 * fmax(1, (double)d / m->rows) * diagonal, 1e-6);
    for (size_t a = 0; a < d; a++) {
        gram[a * d + a] = (float)((double)gram[a * d + a] + hold);
    }
    return hold;
}

/* The sum wanted is that of codes less zero, so codes with it have to reach what `zero` of every weight adds, too. */
static void settle_cross(const sk_moments *m, int channel, float *cross, const float *gram, const double *mean,
                         double hold) {
    const size_t d = (size_t)m->depth;
    const double mean_t = m->centred ? m->mean_t[channel] : 0, zero = m->zero ? (double)m->zero[channel] : 0;
    const float *real = m->real + d * (size_t)channel;
    for (size_t a = 0; a < d; a++) {
        double shift = 0;
        for (size_t b = 0; zero != 0 && b < d; b++) {
            shift += zero * (double)gram[a * d + b];
        }
        cross[a] = (float)((double)cross[a] / m->rows - mean[a] * mean_t + hold * ((double)real[a] - zero) + shift);
    }
}

static sk_rounding problem_of(const sk_moments *m, int channels, const float *real, const float *gram,
                              const float *cross) {
    return (sk_rounding){m->depth, channels, m->least, m->most, real, gram, cross};
}

static sk_status round_dense(void *user, int index, sk_error *err) {
    const rounding *r = user;
    const sk_moments *m = r->m;
    const int first = index * BLOCK, end = first + BLOCK < m->channels ? first + BLOCK : m->channels;
    const size_t at = (size_t)first * (size_t)m->depth;
    for (int o = first; o < end; o++) {
        settle_cross(m, o, m->cross + (size_t)o * (size_t)m->depth, m->gram, m->mean_x, m->hold);
    }
    const sk_rounding problem = problem_of(m, end - first, m->real + at, m->gram, m->cross + at);
    return sk_adaround(&problem, r->codes + at, err);
}

static sk_status round_depthwise(void *user, int index, sk_error *err) {
    const rounding *r = user;
    const sk_moments *m = r->m;
    const size_t c = (size_t)m->channels, d = (size_t)m->depth, o = (size_t)index;
    float *gram = sk_alloc(d * d + d, sizeof *gram);
    double mean[SK_MAX_TAPS];
    if (!gram) {
        return sk_fail_memory(err, "the moments of a channel");
    }
    float *cross = gram + d * d;
    for (size_t a = 0; a < d; a++) {
        mean[a] = m->mean_x[a * c + o];
        cross[a] = m->cross[a * c + o];
        for (size_t b = 0; b < d; b++) {
            gram[a * d + b] = m->gram[(a * d + b) * c + o];
        }
    }
    const double hold = settle_gram(m, gram, mean);
    settle_cross(m, index, cross, gram, mean, hold);
    const sk_rounding problem = problem_of(m, 1, m->real + o * d, gram, cross);
    const sk_status status = sk_adaround(&problem, r->codes + o * d, err);
    sk_free(gram);
    return status;
}

sk_status sk_moments_round(sk_moments *m, int8_t *codes, int threads, sk_error *err) {
    rounding r = {m, codes};
    if (m->depthwise) {
        depthwise_moments(m);
        return sk_parallel(0, m->channels, threads, round_depthwise, &r, err);
    }
    dense_moments(m);
    m->hold = settle_gram(m, m->gram, m->mean_x);
    return sk_parallel(0, (m->channels + BLOCK - 1) / BLOCK, threads, round_dense, &r, err);
}

double sk_moments_missing(const sk_moments *m, const int8_t *codes, int channel) {
    const size_t d = (size_t)m->depth, c = (size_t)m->channels, o = (size_t)channel;
    const double zero = m->zero ? (double)m->zero[o] : 0;
    double sum = 0;
    for (size_t k = 0; k < d; k++) {
        sum += (codes[o * d + k] - zero) * m->mean_x[m->depthwise ? k * c + o : k];
    }
    return m->mean_t[o] - sum;
}
