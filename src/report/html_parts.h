/* SPDX-License-Identifier: Apache-2.0 */
/* What the sections of report.html are made of. */
#ifndef SK_HTML_PARTS_H
#define SK_HTML_PARTS_H

#include "report/page.h"

/* Everything up to the first heading, and everything after the last section; title: two parts, the second a name. */
void sk_html_begin(sk_text *out, const char *title, const char *name);
void sk_html_end(sk_text *out, const char *footer);
/* Appends text with markup escaped; NULL: nothing. */
void sk_html_text(sk_text *out, const char *text);
/* "97.31 %" and "0.9731", a dash for NaN. */
const char *sk_html_percent(char text[32], double value, int decimals);
const char *sk_html_fraction(char text[32], double value);
/* A number with its meaning below. */
void sk_html_card(sk_text *out, const char *value, const char *note);
/* Both themes; the browser shows the one that the reader's system asks for. class_name and caption may be NULL. */
sk_status sk_html_figure(sk_text *out, const sk_figure *figure, const char *class_name, const char *alt,
                         const char *caption, sk_error *err);
/* As JPEG, the size that a gallery needs; a note if there is no data. */
sk_status sk_html_picture(sk_text *out, const sk_image *image, const char *alt, sk_error *err);

/* ---- sections of their own files (html_trust.c) ---- */
/* Calibration error with and without the temperature; the figure is among the results. */
void sk_html_calibration(const sk_page *page, sk_text *out);
/* What frames, text, resolution and colour change, if that was asked for. */
void sk_html_shortcuts(const sk_page *page, sk_text *out);
/* What the model looked at, if that was asked for. */
sk_status sk_html_looks(const sk_page *page, sk_text *out, sk_error *err);

#endif
