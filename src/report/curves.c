/* SPDX-License-Identifier: Apache-2.0 */
/* Loss, accuracy and a learning rate that changes, per epoch, one above the other, so that the figure stays readable at
 * phone width. The best epoch is marked in both, since it is the one whose weights are kept. */
#include <math.h>
#include <stdio.h>

#include "report/figures.h"

enum { EPOCH, TRAIN_LOSS, VAL_LOSS, TRAIN_ACCURACY, VAL_ACCURACY, RATE, ROWS };

static const double *row_of(const sk_curves *c, int row) { return c->numbers + (size_t)row * c->n; }

static void range_of(const double *a, const double *b, size_t n, double *low, double *high) {
    *low = HUGE_VAL;
    *high = -HUGE_VAL;
    for (size_t i = 0; i < 2 * n; i++) {
        const double value = i < n ? a[i] : b[i - n];
        if (!isfinite(value)) continue;
        *low = fmin(*low, value);
        *high = fmax(*high, value);
    }
    if (*low > *high) *low = 0, *high = 1;
}

static void mark_best(cairo_t *cr, const sk_theme *theme, const sk_panel *panel, const sk_curves *c, int accuracy) {
    if (c->best >= c->n) return;
    const double epoch = row_of(c, EPOCH)[c->best], x = sk_panel_x(panel, epoch);
    const double value = row_of(c, accuracy ? VAL_ACCURACY : VAL_LOSS)[c->best];
    const double dashes[2] = {2, 4};
    sk_plot_colour(cr, theme->muted, 1);
    cairo_set_line_width(cr, 1.5);
    cairo_set_dash(cr, dashes, 2, 0);
    cairo_move_to(cr, x, panel->y);
    cairo_line_to(cr, x, panel->y + panel->height);
    cairo_stroke(cr);
    cairo_set_dash(cr, NULL, 0, 0);
    if (!isfinite(value)) return;
    cairo_arc(cr, x, sk_panel_y(panel, value), 5, 0, 2 * M_PI);
    sk_plot_colour(cr, theme->second, 1);
    cairo_fill(cr);
    char text[96];
    if (accuracy) snprintf(text, sizeof text, "best: epoch %.0f, %.2f %%", epoch, value * 100);
    else snprintf(text, sizeof text, "best: epoch %.0f, %.4f", epoch, value);
    /* Beside the axis label, where no curve can be. */
    const sk_font font = {SK_FONT_SMALL, 0, theme->ink};
    sk_plot_text(cr, &font, panel->x + panel->width, panel->y + panel->height + 38, 1, 0, text);
}

static void draw_panel(cairo_t *cr, const sk_theme *theme, const sk_curves *c, double y, int accuracy) {
    const sk_font title = {SK_FONT_TITLE, 1, theme->ink};
    const double *epoch = row_of(c, EPOCH), *train = row_of(c, accuracy ? TRAIN_ACCURACY : TRAIN_LOSS);
    const double *val = row_of(c, accuracy ? VAL_ACCURACY : VAL_LOSS);
    double low, high;
    range_of(train, val, c->n, &low, &high);
    if (accuracy) {
        high = fmax(high, fmin(1, low + .05));
        low = fmin(low, high - .05);
    } else {
        low = fmin(low, 0);
    }
    const double last = c->n ? epoch[c->n - 1] : 1, first = c->n ? epoch[0] : 0;
    sk_panel panel = {.x = 82, .y = y + 44, .width = 534, .height = 226};
    panel.horizontal = sk_axis_fixed(first < last ? first : first - 1, first < last ? last : first + 1, 8, "epoch");
    panel.horizontal.step = fmax(1, panel.horizontal.step);
    panel.vertical = sk_axis_nice(low, high, 5, NULL);
    panel.vertical.percent = accuracy;
    if (accuracy && panel.vertical.high > 1) panel.vertical.high = 1;
    sk_panel_draw(cr, theme, &panel);
    sk_panel_line(cr, &panel, epoch, train, c->n, theme->first, 1);
    sk_panel_line(cr, &panel, epoch, val, c->n, theme->second, 0);
    mark_best(cr, theme, &panel, c, accuracy);
    sk_plot_text(cr, &title, 16, y + 20, 0, 0, accuracy ? "Accuracy" : "Loss");
    const sk_legend_entry legend[2] = {{"training", theme->first, 1}, {"validation", theme->second, 0}};
    sk_plot_legend(cr, theme, 616, y + 20, legend, 2);
}

/* A rate that never changes, or that an early log does not know, is no figure. */
static int has_rate(const sk_curves *c) {
    const double *rate = row_of(c, RATE);
    double low, high;
    range_of(rate, rate, c->n, &low, &high);
    return c->n > 1 && low >= 0 && high > 0 && low < high;
}

static void draw_rate(cairo_t *cr, const sk_theme *theme, const sk_curves *c, double y) {
    const sk_font title = {SK_FONT_TITLE, 1, theme->ink};
    const double *epoch = row_of(c, EPOCH), *rate = row_of(c, RATE);
    double low, high;
    range_of(rate, rate, c->n, &low, &high);
    sk_panel panel = {.x = 82, .y = y + 44, .width = 534, .height = 96};
    panel.horizontal = sk_axis_fixed(epoch[0], epoch[c->n - 1], 8, "epoch");
    panel.horizontal.step = fmax(1, panel.horizontal.step);
    panel.vertical = sk_axis_nice(0, high, 2, NULL);
    sk_panel_draw(cr, theme, &panel);
    sk_panel_line(cr, &panel, epoch, rate, c->n, theme->first, 0);
    sk_plot_text(cr, &title, 16, y + 20, 0, 0, "Learning rate");
}

static void draw_curves(cairo_t *cr, const sk_theme *theme, const sk_figure *figure) {
    sk_plot_page(cr, theme, figure);
    draw_panel(cr, theme, figure->user, 0, 0);
    draw_panel(cr, theme, figure->user, 330, 1);
    if (has_rate(figure->user)) draw_rate(cr, theme, figure->user, 660);
}

sk_status sk_curves_make(const sk_epoch_log *log, size_t epochs, sk_curves *out, sk_error *err) {
    *out = (sk_curves){.numbers = sk_alloc(epochs ? epochs * ROWS : 1, sizeof(double)), .n = epochs, .best = epochs};
    if (!out->numbers) return sk_fail_memory(err, "the curves");
    for (size_t i = 0; i < epochs; i++) {
        const double values[ROWS] = {log[i].epoch,          log[i].train_loss,   log[i].val_loss,
                                     log[i].train_accuracy, log[i].val_accuracy, log[i].lr};
        for (size_t row = 0; row < ROWS; row++) out->numbers[row * epochs + i] = values[row];
        if (log[i].is_best) out->best = i;
    }
    return SK_OK;
}

sk_figure sk_curves_figure(const sk_curves *curves) {
    return (sk_figure){.width = 640, .height = has_rate(curves) ? 860 : 660, .draw = draw_curves, .user = curves};
}

sk_status sk_plot_curves(const char *path, const sk_epoch_log *log, size_t epochs, sk_error *err) {
    sk_curves curves;
    sk_status status = sk_curves_make(log, epochs, &curves, err);
    if (status) return status;
    const sk_figure figure = sk_curves_figure(&curves);
    status = sk_figure_write(path, &figure, err);
    sk_free(curves.numbers);
    return status;
}
