/* SPDX-License-Identifier: Apache-2.0 */
/* An int8 model as ONNX in the QDQ form: the float operators between a DequantizeLinear of what they read and a
 * QuantizeLinear of what they write, weights int8 with a scale per output channel, biases int32. Everything is read
 * back from the numbers of the .skn, so that the graph computes what the runtime does but for the last bits of floats.
 *
 * A multiplier is (scale of the input x scale of the weights) / (scale of the output x factor of an equalised channel).
 * Without a curve behind the sum the factor goes into the scale of the weights: the channel then is what the depthwise
 * layer behind it expects. With a hard-swish the gate's multiplier tells the true scale of the sum, and a Mul divides
 * the curve's value by the factor. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "formats/onnx_build.h"
#include "quant/quant.h"
#include "rt/check.h"
#include "siskin/classifier.h"

enum { OPSET = 14 }; /* the first with HardSwish */

typedef struct writer {
    sk_onnx graph;
    const uint8_t *bytes;
    const sk_skn_header *header;
    const sk_skn_layer *layers;
    const char **values; /* dequantised, of the picture and of each layer */
} writer;

static int is_linear(const sk_skn_layer *l) {
    return strncmp(l->name, "classifier", 10) == 0;
}

static double scale_of(const writer *w, int32_t index) {
    return index < 0 ? w->header->input_scale : w->layers[index].out_scale;
}

static int zero_of(const writer *w, int32_t index) {
    return index < 0 ? w->header->input_zero : w->layers[index].out_zero;
}

/* ---- initialisers ------------------------------------------------------------------------------------------------ */

/* Copies `count` values of `size` bytes and names them NAME + SUFFIX; the name, or NULL after a failure. */
static const char *constant(writer *w, const char *name, const char *suffix, sk_onnx_type type, const void *data,
                            int rank, const int64_t *shape) {
    size_t bytes = type == SK_ONNX_INT8 ? 1 : 4;
    for (int i = 0; i < rank; i++) bytes *= (size_t)shape[i];
    char *full = sk_onnx_text(&w->graph, name, suffix);
    void *copy = sk_onnx_take(&w->graph, bytes, 1);
    if (!full || !copy) return NULL;
    memcpy(copy, data, bytes);
    sk_onnx_tensor(&w->graph, full, type, copy, rank, shape);
    return full;
}

static const char *scalar(writer *w, const char *name, const char *suffix, sk_onnx_type type, const void *data) {
    return constant(w, name, suffix, type, data, 0, NULL);
}

/* ---- Q and DQ ---------------------------------------------------------------------------------------------------- */

/* Quantises `value`, the float output of `name`, and makes `to` of its codes again. */
static void add_qdq(writer *w, const char *name, const char *value, double scale, int zero, const char *to) {
    const float step = (float)scale;
    const int8_t origin = (int8_t)zero;
    const char *codes = sk_onnx_text(&w->graph, name, "/codes");
    const char *in[3] = {value, scalar(w, name, "/scale", SK_ONNX_FLOAT, &step),
                         scalar(w, name, "/zero_point", SK_ONNX_INT8, &origin)};
    if (w->graph.failed) return;
    sk_onnx_node(&w->graph, "QuantizeLinear", sk_onnx_text(&w->graph, name, "/quantize"), in, 3, codes);
    in[0] = codes;
    sk_onnx_node(&w->graph, "DequantizeLinear", sk_onnx_text(&w->graph, name, "/dequantize"), in, 3, to);
}

/* Makes floats of a constant with a scale per entry of its first dimension. */
static const char *add_dequantized(writer *w, const char *name, const char *what, const char *codes,
                                   const float *scales, int64_t channels) {
    const char *to = sk_onnx_text(&w->graph, name, what);
    const char *in[2] = {codes, constant(w, to ? to : name, "/scale", SK_ONNX_FLOAT, scales, 1, &channels)};
    if (w->graph.failed) return NULL;
    Onnx__NodeProto *node = sk_onnx_node(&w->graph, "DequantizeLinear", sk_onnx_text(&w->graph, to, "/dequantize"), in,
                                         2, to);
    sk_onnx_add_int(&w->graph, node, "axis", 0);
    return to;
}

/* ---- layers ------------------------------------------------------------------------------------------------------ */

typedef struct channels {
    float *weight, *bias, *inverse; /* scales of weights and biases, 1 / factor of an equalised channel */
    int32_t *codes;                 /* of the biases, as they were before zero points went in */
    int equalised;
} channels;

static int32_t weight_sum(const sk_q_layer *q, int c) {
    const int depthwise = q->op == SK_OP_DEPTHWISE, depth = q->kernel * q->kernel * (depthwise ? 1 : q->in_c);
    int32_t sum = 0;
    for (int k = 0; k < depth; k++)
        sum += depthwise ? q->weight[q->row * (size_t)k + (size_t)c] : q->weight[q->row * (size_t)c + (size_t)k];
    return sum;
}

/* What the multipliers of a layer say about its scales. */
static int read_channels(writer *w, const sk_q_layer *q, const sk_skn_layer *l, channels *out) {
    const size_t n = (size_t)q->out_c;
    const double in = scale_of(w, l->input);
    *out = (channels){sk_onnx_take(&w->graph, n, 4), sk_onnx_take(&w->graph, n, 4), sk_onnx_take(&w->graph, n, 4),
                      sk_onnx_take(&w->graph, n, 4), 0};
    if (w->graph.failed) return 0;
    for (int c = 0; c < q->out_c; c++) {
        const double unit = q->curve ? 6 * (double)q->curve[c] : (double)q->mult[c] * l->out_scale;
        const double factor = q->act == SK_ACT_HSWISH ? unit / ((double)q->mult[c] * l->out_scale) : 1;
        out->weight[c] = (float)(unit / in);
        out->bias[c] = (float)unit;
        out->inverse[c] = (float)(1 / factor);
        out->equalised |= fabs(factor - 1) > 1e-5;
        out->codes[c] = q->bias[c] + q->zero_in * weight_sum(q, c);
    }
    return 1;
}

/* The weights in ONNX's order, OIHW. */
static const char *add_weights(writer *w, const sk_q_layer *q, const sk_skn_layer *l, const float *scales) {
    const int depthwise = q->op == SK_OP_DEPTHWISE, taps = q->kernel * q->kernel, in_c = depthwise ? 1 : q->in_c;
    const int64_t shape[4] = {q->out_c, in_c, q->kernel, q->kernel};
    int8_t *codes = sk_onnx_take(&w->graph, (size_t)(q->out_c * taps * in_c), 1);
    for (int o = 0; codes && o < q->out_c; o++)
        for (int i = 0; i < in_c; i++)
            for (int t = 0; t < taps; t++)
                codes[(o * in_c + i) * taps + t] = depthwise ? q->weight[q->row * (size_t)t + (size_t)o]
                                                             : q->weight[q->row * (size_t)o + (size_t)(t * in_c + i)];
    if (!codes) return NULL;
    const char *name = constant(w, l->name, ".weight/codes", SK_ONNX_INT8, codes, is_linear(l) ? 2 : 4, shape);
    return name ? add_dequantized(w, l->name, ".weight", name, scales, q->out_c) : NULL;
}

/* Where the curve's value goes on: the same, or divided by the factors of equalised channels. */
static const char *add_activation(writer *w, const sk_q_layer *q, const sk_skn_layer *l, const channels *c,
                                  const char *value) {
    static const char *const types[] = {NULL, "Relu", "HardSwish", "HardSigmoid"};
    if (q->act == SK_ACT_NONE) return value;
    const char *to = sk_onnx_text(&w->graph, l->name, "/activation"), *in[2] = {value, NULL};
    if (!to) return NULL;
    Onnx__NodeProto *node = sk_onnx_node(&w->graph, types[q->act], to, in, 1, to);
    if (q->act == SK_ACT_HSIGMOID) {
        sk_onnx_add_float(&w->graph, node, "alpha", 1.f / 6);
        sk_onnx_add_float(&w->graph, node, "beta", .5f);
    }
    if (!c->equalised) return to;
    const int64_t shape[4] = {1, q->out_c, 1, 1}; /* a linear layer has the first two */
    const char *divided = sk_onnx_text(&w->graph, l->name, "/equalised");
    in[0] = to;
    in[1] = constant(w, l->name, "/equalised/factors", SK_ONNX_FLOAT, c->inverse, is_linear(l) ? 2 : 4, shape);
    if (w->graph.failed) return NULL;
    sk_onnx_node(&w->graph, "Mul", divided, in, 2, divided);
    return divided;
}

/* A layer with weights; the name of its value before quantisation. */
static const char *add_product(writer *w, const sk_skn_layer *l) {
    const sk_q_layer q = sk_skn_kernel_layer(w->bytes, l, zero_of(w, l->input), 0);
    const char *value = sk_onnx_text(&w->graph, l->name, "/sum");
    const int64_t n = q.out_c;
    channels c;
    if (!read_channels(w, &q, l, &c)) return NULL;
    const char *codes = constant(w, l->name, ".bias/codes", SK_ONNX_INT32, c.codes, 1, &n);
    const char *in[3] = {w->values[l->input + 1], add_weights(w, &q, l, c.weight),
                         codes ? add_dequantized(w, l->name, ".bias", codes, c.bias, n) : NULL};
    if (w->graph.failed) return NULL;
    Onnx__NodeProto *node = sk_onnx_node(&w->graph, is_linear(l) ? "Gemm" : "Conv", l->name, in, 3, value);
    if (is_linear(l)) {
        sk_onnx_add_int(&w->graph, node, "transB", 1);
    } else {
        sk_onnx_add_ints(&w->graph, node, "kernel_shape", q.kernel, 2);
        sk_onnx_add_ints(&w->graph, node, "strides", q.stride, 2);
        sk_onnx_add_ints(&w->graph, node, "pads", q.pad, 4);
        sk_onnx_add_int(&w->graph, node, "group", q.op == SK_OP_DEPTHWISE ? q.out_c : 1);
    }
    return add_activation(w, &q, l, &c, value);
}

static const char *add_joint(writer *w, const sk_skn_layer *l) {
    const char *in[2] = {w->values[l->input + 1], w->values[l->input2 + 1]};
    const char *value = sk_onnx_text(&w->graph, l->name, "/value");
    if (!value) return NULL;
    if (l->op != SK_OP_POOL) {
        sk_onnx_node(&w->graph, l->op == SK_OP_SCALE ? "Mul" : "Add", l->name, in, 2, value);
        return value;
    }
    sk_onnx_node(&w->graph, "GlobalAveragePool", l->name, in, 1, value);
    if (strchr(l->name, '.')) return value; /* of a squeeze-and-excitation block: stays [1,C,1,1] */
    in[0] = value;
    value = sk_onnx_text(&w->graph, l->name, "/flat");
    if (!value) return NULL;
    sk_onnx_add_int(&w->graph, sk_onnx_node(&w->graph, "Flatten", "flatten", in, 1, value), "axis", 1);
    return value;
}

static sk_status add_layers(writer *w, sk_error *err) {
    const int32_t count = (int32_t)w->header->layer_count;
    w->values = sk_onnx_take(&w->graph, (size_t)count + 1, sizeof *w->values);
    if (!w->values) return sk_fail_memory(err, "the ONNX graph");
    w->values[0] = "picture";
    add_qdq(w, "picture", "input", scale_of(w, -1), zero_of(w, -1), "picture");
    for (int32_t i = 0; i < count && !w->graph.failed; i++) {
        const sk_skn_layer *l = w->layers + i;
        const int joint = l->op == SK_OP_POOL || l->op == SK_OP_SCALE || l->op == SK_OP_ADD;
        const char *value = joint ? add_joint(w, l) : add_product(w, l);
        w->values[i + 1] = i + 1 == count ? "logits" : sk_onnx_text(&w->graph, l->name, "/output");
        if (!w->graph.failed) add_qdq(w, l->name, value, l->out_scale, l->out_zero, w->values[i + 1]);
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
