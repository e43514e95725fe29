/* SPDX-License-Identifier: Apache-2.0 */
/* Training backward through the features, the passes of forward the other way round. "project" takes the gradient of a
 * block's output to that of the depthwise convolution; "depthwise" takes it through the wide unit to the block's
 * input, all in cache; "input" adds what the batch norm of the wide unit contributes, which is a function of the
 * block's input once the sums are known. Weight gradients are formed where both factors are in cache. */
#include <string.h>

#include "net/step.h"

/* Gradients of picture i of a group that begins with picture `first` of a chunk: the pictures of a chunk follow each
 * other without a gap, whatever their size in this layer. */
static sk_real *narrow(const sk_step *s, int first, int i, const sk_unit *u) {
    return s->grad_narrow + (size_t)s->slot[first] * s->narrow_size + (size_t)(i - first) * sk_unit_size(u);
}

static sk_real *deep(const sk_step *s, int first, int i, const sk_unit *u) {
    return s->grad_deep + (size_t)s->slot[first] * s->deep_size + (size_t)(i - first) * sk_unit_size(u);
}

/* The gradient of the projection of block b, which is that of the block's output unless a rounded sum is between. */
static sk_real *branch(const sk_step *s, int b, int first, int i) {
    const sk_unit *u = &s->net->units[s->net->blocks[b].project];

    if (!s->grad_branch || !s->net->blocks[b].residual) return narrow(s, first, i, u);
    return s->grad_branch + (size_t)s->slot[first] * s->narrow_size + (size_t)(i - first) * sk_unit_size(u);
}

/* da of some pictures becomes dz in place (dz NULL: sums only, no activation). */
static void norm_sums(sk_step *s, int unit, int chunk, const sk_real *da, const sk_real *y, int pictures, sk_real *dz) {
    const sk_unit *u = &s->net->units[unit];
    const sk_bn bn = sk_step_bn(s, unit);
    double *sums = sk_step_sums(s, chunk, unit);

    if (s->options.fake) /* dz is da then */
        sk_step_round_backward(s, u->layer, chunk, pictures * (int)sk_unit_rows(u), y,
                               s->units[unit].fused ? SK_ACT_NONE : u->act, dz);
    s->k->bn_backward_sums(da, y, pictures * (int)sk_unit_rows(u), u->out_c, &bn, u->act, dz, sums, sums + u->out_c);
}

/* Gradient before batch norm from the one after it, in buf; with frozen statistics the weights hold batch norm's scale,
 * so that it is dz itself. */
static const sk_real *norm_apply(sk_step *s, int unit, const sk_real *dz, int first, int pictures, sk_real *buf) {
    const sk_unit *u = &s->net->units[unit];
    const sk_unit_state *us = &s->units[unit];

    if (s->options.freeze_bn) return dz;
    s->k->bn_backward(dz, sk_step_y(s, unit, first), pictures * (int)sk_unit_rows(u), u->out_c, us->ka, us->kb, us->kc,
                      us->mean, buf);
    return buf;
}

/* ---- wide units ------------------------------------------------------------------------------------------------ */
/* dz of a wide unit but the stem: its share of the weight gradient, and dx = dz W (+ add). */
static void wide_backward(sk_step *s, int unit, int chunk, int first, int last, const sk_real *dz, const sk_real *add,
                          sk_real *dx) {
    const sk_unit *u = &s->net->units[unit];
    const int rows = (last - first) * (int)sk_unit_rows(u);
    const sk_gemm g = {.m = rows,
                       .n = u->in_c,
                       .k = u->out_c,
                       .a = dz,
                       .lda = u->out_c,
                       .packed = s->units[unit].backward,
                       .add = add,
                       .c = dx,
                       .ldc = u->in_c};

    s->k->gemm_tn(rows, u->out_c, u->in_c, dz, u->out_c, sk_step_x(s, unit, first), u->in_c,
                  sk_step_partial(s, chunk, unit));
    s->k->gemm(&g);
}

static void stem_backward(sk_step *s, int chunk, int i, const sk_real *dz, sk_real *rows) {
    const sk_unit *u = &s->net->units[0];

    for (int row = 0; row < u->out_side; row += SK_STEM_ROWS) {
        const int count = sk_step_stem_rows(s, i, row, rows);

        s->k->gemm_tn(count, u->out_c, SK_STEM_DEPTH, dz, u->out_c, rows, SK_STEM_LD, sk_step_partial(s, chunk, 0));
        dz += (size_t)count * (size_t)u->out_c;
    }
}

/* Classifier, and back through pooling and head. */
static void work_head(sk_step *s, int index, int chunk, int first, int last, sk_real *const *scratch) {
    const int unit = s->net->head;
    const sk_unit *u = &s->net->units[unit], *below = &s->net->units[s->net->blocks[index - 1].project];
    const int rows = (int)sk_unit_rows(u);

    sk_step_classify(s, chunk, first, last);
    if (s->options.fake)
        sk_step_round_backward(s, s->net->pool_layer, chunk, last - first,
                               s->exact_features + (size_t)first * (size_t)u->out_c, SK_ACT_NONE,
                               s->d_features + (size_t)first * (size_t)u->out_c);
    for (int i = first, end; i < last; i = end) {
        const sk_real *y;

        end = sk_step_group(i, last, sk_unit_size(u));
        y = sk_step_wide_y(s, unit, i, end, scratch[2], NULL);
        for (int j = i; j < end; j++) {
            for (int c = 0; c < u->out_c; c++)
                scratch[1][c] = s->d_features[(size_t)j * (size_t)u->out_c + (size_t)c] / (sk_real)rows;
            s->k->scale_backward(NULL, rows, u->out_c, NULL, scratch[1],
                                 scratch[0] + (size_t)(j - i) * sk_unit_size(u));
        }
        norm_sums(s, unit, chunk, scratch[0], y, end - i, scratch[0]);
        wide_backward(s, unit, chunk, i, end, scratch[0], NULL, narrow(s, first, i, below));
    }
}

/* The depthwise convolution of pictures first..last-1. y: of the wide unit. Its gradient comes to lie in da, or with
 * `through` that before its activation, whose sums are made. */
static void depthwise_backward(sk_step *s, int index, int chunk, int first, int last, int through, const sk_real *y,
                               const sk_real *dz, sk_real *da, sk_real *buf) {
    const int wide = sk_step_wide(s, index), unit = s->net->blocks[index].dw;
    const sk_unit *u = &s->net->units[wide], *dw = &s->net->units[unit];
    const sk_bn bn = sk_step_bn(s, wide);
    const sk_dw plain = sk_unit_dw(dw);
    const sk_real *x = s->options.fake ? sk_step_activate(s, wide, y, last - first, da) : y;
    const int active = s->options.fake || s->units[wide].fused; /* x is the activation already */
    const sk_real *dy = norm_apply(s, unit, dz, first, last - first, buf);
    double *sums = sk_step_sums(s, chunk, wide);
    sk_dw activates = plain;

    activates.bn = &bn;
    activates.act = u->act;
    for (int i = 0; i < last - first; i++) {
        const size_t at = (size_t)i * sk_unit_size(u), out = (size_t)i * sk_unit_size(dw);

        s->k->dw_backward_weight(active ? &plain : &activates, dy + out, x + at, sk_step_partial(s, chunk, unit));
        s->k->dw_backward_data(through ? &activates : &plain, dy + out, s->units[unit].backward, x + at, da + at, sums,
                               sums + u->out_c);
    }
}

static void work_depthwise(sk_step *s, int index, int chunk, int first, int last, sk_real *const *scratch) {
    const sk_block *block = &s->net->blocks[index];
    const int wide = sk_step_wide(s, index);
    const sk_unit *u = &s->net->units[wide], *dw = &s->net->units[block->dw];
    const sk_unit *above = &s->net->units[block->project], *below = &s->net->units[block[wide ? -1 : 0].project];
    /* The block's own gradient joins that of the stem before the stem's activation, which rounding makes again. */
    const int through = !s->options.fake && !(block->residual && !wide);

    for (int i = first, end; i < last; i = end) {
        const sk_real *y, *add = NULL;

        end = sk_step_group(i, last, sk_unit_size(u));
        y = sk_step_wide_y(s, wide, i, end, scratch[2], scratch[3]);
        depthwise_backward(s, index, chunk, i, end, through, y, deep(s, first, i, dw), scratch[0], scratch[1]);
        if (block->residual) add = narrow(s, first, i, above);
        if (add && !wide) s->k->add((size_t)(end - i) * sk_unit_size(u), scratch[0], add, scratch[0]);
        if (!through) norm_sums(s, wide, chunk, scratch[0], y, end - i, scratch[0]);
        if (wide) wide_backward(s, wide, chunk, i, end, scratch[0], add, narrow(s, first, i, below));
        for (int j = i; j < end && !wide; j++)
            stem_backward(s, chunk, j, scratch[0] + (size_t)(j - i) * sk_unit_size(u), scratch[3]);
    }
}

/* Gradient of the projection's beta, all that is wanted of its sums with frozen statistics. */
static void beta_sums(sk_step *s, int unit, int chunk, const sk_real *dz, int rows, sk_real *part) {
    const int c = s->net->units[unit].out_c;
    double *sums = sk_step_sums(s, chunk, unit);

    memset(part, 0, (size_t)c * sizeof *part);
    s->k->column_sums(dz, rows, c, part);
    for (int j = 0; j < c; j++) sums[j] += (double)part[j];
}

/* Through the rounding of a block's output and of its projection. */
static void join_backward(sk_step *s, int b, int chunk, int first, int i, int rows) {
    const sk_block *block = &s->net->blocks[b];
    const sk_unit *u = &s->net->units[block->project];
    sk_real *d = narrow(s, first, i, u), *to = branch(s, b, first, i);

    if (block->residual) {
        sk_step_round_backward(s, block->add_layer, chunk, rows, sk_step_sum(s, b, i), SK_ACT_NONE, d);
        memcpy(to, d, (size_t)rows * (size_t)u->out_c * sizeof *d);
    }
    sk_step_round_backward(s, u->layer, chunk, rows, sk_step_y(s, block->project, i), SK_ACT_NONE, to);
}

/* What the wide unit's batch norm adds to the gradient of its input, then the sums of the batch norm below. */
static void work_input(sk_step *s, int index, int chunk, int first, int last, sk_real *const *scratch) {
    const int unit = sk_step_wide(s, index), project = s->net->blocks[index - 1].project;
    const sk_unit_state *us = &s->units[unit];
    const sk_unit *u = &s->net->units[unit], *below = &s->net->units[project];

    for (int i = first, end; i < last; i = end) {
        sk_gemm g = {.n = u->in_c,
                     .k = u->in_c,
                     .lda = u->in_c,
                     .packed = us->inner,
                     .bias = us->offset,
                     .add = narrow(s, first, i, below),
                     .c = narrow(s, first, i, below),
                     .ldc = u->in_c};

        end = sk_step_group(i, last, sk_unit_size(below));
        g.m = (end - i) * (int)sk_unit_rows(below);
        g.a = sk_step_x(s, unit, i);
        if (s->options.freeze_bn) {
            if (s->options.fake) join_backward(s, index - 1, chunk, first, i, g.m);
            beta_sums(s, project, chunk, branch(s, index - 1, first, i), g.m, scratch[0]);
            continue;
        }
        s->k->gemm(&g);
        norm_sums(s, project, chunk, g.c, sk_step_y(s, project, i), end - i, NULL);
    }
}

/* ---- projection ------------------------------------------------------------------------------------------------ */
/* Gradient of the layer before the gate's activation, where its values are rounded; its ends are not learned. */
static void gate_in_backward(const sk_step *s, int b, int first, int last, sk_real *d) {
    const sk_block *block = &s->net->blocks[b];
    const int c = s->net->units[block->dw].out_c;
    double none[2] = {0};

    if (s->options.fake)
        sk_quantize_backward(&s->options.fake->before[block->se_layer + 2], last - first, c,
                             s->blocks[b].gate_in + (size_t)first * (size_t)c, SK_ACT_NONE,
                             (sk_real)(s->options.fake->pull / s->weights), d, none);
}

/* Gradient through gate and squeeze of pictures first..last-1: d (of a*gate) becomes that of a. d_pooled: c values per
 * picture, hidden: squeeze values. */
static void squeeze(const sk_step *s, int b, int chunk, int first, int last, const sk_real *a, sk_real *d,
                    sk_real *d_pooled, sk_real *hidden) {
    const sk_block *block = &s->net->blocks[b];
    const sk_block_state *bs = &s->blocks[b];
    const sk_unit *dw = &s->net->units[block->dw];
    const int c = dw->out_c, q = block->squeeze, rows = (int)sk_unit_rows(dw), pictures = last - first;
    const size_t at_c = (size_t)first * (size_t)c, at_q = (size_t)first * (size_t)q, size = sk_unit_size(dw);
    const size_t nc = (size_t)(pictures * c), nq = (size_t)(pictures * q);

    for (int i = 0; i < pictures; i++)
        s->k->scale_sums(d + (size_t)i * size, a + (size_t)i * size, rows, c, d_pooled + (size_t)(i * c));
    sk_step_gate_in(s, b, first, last, hidden);
    sk_step_round_backward(s, block->se_layer + 2, chunk, pictures, hidden, SK_ACT_HSIGMOID, d_pooled);
    s->k->act_backward(nc, d_pooled, hidden, SK_ACT_HSIGMOID, bs->d_gate + at_c);
    gate_in_backward(s, b, first, last, bs->d_gate + at_c);
    sk_step_linear(s, pictures, bs->d_gate + at_c, c, bs->fc2_back, NULL, q, hidden);
    sk_step_round_backward(s, block->se_layer + 1, chunk, pictures, bs->squeezed + at_q, SK_ACT_RELU, hidden);
    s->k->act_backward(nq, hidden, bs->squeezed + at_q, SK_ACT_RELU, bs->d_squeezed + at_q);
    sk_step_linear(s, pictures, bs->d_squeezed + at_q, q, bs->fc1_back, NULL, c, d_pooled);
    if (bs->exact)
        sk_step_round_backward(s, block->se_layer, chunk, pictures, bs->exact + at_c, SK_ACT_NONE, d_pooled);
    for (size_t i = 0; i < nc; i++) d_pooled[i] /= (sk_real)rows;
    for (int i = 0; i < pictures; i++)
        s->k->scale_backward(d + (size_t)i * size, rows, c, bs->gate + at_c + (size_t)(i * c),
                             d_pooled + (size_t)(i * c), d + (size_t)i * size);
}

static void work_project(sk_step *s, int b, int chunk, int first, int last, sk_real *const *scratch) {
    const sk_block *block = &s->net->blocks[b];
    const sk_unit *dw = &s->net->units[block->dw], *u = &s->net->units[block->project];
    const int scaled = block->se_layer + 3;

    for (int i = first, end; i < last; i = end) {
        const sk_real *dy, *a, *x, *y = sk_step_y(s, block->dw, i);
        sk_real *d = deep(s, first, i, dw);
        int rows, values;

        end = sk_step_group(i, last, sk_unit_size(dw));
        values = (end - i) * (int)sk_unit_rows(dw);
        rows = (end - i) * (int)sk_unit_rows(u);
        dy = norm_apply(s, block->project, branch(s, b, first, i), i, end - i, scratch[0]);
        x = a = sk_step_activate(s, block->dw, y, end - i, scratch[1]);
        if (block->squeeze) {
            sk_step_gate(s, b, i, end, a, scratch[2]);
            x = scratch[2];
            if (s->options.fake) {
                sk_quantize_values(&s->options.fake->output[scaled], values, dw->out_c, x, SK_ACT_NONE, scratch[0]);
                x = scratch[0];
            }
        }
        s->k->gemm_tn(rows, u->out_c, u->in_c, dy, u->out_c, x, u->in_c, sk_step_partial(s, chunk, block->project));
        sk_step_linear(s, rows, dy, u->out_c, s->units[block->project].backward, NULL, u->in_c, d);
        if (block->squeeze) {
            sk_step_round_backward(s, scaled, chunk, values, scratch[2], SK_ACT_NONE, d);
            squeeze(s, b, chunk, i, end, a, d, scratch[3], scratch[0]);
        }
        norm_sums(s, block->dw, chunk, d, y, end - i, d);
    }
}

/* ---- the list -------------------------------------------------------------------------------------------------- */
static void finish_wide(sk_step *s, int index) {
    const int unit = sk_step_wide(s, index);

    sk_step_finish_norm(s, unit);
    sk_step_finish_weight(s, unit);
    if (unit && !s->options.freeze_bn) sk_step_finish_inner(s, unit);
}

static void finish_head(sk_step *s, int index) {
    sk_step_classifier_gradients(s);
    finish_wide(s, index);
}

static void finish_depthwise(sk_step *s, int index) {
    sk_step_finish_weight(s, s->net->blocks[index].dw);
    finish_wide(s, index);
}

static void finish_input(sk_step *s, int index) { sk_step_finish_norm(s, s->net->blocks[index - 1].project); }

static void finish_project(sk_step *s, int b) {
    const sk_block *block = &s->net->blocks[b];
    const sk_block_state *bs = &s->blocks[b];
    const int c = s->net->units[block->dw].out_c, q = block->squeeze, p = block->se_param;

    sk_step_finish_norm(s, block->dw);
    sk_step_finish_weight(s, block->project);
    if (!q) return;
    sk_step_linear_gradients(s, bs->d_squeezed, q, bs->pooled, c, sk_step_grad(s, p), sk_step_grad(s, p + 1));
    sk_step_linear_gradients(s, bs->d_gate, c, bs->relu, q, sk_step_grad(s, p + 2), sk_step_grad(s, p + 3));
}

/* summed: the unit whose sums the pass makes; weights, wide: units whose weight gradients it makes, or -1. */
static void list(sk_step *s, sk_pass pass, int summed, int weights, int wide) {
    pass.sums = 2 * (size_t)s->net->units[summed].out_c;
    if (weights >= 0) pass.partial = sk_step_partial_end(s, weights);
    if (wide >= 0) pass.partial = sk_step_partial_end(s, wide);
    s->backward[s->backward_count++] = pass;
}

void sk_step_list_backward(sk_step *s) {
    const sk_net *net = s->net;
    const int last = net->block_count;

    list(s, (sk_pass){"head", last, net->head, work_head, finish_head}, net->head, -1, net->head);
    for (int b = last - 1; b >= 0; b--) {
        const sk_block *block = &net->blocks[b];
        const int above = sk_step_wide(s, b + 1), wide = sk_step_wide(s, b);

        list(s, (sk_pass){"input", b + 1, above, work_input, finish_input}, block->project, -1, -1);
        list(s, (sk_pass){"project", b, block->project, work_project, finish_project}, block->dw, block->project, -1);
        list(s, (sk_pass){"depthwise", b, block->dw, work_depthwise, finish_depthwise}, wide, block->dw, wide);
    }
}
