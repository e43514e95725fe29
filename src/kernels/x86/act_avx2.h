/* SPDX-License-Identifier: Apache-2.0 */
/* Activations and their derivatives on 8 lanes, for files that are built with -mavx2 -mfma. */
#ifndef SK_ACT_AVX2_H
#define SK_ACT_AVX2_H

#include <immintrin.h>

#include "siskin/model.h"

#ifndef SK_INLINE
#define SK_INLINE static inline __attribute__((always_inline))
#endif

/* act is a constant after inlining, or the same for a whole call. */
SK_INLINE __m256 vec8_act(__m256 x, sk_act act) {
    const __m256 zero = _mm256_setzero_ps(), six = _mm256_set1_ps(6.0f), sixth = _mm256_set1_ps(1.0f / 6.0f);

    if (act == SK_ACT_RELU) return _mm256_max_ps(x, zero);
    if (act == SK_ACT_NONE) return x;
    const __m256 ramp = _mm256_min_ps(_mm256_max_ps(_mm256_add_ps(x, _mm256_set1_ps(3.0f)), zero), six);
    return act == SK_ACT_HSWISH ? _mm256_mul_ps(_mm256_mul_ps(x, ramp), sixth) : _mm256_mul_ps(ramp, sixth);
}

/* Derivative at x; at the corners of the ramp as PyTorch's. */
SK_INLINE __m256 vec8_act_slope(__m256 x, sk_act act) {
    const __m256 one = _mm256_set1_ps(1.0f), three = _mm256_set1_ps(3.0f), minus = _mm256_set1_ps(-3.0f);

    if (act == SK_ACT_NONE) return one;
    if (act == SK_ACT_RELU) return _mm256_and_ps(_mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_GT_OQ), one);
    if (act == SK_ACT_HSIGMOID)
        return _mm256_and_ps(_mm256_and_ps(_mm256_cmp_ps(x, minus, _CMP_GT_OQ), _mm256_cmp_ps(x, three, _CMP_LT_OQ)),
                             _mm256_set1_ps(1.0f / 6.0f));
    const __m256 inside = _mm256_fmadd_ps(x, _mm256_set1_ps(1.0f / 3.0f), _mm256_set1_ps(0.5f));
    const __m256 upper = _mm256_blendv_ps(inside, one, _mm256_cmp_ps(x, three, _CMP_GE_OQ));
    return _mm256_and_ps(upper, _mm256_cmp_ps(x, minus, _CMP_GT_OQ));
}
#endif
