/* SPDX-License-Identifier: Apache-2.0 */
/* The reliability diagram: the share of birds against the mean p of each bin, on the diagonal if p is what it says; and
 * how many pictures stand behind each point. */
#include <math.h>
#include <stdio.h>

#include "report/figures.h"

/* Larger for more pictures: a bin of one says little. */
static double radius_of(size_t count) { return 3.5 + 2 * log10((double)count); }

static void draw_points(cairo_t *cr, const sk_panel *panel, const sk_calibration *c, sk_rgb colour, int filled) {
    sk_plot_colour(cr, colour, 1);
    cairo_set_line_width(cr, 2);
    for (int b = 0; b < SK_CALIBRATION_BINS; b++) {
        if (!c->count[b]) continue;
        const double x = sk_panel_x(panel, c->mean_p[b]), y = sk_panel_y(panel, c->share[b]);
        cairo_new_path(cr);
        cairo_arc(cr, x, y, radius_of(c->count[b]), 0, 2 * M_PI);
        if (filled) cairo_fill(cr);
        else cairo_stroke(cr);
    }
}

/* From each point to the diagonal: what the calibration error adds up. */
static void draw_gaps(cairo_t *cr, const sk_panel *panel, const sk_calibration *c, sk_rgb colour) {
    sk_plot_colour(cr, colour, .5);
    cairo_set_line_width(cr, 1.6);
    for (int b = 0; b < SK_CALIBRATION_BINS; b++) {
        if (!c->count[b]) continue;
        const double x = sk_panel_x(panel, c->mean_p[b]);
        cairo_move_to(cr, x, sk_panel_y(panel, c->share[b]));
        cairo_line_to(cr, x, sk_panel_y(panel, c->mean_p[b]));
        cairo_stroke(cr);
    }
}

static void draw_counts(cairo_t *cr, const sk_theme *theme, const sk_calibration *c) {
    size_t most = 1;
    for (int b = 0; b < SK_CALIBRATION_BINS; b++) most = c->count[b] > most ? c->count[b] : most;
    sk_panel panel = {.x = 92, .y = 602, .width = 516, .height = 120};
    panel.horizontal = sk_axis_fixed(0, 1, 5, "p of bird");
    panel.horizontal.percent = 1;
    panel.vertical = sk_axis_fixed(-.3, fmax(1, log10((double)most) * 1.05), 1, "pictures");
    panel.vertical.step = 1;
    panel.vertical.logarithmic = 1;
    sk_panel_draw(cr, theme, &panel);
    const double width = panel.width / SK_CALIBRATION_BINS, bottom = panel.y + panel.height;
    sk_plot_colour(cr, theme->first, 1);
    for (int b = 0; b < SK_CALIBRATION_BINS; b++) {
        if (!c->count[b]) continue;
        const double top = sk_panel_y(&panel, log10((double)c->count[b]));
        cairo_rectangle(cr, panel.x + b * width + 1.5, top, width - 3, bottom - top);
        cairo_fill(cr);
    }
}

static void draw_reliability(cairo_t *cr, const sk_theme *theme, const sk_figure *figure) {
    const sk_reliability *r = figure->user;
    const sk_font title = {SK_FONT_TITLE, 1, theme->ink}, note = {SK_FONT_LABEL, 0, theme->muted};
    const int both = r->temperature < 1 || r->temperature > 1;
    const double ends[2] = {0, 1};
    char text[128], named[64];
    sk_plot_page(cr, theme, figure);
    sk_plot_text(cr, &title, 16, 22, 0, 0, "Is p what it says?");
    if (both)
        snprintf(text, sizeof text, "expected calibration error %.3f, without the temperature %.3f", r->calibration.ece,
                 r->uncalibrated.ece);
    else snprintf(text, sizeof text, "expected calibration error %.3f, 15 bins", r->calibration.ece);
    if (r->calibration.n) sk_plot_text(cr, &note, 16, 48, 0, 0, text);
    sk_panel panel = {.x = 92, .y = 98, .width = 516, .height = 440};
    panel.horizontal = sk_axis_fixed(0, 1, 5, NULL);
    panel.vertical = sk_axis_fixed(0, 1, 5, "share of birds among them");
    panel.horizontal.percent = panel.vertical.percent = 1;
    sk_panel_draw(cr, theme, &panel);
    sk_panel_line(cr, &panel, ends, ends, 2, theme->muted, 1);
    draw_gaps(cr, &panel, &r->calibration, theme->first);
    if (both) draw_points(cr, &panel, &r->uncalibrated, theme->second, 0);
    draw_points(cr, &panel, &r->calibration, theme->first, 1);
    snprintf(named, sizeof named, both ? "temperature %.3g" : "p", r->temperature);
    const sk_legend_entry legend[3] = {
        {"as it should be", theme->muted, 1}, {named, theme->first, 2}, {"without", theme->second, 3}};
    sk_plot_legend(cr, theme, panel.x + panel.width, 78, legend, both ? 3 : 2);
    draw_counts(cr, theme, &r->calibration);
}

sk_figure sk_reliability_figure(const sk_reliability *reliability) {
    return (sk_figure){.width = 640, .height = 784, .draw = draw_reliability, .user = reliability};
}
