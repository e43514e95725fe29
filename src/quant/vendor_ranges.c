/* SPDX-License-Identifier: Apache-2.0 */
/* The ranges of the vendor's int8 network: all that calibration pictures show, or the toolkit's own table. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "quant/vendor.h"

/* ---- observed ---------------------------------------------------------------------------------------------------- */

static sk_status watch(sk_vendor *net, const sk_quant_pictures *pictures, sk_vendor_seen *seen, const sk_hooks *hooks,
                       sk_error *err) {
    const size_t values = 3 * (size_t)net->card.size * (size_t)net->card.size;
    sk_range input = {0};
    for (int p = 0; p < pictures->count; p++) {
        if (sk_cancelled(hooks)) {
            return sk_fail(err, SK_ERR_CANCELLED, "the forecast was stopped");
        }
        sk_float_run_picture(net->real, &net->pass.run, pictures->bytes + pictures->picture_bytes * (size_t)p);
        sk_range_widen(&input, net->pass.run.tensor[0], values);
        for (size_t i = 0; i < net->folded.net.count; i++) {
            sk_vendor_step(net, &net->pass, i, &seen[i]);
        }
        sk_progress(hooks, "ranges", "pictures", (uint64_t)p + 1, (uint64_t)pictures->count);
    }
    net->input = sk_vendor_codes_of((double)input.low, (double)input.high);
    return SK_OK;
}

static sk_vendor_codes codes_of(const sk_vendor_seen *s, int place) {
    return sk_vendor_codes_of((double)s->low[place + 1], (double)s->high[place + 1]);
}

/* What lies beyond the bends of the curve is none of the range: it comes out the same. The bends of a hard-sigmoid are
 * where its float slope puts them, a ten-millionth ahead of 3; that matters, since every code of it comes out half-way
 * between two codes of the output. */
static sk_vendor_codes codes_before(const sk_vendor_seen *s, sk_act act) {
    const double low = (double)s->low[SK_VENDOR_IN + 1], high = (double)s->high[SK_VENDOR_IN + 1];
    const double bend = 0.5 / (double)(1.0F / 6);
    return act == SK_ACT_HSIGMOID ? sk_vendor_codes_of(fmax(low, -bend), fmin(high, bend))
                                  : sk_vendor_codes_of(fmax(low, -3), high);
}

/* The NPU multiplies a channel's sums by its scale over the layer's largest, in 14 bits: the converter makes no scale
 * smaller than one of these, though the zero point stays that of the channel's own range. */
void sk_vendor_weight_codes(const sk_layer *layer, const float *weight, int by_layer, sk_vendor_codes *codes) {
    const size_t depth = (size_t)sk_layer_depth(layer), channels = (size_t)layer->out_c;
    const size_t groups = by_layer ? 1 : channels, count = channels / groups * depth;
    float largest = 0;
    for (size_t g = 0; g < groups; g++) {
        sk_range range = {0};
        sk_range_widen(&range, weight + g * count, count);
        codes[g] = sk_vendor_codes_of((double)range.low, (double)range.high);
        largest = fmaxf(largest, codes[g].scale);
    }
    for (size_t g = 0; g < groups; g++) {
        codes[g].scale = fmaxf(codes[g].scale, largest / 16384);
    }
}

static sk_status choose_weights(sk_vendor *net, size_t index, int by_layer, sk_error *err) {
    const sk_layer *l = &net->folded.layers[index];
    const size_t groups = by_layer ? 1 : (size_t)l->out_c;
    const float in = sk_vendor_in_scale(net, index);
    sk_vendor_codes *codes = sk_alloc(groups, sizeof *codes);
    if (!codes) {
        return sk_fail_memory(err, "the weights' scales");
    }
    sk_vendor_weight_codes(l, net->folded.weight[index], by_layer, codes);
    sk_vendor_round_weights(l, in, codes, groups, net->folded.weight[index], net->folded.bias[index],
                            net->coded.weight[index], net->coded.bias[index]);
    if ((int)index == net->split) {
        sk_vendor_weight_codes(l, net->gate.weight[0], by_layer, codes);
        sk_vendor_round_weights(l, in, codes, groups, net->gate.weight[0], net->gate.bias[0], net->gate_coded.weight[0],
                                net->gate_coded.bias[0]);
    }
    sk_free(codes);
    return SK_OK;
}

void sk_vendor_choose(sk_vendor *net, size_t index, const sk_vendor_seen *seen) {
    sk_vendor_layer *v = &net->layers[index];
    v->in = codes_before(seen, v->act);
    v->out = codes_of(seen, SK_VENDOR_OUT);
    v->gate = codes_of(seen, SK_VENDOR_GATE);
    for (int k = 0; k < v->stages; k++) {
        v->stage[k] = codes_of(seen, k);
        v->gain[k] = sk_vendor_pool_gain(&net->folded.layers[index], v->stages); /* 255 codes of itself: not rounded */
    }
}

sk_status sk_vendor_observe(const sk_model *model, const sk_vendor_form *form, const sk_quant_pictures *pictures,
                            int by_layer, const sk_hooks *hooks, sk_vendor **out, sk_error *err) {
    sk_vendor *net = NULL;
    sk_status status = sk_vendor_begin(model, form, &net, err);
    const size_t n = status == SK_OK ? net->folded.net.count : 1;
    sk_vendor_seen *seen = sk_calloc(n, sizeof *seen);
    if (status == SK_OK) {
        status = seen ? watch(net, pictures, seen, hooks, err) : sk_fail_memory(err, "the ranges");
    }
    for (size_t i = 0; status == SK_OK && i < n; i++) { /* layers come in the order in which they read each other */
        sk_vendor_choose(net, i, &seen[i]);
        if (sk_layer_has_weights(&net->folded.layers[i])) {
            status = choose_weights(net, i, by_layer, err);
        }
    }
    sk_free(seen);
    return sk_vendor_end(net, status, out, err);
}

/* ---- taken from the toolkit -------------------------------------------------------------------------------------- */

typedef struct table {
    const sk_vendor_range *ranges;
    size_t count;
    sk_error *err;
} table;

static sk_vendor_codes pair(const sk_vendor_range *r, size_t at) {
    return (sk_vendor_codes){r->scale[at], -128 - r->zero[at], 127 - r->zero[at]};
}

/* Not many lookups, so that the table is simply walked. */
static sk_status find(const table *t, const char *layer, const char *tail, size_t channels,
                      const sk_vendor_range **out) {
    char name[128];
    snprintf(name, sizeof name, "%s%s", layer, tail);
    for (size_t i = 0; i < t->count; i++) {
        const sk_vendor_range *r = *out = &t->ranges[i];
        if (strcmp(r->name, name) != 0) {
            continue;
        }
        if (r->count != 1 && r->count != channels) {
            return sk_fail(t->err, SK_ERR_MISMATCH, "the toolkit has %zu ranges for %s, not %zu", r->count, name,
                           channels);
        }
        for (size_t k = 0; k < r->count; k++) {
            if (!(r->scale[k] > 0) || !isfinite(r->scale[k]) || !(fabsf(r->zero[k]) <= 128)) {
                return sk_fail(t->err, SK_ERR_MISMATCH, "the toolkit's range for %s is no range", name);
            }
        }
        return SK_OK;
    }
    return sk_fail(t->err, SK_ERR_MISMATCH, "the toolkit tells no range for %s: is it of another version?", name);
}

static sk_status take_one(const table *t, const char *layer, const char *tail, sk_vendor_codes *codes) {
    const sk_vendor_range *r = NULL;
    const sk_status status = find(t, layer, tail, 1, &r);
    if (status == SK_OK) {
        *codes = pair(r, 0);
    }
    return status;
}

/* From `real` weights of a layer to `coded` ones, number `at` of both, with the codes told under `tail`. */
static sk_status take_weights(const sk_vendor *net, const table *t, size_t index, const char *tail, size_t at,
                              const sk_quant_net *real, const sk_vendor_weights *coded) {
    const sk_layer *l = &net->folded.layers[index];
    const sk_vendor_range *r = NULL;
    const sk_status status = find(t, l->name, tail, (size_t)l->out_c, &r);
    if (status != SK_OK) {
        return status;
    }
    sk_vendor_codes *codes = sk_alloc(r->count, sizeof *codes);
    if (!codes) {
        return sk_fail_memory(t->err, "the weights' scales");
    }
    for (size_t c = 0; c < r->count; c++) {
        codes[c] = pair(r, c);
    }
    sk_vendor_round_weights(l, sk_vendor_in_scale(net, index), codes, r->count, real->weight[at], real->bias[at],
                            coded->weight[at], coded->bias[at]);
    sk_free(codes);
    return SK_OK;
}

/* The last pool of the network is followed by a reshape, which bears the layer's name in our ONNX. */
static sk_status take_pool(sk_vendor *net, const table *t, size_t index) {
    const sk_layer *l = &net->folded.layers[index];
    sk_vendor_layer *v = &net->layers[index];
    sk_status status = take_one(t, l->name, strcmp(l->name, "avgpool") == 0 ? "/pooled" : "", &v->out);
    for (int k = 0; status == SK_OK && k < v->stages; k++) {
        const sk_vendor_range *r = NULL;
        char tail[24];
        snprintf(tail, sizeof tail, "_2conv%d", k);
        if (k + 1 < v->stages) {
            status = take_one(t, l->name, tail, &v->stage[k]);
        }
        snprintf(tail, sizeof tail, "_2conv%d_i1", k);
        if (status == SK_OK) {
            status = find(t, l->name, tail, (size_t)l->in_c, &r);
        }
        if (status == SK_OK) {
            const sk_vendor_codes codes = pair(r, 0); /* all channels have the same window */
            v->gain[k] = sk_vendor_pool_gain(l, v->stages);
            sk_vendor_round(&codes, &v->gain[k], 1);
        }
    }
    return status;
}

static sk_status take_split(sk_vendor *net, const table *t, size_t index) {
    const sk_layer *l = &net->folded.layers[index];
    sk_vendor_layer *v = &net->layers[index];
    sk_status status = take_one(t, l->name, "/clipped", &v->in);
    if (status == SK_OK) {
        status = take_one(t, l->name, "/gate", &v->gate);
    }
    return status == SK_OK
               ? take_weights(net, t, index, ".gate.weight", 0, &net->gate.net, &net->gate_coded) : status;
}

static sk_status take_layer(sk_vendor *net, const table *t, size_t index) {
    const sk_layer *l = &net->folded.layers[index];
    sk_vendor_layer *v = &net->layers[index];
    const int last = index + 1 == net->folded.net.count;
    sk_status status = v->stages ? take_pool(net, t, index) : take_one(t, last ? "logits_int8" : l->name, "", &v->out);
    if (status == SK_OK && v->before) {
        status = take_one(t, l->name, "/linear", &v->in);
    }
    if (status == SK_OK && sk_layer_has_weights(l)) {
        status = take_weights(net, t, index, l->has_bn ? ".0.weight" : ".weight", index, &net->folded.net, &net->coded);
    }
    return status == SK_OK && (int)index == net->split ? take_split(net, t, index) : status;
}

sk_status sk_vendor_take(const sk_model *model, const sk_vendor_form *form, const sk_vendor_range *ranges, size_t count,
                         sk_vendor **out, sk_error *err) {
    const table t = {ranges, count, err};
    sk_vendor *net = NULL;
    sk_status status = sk_vendor_begin(model, form, &net, err);
    if (status == SK_OK) {
        status = take_one(&t, "input_int8", "", &net->input);
    }
    for (size_t i = 0; status == SK_OK && i < net->folded.net.count; i++) {
        status = take_layer(net, &t, i);
    }
    return sk_vendor_end(net, status, out, err);
}
