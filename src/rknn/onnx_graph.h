/* SPDX-License-Identifier: Apache-2.0 */
/* The graph of any ONNX file, as far as the target lint has to know it. Internal. */
#ifndef SK_RKNN_ONNX_GRAPH_H
#define SK_RKNN_ONNX_GRAPH_H

#include "base/base.h"

#define SK_ONNX_INPUTS 16     /* of a node; further ones are left out */
#define SK_ONNX_ATTRIBUTES 16 /* likewise */
#define SK_ONNX_INTS 8

typedef struct sk_onnx_attribute {
    char name[32], text[32];
    int has_int, has_float;
    int64_t value;
    float number;
    int64_t ints[SK_ONNX_INTS];
    int count; /* of ints */
} sk_onnx_attribute;

typedef struct sk_onnx_node {
    char op[48], name[128], domain[32];
    int inputs[SK_ONNX_INPUTS]; /* indices of values, -1: left out */
    int input_count, output;    /* the first output */
    sk_onnx_attribute attributes[SK_ONNX_ATTRIBUTES];
    int attribute_count;
} sk_onnx_node;

typedef struct sk_onnx_value {
    char name[128];
    int rank;          /* -1: not known */
    int64_t shape[8];  /* -1: a dimension without a number */
    int type;          /* TensorProto.DataType, 0: not known */
    int is_input, is_constant;
} sk_onnx_value;

typedef struct sk_onnx_graph {
    int64_t ir, opset;
    sk_onnx_node *nodes;
    sk_onnx_value *values;
    size_t node_count, value_count;
} sk_onnx_graph;

/* Errors: IO, FORMAT, MEMORY. Shapes are carried through the graph where that is easy: convolutions, pools, whatever
 * works element by element. */
sk_status sk_onnx_graph_read(const char *path, sk_onnx_graph *out, sk_error *err);
void sk_onnx_graph_free(sk_onnx_graph *graph);
const sk_onnx_attribute *sk_onnx_find(const sk_onnx_node *node, const char *name); /* NULL: not there */
/* Integer `index` of an attribute with several, `fallback` if it is not there. */
int64_t sk_onnx_int(const sk_onnx_node *node, const char *name, int index, int64_t fallback);
#endif
