/* SPDX-License-Identifier: Apache-2.0 */
/* From sums to codes in vectors (sk_finish of int8.h), the packed parameters that this takes, and the rows of inputs
 * that convolutions walk over. */
#ifndef SK_INT8_X86_FINISH_H
#define SK_INT8_X86_FINISH_H

#include "kernels/int8/int8.h"
#include "kernels/int8/x86/vector.h"

enum { SK_PAIR = 2 * SK_LANES }; /* channels whose sums are two vectors */

/* Parameters of a pair of vectors of sums: those of 32 bits in the order of the sums, those of 16 in the order in which
 * packing leaves them. Where every channel is shifted to the right by no less than the layer to the left, only the
 * difference is left to do. */
typedef struct sk_pair {
    int32_t left, unused[15];
    int32_t bias[SK_PAIR], shift[SK_PAIR], gate_shift[SK_PAIR];
    int16_t mult[SK_PAIR], gate[SK_PAIR];
} sk_pair;

/* Channel of lane `lane` of vector `vector`, the pair beginning at channel `first`. */
typedef int (*sk_order)(int first, int vector, int lane);

static inline void pair_join_shifts(sk_pair *pair, int left) {
    int least = left;
    for (int i = 0; i < SK_PAIR; i++) {
        least = pair->shift[i] < least ? pair->shift[i] : least;
        least = pair->gate_shift[i] < least ? pair->gate_shift[i] : least;
    }
    pair->left = left - least;
    for (int i = 0; i < SK_PAIR; i++) {
        pair->shift[i] -= least;
        pair->gate_shift[i] -= least;
    }
}

/* sums[c - sums_first]: sum of channel c's weights, since inputs carry SK_OFFSET. */
static inline void pair_pack(const sk_q_layer *layer, int first, sk_order order, const int32_t *sums, int sums_first,
                             sk_pair *pair) {
    memset(pair, 0, sizeof *pair);
    for (int i = 0; i < SK_PAIR; i++) {
        const int vector = i / SK_LANES, lane = i % SK_LANES, c = order(first, vector, lane);
        const int packed = lane / 4 * 8 + vector * 4 + lane % 4;
        pair->shift[i] = pair->gate_shift[i] = layer->left; /* of lanes without a channel, so that they do not matter */
        if (c >= layer->out_c) {
            continue;
        }
        pair->bias[i] = layer->bias[c] - SK_OFFSET * sums[c - sums_first];
        pair->mult[packed] = (int16_t)sk_word_mult(layer->mult[c]);
        if (layer->act != SK_ACT_HSIGMOID) {
            pair->shift[i] = sk_word_shift(layer->mult[c]);
        }
        if (layer->curve) {
            pair->gate_shift[i] = sk_word_shift(layer->curve[c]);
            pair->gate[packed] = (int16_t)sk_word_mult(layer->curve[c]);
        }
    }
    pair_join_shifts(pair, layer->left);
}

/* What is the same for all channels. */
typedef struct sk_tail {
    sk_act act;
    __m128i fraction;
    sk_vec zero, low, high;
} sk_tail;

SK_INLINE sk_tail tail_of(const sk_q_layer *layer) {
    const int half = 1 << (layer->fraction - 1);
    return (sk_tail){layer->act, _mm_cvtsi32_si128(layer->fraction),
                     vec_set16(layer->zero_out * (1 << layer->fraction) + half), vec_set8(layer->low),
                     vec_set8(layer->high)};
}

/* Both in registers: a store of codes may alias anything, so whatever stays in memory would be loaded again. */
typedef struct sk_finisher {
    sk_tail tail;
    int left;
    sk_vec shift[2], gate_shift[2], mult, gate;
} sk_finisher;

SK_INLINE sk_finisher finisher_of(const sk_tail *tail, const sk_pair *pair) {
    return (sk_finisher){*tail,
                         pair->left,
                         {vec_load(pair->shift), vec_load(pair->shift + SK_LANES)},
                         {vec_load(pair->gate_shift), vec_load(pair->gate_shift + SK_LANES)},
                         vec_load(pair->mult),
                         vec_load(pair->gate)};
}

/* Codes as int16, before the clamp. */
SK_INLINE sk_vec pair_finish(const sk_finisher *f, sk_vec a, sk_vec b) {
    if (f->left) {
        a = vec_left32(a, _mm_cvtsi32_si128(f->left));
        b = vec_left32(b, _mm_cvtsi32_si128(f->left));
    }
    sk_vec u = f->mult;
    if (f->tail.act != SK_ACT_HSIGMOID) {
        u = vec_mulhrs16(vec_pack32(vec_right32_each(a, f->shift[0]), vec_right32_each(b, f->shift[1])), u);
    }
    if (f->tail.act < SK_ACT_HSWISH) {
        return vec_right16(vec_adds16(f->tail.zero, u), f->tail.fraction);
    }
    const sk_vec narrow = vec_pack32(vec_right32_each(a, f->gate_shift[0]), vec_right32_each(b, f->gate_shift[1]));
    const sk_vec six = vec_mulhrs16(narrow, f->gate);
    const sk_vec gate = vec_min16(vec_subs16(vec_set16(-(1 << 14)), six), vec_zero());
    return vec_right16(vec_subs16(f->tail.zero, vec_mulhrs16(u, gate)), f->tail.fraction);
}

/* Two results of pair_finish as clamped codes. */
SK_INLINE sk_vec codes_of(const sk_finisher *f, sk_vec a, sk_vec b) {
    return vec_min8(vec_max8(vec_pack16(a, b), f->tail.low), f->tail.high);
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
