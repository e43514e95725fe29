/* SPDX-License-Identifier: Apache-2.0 */
/* The classifier of a training step: features to logits, loss and back. Its rows are pictures and do not depend on each
 * other, so any group of pictures can go through; only the weight gradients wait for all. */
#include <string.h>

#include "net/step.h"

enum { STREAM_DROPOUT = 0x64726f70, WEIGHT_PARTS = 16 };

void sk_step_pack_classifier(sk_step *s) {
    const sk_net *net = s->net;
    const sk_param *p = &net->params[net->classifier];

#pragma omp parallel for num_threads(s->threads) schedule(dynamic, 1)
    for (int i = 0; i < 3; i++) { /* the first two are large */
        if (i == 0) s->k->gemm_pack(s->linear1, net->hidden, net->features, p[0].data, net->features, 1);
        if (i == 1 && s->linear1_back)
            s->k->gemm_pack(s->linear1_back, net->features, net->hidden, p[0].data, 1, net->features);
        if (i < 2) continue;
        s->k->gemm_pack(s->linear2, net->classes, net->hidden, p[2].data, net->hidden, 1);
        s->k->gemm_pack(s->linear2_back, net->hidden, net->classes, p[2].data, 1, net->hidden);
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

/* The mean of the loss is over the weights of the labels' classes, as torch.nn.CrossEntropyLoss has it. */
void sk_step_classify(sk_step *s, int chunk, int first, int last) {
    const sk_net *net = s->net;
    const sk_loss_target target = {s->class_weight, (sk_real)s->options.label_smoothing};
    const sk_param *p = &net->params[net->classifier];
    const int pictures = last - first, drop = s->options.dropout > 0;
    const size_t at_hidden = (size_t)first * (size_t)net->hidden, at_logits = (size_t)first * (size_t)net->classes;
    const size_t at_features = (size_t)first * (size_t)net->features, count = (size_t)pictures * (size_t)net->hidden;
    sk_real *hidden = s->hidden + at_hidden, *act = s->hidden_act + at_hidden, *d_hidden = s->d_hidden + at_hidden;

    sk_step_linear(s, pictures, s->features + at_features, net->features, s->linear1, p[1].data, net->hidden, hidden);
    s->k->act(count, hidden, SK_ACT_HSWISH, act);
    if (drop) {
        draw_dropout(s, first, last);
        multiply(count, act, s->dropout + at_hidden);
    }
    sk_step_linear(s, pictures, act, net->hidden, s->linear2, p[3].data, net->classes, s->logits + at_logits);
    s->hits[chunk] += s->k->cross_entropy(s->logits + at_logits, s->labels + first, pictures, net->classes, &target,
                                          (sk_real)(1 / s->weights), s->losses + first, s->d_logits + at_logits);
    sk_step_linear(s, pictures, s->d_logits + at_logits, net->classes, s->linear2_back, NULL, net->hidden, d_hidden);
    if (drop) multiply(count, d_hidden, s->dropout + at_hidden);
    s->k->act_backward(count, d_hidden, hidden, SK_ACT_HSWISH, d_hidden);
    if (s->linear1_back)
        sk_step_linear(s, pictures, d_hidden, net->hidden, s->linear1_back, NULL, net->features,
                       s->d_features + at_features);
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
