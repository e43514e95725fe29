/* SPDX-License-Identifier: Apache-2.0 */
/* Figures made of pictures: the t-SNE map with thumbnails and the contact sheet of wrong verdicts. */
#include <math.h>
#include <stdio.h>

#include "report/figures.h"

static void from_cache(const void *user, size_t sample, sk_image *out) {
    sk_cache_image(user, sample, out);
}

static void from_nowhere(const void *user, size_t sample, sk_image *out) {
    (void)user;
    (void)sample;
    *out = (sk_image){0};
}

sk_pictures sk_pictures_of_cache(const sk_cache *cache) {
    return cache ? (sk_pictures){from_cache, cache} : (sk_pictures){from_nowhere, NULL};
}

void sk_sample_caption(const sk_sample *sample, char *out, size_t size) {
    const char *name = sk_path_name(sample->path);
    if (sample->frame >= 0) snprintf(out, size, "%s, frame %lld", name, (long long)sample->frame);
    else snprintf(out, size, "%s", name);
}

static int is_bird(const sk_evaluation *e, size_t i) {
    return e->samples[i].label == SK_LABEL_BIRD;
}

/* Draws the picture's square into (x, y, side); two pixels per point. */
static void draw_picture(cairo_t *cr, cairo_surface_t *surface, double x, double y, double scale) {
    cairo_save(cr);
    cairo_translate(cr, x, y);
    cairo_scale(cr, scale, scale);
    cairo_set_source_surface(cr, surface, 0, 0);
    cairo_paint(cr);
    cairo_restore(cr);
}

/* ---- t-SNE ------------------------------------------------------------------------------------------------------- */

enum { THUMB = 46, MOST_THUMBS = 56 };

typedef struct layout {
    double x, y, scale; /* figure = (x, y) + scale * point */
} layout;

static layout lay_out(const sk_tsne_map *map, double left, double top, double side) {
    double low[2] = {HUGE_VAL, HUGE_VAL}, high[2] = {-HUGE_VAL, -HUGE_VAL};
    for (size_t i = 0; i < 2 * map->evaluation->n; i++) {
        low[i % 2] = fmin(low[i % 2], map->points[i]);
        high[i % 2] = fmax(high[i % 2], map->points[i]);
    }
    const double range = fmax(high[0] - low[0], high[1] - low[1]);
    const double scale = range > 0 && isfinite(range) ? (side - THUMB) / range : 0;
    if (!(range >= 0)) return (layout){left, top, 0};
    return (layout){left + side / 2 - scale * (low[0] + high[0]) / 2, top + side / 2 - scale * (low[1] + high[1]) / 2,
                    scale};
}

static void place(const layout *at, const sk_tsne_map *map, size_t i, double *x, double *y) {
    *x = at->x + at->scale * (double)map->points[2 * i];
    *y = at->y + at->scale * (double)map->points[2 * i + 1];
}

static void draw_thumb(cairo_t *cr, const sk_theme *theme, const sk_tsne_map *map, size_t i, double x, double y) {
    sk_image image;
    map->pictures.get(map->pictures.user, map->evaluation->outcomes[i].sample, &image);
    cairo_surface_t *surface = sk_plot_picture(&image, 2 * THUMB, 2 * THUMB, 1);
    if (!surface) return;
    draw_picture(cr, surface, x - THUMB / 2., y - THUMB / 2., .5);
    cairo_surface_destroy(surface);
    sk_plot_colour(cr, is_bird(map->evaluation, i) ? theme->second : theme->first, 1);
    cairo_set_line_width(cr, 2.5);
    cairo_rectangle(cr, x - THUMB / 2., y - THUMB / 2., THUMB, THUMB);
    cairo_stroke(cr);
}

static size_t common_divisor(size_t a, size_t b) {
    while (b) {
        const size_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* Pictures in an order that does not depend on the layout, each only where no earlier one is near: evenly spread. */
static size_t draw_thumbs(cairo_t *cr, const sk_theme *theme, const sk_tsne_map *map, const layout *at,
                          size_t drawn[MOST_THUMBS]) {
    double taken[MOST_THUMBS][2];
    size_t used = 0;
    const size_t n = map->evaluation->n;
    size_t stride = (size_t)((double)n * .61803398875) | 1;
    while (common_divisor(stride, n) != 1) stride++;
    for (size_t k = 0, i = 0; k < n && used < MOST_THUMBS; k++, i = (i + stride) % n) {
        double x, y;
        int free_here = 1;
        place(at, map, i, &x, &y);
        for (size_t j = 0; j < used && free_here; j++)
            free_here = fabs(x - taken[j][0]) > THUMB * 1.3 || fabs(y - taken[j][1]) > THUMB * 1.3;
        if (!free_here) continue;
        taken[used][0] = x;
        taken[used][1] = y;
        drawn[used++] = i;
        draw_thumb(cr, theme, map, i, x, y);
    }
    return used;
}

/* The ring goes around the point, or, where a thumbnail covers it, to the thumbnail's corner. */
static void draw_ring(cairo_t *cr, const sk_theme *theme, const sk_tsne_map *map, size_t i, double x, double y,
                      double radius) {
    sk_plot_colour(cr, is_bird(map->evaluation, i) ? theme->second : theme->first, 1);
    cairo_arc(cr, x, y, radius, 0, 2 * M_PI);
    cairo_fill(cr);
    sk_plot_colour(cr, theme->page, 1);
    cairo_set_line_width(cr, 5);
    cairo_arc(cr, x, y, radius + 3.5, 0, 2 * M_PI);
    cairo_stroke_preserve(cr);
    sk_plot_colour(cr, theme->wrong, 1);
    cairo_set_line_width(cr, 2.4);
    cairo_stroke(cr);
}

static void draw_rings(cairo_t *cr, const sk_theme *theme, const sk_tsne_map *map, const layout *at, double radius,
                       const size_t *thumbs, size_t thumb_count) {
    for (size_t i = 0; i < map->evaluation->n; i++) {
        double x, y;
        if (!sk_evaluation_is_wrong(map->evaluation, i)) continue;
        place(at, map, i, &x, &y);
        for (size_t k = 0; k < thumb_count; k++) {
            if (thumbs[k] != i) continue;
            x += THUMB / 2. - 3;
            y -= THUMB / 2. - 3;
        }
        draw_ring(cr, theme, map, i, x, y, radius);
    }
}

static void draw_tsne(cairo_t *cr, const sk_theme *theme, const sk_figure *figure) {
    const sk_tsne_map *map = figure->user;
    const sk_evaluation *e = map->evaluation;
    const sk_font title = {SK_FONT_TITLE + 2, 1, theme->ink}, note = {16, 0, theme->muted};
    sk_plot_page(cr, theme, figure);
    sk_plot_text(cr, &title, 16, 24, 0, figure->width - 32, map->title);
    const sk_legend_entry legend[3] = {
        {"bird", theme->second, 2}, {"no bird", theme->first, 2}, {"wrong verdict", theme->wrong, 3}};
    sk_plot_legend(cr, theme, figure->width - 16, 54, legend, 3);
    const layout at = lay_out(map, 10, 80, figure->width - 20);
    const double radius = e->n > 1500 ? 3 : e->n > 300 ? 4 : 5;
    size_t wrong = 0;
    double x, y;
    for (size_t i = 0; i < e->n; i++) {
        place(&at, map, i, &x, &y);
        sk_plot_colour(cr, is_bird(e, i) ? theme->second : theme->first, .75);
        cairo_arc(cr, x, y, radius, 0, 2 * M_PI);
        cairo_fill(cr);
        wrong += (size_t)sk_evaluation_is_wrong(e, i);
    }
    size_t thumbs[MOST_THUMBS];
    const size_t thumb_count = e->n ? draw_thumbs(cr, theme, map, &at, thumbs) : 0;
    draw_rings(cr, theme, map, &at, radius, thumbs, thumb_count);
    char text[96];
    snprintf(text, sizeof text, "%zu picture%s, %zu wrong", e->n, e->n == 1 ? "" : "s", wrong);
    sk_plot_text(cr, &note, 16, 54, 0, 0, text);
}

sk_figure sk_tsne_figure(const sk_tsne_map *map) {
    return (sk_figure){.width = 760, .height = 840, .draw = draw_tsne, .user = map};
}

sk_status sk_plot_tsne(const char *path, const char *title, const float *points, const sk_evaluation *evaluation,
                       const sk_dataset *dataset, const sk_cache *cache, sk_error *err) {
    (void)dataset;
    const sk_tsne_map map = {title ? title : "t-SNE of the pooled features", points, evaluation,
                             sk_pictures_of_cache(cache)};
    const sk_figure figure = sk_tsne_figure(&map);
    return sk_figure_write(path, &figure, err);
}

/* ---- contact sheet ----------------------------------------------------------------------------------------------- */

enum { COLUMNS = 4, CELL_W = 240, CELL_H = 282, PICTURE_W = 224, PICTURE_H = 184, SHEET_TOP = 52, SHEET_MOST = 400 };

static void draw_cell(cairo_t *cr, const sk_theme *theme, const sk_wrong_sheet *sheet, size_t index, double x,
                      double y) {
    const sk_evaluation *e = sheet->evaluation;
    const sk_sample *sample = &e->samples[index];
    const sk_verdict *v = &e->outcomes[index].verdict;
    const sk_font strong = {15, 1, theme->ink}, body = {14, 0, theme->ink}, note = {14, 0, theme->muted};
    sk_image image;
    sheet->pictures.get(sheet->pictures.user, e->outcomes[index].sample, &image);
    cairo_surface_t *surface = sk_plot_picture(&image, 2 * PICTURE_W, 2 * PICTURE_H, 0);
    sk_plot_colour(cr, theme->grid, 1);
    cairo_rectangle(cr, x, y, PICTURE_W, PICTURE_H);
    cairo_fill(cr);
    if (surface) {
        const double w = cairo_image_surface_get_width(surface) / 2., h = cairo_image_surface_get_height(surface) / 2.;
        draw_picture(cr, surface, x + (PICTURE_W - w) / 2, y + (PICTURE_H - h) / 2, .5);
        cairo_surface_destroy(surface);
    } else {
        sk_plot_text(cr, &note, x + PICTURE_W / 2., y + PICTURE_H / 2., .5, 0, "no picture");
    }
    char text[640];
    snprintf(text, sizeof text, "%s, called %s", sk_verdict_words(is_bird(e, index)), sk_verdict_words(v->bird));
    sk_plot_text(cr, &strong, x, y + PICTURE_H + 16, 0, PICTURE_W, text);
    if (v->crops == 3)
        snprintf(text, sizeof text, "p %.3f  %.3f  %.3f", (double)v->p[0], (double)v->p[1], (double)v->p[2]);
    else snprintf(text, sizeof text, "p of bird %.3f", (double)v->p[0]);
    sk_plot_text(cr, &body, x, y + PICTURE_H + 36, 0, PICTURE_W, text);
    sk_plot_text(cr, &body, x, y + PICTURE_H + 55, 0, PICTURE_W, sample->source ? sample->source : "");
    sk_sample_caption(sample, text, sizeof text);
    sk_plot_text(cr, &note, x, y + PICTURE_H + 74, 0, PICTURE_W, text);
}

static void draw_wrong(cairo_t *cr, const sk_theme *theme, const sk_figure *figure) {
    const sk_wrong_sheet *sheet = figure->user;
    const sk_font title = {SK_FONT_TITLE, 1, theme->ink}, body = {16, 0, theme->muted};
    char text[128];
    sk_plot_page(cr, theme, figure);
    if (sheet->shown < sheet->count)
        snprintf(text, sizeof text, "%zu wrong of %zu pictures; the %zu most certain errors", sheet->count,
                 sheet->evaluation->n, sheet->shown);
    else snprintf(text, sizeof text, "%zu wrong of %zu pictures", sheet->count, sheet->evaluation->n);
    sk_plot_text(cr, &title, 16, 26, 0, figure->width - 32, text);
    if (!sheet->count) sk_plot_text(cr, &body, 16, 70, 0, 0, "Every verdict was right.");
    for (size_t i = 0; i < sheet->shown; i++)
        draw_cell(cr, theme, sheet, sheet->list[i], 16 + (double)(i % COLUMNS) * CELL_W,
                  SHEET_TOP + (double)(i / COLUMNS) * CELL_H);
}

sk_figure sk_wrong_figure(const sk_wrong_sheet *sheet) {
    const size_t rows = (sheet->shown + COLUMNS - 1) / COLUMNS;
    return (sk_figure){.width = 16 + COLUMNS * CELL_W,
                       .height = SHEET_TOP + (rows ? (double)rows * CELL_H : 44),
                       .draw = draw_wrong,
                       .user = sheet};
}

sk_status sk_wrong_write(const char *path, const sk_wrong_sheet *sheet, sk_error *err) {
    const sk_figure figure = sk_wrong_figure(sheet);
    sk_text png = {0};
    char *name = sk_format("%s.png", path);
    /* cairo's surfaces end at 32767 pixels; a long sheet in full size would have tens of megabytes. */
    const double scale = fmin(sheet->shown > 48 ? 1 : 1.5, 32000 / figure.height);
    sk_status status = name ? sk_figure_png(&figure, &sk_theme_light, scale, &png, err) : sk_fail_memory(err, "a name");
    if (!status) status = sk_file_write(name, png.data, png.size, err);
    sk_text_free(&png);
    sk_free(name);
    return status;
}

sk_status sk_plot_wrong(const char *path, const sk_evaluation *evaluation, const sk_dataset *dataset,
                        const sk_cache *cache, size_t most, sk_error *err) {
    (void)dataset;
    size_t *list = NULL;
    sk_wrong_sheet sheet = {.evaluation = evaluation, .pictures = sk_pictures_of_cache(cache)};
    sk_status status = sk_evaluation_wrong(evaluation, &list, &sheet.count, err);
    if (status) return status;
    if (most > SHEET_MOST) most = SHEET_MOST;
    sheet.list = list;
    sheet.shown = sheet.count < most ? sheet.count : most;
    status = sk_wrong_write(path, &sheet, err);
    sk_wrong_free(list);
    return status;
}
