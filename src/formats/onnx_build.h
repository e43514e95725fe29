/* SPDX-License-Identifier: Apache-2.0 */
/* Building an ONNX graph message by message, for the float and the int8 export. Internal. */
#ifndef SK_FORMATS_ONNX_BUILD_H
#define SK_FORMATS_ONNX_BUILD_H

#include "formats/tensors.h"
#include "onnx.pb-c.h"

typedef enum sk_onnx_type { /* of TensorProto */
    SK_ONNX_FLOAT = 1,
    SK_ONNX_INT8 = 3,
    SK_ONNX_INT32 = 6,
    SK_ONNX_INT64 = 7,
    SK_ONNX_DOUBLE = 11
} sk_onnx_type;

/* Messages live in blocks that are released together; after a failed allocation nothing more is added, and the caller
 * asks for `failed` once, at the end. Initialise with {0}. */
typedef struct sk_onnx {
    void **blocks;
    size_t block_count, block_capacity;
    Onnx__NodeProto **nodes;
    Onnx__TensorProto **tensors;
    size_t node_count, node_capacity, tensor_count, tensor_capacity;
    int failed;
} sk_onnx;

/* Zeroed memory of the builder; NULL after a failure. */
void *sk_onnx_take(sk_onnx *b, size_t count, size_t size);
/* `prefix` and `suffix` in one; NULL after a failure; arguments that came from here may be NULL then. */
char *sk_onnx_text(sk_onnx *b, const char *prefix, const char *suffix);
/* A node with `count` inputs and one output; NULL after a failure, which the functions below take. */
Onnx__NodeProto *sk_onnx_node(sk_onnx *b, const char *type, const char *name, const char *const *inputs, size_t count,
                              const char *output);
void sk_onnx_add_float(sk_onnx *b, Onnx__NodeProto *node, const char *name, float value);
void sk_onnx_add_int(sk_onnx *b, Onnx__NodeProto *node, const char *name, int64_t value);
/* `count` times the same value. */
void sk_onnx_add_ints(sk_onnx *b, Onnx__NodeProto *node, const char *name, int64_t value, size_t count);
/* Bytes of a value. */
size_t sk_onnx_type_bytes(sk_onnx_type type);
/* An initialiser; `data` is not copied and has to outlive the builder. */
void sk_onnx_tensor(sk_onnx *b, const char *name, sk_onnx_type type, const void *data, int rank, const int64_t *shape);
/* The graph from "input" [1,3,S,S] to "logits" [1,classes] with the card as metadata, written aside and renamed. */
sk_status sk_onnx_write(sk_onnx *b, const sk_card *card, int opset, const char *path, sk_error *err);
/* Releases everything and leaves {0}. */
void sk_onnx_free(sk_onnx *b);
#endif
