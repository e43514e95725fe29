/* SPDX-License-Identifier: Apache-2.0 */
/* Similarities of t-SNE: the exact nearest neighbours from tiles of squared distances, the width of each point's
 * Gaussian from the perplexity, and the joint probabilities as sparse rows. */
#include "eval/tsne.h"

#include <math.h>
#include <omp.h>
#include <string.h>

#include "base/base.h"

enum { CHUNK = 128 }; /* rows of points that share a transposed panel: they stay in the second cache */

typedef struct neighbour {
    float value; /* squared distance, then conditional probability */
    uint32_t index;
} neighbour;

/* ---- nearest neighbours ------------------------------------------------------------------------------------------ */

static int nearer(const neighbour *a, const neighbour *b) {
    return a->value < b->value || (!(a->value > b->value) && a->index < b->index);
}

/* Keeps the k nearest in a heap whose root is the farthest. */
static void heap_down(neighbour *heap, size_t n, size_t at) {
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= n) return;
        if (child + 1 < n && nearer(&heap[child], &heap[child + 1])) child++;
        if (!nearer(&heap[at], &heap[child])) return;
        const neighbour kept = heap[at];
        heap[at] = heap[child];
        heap[child] = kept;
        at = child;
    }
}

static void offer(neighbour *heap, size_t k, size_t *used, neighbour found) {
    if (*used < k) {
        heap[(*used)++] = found;
        if (*used == k)
            for (size_t at = k / 2 + 1; at-- > 0;) heap_down(heap, k, at);
    } else if (nearer(&found, &heap[0])) {
        heap[0] = found;
        heap_down(heap, k, 0);
    }
}

/* Columns of the panel are points from `first`; beyond the last point they repeat it. */
static void fill_panel(const float *data, size_t n, size_t dims, size_t first, float *panel) {
    for (size_t c = 0; c < SK_TSNE_COLUMNS; c++) {
        const float *point = data + (first + c < n ? first + c : n - 1) * dims;
        for (size_t d = 0; d < dims; d++) panel[d * SK_TSNE_COLUMNS + c] = point[d];
    }
}

/* The k nearest of points begin to end, k each, unordered. */
static void find_neighbours(const float *data, size_t n, size_t dims, size_t begin, size_t end, size_t k,
                            const sk_tsne_loops *loops, float *panel, neighbour *near) {
    float tile[SK_TSNE_ROWS * SK_TSNE_COLUMNS];
    size_t used[CHUNK] = {0};
    for (size_t first = 0; first < n; first += SK_TSNE_COLUMNS) {
        const size_t columns = n - first < SK_TSNE_COLUMNS ? n - first : SK_TSNE_COLUMNS;
        fill_panel(data, n, dims, first, panel);
        for (size_t i = begin; i < end; i += SK_TSNE_ROWS) {
            const float *points[SK_TSNE_ROWS];
            for (size_t r = 0; r < SK_TSNE_ROWS; r++) points[r] = data + (i + r < end ? i + r : end - 1) * dims;
            loops->distances(points, panel, dims, tile);
            for (size_t r = 0; r < SK_TSNE_ROWS && i + r < end; r++)
                for (size_t c = 0; c < columns; c++)
                    if (first + c != i + r)
                        offer(near + (i + r) * k, k, &used[i + r - begin],
                              (neighbour){tile[r * SK_TSNE_COLUMNS + c], (uint32_t)(first + c)});
        }
    }
}

/* ---- probabilities ----------------------------------------------------------------------------------------------- */

/* Turns squared distances into probabilities whose entropy is log(perplexity): Newton's method on the precision, held
 * inside the bracket by bisection. */
static void calibrate(neighbour *row, size_t k, double perplexity) {
    double least = HUGE_VAL, mean = 0, low = 0, high = HUGE_VAL, sum = 1;
    for (size_t j = 0; j < k; j++) {
        least = fmin(least, row[j].value);
        mean += row[j].value / (double)k;
    }
    double beta = mean - least > 0 ? 1 / (mean - least) : 1;
    for (int round = 0; round < 100; round++) {
        double first = 0, second = 0;
        sum = 0;
        for (size_t j = 0; j < k; j++) {
            const double d = row[j].value - least, p = exp(-beta * d);
            sum += p;
            first += p * d;
            second += p * d * d;
        }
        first /= sum;
        const double excess = log(sum) + beta * first - log(perplexity), variance = second / sum - first * first;
        if (fabs(excess) < 1e-8) break;
        if (excess > 0) low = beta;
        else high = beta;
        const double newton = beta + excess / (beta * variance); /* the entropy falls by beta * variance */
        if (newton > low && newton < high && newton < 4 * beta) beta = newton;
        else beta = isinf(high) ? beta * 2 : (low + high) / 2;
        if (!(beta > 1e-300 && beta < 1e300)) break;
    }
    for (size_t j = 0; j < k; j++) row[j].value = (float)(exp(-beta * (row[j].value - least)) / sum);
}

static void sort_row(neighbour *row, size_t n) {
    for (size_t gap = n / 2; gap > 0; gap /= 2)
        for (size_t i = gap; i < n; i++) {
            const neighbour moved = row[i];
            size_t j = i;
            for (; j >= gap && row[j - gap].index > moved.index; j -= gap) row[j] = row[j - gap];
            row[j] = moved;
        }
}

/* ---- joint probabilities ----------------------------------------------------------------------------------------- */

/* Merges two rows in the order of their indices, sums where both have an entry; writes if p is not NULL. */
static size_t merge(const neighbour *a, size_t na, const neighbour *b, size_t nb, float scale, float *p, uint32_t *j) {
    size_t used = 0;
    for (size_t s = 0, t = 0; s < na || t < nb; used++) {
        const uint32_t u = s < na ? a[s].index : UINT32_MAX, v = t < nb ? b[t].index : UINT32_MAX;
        const float value = (u <= v ? a[s].value : 0) + (v <= u ? b[t].value : 0);
        s += u <= v;
        t += v <= u;
        if (!p) continue;
        p[used] = value * scale;
        j[used] = u <= v ? u : v;
    }
    return used;
}

typedef struct transposed {
    size_t *start;
    neighbour *entries;
} transposed;

/* Who counts i among its neighbours, in order. */
static void transpose(const neighbour *near, size_t n, size_t k, transposed *to) {
    memset(to->start, 0, (n + 2) * sizeof *to->start);
    size_t *at = to->start + 1; /* filled from the front; each ends where the next begins */
    for (size_t e = 0; e < n * k; e++) to->start[near[e].index + 2]++;
    for (size_t i = 1; i <= n; i++) to->start[i + 1] += to->start[i];
    for (size_t i = 0; i < n; i++)
        for (size_t e = i * k; e < (i + 1) * k; e++)
            to->entries[at[near[e].index]++] = (neighbour){near[e].value, (uint32_t)i};
}

static sk_status join(const neighbour *near, size_t k, const transposed *back, int threads, sk_tsne_similarity *out,
                      sk_error *err) {
    const long n = (long)out->n;
    const float scale = (float)(1 / (2 * (double)n));
    size_t *start = out->start;
    start[0] = 0;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (long i = 0; i < n; i++)
        start[i + 1] = merge(near + (size_t)i * k, k, back->entries + back->start[i],
                             back->start[i + 1] - back->start[i], scale, NULL, NULL);
    for (long i = 0; i < n; i++)
        start[i + 1] = start[i] + (start[i + 1] + SK_TSNE_EDGES - 1) / SK_TSNE_EDGES * SK_TSNE_EDGES;
    out->p = sk_calloc(start[n], sizeof *out->p);
    out->j = sk_alloc(start[n], sizeof *out->j);
    if (!out->p || !out->j) return sk_fail_memory(err, "t-SNE");
#pragma omp parallel for schedule(static) num_threads(threads)
    for (long i = 0; i < n; i++) {
        const size_t used = merge(near + (size_t)i * k, k, back->entries + back->start[i],
                                  back->start[i + 1] - back->start[i], scale, out->p + start[i], out->j + start[i]);
        for (size_t e = start[i] + used; e < start[i + 1]; e++) out->j[e] = (uint32_t)i;
    }
    return SK_OK;
}

sk_status sk_tsne_similar(const float *data, size_t n, size_t dims, double perplexity, int threads,
                          sk_tsne_similarity *out, sk_error *err) {
    const size_t k = 3 * perplexity < (double)(n - 1) ? (size_t)(3 * perplexity) : n - 1;
    const sk_tsne_loops *loops = sk_tsne_loops_here();
    const long count = (long)n;
    neighbour *near = sk_alloc(n * k, sizeof *near);
    float *panels = sk_alloc((size_t)threads * dims, SK_TSNE_COLUMNS * sizeof *panels);
    transposed back = {sk_alloc(n + 2, sizeof *back.start), sk_alloc(n * k, sizeof *back.entries)};
    *out = (sk_tsne_similarity){.n = n, .start = sk_alloc(n + 1, sizeof *out->start)};
    sk_status status = SK_OK;
    if (!near || !panels || !back.start || !back.entries || !out->start) {
        status = sk_fail_memory(err, "t-SNE");
        goto done;
    }
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (long begin = 0; begin < count; begin += CHUNK) {
        const long end = begin + CHUNK < count ? begin + CHUNK : count;
        find_neighbours(data, n, dims, (size_t)begin, (size_t)end, k, loops,
                        panels + (size_t)omp_get_thread_num() * dims * SK_TSNE_COLUMNS, near);
        for (long i = begin; i < end; i++) {
            calibrate(near + (size_t)i * k, k, perplexity);
            sort_row(near + (size_t)i * k, k);
        }
    }
    transpose(near, n, k, &back);
    status = join(near, k, &back, threads, out, err);
done:
    if (status) sk_tsne_similarity_free(out);
    sk_free(near);
    sk_free(panels);
    sk_free(back.start);
    sk_free(back.entries);
    return status;
}

void sk_tsne_similarity_free(sk_tsne_similarity *similarity) {
    sk_free(similarity->start);
    sk_free(similarity->p);
    sk_free(similarity->j);
    *similarity = (sk_tsne_similarity){0};
}
