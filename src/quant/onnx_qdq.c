/* SPDX-License-Identifier: Apache-2.0 */
/* An int8 model as ONNX in the QDQ form: float operators between a DequantizeLinear of the codes that they read and a
 * QuantizeLinear to those that they write, weights int8, biases int32. It computes what the runtime does, bit for bit:
 *
 * Within the graph a value is its code less the zero point, in steps of 1. A convolution then adds whole numbers, which
 * floats hold exactly below 2^24 in whatever order they are added, and what brings its sum to the next codes are the
 * runtime's own float32 operations (docs/int8.md) as Mul, Add and Clip with the multipliers of the .skn. Real units,
 * with a scale in every DequantizeLinear, would round each product by itself; a code in a hundred thousand tips
 * over then, and the gates spread it. Multipliers stand in nodes of their own, not in scales, so that onnxruntime does
 * not merge DQ, operator and Q into one integer operator of another rounding. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "formats/onnx_build.h"
#include "quant/quant.h"
#include "rt/check.h"
#include "siskin/classifier.h"

enum { OPSET = 13 }; /* the first with a scale per channel */

typedef struct writer {
    sk_onnx graph;
    const uint8_t *bytes;
    const sk_skn_header *header;
    const sk_skn_layer *layers;
    const char **values; /* codes less the zero point, of the picture and of each layer */
} writer;

static int is_linear(const sk_skn_layer *l) {
    return strncmp(l->name, "classifier", 10) == 0;
}

/* ---- initialisers ------------------------------------------------------------------------------------------------ */

/* Copies the values and names them NAME + SUFFIX; the name, or NULL after a failure. */
static const char *constant(writer *w, const char *name, const char *suffix, sk_onnx_type type, const void *data,
                            int rank, const int64_t *shape) {
    size_t bytes = sk_onnx_type_bytes(type);
    for (int i = 0; i < rank; i++) bytes *= (size_t)shape[i];
    char *full = sk_onnx_text(&w->graph, name, suffix);
    void *copy = sk_onnx_take(&w->graph, bytes, 1);
    if (!full || !copy) return NULL;
    memcpy(copy, data, bytes);
    sk_onnx_tensor(&w->graph, full, type, copy, rank, shape);
    return full;
}

static const char *scalar(writer *w, const char *name, const char *suffix, float value) {
    return constant(w, name, suffix, SK_ONNX_FLOAT, &value, 0, NULL);
}

/* A multiplier per channel, shaped for the values of the layer. */
static const char *per_channel(writer *w, const sk_skn_layer *l, const char *suffix, const float *values) {
    const int64_t shape[4] = {1, l->out_c, 1, 1}; /* a linear layer has the first two */
    return constant(w, l->name, suffix, SK_ONNX_FLOAT, values, is_linear(l) ? 2 : 4, shape);
}

/* ---- nodes ------------------------------------------------------------------------------------------------------- */

/* A node NAME + SUFFIX whose value has the same name, or `to` if given. Of the inputs, NULL ones at the end are
 * left out. */
static const char *add_node(writer *w, const char *type, const char *name, const char *suffix, const char *a,
                            const char *b, const char *c, const char *to) {
    const char *in[3] = {a, b, c}, *full = sk_onnx_text(&w->graph, name, suffix);
    if (w->graph.failed) return NULL;
    sk_onnx_node(&w->graph, type, full, in, c ? 3 : b ? 2 : 1, to ? to : full);
    return to ? to : full;
}

/* Codes of `value`, which is in units of `from`; then `to`, which is in units of `into`. */
static void add_qdq(writer *w, const char *name, const char *value, int zero, float from, float into, const char *to) {
    const int8_t origin = (int8_t)zero;
    const char *zero_point = constant(w, name, "/zero_point", SK_ONNX_INT8, &origin, 0, NULL);
    const char *scale = from == 1 ? "one" : scalar(w, name, "/scale", from);
    const char *codes = sk_onnx_text(&w->graph, name, "/codes");
    add_node(w, "QuantizeLinear", name, "/quantize", value, scale, zero_point, codes);
    scale = into == 1 ? "one" : scalar(w, name, "/scale", into);
    add_node(w, "DequantizeLinear", name, "/dequantize", codes, scale, zero_point, to);
}

/* ---- layers with weights ----------------------------------------------------------------------------------------- */

static int32_t weight_sum(const sk_q_layer *q, int c) {
    const int depthwise = q->op == SK_OP_DEPTHWISE, depth = q->kernel * q->kernel * (depthwise ? 1 : q->in_c);
    int32_t sum = 0;
    for (int k = 0; k < depth; k++)
        sum += depthwise ? q->weight[q->row * (size_t)k + (size_t)c] : q->weight[q->row * (size_t)c + (size_t)k];
    return sum;
}

/* The biases as they were before zero points went in. */
static const char *add_biases(writer *w, const sk_q_layer *q, const sk_skn_layer *l) {
    const int64_t n = q->out_c;
    int32_t *codes = sk_onnx_take(&w->graph, (size_t)n, sizeof *codes);
    for (int c = 0; codes && c < q->out_c; c++) codes[c] = q->bias[c] + q->zero_in * weight_sum(q, c);
    const char *name = codes ? constant(w, l->name, ".bias/codes", SK_ONNX_INT32, codes, 1, &n) : NULL;
    return add_node(w, "DequantizeLinear", l->name, ".bias", name, "one", NULL, NULL);
}

/* The weights in ONNX's order, OIHW. */
static const char *add_weights(writer *w, const sk_q_layer *q, const sk_skn_layer *l) {
    const int depthwise = q->op == SK_OP_DEPTHWISE, taps = q->kernel * q->kernel, in_c = depthwise ? 1 : q->in_c;
    const int64_t shape[4] = {q->out_c, in_c, q->kernel, q->kernel};
    int8_t *codes = sk_onnx_take(&w->graph, (size_t)(q->out_c * taps * in_c), 1);
    for (int o = 0; codes && o < q->out_c; o++)
        for (int i = 0; i < in_c; i++)
            for (int t = 0; t < taps; t++)
                codes[(o * in_c + i) * taps + t] = depthwise ? q->weight[q->row * (size_t)t + (size_t)o]
                                                             : q->weight[q->row * (size_t)o + (size_t)(t * in_c + i)];
    const char *name =
        codes ? constant(w, l->name, ".weight/codes", SK_ONNX_INT8, codes, is_linear(l) ? 2 : 4, shape) : NULL;
    return add_node(w, "DequantizeLinear", l->name, ".weight", name, "one", NULL, NULL);
}

/* sk_finish of int8.h up to the rounding. */
static const char *add_activation(writer *w, const sk_q_layer *q, const sk_skn_layer *l, const char *sum) {
    const char *mult = per_channel(w, l, "/multiplier", q->mult), *value = mult;
    if (q->act != SK_ACT_HSIGMOID) value = add_node(w, "Mul", l->name, "/linear", sum, mult, NULL, NULL);
    if (q->act < SK_ACT_HSWISH) return value;
    const char *gate = add_node(w, "Mul", l->name, "/sixth", sum, per_channel(w, l, "/curve", q->curve), NULL, NULL);
    gate = add_node(w, "Add", l->name, "/shifted", gate, "half", NULL, NULL);
    gate = add_node(w, "Clip", l->name, "/gate", gate, "zero", "one", NULL);
    return add_node(w, "Mul", l->name, "/activation", value, gate, NULL, NULL);
}

static const char *add_product(writer *w, const sk_skn_layer *l) {
    const sk_q_layer q = sk_skn_kernel_layer(w->bytes, (int32_t)(l - w->layers));
    const char *in[3] = {w->values[l->input + 1], add_weights(w, &q, l), add_biases(w, &q, l)};
    const char *sum = sk_onnx_text(&w->graph, l->name, "/sum");
    if (w->graph.failed) return NULL;
    Onnx__NodeProto *node = sk_onnx_node(&w->graph, is_linear(l) ? "Gemm" : "Conv", l->name, in, 3, sum);
    if (is_linear(l)) {
        sk_onnx_add_int(&w->graph, node, "transB", 1);
    } else {
        sk_onnx_add_ints(&w->graph, node, "kernel_shape", q.kernel, 2);
        sk_onnx_add_ints(&w->graph, node, "strides", q.stride, 2);
        sk_onnx_add_ints(&w->graph, node, "pads", q.pad, 4);
        sk_onnx_add_int(&w->graph, node, "group", q.op == SK_OP_DEPTHWISE ? q.out_c : 1);
    }
    return add_activation(w, &q, l, sum);
}

/* ---- the others -------------------------------------------------------------------------------------------------- */

static const char *add_cast(writer *w, const sk_skn_layer *l, const char *suffix, const char *value,
                            sk_onnx_type type) {
    const char *in[1] = {value}, *to = sk_onnx_text(&w->graph, l->name, suffix);
    if (w->graph.failed) return NULL;
    sk_onnx_add_int(&w->graph, sk_onnx_node(&w->graph, "Cast", to, in, 1, to), "to", type);
    return to;
}

/* floor(sum * multiplier / 2^shift + 1/2) in double, whose 53 bits hold the runtime's 64-bit integers. */
static const char *add_pool(writer *w, const sk_skn_layer *l) {
    const double factor = ldexp(l->mult2, -l->shift), half = .5;
    const int64_t axes[2] = {2, 3}, two = 2;
    const char *multiplier = constant(w, l->name, "/multiplier", SK_ONNX_DOUBLE, &factor, 0, NULL);
    const char *half_name = constant(w, l->name, "/half", SK_ONNX_DOUBLE, &half, 0, NULL);
    const char *in[2] = {w->values[l->input + 1], constant(w, l->name, "/axes", SK_ONNX_INT64, axes, 1, &two)};
    const char *value = sk_onnx_text(&w->graph, l->name, "/sum");
    if (w->graph.failed) return NULL;
    const int keep = strchr(l->name, '.') != NULL; /* squeeze-and-excitation goes on with [1,C,1,1] */
    sk_onnx_add_int(&w->graph, sk_onnx_node(&w->graph, "ReduceSum", l->name, in, 2, value), "keepdims", keep);
    value = add_cast(w, l, "/wide", value, SK_ONNX_DOUBLE);
    value = add_node(w, "Mul", l->name, "/mean", value, multiplier, NULL, NULL);
    value = add_node(w, "Add", l->name, "/above", value, half_name, NULL, NULL);
    value = add_node(w, "Floor", l->name, "/whole", value, NULL, NULL, NULL);
    return add_cast(w, l, "/value", value, SK_ONNX_FLOAT);
}

/* x * (gate * factor), or a * factor + b * factor2. */
static const char *add_joint(writer *w, const sk_skn_layer *l) {
    const char *a = w->values[l->input + 1], *b = w->values[l->input2 + 1];
    const char *factor = scalar(w, l->name, "/factor", l->factor);
    if (l->op == SK_OP_SCALE) {
        b = add_node(w, "Mul", l->name, "/gate", b, factor, NULL, NULL);
        return add_node(w, "Mul", l->name, "/value", a, b, NULL, NULL);
    }
    a = add_node(w, "Mul", l->name, "/first", a, factor, NULL, NULL);
    b = add_node(w, "Mul", l->name, "/second", b, scalar(w, l->name, "/factor2", l->factor2), NULL, NULL);
    return add_node(w, "Add", l->name, "/value", a, b, NULL, NULL);
}

/* A layer whose codes stay above its zero point (ReLU) or within other limits than int8's. */
static const char *add_limits(writer *w, const sk_skn_layer *l, const char *value) {
    if (l->low == -128 && l->high == 127) return value;
    return add_node(w, "Clip", l->name, "/limited", value, scalar(w, l->name, "/low", (float)(l->low - l->out_zero)),
                    scalar(w, l->name, "/high", (float)(l->high - l->out_zero)), NULL);
}

static sk_status add_layers(writer *w, sk_error *err) {
    const int32_t count = (int32_t)w->header->layer_count;
    w->values = sk_onnx_take(&w->graph, (size_t)count + 1, sizeof *w->values);
    if (!w->values) return sk_fail_memory(err, "the ONNX graph");
    scalar(w, "zero", "", 0);
    scalar(w, "half", "", .5f);
    scalar(w, "one", "", 1);
    w->values[0] = "picture";
    add_qdq(w, "picture", "input", w->header->input_zero, w->header->input_scale, 1, "picture");
    for (int32_t i = 0; i < count && !w->graph.failed; i++) {
        const sk_skn_layer *l = w->layers + i;
        const int joint = l->op == SK_OP_SCALE || l->op == SK_OP_ADD, last = i + 1 == count;
        const char *value = l->op == SK_OP_POOL ? add_pool(w, l) : joint ? add_joint(w, l) : add_product(w, l);
        value = add_limits(w, l, value);
        w->values[i + 1] = last ? "logits" : sk_onnx_text(&w->graph, l->name, "/output");
        add_qdq(w, l->name, value, l->out_zero, 1, last ? l->out_scale : 1, w->values[i + 1]);
    }
    return w->graph.failed ? sk_fail_memory(err, "the ONNX graph") : SK_OK;
}

sk_status sk_export_onnx_qdq(const char *skn, const char *path, sk_error *err) {
    sk_map map = {0};
    writer w = {0};
    sk_classifier *model = NULL; /* for the card alone */
    sk_status status = sk_file_map(skn, &map, err);
    if (status != SK_OK) return status;
    status = sk_skn_check(map.bytes, map.size, err);
    if (status == SK_OK) {
        w.bytes = map.bytes;
        w.header = (const sk_skn_header *)(const void *)map.bytes;
        w.layers = (const sk_skn_layer *)(const void *)(map.bytes + w.header->layer_offset);
        status = sk_classifier_open(skn, &model, err);
        if (status == SK_OK && w.header->version == SK_SKN_VERSION_INT16)
            status = sk_fail(err, SK_ERR_UNSUPPORTED, "%s has layers with 16-bit activations, which ONNX of opset %d "
                             "cannot express: quantise without --act16", skn, OPSET);
        if (status == SK_OK) status = add_layers(&w, err);
        if (status == SK_OK) status = sk_onnx_write(&w.graph, sk_classifier_card(model), OPSET, path, err);
    } else {
        status = sk_error_prefix(err, status, "cannot read %s", skn);
    }
    sk_classifier_close(model);
    sk_onnx_free(&w.graph);
    sk_file_unmap(&map);
    return status;
}
