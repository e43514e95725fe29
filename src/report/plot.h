/* SPDX-License-Identifier: Apache-2.0 */
/* A small plotting module over cairo: one drawing function per figure, rendered as PNG and as SVG, light or dark.
 * All sizes are in points of the figure; 14 is the smallest text, so that a figure is readable at phone width. */
#ifndef SK_PLOT_H
#define SK_PLOT_H

#include <cairo.h>

#include "base/base.h"
#include "siskin/image.h"

typedef struct sk_rgb {
    double r, g, b;
} sk_rgb;

/* Colours after Okabe and Ito, which stay apart for colour-blind readers. */
typedef struct sk_theme {
    sk_rgb page, ink, muted, grid, first, second, wrong, heat_low, heat_high;
    int dark;
} sk_theme;
extern const sk_theme sk_theme_light, sk_theme_dark;

typedef struct sk_figure {
    double width, height;
    void (*draw)(cairo_t *cr, const sk_theme *theme, const struct sk_figure *figure);
    const void *user;
} sk_figure;

sk_status sk_figure_svg(const sk_figure *figure, const sk_theme *theme, sk_text *out, sk_error *err);
sk_status sk_figure_png(const sk_figure *figure, const sk_theme *theme, double scale, sk_text *out, sk_error *err);
/* PATH.png (two pixels per point) and PATH.svg, in the light theme. */
sk_status sk_figure_write(const char *path, const sk_figure *figure, sk_error *err);

/* ---- text: UTF-8, broken bytes become '?'; `anchor_x` 0 left .. 1 right, y is the middle of the line --------- */
enum { SK_FONT_SMALL = 14, SK_FONT_LABEL = 15, SK_FONT_TITLE = 18 };
typedef struct sk_font {
    double size;
    int bold;
    sk_rgb colour;
} sk_font;
double sk_plot_text_width(cairo_t *cr, const sk_font *font, const char *text);
/* Draws; longer text than max_width (0: any) loses its middle to an ellipsis. Returns the width drawn. */
double sk_plot_text(cairo_t *cr, const sk_font *font, double x, double y, double anchor_x, double max_width,
                    const char *text);
void sk_plot_text_up(cairo_t *cr, const sk_font *font, double x, double y, const char *text); /* rotated, centred */

/* ---- axes -------------------------------------------------------------------------------------------------------- */
typedef struct sk_axis {
    double low, high, step; /* step > 0: distance of the ticks */
    int percent;            /* labels are 100 times the value with a % sign */
    int logarithmic;        /* labels are 10 to the value */
    const char *label;      /* NULL: none */
} sk_axis;
/* Low and high rounded outwards to a step of 1, 2 or 5 times a power of ten with about `ticks` ticks. */
sk_axis sk_axis_nice(double low, double high, int ticks, const char *label);
/* The given ends are kept; only the step is chosen. */
sk_axis sk_axis_fixed(double low, double high, int ticks, const char *label);

typedef struct sk_panel {
    double x, y, width, height; /* of the data area */
    sk_axis horizontal, vertical;
} sk_panel;
double sk_panel_x(const sk_panel *panel, double value);
double sk_panel_y(const sk_panel *panel, double value);
/* Grid, frame, ticks, labels. */
void sk_panel_draw(cairo_t *cr, const sk_theme *theme, const sk_panel *panel);
/* A polyline; breaks at values that are not finite; single points become dots. */
void sk_panel_line(cairo_t *cr, const sk_panel *panel, const double *x, const double *y, size_t n, sk_rgb colour,
                   int dashed);

typedef struct sk_legend_entry {
    const char *text;
    sk_rgb colour;
    int mark; /* 0 line, 1 dashed line, 2 dot, 3 ring, 4 filled box */
} sk_legend_entry;
/* One row, ends at `right`, middle at y. */
void sk_plot_legend(cairo_t *cr, const sk_theme *theme, double right, double y, const sk_legend_entry *entries,
                    size_t count);

void sk_plot_colour(cairo_t *cr, sk_rgb colour, double alpha);
void sk_plot_page(cairo_t *cr, const sk_theme *theme, const sk_figure *figure);
sk_rgb sk_plot_mix(sk_rgb a, sk_rgb b, double t);

/* A surface of the picture scaled to fit width x height pixels; an SVG embeds it as JPEG. NULL if that fails. */
cairo_surface_t *sk_plot_picture(const sk_image *image, int width, int height, int square);

#endif
