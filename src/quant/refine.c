/* SPDX-License-Identifier: Apache-2.0 */
/* Layer after layer, each with the input that the int8 layers before it really give: codes are rounded so that the sums
 * come closest to the float network's (adaround.c), and biases take away the mean error that is left in every channel
 * (bias correction, Nagel et al. 2019, section 4.2, empirical). Both look at a few places of every picture. */
#include <math.h>
#include <string.h>

#include "quant/quant.h"

typedef struct refiner {
    sk_quant_job *job;
    sk_float_run *runs;  /* per thread */
    float **patches;     /* per thread */
    float **target;      /* per layer [pictures * places][out_c], the float network's sums at its places */
    size_t layer;        /* the one that is being refined, and what it sees */
    sk_moments moments;
} refiner;

/* ---- the float network's sums -------------------------------------------------------------------------------- */

static sk_status aim(void *user, int index, sk_error *err) {
    refiner *r = user;
    const sk_quant_job *j = r->job;
    sk_float_run *run = &r->runs[index];
    (void)err;
    for (int p = index; p < j->pictures->count; p += j->threads) {
        sk_float_run_picture(j->floats, run, j->pictures->bytes + j->pictures->picture_bytes * (size_t)p);
        for (size_t i = 0; i < j->net->count; i++) {
            const sk_layer *l = &j->net->layers[i];
            const int places = sk_place_count(l);
            const size_t width = (size_t)sk_layer_taps(l) * (size_t)l->in_c;
            sk_float_run_layer(j->floats, run, i);
            for (int k = 0; r->target[i] && k < places; k++) {
                sk_patch_float(l, run->tensor[l->input + 1], sk_place(l, i, p, k, j->options->seed),
                               r->patches[index] + (size_t)k * width);
            }
            if (r->target[i]) {
                sk_float_patches(j->floats, i, r->patches[index], places,
                                 r->target[i] + (size_t)p * (size_t)places * (size_t)l->out_c);
            }
        }
    }
    return SK_OK;
}

static sk_status open_targets(refiner *r) {
    const sk_quant_job *j = r->job;
    size_t widest = 0;
    r->runs = sk_calloc((size_t)j->threads, sizeof *r->runs);
    r->patches = sk_calloc((size_t)j->threads, sizeof *r->patches);
    r->target = sk_calloc(j->net->count, sizeof *r->target);
    int complete = r->runs && r->patches && r->target;
    for (size_t i = 0; complete && i < j->net->count; i++) {
        const sk_layer *l = &j->net->layers[i];
        if (sk_layer_has_weights(l)) {
            const size_t rows = (size_t)sk_place_count(l) * (size_t)j->pictures->count;
            const size_t width = (size_t)sk_layer_taps(l) * (size_t)l->in_c;
            widest = width > widest ? width : widest;
            r->target[i] = sk_alloc(rows * (size_t)l->out_c, sizeof **r->target);
            complete = r->target[i] != NULL;
        }
    }
    for (int t = 0; complete && t < j->threads; t++) {
        r->patches[t] = sk_alloc(SK_PLACES * widest, sizeof **r->patches);
        complete = r->patches[t] && sk_float_run_create(j->floats, &r->runs[t], NULL) == SK_OK;
    }
    return complete ? SK_OK : sk_fail_memory(j->err, "the float network's sums");
}

/* ---- one layer -------------------------------------------------------------------------------------------------- */

static sk_status open_layer(refiner *r, const sk_walk *walk) {
    const sk_quant_job *j = r->job;
    const sk_layer *l = &j->net->layers[r->layer];
    const size_t width = (size_t)sk_layer_taps(l) * (size_t)l->in_c;
    const int places = sk_place_count(l);
    const sk_status status = sk_moments_open(l, places * j->pictures->count, &r->moments, j->err);
    if (status != SK_OK) {
        return status;
    }
    r->moments.target = r->target[r->layer];
    r->moments.centred = j->options->correct_bias;
    r->moments.least = -127;
    r->moments.most = 127;
    for (int p = 0; p < j->pictures->count; p++) {
        for (int k = 0; k < places; k++) {
            sk_patch_codes(l, sk_walk_tensor(walk, l->input, p), sk_walk_int16(walk, l->input),
                           sk_walk_zero(walk, l->input), sk_place(l, r->layer, p, k, j->options->seed),
                           r->moments.x + (size_t)(p * places + k) * width);
        }
    }
    return SK_OK;
}

/* What the sum of codes times x should be, per row and channel, into the targets themselves. */
static void scale_targets(refiner *r, double in_scale) {
    const sk_quant_job *j = r->job;
    const size_t c = (size_t)r->moments.channels;
    float *t = r->target[r->layer];
    for (int i = 0; i < r->moments.rows; i++, t += c) {
        for (size_t o = 0; o < c; o++) {
            t[o] = (t[o] - j->bias[r->layer][o]) / (float)(in_scale * (double)j->scale[r->layer][o]);
        }
    }
}

static sk_status round_layer(refiner *r) {
    const sk_quant_job *j = r->job;
    const size_t d = (size_t)r->moments.depth;
    for (size_t o = 0; o < (size_t)r->moments.channels; o++) {
        float *real = r->moments.real + o * d;
        sk_quant_effective(j->net, j->equal, r->layer, (int)o, real);
        for (size_t k = 0; k < d; k++) {
            real[k] /= j->scale[r->layer][o];
        }
    }
    return sk_moments_round(&r->moments, j->code[r->layer], j->threads, j->err);
}

static void correct_bias(refiner *r, double in_scale) {
    sk_quant_job *j = r->job;
    for (int o = 0; o < r->moments.channels; o++) {
        const double missing = sk_moments_missing(&r->moments, j->code[r->layer], o);
        j->bias[r->layer][o] += (float)(missing * in_scale * (double)j->scale[r->layer][o]);
    }
}

static sk_status refine_layer(refiner *r, const sk_walk *walk) {
    sk_quant_job *j = r->job;
    const double in_scale = sk_walk_scale(walk, j->net->layers[r->layer].input);
    sk_status status = open_layer(r, walk);
    if (status == SK_OK) {
        scale_targets(r, in_scale);
        sk_moments_settle(&r->moments);
        status = j->options->adaround ? round_layer(r) : SK_OK;
    }
    if (status == SK_OK && j->options->correct_bias) {
        correct_bias(r, in_scale);
    }
    return status;
}

static sk_status refine(refiner *r, sk_walk *walk) {
    sk_quant_job *j = r->job;
    sk_status status = SK_OK;
    for (size_t i = 0; status == SK_OK && i < j->net->count; i++) {
        if (sk_cancelled(j->hooks)) {
            return sk_fail(j->err, SK_ERR_CANCELLED, "quantisation was stopped");
        }
        if (r->target[i]) {
            r->layer = i;
            status = refine_layer(r, walk);
            sk_moments_close(&r->moments);
            if (status == SK_OK) {
                status = sk_quant_build(j);
            }
            if (status == SK_OK) {
                sk_walk_set(walk, j->bytes);
            }
        }
        if (status == SK_OK) {
            status = sk_walk_layer(walk, i, j->err);
        }
        sk_progress(j->hooks, j->options->adaround ? "rounding" : "biases", "layers", (uint64_t)i + 1,
                    (uint64_t)j->net->count);
    }
    return status;
}

sk_status sk_quant_refine(sk_quant_job *j) {
    refiner r = {.job = j};
    sk_walk *walk = NULL;
    sk_status status = open_targets(&r);
    if (status == SK_OK) {
        status = sk_parallel(0, j->threads, j->threads, aim, &r, j->err);
    }
    if (status == SK_OK) {
        status = sk_walk_create(j->bytes, j->pictures->bytes, j->pictures->count, j->threads, &walk, j->err);
    }
    if (status == SK_OK) {
        status = refine(&r, walk);
    }
    sk_walk_free(walk);
    for (int t = 0; t < j->threads; t++) {
        if (r.runs) {
            sk_float_run_free(&r.runs[t]);
        }
        if (r.patches) {
            sk_free(r.patches[t]);
        }
    }
    for (size_t i = 0; r.target && i < j->net->count; i++) {
        sk_free(r.target[i]);
    }
    sk_free(r.runs);
    sk_free(r.patches);
    sk_free(r.target);
    return status;
}
