/* SPDX-License-Identifier: Apache-2.0 */
/* The sections of report.html on how far the verdicts can be trusted: are the probabilities what they say, and did the
 * model look at the bird. */
#include <math.h>
#include <stdio.h>

#include "report/html_parts.h"

void sk_html_calibration(const sk_page *page, sk_text *out) {
    const sk_reliability *r = &page->reliability;
    const sk_calibration *now = &r->calibration, *raw = &r->uncalibrated;
    const int both = r->temperature < 1 || r->temperature > 1;
    const struct {
        double now, raw;
        const char *what;
    } cards[3] = {
        {now->ece, raw->ece, "expected calibration error: mean distance of p from the share of birds, 15 bins"},
        {now->nll, raw->nll, "negative log-likelihood"},
        {now->brier, raw->brier, "Brier score: mean squared distance of p from the label"}};
    char value[32], before[32], note[256];
    sk_text_add(out, "<h2>Calibration</h2>\n<div class=\"cards\">\n");
    for (int i = 0; i < 3; i++) {
        snprintf(note, sizeof note, "%s%s%s%s", cards[i].what, both ? "; without the temperature " : "",
                 both ? sk_html_fraction(before, cards[i].raw) : "", "");
        sk_html_card(out, sk_html_fraction(value, cards[i].now), note);
    }
    snprintf(value, sizeof value, "%.3g", r->temperature);
    sk_html_card(out, value,
                 both ? "temperature: logits are divided by it ahead of the softmax"
                      : "temperature 1: the model is not calibrated; siskin calibrate does it");
    sk_text_add(out,
                "</div>\n<p class=\"muted\">All for p of bird of the centre crop. In the reliability diagram each "
                "point is a bin of pictures with about the same p; the more pictures, the larger. On the diagonal p is "
                "what it says; below it, the model finds birds too likely.</p>\n");
}

/* "3 (2.1 %)", a dash without pictures. */
static void put_share(sk_text *out, size_t part, size_t whole) {
    if (whole) sk_text_add(out, "<td>%zu (%.1f %%)</td>", part, 100. * (double)part / (double)whole);
    else sk_text_add(out, "<td>\xe2\x80\x93</td>");
}

static void put_change(sk_text *out, double change, size_t n) {
    if (n)
        sk_text_add(out, "<td>%s%.3f</td>",
                    change <= -.0005  ? "\xe2\x88\x92"
                    : change >= .0005 ? "+"
                                      : "",
                    fabs(change));
    else sk_text_add(out, "<td>\xe2\x80\x93</td>");
}

/* Sources and labels down, changes across. */
static void put_shortcut_rows(const sk_shortcut *shortcuts, sk_text *out) {
    sk_text_add(out, "<h3>Verdicts changed, per source</h3>\n<div class=\"scroll\"><table>\n<tr><th>Source</th>"
                     "<th>Label</th><th>Pictures</th>");
    for (int i = 0; i < SK_SHORTCUT_COUNT; i++) sk_text_add(out, "<th>%s</th>", shortcuts[i].name);
    for (size_t k = 0; k < shortcuts[0].row_count; k++) {
        const sk_shortcut_row *first = &shortcuts[0].rows[k];
        sk_text_add(out, "</tr>\n<tr><td>");
        sk_html_text(out, *first->source ? first->source : "(none)");
        sk_text_add(out, "</td><td>%s</td><td>%zu</td>", sk_verdict_words(first->label == SK_LABEL_BIRD), first->n);
        for (int i = 0; i < SK_SHORTCUT_COUNT; i++)
            put_share(out, shortcuts[i].rows[k].flips, shortcuts[i].rows[k].n);
    }
    sk_text_add(out, "</tr>\n</table></div>\n");
}

void sk_html_shortcuts(const sk_page *page, sk_text *out) {
    sk_text_add(out,
                "<h2>Shortcuts</h2>\n<p>The same pictures judged again with the marks of another source, none of "
                "which has to do with a bird. Verdicts that change, and a p of bird that moves one way, say that the "
                "model has learnt these marks.</p>\n<div class=\"scroll\"><table>\n<tr><th>Change</th><th>No bird: "
                "verdicts changed</th><th>change of p</th><th>Bird: verdicts changed</th><th>change of p</th></tr>\n");
    for (int i = 0; i < SK_SHORTCUT_COUNT; i++) {
        const sk_shortcut *s = &page->in->shortcuts[i];
        sk_text_add(out, "<tr><td>%s</td>", s->name);
        for (int label = 0; label < SK_CLASS_COUNT; label++) {
            put_share(out, s->flips[label], s->n[label]);
            put_change(out, s->mean_dp[label], s->n[label]);
        }
        sk_text_add(out, "</tr>\n");
    }
    sk_text_add(out, "</table></div>\n");
    if (page->in->shortcuts[0].row_count) put_shortcut_rows(page->in->shortcuts, out);
}

static void put_border_rows(const sk_looks *looks, sk_text *out) {
    char a[32];
    sk_text_add(out, "<div class=\"scroll\"><table>\n<tr><th>Source</th><th>Label</th><th>Pictures</th>"
                     "<th>Border share</th></tr>\n");
    for (size_t i = 0; i < looks->row_count; i++) {
        const sk_border_row *row = &looks->rows[i];
        sk_text_add(out, "<tr><td>");
        sk_html_text(out, *row->source ? row->source : "(none)");
        sk_text_add(out, "</td><td>%s</td><td>%zu</td><td>%s</td></tr>\n",
                    sk_verdict_words(row->label == SK_LABEL_BIRD), row->n, sk_html_percent(a, row->share, 1));
    }
    sk_text_add(out, "</table></div>\n");
}

static sk_status put_pair(const sk_saliency_picture *picture, sk_text *out, sk_error *err) {
    sk_image pair = {0};
    sk_status status = sk_saliency_pair(picture, &pair, err);
    sk_text_add(out, "<figure>");
    if (!status) status = sk_html_picture(out, &pair, picture->name, err);
    sk_image_free(&pair);
    sk_text_add(out, "<figcaption>%s<br>%s<br><span class=\"muted\">", picture->heading, picture->detail);
    sk_html_text(out, picture->name);
    sk_text_add(out, "</span></figcaption></figure>\n");
    return status;
}

static sk_status put_list(const sk_page *page, sk_look_list list, const char *title, sk_text *out, sk_error *err) {
    const sk_looks *looks = page->in->looks;
    sk_saliency_picture *pictures = NULL;
    size_t count = 0;
    sk_status status = sk_looks_pictures(page->in->evaluation, looks, list, &pictures, &count, err);
    sk_text_add(out, "<h3>%s</h3>\n", title);
    if (list == SK_LOOK_WRONG && looks->wrong > count)
        sk_text_add(out, "<p class=\"muted\">The %zu most certain of %zu.</p>\n", count, looks->wrong);
    if (!count) sk_text_add(out, "<p>There is none.</p>\n");
    else sk_text_add(out, "<div class=\"gallery pairs\">\n");
    for (size_t i = 0; i < count && !status; i++) status = put_pair(&pictures[i], out, err);
    if (count) sk_text_add(out, "</div>\n");
    sk_free(pictures);
    return status;
}

sk_status sk_html_looks(const sk_page *page, sk_text *out, sk_error *err) {
    static const char *const titles[SK_LOOK_LISTS] = {"Certain and right, from each source", "Uncertain and right",
                                                      "Wrong"};
    const sk_looks *looks = page->in->looks;
    sk_text_add(
        out,
        "<h2>What the model looked at</h2>\n<p>Bright is what spoke most for the verdict in each picture, by %s. "
        "The border share is how much of that lies in the outer %.0f %% of the picture's sides; a map that is the "
        "same everywhere has %.0f\xc2\xa0%% there. A share far above that in one source says that the model judges it "
        "by frames, bars or overlaid text rather than by the bird.</p>\n",
        looks->method == SK_SALIENCY_CAM
            ? "class activation (the last feature map, weighted by the gradient of the verdict)"
            : "occlusion (how much the verdict weakens when a place is blurred away)",
        SK_BORDER * 100, SK_BORDER_AREA * 100);
    put_border_rows(looks, out);
    sk_status status = SK_OK;
    for (int i = 0; i < SK_LOOK_LISTS && !status; i++) status = put_list(page, (sk_look_list)i, titles[i], out, err);
    return status;
}
