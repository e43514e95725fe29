/* SPDX-License-Identifier: Apache-2.0 */
/* Mean, gate and sum, and the table of this width. */
#include <cpuid.h>

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

enum { CODES = sizeof(sk_vec) };

/* Of four vectors of codes in order, as integers. */
SK_INLINE sk_vec join(const sk_tail *tail, const sk_vec *v) {
    const sk_vec a = vec_adds16(vec_pack32(v[0], v[1]), tail->zero), b = vec_adds16(vec_pack32(v[2], v[3]), tail->zero);
    return vec_untangle(codes_of(tail, a, b));
}

/* One column of channels, `stride` apart, down the picture. */
SK_INLINE void scale_column(const sk_tail *tail, int zero_in, const sk_real *factors, const int8_t *x, int8_t *y,
                            int pixels, int stride, int count) {
    const sk_vec zero = vec_set32(zero_in);
    for (int i = 0; i < pixels; i++, x += stride, y += stride) {
        const sk_vec codes = vec_load_first(x, count);
        sk_vec v[4];
        for (int k = 0; k < 4; k++) {
            v[k] = vec_round(real_mul(vec_real(vec_sub32(vec_codes32(codes, k), zero)), factors[k]));
        }
        vec_store_first(y, join(tail, v), count);
    }
}

/* Few channels: several pixels fill a vector. */
static int pixels_in_one(const sk_q_layer *layer) {
    const int fit = CODES / layer->in_c;
    return CODES % layer->in_c == 0 && layer->in_h * layer->in_w % (fit > 0 ? fit : 1) == 0 ? fit : 1;
}

void SK_WIDE(scale)(const sk_q_layer *layer, const int8_t *in, const int8_t *gate, int8_t *out) {
    const sk_tail tail = tail_of(layer);
    const sk_vec zero = vec_set32(layer->zero_in2);
    const int together = pixels_in_one(layer), channels = together * layer->in_c;
    const int pixels = layer->in_h * layer->in_w / together;
    for (int c = 0; c < channels; c += CODES) {
        const int count = channels - c < CODES ? channels - c : CODES;
        int8_t gates[CODES];
        sk_real factors[4];
        for (int i = 0; i < count; i++) {
            gates[i] = gate[(c + i) % layer->in_c];
        }
        for (int k = 0; k < 4; k++) {
            const sk_vec codes = vec_codes32(vec_load_first(gates, count), k);
            factors[k] = real_mul(vec_real(vec_sub32(codes, zero)), real_set(layer->factor));
        }
        if (count == CODES) { /* a constant: plain loads and stores */
            scale_column(&tail, layer->zero_in, factors, in + c, out + c, pixels, channels, CODES);
        } else {
            scale_column(&tail, layer->zero_in, factors, in + c, out + c, pixels, channels, count);
        }
    }
}

SK_INLINE void add_codes(const sk_q_layer *layer, const sk_tail *tail, const int8_t *in, const int8_t *in2, int8_t *out,
                         int count) {
    const sk_vec x = vec_load_first(in, count), y = vec_load_first(in2, count);
    const sk_vec zero_x = vec_set32(layer->zero_in), zero_y = vec_set32(layer->zero_in2);
    sk_vec v[4];
    for (int k = 0; k < 4; k++) {
        const sk_real a = real_mul(vec_real(vec_sub32(vec_codes32(x, k), zero_x)), real_set(layer->factor));
        const sk_real b = real_mul(vec_real(vec_sub32(vec_codes32(y, k), zero_y)), real_set(layer->factor2));
        v[k] = vec_round(real_add(a, b));
    }
    vec_store_first(out, join(tail, v), count);
}

void SK_WIDE(add)(const sk_q_layer *layer, const int8_t *in, const int8_t *in2, int8_t *out) {
    const size_t total = (size_t)layer->in_h * (size_t)layer->in_w * (size_t)layer->in_c;
    const sk_tail tail = tail_of(layer);
    size_t i = 0;
    for (; i + CODES <= total; i += CODES) {
        add_codes(layer, &tail, in + i, in2 + i, out + i, CODES);
    }
    if (i < total) {
        add_codes(layer, &tail, in + i, in2 + i, out + i, (int)(total - i));
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
    .name = SK_PATH,
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
#elif defined(__AVXVNNI__)
/* Compilers may not know this feature by name; the answer about AVX2 says that the system saves the registers. */
const sk_int8_kernels *sk_int8_avxvnni(void) {
    unsigned a, b, c, d;
    return __builtin_cpu_supports("avx2") && __get_cpuid_count(7, 1, &a, &b, &c, &d) && a & 1u << 4 ? &kernels : NULL;
}
#else
const sk_int8_kernels *sk_int8_avx2(void) {
    return __builtin_cpu_supports("avx2") ? &kernels : NULL;
}
#endif
