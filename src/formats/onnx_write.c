/* SPDX-License-Identifier: Apache-2.0 */
/* Float ONNX of a model: opset 13, IR 8, one node or two per layer, batch norm folded into the convolutions.
 * Initialisers have torchvision's names (X.0.weight with the folded X.0.bias), values the names of the layers, so that
 * a person finds his way in a viewer and onnx_read.c the way back. */
#include <string.h>

#include "formats/onnx_build.h"
#include "siskin/quant.h"

typedef struct builder {
    const sk_model *model;
    sk_onnx graph;
    const char **outputs; /* value name per layer */
} builder;

/* Folded weights (O,H,W,I) turned to ONNX's OIHW, and the bias; their names in *weight and *bias. */
static sk_status add_weights(builder *b, size_t index, const char **weight_name, const char **bias_name,
                             sk_error *err) {
    const sk_layer *layer = sk_model_layer(b->model, index);
    const size_t count = sk_model_weight_count(b->model, index), out_c = (size_t)layer->out_c;
    const size_t taps = layer->op == SK_OP_LINEAR ? 1 : (size_t)layer->kernel * (size_t)layer->kernel;
    const size_t in_c = count / (out_c * taps);
    const int gemm = strncmp(layer->name, "classifier", 10) == 0;
    float *folded = sk_onnx_take(&b->graph, count, sizeof *folded);
    float *weight = sk_onnx_take(&b->graph, count, sizeof *weight);
    float *bias = sk_onnx_take(&b->graph, out_c, sizeof *bias);
    *weight_name = sk_onnx_text(&b->graph, layer->name, layer->has_bn ? ".0.weight" : ".weight");
    *bias_name = sk_onnx_text(&b->graph, layer->name, layer->has_bn ? ".0.bias" : ".bias");
    if (b->graph.failed) return sk_fail_memory(err, "the ONNX graph");
    const sk_status status = sk_model_folded(b->model, index, folded, bias, err);
    if (status != SK_OK) return status;
    for (size_t o = 0; o < out_c; o++)
        for (size_t t = 0; t < taps; t++)
            for (size_t i = 0; i < in_c; i++) weight[(o * in_c + i) * taps + t] = folded[(o * taps + t) * in_c + i];
    const int64_t kernel = taps == 1 ? 1 : layer->kernel;
    const int64_t shape[4] = {layer->out_c, (int64_t)in_c, kernel, kernel};
    sk_onnx_tensor(&b->graph, *weight_name, SK_ONNX_FLOAT, weight, gemm ? 2 : 4, shape);
    sk_onnx_tensor(&b->graph, *bias_name, SK_ONNX_FLOAT, bias, 1, shape);
    return SK_OK;
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

static sk_status add_product(builder *b, size_t index, const char *input, const char *output, sk_error *err) {
    const sk_layer *layer = sk_model_layer(b->model, index);
    const char *in[3] = {input, NULL, NULL};
    Onnx__NodeProto *node;
    const sk_status status = add_weights(b, index, &in[1], &in[2], err);
    if (status != SK_OK) return status;
    if (strncmp(layer->name, "classifier", 10) == 0) {
        node = sk_onnx_node(&b->graph, "Gemm", layer->name, in, 3, output);
        sk_onnx_add_int(&b->graph, node, "transB", 1);
        return SK_OK;
    }
    const int64_t kernel = layer->op == SK_OP_LINEAR ? 1 : layer->kernel;
    node = sk_onnx_node(&b->graph, "Conv", layer->name, in, 3, output);
    sk_onnx_add_ints(&b->graph, node, "kernel_shape", kernel, 2);
    sk_onnx_add_ints(&b->graph, node, "strides", layer->op == SK_OP_LINEAR ? 1 : layer->stride, 2);
    sk_onnx_add_ints(&b->graph, node, "pads", layer->op == SK_OP_LINEAR ? 0 : layer->pad, 4);
    sk_onnx_add_ints(&b->graph, node, "dilations", 1, 2);
    sk_onnx_add_int(&b->graph, node, "group", layer->op == SK_OP_DEPTHWISE ? layer->out_c : 1);
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

sk_status sk_export_onnx(const sk_model *model, const char *path, sk_error *err) {
    const size_t layers = sk_model_layer_count(model);
    builder b = {.model = model};
    b.outputs = sk_onnx_take(&b.graph, layers, sizeof *b.outputs);
    sk_status status = b.outputs ? SK_OK : sk_fail_memory(err, "the ONNX graph");
    for (size_t i = 0; i < layers && status == SK_OK; i++) status = add_layer(&b, i, i + 1 == layers, err);
    if (status == SK_OK) status = sk_onnx_write(&b.graph, sk_model_card(model), 13, path, err);
    sk_onnx_free(&b.graph);
    return status;
}
