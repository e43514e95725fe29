/* SPDX-License-Identifier: Apache-2.0 */
/* Saliency as pictures: the map laid over the greyed picture, beside the picture itself, one pair or a sheet of them.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "report/figures.h"

enum { GAP = 4, COLUMNS = 3, PICTURE = 160, CELL_W = 2 * PICTURE + GAP + 22, CELL_H = PICTURE + 84, TOP = 84 };

/* Dark violet to light yellow, brightness rising all the way, for every kind of colour vision. */
static void heat(double v, double rgb[3]) {
    static const double stops[5][3] = {{40, 11, 84}, {101, 21, 110}, {212, 72, 66}, {251, 154, 6}, {252, 245, 150}};
    const double at = fmin(fmax(v, 0), 1) * 4;
    const int low = at >= 4 ? 3 : (int)at;
    for (int c = 0; c < 3; c++) rgb[c] = stops[low][c] + (stops[low + 1][c] - stops[low][c]) * (at - low);
}

static void overlay_pixel(const uint8_t *from, double v, uint8_t *to) {
    double rgb[3];
    const double grey = .299 * from[0] + .587 * from[1] + .114 * from[2], cover = .75 * sqrt(v);
    heat(v, rgb);
    for (int c = 0; c < 3; c++) to[c] = (uint8_t)((grey * .9 + 16) * (1 - cover) + rgb[c] * cover + .5);
}

sk_status sk_saliency_pair(const sk_saliency_picture *picture, sk_image *out, sk_error *err) {
    const int size = picture->size, width = 2 * size + GAP;
    double most = 0;
    const sk_status status = sk_image_create(width, size, out, err);
    if (status) return status;
    memset(out->data, 255, (size_t)width * (size_t)size * 3);
    for (int i = 0; i < size * size; i++) most = fmax(most, (double)picture->map[i]);
    for (int y = 0; y < size; y++) {
        uint8_t *row = out->data + (size_t)y * (size_t)width * 3;
        memcpy(row, picture->image + (size_t)y * (size_t)size * 3, (size_t)size * 3);
        for (int x = 0; x < size; x++)
            overlay_pixel(row + 3 * x, most > 0 ? (double)picture->map[y * size + x] / most : 0,
                          row + 3 * (size + GAP + x));
    }
    return SK_OK;
}

static void draw_pair(cairo_t *cr, const sk_saliency_picture *picture, double x, double y) {
    sk_image pair = {0};
    if (sk_saliency_pair(picture, &pair, NULL)) return;
    cairo_surface_t *surface = sk_plot_picture(&pair, 2 * (2 * PICTURE + GAP), 2 * PICTURE, 0);
    sk_image_free(&pair);
    if (!surface) return;
    cairo_save(cr);
    cairo_translate(cr, x, y);
    cairo_scale(cr, .5, .5);
    cairo_set_source_surface(cr, surface, 0, 0);
    cairo_paint(cr);
    cairo_restore(cr);
    cairo_surface_destroy(surface);
}

static void draw_scale(cairo_t *cr, const sk_theme *theme, double right, double y) {
    const sk_font note = {SK_FONT_SMALL, 0, theme->muted};
    const double width = sk_plot_text(cr, &note, right, y, 1, 0, "most");
    for (int i = 0; i < 60; i++) {
        double rgb[3];
        heat(i / 59., rgb);
        sk_plot_colour(cr, (sk_rgb){rgb[0] / 255, rgb[1] / 255, rgb[2] / 255}, 1);
        cairo_rectangle(cr, right - width - 130 + 2 * i, y - 6, 2.2, 12);
        cairo_fill(cr);
    }
    sk_plot_text(cr, &note, right - width - 138, y, 1, 0, "spoke for the verdict: nothing");
}

static void draw_sheet(cairo_t *cr, const sk_theme *theme, const sk_figure *figure) {
    const sk_saliency_sheet *sheet = figure->user;
    const sk_font title = {SK_FONT_TITLE, 1, theme->ink}, strong = {SK_FONT_LABEL, 1, theme->ink};
    const sk_font body = {SK_FONT_SMALL, 0, theme->ink}, note = {SK_FONT_SMALL, 0, theme->muted};
    sk_plot_page(cr, theme, figure);
    sk_plot_text(cr, &title, 16, 26, 0, figure->width - 32, sheet->title);
    draw_scale(cr, theme, figure->width - 22, 56);
    if (!sheet->count) sk_plot_text(cr, &note, 16, TOP + 16, 0, 0, "There is no such picture.");
    for (size_t i = 0; i < sheet->count; i++) {
        const sk_saliency_picture *p = &sheet->pictures[i];
        const double x = 16 + (double)(i % COLUMNS) * CELL_W, y = TOP + (double)(i / COLUMNS) * CELL_H;
        draw_pair(cr, p, x, y);
        sk_plot_text(cr, &strong, x, y + PICTURE + 16, 0, CELL_W - 22, p->heading);
        sk_plot_text(cr, &body, x, y + PICTURE + 36, 0, CELL_W - 22, p->detail);
        sk_plot_text(cr, &note, x, y + PICTURE + 55, 0, CELL_W - 22, p->name);
    }
}

sk_figure sk_saliency_figure(const sk_saliency_sheet *sheet) {
    const size_t rows = (sheet->count + COLUMNS - 1) / COLUMNS;
    return (sk_figure){.width = 16 + COLUMNS * CELL_W,
                       .height = TOP + (rows ? (double)rows * CELL_H : 40),
                       .draw = draw_sheet,
                       .user = sheet};
}

sk_status sk_plot_saliency(const char *path, const char *title, const sk_saliency_picture *pictures, size_t count,
                           sk_error *err) {
    const sk_saliency_sheet sheet = {title ? title : "What the model looked at", pictures,
                                     count < SK_SHEET_MOST ? count : SK_SHEET_MOST};
    const sk_figure figure = sk_saliency_figure(&sheet);
    return sk_figure_write(path, &figure, err);
}

/* ---- the lists of an evaluation ---------------------------------------------------------------------------------- */

static void describe(const sk_evaluation *e, const sk_look *look, int size, sk_saliency_picture *out) {
    const sk_sample *sample = &e->samples[look->index];
    const sk_verdict *v = &e->outcomes[look->index].verdict;
    const int bird = sample->label == SK_LABEL_BIRD, says = v->bird != 0;
    char border[48];
    *out = (sk_saliency_picture){.image = look->image, .map = look->map, .size = size};
    if (bird == says) snprintf(out->heading, sizeof out->heading, "%s, seen as that", sk_verdict_words(bird));
    else snprintf(out->heading, sizeof out->heading, "%s, called %s", sk_verdict_words(bird), sk_verdict_words(says));
    if (isfinite(look->border)) snprintf(border, sizeof border, "%.0f %% of it at the border", look->border * 100);
    else snprintf(border, sizeof border, "nothing spoke for it");
    snprintf(out->detail, sizeof out->detail, "p of bird %.3f, %s", (double)v->p[v->deciding], border);
    char name[160];
    sk_sample_caption(sample, name, sizeof name);
    snprintf(out->name, sizeof out->name, "%.60s: %s", sample->source ? sample->source : "", name);
}

sk_status sk_looks_pictures(const sk_evaluation *evaluation, const sk_looks *looks, sk_look_list list,
                            sk_saliency_picture **out, size_t *count, sk_error *err) {
    *count = 0;
    *out = sk_calloc(looks->count ? looks->count : 1, sizeof **out);
    if (!*out) return sk_fail_memory(err, "the saliency sheet");
    for (size_t i = 0; i < looks->count; i++)
        if (looks->looks[i].list == list) describe(evaluation, &looks->looks[i], looks->size, &(*out)[(*count)++]);
    return SK_OK;
}
