/* SPDX-License-Identifier: Apache-2.0 */
/* The words in which the vector kernels are written. Each file of this folder but table.c is built twice: for AVX2 and
 * FMA with 8 lanes, for AVX-512 with 16. A mask chooses the first lanes of a vector; lanes that it leaves out are
 * loaded as zero and not stored, so that no entry reads or writes past a row. Includes the activations. */
#ifndef SK_KERNELS_X86_VECTOR_H
#define SK_KERNELS_X86_VECTOR_H

#include <immintrin.h>
#include <stddef.h>

#include "siskin/model.h"

#define SK_INLINE static inline __attribute__((always_inline))

#ifdef __AVX512F__
enum { SK_LANES = 16 };
#define SK_WIDE(name) sk_avx512_##name
typedef __m512 sk_vec;
typedef __mmask16 sk_mask;  /* of lanes in a load or store */
typedef __mmask16 sk_truth; /* of a comparison */

SK_INLINE sk_vec vec_load(const float *from) { return _mm512_loadu_ps(from); }
SK_INLINE void vec_store(float *to, sk_vec v) { _mm512_storeu_ps(to, v); }
SK_INLINE sk_vec vec_load_first(const float *from, sk_mask m) { return _mm512_maskz_loadu_ps(m, from); }
SK_INLINE void vec_store_first(float *to, sk_mask m, sk_vec v) { _mm512_mask_storeu_ps(to, m, v); }
SK_INLINE sk_vec vec_set(float x) { return _mm512_set1_ps(x); }
SK_INLINE sk_vec vec_zero(void) { return _mm512_setzero_ps(); }
SK_INLINE sk_vec vec_add(sk_vec a, sk_vec b) { return _mm512_add_ps(a, b); }
SK_INLINE sk_vec vec_sub(sk_vec a, sk_vec b) { return _mm512_sub_ps(a, b); }
SK_INLINE sk_vec vec_mul(sk_vec a, sk_vec b) { return _mm512_mul_ps(a, b); }
SK_INLINE sk_vec vec_div(sk_vec a, sk_vec b) { return _mm512_div_ps(a, b); }
SK_INLINE sk_vec vec_fma(sk_vec a, sk_vec b, sk_vec c) { return _mm512_fmadd_ps(a, b, c); }
SK_INLINE sk_vec vec_max(sk_vec a, sk_vec b) { return _mm512_max_ps(a, b); }
SK_INLINE sk_vec vec_min(sk_vec a, sk_vec b) { return _mm512_min_ps(a, b); }
SK_INLINE sk_vec vec_sqrt(sk_vec a) { return _mm512_sqrt_ps(a); }
SK_INLINE sk_truth vec_above(sk_vec a, sk_vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
SK_INLINE sk_truth vec_below(sk_vec a, sk_vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
SK_INLINE sk_vec vec_only(sk_truth t, sk_vec v) { return _mm512_maskz_mov_ps(t, v); } /* zero where not t */
SK_INLINE sk_vec vec_choose(sk_truth t, sk_vec yes, sk_vec no) { return _mm512_mask_mov_ps(no, t, yes); }

/* The first `count` lanes, all if there are more. */
SK_INLINE sk_mask vec_first(int count) { return (sk_mask)(count >= 16 ? 0xffff : (1u << (count > 0 ? count : 0)) - 1); }

/* to[0..16) += the lanes. */
SK_INLINE void vec_add_double(double *to, sk_vec v) {
    const __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(v));
    const __m512d high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1));

    _mm512_storeu_pd(to, _mm512_add_pd(_mm512_loadu_pd(to), low));
    _mm512_storeu_pd(to + 8, _mm512_add_pd(_mm512_loadu_pd(to + 8), high));
}
#else
enum { SK_LANES = 8 };
#define SK_WIDE(name) sk_avx2_##name
typedef __m256 sk_vec;
typedef __m256i sk_mask;
typedef __m256 sk_truth;

SK_INLINE sk_vec vec_load(const float *from) { return _mm256_loadu_ps(from); }
SK_INLINE void vec_store(float *to, sk_vec v) { _mm256_storeu_ps(to, v); }
SK_INLINE sk_vec vec_load_first(const float *from, sk_mask m) { return _mm256_maskload_ps(from, m); }
SK_INLINE void vec_store_first(float *to, sk_mask m, sk_vec v) { _mm256_maskstore_ps(to, m, v); }
SK_INLINE sk_vec vec_set(float x) { return _mm256_set1_ps(x); }
SK_INLINE sk_vec vec_zero(void) { return _mm256_setzero_ps(); }
SK_INLINE sk_vec vec_add(sk_vec a, sk_vec b) { return _mm256_add_ps(a, b); }
SK_INLINE sk_vec vec_sub(sk_vec a, sk_vec b) { return _mm256_sub_ps(a, b); }
SK_INLINE sk_vec vec_mul(sk_vec a, sk_vec b) { return _mm256_mul_ps(a, b); }
SK_INLINE sk_vec vec_div(sk_vec a, sk_vec b) { return _mm256_div_ps(a, b); }
SK_INLINE sk_vec vec_fma(sk_vec a, sk_vec b, sk_vec c) { return _mm256_fmadd_ps(a, b, c); }
SK_INLINE sk_vec vec_max(sk_vec a, sk_vec b) { return _mm256_max_ps(a, b); }
SK_INLINE sk_vec vec_min(sk_vec a, sk_vec b) { return _mm256_min_ps(a, b); }
SK_INLINE sk_vec vec_sqrt(sk_vec a) { return _mm256_sqrt_ps(a); }
SK_INLINE sk_truth vec_above(sk_vec a, sk_vec b) { return _mm256_cmp_ps(a, b, _CMP_GT_OQ); }
SK_INLINE sk_truth vec_below(sk_vec a, sk_vec b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
SK_INLINE sk_vec vec_only(sk_truth t, sk_vec v) { return _mm256_and_ps(t, v); }
SK_INLINE sk_vec vec_choose(sk_truth t, sk_vec yes, sk_vec no) { return _mm256_blendv_ps(no, yes, t); }

SK_INLINE sk_mask vec_first(int count) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

SK_INLINE void vec_add_double(double *to, sk_vec v) {
    const __m256d low = _mm256_cvtps_pd(_mm256_castps256_ps128(v));
    const __m256d high = _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1));

    _mm256_storeu_pd(to, _mm256_add_pd(_mm256_loadu_pd(to), low));
    _mm256_storeu_pd(to + 4, _mm256_add_pd(_mm256_loadu_pd(to + 4), high));
}
#endif

SK_INLINE sk_vec vec_load_part(const float *from, int masked, sk_mask m) {
    return masked ? vec_load_first(from, m) : vec_load(from);
}

SK_INLINE void vec_store_part(float *to, int masked, sk_mask m, sk_vec v) {
    if (masked) vec_store_first(to, m, v);
    else vec_store(to, v);
}

/* Calls `vectors` vectors from memory into the caches; may point anywhere. */
SK_INLINE void vec_call(const float *from, const int vectors) {
#pragma GCC unroll 4
    for (int i = 0; i < vectors * SK_LANES / 16; i++) _mm_prefetch((const char *)(from + 16 * i), _MM_HINT_T0);
}

/* act is a constant after inlining, or the same for a whole call. The ramp of the hard sigmoid has one rounding. */
SK_INLINE sk_vec vec_act(sk_vec x, sk_act act) {
    if (act == SK_ACT_RELU) return vec_max(x, vec_zero());
    if (act == SK_ACT_NONE) return x;
    const sk_vec line = vec_fma(x, vec_set(1.0f / 6.0f), vec_set(0.5f));
    const sk_vec ramp = vec_min(vec_max(line, vec_zero()), vec_set(1.0f));
    return act == SK_ACT_HSWISH ? vec_mul(x, ramp) : ramp;
}

/* Derivative at x; at the corners of the ramp as PyTorch's. */
SK_INLINE sk_vec vec_act_slope(sk_vec x, sk_act act) {
    const sk_vec one = vec_set(1.0f), three = vec_set(3.0f), minus = vec_set(-3.0f);

    if (act == SK_ACT_NONE) return one;
    if (act == SK_ACT_RELU) return vec_only(vec_above(x, vec_zero()), one);
    if (act == SK_ACT_HSIGMOID)
        return vec_only(vec_above(x, minus), vec_only(vec_below(x, three), vec_set(1.0f / 6.0f)));
    const sk_vec inside = vec_fma(x, vec_set(1.0f / 3.0f), vec_set(0.5f));
    return vec_only(vec_above(x, minus), vec_choose(vec_below(x, three), inside, one));
}
#endif
