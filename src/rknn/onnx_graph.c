/* SPDX-License-Identifier: Apache-2.0 */
/* Reads nodes, attributes and shapes of an ONNX file. */
#include "rknn/onnx_graph.h"

#include <string.h>

#include "formats/wire.h"

#define MOST_NODES 20000
#define MOST_VALUES 60000

typedef struct reading {
    sk_onnx_graph *graph;
    size_t value_capacity, node_capacity;
    const char *path;
    sk_error *err;
} reading;

static sk_status broken(const reading *r) {
    return sk_fail(r->err, SK_ERR_FORMAT, "cannot read %s: not an ONNX file, or a damaged one", r->path);
}

static void copy(sk_wire bytes, char *out, size_t size) {
    size_t n = (size_t)(bytes.end - bytes.at);
    if (n >= size) n = size - 1;
    for (size_t i = 0; i < n; i++) out[i] = bytes.at[i] < 0x20 || bytes.at[i] > 0x7e ? '?' : (char)bytes.at[i];
    out[n] = 0;
}

/* Room for one more of a list; doubles. */
static void *grow(void **list, size_t count, size_t *capacity, size_t size, size_t most) {
    if (count >= most) return NULL;
    if (count == *capacity) {
        const size_t larger = *capacity ? *capacity * 2 : 64;
        void *moved = sk_realloc(*list, *capacity, larger, size);
        if (!moved) return NULL;
        *list = moved;
        *capacity = larger;
    }
    void *item = (char *)*list + count * size;
    memset(item, 0, size);
    return item;
}

/* Index of the value of that name, which is made if need be; -1: no memory, or far too many. */
static int value_index(reading *r, const char *name) {
    sk_onnx_graph *g = r->graph;
    for (size_t i = g->value_count; i-- > 0;)
        if (strcmp(g->values[i].name, name) == 0) return (int)i;
    sk_onnx_value *v = grow((void **)&g->values, g->value_count, &r->value_capacity, sizeof *v, MOST_VALUES);
    if (!v) return -1;
    memcpy(v->name, name, sizeof v->name);
    v->rank = -1;
    return (int)g->value_count++;
}

static void push_int(sk_onnx_attribute *a, uint64_t value) {
    if (a->count < SK_ONNX_INTS) a->ints[a->count++] = (int64_t)value;
}

static sk_status read_attribute(reading *r, sk_wire in, sk_onnx_node *node) {
    sk_onnx_attribute a = {0};
    sk_wire_field f;
    int more;
    while ((more = sk_wire_next(&in, &f)) > 0) {
        uint64_t value;
        if (f.number == 1 && f.type == 2) copy(f.bytes, a.name, sizeof a.name);
        else if (f.number == 4 && f.type == 2) copy(f.bytes, a.text, sizeof a.text);
        else if (f.number == 2 && f.type == 5) {
            memcpy(&a.number, f.bytes.at, sizeof a.number);
            a.has_float = 1;
        } else if (f.number == 3 && f.type == 0) {
            a.value = (int64_t)f.value;
            a.has_int = 1;
        } else if (f.number == 8 && f.type == 0) push_int(&a, f.value);
        else if (f.number == 8 && f.type == 2) /* packed */
            while (f.bytes.at < f.bytes.end) {
                if (!sk_wire_varint(&f.bytes, &value)) return broken(r);
                push_int(&a, value);
            }
    }
    if (more < 0) return broken(r);
    if (node->attribute_count < SK_ONNX_ATTRIBUTES) node->attributes[node->attribute_count++] = a;
    return SK_OK;
}

static sk_status read_node(reading *r, sk_wire in) {
    sk_onnx_graph *g = r->graph;
    sk_onnx_node *node = grow((void **)&g->nodes, g->node_count, &r->node_capacity, sizeof *node, MOST_NODES);
    sk_wire_field f;
    sk_status status = SK_OK;
    int more = 0, index;
    char name[sizeof g->values->name];
    if (!node) return sk_fail_memory(r->err, r->path);
    node->output = -1;
    while (status == SK_OK && (more = sk_wire_next(&in, &f)) > 0) {
        if (f.type != 2) continue;
        if (f.number == 1 || f.number == 2) {
            copy(f.bytes, name, sizeof name);
            memset(name + strlen(name), 0, sizeof name - strlen(name));
            index = name[0] ? value_index(r, name) : -1;
            if (name[0] && index < 0) return sk_fail_memory(r->err, r->path);
            if (f.number == 2) node->output = node->output < 0 ? index : node->output;
            else if (node->input_count < SK_ONNX_INPUTS) node->inputs[node->input_count++] = index;
        } else if (f.number == 3) copy(f.bytes, node->name, sizeof node->name);
        else if (f.number == 4) copy(f.bytes, node->op, sizeof node->op);
        else if (f.number == 5) status = read_attribute(r, f.bytes, node);
        else if (f.number == 7) copy(f.bytes, node->domain, sizeof node->domain);
    }
    if (status == SK_OK && (more < 0 || !node->op[0])) return broken(r);
    if (!node->name[0] && node->output >= 0) memcpy(node->name, g->values[node->output].name, sizeof node->name);
    g->node_count++;
    return status;
}

static void add_dimension(sk_onnx_value *v, int64_t value) {
    if (v->rank < 8) v->shape[v->rank++] = value;
}

/* TensorShapeProto: a dimension without a number is one that may change. */
static int read_shape(sk_wire in, sk_onnx_value *v) {
    sk_wire_field f, d;
    int more, inner;
    v->rank = 0;
    while ((more = sk_wire_next(&in, &f)) > 0) {
        int64_t size = -1;
        if (f.number != 1 || f.type != 2) continue;
        while ((inner = sk_wire_next(&f.bytes, &d)) > 0)
            if (d.number == 1 && d.type == 0) size = (int64_t)d.value;
        if (inner < 0) return 0;
        add_dimension(v, size);
    }
    return more == 0;
}

/* ValueInfoProto > TypeProto > Tensor. */
static sk_status read_value(reading *r, sk_wire in, int is_input) {
    sk_onnx_value v = {.rank = -1};
    sk_wire_field f, t, s;
    int a, b = 0, c = 0, ok = 1;
    while ((a = sk_wire_next(&in, &f)) > 0) {
        if (f.number == 1 && f.type == 2) copy(f.bytes, v.name, sizeof v.name);
        while (f.number == 2 && f.type == 2 && (b = sk_wire_next(&f.bytes, &t)) > 0)
            while (t.number == 1 && t.type == 2 && (c = sk_wire_next(&t.bytes, &s)) > 0) {
                if (s.number == 1 && s.type == 0) v.type = (int)s.value;
                if (s.number == 2 && s.type == 2) ok = ok && read_shape(s.bytes, &v);
            }
    }
    if (a < 0 || b < 0 || c < 0 || !ok) return broken(r);
    const int index = value_index(r, v.name);
    if (index < 0) return sk_fail_memory(r->err, r->path);
    sk_onnx_value *kept = &r->graph->values[index];
    if (kept->is_constant) return SK_OK; /* old files name their constants as inputs too */
    v.is_input = is_input;
    *kept = v;
    return SK_OK;
}

static sk_status read_constant(reading *r, sk_wire in) {
    sk_onnx_value v = {.is_constant = 1};
    sk_wire_field f;
    int more;
    while ((more = sk_wire_next(&in, &f)) > 0) {
        uint64_t value;
        if (f.number == 1 && f.type == 0) add_dimension(&v, (int64_t)f.value);
        else if (f.number == 1 && f.type == 2)
            while (f.bytes.at < f.bytes.end) {
                if (!sk_wire_varint(&f.bytes, &value)) return broken(r);
                add_dimension(&v, (int64_t)value);
            }
        else if (f.number == 2 && f.type == 0) v.type = (int)f.value;
        else if (f.number == 8 && f.type == 2) copy(f.bytes, v.name, sizeof v.name);
    }
    if (more < 0) return broken(r);
    const int index = value_index(r, v.name);
    if (index < 0) return sk_fail_memory(r->err, r->path);
    r->graph->values[index] = v;
    return SK_OK;
}

static sk_status read_graph(reading *r, sk_wire in) {
    sk_status status = SK_OK;
    sk_wire_field f;
    int more = 0;
    while (status == SK_OK && (more = sk_wire_next(&in, &f)) > 0) {
        if (f.type != 2) continue;
        if (f.number == 1) status = read_node(r, f.bytes);
        else if (f.number == 5) status = read_constant(r, f.bytes);
        else if (f.number == 11 || f.number == 13) status = read_value(r, f.bytes, f.number == 11);
    }
    return status == SK_OK && more < 0 ? broken(r) : status;
}

/* OperatorSetIdProto of the standard domain. */
static sk_status read_opset(reading *r, sk_wire in) {
    sk_wire_field f;
    char domain[32] = "";
    int64_t version = 0;
    int more;
    while ((more = sk_wire_next(&in, &f)) > 0) {
        if (f.number == 1 && f.type == 2) copy(f.bytes, domain, sizeof domain);
        if (f.number == 2 && f.type == 0) version = (int64_t)f.value;
    }
    if (more < 0) return broken(r);
    if (!domain[0] || strcmp(domain, "ai.onnx") == 0) r->graph->opset = version;
    return SK_OK;
}

/* ---- shapes ------------------------------------------------------------------------------------------------------ */

const sk_onnx_attribute *sk_onnx_find(const sk_onnx_node *node, const char *name) {
    for (int i = 0; i < node->attribute_count; i++)
        if (strcmp(node->attributes[i].name, name) == 0) return &node->attributes[i];
    return NULL;
}

int64_t sk_onnx_int(const sk_onnx_node *node, const char *name, int index, int64_t fallback) {
    const sk_onnx_attribute *a = sk_onnx_find(node, name);
    if (a && a->has_int && index == 0) return a->value;
    return a && index < a->count ? a->ints[index] : fallback;
}

/* Height or width behind a window that slides; 0 if that cannot be. */
static int64_t slide(const sk_onnx_node *n, int axis, int64_t in, int64_t kernel) {
    const int64_t limit = 1 << 20, stride = sk_onnx_int(n, "strides", axis, 1);
    const int64_t dilation = sk_onnx_int(n, "dilations", axis, 1);
    const int64_t before = sk_onnx_int(n, "pads", axis, 0), after = sk_onnx_int(n, "pads", axis + 2, 0);
    if (in < 1 || in > limit || kernel < 1 || kernel > limit || stride < 1 || stride > limit || dilation < 1 ||
        dilation > limit || before < 0 || before > limit || after < 0 || after > limit)
        return 0;
    const int64_t room = in + before + after - (dilation * (kernel - 1) + 1);
    if (room < 0) return 0;
    return room / stride + 1;
}

static void carry_shape(sk_onnx_graph *g, const sk_onnx_node *n) {
    if (n->output < 0 || n->input_count < 1 || n->inputs[0] < 0) return;
    const sk_onnx_value *in = &g->values[n->inputs[0]];
    sk_onnx_value *out = &g->values[n->output];
    const sk_onnx_value *w = n->input_count > 1 && n->inputs[1] >= 0 ? &g->values[n->inputs[1]] : NULL;
    const int conv = strcmp(n->op, "Conv") == 0, global = strncmp(n->op, "Global", 6) == 0;
    const int pool = strcmp(n->op, "AveragePool") == 0 || strcmp(n->op, "MaxPool") == 0;
    static const char *const plain[] = {"Relu", "HardSigmoid", "HardSwish", "Sigmoid", "Tanh", "LeakyRelu", "Clip",
                                        "Elu", "Mul", "Add", "Sub", "BatchNormalization", "Identity", "Dropout",
                                        "PRelu"};
    if (out->rank >= 0 || in->rank < 0) return;
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        if (strcmp(n->op, plain[i]) != 0) continue;
        const int second = strlen(n->op) == 3 && w && !w->is_constant && w->rank == in->rank && w->rank == 4 &&
                           w->shape[2] > in->shape[2]; /* gate times picture */
        const sk_onnx_value *from = second ? w : in;
        out->rank = from->rank;
        memcpy(out->shape, from->shape, sizeof out->shape);
        return;
    }
    if (in->rank != 4 || !(conv || pool || global) || (conv && (!w || w->rank != 4))) return;
    out->rank = 4;
    out->shape[0] = in->shape[0];
    out->shape[1] = conv ? w->shape[0] : in->shape[1];
    for (int i = 0; i < 2; i++)
        out->shape[2 + i] = global ? 1 : slide(n, i, in->shape[2 + i], conv ? w->shape[2 + i]
                                                                            : sk_onnx_int(n, "kernel_shape", i, 0));
    if (out->shape[2] < 1 || out->shape[3] < 1) out->rank = -1;
}

sk_status sk_onnx_graph_read(const char *path, sk_onnx_graph *out, sk_error *err) {
    sk_map map;
    sk_wire_field f;
    memset(out, 0, sizeof *out);
    reading r = {.graph = out, .path = path, .err = err};
    sk_status status = sk_file_map(path, &map, err);
    if (status != SK_OK) return status;
    sk_wire in = {map.bytes, map.bytes + map.size};
    int more = 0, found = 0;
    while (status == SK_OK && (more = sk_wire_next(&in, &f)) > 0) {
        if (f.number == 1 && f.type == 0) out->ir = (int64_t)f.value;
        else if (f.number == 7 && f.type == 2) {
            status = read_graph(&r, f.bytes);
            found = 1;
        } else if (f.number == 8 && f.type == 2) status = read_opset(&r, f.bytes);
    }
    if (status == SK_OK && (more < 0 || !found || !out->node_count)) status = broken(&r);
    sk_file_unmap(&map);
    for (size_t i = 0; status == SK_OK && i < out->node_count; i++) carry_shape(out, &out->nodes[i]);
    if (status != SK_OK) sk_onnx_graph_free(out);
    return status;
}

void sk_onnx_graph_free(sk_onnx_graph *graph) {
    sk_free(graph->nodes);
    sk_free(graph->values);
    memset(graph, 0, sizeof *graph);
}
