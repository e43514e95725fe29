/* SPDX-License-Identifier: Apache-2.0 */
/* Weights that the vendor's converter rounds to the codes we choose. It takes a channel's scale from its smallest and
 * largest weight and rounds the others to nearest; so these two stay, and a weight that should become the other code is
 * moved onto it. Which ones, and the biases, are decided layer after layer as in refine.c, with the vendor's arithmetic
 * ahead of each. Three networks take each step together: the one as it was, whose sums are the aim;
 * the one that is written, whose ranges the converter will see; and the rounded one, which is what comes of it. */
#include <math.h>
#include <string.h>

#include "quant/vendor.h"

/* A weight that lies further from its code is not left to be rounded. The ends of a range lie up to half a code off
 * theirs and must stay, or the scale would not. */
static const float SURE = 0.49f, SURE_AT_END = 0.51f;

typedef enum way { AIM, WRITTEN, ROUNDED, WAYS } way;

typedef struct refiner {
    const sk_quant_pictures *pictures;
    const sk_hooks *hooks;
    sk_vendor *net;
    sk_vendor_form *form;
    sk_quant_net written, written_gate; /* with the form's own arrays as weights */
    sk_float_net *written_floats, *written_gate_floats;
    int by_layer, threads;
    uint64_t seed;
    float **tensor[WAYS]; /* by layer + 1: of all pictures, while somebody is to read it */
    size_t *last;         /* by layer + 1: the last layer that reads it */
    sk_vendor_pass (*pass)[WAYS]; /* per thread */
    sk_vendor_seen *seen; /* per thread, of the layer at hand */
    size_t layer;
    way from, to;
} refiner;

/* One product of the network: a layer's, or the split one's gate. */
typedef struct product {
    const sk_layer *layer;
    float *weight, *bias;                            /* the form's */
    float *coded_weight, *coded_bias;
    const sk_float_net *aim;
    sk_float_net *written, *coded;
    size_t at;                                       /* its number in these three */
    float in;                                        /* scale of what it reads */
    size_t groups, depth;                            /* scales; weights of a channel */
    sk_vendor_codes *codes;
    float *zero;
    int8_t *code;
    float *target, *patches;
    sk_moments moments;
} product;

/* ---- tensors of all pictures ------------------------------------------------------------------------------------- */

static size_t values_of(const refiner *r, int layer) {
    const size_t side = (size_t)r->net->card.size;
    return layer < 0 ? 3 * side * side : sk_layer_values(&r->net->folded.layers[layer]);
}

static float *tensor_of(const refiner *r, way w, int layer, int picture) {
    return r->tensor[w][layer + 1] + values_of(r, layer) * (size_t)picture;
}

static sk_status open_tensors(refiner *r, int layer, sk_error *err) {
    const size_t count = values_of(r, layer) * (size_t)r->pictures->count;
    int ok = 1;
    for (way w = AIM; w < WAYS; w++) {
        r->tensor[w][layer + 1] = sk_alloc(count, sizeof(float));
        ok = ok && r->tensor[w][layer + 1];
    }
    return ok ? SK_OK : sk_fail_memory(err, "the pictures' activations");
}

static void close_tensors(refiner *r, int layer) {
    for (way w = AIM; w < WAYS; w++) {
        if (r->tensor[w]) {
            sk_free(r->tensor[w][layer + 1]);
            r->tensor[w][layer + 1] = NULL;
        }
    }
}

static void close_read_ones(refiner *r) {
    for (int i = -1; i < (int)r->layer; i++) {
        if (r->last[i + 1] == r->layer) {
            close_tensors(r, i);
        }
    }
}

/* ---- one step ---------------------------------------------------------------------------------------------------- */

static sk_status take_step(void *user, int thread, sk_error *err) {
    const refiner *r = user;
    const sk_layer *l = &r->net->folded.layers[r->layer];
    (void)err;
    for (int p = thread; p < r->pictures->count; p += r->threads) {
        for (way w = r->from; w <= r->to; w++) {
            const sk_vendor_pass *pass = &r->pass[thread][w];
            pass->run.tensor[l->input + 1] = tensor_of(r, w, l->input, p);
            if (sk_layer_reads_two(l)) {
                pass->run.tensor[l->input2 + 1] = tensor_of(r, w, l->input2, p);
            }
            pass->run.tensor[r->layer + 1] = tensor_of(r, w, (int)r->layer, p);
            sk_vendor_step(r->net, pass, r->layer, w == WRITTEN ? &r->seen[thread] : NULL);
        }
    }
    return SK_OK;
}

static sk_status step(refiner *r, way from, way to, sk_error *err) {
    r->from = from;
    r->to = to;
    return sk_parallel(0, r->threads, r->threads, take_step, r, err);
}

/* The codes of the layer's tensors, by what the network that is written shows. */
static void choose_ranges(refiner *r) {
    sk_vendor_seen all = r->seen[0];
    for (int t = 1; t < r->threads; t++) {
        for (int k = 0; k < SK_VENDOR_PLACES; k++) {
            all.low[k] = fminf(all.low[k], r->seen[t].low[k]);
            all.high[k] = fmaxf(all.high[k], r->seen[t].high[k]);
        }
    }
    sk_vendor_choose(r->net, r->layer, &all);
    memset(r->seen, 0, (size_t)r->threads * sizeof *r->seen);
}

/* ---- one product ------------------------------------------------------------------------------------------------- */

static void close_product(product *q) {
    sk_moments_close(&q->moments);
    sk_free(q->codes);
    sk_free(q->zero);
    sk_free(q->code);
    sk_free(q->target);
    sk_free(q->patches);
}

static sk_status open_product(const refiner *r, product *q, sk_error *err) {
    const sk_layer *l = q->layer;
    const size_t channels = (size_t)l->out_c, places = (size_t)sk_place_count(l);
    const size_t rows = places * (size_t)r->pictures->count;
    q->depth = (size_t)sk_layer_depth(l);
    q->groups = r->by_layer ? 1 : channels;
    q->codes = sk_alloc(channels, sizeof *q->codes);
    q->zero = sk_alloc(channels, sizeof *q->zero);
    q->code = sk_alloc(channels * q->depth, sizeof *q->code);
    q->target = sk_alloc(rows * channels, sizeof *q->target);
    q->patches = sk_alloc(places * (size_t)sk_layer_taps(l) * (size_t)l->in_c, sizeof *q->patches);
    if (!q->codes || !q->zero || !q->code || !q->target || !q->patches) {
        return sk_fail_memory(err, "a layer's codes");
    }
    return sk_moments_open(l, (int)rows, &q->moments, err);
}

/* What the rounded network's weights see, and what the sums should be: less the bias, in units of the codes. */
static void look(const refiner *r, product *q) {
    const sk_layer *l = q->layer;
    const size_t width = (size_t)sk_layer_taps(l) * (size_t)l->in_c, c = (size_t)l->out_c;
    const int places = sk_place_count(l);
    for (int p = 0; p < r->pictures->count; p++) {
        const float *in = tensor_of(r, ROUNDED, l->input, p), *aim = tensor_of(r, AIM, l->input, p);
        for (int k = 0; k < places; k++) {
            const size_t place = sk_place(l, r->layer, p, k, r->seed);
            float *x = q->moments.x + (size_t)(p * places + k) * width;
            sk_patch_float(l, aim, place, q->patches + (size_t)k * width);
            sk_patch_float(l, in, place, x);
            for (size_t i = 0; i < width; i++) {
                x[i] /= q->in;
            }
        }
        float *t = q->target + (size_t)p * (size_t)places * c;
        sk_float_patches(q->aim, q->at, q->patches, places, t);
        for (size_t i = 0; i < (size_t)places * c; i++) {
            t[i] = (t[i] - q->bias[i % c]) / (q->in * q->codes[i % c].scale);
        }
    }
}

/* Codes of the weights as the converter would round them. Those at the ends of the range have no choice: their real
 * value is put onto the code. */
static void start_codes(product *q) {
    for (size_t c = q->groups; c < (size_t)q->layer->out_c; c++) {
        q->codes[c] = q->codes[0];
    }
    for (size_t i = 0; i < (size_t)q->layer->out_c * q->depth; i++) {
        const sk_vendor_codes *codes = &q->codes[i / q->depth];
        const float zero = q->zero[i / q->depth] = -128 - codes->least, real = q->weight[i] / codes->scale + zero;
        const float code = fminf(fmaxf(nearbyintf(real), -128), 127);
        q->moments.real[i] = code < -127.5f || code > 126.5f ? code : real;
        q->code[i] = (int8_t)code;
    }
}

/* Behind a ReLU this channel is 0 whatever the pictures show. The converter sees that too, and gives it a scale that
 * has nothing to do with its weights. */
static int never_fires(const refiner *r, const product *q, size_t channel) {
    const sk_layer *l = q->layer;
    int above = q->bias[channel] > 0 || l->act != SK_ACT_RELU || l->input < 0 || r->net->layers[l->input].out.least < 0;
    for (size_t k = 0; !above && k < q->depth; k++) {
        above = q->weight[channel * q->depth + k] > 0;
    }
    return !above;
}

/* The form gets what was decided; the other two networks follow. A weight that rounds as it should, and not by a hair,
 * stays: so does the range, and float changes the less. */
static void settle(const refiner *r, product *q) {
    const size_t channels = (size_t)q->layer->out_c;
    sk_range ends = {0};
    for (size_t c = 0; c < channels; c++) {
        const float scale = q->codes[c].scale;
        float *weight = q->weight + c * q->depth;
        if (c == 0 || q->groups > 1) {
            ends = (sk_range){0};
            sk_range_widen(&ends, weight, channels / q->groups * q->depth);
        }
        if (never_fires(r, q, c)) {
            continue;
        }
        q->bias[c] += (float)(sk_moments_missing(&q->moments, q->code, (int)c) * (double)q->in * (double)scale);
        for (size_t k = 0; k < q->depth; k++) {
            const int code = q->code[c * q->depth + k];
            const float real = ((float)code - q->zero[c]) * scale;
            const float sure = code == -128 || code == 127 ? SURE_AT_END : SURE;
            if (fabsf(weight[k] - real) > sure * scale) {
                weight[k] = code == -128 ? fmaxf(real, ends.low) : code == 127 ? fminf(real, ends.high) : real;
            }
        }
    }
    sk_vendor_weight_codes(q->layer, q->weight, r->by_layer, q->codes);
    sk_vendor_round_weights(q->layer, q->in, q->codes, q->groups, q->weight, q->bias, q->coded_weight, q->coded_bias);
    sk_float_net_renew(q->written, q->at);
    sk_float_net_renew(q->coded, q->at);
}

static sk_status refine_product(const refiner *r, product *q, sk_error *err) {
    sk_status status = open_product(r, q, err);
    if (status == SK_OK) {
        sk_vendor_weight_codes(q->layer, q->weight, r->by_layer, q->codes);
        start_codes(q);
        look(r, q);
        q->moments.target = q->target;
        q->moments.zero = q->zero;
        q->moments.centred = 1;
        q->moments.least = -128;
        q->moments.most = 127;
        sk_moments_settle(&q->moments);
        status = sk_moments_round(&q->moments, q->code, r->threads, err);
    }
    if (status == SK_OK) {
        settle(r, q);
    }
    close_product(q);
    return status;
}

static sk_status refine_layer(const refiner *r, sk_error *err) {
    const size_t i = r->layer;
    const sk_vendor *net = r->net;
    product q = {.layer = &net->folded.layers[i], .weight = r->form->weight[i], .bias = r->form->bias[i],
                 .coded_weight = net->coded.weight[i], .coded_bias = net->coded.bias[i], .aim = net->real,
                 .written = r->written_floats, .coded = net->coded.floats, .at = i,
                 .in = sk_vendor_in_scale(net, i)};
    const sk_status status = refine_product(r, &q, err);
    if (status != SK_OK || (int)i != net->split) {
        return status;
    }
    product gate = {.layer = &net->gate_layer, .weight = r->form->gate[i], .bias = r->form->shift[i],
                    .coded_weight = net->gate_coded.weight[0], .coded_bias = net->gate_coded.bias[0],
                    .aim = net->gate.floats, .written = r->written_gate_floats, .coded = net->gate_coded.floats,
                    .in = sk_vendor_in_scale(net, i)};
    return refine_product(r, &gate, err);
}

/* ---- all of it --------------------------------------------------------------------------------------------------- */

static sk_status open_networks(refiner *r, sk_error *err) {
    const sk_vendor *net = r->net;
    r->written = net->folded.net;
    r->written.weight = r->form->weight;
    r->written.bias = r->form->bias;
    sk_status status = sk_float_net_create(&r->written, &r->written_floats, err);
    if (status == SK_OK && net->split >= 0) {
        r->written_gate = net->gate.net;
        r->written_gate.weight = r->form->gate + net->split;
        r->written_gate.bias = r->form->shift + net->split;
        status = sk_float_net_create(&r->written_gate, &r->written_gate_floats, err);
    }
    for (int t = 0; status == SK_OK && t < r->threads; t++) {
        for (way w = AIM; status == SK_OK && w < WAYS; w++) {
            status = sk_vendor_pass_open(net, &r->pass[t][w], err);
        }
        r->pass[t][WRITTEN].floats = r->written_floats;
        r->pass[t][WRITTEN].gate = r->written_gate_floats;
        r->pass[t][ROUNDED].floats = net->coded.floats;
        r->pass[t][ROUNDED].gate = net->gate_coded.floats;
        r->pass[t][ROUNDED].rounded = 1;
    }
    return status;
}

static sk_status open_refiner(refiner *r, sk_error *err) {
    const size_t n = r->net->folded.net.count;
    r->pass = sk_calloc((size_t)r->threads, sizeof *r->pass);
    r->seen = sk_calloc((size_t)r->threads, sizeof *r->seen);
    r->last = sk_calloc(n + 1, sizeof *r->last);
    int ok = r->pass && r->seen && r->last;
    for (way w = AIM; w < WAYS; w++) {
        r->tensor[w] = sk_calloc(n + 1, sizeof *r->tensor[w]);
        ok = ok && r->tensor[w];
    }
    for (size_t i = 0; ok && i < n; i++) {
        const sk_layer *l = &r->net->folded.layers[i];
        r->last[l->input + 1] = i;
        if (sk_layer_reads_two(l)) {
            r->last[l->input2 + 1] = i;
        }
    }
    return ok ? open_networks(r, err) : sk_fail_memory(err, "the three networks");
}

static void close_refiner(refiner *r) {
    const size_t n = r->net ? r->net->folded.net.count : 0;
    for (int i = -1; r->net && i < (int)n; i++) {
        close_tensors(r, i);
    }
    for (way w = AIM; w < WAYS; w++) {
        for (int t = 0; r->pass && t < r->threads; t++) {
            sk_vendor_pass_close(&r->pass[t][w]);
        }
        sk_free(r->tensor[w]);
    }
    sk_float_net_free(r->written_floats);
    sk_float_net_free(r->written_gate_floats);
    sk_free(r->pass);
    sk_free(r->seen);
    sk_free(r->last);
    sk_vendor_free(r->net);
}

/* The pictures as all three read them. */
static sk_status prepare_pictures(refiner *r, sk_error *err) {
    const size_t values = values_of(r, -1);
    sk_range range = {0};
    sk_status status = open_tensors(r, -1, err);
    for (int p = 0; status == SK_OK && p < r->pictures->count; p++) {
        float *tensor = tensor_of(r, AIM, -1, p);
        sk_float_run run = {.tensor = &tensor};
        sk_float_run_picture(r->net->real, &run, r->pictures->bytes + r->pictures->picture_bytes * (size_t)p);
        sk_range_widen(&range, tensor, values);
        memcpy(tensor_of(r, WRITTEN, -1, p), tensor, values * sizeof *tensor);
        memcpy(tensor_of(r, ROUNDED, -1, p), tensor, values * sizeof *tensor);
    }
    r->net->input = sk_vendor_codes_of((double)range.low, (double)range.high);
    if (status == SK_OK) {
        sk_vendor_round(&r->net->input, r->tensor[ROUNDED][0], values * (size_t)r->pictures->count);
    }
    return status;
}

static sk_status refine(refiner *r, sk_error *err) {
    const size_t n = r->net->folded.net.count;
    sk_status status = prepare_pictures(r, err);
    for (r->layer = 0; status == SK_OK && r->layer < n; r->layer++) {
        if (sk_cancelled(r->hooks)) {
            return sk_fail(err, SK_ERR_CANCELLED, "the rounding was stopped");
        }
        if (sk_layer_has_weights(&r->net->folded.layers[r->layer])) {
            status = refine_layer(r, err);
        }
        if (status == SK_OK) {
            status = open_tensors(r, (int)r->layer, err);
        }
        if (status == SK_OK) {
            status = step(r, AIM, WRITTEN, err);
        }
        if (status == SK_OK) {
            choose_ranges(r);
            status = step(r, ROUNDED, ROUNDED, err);
        }
        close_read_ones(r);
        sk_progress(r->hooks, "rounding", "layers", (uint64_t)r->layer + 1, (uint64_t)n);
    }
    return status;
}

sk_status sk_vendor_form_refine(const sk_model *model, const sk_quant_pictures *pictures, int by_layer, int threads,
                                uint64_t seed, const sk_hooks *hooks, sk_vendor_form *form, sk_error *err) {
    refiner r = {.pictures = pictures, .hooks = hooks, .form = form, .by_layer = by_layer,
                 .threads = sk_thread_count(threads), .seed = seed};
    sk_status status = sk_vendor_begin(model, form, &r.net, err);
    status = sk_vendor_end(r.net, status, &r.net, err); /* with weights that follow layer by layer */
    if (status == SK_OK) {
        status = open_refiner(&r, err);
    }
    if (status == SK_OK) {
        status = refine(&r, err);
    }
    close_refiner(&r);
    return status;
}
