/* SPDX-License-Identifier: Apache-2.0 */
/* The state of a run between two epochs as one safetensors file: the weights, what the optimiser keeps of each trained
 * tensor, the averages, and the counters and log as metadata. One rename replaces all of it, so that they never come
 * from different epochs; best, last and log.tsv are copies of parts of it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/tensors.h"
#include "train/run.h"

void sk_run_state_free(sk_run_state *state) {
    sk_free(state->config);
    sk_free(state->log);
    *state = (sk_run_state){0};
}

sk_status sk_run_state_add(sk_run_state *state, const sk_epoch_log *row, sk_error *err) {
    const size_t rows = (size_t)state->epoch;
    sk_epoch_log *grown = sk_realloc(state->log, rows, rows + 1, sizeof *grown);
    if (!grown) return sk_fail_memory(err, "the log");
    state->log = grown;
    grown[rows] = *row;
    state->epoch++;
    if (row->is_best) {
        state->best_epoch = row->epoch;
        state->best_accuracy = row->val_accuracy;
        state->best_loss = row->val_loss;
    }
    return SK_OK;
}

#define FORMAT "siskin.train.format"

/* What goes with a tensor, under which name. */
typedef struct series {
    const char *prefix;
    float *data; /* NULL: this tensor has none */
} series;
enum { SERIES = 3 };
static void series_of(const sk_update *update, size_t i, series out[SERIES]) {
    out[0] = (series){update->options.kind == SK_OPTIMIZER_SGD ? "sgd.m." : "adam.m.", update->first[i]};
    out[1] = (series){"adam.v.", update->second[i]};
    out[2] = (series){"ema.", update->average[i]};
}

/* ---- writing ------------------------------------------------------------------------------------------------ */
static sk_status add_series(sk_tensor_file *file, const char *prefix, const sk_tensor *tensor, const float *data,
                            sk_error *err) {
    char name[256];
    snprintf(name, sizeof name, "%s%s", prefix, tensor->name);
    return sk_tensors_add(file, name, tensor->rank, tensor->shape, data, err);
}

static sk_status add_tensors(sk_tensor_file *file, const sk_model *model, const sk_update *update, sk_error *err) {
    sk_status status = SK_OK;
    for (size_t i = 0; status == SK_OK && i < sk_model_tensor_count(model); i++) {
        sk_tensor tensor;
        status = sk_model_tensor(model, i, &tensor, err);
        if (status == SK_OK) status = sk_tensors_add(file, tensor.name, tensor.rank, tensor.shape, tensor.data, err);
        series all[SERIES];
        series_of(update, i, all);
        for (int k = 0; status == SK_OK && k < SERIES; k++)
            if (all[k].data) status = add_series(file, all[k].prefix, &tensor, all[k].data, err);
    }
    return status;
}

/* The limits that weights are held to: low and high per group. They are of weights that are gone by now. */
static sk_status add_limits(sk_tensor_file *file, const sk_limits *limits, sk_error *err) {
    sk_status status = SK_OK;
    for (size_t i = 0; status == SK_OK && limits && i < limits->count; i++) {
        const int shape[2] = {(int)sk_limits_groups(limits, i), 2};
        char name[256];
        snprintf(name, sizeof name, "limits.%s", limits->sites[i].weight.name);
        status = sk_tensors_add(file, name, 2, shape, *limits->bounds[i], err);
    }
    return status;
}

static sk_status set_number(sk_tensor_file *file, const char *key, double value, sk_error *err) {
    char text[40];
    snprintf(text, sizeof text, "%.17g", value);
    return sk_tensors_set_meta(file, key, text, err);
}

sk_status sk_run_save(const char *run_dir, const sk_run_state *state, const sk_model *model, const sk_update *update,
                      const sk_qat *qat, sk_error *err) {
    sk_tensor_file file = {0};
    sk_text log = {0};
    char *path = sk_path_join(run_dir, SK_RUN_STATE);
    sk_run_log_text(state->log, (size_t)state->epoch, &log);
    sk_status status = path && !log.failed ? SK_OK : sk_fail_memory(err, SK_RUN_STATE);
    if (status == SK_OK) status = sk_tensors_set_meta(&file, FORMAT, "2", err);
    if (status == SK_OK) status = sk_tensors_set_meta(&file, "siskin.train.config", state->config, err);
    if (status == SK_OK) status = sk_tensors_set_meta(&file, "siskin.train.log", log.data, err);
    if (status == SK_OK) status = set_number(&file, "siskin.train.step", (double)update->step, err);
    if (status == SK_OK) status = set_number(&file, "siskin.train.best_epoch", state->best_epoch, err);
    if (status == SK_OK) status = set_number(&file, "siskin.train.best_accuracy", state->best_accuracy, err);
    if (status == SK_OK) status = set_number(&file, "siskin.train.best_loss", state->best_loss, err);
    if (status == SK_OK) status = sk_tensors_set_card(&file, sk_model_card(model), err);
    if (status == SK_OK) status = add_tensors(&file, model, update, err);
    if (status == SK_OK) status = add_limits(&file, update->options.limits, err);
    if (status == SK_OK) status = sk_model_save_ranges(model, &file, err);
    if (status == SK_OK && qat) status = sk_qat_save(qat, &file, err);
    if (status == SK_OK) status = sk_tensors_write_safetensors(path, &file, err);
    sk_tensors_free(&file);
    sk_text_free(&log);
    sk_free(path);
    return status;
}

/* ---- reading ------------------------------------------------------------------------------------------------ */
static sk_status take(const sk_tensor_file *file, const char *prefix, const sk_tensor *tensor, float *data,
                      const char *path, sk_error *err) {
    char name[256];
    snprintf(name, sizeof name, "%s%s", prefix, tensor->name);
    const sk_tensor_entry *entry = sk_tensors_find(file, name);
    if (!entry || entry->count != tensor->count)
        return sk_fail(err, SK_ERR_FORMAT, "%s lacks tensor %s; the run cannot be resumed", path, name);
    memcpy(data, entry->data, tensor->count * sizeof *data);
    return SK_OK;
}

static sk_status take_tensors(const sk_tensor_file *file, sk_model *model, sk_update *update, const char *path,
                              sk_error *err) {
    sk_status status = SK_OK;
    for (size_t i = 0; status == SK_OK && i < sk_model_tensor_count(model); i++) {
        sk_tensor tensor;
        status = sk_model_tensor(model, i, &tensor, err);
        if (status == SK_OK) status = take(file, "", &tensor, tensor.data, path, err);
        series all[SERIES];
        series_of(update, i, all);
        for (int k = 0; status == SK_OK && k < SERIES; k++)
            if (all[k].data) status = take(file, all[k].prefix, &tensor, all[k].data, path, err);
    }
    return status;
}

static sk_status take_limits(const sk_tensor_file *file, const sk_limits *limits, const char *path, sk_error *err) {
    sk_status status = SK_OK;
    for (size_t i = 0; status == SK_OK && limits && i < limits->count; i++) {
        const sk_tensor shape = {.name = limits->sites[i].weight.name, .count = 2 * sk_limits_groups(limits, i)};
        status = take(file, "limits.", &shape, *limits->bounds[i], path, err);
    }
    return status;
}

static double number(const sk_tensor_file *file, const char *key) {
    const char *text = sk_tensors_meta(file, key);
    return text ? strtod(text, NULL) : 0;
}

static sk_status take_counters(const sk_tensor_file *file, const char *path, sk_run_state *state, sk_update *update,
                               sk_error *err) {
    const char *log = sk_tensors_meta(file, "siskin.train.log");
    size_t rows = 0;
    if (!log) return sk_fail(err, SK_ERR_FORMAT, "%s is not the state of a training run", path);
    sk_free(state->log);
    sk_status status = sk_run_log_parse(log, path, &state->log, &rows, err);
    if (status != SK_OK) return status;
    state->epoch = (int)rows;
    state->best_epoch = (int)number(file, "siskin.train.best_epoch");
    state->best_accuracy = number(file, "siskin.train.best_accuracy");
    state->best_loss = number(file, "siskin.train.best_loss");
    update->step = (uint64_t)number(file, "siskin.train.step");
    return SK_OK;
}

sk_status sk_run_load(const char *run_dir, sk_run_state *state, sk_model *model, sk_update *update, sk_qat *qat,
                      sk_error *err) {
    sk_tensor_file file = {0};
    char *path = sk_path_join(run_dir, SK_RUN_STATE);
    sk_status status = path ? sk_tensors_read(path, &file, err) : sk_fail_memory(err, "a path");
    if (status != SK_OK) goto done;
    const char *config = sk_tensors_meta(&file, "siskin.train.config"), *format = sk_tensors_meta(&file, FORMAT);
    if (format && strcmp(format, "1") != 0 && strcmp(format, "2") != 0) {
        status = sk_fail(err, SK_ERR_UNSUPPORTED, "%s is of format %.20s; a newer siskin can resume it", path, format);
        goto done;
    }
    status = config ? sk_run_compare(run_dir, config, state->config, err)
                    : sk_fail(err, SK_ERR_FORMAT, "%s is not the state of a training run", path);
    if (status == SK_OK) status = take_counters(&file, path, state, update, err);
    if (status == SK_OK) status = take_tensors(&file, model, update, path, err);
    if (status == SK_OK) status = take_limits(&file, update->options.limits, path, err);
    if (status == SK_OK && qat) status = sk_qat_load(qat, &file, path, err);
    sk_card card = *sk_model_card(model);
    if (status == SK_OK) status = sk_tensors_get_card(&file, &card, NULL, err);
    if (status != SK_OK) goto done;
    sk_model_set_card(model, &card);
    char *kept = sk_strdup(config);
    if (!kept) {
        status = sk_fail_memory(err, "the run's options");
        goto done;
    }
    sk_free(state->config);
    state->config = kept;
done:
    sk_tensors_free(&file);
    sk_free(path);
    return status;
}

/* ---- what follows from the state ---------------------------------------------------------------------------- */
static sk_status write_model(const char *run_dir, const char *name, const sk_model *model, sk_error *err) {
    char *path = sk_path_join(run_dir, name);
    sk_status status = path ? sk_model_write(model, path, err) : sk_fail_memory(err, "a path");
    sk_free(path);
    return status;
}

sk_status sk_run_derive(const char *run_dir, const sk_run_state *state, const sk_model *model, sk_error *err) {
    sk_status status = SK_OK;
    if (state->best_epoch == state->epoch) status = write_model(run_dir, SK_RUN_BEST, model, err);
    if (status == SK_OK) status = write_model(run_dir, SK_RUN_LAST, model, err);
    if (status != SK_OK) return status;
    sk_text log = {0};
    char *path = sk_path_join(run_dir, SK_RUN_LOG);
    sk_run_log_text(state->log, (size_t)state->epoch, &log);
    status = path && !log.failed ? sk_file_write(path, log.data, log.size, err) : sk_fail_memory(err, SK_RUN_LOG);
    sk_free(path);
    sk_text_free(&log);
    return status;
}
