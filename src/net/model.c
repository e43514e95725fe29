/* SPDX-License-Identifier: Apache-2.0 */
/* The public float interface over the network: tensors, layers, inference. */
#include <string.h>

#include "net/model.h"

struct sk_model {
    sk_net *net;
    sk_runner *runner; /* made at the first forward, again for another number of threads */
    int shared;        /* somebody holds pointers to the parameters */
    int stale;         /* the runner's weights are not the model's */
    sk_ranges ranges;
};

sk_status sk_model_create(const sk_card *card, uint64_t seed, sk_model **out, sk_error *err) {
    sk_model *model = sk_calloc(1, sizeof *model);
    sk_status status;

    *out = NULL;
    if (!model) return sk_fail_memory(err, "the model");
    status = sk_net_create(card, &model->net, err);
    if (status != SK_OK) {
        sk_free(model);
        return status;
    }
    sk_net_init(model->net, seed);
    *out = model;
    return SK_OK;
}

void sk_model_free(sk_model *model) {
    if (!model) return;
    sk_runner_free(model->runner);
    sk_net_free(model->net);
    sk_ranges_free(&model->ranges);
    sk_free(model);
}

sk_net *sk_model_net(sk_model *model) { return model->net; }

sk_ranges *sk_model_own_ranges(sk_model *model) { return &model->ranges; }

const sk_ranges *sk_model_ranges(const sk_model *model) { return model->ranges.layers ? &model->ranges : NULL; }

void sk_model_share(sk_model *model) { model->shared = 1; }

void sk_model_changed(sk_model *model) { model->stale = 1; }

const sk_param *sk_model_param(const sk_model *model, size_t index) { return &model->net->params[index]; }

const sk_card *sk_model_card(const sk_model *model) { return &model->net->card; }

/* The sizes of all layers follow from the card's, so another size means another graph around the same parameters. */
static void resize(sk_model *model, int size) {
    sk_net *net = model->net;

    for (int i = 0; i < net->layer_count; i++) {
        sk_layer *l = &net->layers[i];
        const int in = l->input < 0 ? size : net->layers[l->input].out_h;
        const size_t weights = sk_net_weight_count(net, i);

        l->in_h = l->in_w = in;
        l->out_h = l->out_w = l->op == SK_OP_POOL ? 1 : (in - 1) / l->stride + 1;
        l->macs = l->op == SK_OP_LINEAR ? weights : weights * (uint64_t)l->out_h * (uint64_t)l->out_w;
    }
    for (int i = 0; i < net->unit_count; i++) {
        net->units[i].in_side = net->layers[net->units[i].layer].in_h;
        net->units[i].out_side = net->layers[net->units[i].layer].out_h;
    }
    sk_runner_free(model->runner); /* its buffers have the old size */
    model->runner = NULL;
}

void sk_model_set_card(sk_model *model, const sk_card *card) {
    const sk_card old = model->net->card;

    model->net->card = *card;
    model->net->card.arch = old.arch;
    model->net->card.classes = old.classes;
    if (sk_card_check(&model->net->card, NULL) != SK_OK) { /* what cannot run is not taken over */
        model->net->card.size = old.size;
        memcpy(model->net->card.mean, old.mean, sizeof old.mean);
        memcpy(model->net->card.std, old.std, sizeof old.std);
        model->net->card.temperature = old.temperature;
    }
    if (model->net->card.size != old.size) resize(model, model->net->card.size);
    model->stale = 1;
}

static void fill_tensor(const sk_param *p, sk_tensor *out) {
    *out = (sk_tensor){.name = p->name, .rank = p->rank, .count = p->count, .data = p->data, .trainable = p->trainable};
    memcpy(out->shape, p->shape, sizeof out->shape);
}

size_t sk_model_tensor_count(const sk_model *model) { return (size_t)model->net->param_count; }

/* The pointer given away is writable, so from now on inference cannot trust weights folded earlier. */
static void mark_shared(const sk_model *model) { ((sk_model *)(uintptr_t)model)->shared = 1; }

sk_status sk_model_tensor(const sk_model *model, size_t index, sk_tensor *out, sk_error *err) {
    if (index >= (size_t)model->net->param_count)
        return sk_fail(err, SK_ERR_ARGUMENT, "tensor %zu does not exist: the model has %d", index,
                       model->net->param_count);
    mark_shared(model);
    fill_tensor(&model->net->params[index], out);
    return SK_OK;
}

sk_status sk_model_find_tensor(const sk_model *model, const char *name, sk_tensor *out, sk_error *err) {
    for (int i = 0; name && i < model->net->param_count; i++)
        if (!strcmp(model->net->params[i].name, name)) return sk_model_tensor(model, (size_t)i, out, err);
    return sk_fail(err, SK_ERR_MISMATCH, "the model has no tensor '%s'", name ? name : "");
}

size_t sk_model_layer_count(const sk_model *model) { return (size_t)model->net->layer_count; }

const sk_layer *sk_model_layer(const sk_model *model, size_t index) {
    return index < (size_t)model->net->layer_count ? &model->net->layers[index] : NULL;
}

size_t sk_model_weight_count(const sk_model *model, size_t layer) {
    return layer < (size_t)model->net->layer_count ? sk_net_weight_count(model->net, (int)layer) : 0;
}

sk_status sk_model_folded(const sk_model *model, size_t layer, float *weight, float *bias, sk_error *err) {
    const size_t count = sk_model_weight_count(model, layer);
    double *values;

    if (!count) return sk_fail(err, SK_ERR_ARGUMENT, "layer %zu has no weights", layer);
    values = sk_alloc(count, sizeof *values); /* never fewer weights than biases */
    if (!values) return sk_fail_memory(err, "folded weights");
    if (weight) {
        sk_net_folded(model->net, (int)layer, values, NULL);
        for (size_t i = 0; i < count; i++) weight[i] = (float)values[i];
    }
    if (bias) {
        sk_net_folded(model->net, (int)layer, NULL, values);
        for (int i = 0; i < model->net->layers[layer].out_c; i++) bias[i] = (float)values[i];
    }
    sk_free(values);
    return SK_OK;
}

int sk_model_feature_count(const sk_model *model) { return model->net->features; }

sk_status sk_model_forward(sk_model *model, const uint8_t *images, int n, int threads, float *logits, float *features,
                           sk_tap tap, void *tap_user, sk_error *err) {
    const int wanted = tap ? 1 : sk_run_threads(n, sk_thread_count(threads));
    sk_status status = SK_OK;

    if (n < 0) return sk_fail(err, SK_ERR_ARGUMENT, "%d pictures cannot be run", n);
    if (model->runner && sk_runner_threads(model->runner) < wanted) {
        sk_runner_free(model->runner);
        model->runner = NULL;
    }
    if (!model->runner) status = sk_runner_create(model->net, wanted, &model->runner, err);
    else if (model->shared || model->stale) status = sk_runner_update(model->runner, err);
    if (status != SK_OK) return status;
    model->stale = 0;
    sk_runner_run(model->runner, images, n, wanted, logits, features, tap, tap_user);
    return SK_OK;
}

size_t sk_model_activation_bytes(const sk_model *model, int bytes_per_value) {
    const sk_net *net = model->net;
    size_t most = 0;

    for (int now = 0; now < net->layer_count; now++) {
        size_t live = now == 0 ? (size_t)net->card.size * (size_t)net->card.size * 3 : 0;

        for (int i = 0; i <= now; i++) { /* written already and read now or later */
            const sk_layer *l = &net->layers[i];
            int last_use = i;

            for (int j = i + 1; j < net->layer_count; j++)
                if (net->layers[j].input == i || net->layers[j].input2 == i) last_use = j;
            if (last_use >= now) live += (size_t)l->out_h * (size_t)l->out_w * (size_t)l->out_c;
        }
        most = live > most ? live : most;
    }
    return most * (size_t)(bytes_per_value > 0 ? bytes_per_value : 1);
}
