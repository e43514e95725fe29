/* SPDX-License-Identifier: Apache-2.0 */
/* What the layers of a float model write on some pictures: the observers of src/quant, for the ranges that
 * quantisation-aware training begins with. */
#include <math.h>
#include <string.h>

#include "quant/quant.h"
#include "train/qat.h"

typedef struct watcher {
    sk_model *model;
    sk_observed *out;
    size_t layers;
    sk_range ranges[SK_MAX_LAYERS];
    float *channels[SK_MAX_LAYERS]; /* low, then high per channel */
    float *weight[SK_MAX_LAYERS], *bias[SK_MAX_LAYERS]; /* linear layers with an activation */
    int counting;                   /* second pass: histograms */
} watcher;

static void widen(float end[2], float value) {
    end[0] = value < end[0] ? value : end[0];
    end[1] = value > end[1] ? value : end[1];
}

/* data: the input of layer k. */
static void watch_before(watcher *w, size_t k, const float *data) {
    const sk_layer *l = sk_model_layer(w->model, k);

    for (int o = 0; o < l->out_c; o++) {
        double sum = (double)w->bias[k][o];

        for (int i = 0; i < l->in_c; i++) sum += (double)w->weight[k][o * l->in_c + i] * (double)data[i];
        widen(w->out->before[k], (float)sum);
    }
}

static void watch(void *user, size_t layer, const float *data, int n, int height, int width, int c) {
    watcher *w = user;
    const size_t pixels = (size_t)n * (size_t)height * (size_t)width;
    float *channels = w->channels[layer];

    if (w->counting) {
        sk_range_count(&w->ranges[layer], w->out->equal[layer], data, pixels, c);
        return;
    }
    sk_range_widen(&w->ranges[layer], data, pixels * (size_t)c);
    for (size_t i = 0; channels && i < pixels; i++)
        sk_channels_widen(channels, channels + c, data + i * (size_t)c, c);
    for (size_t k = layer + 1; k < w->layers; k++)
        if (w->weight[k] && sk_model_layer(w->model, k)->input == (int)layer) watch_before(w, k, data);
}

static sk_status pass(watcher *w, const sk_quant_pictures *pictures, int threads, sk_error *err) {
    float logits[SK_NET_MAX_CLASSES];
    sk_status status = SK_OK;

    for (int i = 0; status == SK_OK && i < pictures->count; i++)
        status = sk_model_forward(w->model, pictures->bytes + (size_t)i * pictures->picture_bytes, 1, threads, logits,
                                  NULL, watch, w, err);
    return status;
}

static sk_status prepare(watcher *w, sk_error *err) {
    const sk_quant_net net = {.layers = sk_model_net(w->model)->layers, .count = w->layers};

    for (size_t i = 0; i < w->layers; i++) {
        const sk_layer *l = sk_model_layer(w->model, i);

        if (sk_quant_may_equalise(&net, i)) {
            w->channels[i] = sk_calloc(2 * (size_t)l->out_c, sizeof(float));
            if (!w->channels[i]) return sk_fail_memory(err, "the channels' ranges");
        }
        if (l->op != SK_OP_LINEAR || (l->act != SK_ACT_HSWISH && l->act != SK_ACT_HSIGMOID)) continue;
        w->weight[i] = sk_alloc(sk_model_weight_count(w->model, i), sizeof(float));
        w->bias[i] = sk_alloc((size_t)l->out_c, sizeof(float));
        if (!w->weight[i] || !w->bias[i]) return sk_fail_memory(err, "a layer's weights");
        const sk_status status = sk_model_folded(w->model, i, w->weight[i], w->bias[i], err);
        if (status != SK_OK) return status;
    }
    return SK_OK;
}

/* What the first pass found; room for the second, if there is one. */
static sk_status take_ends(watcher *w, sk_observe_what what, sk_error *err) {
    for (size_t i = 0; i < w->layers; i++) {
        const int c = sk_model_layer(w->model, i)->out_c;
        float *low = w->channels[i];

        if (low) {
            w->out->highest[i] = sk_alloc((size_t)c, sizeof(float));
            if (!w->out->highest[i]) return sk_fail_memory(err, "the channels' ranges");
            for (int k = 0; k < c; k++) w->out->highest[i][k] = fmaxf(low[c + k], -low[k]);
        }
        if (low && what == SK_OBSERVE_EQUAL) {
            sk_channels_equalize(low, low + c, c, &w->ranges[i]);
            w->out->equal[i] = low;
            w->channels[i] = NULL;
        }
        w->out->all[i][0] = w->ranges[i].low;
        w->out->all[i][1] = w->ranges[i].high;
        if (what == SK_OBSERVE_ENDS) continue;
        w->ranges[i].bins = sk_calloc(SK_RANGE_BINS, sizeof *w->ranges[i].bins);
        if (!w->ranges[i].bins) return sk_fail_memory(err, "the histograms");
    }
    return SK_OK;
}

static sk_status count_best(watcher *w, const sk_quant_pictures *pictures, int threads, sk_error *err) {
    w->counting = 1;
    sk_status status = pass(w, pictures, threads, err);
    for (size_t i = 0; status == SK_OK && i < w->layers; i++)
        status = sk_range_choose(&w->ranges[i], SK_QUANT_MMSE, 100, w->out->best[i], err);
    return status;
}

sk_status sk_observe(sk_model *model, const sk_quant_pictures *pictures, int threads, sk_observe_what what,
                     sk_observed *out, sk_error *err) {
    watcher *w = sk_calloc(1, sizeof *w);

    *out = (sk_observed){0};
    if (!w) return sk_fail_memory(err, "the observers");
    w->model = model;
    w->out = out;
    w->layers = sk_model_layer_count(model);
    sk_status status = prepare(w, err);
    if (status == SK_OK) status = pass(w, pictures, threads, err);
    if (status == SK_OK) status = take_ends(w, what, err);
    if (status == SK_OK && what != SK_OBSERVE_ENDS) status = count_best(w, pictures, threads, err);
    for (size_t i = 0; i < w->layers; i++) {
        sk_free(w->ranges[i].bins);
        sk_free(w->channels[i]);
        sk_free(w->weight[i]);
        sk_free(w->bias[i]);
    }
    sk_free(w);
    if (status != SK_OK) sk_observed_free(out);
    return status;
}

void sk_observed_free(sk_observed *observed) {
    for (int i = 0; i < SK_MAX_LAYERS; i++) {
        sk_free(observed->highest[i]);
        sk_free(observed->equal[i]);
    }
    *observed = (sk_observed){0};
}
