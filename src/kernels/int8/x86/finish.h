/* SPDX-License-Identifier: Apache-2.0 */
/* From sums to codes in vectors (sk_finish of int8.h), the packed parameters that this takes, and the rows of inputs
 * that convolutions walk over. */
#ifndef SK_INT8_X86_FINISH_H
#define SK_INT8_X86_FINISH_H

#include "kernels/int8/int8.h"
#include "kernels/int8/x86/vector.h"

enum { SK_PAIR = 2 * SK_LANES }; /* channels whose sums are two vectors */

/* Parameters of a pair of vectors of sums, in the order of these. */
typedef struct sk_pair {
    int32_t bias[SK_PAIR];
    float mult[SK_PAIR], curve[SK_PAIR];
} sk_pair;

/* Channel of lane `lane` of vector `vector`, the pair beginning at channel `first`. */
typedef int (*sk_order)(int first, int vector, int lane);

static inline int in_order(int first, int vector, int lane) {
    return first + vector * SK_LANES + lane;
}

/* Where one vector holds all that is left, its partner is another pixel. */
static inline int one_vector(int first, int vector, int lane) {
    (void)vector;
    return first + lane;
}

static inline int vectors_from(const sk_q_layer *layer, int channel) {
    return layer->out_c - channel > SK_LANES ? 2 : 1;
}

/* sums[c - sums_first]: sum of channel c's weights, since inputs carry SK_OFFSET. */
static inline void pair_pack(const sk_q_layer *layer, int first, sk_order order, const int32_t *sums, int sums_first,
                             sk_pair *pair) {
    memset(pair, 0, sizeof *pair);
    for (int i = 0; i < SK_PAIR; i++) {
        const int c = order(first, i / SK_LANES, i % SK_LANES);
        if (c < layer->out_c) {
            pair->bias[i] = layer->bias[c] - SK_OFFSET * sums[c - sums_first];
            pair->mult[i] = layer->mult[c];
            pair->curve[i] = layer->curve ? layer->curve[c] : 0;
        }
    }
}

/* What is the same for all channels. */
typedef struct sk_tail {
    sk_act act;
    sk_vec zero, low, high;
} sk_tail;

SK_INLINE sk_tail tail_of(const sk_q_layer *layer) {
    return (sk_tail){layer->act, vec_set16(layer->zero_out), vec_set8(layer->low), vec_set8(layer->high)};
}

/* Both in registers: a store of codes may alias anything, so whatever stays in memory would be loaded again. */
typedef struct sk_finisher {
    sk_tail tail;
    sk_real mult[2], curve[2];
} sk_finisher;

SK_INLINE sk_finisher finisher_of(const sk_tail *tail, const sk_pair *pair) {
    return (sk_finisher){*tail,
                         {real_load(pair->mult), real_load(pair->mult + SK_LANES)},
                         {real_load(pair->curve), real_load(pair->curve + SK_LANES)}};
}

SK_INLINE sk_vec finish_vector(const sk_finisher *f, sk_vec sums, int i) {
    const sk_real sum = vec_real(sums);
    if (f->tail.act < SK_ACT_HSWISH) {
        return vec_round(real_mul(sum, f->mult[i]));
    }
    const sk_real sixth = real_add(real_mul(sum, f->curve[i]), real_set(.5f));
    const sk_real gate = real_clamp(sixth, real_set(0), real_set(1));
    return vec_round(real_mul(f->tail.act == SK_ACT_HSWISH ? real_mul(sum, f->mult[i]) : f->mult[i], gate));
}

/* Codes as int16, before the clamp. Packing saturates; that and the addition change nothing that the clamp would
 * not. */
SK_INLINE sk_vec pair_finish(const sk_finisher *f, sk_vec a, sk_vec b) {
    return vec_adds16(vec_pack32(finish_vector(f, a, 0), finish_vector(f, b, 1)), f->tail.zero);
}

/* Two results of pair_finish as clamped codes. */
SK_INLINE sk_vec codes_of(const sk_tail *tail, sk_vec a, sk_vec b) {
    return vec_min8(vec_max8(vec_pack16(a, b), tail->low), tail->high);
}

/* Codes of `pixels` pixels, out_c bytes apart, by two vectors of channels in order, of which there are `count`. */
SK_INLINE void finish_two(const sk_finisher *f, const sk_vec sums[][2], int pixels, int8_t *out, size_t out_c,
                          int count) {
    for (int p = 0; p < pixels; p += 2, out += 2 * out_c) {
        const sk_vec first = pair_finish(f, sums[p][0], sums[p][1]);
        const sk_vec second = p + 1 < pixels ? pair_finish(f, sums[p + 1][0], sums[p + 1][1]) : first;
        const sk_vec codes = vec_untangle(codes_of(&f->tail, first, second));
        half_store_first(out, vec_low(codes), count);
        if (p + 1 < pixels) {
            half_store_first(out + out_c, vec_high(codes), count);
        }
    }
}

/* By one vector of channels, in the order `one_vector`: four pixels at a time. */
SK_INLINE void finish_one(const sk_finisher *f, const sk_vec sums[][2], int pixels, int8_t *out, size_t out_c,
                          int count) {
    for (int p = 0; p < pixels; p += 4) {
        const sk_vec *rest = sums[pixels - 1]; /* instead of pixels that there are not */
        const sk_vec first = pair_finish(f, sums[p][0], p + 1 < pixels ? sums[p + 1][0] : rest[0]);
        const sk_vec second = p + 2 < pixels ? pair_finish(f, sums[p + 2][0], sums[p + 3][0]) : first;
        const sk_vec codes = vec_untangle(codes_of(&f->tail, first, second));
        if (out_c == SK_LANES && p + 4 <= pixels) {
            vec_store(out, codes);
            out += 4 * SK_LANES;
            continue;
        }
        for (int i = 0; i < 4 && p + i < pixels; i++, out += out_c) {
            quarter_store_first(out, vec_quarter(codes, i), count);
        }
    }
}

static inline int round_up(int value, int step) {
    return (value + step - 1) / step * step;
}

#define SK_MAX_KERNEL 7

/* A ring of the input rows under a kernel, each turned into inputs once, with what lies outside of the picture beside
 * it. */
typedef struct sk_rows {
    int done; /* rows from -pad on that were turned */
} sk_rows;

SK_INLINE void inputs_fill(sk_input *to, size_t count, int code) {
    for (size_t i = 0; i < count; i++) {
        to[i] = (sk_input)(code + SK_OFFSET);
    }
}

/* Where the kernel's rows for output row `oy` begin; ring: kernel rows of (in_w + 2 pad) in_c inputs. */
static inline void rows_move(sk_rows *rows, const sk_q_layer *layer, const int8_t *in, int oy, sk_input *ring,
                             const sk_input **at) {
    const size_t in_c = (size_t)layer->in_c, inside = (size_t)layer->in_w * in_c, beside = (size_t)layer->pad * in_c;
    const size_t stride = inside + 2 * beside;
    const int first = oy * layer->stride, last = first + layer->kernel;
    for (rows->done = rows->done > first ? rows->done : first; rows->done < last; rows->done++) {
        sk_input *to = ring + stride * (size_t)(rows->done % layer->kernel);
        const int y = rows->done - layer->pad;
        if (y < 0 || y >= layer->in_h) {
            inputs_fill(to, stride, layer->zero_in);
            continue;
        }
        inputs_fill(to, beside, layer->zero_in);
        inputs_of_codes(in + inside * (size_t)y, inside, to + beside);
        inputs_fill(to + beside + inside, beside, layer->zero_in);
    }
    for (int ky = 0; ky < layer->kernel; ky++) {
        at[ky] = ring + stride * (size_t)((first + ky) % layer->kernel);
    }
}
#endif
