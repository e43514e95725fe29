/* SPDX-License-Identifier: Apache-2.0 */
/* Channels of the float ONNX that one scale per tensor would treat unlike: which layers get factors, and which. The
 * network computes what it did. A depthwise layer that reads such a channel multiplies it back with weights that have
 * a scale per channel anyway. Behind a ReLU a factor can be taken into the weights (Nagel et al. 2019, Data-Free
 * Quantization Through Weight Equalization and Bias Correction). Behind a hard-swish it cannot, so onnx_write.c
 * computes the gate from weights of its own; that costs the layer twice, and is done for the first one alone, whose
 * input has three channels. */
#include <math.h>

#include "base/base.h"
#include "formats/onnx_write.h"
#include "net/net.h"

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
    const sk_onnx_equal *equal = user;
    float *most = equal->factor[layer];
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

sk_status sk_onnx_equal_find(sk_model *model, const sk_quant_pictures *pictures, int threads, sk_onnx_equal *out,
                             sk_error *err) {
    float logits[SK_NET_MAX_CLASSES];
    *out = (sk_onnx_equal){.layers = sk_model_layer_count(model)};
    out->factor = sk_calloc(out->layers, sizeof *out->factor);
    sk_status status = out->factor ? SK_OK : sk_fail_memory(err, "the channels' factors");
    for (size_t i = 0; status == SK_OK && i < out->layers; i++) {
        if (!may_have_factors(model, i)) continue;
        out->factor[i] = sk_calloc((size_t)sk_model_layer(model, i)->out_c, sizeof **out->factor);
        if (!out->factor[i]) status = sk_fail_memory(err, "the channels' factors");
    }
    for (int i = 0; status == SK_OK && i < pictures->count; i++)
        status = sk_model_forward(model, pictures->bytes + pictures->picture_bytes * (size_t)i, 1, threads, logits,
                                  NULL, widen, out, err);
    for (size_t i = 0; status == SK_OK && i < out->layers; i++)
        if (out->factor[i]) choose(sk_model_layer(model, i), out->factor[i]);
    if (status != SK_OK) sk_onnx_equal_free(out);
    return status;
}

void sk_onnx_equal_free(sk_onnx_equal *equal) {
    for (size_t i = 0; equal->factor && i < equal->layers; i++) sk_free(equal->factor[i]);
    sk_free(equal->factor);
    *equal = (sk_onnx_equal){0};
}
