/* SPDX-License-Identifier: Apache-2.0 */
/* Depthwise layers on AVX-512 VNNI, two vectors of channels at a time. Under each output row the inputs of a column are
 * interleaved once, SK_TERMS rows of the kernel to a lane, and then serve all output pixels that see this column. A
 * single row that is left over is interleaved along itself instead. */
#include "kernels/int8/x86/finish.h"
#include "kernels/int8/x86/table.h"

/* How a kernel's places are cut into dots. Of the sets of interleaved inputs `upright` ones have a dot per column of
 * the kernel. If `lying`, one more holds a single row, a dot per SK_TERMS columns, the last of these pushed back to end
 * with the row, so that some of its weights are 0. */
typedef struct cut {
    int kernel, upright, lying, dots;
} cut;

SK_INLINE cut cut_of(int kernel) {
    const int rest = kernel % SK_TERMS;
    cut c = {kernel, kernel / SK_TERMS + (rest > 1), rest == 1, 0};
    c.dots = c.upright * kernel + c.lying * ((kernel + SK_TERMS - 1) / SK_TERMS);
    return c;
}

SK_INLINE int is_upright(const cut *c, int dot) {
    return dot < c->upright * c->kernel;
}

/* First column of a dot of the row that lies. */
SK_INLINE int lying_column(const cut *c, int dot) {
    const int column = (dot - c->upright * c->kernel) * SK_TERMS, last = c->kernel - SK_TERMS;
    return column <= last || last < 0 ? column : last;
}

/* The place in the kernel whose weight is term `term` of a dot, or -1. */
static int place_of(const cut *c, int dot, int term) {
    int y = dot / c->kernel * SK_TERMS + term, x = dot % c->kernel;
    if (!is_upright(c, dot)) {
        y = c->kernel - 1;
        x = lying_column(c, dot) + term;
        if (x < (dot - c->upright * c->kernel) * SK_TERMS) {
            return -1; /* the dot before has it */
        }
    }
    return y < c->kernel && x < c->kernel ? y * c->kernel + x : -1;
}

/* Channel of a lane as `interleave` leaves them. */
static int interleaved(int first, int vector, int lane) {
    return first + lane % 8 / 4 * 16 + vector * 8 + lane / 8 * 4 + lane % 4;
}

/* Packed: per SK_PAIR channels an sk_pair, then two vectors of weights per dot. */
static size_t block_bytes(const sk_q_layer *layer) {
    return sizeof(sk_pair) + (size_t)cut_of(layer->kernel).dots * 2 * sizeof(sk_vec);
}

size_t SK_WIDE(depthwise_packed)(const sk_q_layer *layer) {
    return block_bytes(layer) * (size_t)(round_up(layer->out_c, SK_PAIR) / SK_PAIR);
}

static void pack_block(const sk_q_layer *layer, int first, const int32_t *sums, void *to) {
    const cut c = cut_of(layer->kernel);
    sk_pair *pair = to;
    sk_weight *w = (sk_weight *)(void *)(pair + 1);
    pair_pack(layer, first, interleaved, sums, first, pair);
    for (int dot = 0; dot < c.dots; dot++) {
        for (int i = 0; i < SK_PAIR; i++) {
            const int channel = interleaved(first, i / SK_LANES, i % SK_LANES);
            for (int term = 0; term < SK_TERMS; term++) {
                const int place = channel < layer->out_c ? place_of(&c, dot, term) : -1;
                *w++ = place < 0 ? 0 : layer->weight[layer->row * (size_t)place + (size_t)channel];
            }
        }
    }
}

void SK_WIDE(depthwise_pack)(const sk_q_layer *layer, void *packed) {
    for (int first = 0; first < layer->out_c; first += SK_PAIR) {
        int32_t sums[SK_PAIR] = {0};
        for (int c = first; c < first + SK_PAIR && c < layer->out_c; c++) {
            for (int t = 0; t < layer->kernel * layer->kernel; t++) {
                sums[c - first] += layer->weight[layer->row * (size_t)t + (size_t)c];
            }
        }
        pack_block(layer, first, sums, (char *)packed + block_bytes(layer) * (size_t)(first / SK_PAIR));
    }
}

/* Scratch: the interleaved inputs of a block of channels, then the ring of rows, behind which a row that lies and a
 * block of channels may be read. */
static size_t columns_of(const sk_q_layer *layer) {
    return (size_t)layer->in_w + 2 * (size_t)layer->pad;
}

static size_t set_bytes(const sk_q_layer *layer) {
    return columns_of(layer) * 2 * sizeof(sk_vec);
}

static size_t sets_bytes(const sk_q_layer *layer) {
    const cut c = cut_of(layer->kernel);
    return set_bytes(layer) * (size_t)(c.upright + c.lying);
}

static size_t slack(const sk_q_layer *layer) {
    return (size_t)(SK_TERMS - 1) * (size_t)layer->in_c + SK_PAIR;
}

size_t SK_WIDE(depthwise_scratch)(const sk_q_layer *layer) {
    const size_t ring = columns_of(layer) * (size_t)layer->in_c * (size_t)layer->kernel;
    return sets_bytes(layer) + (ring + slack(layer)) * sizeof(sk_input);
}

/* Interleaves SK_PAIR channels of SK_TERMS inputs; NULL: zeros. */
SK_INLINE __m256i load_half(const sk_input *from, size_t at) {
    return from ? _mm256_loadu_si256((const __m256i *)(const void *)(from + at)) : _mm256_setzero_si256();
}

SK_INLINE void interleave(const sk_input *const x[SK_TERMS], size_t at, char *to) {
    const __m256i x0 = load_half(x[0], at), x1 = load_half(x[1], at);
    const __m256i x2 = load_half(x[2], at), x3 = load_half(x[3], at);
    const __m256i low01 = _mm256_unpacklo_epi8(x0, x1), high01 = _mm256_unpackhi_epi8(x0, x1);
    const __m256i low23 = _mm256_unpacklo_epi8(x2, x3), high23 = _mm256_unpackhi_epi8(x2, x3);
    __m256i *out = (__m256i *)(void *)to;
    _mm256_storeu_si256(out, _mm256_unpacklo_epi16(low01, low23));
    _mm256_storeu_si256(out + 1, _mm256_unpackhi_epi16(low01, low23));
    _mm256_storeu_si256(out + 2, _mm256_unpacklo_epi16(high01, high23));
    _mm256_storeu_si256(out + 3, _mm256_unpackhi_epi16(high01, high23));
}

/* All sets of the channels from `first` on under one output row; rows: the kernel's. */
SK_INLINE void make_sets(const sk_q_layer *layer, const cut *c, const sk_input *const *rows, int first, char *sets) {
    const size_t columns = columns_of(layer), in_c = (size_t)layer->in_c;
    for (int s = 0; s < c->upright + c->lying; s++) {
        const sk_input *x[SK_TERMS];
        for (int t = 0; t < SK_TERMS; t++) {
            const int y = s * SK_TERMS + t;
            x[t] = s == c->upright ? rows[c->kernel - 1] + in_c * (size_t)t : y < c->kernel ? rows[y] : NULL;
        }
        size_t at = (size_t)first;
        for (size_t i = 0; i < columns; i++, at += in_c, sets += 2 * sizeof(sk_vec)) {
            interleave(x, at, sets);
        }
    }
}

/* Where the inputs of a dot lie, from those of the output pixel's first column on. */
SK_INLINE size_t dot_offset(const cut *c, int dot, size_t set) {
    return is_upright(c, dot) ? set * (size_t)(dot / c->kernel) + (size_t)(dot % c->kernel) * 2 * sizeof(sk_vec)
                              : set * (size_t)c->upright + (size_t)lying_column(c, dot) * 2 * sizeof(sk_vec);
}

/* One row of output pixels, two at a time. Inlined with a constant kernel; weights stay in registers if they fit. */
SK_INLINE void run_row(const sk_q_layer *layer, const sk_tail *tail, const cut *c, const char *sets,
                       const sk_pair *pair, int8_t *out, int count) {
    enum { KEPT = 7 };
    const size_t set = set_bytes(layer), step = (size_t)layer->stride * 2 * sizeof(sk_vec);
    const char *weights = (const char *)(pair + 1);
    const sk_vec bias0 = vec_load(pair->bias), bias1 = vec_load(pair->bias + SK_LANES);
    const sk_finisher f = finisher_of(tail, pair);
    sk_vec kept[KEPT][2];
    for (int dot = 0; dot < KEPT && dot < c->dots; dot++) {
        kept[dot][0] = vec_load(weights + (size_t)dot * 2 * sizeof(sk_vec));
        kept[dot][1] = vec_load(weights + (size_t)dot * 2 * sizeof(sk_vec) + sizeof(sk_vec));
    }
    for (int x = 0; x < layer->out_w; x += 2, sets += 2 * step, out += 2 * layer->out_c) {
        const int both = x + 1 < layer->out_w;
        const char *next = both ? sets + step : sets;
        sk_vec a0 = bias0, a1 = bias1, b0 = bias0, b1 = bias1;
        for (int dot = 0; dot < c->dots; dot++) {
            const size_t at = dot_offset(c, dot, set);
            const char *w = weights + (size_t)dot * 2 * sizeof(sk_vec);
            const sk_vec w0 = dot < KEPT ? kept[dot][0] : vec_load(w);
            const sk_vec w1 = dot < KEPT ? kept[dot][1] : vec_load(w + sizeof(sk_vec));
            a0 = vec_dot(a0, vec_load(sets + at), w0);
            a1 = vec_dot(a1, vec_load(sets + at + sizeof(sk_vec)), w1);
            b0 = vec_dot(b0, vec_load(next + at), w0);
            b1 = vec_dot(b1, vec_load(next + at + sizeof(sk_vec)), w1);
        }
        const sk_vec codes = vec_unravel(codes_of(&f.tail, pair_finish(&f, a0, a1), pair_finish(&f, b0, b1)));
        half_store_first(out, vec_low(codes), count);
        if (both) {
            half_store_first(out + layer->out_c, vec_high(codes), count);
        }
    }
}

SK_INLINE void all_channels(const sk_q_layer *layer, const sk_tail *tail, int kernel, const sk_input *const *rows,
                            char *sets, int8_t *out) {
    const cut c = cut_of(kernel);
    const char *packed = layer->packed;
    for (int first = 0; first < layer->out_c; first += SK_PAIR, packed += block_bytes(layer)) {
        make_sets(layer, &c, rows, first, sets);
        run_row(layer, tail, &c, sets, (const sk_pair *)(const void *)packed, out + first, layer->out_c - first);
    }
}

void SK_WIDE(depthwise)(const sk_q_layer *layer, const int8_t *in, int8_t *out, void *scratch) {
    char *sets = scratch;
    sk_input *ring = (sk_input *)(void *)(sets + sets_bytes(layer));
    const sk_tail tail = tail_of(layer);
    sk_rows rows = {0};
    memset(ring + columns_of(layer) * (size_t)layer->in_c * (size_t)layer->kernel, 0, slack(layer) * sizeof *ring);
    for (int y = 0; y < layer->out_h; y++, out += (size_t)layer->out_w * (size_t)layer->out_c) {
        const sk_input *at[SK_MAX_KERNEL];
        rows_move(&rows, layer, in, y, ring, at);
        if (layer->kernel == 3) {
            all_channels(layer, &tail, 3, at, sets, out);
        } else if (layer->kernel == 5) {
            all_channels(layer, &tail, 5, at, sets, out);
        } else {
            all_channels(layer, &tail, layer->kernel, at, sets, out);
        }
    }
}
