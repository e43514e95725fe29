/* SPDX-License-Identifier: Apache-2.0 */
/* The loops of t-SNE for one width of vectors; tsne_loops.c includes this once per instruction set, with LANES (4, 8 or
 * 16 floats), TALL (rows of a tile that fit the registers), WIDE (vectors of targets that do), NAME(x) and TARGET. Sums
 * run per point or in a fixed number of parts, and nothing is fused, so the width does not show in the result. */
typedef float NAME(vector) __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

TARGET static void NAME(distances)(const float *const points[SK_TSNE_ROWS], const float *panel, size_t dims,
                                   float *out) {
    for (int row = 0; row < SK_TSNE_ROWS; row += TALL)
        for (int column = 0; column < SK_TSNE_COLUMNS; column += 2 * LANES) {
            NAME(vector) sum[TALL][2] = {0};
            const float *at = panel + column;
            for (size_t d = 0; d < dims; d++, at += SK_TSNE_COLUMNS) {
                const NAME(vector) left = *(const NAME(vector) *)at, right = *(const NAME(vector) *)(at + LANES);
#pragma GCC unroll 8
                for (int r = 0; r < TALL; r++) {
                    const NAME(vector) a = left - points[row + r][d], b = right - points[row + r][d];
                    sum[r][0] += a * a;
                    sum[r][1] += b * b;
                }
            }
#pragma GCC unroll 8
            for (int r = 0; r < TALL; r++) {
                *(NAME(vector) *)(out + (row + r) * SK_TSNE_COLUMNS + column) = sum[r][0];
                *(NAME(vector) *)(out + (row + r) * SK_TSNE_COLUMNS + column + LANES) = sum[r][1];
            }
        }
}

TARGET static void NAME(repel)(const sk_tsne_sources *from, sk_tsne_targets *to) {
    for (int first = 0; first < SK_TSNE_GROUP; first += WIDE * LANES) {
        NAME(vector) x[WIDE], y[WIDE], fx[WIDE] = {0}, fy[WIDE] = {0}, sum[WIDE] = {0};
#pragma GCC unroll 4
        for (int v = 0; v < WIDE; v++) {
            const int at = first + v * LANES;
            x[v] = *(NAME(vector) *)(to->x + at);
            y[v] = *(NAME(vector) *)(to->y + at);
        }
        for (size_t s = 0; s < from->count; s++) {
            const float sx = from->x[s], sy = from->y[s], mass = from->mass[s];
#pragma GCC unroll 4
            for (int v = 0; v < WIDE; v++) {
                const NAME(vector) dx = x[v] - sx, dy = y[v] - sy, q = 1 / (1 + (dx * dx + dy * dy)), m = mass * q,
                                   push = m * q;
                sum[v] += m;
                fx[v] += push * dx;
                fy[v] += push * dy;
            }
        }
#pragma GCC unroll 4
        for (int v = 0; v < WIDE; v++) {
            const int at = first + v * LANES;
            *(NAME(vector) *)(to->fx + at) += fx[v];
            *(NAME(vector) *)(to->fy + at) += fy[v];
            *(NAME(vector) *)(to->q + at) += sum[v];
        }
    }
}

TARGET static void NAME(attract)(const float *y, size_t i, const float *p, const uint32_t *j, size_t count,
                                 float out[2]) {
    enum { PARTS = SK_TSNE_EDGES / LANES };
    NAME(vector) fx[PARTS] = {0}, fy[PARTS] = {0};
    const float x0 = y[2 * i], y0 = y[2 * i + 1];
    for (size_t at = 0; at < count; at += SK_TSNE_EDGES)
#pragma GCC unroll 4
        for (int part = 0; part < PARTS; part++) {
            const uint32_t *to = j + at + part * LANES;
            NAME(vector) dx, dy;
#pragma GCC unroll 16
            for (int l = 0; l < LANES; l++) {
                dx[l] = y[2 * (size_t)to[l]];
                dy[l] = y[2 * (size_t)to[l] + 1];
            }
            dx = x0 - dx;
            dy = y0 - dy;
            const NAME(vector) weight = *(const NAME(vector) *)(p + at + part * LANES) / (1 + (dx * dx + dy * dy));
            fx[part] += weight * dx;
            fy[part] += weight * dy;
        }
    float sums[2][SK_TSNE_EDGES];
    for (int l = 0; l < SK_TSNE_EDGES; l++) {
        sums[0][l] = fx[l / LANES][l % LANES];
        sums[1][l] = fy[l / LANES][l % LANES];
    }
    for (int half = SK_TSNE_EDGES / 2; half > 0; half /= 2)
        for (int l = 0; l < half; l++) {
            sums[0][l] += sums[0][l + half];
            sums[1][l] += sums[1][l + half];
        }
    out[0] = sums[0][0];
    out[1] = sums[1][0];
}

static const sk_tsne_loops NAME(loops) = {LOOPS_NAME, NAME(distances), NAME(repel), NAME(attract)};
