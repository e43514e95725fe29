/* SPDX-License-Identifier: Apache-2.0 */
/* Between two passes: sums of the chunks become batch norms and gradients. Chunks are added as a binary tree over their
 * numbers, (0+1)+(2+3) and so on: half of the chunks are half of the tree, and may be counted in another process. */
#include <math.h>
#include <string.h>

#include "net/step.h"

/* ---- the tree -------------------------------------------------------------------------------------------------- */
/* The first of `chunks` arrays of `count` values, `stride` apart, becomes the sum of all. */
static void add_doubles(double *values, size_t stride, int chunks, size_t count) {
    for (int step = 1; step < chunks; step *= 2)
        for (int chunk = 0; chunk + step < chunks; chunk += 2 * step) {
            double *to = values + (size_t)chunk * stride;
            const double *from = to + (size_t)step * stride;

            for (size_t i = 0; i < count; i++) to[i] += from[i];
        }
}

static void add_reals(sk_real *values, size_t stride, int chunks, size_t count) {
    for (int step = 1; step < chunks; step *= 2)
        for (int chunk = 0; chunk + step < chunks; chunk += 2 * step) {
            sk_real *to = values + (size_t)chunk * stride;
            const sk_real *from = to + (size_t)step * stride;

            for (size_t i = 0; i < count; i++) to[i] += from[i];
        }
}

typedef struct moments {
    double count, mean, squares; /* squares: of the differences from the mean */
} moments;

/* Chan, Golub and LeVeque, Updating formulae and a pairwise algorithm for computing sample variances (1979). */
static moments join(moments a, moments b) {
    const double count = a.count + b.count, delta = b.mean - a.mean;

    return (moments){count, a.mean + delta * (b.count / count),
                     a.squares + b.squares + delta * delta * (a.count * b.count / count)};
}

static moments join_all(moments *m, int count) {
    for (int step = 1; step < count; step *= 2)
        for (int i = 0; i + step < count; i += 2 * step) m[i] = join(m[i], m[i + step]);
    return m[0];
}

static double rows_of(const sk_step *s, int unit, int first, int last) {
    return (double)(sk_step_first(s, last) - sk_step_first(s, first)) * (double)sk_unit_rows(&s->net->units[unit]);
}

/* Moments of channel c of a unit in the chunks of this process; every chunk has counted from a row of its own. */
static moments join_chunks(const sk_step *s, int unit, int c) {
    const sk_unit *u = &s->net->units[unit];
    moments m[SK_CHUNKS] = {{0}};

    for (int chunk = s->first; chunk < s->last; chunk++) {
        const double *sums = sk_step_sums(s, chunk, unit), count = rows_of(s, unit, chunk, chunk + 1);

        m[chunk - s->first] = (moments){count, (double)sk_step_y(s, unit, sk_step_first(s, chunk))[c] + sums[c] / count,
                                        sums[u->out_c + c] - sums[c] * (sums[c] / count)};
    }
    return join_all(m, s->last - s->first);
}

/* ... of all processes. */
static moments join_ranks(const sk_step *s, int unit, int c) {
    const size_t channels = (size_t)s->net->units[unit].out_c;
    const int each = SK_CHUNKS / sk_sync_ranks(s->options.sync);
    const int active = sk_sync_active(s->options.sync, s->n);
    moments m[SK_CHUNKS];

    for (int r = 0; r < active; r++) {
        const double *own = s->joined + (size_t)r * 2 * channels;
        const int last = (r + 1) * each < s->chunks ? (r + 1) * each : s->chunks;

        m[r] = (moments){rows_of(s, unit, r * each, last), own[c], own[channels + (size_t)c]};
    }
    return join_all(m, active);
}

/* ---- over the processes ------------------------------------------------------------------------------------------ */
/* What each process has added up becomes the sum of all; size: of one value. */
static void sum_ranks(sk_step *s, void *values, size_t count, size_t size) {
    if (s->lost.code == SK_OK)
        sk_sync_sum(s->options.sync, values, count, size, sk_sync_active(s->options.sync, s->n), &s->lost);
}

void sk_step_gather(sk_step *s, void *data, size_t size) {
    if (s->lost.code == SK_OK) sk_sync_gather_pictures(s->options.sync, data, s->n, size, &s->lost);
}

static void gather_moments(sk_step *s, int unit) {
    const size_t size = 2 * (size_t)s->net->units[unit].out_c * sizeof *s->joined;

    if (s->lost.code == SK_OK) sk_sync_gather_even(s->options.sync, s->joined, size, &s->lost);
}

void sk_step_finish_ends(sk_step *s) {
    sk_fake *f = s->options.fake;
    const size_t count = 2 * (size_t)s->net->layer_count;
    double *ends = s->sums + s->ends_at;

    add_doubles(ends, s->sums_size, s->last - s->first, count);
    sum_ranks(s, ends, count, sizeof *ends);
    for (int i = 0; i < s->net->layer_count; i++) {
        f->d_low[i] = ends[2 * i];
        f->d_high[i] = ends[2 * i + 1];
    }
}

int sk_step_sum_hits(sk_step *s) {
    const size_t size = (size_t)(SK_CHUNKS / sk_sync_ranks(s->options.sync)) * sizeof *s->hits;
    int sum = 0;

    if (s->lost.code == SK_OK) sk_sync_gather_even(s->options.sync, s->hits, size, &s->lost);
    for (int chunk = 0; chunk < s->chunks; chunk++) sum += s->hits[chunk];
    return sum;
}

double sk_step_sum_losses(sk_step *s) {
    double sums[SK_CHUNKS] = {0};

    sk_step_gather(s, s->losses, sizeof *s->losses);
    for (int chunk = 0; chunk < s->chunks; chunk++)
        for (int i = sk_step_first(s, chunk); i < sk_step_first(s, chunk + 1); i++) sums[chunk] += s->losses[i];
    add_doubles(sums, 1, s->chunks, 1);
    return sums[0];
}

/* ---- statistics ------------------------------------------------------------------------------------------------ */
static void normalise(sk_step *s, int unit, int c, double mean, double variance) {
    const sk_param *p = &s->net->params[s->net->units[unit].param];
    sk_unit_state *us = &s->units[unit];
    const double invstd = 1 / sqrt(variance + SK_BN_EPS), gamma = (double)p[SK_GAMMA].data[c];

    us->mean[c] = (sk_real)mean;
    us->invstd[c] = (sk_real)invstd;
    us->scale[c] = us->ka[c] = (sk_real)(gamma * invstd);
    us->shift[c] = (sk_real)((double)p[SK_BETA].data[c] - mean * gamma * invstd);
}

/* Running statistics move towards those of the batch (variance unbiased, as torch does). */
static void set_statistics(sk_step *s, int unit, int c, double mean, double variance, double count) {
    sk_param *p = &s->net->params[s->net->units[unit].param];

    variance = variance > 0 ? variance : 0;
    normalise(s, unit, c, mean, variance);
    if (count > 1) variance *= count / (count - 1);
    p[SK_MEAN].data[c] = (sk_real)((1 - SK_BN_MOMENTUM) * (double)p[SK_MEAN].data[c] + SK_BN_MOMENTUM * mean);
    p[SK_VAR].data[c] = (sk_real)((1 - SK_BN_MOMENTUM) * (double)p[SK_VAR].data[c] + SK_BN_MOMENTUM * variance);
}

void sk_step_finish_statistics(sk_step *s, int unit) {
    const sk_unit *u = &s->net->units[unit];
    const size_t channels = (size_t)u->out_c;
    double *own = s->joined + (s->options.sync ? (size_t)s->options.sync->rank * 2 * channels : 0);

#pragma omp parallel for num_threads(s->threads) schedule(static) if (u->out_c >= 64)
    for (int c = 0; c < u->out_c; c++) {
        const moments m = join_chunks(s, unit, c);

        own[c] = m.mean;
        own[channels + (size_t)c] = m.squares;
    }
    gather_moments(s, unit);
#pragma omp parallel for num_threads(s->threads) schedule(static) if (u->out_c >= 64)
    for (int c = 0; c < u->out_c; c++) {
        const moments m = join_ranks(s, unit, c);

        set_statistics(s, unit, c, m.mean, m.squares / m.count, m.count);
    }
}

/* to = weights of a wide unit times a factor per channel. */
static void scale_matrix(const sk_step *s, int unit, const sk_real *factor, sk_real *to) {
    const sk_unit *u = &s->net->units[unit];
    const sk_real *from = sk_step_matrix(s, unit);
    const int depth = sk_step_depth(u);

    for (int c = 0; c < u->out_c; c++, from += depth, to += depth)
        for (int j = 0; j < depth; j++) to[j] = factor[c] * from[j];
}

static void pack_wide(sk_step *s, int unit) {
    const sk_unit *u = &s->net->units[unit];
    const sk_unit_state *us = &s->units[unit];
    const int depth = sk_step_depth(u);

    scale_matrix(s, unit, us->scale, s->matrix);
#pragma omp parallel for num_threads(s->threads) schedule(static) if (u->out_c >= 64)
    for (int i = 0; i < 2; i++) {
        if (i == 0 && unit) s->k->gemm_pack(us->backward, depth, u->out_c, s->matrix, 1, depth);
        if (i == 1 && us->folded) s->k->gemm_pack(us->folded, u->out_c, depth, s->matrix, depth, 1);
    }
}

/* y = W x: row c of `spread` becomes W_c S with S the scatter of x, the sum of (x-mean)(x-mean)'. Returns W_c S W_c',
 * the sum of squares of channel c. */
static double spread_row(const double *scatter, int depth, const sk_real *w, sk_real *spread) {
    double row[SK_MAX_DEPTH] = {0}, squares = 0;

    for (int l = 0; l < depth; l++) {
        const double factor = (double)w[l], *from = scatter + (size_t)l * (size_t)depth;

        for (int j = 0; j < depth; j++) row[j] += factor * from[j];
    }
    for (int j = 0; j < depth; j++) {
        squares += row[j] * (double)w[j];
        spread[j] = (sk_real)row[j];
    }
    return squares;
}

void sk_step_finish_wide(sk_step *s, int unit) {
    const sk_unit *u = &s->net->units[unit];
    sk_unit_state *us = &s->units[unit];
    const int depth = sk_step_depth(u);
    const size_t d = (size_t)depth;
    const sk_real *matrix = sk_step_matrix(s, unit);
    const double count = (double)s->n * (double)sk_unit_rows(u);
    double *scatter = sk_step_sums(s, s->first, unit), *mean = scatter + d * d;

#pragma omp parallel for num_threads(s->threads) schedule(static) if (depth >= 32)
    for (int j = 0; j <= depth; j++) {
        const size_t from = j < depth ? (size_t)j : 0; /* nothing is below the diagonal */

        add_doubles(scatter + (size_t)j * d + from, s->sums_size, s->last - s->first, d - from);
    }
    sum_ranks(s, scatter, d * (d + 1), sizeof *scatter);
#pragma omp parallel num_threads(s->threads) if (depth >= 32)
    {
#pragma omp for schedule(static, 1)
        for (int j = 0; j < depth; j++) {
            for (int l = j; l < depth; l++) {
                double *above = scatter + (size_t)j * d + l;

                *above -= mean[j] * mean[l] / count;
                scatter[(size_t)l * d + (size_t)j] = *above;
            }
            us->center[j] = (sk_real)(mean[j] / count);
        }
#pragma omp for schedule(static)
        for (int c = 0; c < u->out_c; c++) {
            const sk_real *w = matrix + (size_t)c * d;
            const double squares = spread_row(scatter, depth, w, us->spread + (size_t)c * d);
            double sum = 0;

            for (int j = 0; j < depth; j++) sum += (double)w[j] * mean[j];
            set_statistics(s, unit, c, sum / count, squares / count, count);
        }
    }
    pack_wide(s, unit);
}

/* ---- gradients ------------------------------------------------------------------------------------------------- */
/* Gradients of gamma and beta from the chunks' sums, and the three factors of dy = ka dz + kb (y - mean) + kc. */
void sk_step_finish_norm(sk_step *s, int unit) {
    const sk_unit *u = &s->net->units[unit];
    sk_unit_state *us = &s->units[unit];
    sk_real *d_gamma = sk_step_grad(s, u->param + SK_GAMMA), *d_beta = sk_step_grad(s, u->param + SK_BETA);
    const double count = (double)s->n * (double)sk_unit_rows(u);
    double *sum = sk_step_sums(s, s->first, unit);
    const double *sum_y = sum + u->out_c;

    add_doubles(sum, s->sums_size, s->last - s->first, 2 * (size_t)u->out_c);
    sum_ranks(s, sum, 2 * (size_t)u->out_c, sizeof *sum);
    for (int c = 0; c < u->out_c; c++) {
        const double invstd = (double)us->invstd[c], ka = (double)us->ka[c];

        d_beta[c] = (sk_real)sum[c];
        if (s->options.freeze_bn) continue; /* gamma's follows from the weights' (step_frozen.c) */
        d_gamma[c] = (sk_real)(sum_y[c] * invstd);
        us->kb[c] = (sk_real)(-ka * invstd * invstd * sum_y[c] / count);
        us->kc[c] = (sk_real)(-ka * sum[c] / count);
    }
}

/* Row r of a unit's weight gradient goes from the kernels' layout to torch's: OHWI to OIHW, [k][k][C] to [C][k][k]. */
static void store_row(const sk_unit *u, size_t r, const sk_real *row, sk_real *to) {
    const size_t taps = (size_t)(u->kernel * u->kernel);

    if (u->op == SK_OP_DEPTHWISE) {
        for (size_t c = 0; c < (size_t)u->out_c; c++) to[c * taps + r] = row[c];
    } else if (u->op == SK_OP_CONV) {
        const size_t in = (size_t)u->in_c;

        for (size_t j = 0; j < taps * in; j++) to[r * taps * in + j % in * taps + j / in] = row[j];
    } else {
        for (size_t j = 0; j < (size_t)u->in_c; j++) to[r * (size_t)u->in_c + j] = row[j];
    }
}

/* Row r of a wide unit's sum of dy x' from that of dz x', dy = ka dz + kb (y - mean) + kc. */
static void complete_row(const sk_step *s, int unit, int r, sk_real *row) {
    const sk_unit *u = &s->net->units[unit];
    const sk_unit_state *us = &s->units[unit];
    const int depth = sk_step_depth(u);
    const sk_real count = (sk_real)((double)s->n * (double)sk_unit_rows(u));
    const sk_real *spread = us->spread + (size_t)r * (size_t)depth;

    for (int j = 0; j < depth; j++)
        row[j] = us->ka[r] * row[j] + us->kb[r] * spread[j] + us->kc[r] * (count * us->center[j]);
}

void sk_step_finish_weight(sk_step *s, int unit) {
    const sk_unit *u = &s->net->units[unit];
    const int depthwise = u->op == SK_OP_DEPTHWISE, rows = depthwise ? u->kernel * u->kernel : u->out_c;
    const size_t width = (size_t)(depthwise ? u->out_c : sk_step_depth(u));
    const int frozen = s->options.freeze_bn, parallel = (size_t)rows * width >= 4096;
    sk_real *sum = sk_step_partial(s, s->first, unit), *to = sk_step_grad(s, u->param);

#pragma omp parallel for num_threads(s->threads) schedule(static) if (parallel)
    for (int r = 0; r < rows; r++) add_reals(sum + (size_t)r * width, s->partial_size, s->last - s->first, width);
    sum_ranks(s, sum, (size_t)rows * width, sizeof *sum);
    if (frozen) sk_step_unfold(s, unit, sum);
#pragma omp parallel for num_threads(s->threads) schedule(static) if (parallel)
    for (int r = 0; r < rows; r++) {
        sk_real *row = sum + (size_t)r * width;

        if (sk_step_is_wide(u) && !frozen) complete_row(s, unit, r, row);
        store_row(u, (size_t)r, row, to);
    }
}

/* dx = dy W has the parts kb (y - mean) W = (x - center) W' kb W, and kc W. */
void sk_step_finish_inner(sk_step *s, int unit) {
    const sk_unit *u = &s->net->units[unit];
    const sk_unit_state *us = &s->units[unit];
    const size_t depth = (size_t)u->in_c;
    const sk_real *w = sk_step_matrix(s, unit);
    double offset[SK_MAX_DEPTH] = {0};
    sk_real *inner = s->inner;

    scale_matrix(s, unit, us->kb, s->matrix);
    memset(inner, 0, depth * depth * sizeof *inner);
    s->k->gemm_tn(u->out_c, u->in_c, u->in_c, s->matrix, u->in_c, w, u->in_c, inner);
    s->k->gemm_pack(us->inner, u->in_c, u->in_c, inner, 1, u->in_c);
    for (int c = 0; c < u->out_c; c++)
        for (size_t j = 0; j < depth; j++) offset[j] += (double)us->kc[c] * (double)w[(size_t)c * depth + j];
    for (size_t p = 0; p < depth; p++)
        for (size_t j = 0; j < depth; j++) offset[j] -= (double)us->center[p] * (double)inner[p * depth + j];
    for (size_t j = 0; j < depth; j++) us->offset[j] = (sk_real)offset[j];
}
