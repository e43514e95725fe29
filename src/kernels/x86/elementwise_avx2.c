/* SPDX-License-Identifier: Apache-2.0 */
/* Pooling, squeeze-excitation scaling, activations, sums and Adam in AVX2: plain loops over 8 lanes. */
#include "kernels/x86/act_avx2.h"
#include "kernels/x86/x86.h"

static void pool(const float *x, int rows, int c, float *out) {
    if (c % 8) {
        sk_kernels_c()->pool(x, rows, c, out);
        return;
    }
    for (int j = 0; j < c; j += 8) {
        __m256 total = _mm256_setzero_ps();
        for (int r0 = 0; r0 < rows; r0 += 64) { /* short partial sums keep the rounding error small */
            const int end = r0 + 64 < rows ? r0 + 64 : rows;
            __m256 part = _mm256_setzero_ps();
            for (int r = r0; r < end; r++) part = _mm256_add_ps(part, _mm256_loadu_ps(x + (ptrdiff_t)r * c + j));
            total = _mm256_add_ps(total, part);
        }
        _mm256_storeu_ps(out + j, _mm256_div_ps(total, _mm256_set1_ps((float)rows)));
    }
}

static void scale(const float *x, int rows, int c, const float *gate, float *y) {
    if (c % 8) {
        sk_kernels_c()->scale(x, rows, c, gate, y);
        return;
    }
    for (int r = 0; r < rows; r++, x += c, y += c)
        for (int j = 0; j < c; j += 8)
            _mm256_storeu_ps(y + j, _mm256_mul_ps(_mm256_loadu_ps(x + j), _mm256_loadu_ps(gate + j)));
}

static void scale_sums(const float *dy, const float *x, int rows, int c, float *dgate) {
    if (c % 8) {
        sk_kernels_c()->scale_sums(dy, x, rows, c, dgate);
        return;
    }
    for (int j = 0; j < c; j += 8) {
        __m256 total = _mm256_setzero_ps();
        for (int r = 0; r < rows; r++)
            total = _mm256_fmadd_ps(_mm256_loadu_ps(dy + (ptrdiff_t)r * c + j),
                                    _mm256_loadu_ps(x + (ptrdiff_t)r * c + j), total);
        _mm256_storeu_ps(dgate + j, total);
    }
}

static void scale_backward(const float *dy, int rows, int c, const float *gate, const float *plus, float *dx) {
    if (c % 8 || !dy) {
        sk_kernels_c()->scale_backward(dy, rows, c, gate, plus, dx);
        return;
    }
    for (int r = 0; r < rows; r++, dy += c, dx += c)
        for (int j = 0; j < c; j += 8) {
            const __m256 factor = gate ? _mm256_loadu_ps(gate + j) : _mm256_set1_ps(1.0f);
            _mm256_storeu_ps(dx + j, _mm256_fmadd_ps(_mm256_loadu_ps(dy + j), factor, _mm256_loadu_ps(plus + j)));
        }
}

static void add(size_t count, const float *a, const float *b, float *out) {
    size_t i = 0;

    for (; i + 8 <= count; i += 8)
        _mm256_storeu_ps(out + i, _mm256_add_ps(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i)));
    for (; i < count; i++) out[i] = a[i] + b[i];
}

static void act(size_t count, const float *x, sk_act kind, float *y) {
    const size_t whole = count - count % 8;

    for (size_t i = 0; i < whole; i += 8) _mm256_storeu_ps(y + i, sk_avx2_act(_mm256_loadu_ps(x + i), kind));
    if (whole < count) sk_kernels_c()->act(count - whole, x + whole, kind, y + whole);
}

static void act_backward(size_t count, const float *dy, const float *x, sk_act kind, float *dx) {
    const size_t whole = count - count % 8;

    for (size_t i = 0; i < whole; i += 8)
        _mm256_storeu_ps(dx + i,
                         _mm256_mul_ps(_mm256_loadu_ps(dy + i), sk_avx2_act_slope(_mm256_loadu_ps(x + i), kind)));
    if (whole < count) sk_kernels_c()->act_backward(count - whole, dy + whole, x + whole, kind, dx + whole);
}

static void adam(size_t count, float *w, const float *g, float *m, float *v, float b1, float b2, float step_size,
                 float inv_sqrt_bc2, float eps) {
    const size_t whole = count - count % 8;
    const __m256 vb1 = _mm256_set1_ps(b1), vb2 = _mm256_set1_ps(b2), rest1 = _mm256_set1_ps(1.0f - b1);
    const __m256 rest2 = _mm256_set1_ps(1.0f - b2), step = _mm256_set1_ps(step_size);
    const __m256 root = _mm256_set1_ps(inv_sqrt_bc2), veps = _mm256_set1_ps(eps);

    for (size_t i = 0; i < whole; i += 8) {
        const __m256 gradient = _mm256_loadu_ps(g + i);
        const __m256 first = _mm256_fmadd_ps(rest1, gradient, _mm256_mul_ps(vb1, _mm256_loadu_ps(m + i)));
        const __m256 second =
            _mm256_fmadd_ps(_mm256_mul_ps(rest2, gradient), gradient, _mm256_mul_ps(vb2, _mm256_loadu_ps(v + i)));
        const __m256 size = _mm256_fmadd_ps(_mm256_sqrt_ps(second), root, veps);
        _mm256_storeu_ps(m + i, first);
        _mm256_storeu_ps(v + i, second);
        _mm256_storeu_ps(w + i, _mm256_sub_ps(_mm256_loadu_ps(w + i), _mm256_div_ps(_mm256_mul_ps(step, first), size)));
    }
    if (whole < count)
        sk_kernels_c()->adam(count - whole, w + whole, g + whole, m + whole, v + whole, b1, b2, step_size, inv_sqrt_bc2,
                             eps);
}

void sk_avx2_elementwise_entries(sk_kernels *table) {
    table->pool = pool;
    table->scale = scale;
    table->scale_sums = scale_sums;
    table->scale_backward = scale_backward;
    table->add = add;
    table->act = act;
    table->act_backward = act_backward;
    table->adam = adam;
}
