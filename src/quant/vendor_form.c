/* SPDX-License-Identifier: Apache-2.0 */
/* The form in which the vendor's converter gets the network: channels that one scale per tensor would treat unlike are
 * divided by factors. The network computes what it did. A depthwise layer that reads such a channel multiplies it back
 * with weights that have a scale per channel anyway. Behind a ReLU a factor can be taken into the weights (Nagel et al.
 * 2019, Data-Free Quantization Through Weight Equalization and Bias Correction). Behind a hard-swish it cannot:
 * hard-swish(x) / f is x / f times clip(x / 6 + 1/2, 0, 1), and the gate is computed from weights of its own, as the
 * codes of x / f say little of where it opens when f is large. That costs the layer twice, and is done for the first
 * one alone, whose input has three channels. */
#include <math.h>
#include <string.h>

#include "quant/quant.h"

/* The largest value that the first layer keeps: where hard-swish becomes linear, so that its lobe gets what codes
 * there are. */
static const float KNEE = 3;
/* A channel is made at most so many times larger: beyond that it hardly matters, and its rounding would not. */
static const float MOST = 16;

/* Depthwise layers alone read it, and it can be written in units of its own. */
static int may_have_factors(const sk_model *model, size_t index) {
    const sk_layer *layer = sk_model_layer(model, index);
    int readers = 0;
    if (layer->op != SK_OP_CONV && layer->op != SK_OP_POINTWISE) return 0;
    if (layer->act != SK_ACT_RELU && !(layer->act == SK_ACT_HSWISH && layer->input < 0)) return 0;
    for (size_t i = index + 1; i < sk_model_layer_count(model); i++) {
        const sk_layer *reader = sk_model_layer(model, i);
        if (reader->input != (int)index && reader->input2 != (int)index) continue;
        if (reader->op != SK_OP_DEPTHWISE) return 0;
        readers++;
    }
    return readers > 0;
}

static void widen(void *user, size_t layer, const float *data, int n, int h, int w, int c) {
    const sk_vendor_form *form = user;
    float *most = form->factor[layer];
    const size_t values = most ? (size_t)n * (size_t)h * (size_t)w * (size_t)c : 0;
    for (size_t i = 0; i < values; i += (size_t)c)
        for (int k = 0; k < c; k++) most[k] = fmaxf(most[k], data[i + (size_t)k]);
}

/* From the largest values of the channels to their factors. */
static void choose(const sk_layer *layer, float *factor) {
    float largest = 1e-6f;
    for (int c = 0; c < layer->out_c; c++) largest = fmaxf(largest, factor[c]);
    for (int c = 0; c < layer->out_c; c++)
        factor[c] = layer->act == SK_ACT_HSWISH ? fmaxf(factor[c] / KNEE, 1) : fmaxf(factor[c] / largest, 1 / MOST);
}

static sk_status find_factors(sk_model *model, const sk_quant_pictures *pictures, int threads, sk_vendor_form *form,
                              sk_error *err) {
    float *logits = sk_alloc((size_t)sk_model_card(model)->classes, sizeof *logits);
    sk_status status = logits ? SK_OK : sk_fail_memory(err, "the logits");
    for (size_t i = 0; status == SK_OK && i < form->layers; i++) {
        if (!may_have_factors(model, i)) continue;
        form->factor[i] = sk_calloc((size_t)sk_model_layer(model, i)->out_c, sizeof **form->factor);
        if (!form->factor[i]) status = sk_fail_memory(err, "the channels' factors");
    }
    for (int i = 0; status == SK_OK && i < pictures->count; i++)
        status = sk_model_forward(model, pictures->bytes + pictures->picture_bytes * (size_t)i, 1, threads, logits,
                                  NULL, widen, form, err);
    for (size_t i = 0; status == SK_OK && i < form->layers; i++)
        if (form->factor[i]) choose(sk_model_layer(model, i), form->factor[i]);
    sk_free(logits);
    return status;
}

/* Before the factors are taken into the layer's own weights. */
static sk_status make_gate(const sk_layer *layer, size_t index, size_t depth, sk_vendor_form *form, sk_error *err) {
    const size_t channels = (size_t)layer->out_c;
    float *gate = form->gate[index] = sk_alloc(channels * depth, sizeof *gate);
    float *shift = form->shift[index] = sk_alloc(channels, sizeof *shift);
    if (!gate || !shift) return sk_fail_memory(err, "the gate's weights");
    for (size_t k = 0; k < channels * depth; k++) gate[k] = form->weight[index][k] / 6;
    for (size_t c = 0; c < channels; c++) shift[c] = form->bias[index][c] / 6 + .5f;
    return SK_OK;
}

static sk_status fill_layer(const sk_model *model, size_t index, sk_vendor_form *form, sk_error *err) {
    const sk_layer *layer = sk_model_layer(model, index);
    const size_t count = sk_model_weight_count(model, index), channels = (size_t)layer->out_c;
    if (count == 0) return SK_OK;
    float *weight = form->weight[index] = sk_alloc(count, sizeof *weight);
    float *bias = form->bias[index] = sk_alloc(channels, sizeof *bias);
    if (!weight || !bias) return sk_fail_memory(err, "the folded weights");
    sk_status status = sk_model_folded(model, index, weight, bias, err);
    const float *by = form->factor[index], *back = layer->input < 0 ? NULL : form->factor[layer->input];
    if (status == SK_OK && by && layer->act == SK_ACT_HSWISH)
        status = make_gate(layer, index, count / channels, form, err);
    for (size_t k = 0; status == SK_OK && k < count; k++) {
        const size_t c = k / (count / channels);
        weight[k] = weight[k] * (back ? back[c] : 1) / (by ? by[c] : 1); /* readers are depthwise */
    }
    for (size_t c = 0; status == SK_OK && by && c < channels; c++) bias[c] /= by[c];
    return status;
}

sk_status sk_vendor_form_make(sk_model *model, const sk_quant_pictures *pictures, int threads, sk_vendor_form *out,
                              sk_error *err) {
    float ***const parts[] = {&out->factor, &out->weight, &out->bias, &out->gate, &out->shift};
    sk_status status = SK_OK;
    *out = (sk_vendor_form){.layers = sk_model_layer_count(model)};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (!(*parts[i] = sk_calloc(out->layers, sizeof **parts[i])))
            status = sk_fail_memory(err, "the network's form");
    if (status == SK_OK && pictures) status = find_factors(model, pictures, threads, out, err);
    for (size_t i = 0; status == SK_OK && i < out->layers; i++) status = fill_layer(model, i, out, err);
    if (status != SK_OK) sk_vendor_form_free(out);
    return status;
}

void sk_vendor_form_free(sk_vendor_form *form) {
    float **const parts[] = {form->factor, form->weight, form->bias, form->gate, form->shift};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        for (size_t k = 0; parts[i] && k < form->layers; k++) sk_free(parts[i][k]);
        sk_free(parts[i]);
    }
    memset(form, 0, sizeof *form);
}
