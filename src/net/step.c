/* SPDX-License-Identifier: Apache-2.0 */
/* The training step as a whole: its weights, its passes one after the other, its face. */
#include <omp.h>
#include <string.h>

#include "net/step.h"

sk_status sk_step_create(sk_net *net, const sk_step_options *options, sk_step **out, sk_error *err) {
    sk_status status;
    sk_step *s;

    *out = NULL;
    if (options->batch < 1 || options->batch > 65536)
        return sk_fail(err, SK_ERR_ARGUMENT, "a batch of %d pictures is out of range: use 1 to 65536", options->batch);
    if (!(options->dropout >= 0 && options->dropout < 1))
        return sk_fail(err, SK_ERR_ARGUMENT, "dropout %g is out of range: use 0 to less than 1", options->dropout);
    if (!(options->label_smoothing >= 0 && options->label_smoothing < 1))
        return sk_fail(err, SK_ERR_ARGUMENT, "label smoothing %g is out of range: use 0 to less than 1",
                       options->label_smoothing);
    if (options->fake && (!options->freeze_bn || options->freeze_features))
        return sk_fail(err, SK_ERR_ARGUMENT, "rounding to int8 needs frozen statistics and features that are trained");
    s = sk_calloc(1, sizeof *s);
    if (!s) return sk_fail_memory(err, "the training step");
    s->net = net;
    s->k = sk_kernels_get();
    s->options = *options;
    s->threads = sk_thread_count(options->threads);
    status = sk_step_allocate(s, err);
    if (status == SK_OK && options->freeze_features) status = sk_runner_create(net, s->threads, &s->frozen, err);
    if (status != SK_OK) {
        sk_step_free(s);
        return status;
    }
    memset(s->gradients, 0, net->value_count * sizeof *s->gradients);
    for (int c = 0; s->class_weight && c < net->classes; c++) s->class_weight[c] = options->class_weight[c];
    if (!options->freeze_features) {
        sk_step_list_forward(s);
        sk_step_list_backward(s);
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

/* ---- weights of this step -------------------------------------------------------------------------------------- */
/* W [out][in] for y = x W' and for dx = dy W. */
static void pack_both(const sk_step *s, const sk_real *weight, int out, int in, sk_real *forward, sk_real *backward) {
    s->k->gemm_pack(forward, out, in, weight, in, 1);
    s->k->gemm_pack(backward, in, out, weight, 1, in);
}

const sk_real *sk_step_rounded(const sk_step *s, const sk_real *weight, int out, int in) {
    sk_real *to;

    if (!s->options.fake) return weight;
    to = s->rounded + (size_t)omp_get_thread_num() * s->rounded_size;
    memcpy(to, weight, (size_t)out * (size_t)in * sizeof *to);
    sk_quantize_weights(to, out, in, 0, s->options.fake->per_tensor, NULL);
    return to;
}

static void pack_unit(sk_step *s, int unit) {
    const sk_unit *u = &s->net->units[unit];
    const sk_unit_state *us = &s->units[unit];
    const sk_real *weight = s->net->params[u->param].data;

    if (u->op == SK_OP_DEPTHWISE) {
        sk_net_pack_dw(weight, u->out_c, u->kernel * u->kernel, us->forward);
    } else if (!sk_step_is_wide(u)) {
        pack_both(s, weight, u->out_c, u->in_c, us->forward, us->backward);
    } else {
        const int depth = sk_step_depth(u);

        if (u->op == SK_OP_CONV) sk_net_pack_ohwi(weight, u->out_c, u->in_c, u->kernel * u->kernel, s->stem);
        s->k->gemm_pack(us->forward, u->out_c, depth, sk_step_matrix(s, unit), depth, 1);
    }
}

static void pack_squeeze(sk_step *s, int block) {
    const sk_block *b = &s->net->blocks[block];
    const sk_block_state *bs = &s->blocks[block];
    const sk_param *p = &s->net->params[b->se_param];
    const int c = s->net->units[b->dw].out_c;

    if (!b->squeeze) return;
    pack_both(s, sk_step_rounded(s, p[0].data, b->squeeze, c), b->squeeze, c, bs->fc1, bs->fc1_back);
    pack_both(s, sk_step_rounded(s, p[2].data, c, b->squeeze), c, b->squeeze, bs->fc2, bs->fc2_back);
}

static void pack_features(sk_step *s) {
    const int units = s->options.freeze_bn ? 0 : s->net->unit_count, count = units + s->net->block_count;

    sk_net_normalisation(&s->net->card, s->mean, s->gain);
#pragma omp parallel for num_threads(s->threads) schedule(dynamic, 1)
    for (int i = count - 1; i >= 0; i--) { /* the last are the largest */
        if (i < units) pack_unit(s, i);
        else pack_squeeze(s, i - units);
    }
}

/* ---- pictures without labels ----------------------------------------------------------------------------------- */
static void begin(sk_step *s, const uint8_t *images, int n, uint64_t seed) {
    s->images = images;
    s->n = n;
    s->chunks = sk_sync_chunks(n);
    sk_sync_own_chunks(s->options.sync, n, &s->first, &s->last);
    s->seed = seed;
    if (s->options.fake) sk_fake_ready(s->options.fake, &s->net->card);
    sk_step_pack_classifier(s);
}

sk_status sk_step_predict(sk_step *s, const uint8_t *images, int n, sk_real *logits, sk_error *err) {
    if (n < 1 || n > s->options.batch || !s->options.freeze_bn || s->options.freeze_features)
        return sk_fail(err, SK_ERR_ARGUMENT, "a step with frozen statistics answers 1 to %d pictures, not %d",
                       s->options.batch, n);
    begin(s, images, n, 0);
    s->first = 0; /* the pictures are this process's alone */
    s->last = s->chunks;
    pack_features(s);
    sk_step_forward_frozen(s);
    memcpy(logits, s->logits, (size_t)n * (size_t)s->net->classes * sizeof *logits);
    return SK_OK;
}

/* ---- passes ---------------------------------------------------------------------------------------------------- */
int sk_step_chunk_threads(const sk_step *s) {
    const int count = s->last - s->first;

    return s->threads < count ? s->threads : count > 1 ? count : 1;
}

sk_scratch sk_step_begin(const sk_step *s, int chunk, size_t sums, size_t partial) {
    const size_t index = (size_t)(chunk - s->first);
    sk_scratch scratch;

    memset(s->sums + index * s->sums_size, 0, sums * sizeof *s->sums);
    memset(s->partial + index * s->partial_size, 0, partial * sizeof *s->partial);
    for (int i = 0; i < SK_SCRATCHES; i++)
        scratch.at[i] = s->scratch + (size_t)(omp_get_thread_num() * SK_SCRATCHES + i) * s->scratch_size;
    return scratch;
}

/* Every other pass takes the chunks from the last to the first: what the pass before touched last is still in cache. */
static void run_pass(sk_step *s, const sk_pass *pass) {
    const int count = s->last - s->first, threads = sk_step_chunk_threads(s);
    const double start = s->on_pass ? sk_now() : 0;
    double met;

    s->turn = !s->turn;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (int i = 0; i < count; i++) {
        const int chunk = s->turn ? s->first + i : s->last - 1 - i;
        const sk_scratch scratch = sk_step_begin(s, chunk, pass->sums, pass->partial);

        pass->work(s, pass->index, chunk, sk_step_first(s, chunk), sk_step_first(s, chunk + 1), scratch.at);
    }
    met = s->on_pass ? sk_now() : 0;
    if (pass->finish) pass->finish(s, pass->index);
    if (s->on_pass) s->on_pass(s->on_pass_user, pass, met - start, sk_now() - met);
}

static void run_classifier(sk_step *s) {
    const size_t side = (size_t)s->net->card.size;
    const int first = sk_step_first(s, s->first), last = sk_step_first(s, s->last);

    if (last > first)
        sk_runner_run(s->frozen, s->images + (size_t)first * side * side * 3, last - first, s->threads, NULL,
                      s->features + (size_t)first * (size_t)s->net->features, NULL, NULL);
#pragma omp parallel for num_threads(s->threads) schedule(static)
    for (int chunk = s->first; chunk < s->last; chunk++)
        sk_step_classify(s, chunk, sk_step_first(s, chunk), sk_step_first(s, chunk + 1));
    sk_step_classifier_gradients(s);
}

static void run_all(sk_step *s) {
    const int first = sk_step_first(s, s->first), last = sk_step_first(s, s->last);

    pack_features(s);
    for (int i = first; i < last; i++) s->slot[i] = i - first;
    if (s->options.freeze_bn) {
        sk_step_run_frozen(s);
        return;
    }
    for (int p = 0; p < s->forward_count; p++) run_pass(s, &s->forward[p]);
    for (int p = 0; p < s->backward_count; p++) run_pass(s, &s->backward[p]);
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
    s->labels = labels;
    s->weights = s->class_weight ? 0 : n;
    for (int i = 0; s->class_weight && i < n; i++) s->weights += (double)s->class_weight[labels[i]];
    memset(s->hits, 0, sizeof s->hits);
    begin(s, images, n, seed);
    if (s->options.freeze_features) run_classifier(s);
    else run_all(s);
    mean_loss = sk_step_sum_losses(s) / s->weights;
    right = sk_step_sum_hits(s);
    if (loss) *loss = mean_loss;
    if (correct) *correct = right;
    if (s->lost.code != SK_OK && err) *err = s->lost;
    return s->lost.code;
}
