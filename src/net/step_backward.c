/* SPDX-License-Identifier: Apache-2.0 */
/* Training backward through the features. As forward, batch norm cuts the work into passes over pictures: a pass
 * applies the batch norm gradient whose sums the last pass made, forms the weight gradient with the activation made
 * again, sends the gradient through the convolution and adds up the sums for the next batch norm while the values are
 * in cache. */
#include <string.h>

#include "net/step.h"

static sk_real *narrow(const sk_step *s, int i) { return s->grad_narrow + (size_t)i * s->narrow_size; }
static sk_real *wide(const sk_step *s, int i) { return s->grad_wide + (size_t)i * s->wide_size; }
static sk_real *deep(const sk_step *s, int i) { return s->grad_deep + (size_t)i * s->deep_size; }

/* da of picture i becomes dz in place (dz NULL: sums only, no activation). */
static void bn_sums(sk_step *s, int unit, int chunk, int i, const sk_real *da, sk_real *dz) {
    const sk_unit *u = &s->net->units[unit];
    const sk_bn bn = sk_step_bn(s, unit);
    double *sums = sk_step_sums(s, chunk);

    s->k->bn_backward_sums(da, sk_step_y(s, unit, i), (int)sk_unit_rows(u), u->out_c, &bn, u->act, dz, sums,
                           sums + u->out_c);
}

static void bn_apply(sk_step *s, int unit, int i, const sk_real *dz, sk_real *dy) {
    const sk_unit *u = &s->net->units[unit];
    const sk_unit_state *us = &s->units[unit];

    s->k->bn_backward(dz, sk_step_y(s, unit, i), (int)sk_unit_rows(u), u->out_c, us->ka, us->kb, us->kc, us->mean, dy);
}

/* dw += dy' x into the chunk's partial; dx = dy W (+ add). */
static void pointwise(sk_step *s, int unit, int chunk, const sk_real *dy, const sk_real *x, const sk_real *add,
                      sk_real *dx) {
    const sk_unit *u = &s->net->units[unit];
    const int rows = (int)sk_unit_rows(u);
    const sk_gemm g = {.m = rows,
                       .n = u->in_c,
                       .k = u->out_c,
                       .a = dy,
                       .lda = u->out_c,
                       .packed = s->units[unit].backward,
                       .add = add,
                       .c = dx,
                       .ldc = u->in_c};

    s->k->gemm_tn(rows, u->out_c, u->in_c, dy, u->out_c, x, u->in_c, sk_step_partial(s, chunk));
    s->k->gemm(&g);
}

static void work_head_sums(sk_step *s, int index, int chunk, int first, int last, sk_real *const *scratch) {
    const sk_unit *u = &s->net->units[s->net->head];
    const int rows = (int)sk_unit_rows(u);

    (void)index;
    for (int i = first; i < last; i++) {
        for (int c = 0; c < u->out_c; c++)
            scratch[0][c] = s->d_features[(size_t)i * (size_t)u->out_c + (size_t)c] / (sk_real)rows;
        s->k->scale_backward(NULL, rows, u->out_c, NULL, scratch[0], deep(s, i));
        bn_sums(s, s->net->head, chunk, i, deep(s, i), deep(s, i));
    }
}

static void work_head(sk_step *s, int index, int chunk, int first, int last, sk_real *const *scratch) {
    const int b = s->net->block_count - 1;

    (void)index;
    for (int i = first; i < last; i++) {
        bn_apply(s, s->net->head, i, deep(s, i), deep(s, i));
        pointwise(s, s->net->head, chunk, deep(s, i), sk_step_block_input(s, b + 1, i, scratch[0]), NULL, narrow(s, i));
        bn_sums(s, s->net->blocks[b].project, chunk, i, narrow(s, i), NULL);
    }
}

/* Gradient through gate and squeeze: d (of a*gate) becomes that of a. dgate: c, hidden: squeeze values of scratch. */
static void squeeze(sk_step *s, int b, int i, const sk_real *a, sk_real *d, sk_real *dgate, sk_real *hidden) {
    const sk_block *block = &s->net->blocks[b];
    const sk_block_state *bs = &s->blocks[b];
    const sk_unit *dw = &s->net->units[block->dw];
    const int c = dw->out_c, q = block->squeeze, rows = (int)sk_unit_rows(dw);
    const size_t at_c = (size_t)i * (size_t)c, at_q = (size_t)i * (size_t)q;
    const sk_gemm fc2 = {
        .m = 1, .n = q, .k = c, .a = bs->d_gate + at_c, .lda = c, .packed = bs->fc2_back, .c = hidden, .ldc = q};
    const sk_gemm fc1 = {
        .m = 1, .n = c, .k = q, .a = bs->d_squeezed + at_q, .lda = q, .packed = bs->fc1_back, .c = dgate, .ldc = c};

    s->k->scale_sums(d, a, rows, c, dgate);
    s->k->act_backward((size_t)c, dgate, bs->gate_in + at_c, SK_ACT_HSIGMOID, bs->d_gate + at_c);
    s->k->gemm(&fc2);
    s->k->act_backward((size_t)q, hidden, bs->squeezed + at_q, SK_ACT_RELU, bs->d_squeezed + at_q);
    s->k->gemm(&fc1);
    for (int j = 0; j < c; j++) dgate[j] /= (sk_real)rows;
    s->k->scale_backward(d, rows, c, bs->gate + at_c, dgate, d);
}

static void work_project(sk_step *s, int b, int chunk, int first, int last, sk_real *const *scratch) {
    const sk_block *block = &s->net->blocks[b];
    const sk_unit *dw = &s->net->units[block->dw];
    const int rows = (int)sk_unit_rows(dw), c = dw->out_c;

    for (int i = first; i < last; i++) {
        const sk_real *x = scratch[1];

        bn_apply(s, block->project, i, narrow(s, i), scratch[0]);
        sk_step_activate(s, block->dw, i, scratch[1]);
        if (block->squeeze) {
            s->k->scale(scratch[1], rows, c, s->blocks[b].gate + (size_t)i * (size_t)c, scratch[2]);
            x = scratch[2];
        }
        pointwise(s, block->project, chunk, scratch[0], x, NULL, deep(s, i));
        if (block->squeeze) squeeze(s, b, i, scratch[1], deep(s, i), scratch[3], scratch[0]);
        bn_sums(s, block->dw, chunk, i, deep(s, i), deep(s, i));
    }
}

static void work_depthwise(sk_step *s, int b, int chunk, int first, int last, sk_real *const *scratch) {
    const sk_block *block = &s->net->blocks[b];
    const sk_dw d = sk_unit_dw(&s->net->units[block->dw]);
    const size_t size = (size_t)d.h * (size_t)d.w * (size_t)d.c;

    for (int i = first; i < last; i++) {
        const sk_real *x = scratch[0];

        if (block->expand >= 0) sk_step_activate(s, block->expand, i, scratch[0]);
        else x = sk_step_block_input(s, b, i, scratch[0]);
        bn_apply(s, block->dw, i, deep(s, i), scratch[1]);
        s->k->dw_backward_weight(&d, scratch[1], x, sk_step_partial(s, chunk));
        s->k->dw_backward_data(&d, scratch[1], s->units[block->dw].backward, wide(s, i));
        if (block->expand >= 0) {
            bn_sums(s, block->expand, chunk, i, wide(s, i), wide(s, i));
        } else { /* the block's input is the stem's activation */
            if (block->residual) s->k->add(size, wide(s, i), narrow(s, i), wide(s, i));
            bn_sums(s, 0, chunk, i, wide(s, i), wide(s, i));
        }
    }
}

static void work_expand(sk_step *s, int b, int chunk, int first, int last, sk_real *const *scratch) {
    const sk_block *block = &s->net->blocks[b];

    for (int i = first; i < last; i++) {
        bn_apply(s, block->expand, i, wide(s, i), scratch[0]);
        pointwise(s, block->expand, chunk, scratch[0], sk_step_block_input(s, b, i, scratch[1]),
                  block->residual ? narrow(s, i) : NULL, narrow(s, i));
        bn_sums(s, s->net->blocks[b - 1].project, chunk, i, narrow(s, i), NULL);
    }
}

static void work_stem(sk_step *s, int index, int chunk, int first, int last, sk_real *const *scratch) {
    const sk_unit *u = &s->net->units[0];
    sk_real *partial = sk_step_partial(s, chunk);

    (void)index;
    for (int i = first; i < last; i++) {
        bn_apply(s, 0, i, wide(s, i), wide(s, i));
        for (int row = 0; row < u->out_side; row += SK_STEM_ROWS) {
            const int end = row + SK_STEM_ROWS < u->out_side ? row + SK_STEM_ROWS : u->out_side;

            sk_step_stem_rows(s, i, row, end, scratch[0]);
            s->k->gemm_tn((end - row) * u->out_side, u->out_c, 27,
                          wide(s, i) + (size_t)row * (size_t)(u->out_side * u->out_c), u->out_c, scratch[0], SK_STEM_LD,
                          partial);
        }
    }
}

/* ---- between the passes ------------------------------------------------------------------------------------ */
/* Gradients of gamma and beta from the chunks' sums, and the three factors of dy = ka dz + kb (y - mean) + kc. */
static void finish_sums(sk_step *s, int unit) {
    const sk_unit *u = &s->net->units[unit];
    sk_unit_state *us = &s->units[unit];
    const sk_param *gamma = &s->net->params[u->param + SK_GAMMA];
    sk_real *d_gamma = sk_step_grad(s, u->param + SK_GAMMA), *d_beta = sk_step_grad(s, u->param + SK_BETA);
    const double count = (double)s->n * (double)sk_unit_rows(u);

    for (int c = 0; c < u->out_c; c++) {
        const double invstd = (double)us->invstd[c], ka = (double)gamma->data[c] * invstd;
        double sum = 0, sum_y = 0;

        for (int chunk = 0; chunk < s->chunks; chunk++) {
            sum += sk_step_sums(s, chunk)[c];
            sum_y += sk_step_sums(s, chunk)[u->out_c + c];
        }
        d_beta[c] = (sk_real)sum;
        d_gamma[c] = (sk_real)(sum_y * invstd);
        us->ka[c] = (sk_real)ka;
        if (s->options.freeze_bn) { /* mean and variance do not depend on the pictures */
            us->kb[c] = us->kc[c] = 0;
            continue;
        }
        us->kb[c] = (sk_real)(-ka * invstd * invstd * sum_y / count);
        us->kc[c] = (sk_real)(-ka * sum / count);
    }
}

/* Where value i of the kernel's layout belongs in torch's: OHWI to OIHW, [k][k][C] to [C][k][k]. */
static size_t torch_index(const sk_unit *u, size_t i) {
    const size_t taps = (size_t)(u->kernel * u->kernel);

    if (u->op == SK_OP_DEPTHWISE) return i % (size_t)u->out_c * taps + i / (size_t)u->out_c;
    if (u->op == SK_OP_CONV) {
        const size_t in = (size_t)u->in_c, o = i / (taps * in), rest = i % (taps * in);

        return o * taps * in + rest % in * taps + rest / in;
    }
    return i;
}

static void finish_weight(sk_step *s, int unit) {
    const sk_unit *u = &s->net->units[unit];
    const size_t count = s->net->params[u->param].count;
    sk_real *to = sk_step_grad(s, u->param);

#pragma omp parallel for num_threads(s->threads) schedule(static) if (count > 20000)
    for (size_t i = 0; i < count; i++) {
        sk_real sum = 0;

        for (int chunk = 0; chunk < s->chunks; chunk++) sum += sk_step_partial(s, chunk)[i];
        to[torch_index(u, i)] = sum;
    }
}

static void run_pass(sk_step *s, int unit, int index, sk_step_work work) {
    const size_t count = unit >= 0 ? s->net->params[s->net->units[unit].param].count : 0;

    memset(s->sums, 0, (size_t)SK_CHUNKS * s->sums_size * sizeof *s->sums);
    for (int chunk = 0; chunk < s->chunks; chunk++) memset(sk_step_partial(s, chunk), 0, count * sizeof(sk_real));
    sk_step_parallel(s, index, work);
    if (unit >= 0) finish_weight(s, unit);
}

static void squeeze_weights(sk_step *s, int b) {
    const sk_block *block = &s->net->blocks[b];
    const sk_block_state *bs = &s->blocks[b];
    const int c = s->net->units[block->dw].out_c, q = block->squeeze, p = block->se_param;

    for (int i = 0; i < 4; i++) memset(sk_step_grad(s, p + i), 0, s->net->params[p + i].count * sizeof(sk_real));
    s->k->gemm_tn(s->n, q, c, bs->d_squeezed, q, bs->pooled, c, sk_step_grad(s, p));
    s->k->column_sums(bs->d_squeezed, s->n, q, sk_step_grad(s, p + 1));
    s->k->gemm_tn(s->n, c, q, bs->d_gate, c, bs->relu, q, sk_step_grad(s, p + 2));
    s->k->column_sums(bs->d_gate, s->n, c, sk_step_grad(s, p + 3));
}

void sk_step_backward(sk_step *s) {
    const sk_net *net = s->net;

    run_pass(s, -1, 0, work_head_sums);
    finish_sums(s, net->head);
    run_pass(s, net->head, 0, work_head);
    for (int b = net->block_count - 1; b >= 0; b--) {
        const sk_block *block = &net->blocks[b];

        finish_sums(s, block->project);
        run_pass(s, block->project, b, work_project);
        if (block->squeeze) squeeze_weights(s, b);
        finish_sums(s, block->dw);
        run_pass(s, block->dw, b, work_depthwise);
        if (block->expand < 0) break; /* only the first block: its input is the stem's */
        finish_sums(s, block->expand);
        run_pass(s, block->expand, b, work_expand);
    }
    finish_sums(s, 0);
    run_pass(s, 0, 0, work_stem);
}
