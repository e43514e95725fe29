/* SPDX-License-Identifier: Apache-2.0 */
/* t-SNE (van der Maaten and Hinton 2008) with the repulsive forces of Barnes-Hut (van der Maaten 2014), plain sums for
 * few points. Every sum has a fixed order: a point's forces are summed by one thread, totals are summed serially, so
 * the bytes do not depend on the threads. */
#include "eval/tsne.h"

#include <math.h>

#include "base/base.h"
#include "siskin/eval.h"

enum { EXACT_MAX = 1200, EXAGGERATED = 250 };
static const double exaggeration = 12, theta = .5, longest_step = 5;

typedef struct embedding {
    size_t n;
    int threads;
    double theta;
    double *y, *step, *gain;           /* n x 2 */
    float *place, *force, *normaliser; /* y as the loops read it, the repulsion there, n x 2; n */
    sk_tsne_similarity p;
    sk_tree *tree;
} embedding;

sk_tsne_options sk_tsne_defaults(void) {
    return (sk_tsne_options){.perplexity = 30, .iterations = 1000, .seed = 0, .threads = 0};
}

double sk_tsne_perplexity(const sk_tsne_options *options, size_t n) {
    return n > 1 ? fmax(1, fmin(options->perplexity, (double)(n - 1) / 3)) : 1;
}

/* ---- descent ----------------------------------------------------------------------------------------------------- */

/* Repulsion at the present places, times the total that is returned. */
static double repulsion(embedding *e) {
    double total = 0;
    for (size_t i = 0; i < 2 * e->n; i++) e->place[i] = (float)e->y[i];
    sk_tree_build(e->tree, e->place);
    sk_tree_repulsion(e->tree, e->theta, e->threads, e->force, e->normaliser);
    for (size_t i = 0; i < e->n; i++) total += e->normaliser[i];
    return total > 1e-300 ? total : 1e-300;
}

/* One step of gradient descent with momentum and a gain per coordinate (Jacobs 1988). */
static void move(embedding *e, double factor, double momentum, double rate) {
    const sk_tsne_loops *loops = sk_tsne_loops_here();
    const double z = repulsion(e);
    const long n = (long)e->n;
#pragma omp parallel for schedule(static) num_threads(e->threads)
    for (long i = 0; i < n; i++) {
        const size_t from = e->p.start[i];
        float pull[2];
        double length = 0;
        loops->attract(e->place, (size_t)i, e->p.p + from, e->p.j + from, e->p.start[i + 1] - from, pull);
        for (int c = 0; c < 2; c++) {
            const size_t k = 2 * (size_t)i + (size_t)c;
            const double gradient = factor * pull[c] - e->force[k] / z;
            const int same = (gradient > 0) == (e->step[k] > 0);
            e->gain[k] = same ? fmax(e->gain[k] * .8, .01) : e->gain[k] + .2;
            e->step[k] = momentum * e->step[k] - rate * e->gain[k] * gradient;
            length += e->step[k] * e->step[k];
        }
        /* Few points and a rate made for many would otherwise fly apart. */
        const double shrink = length > longest_step * longest_step ? longest_step / sqrt(length) : 1;
        for (size_t k = 2 * (size_t)i; k < 2 * (size_t)i + 2; k++) {
            e->step[k] *= shrink;
            e->y[k] += e->step[k];
        }
    }
    double centre[2] = {0, 0};
    for (size_t i = 0; i < 2 * e->n; i++) centre[i % 2] += e->y[i];
    for (size_t i = 0; i < 2 * e->n; i++) e->y[i] -= centre[i % 2] / (double)e->n;
}

static double divergence(embedding *e) {
    const double z = repulsion(e);
    double kl = 0;
    for (size_t i = 0; i < e->n; i++)
        for (size_t at = e->p.start[i]; at < e->p.start[i + 1]; at++) {
            const size_t j = e->p.j[at];
            const double dx = e->y[2 * i] - e->y[2 * j], dy = e->y[2 * i + 1] - e->y[2 * j + 1];
            const double p = e->p.p[at], q = 1 / (1 + dx * dx + dy * dy) / z;
            if (p > 0) kl += p * log(p / fmax(q, 1e-300));
        }
    return fmax(kl, 0); /* rounding of p shows where the two agree */
}

static sk_status allocate(embedding *e, sk_error *err) {
    const size_t n = e->n;
    e->y = sk_calloc(n, 2 * sizeof *e->y);
    e->step = sk_calloc(n, 2 * sizeof *e->step);
    e->gain = sk_alloc(n, 2 * sizeof *e->gain);
    e->place = sk_alloc(n, 2 * sizeof *e->place);
    e->force = sk_alloc(n, 2 * sizeof *e->force);
    e->normaliser = sk_alloc(n, sizeof *e->normaliser);
    if (!e->y || !e->step || !e->gain || !e->place || !e->force || !e->normaliser) return sk_fail_memory(err, "t-SNE");
    return sk_tree_create(n, &e->tree, err);
}

static void release(embedding *e) {
    sk_free(e->y);
    sk_free(e->step);
    sk_free(e->gain);
    sk_free(e->place);
    sk_free(e->force);
    sk_free(e->normaliser);
    sk_tsne_similarity_free(&e->p);
    sk_tree_free(e->tree);
}

static sk_status descend(embedding *e, int iterations, const sk_hooks *hooks, sk_error *err) {
    for (size_t i = 0; i < 2 * e->n; i++) e->gain[i] = 1;
    for (int round = 0; round < iterations; round++) {
        const int early = round < EXAGGERATED;
        if (round == EXAGGERATED)
            for (size_t i = 0; i < 2 * e->n; i++) e->gain[i] = 1, e->step[i] = 0;
        const double factor = early ? exaggeration : 1;
        move(e, factor, early ? .5 : .8, fmax(200, (double)e->n / factor)); /* rate: Belkina et al. 2019 */
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
    embedding e = {.n = n, .threads = sk_thread_count(options->threads), .theta = n > EXACT_MAX ? theta : 0};
    status = allocate(&e, err);
    if (!status) status = sk_tsne_similar(data, n, (size_t)dims, sk_tsne_perplexity(options, n), e.threads, &e.p, err);
    if (!status) status = sk_tsne_start(data, n, (size_t)dims, options->seed, e.threads, e.y, err);
    if (!status) status = descend(&e, options->iterations, hooks, err);
    for (size_t i = 0; !status && i < 2 * n; i++) out[i] = (float)e.y[i];
    if (!status && kl) *kl = divergence(&e);
    release(&e);
    return status;
}
