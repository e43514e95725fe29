/* SPDX-License-Identifier: Apache-2.0 */
/* Training forward. Batch norm forces a stop of all threads after each convolution; between two stops each picture goes
 * through "normalise + activate what the last convolution wrote, next convolution, sums for its batch norm" in cache.
 */
#include <math.h>
#include <string.h>

#include "net/step.h"

void sk_step_activate(const sk_step *s, int unit, int i, sk_real *out) {
    const sk_unit *u = &s->net->units[unit];
    const sk_bn bn = sk_step_bn(s, unit);

    s->k->bn_forward(sk_step_y(s, unit, i), (int)sk_unit_rows(u), u->out_c, &bn, u->act, NULL, out);
}

const sk_real *sk_step_block_input(const sk_step *s, int b, int i, sk_real *buf) {
    if (b < 1) {
        sk_step_activate(s, 0, i, buf);
        return buf;
    }
    return s->blocks[b - 1].out + (size_t)i * sk_unit_size(&s->net->units[s->net->blocks[b - 1].project]);
}

void sk_step_stem_rows(const sk_step *s, int i, int row, int end, sk_real *out) {
    const int side = s->net->card.size;

    s->k->im2col_u8(s->images + (size_t)i * (size_t)side * (size_t)side * 3, side, side, s->lut, row, end, out,
                    SK_STEM_LD);
}

static void add_sums(sk_step *s, int unit, int chunk, int i) {
    const sk_unit *u = &s->net->units[unit];
    double *sums = sk_step_sums(s, chunk);

    s->k->bn_sums(sk_step_y(s, unit, i), (int)sk_unit_rows(u), u->out_c, sk_step_y(s, unit, sk_step_first(s, chunk)),
                  sums, sums + u->out_c);
}

static void pointwise(sk_step *s, int unit, int chunk, int i, const sk_real *x) {
    const sk_unit *u = &s->net->units[unit];
    const sk_gemm g = {.m = (int)sk_unit_rows(u),
                       .n = u->out_c,
                       .k = u->in_c,
                       .a = x,
                       .lda = u->in_c,
                       .packed = s->units[unit].forward,
                       .c = sk_step_y(s, unit, i),
                       .ldc = u->out_c};

    s->k->gemm(&g);
    add_sums(s, unit, chunk, i);
}

/* Writes the output of block b: its projection normalised, plus its input where it is residual. */
static const sk_real *block_output(sk_step *s, int b, int i, sk_real *buf) {
    const sk_block *block = &s->net->blocks[b];
    const sk_unit *u = &s->net->units[block->project];
    const sk_bn bn = sk_step_bn(s, block->project);
    sk_real *out = s->blocks[b].out + (size_t)i * sk_unit_size(u);

    s->k->bn_forward(sk_step_y(s, block->project, i), (int)sk_unit_rows(u), u->out_c, &bn, SK_ACT_NONE,
                     block->residual ? sk_step_block_input(s, b, i, buf) : NULL, out);
    return out;
}

/* Input of block b, written now if it is a block's output. */
static const sk_real *fresh_input(sk_step *s, int b, int i, sk_real *buf) {
    return b < 1 ? sk_step_block_input(s, 0, i, buf) : block_output(s, b - 1, i, buf);
}

static void work_stem(sk_step *s, int index, int chunk, int first, int last, sk_real *const *scratch) {
    const sk_unit *u = &s->net->units[0];

    (void)index;
    for (int i = first; i < last; i++) {
        for (int row = 0; row < u->out_side; row += SK_STEM_ROWS) {
            const int end = row + SK_STEM_ROWS < u->out_side ? row + SK_STEM_ROWS : u->out_side;
            const size_t at = (size_t)row * (size_t)(u->out_side * u->out_c);
            const sk_gemm g = {.m = (end - row) * u->out_side,
                               .n = u->out_c,
                               .k = 27,
                               .a = scratch[0],
                               .lda = SK_STEM_LD,
                               .packed = s->units[0].forward,
                               .c = sk_step_y(s, 0, i) + at,
                               .ldc = u->out_c};

            sk_step_stem_rows(s, i, row, end, scratch[0]);
            s->k->gemm(&g);
        }
        add_sums(s, 0, chunk, i);
    }
}

static void work_expand(sk_step *s, int b, int chunk, int first, int last, sk_real *const *scratch) {
    for (int i = first; i < last; i++)
        pointwise(s, s->net->blocks[b].expand, chunk, i, fresh_input(s, b, i, scratch[0]));
}

static void work_depthwise(sk_step *s, int b, int chunk, int first, int last, sk_real *const *scratch) {
    const sk_block *block = &s->net->blocks[b];
    const sk_unit *u = &s->net->units[block->dw];
    const sk_dw d = sk_unit_dw(u);

    for (int i = first; i < last; i++) {
        const sk_real *x = scratch[0];

        if (block->expand >= 0) sk_step_activate(s, block->expand, i, scratch[0]);
        else x = fresh_input(s, b, i, scratch[0]);
        s->k->dw_forward(&d, x, 0, s->units[block->dw].forward, NULL, SK_ACT_NONE, 0, d.oh, sk_step_y(s, block->dw, i));
        add_sums(s, block->dw, chunk, i);
    }
}

/* Squeeze, two small layers, gate: kept for the backward pass; a becomes a * gate. */
static void squeeze(sk_step *s, int b, int i, sk_real *a) {
    const sk_block *block = &s->net->blocks[b];
    const sk_block_state *bs = &s->blocks[b];
    const sk_unit *dw = &s->net->units[block->dw];
    const int c = dw->out_c, q = block->squeeze, rows = (int)sk_unit_rows(dw);
    const size_t at_c = (size_t)i * (size_t)c, at_q = (size_t)i * (size_t)q;
    const sk_param *p = &s->net->params[block->se_param];
    const sk_gemm fc1 = {.m = 1,
                         .n = q,
                         .k = c,
                         .a = bs->pooled + at_c,
                         .lda = c,
                         .packed = bs->fc1,
                         .bias = p[1].data,
                         .c = bs->squeezed + at_q,
                         .ldc = q};
    const sk_gemm fc2 = {.m = 1,
                         .n = c,
                         .k = q,
                         .a = bs->relu + at_q,
                         .lda = q,
                         .packed = bs->fc2,
                         .bias = p[3].data,
                         .c = bs->gate_in + at_c,
                         .ldc = c};

    s->k->pool(a, rows, c, bs->pooled + at_c);
    s->k->gemm(&fc1);
    s->k->act((size_t)q, bs->squeezed + at_q, SK_ACT_RELU, bs->relu + at_q);
    s->k->gemm(&fc2);
    s->k->act((size_t)c, bs->gate_in + at_c, SK_ACT_HSIGMOID, bs->gate + at_c);
    s->k->scale(a, rows, c, bs->gate + at_c, a);
}

static void work_project(sk_step *s, int b, int chunk, int first, int last, sk_real *const *scratch) {
    const sk_block *block = &s->net->blocks[b];

    for (int i = first; i < last; i++) {
        sk_step_activate(s, block->dw, i, scratch[0]);
        if (block->squeeze) squeeze(s, b, i, scratch[0]);
        pointwise(s, block->project, chunk, i, scratch[0]);
    }
}

static void work_head(sk_step *s, int index, int chunk, int first, int last, sk_real *const *scratch) {
    (void)index;
    for (int i = first; i < last; i++)
        pointwise(s, s->net->head, chunk, i, block_output(s, s->net->block_count - 1, i, scratch[0]));
}

static void work_pool(sk_step *s, int index, int chunk, int first, int last, sk_real *const *scratch) {
    const sk_unit *u = &s->net->units[s->net->head];

    (void)index;
    (void)chunk;
    for (int i = first; i < last; i++) {
        sk_step_activate(s, s->net->head, i, scratch[0]);
        s->k->pool(scratch[0], (int)sk_unit_rows(u), u->out_c, s->features + (size_t)i * (size_t)u->out_c);
    }
}

/* Mean and variance of channel c: each chunk counted from its own origin; its sums are moved to a common one. */
static void combine(const sk_step *s, int unit, int c, double *mean, double *variance) {
    const int channels = s->net->units[unit].out_c;
    const double rows = (double)sk_unit_rows(&s->net->units[unit]), count = (double)s->n * rows;
    const double common = (double)sk_step_y(s, unit, 0)[c];
    double sum = 0, squares = 0;

    for (int chunk = 0; chunk < s->chunks; chunk++) {
        const int first = sk_step_first(s, chunk), last = sk_step_first(s, chunk + 1);
        const double *sums = sk_step_sums(s, chunk), move = (double)sk_step_y(s, unit, first)[c] - common;
        const double part = (last - first) * rows;

        sum += sums[c] + part * move;
        squares += sums[channels + c] + 2 * move * sums[c] + part * move * move;
    }
    *mean = common + sum / count;
    *variance = squares / count - (sum / count) * (sum / count);
    *variance = *variance > 0 ? *variance : 0;
}

static void normalise(sk_unit_state *us, const sk_param *p, int c, double mean, double variance) {
    const double invstd = 1 / sqrt(variance + SK_BN_EPS), gamma = (double)p[SK_GAMMA].data[c];

    us->mean[c] = (sk_real)mean;
    us->invstd[c] = (sk_real)invstd;
    us->scale[c] = (sk_real)(gamma * invstd);
    us->shift[c] = (sk_real)((double)p[SK_BETA].data[c] - mean * gamma * invstd);
}

/* Statistics of the batch from the chunks' sums; running ones move towards them (variance unbiased, as torch does). */
static void finish_statistics(sk_step *s, int unit) {
    const sk_unit *u = &s->net->units[unit];
    sk_unit_state *us = &s->units[unit];
    sk_param *p = &s->net->params[u->param];
    const double count = (double)s->n * (double)sk_unit_rows(u);

    for (int c = 0; c < u->out_c; c++) {
        double mean, variance;

        if (s->options.freeze_bn) {
            normalise(us, p, c, (double)p[SK_MEAN].data[c], (double)p[SK_VAR].data[c]);
            continue;
        }
        combine(s, unit, c, &mean, &variance);
        normalise(us, p, c, mean, variance);
        if (count > 1) variance *= count / (count - 1);
        p[SK_MEAN].data[c] = (sk_real)((1 - SK_BN_MOMENTUM) * (double)p[SK_MEAN].data[c] + SK_BN_MOMENTUM * mean);
        p[SK_VAR].data[c] = (sk_real)((1 - SK_BN_MOMENTUM) * (double)p[SK_VAR].data[c] + SK_BN_MOMENTUM * variance);
    }
}

static void run_unit(sk_step *s, int unit, int index, sk_step_work work) {
    memset(s->sums, 0, (size_t)SK_CHUNKS * s->sums_size * sizeof *s->sums);
    sk_step_parallel(s, index, work);
    finish_statistics(s, unit);
}

void sk_step_forward(sk_step *s) {
    const sk_net *net = s->net;

    run_unit(s, 0, 0, work_stem);
    for (int b = 0; b < net->block_count; b++) {
        if (net->blocks[b].expand >= 0) run_unit(s, net->blocks[b].expand, b, work_expand);
        run_unit(s, net->blocks[b].dw, b, work_depthwise);
        run_unit(s, net->blocks[b].project, b, work_project);
    }
    run_unit(s, net->head, 0, work_head);
    sk_step_parallel(s, 0, work_pool);
}
