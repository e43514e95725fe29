/* SPDX-License-Identifier: Apache-2.0 */
/* A block of the folded network in float, forward and backward, one picture at a time. */
#include "quant/block.h"

#include <string.h>

#include "kernels/kernels.h"

size_t sk_qblock_end(const sk_quant_net *net, size_t first) {
    for (size_t i = first; i + 1 < net->count; i++) {
        int alone = net->layers[i].act == SK_ACT_NONE && net->layers[i].op != SK_OP_SCALE;
        for (size_t k = i + 1; alone && k < net->count; k++) {
            const sk_layer *l = &net->layers[k];
            alone = l->input >= (int)i && (!sk_layer_reads_two(l) || l->input2 >= (int)i);
        }
        if (alone) {
            return i;
        }
    }
    return net->count - 1;
}

static int is_dense(const sk_layer *l) {
    return sk_layer_has_weights(l) && l->op != SK_OP_DEPTHWISE;
}

static size_t larger(size_t a, size_t b) {
    return a > b ? a : b;
}

static sk_dw depthwise(const sk_layer *l) {
    return (sk_dw){.h = l->in_h, .w = l->in_w, .c = l->in_c, .oh = l->out_h, .ow = l->out_w, .kernel = l->kernel,
                   .stride = l->stride, .pad = l->pad};
}

/* ---- weights ------------------------------------------------------------------------------------------------- */

static sk_status open_layer(sk_qblock *b, size_t i) {
    const sk_layer *l = &b->net->layers[b->first + i];
    const int depth = sk_layer_depth(l);
    const size_t count = (size_t)l->out_c * (size_t)depth;
    b->widest = larger(b->widest, sk_layer_values(l));
    if (!sk_layer_has_weights(l)) {
        return SK_OK;
    }
    const int dense = is_dense(l);
    b->widest = larger(b->widest, dense ? 0 : count);
    b->patches = larger(b->patches, l->op == SK_OP_CONV ? sk_layer_pixels(l) * (size_t)depth : 0);
    b->weight[i] = sk_calloc(count, sizeof **b->weight);
    b->bias[i] = sk_calloc((size_t)l->out_c, sizeof **b->bias);
    b->forward[i] = sk_calloc(dense ? b->k->gemm_pack_size(l->out_c, depth) : count, sizeof **b->forward);
    b->backward[i] = sk_calloc(dense ? b->k->gemm_pack_size(depth, l->out_c) : 1, sizeof **b->backward);
    return b->weight[i] && b->bias[i] && b->forward[i] && b->backward[i] ? SK_OK : SK_ERR_MEMORY;
}

sk_status sk_qblock_create(const sk_quant_net *net, size_t first, size_t last, sk_qblock *b, sk_error *err) {
    const size_t n = last - first + 1;
    *b = (sk_qblock){.net = net, .k = sk_kernels_get(), .first = first, .last = last,
                    .input = net->layers[first].input, .output = sk_calloc(n, sizeof *b->output),
                    .weight = sk_calloc(n, sizeof *b->weight), .bias = sk_calloc(n, sizeof *b->bias),
                    .forward = sk_calloc(n, sizeof *b->forward), .backward = sk_calloc(n, sizeof *b->backward)};
    sk_status status = b->output && b->weight && b->bias && b->forward && b->backward ? SK_OK : SK_ERR_MEMORY;
    for (size_t i = 0; status == SK_OK && i < n; i++) {
        status = open_layer(b, i);
    }
    if (status != SK_OK) {
        sk_qblock_free(b);
        return sk_fail_memory(err, "a block of the network");
    }
    return SK_OK;
}

void sk_qblock_free(sk_qblock *b) {
    float **const all[] = {b->weight, b->bias, b->forward, b->backward};
    for (size_t a = 0; a < sizeof all / sizeof *all; a++) {
        for (size_t i = 0; all[a] && i <= b->last - b->first; i++) {
            sk_free(all[a][i]);
        }
        sk_free(all[a]);
    }
    sk_free(b->output);
    memset(b, 0, sizeof *b);
}

void sk_qblock_pack(sk_qblock *b, size_t layer) {
    const sk_layer *l = &b->net->layers[layer];
    const size_t i = layer - b->first;
    const int depth = sk_layer_depth(l);
    if (is_dense(l)) {
        b->k->gemm_pack(b->forward[i], l->out_c, depth, b->weight[i], depth, 1);
        b->k->gemm_pack(b->backward[i], depth, l->out_c, b->weight[i], 1, depth);
    } else {
        sk_net_pack_dw(b->weight[i], l->out_c, depth, b->forward[i]);
    }
}

/* ---- a run --------------------------------------------------------------------------------------------------- */

static size_t rounded(size_t count) {
    return (count + 15) / 16 * 16;
}

sk_status sk_qblock_run_create(const sk_qblock *b, sk_qblock_run *r, sk_error *err) {
    const size_t n = b->last - b->first + 1;
    size_t total = rounded(b->patches) + rounded(b->widest), at = total;
    for (size_t i = 0; i < n; i++) {
        total += 3 * rounded(sk_layer_values(&b->net->layers[b->first + i]));
    }
    *r = (sk_qblock_run){.sum = sk_calloc(n, sizeof *r->sum), .out = sk_calloc(n, sizeof *r->out),
                        .grad = sk_calloc(n, sizeof *r->grad), .reached = sk_calloc(n, 1),
                        .values = sk_calloc(total, sizeof *r->values)};
    if (!r->sum || !r->out || !r->grad || !r->reached || !r->values) {
        sk_qblock_run_free(r);
        return sk_fail_memory(err, "a block's activations");
    }
    r->patches = r->values;
    r->spare = r->values + rounded(b->patches);
    for (size_t i = 0; i < n; i++) {
        const size_t size = rounded(sk_layer_values(&b->net->layers[b->first + i]));
        r->sum[i] = r->values + at;
        r->out[i] = r->sum[i] + size;
        r->grad[i] = r->out[i] + size;
        at += 3 * size;
    }
    return SK_OK;
}

void sk_qblock_run_free(sk_qblock_run *r) {
    sk_free(r->sum);
    sk_free(r->out);
    sk_free(r->grad);
    sk_free(r->reached);
    sk_free(r->values);
    memset(r, 0, sizeof *r);
}

static const float *tensor(const sk_qblock *b, const sk_qblock_run *r, int layer, const float *input) {
    return layer == b->input ? input : r->out[(size_t)layer - b->first];
}

static const float *patches(const sk_layer *l, sk_qblock_run *r, const float *in) {
    const size_t depth = (size_t)sk_layer_depth(l);
    if (l->op != SK_OP_CONV) {
        return in;
    }
    for (size_t p = 0; p < sk_layer_pixels(l); p++) {
        sk_patch_float(l, in, p, r->patches + p * depth);
    }
    return r->patches;
}

static void run_layer(const sk_qblock *b, sk_qblock_run *r, size_t i, const float *input) {
    const sk_layer *l = &b->net->layers[b->first + i];
    const float *in = tensor(b, r, l->input, input);
    const int pixels = (int)sk_layer_pixels(l), depth = sk_layer_depth(l);
    float *sum = r->sum[i];
    if (is_dense(l)) {
        const sk_gemm g = {.m = pixels, .n = l->out_c, .k = depth, .a = patches(l, r, in), .lda = depth,
                           .packed = b->forward[i], .bias = b->bias[i], .act = SK_ACT_NONE, .c = sum,
                           .ldc = l->out_c};
        b->k->gemm(&g);
    } else if (l->op == SK_OP_DEPTHWISE) {
        const sk_dw d = depthwise(l);
        b->k->dw_forward(&d, in, 0, b->forward[i], b->bias[i], SK_ACT_NONE, 0, l->out_h, sum);
    } else if (l->op == SK_OP_POOL) {
        b->k->pool(in, l->in_h * l->in_w, l->in_c, sum);
    } else if (l->op == SK_OP_SCALE) {
        b->k->scale(in, pixels, l->in_c, tensor(b, r, l->input2, input), sum);
    } else {
        b->k->add(sk_layer_values(l), in, tensor(b, r, l->input2, input), sum);
    }
    sk_quantize_values(&b->output[i], pixels, l->out_c, sum, l->act, r->out[i]);
}

const float *sk_qblock_forward(const sk_qblock *b, sk_qblock_run *r, const float *input) {
    for (size_t i = 0; i <= b->last - b->first; i++) {
        run_layer(b, r, i, input);
    }
    return r->out[b->last - b->first];
}

/* ---- backward ------------------------------------------------------------------------------------------------ */

/* Where the gradient of what `layer` gives is to be written: in place if it is the first, else in `spare`. NULL: it
 * enters the block, nobody asks. */
static float *place(const sk_qblock *b, sk_qblock_run *r, int layer) {
    if (layer == b->input) {
        return NULL;
    }
    const size_t i = (size_t)layer - b->first;
    return r->reached[i] ? r->spare : r->grad[i];
}

static void settle(const sk_qblock *b, sk_qblock_run *r, int layer) {
    if (layer == b->input) {
        return;
    }
    const size_t i = (size_t)layer - b->first;
    if (r->reached[i]) {
        b->k->add(sk_layer_values(&b->net->layers[layer]), r->grad[i], r->spare, r->grad[i]);
    }
    r->reached[i] = 1;
}

static void dense_back(const sk_qblock *b, sk_qblock_run *r, size_t i, const float *in, float *dw) {
    const sk_layer *l = &b->net->layers[b->first + i];
    const int pixels = (int)sk_layer_pixels(l), depth = sk_layer_depth(l);
    float *dx = l->op == SK_OP_CONV ? NULL : place(b, r, l->input);
    b->k->gemm_tn(pixels, l->out_c, depth, r->grad[i], l->out_c, patches(l, r, in), depth, dw);
    if (dx) {
        const sk_gemm g = {.m = pixels, .n = depth, .k = l->out_c, .a = r->grad[i], .lda = l->out_c,
                           .packed = b->backward[i], .act = SK_ACT_NONE, .c = dx, .ldc = depth};
        b->k->gemm(&g);
        settle(b, r, l->input);
    }
}

static void depthwise_back(const sk_qblock *b, sk_qblock_run *r, size_t i, const float *in, float *dw) {
    const sk_layer *l = &b->net->layers[b->first + i];
    const sk_dw d = depthwise(l);
    const size_t taps = (size_t)sk_layer_taps(l), c = (size_t)l->out_c;
    memset(r->spare, 0, taps * c * sizeof *r->spare);
    b->k->dw_backward_weight(&d, r->grad[i], in, r->spare);
    for (size_t o = 0; o < c; o++) {
        for (size_t t = 0; t < taps; t++) {
            dw[o * taps + t] += r->spare[t * c + o];
        }
    }
    float *dx = place(b, r, l->input);
    if (dx) {
        b->k->dw_backward_data(&d, r->grad[i], b->forward[i], NULL, dx, NULL, NULL);
        settle(b, r, l->input);
    }
}

static void gate_back(const sk_qblock *b, sk_qblock_run *r, size_t i, const float *in, const float *gate) {
    const sk_layer *l = &b->net->layers[b->first + i];
    const int pixels = (int)sk_layer_pixels(l), c = l->in_c;
    float *dgate = place(b, r, l->input2);
    if (dgate) {
        memset(dgate, 0, (size_t)c * sizeof *dgate);
        b->k->scale_sums(r->grad[i], in, pixels, c, dgate);
        settle(b, r, l->input2);
    }
    float *dx = place(b, r, l->input);
    if (dx) {
        memcpy(dx, r->grad[i], sk_layer_values(l) * sizeof *dx);
        b->k->scale(dx, pixels, c, gate, dx);
        settle(b, r, l->input);
    }
}

static void pool_back(const sk_qblock *b, sk_qblock_run *r, size_t i) {
    const sk_layer *l = &b->net->layers[b->first + i];
    const int rows = l->in_h * l->in_w;
    float *dx = place(b, r, l->input);
    for (int p = 0; dx && p < rows; p++) {
        for (int c = 0; c < l->in_c; c++) {
            dx[p * l->in_c + c] = r->grad[i][c] / (float)rows;
        }
    }
    settle(b, r, l->input);
}

static void add_back(const sk_qblock *b, sk_qblock_run *r, size_t i, int layer) {
    float *dx = place(b, r, layer);
    if (dx) {
        memcpy(dx, r->grad[i], sk_layer_values(&b->net->layers[b->first + i]) * sizeof *dx);
        settle(b, r, layer);
    }
}

static void layer_back(const sk_qblock *b, sk_qblock_run *r, size_t i, const float *input, float *dw, float *db) {
    const sk_layer *l = &b->net->layers[b->first + i];
    const int pixels = (int)sk_layer_pixels(l);
    const float *in = tensor(b, r, l->input, input);
    double ends[2] = {0, 0};
    sk_quantize_backward(&b->output[i], pixels, l->out_c, r->sum[i], l->act, 0, r->grad[i], ends);
    if (l->act != SK_ACT_NONE) {
        b->k->act_backward(sk_layer_values(l), r->grad[i], r->sum[i], l->act, r->grad[i]);
    }
    if (db) {
        b->k->column_sums(r->grad[i], pixels, l->out_c, db);
    }
    if (is_dense(l)) {
        dense_back(b, r, i, in, dw);
    } else if (l->op == SK_OP_DEPTHWISE) {
        depthwise_back(b, r, i, in, dw);
    } else if (l->op == SK_OP_POOL) {
        pool_back(b, r, i);
    } else if (l->op == SK_OP_SCALE) {
        gate_back(b, r, i, in, tensor(b, r, l->input2, input));
    } else {
        add_back(b, r, i, l->input);
        add_back(b, r, i, l->input2);
    }
}

void sk_qblock_backward(const sk_qblock *b, sk_qblock_run *r, const float *input, const float *d, float *const *dweight,
                       float *const *dbias) {
    const size_t n = b->last - b->first + 1;
    memset(r->reached, 0, n);
    memcpy(r->grad[n - 1], d, sk_layer_values(&b->net->layers[b->last]) * sizeof *d);
    for (size_t i = n; i-- > 0;) {
        layer_back(b, r, i, input, dweight[i], dbias[i]);
    }
}
