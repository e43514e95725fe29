/* SPDX-License-Identifier: Apache-2.0 */
/* Training forward: the passes of a block. "statistics" writes the block's input and adds up what the batch norm of the
 * wide unit above it needs; "depthwise" widens the input, activates and convolves it, all in cache; "project" brings it
 * down again. */
#include <string.h>

#include "net/step.h"

/* ---- wide units ---------------------------------------------------------------------------------------------- */
/* The column that fills up a row is left as it is found. */
static void round_rows(const sk_quantizer *q, int rows, sk_real *x) {
    for (int r = 0; r < rows; r++, x += SK_STEM_LD) sk_quantize_values(q, 1, SK_STEM_DEPTH, x, SK_ACT_NONE, x);
}

int sk_step_stem_rows(const sk_step *s, int i, int row, sk_real *out) {
    const int side = s->net->card.size, out_side = s->net->units[0].out_side;
    const int end = row + SK_STEM_ROWS < out_side ? row + SK_STEM_ROWS : out_side;
    const sk_stem stem = {.h = side, .w = side, .mean = s->mean, .gain = s->gain};

    s->k->im2col_u8(&stem, s->images + (size_t)i * (size_t)side * (size_t)side * 3, row, end,
                    out + SK_STEM_ROWS * SK_STEM_LD * out_side, out, SK_STEM_LD);
    if (s->options.fake) round_rows(&s->options.fake->input, (end - row) * out_side, out);
    return (end - row) * out_side;
}

/* y of pictures first..last-1: before batch norm, or after the activation if `folded`. */
static void widen(const sk_step *s, int unit, int folded, int first, int last, sk_real *y, sk_real *rows) {
    const sk_unit *u = &s->net->units[unit];
    const sk_unit_state *us = &s->units[unit];
    sk_gemm g = {.m = (last - first) * (int)sk_unit_rows(u),
                 .n = u->out_c,
                 .k = sk_step_depth(u),
                 .a = unit ? sk_step_x(s, unit, first) : rows,
                 .lda = unit ? u->in_c : SK_STEM_LD,
                 .packed = folded ? us->folded : us->forward,
                 .bias = folded ? us->shift : us->bias,
                 .act = folded ? u->act : us->fused,
                 .c = y,
                 .ldc = u->out_c};

    if (unit) {
        s->k->gemm(&g);
        return;
    }
    for (int i = first; i < last; i++)
        for (int row = 0; row < u->out_side; row += SK_STEM_ROWS) {
            g.m = sk_step_stem_rows(s, i, row, rows);
            s->k->gemm(&g);
            g.c += (size_t)g.m * (size_t)u->out_c;
        }
}

const sk_real *sk_step_wide_y(const sk_step *s, int unit, int first, int last, sk_real *buf, sk_real *rows) {
    if (sk_step_keeps(s, unit)) return sk_step_y(s, unit, first);
    widen(s, unit, 0, first, last, buf, rows);
    return buf;
}

const sk_real *sk_step_activate(const sk_step *s, int unit, const sk_real *y, int pictures, sk_real *buf) {
    const sk_unit *u = &s->net->units[unit];
    const sk_bn bn = sk_step_bn(s, unit);

    if (s->options.fake) {
        sk_quantize_values(&s->options.fake->output[u->layer], pictures * (int)sk_unit_rows(u), u->out_c, y,
                           s->units[unit].fused ? SK_ACT_NONE : u->act, buf);
        return buf;
    }
    if (s->units[unit].fused) return y;
    s->k->bn_forward(y, pictures * (int)sk_unit_rows(u), u->out_c, &bn, u->act, NULL, buf);
    return buf;
}

/* Activation of a wide unit, in buf or where it is kept. */
static const sk_real *widen_and_activate(const sk_step *s, int unit, int first, int last, sk_real *buf, sk_real *rows) {
    if (!sk_step_keeps(s, unit)) {
        widen(s, unit, 1, first, last, buf, rows);
        return buf;
    }
    widen(s, unit, 0, first, last, sk_step_y(s, unit, first), rows);
    return sk_step_activate(s, unit, sk_step_y(s, unit, first), last - first, buf);
}

/* ---- statistics ------------------------------------------------------------------------------------------------ */
/* Products of the columns of x, added up in sk_real for some rows, then in double. */
typedef struct scatter {
    const sk_step *s;
    double *to; /* [depth][depth], then [depth]: sums of the columns */
    sk_real *part;
    int depth, rows;
} scatter;

static void scatter_flush(scatter *sc) {
    const size_t d = (size_t)sc->depth, count = d * (d + 1);

    for (size_t j = 0; j < d; j++) /* what is below the diagonal follows when all is added up */
        for (size_t p = j; p < d; p++) sc->to[j * d + p] += (double)sc->part[j * d + p];
    for (size_t i = d * d; i < count; i++) sc->to[i] += (double)sc->part[i];
    memset(sc->part, 0, (count + 1) * sizeof *sc->part); /* the stem's row stride is one more than its depth */
    sc->rows = 0;
}

static void scatter_add(scatter *sc, const sk_real *x, int ldx, int rows) {
    sc->s->k->gram(rows, sc->depth, x, ldx, sc->part);
    sc->s->k->column_sums(x, rows, ldx, sc->part + (size_t)sc->depth * (size_t)sc->depth);
    sc->rows += rows;
    if (sc->rows >= SK_SCATTER_ROWS) scatter_flush(sc);
}

static void work_stem_statistics(sk_step *s, int index, int chunk, int first, int last, sk_real *const *scratch) {
    const sk_unit *u = &s->net->units[0];
    scatter sc = {s, sk_step_sums(s, chunk, 0), scratch[1], SK_STEM_DEPTH, 0};

    (void)index;
    if (s->options.freeze_bn) return;
    memset(sc.part, 0, (size_t)SK_STEM_LD * SK_STEM_LD * sizeof *sc.part);
    for (int i = first; i < last; i++)
        for (int row = 0; row < u->out_side; row += SK_STEM_ROWS)
            scatter_add(&sc, scratch[0], SK_STEM_LD, sk_step_stem_rows(s, i, row, scratch[0]));
    scatter_flush(&sc);
}

/* What block b adds to its projection, or NULL. */
static const sk_real *shortcut(const sk_step *s, int b, int first, int last, sk_real *buf, sk_real *rows) {
    if (!s->net->blocks[b].residual) return NULL;
    if (b) return sk_step_x(s, s->net->blocks[b].expand, first);
    return sk_step_activate(s, 0, sk_step_wide_y(s, 0, first, last, buf, rows), last - first, buf);
}

/* Output of block b, pictures first..last-1: its projection normalised, plus its input where it is residual. */
static void block_output(const sk_step *s, int b, int first, int last, sk_real *const *scratch) {
    const int unit = s->net->blocks[b].project;
    const sk_unit *u = &s->net->units[unit];
    const sk_bn bn = sk_step_bn(s, unit);

    s->k->bn_forward(sk_step_y(s, unit, first), (last - first) * (int)sk_unit_rows(u), u->out_c, &bn, SK_ACT_NONE,
                     shortcut(s, b, first, last, scratch[0], scratch[3]), sk_step_out(s, b, first));
}

static void work_statistics(sk_step *s, int index, int chunk, int first, int last, sk_real *const *scratch) {
    const int unit = sk_step_wide(s, index);
    const sk_unit *u = &s->net->units[unit], *below = &s->net->units[s->net->blocks[index - 1].project];
    scatter sc = {s, sk_step_sums(s, chunk, unit), scratch[1], u->in_c, 0};

    if (s->options.freeze_bn) return; /* the projection has written the output of its block */
    memset(sc.part, 0, (size_t)u->in_c * (size_t)(u->in_c + 1) * sizeof *sc.part);
    for (int i = first, end; i < last; i = end) {
        end = sk_step_group(i, last, sk_unit_size(below));
        block_output(s, index - 1, i, end, scratch);
        scatter_add(&sc, sk_step_x(s, unit, i), u->in_c, (end - i) * (int)sk_unit_rows(below));
    }
    scatter_flush(&sc);
}

/* Sums of a unit whose output is kept, around a row of the chunk. */
static void add_sums(sk_step *s, int unit, int chunk, int i, int end) {
    const sk_unit *u = &s->net->units[unit];
    double *sums = sk_step_sums(s, chunk, unit);

    if (s->options.freeze_bn) return;
    s->k->bn_sums(sk_step_y(s, unit, i), (end - i) * (int)sk_unit_rows(u), u->out_c,
                  sk_step_y(s, unit, sk_step_first(s, chunk)), sums, sums + u->out_c);
}

/* Does the depthwise convolution read what is kept of a wide unit, and activate it itself? */
static int reads_raw(const sk_step *s, int unit) {
    return sk_step_keeps(s, unit) && !s->units[unit].fused && !s->options.fake;
}

/* ---- convolutions ---------------------------------------------------------------------------------------------- */
static void work_depthwise(sk_step *s, int index, int chunk, int first, int last, sk_real *const *scratch) {
    const int wide = sk_step_wide(s, index), unit = s->net->blocks[index].dw;
    const sk_unit *u = &s->net->units[wide];
    const sk_unit_state *us = &s->units[unit];
    const sk_bn bn = sk_step_bn(s, wide);
    const int raw = reads_raw(s, wide);
    sk_dw d = sk_unit_dw(&s->net->units[unit]);

    if (raw) d.bn = &bn, d.act = u->act;
    for (int i = first, end; i < last; i = end) {
        const sk_real *a;

        end = sk_step_group(i, last, sk_unit_size(u));
        if (raw) widen(s, wide, 0, i, end, sk_step_y(s, wide, i), scratch[3]);
        a = raw ? sk_step_y(s, wide, i) : widen_and_activate(s, wide, i, end, scratch[0], scratch[3]);
        for (int j = i; j < end; j++)
            s->k->dw_forward(&d, a + (size_t)(j - i) * sk_unit_size(u), 0, us->forward, us->bias, us->fused, 0, d.oh,
                             sk_step_y(s, unit, j));
        add_sums(s, unit, chunk, i, end);
    }
}

void sk_step_gate(const sk_step *s, int b, int first, int last, const sk_real *a, sk_real *out) {
    const sk_unit *dw = &s->net->units[s->net->blocks[b].dw];

    for (int i = first; i < last; i++) {
        const size_t at = (size_t)(i - first) * sk_unit_size(dw);

        s->k->scale(a + at, (int)sk_unit_rows(dw), dw->out_c, s->blocks[b].gate + (size_t)i * (size_t)dw->out_c,
                    out + at);
    }
}

void sk_step_gate_in(const sk_step *s, int b, int first, int last, sk_real *out) {
    const sk_block *block = &s->net->blocks[b];
    const int c = s->net->units[block->dw].out_c, layer = block->se_layer + 2;
    const size_t at = (size_t)first * (size_t)c, count = (size_t)(last - first) * (size_t)c;
    const sk_real *from = s->blocks[b].gate_in + at;

    if (s->options.fake) sk_quantize_values(&s->options.fake->before[layer], last - first, c, from, SK_ACT_NONE, out);
    else memcpy(out, from, count * sizeof *out);
}

/* Squeeze, two small layers, gate, all kept for the backward pass; out = a * gate. */
static void squeeze(const sk_step *s, int b, int first, int last, const sk_real *a, sk_real *out) {
    const sk_block *block = &s->net->blocks[b];
    const sk_block_state *bs = &s->blocks[b];
    const sk_unit *dw = &s->net->units[block->dw];
    const sk_param *p = &s->net->params[block->se_param];
    const int c = dw->out_c, q = block->squeeze, rows = (int)sk_unit_rows(dw), pictures = last - first;
    const size_t at_c = (size_t)first * (size_t)c, at_q = (size_t)first * (size_t)q;

    for (int i = 0; i < pictures; i++)
        s->k->pool(a + (size_t)i * sk_unit_size(dw), rows, c, bs->pooled + at_c + (size_t)i * (size_t)c);
    if (bs->exact) memcpy(bs->exact + at_c, bs->pooled + at_c, (size_t)(pictures * c) * sizeof *bs->exact);
    sk_step_round(s, block->se_layer, pictures, bs->pooled + at_c);
    sk_step_linear(s, pictures, bs->pooled + at_c, c, bs->fc1, p[1].data, q, bs->squeezed + at_q);
    s->k->act((size_t)(pictures * q), bs->squeezed + at_q, SK_ACT_RELU, bs->relu + at_q);
    sk_step_round(s, block->se_layer + 1, pictures, bs->relu + at_q);
    sk_step_linear(s, pictures, bs->relu + at_q, q, bs->fc2, p[3].data, c, bs->gate_in + at_c);
    sk_step_gate_in(s, b, first, last, bs->gate + at_c);
    sk_step_act(s, block->se_layer + 2, pictures, bs->gate + at_c, SK_ACT_HSIGMOID);
    sk_step_gate(s, b, first, last, a, out);
}

/* Output of block b from its projection: both are rounded, and so is their sum. */
static void join(const sk_step *s, int b, int first, int last, sk_real *const *scratch) {
    const sk_block *block = &s->net->blocks[b];
    const sk_unit *u = &s->net->units[block->project];
    const int rows = (last - first) * (int)sk_unit_rows(u);
    sk_real *out = sk_step_out(s, b, first), *sum = sk_step_sum(s, b, first);

    sk_quantize_values(&s->options.fake->output[u->layer], rows, u->out_c, sk_step_y(s, block->project, first),
                       SK_ACT_NONE, out);
    if (!block->residual) return;
    s->k->add((size_t)rows * (size_t)u->out_c, out, shortcut(s, b, first, last, scratch[1], scratch[3]), sum);
    sk_quantize_values(&s->options.fake->output[block->add_layer], rows, u->out_c, sum, SK_ACT_NONE, out);
}

/* With frozen statistics the projection writes the block's output at once. */
static void work_project(sk_step *s, int b, int chunk, int first, int last, sk_real *const *scratch) {
    const sk_block *block = &s->net->blocks[b];
    const sk_unit *dw = &s->net->units[block->dw], *u = &s->net->units[block->project];
    const sk_unit_state *us = &s->units[block->project];
    const int at_once = s->options.freeze_bn && !s->options.fake;

    for (int i = first, end; i < last; i = end) {
        sk_gemm g = {.n = u->out_c, .k = u->in_c, .lda = u->in_c, .packed = us->forward, .ldc = u->out_c};

        end = sk_step_group(i, last, sk_unit_size(dw));
        g.m = (end - i) * (int)sk_unit_rows(u);
        g.a = sk_step_activate(s, block->dw, sk_step_y(s, block->dw, i), end - i, scratch[0]);
        if (block->squeeze) {
            squeeze(s, b, i, end, g.a, scratch[0]);
            sk_step_round(s, block->se_layer + 3, (end - i) * (int)sk_unit_rows(dw), scratch[0]);
            g.a = scratch[0];
        }
        g.bias = us->bias;
        g.add = at_once ? shortcut(s, b, i, end, scratch[1], scratch[3]) : NULL;
        g.c = at_once ? sk_step_out(s, b, i) : sk_step_y(s, block->project, i);
        s->k->gemm(&g);
        if (s->options.fake) join(s, b, i, end, scratch);
        add_sums(s, block->project, chunk, i, end);
    }
}

/* The head up to the pooled features. */
static void work_pool(sk_step *s, int index, int chunk, int first, int last, sk_real *const *scratch) {
    const int unit = s->net->head;
    const sk_unit *u = &s->net->units[unit];

    (void)index;
    (void)chunk;
    for (int i = first, end; i < last; i = end) {
        const sk_real *a;

        end = sk_step_group(i, last, sk_unit_size(u));
        a = widen_and_activate(s, unit, i, end, scratch[0], NULL);
        for (int j = i; j < end; j++)
            s->k->pool(a + (size_t)(j - i) * sk_unit_size(u), (int)sk_unit_rows(u), u->out_c,
                       s->features + (size_t)j * (size_t)u->out_c);
    }
    if (!s->options.fake) return;
    const size_t at = (size_t)first * (size_t)u->out_c;
    memcpy(s->exact_features + at, s->features + at, (size_t)((last - first) * u->out_c) * sizeof *s->features);
    sk_step_round(s, s->net->pool_layer, last - first, s->features + at);
}

/* ---- the list -------------------------------------------------------------------------------------------------- */
static void finish_wide(sk_step *s, int index) { sk_step_finish_wide(s, sk_step_wide(s, index)); }
static void finish_depthwise(sk_step *s, int b) { sk_step_finish_statistics(s, s->net->blocks[b].dw); }
static void finish_project(sk_step *s, int b) { sk_step_finish_statistics(s, s->net->blocks[b].project); }

static void list(sk_step *s, sk_pass pass, size_t sums) {
    pass.sums = sums;
    s->forward[s->forward_count++] = pass;
}

void sk_step_list_forward(sk_step *s) {
    const sk_net *net = s->net;

    for (int b = 0; b <= net->block_count; b++) {
        const sk_block *block = &net->blocks[b];
        const int wide = sk_step_wide(s, b);
        const size_t depth = (size_t)sk_step_depth(&net->units[wide]);

        list(s, (sk_pass){"statistics", b, wide, b ? work_statistics : work_stem_statistics, finish_wide},
             depth * (depth + 1));
        if (b == net->block_count) break;
        list(s, (sk_pass){"depthwise", b, block->dw, work_depthwise, finish_depthwise},
             2 * (size_t)net->units[block->dw].out_c);
        list(s, (sk_pass){"project", b, block->project, work_project, finish_project},
             2 * (size_t)net->units[block->project].out_c);
    }
    list(s, (sk_pass){"pool", net->block_count, net->head, work_pool, NULL}, 0);
}
