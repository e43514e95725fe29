/* SPDX-License-Identifier: Apache-2.0 */
/* The peaks of bench_peak.h, measured by loops that do nothing else. */
#include "bench_peak.h"

#include <string.h>

#include "base/base.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { TRIES = 5, LOOPS = 4 << 20, STREAM = 16 << 20 };

/* Twelve sums that do not wait for each other; returns what keeps the compiler from dropping them. */
#if defined(__x86_64__)
__attribute__((target("avx512f"))) static float fma_avx512(void) {
    __m512 sum[12];
    const __m512 a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(0.001f);
    for (int i = 0; i < 12; i++) sum[i] = _mm512_set1_ps((float)i);
    for (int n = 0; n < LOOPS; n++)
#pragma GCC unroll 12
        for (int i = 0; i < 12; i++) sum[i] = _mm512_fmadd_ps(sum[i], a, b);
    for (int i = 1; i < 12; i++) sum[0] = _mm512_add_ps(sum[0], sum[i]);
    return _mm512_cvtss_f32(sum[0]);
}

__attribute__((target("avx2,fma"))) static float fma_avx2(void) {
    __m256 sum[12];
    const __m256 a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(0.001f);
    for (int i = 0; i < 12; i++) sum[i] = _mm256_set1_ps((float)i);
    for (int n = 0; n < LOOPS; n++)
#pragma GCC unroll 12
        for (int i = 0; i < 12; i++) sum[i] = _mm256_fmadd_ps(sum[i], a, b);
    for (int i = 1; i < 12; i++) sum[0] = _mm256_add_ps(sum[0], sum[i]);
    return _mm256_cvtss_f32(sum[0]);
}
#endif

/* The reference: a multiplication and an addition, one value at a time. */
static float fma_c(void) {
    float sum[12];
    for (int i = 0; i < 12; i++) sum[i] = (float)i;
    for (int n = 0; n < LOOPS; n++)
#pragma GCC unroll 12
        for (int i = 0; i < 12; i++) sum[i] = sum[i] * 0.999f + 0.001f;
    for (int i = 1; i < 12; i++) sum[0] += sum[i];
    return sum[0];
}

double bench_peak_gflops(const char *path, int threads) {
    float (*loop)(void) = fma_c;
    double lanes = 1, best = 0;
    volatile float sink = 0;
#if defined(__x86_64__)
    if (!strcmp(path, "avx512")) loop = fma_avx512, lanes = 16;
    if (!strcmp(path, "avx2")) loop = fma_avx2, lanes = 8;
#else
    (void)path;
#endif
    for (int t = 0; t < TRIES; t++) {
        const double start = sk_now();
#pragma omp parallel for num_threads(threads) schedule(static, 1)
        for (int i = 0; i < threads; i++) sink = loop();
        const double gflops = 2.0 * 12 * lanes * LOOPS * threads / (sk_now() - start) / 1e9;
        if (gflops > best) best = gflops;
    }
    (void)sink;
    return best;
}

double bench_peak_stream(int threads) {
    float *a = sk_calloc(STREAM, sizeof *a), *b = sk_calloc(STREAM, sizeof *b), *c = sk_calloc(STREAM, sizeof *c);
    double best = 0;
    for (int t = 0; a && b && c && t < TRIES; t++) {
        const double start = sk_now();
#pragma omp parallel for num_threads(threads) schedule(static)
        for (int i = 0; i < STREAM; i++) a[i] = b[i] + 0.5f * c[i];
        const double speed = 3.0 * STREAM * sizeof *a / (sk_now() - start) / 1e9;
        if (speed > best) best = speed;
    }
    sk_free(a);
    sk_free(b);
    sk_free(c);
    return best;
}
