/* SPDX-License-Identifier: Apache-2.0 */
/* Float ONNX of a model: opset 13, IR 8, one node or two per layer, batch norm folded into the convolutions.
 * Initialisers have torchvision's names (X.0.weight with the folded X.0.bias), values the names of the layers, so that
 * a person finds his way in a viewer and onnx_read.c the way back. */
#include <stdio.h>
#include <string.h>

#include "formats/tensors.h"
#include "onnx.pb-c.h"
#include "siskin/quant.h"

#define ONNX_FLOAT 1 /* TensorProto.DataType */

/* Messages live in blocks that are released together; after a failed allocation nothing more is added. */
typedef struct builder {
    const sk_model *model;
    void **blocks;
    size_t block_count, block_capacity;
    Onnx__NodeProto **nodes;
    Onnx__TensorProto **tensors;
    size_t node_count, tensor_count;
    const char **outputs; /* value name per layer */
    int failed;
} builder;

static void *take(builder *b, size_t count, size_t size) {
    void *block = NULL;
    if (!b->failed && b->block_count == b->block_capacity) {
        const size_t capacity = b->block_capacity ? b->block_capacity * 2 : 256;
        void **blocks = sk_realloc(b->blocks, b->block_capacity, capacity, sizeof *blocks);
        if (blocks) {
            b->blocks = blocks;
            b->block_capacity = capacity;
        } else {
            b->failed = 1;
        }
    }
    if (!b->failed && !(block = sk_calloc(count ? count : 1, size))) b->failed = 1;
    if (block) b->blocks[b->block_count++] = block;
    return block;
}

/* NULL after a failure; arguments that came from here may be NULL then. */
static char *text(builder *b, const char *prefix, const char *suffix) {
    const size_t size = b->failed ? 0 : strlen(prefix) + strlen(suffix) + 1;
    char *out = take(b, size, 1);
    if (out) snprintf(out, size, "%s%s", prefix, suffix);
    return out;
}

/* ---- nodes ------------------------------------------------------------------------------------------------------ */
static Onnx__NodeProto *add_node(builder *b, const char *type, const char *name, const char *const *inputs,
                                 size_t count, const char *output) {
    Onnx__NodeProto *node = take(b, 1, sizeof *node);
    char **ins = take(b, count, sizeof *ins), **outs = take(b, 1, sizeof *outs);
    Onnx__AttributeProto **attributes = take(b, 6, sizeof *attributes);
    char *type_copy = text(b, type, ""), *name_copy = text(b, name, "");
    if (b->failed) return NULL;
    onnx__node_proto__init(node);
    for (size_t i = 0; i < count; i++) ins[i] = text(b, inputs[i], "");
    outs[0] = text(b, output, "");
    node->op_type = type_copy;
    node->name = name_copy;
    node->input = ins;
    node->n_input = count;
    node->output = outs;
    node->n_output = 1;
    node->attribute = attributes;
    if (b->failed) return NULL;
    b->nodes[b->node_count++] = node;
    return node;
}

static Onnx__AttributeProto *add_attribute(builder *b, Onnx__NodeProto *node, const char *name,
                                           Onnx__AttributeProto__AttributeType type) {
    Onnx__AttributeProto *attribute = node ? take(b, 1, sizeof *attribute) : NULL;
    char *copy = attribute ? text(b, name, "") : NULL;
    if (!copy) return NULL;
    onnx__attribute_proto__init(attribute);
    attribute->name = copy;
    attribute->has_type = 1;
    attribute->type = type;
    node->attribute[node->n_attribute++] = attribute;
    return attribute;
}

static void add_float(builder *b, Onnx__NodeProto *node, const char *name, float value) {
    Onnx__AttributeProto *attribute = add_attribute(b, node, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT);
    if (attribute) {
        attribute->has_f = 1;
        attribute->f = value;
    }
}

static void add_int(builder *b, Onnx__NodeProto *node, const char *name, int64_t value) {
    Onnx__AttributeProto *attribute = add_attribute(b, node, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT);
    if (attribute) {
        attribute->has_i = 1;
        attribute->i = value;
    }
}

static void add_ints(builder *b, Onnx__NodeProto *node, const char *name, int64_t value, size_t count) {
    int64_t *values = take(b, count, sizeof *values);
    Onnx__AttributeProto *attribute =
        values ? add_attribute(b, node, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS) : NULL;
    if (!attribute) return;
    for (size_t i = 0; i < count; i++) values[i] = value;
    attribute->ints = values;
    attribute->n_ints = count;
}

/* ---- initialisers ----------------------------------------------------------------------------------------------- */
static void add_tensor(builder *b, const char *name, const float *data, int rank, const int64_t *shape) {
    size_t count = 1;
    Onnx__TensorProto *tensor = take(b, 1, sizeof *tensor);
    int64_t *dims = take(b, 4, sizeof *dims);
    char *copy = text(b, name, "");
    if (b->failed) return;
    onnx__tensor_proto__init(tensor);
    for (int i = 0; i < rank; i++) {
        dims[i] = shape[i];
        count *= (size_t)shape[i];
    }
    tensor->name = copy;
    tensor->dims = dims;
    tensor->n_dims = (size_t)rank;
    tensor->has_data_type = 1;
    tensor->data_type = ONNX_FLOAT;
    tensor->has_raw_data = 1;
    tensor->raw_data.len = count * sizeof(float);
    tensor->raw_data.data = (uint8_t *)(uintptr_t)data; /* protobuf-c lacks const; packing only reads */
    b->tensors[b->tensor_count++] = tensor;
}

/* Folded weights (O,H,W,I) turned to ONNX's OIHW, and the bias; their names in *weight and *bias. */
static sk_status add_weights(builder *b, size_t index, const char **weight_name, const char **bias_name,
                             sk_error *err) {
    const sk_layer *layer = sk_model_layer(b->model, index);
    const size_t count = sk_model_weight_count(b->model, index), out_c = (size_t)layer->out_c;
    const size_t taps = layer->op == SK_OP_LINEAR ? 1 : (size_t)layer->kernel * (size_t)layer->kernel;
    const size_t in_c = count / (out_c * taps);
    const int gemm = strncmp(layer->name, "classifier", 10) == 0;
    float *folded = take(b, count, sizeof *folded), *weight = take(b, count, sizeof *weight);
    float *bias = take(b, out_c, sizeof *bias);
    *weight_name = text(b, layer->name, layer->has_bn ? ".0.weight" : ".weight");
    *bias_name = text(b, layer->name, layer->has_bn ? ".0.bias" : ".bias");
    if (b->failed) return sk_fail_memory(err, "the ONNX graph");
    const sk_status status = sk_model_folded(b->model, index, folded, bias, err);
    if (status != SK_OK) return status;
    for (size_t o = 0; o < out_c; o++)
        for (size_t t = 0; t < taps; t++)
            for (size_t i = 0; i < in_c; i++) weight[(o * in_c + i) * taps + t] = folded[(o * taps + t) * in_c + i];
    const int64_t kernel = taps == 1 ? 1 : layer->kernel;
    const int64_t shape[4] = {layer->out_c, (int64_t)in_c, kernel, kernel};
    add_tensor(b, *weight_name, weight, gemm ? 2 : 4, shape);
    add_tensor(b, *bias_name, bias, 1, shape);
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
    case SK_ACT_RELU: add_node(b, "Relu", text(b, layer->name, "/relu"), in, 1, output); break;
    case SK_ACT_HSIGMOID:
    case SK_ACT_HSWISH:
        gate = layer->act == SK_ACT_HSIGMOID ? output : text(b, layer->name, "/gate");
        if (b->failed) return;
        node = add_node(b, "HardSigmoid", text(b, layer->name, "/hardsigmoid"), in, 1, gate);
        add_float(b, node, "alpha", 1.f / 6);
        add_float(b, node, "beta", .5f);
        if (layer->act == SK_ACT_HSWISH && !b->failed) {
            in[1] = gate;
            add_node(b, "Mul", text(b, layer->name, "/hardswish"), in, 2, output);
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
        node = add_node(b, "Gemm", layer->name, in, 3, output);
        add_int(b, node, "transB", 1);
        return SK_OK;
    }
    const int64_t kernel = layer->op == SK_OP_LINEAR ? 1 : layer->kernel;
    node = add_node(b, "Conv", layer->name, in, 3, output);
    add_ints(b, node, "kernel_shape", kernel, 2);
    add_ints(b, node, "strides", layer->op == SK_OP_LINEAR ? 1 : layer->stride, 2);
    add_ints(b, node, "pads", layer->op == SK_OP_LINEAR ? 0 : layer->pad, 4);
    add_ints(b, node, "dilations", 1, 2);
    add_int(b, node, "group", layer->op == SK_OP_DEPTHWISE ? layer->out_c : 1);
    return SK_OK;
}

static sk_status add_layer(builder *b, size_t index, int last, sk_error *err) {
    const sk_layer *layer = sk_model_layer(b->model, index);
    const char *in[2] = {layer->input < 0 ? "input" : b->outputs[layer->input],
                         layer->input2 < 0 ? NULL : b->outputs[layer->input2]};
    const char *output = last ? "logits" : text(b, layer->name, "");
    const char *before = layer->act == SK_ACT_NONE ? output : text(b, layer->name, "/linear");
    sk_status status = SK_OK;
    if (b->failed) return sk_fail_memory(err, "the ONNX graph");
    b->outputs[index] = output;
    switch (layer->op) {
    case SK_OP_CONV:
    case SK_OP_DEPTHWISE:
    case SK_OP_POINTWISE:
    case SK_OP_LINEAR: status = add_product(b, index, in[0], before, err); break;
    case SK_OP_POOL:
        if (strchr(layer->name, '.')) { /* of a squeeze-and-excitation block: stays [1,C,1,1] */
            add_node(b, "GlobalAveragePool", layer->name, in, 1, before);
        } else {
            const char *pooled[1] = {"avgpool/pooled"};
            add_node(b, "GlobalAveragePool", layer->name, in, 1, pooled[0]);
            add_int(b, add_node(b, "Flatten", "flatten", pooled, 1, before), "axis", 1);
        }
        break;
    case SK_OP_SCALE: add_node(b, "Mul", layer->name, in, 2, before); break;
    case SK_OP_ADD: add_node(b, "Add", layer->name, in, 2, before); break;
    }
    if (status == SK_OK && !b->failed) add_activation(b, layer, before, output);
    return status == SK_OK && b->failed ? sk_fail_memory(err, "the ONNX graph") : status;
}

/* ---- the model --------------------------------------------------------------------------------------------------- */
static Onnx__ValueInfoProto **make_value(builder *b, const char *name, const int64_t *shape, size_t rank) {
    Onnx__ValueInfoProto **list = take(b, 1, sizeof *list), *value = take(b, 1, sizeof *value);
    Onnx__TypeProto *type = take(b, 1, sizeof *type);
    Onnx__TypeProto__Tensor *tensor = take(b, 1, sizeof *tensor);
    Onnx__TensorShapeProto *dims = take(b, 1, sizeof *dims);
    Onnx__TensorShapeProto__Dimension **list_dims = take(b, rank, sizeof *list_dims), *dim = take(b, rank, sizeof *dim);
    char *copy = text(b, name, "");
    if (b->failed) return NULL;
    onnx__value_info_proto__init(value);
    onnx__type_proto__init(type);
    onnx__type_proto__tensor__init(tensor);
    onnx__tensor_shape_proto__init(dims);
    for (size_t i = 0; i < rank; i++) {
        onnx__tensor_shape_proto__dimension__init(&dim[i]);
        dim[i].value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
        dim[i].dim_value = shape[i];
        list_dims[i] = &dim[i];
    }
    dims->dim = list_dims;
    dims->n_dim = rank;
    tensor->has_elem_type = 1;
    tensor->elem_type = ONNX_FLOAT;
    tensor->shape = dims;
    type->value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
    type->tensor_type = tensor;
    value->name = copy;
    value->type = type;
    list[0] = value;
    return list;
}

static Onnx__GraphProto *make_graph(builder *b, const sk_card *card) {
    const int64_t image[4] = {1, 3, card->size, card->size}, logits[2] = {1, card->classes};
    Onnx__GraphProto *graph = take(b, 1, sizeof *graph);
    Onnx__ValueInfoProto **input = make_value(b, "input", image, 4), **output = make_value(b, "logits", logits, 2);
    char *name = text(b, sk_arch_name(card->arch), "");
    if (b->failed) return NULL;
    onnx__graph_proto__init(graph);
    graph->name = name;
    graph->node = b->nodes;
    graph->n_node = b->node_count;
    graph->initializer = b->tensors;
    graph->n_initializer = b->tensor_count;
    graph->input = input;
    graph->n_input = 1;
    graph->output = output;
    graph->n_output = 1;
    return graph;
}

static Onnx__ModelProto *make_model(builder *b, const sk_card *card, const sk_tensor_file *meta) {
    Onnx__ModelProto *model = take(b, 1, sizeof *model);
    Onnx__OperatorSetIdProto *opset = take(b, 1, sizeof *opset), **opsets = take(b, 1, sizeof *opsets);
    Onnx__StringStringEntryProto *pairs = take(b, meta->meta_count, sizeof *pairs);
    Onnx__StringStringEntryProto **list = take(b, meta->meta_count, sizeof *list);
    Onnx__GraphProto *graph = make_graph(b, card);
    char *producer = text(b, "siskin", ""), *version = text(b, SK_VERSION, ""), *domain = text(b, "", "");
    if (b->failed) return NULL;
    onnx__model_proto__init(model);
    onnx__operator_set_id_proto__init(opset);
    opset->domain = domain;
    opset->has_version = 1;
    opset->version = 13;
    opsets[0] = opset;
    for (size_t i = 0; i < meta->meta_count; i++) {
        onnx__string_string_entry_proto__init(&pairs[i]);
        pairs[i].key = meta->meta[i].key;
        pairs[i].value = meta->meta[i].value;
        list[i] = &pairs[i];
    }
    model->has_ir_version = 1;
    model->ir_version = 8;
    model->producer_name = producer;
    model->producer_version = version;
    model->opset_import = opsets;
    model->n_opset_import = 1;
    model->graph = graph;
    model->metadata_props = list;
    model->n_metadata_props = meta->meta_count;
    return model;
}

static sk_status write_model(const Onnx__ModelProto *model, const char *path, sk_error *err) {
    const size_t size = onnx__model_proto__get_packed_size(model);
    uint8_t *bytes = sk_alloc(size, 1);
    if (!bytes) return sk_fail_memory(err, path);
    onnx__model_proto__pack(model, bytes);
    const sk_status status = sk_file_write(path, bytes, size, err);
    sk_free(bytes);
    return status;
}

sk_status sk_export_onnx(const sk_model *model, const char *path, sk_error *err) {
    const size_t layers = sk_model_layer_count(model);
    builder b = {.model = model};
    sk_tensor_file meta = {0};
    Onnx__ModelProto *onnx = NULL;
    sk_status status = sk_tensors_set_card(&meta, sk_model_card(model), err);
    b.nodes = take(&b, 3 * layers + 1, sizeof *b.nodes);
    b.tensors = take(&b, 2 * layers, sizeof *b.tensors);
    b.outputs = take(&b, layers, sizeof *b.outputs);
    if (status == SK_OK && b.failed) status = sk_fail_memory(err, "the ONNX graph");
    for (size_t i = 0; i < layers && status == SK_OK; i++) status = add_layer(&b, i, i + 1 == layers, err);
    if (status == SK_OK && !(onnx = make_model(&b, sk_model_card(model), &meta)))
        status = sk_fail_memory(err, "the ONNX graph");
    if (status == SK_OK) status = write_model(onnx, path, err);
    for (size_t i = 0; i < b.block_count; i++) sk_free(b.blocks[i]);
    sk_free(b.blocks);
    sk_tensors_free(&meta);
    return status;
}
