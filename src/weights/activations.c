/* SPDX-License-Identifier: Apache-2.0 */
/* What every channel of every layer gives over calibration pictures: ends in a first pass, percentiles out of
 * histograms between these ends in a second. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "siskin/quant.h"
#include "weights/weights.h"

enum { BINS = 512 };

typedef struct job {
    sk_model *model;
    const sk_hooks *hooks;
    sk_activations *out;
    sk_quant_pictures pictures;
    const char *layers;
    size_t *row_of;  /* per layer of the model; SIZE_MAX: nobody asked */
    uint32_t **bins; /* per row [channel][BINS] */
    int counting;
    sk_error *err;
} job;

const char *sk_act_point_name(int point) {
    static const char *const names[SK_ACT_POINTS] = {"min", "p0.1", "p1", "p50", "p99", "p99.9", "max"};
    return point >= 0 && point < SK_ACT_POINTS ? names[point] : "";
}

/* ---- passes ------------------------------------------------------------------------------------------------------ */
static void widen(sk_activation_row *row, const float *data, size_t pixels, int channels) {
    for (size_t p = 0; p < pixels; p++)
        for (int c = 0; c < channels; c++) {
            const float v = data[p * (size_t)channels + (size_t)c];
            float *at = row->channel[c];
            if (v < at[SK_ACT_MIN]) at[SK_ACT_MIN] = v;
            if (v > at[SK_ACT_MAX]) at[SK_ACT_MAX] = v;
        }
}

static void count_values(const sk_activation_row *row, uint32_t *bins, const float *data, size_t pixels, int channels) {
    for (int c = 0; c < channels; c++) {
        const float low = row->channel[c][SK_ACT_MIN], width = row->channel[c][SK_ACT_MAX] - low;
        const float scale = width > 0 ? BINS / width : 0;
        for (size_t p = 0; p < pixels; p++) {
            const int bin = (int)((data[p * (size_t)channels + (size_t)c] - low) * scale);
            bins[c * BINS + (bin < BINS ? bin : BINS - 1)]++;
        }
    }
}

static void watch(void *user, size_t layer, const float *data, int n, int h, int w, int c) {
    job *j = user;
    const size_t pixels = (size_t)n * (size_t)h * (size_t)w, row = j->row_of[layer];
    if (row == SIZE_MAX) return;
    if (j->counting) count_values(&j->out->rows[row], j->bins[row], data, pixels, c);
    else widen(&j->out->rows[row], data, pixels, c);
}

static sk_status pass(job *j, const char *stage) {
    float *logits = sk_alloc((size_t)sk_model_card(j->model)->classes, sizeof *logits);
    sk_status status = logits ? SK_OK : sk_fail_memory(j->err, "the logits");
    for (int i = 0; status == SK_OK && i < j->out->pictures; i++) {
        if (sk_cancelled(j->hooks)) status = sk_fail(j->err, SK_ERR_CANCELLED, "the inspection was stopped");
        else /* without logits the classifier is not run */
            status = sk_model_forward(j->model, j->pictures.bytes + (size_t)i * j->pictures.picture_bytes, 1, 1, logits,
                                      NULL, watch, j, j->err);
        sk_progress(j->hooks, stage, "images", (uint64_t)i + 1, (uint64_t)j->out->pictures);
    }
    sk_free(logits);
    return status;
}

/* ---- figures ----------------------------------------------------------------------------------------------------- */
static void find_percentiles(float at[SK_ACT_POINTS], const uint32_t *bins) {
    static const double shares[SK_ACT_POINTS] = {0, .001, .01, .5, .99, .999, 1};
    const double low = (double)at[SK_ACT_MIN], width = ((double)at[SK_ACT_MAX] - low) / BINS;
    double total = 0;
    for (int b = 0; b < BINS; b++) total += bins[b];
    for (int point = SK_ACT_P01; point < SK_ACT_MAX; point++) {
        double below = 0;
        int b = 0;
        while (b + 1 < BINS && below + bins[b] < shares[point] * total) below += bins[b++];
        const double part = bins[b] ? (shares[point] * total - below) / bins[b] : 0;
        at[point] = (float)(low + (b + fmin(fmax(part, 0), 1)) * width);
    }
}

static int ascending(const void *a, const void *b) {
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static sk_status finish_row(sk_activation_row *row, const uint32_t *bins, sk_error *err) {
    const size_t channels = (size_t)row->layer.out_c;
    float *peaks = sk_alloc(channels, sizeof *peaks);
    if (!peaks) return sk_fail_memory(err, "the ranges of channels");
    for (size_t c = 0; c < channels; c++) {
        float *at = row->channel[c];
        find_percentiles(at, bins + c * BINS);
        row->low = fminf(row->low, at[SK_ACT_MIN]);
        row->high = fmaxf(row->high, at[SK_ACT_MAX]);
        peaks[c] = fmaxf(-at[SK_ACT_MIN], at[SK_ACT_MAX]);
    }
    qsort(peaks, channels, sizeof *peaks, ascending);
    const double median = ((double)peaks[(channels - 1) / 2] + (double)peaks[channels / 2]) / 2;
    row->channel_ratio = median > 0 ? (double)peaks[channels - 1] / median : 0;
    row->step = ((double)row->high - (double)row->low) / 255;
    row->lobe = row->layer.act == SK_ACT_HSWISH && row->step > 0 ? .375 / row->step : 0;
    sk_free(peaks);
    return SK_OK;
}

static sk_status make_row(job *j, const sk_layer *layer, sk_error *err) {
    const size_t channels = (size_t)layer->out_c, index = j->out->count++;
    sk_activation_row *row = &j->out->rows[index];
    row->layer = *layer;
    row->channel = sk_alloc(channels, sizeof *row->channel);
    j->bins[index] = sk_calloc(channels * BINS, sizeof **j->bins);
    if (!row->channel || !j->bins[index]) return sk_fail_memory(err, "the ranges of channels");
    for (size_t c = 0; c < channels; c++) {
        row->channel[c][SK_ACT_MIN] = INFINITY;
        row->channel[c][SK_ACT_MAX] = -INFINITY;
    }
    return SK_OK;
}

static sk_status make_rows(job *j) {
    const size_t count = sk_model_layer_count(j->model);
    sk_status status = SK_OK;
    j->out->rows = sk_calloc(count, sizeof *j->out->rows);
    j->bins = sk_calloc(count, sizeof *j->bins);
    j->row_of = sk_alloc(count, sizeof *j->row_of);
    if (!j->out->rows || !j->bins || !j->row_of) return sk_fail_memory(j->err, "the ranges of channels");
    for (size_t i = 0; status == SK_OK && i < count; i++) {
        const sk_layer *layer = sk_model_layer(j->model, i);
        const int wanted = sk_layer_fits(layer, j->layers);
        j->row_of[i] = wanted ? j->out->count : SIZE_MAX;
        if (wanted) status = make_row(j, layer, j->err);
    }
    if (status == SK_OK && j->out->count == 0)
        status = sk_fail(j->err, SK_ERR_ARGUMENT, "no layer fits '%.80s'; `siskin net` lists them", j->layers);
    return status;
}

/* A value that is no number would make every figure after it one. */
static sk_status check_finite(const job *j) {
    for (size_t i = 0; i < j->out->count; i++)
        for (int c = 0; c < j->out->rows[i].layer.out_c; c++)
            if (!isfinite(j->out->rows[i].channel[c][SK_ACT_MIN]) || !isfinite(j->out->rows[i].channel[c][SK_ACT_MAX]))
                return sk_fail(j->err, SK_ERR_DATA, "channel %d of %s gives values that are not finite", c,
                               j->out->rows[i].layer.name);
    return SK_OK;
}

sk_status sk_weights_activations(sk_model *model, const char *layers, const sk_dataset *dataset, const sk_cache *cache,
                                 int pictures, uint64_t seed, const sk_hooks *hooks, sk_activations **out,
                                 sk_error *err) {
    job j = {.model = model, .layers = layers, .hooks = hooks, .err = err, .out = sk_calloc(1, sizeof *j.out)};
    *out = NULL;
    if (!j.out) return sk_fail_memory(err, "the ranges of channels");
    sk_status status = sk_quant_draw(sk_model_card(model), dataset, cache, pictures, seed, hooks, &j.pictures, err);
    j.out->pictures = j.pictures.count;
    if (status == SK_OK) status = make_rows(&j);
    if (status == SK_OK) status = pass(&j, "ranges");
    if (status == SK_OK) status = check_finite(&j);
    j.counting = 1;
    if (status == SK_OK) status = pass(&j, "percentiles");
    for (size_t i = 0; status == SK_OK && i < j.out->count; i++)
        status = finish_row(&j.out->rows[i], j.bins[i], err);
    for (size_t i = 0; j.bins && i < j.out->count; i++) sk_free(j.bins[i]);
    sk_free(j.bins);
    sk_free(j.row_of);
    sk_quant_pictures_free(&j.pictures);
    if (status == SK_OK) *out = j.out;
    else sk_activations_free(j.out);
    return status;
}

void sk_activations_free(sk_activations *activations) {
    if (!activations) return;
    for (size_t i = 0; activations->rows && i < activations->count; i++) sk_free(activations->rows[i].channel);
    sk_free(activations->rows);
    sk_free(activations);
}
