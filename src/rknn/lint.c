/* SPDX-License-Identifier: Apache-2.0 */
/* The target lint: what an ONNX file will meet on its way to the NPU of RV1103 and RV1106, for which toolkit 2.5.0 does
 * the same with all models of the tests (tests/rknn_truth.py DIR rv1106). Where the vendor's documents
 * and toolkit 2.5.0 differ, the toolkit's doing decides the severity: it splits what is too large for the hardware into
 * several layers, and lets pass what fails on the board. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "rknn/onnx_graph.h"
#include "rknn/rknn.h"

#define DOCUMENT "operator list 2.3.2, 3.4"
#define TRIED "toolkit 2.5.0, tried"

typedef struct rule {
    const char *name;
    sk_rknn_severity severity;
    const char *source, *remedy;
} rule;

static const rule rules[] = {
    {"chip", SK_RKNN_NOTE, TRIED, "convert it and look for CPU in the table of layers: the limits are documented for "
     "RV1103 and RV1106"},
    {"opset", SK_RKNN_ERROR, TRIED, "export with an opset of 12 to 19"},
    {"opset-old", SK_RKNN_NOTE, "changelog 1.6.0", "export with an opset of 12 to 19, which the vendor names"},
    {"ir", SK_RKNN_WARNING, TRIED, "write IR version 11 or less: onnx 1.18 checks no newer one"},
    {"dynamic", SK_RKNN_ERROR, TRIED, "export with fixed sizes"},
    {"batch", SK_RKNN_WARNING, TRIED, "export with a batch of 1: lists of pictures are refused otherwise"},
    {"input-type", SK_RKNN_ERROR, TRIED, "make the input float; the converter gives the board a uint8 one"},
    {"input-rank", SK_RKNN_WARNING, "operator list 2.3.2, 5.1.3", "make the input [1,C,H,W]"},
    {"input-width", SK_RKNN_WARNING, "operator list 2.3.2, 5.1.3", "use an input of at most 4096 pixels' width"},
    {"input-stride", SK_RKNN_NOTE, "operator list 2.3.2, 5.1.3",
     "use a width that is a multiple of 16, or copy rows by the stride that the board's runtime tells"},
    {"unknown-op", SK_RKNN_ERROR, TRIED, "build the layer of standard operators"},
    {"no-op", SK_RKNN_ERROR, TRIED, "build the layer of smaller operators: this one is not known to the toolkit"},
    {"cpu-op", SK_RKNN_ERROR, TRIED, "replace it: the compiler leaves it to the CPU, where the board has no code "
     "for it"},
    {"cpu-slow", SK_RKNN_WARNING, "operator list 2.3.2, 4.1", "do it outside of the network: it runs on the "
     "board's CPU"},
    {"untried-op", SK_RKNN_WARNING, "none", "convert it and look for CPU in the table of layers"},
    {"conv-kernel", SK_RKNN_WARNING, DOCUMENT, "use kernels up to 31: larger ones are split into several layers"},
    {"conv-stride", SK_RKNN_WARNING, DOCUMENT, "use strides up to 7: larger ones are split into several layers"},
    {"conv-pad", SK_RKNN_WARNING, DOCUMENT, "use pads up to 15: larger ones cost further layers"},
    {"depthwise-kernel", SK_RKNN_WARNING, DOCUMENT, "use depthwise kernels up to 8"},
    {"pool-kernel", SK_RKNN_NOTE, DOCUMENT, "use windows up to 7: larger ones become convolutions or several layers"},
    {"pool-stride", SK_RKNN_NOTE, DOCUMENT, "use strides up to 8"},
    {"pool-pad", SK_RKNN_ERROR, DOCUMENT ", and " TRIED,
     "count the padding (count_include_pad = 1) or pad before: else the compiler leaves it to the CPU, "
     "which has no code"},
    {"global-pool", SK_RKNN_NOTE, TRIED,
     "nothing: known cost, each stage rounds to int8 once more"},
    {"hard-sigmoid", SK_RKNN_ERROR, TRIED, "write alpha and beta out: the toolkit fails without them"},
    {"hard-sigmoid-alpha", SK_RKNN_WARNING, DOCUMENT, "use alpha 1/6 and beta 1/2, the only ones of the NPU's layer"},
    {"softmax", SK_RKNN_NOTE, TRIED, "leave it out and compute it from the logits: it costs conversions of type"},
    {"transpose", SK_RKNN_NOTE, "LdDl/rv1106-yolov8", "leave it out: with older runtimes it failed on the board"},
};

/* What toolkit 2.5.0 does with an operator for rv1103: on the NPU, on the CPU with and without code on the board, not
 * at all. */
typedef enum place { NPU, CPU_SLOW, CPU_NONE, NOWHERE } place;
static const struct {
    const char *op;
    place place;
} places[] = {
    {"Abs", NPU}, {"Add", NPU}, {"AveragePool", NPU}, {"BatchNormalization", NPU}, {"Cast", NPU}, {"Clip", NPU},
    {"Concat", NPU}, {"Constant", NPU}, {"Conv", NPU}, {"ConvTranspose", NPU}, {"Cos", CPU_NONE},
    {"DepthToSpace", NPU}, {"Div", CPU_SLOW}, {"Dropout", NPU}, {"Elu", NPU}, {"Erf", CPU_NONE}, {"Exp", CPU_SLOW},
    {"Flatten", NPU}, {"Floor", CPU_NONE}, {"Gather", NPU}, {"Gemm", NPU}, {"GlobalAveragePool", NPU},
    {"GlobalMaxPool", NPU}, {"HardSigmoid", NPU}, {"HardSwish", NPU}, {"Identity", NPU},
    {"InstanceNormalization", CPU_NONE}, {"LRN", CPU_NONE}, {"LayerNormalization", NOWHERE}, {"LeakyRelu", NPU},
    {"Log", CPU_NONE}, {"MatMul", NPU}, {"Max", NPU}, {"MaxPool", NPU}, {"Mul", NPU}, {"Neg", NPU}, {"PRelu", NPU},
    {"Pad", NPU}, {"Pow", CPU_NONE}, {"ReduceMax", CPU_SLOW}, {"ReduceMean", NPU}, {"ReduceSum", NPU}, {"Relu", NPU},
    {"Reshape", NPU}, {"Resize", NPU}, {"Sigmoid", NPU}, {"Sin", CPU_NONE}, {"Slice", NPU}, {"Softmax", NPU},
    {"Softplus", NPU}, {"Sqrt", CPU_NONE}, {"Squeeze", NPU}, {"Sub", NPU}, {"Tanh", NPU}, {"Transpose", NPU},
    {"Unsqueeze", NPU}};

/* Operators of ONNX of which nothing is known here. */
static const char *const others[] = {
    "Acos", "Acosh", "And", "ArgMax", "ArgMin", "Asin", "Asinh", "Atan", "Atanh", "Attention", "BitShift", "Ceil",
    "Celu", "Compress", "ConstantOfShape", "ConvInteger", "Cosh", "CumSum", "DequantizeLinear", "Det",
    "DynamicQuantizeLinear", "Einsum", "Equal", "Expand", "EyeLike", "GRU", "GatherElements", "GatherND", "Gelu",
    "GlobalLpPool", "Greater", "GreaterOrEqual", "GridSample", "GroupNormalization", "Hardmax", "If", "IsInf",
    "IsNaN", "LSTM", "Less", "LessOrEqual", "LogSoftmax", "Loop", "LpNormalization", "LpPool", "MatMulInteger",
    "MaxRoiPool", "MaxUnpool", "Mean", "MeanVarianceNormalization", "Min", "Mish", "Mod", "Multinomial",
    "NonMaxSuppression", "NonZero", "Not", "OneHot", "Or", "QLinearConv", "QLinearMatMul", "QuantizeLinear", "RNN",
    "RandomNormal", "RandomUniform", "Range", "Reciprocal", "ReduceL1", "ReduceL2", "ReduceLogSum",
    "ReduceLogSumExp", "ReduceMin", "ReduceProd", "ReduceSumSquare", "RoiAlign", "Round", "Scan", "ScatterElements",
    "ScatterND", "Selu", "Shape", "Shrink", "Sign", "Sinh", "Size", "Softsign", "SpaceToDepth", "Split", "Sum",
    "Tan", "ThresholdedRelu", "Tile", "TopK", "Trilu", "Unique", "Upsample", "Where", "Xor"};

typedef struct work {
    const sk_onnx_graph *graph;
    sk_rknn_lint *out;
    size_t capacity;
    int failed, cpu, fails;
} work;

static void SK_PRINTF(4, 5) find(work *w, const char *name, const char *node, const char *format, ...) {
    const rule *r = rules;
    va_list args;
    while (strcmp(r->name, name) != 0) r++;
    if (w->out->count == w->capacity) {
        const size_t larger = w->capacity ? w->capacity * 2 : 16;
        sk_rknn_finding *moved = sk_realloc(w->out->findings, w->capacity, larger, sizeof *moved);
        if (!moved) {
            w->failed = 1;
            return;
        }
        w->out->findings = moved;
        w->capacity = larger;
    }
    sk_rknn_finding *f = &w->out->findings[w->out->count++];
    f->severity = r->severity;
    f->rule = r->name;
    f->source = r->source;
    f->remedy = r->remedy;
    snprintf(f->node, sizeof f->node, "%s", node);
    va_start(args, format);
    vsnprintf(f->what, sizeof f->what, format, args);
    va_end(args);
    w->out->errors += r->severity == SK_RKNN_ERROR;
    w->out->warnings += r->severity == SK_RKNN_WARNING;
}

/* ---- the file and its inputs ------------------------------------------------------------------------------------- */

static void look_at_file(work *w) {
    const sk_onnx_graph *g = w->graph;
    if (g->opset > 19) {
        find(w, "opset", "", "opset %lld, the toolkit takes 19 at most", (long long)g->opset);
        w->fails = 1;
    } else if (g->opset < 12) {
        find(w, "opset-old", "", "opset %lld", (long long)g->opset);
    }
    if (g->ir > 11) find(w, "ir", "", "IR version %lld", (long long)g->ir);
}

static void look_at_input(work *w, const sk_onnx_value *v) {
    const int64_t channels = v->rank == 4 ? v->shape[1] : 0, width = v->rank == 4 ? v->shape[3] : 0;
    for (int i = 0; i < v->rank; i++)
        if (v->shape[i] < 0) {
            find(w, "dynamic", v->name, "dimension %d has no number", i);
            w->fails = 1;
            return;
        }
    if (v->type != 1 && v->type != 10 && v->type != 0) {
        find(w, "input-type", v->name, "type %d, not float", v->type);
        w->fails = 1;
    }
    if (v->rank != 4) find(w, "input-rank", v->name, "%d dimensions, not 4", v->rank);
    else if (v->shape[0] != 1) find(w, "batch", v->name, "batch of %lld", (long long)v->shape[0]);
    if (width > 4096) find(w, "input-width", v->name, "%lld wide", (long long)width);
    else if (width % 16 && (channels == 1 || channels == 3 || channels == 4))
        find(w, "input-stride", v->name, "rows of %lld pixels lie %lld apart on the board", (long long)width,
             (long long)((width + 15) / 16 * 16));
}

/* ---- nodes ------------------------------------------------------------------------------------------------------- */

static void look_at_place(work *w, const sk_onnx_node *n) {
    if (n->domain[0] && strcmp(n->domain, "ai.onnx") != 0) {
        find(w, "unknown-op", n->name, "%s of the domain %s", n->op, n->domain);
        w->fails = 1;
        return;
    }
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        if (strcmp(n->op, places[i].op) != 0) continue;
        if (places[i].place == CPU_NONE) find(w, "cpu-op", n->name, "%s", n->op);
        if (places[i].place == CPU_SLOW) find(w, "cpu-slow", n->name, "%s", n->op);
        if (places[i].place == NOWHERE) find(w, "no-op", n->name, "%s", n->op);
        w->cpu |= places[i].place == CPU_NONE || places[i].place == CPU_SLOW;
        w->fails |= places[i].place == NOWHERE;
        return;
    }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (strcmp(n->op, others[i]) == 0) {
            find(w, "untried-op", n->name, "%s", n->op);
            return;
        }
    find(w, "unknown-op", n->name, "%s is no operator of ONNX", n->op);
    w->fails = 1;
}

static int64_t largest(const sk_onnx_node *n, const char *name, int count, int64_t fallback) {
    int64_t most = fallback;
    for (int i = 0; i < count; i++) {
        const int64_t value = sk_onnx_int(n, name, i, fallback);
        most = value > most ? value : most;
    }
    return most;
}

static void look_at_convolution(work *w, const sk_onnx_node *n) {
    const sk_onnx_value *weight = n->input_count > 1 && n->inputs[1] >= 0 ? &w->graph->values[n->inputs[1]] : NULL;
    int64_t kernel = largest(n, "kernel_shape", 2, 1);
    for (int i = 2; weight && i < weight->rank && i < 4; i++)
        kernel = weight->shape[i] > kernel ? weight->shape[i] : kernel;
    const int64_t stride = largest(n, "strides", 2, 1), pad = largest(n, "pads", 4, 0);
    const int64_t group = sk_onnx_int(n, "group", 0, 1);
    const int depthwise = group > 1 && weight && weight->rank >= 2 && weight->shape[1] == 1;
    if (depthwise && kernel > 8) find(w, "depthwise-kernel", n->name, "kernel of %lld", (long long)kernel);
    if (!depthwise && kernel > 31) find(w, "conv-kernel", n->name, "kernel of %lld", (long long)kernel);
    if (stride > 7) find(w, "conv-stride", n->name, "stride of %lld", (long long)stride);
    if (pad > 15) find(w, "conv-pad", n->name, "pad of %lld", (long long)pad);
}

static void look_at_pool(work *w, const sk_onnx_node *n) {
    const int64_t kernel = largest(n, "kernel_shape", 2, 1), stride = largest(n, "strides", 2, 1);
    if (kernel > 7) find(w, "pool-kernel", n->name, "%s with a window of %lld", n->op, (long long)kernel);
    if (stride > 8) find(w, "pool-stride", n->name, "%s with a stride of %lld", n->op, (long long)stride);
    if (n->op[0] == 'A' && largest(n, "pads", 4, 0) > 0 && !sk_onnx_int(n, "count_include_pad", 0, 0)) {
        find(w, "pool-pad", n->name, "AveragePool whose padding does not count");
        w->cpu = 1;
    }
}

/* Such a pool becomes depthwise convolutions of 7 x 7 and less, one after the other. */
static void look_at_global_pool(work *w, const sk_onnx_node *n) {
    const sk_onnx_value *in = n->input_count ? &w->graph->values[n->inputs[0] < 0 ? 0 : n->inputs[0]] : NULL;
    char stages[64] = "";
    int count = 0;
    if (!in || in->rank != 4) return;
    int64_t side = in->shape[2] > in->shape[3] ? in->shape[2] : in->shape[3];
    if (side < 8) return;
    for (; side > 1 && count < 8; count++) {
        const int64_t window = side > 7 ? 7 : side;
        const size_t used = strlen(stages);
        snprintf(stages + used, sizeof stages - used, "%s%lld", count ? ", " : "", (long long)window);
        side = side > 7 ? (side + 6) / 7 : 1;
    }
    find(w, "global-pool", n->name, "over %lld x %lld: becomes %d convolutions, windows of %s", (long long)in->shape[2],
         (long long)in->shape[3], count, stages);
}

static void look_at_hard_sigmoid(work *w, const sk_onnx_node *n) {
    const sk_onnx_attribute *alpha = sk_onnx_find(n, "alpha"), *beta = sk_onnx_find(n, "beta");
    int gates = 0; /* times its own input: the toolkit makes one layer of both, and needs the numbers */
    for (size_t i = 0; i < w->graph->node_count; i++) {
        const sk_onnx_node *m = &w->graph->nodes[i];
        if (strcmp(m->op, "Mul") != 0 || m->input_count != 2 || n->input_count < 1) continue;
        gates |= (m->inputs[0] == n->output && m->inputs[1] == n->inputs[0]) ||
                 (m->inputs[1] == n->output && m->inputs[0] == n->inputs[0]);
    }
    if ((!alpha || !beta) && gates) {
        find(w, "hard-sigmoid", n->name, "no %s, and a hard-swish made of it", alpha ? "beta" : "alpha");
        w->fails = 1;
        return;
    }
    const double a = alpha ? (double)alpha->number : .2, b = beta ? (double)beta->number : .5;
    if (fabs(a - 1 / 6.) > 1e-4 || fabs(b - .5) > 1e-4)
        find(w, "hard-sigmoid-alpha", n->name, "alpha %.4g, beta %.4g", a, b);
}

static void look_at_node(work *w, const sk_onnx_node *n) {
    look_at_place(w, n);
    if (strcmp(n->op, "Conv") == 0) look_at_convolution(w, n);
    else if (strcmp(n->op, "AveragePool") == 0 || strcmp(n->op, "MaxPool") == 0) look_at_pool(w, n);
    else if (strcmp(n->op, "GlobalAveragePool") == 0) look_at_global_pool(w, n);
    else if (strcmp(n->op, "HardSigmoid") == 0) look_at_hard_sigmoid(w, n);
    else if (strcmp(n->op, "Softmax") == 0) find(w, "softmax", n->name, "Softmax in the network");
    else if (strcmp(n->op, "Transpose") == 0) find(w, "transpose", n->name, "Transpose in the network");
}

sk_status sk_rknn_lint_file(const char *path, const char *target, sk_rknn_lint *out, sk_error *err) {
    sk_onnx_graph graph;
    memset(out, 0, sizeof *out);
    sk_status status = sk_rknn_check_target(target, err);
    if (status == SK_OK) status = sk_onnx_graph_read(path, &graph, err);
    if (status != SK_OK) return status;
    work w = {.graph = &graph, .out = out};
    /* 26 of the rules' models were converted for rv1103b, all with the outcome that rv1103 has. */
    if (target[strlen(target) - 1] == 'b') find(&w, "chip", "", "%s, another NPU than that of RV1103", target);
    look_at_file(&w);
    for (size_t i = 0; i < graph.value_count; i++)
        if (graph.values[i].is_input && !graph.values[i].is_constant) look_at_input(&w, &graph.values[i]);
    for (size_t i = 0; i < graph.node_count; i++) look_at_node(&w, &graph.nodes[i]);
    out->nodes = graph.node_count;
    out->predicts = w.fails ? "fail" : w.cpu ? "cpu" : "npu";
    sk_onnx_graph_free(&graph);
    if (!w.failed) return SK_OK;
    sk_rknn_lint_free(out);
    return sk_fail_memory(err, "the findings");
}

void sk_rknn_lint_free(sk_rknn_lint *lint) {
    sk_free(lint->findings);
    memset(lint, 0, sizeof *lint);
}

static sk_status refuse(const sk_rknn_lint *lint, const sk_rknn_finding *f, sk_error *err) {
    return sk_fail(err, SK_ERR_UNSUPPORTED, "the lint finds %d error%s in the network, first %s%s%s: %s; %s "
                   "(--despite-lint converts all the same)", lint->errors, lint->errors == 1 ? "" : "s", f->rule,
                   f->node[0] ? " at " : "", f->node, f->what, f->remedy);
}

sk_status sk_rknn_lint_gate(const char *onnx, const char *target, int despite, const sk_hooks *hooks, sk_error *err) {
    sk_rknn_lint lint;
    sk_status status = sk_rknn_lint_file(onnx, target, &lint, err);
    if (status != SK_OK) return status;
    for (size_t i = 0; status == SK_OK && i < lint.count; i++) {
        const sk_rknn_finding *f = &lint.findings[i];
        if (f->severity == SK_RKNN_ERROR && !despite) status = refuse(&lint, f, err);
        else if (f->severity != SK_RKNN_NOTE)
            sk_log(hooks, SK_LOG_WARNING, "lint: %s%s%s: %s; %s", f->rule, f->node[0] ? " at " : "", f->node, f->what,
                   f->remedy);
    }
    sk_rknn_lint_free(&lint);
    return status;
}
