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

static void see(sk_vendor_seen *seen, int place, const float *data, size_t count) {
    if (seen) {
        sk_range range = {seen->low[place + 1], seen->high[place + 1], 0, NULL};
        sk_range_widen(&range, data, count);
        seen->low[place + 1] = range.low;
        seen->high[place + 1] = range.high;
    }
}

static void pool(const sk_vendor *net, const sk_vendor_pass *pass, size_t index, sk_vendor_seen *seen) {
    const sk_layer *l = &net->folded.layers[index];
    const sk_vendor_layer *v = &net->layers[index];
    const size_t channels = (size_t)l->in_c;
    const float *in = pass->run.tensor[l->input + 1];
    float *next = pass->stages;
    int side = l->in_h;
    for (int s = 0; s < v->stages; s++) {
        const int last = s + 1 == v->stages, window = last ? side : 7;
        float *out = last ? pass->run.tensor[index + 1] : next;
        pool_stage(in, side, l->in_c, window, pass->rounded ? v->gain[s] : sk_vendor_pool_gain(l, v->stages), out);
        side = (side + window - 1) / window;
        const size_t count = (size_t)side * (size_t)side * channels;
        if (!last) {
            see(seen, s, out, count);
        }
        if (!last && pass->rounded) {
            sk_vendor_round(&v->stage[s], out, count);
        }
        in = out;
        next = out + count;
    }
}

/* The product of a linear part, which has just been computed, and the gate, which has weights of its own. Both are
 * clipped ahead of their rounding. */
static void split(const sk_vendor *net, const sk_vendor_pass *pass, size_t index, sk_vendor_seen *seen) {
    const sk_vendor_layer *v = &net->layers[index];
    const size_t count = sk_layer_values(&net->folded.layers[index]);
    float *out = pass->run.tensor[index + 1], *gates = pass->gates;
    float *tensors[2] = {pass->run.tensor[0], gates};
    sk_float_run run = {.tensor = tensors, .patches = pass->run.patches};
    sk_float_run_layer(pass->gate, &run, 0);
    for (size_t i = 0; i < count; i++) {
        out[i] = out[i] < -3 ? -3 : out[i];
        gates[i] = gates[i] < 0 ? 0 : gates[i] > 1 ? 1 : gates[i];
    }
    see(seen, SK_VENDOR_IN, out, count);
    see(seen, SK_VENDOR_GATE, gates, count);
    if (pass->rounded) {
        sk_vendor_round(&v->in, out, count);
        sk_vendor_round(&v->gate, gates, count);
    }
    for (size_t i = 0; i < count; i++) {
        out[i] *= gates[i];
    }
}

void sk_vendor_step(const sk_vendor *net, const sk_vendor_pass *pass, size_t index, sk_vendor_seen *seen) {
    const sk_vendor_layer *v = &net->layers[index];
    const size_t count = sk_layer_values(&net->folded.layers[index]);
    float *out = pass->run.tensor[index + 1];
    if (v->stages) {
        pool(net, pass, index, seen);
    } else {
        sk_float_run run = pass->run;
        sk_float_run_layer(pass->floats, &run, index);
    }
    if ((int)index == net->split) {
        split(net, pass, index, seen);
    } else if (v->before) {
        see(seen, SK_VENDOR_IN, out, count);
        if (pass->rounded) {
            sk_vendor_round(&v->in, out, count);
        }
        activate(v->act, out, count);
    }
    see(seen, SK_VENDOR_OUT, out, count);
    if (pass->rounded && v->after) {
        sk_vendor_round(&v->out, out, count);
    }
}

void sk_vendor_run(sk_vendor *net, const uint8_t *image, float *logits, float *features, sk_vendor_tap tap,
                   void *user) {
    const sk_vendor_pass *pass = &net->pass;
    size_t pooled = 0;
    sk_float_run run = pass->run;
    sk_float_run_picture(net->real, &run, image);
    sk_vendor_round(&net->input, run.tensor[0], 3 * (size_t)net->card.size * (size_t)net->card.size);
    for (size_t i = 0; i < net->folded.net.count; i++) {
        sk_vendor_step(net, pass, i, NULL);
        pooled = net->layers[i].stages ? i : pooled;
        if (tap) {
            tap(user, i, run.tensor[i + 1]);
        }
    }
    memcpy(logits, run.tensor[net->folded.net.count], (size_t)net->card.classes * sizeof *logits);
    if (features) {
        memcpy(features, run.tensor[pooled + 1], sk_layer_values(&net->folded.layers[pooled]) * sizeof *features);
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
        if ((int)i == net->split) {
            v->after = 1;
            l->act = SK_ACT_NONE;
            continue;
        }
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

/* Weights beside those of `net`: a network with the same layers. */
static sk_status open_weights(const sk_quant_net *net, sk_vendor_weights *out, sk_error *err) {
    out->weight = sk_calloc(net->count, sizeof *out->weight);
    out->bias = sk_calloc(net->count, sizeof *out->bias);
    out->net = *net;
    out->net.weight = out->weight;
    out->net.bias = out->bias;
    int ok = out->weight && out->bias;
    for (size_t i = 0; ok && i < net->count; i++) {
        const sk_layer *l = &net->layers[i];
        if (!sk_layer_has_weights(l)) {
            continue;
        }
        const size_t count = (size_t)l->out_c * (size_t)sk_layer_depth(l);
        out->weight[i] = sk_calloc(count, sizeof **out->weight);
        out->bias[i] = sk_calloc((size_t)l->out_c, sizeof **out->bias);
        ok = out->weight[i] && out->bias[i];
    }
    return ok ? SK_OK : sk_fail_memory(err, "a network's weights");
}

static void close_weights(sk_vendor_weights *w) {
    sk_float_net_free(w->floats);
    for (size_t i = 0; i < w->net.count; i++) {
        if (w->weight) {
            sk_free(w->weight[i]);
        }
        if (w->bias) {
            sk_free(w->bias[i]);
        }
    }
    sk_free(w->weight);
    sk_free(w->bias);
}

void sk_vendor_pass_close(sk_vendor_pass *pass) {
    sk_float_run_free(&pass->run);
    sk_free(pass->gates);
    sk_free(pass->stages);
}

sk_status sk_vendor_pass_open(const sk_vendor *net, sk_vendor_pass *pass, sk_error *err) {
    size_t most = 1, gates = 1;
    for (size_t i = 0; i < net->folded.net.count; i++) {
        const sk_layer *l = &net->folded.layers[i];
        const size_t values = (size_t)l->in_h * (size_t)l->in_w * (size_t)l->in_c; /* more than all stages have */
        most = l->op == SK_OP_POOL && values > most ? values : most;
        gates = (int)i == net->split ? sk_layer_values(l) : gates;
    }
    *pass = (sk_vendor_pass){.floats = net->real, .gate = net->gate.floats,
                             .gates = sk_alloc(gates, sizeof *pass->gates),
                             .stages = sk_alloc(most, sizeof *pass->stages)};
    return pass->gates && pass->stages ? sk_float_run_create(net->real, &pass->run, err)
                                       : sk_fail_memory(err, "the activations");
}

/* The gate of the split layer as a network of one layer. */
static sk_status open_gate(sk_vendor *net, const sk_vendor_form *form, sk_error *err) {
    const size_t i = (size_t)net->split;
    net->gate_layer = net->folded.layers[i];
    const sk_quant_net alone = {.card = &net->card, .layers = &net->gate_layer, .count = 1};
    sk_status status = open_weights(&alone, &net->gate, err);
    if (status == SK_OK) {
        status = open_weights(&alone, &net->gate_coded, err);
    }
    if (status == SK_OK) {
        const size_t channels = (size_t)net->gate_layer.out_c;
        memcpy(net->gate.weight[0], form->gate[i],
               channels * (size_t)sk_layer_depth(&net->gate_layer) * sizeof **form->gate);
        memcpy(net->gate.bias[0], form->shift[i], channels * sizeof **form->shift);
        status = sk_float_net_create(&net->gate.net, &net->gate.floats, err);
    }
    return status;
}

static sk_status take_form(sk_vendor *net, const sk_vendor_form *form, sk_error *err) {
    for (size_t i = 0; form && i < form->layers; i++) {
        const sk_layer *l = &net->folded.layers[i];
        if (!sk_layer_has_weights(l)) {
            continue;
        }
        const size_t channels = (size_t)l->out_c;
        memcpy(net->folded.weight[i], form->weight[i], channels * (size_t)sk_layer_depth(l) * sizeof **form->weight);
        memcpy(net->folded.bias[i], form->bias[i], channels * sizeof **form->bias);
        if (form->gate[i]) {
            net->split = (int)i;
        }
    }
    net->folded.net.card = &net->card;
    sk_status status = plan(net, err);
    if (status == SK_OK) {
        status = open_weights(&net->folded.net, &net->coded, err);
    }
    return status == SK_OK && net->split >= 0 ? open_gate(net, form, err) : status;
}

sk_status sk_vendor_begin(const sk_model *model, const sk_vendor_form *form, sk_vendor **out, sk_error *err) {
    sk_vendor *net = sk_calloc(1, sizeof *net);
    *out = NULL;
    if (!net) {
        return sk_fail_memory(err, "the forecast");
    }
    net->card = *sk_model_card(model);
    net->split = -1;
    sk_status status = sk_quant_fold(model, &net->folded, err);
    if (status == SK_OK) {
        net->layers = sk_calloc(net->folded.net.count, sizeof *net->layers);
        status = net->layers ? take_form(net, form, err) : sk_fail_memory(err, "the forecast's layers");
    }
    if (status == SK_OK) {
        status = sk_float_net_create(&net->folded.net, &net->real, err);
    }
    if (status == SK_OK) {
        status = sk_vendor_pass_open(net, &net->pass, err);
    }
    if (status != SK_OK) {
        sk_vendor_free(net);
        return status;
    }
    *out = net;
    return SK_OK;
}

float sk_vendor_in_scale(const sk_vendor *net, size_t index) {
    const int input = net->folded.layers[index].input;
    return input < 0 ? net->input.scale : net->layers[input].out.scale;
}

void sk_vendor_round_weights(const sk_layer *l, float in, const sk_vendor_codes *codes, size_t count,
                             const float *weight, const float *bias, float *out_weight, float *out_bias) {
    const size_t depth = (size_t)sk_layer_depth(l);
    memcpy(out_weight, weight, (size_t)l->out_c * depth * sizeof(float));
    for (size_t c = 0; c < (size_t)l->out_c; c++) {
        const sk_vendor_codes *mine = &codes[count > 1 ? c : 0];
        const float unit = in * mine->scale; /* in float, like the division: what the converter gets */
        sk_vendor_round(mine, out_weight + c * depth, depth);
        out_bias[c] = nearbyintf(bias[c] / unit) * unit;
    }
}

/* The rounded network can run from here on. */
static sk_status finish(sk_vendor *net, sk_error *err) {
    sk_status status = sk_float_net_create(&net->coded.net, &net->coded.floats, err);
    if (status == SK_OK && net->split >= 0) {
        status = sk_float_net_create(&net->gate_coded.net, &net->gate_coded.floats, err);
    }
    net->pass.floats = net->coded.floats;
    net->pass.gate = net->gate_coded.floats;
    net->pass.rounded = 1;
    return status;
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
    sk_vendor_pass_close(&net->pass);
    close_weights(&net->coded);
    close_weights(&net->gate);
    close_weights(&net->gate_coded);
    sk_float_net_free(net->real);
    sk_quant_unfold(&net->folded);
    sk_free(net->layers);
    sk_free(net);
}
