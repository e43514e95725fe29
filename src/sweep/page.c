/* SPDX-License-Identifier: Apache-2.0 */
/* sweep.html: the figures and tables of a sweep as one file that needs nothing else. */
#include <math.h>
#include <stdio.h>

#include "report/html_parts.h"
#include "sweep/figure.h"

static void put_cell(sk_text *out, sk_measure_kind kind, const sk_summary *s) {
    char mean[32], low[32], high[32];
    sk_text_add(out, "<td>%s", sk_measure_text(mean, kind, s->mean));
    if (isfinite(s->low))
        sk_text_add(out, "<br><span class=\"muted\">%s \xe2\x80\x93 %s</span>", sk_measure_text(low, kind, s->low),
                    sk_measure_text(high, kind, s->high));
    sk_text_add(out, "</td>");
}

/* Configurations down, measures across. */
static void put_table(const sk_sweep *sweep, int sources, sk_text *out) {
    sk_text_add(out, "<div class=\"scroll\"><table>\n<tr><th>Configuration</th><th>Runs</th>");
    for (size_t m = 0; m < sweep->measure_count; m++) {
        if (sweep->measures[m].is_source != sources) continue;
        sk_text_add(out, "<th>");
        sk_html_text(out, sweep->measures[m].name);
        sk_text_add(out, "</th>");
    }
    for (size_t c = 0; c < sweep->config_count; c++) {
        sk_text_add(out, "</tr>\n<tr><td>");
        sk_html_text(out, sweep->configs[c].name);
        sk_text_add(out, "</td><td>%zu</td>", sk_sweep_summary(sweep, c, SK_VAL_ACCURACY).n);
        for (size_t m = 0; m < sweep->measure_count; m++) {
            if (sweep->measures[m].is_source != sources) continue;
            const sk_summary s = sk_sweep_summary(sweep, c, m);
            put_cell(out, sweep->measures[m].kind, &s);
        }
    }
    sk_text_add(out, "</tr>\n</table></div>\n");
}

static void put_runs(const sk_sweep *sweep, sk_text *out) {
    char a[32], b[32];
    sk_text_add(out, "<h2>Runs</h2>\n<div class=\"scroll\"><table>\n<tr><th>Run</th><th>Epochs</th><th>Best</th>"
                     "<th>val accuracy</th><th>val loss</th><th></th></tr>\n");
    for (size_t c = 0; c < sweep->config_count; c++)
        for (size_t i = 0; i < sweep->run_count; i++) {
            const sk_sweep_record *run = &sweep->runs[i];
            if (run->config != c || run->state == SK_RUN_WAITING) continue;
            sk_text_add(out, "<tr><td>");
            sk_html_text(out, run->name);
            sk_text_add(out, "</td><td>%d</td><td>%d</td><td>%s</td><td>%s</td><td>", run->epochs, run->best_epoch,
                        sk_measure_text(a, SK_MEASURE_SHARE, run->values[SK_VAL_ACCURACY]),
                        sk_measure_text(b, SK_MEASURE_LOSS, run->values[SK_VAL_LOSS]));
            sk_html_text(out, run->error);
            sk_text_add(out, "</td></tr>\n");
        }
    sk_text_add(out, "</table></div>\n");
}

static sk_status put_part(const sk_sweep *sweep, int sources, sk_text *out, sk_error *err) {
    const sk_sweep_figure f = {sweep, sources};
    sk_figure figure;
    if (sk_sweep_figure_make(&f, &figure)) {
        const char *alt = sources ? "Accuracy per source" : "Dot plot";
        const sk_status status = sk_html_figure(out, &figure, "wide", alt, NULL, err);
        if (status != SK_OK) return status;
    } else if (sources && sweep->measure_count <= SK_OWN_MEASURES) {
        return SK_OK;
    }
    put_table(sweep, sources, out);
    return SK_OK;
}

sk_status sk_sweep_page(const sk_sweep *sweep, sk_text *out, sk_error *err) {
    size_t done, failed, total;
    sk_sweep_counts(sweep, &done, &failed, &total);
    sk_html_begin(out, "sweep of ", sweep->dataset ? sk_path_name(sk_dataset_dir(sweep->dataset)) : "");
    sk_text_add(out, "<h1>Sweep</h1>\n<p>%zu configurations, %d seed%s each: %zu of %zu runs are done",
                sweep->config_count, sweep->seeds, sweep->seeds == 1 ? "" : "s", done, total);
    sk_text_add(out, failed ? ", %zu failed.</p>\n" : ".</p>\n", failed);
    sk_status status = put_part(sweep, 0, out, err);
    if (status == SK_OK && sweep->judge_count) {
        sk_text_add(out, "<h2>Per source</h2>\n");
        status = put_part(sweep, 1, out, err);
    }
    if (status != SK_OK) return status;
    put_runs(sweep, out);
    sk_html_end(out, "Means over the seeds, with Student's 95 % interval of the mean. Seeds draw weights, order and "
                     "augmentation; the pictures are the same, so the interval says nothing about other pictures. All "
                     "figures of this page are in sweep.json, all runs in sweep.tsv.");
    return out->failed ? sk_fail_memory(err, "the page") : SK_OK;
}
