/* SPDX-License-Identifier: Apache-2.0 */
/* Matrix products. One register tile serves all three products of a linear layer: forward and backward data read rows
 * of A, backward weights reads columns. Panels are three vectors wide: 24 columns in AVX2, 48 in AVX-512, both divisors
 * of most channel counts of MobileNetV3. A value is one chain of multiply-adds in the order of k from its start, so it
 * does not depend on the tile that made it nor on how the rows are cut. */
#include "kernels/x86/vector.h"
#include "kernels/x86/x86.h"

#ifdef __AVX512F__
enum { TALL_3 = 9, TALL_2 = 14, TALL_1 = 14, BLOCK_K = 288 };
#define SK_EACH_ROWS(make, ...)                                                                                        \
    make(1, __VA_ARGS__) make(2, __VA_ARGS__) make(3, __VA_ARGS__) make(4, __VA_ARGS__) make(5, __VA_ARGS__)           \
        make(6, __VA_ARGS__) make(7, __VA_ARGS__) make(8, __VA_ARGS__) make(9, __VA_ARGS__) make(10, __VA_ARGS__)      \
            make(11, __VA_ARGS__) make(12, __VA_ARGS__) make(13, __VA_ARGS__) make(14, __VA_ARGS__)
#else
enum { TALL_3 = 4, TALL_2 = 6, TALL_1 = 8, BLOCK_K = 320 };
#define SK_EACH_ROWS(make, ...)                                                                                        \
    make(1, __VA_ARGS__) make(2, __VA_ARGS__) make(3, __VA_ARGS__) make(4, __VA_ARGS__) make(5, __VA_ARGS__)           \
        make(6, __VA_ARGS__) make(7, __VA_ARGS__) make(8, __VA_ARGS__)
#endif
enum { VECTORS = 3, PANEL = VECTORS * SK_LANES, MAX_TALL = TALL_1 };
enum { BLOCK_BYTES = 256 * 1024, CHUNK_ROWS = 128, PACK_ROWS = 16 };

/* What a tile reads: row r of A at a + r*a_step and its values next to each other, or turned: value k of all rows at
 * a + k*a_step, next to each other. Row k of B at b + k*b_step. */
typedef struct sk_operands {
    const float *a;
    ptrdiff_t a_step;
    const float *b;
    ptrdiff_t b_step;
    int depth;
} sk_operands;

typedef struct sk_target {
    float *c;
    ptrdiff_t c_step;
    const float *bias;  /* NULL, or where each row starts */
    const float *start; /* NULL, or rows of c_step to start at too; turned tiles add to C at the end instead */
    sk_mask mask;       /* of the last vector */
} sk_target;

/* C[rows][vectors] (+)= A[rows][depth] B[depth][vectors]; rows, vectors, masked and turned are constants after
 * inlining. The rows of an A that is not turned go by three from one pointer, which fits the addressing of the CPU. */
SK_INLINE void tile(const int rows, const int vectors, const int masked, const int turned, const sk_operands *in,
                    const sk_target *to) {
    sk_vec sum[MAX_TALL][VECTORS];
    const float *b = in->b, *a[(MAX_TALL + 2) / 3];
    const ptrdiff_t a_step = in->a_step, b_step = turned ? in->b_step : PANEL;
    const int last = vectors - 1;

#pragma GCC unroll 5
    for (int g = 0; g < (rows + 2) / 3; g++) a[g] = in->a + (turned ? 0 : 3 * g * a_step);
#pragma GCC unroll 14
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++) {
            sum[r][v] = to->bias ? vec_load_part(to->bias + v * SK_LANES, masked && v == last, to->mask) : vec_zero();
            if (!turned && to->start)
                sum[r][v] = vec_add(
                    sum[r][v], vec_load_part(to->start + r * to->c_step + v * SK_LANES, masked && v == last, to->mask));
        }
    for (int k = 0; k < in->depth; k++, b += b_step) {
        sk_vec row[VECTORS];
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++)
            row[v] = vec_load_part(b + v * SK_LANES, turned && masked && v == last, to->mask);
#pragma GCC unroll 14
        for (int r = 0; r < rows; r++) {
            const sk_vec value = vec_set(turned ? a[0][r] : a[r / 3][r % 3 * a_step]);
#pragma GCC unroll 3
            for (int v = 0; v < vectors; v++) sum[r][v] = vec_fma(value, row[v], sum[r][v]);
        }
        if (turned) a[0] += a_step;
        else
#pragma GCC unroll 5
            for (int g = 0; g < (rows + 2) / 3; g++) a[g]++;
    }
#pragma GCC unroll 14
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++) {
            float *c = to->c + r * to->c_step + v * SK_LANES;
            if (turned) sum[r][v] = vec_add(sum[r][v], vec_load_part(c, masked && v == last, to->mask));
            vec_store_part(c, masked && v == last, to->mask, sum[r][v]);
        }
}

/* One function for each shape of tile. */
typedef void (*sk_tile)(const sk_operands *in, const sk_target *to);
#define SK_TILE_NAME(rows, vectors, masked, turned) tile_##rows##_##vectors##_##masked##_##turned
#define SK_DEFINE_TILE(rows, vectors, masked, turned)                                                                  \
    static void SK_TILE_NAME(rows, vectors, masked, turned)(const sk_operands *in, const sk_target *to) {              \
        if ((rows) <= TALL_##vectors) tile((rows), (vectors), (masked), (turned), in, to);                             \
    }
#define SK_TILE_ENTRY(rows, vectors, masked, turned) SK_TILE_NAME(rows, vectors, masked, turned),
#define SK_DEFINE_TILES(vectors, masked, turned) SK_EACH_ROWS(SK_DEFINE_TILE, vectors, masked, turned)
#define SK_TILE_ENTRIES(vectors, masked, turned)                                                                       \
    { SK_EACH_ROWS(SK_TILE_ENTRY, vectors, masked, turned) }
#define SK_EACH_SHAPE(make, join)                                                                                      \
    make(1, 0, 0) join make(1, 0, 1) join make(1, 1, 0) join make(1, 1, 1) join make(2, 0, 0) join make(2, 0, 1)       \
        join make(2, 1, 0) join make(2, 1, 1) join make(3, 0, 0) join make(3, 0, 1) join make(3, 1, 0)                 \
            join make(3, 1, 1)
SK_EACH_SHAPE(SK_DEFINE_TILES, )
#define SK_COMMA ,
static const sk_tile tiles[4 * VECTORS][MAX_TALL] = {SK_EACH_SHAPE(SK_TILE_ENTRIES, SK_COMMA)};

/* All rows of one panel in tiles of nearly equal height, activated while they are in the first-level cache. */
static void run_panel(const int turned, int columns, int rows, sk_operands in, sk_target to, sk_act act) {
    static const int tall[VECTORS] = {TALL_1, TALL_2, TALL_3};
    const int vectors = (columns + SK_LANES - 1) / SK_LANES, rest = columns - SK_LANES * (vectors - 1);
    const sk_tile *shapes = tiles[4 * (vectors - 1) + 2 * (rest < SK_LANES) + turned];

    to.mask = vec_first(rest);
    for (int left = (rows + tall[vectors - 1] - 1) / tall[vectors - 1]; left > 0; left--) {
        const int height = rows / left;
        shapes[height - 1](&in, &to);
        if (act != SK_ACT_NONE)
            for (int r = 0; r < height; r++)
                SK_WIDE(act)((size_t)columns, to.c + r * to.c_step, act, to.c + r * to.c_step);
        rows -= height;
        in.a += height * (turned ? 1 : in.a_step);
        to.c += height * to.c_step;
        if (to.start) to.start += height * to.c_step;
    }
}

static size_t gemm_pack_size(int n, int k) { return (size_t)((n + PANEL - 1) / PANEL) * PANEL * (size_t)k; }

/* Panels one after the other, each [k][PANEL], the last filled up with zeros. A few rows at a time, since what is
 * written lies across what is read: both then stay in the first-level cache. */
static void gemm_pack(float *dst, int n, int k, const float *src, ptrdiff_t stride_n, ptrdiff_t stride_k) {
    for (int n0 = 0; n0 < n; n0 += PANEL, src += PANEL * stride_n)
        for (int k0 = 0; k0 < k; k0 += PACK_ROWS) {
            const int depth = k - k0 < PACK_ROWS ? k - k0 : PACK_ROWS, columns = n - n0 < PANEL ? n - n0 : PANEL;
            const float *from = src + k0 * stride_k;
            for (int j = 0; j < columns; j++)
                for (int p = 0; p < depth; p++) dst[p * PANEL + j] = from[j * stride_n + p * stride_k];
            for (int p = 0; p < depth; p++, dst += PANEL)
                for (int j = columns; j < PANEL; j++) dst[j] = 0;
        }
}

/* Rows are taken in blocks that stay in the second-level cache with a panel in the first; a long k is cut, and the
 * partial sums wait in C. */
static void gemm(const sk_gemm *g) {
    int block = BLOCK_BYTES / (int)sizeof(float) / (g->k < BLOCK_K ? g->k : BLOCK_K);

    block = block < 126 ? 126 : block - block % 126;
    for (int m0 = 0; m0 < g->m; m0 += block) {
        const int rows = g->m - m0 < block ? g->m - m0 : block;
        for (int k0 = 0; k0 < g->k; k0 += BLOCK_K) {
            const int depth = g->k - k0 < BLOCK_K ? g->k - k0 : BLOCK_K, ends = k0 + depth == g->k;
            for (int n0 = 0; n0 < g->n; n0 += PANEL) {
                const int columns = g->n - n0 < PANEL ? g->n - n0 : PANEL;
                const ptrdiff_t at = (ptrdiff_t)m0 * g->ldc + n0;
                const float *panel = g->packed + (ptrdiff_t)n0 * g->k + (ptrdiff_t)k0 * PANEL;
                const float *start = k0 ? g->c : g->add;
                const sk_operands in = {g->a + (ptrdiff_t)m0 * g->lda + k0, g->lda, panel, PANEL, depth};
                const sk_target to = {.c = g->c + at,
                                      .c_step = g->ldc,
                                      .bias = g->bias && !k0 ? g->bias + n0 : NULL,
                                      .start = start ? start + at : NULL};
                run_panel(0, columns, rows, in, to, ends ? g->act : SK_ACT_NONE);
            }
        }
    }
}

/* Chunks of rows that stay in the second-level cache, a panel of X in the first; each chunk is summed in registers
 * before it is added, so that the error does not grow with m. */
static void gemm_tn(int m, int n, int k, const float *dy, int ldy, const float *x, int ldx, float *dw) {
    for (int m0 = 0; m0 < m; m0 += CHUNK_ROWS) {
        const int depth = m - m0 < CHUNK_ROWS ? m - m0 : CHUNK_ROWS;
        for (int k0 = 0; k0 < k; k0 += PANEL) {
            const sk_operands in = {dy + (ptrdiff_t)m0 * ldy, ldy, x + (ptrdiff_t)m0 * ldx + k0, ldx, depth};
            const sk_target to = {.c = dw + k0, .c_step = k};
            run_panel(1, k - k0 < PANEL ? k - k0 : PANEL, n, in, to, SK_ACT_NONE);
        }
    }
}

/* The rows of a vector of columns meet only what is on the diagonal and to its right. */
static void gram(int m, int n, const float *x, int ldx, float *out) {
    for (int m0 = 0; m0 < m; m0 += CHUNK_ROWS, x += CHUNK_ROWS * (ptrdiff_t)ldx) {
        const int depth = m - m0 < CHUNK_ROWS ? m - m0 : CHUNK_ROWS;
        for (int j0 = 0; j0 < n; j0 += SK_LANES) {
            const int rows = n - j0 < SK_LANES ? n - j0 : SK_LANES;
            for (int k0 = j0; k0 < n; k0 += PANEL) {
                const sk_operands in = {x + j0, ldx, x + k0, ldx, depth};
                const sk_target to = {.c = out + (ptrdiff_t)j0 * n + k0, .c_step = n};
                run_panel(1, n - k0 < PANEL ? n - k0 : PANEL, rows, in, to, SK_ACT_NONE);
            }
        }
    }
}

void SK_WIDE(gemm_entries)(sk_kernels *table) {
    table->gemm_pack_size = gemm_pack_size;
    table->gemm_pack = gemm_pack;
    table->gemm = gemm;
    table->gemm_tn = gemm_tn;
    table->gram = gram;
}
