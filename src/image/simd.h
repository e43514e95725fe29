/* SPDX-License-Identifier: Apache-2.0 */
/* Which vector instructions this room may use. Every path computes the same integers, hence the same bytes; the choice
 * is made at run time, so one program serves old and new machines. Internal. */
#ifndef SK_IMAGE_SIMD_H
#define SK_IMAGE_SIMD_H

#include <stddef.h>
#include <stdint.h>

typedef enum sk_simd { SK_SIMD_NONE, SK_SIMD_SSE2, SK_SIMD_AVX2 } sk_simd;

/* The best that the machine offers, and at most what was asked for. */
sk_simd sk_simd_level(void);
/* Tests: no more than `most` from now on. */
void sk_simd_limit(sk_simd most);

#if defined(__x86_64__)
#define SK_AVX2 __attribute__((target("avx2")))
#endif
/* A body that is compiled into each of its callers, once per instruction set, and vectorised there. */
#define SK_BODY static inline __attribute__((always_inline)) void

#endif
