/* SPDX-License-Identifier: Apache-2.0 */
/* The training step around the features: memory, packing of this step's weights, classifier, loss. */
#include <omp.h>
#include <string.h>

#include "net/step.h"

/* ---- memory: one walk over all arrays, first to measure, then to hand out ----------------------------------- */
typedef struct arena {
    char *base; /* NULL while measuring */
    size_t used;
} arena;

static void *take(arena *a, size_t count, size_t size) {
    void *at = a->base ? a->base + a->used : NULL;

    a->used += (count * size + 63) / 64 * 64;
    return at;
}

static sk_real *reals(arena *a, size_t count) { return take(a, count, sizeof(sk_real)); }

static void lay_unit(sk_step *s, arena *a, int index, size_t batch) {
    const sk_unit *u = &s->net->units[index];
    sk_unit_state *us = &s->units[index];
    const size_t c = (size_t)u->out_c, weights = s->net->params[u->param].count;
    sk_real **const vectors[] = {&us->scale, &us->shift, &us->mean, &us->invstd, &us->ka, &us->kb, &us->kc};

    us->y = reals(a, batch * sk_unit_size(u));
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) *vectors[i] = reals(a, c);
    if (u->op == SK_OP_DEPTHWISE) {
        us->forward = us->backward = reals(a, weights);
    } else {
        us->forward = reals(a, s->k->gemm_pack_size(u->out_c, (int)(weights / c)));
        us->backward = reals(a, u->op == SK_OP_CONV ? weights : s->k->gemm_pack_size(u->in_c, u->out_c));
    }
}

static void lay_block(sk_step *s, arena *a, int index, size_t batch) {
    const sk_block *b = &s->net->blocks[index];
    sk_block_state *bs = &s->blocks[index];
    const int c = s->net->units[b->dw].out_c, q = b->squeeze;
    const size_t nc = batch * (size_t)c, nq = batch * (size_t)q;

    bs->out = reals(a, batch * sk_unit_size(&s->net->units[b->project]));
    if (!q) return;
    bs->pooled = reals(a, nc);
    bs->gate_in = reals(a, nc);
    bs->gate = reals(a, nc);
    bs->d_gate = reals(a, nc);
    bs->squeezed = reals(a, nq);
    bs->relu = reals(a, nq);
    bs->d_squeezed = reals(a, nq);
    bs->fc1 = reals(a, s->k->gemm_pack_size(q, c));
    bs->fc2 = reals(a, s->k->gemm_pack_size(c, q));
    bs->fc1_back = reals(a, s->k->gemm_pack_size(c, q));
    bs->fc2_back = reals(a, s->k->gemm_pack_size(q, c));
}

static void lay_features(sk_step *s, arena *a, size_t batch) {
    for (int i = 0; i < s->net->unit_count; i++) lay_unit(s, a, i, batch);
    for (int i = 0; i < s->net->block_count; i++) lay_block(s, a, i, batch);
    s->grad_narrow = reals(a, batch * s->narrow_size);
    s->grad_wide = reals(a, batch * s->wide_size);
    s->grad_deep = reals(a, batch * s->deep_size);
    s->scratch = reals(a, (size_t)s->threads * SK_SCRATCHES * s->scratch_size);
    s->sums = take(a, SK_CHUNKS * s->sums_size, sizeof *s->sums);
    s->partial = reals(a, SK_CHUNKS * s->partial_size);
}

static void lay_all(sk_step *s, arena *a) {
    const sk_net *net = s->net;
    const size_t batch = (size_t)s->options.batch, classes = (size_t)net->classes, hidden = (size_t)net->hidden;

    if (!s->options.freeze_features) lay_features(s, a, batch);
    s->features = reals(a, batch * (size_t)net->features);
    s->d_features = reals(a, batch * (size_t)net->features);
    s->hidden = reals(a, batch * hidden);
    s->hidden_act = reals(a, batch * hidden);
    s->d_hidden = reals(a, batch * hidden);
    s->dropout = reals(a, batch * hidden);
    s->logits = reals(a, batch * classes);
    s->d_logits = reals(a, batch * classes);
    s->losses = take(a, batch, sizeof *s->losses);
    s->class_weight = s->options.class_weight ? reals(a, classes) : NULL;
    s->linear1 = reals(a, s->k->gemm_pack_size(net->hidden, net->features));
    s->linear2 = reals(a, s->k->gemm_pack_size(net->classes, net->hidden));
    s->linear1_back = reals(a, s->k->gemm_pack_size(net->features, net->hidden));
    s->linear2_back = reals(a, s->k->gemm_pack_size(net->hidden, net->classes));
    s->gradients = reals(a, net->value_count);
}

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

static void measure(sk_step *s) {
    const sk_net *net = s->net;

    s->scratch_size = (size_t)net->units[0].out_side * SK_STEM_ROWS * SK_STEM_LD;
    for (int i = 0; i < net->unit_count; i++) {
        const sk_unit *u = &net->units[i];
        const size_t size = sk_unit_size(u);

        s->scratch_size = larger(s->scratch_size, (size + 15) / 16 * 16);
        s->sums_size = larger(s->sums_size, 2 * (size_t)u->out_c);
        s->partial_size = larger(s->partial_size, (net->params[u->param].count + 15) / 16 * 16);
        s->deep_size = larger(s->deep_size, u->op == SK_OP_DEPTHWISE || i == net->head ? size : 0);
    }
    s->wide_size = sk_unit_size(&net->units[0]);
    for (int i = 0; i < net->block_count; i++) {
        const sk_block *b = &net->blocks[i];

        s->narrow_size = larger(s->narrow_size, sk_unit_size(&net->units[b->project]));
        if (b->expand >= 0) s->wide_size = larger(s->wide_size, sk_unit_size(&net->units[b->expand]));
    }
}

sk_status sk_step_create(sk_net *net, const sk_step_options *options, sk_step **out, sk_error *err) {
    sk_step *s;
    arena a = {0};
    sk_status status = SK_OK;

    *out = NULL;
    if (options->batch < 1 || options->batch > 65536)
        return sk_fail(err, SK_ERR_ARGUMENT, "a batch of %d pictures is out of range: use 1 to 65536", options->batch);
    if (!(options->dropout >= 0 && options->dropout < 1))
        return sk_fail(err, SK_ERR_ARGUMENT, "dropout %g is out of range: use 0 to less than 1", options->dropout);
    if (!(options->label_smoothing >= 0 && options->label_smoothing < 1))
        return sk_fail(err, SK_ERR_ARGUMENT, "label smoothing %g is out of range: use 0 to less than 1",
                       options->label_smoothing);
    s = sk_calloc(1, sizeof *s);
    if (!s) return sk_fail_memory(err, "the training step");
    s->net = net;
    s->k = sk_kernels_get();
    s->options = *options;
    s->threads = sk_thread_count(options->threads);
    measure(s);
    lay_all(s, &a);
    s->pool = sk_alloc(a.used, 1);
    if (!s->pool) {
        sk_step_free(s);
        return sk_fail(err, SK_ERR_MEMORY,
                       "out of memory: a training step of %d pictures needs %zu MB: use a smaller batch",
                       options->batch, a.used >> 20);
    }
    a = (arena){s->pool, 0};
    lay_all(s, &a);
    memset(s->gradients, 0, net->value_count * sizeof *s->gradients);
    for (int c = 0; s->class_weight && c < net->classes; c++) s->class_weight[c] = options->class_weight[c];
    if (options->freeze_features) status = sk_runner_create(net, s->threads, &s->frozen, err);
    if (status != SK_OK) {
        sk_step_free(s);
        return status;
    }
    *out = s;
    return SK_OK;
}

void sk_step_free(sk_step *s) {
    if (!s) return;
    sk_runner_free(s->frozen);
    sk_free(s->pool);
    sk_free(s);
}

const sk_real *sk_step_gradient(const sk_step *s, int param) {
    if (param < 0 || param >= s->net->param_count || !s->net->params[param].trainable) return NULL;
    if (s->options.freeze_features && param < s->net->classifier) return NULL;
    return sk_step_grad(s, param);
}

void sk_step_parallel(sk_step *s, int index, sk_step_work work) {
    const int threads = s->threads < s->chunks ? s->threads : s->chunks;

#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (int chunk = 0; chunk < s->chunks; chunk++) {
        sk_real *base = s->scratch + (size_t)omp_get_thread_num() * SK_SCRATCHES * s->scratch_size;
        sk_real *const scratch[SK_SCRATCHES] = {base, base + s->scratch_size, base + 2 * s->scratch_size,
                                                base + 3 * s->scratch_size};

        work(s, index, chunk, sk_step_first(s, chunk), sk_step_first(s, chunk + 1), scratch);
    }
}

/* ---- weights of this step ---------------------------------------------------------------------------------- */
/* W [out][in] for y = x W' and for dx = dy W. */
static void pack_both(const sk_step *s, const sk_real *weight, int out, int in, sk_real *forward, sk_real *backward) {
    s->k->gemm_pack(forward, out, in, weight, in, 1);
    s->k->gemm_pack(backward, in, out, weight, 1, in);
}

static void pack_features(sk_step *s) {
    const sk_net *net = s->net;

    sk_net_lut(&net->card, s->lut);
    for (int i = 0; i < net->unit_count; i++) {
        const sk_unit *u = &net->units[i];
        const sk_real *weight = net->params[u->param].data;
        const int taps = u->kernel * u->kernel;

        if (u->op == SK_OP_DEPTHWISE) {
            sk_net_pack_dw(weight, u->out_c, taps, s->units[i].forward);
        } else if (u->op == SK_OP_CONV) { /* backward is not needed: the picture has no gradient; it holds OHWI */
            sk_net_pack_ohwi(weight, u->out_c, u->in_c, taps, s->units[i].backward);
            s->k->gemm_pack(s->units[i].forward, u->out_c, taps * u->in_c, s->units[i].backward, taps * u->in_c, 1);
        } else {
            pack_both(s, weight, u->out_c, u->in_c, s->units[i].forward, s->units[i].backward);
        }
    }
    for (int i = 0; i < net->block_count; i++) {
        const sk_block *b = &net->blocks[i];
        const sk_block_state *bs = &s->blocks[i];
        const int c = net->units[b->dw].out_c;

        if (!b->squeeze) continue;
        pack_both(s, net->params[b->se_param].data, b->squeeze, c, bs->fc1, bs->fc1_back);
        pack_both(s, net->params[b->se_param + 2].data, c, b->squeeze, bs->fc2, bs->fc2_back);
    }
}

/* ---- classifier -------------------------------------------------------------------------------------------- */
/* y[n][out] = x[n][in] packed' + bias, cut into rows for the threads: a row does not depend on the cut. */
static void linear(const sk_step *s, const sk_real *x, int in, const sk_real *packed, const sk_real *bias, int out,
                   sk_real *y) {
#pragma omp parallel for num_threads(s->threads) schedule(static)
    for (int chunk = 0; chunk < s->chunks; chunk++) {
        const int first = sk_step_first(s, chunk), last = sk_step_first(s, chunk + 1);
        const sk_gemm g = {.m = last - first,
                           .n = out,
                           .k = in,
                           .a = x + (size_t)first * (size_t)in,
                           .lda = in,
                           .packed = packed,
                           .bias = bias,
                           .c = y + (size_t)first * (size_t)out,
                           .ldc = out};

        s->k->gemm(&g);
    }
}

/* dw[out][in] and dbias[out], cut into output rows for the threads. */
static void linear_weights(const sk_step *s, const sk_real *dy, int out, const sk_real *x, int in, sk_real *dw,
                           sk_real *dbias) {
    memset(dbias, 0, (size_t)out * sizeof *dbias);
    s->k->column_sums(dy, s->n, out, dbias);
#pragma omp parallel for num_threads(s->threads) schedule(static)
    for (int part = 0; part < 16; part++) {
        const int first = out * part / 16, last = out * (part + 1) / 16;
        sk_real *to = dw + (size_t)first * (size_t)in;

        memset(to, 0, (size_t)(last - first) * (size_t)in * sizeof *to);
        if (last > first) s->k->gemm_tn(s->n, last - first, in, dy + first, out, x, in, to);
    }
}

/* Each picture draws its own mask, so that it does not depend on the threads. */
static void draw_dropout(sk_step *s, uint64_t seed) {
    const double keep = 1 - s->options.dropout;

    for (int i = 0; i < s->n; i++) {
        sk_rng rng = sk_rng_make(seed, 0x64726f70, (uint64_t)i);
        sk_real *mask = s->dropout + (size_t)i * (size_t)s->net->hidden;

        for (int j = 0; j < s->net->hidden; j++) mask[j] = sk_rng_uniform(&rng) < keep ? (sk_real)(1 / keep) : 0;
    }
}

static void multiply(size_t count, sk_real *x, const sk_real *by) {
    for (size_t i = 0; i < count; i++) x[i] *= by[i];
}

/* The mean is over the weights of the labels' classes, as torch.nn.CrossEntropyLoss has it. */
static int loss_of(sk_step *s, const int *labels, double *loss) {
    const sk_loss_target target = {s->class_weight, (sk_real)s->options.label_smoothing};
    double sum = 0, weights = s->class_weight ? 0 : s->n;
    int correct;

    for (int i = 0; s->class_weight && i < s->n; i++) weights += (double)s->class_weight[labels[i]];
    correct = s->k->cross_entropy(s->logits, labels, s->n, s->net->classes, &target, (sk_real)(1 / weights), s->losses,
                                  s->d_logits);
    for (int i = 0; i < s->n; i++) sum += s->losses[i];
    *loss = sum / weights;
    return correct;
}

static int classify(sk_step *s, const int *labels, uint64_t seed, double *loss) {
    const sk_net *net = s->net;
    const sk_param *p = &net->params[net->classifier];
    const size_t hidden_count = (size_t)s->n * (size_t)net->hidden;
    const int drop = s->options.dropout > 0;
    int correct;

    pack_both(s, p[0].data, net->hidden, net->features, s->linear1, s->linear1_back);
    pack_both(s, p[2].data, net->classes, net->hidden, s->linear2, s->linear2_back);
    linear(s, s->features, net->features, s->linear1, p[1].data, net->hidden, s->hidden);
    s->k->act(hidden_count, s->hidden, SK_ACT_HSWISH, s->hidden_act);
    if (drop) {
        draw_dropout(s, seed);
        multiply(hidden_count, s->hidden_act, s->dropout);
    }
    linear(s, s->hidden_act, net->hidden, s->linear2, p[3].data, net->classes, s->logits);
    correct = loss_of(s, labels, loss);
    linear_weights(s, s->d_logits, net->classes, s->hidden_act, net->hidden, sk_step_grad(s, net->classifier + 2),
                   sk_step_grad(s, net->classifier + 3));
    linear(s, s->d_logits, net->classes, s->linear2_back, NULL, net->hidden, s->d_hidden);
    if (drop) multiply(hidden_count, s->d_hidden, s->dropout);
    s->k->act_backward(hidden_count, s->d_hidden, s->hidden, SK_ACT_HSWISH, s->d_hidden);
    linear_weights(s, s->d_hidden, net->hidden, s->features, net->features, sk_step_grad(s, net->classifier),
                   sk_step_grad(s, net->classifier + 1));
    if (!s->options.freeze_features)
        linear(s, s->d_hidden, net->hidden, s->linear1_back, NULL, net->features, s->d_features);
    return correct;
}

sk_status sk_step_run(sk_step *s, const uint8_t *images, const int *labels, int n, uint64_t seed, double *loss,
                      int *correct, sk_error *err) {
    double mean_loss;
    int right;

    if (n < 1 || n > s->options.batch)
        return sk_fail(err, SK_ERR_ARGUMENT, "a step of %d pictures does not fit an engine of 1 to %d", n,
                       s->options.batch);
    for (int i = 0; i < n; i++)
        if (labels[i] < 0 || labels[i] >= s->net->classes)
            return sk_fail(err, SK_ERR_ARGUMENT, "label %d of picture %d is out of range: use 0 to %d", labels[i], i,
                           s->net->classes - 1);
    s->images = images;
    s->n = n;
    s->chunks = n < SK_CHUNKS ? n : SK_CHUNKS;
    if (s->options.freeze_features) {
        sk_runner_run(s->frozen, images, n, s->threads, NULL, s->features, NULL, NULL);
    } else {
        pack_features(s);
        sk_step_forward(s);
    }
    right = classify(s, labels, seed, &mean_loss);
    if (!s->options.freeze_features) sk_step_backward(s);
    if (loss) *loss = mean_loss;
    if (correct) *correct = right;
    return SK_OK;
}
