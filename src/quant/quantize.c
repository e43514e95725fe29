/* SPDX-License-Identifier: Apache-2.0 */
/* sk_quantize: draws calibration pictures, watches the float network on them, and has the int8 file built. */
#include <math.h>
#include <string.h>

#include "quant/quant.h"
#include "siskin/rt.h"

#define BATCH 8

sk_status sk_quant_algorithm_parse(const char *text, sk_quant_algorithm *out, sk_error *err) {
    if (text && strcmp(text, "normal") == 0) {
        *out = SK_QUANT_NORMAL;
    } else if (text && strcmp(text, "mmse") == 0) {
        *out = SK_QUANT_MMSE;
    } else {
        return sk_fail(err, SK_ERR_ARGUMENT, "algorithm '%s' is not known: choose normal or mmse", text ? text : "");
    }
    return SK_OK;
}

sk_quant_options sk_quant_defaults(void) {
    return (sk_quant_options){.algorithm = SK_QUANT_MMSE, .pictures = 100, .seed = 1, .threads = 0};
}

typedef struct job {
    sk_model *model;
    const sk_quant_options *options;
    const sk_hooks *hooks;
    size_t layers;
    sk_quant_pictures drawn;
    sk_range *ranges;
    float **equal; /* per layer NULL or a factor per channel; while ranges are sought: low, then high per channel */
    int counting; /* second pass: histograms */
    int *classes; /* float's verdict per picture */
    sk_layer *table;
    float **weight, **bias;
    float (*range)[2];
    size_t weights;
    sk_error *err;
} job;

static sk_status draw(job *j, const sk_dataset *dataset, const sk_cache *cache) {
    const sk_status status = sk_quant_draw(sk_model_card(j->model), dataset, cache, j->options->pictures,
                                           j->options->seed, j->hooks, &j->drawn, j->err);
    if (status != SK_OK) {
        return status;
    }
    j->classes = sk_calloc((size_t)j->drawn.count, sizeof *j->classes);
    return j->classes ? SK_OK : sk_fail_memory(j->err, "the verdicts");
}

static void watch(void *user, size_t layer, const float *data, int n, int h, int w, int c) {
    job *j = user;
    const size_t count = (size_t)n * (size_t)h * (size_t)w * (size_t)c;
    if (layer >= j->layers) {
        return;
    }
    float *equal = j->equal[layer];
    if (!j->counting) {
        sk_range_widen(&j->ranges[layer], data, count);
        for (size_t i = 0; equal && i < count; i += (size_t)c) {
            sk_channels_widen(equal, equal + c, data + i, c);
        }
    } else if (equal) {
        sk_range_count_equal(&j->ranges[layer], equal, data, count / (size_t)c, c);
    } else {
        sk_range_count(&j->ranges[layer], data, count);
    }
}

static sk_status pass(job *j, const char *stage) {
    const int classes = sk_model_card(j->model)->classes;
    float *logits = sk_alloc((size_t)classes * BATCH, sizeof *logits);
    if (!logits) {
        return sk_fail_memory(j->err, "the logits");
    }
    sk_status status = SK_OK;
    for (int i = 0; status == SK_OK && i < j->drawn.count; i += BATCH) {
        const int n = j->drawn.count - i < BATCH ? j->drawn.count - i : BATCH;
        if (sk_cancelled(j->hooks)) {
            status = sk_fail(j->err, SK_ERR_CANCELLED, "quantisation was stopped");
            break;
        }
        status = sk_model_forward(j->model, j->drawn.bytes + j->drawn.picture_bytes * (size_t)i, n, j->options->threads,
                                  logits, NULL, watch, j, j->err);
        for (int k = 0; status == SK_OK && k < n; k++) {
            const float *row = logits + (size_t)classes * (size_t)k;
            for (int c = 1, best = 0; c < classes; c++) {
                best = row[c] > row[best] ? c : best;
                j->classes[i + k] = best;
            }
        }
        sk_progress(j->hooks, stage, "images", (uint64_t)(i + n), (uint64_t)j->drawn.count);
    }
    sk_free(logits);
    return status;
}

static sk_status calibrate(job *j) {
    sk_status status = pass(j, "ranges");
    for (size_t i = 0; status == SK_OK && i < j->layers; i++) {
        if (!j->ranges[i].seen) {
            status = sk_fail(j->err, SK_ERR_MISMATCH, "layer %zu of the model was never run", i);
        }
        j->range[i][0] = j->ranges[i].low;
        j->range[i][1] = j->ranges[i].high;
    }
    if (status != SK_OK || j->options->algorithm != SK_QUANT_MMSE) {
        return status;
    }
    for (size_t i = 0; i < j->layers; i++) {
        if (j->equal[i]) {
            const int c = j->table[i].out_c;
            sk_channels_equalize(j->equal[i], j->equal[i] + c, c, &j->ranges[i]);
            j->range[i][0] = j->ranges[i].low;
            j->range[i][1] = j->ranges[i].high;
        }
        j->ranges[i].bins = sk_calloc(SK_RANGE_BINS, sizeof *j->ranges[i].bins);
        if (!j->ranges[i].bins) {
            return sk_fail_memory(j->err, "the histograms");
        }
    }
    j->counting = 1;
    status = pass(j, "histograms");
    /* the last layer keeps its full range: its largest values are verdicts, not outliers */
    for (size_t i = 0; status == SK_OK && i + 1 < j->layers; i++) {
        sk_range_best(&j->ranges[i], &j->range[i][0], &j->range[i][1]);
    }
    return status;
}

/* Marks the tensors whose channels may each have their own unit at no cost: those that depthwise layers alone read, as
 * such a layer's weights are quantised per channel anyway. */
static sk_status find_equal(job *j) {
    for (size_t i = 0; i < j->layers; i++) {
        int readers = 0, others = j->weight[i] == NULL || j->table[i].act == SK_ACT_HSIGMOID;
        for (size_t k = i + 1; k < j->layers; k++) {
            const sk_layer *l = &j->table[k];
            const int two = (l->op == SK_OP_SCALE || l->op == SK_OP_ADD) && l->input2 == (int)i;
            readers += l->input == (int)i && l->op == SK_OP_DEPTHWISE;
            others += two || (l->input == (int)i && l->op != SK_OP_DEPTHWISE);
        }
        if (readers && !others) {
            j->equal[i] = sk_calloc(2 * (size_t)j->table[i].out_c, sizeof **j->equal);
            if (!j->equal[i]) {
                return sk_fail_memory(j->err, "the channels' ranges");
            }
        }
    }
    return SK_OK;
}

static sk_status prepare(job *j) {
    j->layers = sk_model_layer_count(j->model);
    const size_t n = j->layers;
    j->ranges = sk_calloc(n, sizeof *j->ranges);
    j->table = sk_calloc(n, sizeof *j->table);
    j->weight = sk_calloc(n, sizeof *j->weight);
    j->bias = sk_calloc(n, sizeof *j->bias);
    j->range = sk_calloc(n, sizeof *j->range);
    j->equal = sk_calloc(n, sizeof *j->equal);
    if (!j->ranges || !j->equal || !j->table || !j->weight || !j->bias || !j->range) {
        return sk_fail_memory(j->err, "the layers");
    }
    for (size_t i = 0; i < n; i++) {
        j->table[i] = *sk_model_layer(j->model, i);
        const size_t count = sk_model_weight_count(j->model, i);
        if (count == 0) {
            continue;
        }
        j->weights += count;
        j->weight[i] = sk_alloc(count, sizeof **j->weight);
        j->bias[i] = sk_alloc((size_t)j->table[i].out_c, sizeof **j->bias);
        if (!j->weight[i] || !j->bias[i]) {
            return sk_fail_memory(j->err, "the folded weights");
        }
        const sk_status status = sk_model_folded(j->model, i, j->weight[i], j->bias[i], j->err);
        if (status != SK_OK) {
            return status;
        }
    }
    return j->options->algorithm == SK_QUANT_MMSE ? find_equal(j) : SK_OK;
}

/* Runs the finished model on the pictures it was calibrated with: a model that fails there will fail anywhere. */
static sk_status compare(job *j, const uint8_t *bytes, size_t size, double *agreement) {
    sk_rt *rt = NULL;
    sk_status status = sk_rt_open_memory(bytes, size, &rt, j->err);
    const int classes = sk_model_card(j->model)->classes;
    int8_t *logits = sk_alloc((size_t)classes, 1);
    int same = 0;
    if (status == SK_OK && !logits) {
        status = sk_fail_memory(j->err, "the logits");
    }
    for (int i = 0; status == SK_OK && i < j->drawn.count; i++) {
        if (sk_cancelled(j->hooks)) {
            status = sk_fail(j->err, SK_ERR_CANCELLED, "quantisation was stopped");
            break;
        }
        sk_rt_run(rt, j->drawn.bytes + j->drawn.picture_bytes * (size_t)i, logits, NULL);
        int best = 0;
        for (int c = 1; c < classes; c++) {
            best = logits[c] > logits[best] ? c : best;
        }
        same += best == j->classes[i];
        sk_progress(j->hooks, "comparison", "images", (uint64_t)i + 1, (uint64_t)j->drawn.count);
    }
    *agreement = (double)same / j->drawn.count;
    sk_free(logits);
    sk_rt_close(rt);
    return status;
}

static void clean(job *j) {
    for (size_t i = 0; i < j->layers; i++) {
        if (j->ranges) {
            sk_free(j->ranges[i].bins);
        }
        if (j->equal) {
            sk_free(j->equal[i]);
        }
        if (j->weight) {
            sk_free(j->weight[i]);
        }
        if (j->bias) {
            sk_free(j->bias[i]);
        }
    }
    sk_free(j->ranges);
    sk_free(j->equal);
    sk_free(j->table);
    sk_free(j->weight);
    sk_free(j->bias);
    sk_free(j->range);
    sk_free(j->classes);
    sk_quant_pictures_free(&j->drawn);
}

sk_status sk_quantize(sk_model *model, const sk_dataset *calibration, const sk_cache *cache, const char *path,
                      const sk_quant_options *options, const sk_hooks *hooks, sk_quant_report *report, sk_error *err) {
    const double start = sk_now();
    if (!options) {
        return sk_fail(err, SK_ERR_ARGUMENT, "quantisation needs options: begin with sk_quant_defaults");
    }
    job j = {.model = model, .options = options, .hooks = hooks, .err = err};
    uint8_t *bytes = NULL;
    size_t size = 0;
    double agreement = 0;
    sk_status status = draw(&j, calibration, cache);
    if (status == SK_OK) {
        status = prepare(&j);
    }
    if (status == SK_OK) {
        status = calibrate(&j);
    }
    if (status == SK_OK) {
        const sk_skn_recipe recipe = {.card = sk_model_card(model), .layers = j.table, .count = j.layers,
                                      .weight = j.weight, .bias = j.bias, .range = (const float (*)[2])j.range,
                                      .equal = j.equal,
                                      .algorithm = options->algorithm, .pictures = j.drawn.count,
                                      .seed = options->seed};
        status = sk_skn_build(&recipe, &bytes, &size, err);
    }
    if (status == SK_OK) {
        status = compare(&j, bytes, size, &agreement);
    }
    if (status == SK_OK && agreement < 0.9) {
        sk_log(hooks, SK_LOG_WARNING, "int8 and float agree on %.0f %% of the calibration pictures only%s",
               100 * agreement, options->algorithm == SK_QUANT_NORMAL ? ": try mmse" : "");
    }
    if (status == SK_OK) {
        status = sk_file_write(path, bytes, size, err);
    }
    if (status == SK_OK && report) {
        *report = (sk_quant_report){.layers = j.layers, .weights = j.weights, .file_bytes = size,
                                    .pictures = j.drawn.count, .seconds = sk_now() - start, .agreement = agreement};
    }
    sk_free(bytes);
    clean(&j);
    return status;
}
