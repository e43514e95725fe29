/* SPDX-License-Identifier: Apache-2.0 */
/* ONNX graphs, message by message, and the file around them. IR 8. */
#include "formats/onnx_build.h"

#include <stdio.h>
#include <string.h>

void *sk_onnx_take(sk_onnx *b, size_t count, size_t size) {
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

char *sk_onnx_text(sk_onnx *b, const char *prefix, const char *suffix) {
    const size_t size = b->failed ? 0 : strlen(prefix) + strlen(suffix) + 1;
    char *out = sk_onnx_take(b, size, 1);
    if (out) snprintf(out, size, "%s%s", prefix, suffix);
    return out;
}

/* Room for one more in a growing list; 0 after a failure. */
static int add_place(sk_onnx *b, void ***list, size_t count, size_t *capacity) {
    if (b->failed || count < *capacity) return !b->failed;
    const size_t more = *capacity ? *capacity * 2 : 256;
    void **grown = sk_onnx_take(b, more, sizeof *grown);
    if (!grown) return 0;
    if (count) memcpy(grown, *list, count * sizeof *grown);
    *list = grown;
    *capacity = more;
    return 1;
}

/* ---- nodes ------------------------------------------------------------------------------------------------------ */
Onnx__NodeProto *sk_onnx_node(sk_onnx *b, const char *type, const char *name, const char *const *inputs,
                                 size_t count, const char *output) {
    Onnx__NodeProto *node = sk_onnx_take(b, 1, sizeof *node);
    char **ins = sk_onnx_take(b, count, sizeof *ins), **outs = sk_onnx_take(b, 1, sizeof *outs);
    Onnx__AttributeProto **attributes = sk_onnx_take(b, 6, sizeof *attributes);
    char *type_copy = sk_onnx_text(b, type, ""), *name_copy = sk_onnx_text(b, name, "");
    if (b->failed) return NULL;
    onnx__node_proto__init(node);
    for (size_t i = 0; i < count; i++) ins[i] = sk_onnx_text(b, inputs[i], "");
    outs[0] = sk_onnx_text(b, output, "");
    node->op_type = type_copy;
    node->name = name_copy;
    node->input = ins;
    node->n_input = count;
    node->output = outs;
    node->n_output = 1;
    node->attribute = attributes;
    if (!add_place(b, (void ***)&b->nodes, b->node_count, &b->node_capacity)) return NULL;
    b->nodes[b->node_count++] = node;
    return node;
}

static Onnx__AttributeProto *add_attribute(sk_onnx *b, Onnx__NodeProto *node, const char *name,
                                           Onnx__AttributeProto__AttributeType type) {
    Onnx__AttributeProto *attribute = node ? sk_onnx_take(b, 1, sizeof *attribute) : NULL;
    char *copy = attribute ? sk_onnx_text(b, name, "") : NULL;
    if (!copy) return NULL;
    onnx__attribute_proto__init(attribute);
    attribute->name = copy;
    attribute->has_type = 1;
    attribute->type = type;
    node->attribute[node->n_attribute++] = attribute;
    return attribute;
}

void sk_onnx_add_float(sk_onnx *b, Onnx__NodeProto *node, const char *name, float value) {
    Onnx__AttributeProto *attribute = add_attribute(b, node, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT);
    if (attribute) {
        attribute->has_f = 1;
        attribute->f = value;
    }
}

void sk_onnx_add_int(sk_onnx *b, Onnx__NodeProto *node, const char *name, int64_t value) {
    Onnx__AttributeProto *attribute = add_attribute(b, node, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT);
    if (attribute) {
        attribute->has_i = 1;
        attribute->i = value;
    }
}

void sk_onnx_add_ints(sk_onnx *b, Onnx__NodeProto *node, const char *name, int64_t value, size_t count) {
    int64_t *values = sk_onnx_take(b, count, sizeof *values);
    Onnx__AttributeProto *attribute =
        values ? add_attribute(b, node, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS) : NULL;
    if (!attribute) return;
    for (size_t i = 0; i < count; i++) values[i] = value;
    attribute->ints = values;
    attribute->n_ints = count;
}

/* ---- initialisers ----------------------------------------------------------------------------------------------- */
size_t sk_onnx_type_bytes(sk_onnx_type type) {
    return type == SK_ONNX_INT8 ? 1 : type == SK_ONNX_INT64 || type == SK_ONNX_DOUBLE ? 8 : 4;
}

void sk_onnx_tensor(sk_onnx *b, const char *name, sk_onnx_type type, const void *data, int rank, const int64_t *shape) {
    size_t count = sk_onnx_type_bytes(type); /* bytes */
    Onnx__TensorProto *tensor = sk_onnx_take(b, 1, sizeof *tensor);
    int64_t *dims = sk_onnx_take(b, 4, sizeof *dims);
    char *copy = sk_onnx_text(b, name, "");
    if (!add_place(b, (void ***)&b->tensors, b->tensor_count, &b->tensor_capacity)) return;
    onnx__tensor_proto__init(tensor);
    for (int i = 0; i < rank; i++) {
        dims[i] = shape[i];
        count *= (size_t)shape[i];
    }
    tensor->name = copy;
    tensor->dims = dims;
    tensor->n_dims = (size_t)rank;
    tensor->has_data_type = 1;
    tensor->data_type = type;
    tensor->has_raw_data = 1;
    tensor->raw_data.len = count;
    tensor->raw_data.data = (uint8_t *)(uintptr_t)data; /* protobuf-c lacks const; packing only reads */
    b->tensors[b->tensor_count++] = tensor;
}

/* ---- the model --------------------------------------------------------------------------------------------------- */
static Onnx__ValueInfoProto **make_value(sk_onnx *b, const char *name, const int64_t *shape, size_t rank) {
    Onnx__ValueInfoProto **list = sk_onnx_take(b, 1, sizeof *list), *value = sk_onnx_take(b, 1, sizeof *value);
    Onnx__TypeProto *type = sk_onnx_take(b, 1, sizeof *type);
    Onnx__TypeProto__Tensor *tensor = sk_onnx_take(b, 1, sizeof *tensor);
    Onnx__TensorShapeProto *dims = sk_onnx_take(b, 1, sizeof *dims);
    Onnx__TensorShapeProto__Dimension **list_dims = sk_onnx_take(b, rank, sizeof *list_dims);
    Onnx__TensorShapeProto__Dimension *dim = sk_onnx_take(b, rank, sizeof *dim);
    char *copy = sk_onnx_text(b, name, "");
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
    tensor->elem_type = SK_ONNX_FLOAT;
    tensor->shape = dims;
    type->value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
    type->tensor_type = tensor;
    value->name = copy;
    value->type = type;
    list[0] = value;
    return list;
}

static Onnx__GraphProto *make_graph(sk_onnx *b, const sk_card *card) {
    const int64_t image[4] = {1, 3, card->size, card->size}, logits[2] = {1, card->classes};
    Onnx__GraphProto *graph = sk_onnx_take(b, 1, sizeof *graph);
    Onnx__ValueInfoProto **input = make_value(b, "input", image, 4), **output = make_value(b, "logits", logits, 2);
    char *name = sk_onnx_text(b, sk_arch_name(card->arch), "");
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

static Onnx__ModelProto *make_model(sk_onnx *b, const sk_card *card, int version, const sk_tensor_file *meta) {
    Onnx__ModelProto *model = sk_onnx_take(b, 1, sizeof *model);
    Onnx__OperatorSetIdProto *opset = sk_onnx_take(b, 1, sizeof *opset), **opsets = sk_onnx_take(b, 1, sizeof *opsets);
    Onnx__StringStringEntryProto *pairs = sk_onnx_take(b, meta->meta_count, sizeof *pairs);
    Onnx__StringStringEntryProto **list = sk_onnx_take(b, meta->meta_count, sizeof *list);
    Onnx__GraphProto *graph = make_graph(b, card);
    char *producer = sk_onnx_text(b, "siskin", ""), *own = sk_onnx_text(b, SK_VERSION, "");
    char *domain = sk_onnx_text(b, "", "");
    if (b->failed) return NULL;
    onnx__model_proto__init(model);
    onnx__operator_set_id_proto__init(opset);
    opset->domain = domain;
    opset->has_version = 1;
    opset->version = version;
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
    model->producer_version = own;
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

sk_status sk_onnx_write(sk_onnx *b, const sk_card *card, int opset, const char *path, sk_error *err) {
    sk_tensor_file meta = {0};
    Onnx__ModelProto *model = NULL;
    sk_status status = sk_tensors_set_card(&meta, card, err);
    if (status == SK_OK && !(model = make_model(b, card, opset, &meta))) status = sk_fail_memory(err, "the ONNX graph");
    if (status == SK_OK) status = write_model(model, path, err);
    sk_tensors_free(&meta);
    return status;
}

void sk_onnx_free(sk_onnx *b) {
    for (size_t i = 0; i < b->block_count; i++) sk_free(b->blocks[i]);
    sk_free(b->blocks);
    *b = (sk_onnx){0};
}
