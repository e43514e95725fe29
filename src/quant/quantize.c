/* SPDX-License-Identifier: Apache-2.0 */
/* sk_quantize: the stages one after the other: fold, observe, equalise, choose ranges, quantise weights, refine
 * rounding and biases, build, compare. */
#include <math.h>
#include <string.h>

#include "net/model.h"
#include "quant/quant.h"
#include "siskin/rt.h"

/* ---- pictures in memory, a folded network ----------------------------------------------------------------------- */

static sk_status open_job(sk_quant_job *j) {
    const size_t n = j->net->count;
    j->threads = sk_thread_count(j->options->threads);
    j->threads = j->threads < j->pictures->count ? j->threads : j->pictures->count;
    j->classes = sk_calloc((size_t)j->pictures->count, sizeof *j->classes);
    j->ranges = sk_calloc(n, sizeof *j->ranges);
    j->range = sk_calloc(n, sizeof *j->range);
    j->int16 = sk_calloc(n, sizeof *j->int16);
    j->equal = sk_calloc(n, sizeof *j->equal);
    j->scale = sk_calloc(n, sizeof *j->scale);
    j->code = sk_calloc(n, sizeof *j->code);
    j->bias = sk_calloc(n, sizeof *j->bias);
    if (!j->classes || !j->ranges || !j->range || !j->int16 || !j->equal || !j->scale || !j->code || !j->bias) {
        return sk_fail_memory(j->err, "the layers");
    }
    for (size_t i = 0; i < n; i++) {
        const sk_layer *l = &j->net->layers[i];
        if (sk_layer_has_weights(l)) {
            j->bias[i] = sk_alloc((size_t)l->out_c, sizeof **j->bias);
            if (!j->bias[i]) {
                return sk_fail_memory(j->err, "the biases");
            }
            memcpy(j->bias[i], j->net->bias[i], (size_t)l->out_c * sizeof **j->bias);
        }
    }
    return sk_float_net_create(j->net, &j->floats, j->err);
}

static void close_job(sk_quant_job *j) {
    for (size_t i = 0; i < j->net->count; i++) {
        if (j->ranges) {
            sk_free(j->ranges[i].bins);
        }
        if (j->equal) {
            sk_free(j->equal[i]);
        }
        if (j->scale) {
            sk_free(j->scale[i]);
        }
        if (j->code) {
            sk_free(j->code[i]);
        }
        if (j->bias) {
            sk_free(j->bias[i]);
        }
    }
    sk_free(j->classes);
    sk_free(j->ranges);
    sk_free(j->range);
    sk_free(j->int16);
    sk_free(j->equal);
    sk_free(j->scale);
    sk_free(j->code);
    sk_free(j->bias);
    sk_float_net_free(j->floats);
}

/* Ranges and factors as the model brings them along: nothing is looked for. */
static sk_status take_learned(sk_quant_job *j) {
    const sk_ranges *learned = j->net->learned;
    for (size_t i = 0; i < j->net->count; i++) {
        const size_t count = (size_t)j->net->layers[i].out_c;
        memcpy(j->range[i], learned->end[i], sizeof j->range[i]);
        if (!learned->equal[i]) {
            continue;
        }
        j->equal[i] = sk_alloc(count, sizeof **j->equal);
        if (!j->equal[i]) {
            return sk_fail_memory(j->err, "the channels' factors");
        }
        memcpy(j->equal[i], learned->equal[i], count * sizeof **j->equal);
    }
    return SK_OK;
}

static sk_status choose_ranges(sk_quant_job *j) {
    sk_status status = SK_OK;
    for (size_t i = 0; status == SK_OK && i < j->net->count; i++) {
        /* the last layer keeps its full range: its largest values are verdicts, not outliers */
        const sk_quant_observer observer = i + 1 < j->net->count ? j->options->observer : SK_QUANT_NORMAL;
        status = sk_range_choose(&j->ranges[i], observer, j->options->percentile, j->range[i], j->err);
    }
    sk_quant_settle_factors(j);
    return status;
}

sk_status sk_quant_build(sk_quant_job *j) {
    const sk_skn_recipe recipe = {.card = j->net->card, .layers = j->net->layers, .count = j->net->count,
                                  .weight = j->net->weight, .bias = j->bias, .range = (const float (*)[2])j->range,
                                  .equal = j->equal, .scale = j->scale, .code = j->code, .int16 = j->int16,
                                  .method = sk_quant_method(j->options), .pictures = j->pictures->count,
                                  .seed = j->options->seed};
    uint8_t *bytes = NULL;
    const sk_status status = sk_skn_build(&recipe, &bytes, &j->size, j->err);
    if (status == SK_OK) {
        sk_free(j->bytes);
        j->bytes = bytes;
    }
    return status;
}

/* Runs the finished model on the pictures it was calibrated with: a model that fails there will fail anywhere. */
static sk_status compare(sk_quant_job *j, double *agreement) {
    sk_rt *rt = NULL;
    sk_status status = sk_rt_open_memory(j->bytes, j->size, &rt, j->err);
    const int classes = j->net->card->classes, count = j->pictures->count;
    int8_t *logits = sk_alloc((size_t)classes, 1);
    int same = 0;
    if (status == SK_OK && !logits) {
        status = sk_fail_memory(j->err, "the logits");
    }
    for (int i = 0; status == SK_OK && i < count; i++) {
        if (sk_cancelled(j->hooks)) {
            status = sk_fail(j->err, SK_ERR_CANCELLED, "quantisation was stopped");
            break;
        }
        sk_rt_run(rt, j->pictures->bytes + j->pictures->picture_bytes * (size_t)i, logits, NULL);
        int best = 0;
        for (int c = 1; c < classes; c++) {
            best = logits[c] > logits[best] ? c : best;
        }
        same += best == j->classes[i];
        sk_progress(j->hooks, "comparison", "images", (uint64_t)i + 1, (uint64_t)count);
    }
    *agreement = (double)same / count;
    sk_free(logits);
    sk_rt_close(rt);
    return status;
}

static sk_status observed(sk_quant_job *j) {
    sk_status status = sk_quant_mark(j);
    if (status == SK_OK) {
        status = sk_quant_observe(j, 0);
    }
    if (status == SK_OK) {
        status = sk_quant_equalise(j);
    }
    if (status == SK_OK && j->options->observer != SK_QUANT_NORMAL) {
        status = sk_quant_observe(j, 1);
    }
    return status == SK_OK ? choose_ranges(j) : status;
}

/* The pictures are looked at for the sake of float's verdicts. */
static sk_status learned(sk_quant_job *j) {
    const sk_status status = sk_quant_observe(j, 0);
    return status == SK_OK ? take_learned(j) : status;
}

static sk_status run(sk_quant_job *j, const sk_quant_pictures *shown, sk_quant_report *report) {
    const sk_quant_options *o = j->options;
    sk_status status = open_job(j);
    if (status == SK_OK && o->act16) {
        status = sk_quant_mark_int16(j);
    }
    if (status == SK_OK) {
        status = o->observer == SK_QUANT_LEARNED ? learned(j) : observed(j);
    }
    if (status == SK_OK) {
        status = sk_quant_weights(j);
    }
    if (status == SK_OK) {
        status = sk_quant_build(j);
    }
    if (status == SK_OK && (o->adaround || o->correct_bias)) {
        status = sk_quant_refine(j);
    }
    if (status == SK_OK && o->reconstruct) {
        status = sk_quant_reconstruct(j);
    }
    if (status == SK_OK) {
        status = compare(j, &report->agreement);
    }
    for (size_t i = 0; status == SK_OK && i < j->net->count; i++) {
        report->int16_layers += (size_t)j->int16[i];
    }
    return status == SK_OK && shown ? sk_quant_explain(j, shown, &report->explained) : status;
}

sk_status sk_quant_run(const sk_quant_net *net, const sk_quant_pictures *pictures, const sk_quant_options *options,
                       const sk_quant_pictures *shown, const sk_hooks *hooks, uint8_t **bytes, size_t *size,
                       sk_quant_report *report, sk_error *err) {
    sk_quant_job j = {.net = net, .options = options, .pictures = pictures, .hooks = hooks, .err = err};
    const sk_status status = run(&j, shown, report);
    close_job(&j);
    if (status != SK_OK) {
        sk_free(j.bytes);
        return status;
    }
    *bytes = j.bytes;
    *size = j.size;
    return SK_OK;
}

/* ---- a model ------------------------------------------------------------------------------------------------------
 * */

void sk_quant_unfold(sk_quant_folded *f) {
    for (size_t i = 0; i < f->net.count; i++) {
        if (f->weight) {
            sk_free(f->weight[i]);
        }
        if (f->bias) {
            sk_free(f->bias[i]);
        }
    }
    sk_free(f->weight);
    sk_free(f->bias);
    sk_free(f->layers);
    memset(f, 0, sizeof *f);
}

sk_status sk_quant_fold(const sk_model *model, sk_quant_folded *f, sk_error *err) {
    const size_t n = sk_model_layer_count(model);
    *f = (sk_quant_folded){.layers = sk_calloc(n, sizeof *f->layers), .weight = sk_calloc(n, sizeof *f->weight),
                           .bias = sk_calloc(n, sizeof *f->bias)};
    f->net = (sk_quant_net){sk_model_card(model), f->layers, n, f->weight, f->bias, sk_model_ranges(model)};
    sk_status status = f->layers && f->weight && f->bias ? SK_OK : sk_fail_memory(err, "the layers");
    for (size_t i = 0; status == SK_OK && i < n; i++) {
        const size_t count = sk_model_weight_count(model, i);
        f->layers[i] = *sk_model_layer(model, i);
        if (count == 0) {
            continue;
        }
        f->weights += count;
        f->weight[i] = sk_alloc(count, sizeof **f->weight);
        f->bias[i] = sk_alloc((size_t)f->layers[i].out_c, sizeof **f->bias);
        status = f->weight[i] && f->bias[i] ? sk_model_folded(model, i, f->weight[i], f->bias[i], err)
                                            : sk_fail_memory(err, "the folded weights");
    }
    if (status != SK_OK) {
        sk_quant_unfold(f);
    }
    return status;
}

static sk_status check(const sk_model *model, const sk_quant_options *o, sk_error *err) {
    if (!o) {
        return sk_fail(err, SK_ERR_ARGUMENT, "quantisation needs options");
    }
    if (!(o->percentile > 50 && o->percentile <= 100)) {
        return sk_fail(err, SK_ERR_ARGUMENT, "the percentile must be above 50 and at most 100");
    }
    if (o->observer == SK_QUANT_LEARNED && !sk_model_ranges(model)) {
        return sk_fail(err, SK_ERR_ARGUMENT, "the model has learned no ranges: train it with --qat, or choose the "
                       "recipe best or seed");
    }
    return SK_OK;
}

sk_status sk_quantize(sk_model *model, const sk_dataset *calibration, const sk_cache *cache, const char *path,
                      const sk_quant_options *options, const sk_hooks *hooks, sk_quant_report *report, sk_error *err) {
    const double start = sk_now();
    sk_quant_folded folded = {0};
    sk_quant_pictures pictures = {0}, shown = {0};
    sk_quant_report found = {0};
    uint8_t *bytes = NULL;
    size_t size = 0;
    sk_status status = check(model, options, err);
    if (status == SK_OK) {
        status = sk_quant_draw(sk_model_card(model), calibration, cache, options->pictures, options->seed, hooks,
                               &pictures, err);
    }
    if (status == SK_OK && options->explain) {
        status = sk_quant_draw(sk_model_card(model), calibration, cache, options->explain, options->seed + 1, hooks,
                               &shown, err);
    }
    if (status == SK_OK) {
        status = sk_quant_fold(model, &folded, err);
    }
    if (status == SK_OK) {
        status = sk_quant_run(&folded.net, &pictures, options, options->explain ? &shown : NULL, hooks, &bytes, &size,
                              &found, err);
    }
    if (status == SK_OK && found.agreement < 0.9) {
        sk_log(hooks, SK_LOG_WARNING, "int8 and float agree on %.0f %% of the calibration pictures only%s",
               100 * found.agreement, options->equalise == SK_QUANT_EQUALISE_NONE ? ": try the recipe best" : "");
    }
    if (status == SK_OK && found.int16_layers) {
        sk_log(hooks, SK_LOG_WARNING, "%zu layers have 16-bit activations: siskin's own engine runs them, in plain C; "
               "the NPU of RV1103 and RV1106 knows 8 bits alone", found.int16_layers);
    }
    if (status == SK_OK) {
        status = sk_file_write(path, bytes, size, err);
    }
    if (status == SK_OK && report) {
        *report = found;
        report->layers = folded.net.count;
        report->weights = folded.weights;
        report->file_bytes = size;
        report->pictures = pictures.count;
        report->seconds = sk_now() - start;
    } else {
        sk_quant_layers_free(found.explained);
    }
    sk_free(bytes);
    sk_quant_unfold(&folded);
    sk_quant_pictures_free(&pictures);
    sk_quant_pictures_free(&shown);
    return status;
}
