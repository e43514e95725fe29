/* SPDX-License-Identifier: Apache-2.0 */
/* Surfaces, text and axes shared by all figures. The toy text interface of cairo is enough here: one font, no
 * shaping. Text comes from file names, so it is cleaned first: cairo stops drawing at the first broken UTF-8. */
#include "report/plot.h"

#include <cairo-svg.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

const sk_theme sk_theme_light = {.page = {1, 1, 1},
                                 .ink = {.12, .13, .15},
                                 .muted = {.36, .38, .41},
                                 .grid = {.88, .89, .90},
                                 .first = {0, .447, .698},
                                 .second = {.835, .369, 0},
                                 .wrong = {0, 0, 0},
                                 .heat_low = {.95, .97, .99},
                                 .heat_high = {.03, .35, .58},
                                 .dark = 0};
const sk_theme sk_theme_dark = {.page = {.11, .12, .14},
                                .ink = {.93, .94, .95},
                                .muted = {.68, .70, .73},
                                .grid = {.24, .26, .29},
                                .first = {.337, .706, .914},
                                .second = {.95, .62, .12},
                                .wrong = {1, 1, 1},
                                .heat_low = {.16, .19, .23},
                                .heat_high = {.30, .64, .88},
                                .dark = 1};

/* ---- surfaces ---------------------------------------------------------------------------------------------------- */

static cairo_status_t to_text(void *closure, const unsigned char *bytes, unsigned int size) {
    sk_text *text = closure;
    sk_text_add_bytes(text, bytes, size);
    return text->failed ? CAIRO_STATUS_WRITE_ERROR : CAIRO_STATUS_SUCCESS;
}

static sk_status cairo_failure(const sk_text *out, cairo_status_t status, sk_error *err) {
    if (out->failed || status == CAIRO_STATUS_NO_MEMORY) return sk_fail_memory(err, "a figure");
    return sk_fail(err, SK_ERR_UNSUPPORTED, "cannot draw a figure: %s", cairo_status_to_string(status));
}

static cairo_status_t render(const sk_figure *figure, const sk_theme *theme, cairo_surface_t *surface, double scale) {
    cairo_t *cr = cairo_create(surface);
    cairo_scale(cr, scale, scale);
    figure->draw(cr, theme, figure);
    const cairo_status_t status = cairo_status(cr);
    cairo_destroy(cr);
    return status;
}

sk_status sk_figure_svg(const sk_figure *figure, const sk_theme *theme, sk_text *out, sk_error *err) {
    cairo_surface_t *surface = cairo_svg_surface_create_for_stream(to_text, out, figure->width, figure->height);
    cairo_status_t status = render(figure, theme, surface, 1.0);
    cairo_surface_finish(surface);
    if (!status) status = cairo_surface_status(surface);
    cairo_surface_destroy(surface);
    return status || out->failed ? cairo_failure(out, status, err) : SK_OK;
}

sk_status sk_figure_png(const sk_figure *figure, const sk_theme *theme, double scale, sk_text *out, sk_error *err) {
    cairo_surface_t *surface = cairo_image_surface_create(CAIRO_FORMAT_RGB24, (int)ceil(figure->width * scale),
                                                          (int)ceil(figure->height * scale));
    cairo_status_t status = render(figure, theme, surface, scale);
    if (!status) status = cairo_surface_write_to_png_stream(surface, to_text, out);
    cairo_surface_destroy(surface);
    return status || out->failed ? cairo_failure(out, status, err) : SK_OK;
}

static sk_status write_with_suffix(const char *path, const char *suffix, const sk_text *text, sk_error *err) {
    char *name = sk_format("%s%s", path, suffix);
    if (!name) return sk_fail_memory(err, "a file name");
    const sk_status status = sk_file_write(name, text->data, text->size, err);
    sk_free(name);
    return status;
}

sk_status sk_figure_write(const char *path, const sk_figure *figure, sk_error *err) {
    sk_text text = {0};
    sk_status status = sk_figure_png(figure, &sk_theme_light, 2.0, &text, err);
    if (!status) status = write_with_suffix(path, ".png", &text, err);
    sk_text_free(&text);
    if (status) return status;
    text = (sk_text){0};
    status = sk_figure_svg(figure, &sk_theme_light, &text, err);
    if (!status) status = write_with_suffix(path, ".svg", &text, err);
    sk_text_free(&text);
    return status;
}

void sk_plot_colour(cairo_t *cr, sk_rgb colour, double alpha) {
    cairo_set_source_rgba(cr, colour.r, colour.g, colour.b, alpha);
}

sk_rgb sk_plot_mix(sk_rgb a, sk_rgb b, double t) {
    return (sk_rgb){a.r + (b.r - a.r) * t, a.g + (b.g - a.g) * t, a.b + (b.b - a.b) * t};
}

void sk_plot_page(cairo_t *cr, const sk_theme *theme, const sk_figure *figure) {
    sk_plot_colour(cr, theme->page, 1);
    cairo_rectangle(cr, 0, 0, figure->width, figure->height);
    cairo_fill(cr);
}

/* ---- text -------------------------------------------------------------------------------------------------------- */

/* Length of the valid UTF-8 sequence at `s`, 0 if it is broken. */
static size_t sequence_length(const unsigned char *s) {
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    if (s[0] < 0x80) return 1;
    const size_t n = s[0] >= 0xf0 && s[0] < 0xf8   ? 4
                     : s[0] >= 0xe0 && s[0] < 0xf0 ? 3
                     : s[0] >= 0xc0 && s[0] < 0xe0 ? 2
                                                   : 0;
    if (!n) return 0;
    uint32_t code = s[0] & (0xffu >> (n + 1));
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80) return 0;
        code = code << 6 | (s[i] & 0x3fu);
    }
    return code < least[n] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000) ? 0 : n;
}

enum { TEXT_MAX = 512 };

/* Copies at most TEXT_MAX-1 bytes, whole characters only. */
static void clean_text(char out[TEXT_MAX], const char *text) {
    size_t used = 0;
    for (const unsigned char *s = (const unsigned char *)text; *s;) {
        const size_t n = sequence_length(s);
        if (used + (n ? n : 1) >= TEXT_MAX) break;
        if (n && *s >= 0x20 && *s != 0x7f) memcpy(out + used, s, n);
        else out[used] = '?';
        used += n ? n : 1;
        s += n ? n : 1;
    }
    out[used] = 0;
}

static void use_font(cairo_t *cr, const sk_font *font) {
    cairo_select_font_face(cr, "DejaVu Sans", CAIRO_FONT_SLANT_NORMAL,
                           font->bold ? CAIRO_FONT_WEIGHT_BOLD : CAIRO_FONT_WEIGHT_NORMAL);
    cairo_set_font_size(cr, font->size);
    sk_plot_colour(cr, font->colour, 1);
}

static double width_of(cairo_t *cr, const char *text) {
    cairo_text_extents_t extents;
    cairo_text_extents(cr, text, &extents);
    return extents.x_advance;
}

double sk_plot_text_width(cairo_t *cr, const sk_font *font, const char *text) {
    char clean[TEXT_MAX];
    clean_text(clean, text);
    use_font(cr, font);
    return width_of(cr, clean);
}

/* Takes characters out of the middle, a little more from the head, since the ends of names tell them apart. */
static void shorten(cairo_t *cr, char text[TEXT_MAX], double max_width) {
    char source[TEXT_MAX];
    memcpy(source, text, TEXT_MAX);
    size_t starts[TEXT_MAX], count = 0;
    for (size_t i = 0; source[i]; i++)
        if ((source[i] & 0xc0) != 0x80) starts[count++] = i;
    const size_t length = strlen(source);
    for (size_t keep = count; keep-- > 1;) {
        const size_t head = keep * 2 / 5, tail = keep - head;
        const size_t from = starts[count - tail];
        if (starts[head] + 3 + (length - from) >= TEXT_MAX) continue;
        memcpy(text, source, starts[head]);
        memcpy(text + starts[head], "\xe2\x80\xa6", 3);
        memcpy(text + starts[head] + 3, source + from, length - from + 1);
        if (width_of(cr, text) <= max_width) return;
    }
}

double sk_plot_text(cairo_t *cr, const sk_font *font, double x, double y, double anchor_x, double max_width,
                    const char *text) {
    char clean[TEXT_MAX];
    clean_text(clean, text);
    use_font(cr, font);
    if (max_width > 0 && width_of(cr, clean) > max_width) shorten(cr, clean, max_width);
    const double width = width_of(cr, clean);
    cairo_move_to(cr, x - width * anchor_x, y + font->size * .36);
    cairo_show_text(cr, clean);
    cairo_new_path(cr);
    return width;
}

void sk_plot_text_up(cairo_t *cr, const sk_font *font, double x, double y, const char *text) {
    cairo_save(cr);
    cairo_translate(cr, x, y);
    cairo_rotate(cr, -M_PI / 2);
    sk_plot_text(cr, font, 0, 0, .5, 0, text);
    cairo_restore(cr);
}

/* ---- axes -------------------------------------------------------------------------------------------------------- */

static double nice_step(double range, int ticks) {
    if (!(range > 0) || !isfinite(range)) return 1;
    const double raw = range / (ticks > 1 ? ticks : 1), power = pow(10, floor(log10(raw))), part = raw / power;
    return power * (part < 1.5 ? 1 : part < 3.5 ? 2 : part < 7.5 ? 5 : 10);
}

sk_axis sk_axis_fixed(double low, double high, int ticks, const char *label) {
    if (!(high > low)) high = low + 1;
    return (sk_axis){.low = low, .high = high, .step = nice_step(high - low, ticks), .label = label};
}

sk_axis sk_axis_nice(double low, double high, int ticks, const char *label) {
    sk_axis axis = sk_axis_fixed(low, high, ticks, label);
    axis.low = floor(axis.low / axis.step + 1e-9) * axis.step;
    axis.high = ceil(axis.high / axis.step - 1e-9) * axis.step;
    return axis;
}

double sk_panel_x(const sk_panel *p, double value) {
    return p->x + p->width * (value - p->horizontal.low) / (p->horizontal.high - p->horizontal.low);
}

double sk_panel_y(const sk_panel *p, double value) {
    return p->y + p->height * (p->vertical.high - value) / (p->vertical.high - p->vertical.low);
}

static void tick_text(const sk_axis *axis, double value, char out[32]) {
    if (axis->logarithmic) {
        snprintf(out, 32, value < 0 ? "%.4g" : "%.0f", pow(10, value));
        return;
    }
    const double scale = axis->percent ? 100 : 1, step = axis->step * scale;
    int decimals = step >= 1 ? 0 : (int)ceil(-log10(step) - 1e-9);
    if (decimals > 6) decimals = 6;
    if (fabs(value) < axis->step * 1e-6) value = 0;
    snprintf(out, 32, "%.*f%s", decimals, value * scale, axis->percent ? " %" : "");
}

static void draw_ticks(cairo_t *cr, const sk_theme *theme, const sk_panel *p, int vertical) {
    const sk_axis *axis = vertical ? &p->vertical : &p->horizontal;
    const sk_font font = {SK_FONT_SMALL, 0, theme->muted};
    const double first = ceil(axis->low / axis->step - 1e-9);
    for (int i = 0; i < 100; i++) {
        const double value = (first + i) * axis->step;
        if (value > axis->high + axis->step * 1e-6) break;
        char text[32];
        tick_text(axis, value, text);
        sk_plot_colour(cr, theme->grid, 1);
        cairo_set_line_width(cr, 1);
        if (vertical) {
            cairo_move_to(cr, p->x, sk_panel_y(p, value));
            cairo_rel_line_to(cr, p->width, 0);
            cairo_stroke(cr);
            sk_plot_text(cr, &font, p->x - 8, sk_panel_y(p, value), 1, 0, text);
        } else {
            cairo_move_to(cr, sk_panel_x(p, value), p->y);
            cairo_rel_line_to(cr, 0, p->height);
            cairo_stroke(cr);
            sk_plot_text(cr, &font, sk_panel_x(p, value), p->y + p->height + 15, .5, 0, text);
        }
    }
}

void sk_panel_draw(cairo_t *cr, const sk_theme *theme, const sk_panel *p) {
    draw_ticks(cr, theme, p, 0);
    draw_ticks(cr, theme, p, 1);
    sk_plot_colour(cr, theme->muted, 1);
    cairo_set_line_width(cr, 1.2);
    cairo_move_to(cr, p->x, p->y);
    cairo_rel_line_to(cr, 0, p->height);
    cairo_rel_line_to(cr, p->width, 0);
    cairo_stroke(cr);
    const sk_font font = {SK_FONT_LABEL, 0, theme->ink};
    if (p->horizontal.label)
        sk_plot_text(cr, &font, p->x + p->width / 2, p->y + p->height + 38, .5, 0, p->horizontal.label);
    if (p->vertical.label) sk_plot_text_up(cr, &font, 16, p->y + p->height / 2, p->vertical.label);
}

void sk_panel_line(cairo_t *cr, const sk_panel *panel, const double *x, const double *y, size_t n, sk_rgb colour,
                   int dashed) {
    const double dashes[2] = {7, 4};
    cairo_save(cr);
    sk_plot_colour(cr, colour, 1);
    cairo_set_line_width(cr, 2.2);
    cairo_set_line_join(cr, CAIRO_LINE_JOIN_ROUND);
    if (dashed) cairo_set_dash(cr, dashes, 2, 0);
    for (size_t i = 0; i < n;) {
        size_t end = i;
        while (end < n && isfinite(x[end]) && isfinite(y[end])) end++;
        for (size_t k = i; k < end; k++) cairo_line_to(cr, sk_panel_x(panel, x[k]), sk_panel_y(panel, y[k]));
        if (end - i == 1) {
            cairo_new_path(cr);
            cairo_arc(cr, sk_panel_x(panel, x[i]), sk_panel_y(panel, y[i]), 4, 0, 2 * M_PI);
            cairo_fill(cr);
        }
        cairo_stroke(cr);
        i = end > i ? end : i + 1;
    }
    cairo_restore(cr);
}

static void legend_mark(cairo_t *cr, const sk_legend_entry *entry, double x, double y) {
    const double dashes[2] = {6, 3};
    sk_plot_colour(cr, entry->colour, 1);
    cairo_set_line_width(cr, 2.4);
    if (entry->mark <= 1) {
        if (entry->mark == 1) cairo_set_dash(cr, dashes, 2, 0);
        cairo_move_to(cr, x, y);
        cairo_rel_line_to(cr, 22, 0);
        cairo_stroke(cr);
        cairo_set_dash(cr, NULL, 0, 0);
    } else if (entry->mark == 4) {
        cairo_rectangle(cr, x + 4, y - 7, 14, 14);
        cairo_fill(cr);
    } else {
        cairo_arc(cr, x + 11, y, entry->mark == 2 ? 5 : 6, 0, 2 * M_PI);
        if (entry->mark == 2) cairo_fill(cr);
        else cairo_stroke(cr);
    }
}

void sk_plot_legend(cairo_t *cr, const sk_theme *theme, double right, double y, const sk_legend_entry *entries,
                    size_t count) {
    const sk_font font = {SK_FONT_LABEL, 0, theme->ink};
    for (size_t i = count; i-- > 0;) {
        right -= sk_plot_text(cr, &font, right, y, 1, 0, entries[i].text) + 28;
        legend_mark(cr, &entries[i], right, y);
        right -= 18;
    }
}

/* ---- pictures ---------------------------------------------------------------------------------------------------- */

static void attach_jpeg(cairo_surface_t *surface, const sk_image *image) {
    uint8_t *bytes = NULL;
    size_t size = 0;
    if (sk_image_encode(image, 82, &bytes, &size, NULL)) return;
    if (cairo_surface_set_mime_data(surface, CAIRO_MIME_TYPE_JPEG, bytes, size, (cairo_destroy_func_t)sk_free_bytes,
                                    bytes))
        sk_free_bytes(bytes);
}

cairo_surface_t *sk_plot_picture(const sk_image *image, int width, int height, int square) {
    if (!image->data) return NULL;
    sk_box box = {0, 0, (float)image->width, (float)image->height};
    if (square) {
        const float side = (float)(image->width < image->height ? image->width : image->height);
        box.x0 = ((float)image->width - side) / 2;
        box.y0 = ((float)image->height - side) / 2;
        box.x1 = box.x0 + side;
        box.y1 = box.y0 + side;
    } else {
        const double fit = fmin((double)width / image->width, (double)height / image->height);
        width = (int)fmax(1, image->width * fit);
        height = (int)fmax(1, image->height * fit);
    }
    sk_image small = {0};
    if (sk_image_create(width, height, &small, NULL)) return NULL;
    cairo_surface_t *surface = NULL;
    if (!sk_image_resize(image, &box, width, height, small.data, NULL)) {
        surface = cairo_image_surface_create(CAIRO_FORMAT_RGB24, width, height);
        uint8_t *pixels = cairo_image_surface_get_data(surface);
        const int stride = cairo_image_surface_get_stride(surface);
        for (int y = 0; pixels && y < height; y++)
            for (int x = 0; x < width; x++) {
                const uint8_t *rgb = small.data + ((size_t)y * (size_t)width + (size_t)x) * 3;
                const uint32_t value = (uint32_t)rgb[0] << 16 | (uint32_t)rgb[1] << 8 | rgb[2];
                memcpy(pixels + (ptrdiff_t)y * stride + (ptrdiff_t)x * 4, &value, 4);
            }
        cairo_surface_mark_dirty(surface);
        attach_jpeg(surface, &small);
    }
    sk_image_free(&small);
    return surface;
}
