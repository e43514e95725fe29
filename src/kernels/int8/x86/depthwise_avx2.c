/* SPDX-License-Identifier: Apache-2.0 */
/* Depthwise layers on AVX2, also with AVX-VNNI, two vectors of channels at a time, down the picture. The rows of the
 * padded picture are interleaved in fixed pairs, the first with the second, the third with the fourth, so that each is
 * interleaved once whatever kernel rows it meets; a lane then sums two rows of the kernel. Where the kernel begins with
 * the second row of a pair, it takes weights that are packed one row lower. */
#include "kernels/int8/x86/finish.h"
#include "kernels/int8/x86/table.h"

enum { TILE = 4, COLUMN = 2 * sizeof(sk_vec) }; /* output pixels; bytes of a column of a pair of rows */

/* Pairs of rows under a kernel, wherever it begins. */
SK_INLINE int pairs_under(int kernel) {
    return kernel / 2 + 1;
}

SK_INLINE size_t weight_bytes(int kernel) {
    return (size_t)(pairs_under(kernel) * kernel) * 2 * sizeof(sk_vec);
}

/* Packed: per SK_PAIR channels an sk_pair, then the weights of a kernel that begins with the first and of one that
 * begins with the second row of a pair: per pair of rows and column of the kernel two vectors. */
static size_t block_bytes(const sk_q_layer *layer) {
    return sizeof(sk_pair) + 2 * weight_bytes(layer->kernel);
}

size_t SK_WIDE(depthwise_packed)(const sk_q_layer *layer) {
    return block_bytes(layer) * (size_t)(round_up(layer->out_c, SK_PAIR) / SK_PAIR);
}

static int16_t *pack_kernel(const sk_q_layer *layer, int first, sk_order order, int lower, int16_t *w) {
    const int kernel = layer->kernel;
    for (int at = 0; at < pairs_under(kernel) * kernel; at++) {
        for (int i = 0; i < 2 * SK_PAIR; i++) {
            const int c = order(first, i / 2 / SK_LANES, i / 2 % SK_LANES);
            const int y = at / kernel * 2 + i % 2 - lower, place = y * kernel + at % kernel;
            const int inside = y >= 0 && y < kernel && c < layer->out_c;
            *w++ = inside ? layer->weight[layer->row * (size_t)place + (size_t)c] : 0;
        }
    }
    return w;
}

void SK_WIDE(depthwise_pack)(const sk_q_layer *layer, void *packed) {
    static const int32_t none[SK_PAIR]; /* inputs carry no offset */
    for (int first = 0; first < layer->out_c; first += SK_PAIR) {
        const sk_order order = vectors_from(layer, first) == 2 ? in_order : one_vector;
        sk_pair *pair = (sk_pair *)(void *)((char *)packed + block_bytes(layer) * (size_t)(first / SK_PAIR));
        pair_pack(layer, first, order, none, first, pair);
        pack_kernel(layer, first, order, 1, pack_kernel(layer, first, order, 0, (int16_t *)(void *)(pair + 1)));
    }
}

/* Scratch: a ring of the pairs of rows under a kernel. */
static size_t pair_of_rows(const sk_q_layer *layer) {
    return (size_t)(layer->in_w + 2 * layer->pad) * COLUMN;
}

size_t SK_WIDE(depthwise_scratch)(const sk_q_layer *layer) {
    return pair_of_rows(layer) * (size_t)pairs_under(layer->kernel);
}

/* What is outside of the picture reads `outside` again and again. */
typedef struct source {
    const int8_t *at;
    size_t step;
} source;

SK_INLINE source row_from(const sk_q_layer *layer, const int8_t *in, int y, const int8_t *outside) {
    const size_t in_c = (size_t)layer->in_c;
    if (y < 0 || y >= layer->in_h) {
        return (source){outside, 0};
    }
    return (source){in + (size_t)y * (size_t)layer->in_w * in_c, in_c};
}

/* Rows 2 index and 2 index + 1 of the padded picture; count: channels. */
SK_INLINE void interleave(const sk_q_layer *layer, const int8_t *in, int index, int vectors, int count, char *to) {
    int8_t outside[SK_PAIR];
    memset(outside, layer->zero_in, sizeof outside);
    source a = row_from(layer, in, 2 * index - layer->pad, outside);
    source b = row_from(layer, in, 2 * index + 1 - layer->pad, outside);
    const sk_vec beside = vec_set16(layer->zero_in);
    const size_t last = pair_of_rows(layer) - COLUMN;
    for (int i = 0; i < layer->pad; i++) {
        for (size_t v = 0; v < COLUMN; v += sizeof(sk_vec)) {
            vec_store(to + (size_t)i * COLUMN + v, beside);
            vec_store(to + last - (size_t)i * COLUMN + v, beside);
        }
    }
    to += (size_t)layer->pad * COLUMN;
    for (int x = 0; x < layer->in_w; x++, a.at += a.step, b.at += b.step, to += COLUMN) {
        const __m128i x0 = half_load_first(a.at, count), x1 = half_load_first(b.at, count);
        vec_store(to, _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(x0, x1)));
        if (vectors > 1) {
            vec_store(to + sizeof(sk_vec), _mm256_cvtepi8_epi16(_mm_unpackhi_epi8(x0, x1)));
        }
    }
}

/* SK_PAIR channels, or SK_LANES, of one output row. */
typedef struct job {
    const sk_q_layer *layer;
    sk_finisher finisher;
    const sk_pair *pair;
    const char *weights;
    const char *rows[SK_MAX_KERNEL / 2 + 1]; /* pairs of them */
    int count;                               /* channels */
} job;

/* Inlined with constants, so that the sums stay in registers. */
SK_INLINE void tile(const job *j, int kernel, int vectors, int pixels, int x, int8_t *out) {
    const size_t step = (size_t)j->layer->stride * COLUMN, out_c = (size_t)j->layer->out_c;
    const char *w = j->weights;
    sk_vec sums[TILE][2];
    for (int p = 0; p < pixels; p++) {
        sums[p][0] = vec_load(j->pair->bias);
        sums[p][1] = vec_load(j->pair->bias + SK_LANES);
    }
#pragma GCC unroll 4
    for (int y = 0; y < pairs_under(kernel); y++) {
        const char *from = j->rows[y] + step * (size_t)x;
#pragma GCC unroll 7
        for (int column = 0; column < kernel; column++, from += COLUMN, w += 2 * sizeof(sk_vec)) {
            const sk_vec w0 = vec_load(w), w1 = vectors > 1 ? vec_load(w + sizeof(sk_vec)) : w0;
            for (int p = 0; p < pixels; p++) {
                const char *in = from + step * (size_t)p;
                sums[p][0] = vec_dot16(sums[p][0], vec_load(in), w0);
                if (vectors > 1) {
                    sums[p][1] = vec_dot16(sums[p][1], vec_load(in + sizeof(sk_vec)), w1);
                }
            }
        }
    }
    if (vectors > 1) {
        finish_two(&j->finisher, sums, pixels, out + out_c * (size_t)x, out_c, j->count);
    } else {
        finish_one(&j->finisher, sums, pixels, out + out_c * (size_t)x, out_c, j->count);
    }
}

/* The last tile may begin before the one in front of it ends: the same codes are written twice. */
SK_INLINE void run_row(const job *j, int kernel, int vectors, int8_t *out) {
    const int width = j->layer->out_w;
    int x = 0;
    for (; x + TILE <= width; x += TILE) {
        tile(j, kernel, vectors, TILE, x, out);
    }
    if (x < width && width > TILE) {
        tile(j, kernel, vectors, TILE, width - TILE, out);
        return;
    }
    for (; x < width; x++) {
        tile(j, kernel, vectors, 1, x, out);
    }
}

SK_INLINE void run_block(job *j, int kernel, int vectors, const int8_t *in, int8_t *out, char *ring) {
    const sk_q_layer *layer = j->layer;
    const int pairs = pairs_under(kernel);
    const char *weights = j->weights;
    const size_t bytes = pair_of_rows(layer);
    int done = 0;
    for (int y = 0; y < layer->out_h; y++, out += (size_t)layer->out_w * (size_t)layer->out_c) {
        const int first = y * layer->stride / 2;
        for (done = done > first ? done : first; done < first + pairs; done++) {
            interleave(layer, in, done, vectors, j->count, ring + bytes * (size_t)(done % pairs));
        }
        for (int i = 0; i < pairs; i++) {
            j->rows[i] = ring + bytes * (size_t)((first + i) % pairs);
        }
        j->weights = weights + weight_bytes(kernel) * (size_t)(y * layer->stride % 2);
        run_row(j, kernel, vectors, out);
    }
}

#define BLOCK_OF(name, kernel)                                                                                         \
    static void name(job *j, const int8_t *in, int8_t *out, char *ring) {                                              \
        if (j->count > SK_LANES) {                                                                                     \
            run_block(j, kernel, 2, in, out, ring);                                                                    \
        } else {                                                                                                       \
            run_block(j, kernel, 1, in, out, ring);                                                                    \
        }                                                                                                              \
    }
BLOCK_OF(block3, 3)
BLOCK_OF(block5, 5)
BLOCK_OF(block_of_any, j->layer->kernel)

void SK_WIDE(depthwise)(const sk_q_layer *layer, const int8_t *in, int8_t *out, void *scratch) {
    const sk_tail tail = tail_of(layer);
    const char *packed = layer->packed;
    for (int first = 0; first < layer->out_c; first += SK_PAIR, packed += block_bytes(layer)) {
        const sk_pair *pair = (const sk_pair *)(const void *)packed;
        const int left = layer->out_c - first;
        job j = {.layer = layer,
                 .finisher = finisher_of(&tail, pair),
                 .pair = pair,
                 .weights = (const char *)(pair + 1),
                 .count = left < SK_PAIR ? left : SK_PAIR};
        void (*const run)(job *, const int8_t *, int8_t *, char *) =
            layer->kernel == 3 ? block3 : layer->kernel == 5 ? block5 : block_of_any;
        run(&j, in + first, out + first, scratch);
    }
}
