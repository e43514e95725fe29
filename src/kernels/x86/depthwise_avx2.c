/* SPDX-License-Identifier: Apache-2.0 */
/* Depthwise convolution on NHWC in AVX2: 16 channels at a time (8 for the last of an odd count), several output
 * columns in registers, borders apart so that the inside has no checks. */
#include <immintrin.h>
#include <stddef.h>

#include "kernels/x86/act_avx2.h"
#include "kernels/x86/x86.h"

static int max_int(int a, int b) { return a > b ? a : b; }
static int min_int(int a, int b) { return a < b ? a : b; }

/* First and one past the last output column whose taps all lie inside a row of `size`. */
static void inner_range(int size, int out_size, int kernel, int stride, int pad, int *first, int *end) {
    *first = min_int((pad + stride - 1) / stride, out_size);
    *end = size + pad - kernel < 0 ? 0 : min_int((size + pad - kernel) / stride + 1, out_size);
    if (*end < *first) *end = *first;
}

/* `count` neighbouring outputs of one row, rows ky0..ky1 and columns kx0..kx1 of the kernel, turned by 180 degrees if
 * `flip`: the gradient of the input at stride 1. */
SK_INLINE void outputs(const int count, const int vectors, const int flip, const sk_dw *s, const float *x,
                       const float *w, const float *bias, sk_act act, float *y, int ky0, int ky1, int kx0, int kx1) {
    __m256 sum[6][2];
    const ptrdiff_t c = s->c, step = (ptrdiff_t)s->stride * c, row = (ptrdiff_t)s->w * c;

#pragma GCC unroll 6
    for (int i = 0; i < count; i++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) sum[i][v] = bias ? _mm256_loadu_ps(bias + 8 * v) : _mm256_setzero_ps();
    for (int ky = ky0; ky < ky1; ky++)
        for (int kx = kx0; kx < kx1; kx++) {
            const int at = ky * s->kernel + kx;
            const float *tap = w + (flip ? s->kernel * s->kernel - 1 - at : at) * c, *from = x + ky * row + kx * c;
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++) {
                const __m256 weight = _mm256_loadu_ps(tap + 8 * v);
#pragma GCC unroll 6
                for (int i = 0; i < count; i++)
                    sum[i][v] = _mm256_fmadd_ps(_mm256_loadu_ps(from + i * step + 8 * v), weight, sum[i][v]);
            }
        }
#pragma GCC unroll 6
    for (int i = 0; i < count; i++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            _mm256_storeu_ps(y + i * c + 8 * v, act ? vec8_act(sum[i][v], act) : sum[i][v]);
}

/* `x` points at row x_row0 of the picture. */
SK_INLINE void forward_row(const int vectors, const int flip, const sk_dw *s, const float *image, int x_row0,
                           const float *w, const float *bias, sk_act act, float *y, int oy) {
    const int top = oy * s->stride - s->pad, ky0 = max_int(0, -top), ky1 = min_int(s->kernel, s->h - top);
    const ptrdiff_t c = s->c;
    int first, end, ox = 0;

    inner_range(s->w, s->ow, s->kernel, s->stride, s->pad, &first, &end);
    while (ox < s->ow) {
        const int left = ox * s->stride - s->pad;
        const float *x = image + ((ptrdiff_t)(top - x_row0) * s->w + left) * c;
        if (ox >= first && ox + 5 <= end) {
            outputs(5, vectors, flip, s, x, w, bias, act, y + ox * c, ky0, ky1, 0, s->kernel);
            ox += 5;
        } else if (ox >= first && ox < end) {
            outputs(1, vectors, flip, s, x, w, bias, act, y + ox * c, ky0, ky1, 0, s->kernel);
            ox++;
        } else {
            outputs(1, vectors, flip, s, x, w, bias, act, y + ox * c, ky0, ky1, max_int(0, -left),
                    min_int(s->kernel, s->w - left));
            ox++;
        }
    }
}

void sk_avx2_dw_forward(const sk_dw *s, const float *x, int x_row0, const float *w, const float *bias, sk_act act,
                        int oy0, int oy1, float *y) {
    for (int oy = oy0; oy < oy1; oy++, y += (ptrdiff_t)s->ow * s->c) {
        int c = 0;
        for (; c + 16 <= s->c; c += 16)
            forward_row(2, 0, s, x + c, x_row0, w + c, bias ? bias + c : NULL, act, y + c, oy);
        if (c < s->c) forward_row(1, 0, s, x + c, x_row0, w + c, bias ? bias + c : NULL, act, y + c, oy);
    }
}

/* One input position gathers the outputs that it fed: taps ky with (iy + pad - ky) divisible by the stride. */
SK_INLINE void gather(const int vectors, const sk_dw *s, const float *dy, const float *w, float *dx, int iy, int ix) {
    const ptrdiff_t c = s->c;
    __m256 sum[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};

    for (int ky = (iy + s->pad) % s->stride; ky < s->kernel; ky += s->stride) {
        const int oy = (iy + s->pad - ky) / s->stride;
        if (iy + s->pad < ky || oy >= s->oh) continue;
        for (int kx = (ix + s->pad) % s->stride; kx < s->kernel; kx += s->stride) {
            const int ox = (ix + s->pad - kx) / s->stride;
            if (ix + s->pad < kx || ox >= s->ow) continue;
            const float *from = dy + ((ptrdiff_t)oy * s->ow + ox) * c, *tap = w + (ky * s->kernel + kx) * c;
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++)
                sum[v] = _mm256_fmadd_ps(_mm256_loadu_ps(from + 8 * v), _mm256_loadu_ps(tap + 8 * v), sum[v]);
        }
    }
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) _mm256_storeu_ps(dx + 8 * v, sum[v]);
}

/* Columns of one row for the taps kx0..kx1 of kernel row ky; sums stay in registers along the row. */
SK_INLINE void weight_row(const int taps, const int vectors, const sk_dw *s, const float *x, const float *dy, float *dw,
                          int first, int end) {
    const ptrdiff_t c = s->c, step = (ptrdiff_t)s->stride * c;
    __m256 sum[5][2];

#pragma GCC unroll 5
    for (int t = 0; t < taps; t++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) sum[t][v] = _mm256_loadu_ps(dw + t * c + 8 * v);
    for (int ox = first; ox < end; ox++) {
        const float *from = x + ox * step;
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) {
            const __m256 gradient = _mm256_loadu_ps(dy + ox * c + 8 * v);
#pragma GCC unroll 5
            for (int t = 0; t < taps; t++)
                sum[t][v] = _mm256_fmadd_ps(_mm256_loadu_ps(from + t * c + 8 * v), gradient, sum[t][v]);
        }
    }
#pragma GCC unroll 5
    for (int t = 0; t < taps; t++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) _mm256_storeu_ps(dw + t * c + 8 * v, sum[t][v]);
}

/* The border columns of a row: each has taps outside. */
SK_INLINE void weight_border(const int vectors, const sk_dw *s, const float *x, const float *dy, float *dw, int ox) {
    const int left = ox * s->stride - s->pad;
    const int kx0 = max_int(0, -left), kx1 = min_int(s->kernel, s->w - left);

    if (kx1 > kx0)
        for (int kx = kx0; kx < kx1; kx++) weight_row(1, vectors, s, x + kx * s->c, dy, dw + kx * s->c, ox, ox + 1);
}

SK_INLINE void backward_weight_channels(const int vectors, const sk_dw *s, const float *image, const float *dy,
                                        float *dw) {
    int first, end;

    inner_range(s->w, s->ow, s->kernel, s->stride, s->pad, &first, &end);
    for (int ky = 0; ky < s->kernel; ky++)
        for (int oy = 0; oy < s->oh; oy++) {
            const int iy = oy * s->stride - s->pad + ky;
            if (iy < 0 || iy >= s->h) continue;
            const float *x = image + ((ptrdiff_t)iy * s->w - s->pad) * s->c;
            const float *gradient = dy + (ptrdiff_t)oy * s->ow * s->c;
            float *taps = dw + (ptrdiff_t)ky * s->kernel * s->c;
            for (int ox = 0; ox < first; ox++) weight_border(vectors, s, x, gradient, taps, ox);
            if (s->kernel == 3) weight_row(3, vectors, s, x, gradient, taps, first, end);
            else if (s->kernel == 5) weight_row(5, vectors, s, x, gradient, taps, first, end);
            else
                for (int kx = 0; kx < s->kernel; kx++)
                    weight_row(1, vectors, s, x + kx * s->c, gradient, taps + kx * s->c, first, end);
            for (int ox = end; ox < s->ow; ox++) weight_border(vectors, s, x, gradient, taps, ox);
        }
}

void sk_avx2_dw_backward_weight(const sk_dw *s, const float *dy, const float *x, float *dweight) {
    int c = 0;

    for (; c + 16 <= s->c; c += 16) backward_weight_channels(2, s, x + c, dy + c, dweight + c);
    if (c < s->c) backward_weight_channels(1, s, x + c, dy + c, dweight + c);
}

/* At stride 1 the gradient of the input is a convolution with the turned kernel. */
static void backward_data_unit(const sk_dw *s, const float *dy, const float *weight, float *dx) {
    const sk_dw back = {s->oh, s->ow, s->c, s->h, s->w, s->kernel, 1, s->kernel - 1 - s->pad};

    for (int iy = 0; iy < s->h; iy++, dx += (ptrdiff_t)s->w * s->c) {
        int c = 0;
        for (; c + 16 <= s->c; c += 16) forward_row(2, 1, &back, dy + c, 0, weight + c, NULL, SK_ACT_NONE, dx + c, iy);
        if (c < s->c) forward_row(1, 1, &back, dy + c, 0, weight + c, NULL, SK_ACT_NONE, dx + c, iy);
    }
}

void sk_avx2_dw_backward_data(const sk_dw *s, const float *dy, const float *weight, float *dx) {
    if (s->stride == 1) {
        backward_data_unit(s, dy, weight, dx);
        return;
    }
    for (int iy = 0; iy < s->h; iy++)
        for (int ix = 0; ix < s->w; ix++) {
            float *out = dx + ((ptrdiff_t)iy * s->w + ix) * s->c;
            int c = 0;
            for (; c + 16 <= s->c; c += 16) gather(2, s, dy + c, weight + c, out + c, iy, ix);
            if (c < s->c) gather(1, s, dy + c, weight + c, out + c, iy, ix);
        }
}
