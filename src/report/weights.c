/* SPDX-License-Identifier: Apache-2.0 */
/* The inspection of weights as files: tables, JSON, figures. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "formats/json.h"
#include "siskin/report.h"

static const char *op_name(sk_op op) {
    static const char *const names[] = {"conv", "depthwise", "pointwise", "pool", "scale", "add", "linear"};
    return names[op];
}

typedef struct column {
    const char *name;
    size_t offset;
} column;
#define COLUMN(member) {#member, offsetof(sk_weight_stats, member)}
static const column columns[] = {COLUMN(min),           COLUMN(max),         COLUMN(abs_mean),
                                 COLUMN(abs_std),       COLUMN(kurtosis),    COLUMN(channel_ratio),
                                 COLUMN(snr_channel), COLUMN(snr_tensor)};
enum { COLUMNS = sizeof columns / sizeof *columns };

static double value_of(const sk_weight_stats *stats, int i) {
    return *(const double *)((const char *)stats + columns[i].offset);
}

/* ---- tables ------------------------------------------------------------------------------------------------------ */
static void weights_table(const sk_weights *w, sk_text *out) {
    sk_text_add(out, "tensor\tlayer\tkind\tweights\tchannels");
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < COLUMNS; i++) sk_text_add(out, "\t%s_%s", k ? "folded" : "raw", columns[i].name);
    sk_text_add(out, "\toutlier\toutlier_abs_mean\toutlier_abs_std\toutlier_value\n");
    for (size_t r = 0; r < w->count; r++) {
        const sk_weight_row *row = &w->rows[r];
        sk_text_add(out, "%s\t%s\t%s\t%zu\t%zu", row->name, row->layer, op_name(row->op), row->count, row->channels);
        for (int k = 0; k < 2; k++)
            for (int i = 0; i < COLUMNS; i++)
                sk_text_add(out, "\t%.9g", value_of(k ? &row->folded : &row->raw, i));
        sk_text_add(out, "\t%d\t%.9g\t%.9g\t%.9g\n", row->outlier.found, row->outlier.abs_mean, row->outlier.abs_std,
                    row->outlier.value);
    }
}

static void activations_table(const sk_activations *a, sk_text *out) {
    sk_text_add(out, "layer\tkind\tchannels\tlow\thigh\tstep\tlobe\tchannel_ratio\n");
    for (size_t r = 0; r < a->count; r++) {
        const sk_activation_row *row = &a->rows[r];
        sk_text_add(out, "%s\t%s\t%d\t%.9g\t%.9g\t%.9g\t%.9g\t%.9g\n", row->layer.name, op_name(row->layer.op),
                    row->layer.out_c, (double)row->low, (double)row->high, row->step, row->lobe, row->channel_ratio);
    }
}

static void channels_table(const sk_activations *a, sk_text *out) {
    sk_text_add(out, "layer\tchannel");
    for (int p = 0; p < SK_ACT_POINTS; p++) sk_text_add(out, "\t%s", sk_act_point_name(p));
    sk_text_add(out, "\n");
    for (size_t r = 0; r < a->count; r++)
        for (int c = 0; c < a->rows[r].layer.out_c; c++) {
            sk_text_add(out, "%s\t%d", a->rows[r].layer.name, c);
            for (int p = 0; p < SK_ACT_POINTS; p++) sk_text_add(out, "\t%.6g", (double)a->rows[r].channel[c][p]);
            sk_text_add(out, "\n");
        }
}

/* ---- JSON -------------------------------------------------------------------------------------------------------- */
static void put(sk_text *out, const char *name, double value) {
    sk_text_add(out, "\"%s\":", name);
    sk_json_put_number(out, value);
}

static void put_stats(sk_text *out, const char *name, const sk_weight_stats *stats) {
    sk_text_add(out, ",\"%s\":{", name);
    for (int i = 0; i < COLUMNS; i++) {
        sk_text_add(out, "%s", i ? "," : "");
        put(out, columns[i].name, value_of(stats, i));
    }
    sk_text_add(out, "}");
}

static void put_row(sk_text *out, const sk_weight_row *row) {
    sk_text_add(out, "{\"tensor\":\"%s\",\"layer\":\"%s\",\"kind\":\"%s\",\"weights\":%zu,\"channels\":%zu", row->name,
                row->layer, op_name(row->op), row->count, row->channels);
    put_stats(out, "raw", &row->raw);
    put_stats(out, "folded", &row->folded);
    if (row->outlier.found) {
        sk_text_add(out, ",\"outlier\":{");
        put(out, "abs_mean", row->outlier.abs_mean);
        sk_text_add(out, ",");
        put(out, "abs_std", row->outlier.abs_std);
        sk_text_add(out, ",");
        put(out, "value", row->outlier.value);
        sk_text_add(out, "}");
    }
    sk_text_add(out, "}");
}

static void put_activation(sk_text *out, const sk_activation_row *row) {
    sk_text_add(out, "{\"layer\":\"%s\",\"kind\":\"%s\",", row->layer.name, op_name(row->layer.op));
    put(out, "low", (double)row->low);
    sk_text_add(out, ",");
    put(out, "high", (double)row->high);
    sk_text_add(out, ",");
    put(out, "step", row->step);
    sk_text_add(out, ",");
    put(out, "lobe", row->lobe);
    sk_text_add(out, ",");
    put(out, "channel_ratio", row->channel_ratio);
    sk_text_add(out, ",\"channels\":[");
    for (int c = 0; c < row->layer.out_c; c++)
        for (int p = 0; p < SK_ACT_POINTS; p++) {
            sk_text_add(out, "%s", p ? "," : c ? ",[" : "[");
            sk_json_put_number(out, (double)row->channel[c][p]);
            if (p == SK_ACT_MAX) sk_text_add(out, "]");
        }
    sk_text_add(out, "]}");
}

sk_status sk_weights_json(const char *model, const sk_weights *weights, const sk_activations *activations,
                          uint8_t **bytes, size_t *size, sk_error *err) {
    sk_text out = {0};
    sk_text_add(&out, "{\"model\":");
    sk_json_put_string(&out, model);
    sk_text_add(&out, ",\"outliers\":%zu,\"tensors\":[", weights->outliers);
    for (size_t i = 0; i < weights->count; i++) {
        sk_text_add(&out, i ? ",\n" : "\n");
        put_row(&out, &weights->rows[i]);
    }
    sk_text_add(&out, "]");
    if (activations) {
        sk_text_add(&out, ",\"pictures\":%d,\"points\":[", activations->pictures);
        for (int p = 0; p < SK_ACT_POINTS; p++) sk_text_add(&out, "%s\"%s\"", p ? "," : "", sk_act_point_name(p));
        sk_text_add(&out, "],\"activations\":[");
        for (size_t i = 0; i < activations->count; i++) {
            sk_text_add(&out, i ? ",\n" : "\n");
            put_activation(&out, &activations->rows[i]);
        }
        sk_text_add(&out, "]");
    }
    sk_text_add(&out, "}\n");
    if (out.failed) {
        sk_text_free(&out);
        return sk_fail_memory(err, "the inspection as JSON");
    }
    *bytes = (uint8_t *)out.data;
    *size = out.size;
    return SK_OK;
}

/* ---- files ------------------------------------------------------------------------------------------------------- */
static sk_status write_text(const char *dir, const char *name, sk_text *text, sk_error *err) {
    char *path = sk_path_join(dir, name);
    const sk_status status =
        path && !text->failed ? sk_file_write(path, text->data, text->size, err) : sk_fail_memory(err, name);
    sk_free(path);
    sk_text_free(text);
    return status;
}

static sk_status write_json(const char *dir, const char *model, const sk_weights *weights,
                            const sk_activations *activations, sk_error *err) {
    uint8_t *bytes = NULL;
    size_t size = 0;
    sk_status status = sk_weights_json(model, weights, activations, &bytes, &size, err);
    char *path = status == SK_OK ? sk_path_join(dir, "weights.json") : NULL;
    if (status == SK_OK) status = path ? sk_file_write(path, bytes, size, err) : sk_fail_memory(err, "a path");
    sk_free(path);
    sk_free(bytes);
    return status;
}

static sk_status write_histograms(const char *dir, const sk_weights *weights, const sk_hooks *hooks, sk_error *err) {
    char *below = sk_path_join(dir, "histograms");
    sk_status status = below ? sk_make_dirs(below, err) : sk_fail_memory(err, "a path");
    for (size_t i = 0; status == SK_OK && i < weights->count; i++) {
        char *path = sk_path_join(below, weights->rows[i].layer);
        if (sk_cancelled(hooks)) status = sk_fail(err, SK_ERR_CANCELLED, "stopped; %s is not complete", dir);
        else if (!path) status = sk_fail_memory(err, "a path");
        else status = sk_plot_weight_histogram(path, &weights->rows[i], err);
        sk_free(path);
        sk_progress(hooks, "histograms", "layers", i + 1, weights->count);
    }
    sk_free(below);
    return status;
}

static sk_status write_activations(const char *dir, const sk_activations *activations, sk_error *err) {
    sk_text table = {0}, channels = {0};
    activations_table(activations, &table);
    channels_table(activations, &channels);
    sk_status status = write_text(dir, "activations.tsv", &table, err);
    if (status == SK_OK) status = write_text(dir, "channels.tsv", &channels, err);
    else sk_text_free(&channels);
    char *path = sk_path_join(dir, "activations");
    if (status == SK_OK) status = path ? sk_plot_activations(path, activations, err) : sk_fail_memory(err, "a path");
    sk_free(path);
    return status;
}

sk_status sk_weights_write(const char *dir, const char *model, const sk_weights *weights,
                           const sk_activations *activations, const sk_hooks *hooks, sk_error *err) {
    sk_text table = {0};
    sk_status status = sk_make_dirs(dir, err);
    if (status != SK_OK) return status;
    weights_table(weights, &table);
    status = write_text(dir, "weights.tsv", &table, err);
    if (status == SK_OK) status = write_json(dir, model, weights, activations, err);
    char *path = sk_path_join(dir, "weights");
    if (status == SK_OK)
        status = path ? sk_plot_weights(path, NULL, weights, NULL, err) : sk_fail_memory(err, "a path");
    sk_free(path);
    if (status == SK_OK && activations) status = write_activations(dir, activations, err);
    return status == SK_OK ? write_histograms(dir, weights, hooks, err) : status;
}
