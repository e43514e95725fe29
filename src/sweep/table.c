/* SPDX-License-Identifier: Apache-2.0 */
/* sweep.tsv, a row per run, and sweep.json, with the summary of every configuration. docs/formats.md describes both. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "formats/json.h"
#include "sweep/sweep.h"

const char *sk_measure_text(char text[32], sk_measure_kind kind, double value) {
    if (!isfinite(value)) snprintf(text, 32, "-");
    else if (kind == SK_MEASURE_SHARE) snprintf(text, 32, "%.2f %%", value * 100);
    else if (kind == SK_MEASURE_SECONDS) snprintf(text, 32, "%.1f s", value);
    else snprintf(text, 32, "%.4f", value);
    return text;
}

static const char *value_of(const sk_sweep *sweep, const sk_config *config, size_t axis) {
    return sweep->axes[axis].values[config->choice[axis]];
}

static const char *state_name(sk_run_outcome state) { return state == SK_RUN_FAILED ? "failed" : "done"; }

/* Into DIR/NAME if `status` is still SK_OK; releases the text. */
static sk_status write_text(const char *dir, const char *name, sk_status status, sk_text *text, sk_error *err) {
    char *path = sk_path_join(dir, name);
    if (status == SK_OK)
        status = path && !text->failed ? sk_file_write(path, text->data, text->size, err) : sk_fail_memory(err, name);
    sk_text_free(text);
    sk_free(path);
    return status;
}

/* ---- sweep.tsv --------------------------------------------------------------------------------------------------- */

static void put_head(const sk_sweep *sweep, sk_text *out) {
    sk_text_add(out, "run");
    for (size_t a = 0; a < sweep->axis_count; a++) sk_text_add(out, "\t%s", sweep->axes[a].name);
    sk_text_add(out, "\tseed\tstate\tepochs_run\tbest_epoch");
    for (size_t m = 0; m < sweep->measure_count; m++) sk_text_add(out, "\t%s", sweep->measures[m].key);
    sk_text_add(out, "\terror\n");
}

static void put_row(const sk_sweep *sweep, const sk_sweep_record *run, sk_text *out) {
    sk_text_add(out, "%s", run->name);
    for (size_t a = 0; a < sweep->axis_count; a++)
        sk_text_add(out, "\t%s", value_of(sweep, &sweep->configs[run->config], a));
    sk_text_add(out, "\t%llu\t%s\t%d\t%d", (unsigned long long)run->seed, state_name(run->state), run->epochs,
                run->best_epoch);
    for (size_t m = 0; m < sweep->measure_count; m++) {
        if (isfinite(run->values[m])) sk_text_add(out, "\t%.9g", run->values[m]);
        else sk_text_add(out, "\tnan");
    }
    sk_text_add(out, "\t%s\n", run->error ? run->error : "");
}

sk_status sk_sweep_write_table(const sk_sweep *sweep, const char *dir, sk_error *err) {
    sk_text text = {0};
    put_head(sweep, &text);
    for (size_t c = 0; c < sweep->config_count; c++)
        for (size_t i = 0; i < sweep->run_count; i++)
            if (sweep->runs[i].config == c && sweep->runs[i].state != SK_RUN_WAITING)
                put_row(sweep, &sweep->runs[i], &text);
    return write_text(dir, SK_SWEEP_TSV, SK_OK, &text, err);
}

/* ---- sweep.json -------------------------------------------------------------------------------------------------- */

static void put_axes(const sk_sweep *sweep, sk_text *out) {
    sk_text_add(out, ",\n  \"axes\": [");
    for (size_t a = 0; a < sweep->axis_count; a++) {
        sk_json_put_text(out, a ? ", {\"name\": " : "{\"name\": ", sweep->axes[a].name);
        for (size_t i = 0; i < sweep->axes[a].count; i++)
            sk_json_put_text(out, i ? ", " : ", \"values\": [", sweep->axes[a].values[i]);
        sk_text_add(out, "]}");
    }
    sk_text_add(out, "],\n  \"fixed\": {");
    for (size_t i = 0; i < sweep->fixed_count; i++) {
        sk_json_put_text(out, i ? ", " : "", sweep->fixed[i].name);
        sk_json_put_text(out, ": ", sweep->fixed[i].values[0]);
    }
    sk_text_add(out, "}");
}

static void put_choice(const sk_sweep *sweep, const sk_config *config, sk_text *out) {
    sk_json_put_text(out, "\"configuration\": ", config->name);
    for (size_t a = 0; a < sweep->axis_count; a++) {
        sk_json_put_text(out, a ? ", " : ", \"values\": {", sweep->axes[a].name);
        sk_json_put_text(out, ": ", value_of(sweep, config, a));
    }
    sk_text_add(out, sweep->axis_count ? "}" : ", \"values\": {}");
}

static void put_config(const sk_sweep *sweep, size_t c, sk_text *out) {
    sk_text_add(out, c ? ",\n    {" : "\n    {");
    put_choice(sweep, &sweep->configs[c], out);
    sk_text_add(out, ",\n     \"measures\": {");
    for (size_t m = 0; m < sweep->measure_count; m++) {
        const sk_summary s = sk_sweep_summary(sweep, c, m);
        sk_json_put_text(out, m ? ",\n       " : "\n       ", sweep->measures[m].key);
        sk_text_add(out, ": {\"n\": %zu", s.n);
        sk_json_put_value(out, ", \"mean\": ", s.mean);
        sk_json_put_value(out, ", \"sd\": ", s.sd);
        sk_json_put_value(out, ", \"low\": ", s.low);
        sk_json_put_value(out, ", \"high\": ", s.high);
        sk_text_add(out, "}");
    }
    sk_text_add(out, "}}");
}

static void put_run(const sk_sweep *sweep, const sk_sweep_record *run, int first, sk_text *out) {
    sk_json_put_text(out, first ? "\n    {\"run\": " : ",\n    {\"run\": ", run->name);
    sk_text_add(out, ", ");
    put_choice(sweep, &sweep->configs[run->config], out);
    sk_text_add(out, ", \"seed\": %llu, \"state\": \"%s\", \"epochs_run\": %d, \"best_epoch\": %d",
                (unsigned long long)run->seed, state_name(run->state), run->epochs, run->best_epoch);
    if (run->error) sk_json_put_text(out, ", \"error\": ", run->error);
    for (size_t m = 0; m < sweep->measure_count; m++) {
        sk_json_put_text(out, m ? ", " : ",\n     \"measures\": {", sweep->measures[m].key);
        sk_json_put_value(out, ": ", run->values[m]);
    }
    sk_text_add(out, "}}");
}

void sk_sweep_json_text(const sk_sweep *sweep, sk_text *out) {
    int first = 1;
    sk_json_put_text(out, "{\n  \"format\": \"siskin sweep\", \"version\": 1,\n  \"dataset\": ",
             sweep->dataset ? sk_dataset_dir(sweep->dataset) : "");
    put_axes(sweep, out);
    sk_text_add(out, ",\n  \"configurations\": [");
    for (size_t c = 0; c < sweep->config_count; c++) put_config(sweep, c, out);
    sk_text_add(out, "\n  ],\n  \"runs\": [");
    for (size_t c = 0; c < sweep->config_count; c++)
        for (size_t i = 0; i < sweep->run_count; i++) {
            if (sweep->runs[i].config != c || sweep->runs[i].state == SK_RUN_WAITING) continue;
            put_run(sweep, &sweep->runs[i], first, out);
            first = 0;
        }
    sk_text_add(out, "\n  ]\n}\n");
}

sk_status sk_sweep_json(const sk_sweep *sweep, uint8_t **bytes, size_t *size, sk_error *err) {
    sk_text text = {0};
    *bytes = NULL;
    *size = 0;
    sk_sweep_json_text(sweep, &text);
    if (text.failed) {
        sk_text_free(&text);
        return sk_fail_memory(err, "the JSON document");
    }
    *bytes = (uint8_t *)text.data;
    *size = text.size;
    return SK_OK;
}

/* ---- all files --------------------------------------------------------------------------------------------------- */

sk_status sk_sweep_write(const sk_sweep *sweep, const char *dir, sk_error *err) {
    sk_text json = {0}, page = {0};
    sk_status status = sk_sweep_write_table(sweep, dir, err);
    if (status != SK_OK) return status;
    sk_sweep_json_text(sweep, &json);
    status = write_text(dir, "sweep.json", SK_OK, &json, err);
    if (status == SK_OK) status = sk_sweep_write_figures(sweep, dir, err);
    if (status != SK_OK) return status;
    status = sk_sweep_page(sweep, &page, err);
    return write_text(dir, "sweep.html", status, &page, err);
}
