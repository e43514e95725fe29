/* SPDX-License-Identifier: Apache-2.0 */
/* How often each size of weight occurs in a tensor. Counts are logarithmic: what matters are single weights far out. */
#include <math.h>
#include <stdio.h>

#include "report/plot.h"
#include "siskin/report.h"

/* Left edge of a bin. */
static double edge(const sk_panel *p, const sk_weight_row *row, int bin) {
    return sk_panel_x(p, row->histogram_end * (2. * bin / SK_WEIGHT_BINS - 1));
}

static double height_of(uint32_t count) { return count ? log10((double)count) : NAN; }

static void draw_bars(cairo_t *cr, const sk_theme *theme, const sk_panel *p, const sk_weight_row *row) {
    const double width = edge(p, row, 1) - edge(p, row, 0), bottom = p->y + p->height;
    sk_plot_colour(cr, theme->first, 1);
    for (int b = 0; b < SK_WEIGHT_BINS; b++) {
        if (!row->histogram[1][b]) continue;
        const double top = sk_panel_y(p, height_of(row->histogram[1][b]));
        cairo_rectangle(cr, edge(p, row, b) + .4, top, width - .8, bottom - top);
        cairo_fill(cr);
    }
}

/* The raw tensor as the upper edge of its bars. */
static void draw_raw(cairo_t *cr, const sk_theme *theme, const sk_panel *p, const sk_weight_row *row) {
    const double bottom = p->y + p->height;
    sk_plot_colour(cr, theme->second, 1);
    cairo_set_line_width(cr, 1.6);
    cairo_move_to(cr, edge(p, row, 0), bottom);
    for (int b = 0; b < SK_WEIGHT_BINS; b++) {
        const double top = row->histogram[0][b] ? sk_panel_y(p, height_of(row->histogram[0][b])) : bottom;
        cairo_line_to(cr, edge(p, row, b), top);
        cairo_line_to(cr, edge(p, row, b + 1), top);
    }
    cairo_stroke(cr);
}

static void draw_outlier(cairo_t *cr, const sk_theme *theme, const sk_panel *p, const sk_outlier *outlier) {
    const double x = sk_panel_x(p, outlier->value);
    const sk_font font = {SK_FONT_SMALL, 1, theme->wrong};
    char text[64];
    sk_plot_colour(cr, theme->wrong, 1);
    cairo_set_line_width(cr, 1.6);
    cairo_move_to(cr, x, p->y + 22);
    cairo_line_to(cr, x, p->y + p->height);
    cairo_stroke(cr);
    snprintf(text, sizeof text, "outlier %.3f", outlier->value);
    sk_plot_text(cr, &font, x, p->y + 10, outlier->value > 0 ? 1 : 0, 0, text);
}

static void draw_histogram(cairo_t *cr, const sk_theme *theme, const sk_figure *figure) {
    const sk_weight_row *row = figure->user;
    const sk_font title = {SK_FONT_TITLE, 1, theme->ink}, note = {SK_FONT_SMALL, 0, theme->muted};
    const double end = row->histogram_end > 0 ? row->histogram_end : 1;
    uint32_t most = 1;
    char text[160];
    for (int b = 0; b < SK_WEIGHT_BINS; b++)
        for (int k = 0; k < 2; k++) most = row->histogram[k][b] > most ? row->histogram[k][b] : most;
    sk_plot_page(cr, theme, figure);
    sk_plot_text(cr, &title, 16, 22, 0, figure->width - 220, row->layer);
    const sk_legend_entry legend[2] = {{"folded", theme->first, 4}, {"raw", theme->second, 0}};
    sk_plot_legend(cr, theme, figure->width - 24, 22, legend, 2);
    snprintf(text, sizeof text, "%zu weights, folded %.3g to %.3g, kurtosis %.1f; int8 keeps %.0f dB, per tensor %.0f",
             row->count, row->folded.min, row->folded.max, row->folded.kurtosis, row->folded.snr_channel,
             row->folded.snr_tensor);
    sk_plot_text(cr, &note, 16, 48, 0, figure->width - 32, text);
    sk_panel panel = {.x = 82, .y = 72, .width = 534, .height = 240};
    panel.horizontal = sk_axis_fixed(-end * 1.05, end * 1.05, 8, "weight");
    panel.vertical = (sk_axis){-.3, log10((double)most) * 1.06 + .1, 1, 0, 1, "weights"};
    sk_panel_draw(cr, theme, &panel);
    draw_bars(cr, theme, &panel, row);
    draw_raw(cr, theme, &panel, row);
    if (row->outlier.found) draw_outlier(cr, theme, &panel, &row->outlier);
}

sk_status sk_plot_weight_histogram(const char *path, const sk_weight_row *row, sk_error *err) {
    const sk_figure figure = {.width = 640, .height = 372, .draw = draw_histogram, .user = row};
    return sk_figure_write(path, &figure, err);
}
