/* SPDX-License-Identifier: Apache-2.0 */
/* The ROC curve with the point at which the model is run, and the histogram of the score for each label. Counts are
 * drawn on a logarithmic scale: a good model puts nearly all pictures into the outermost bins, and the rest is what one
 * wants to see. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "report/figures.h"

enum { BINS = 20 };

static int falling(const void *a, const void *b) {
    const double x = ((const sk_scored *)a)->score, y = ((const sk_scored *)b)->score;
    return (x < y) - (x > y);
}

static void walk(const sk_scored *list, size_t n, const size_t totals[2], sk_roc *out) {
    size_t seen[2] = {0, 0};
    out->false_rate[0] = out->true_rate[0] = 0;
    out->points = 1;
    for (size_t i = 0; i < n; i++) {
        seen[list[i].bird]++;
        if (i + 1 < n && !(list[i + 1].score < list[i].score)) continue; /* ties are one step */
        out->false_rate[out->points] = (double)seen[0] / (double)totals[0];
        out->true_rate[out->points++] = (double)seen[1] / (double)totals[1];
    }
}

sk_status sk_roc_make(const sk_evaluation *e, sk_roc *out, sk_error *err) {
    *out = (sk_roc){.threshold = e->options.threshold, .area = NAN};
    size_t totals[2] = {0, 0};
    sk_scored *list = sk_alloc(e->n ? e->n : 1, sizeof *list);
    if (!list) return sk_fail_memory(err, "the ROC curve");
    const sk_metrics m = sk_evaluation_metrics(e);
    for (size_t i = 0; i < e->n; i++) {
        const int bird = e->samples[i].label == SK_LABEL_BIRD;
        const double score = sk_score(&e->outcomes[i].verdict, e->options.threshold, e->options.penalty);
        list[i] = (sk_scored){score, bird};
        totals[bird]++;
        const double place = score * BINS;
        out->bins[bird][place >= BINS ? BINS - 1 : place > 0 ? (size_t)place : 0]++;
    }
    if (totals[0] && totals[1]) {
        out->false_rate = sk_alloc(e->n + 1, sizeof(double));
        out->true_rate = sk_alloc(e->n + 1, sizeof(double));
        if (!out->false_rate || !out->true_rate) {
            sk_free(list);
            sk_roc_free(out);
            return sk_fail_memory(err, "the ROC curve");
        }
        qsort(list, e->n, sizeof *list, falling);
        walk(list, e->n, totals, out);
        out->area = m.roc_area;
        out->at_false = (double)m.confusion[0][1] / (double)totals[0];
        out->at_true = (double)m.confusion[1][1] / (double)totals[1];
    }
    sk_free(list);
    return SK_OK;
}

void sk_roc_free(sk_roc *roc) {
    sk_free(roc->false_rate);
    sk_free(roc->true_rate);
    *roc = (sk_roc){0};
}

static void draw_roc(cairo_t *cr, const sk_theme *theme, const sk_figure *figure) {
    const sk_roc *roc = figure->user;
    const sk_font title = {SK_FONT_TITLE, 1, theme->ink}, body = {16, 0, theme->ink}, strong = {18, 1, theme->ink};
    sk_panel panel = {.x = 92, .y = 48, .width = 516, .height = 516};
    panel.horizontal = sk_axis_fixed(0, 1, 5, "share of pictures without a bird called bird");
    panel.vertical = sk_axis_fixed(0, 1, 5, "share of birds found");
    panel.horizontal.percent = panel.vertical.percent = 1;
    sk_plot_page(cr, theme, figure);
    sk_plot_text(cr, &title, 16, 22, 0, 0, "ROC curve");
    sk_panel_draw(cr, theme, &panel);
    if (!roc->false_rate) {
        sk_plot_text(cr, &body, panel.x + 258, panel.y + 150, .5, 0, "There is one class only: no curve.");
        return;
    }
    const double ends[2] = {0, 1};
    sk_panel_line(cr, &panel, ends, ends, 2, theme->muted, 1);
    sk_panel_line(cr, &panel, roc->false_rate, roc->true_rate, roc->points, theme->first, 0);
    const double x = sk_panel_x(&panel, roc->at_false), y = sk_panel_y(&panel, roc->at_true);
    sk_plot_colour(cr, theme->second, 1);
    cairo_arc(cr, x, y, 7, 0, 2 * M_PI);
    cairo_fill(cr);
    char text[96];
    const double right = panel.x + panel.width - 14, bottom = panel.y + panel.height;
    snprintf(text, sizeof text, "area %.4f", roc->area);
    sk_plot_text(cr, &strong, right, bottom - 96, 1, 0, text);
    snprintf(text, sizeof text, "at threshold %.2f:", roc->threshold);
    const double width = sk_plot_text(cr, &body, right, bottom - 68, 1, 0, text);
    sk_plot_colour(cr, theme->second, 1);
    cairo_arc(cr, right - width - 16, bottom - 68, 7, 0, 2 * M_PI);
    cairo_fill(cr);
    snprintf(text, sizeof text, "%.1f %% of birds found,", roc->at_true * 100);
    sk_plot_text(cr, &body, right, bottom - 45, 1, 0, text);
    snprintf(text, sizeof text, "%.1f %% false alarms", roc->at_false * 100);
    sk_plot_text(cr, &body, right, bottom - 22, 1, 0, text);
}

sk_figure sk_roc_figure(const sk_roc *roc) {
    return (sk_figure){.width = 640, .height = 622, .draw = draw_roc, .user = roc};
}

static void draw_bins(cairo_t *cr, const sk_theme *theme, const sk_roc *roc, int label, double y, double decades) {
    const sk_rgb colour = label ? theme->second : theme->first;
    sk_panel panel = {.x = 92, .y = y, .width = 516, .height = 180};
    panel.horizontal = sk_axis_fixed(0, 1, 5, label ? NULL : "score: p of bird");
    panel.vertical = sk_axis_fixed(-.3, decades, 1, "pictures");
    panel.vertical.step = 1;
    panel.vertical.logarithmic = 1;
    sk_panel_draw(cr, theme, &panel);
    const double bottom = panel.y + panel.height, width = panel.width / BINS;
    for (int i = 0; i < BINS; i++) {
        if (!roc->bins[label][i]) continue;
        const double top = sk_panel_y(&panel, log10((double)roc->bins[label][i]));
        sk_plot_colour(cr, colour, 1);
        cairo_rectangle(cr, panel.x + i * width + 1.5, top, width - 3, bottom - top);
        cairo_fill(cr);
    }
    const double dashes[2] = {5, 4}, x = sk_panel_x(&panel, roc->threshold);
    sk_plot_colour(cr, theme->ink, 1);
    cairo_set_line_width(cr, 1.6);
    cairo_set_dash(cr, dashes, 2, 0);
    cairo_move_to(cr, x, panel.y);
    cairo_line_to(cr, x, bottom);
    cairo_stroke(cr);
    cairo_set_dash(cr, NULL, 0, 0);
    const sk_legend_entry entry = {label ? "label: bird" : "label: no bird", colour, 4};
    sk_plot_legend(cr, theme, panel.x + panel.width, panel.y - 14, &entry, 1);
}

static void draw_histogram(cairo_t *cr, const sk_theme *theme, const sk_figure *figure) {
    const sk_roc *roc = figure->user;
    const sk_font title = {SK_FONT_TITLE, 1, theme->ink}, note = {SK_FONT_LABEL, 0, theme->muted};
    size_t most = 1;
    for (int i = 0; i < 2 * BINS; i++)
        most = roc->bins[i / BINS][i % BINS] > most ? roc->bins[i / BINS][i % BINS] : most;
    const double decades = fmax(1, log10((double)most) * 1.05);
    char text[64];
    sk_plot_page(cr, theme, figure);
    sk_plot_text(cr, &title, 16, 22, 0, 0, "How certain the model is");
    snprintf(text, sizeof text, "dashed: threshold %.2f; logarithmic counts", roc->threshold);
    sk_plot_text(cr, &note, 16, 46, 0, 0, text);
    draw_bins(cr, theme, roc, 1, 92, decades);
    draw_bins(cr, theme, roc, 0, 340, decades);
}

sk_figure sk_histogram_figure(const sk_roc *roc) {
    return (sk_figure){.width = 640, .height = 576, .draw = draw_histogram, .user = roc};
}
