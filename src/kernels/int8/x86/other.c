/* SPDX-License-Identifier: Apache-2.0 */
/* Mean, gate and sum, and the table of this width. */
#include "kernels/int8/x86/finish.h"
#include "kernels/int8/x86/table.h"

enum { WORDS = 2 * SK_LANES };

/* Adds `pixels` <= 256 codes of a column of channels, whose sums fit int16. */
SK_INLINE void sum_column(const int8_t *x, int channels, int pixels, int count, int32_t *sums) {
    sk_vec sum = vec_zero();
    int16_t words[WORDS];
    for (int i = 0; i < pixels; i++, x += channels) {
        sum = vec_add16(sum, vec_load_words(x, count));
    }
    vec_store(words, sum);
    for (int i = 0; i < WORDS; i++) {
        sums[i] += words[i];
    }
}

void SK_WIDE(pool)(const sk_q_layer *layer, const int8_t *in, int8_t *out) {
    const int pixels = layer->in_h * layer->in_w, channels = layer->in_c;
    for (int c = 0; c < channels; c += WORDS) {
        const int count = channels - c < WORDS ? channels - c : WORDS;
        int32_t sums[WORDS] = {0};
        for (int i = 0; i < pixels; i += 256) {
            const int8_t *x = in + (size_t)i * (size_t)channels + c;
            const int run = pixels - i < 256 ? pixels - i : 256;
            if (count == WORDS) { /* a constant: plain loads */
                sum_column(x, channels, run, WORDS, sums);
            } else {
                sum_column(x, channels, run, count, sums);
            }
        }
        for (int i = 0; i < count; i++) {
            const int32_t v = sk_requant(sums[i] - layer->zero_in * pixels, layer->mult2, layer->shift);
            out[c + i] = sk_clamp8(v + layer->zero_out, layer->low, layer->high);
        }
    }
}

/* What SCALE and ADD do behind their products. */
typedef struct joint {
    __m128i fraction;
    sk_vec low, high;
} joint;

static joint joint_of(const sk_q_layer *layer) {
    return (joint){_mm_cvtsi32_si128(layer->fraction), vec_set8(layer->low), vec_set8(layer->high)};
}

SK_INLINE sk_vec joint_codes(const joint *j, sk_vec a, sk_vec b) {
    const sk_vec codes = vec_pack16(vec_right16(a, j->fraction), vec_right16(b, j->fraction));
    return vec_min8(vec_max8(codes, j->low), j->high);
}

/* Channels of a vector of codes; words: their factors and rests in the order in which unpacking leaves codes. */
SK_INLINE void scale_column(const sk_q_layer *layer, const joint *j, const sk_vec *factor, const sk_vec *rest,
                            const int8_t *x, int8_t *y, int count) {
    const int pixels = layer->in_h * layer->in_w;
    for (int i = 0; i < pixels; i++, x += layer->in_c, y += layer->in_c) {
        const sk_vec codes = vec_load_first(x, count);
        const sk_vec a = vec_mulhrs16(vec_unpack_low8(codes), factor[0]);
        const sk_vec b = vec_mulhrs16(vec_unpack_high8(codes), factor[1]);
        vec_store_first(y, joint_codes(j, vec_adds16(a, rest[0]), vec_adds16(b, rest[1])), count);
    }
}

void SK_WIDE(scale)(const sk_q_layer *layer, const int8_t *in, const int8_t *gate, int8_t *out, void *scratch) {
    enum { CODES = sizeof(sk_vec) };
    const joint j = joint_of(layer);
    (void)scratch;
    for (int c = 0; c < layer->in_c; c += CODES) {
        const int count = layer->in_c - c < CODES ? layer->in_c - c : CODES;
        int16_t words[2][CODES] = {{0}};
        sk_vec factor[2], rest[2];
        for (int i = 0; i < count; i++) { /* unpacking works within 16 bytes */
            const int at = i % 16 / 8 * (CODES / 2) + i / 16 * 8 + i % 8;
            words[0][at] = (int16_t)sk_gate_factor(layer, gate[c + i]);
            words[1][at] = (int16_t)sk_rest_of_zeros(layer, words[0][at], 0);
        }
        for (int i = 0; i < 2; i++) {
            factor[i] = vec_load(words[0] + i * (CODES / 2));
            rest[i] = vec_load(words[1] + i * (CODES / 2));
        }
        if (count == CODES) { /* a constant: plain loads and stores */
            scale_column(layer, &j, factor, rest, in + c, out + c, CODES);
        } else {
            scale_column(layer, &j, factor, rest, in + c, out + c, count);
        }
    }
}

SK_INLINE void add_codes(const joint *j, const sk_vec *constants, const int8_t *in, const int8_t *in2, int8_t *out,
                         int count) {
    const sk_vec x = vec_load_first(in, count), y = vec_load_first(in2, count);
    const sk_vec a = vec_adds16(vec_mulhrs16(vec_unpack_low8(x), constants[0]),
                                vec_mulhrs16(vec_unpack_low8(y), constants[1]));
    const sk_vec b = vec_adds16(vec_mulhrs16(vec_unpack_high8(x), constants[0]),
                                vec_mulhrs16(vec_unpack_high8(y), constants[1]));
    vec_store_first(out, joint_codes(j, vec_adds16(a, constants[2]), vec_adds16(b, constants[2])), count);
}

void SK_WIDE(add)(const sk_q_layer *layer, const int8_t *in, const int8_t *in2, int8_t *out) {
    enum { CODES = sizeof(sk_vec) };
    const size_t total = (size_t)layer->in_h * (size_t)layer->in_w * (size_t)layer->in_c;
    const joint j = joint_of(layer);
    const sk_vec constants[3] = {vec_set16(layer->mult2), vec_set16(layer->mult3),
                                 vec_set16(sk_rest_of_zeros(layer, layer->mult2, layer->mult3))};
    size_t i = 0;
    for (; i + CODES <= total; i += CODES) {
        add_codes(&j, constants, in + i, in2 + i, out + i, CODES);
    }
    if (i < total) {
        add_codes(&j, constants, in + i, in2 + i, out + i, (int)(total - i));
    }
}

#ifdef __AVX512VNNI__
/* Looks 64 bytes up in a table of 256. */
__attribute__((target("avx512vbmi"))) static inline sk_vec look_up(const sk_vec table[4], sk_vec at) {
    const sk_vec low = _mm512_permutex2var_epi8(table[0], at, table[1]);
    const sk_vec high = _mm512_permutex2var_epi8(table[2], at, table[3]);
    return _mm512_mask_mov_epi8(low, _mm512_movepi8_mask(at), high);
}

/* 192 bytes of the picture are 64 pixels; byte i of each of the three vectors is of the colour (i + vector) % 3. */
__attribute__((target("avx512vbmi"))) static void input_vbmi(const int8_t *table, const uint8_t *image, size_t pixels,
                                                             int8_t *out) {
    const __mmask64 thirds = 0x9249249249249249u; /* bits 0, 3, 6, ... 63 */
    const __mmask64 colour[3] = {thirds, thirds << 1, thirds << 2};
    sk_vec tables[3][4];
    size_t i = 0;
    for (int c = 0; c < 12; c++) {
        tables[c / 4][c % 4] = vec_load(table + 64 * c);
    }
    for (; i + 64 <= pixels; i += 64) {
        for (size_t v = 0; v < 3; v++) { /* 64 % 3 is 1 */
            const sk_vec at = vec_load(image + 3 * i + 64 * v);
            sk_vec codes = look_up(tables[v % 3], at);
            codes = _mm512_mask_mov_epi8(codes, colour[1], look_up(tables[(v + 1) % 3], at));
            codes = _mm512_mask_mov_epi8(codes, colour[2], look_up(tables[(v + 2) % 3], at));
            vec_store(out + 3 * i + 64 * v, codes);
        }
    }
    sk_int8_c_input(table, image + 3 * i, pixels - i, out + 3 * i);
}

static void picture(const int8_t *table, const uint8_t *image, size_t pixels, int8_t *out) {
    (__builtin_cpu_supports("avx512vbmi") ? input_vbmi : sk_int8_c_input)(table, image, pixels, out);
}
#else
#define picture sk_int8_c_input
#endif

static int is_gemm(const sk_q_layer *layer) {
    return layer->op == SK_OP_CONV || layer->op == SK_OP_POINTWISE || layer->op == SK_OP_LINEAR;
}

static size_t packed_bytes(const sk_q_layer *layer) {
    return is_gemm(layer) ? SK_WIDE(gemm_packed)(layer)
                          : layer->op == SK_OP_DEPTHWISE ? SK_WIDE(depthwise_packed)(layer) : 0;
}

static void pack(const sk_q_layer *layer, void *packed) {
    if (is_gemm(layer)) {
        SK_WIDE(gemm_pack)(layer, packed);
    } else if (layer->op == SK_OP_DEPTHWISE) {
        SK_WIDE(depthwise_pack)(layer, packed);
    }
}

static size_t scratch_bytes(const sk_q_layer *layer) {
    return is_gemm(layer) ? SK_WIDE(gemm_scratch)(layer)
                          : layer->op == SK_OP_DEPTHWISE ? SK_WIDE(depthwise_scratch)(layer) : 0;
}

static const sk_int8_kernels kernels = {
#ifdef __AVX512VNNI__
    .name = "avx512",
#else
    .name = "avx2",
#endif
    .packed_bytes = packed_bytes,
    .pack = pack,
    .scratch_bytes = scratch_bytes,
    .gemm = SK_WIDE(gemm),
    .depthwise = SK_WIDE(depthwise),
    .pool = SK_WIDE(pool),
    .scale = SK_WIDE(scale),
    .add = SK_WIDE(add),
    .input = picture,
};

#ifdef __AVX512VNNI__
const sk_int8_kernels *sk_int8_avx512(void) {
    return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("avx512vl")
               ? &kernels
               : NULL;
}
#else
const sk_int8_kernels *sk_int8_avx2(void) {
    return __builtin_cpu_supports("avx2") ? &kernels : NULL;
}
#endif
