/* SPDX-License-Identifier: Apache-2.0 */
/* Reference matrix products. The right-hand side is packed in panels of 16 columns (zero-filled), which lets a compiler
 * keep a 4 x 16 tile of sums in registers on any machine. */
#include "kernels/c/reference.h"

enum { PANEL = 16, TILE = 4, DEPTH = 512 };

size_t sk_c_gemm_pack_size(int n, int k) { return (size_t)((n + PANEL - 1) / PANEL) * PANEL * (size_t)k; }

void sk_c_gemm_pack(sk_real *dst, int n, int k, const sk_real *src, ptrdiff_t stride_n, ptrdiff_t stride_k) {
    for (int j0 = 0; j0 < n; j0 += PANEL)
        for (int p = 0; p < k; p++)
            for (int j = j0; j < j0 + PANEL; j++) *dst++ = j < n ? src[j * stride_n + p * stride_k] : 0;
}

static void store_row(const sk_gemm *g, const sk_real *sums, int i, int j0, int width) {
    const size_t at = (size_t)i * (size_t)g->ldc + (size_t)j0;

    for (int j = 0; j < width; j++) {
        sk_real value = sums[j];

        if (g->bias) value += g->bias[j0 + j];
        if (g->add) value += g->add[at + (size_t)j];
        g->c[at + (size_t)j] = sk_c_act1(value, g->act);
    }
}

static void tile(const sk_gemm *g, const sk_real *panel, int i0, int rows, int j0) {
    sk_real sums[TILE][PANEL] = {{0}};
    const sk_real *a[TILE];

    for (int i = 0; i < TILE; i++) /* rows past the end repeat the last one and are not stored */
        a[i] = g->a + (size_t)(i0 + (i < rows ? i : rows - 1)) * (size_t)g->lda;
    for (int p = 0; p < g->k; p++, panel += PANEL)
        for (int i = 0; i < TILE; i++)
            for (int j = 0; j < PANEL; j++) sums[i][j] += a[i][p] * panel[j];
    for (int i = 0; i < rows; i++) store_row(g, sums[i], i0 + i, j0, g->n - j0 < PANEL ? g->n - j0 : PANEL);
}

void sk_c_gemm(const sk_gemm *g) {
    for (int i = 0; i < g->m; i += TILE) {
        const sk_real *panel = g->packed;

        for (int j = 0; j < g->n; j += PANEL, panel += (size_t)PANEL * (size_t)g->k)
            tile(g, panel, i, g->m - i < TILE ? g->m - i : TILE, j);
    }
}

/* Sums of up to DEPTH rows are kept apart from dw, so that the error does not grow with m. */
static void tn_tile(int m, int rows, int width, const sk_real *dy, int ldy, const sk_real *x, int ldx, sk_real *dw,
                    int k) {
    sk_real sums[TILE][PANEL] = {{0}};

    for (int i = 0; i < m; i++, dy += ldy, x += ldx)
        for (int j = 0; j < rows; j++)
            for (int p = 0; p < width; p++) sums[j][p] += dy[j] * x[p];
    for (int j = 0; j < rows; j++)
        for (int p = 0; p < width; p++) dw[(size_t)j * (size_t)k + (size_t)p] += sums[j][p];
}

static void tn_full_tile(int m, const sk_real *dy, int ldy, const sk_real *x, int ldx, sk_real *dw, int k) {
    sk_real sums[TILE][PANEL] = {{0}};

    for (int i = 0; i < m; i++, dy += ldy, x += ldx)
        for (int j = 0; j < TILE; j++)
            for (int p = 0; p < PANEL; p++) sums[j][p] += dy[j] * x[p];
    for (int j = 0; j < TILE; j++)
        for (int p = 0; p < PANEL; p++) dw[(size_t)j * (size_t)k + (size_t)p] += sums[j][p];
}

void sk_c_gram(int m, int n, const sk_real *x, int ldx, sk_real *out) { sk_c_gemm_tn(m, n, n, x, ldx, x, ldx, out); }

void sk_c_gemm_tn(int m, int n, int k, const sk_real *dy, int ldy, const sk_real *x, int ldx, sk_real *dw) {
    for (int i = 0; i < m; i += DEPTH) {
        const int depth = m - i < DEPTH ? m - i : DEPTH;

        for (int j = 0; j < n; j += TILE)
            for (int p = 0; p < k; p += PANEL) {
                const int rows = n - j < TILE ? n - j : TILE, width = k - p < PANEL ? k - p : PANEL;
                const sk_real *from_dy = dy + (size_t)i * (size_t)ldy + (size_t)j;
                const sk_real *from_x = x + (size_t)i * (size_t)ldx + (size_t)p;
                sk_real *to = dw + (size_t)j * (size_t)k + (size_t)p;

                if (rows == TILE && width == PANEL) tn_full_tile(depth, from_dy, ldy, from_x, ldx, to, k);
                else tn_tile(depth, rows, width, from_dy, ldy, from_x, ldx, to, k);
            }
    }
}
