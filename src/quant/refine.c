/* SPDX-License-Identifier: Apache-2.0 */
/* Layer after layer, each with the input that the int8 layers before it really give: codes are rounded so that the sums
 * come closest to the float network's (adaround.c), and biases take away the mean error that is left in every channel
 * (bias correction, Nagel et al. 2019, section 4.2, empirical). Both look at a few places of every picture. */
#include <math.h>
#include <string.h>

#include "kernels/kernels.h"
#include "quant/quant.h"

enum { BLOCK = 32 }; /* output channels that a thread rounds at a time */

typedef struct refiner {
    sk_quant_job *job;
    sk_float_run *runs;  /* per thread */
    float **patches;     /* per thread */
    float **target;      /* per layer [pictures * places][out_c], the float network's sums at its places */
    /* of the layer that is being refined */
    size_t layer;
    int rows, depth, channels, depthwise;
    float *x;            /* codes less zero point: [rows][depth], depthwise [rows][taps][channels] */
    float *gram, *cross; /* as in sk_rounding, but depthwise: [taps][taps][channels], [taps][channels] */
    float *real;
    double *mean_x, *mean_t; /* of x over the rows, of the target per output channel */
    double hold;             /* see settle_gram */
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

/* ---- moments of one layer ------------------------------------------------------------------------------------- */

static void close_layer(refiner *r) {
    sk_free(r->x);
    sk_free(r->gram);
    sk_free(r->cross);
    sk_free(r->real);
    sk_free(r->mean_x);
    sk_free(r->mean_t);
    r->x = r->gram = r->cross = r->real = NULL;
    r->mean_x = r->mean_t = NULL;
}

static sk_status open_layer(refiner *r, const sk_walk *walk) {
    const sk_quant_job *j = r->job;
    const sk_layer *l = &j->net->layers[r->layer];
    const size_t width = (size_t)sk_layer_taps(l) * (size_t)l->in_c;
    const int places = sk_place_count(l);
    r->rows = places * j->pictures->count;
    r->depth = sk_layer_depth(l);
    r->channels = l->out_c;
    r->depthwise = l->op == SK_OP_DEPTHWISE;
    const size_t c = (size_t)l->out_c, d = (size_t)r->depth;
    r->x = sk_alloc((size_t)r->rows * width, sizeof *r->x);
    r->gram = sk_calloc(d * d * (r->depthwise ? c : 1), sizeof *r->gram);
    r->cross = sk_calloc(c * d, sizeof *r->cross);
    r->real = sk_alloc(c * d, sizeof *r->real);
    r->mean_x = sk_calloc(width, sizeof *r->mean_x);
    r->mean_t = sk_calloc(c, sizeof *r->mean_t);
    if (!r->x || !r->gram || !r->cross || !r->real || !r->mean_x || !r->mean_t) {
        return sk_fail_memory(j->err, "the moments of a layer");
    }
    for (int p = 0; p < j->pictures->count; p++) {
        for (int k = 0; k < places; k++) {
            float *row = r->x + (size_t)(p * places + k) * width;
            sk_patch_codes(l, sk_walk_tensor(walk, l->input, p), sk_walk_int16(walk, l->input),
                           sk_walk_zero(walk, l->input), sk_place(l, r->layer, p, k, j->options->seed), row);
            for (size_t i = 0; i < width; i++) {
                r->mean_x[i] += (double)row[i];
            }
        }
    }
    for (size_t i = 0; i < width; i++) {
        r->mean_x[i] /= r->rows;
    }
    return SK_OK;
}

/* What the sum of codes times x should be, per row and channel, into the targets themselves. */
static void scale_targets(refiner *r, double in_scale) {
    const sk_quant_job *j = r->job;
    const size_t c = (size_t)r->channels;
    float *t = r->target[r->layer];
    for (int i = 0; i < r->rows; i++, t += c) {
        for (size_t o = 0; o < c; o++) {
            t[o] = (t[o] - j->bias[r->layer][o]) / (float)(in_scale * (double)j->scale[r->layer][o]);
            r->mean_t[o] += (double)t[o];
        }
    }
    for (size_t o = 0; o < c; o++) {
        r->mean_t[o] /= r->rows;
    }
}

static void depthwise_moments(refiner *r) {
    const size_t c = (size_t)r->channels, d = (size_t)r->depth;
    for (int i = 0; i < r->rows; i++) {
        const float *x = r->x + (size_t)i * d * c, *t = r->target[r->layer] + (size_t)i * c;
        for (size_t a = 0; a < d; a++) {
            for (size_t b = 0; b < d; b++) {
                float *gram = r->gram + (a * d + b) * c;
                for (size_t o = 0; o < c; o++) {
                    gram[o] += x[a * c + o] * x[b * c + o];
                }
            }
            for (size_t o = 0; o < c; o++) {
                r->cross[a * c + o] += x[a * c + o] * t[o];
            }
        }
    }
}

static void dense_moments(refiner *r) {
    const sk_kernels *k = sk_kernels_get();
    k->gemm_tn(r->rows, r->depth, r->depth, r->x, r->depth, r->x, r->depth, r->gram);
    k->gemm_tn(r->rows, r->channels, r->depth, r->target[r->layer], r->channels, r->x, r->depth, r->cross);
}

/* Sums to means; about the means where a bias takes the mean error away. Few rows say little about many weights: a
 * share of the mean diagonal, which is returned, holds those that they say nothing about near their real codes. */
static double settle_gram(const refiner *r, float *gram, const double *mean) {
    const size_t d = (size_t)r->depth;
    const int centred = r->job->options->correct_bias;
    double diagonal = 0;
    for (size_t a = 0; a < d; a++) {
        for (size_t b = 0; b < d; b++) {
            gram[a * d + b] = (float)((double)gram[a * d + b] / r->rows - (centred ? mean[a] * mean[b] : 0));
        }
        diagonal += (double)gram[a * d + a] / (double)d;
    }
    const double hold = fmax(0.02 * fmax(1, (double)d / r->rows) * diagonal, 1e-6);
    for (size_t a = 0; a < d; a++) {
        gram[a * d + a] = (float)((double)gram[a * d + a] + hold);
    }
    return hold;
}

static void settle_cross(const refiner *r, int channel, float *cross, const double *mean, double hold) {
    const double mean_t = r->job->options->correct_bias ? r->mean_t[channel] : 0;
    const float *real = r->real + (size_t)r->depth * (size_t)channel;
    for (int a = 0; a < r->depth; a++) {
        cross[a] = (float)((double)cross[a] / r->rows - mean[a] * mean_t + hold * (double)real[a]);
    }
}

/* ---- decisions ------------------------------------------------------------------------------------------------ */

static sk_status round_dense(void *user, int index, sk_error *err) {
    const refiner *r = user;
    const int first = index * BLOCK, end = first + BLOCK < r->channels ? first + BLOCK : r->channels;
    const size_t at = (size_t)first * (size_t)r->depth;
    for (int o = first; o < end; o++) {
        settle_cross(r, o, r->cross + (size_t)o * (size_t)r->depth, r->mean_x, r->hold);
    }
    const sk_rounding problem = {r->depth, end - first, r->real + at, r->gram, r->cross + at};
    return sk_adaround(&problem, r->job->code[r->layer] + at, err);
}

static sk_status round_depthwise(void *user, int index, sk_error *err) {
    const refiner *r = user;
    const size_t c = (size_t)r->channels, d = (size_t)r->depth, o = (size_t)index;
    float *gram = sk_alloc(d * d + d, sizeof *gram);
    double mean[SK_MAX_TAPS];
    if (!gram) {
        return sk_fail_memory(err, "the moments of a channel");
    }
    float *cross = gram + d * d;
    for (size_t a = 0; a < d; a++) {
        mean[a] = r->mean_x[a * c + o];
        cross[a] = r->cross[a * c + o];
        for (size_t b = 0; b < d; b++) {
            gram[a * d + b] = r->gram[(a * d + b) * c + o];
        }
    }
    const double hold = settle_gram(r, gram, mean);
    settle_cross(r, index, cross, mean, hold);
    const sk_rounding problem = {r->depth, 1, r->real + o * d, gram, cross};
    const sk_status status = sk_adaround(&problem, r->job->code[r->layer] + o * d, err);
    sk_free(gram);
    return status;
}

static sk_status round_layer(refiner *r) {
    const sk_quant_job *j = r->job;
    const size_t d = (size_t)r->depth;
    for (size_t o = 0; o < (size_t)r->channels; o++) {
        sk_quant_effective(j->net, j->equal, r->layer, (int)o, r->real + o * d);
        for (size_t k = 0; k < d; k++) {
            r->real[o * d + k] /= j->scale[r->layer][o];
        }
    }
    if (r->depthwise) {
        depthwise_moments(r);
        return sk_parallel(0, r->channels, j->threads, round_depthwise, r, j->err);
    }
    dense_moments(r);
    r->hold = settle_gram(r, r->gram, r->mean_x);
    return sk_parallel(0, (r->channels + BLOCK - 1) / BLOCK, j->threads, round_dense, r, j->err);
}

static void correct_bias(refiner *r, double in_scale) {
    sk_quant_job *j = r->job;
    const size_t d = (size_t)r->depth, c = (size_t)r->channels;
    for (size_t o = 0; o < c; o++) {
        double sum = 0;
        for (size_t k = 0; k < d; k++) {
            sum += j->code[r->layer][o * d + k] * r->mean_x[r->depthwise ? k * c + o : k];
        }
        j->bias[r->layer][o] += (float)((r->mean_t[o] - sum) * in_scale * (double)j->scale[r->layer][o]);
    }
}

static sk_status refine_layer(refiner *r, const sk_walk *walk) {
    sk_quant_job *j = r->job;
    const double in_scale = sk_walk_scale(walk, j->net->layers[r->layer].input);
    sk_status status = open_layer(r, walk);
    if (status == SK_OK) {
        scale_targets(r, in_scale);
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
            close_layer(r);
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
