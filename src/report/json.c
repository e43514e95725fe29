/* SPDX-License-Identifier: Apache-2.0 */
/* evaluation.json, described in docs/formats.md. Holds neither times nor dates: the same model over the same pictures
 * gives the same bytes. */
#include "formats/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report/page.h"

const char *sk_crops_words(sk_crops crops) {
    return crops == SK_CROPS_THREE ? "3" : crops == SK_CROPS_SQUEEZE ? "squeeze" : "1";
}

/* A float as the shortest decimal that means it, not as the double it widens to. */
static void put_float(sk_text *out, const char *before, float value) {
    char text[32];
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)value);
        if (strtof(text, NULL) == value) break;
    }
    sk_text_add(out, "%s%s", before, text);
}

static void put_metrics(sk_text *out, const sk_metrics *m) {
    sk_text_add(out, "\"n\": %zu", m->n);
    sk_json_put_value(out, ", \"accuracy\": ", m->accuracy);
    sk_json_put_value(out, ", \"accuracy_low\": ", m->accuracy_low);
    sk_json_put_value(out, ", \"accuracy_high\": ", m->accuracy_high);
    sk_text_add(out, ", \"confusion\": [[%zu, %zu], [%zu, %zu]]", m->confusion[0][0], m->confusion[0][1],
                m->confusion[1][0], m->confusion[1][1]);
    sk_json_put_value(out, ", \"precision\": ", m->precision);
    sk_json_put_value(out, ", \"recall\": ", m->recall);
    sk_json_put_value(out, ", \"f1\": ", m->f1);
    sk_json_put_value(out, ", \"roc_area\": ", m->roc_area);
}

static void put_calibration(sk_text *out, const sk_calibration *c, int with_bins) {
    sk_json_put_value(out, "\"ece\": ", c->ece);
    sk_json_put_value(out, ", \"nll\": ", c->nll);
    sk_json_put_value(out, ", \"brier\": ", c->brier);
    sk_text_add(out, with_bins ? ", \"bins\": [" : "");
    for (int i = 0; i < SK_CALIBRATION_BINS && with_bins; i++) {
        sk_text_add(out, "%s{\"n\": %zu", i ? ", " : "", c->count[i]);
        sk_json_put_value(out, ", \"mean_p\": ", c->mean_p[i]);
        sk_json_put_value(out, ", \"share\": ", c->share[i]);
        sk_text_add(out, "}");
    }
    sk_text_add(out, with_bins ? "]" : "");
}

static void put_slices(sk_text *out, const char *name, const sk_slice *slices, size_t count) {
    sk_text_add(out, ",\n  \"%s\": [", name);
    for (size_t i = 0; i < count; i++) {
        sk_json_put_text(out, i ? ",\n    {\"name\": " : "\n    {\"name\": ", slices[i].name);
        sk_text_add(out, ", ");
        put_metrics(out, &slices[i].metrics);
        sk_text_add(out, "}");
    }
    sk_text_add(out, "%s]", count ? "\n  " : "");
}

static void put_verdict(sk_text *out, const char *key, const sk_verdict *v) {
    sk_text_add(out, ", \"%s\": \"%s\", \"%s\": [", key, sk_label_name(v->bird ? SK_LABEL_BIRD : SK_LABEL_NOBIRD),
                strcmp(key, "verdict") ? "other_p" : "p");
    for (int i = 0; i < v->crops && i < 3; i++) put_float(out, i ? ", " : "", v->p[i]);
    sk_text_add(out, "]");
}

static void put_outcome(sk_text *out, const sk_page *page, size_t i, int first) {
    const sk_evaluation *e = page->in->evaluation;
    const sk_sample *s = &e->samples[i];
    sk_json_put_text(out, first ? "\n    {\"path\": " : ",\n    {\"path\": ", s->path);
    if (s->frame >= 0) sk_text_add(out, ", \"frame\": %lld", (long long)s->frame);
    if (s->time_s >= 0) sk_json_put_value(out, ", \"time_s\": ", s->time_s);
    sk_json_put_text(out, ", \"source\": ", s->source);
    sk_json_put_text(out, ", \"group\": ", s->group);
    sk_text_add(out, ", \"label\": \"%s\"", sk_label_name(s->label));
    put_verdict(out, "verdict", &e->outcomes[i].verdict);
    sk_text_add(out, ", \"deciding\": %d", e->outcomes[i].verdict.deciding);
    if (page->in->other) put_verdict(out, "other_verdict", &page->in->other->outcomes[i].verdict);
    sk_text_add(out, "}");
}

static void put_look(sk_text *out, const sk_page *page, const sk_look *look, int first) {
    static const char *const lists[SK_LOOK_LISTS] = {"certain", "uncertain", "wrong"};
    const sk_sample *s = &page->in->evaluation->samples[look->index];
    sk_json_put_text(out, first ? "\n      {\"path\": " : ",\n      {\"path\": ", s->path);
    if (s->frame >= 0) sk_text_add(out, ", \"frame\": %lld", (long long)s->frame);
    sk_text_add(out, ", \"list\": \"%s\"", lists[look->list]);
    sk_json_put_value(out, ", \"border\": ", look->border);
    sk_text_add(out, "}");
}

static void put_looks(sk_text *out, const sk_page *page) {
    const sk_looks *l = page->in->looks;
    sk_text_add(out, ",\n  \"saliency\": {\"method\": \"%s\"", sk_saliency_method_name(l->method));
    sk_json_put_value(out, ", \"border\": ", SK_BORDER);
    sk_json_put_value(out, ", \"border_area\": ", SK_BORDER_AREA);
    sk_text_add(out, ",\n    \"sources\": [");
    for (size_t i = 0; i < l->row_count; i++) {
        sk_json_put_text(out, i ? ",\n      {\"name\": " : "\n      {\"name\": ", l->rows[i].source);
        sk_text_add(out, ", \"label\": \"%s\", \"n\": %zu", sk_label_name(l->rows[i].label), l->rows[i].n);
        sk_json_put_value(out, ", \"border_share\": ", l->rows[i].share);
        sk_text_add(out, "}");
    }
    sk_text_add(out, "],\n    \"pictures\": [");
    for (size_t i = 0; i < l->count; i++) put_look(out, page, &l->looks[i], i == 0);
    sk_text_add(out, "]}");
}

static void put_shortcuts(sk_text *out, const sk_shortcut *shortcuts) {
    sk_text_add(out, ",\n  \"shortcuts\": [");
    for (int i = 0; i < SK_SHORTCUT_COUNT; i++) {
        sk_json_put_text(out, i ? ",\n    {\"name\": " : "\n    {\"name\": ", shortcuts[i].name);
        for (int label = 0; label < SK_CLASS_COUNT; label++) {
            sk_text_add(out, ", \"%s\": {\"n\": %zu, \"flips\": %zu", sk_label_name((sk_label)label),
                        shortcuts[i].n[label], shortcuts[i].flips[label]);
            sk_json_put_value(out, ", \"mean_dp\": ", shortcuts[i].mean_dp[label]);
            sk_text_add(out, "}");
        }
        sk_text_add(out, ", \"sources\": [");
        for (size_t k = 0; k < shortcuts[i].row_count; k++) {
            const sk_shortcut_row *row = &shortcuts[i].rows[k];
            sk_json_put_text(out, k ? ", {\"name\": " : "{\"name\": ", row->source);
            sk_text_add(out, ", \"label\": \"%s\", \"n\": %zu, \"flips\": %zu", sk_label_name(row->label), row->n,
                        row->flips);
            sk_json_put_value(out, ", \"mean_dp\": ", row->mean_dp);
            sk_text_add(out, "}");
        }
        sk_text_add(out, "]");
        sk_text_add(out, "}");
    }
    sk_text_add(out, "]");
}

static void put_compared(sk_text *out, const sk_comparison *c) {
    sk_text_add(out,
                "\"n\": %zu, \"both_right\": %zu, \"only_first\": %zu, \"only_second\": %zu, \"both_wrong\": %zu, "
                "\"flips\": %zu",
                c->n, c->both_right, c->only_first, c->only_second, c->both_wrong, c->flips);
    sk_json_put_value(out, ", \"accuracy_difference\": ", c->accuracy_difference);
    sk_json_put_value(out, ", \"difference_low\": ", c->difference_low);
    sk_json_put_value(out, ", \"difference_high\": ", c->difference_high);
    sk_json_put_value(out, ", \"flip_rate\": ", c->flip_rate);
    sk_json_put_value(out, ", \"mcnemar_p\": ", c->mcnemar_p);
    sk_json_put_value(out, ", \"mean_dp\": ", c->mean_dp);
    sk_json_put_value(out, ", \"max_dp\": ", c->max_dp);
    sk_json_put_value(out, ", \"mean_cosine\": ", c->mean_cosine);
    sk_json_put_value(out, ", \"least_cosine\": ", c->least_cosine);
}

static void put_comparison(sk_text *out, const sk_page *page) {
    sk_json_put_text(out, ",\n  \"comparison\": {\"other\": ", page->in->other_name ? page->in->other_name : "");
    sk_text_add(out, ", ");
    put_compared(out, &page->comparison);
    sk_text_add(out, ",\n    \"sources\": [");
    for (size_t i = 0; i < page->compared_count; i++) {
        sk_json_put_text(out, i ? ",\n      {\"name\": " : "\n      {\"name\": ", page->compared[i].name);
        sk_text_add(out, ", ");
        put_compared(out, &page->compared[i].comparison);
        sk_text_add(out, "}");
    }
    sk_text_add(out, "],\n    \"other_metrics\": {");
    put_metrics(out, &page->other_metrics);
    sk_text_add(out, "}}");
}

void sk_page_json(const sk_page *page, sk_text *out) {
    const sk_page_input *in = page->in;
    const sk_evaluation *e = in->evaluation;
    sk_json_put_text(out, "{\n  \"format\": \"siskin evaluation\", \"version\": 1,\n  \"model\": {\"path\": ",
                     in->model_path);
    sk_json_put_text(out, ", \"arch\": ", sk_arch_name(in->card.arch));
    sk_text_add(out, ", \"int8\": %s, \"size\": %d, \"classes\": ", in->is_int8 ? "true" : "false", in->card.size);
    sk_json_put_string(out, in->card.class_names);
    sk_json_put_text(out, ", \"run_id\": ", in->card.run_id);
    sk_json_put_text(out, "},\n  \"dataset\": {\"dir\": ", in->dataset_dir);
    sk_text_add(out, ", \"split\": \"%s\", \"judged\": %zu, \"unlabelled\": %zu, \"unreadable\": %zu},\n",
                sk_split_name(e->options.split), e->n, e->unlabelled, e->unreadable);
    sk_text_add(out, "  \"rule\": {\"crops\": \"%s\"", sk_crops_words(e->options.crops));
    put_float(out, ", \"threshold\": ", e->options.threshold);
    put_float(out, ", \"penalty\": ", e->options.penalty);
    sk_text_add(out, "},\n  \"metrics\": {");
    put_metrics(out, &page->metrics);
    put_float(out, "},\n  \"calibration\": {\"temperature\": ", in->card.temperature);
    sk_text_add(out, ", ");
    put_calibration(out, &page->reliability.calibration, 1);
    sk_text_add(out, ",\n    \"without_temperature\": {");
    put_calibration(out, &page->reliability.uncalibrated, 0);
    sk_text_add(out, "}}");
    put_slices(out, "sources", page->sources, page->source_count);
    put_slices(out, "groups", page->groups, page->group_count);
    if (in->other) put_comparison(out, page);
    if (in->looks) put_looks(out, page);
    if (in->shortcuts) put_shortcuts(out, in->shortcuts);
    sk_text_add(out, ",\n  \"wrong\": [");
    for (size_t i = 0; i < page->wrong_count; i++) put_outcome(out, page, page->wrong[i], i == 0);
    sk_text_add(out, "%s],\n  \"pictures\": [", page->wrong_count ? "\n  " : "");
    for (size_t i = 0; i < e->n; i++) put_outcome(out, page, i, i == 0);
    sk_text_add(out, "%s]\n}\n", e->n ? "\n  " : "");
}
