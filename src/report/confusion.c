/* SPDX-License-Identifier: Apache-2.0 */
/* The confusion matrix: counts, and what share of each label they are. */
#include <stdio.h>

#include "report/figures.h"

const char *sk_verdict_words(int bird) {
    return bird ? "bird" : "no bird";
}

static void cell(cairo_t *cr, const sk_theme *theme, double x, double y, double w, double h, size_t count, size_t of,
                 int right) {
    const double share = of ? (double)count / (double)of : 0;
    const sk_rgb fill = sk_plot_mix(theme->heat_low, theme->heat_high, share);
    sk_plot_colour(cr, fill, 1);
    cairo_rectangle(cr, x, y, w, h);
    cairo_fill(cr);
    const double light = .3 * fill.r + .59 * fill.g + .11 * fill.b;
    const sk_rgb ink = light > .5 ? (sk_rgb){.08, .09, .1} : (sk_rgb){1, 1, 1};
    const sk_font big = {34, 1, ink}, small = {17, 0, ink};
    char text[64];
    snprintf(text, sizeof text, "%zu", count);
    sk_plot_text(cr, &big, x + w / 2, y + h / 2 - 20, .5, w - 10, text);
    /* Rounding must not hide that there is an error. */
    if (count && share < .0005) snprintf(text, sizeof text, "< 0.1 %%");
    else if (count < of && share > .9995) snprintf(text, sizeof text, "> 99.9 %%");
    else if (of) snprintf(text, sizeof text, "%.1f %%", share * 100);
    else snprintf(text, sizeof text, "\xe2\x80\x93");
    sk_plot_text(cr, &small, x + w / 2, y + h / 2 + 14, .5, w - 10, text);
    sk_plot_text(cr, &small, x + w / 2, y + h / 2 + 40, .5, w - 10, right ? "right" : "wrong");
}

static void draw(cairo_t *cr, const sk_theme *theme, const sk_figure *figure) {
    const sk_confusion *c = figure->user;
    const double x = 128, y = 92, w = 246, h = 170, gap = 6;
    const sk_font title = {SK_FONT_TITLE, 1, theme->ink}, name = {17, 1, theme->ink},
                  note = {SK_FONT_LABEL, 0, theme->muted};
    sk_plot_page(cr, theme, figure);
    sk_plot_text(cr, &title, 16, 24, 0, figure->width - 32, c->title);
    sk_plot_text(cr, &note, x + w + gap / 2, 54, .5, 0, "verdict");
    sk_plot_text_up(cr, &note, 18, y + h + gap / 2, "label");
    for (int label = 0; label < 2; label++) {
        const size_t of = c->counts[label][0] + c->counts[label][1];
        const double top = y + label * (h + gap);
        char text[48];
        sk_plot_text(cr, &name, x + label * (w + gap) + w / 2, 76, .5, 0, sk_verdict_words(label));
        sk_plot_text(cr, &name, x - 12, top + h / 2 - 11, 1, 0, sk_verdict_words(label));
        snprintf(text, sizeof text, "%zu", of);
        sk_plot_text(cr, &note, x - 12, top + h / 2 + 12, 1, 90, text);
        for (int verdict = 0; verdict < 2; verdict++)
            cell(cr, theme, x + verdict * (w + gap), top, w, h, c->counts[label][verdict], of, label == verdict);
    }
    sk_plot_text(cr, &note, x, y + 2 * h + gap + 22, 0, 0, "Percentages are of the label's pictures (rows).");
}

sk_figure sk_confusion_figure(const sk_confusion *confusion) {
    return (sk_figure){.width = 640, .height = 476, .draw = draw, .user = confusion};
}

sk_status sk_plot_confusion(const char *path, const char *title, const size_t confusion[2][2], sk_error *err) {
    const sk_confusion c = {.title = title ? title : "Confusion matrix",
                            .counts = {{confusion[0][0], confusion[0][1]}, {confusion[1][0], confusion[1][1]}}};
    const sk_figure figure = sk_confusion_figure(&c);
    return sk_figure_write(path, &figure, err);
}
