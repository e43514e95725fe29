/* SPDX-License-Identifier: Apache-2.0 */
/* Convolution, pointwise and linear layers: register tiles of several output pixels by two vectors of output channels.
 * Inputs are turned into what the dot instruction wants a few at a time: a run of pixels of a pointwise layer, the rows
 * under the kernel of a convolution, with what lies outside of the picture beside them, so that each kernel row is one
 * run of inputs for every output pixel. */
#include "kernels/int8/x86/finish.h"
#include "kernels/int8/x86/table.h"

/* Output pixels. A vpdpbusd waits five cycles for the one before it on the same sum, so that it wants many sums: those
 * of 6 pixels fill 16 registers. A vpaddd waits one cycle. */
enum { TILE = SK_LANES == 16 ? 8 : SK_TERMS == 4 ? 6 : 4 };

/* Weights as the tiles read them: per pair of vectors of output channels an sk_pair, then for each kernel row and each
 * SK_TERMS inputs of it two vectors, a lane per channel. */
typedef struct shape {
    int rows, run, steps; /* kernel rows; inputs of one; of these in SK_TERMS */
    size_t block;         /* bytes of a pair of vectors */
} shape;

static shape shape_of(const sk_q_layer *layer) {
    shape s = {layer->kernel, layer->kernel * layer->in_c, 0, 0};
    s.steps = round_up(s.run, SK_TERMS) / SK_TERMS;
    s.block = sizeof(sk_pair) + (size_t)s.rows * (size_t)s.steps * 2 * sizeof(sk_vec);
    return s;
}

static int is_plain(const sk_q_layer *layer) {
    return layer->kernel == 1 && layer->stride == 1;
}

size_t SK_WIDE(gemm_packed)(const sk_q_layer *layer) {
    return shape_of(layer).block * (size_t)(round_up(layer->out_c, SK_PAIR) / SK_PAIR);
}

/* SK_TERMS weights of one channel as one lane. */
static inline int32_t lane_of(const int8_t *w, int count) {
    sk_weight terms[SK_TERMS] = {0};
    int32_t lane;
    for (int i = 0; i < count; i++) {
        terms[i] = w[i];
    }
    memcpy(&lane, terms, sizeof lane);
    return lane;
}

void SK_WIDE(gemm_pack)(const sk_q_layer *layer, void *packed) {
    const shape s = shape_of(layer);
    for (int first = 0; first < layer->out_c; first += SK_PAIR) {
        sk_pair *pair = (sk_pair *)(void *)((char *)packed + s.block * (size_t)(first / SK_PAIR));
        int32_t *lanes = (int32_t *)(void *)(pair + 1), sums[SK_PAIR] = {0};
        memset(lanes, 0, s.block - sizeof *pair);
        for (int i = 0; i < SK_PAIR && first + i < layer->out_c; i++) {
            const int8_t *row = layer->weight + layer->row * (size_t)(first + i);
            int32_t *to = lanes + i;
            for (int y = 0; y < s.rows; y++, row += s.run) {
                int k = 0;
                for (; k + SK_TERMS <= s.run; k += SK_TERMS, to += SK_PAIR) {
                    *to = lane_of(row + k, SK_TERMS);
                }
                if (k < s.run) {
                    *to = lane_of(row + k, s.run - k);
                    to += SK_PAIR;
                }
                for (k = 0; k < s.run; k++) {
                    sums[i] += row[k];
                }
            }
        }
        pair_pack(layer, first, vectors_from(layer, first) == 2 ? in_order : one_vector, sums, first, pair);
    }
}

/* Room for the inputs of a tile or of the kernel's rows; a dot reads up to SK_TERMS - 1 inputs too many. */
static size_t row_inputs(const sk_q_layer *layer) {
    return (size_t)(layer->in_w + 2 * layer->pad) * (size_t)layer->in_c;
}

/* Pixels of a pointwise layer whose inputs are turned at a time: many, so that a tile does not wait for them. */
static int run_of(const sk_q_layer *layer) {
    const int tiles = 8192 / (int)sizeof(sk_input) / (layer->in_c * TILE);
    return TILE * (tiles > 1 ? tiles : 1);
}

size_t SK_WIDE(gemm_scratch)(const sk_q_layer *layer) {
    const size_t inputs = is_plain(layer) ? (size_t)run_of(layer) * (size_t)layer->in_c
                                          : row_inputs(layer) * (size_t)layer->kernel;
    return (inputs + SK_TERMS) * sizeof(sk_input);
}

typedef struct job {
    const sk_q_layer *layer;
    shape s;
    sk_tail tail;
    size_t step; /* inputs from an output pixel to the next */
} job;

/* `pixels` output pixels by `vectors` (1 or 2) vectors of channels. rows: where the first pixel's inputs of each kernel
 * row begin. Inlined with constants, so that the sums stay in registers. */
SK_INLINE void tile(const job *j, const sk_input *const *rows, int pixels, int vectors, const char *packed, int channel,
                    int8_t *out) {
    const sk_pair *pair = (const sk_pair *)(const void *)packed;
    const char *w = packed + sizeof *pair;
    sk_vec sums[TILE][2];
    for (int p = 0; p < pixels; p++) {
        sums[p][0] = vec_load(pair->bias);
        sums[p][1] = vec_load(pair->bias + SK_LANES);
    }
    for (int y = 0; y < j->s.rows; y++) {
        const sk_input *x = rows[y];
        for (int k = 0; k < j->s.steps; k++, x += SK_TERMS, w += 2 * sizeof(sk_vec)) {
            const sk_vec w0 = vec_load(w), w1 = vectors > 1 ? vec_load(w + sizeof(sk_vec)) : w0;
            for (int p = 0; p < pixels; p++) {
                int32_t terms;
                memcpy(&terms, x + j->step * (size_t)p, sizeof terms);
                const sk_vec in = vec_set32(terms);
                sums[p][0] = vec_dot(sums[p][0], in, w0);
                if (vectors > 1) {
                    sums[p][1] = vec_dot(sums[p][1], in, w1);
                }
            }
        }
    }
    const int left = j->layer->out_c - channel;
    const size_t out_c = (size_t)j->layer->out_c;
    const sk_finisher f = finisher_of(&j->tail, pair);
    if (vectors == 2) {
        finish_two(&f, sums, pixels, out, out_c, left);
    } else {
        finish_one(&f, sums, pixels, out, out_c, left);
    }
}

#define TILE_OF(name, pixels)                                                                                          \
    static void name(const job *j, const sk_input *const *rows, int8_t *out) {                                         \
        const char *packed = j->layer->packed;                                                                         \
        for (int c = 0; c < j->layer->out_c; c += SK_PAIR, packed += j->s.block) {                                     \
            if (vectors_from(j->layer, c) == 2) {                                                                      \
                tile(j, rows, pixels, 2, packed, c, out + c);                                                          \
            } else {                                                                                                   \
                tile(j, rows, pixels, 1, packed, c, out + c);                                                          \
            }                                                                                                          \
        }                                                                                                              \
    }
TILE_OF(tile1, 1)
TILE_OF(tile2, 2)
TILE_OF(tile4, 4)
TILE_OF(whole_tile, TILE)

/* All channels of `pixels` output pixels beside each other. */
static void run_pixels(const job *j, const sk_input *const *rows, int pixels, int8_t *out) {
    const sk_input *at[SK_MAX_KERNEL];
    for (int y = 0; y < j->s.rows; y++) {
        at[y] = rows[y];
    }
    while (pixels > 0) {
        const int now = pixels >= TILE ? TILE : pixels >= 4 ? 4 : pixels >= 2 ? 2 : 1;
        (now == TILE ? whole_tile : now == 4 ? tile4 : now == 2 ? tile2 : tile1)(j, at, out);
        for (int y = 0; y < j->s.rows; y++) {
            at[y] += j->step * (size_t)now;
        }
        out += (size_t)now * (size_t)j->layer->out_c;
        pixels -= now;
    }
}

void SK_WIDE(gemm)(const sk_q_layer *layer, const int8_t *in, int8_t *out, void *scratch) {
    const job j = {layer, shape_of(layer), tail_of(layer), (size_t)layer->stride * (size_t)layer->in_c};
    const size_t in_c = (size_t)layer->in_c, out_c = (size_t)layer->out_c;
    sk_input *x = scratch;
    if (is_plain(layer)) {
        const sk_input *const rows[1] = {x};
        const int pixels = layer->out_h * layer->out_w, run = run_of(layer);
        memset(x + (size_t)run * in_c, 0, SK_TERMS * sizeof *x);
        for (int i = 0; i < pixels; i += run) {
            const int now = pixels - i < run ? pixels - i : run;
            inputs_of_codes(in + in_c * (size_t)i, in_c * (size_t)now, x);
            run_pixels(&j, rows, now, out + out_c * (size_t)i);
        }
        return;
    }
    memset(x + row_inputs(layer) * (size_t)layer->kernel, 0, SK_TERMS * sizeof *x);
    sk_rows rows = {0};
    for (int y = 0; y < layer->out_h; y++, out += out_c * (size_t)layer->out_w) {
        const sk_input *at[SK_MAX_KERNEL];
        rows_move(&rows, layer, in, y, x, at);
        run_pixels(&j, at, layer->out_w, out);
    }
}
