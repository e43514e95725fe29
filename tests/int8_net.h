/* SPDX-License-Identifier: Apache-2.0 */
/* A small network with every operation of MobileNetV3, random weights and a plain float executor written apart from the
 * library's, for the tests and the fuzz target of the int8 runtime. */
#ifndef SK_TEST_INT8_NET_H
#define SK_TEST_INT8_NET_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "quant/quant.h"

#define NET_LAYERS 16
typedef struct test_net {
    sk_card card;
    sk_layer layers[NET_LAYERS];
    float *weight[NET_LAYERS], *bias[NET_LAYERS], *out[NET_LAYERS];
    float range[NET_LAYERS][2];
    float *equal[NET_LAYERS], *high; /* the layer that a depthwise one alone reads: low (later factors), high */
    int8_t int16[NET_LAYERS]; /* 1: int16 codes */
    size_t count;
    int built; /* ranges are fixed */
} test_net;

static inline int net_add(test_net *net, sk_op op, sk_act act, int input, int input2, int out_c, int kernel,
                          int stride) {
    sk_layer *l = &net->layers[net->count];
    const sk_layer *in = input < 0 ? NULL : &net->layers[input];
    memset(l, 0, sizeof *l);
    l->op = op;
    l->act = act;
    l->kernel = kernel;
    l->stride = stride;
    l->pad = (kernel - 1) / 2;
    l->in_c = in ? in->out_c : 3;
    l->in_h = in ? in->out_h : net->card.size;
    l->in_w = in ? in->out_w : net->card.size;
    l->out_c = out_c ? out_c : l->in_c;
    l->out_h = op == SK_OP_POOL ? 1 : (l->in_h + 2 * l->pad - kernel) / stride + 1;
    l->out_w = op == SK_OP_POOL ? 1 : (l->in_w + 2 * l->pad - kernel) / stride + 1;
    l->input = input;
    l->input2 = input2;
    return (int)net->count++;
}

static inline size_t net_depth(const sk_layer *l) {
    return (size_t)(l->kernel * l->kernel * (l->op == SK_OP_DEPTHWISE ? 1 : l->in_c));
}

static inline int net_has_weights(const sk_layer *l) {
    return l->op != SK_OP_POOL && l->op != SK_OP_SCALE && l->op != SK_OP_ADD;
}

static inline void net_free(test_net *net) {
    for (size_t i = 0; i < net->count; i++) {
        free(net->weight[i]);
        free(net->bias[i]);
        free(net->out[i]);
        free(net->equal[i]);
    }
    free(net->high);
}

/* Image, stem, a squeeze-and-excite block with residual, a strided block, head. */
static inline void net_make(test_net *net, int size, int width, uint64_t seed) {
    memset(net, 0, sizeof *net);
    net->card = (sk_card){.arch = SK_ARCH_V3_SMALL, .size = size, .classes = 2, .mean = {.485f, .456f, .406f},
                          .std = {.229f, .224f, .225f}, .class_names = "nobird,bird", .crops = 1, .threshold = .5f,
                          .penalty = .8f, .temperature = 1, .run_id = "test"};
    const int stem = net_add(net, SK_OP_CONV, SK_ACT_HSWISH, -1, -1, width, 3, 2);
    const int wide = net_add(net, SK_OP_POINTWISE, SK_ACT_HSWISH, stem, -1, 3 * width, 1, 1);
    const int deep = net_add(net, SK_OP_DEPTHWISE, SK_ACT_RELU, wide, -1, 0, 3, 1);
    const int mean = net_add(net, SK_OP_POOL, SK_ACT_NONE, deep, -1, 0, 1, 1);
    const int fc1 = net_add(net, SK_OP_POINTWISE, SK_ACT_RELU, mean, -1, 8, 1, 1);
    const int gate = net_add(net, SK_OP_POINTWISE, SK_ACT_HSIGMOID, fc1, -1, 3 * width, 1, 1);
    const int scaled = net_add(net, SK_OP_SCALE, SK_ACT_NONE, deep, gate, 0, 1, 1);
    const int narrow = net_add(net, SK_OP_POINTWISE, SK_ACT_NONE, scaled, -1, width, 1, 1);
    const int sum = net_add(net, SK_OP_ADD, SK_ACT_NONE, narrow, stem, 0, 1, 1);
    const int strided = net_add(net, SK_OP_DEPTHWISE, SK_ACT_RELU, sum, -1, 0, 5, 2);
    const int head = net_add(net, SK_OP_POINTWISE, SK_ACT_HSWISH, strided, -1, 4 * width, 1, 1);
    const int pooled = net_add(net, SK_OP_POOL, SK_ACT_NONE, head, -1, 0, 1, 1);
    const int hidden = net_add(net, SK_OP_LINEAR, SK_ACT_HSWISH, pooled, -1, 33, 1, 1);
    net_add(net, SK_OP_LINEAR, SK_ACT_NONE, hidden, -1, 2, 1, 1);
    net->equal[wide] = calloc((size_t)(3 * width), sizeof(float));
    net->high = calloc((size_t)(3 * width), sizeof(float));
    sk_rng rng = sk_rng_make(seed, 1, 0);
    for (size_t i = 0; i < net->count; i++) {
        const sk_layer *l = &net->layers[i];
        net->out[i] = calloc((size_t)(l->out_c * l->out_h * l->out_w), sizeof(float));
        if (!net_has_weights(l)) {
            continue;
        }
        const size_t depth = net_depth(l);
        net->weight[i] = calloc(depth * (size_t)l->out_c, sizeof(float));
        net->bias[i] = calloc((size_t)l->out_c, sizeof(float));
        for (size_t k = 0; k < depth * (size_t)l->out_c; k++) {
            net->weight[i][k] = (float)(sk_rng_normal(&rng) * sqrt(2.0 / (double)depth));
        }
        for (int c = 0; c < l->out_c; c++) {
            net->bias[i][c] = (float)(sk_rng_normal(&rng) * .3);
        }
        for (size_t k = 0; (int)i == wide && k < depth * (size_t)l->out_c; k++) {
            net->weight[i][k] *= (float)exp(2 * sin((double)(k / depth))); /* channels far apart, as in real networks */
        }
    }
}

static inline float net_act(float x, sk_act act) {
    const float six = fminf(fmaxf(x + 3, 0), 6) / 6;
    return act == SK_ACT_RELU ? fmaxf(x, 0) : act == SK_ACT_HSWISH ? x * six : act == SK_ACT_HSIGMOID ? six : x;
}

static inline void net_conv(const sk_layer *l, const float *in, const float *weight, const float *bias, float *out) {
    const size_t depth = net_depth(l);
    const int dw = l->op == SK_OP_DEPTHWISE;
    for (int y = 0; y < l->out_h; y++) {
        for (int x = 0; x < l->out_w; x++) {
            for (int c = 0; c < l->out_c; c++) {
                double sum = bias[c];
                size_t k = depth * (size_t)c;
                for (int t = 0; t < l->kernel * l->kernel; t++) {
                    const int iy = y * l->stride - l->pad + t / l->kernel, ix = x * l->stride - l->pad + t % l->kernel;
                    const int inside = iy >= 0 && iy < l->in_h && ix >= 0 && ix < l->in_w;
                    for (int i = dw ? c : 0; i < (dw ? c + 1 : l->in_c); i++, k++) {
                        sum += inside ? (double)weight[k] * in[(iy * l->in_w + ix) * l->in_c + i] : 0;
                    }
                }
                *out++ = net_act((float)sum, l->act);
            }
        }
    }
}

/* Runs one picture in float and widens the ranges. */
static inline void net_run(test_net *net, const uint8_t *image) {
    const int pixels = net->card.size * net->card.size;
    float *input = calloc((size_t)pixels * 3, sizeof(float));
    for (int i = 0; i < pixels * 3; i++) {
        input[i] = ((float)image[i] / 255 - net->card.mean[i % 3]) / net->card.std[i % 3];
    }
    for (size_t n = 0; n < net->count; n++) {
        const sk_layer *l = &net->layers[n];
        const float *in = l->input < 0 ? input : net->out[l->input];
        const float *in2 = l->input2 < 0 ? NULL : net->out[l->input2];
        float *out = net->out[n];
        const int total = l->out_c * l->out_h * l->out_w;
        if (net_has_weights(l)) {
            net_conv(l, in, net->weight[n], net->bias[n], out);
        } else if (l->op == SK_OP_POOL) {
            for (int c = 0; c < l->in_c; c++) {
                double sum = 0;
                for (int i = 0; i < l->in_h * l->in_w; i++) {
                    sum += in[i * l->in_c + c];
                }
                out[c] = (float)(sum / (l->in_h * l->in_w));
            }
        } else {
            for (int i = 0; i < total; i++) {
                out[i] = l->op == SK_OP_ADD ? in[i] + in2[i] : in[i] * in2[i % l->in_c];
            }
        }
        for (int i = 0; net->equal[n] && !net->built && i < total; i += l->out_c) {
            sk_channels_widen(net->equal[n], net->high, out + i, l->out_c);
        }
        for (int i = 0; !net->built && i < total; i++) {
            net->range[n][0] = fminf(net->range[n][0], out[i]);
            net->range[n][1] = fmaxf(net->range[n][1], out[i]);
        }
    }
    free(input);
}

/* A smooth picture: a few sine waves per channel. */
static inline void net_picture(int size, uint64_t seed, uint8_t *out) {
    sk_rng rng = sk_rng_make(seed, 2, 0);
    double wave[3][4];
    for (int c = 0; c < 3; c++) {
        for (int k = 0; k < 4; k++) {
            wave[c][k] = sk_rng_uniform(&rng);
        }
    }
    for (int y = 0; y < size; y++) {
        for (int x = 0; x < size; x++) {
            for (int c = 0; c < 3; c++) {
                const double *w = wave[c];
                const double across = sin(12 * w[0] * x / size + 6 * w[1]), down = cos(12 * w[2] * y / size + 6 * w[3]);
                const double v = 128 + 60 * across + 60 * down;
                *out++ = (uint8_t)(v + 8 * sk_rng_uniform(&rng) - 4);
            }
        }
    }
}

/* Ranges stay those seen; with `steps` weight scales of least error and equalised channels. */
static inline sk_status net_build(test_net *net, int steps, uint8_t **bytes, size_t *size, sk_error *err) {
    float *scale[NET_LAYERS] = {NULL};
    net->built = 1;
    for (size_t i = 0; i < net->count && steps; i++) {
        const sk_layer *l = &net->layers[i];
        sk_range range = {0};
        if (net->equal[i]) {
            sk_channels_equalize(net->equal[i], net->high, l->out_c, &range);
            net->range[i][0] = range.low;
            net->range[i][1] = range.high;
        }
    }
    const sk_quant_net folded = {&net->card, net->layers, net->count, net->weight, net->bias};
    for (size_t i = 0; i < net->count && steps; i++) {
        float row[1024];
        if (net_has_weights(&net->layers[i])) {
            scale[i] = calloc((size_t)net->layers[i].out_c, sizeof(float));
            for (int c = 0; c < net->layers[i].out_c; c++) {
                sk_quant_effective(&folded, net->equal, i, c, row);
                scale[i][c] = (float)sk_weight_scale_best(row, net_depth(&net->layers[i]));
            }
        }
    }
    const sk_skn_recipe recipe = {.card = &net->card, .layers = net->layers, .count = net->count,
                                  .weight = net->weight, .bias = net->bias, .range = (const float (*)[2])net->range,
                                  .equal = steps ? net->equal : NULL, .scale = scale, .int16 = net->int16,
                                  .pictures = 1, .seed = 1};
    const sk_status status = sk_skn_build(&recipe, bytes, size, err);
    for (size_t i = 0; i < net->count; i++) {
        free(scale[i]);
    }
    return status;
}
#endif
