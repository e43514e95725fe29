/* SPDX-License-Identifier: Apache-2.0 */
/* The int8 kernels for AVX2. Products are summed as int16 pairs into int32 (vpmaddwd), never through the saturating
 * u8 x s8 instruction, so that every sum equals the reference's. */
#include <immintrin.h>
#include <string.h>

#include "kernels/int8/int8.h"

#define BLOCK 8 /* output channels of a vector */
#define TILE 4  /* pixels of a register tile */

static int round_up(int value, int step) {
    return (value + step - 1) / step * step;
}

static int is_gemm(const sk_q_layer *layer) {
    return layer->op == SK_OP_CONV || layer->op == SK_OP_POINTWISE || layer->op == SK_OP_LINEAR;
}

/* Packed: per block of 8 output channels, first bias[8], mult[8] and curve[8], then for each pair of terms
 * 8 channels x 2 int16. */
#define HEAD 3
static size_t block_bytes(const sk_q_layer *layer) {
    return HEAD * BLOCK * sizeof(int32_t) + (size_t)round_up(sk_gemm_depth(layer), 2) * BLOCK * sizeof(int16_t);
}

static size_t packed_bytes(const sk_q_layer *layer) {
    return is_gemm(layer) ? block_bytes(layer) * (size_t)(round_up(layer->out_c, BLOCK) / BLOCK) : 0;
}

static void pack(const sk_q_layer *layer, void *packed) {
    if (!is_gemm(layer)) {
        return;
    }
    const int depth = sk_gemm_depth(layer), blocks = round_up(layer->out_c, BLOCK) / BLOCK;
    memset(packed, 0, packed_bytes(layer));
    for (int b = 0; b < blocks; b++) {
        int32_t *head = (int32_t *)((char *)packed + block_bytes(layer) * (size_t)b);
        int16_t *pairs = (int16_t *)(head + HEAD * BLOCK);
        for (int i = 0; i < BLOCK && b * BLOCK + i < layer->out_c; i++) {
            const int c = b * BLOCK + i;
            const int8_t *row = layer->weight + layer->row * (size_t)c;
            head[i] = layer->bias[c];
            head[BLOCK + i] = layer->mult[c];
            head[2 * BLOCK + i] = layer->curve ? layer->curve[c] : 0;
            for (int k = 0; k < depth; k++) {
                pairs[k / 2 * 2 * BLOCK + 2 * i + k % 2] = row[k];
            }
        }
    }
}

static size_t scratch_bytes(const sk_q_layer *layer) {
    /* TILE patches as int16, or a row of zero points */
    return is_gemm(layer) ? TILE * sizeof(int16_t) * (size_t)round_up(sk_gemm_depth(layer), 16) : (size_t)layer->in_c;
}

/* sk_requant of eight values; mult per lane. */
static __m256i requant8(__m256i value, __m256i mult, int shift) {
    /* AVX2 has no arithmetic shift of 64-bit lanes: |product| <= 2^62, so adding 2^62 makes it non-negative, and taking
     * 2^62 >> shift off again afterwards is exact */
    const __m256i bias = _mm256_set1_epi64x(((int64_t)1 << 62) + ((int64_t)1 << (shift - 1)));
    const __m256i back = _mm256_set1_epi64x((int64_t)1 << (62 - shift));
    const __m128i count = _mm_cvtsi32_si128(shift);
    const __m256i odd_v = _mm256_srli_epi64(value, 32), odd_m = _mm256_srli_epi64(mult, 32);
    __m256i even = _mm256_add_epi64(_mm256_mul_epi32(value, mult), bias);
    __m256i odd = _mm256_add_epi64(_mm256_mul_epi32(odd_v, odd_m), bias);
    even = _mm256_sub_epi64(_mm256_srl_epi64(even, count), back);
    odd = _mm256_sub_epi64(_mm256_srl_epi64(odd, count), back);
    return _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
}

static __m256i hswish6(__m256i v, int fraction) {
    const __m256i three = _mm256_set1_epi32(3 << fraction), minus = _mm256_set1_epi32(-(3 << fraction));
    const __m256i u = _mm256_min_epi32(_mm256_max_epi32(v, minus), three);
    __m256i core = _mm256_mullo_epi32(u, _mm256_add_epi32(u, three));
    core = _mm256_add_epi32(core, _mm256_set1_epi32(1 << (fraction - 1)));
    core = _mm256_sra_epi32(core, _mm_cvtsi32_si128(fraction));
    const __m256i rest = _mm256_max_epi32(_mm256_sub_epi32(v, u), _mm256_setzero_si256());
    return _mm256_add_epi32(core, _mm256_mullo_epi32(rest, _mm256_set1_epi32(6)));
}

static __m256i hsigmoid6(__m256i v, int fraction) {
    const __m256i t = _mm256_add_epi32(v, _mm256_set1_epi32(3 << fraction));
    return _mm256_min_epi32(_mm256_max_epi32(t, _mm256_setzero_si256()), _mm256_set1_epi32(6 << fraction));
}

/* Adds the zero point, clamps, and stores the low `count` (1..8) codes. */
static void store8(const sk_q_layer *layer, __m256i v, int8_t *out, int count) {
    v = _mm256_add_epi32(v, _mm256_set1_epi32(layer->zero_out));
    v = _mm256_min_epi32(_mm256_max_epi32(v, _mm256_set1_epi32(layer->low)), _mm256_set1_epi32(layer->high));
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    const __m128i codes = _mm_packs_epi16(words, words);
    if (count == BLOCK) {
        _mm_storel_epi64((__m128i *)out, codes);
    } else {
        int8_t rest[16];
        _mm_storeu_si128((__m128i *)rest, codes);
        memcpy(out, rest, (size_t)count);
    }
}

static void finish8(const sk_q_layer *layer, __m256i sum, __m256i mult, __m256i curve, int8_t *out, int count) {
    __m256i v = requant8(sum, mult, layer->shift);
    if (layer->act == SK_ACT_HSWISH) {
        v = requant8(hswish6(v, layer->fraction), curve, layer->shift2);
    } else if (layer->act == SK_ACT_HSIGMOID) {
        v = requant8(hsigmoid6(v, layer->fraction), curve, layer->shift2);
    }
    store8(layer, v, out, count);
}

/* One register tile: `pixels` patches of int16 `stride` apart, `blocks` (1 or 2) blocks of output channels. Inlined
 * with constants, so that the accumulators stay in registers. */
__attribute__((always_inline)) static inline void tile(const sk_q_layer *layer, const int16_t *x, size_t stride,
                                                       int pixels, int blocks, const char *packed, int channel,
                                                       int8_t *out) {
    const size_t bytes = block_bytes(layer);
    const int pairs = round_up(sk_gemm_depth(layer), 2) / 2;
    const __m256i *w[2];
    __m256i acc[TILE][2];
    for (int b = 0; b < blocks; b++) {
        w[b] = (const __m256i *)(packed + bytes * (size_t)b);
        for (int p = 0; p < pixels; p++) {
            acc[p][b] = _mm256_loadu_si256(w[b]);
        }
    }
    for (int k = 0; k < pairs; k++) {
        __m256i wk[2];
        for (int b = 0; b < blocks; b++) {
            wk[b] = _mm256_loadu_si256(w[b] + HEAD + k);
        }
        for (int p = 0; p < pixels; p++) {
            int32_t two;
            memcpy(&two, x + stride * (size_t)p + 2 * k, sizeof two);
            const __m256i xk = _mm256_set1_epi32(two);
            for (int b = 0; b < blocks; b++) {
                acc[p][b] = _mm256_add_epi32(acc[p][b], _mm256_madd_epi16(xk, wk[b]));
            }
        }
    }
    for (int b = 0; b < blocks; b++) {
        const int left = layer->out_c - channel - b * BLOCK;
        const __m256i mult = _mm256_loadu_si256(w[b] + 1), curve = _mm256_loadu_si256(w[b] + 2);
        for (int p = 0; p < pixels; p++) {
            finish8(layer, acc[p][b], mult, curve, out + (size_t)p * (size_t)layer->out_c + b * BLOCK,
                    left < BLOCK ? left : BLOCK);
        }
    }
}

/* All output channels of `pixels` (1..TILE) patches; out: their first pixel. */
static void tiles(const sk_q_layer *layer, const int16_t *x, size_t stride, int pixels, int8_t *out) {
    const char *packed = layer->packed;
    for (int c = 0; c < layer->out_c; c += 2 * BLOCK) {
        const char *at = packed + block_bytes(layer) * (size_t)(c / BLOCK);
        const int blocks = layer->out_c - c > BLOCK ? 2 : 1;
        if (pixels == TILE && blocks == 2) {
            tile(layer, x, stride, TILE, 2, at, c, out + c);
        } else {
            for (int p = 0; p < pixels; p++) {
                const int16_t *one = x + stride * (size_t)p;
                int8_t *to = out + (size_t)p * (size_t)layer->out_c + c;
                if (blocks == 2) {
                    tile(layer, one, stride, 1, 2, at, c, to);
                } else {
                    tile(layer, one, stride, 1, 1, at, c, to);
                }
            }
        }
    }
}

static void widen(const int8_t *in, int count, int16_t *out) {
    int i = 0;
    for (; i + 16 <= count; i += 16) {
        _mm256_storeu_si256((__m256i *)(out + i), _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(in + i))));
    }
    if (i + 8 <= count) {
        _mm_storeu_si128((__m128i *)(out + i), _mm_cvtepi8_epi16(_mm_loadl_epi64((const __m128i *)(in + i))));
        i += 8;
    }
    for (; i < count; i++) {
        out[i] = in[i];
    }
}

/* The inputs of output pixel (oy, ox) as int16, in the order of the weights. Rows of the kernel that lie inside the
 * picture are one run of bytes. */
static void gather(const sk_q_layer *layer, const int8_t *in, int oy, int ox, int16_t *x) {
    const int in_c = layer->in_c, kernel = layer->kernel, run = kernel * in_c;
    const int left = ox * layer->stride - layer->pad;
    for (int ky = 0; ky < kernel; ky++, x += run) {
        const int y = oy * layer->stride - layer->pad + ky;
        const int first = left < 0 ? -left < kernel ? -left : kernel : 0;
        const int over = left + kernel - layer->in_w;
        const int last = over > 0 ? kernel - over : kernel;
        if (y < 0 || y >= layer->in_h || first >= last) {
            for (int i = 0; i < run; i++) {
                x[i] = (int16_t)layer->zero_in;
            }
            continue;
        }
        for (int i = 0; i < first * in_c; i++) {
            x[i] = (int16_t)layer->zero_in;
        }
        const int8_t *from = in + ((size_t)y * (size_t)layer->in_w + (size_t)(left + first)) * (size_t)in_c;
        widen(from, (last - first) * in_c, x + first * in_c);
        for (int i = last * in_c; i < run; i++) {
            x[i] = (int16_t)layer->zero_in;
        }
    }
}

static void gemm(const sk_q_layer *layer, const int8_t *in, int8_t *out, void *scratch) {
    const int depth = sk_gemm_depth(layer), plain = layer->kernel == 1 && layer->stride == 1 && layer->pad == 0;
    const int pixels = layer->out_h * layer->out_w;
    const size_t stride = (size_t)round_up(depth, 16);
    int16_t *x = scratch;
    int oy = 0, ox = 0;
    for (int p = 0; p < TILE; p++) {
        x[stride * (size_t)p + (size_t)depth - (size_t)(depth % 2 == 0)] = 0; /* partner of an odd last term */
    }
    for (int i = 0; i < pixels; i += TILE) {
        const int now = pixels - i < TILE ? pixels - i : TILE;
        for (int p = 0; p < now; p++) {
            if (plain) {
                widen(in + (size_t)(i + p) * (size_t)depth, depth, x + stride * (size_t)p);
                continue;
            }
            gather(layer, in, oy, ox, x + stride * (size_t)p);
            if (++ox == layer->out_w) {
                ox = 0;
                oy++;
            }
        }
        tiles(layer, x, stride, now, out + (size_t)i * (size_t)layer->out_c);
    }
}

/* finish8 with the multipliers of channels c..c+7. */
static void finish_channels(const sk_q_layer *layer, __m256i sum, int c, int8_t *out) {
    const int32_t *curve = layer->curve ? layer->curve : layer->mult;
    finish8(layer, sum, _mm256_loadu_si256((const __m256i *)(layer->mult + c)),
            _mm256_loadu_si256((const __m256i *)(curve + c)), out + c, BLOCK);
}

/* Sixteen channels: products fit int16 (128 * 127), their sum of two as well. */
static void depthwise16(const sk_q_layer *layer, const int8_t *const *taps, int c, int8_t *out) {
    const int count = layer->kernel * layer->kernel;
    const int8_t *w = layer->weight + c;
    __m256i low = _mm256_loadu_si256((const __m256i *)(layer->bias + c));
    __m256i high = _mm256_loadu_si256((const __m256i *)(layer->bias + c + 8));
    for (int t = 0; t < count; t += 2) {
        __m256i x = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(taps[t] + c)));
        __m256i v = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(w + layer->row * (size_t)t)));
        __m256i sum = _mm256_mullo_epi16(x, v);
        if (t + 1 < count) {
            x = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(taps[t + 1] + c)));
            v = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(w + layer->row * (size_t)(t + 1))));
            sum = _mm256_add_epi16(sum, _mm256_mullo_epi16(x, v));
        }
        low = _mm256_add_epi32(low, _mm256_cvtepi16_epi32(_mm256_castsi256_si128(sum)));
        high = _mm256_add_epi32(high, _mm256_cvtepi16_epi32(_mm256_extracti128_si256(sum, 1)));
    }
    finish_channels(layer, low, c, out);
    finish_channels(layer, high, c + 8, out);
}

static void depthwise8(const sk_q_layer *layer, const int8_t *const *taps, int c, int8_t *out) {
    const int count = layer->kernel * layer->kernel;
    __m256i sum = _mm256_loadu_si256((const __m256i *)(layer->bias + c));
    for (int t = 0; t < count; t++) {
        const __m256i x = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(taps[t] + c)));
        const int8_t *w = layer->weight + layer->row * (size_t)t + c;
        sum = _mm256_add_epi32(sum, _mm256_mullo_epi32(x, _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)w))));
    }
    finish_channels(layer, sum, c, out);
}

static void depthwise(const sk_q_layer *layer, const int8_t *in, int8_t *out, void *scratch) {
    int8_t *outside = scratch;
    const int8_t *taps[SK_MAX_TAPS];
    const int count = layer->kernel * layer->kernel;
    memset(outside, layer->zero_in, (size_t)layer->in_c);
    for (int i = 0; i < layer->out_h * layer->out_w; i++) {
        sk_taps(layer, in, outside, i / layer->out_w, i % layer->out_w, taps);
        int c = 0;
        for (; c + 16 <= layer->out_c; c += 16) {
            depthwise16(layer, taps, c, out);
        }
        for (; c + 8 <= layer->out_c; c += 8) {
            depthwise8(layer, taps, c, out);
        }
        for (; c < layer->out_c; c++) {
            int32_t sum = layer->bias[c];
            for (int t = 0; t < count; t++) {
                sum += (int32_t)taps[t][c] * layer->weight[layer->row * (size_t)t + (size_t)c];
            }
            out[c] = sk_finish(layer, sum, c);
        }
        out += layer->out_c;
    }
}

static void pool(const sk_q_layer *layer, const int8_t *in, int8_t *out) {
    const int pixels = layer->in_h * layer->in_w, channels = layer->in_c;
    int c = 0;
    for (; c + BLOCK <= channels; c += BLOCK) {
        __m256i sum = _mm256_set1_epi32(-layer->zero_in * pixels);
        for (int i = 0; i < pixels; i++) {
            const int8_t *at = in + (size_t)i * (size_t)channels + c;
            sum = _mm256_add_epi32(sum, _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)at)));
        }
        store8(layer, requant8(sum, _mm256_set1_epi32(layer->mult2), layer->shift), out + c, BLOCK);
    }
    for (; c < channels; c++) {
        int32_t sum = -layer->zero_in * pixels;
        for (int i = 0; i < pixels; i++) {
            sum += in[(size_t)i * (size_t)channels + (size_t)c];
        }
        out[c] = sk_clamp8(sk_requant(sum, layer->mult2, layer->shift) + layer->zero_out, layer->low, layer->high);
    }
}

static __m256i load_minus(const int8_t *at, int zero) {
    const __m256i codes = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)at));
    return _mm256_sub_epi32(codes, _mm256_set1_epi32(zero));
}

static void scale(const sk_q_layer *layer, const int8_t *in, const int8_t *gate, int8_t *out) {
    const int pixels = layer->in_h * layer->in_w, channels = layer->in_c;
    const int32_t half = (int32_t)1 << (layer->shift - 1);
    const __m128i count = _mm_cvtsi32_si128(layer->shift);
    const __m256i mult = _mm256_set1_epi32(layer->mult2), halves = _mm256_set1_epi32(half);
    for (int i = 0; i < pixels; i++) {
        int c = 0;
        for (; c + BLOCK <= channels; c += BLOCK) {
            const __m256i product = _mm256_mullo_epi32(load_minus(in + c, layer->zero_in),
                                                       load_minus(gate + c, layer->zero_in2));
            const __m256i v = _mm256_add_epi32(_mm256_mullo_epi32(product, mult), halves);
            store8(layer, _mm256_sra_epi32(v, count), out + c, BLOCK);
        }
        for (; c < channels; c++) {
            const int32_t product = (in[c] - layer->zero_in) * (gate[c] - layer->zero_in2);
            const int32_t v = (product * layer->mult2 + half) >> layer->shift;
            out[c] = sk_clamp8(v + layer->zero_out, layer->low, layer->high);
        }
        in += channels;
        out += channels;
    }
}

static void add(const sk_q_layer *layer, const int8_t *in, const int8_t *in2, int8_t *out) {
    const size_t total = (size_t)layer->in_h * (size_t)layer->in_w * (size_t)layer->in_c;
    const int32_t half = (int32_t)1 << (layer->shift - 1);
    const __m128i count = _mm_cvtsi32_si128(layer->shift);
    const __m256i a = _mm256_set1_epi32(layer->mult2), b = _mm256_set1_epi32(layer->mult3);
    size_t i = 0;
    for (; i + BLOCK <= total; i += BLOCK) {
        __m256i sum = _mm256_add_epi32(_mm256_mullo_epi32(load_minus(in + i, layer->zero_in), a),
                                       _mm256_mullo_epi32(load_minus(in2 + i, layer->zero_in2), b));
        sum = _mm256_sra_epi32(_mm256_add_epi32(sum, _mm256_set1_epi32(half)), count);
        store8(layer, sum, out + i, BLOCK);
    }
    for (; i < total; i++) {
        const int32_t sum = (in[i] - layer->zero_in) * layer->mult2 + (in2[i] - layer->zero_in2) * layer->mult3;
        out[i] = sk_clamp8(((sum + half) >> layer->shift) + layer->zero_out, layer->low, layer->high);
    }
}

const sk_int8_kernels *sk_int8_avx2(void) {
    static const sk_int8_kernels kernels = {
        .name = "avx2",
        .packed_bytes = packed_bytes,
        .pack = pack,
        .scratch_bytes = scratch_bytes,
        .gemm = gemm,
        .depthwise = depthwise,
        .pool = pool,
        .scale = scale,
        .add = add,
    };
    return __builtin_cpu_supports("avx2") ? &kernels : NULL;
}
