/* SPDX-License-Identifier: Apache-2.0 */
/* What the sections of report.html are made of: escaped text, numbers, figures in both themes, pictures as JPEG. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "report/html_parts.h"
#include "report/html_style.h"

enum { GALLERY_SIDE = 360 };

void sk_html_text(sk_text *out, const char *text) {
    for (const char *c = text ? text : ""; *c; c++) {
        switch (*c) {
        case '&': sk_text_add(out, "&amp;"); break;
        case '<': sk_text_add(out, "&lt;"); break;
        case '>': sk_text_add(out, "&gt;"); break;
        case '"': sk_text_add(out, "&quot;"); break;
        default: sk_text_add_bytes(out, c, 1);
        }
    }
}

void sk_html_begin(sk_text *out, const char *title, const char *name) {
    sk_text_add(out, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
                     "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>siskin: ");
    sk_html_text(out, title);
    sk_html_text(out, name);
    sk_text_add(out, "</title>\n<style>\n");
    sk_text_add_bytes(out, page_style, sizeof page_style - 1);
    sk_text_add(out, "</style></head>\n<body><main>\n");
}

void sk_html_end(sk_text *out, const char *footer) {
    sk_text_add(out, "<footer>");
    sk_html_text(out, footer);
    sk_text_add(out, " Written by siskin %s.</footer>\n</main></body></html>\n", SK_VERSION);
}

static void put_base64(sk_text *out, const void *bytes, size_t size) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *b = bytes;
    char line[4096];
    size_t used = 0;
    for (size_t i = 0; i < size; i += 3) {
        const uint32_t left = size - i > 2 ? 3 : (uint32_t)(size - i);
        const uint32_t v = (uint32_t)b[i] << 16 | (left > 1 ? (uint32_t)b[i + 1] << 8 : 0) | (left > 2 ? b[i + 2] : 0);
        line[used++] = digits[v >> 18];
        line[used++] = digits[v >> 12 & 63];
        line[used++] = left > 1 ? digits[v >> 6 & 63] : '=';
        line[used++] = left > 2 ? digits[v & 63] : '=';
        if (used == sizeof line || i + 3 >= size) {
            sk_text_add_bytes(out, line, used);
            used = 0;
        }
    }
}

/* "97.31 %", "–" for NaN */
const char *sk_html_percent(char text[32], double value, int decimals) {
    if (isfinite(value)) snprintf(text, 32, "%.*f %%", decimals, value * 100);
    else snprintf(text, 32, "\xe2\x80\x93");
    return text;
}

const char *sk_html_fraction(char text[32], double value) {
    if (isfinite(value)) snprintf(text, 32, "%.4f", value);
    else snprintf(text, 32, "\xe2\x80\x93");
    return text;
}

/* ---- figures ----------------------------------------------------------------------------------------------------- */

static sk_status put_svg(sk_text *out, const sk_figure *figure, const sk_theme *theme, sk_error *err) {
    sk_text svg = {0};
    const sk_status status = sk_figure_svg(figure, theme, &svg, err);
    if (!status) {
        sk_text_add(out, "data:image/svg+xml;base64,");
        put_base64(out, svg.data, svg.size);
    }
    sk_text_free(&svg);
    return status;
}

/* Both themes; the browser shows the one that the reader's system asks for. */
sk_status sk_html_figure(sk_text *out, const sk_figure *figure, const char *class_name, const char *alt,
                         const char *caption, sk_error *err) {
    sk_text_add(out, "<figure%s%s%s><picture><source media=\"(prefers-color-scheme:dark)\" srcset=\"",
                class_name ? " class=\"" : "", class_name ? class_name : "", class_name ? "\"" : "");
    sk_status status = put_svg(out, figure, &sk_theme_dark, err);
    if (status) return status;
    sk_text_add(out, "\"><img width=\"%.0f\" height=\"%.0f\" alt=\"", figure->width, figure->height);
    sk_html_text(out, alt);
    sk_text_add(out, "\" src=\"");
    status = put_svg(out, figure, &sk_theme_light, err);
    sk_text_add(out, "\"></picture>");
    if (caption) {
        sk_text_add(out, "<figcaption>");
        sk_html_text(out, caption);
        sk_text_add(out, "</figcaption>");
    }
    sk_text_add(out, "</figure>\n");
    return status;
}

void sk_html_card(sk_text *out, const char *value, const char *note) {
    sk_text_add(out, "<div class=\"card\"><b>");
    sk_html_text(out, value);
    sk_text_add(out, "</b><span>");
    sk_html_text(out, note);
    sk_text_add(out, "</span></div>\n");
}

/* As JPEG, the size that a gallery needs. */
sk_status sk_html_picture(sk_text *out, const sk_image *image, const char *alt, sk_error *err) {
    if (!image->data) {
        sk_text_add(out, "<div class=\"none\">no picture</div>");
        return SK_OK;
    }
    const int longer = image->width > image->height ? image->width : image->height;
    const double fit = longer > GALLERY_SIDE ? (double)GALLERY_SIDE / longer : 1;
    sk_image small = {0};
    uint8_t *bytes = NULL;
    size_t size = 0;
    sk_status status =
        sk_image_create((int)fmax(1, image->width * fit), (int)fmax(1, image->height * fit), &small, err);
    if (!status) status = sk_image_resize(image, NULL, small.width, small.height, small.data, err);
    if (!status) status = sk_image_encode(&small, 85, &bytes, &size, err);
    if (!status) {
        sk_text_add(out, "<img loading=\"lazy\" alt=\"");
        sk_html_text(out, alt);
        sk_text_add(out, "\" src=\"data:image/jpeg;base64,");
        put_base64(out, bytes, size);
        sk_text_add(out, "\">");
    }
    sk_free_bytes(bytes);
    sk_image_free(&small);
    return status;
}
