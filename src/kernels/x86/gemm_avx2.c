/* SPDX-License-Identifier: Apache-2.0 */
/* Matrix products in AVX2 and FMA. One register tile serves all three products of a linear layer: it reads A through
 * two strides, so that rows (forward, backward data) and columns (backward weights) are the same code. Panels of 24,
 * 16 or 8 columns fit the channel counts of MobileNetV3, which are multiples of 8; a mask serves the rest. */
#include <immintrin.h>
#include <stddef.h>

#include "kernels/x86/act_avx2.h"
#include "kernels/x86/x86.h"

enum { SK_PANEL = 24, SK_BLOCK_K = 320, SK_BLOCK_BYTES = 256 * 1024, SK_CHUNK_ROWS = 128 };

/* What a tile reads: element (r, k) of A at a[r*a_row + k*a_col], row k of B at b + k*b_row. */
typedef struct sk_operands {
    const float *a;
    ptrdiff_t a_row, a_col;
    const float *b;
    ptrdiff_t b_row;
    int depth;
} sk_operands;

typedef struct sk_target {
    float *c;
    ptrdiff_t c_row;
    const float *bias; /* NULL: start at zero */
    int resume;        /* start at what C holds too, e.g. a sum over the earlier part of k */
    const float *add;  /* NULL, or added at the end; row stride c_row */
    sk_act act;
    __m256i mask; /* of the last vector, when masked */
} sk_target;

SK_INLINE __m256 load_last(const float *from, int last, int masked, __m256i mask) {
    return last && masked ? _mm256_maskload_ps(from, mask) : _mm256_loadu_ps(from);
}

/* C[rows][8*vectors] (+)= A[rows][depth] * B[depth][8*vectors]; all counts are constants after inlining. */
SK_INLINE void tile(const int rows, const int vectors, const int masked, const sk_operands *in, const sk_target *to) {
    __m256 sum[12][3];
    const float *a = in->a, *b = in->b;

#pragma GCC unroll 12
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++) {
            const int last = v == vectors - 1;
            sum[r][v] = to->bias ? load_last(to->bias + 8 * v, last, masked, to->mask) : _mm256_setzero_ps();
            if (to->resume)
                sum[r][v] = _mm256_add_ps(sum[r][v], load_last(to->c + r * to->c_row + 8 * v, last, masked, to->mask));
        }
    for (int k = 0; k < in->depth; k++, a += in->a_col, b += in->b_row) {
        __m256 row[3];
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++) row[v] = load_last(b + 8 * v, v == vectors - 1, masked, to->mask);
#pragma GCC unroll 12
        for (int r = 0; r < rows; r++) {
            const __m256 value = _mm256_broadcast_ss(a + r * in->a_row);
#pragma GCC unroll 3
            for (int v = 0; v < vectors; v++) sum[r][v] = _mm256_fmadd_ps(value, row[v], sum[r][v]);
        }
    }
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++) {
            float *c = to->c + r * to->c_row + 8 * v;
            if (to->add)
                sum[r][v] = _mm256_add_ps(
                    sum[r][v], load_last(to->add + r * to->c_row + 8 * v, v == vectors - 1, masked, to->mask));
            if (to->act) sum[r][v] = sk_avx2_act(sum[r][v], to->act);
            if (masked && v == vectors - 1) _mm256_maskstore_ps(c, to->mask, sum[r][v]);
            else _mm256_storeu_ps(c, sum[r][v]);
        }
}

/* All rows of one panel: full tiles, then the rest row by row groups. */
#define SK_DEFINE_PANEL(name, vectors, tall, masked)                                                                   \
    static void name(int rows, sk_operands in, sk_target to) {                                                         \
        for (; rows >= (tall); rows -= (tall)) {                                                                       \
            tile((tall), (vectors), (masked), &in, &to);                                                               \
            in.a += (tall)*in.a_row;                                                                                   \
            to.c += (tall)*to.c_row;                                                                                   \
            if (to.add) to.add += (tall)*to.c_row;                                                                     \
        }                                                                                                              \
        for (; rows >= 2; rows -= 2) {                                                                                 \
            tile(2, (vectors), (masked), &in, &to);                                                                    \
            in.a += 2 * in.a_row;                                                                                      \
            to.c += 2 * to.c_row;                                                                                      \
            if (to.add) to.add += 2 * to.c_row;                                                                        \
        }                                                                                                              \
        if (rows) tile(1, (vectors), (masked), &in, &to);                                                              \
    }
SK_DEFINE_PANEL(panel_24, 3, 4, 0)
SK_DEFINE_PANEL(panel_24m, 3, 4, 1)
SK_DEFINE_PANEL(panel_16, 2, 6, 0)
SK_DEFINE_PANEL(panel_16m, 2, 6, 1)
SK_DEFINE_PANEL(panel_8, 1, 8, 0)
SK_DEFINE_PANEL(panel_8m, 1, 8, 1)

static void run_panel(int columns, int rows, const sk_operands *in, sk_target *to) {
    static void (*const panels[3][2])(int, sk_operands,
                                      sk_target) = {{panel_8, panel_8m}, {panel_16, panel_16m}, {panel_24, panel_24m}};
    const int vectors = (columns + 7) / 8, rest = columns - 8 * (vectors - 1);
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);

    to->mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(rest), lane);
    panels[vectors - 1][rest < 8](rows, *in, *to);
}

size_t sk_avx2_gemm_pack_size(int n, int k) { return (size_t)((n + SK_PANEL - 1) / SK_PANEL) * SK_PANEL * (size_t)k; }

/* Panels of SK_PANEL columns one after the other, each [k][SK_PANEL], the last filled up with zeros. */
void sk_avx2_gemm_pack(float *dst, int n, int k, const float *src, ptrdiff_t stride_n, ptrdiff_t stride_k) {
    for (int n0 = 0; n0 < n; n0 += SK_PANEL, dst += (size_t)k * SK_PANEL)
        for (int j = 0; j < SK_PANEL; j++)
            for (int p = 0; p < k; p++)
                dst[p * SK_PANEL + j] = n0 + j < n ? src[(n0 + j) * stride_n + p * stride_k] : 0.0f;
}

/* Rows are taken in blocks that stay in the second-level cache with a panel in the first; a long k is cut, and the
 * partial sums wait in C. */
void sk_avx2_gemm(const sk_gemm *g) {
    int block = SK_BLOCK_BYTES / (int)sizeof(float) / (g->k < SK_BLOCK_K ? g->k : SK_BLOCK_K);

    block = block < 96 ? 96 : block - block % 12;
    for (int m0 = 0; m0 < g->m; m0 += block) {
        const int rows = g->m - m0 < block ? g->m - m0 : block;
        for (int k0 = 0; k0 < g->k; k0 += SK_BLOCK_K) {
            const int depth = g->k - k0 < SK_BLOCK_K ? g->k - k0 : SK_BLOCK_K, ends = k0 + depth == g->k;
            for (int n0 = 0; n0 < g->n; n0 += SK_PANEL) {
                const int columns = g->n - n0 < SK_PANEL ? g->n - n0 : SK_PANEL;
                const ptrdiff_t at = (ptrdiff_t)m0 * g->ldc + n0;
                const float *panel = g->packed + (ptrdiff_t)n0 * g->k + (ptrdiff_t)k0 * SK_PANEL;
                const sk_operands in = {g->a + (ptrdiff_t)m0 * g->lda + k0, g->lda, 1, panel, SK_PANEL, depth};
                sk_target to = {g->c + at,
                                g->ldc,
                                g->bias && !k0 ? g->bias + n0 : NULL,
                                k0 || g->add == g->c,
                                ends && g->add && g->add != g->c ? g->add + at : NULL,
                                ends ? g->act : SK_ACT_NONE,
                                _mm256_setzero_si256()};
                run_panel(columns, rows, &in, &to);
            }
        }
    }
}

/* Chunks of rows that stay in the second-level cache, a panel of X in the first; each chunk is summed in registers
 * before it is added, so that the error does not grow with m. */
void sk_avx2_gemm_tn(int m, int n, int k, const float *dy, int ldy, const float *x, int ldx, float *dw) {
    for (int m0 = 0; m0 < m; m0 += SK_CHUNK_ROWS) {
        const int depth = m - m0 < SK_CHUNK_ROWS ? m - m0 : SK_CHUNK_ROWS;
        for (int k0 = 0; k0 < k; k0 += SK_PANEL) {
            const int columns = k - k0 < SK_PANEL ? k - k0 : SK_PANEL;
            const sk_operands in = {dy + (ptrdiff_t)m0 * ldy, 1, ldy, x + (ptrdiff_t)m0 * ldx + k0, ldx, depth};
            sk_target to = {dw + k0, k, NULL, 0, dw + k0, SK_ACT_NONE, _mm256_setzero_si256()};
            run_panel(columns, n, &in, &to);
        }
    }
}
