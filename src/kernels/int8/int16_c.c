/* SPDX-License-Identifier: Apache-2.0 */
/* Layers that read or write int16 codes: the few whose activations need finer steps than 256. Written to be read: any
 * of the three tensors may have codes of either width, and sums are 64 bits, so that none can overflow. The zero point
 * of an int16 input is taken off its codes, since times the weights it would not fit a bias. */
#include <string.h>

#include "kernels/int8/int8.h"

size_t sk_int16_scratch_bytes(const sk_q_layer *layer) {
    const size_t depth = layer->op == SK_OP_DEPTHWISE ? (size_t)(layer->kernel * layer->kernel) * (size_t)layer->in_c
                                                      : (size_t)sk_gemm_depth(layer);
    return sizeof(int32_t) * depth; /* what the weights of one output pixel see */
}

static void put(const sk_q_layer *layer, int8_t *out, size_t i, int32_t code) {
    const int32_t clamped = code < layer->low ? layer->low : code > layer->high ? layer->high : code;
    if (layer->int16_out) {
        ((int16_t *)(void *)out)[i] = (int16_t)clamped;
    } else {
        out[i] = (int8_t)clamped;
    }
}

static void put_value(const sk_q_layer *layer, int8_t *out, size_t i, float value) {
    put(layer, out, i, sk_round(value, layer->int16_out ? 131071 : 1023) + layer->zero_out);
}

/* The taps of an output pixel, each in_c values: codes as the weights multiply them. */
static void fill(const sk_q_layer *layer, const int8_t *in, int oy, int ox, int32_t *patch) {
    const size_t in_c = (size_t)layer->in_c;
    const int32_t off = layer->int16_in ? layer->zero_in : 0, outside = layer->int16_in ? 0 : layer->zero_in;
    for (int t = 0; t < layer->kernel * layer->kernel; t++, patch += in_c) {
        const int y = oy * layer->stride - layer->pad + t / layer->kernel;
        const int x = ox * layer->stride - layer->pad + t % layer->kernel;
        const int inside = y >= 0 && y < layer->in_h && x >= 0 && x < layer->in_w;
        const size_t at = inside ? ((size_t)y * (size_t)layer->in_w + (size_t)x) * in_c : 0;
        for (size_t c = 0; c < in_c; c++) {
            patch[c] = inside ? sk_code_at(in, layer->int16_in, at + c) - off : outside;
        }
    }
}

static int64_t sum_of(const sk_q_layer *layer, const int32_t *patch, int channel) {
    const size_t c = (size_t)channel, in_c = (size_t)layer->in_c;
    int64_t sum = layer->bias[c];
    if (layer->op == SK_OP_DEPTHWISE) {
        for (size_t t = 0; t < (size_t)(layer->kernel * layer->kernel); t++) {
            sum += (int64_t)patch[t * in_c + c] * layer->weight[layer->row * t + c];
        }
        return sum;
    }
    const int8_t *weight = layer->weight + layer->row * c;
    for (int k = 0; k < sk_gemm_depth(layer); k++) {
        sum += (int64_t)patch[k] * weight[k];
    }
    return sum;
}

static void products(const sk_q_layer *layer, const int8_t *in, int8_t *out, int32_t *patch) {
    size_t i = 0;
    for (int y = 0; y < layer->out_h; y++) {
        for (int x = 0; x < layer->out_w; x++) {
            fill(layer, in, y, x, patch);
            for (int c = 0; c < layer->out_c; c++) {
                put_value(layer, out, i++, sk_activate(layer, (float)sum_of(layer, patch, c), c));
            }
        }
    }
}

static void pool(const sk_q_layer *layer, const int8_t *in, int8_t *out) {
    const size_t pixels = (size_t)layer->in_h * (size_t)layer->in_w, in_c = (size_t)layer->in_c;
    for (size_t c = 0; c < in_c; c++) {
        int32_t sum = 0; /* fits: at most SK_INT16_MAX_PIXELS of them */
        for (size_t i = 0; i < pixels; i++) {
            sum += sk_code_at(in, layer->int16_in, i * in_c + c) - layer->zero_in;
        }
        put(layer, out, c, sk_requant(sum, layer->mult2, layer->shift) + layer->zero_out);
    }
}

static void joint(const sk_q_layer *layer, const int8_t *in, const int8_t *in2, int8_t *out) {
    const size_t in_c = (size_t)layer->in_c, count = (size_t)layer->in_h * (size_t)layer->in_w * in_c;
    for (size_t i = 0; i < count; i++) {
        const size_t other = layer->op == SK_OP_SCALE ? i % in_c : i;
        const float a = (float)(sk_code_at(in, layer->int16_in, i) - layer->zero_in);
        const float b = (float)(sk_code_at(in2, layer->int16_in2, other) - layer->zero_in2);
        if (layer->op == SK_OP_SCALE) {
            const float factor = b * layer->factor;
            put_value(layer, out, i, a * factor);
        } else {
            const float first = a * layer->factor, second = b * layer->factor2;
            put_value(layer, out, i, first + second);
        }
    }
}

void sk_int16_run(const sk_q_layer *layer, const int8_t *in, const int8_t *in2, int8_t *out, void *scratch) {
    if (layer->op == SK_OP_POOL) {
        pool(layer, in, out);
    } else if (layer->op == SK_OP_SCALE || layer->op == SK_OP_ADD) {
        joint(layer, in, in2, out);
    } else {
        products(layer, in, out, scratch);
    }
}
