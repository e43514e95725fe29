/* SPDX-License-Identifier: Apache-2.0 */
/* The folded network in float, one layer at a time with all tensors kept: what calibration watches, and what an int8
 * layer is compared with. */
#include <string.h>

#include "kernels/kernels.h"
#include "net/net.h"
#include "quant/quant.h"

struct sk_float_net {
    const sk_quant_net *net;
    const sk_kernels *k;
    float **weight; /* packed as the kernels read them */
    float mean[3], gain[3];
    size_t patches; /* values of the largest layer's patches */
};

static int is_dense(const sk_layer *l) {
    return sk_layer_has_weights(l) && l->op != SK_OP_DEPTHWISE;
}

void sk_float_net_renew(sk_float_net *f, size_t i) {
    const sk_layer *l = &f->net->layers[i];
    const int depth = sk_layer_depth(l);
    if (is_dense(l)) {
        f->k->gemm_pack(f->weight[i], l->out_c, depth, f->net->weight[i], depth, 1);
    } else {
        sk_net_pack_dw(f->net->weight[i], l->out_c, depth, f->weight[i]);
    }
}

static sk_status pack(sk_float_net *f, size_t i, sk_error *err) {
    const sk_layer *l = &f->net->layers[i];
    const int depth = sk_layer_depth(l);
    const size_t size = is_dense(l) ? f->k->gemm_pack_size(l->out_c, depth) : (size_t)(l->out_c * depth);
    f->weight[i] = sk_alloc(size, sizeof *f->weight[i]);
    if (!f->weight[i]) {
        return sk_fail_memory(err, "the packed weights");
    }
    sk_float_net_renew(f, i);
    const size_t patches = l->op == SK_OP_CONV ? sk_layer_pixels(l) * (size_t)depth : 0;
    f->patches = patches > f->patches ? patches : f->patches;
    return SK_OK;
}

sk_status sk_float_net_create(const sk_quant_net *net, sk_float_net **out, sk_error *err) {
    sk_float_net *f = sk_calloc(1, sizeof *f);
    sk_status status = SK_OK;
    *out = NULL;
    if (!f || !(f->weight = sk_calloc(net->count, sizeof *f->weight))) {
        sk_free(f);
        return sk_fail_memory(err, "the float network");
    }
    f->net = net;
    f->k = sk_kernels_get();
    sk_net_normalisation(net->card, f->mean, f->gain);
    for (size_t i = 0; status == SK_OK && i < net->count; i++) {
        status = sk_layer_has_weights(&net->layers[i]) ? pack(f, i, err) : SK_OK;
    }
    if (status != SK_OK) {
        sk_float_net_free(f);
        return status;
    }
    *out = f;
    return SK_OK;
}

void sk_float_net_free(sk_float_net *f) {
    if (!f) {
        return;
    }
    for (size_t i = 0; i < f->net->count; i++) {
        sk_free(f->weight[i]);
    }
    sk_free(f->weight);
    sk_free(f);
}

static size_t rounded(size_t count) {
    return (count + 15) / 16 * 16;
}

sk_status sk_float_run_create(const sk_float_net *f, sk_float_run *out, sk_error *err) {
    const size_t picture = (size_t)f->net->card->size * (size_t)f->net->card->size * 3;
    size_t total = rounded(picture);
    for (size_t i = 0; i < f->net->count; i++) {
        total += rounded(sk_layer_values(&f->net->layers[i]));
    }
    *out = (sk_float_run){.tensor = sk_alloc(f->net->count + 1, sizeof *out->tensor),
                          .values = sk_alloc(total, sizeof *out->values),
                          .patches = sk_alloc(f->patches ? f->patches : 1, sizeof *out->patches)};
    if (!out->tensor || !out->values || !out->patches) {
        sk_float_run_free(out);
        return sk_fail_memory(err, "the activations");
    }
    out->tensor[0] = out->values;
    size_t at = rounded(picture);
    for (size_t i = 0; i < f->net->count; i++) {
        out->tensor[i + 1] = out->values + at;
        at += rounded(sk_layer_values(&f->net->layers[i]));
    }
    return SK_OK;
}

void sk_float_run_free(sk_float_run *run) {
    sk_free(run->tensor);
    sk_free(run->values);
    sk_free(run->patches);
    memset(run, 0, sizeof *run);
}

void sk_float_run_picture(const sk_float_net *f, sk_float_run *run, const uint8_t *image) {
    const size_t values = (size_t)f->net->card->size * (size_t)f->net->card->size * 3;
    for (size_t i = 0; i < values; i++) {
        run->tensor[0][i] = ((float)image[i] - f->mean[i % 3]) * f->gain[i % 3];
    }
}

static void dense(const sk_float_net *f, size_t index, const float *rows, size_t count, const float *bias, sk_act act,
                  float *out) {
    const sk_layer *l = &f->net->layers[index];
    const int depth = sk_layer_depth(l);
    const sk_gemm g = {.m = (int)count, .n = l->out_c, .k = depth, .a = rows, .lda = depth, .packed = f->weight[index],
                       .bias = bias, .act = act, .c = out, .ldc = l->out_c};
    f->k->gemm(&g);
}

void sk_float_run_layer(const sk_float_net *f, sk_float_run *run, size_t index) {
    const sk_layer *l = &f->net->layers[index];
    const float *in = run->tensor[l->input + 1];
    float *out = run->tensor[index + 1];
    const int pixels = (int)sk_layer_pixels(l);
    if (l->op == SK_OP_DEPTHWISE) {
        const sk_dw d = {.h = l->in_h, .w = l->in_w, .c = l->in_c, .oh = l->out_h, .ow = l->out_w,
                         .kernel = l->kernel, .stride = l->stride, .pad = l->pad};
        f->k->dw_forward(&d, in, 0, f->weight[index], f->net->bias[index], l->act, 0, l->out_h, out);
    } else if (l->op == SK_OP_POOL) {
        f->k->pool(in, l->in_h * l->in_w, l->in_c, out);
    } else if (l->op == SK_OP_SCALE) {
        f->k->scale(in, pixels, l->in_c, run->tensor[l->input2 + 1], out);
    } else if (l->op == SK_OP_ADD) {
        f->k->add(sk_layer_values(l), in, run->tensor[l->input2 + 1], out);
    } else if (l->op == SK_OP_CONV) {
        for (int i = 0; i < pixels; i++) {
            sk_patch_float(l, in, (size_t)i, run->patches + (size_t)i * (size_t)sk_layer_depth(l));
        }
        dense(f, index, run->patches, (size_t)pixels, f->net->bias[index], l->act, out);
    } else {
        dense(f, index, in, (size_t)pixels, f->net->bias[index], l->act, out);
    }
}

void sk_float_patches(const sk_float_net *f, size_t index, const float *patches, int rows, float *out) {
    const sk_layer *l = &f->net->layers[index];
    const float *bias = f->net->bias[index];
    if (is_dense(l)) {
        dense(f, index, patches, (size_t)rows, bias, SK_ACT_NONE, out);
        return;
    }
    const size_t c = (size_t)l->out_c;
    for (int i = 0; i < rows; i++, out += c) {
        memcpy(out, bias, c * sizeof *out);
        for (int t = 0; t < sk_layer_taps(l); t++, patches += c) {
            for (size_t k = 0; k < c; k++) {
                out[k] += f->weight[index][(size_t)t * c + k] * patches[k];
            }
        }
    }
}
