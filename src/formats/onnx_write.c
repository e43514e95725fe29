/* SPDX-License-Identifier: Apache-2.0 */
/* Float ONNX of a model: opset 13, IR 8, one node or two per layer, batch norm folded into the convolutions.
 * Initialisers have torchvision's names (X.0.weight with the folded X.0.bias), values the names of the layers, so that
 * a person finds his way in a viewer and onnx_read.c the way back. */
#include <string.h>

#include "formats/onnx_build.h"
#include "siskin/quant.h"

static const float LARGE = 1e6f; /* no value of the network's is beyond */

typedef struct builder {
    const sk_model *model;
    const sk_vendor_form *form; /* NULL: the model's own weights */
    sk_onnx graph;
    const char **outputs; /* value name per layer */
} builder;

typedef struct weights {
    float *weight, *bias;
    int rank;
    int64_t shape[4];
} weights;

/* The layer's weights (O,H,W,I) turned to ONNX's OIHW, and the bias: NULL for those of the model, folded. */
static sk_status take_weights(builder *b, size_t index, const float *weight, const float *bias, weights *out,
                              sk_error *err) {
    const sk_layer *layer = sk_model_layer(b->model, index);
    const size_t count = sk_model_weight_count(b->model, index), out_c = (size_t)layer->out_c;
    const size_t taps = layer->op == SK_OP_LINEAR ? 1 : (size_t)layer->kernel * (size_t)layer->kernel;
    const size_t in_c = count / (out_c * taps);
    float *folded = weight ? NULL : sk_onnx_take(&b->graph, count, sizeof *folded);
    *out = (weights){.rank = strncmp(layer->name, "classifier", 10) == 0 ? 2 : 4};
    out->weight = sk_onnx_take(&b->graph, count, sizeof *out->weight);
    out->bias = sk_onnx_take(&b->graph, out_c, sizeof *out->bias);
    if (b->graph.failed) return sk_fail_memory(err, "the ONNX graph");
    if (weight) {
        memcpy(out->bias, bias, out_c * sizeof *bias);
    } else {
        const sk_status status = sk_model_folded(b->model, index, folded, out->bias, err);
        if (status != SK_OK) return status;
        weight = folded;
    }
    for (size_t o = 0; o < out_c; o++)
        for (size_t t = 0; t < taps; t++)
            for (size_t i = 0; i < in_c; i++)
                out->weight[(o * in_c + i) * taps + t] = weight[(o * taps + t) * in_c + i];
    const int64_t kernel = taps == 1 ? 1 : layer->kernel, shape[4] = {layer->out_c, (int64_t)in_c, kernel, kernel};
    memcpy(out->shape, shape, sizeof shape);
    return SK_OK;
}

/* Names of the initialisers, NAME + SUFFIX + weight and bias, in in[1] and in[2]. */
static void add_weights(builder *b, const sk_layer *layer, const char *suffix, const weights *w, const char *in[3]) {
    const char *name = sk_onnx_text(&b->graph, layer->name, suffix);
    in[1] = sk_onnx_text(&b->graph, name, "weight");
    in[2] = sk_onnx_text(&b->graph, name, "bias");
    if (b->graph.failed) return;
    sk_onnx_tensor(&b->graph, in[1], SK_ONNX_FLOAT, w->weight, w->rank, w->shape);
    sk_onnx_tensor(&b->graph, in[2], SK_ONNX_FLOAT, w->bias, 1, w->shape);
}

/* ---- layers ------------------------------------------------------------------------------------------------------ */

/* The value before the activation: the layer's own name where there is none. */
static void add_activation(builder *b, const sk_layer *layer, const char *before, const char *output) {
    const char *gate = NULL;
    const char *in[2] = {before, NULL};
    Onnx__NodeProto *node;
    switch (layer->act) {
    case SK_ACT_NONE: break;
    case SK_ACT_RELU:
        sk_onnx_node(&b->graph, "Relu", sk_onnx_text(&b->graph, layer->name, "/relu"), in, 1, output);
        break;
    case SK_ACT_HSIGMOID:
    case SK_ACT_HSWISH:
        gate = layer->act == SK_ACT_HSIGMOID ? output : sk_onnx_text(&b->graph, layer->name, "/gate");
        if (b->graph.failed) return;
        node = sk_onnx_node(&b->graph, "HardSigmoid", sk_onnx_text(&b->graph, layer->name, "/hardsigmoid"), in, 1,
                            gate);
        sk_onnx_add_float(&b->graph, node, "alpha", 1.f / 6);
        sk_onnx_add_float(&b->graph, node, "beta", .5f);
        if (layer->act == SK_ACT_HSWISH && !b->graph.failed) {
            in[1] = gate;
            sk_onnx_node(&b->graph, "Mul", sk_onnx_text(&b->graph, layer->name, "/hardswish"), in, 2, output);
        }
        break;
    }
}

static void add_convolution(builder *b, const sk_layer *layer, const char *name, const char *const in[3],
                            const char *output) {
    const int64_t kernel = layer->op == SK_OP_LINEAR ? 1 : layer->kernel;
    Onnx__NodeProto *node = sk_onnx_node(&b->graph, "Conv", name, in, 3, output);
    sk_onnx_add_ints(&b->graph, node, "kernel_shape", kernel, 2);
    sk_onnx_add_ints(&b->graph, node, "strides", layer->op == SK_OP_LINEAR ? 1 : layer->stride, 2);
    sk_onnx_add_ints(&b->graph, node, "pads", layer->op == SK_OP_LINEAR ? 0 : layer->pad, 4);
    sk_onnx_add_ints(&b->graph, node, "dilations", 1, 2);
    sk_onnx_add_int(&b->graph, node, "group", layer->op == SK_OP_DEPTHWISE ? layer->out_c : 1);
}

static sk_status add_product(builder *b, size_t index, const char *input, const char *output, sk_error *err) {
    const sk_layer *layer = sk_model_layer(b->model, index);
    const char *in[3] = {input, NULL, NULL};
    weights w;
    const sk_status status = take_weights(b, index, b->form ? b->form->weight[index] : NULL,
                                          b->form ? b->form->bias[index] : NULL, &w, err);
    if (status != SK_OK) return status;
    add_weights(b, layer, layer->has_bn ? ".0." : ".", &w, in);
    if (w.rank == 4) add_convolution(b, layer, layer->name, in, output);
    else sk_onnx_add_int(&b->graph, sk_onnx_node(&b->graph, "Gemm", layer->name, in, 3, output), "transB", 1);
    return SK_OK;
}

static void add_clip(builder *b, const char *name, const char *input, float low, float high, const char *output) {
    const char *in[3] = {input, sk_onnx_text(&b->graph, name, "/low"), sk_onnx_text(&b->graph, name, "/high")};
    float *ends = sk_onnx_take(&b->graph, 2, sizeof *ends);
    if (b->graph.failed) return;
    ends[0] = low;
    ends[1] = high;
    for (int i = 0; i < 2; i++) sk_onnx_tensor(&b->graph, in[1 + i], SK_ONNX_FLOAT, ends + i, 0, NULL);
    sk_onnx_node(&b->graph, "Clip", name, in, 3, output);
}

/* hard-swish(x) / f with a factor f per channel: x / f times a gate, clip(x / 6 + 1/2, 0, 1), that has weights of its
 * own, since the codes of x / f say little of where the gate of a large f opens. f is 1 or more, so below -3 the gate
 * is shut whatever x / f is: it is clipped there, and its codes are spent above. */
static sk_status add_split_hardswish(builder *b, size_t index, const char *input, const char *output, sk_error *err) {
    const sk_layer *layer = sk_model_layer(b->model, index);
    sk_onnx *g = &b->graph;
    const char *opening = sk_onnx_text(g, layer->name, "/opening"), *gate = sk_onnx_text(g, layer->name, "/gate");
    const char *product = sk_onnx_text(g, layer->name, "/linear"), *clipped = sk_onnx_text(g, layer->name, "/clipped");
    const char *in[3] = {input, NULL, NULL}, *factors[2] = {clipped, gate};
    weights w;
    sk_status status = add_product(b, index, input, product, err);
    if (status == SK_OK) status = take_weights(b, index, b->form->gate[index], b->form->shift[index], &w, err);
    if (status != SK_OK) return status;
    add_weights(b, layer, ".gate.", &w, in);
    add_clip(b, sk_onnx_text(g, layer->name, "/clip"), product, -3, LARGE, clipped);
    add_convolution(b, layer, opening, in, opening);
    add_clip(b, sk_onnx_text(g, layer->name, "/open"), opening, 0, 1, gate);
    if (g->failed) return sk_fail_memory(err, "the ONNX graph");
    sk_onnx_node(g, "Mul", sk_onnx_text(g, layer->name, "/hardswish"), factors, 2, output);
    return SK_OK;
}

static sk_status add_layer(builder *b, size_t index, int last, sk_error *err) {
    const sk_layer *layer = sk_model_layer(b->model, index);
    const char *in[2] = {layer->input < 0 ? "input" : b->outputs[layer->input],
                         layer->input2 < 0 ? NULL : b->outputs[layer->input2]};
    const char *output = last ? "logits" : sk_onnx_text(&b->graph, layer->name, "");
    const char *before = layer->act == SK_ACT_NONE ? output : sk_onnx_text(&b->graph, layer->name, "/linear");
    sk_status status = SK_OK;
    if (b->graph.failed) return sk_fail_memory(err, "the ONNX graph");
    b->outputs[index] = output;
    if (b->form && b->form->gate[index]) return add_split_hardswish(b, index, in[0], output, err);
    switch (layer->op) {
    case SK_OP_CONV:
    case SK_OP_DEPTHWISE:
    case SK_OP_POINTWISE:
    case SK_OP_LINEAR: status = add_product(b, index, in[0], before, err); break;
    case SK_OP_POOL:
        if (strchr(layer->name, '.')) { /* of a squeeze-and-excitation block: stays [1,C,1,1] */
            sk_onnx_node(&b->graph, "GlobalAveragePool", layer->name, in, 1, before);
        } else {
            const char *pooled[1] = {"avgpool/pooled"};
            sk_onnx_node(&b->graph, "GlobalAveragePool", layer->name, in, 1, pooled[0]);
            sk_onnx_add_int(&b->graph, sk_onnx_node(&b->graph, "Flatten", "flatten", pooled, 1, before), "axis", 1);
        }
        break;
    case SK_OP_SCALE: sk_onnx_node(&b->graph, "Mul", layer->name, in, 2, before); break;
    case SK_OP_ADD: sk_onnx_node(&b->graph, "Add", layer->name, in, 2, before); break;
    }
    if (status == SK_OK && !b->graph.failed) add_activation(b, layer, before, output);
    return status == SK_OK && b->graph.failed ? sk_fail_memory(err, "the ONNX graph") : status;
}

sk_status sk_export_onnx_form(const sk_model *model, const sk_vendor_form *form, const char *path, sk_error *err) {
    const size_t layers = sk_model_layer_count(model);
    builder b = {.model = model, .form = form};
    b.outputs = sk_onnx_take(&b.graph, layers, sizeof *b.outputs);
    sk_status status = b.outputs ? SK_OK : sk_fail_memory(err, "the ONNX graph");
    for (size_t i = 0; i < layers && status == SK_OK; i++) status = add_layer(&b, i, i + 1 == layers, err);
    if (status == SK_OK) status = sk_onnx_write(&b.graph, sk_model_card(model), 13, path, err);
    sk_onnx_free(&b.graph);
    return status;
}

sk_status sk_export_onnx(const sk_model *model, const char *path, sk_error *err) {
    return sk_export_onnx_form(model, NULL, path, err);
}
