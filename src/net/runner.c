/* SPDX-License-Identifier: Apache-2.0 */
/* What inference keeps: batch norm folded into weights, packed as the kernels read them, and working memory. */
#include "net/runner.h"

static size_t pack_size(const sk_runner *r, int index) {
    const sk_layer *layer = &r->net->layers[index];
    const size_t count = sk_net_weight_count(r->net, index);

    if (!count) return 0;
    if (layer->op == SK_OP_DEPTHWISE || layer->op == SK_OP_CONV) return sk_run_round_up(count);
    return sk_run_round_up(r->k->gemm_pack_size(layer->out_c, (int)(count / (size_t)layer->out_c)));
}

/* Large: the output of any layer. Small: first either the scratch of the stem or a row of means for each row of a
 * picture, then three vectors of channels. */
static void measure_buffers(sk_runner *r) {
    size_t rows = SK_STEM_SCRATCH((size_t)r->net->card.size);

    r->large = r->width = 0;
    for (int i = 0; i < r->net->layer_count; i++) {
        const sk_layer *l = &r->net->layers[i];
        const size_t row = (size_t)l->out_h * (size_t)l->out_c, size = row * (size_t)l->out_w;

        r->large = size > r->large ? size : r->large;
        rows = row > rows ? row : rows;
        r->width = (size_t)l->out_c > r->width ? (size_t)l->out_c : r->width;
    }
    r->large = sk_run_round_up(r->large);
    r->width = sk_run_round_up(r->width);
    r->small = sk_run_round_up(rows) + 3 * r->width;
}

sk_status sk_runner_create(const sk_net *net, int threads, sk_runner **out, sk_error *err) {
    sk_runner *r = sk_calloc(1, sizeof *r);
    size_t total = 0, most = 0;

    *out = NULL;
    if (!r) return sk_fail_memory(err, "inference");
    r->net = net;
    r->k = sk_kernels_get();
    r->threads = sk_thread_count(threads);
    for (int i = 0; i < net->layer_count; i++) {
        const size_t count = sk_net_weight_count(net, i);

        most = count > most ? count : most;
        total += pack_size(r, i) + sk_run_round_up((size_t)net->layers[i].out_c);
    }
    measure_buffers(r);
    r->packs = sk_alloc(total, sizeof *r->packs);
    r->fold = sk_alloc(most, sizeof *r->fold);
    r->fold_real = sk_alloc(most, sizeof *r->fold_real);
    r->buffers = sk_alloc((size_t)r->threads * sk_run_slot(r), sizeof *r->buffers);
    r->features = sk_alloc(SK_RUN_GROUP * (size_t)net->features, sizeof *r->features);
    r->hidden = sk_alloc(SK_RUN_GROUP * (size_t)net->hidden, sizeof *r->hidden);
    if (!r->packs || !r->fold || !r->fold_real || !r->buffers || !r->features || !r->hidden) {
        sk_runner_free(r);
        return sk_fail_memory(err, "inference");
    }
    for (size_t at = 0, i = 0; i < (size_t)net->layer_count; i++) {
        r->layers[i].weight = r->packs + at;
        at += pack_size(r, (int)i);
        r->layers[i].bias = r->packs + at;
        at += sk_run_round_up((size_t)net->layers[i].out_c);
    }
    *out = r;
    return sk_runner_update(r, err);
}

void sk_runner_free(sk_runner *r) {
    if (!r) return;
    sk_free(r->packs);
    sk_free(r->fold);
    sk_free(r->fold_real);
    sk_free(r->buffers);
    sk_free(r->features);
    sk_free(r->hidden);
    sk_free(r);
}

int sk_runner_threads(const sk_runner *r) { return r->threads; }

sk_status sk_runner_update(sk_runner *r, sk_error *err) {
    (void)err;
    sk_net_normalisation(&r->net->card, r->mean, r->gain);
    for (int i = 0; i < r->net->layer_count; i++) {
        const sk_layer *layer = &r->net->layers[i];
        const size_t count = sk_net_weight_count(r->net, i);
        const int k = (int)(count / (size_t)layer->out_c);

        if (!count) continue;
        sk_net_folded(r->net, i, r->fold, NULL);
        for (size_t j = 0; j < count; j++) r->fold_real[j] = (sk_real)r->fold[j];
        if (layer->op == SK_OP_DEPTHWISE || layer->op == SK_OP_CONV)
            sk_net_pack_dw(r->fold_real, layer->out_c, k, r->layers[i].weight);
        else r->k->gemm_pack(r->layers[i].weight, layer->out_c, k, r->fold_real, k, 1);
        sk_net_folded(r->net, i, NULL, r->fold); /* a weight has at least as many values as its bias */
        for (int j = 0; j < layer->out_c; j++) r->layers[i].bias[j] = (sk_real)r->fold[j];
    }
    return SK_OK;
}
