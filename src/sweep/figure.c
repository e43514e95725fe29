/* SPDX-License-Identifier: Apache-2.0 */
/* The dot plot of a sweep: a panel per measure, a row per configuration; small dots are seeds, the large one their
 * mean, the bar its interval. */
#include <math.h>
#include <stdio.h>

#include "sweep/figure.h"

enum { WIDTH = 900, PANEL_WIDTH = 520, LABEL_WIDTH = 320, ROW = 28, TOP = 84, ABOVE = 34, BELOW = 44 };

static int is_drawn(const sk_measure *m, int sources) {
    return m->is_source == sources && (m->kind == SK_MEASURE_SHARE || m->kind == SK_MEASURE_AREA);
}

static double panel_height(const sk_sweep *sweep) { return (double)ROW * (double)sweep->config_count; }

/* From the least to the largest of all that is drawn, within what the measure can be. */
static sk_axis value_axis(const sk_sweep *sweep, size_t measure) {
    double low = HUGE_VAL, high = -HUGE_VAL;
    for (size_t i = 0; i < sweep->run_count; i++) {
        low = fmin(low, sweep->runs[i].values[measure]);
        high = fmax(high, sweep->runs[i].values[measure]);
    }
    for (size_t c = 0; c < sweep->config_count; c++) {
        const sk_summary s = sk_sweep_summary(sweep, c, measure);
        low = fmin(low, s.low);
        high = fmax(high, s.high);
    }
    if (!(low <= high)) low = 0, high = 1;
    if (high - low < .02) low -= .01, high += .01;
    sk_axis axis = sk_axis_nice(fmax(low, 0), fmin(high, 1), 5, NULL);
    axis.high = fmin(axis.high, 1);
    axis.percent = sweep->measures[measure].kind == SK_MEASURE_SHARE;
    return axis;
}

static void draw_dot(cairo_t *cr, double x, double y, double radius, sk_rgb colour, double alpha) {
    sk_plot_colour(cr, colour, alpha);
    cairo_arc(cr, x, y, radius, 0, 2 * M_PI);
    cairo_fill(cr);
}

static double clamp_x(const sk_panel *panel, double value) {
    return sk_panel_x(panel, fmin(fmax(value, panel->horizontal.low), panel->horizontal.high));
}

static void draw_row(cairo_t *cr, const sk_theme *theme, const sk_panel *panel, const sk_sweep *sweep, size_t measure,
                     size_t config, int is_best) {
    const sk_summary s = sk_sweep_summary(sweep, config, measure);
    const sk_font label = {SK_FONT_SMALL, is_best, is_best ? theme->ink : theme->muted};
    const double y = panel->y + ROW * ((double)config + .5);
    sk_plot_text(cr, &label, panel->x - 12, y, 1, LABEL_WIDTH, sweep->configs[config].name);
    if (isfinite(s.low)) {
        sk_plot_colour(cr, theme->first, 1);
        cairo_set_line_width(cr, 2.4);
        cairo_move_to(cr, clamp_x(panel, s.low), y);
        cairo_line_to(cr, clamp_x(panel, s.high), y);
        cairo_stroke(cr);
    }
    if (s.n) draw_dot(cr, sk_panel_x(panel, s.mean), y, 6, theme->first, 1);
    else sk_plot_text(cr, &label, panel->x + 8, y, 0, 0, "no run");
    for (size_t i = 0; i < sweep->run_count; i++) {
        const double value = sweep->runs[i].values[measure];
        if (sweep->runs[i].config == config && isfinite(value))
            draw_dot(cr, sk_panel_x(panel, value), y, 3.2, theme->second, .75);
    }
}

static size_t best_config(const sk_sweep *sweep, size_t measure) {
    size_t best = sweep->config_count;
    double most = -HUGE_VAL;
    for (size_t c = 0; c < sweep->config_count; c++) {
        const sk_summary s = sk_sweep_summary(sweep, c, measure);
        if (!s.n || !(s.mean > most)) continue;
        best = c;
        most = s.mean;
    }
    return best;
}

static void draw_panel(cairo_t *cr, const sk_theme *theme, const sk_sweep *sweep, size_t measure, double y) {
    const sk_font title = {SK_FONT_LABEL, 1, theme->ink};
    sk_panel panel = {.x = WIDTH - PANEL_WIDTH - 28, .y = y + ABOVE, .width = PANEL_WIDTH,
                      .height = panel_height(sweep)};
    const size_t best = best_config(sweep, measure);
    panel.horizontal = value_axis(sweep, measure);
    /* Rows have names instead of ticks: the first tick lies beyond the end. */
    panel.vertical = (sk_axis){.low = 1, .high = 2, .step = 1e6};
    sk_panel_draw(cr, theme, &panel);
    sk_plot_text(cr, &title, panel.x, y + ABOVE - 16, 0, PANEL_WIDTH, sweep->measures[measure].name);
    for (size_t c = 0; c < sweep->config_count; c++) draw_row(cr, theme, &panel, sweep, measure, c, c == best);
}

static void draw_sweep(cairo_t *cr, const sk_theme *theme, const sk_figure *figure) {
    const sk_sweep_figure *f = figure->user;
    const sk_font title = {SK_FONT_TITLE, 1, theme->ink}, note = {SK_FONT_SMALL, 0, theme->muted};
    double y = TOP;
    sk_plot_page(cr, theme, figure);
    sk_plot_text(cr, &title, 16, 24, 0, WIDTH - 32, f->sources ? "Accuracy per source" : "Sweep");
    sk_plot_text(cr, &note, 16, 58, 0, 0, "bold: the best mean");
    const sk_legend_entry legend[3] = {
        {"seed", theme->second, 2}, {"mean", theme->first, 2}, {"95 % interval of the mean", theme->first, 0}};
    sk_plot_legend(cr, theme, WIDTH - 28, 58, legend, 3);
    for (size_t m = 0; m < f->sweep->measure_count; m++) {
        if (!is_drawn(&f->sweep->measures[m], f->sources)) continue;
        draw_panel(cr, theme, f->sweep, m, y);
        y += ABOVE + panel_height(f->sweep) + BELOW;
    }
}

int sk_sweep_figure_make(const sk_sweep_figure *f, sk_figure *out) {
    size_t panels = 0;
    for (size_t m = 0; m < f->sweep->measure_count; m++) panels += (size_t)is_drawn(&f->sweep->measures[m], f->sources);
    const double height = TOP + (double)panels * (ABOVE + panel_height(f->sweep) + BELOW);
    *out = (sk_figure){.width = WIDTH, .height = height, .draw = draw_sweep, .user = f};
    /* cairo's surfaces end at 32767 pixels, and a file has two per point. */
    return panels > 0 && height < 16000;
}

sk_status sk_sweep_write_figures(const sk_sweep *sweep, const char *dir, sk_error *err) {
    static const char *const names[2] = {"sweep", "sweep_sources"};
    sk_status status = SK_OK;
    for (int sources = 0; sources < 2 && status == SK_OK; sources++) {
        const sk_sweep_figure f = {sweep, sources};
        sk_figure figure;
        if (!sk_sweep_figure_make(&f, &figure)) continue;
        char *path = sk_path_join(dir, names[sources]);
        status = path ? sk_figure_write(path, &figure, err) : sk_fail_memory(err, "a file name");
        sk_free(path);
    }
    return status;
}
