/* SPDX-License-Identifier: Apache-2.0 */
/* Batch norm in AVX2: one pass over the rows for sums, one for normalise and activate, two for the gradient. Columns go
 * by 8; 64 rows are summed in single precision before they join the double sums. */
#include "kernels/x86/act_avx2.h"
#include "kernels/x86/x86.h"

enum { SK_SUM_ROWS = 64 };

/* to[0..8) += the lanes of `values`. */
SK_INLINE void add_lanes(double *to, __m256 values) {
    const __m256d low = _mm256_cvtps_pd(_mm256_castps256_ps128(values));
    const __m256d high = _mm256_cvtps_pd(_mm256_extractf128_ps(values, 1));

    _mm256_storeu_pd(to, _mm256_add_pd(_mm256_loadu_pd(to), low));
    _mm256_storeu_pd(to + 4, _mm256_add_pd(_mm256_loadu_pd(to + 4), high));
}

static void bn_sums(const float *y, int rows, int c, const float *origin, double *sum, double *sumsq) {
    if (c % 8) {
        sk_kernels_c()->bn_sums(y, rows, c, origin, sum, sumsq);
        return;
    }
    for (int r0 = 0; r0 < rows; r0 += SK_SUM_ROWS) {
        const int count = rows - r0 < SK_SUM_ROWS ? rows - r0 : SK_SUM_ROWS;
        for (int j = 0; j < c; j += 8) {
            const float *from = y + (ptrdiff_t)r0 * c + j;
            const __m256 zero = _mm256_loadu_ps(origin + j);
            __m256 first = _mm256_setzero_ps(), second = _mm256_setzero_ps();
            for (int r = 0; r < count; r++, from += c) {
                const __m256 value = _mm256_sub_ps(_mm256_loadu_ps(from), zero);
                first = _mm256_add_ps(first, value);
                second = _mm256_fmadd_ps(value, value, second);
            }
            add_lanes(sum + j, first);
            add_lanes(sumsq + j, second);
        }
    }
}

SK_INLINE void forward_act(const sk_act act, const float *y, int rows, int c, const sk_bn *bn, const float *add,
                           float *out) {
    for (int r = 0; r < rows; r++, y += c, out += c, add = add ? add + c : NULL)
        for (int j = 0; j < c; j += 8) {
            __m256 z =
                _mm256_fmadd_ps(_mm256_loadu_ps(y + j), _mm256_loadu_ps(bn->scale + j), _mm256_loadu_ps(bn->shift + j));
            z = sk_avx2_act(z, act);
            if (add) z = _mm256_add_ps(z, _mm256_loadu_ps(add + j));
            _mm256_storeu_ps(out + j, z);
        }
}

static void bn_forward(const float *y, int rows, int c, const sk_bn *bn, sk_act act, const float *add, float *out) {
    if (c % 8) sk_kernels_c()->bn_forward(y, rows, c, bn, act, add, out);
    else if (act == SK_ACT_NONE) forward_act(SK_ACT_NONE, y, rows, c, bn, add, out);
    else if (act == SK_ACT_RELU) forward_act(SK_ACT_RELU, y, rows, c, bn, add, out);
    else if (act == SK_ACT_HSWISH) forward_act(SK_ACT_HSWISH, y, rows, c, bn, add, out);
    else forward_act(SK_ACT_HSIGMOID, y, rows, c, bn, add, out);
}

SK_INLINE void backward_sums_act(const sk_act act, const float *da, const float *y, int rows, int c, const sk_bn *bn,
                                 float *dz, double *sum, double *sum_y) {
    for (int r0 = 0; r0 < rows; r0 += SK_SUM_ROWS) {
        const int count = rows - r0 < SK_SUM_ROWS ? rows - r0 : SK_SUM_ROWS;
        for (int j = 0; j < c; j += 8) {
            const __m256 scale = _mm256_loadu_ps(bn->scale + j), shift = _mm256_loadu_ps(bn->shift + j);
            const __m256 mean = _mm256_loadu_ps(bn->mean + j);
            __m256 first = _mm256_setzero_ps(), second = _mm256_setzero_ps();
            ptrdiff_t at = (ptrdiff_t)r0 * c + j;
            for (int r = 0; r < count; r++, at += c) {
                const __m256 value = _mm256_loadu_ps(y + at);
                __m256 gradient = _mm256_loadu_ps(da + at);
                if (act != SK_ACT_NONE)
                    gradient = _mm256_mul_ps(gradient, sk_avx2_act_slope(_mm256_fmadd_ps(value, scale, shift), act));
                if (dz) _mm256_storeu_ps(dz + at, gradient);
                first = _mm256_add_ps(first, gradient);
                second = _mm256_fmadd_ps(gradient, _mm256_sub_ps(value, mean), second);
            }
            add_lanes(sum + j, first);
            add_lanes(sum_y + j, second);
        }
    }
}

static void bn_backward_sums(const float *da, const float *y, int rows, int c, const sk_bn *bn, sk_act act, float *dz,
                             double *sum, double *sum_y) {
    if (c % 8) sk_kernels_c()->bn_backward_sums(da, y, rows, c, bn, act, dz, sum, sum_y);
    else if (act == SK_ACT_NONE) backward_sums_act(SK_ACT_NONE, da, y, rows, c, bn, dz, sum, sum_y);
    else if (act == SK_ACT_RELU) backward_sums_act(SK_ACT_RELU, da, y, rows, c, bn, dz, sum, sum_y);
    else if (act == SK_ACT_HSWISH) backward_sums_act(SK_ACT_HSWISH, da, y, rows, c, bn, dz, sum, sum_y);
    else backward_sums_act(SK_ACT_HSIGMOID, da, y, rows, c, bn, dz, sum, sum_y);
}

static void bn_backward(const float *dz, const float *y, int rows, int c, const float *ka, const float *kb,
                        const float *kc, const float *mean, float *dy) {
    if (c % 8) {
        sk_kernels_c()->bn_backward(dz, y, rows, c, ka, kb, kc, mean, dy);
        return;
    }
    for (int r = 0; r < rows; r++, dz += c, y += c, dy += c)
        for (int j = 0; j < c; j += 8) {
            const __m256 centred = _mm256_sub_ps(_mm256_loadu_ps(y + j), _mm256_loadu_ps(mean + j));
            const __m256 part = _mm256_fmadd_ps(_mm256_loadu_ps(kb + j), centred, _mm256_loadu_ps(kc + j));
            _mm256_storeu_ps(dy + j, _mm256_fmadd_ps(_mm256_loadu_ps(ka + j), _mm256_loadu_ps(dz + j), part));
        }
}

void sk_avx2_bn_entries(sk_kernels *table) {
    table->bn_sums = bn_sums;
    table->bn_forward = bn_forward;
    table->bn_backward_sums = bn_backward_sums;
    table->bn_backward = bn_backward;
}
