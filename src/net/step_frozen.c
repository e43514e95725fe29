/* SPDX-License-Identifier: Apache-2.0 */
/* A step with frozen batch norm statistics. No pass waits for sums of another, so a few pictures go through all of
 * them, forward and backward, before the next ones begin: their values stay in cache, and memory for them does not grow
 * with the batch. Weight gradients and sums are added per chunk as ever. */
#include <math.h>
#include <omp.h>
#include <string.h>

#include "net/step.h"

/* ---- batch norm in the weights --------------------------------------------------------------------------------- */
/* Row r of a unit's weights in the kernels' layout: of one output channel, or a tap of all of them. */
static size_t row_count(const sk_unit *u) {
    return (size_t)(u->op == SK_OP_DEPTHWISE ? u->kernel * u->kernel : u->out_c);
}
static size_t row_width(const sk_unit *u) {
    return (size_t)(u->op == SK_OP_DEPTHWISE ? u->out_c : sk_step_depth(u));
}
static void scale_row(const sk_unit *u, size_t r, const sk_real *factor, sk_real *row) {
    const size_t width = row_width(u);

    if (u->op == SK_OP_DEPTHWISE)
        for (size_t j = 0; j < width; j++) row[j] *= factor[j];
    else
        for (size_t j = 0; j < width; j++) row[j] *= factor[r];
}

/* The unit's weights in the kernels' layout times `factor` per channel (NULL: 1). */
static void fill_matrix(const sk_step *s, int unit, const sk_real *factor, sk_real *to) {
    const sk_unit *u = &s->net->units[unit];
    const sk_param *p = &s->net->params[u->param];
    const int taps = u->kernel * u->kernel;

    if (u->op == SK_OP_DEPTHWISE) sk_net_pack_dw(p->data, u->out_c, taps, to);
    else if (u->op == SK_OP_CONV) sk_net_pack_ohwi(p->data, u->out_c, u->in_c, taps, to);
    else memcpy(to, p->data, p->count * sizeof *to);
    for (size_t r = 0; factor && r < row_count(u); r++) scale_row(u, r, factor, to + r * row_width(u));
}

/* The factors of the channels that a depthwise unit reads. */
static const float *read_by(const sk_step *s, const sk_unit *u) {
    const int input = s->net->layers[u->layer].input;

    return s->options.fake->output[input].equal;
}

static void fold_unit(sk_step *s, int unit) {
    const sk_fake *f = s->options.fake;
    const sk_unit *u = &s->net->units[unit];
    const sk_param *p = &s->net->params[u->param];
    sk_unit_state *us = &s->units[unit];
    const int depth = sk_step_depth(u);
    sk_real *matrix = s->matrix + us->partial_at;

    us->fused = u->act == SK_ACT_RELU ? SK_ACT_RELU : SK_ACT_NONE;
    for (int c = 0; c < u->out_c; c++) {
        const double invstd = 1 / sqrt((double)p[SK_VAR].data[c] + SK_BN_EPS);
        const double ka = (double)p[SK_GAMMA].data[c] * invstd;

        us->invstd[c] = (sk_real)invstd;
        us->ka[c] = (sk_real)ka;
        us->bias[c] = (sk_real)((double)p[SK_BETA].data[c] - (double)p[SK_MEAN].data[c] * ka);
        us->scale[c] = 1;
        us->shift[c] = us->mean[c] = 0;
    }
    if (u->op == SK_OP_DEPTHWISE) {
        fill_matrix(s, unit, us->ka, us->forward);
        if (f) sk_quantize_weights(us->forward, u->kernel * u->kernel, u->out_c, 1, f->per_tensor, read_by(s, u));
        return;
    }
    fill_matrix(s, unit, us->ka, matrix);
    if (f) sk_quantize_weights(matrix, u->out_c, depth, 0, f->per_tensor, NULL);
    s->k->gemm_pack(us->forward, u->out_c, depth, matrix, depth, 1);
    if (u->op != SK_OP_CONV) s->k->gemm_pack(us->backward, depth, u->out_c, matrix, 1, depth);
}

/* z = ka (W x - mean) + beta and G, the sum of dz x' over the batch: dW = ka G, and as y = W x, gamma's gradient is the
 * sum of dz (y - mean) invstd = (W G - mean sum of dz) invstd, row by row. */
void sk_step_unfold(sk_step *s, int unit, sk_real *raw) {
    const sk_unit *u = &s->net->units[unit];
    const sk_param *p = &s->net->params[u->param];
    const sk_unit_state *us = &s->units[unit];
    const double *d_beta = s->sums + us->sums_at;
    double *products = s->sums + us->sums_at + u->out_c;
    sk_real *matrix = s->matrix + us->partial_at, *d_gamma = sk_step_grad(s, u->param + SK_GAMMA);

    fill_matrix(s, unit, NULL, matrix);
    memset(products, 0, (size_t)u->out_c * sizeof *products);
    for (size_t r = 0; r < row_count(u); r++, matrix += row_width(u), raw += row_width(u)) {
        const int depthwise = u->op == SK_OP_DEPTHWISE;

        for (size_t j = 0; j < row_width(u); j++) products[depthwise ? j : r] += (double)matrix[j] * (double)raw[j];
        scale_row(u, r, us->ka, raw);
    }
    for (int c = 0; c < u->out_c; c++)
        d_gamma[c] = (sk_real)((products[c] - (double)p[SK_MEAN].data[c] * d_beta[c]) * (double)us->invstd[c]);
}

/* ---- the step -------------------------------------------------------------------------------------------------- */
static void through(sk_step *s, const sk_pass *passes, int count, int chunk, int first, int last,
                    sk_real *const *scratch) {
    for (int p = 0; p < count; p++) passes[p].work(s, passes[p].index, chunk, first, last, scratch);
}

static void fold(sk_step *s) {
#pragma omp parallel for num_threads(s->threads) schedule(dynamic, 1)
    for (int i = s->net->unit_count - 1; i >= 0; i--) fold_unit(s, i); /* the last are the largest */
}

void sk_step_run_frozen(sk_step *s) {
    const int threads = sk_step_chunk_threads(s);

    fold(s);
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (int chunk = s->first; chunk < s->last; chunk++) {
        const sk_scratch scratch = sk_step_begin(s, chunk, s->sums_size, s->partial_size);
        const int end = sk_step_first(s, chunk + 1), slot = omp_get_thread_num() * SK_FROZEN_PICTURES;

        for (int i = sk_step_first(s, chunk); i < end; i += SK_FROZEN_PICTURES) {
            const int last = i + SK_FROZEN_PICTURES < end ? i + SK_FROZEN_PICTURES : end;

            for (int j = i; j < last; j++) s->slot[j] = slot + j - i;
            through(s, s->forward, s->forward_count, chunk, i, last, scratch.at);
            through(s, s->backward, s->backward_count, chunk, i, last, scratch.at);
        }
    }
    for (int p = 0; p < s->backward_count; p++) s->backward[p].finish(s, s->backward[p].index);
    if (s->options.fake) sk_step_finish_ends(s);
}

void sk_step_forward_frozen(sk_step *s) {
    const int threads = sk_step_chunk_threads(s);

    fold(s);
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (int chunk = s->first; chunk < s->last; chunk++) {
        const sk_scratch scratch = sk_step_begin(s, chunk, 0, 0);
        const int end = sk_step_first(s, chunk + 1), slot = omp_get_thread_num() * SK_FROZEN_PICTURES;

        for (int i = sk_step_first(s, chunk); i < end; i += SK_FROZEN_PICTURES) {
            const int last = i + SK_FROZEN_PICTURES < end ? i + SK_FROZEN_PICTURES : end;

            for (int j = i; j < last; j++) s->slot[j] = slot + j - i;
            through(s, s->forward, s->forward_count, chunk, i, last, scratch.at);
            sk_step_answer(s, i, last, 0);
        }
    }
}
