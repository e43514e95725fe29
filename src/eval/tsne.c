/* SPDX-License-Identifier: Apache-2.0 */
/* t-SNE (van der Maaten and Hinton 2008), exact for few points, Barnes-Hut (van der Maaten 2014) for many. Starts from
 * the first two principal components, so that the layout of the clusters means something. Every sum has a fixed order:
 * each point's force is summed by one thread, totals are summed serially, so the bytes do not depend on the threads. */
#include "eval/tsne.h"

#include <math.h>
#include <string.h>

#include "base/base.h"
#include "siskin/eval.h"

enum { EXACT_MAX = 1200, EXAGGERATED = 250, PCA_ROUNDS = 40 };
static const double exaggeration = 12, theta = .5, longest_step = 5;

typedef struct neighbour {
    double value; /* squared distance, then probability */
    size_t index;
} neighbour;

typedef struct embedding {
    size_t n, k; /* points, neighbours of each */
    int threads;
    double *y, *step, *gain, *gradient, *normaliser;
    neighbour *near; /* n x k: conditional probabilities */
    size_t *start;   /* rows of the symmetric P, n + 1 */
    neighbour *p;
    sk_tree *tree; /* NULL: exact */
} embedding;

sk_tsne_options sk_tsne_defaults(void) {
    return (sk_tsne_options){.perplexity = 30, .iterations = 1000, .seed = 0, .threads = 0};
}

double sk_tsne_perplexity(const sk_tsne_options *options, size_t n) {
    return n > 1 ? fmax(1, fmin(options->perplexity, (double)(n - 1) / 3)) : 1;
}

/* ---- similarities ------------------------------------------------------------------------------------------------ */

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

static void find_neighbours(const float *data, size_t n, size_t dims, size_t i, size_t k, neighbour *heap) {
    size_t used = 0;
    for (size_t j = 0; j < n; j++) {
        if (j == i) continue;
        float sum = 0;
        const float *a = data + i * dims, *b = data + j * dims;
#pragma omp simd reduction(+ : sum)
        for (size_t d = 0; d < dims; d++) sum += (a[d] - b[d]) * (a[d] - b[d]);
        const neighbour found = {sum, j};
        if (used < k) {
            heap[used++] = found;
            if (used == k)
                for (size_t at = k / 2 + 1; at-- > 0;) heap_down(heap, k, at);
        } else if (nearer(&found, &heap[0])) {
            heap[0] = found;
            heap_down(heap, k, 0);
        }
    }
}

/* Turns squared distances into probabilities whose entropy is log(perplexity), by bisection on the precision. */
static void calibrate(neighbour *row, size_t k, double perplexity) {
    double least = HUGE_VAL, mean = 0, low = 0, high = HUGE_VAL, sum = 1;
    for (size_t j = 0; j < k; j++) {
        least = fmin(least, row[j].value);
        mean += row[j].value / (double)k;
    }
    double beta = mean - least > 0 ? 1 / (mean - least) : 1;
    for (int round = 0; round < 100; round++) {
        double weighted = 0;
        sum = 0;
        for (size_t j = 0; j < k; j++) {
            const double d = row[j].value - least, p = exp(-beta * d);
            sum += p;
            weighted += p * d;
        }
        const double excess = log(sum) + beta * weighted / sum - log(perplexity);
        if (fabs(excess) < 1e-6) break;
        if (excess > 0) low = beta;
        else high = beta;
        beta = isinf(high) ? beta * 2 : (low + high) / 2;
        if (!(beta > 1e-300 && beta < 1e300)) break;
    }
    for (size_t j = 0; j < k; j++) row[j].value = exp(-beta * (row[j].value - least)) / sum;
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

/* Joint P = (P + P^T) / 2n as sorted rows; entries for one pair are merged. */
static void symmetrise(embedding *e) {
    const size_t n = e->n, k = e->k;
    memset(e->start, 0, (n + 1) * sizeof *e->start);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < k; j++) {
            e->start[i + 1]++;
            e->start[e->near[i * k + j].index + 1]++;
        }
    for (size_t i = 0; i < n; i++) e->start[i + 1] += e->start[i];
    size_t *at = e->start; /* filled from the front, shifted back below */
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < k; j++) {
            const neighbour *q = &e->near[i * k + j];
            const double value = q->value / (2 * (double)n);
            e->p[at[i]++] = (neighbour){value, q->index};
            e->p[at[q->index]++] = (neighbour){value, i};
        }
    size_t used = 0, from = 0;
    for (size_t i = 0; i < n; i++) {
        const size_t to = at[i], first = used;
        sort_row(e->p + from, to - from);
        for (size_t j = from; j < to; j++) {
            if (used > first && e->p[used - 1].index == e->p[j].index) e->p[used - 1].value += e->p[j].value;
            else e->p[used++] = e->p[j];
        }
        at[i] = first;
        from = to;
    }
    e->start[n] = used;
}

/* ---- start ------------------------------------------------------------------------------------------------------- */

/* First two principal components by orthogonal iteration; `work` has room for mean and two vectors of dims, two of n.
 */
static void principal(const float *data, size_t n, size_t dims, uint64_t seed, double *work, double *y) {
    double *mean = work, *v = work + dims, *u = work + 3 * dims;
    sk_rng rng = sk_rng_make(seed, 0x7453, 0);
    for (size_t d = 0; d < 2 * dims; d++) v[d] = sk_rng_normal(&rng);
    memset(mean, 0, dims * sizeof *mean);
    for (size_t i = 0; i < n; i++)
        for (size_t d = 0; d < dims; d++) mean[d] += (double)data[i * dims + d] / (double)n;
    for (int round = 0; round <= PCA_ROUNDS; round++) {
        double dot = 0, norm = 0;
        for (int c = 0; c < 2; c++) {
            double *w = v + (size_t)c * dims;
            if (c) {
                dot = 0;
                for (size_t d = 0; d < dims; d++) dot += v[d] * w[d];
                for (size_t d = 0; d < dims; d++) w[d] -= dot * v[d];
            }
            norm = 0;
            for (size_t d = 0; d < dims; d++) norm += w[d] * w[d];
            norm = sqrt(norm);
            for (size_t d = 0; d < dims; d++) w[d] = norm > 1e-150 ? w[d] / norm : 0;
        }
        for (size_t i = 0; i < n; i++) {
            double a = 0, b = 0;
            for (size_t d = 0; d < dims; d++) {
                const double x = (double)data[i * dims + d] - mean[d];
                a += x * v[d];
                b += x * v[dims + d];
            }
            u[2 * i] = a;
            u[2 * i + 1] = b;
        }
        if (round == PCA_ROUNDS) break;
        memset(v, 0, 2 * dims * sizeof *v);
        for (size_t i = 0; i < n; i++)
            for (size_t d = 0; d < dims; d++) {
                const double x = (double)data[i * dims + d] - mean[d];
                v[d] += x * u[2 * i];
                v[dims + d] += x * u[2 * i + 1];
            }
    }
    double spread = 0;
    for (size_t i = 0; i < n; i++) spread += u[2 * i] * u[2 * i] / (double)n;
    spread = sqrt(spread);
    /* The small noise parts points that coincide. */
    for (size_t i = 0; i < 2 * n; i++) y[i] = (spread > 1e-150 ? u[i] / spread * 1e-4 : 0) + sk_rng_normal(&rng) * 1e-6;
}

/* ---- descent ----------------------------------------------------------------------------------------------------- */

static double exact_repulsion(const embedding *e, size_t i, double force[2]) {
    const double *y = e->y, px = y[2 * i], py = y[2 * i + 1];
    double sum = 0, fx = 0, fy = 0;
#pragma omp simd reduction(+ : sum, fx, fy)
    for (size_t j = 0; j < e->n; j++) {
        const double dx = px - y[2 * j], dy = py - y[2 * j + 1], q = 1 / (1 + dx * dx + dy * dy);
        sum += q;
        fx += q * q * dx;
        fy += q * q * dy;
    }
    force[0] = fx;
    force[1] = fy;
    return sum - 1;
}

static double repulsion(const embedding *e, size_t i, double force[2]) {
    return e->tree ? sk_tree_repulsion(e->tree, e->y, i, theta, force) : exact_repulsion(e, i, force);
}

static double total(const double *values, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += values[i];
    return sum > 1e-300 ? sum : 1e-300;
}

static void move(embedding *e, double factor, double momentum, double rate) {
    const long n = (long)e->n;
    if (e->tree) sk_tree_build(e->tree, e->y);
#pragma omp parallel for schedule(dynamic, 32) num_threads(e->threads)
    for (long i = 0; i < n; i++) e->normaliser[i] = repulsion(e, (size_t)i, &e->gradient[2 * i]);
    const double z = total(e->normaliser, e->n);
#pragma omp parallel for schedule(dynamic, 32) num_threads(e->threads)
    for (long i = 0; i < n; i++) {
        double pull[2] = {0, 0};
        for (size_t at = e->start[i]; at < e->start[i + 1]; at++) {
            const size_t j = e->p[at].index;
            const double dx = e->y[2 * i] - e->y[2 * j], dy = e->y[2 * i + 1] - e->y[2 * j + 1];
            const double weight = e->p[at].value / (1 + dx * dx + dy * dy);
            pull[0] += weight * dx;
            pull[1] += weight * dy;
        }
        for (int k = 0; k < 2; k++) e->gradient[2 * i + k] = factor * pull[k] - e->gradient[2 * i + k] / z;
    }
    double centre[2] = {0, 0};
    for (size_t i = 0; i < e->n; i++) {
        double length = 0;
        for (size_t k = 2 * i; k < 2 * i + 2; k++) {
            const int same = (e->gradient[k] > 0) == (e->step[k] > 0);
            e->gain[k] = same ? fmax(e->gain[k] * .8, .01) : e->gain[k] + .2;
            e->step[k] = momentum * e->step[k] - rate * e->gain[k] * e->gradient[k];
            length += e->step[k] * e->step[k];
        }
        /* Few points and a rate made for many would otherwise fly apart. */
        const double shrink = length > longest_step * longest_step ? longest_step / sqrt(length) : 1;
        for (size_t k = 0; k < 2; k++) {
            e->step[2 * i + k] *= shrink;
            e->y[2 * i + k] += e->step[2 * i + k];
            centre[k] += e->y[2 * i + k] / (double)e->n;
        }
    }
    for (size_t i = 0; i < 2 * e->n; i++) e->y[i] -= centre[i % 2];
}

static double divergence(embedding *e) {
    const long n = (long)e->n;
    double force[2], kl = 0;
    if (e->tree) sk_tree_build(e->tree, e->y);
#pragma omp parallel for private(force) num_threads(e->threads)
    for (long i = 0; i < n; i++) e->normaliser[i] = repulsion(e, (size_t)i, force);
    const double z = total(e->normaliser, e->n);
    for (size_t i = 0; i < e->n; i++)
        for (size_t at = e->start[i]; at < e->start[i + 1]; at++) {
            const size_t j = e->p[at].index;
            const double dx = e->y[2 * i] - e->y[2 * j], dy = e->y[2 * i + 1] - e->y[2 * j + 1];
            const double p = e->p[at].value, q = 1 / (1 + dx * dx + dy * dy) / z;
            if (p > 0) kl += p * log(p / fmax(q, 1e-300));
        }
    return kl;
}

static sk_status allocate(embedding *e, size_t dims, double **work, sk_error *err) {
    const size_t n = e->n;
    e->y = sk_calloc(n, 2 * sizeof *e->y);
    e->step = sk_calloc(n, 2 * sizeof *e->step);
    e->gain = sk_alloc(n, 2 * sizeof *e->gain);
    e->gradient = sk_alloc(n, 2 * sizeof *e->gradient);
    e->normaliser = sk_alloc(n, sizeof *e->normaliser);
    e->near = sk_alloc(n * e->k, sizeof *e->near);
    e->start = sk_alloc(n + 1, sizeof *e->start);
    e->p = sk_alloc(n * e->k, 2 * sizeof *e->p);
    *work = sk_alloc(3 * dims + 2 * n, sizeof **work);
    if (!e->y || !e->step || !e->gain || !e->gradient || !e->normaliser || !e->near || !e->start || !e->p || !*work)
        return sk_fail_memory(err, "t-SNE");
    return n > EXACT_MAX ? sk_tree_create(n, &e->tree, err) : SK_OK;
}

static void release(embedding *e) {
    sk_free(e->y);
    sk_free(e->step);
    sk_free(e->gain);
    sk_free(e->gradient);
    sk_free(e->normaliser);
    sk_free(e->near);
    sk_free(e->start);
    sk_free(e->p);
    sk_tree_free(e->tree);
}

static sk_status descend(embedding *e, int iterations, const sk_hooks *hooks, sk_error *err) {
    const double rate = fmax(200, (double)e->n / exaggeration);
    for (size_t i = 0; i < 2 * e->n; i++) e->gain[i] = 1;
    for (int round = 0; round < iterations; round++) {
        const int early = round < EXAGGERATED;
        if (round == EXAGGERATED)
            for (size_t i = 0; i < 2 * e->n; i++) e->gain[i] = 1, e->step[i] = 0;
        move(e, early ? exaggeration : 1, early ? .5 : .8, rate);
        if (round % 10) continue;
        if (sk_cancelled(hooks)) return sk_fail(err, SK_ERR_CANCELLED, "t-SNE was stopped");
        sk_progress(hooks, "t-SNE", "iterations", (uint64_t)round, (uint64_t)iterations);
    }
    sk_progress(hooks, "t-SNE", "iterations", (uint64_t)iterations, (uint64_t)iterations);
    return SK_OK;
}

static sk_status check(const float *data, size_t n, int dims, const sk_tsne_options *o, sk_error *err) {
    if (dims < 1 || o->iterations < 1 || !(o->perplexity >= 1) || n > ((size_t)1 << 24))
        return sk_fail(err, SK_ERR_ARGUMENT,
                       "t-SNE needs a perplexity of at least 1, iterations and at most 2^24 points");
    for (size_t i = 0; i < n * (size_t)dims; i++)
        if (!isfinite(data[i])) return sk_fail(err, SK_ERR_DATA, "t-SNE: a feature is not a finite number");
    return SK_OK;
}

sk_status sk_tsne(const float *data, size_t n, int dims, const sk_tsne_options *options, const sk_hooks *hooks,
                  float *out, double *kl, sk_error *err) {
    sk_status status = check(data, n, dims, options, err);
    if (status) return status;
    if (kl) *kl = 0;
    if (n < 2) {
        if (n) out[0] = out[1] = 0;
        return SK_OK;
    }
    const double perplexity = sk_tsne_perplexity(options, n);
    embedding e = {.n = n, .k = n - 1, .threads = sk_thread_count(options->threads)};
    if (n > EXACT_MAX && 3 * perplexity < (double)e.k) e.k = (size_t)(3 * perplexity);
    double *work = NULL;
    status = allocate(&e, (size_t)dims, &work, err);
    if (status) goto done;
    const long count = (long)n;
#pragma omp parallel for schedule(dynamic, 8) num_threads(e.threads)
    for (long i = 0; i < count; i++) {
        neighbour *row = e.near + (size_t)i * e.k;
        find_neighbours(data, n, (size_t)dims, (size_t)i, e.k, row);
        calibrate(row, e.k, perplexity);
    }
    symmetrise(&e);
    principal(data, n, (size_t)dims, options->seed, work, e.y);
    status = descend(&e, options->iterations, hooks, err);
    if (status) goto done;
    for (size_t i = 0; i < 2 * n; i++) out[i] = (float)e.y[i];
    if (kl) *kl = divergence(&e);
done:
    sk_free(work);
    release(&e);
    return status;
}
