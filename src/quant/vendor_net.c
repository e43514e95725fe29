/* SPDX-License-Identifier: Apache-2.0 */
/* The network as the vendor's simulator computes it: float sums of rounded numbers, rounded again to the codes of the
 * output. Which tensors are rounded was found by looking at every tensor of toolkit 2.5.0's accuracy analysis. */
#include <math.h>
#include <string.h>

#include "quant/vendor.h"

/* ---- numbers ----------------------------------------------------------------------------------------------------- */

sk_vendor_codes sk_vendor_codes_of(double low, double high) {
    low = fmin(low, 0);
    high = fmax(high, 0);
    if (!(high > low)) {
        low = -1;
        high = 1;
    }
    const double scale = (high - low) / 255, zero = fmin(fmax(nearbyint(-128 - low / scale), -128), 127);
    return (sk_vendor_codes){(float)scale, (float)(-128 - zero), (float)(127 - zero)};
}

void sk_vendor_round(const sk_vendor_codes *codes, float *data, size_t count) {
    const float scale = codes->scale, least = codes->least, most = codes->most;
    const float magic = 12582912; /* 1.5 * 2^23: adding it rounds to whole numbers, ties to even */
    for (size_t i = 0; i < count; i++) {
        const float code = data[i] / scale, held = code < least ? least : code > most ? most : code;
        data[i] = ((held + magic) - magic) * scale;
    }
}

static void activate(sk_act act, float *data, size_t count) {
    for (size_t i = 0; i < count; i++) {
        const float gate = data[i] / 6 + 0.5f, held = gate < 0 ? 0 : gate > 1 ? 1 : gate;
        data[i] = act == SK_ACT_HSWISH ? data[i] * held : held;
    }
}

/* ---- one layer --------------------------------------------------------------------------------------------------- */

/* A convolution of windows side by side, the picture in the middle of them. */
static void pool_stage(const float *in, int side, int channels, int window, float gain, float *out) {
    const int across = (side + window - 1) / window, shift = (across * window - side) / 2;
    memset(out, 0, (size_t)across * (size_t)across * (size_t)channels * sizeof *out);
    for (int y = 0; y < side; y++) {
        for (int x = 0; x < side; x++, in += channels) {
            float *sum = out + ((size_t)((y + shift) / window * across + (x + shift) / window)) * (size_t)channels;
            for (int c = 0; c < channels; c++) {
                sum[c] += gain * in[c];
            }
        }
    }
}

float sk_vendor_pool_gain(const sk_layer *l, int stages) {
    return (float)pow((double)l->in_h * l->in_w, -1.0 / stages);
}

static void pool(sk_vendor *net, size_t index, int rounded, sk_vendor_watch watch, void *user) {
    const sk_layer *l = &net->folded.layers[index];
    const sk_vendor_layer *v = &net->layers[index];
    const size_t channels = (size_t)l->in_c;
    const float *in = net->run.tensor[l->input + 1];
    float *next = net->stages;
    int side = l->in_h;
    for (int s = 0; s < v->stages; s++) {
        const int last = s + 1 == v->stages, window = last ? side : 7;
        float *out = last ? net->run.tensor[index + 1] : next;
        pool_stage(in, side, l->in_c, window, rounded ? v->gain[s] : sk_vendor_pool_gain(l, v->stages), out);
        side = (side + window - 1) / window;
        const size_t count = (size_t)side * (size_t)side * channels;
        if (!last && watch) {
            watch(user, index, s, out, count);
        }
        if (!last && rounded) {
            sk_vendor_round(&v->stage[s], out, count);
        }
        in = out;
        next = out + count;
    }
}

void sk_vendor_step(sk_vendor *net, size_t index, int rounded, sk_vendor_watch watch, void *user) {
    const sk_vendor_layer *v = &net->layers[index];
    const size_t count = sk_layer_values(&net->folded.layers[index]);
    float *out = net->run.tensor[index + 1];
    if (v->stages) {
        pool(net, index, rounded, watch, user);
    } else {
        sk_float_run_layer(rounded ? net->coded : net->real, &net->run, index);
    }
    if (v->before) {
        if (watch) {
            watch(user, index, SK_VENDOR_IN, out, count);
        }
        if (rounded) {
            sk_vendor_round(&v->in, out, count);
        }
        activate(v->act, out, count);
    }
    if (watch) {
        watch(user, index, SK_VENDOR_OUT, out, count);
    }
    if (rounded && v->after) {
        sk_vendor_round(&v->out, out, count);
    }
}

void sk_vendor_run(sk_vendor *net, const uint8_t *image, float *logits, float *features, sk_vendor_tap tap,
                   void *user) {
    size_t pooled = 0;
    sk_float_run_picture(net->real, &net->run, image);
    sk_vendor_round(&net->input, net->run.tensor[0], 3 * (size_t)net->card.size * (size_t)net->card.size);
    for (size_t i = 0; i < net->folded.net.count; i++) {
        sk_vendor_step(net, i, 1, NULL, NULL);
        pooled = net->layers[i].stages ? i : pooled;
        if (tap) {
            tap(user, i, net->run.tensor[i + 1]);
        }
    }
    memcpy(logits, net->run.tensor[net->folded.net.count], (size_t)net->card.classes * sizeof *logits);
    if (features) {
        memcpy(features, net->run.tensor[pooled + 1], sk_layer_values(&net->folded.layers[pooled]) * sizeof *features);
    }
}

/* ---- what is rounded --------------------------------------------------------------------------------------------- */

/* A convolution whose sum goes straight into an addition is one layer with it. */
static int goes_into_addition(const sk_quant_net *net, size_t index) {
    int additions = 0, others = 0;
    for (size_t i = index + 1; i < net->count; i++) {
        const sk_layer *l = &net->layers[i];
        const int reads = l->input == (int)index || (sk_layer_reads_two(l) && l->input2 == (int)index);
        additions += reads && l->op == SK_OP_ADD;
        others += reads && l->op != SK_OP_ADD;
    }
    return additions == 1 && others == 0 && sk_layer_has_weights(&net->layers[index]);
}

/* One stage per factor of 7 in the side. */
static int count_stages(int side) {
    int stages = 1;
    for (; side > 7; stages++) {
        side = (side + 6) / 7;
    }
    return stages;
}

static sk_status plan(sk_vendor *net, sk_error *err) {
    for (size_t i = 0; i < net->folded.net.count; i++) {
        sk_layer *l = &net->folded.layers[i];
        sk_vendor_layer *v = &net->layers[i];
        v->after = !goes_into_addition(&net->folded.net, i);
        v->before = l->act == SK_ACT_HSIGMOID ||
                    (l->act == SK_ACT_HSWISH && (l->op == SK_OP_DEPTHWISE || l->op == SK_OP_LINEAR));
        if (v->before) {
            v->act = l->act;
            l->act = SK_ACT_NONE;
        }
        if (l->op != SK_OP_POOL) {
            continue;
        }
        v->stages = count_stages(l->in_h);
        if (l->in_h != l->in_w || v->stages > SK_VENDOR_STAGES) {
            return sk_fail(err, SK_ERR_UNSUPPORTED, "%s: a pool over %d x %d values has no forecast", l->name, l->in_h,
                           l->in_w);
        }
    }
    return SK_OK;
}

static sk_status take_room(sk_vendor *net, sk_error *err) {
    const size_t n = net->folded.net.count;
    net->weight = sk_calloc(n, sizeof *net->weight);
    net->bias = sk_calloc(n, sizeof *net->bias);
    net->layers = sk_calloc(n, sizeof *net->layers);
    size_t most = 1;
    int ok = net->weight && net->bias && net->layers;
    for (size_t i = 0; ok && i < n; i++) {
        const sk_layer *l = &net->folded.layers[i];
        if (sk_layer_has_weights(l)) {
            net->weight[i] = sk_alloc((size_t)l->out_c * (size_t)sk_layer_depth(l), sizeof **net->weight);
            net->bias[i] = sk_alloc((size_t)l->out_c, sizeof **net->bias);
            ok = net->weight[i] && net->bias[i];
        } else if (l->op == SK_OP_POOL) {
            const size_t values = (size_t)l->in_h * (size_t)l->in_w * (size_t)l->in_c; /* more than all stages have */
            most = values > most ? values : most;
        }
    }
    ok = ok && (net->stages = sk_alloc(most, sizeof *net->stages));
    return ok ? SK_OK : sk_fail_memory(err, "the rounded weights");
}

sk_status sk_vendor_begin(const sk_model *model, sk_vendor **out, sk_error *err) {
    sk_vendor *net = sk_calloc(1, sizeof *net);
    *out = NULL;
    if (!net) {
        return sk_fail_memory(err, "the forecast");
    }
    net->card = *sk_model_card(model);
    sk_status status = sk_quant_fold(model, &net->folded, err);
    if (status == SK_OK) {
        net->folded.net.card = &net->card;
        status = take_room(net, err);
    }
    if (status == SK_OK) {
        status = plan(net, err);
    }
    if (status == SK_OK) {
        status = sk_float_net_create(&net->folded.net, &net->real, err);
    }
    if (status == SK_OK) {
        status = sk_float_run_create(net->real, &net->run, err);
    }
    if (status != SK_OK) {
        sk_vendor_free(net);
        return status;
    }
    *out = net;
    return SK_OK;
}

void sk_vendor_round_weights(sk_vendor *net, size_t index, const sk_vendor_codes *codes, size_t count) {
    const sk_layer *l = &net->folded.layers[index];
    const size_t depth = (size_t)sk_layer_depth(l);
    const float in = l->input < 0 ? net->input.scale : net->layers[l->input].out.scale;
    memcpy(net->weight[index], net->folded.weight[index], (size_t)l->out_c * depth * sizeof(float));
    for (size_t c = 0; c < (size_t)l->out_c; c++) {
        const sk_vendor_codes *mine = &codes[count > 1 ? c : 0];
        const double unit = (double)in * (double)mine->scale;
        sk_vendor_round(mine, net->weight[index] + c * depth, depth);
        net->bias[index][c] = (float)(nearbyint((double)net->folded.bias[index][c] / unit) * unit);
    }
}

/* The rounded network can run from here on. */
static sk_status finish(sk_vendor *net, sk_error *err) {
    net->rounded = net->folded.net;
    net->rounded.weight = net->weight;
    net->rounded.bias = net->bias;
    return sk_float_net_create(&net->rounded, &net->coded, err);
}

sk_status sk_vendor_end(sk_vendor *net, sk_status status, sk_vendor **out, sk_error *err) {
    *out = NULL;
    if (status == SK_OK) {
        status = finish(net, err);
    }
    if (status != SK_OK) {
        sk_vendor_free(net);
        return status;
    }
    *out = net;
    return SK_OK;
}

void sk_vendor_free(sk_vendor *net) {
    if (!net) {
        return;
    }
    for (size_t i = 0; i < net->folded.net.count; i++) {
        if (net->weight) {
            sk_free(net->weight[i]);
        }
        if (net->bias) {
            sk_free(net->bias[i]);
        }
    }
    sk_float_run_free(&net->run);
    sk_float_net_free(net->real);
    sk_float_net_free(net->coded);
    sk_quant_unfold(&net->folded);
    sk_free(net->weight);
    sk_free(net->bias);
    sk_free(net->layers);
    sk_free(net->stages);
    sk_free(net);
}
