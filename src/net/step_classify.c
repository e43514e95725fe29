/* SPDX-License-Identifier: Apache-2.0 */
/* The classifier of a training step: features to logits, loss and back. Its rows are pictures and do not depend on each
 * other, so any group of pictures can go through; only the weight gradients wait for all. */
#include <math.h>
#include <string.h>

#include "net/step.h"

enum { STREAM_DROPOUT = 0x64726f70, WEIGHT_PARTS = 16 };

void sk_step_pack_classifier(sk_step *s) {
    const sk_net *net = s->net;
    const sk_param *p = &net->params[net->classifier];

#pragma omp parallel for num_threads(s->threads) schedule(dynamic, 1)
    for (int i = 0; i < 3; i++) { /* the first two are large */
        const int out = i < 2 ? net->hidden : net->classes, in = i < 2 ? net->features : net->hidden;
        const sk_real *w = i == 1 && !s->linear1_back ? NULL : sk_step_rounded(s, p[i < 2 ? 0 : 2].data, out, in);

        if (i == 0) s->k->gemm_pack(s->linear1, out, in, w, in, 1);
        if (i == 1 && w) s->k->gemm_pack(s->linear1_back, in, out, w, 1, in);
        if (i < 2) continue;
        s->k->gemm_pack(s->linear2, out, in, w, in, 1);
        s->k->gemm_pack(s->linear2_back, in, out, w, 1, in);
    }
}

void sk_step_linear(const sk_step *s, int rows, const sk_real *x, int in, const sk_real *packed, const sk_real *bias,
                    int out, sk_real *y) {
    const sk_gemm g = {
        .m = rows, .n = out, .k = in, .a = x, .lda = in, .packed = packed, .bias = bias, .c = y, .ldc = out};

    s->k->gemm(&g);
}

static void multiply(size_t count, sk_real *x, const sk_real *by) {
    for (size_t i = 0; i < count; i++) x[i] *= by[i];
}

/* Each picture draws its own mask, so that it does not depend on the threads. */
static void draw_dropout(const sk_step *s, int first, int last) {
    const double keep = 1 - s->options.dropout;

    for (int i = first; i < last; i++) {
        sk_rng rng = sk_rng_make(s->seed, STREAM_DROPOUT, (uint64_t)i);
        sk_real *mask = s->dropout + (size_t)i * (size_t)s->net->hidden;

        for (int j = 0; j < s->net->hidden; j++) mask[j] = sk_rng_uniform(&rng) < keep ? (sk_real)(1 / keep) : 0;
    }
}

void sk_step_answer(sk_step *s, int first, int last, int drop) {
    const sk_net *net = s->net;
    const sk_fake *f = s->options.fake;
    const sk_param *p = &net->params[net->classifier];
    const int pictures = last - first, layer = net->pool_layer + 1;
    const size_t at_hidden = (size_t)first * (size_t)net->hidden, at_logits = (size_t)first * (size_t)net->classes;
    const size_t count = (size_t)pictures * (size_t)net->hidden;
    sk_real *hidden = s->hidden + at_hidden, *act = s->hidden_act + at_hidden, *logits = s->logits + at_logits;

    sk_step_linear(s, pictures, s->features + (size_t)first * (size_t)net->features, net->features, s->linear1,
                   p[1].data, net->hidden, hidden);
    if (f) sk_quantize_values(&f->before[layer], pictures, net->hidden, hidden, SK_ACT_NONE, act);
    else memcpy(act, hidden, count * sizeof *act);
    sk_step_act(s, layer, pictures, act, SK_ACT_HSWISH);
    if (drop) {
        draw_dropout(s, first, last);
        multiply(count, act, s->dropout + at_hidden);
    }
    sk_step_linear(s, pictures, act, net->hidden, s->linear2, p[3].data, net->classes, logits);
    if (f) memcpy(s->exact_logits + at_logits, logits, (size_t)(pictures * net->classes) * sizeof *logits);
    sk_step_round(s, layer + 1, pictures, logits);
}

/* Gradient of the hidden layer before its activation from the one after it, in place. */
static void hidden_backward(sk_step *s, int chunk, int first, int last, sk_real *d) {
    const sk_fake *f = s->options.fake;
    const int width = s->net->hidden, pictures = last - first, layer = s->net->pool_layer + 1;
    const size_t count = (size_t)pictures * (size_t)width;
    const sk_real *hidden = s->hidden + (size_t)first * (size_t)width, *x = hidden;
    sk_real *rounded = s->dropout + (size_t)first * (size_t)width;
    double none[2] = {0};

    if (f && f->before[layer].on) {
        /* hidden_act is still wanted, the mask is not any more: its place is free */
        sk_quantize_values(&f->before[layer], pictures, width, hidden, SK_ACT_NONE, rounded);
        x = rounded;
    }
    sk_step_round_backward(s, layer, chunk, pictures, x, SK_ACT_HSWISH, d);
    s->k->act_backward(count, d, x, SK_ACT_HSWISH, d);
    if (f) sk_quantize_backward(&f->before[layer], pictures, width, hidden, SK_ACT_NONE, 0, d, none);
}

/* Softmax of a row of logits. */
static void softmax(const sk_real *row, int classes, double *p) {
    double most = (double)row[0], sum = 0;

    for (int c = 1; c < classes; c++) most = (double)row[c] > most ? (double)row[c] : most;
    for (int c = 0; c < classes; c++) sum += p[c] = exp((double)row[c] - most);
    for (int c = 0; c < classes; c++) p[c] /= sum;
}

/* Hinton, Vinyals and Dean 2015, Distilling the Knowledge in a Neural Network, at temperature 1: loss and gradient
 * become (1 - distill) of what the labels say and `distill` of the divergence from what the teacher says. */
static void distill(sk_step *s, int first, int last) {
    const int classes = s->net->classes;
    const double share = s->options.distill;
    double own[SK_NET_MAX_CLASSES], taught[SK_NET_MAX_CLASSES];

    for (int i = first; i < last; i++) {
        sk_real *d = s->d_logits + (size_t)i * (size_t)classes;
        double divergence = 0;

        softmax(s->logits + (size_t)i * (size_t)classes, classes, own);
        softmax(s->teacher + (size_t)i * (size_t)classes, classes, taught);
        for (int c = 0; c < classes; c++) {
            if (taught[c] > 0) divergence += taught[c] * log(taught[c] / fmax(own[c], 1e-300));
            d[c] = (sk_real)((1 - share) * (double)d[c] + share * (own[c] - taught[c]) / s->weights);
        }
        s->losses[i] = (1 - share) * s->losses[i] + share * divergence;
    }
}

/* The mean of the loss is over the weights of the labels' classes, as torch.nn.CrossEntropyLoss has it. */
void sk_step_classify(sk_step *s, int chunk, int first, int last) {
    const sk_net *net = s->net;
    const sk_loss_target target = {s->class_weight, (sk_real)s->options.label_smoothing};
    const int pictures = last - first, drop = s->options.dropout > 0;
    const size_t at_hidden = (size_t)first * (size_t)net->hidden, at_logits = (size_t)first * (size_t)net->classes;
    const size_t count = (size_t)pictures * (size_t)net->hidden;
    sk_real *d_hidden = s->d_hidden + at_hidden, *d_logits = s->d_logits + at_logits;

    sk_step_answer(s, first, last, drop);
    s->hits[chunk] += s->k->cross_entropy(s->logits + at_logits, s->labels + first, pictures, net->classes, &target,
                                          (sk_real)(1 / s->weights), s->losses + first, d_logits);
    if (s->teacher) distill(s, first, last);
    if (s->options.fake)
        sk_step_round_backward(s, net->pool_layer + 2, chunk, pictures, s->exact_logits + at_logits, SK_ACT_NONE,
                               d_logits);
    sk_step_linear(s, pictures, d_logits, net->classes, s->linear2_back, NULL, net->hidden, d_hidden);
    if (drop) multiply(count, d_hidden, s->dropout + at_hidden);
    hidden_backward(s, chunk, first, last, d_hidden);
    if (s->linear1_back)
        sk_step_linear(s, pictures, d_hidden, net->hidden, s->linear1_back, NULL, net->features,
                       s->d_features + (size_t)first * (size_t)net->features);
}

/* Cut into output rows for the threads: a row does not depend on the cut. */
void sk_step_linear_gradients(sk_step *s, sk_real *dy, int out, sk_real *x, int in, sk_real *dw, sk_real *dbias) {
    sk_step_gather(s, dy, (size_t)out * sizeof *dy);
    sk_step_gather(s, x, (size_t)in * sizeof *x);
    memset(dbias, 0, (size_t)out * sizeof *dbias);
    s->k->column_sums(dy, s->n, out, dbias);
#pragma omp parallel for num_threads(s->threads) schedule(static)
    for (int part = 0; part < WEIGHT_PARTS; part++) {
        const int first = out * part / WEIGHT_PARTS, last = out * (part + 1) / WEIGHT_PARTS;
        sk_real *to = dw + (size_t)first * (size_t)in;

        memset(to, 0, (size_t)(last - first) * (size_t)in * sizeof *to);
        if (last > first) s->k->gemm_tn(s->n, last - first, in, dy + first, out, x, in, to);
    }
}

void sk_step_classifier_gradients(sk_step *s) {
    const sk_net *net = s->net;
    const int at = net->classifier;

    sk_step_linear_gradients(s, s->d_logits, net->classes, s->hidden_act, net->hidden, sk_step_grad(s, at + 2),
                             sk_step_grad(s, at + 3));
    sk_step_linear_gradients(s, s->d_hidden, net->hidden, s->features, net->features, sk_step_grad(s, at),
                             sk_step_grad(s, at + 1));
}
