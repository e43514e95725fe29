/* SPDX-License-Identifier: Apache-2.0 */
/* The choice between instruction sets. */
#include "image/simd.h"

static sk_simd limit = SK_SIMD_AVX2;

sk_simd sk_simd_level(void)
{
#if defined(__x86_64__)
    return limit == SK_SIMD_AVX2 && !__builtin_cpu_supports("avx2") ? SK_SIMD_SSE2 : limit;
#else
    return SK_SIMD_NONE;
#endif
}

void sk_simd_limit(sk_simd most)
{
    limit = most;
}
