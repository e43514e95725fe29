/* SPDX-License-Identifier: Apache-2.0 */
/* The words in which the int8 kernels are written. The files of this folder are built for AVX2 with vectors of 32
 * bytes, where products are summed in pairs of int16 (vpmaddwd, never the saturating u8 x s8 instruction), for AVX2
 * with AVX-VNNI, where the same vectors are summed in fours of bytes, and for AVX-512 with VNNI, 64 bytes, in fours
 * too. All sum without rounding or saturation, so every sum is the reference's. No word reads or writes a byte past the
 * count that it is given. */
#ifndef SK_INT8_X86_VECTOR_H
#define SK_INT8_X86_VECTOR_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define SK_INLINE static inline __attribute__((always_inline))

#if defined(__AVX512VNNI__) || defined(__AVXVNNI__)
enum {
    SK_TERMS = 4,   /* products that a lane sums at once */
    SK_OFFSET = 128 /* what is added to inputs, so that they are unsigned */
};
typedef uint8_t sk_input; /* an input as `dot` wants it */
typedef int8_t sk_weight;
#else
enum { SK_TERMS = 2, SK_OFFSET = 0 };
typedef int16_t sk_input, sk_weight;
#endif

#ifdef __AVX512VNNI__
enum { SK_LANES = 16 }; /* int32 of a vector */
#define SK_PATH "avx512"
#define SK_WIDE(name) sk_int8_avx512_##name
typedef __m512i sk_vec;
typedef __m512 sk_real;
typedef __m256i sk_half;

SK_INLINE sk_vec vec_load(const void *from) { return _mm512_loadu_si512(from); }
SK_INLINE void vec_store(void *to, sk_vec v) { _mm512_storeu_si512(to, v); }
SK_INLINE sk_vec vec_zero(void) { return _mm512_setzero_si512(); }
SK_INLINE sk_vec vec_set32(int32_t x) { return _mm512_set1_epi32(x); }
SK_INLINE sk_vec vec_set16(int x) { return _mm512_set1_epi16((int16_t)x); }
SK_INLINE sk_vec vec_set8(int x) { return _mm512_set1_epi8((int8_t)x); }
SK_INLINE sk_vec vec_add32(sk_vec a, sk_vec b) { return _mm512_add_epi32(a, b); }
SK_INLINE sk_vec vec_add16(sk_vec a, sk_vec b) { return _mm512_add_epi16(a, b); }
SK_INLINE sk_vec vec_pack32(sk_vec a, sk_vec b) { return _mm512_packs_epi32(a, b); } /* lane by lane of 16 bytes */
SK_INLINE sk_vec vec_pack16(sk_vec a, sk_vec b) { return _mm512_packs_epi16(a, b); }
SK_INLINE sk_vec vec_adds16(sk_vec a, sk_vec b) { return _mm512_adds_epi16(a, b); }
SK_INLINE sk_vec vec_min8(sk_vec a, sk_vec b) { return _mm512_min_epi8(a, b); }
SK_INLINE sk_vec vec_max8(sk_vec a, sk_vec b) { return _mm512_max_epi8(a, b); }
SK_INLINE sk_real vec_real(sk_vec v) { return _mm512_cvtepi32_ps(v); }
SK_INLINE sk_vec vec_round(sk_real v) { return _mm512_cvtps_epi32(v); } /* ties to even */
SK_INLINE sk_real real_load(const float *from) { return _mm512_loadu_ps(from); }
SK_INLINE sk_real real_set(float x) { return _mm512_set1_ps(x); }
SK_INLINE sk_real real_add(sk_real a, sk_real b) { return _mm512_add_ps(a, b); }
SK_INLINE sk_real real_mul(sk_real a, sk_real b) { return _mm512_mul_ps(a, b); }
SK_INLINE sk_real real_clamp(sk_real a, sk_real low, sk_real high) {
    return _mm512_min_ps(_mm512_max_ps(a, low), high);
}
SK_INLINE sk_half vec_low(sk_vec v) { return _mm512_castsi512_si256(v); }
SK_INLINE sk_half vec_high(sk_vec v) { return _mm512_extracti64x4_epi64(v, 1); }

/* Lane i of the result: lane i of `sum` plus the products of four bytes each. */
SK_INLINE sk_vec vec_dot(sk_vec sum, sk_vec x, sk_vec w) { return _mm512_dpbusd_epi32(sum, x, w); }

/* Two packings lane by lane leave fours of codes: a0 b0 c0 d0 a1 b1 ... becomes a0 a1 .. b0 b1 .. c0 .. d0 .. */
SK_INLINE sk_vec vec_untangle(sk_vec v) {
    const sk_vec order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm512_permutexvar_epi32(order, v);
}

/* The same after the interleaving of a depthwise layer: pixel a's codes, then pixel b's. */
SK_INLINE sk_vec vec_unravel(sk_vec v) {
    const sk_vec order = _mm512_setr_epi32(0, 8, 1, 9, 4, 12, 5, 13, 2, 10, 3, 11, 6, 14, 7, 15);
    return _mm512_permutexvar_epi32(order, v);
}

SK_INLINE void quarter_store_first(int8_t *to, __m128i v, int count) {
    if (count >= 16) {
        _mm_storeu_si128((__m128i *)to, v);
    } else if (count == 8) {
        _mm_storel_epi64((__m128i *)to, v);
    } else {
        _mm_mask_storeu_epi8(to, (__mmask16)((1u << count) - 1), v);
    }
}

/* Masked stores are slow on some machines, so the counts of the networks do without. */
SK_INLINE void half_store_first(int8_t *to, sk_half v, int count) {
    if (count >= 32) {
        _mm256_storeu_si256((__m256i *)to, v);
    } else if (count > 16) {
        _mm_storeu_si128((__m128i *)to, _mm256_castsi256_si128(v));
        quarter_store_first(to + 16, _mm256_extracti128_si256(v, 1), count - 16);
    } else {
        quarter_store_first(to, _mm256_castsi256_si128(v), count);
    }
}

/* Quarter i of a vector. */
SK_INLINE __m128i vec_quarter(sk_vec v, int i) {
    return i == 0 ? _mm512_castsi512_si128(v) : i == 1 ? _mm512_extracti32x4_epi32(v, 1)
         : i == 2 ? _mm512_extracti32x4_epi32(v, 2) : _mm512_extracti32x4_epi32(v, 3);
}


SK_INLINE __mmask64 bytes_first(int count) { return count >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << count) - 1; }

SK_INLINE sk_vec vec_load_first(const int8_t *from, int count) {
    return count == 64 ? vec_load(from) : _mm512_maskz_loadu_epi8(bytes_first(count), from);
}

SK_INLINE void vec_store_first(int8_t *to, sk_vec v, int count) {
    if (count == 64) {
        vec_store(to, v);
        return;
    }
    half_store_first(to, vec_low(v), count);
    if (count > 32) {
        half_store_first(to + 32, vec_high(v), count - 32);
    }
}

/* Codes 16 i .. as int32; of AVX2 8 i .. */
SK_INLINE sk_vec vec_codes32(sk_vec v, int i) { return _mm512_cvtepi8_epi32(vec_quarter(v, i)); }
SK_INLINE sk_vec vec_sub32(sk_vec a, sk_vec b) { return _mm512_sub_epi32(a, b); }

/* 32 codes as int16, or the first of them. */
SK_INLINE sk_vec vec_load_words(const int8_t *from, int count) {
    return _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8((__mmask32)bytes_first(count), from));
}

/* Codes as `dot` wants them. */
SK_INLINE void inputs_of_codes(const int8_t *from, size_t count, sk_input *to) {
    const sk_vec flip = vec_set8(-128);
    size_t i = 0;
    for (; i + 64 <= count; i += 64) {
        vec_store(to + i, _mm512_xor_si512(vec_load(from + i), flip));
    }
    const __mmask64 rest = ((__mmask64)1 << (count - i)) - 1;
    _mm512_mask_storeu_epi8(to + i, rest, _mm512_xor_si512(_mm512_maskz_loadu_epi8(rest, from + i), flip));
}
#else
enum { SK_LANES = 8 };
typedef __m256i sk_vec;
typedef __m256 sk_real;
typedef __m128i sk_half;

SK_INLINE sk_vec vec_load(const void *from) { return _mm256_loadu_si256((const __m256i *)from); }
SK_INLINE void vec_store(void *to, sk_vec v) { _mm256_storeu_si256((__m256i *)to, v); }
SK_INLINE sk_vec vec_zero(void) { return _mm256_setzero_si256(); }
SK_INLINE sk_vec vec_set32(int32_t x) { return _mm256_set1_epi32(x); }
SK_INLINE sk_vec vec_set16(int x) { return _mm256_set1_epi16((int16_t)x); }
SK_INLINE sk_vec vec_set8(int x) { return _mm256_set1_epi8((int8_t)x); }
SK_INLINE sk_vec vec_add32(sk_vec a, sk_vec b) { return _mm256_add_epi32(a, b); }
SK_INLINE sk_vec vec_add16(sk_vec a, sk_vec b) { return _mm256_add_epi16(a, b); }
SK_INLINE sk_vec vec_pack32(sk_vec a, sk_vec b) { return _mm256_packs_epi32(a, b); }
SK_INLINE sk_vec vec_pack16(sk_vec a, sk_vec b) { return _mm256_packs_epi16(a, b); }
SK_INLINE sk_vec vec_adds16(sk_vec a, sk_vec b) { return _mm256_adds_epi16(a, b); }
SK_INLINE sk_vec vec_min8(sk_vec a, sk_vec b) { return _mm256_min_epi8(a, b); }
SK_INLINE sk_vec vec_max8(sk_vec a, sk_vec b) { return _mm256_max_epi8(a, b); }
SK_INLINE sk_real vec_real(sk_vec v) { return _mm256_cvtepi32_ps(v); }
SK_INLINE sk_vec vec_round(sk_real v) { return _mm256_cvtps_epi32(v); }
SK_INLINE sk_real real_load(const float *from) { return _mm256_loadu_ps(from); }
SK_INLINE sk_real real_set(float x) { return _mm256_set1_ps(x); }
SK_INLINE sk_real real_add(sk_real a, sk_real b) { return _mm256_add_ps(a, b); }
SK_INLINE sk_real real_mul(sk_real a, sk_real b) { return _mm256_mul_ps(a, b); }
SK_INLINE sk_real real_clamp(sk_real a, sk_real low, sk_real high) {
    return _mm256_min_ps(_mm256_max_ps(a, low), high);
}
SK_INLINE sk_half vec_low(sk_vec v) { return _mm256_castsi256_si128(v); }
SK_INLINE sk_half vec_high(sk_vec v) { return _mm256_extracti128_si256(v, 1); }

#ifdef __AVXVNNI__
#define SK_PATH "avxvnni"
#define SK_WIDE(name) sk_int8_avxvnni_##name

SK_INLINE sk_vec vec_dot(sk_vec sum, sk_vec x, sk_vec w) { return _mm256_dpbusd_avx_epi32(sum, x, w); }
/* The same of two int16 each: what depthwise layers have on both kinds of CPU. */
SK_INLINE sk_vec vec_dot16(sk_vec sum, sk_vec x, sk_vec w) { return _mm256_dpwssd_avx_epi32(sum, x, w); }
/* Codes, as many as make a vector, as inputs. */
SK_INLINE sk_vec vec_inputs(const int8_t *from) { return _mm256_xor_si256(vec_load(from), vec_set8(-128)); }
#else
#define SK_PATH "avx2"
#define SK_WIDE(name) sk_int8_avx2_##name

/* The sum stays in a register from one dot to the next: compilers would rather keep all products and add them later. */
SK_INLINE sk_vec vec_dot16(sk_vec sum, sk_vec x, sk_vec w) {
    sum = vec_add32(sum, _mm256_madd_epi16(x, w));
    __asm__("" : "+x"(sum));
    return sum;
}
SK_INLINE sk_vec vec_dot(sk_vec sum, sk_vec x, sk_vec w) { return vec_dot16(sum, x, w); }
SK_INLINE sk_vec vec_inputs(const int8_t *from) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)from));
}
#endif

SK_INLINE sk_vec vec_untangle(sk_vec v) {
    return _mm256_permutevar8x32_epi32(v, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

SK_INLINE void quarter_store_first(int8_t *to, __m128i v, int count) {
    const int64_t codes = _mm_cvtsi128_si64(v);
    memcpy(to, &codes, count >= 8 ? 8 : (size_t)count);
}

SK_INLINE void half_store_first(int8_t *to, sk_half v, int count) {
    if (count >= 16) {
        _mm_storeu_si128((__m128i *)to, v);
        return;
    }
    quarter_store_first(to, v, count);
    if (count > 8) {
        quarter_store_first(to + 8, _mm_unpackhi_epi64(v, v), count - 8);
    }
}

SK_INLINE __m128i vec_quarter(sk_vec v, int i) {
    const __m128i half = i < 2 ? vec_low(v) : vec_high(v);
    return i % 2 ? _mm_unpackhi_epi64(half, half) : half;
}


SK_INLINE __m128i half_load_first(const int8_t *from, int count) {
    int8_t codes[16] = {0};
    if (count >= 16) {
        return _mm_loadu_si128((const __m128i *)from);
    }
    if (count == 8) {
        return _mm_loadl_epi64((const __m128i *)from);
    }
    memcpy(codes, from, (size_t)count);
    return _mm_loadu_si128((const __m128i *)codes);
}

SK_INLINE sk_vec vec_load_first(const int8_t *from, int count) {
    const __m128i high = count > 16 ? half_load_first(from + 16, count - 16) : _mm_setzero_si128();
    return _mm256_set_m128i(high, half_load_first(from, count));
}

SK_INLINE void vec_store_first(int8_t *to, sk_vec v, int count) {
    half_store_first(to, vec_low(v), count);
    if (count > 16) {
        half_store_first(to + 16, vec_high(v), count - 16);
    }
}

SK_INLINE sk_vec vec_codes32(sk_vec v, int i) { return _mm256_cvtepi8_epi32(vec_quarter(v, i)); }
SK_INLINE sk_vec vec_sub32(sk_vec a, sk_vec b) { return _mm256_sub_epi32(a, b); }

SK_INLINE sk_vec vec_load_words(const int8_t *from, int count) {
    return _mm256_cvtepi8_epi16(half_load_first(from, count));
}

SK_INLINE void inputs_of_codes(const int8_t *from, size_t count, sk_input *to) {
    const size_t step = sizeof(sk_vec) / sizeof *to;
    size_t i = 0;
    for (; i + step <= count; i += step) {
        vec_store(to + i, vec_inputs(from + i));
    }
    for (; i < count; i++) {
        to[i] = (sk_input)(from[i] + SK_OFFSET);
    }
}
#endif
#endif
