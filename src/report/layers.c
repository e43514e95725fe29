/* SPDX-License-Identifier: Apache-2.0 */
/* The layers of an int8 model in their order: signal-to-noise on the left, what each alone does to the verdict on the
 * right. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "report/figures.h"

enum { LEFT = 250, ROW = 19, TOP = 116, WIDE = 330, GAP = 40 };

typedef struct sheet {
    const char *title;
    const sk_quant_layer *rows; /* sorted by anything */
    const sk_quant_layer **order;
    size_t count;
} sheet;

static void dot(cairo_t *cr, double x, double y, sk_rgb colour, int filled) {
    sk_plot_colour(cr, colour, 1);
    cairo_arc(cr, x, y, 4.5, 0, 2 * M_PI);
    if (filled) {
        cairo_fill(cr);
    } else {
        cairo_set_line_width(cr, 1.8);
        cairo_stroke(cr);
    }
}

static void draw_rows(cairo_t *cr, const sk_theme *theme, const sheet *s, const sk_panel *snr, const sk_panel *harm) {
    const sk_font name = {SK_FONT_SMALL, 0, theme->ink};
    for (size_t i = 0; i < s->count; i++) {
        const sk_quant_layer *r = s->order[i];
        const double y = snr->y + ((double)i + 0.5) * ROW, low = snr->horizontal.low, high = snr->horizontal.high;
        sk_plot_text(cr, &name, LEFT - 12, y, 1, LEFT - 20, r->name);
        dot(cr, sk_panel_x(snr, fmin(fmax(r->own_snr, low), high)), y, theme->first, 0);
        dot(cr, sk_panel_x(snr, fmin(fmax(r->snr, low), high)), y, theme->second, 1);
        const double value = fmin(fmax(log10(fmax(r->divergence, 1e-12)), harm->horizontal.low), harm->horizontal.high);
        sk_plot_colour(cr, r->flips > 0 ? theme->wrong : theme->first, 1);
        cairo_rectangle(cr, harm->x, y - 5, fmax(sk_panel_x(harm, value) - harm->x, 1), 10);
        cairo_fill(cr);
    }
}

static void draw(cairo_t *cr, const sk_theme *theme, const sk_figure *figure) {
    const sheet *s = figure->user;
    const sk_font title = {SK_FONT_TITLE, 1, theme->ink}, note = {SK_FONT_LABEL, 0, theme->muted};
    double least = 0, most = 10;
    for (size_t i = 0; i < s->count; i++) {
        least = fmin(least, s->rows[i].snr);
        most = fmax(most, fmin(s->rows[i].own_snr, 70));
    }
    sk_plot_page(cr, theme, figure);
    sk_plot_text(cr, &title, 16, 24, 0, figure->width - 32, s->title);
    sk_plot_text(cr, &note, 16, 50, 0, figure->width - 32,
                 "Layers from the picture (top) to the logits. Left: signal-to-noise of the output. Right: divergence "
                 "of p if this layer alone is int8.");
    sk_panel snr = {.x = LEFT, .y = TOP, .width = WIDE, .height = (double)s->count * ROW};
    snr.horizontal = sk_axis_nice(fmax(least, -20), most, 6, "signal-to-noise, dB");
    snr.vertical = (sk_axis){.low = .1, .high = .9, .step = 1}; /* no ticks: the layers' names stand there */
    sk_panel harm = snr;
    harm.x = LEFT + WIDE + GAP;
    harm.horizontal = sk_axis_fixed(-8, 1, 5, "divergence, nats");
    harm.horizontal.step = 2;
    harm.horizontal.logarithmic = 1;
    sk_panel_draw(cr, theme, &snr);
    sk_panel_draw(cr, theme, &harm);
    draw_rows(cr, theme, s, &snr, &harm);
    const sk_legend_entry left[2] = {{"alone in int8", theme->first, 3}, {"all in int8", theme->second, 2}};
    const sk_legend_entry right[2] = {{"no verdict flips", theme->first, 4}, {"some flip", theme->wrong, 4}};
    sk_plot_legend(cr, theme, snr.x + snr.width, 84, left, 2);
    sk_plot_legend(cr, theme, harm.x + harm.width, 84, right, 2);
}

static int by_index(const void *a, const void *b) {
    const sk_quant_layer *const *x = a, *const *y = b;
    return (*x)->index - (*y)->index;
}

sk_status sk_plot_layers(const char *path, const char *title, const sk_quant_layer *rows, size_t count, sk_error *err) {
    sheet s = {.title = title, .rows = rows, .count = count, .order = sk_alloc(count ? count : 1, sizeof *s.order)};
    if (!s.order) return sk_fail_memory(err, "the figure of the layers");
    for (size_t i = 0; i < count; i++) s.order[i] = &rows[i];
    qsort(s.order, count, sizeof *s.order, by_index);
    const sk_figure figure = {.width = LEFT + 2 * WIDE + GAP + 24, .height = TOP + (double)count * ROW + 64,
                              .draw = draw, .user = &s};
    const sk_status status = sk_figure_write(path, &figure, err);
    sk_free(s.order);
    return status;
}
