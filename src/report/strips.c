/* SPDX-License-Identifier: Apache-2.0 */
/* Layers as strips: how far the channels of each layer reach, on one logarithmic axis, so that the few that will spoil
 * an int8 model stand out of a picture of all of them. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report/plot.h"
#include "siskin/report.h"

enum { ROW = 21, TOP = 104, LEFT = 262, PLOT = 470, RIGHT = 278, FLOOR_DECADES = 6 };
static const double UNEVEN = 30, SILENT = 1e4, LOBE = 4;

/* Ends, quartiles and median of the channels of a layer, as logarithms. */
typedef struct spread {
    double low, first, median, third, high;
} spread;
typedef struct strip {
    char name[64], note[80];
    int bad; /* 2: spoils int8, 1: uneven, 0 */
    spread main, below;
} strip;
typedef struct sheet {
    const char *title, *axis, *main, *below;
    strip *strips;
    size_t count;
    double low, high; /* of the axis, logarithms */
} sheet;

static int ascending(const void *a, const void *b) {
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static double log_of(float value) { return value > 0 ? log10((double)value) : -INFINITY; }

/* Sorts `values`. */
static spread spread_of(float *values, size_t n) {
    qsort(values, n, sizeof *values, ascending);
    return (spread){log_of(values[0]), log_of(values[n / 4]), log_of(values[n / 2]), log_of(values[n - 1 - n / 4]),
                    log_of(values[n - 1])};
}

/* ---- drawing ----------------------------------------------------------------------------------------------------- */
static void draw_spread(cairo_t *cr, const sk_panel *p, const spread *s, double y, double height, sk_rgb colour,
                        sk_rgb page) {
    const double left = p->horizontal.low;
    const double low = sk_panel_x(p, fmax(s->low, left)), high = sk_panel_x(p, fmax(s->high, left));
    const double first = sk_panel_x(p, fmax(s->first, left)), third = sk_panel_x(p, fmax(s->third, left));
    sk_plot_colour(cr, colour, 1);
    cairo_set_line_width(cr, height / 5);
    cairo_move_to(cr, low, y);
    cairo_line_to(cr, high, y);
    cairo_stroke(cr);
    cairo_rectangle(cr, first, y - height / 2, fmax(third - first, 1.5), height);
    cairo_fill(cr);
    cairo_arc(cr, high, y, height * .42, 0, 2 * M_PI);
    cairo_fill(cr);
    if (s->median < left) return;
    sk_plot_colour(cr, page, 1);
    cairo_rectangle(cr, sk_panel_x(p, s->median) - 1, y - height / 2, 2, height);
    cairo_fill(cr);
}

static void draw_strip(cairo_t *cr, const sk_theme *theme, const sk_panel *p, const strip *s, double y) {
    const sk_rgb pale = sk_plot_mix(theme->second, theme->page, .4);
    const sk_rgb colour = s->bad == 2 ? theme->second : s->bad ? pale : theme->first;
    const sk_font name = {SK_FONT_SMALL, s->bad == 2, s->bad ? theme->second : theme->ink};
    const sk_font note = {SK_FONT_SMALL, s->bad == 2, s->bad ? theme->second : theme->muted};
    sk_plot_text(cr, &name, LEFT - 12, y, 1, LEFT - 20, s->name);
    draw_spread(cr, p, &s->below, y + 5, 4, sk_plot_mix(theme->muted, theme->page, .35), theme->page);
    draw_spread(cr, p, &s->main, y - 3, 9, colour, theme->page);
    sk_plot_text(cr, &note, LEFT + PLOT + 14, y, 0, RIGHT - 18, s->note);
}

static void draw_sheet(cairo_t *cr, const sk_theme *theme, const sk_figure *figure) {
    const sheet *sh = figure->user;
    const sk_font title = {SK_FONT_TITLE, 1, theme->ink}, label = {SK_FONT_SMALL, 0, theme->muted};
    const double height = (double)sh->count * ROW;
    sk_plot_page(cr, theme, figure);
    sk_plot_text(cr, &title, 16, 24, 0, figure->width - 32, sh->title);
    const sk_legend_entry legend[2] = {
        {sh->main, theme->first, 4}, {sh->below, sk_plot_mix(theme->muted, theme->page, .35), 0}};
    sk_plot_legend(cr, theme, figure->width - 16, 52, legend, 2);
    sk_panel panel = {.x = LEFT, .y = TOP, .width = PLOT, .height = height};
    panel.horizontal = (sk_axis){sh->low, sh->high, 1, 0, 1, sh->axis};
    panel.vertical = (sk_axis){.1, .9, 1, 0, 0, NULL}; /* without ticks */
    sk_panel_draw(cr, theme, &panel);
    for (double v = sh->low; v <= sh->high + .5; v++) { /* the numbers once more, above */
        char text[32];
        snprintf(text, sizeof text, "%g", pow(10, v));
        sk_plot_text(cr, &label, sk_panel_x(&panel, v), TOP - 14, .5, 0, text);
    }
    for (size_t i = 0; i < sh->count; i++) draw_strip(cr, theme, &panel, &sh->strips[i], TOP + ((double)i + .5) * ROW);
}

static sk_status write_sheet(const char *path, sheet *sh, sk_error *err) {
    double low = INFINITY, high = -INFINITY;
    for (size_t i = 0; i < sh->count; i++) {
        const strip *s = &sh->strips[i];
        high = fmax(high, fmax(s->main.high, s->below.high));
        if (isfinite(s->main.low)) low = fmin(low, s->main.low);
        if (isfinite(s->below.low)) low = fmin(low, s->below.low);
    }
    sh->high = isfinite(high) ? ceil(high) : 1;
    sh->low = isfinite(low) ? fmax(floor(low), sh->high - FLOOR_DECADES) : sh->high - 1;
    if (sh->low >= sh->high) sh->low = sh->high - 1;
    const sk_figure figure = {.width = LEFT + PLOT + RIGHT,
                              .height = TOP + (double)sh->count * ROW + 60,
                              .draw = draw_sheet,
                              .user = sh};
    return sk_figure_write(path, &figure, err);
}

/* ---- weights ----------------------------------------------------------------------------------------------------- */
/* What is wrong with a layer, worst first. */
static void judge_ratio(strip *s, double ratio) {
    if (ratio > 0 && ratio < SILENT) {
        if (ratio <= UNEVEN) return;
        s->bad = 1;
        snprintf(s->note, sizeof s->note, "channels differ %.0f-fold", ratio);
    } else {
        snprintf(s->note, sizeof s->note, "half of the channels are silent");
    }
}

static sk_status weight_strip(const sk_weight_row *row, const sk_weight_row *before, strip *s, sk_error *err) {
    float *peaks = sk_alloc(row->channels, sizeof *peaks);
    if (!peaks) return sk_fail_memory(err, "a figure");
    memcpy(s->name, row->layer, sizeof s->name);
    memcpy(peaks, row->folded_peaks, row->channels * sizeof *peaks);
    s->main = spread_of(peaks, row->channels);
    memcpy(peaks, before ? before->folded_peaks : row->raw_peaks, row->channels * sizeof *peaks);
    s->below = spread_of(peaks, row->channels);
    sk_free(peaks);
    judge_ratio(s, row->folded.channel_ratio);
    if (row->outlier.found) {
        s->bad = 2;
        snprintf(s->note, sizeof s->note, "outlier %.3f", row->outlier.value);
    } else if (before && before->outlier.found) {
        snprintf(s->note, sizeof s->note, "outlier %.3f no more", before->outlier.value);
    }
    return SK_OK;
}

sk_status sk_plot_weights(const char *path, const char *title, const sk_weights *weights, const sk_weights *before,
                          sk_error *err) {
    sheet sh = {.title = title ? title : "Largest weights of each layer's channels",
                .axis = "largest magnitude of a channel",
                .main = "folded; box: middle half",
                .below = before ? "before" : "raw"};
    if (before && before->count != weights->count)
        return sk_fail(err, SK_ERR_MISMATCH, "the weights before and after are not those of the same layers");
    sh.strips = sk_calloc(weights->count ? weights->count : 1, sizeof *sh.strips);
    sk_status status = sh.strips ? SK_OK : sk_fail_memory(err, "a figure");
    for (size_t i = 0; status == SK_OK && i < weights->count; i++) {
        const sk_weight_row *old = before ? &before->rows[i] : NULL;
        if (old && (old->channels != weights->rows[i].channels || strcmp(old->name, weights->rows[i].name) != 0))
            status = sk_fail(err, SK_ERR_MISMATCH, "the weights before and after are not those of the same layers");
        else status = weight_strip(&weights->rows[i], old, &sh.strips[sh.count++], err);
    }
    if (status == SK_OK) status = write_sheet(path, &sh, err);
    sk_free(sh.strips);
    return status;
}

/* ---- activations ------------------------------------------------------------------------------------------------- */
static sk_status activation_strip(const sk_activation_row *row, strip *s, sk_error *err) {
    const size_t n = (size_t)row->layer.out_c;
    float *peaks = sk_alloc(n, 2 * sizeof *peaks);
    if (!peaks) return sk_fail_memory(err, "a figure");
    memcpy(s->name, row->layer.name, sizeof s->name);
    for (size_t c = 0; c < n; c++) {
        const float *at = row->channel[c];
        peaks[c] = fmaxf(-at[SK_ACT_MIN], at[SK_ACT_MAX]);
        peaks[n + c] = fmaxf(fmaxf(-at[SK_ACT_P01], at[SK_ACT_P999]), 0);
    }
    s->main = spread_of(peaks, n);
    s->below = spread_of(peaks + n, n);
    sk_free(peaks);
    judge_ratio(s, row->channel_ratio);
    if (row->lobe > 0 && row->lobe < LOBE) {
        s->bad = 2;
        snprintf(s->note, sizeof s->note, "step %.2g: %.1f in the lobe", row->step, row->lobe);
    }
    return SK_OK;
}

sk_status sk_plot_activations(const char *path, const sk_activations *activations, sk_error *err) {
    char title[96];
    snprintf(title, sizeof title, "Largest outputs of each layer's channels, %d pictures", activations->pictures);
    sheet sh = {.title = title,
                .axis = "largest magnitude of a channel's output",
                .main = "all values; box: middle half",
                .below = "99.9th percentile"};
    sh.strips = sk_calloc(activations->count ? activations->count : 1, sizeof *sh.strips);
    sk_status status = sh.strips ? SK_OK : sk_fail_memory(err, "a figure");
    for (size_t i = 0; status == SK_OK && i < activations->count; i++) /* a mean has no wider range than its input */
        if (activations->rows[i].layer.op != SK_OP_POOL)
            status = activation_strip(&activations->rows[i], &sh.strips[sh.count++], err);
    if (status == SK_OK) status = write_sheet(path, &sh, err);
    sk_free(sh.strips);
    return status;
}
