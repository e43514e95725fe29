/* SPDX-License-Identifier: Apache-2.0 */
/* report.html: one file that needs nothing else, no scripts, light or dark as the reader's system. Figures are SVG in
 * data URIs, not inline elements, since the glyph names that cairo gives would collide within one document. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "report/html_parts.h"

enum { GALLERY_MOST = 200 };

/* ---- tables ------------------------------------------------------------------------------------------------------ */

static void put_headline(const sk_page *page, sk_text *out) {
    const sk_metrics *m = &page->metrics;
    char a[32], b[96], c[32];
    sk_text_add(out, "<div class=\"cards\">\n");
    snprintf(b, sizeof b, "accuracy; 95 %% interval %.2f\xe2\x80\x93%.2f %%", m->accuracy_low * 100,
             m->accuracy_high * 100);
    sk_html_card(out, sk_html_percent(a, m->accuracy, 2), b);
    snprintf(c, sizeof c, "%zu of %zu", page->wrong_count, m->n);
    sk_html_card(out, c, "pictures judged wrongly");
    sk_html_card(out, sk_html_percent(a, m->precision, 2), "precision: of the pictures called bird, birds");
    sk_html_card(out, sk_html_percent(a, m->recall, 2), "recall: of the birds, found");
    sk_html_card(out, sk_html_fraction(a, m->f1), "F1");
    sk_html_card(out, sk_html_fraction(a, m->roc_area), "ROC area");
    sk_text_add(out, "</div>\n");
}

static void put_fact(sk_text *out, const char *name, const char *value) {
    sk_text_add(out, "<tr><th scope=\"row\">%s</th><td>", name);
    sk_html_text(out, value);
    sk_text_add(out, "</td></tr>\n");
}

static void put_facts(const sk_page *page, sk_text *out) {
    static const char *const splits[4] = {"no split", "train", "val", "test"};
    const sk_page_input *in = page->in;
    const sk_evaluation *e = in->evaluation;
    char text[512];
    sk_text_add(out, "<h2>What was evaluated</h2>\n<table class=\"facts\">\n");
    put_fact(out, "Model", in->model_path);
    snprintf(text, sizeof text, "%s, %s, input %d \xc3\x97 %d, classes %s", sk_arch_name(in->card.arch),
             in->is_int8 ? "int8" : "float", in->card.size, in->card.size, in->card.class_names);
    put_fact(out, "Network", text);
    if (*in->card.run_id) put_fact(out, "Training run", in->card.run_id);
    put_fact(out, "Data", in->dataset_dir);
    snprintf(text, sizeof text, "%s: %zu pictures judged, %zu without a label, %zu unreadable",
             sk_split_name(e->options.split), e->n, e->unlabelled, e->unreadable);
    put_fact(out, "Split", text);
    size_t used = 0;
    text[0] = 0;
    for (int i = 1; i <= 4; i++) {
        const size_t *n = in->dataset_counts[i % 4];
        if (n[0] + n[1] + n[2] == 0 || used >= sizeof text) continue;
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s %zu (%zu bird, %zu no bird)", used ? "; " : "",
                                 splits[i % 4], n[0] + n[1] + n[2], n[2], n[1]);
    }
    if (used) put_fact(out, "Whole dataset", text);
    const char *crops = e->options.crops == SK_CROPS_THREE ? "three crops: centre, left, right"
                        : e->options.crops == SK_CROPS_ONE ? "one crop, the centre"
                                                           : "the whole frame squeezed";
    int length = snprintf(text, sizeof text, "%s; bird if p \xe2\x89\xa5 %g", crops, (double)e->options.threshold);
    if (e->options.crops == SK_CROPS_THREE && length > 0)
        snprintf(text + length, sizeof text - (size_t)length, " at the centre or \xe2\x89\xa5 %g at a side",
                 (double)e->options.penalty);
    put_fact(out, "Decision rule", text);
    sk_text_add(out, "</table>\n");
}

static void put_slice_rows(sk_text *out, const sk_slice *slices, size_t count) {
    char a[32], b[32], c[32], d[32];
    sk_text_add(out, "<div class=\"scroll\"><table>\n<tr><th>Name</th><th>Pictures</th><th>Birds</th><th>Accuracy</th>"
                     "<th>95 %% interval</th><th>Missed</th><th>False alarms</th><th>Precision</th><th>Recall</th>"
                     "<th>ROC area</th></tr>\n");
    for (size_t i = 0; i < count; i++) {
        const sk_metrics *m = &slices[i].metrics;
        sk_text_add(out, "<tr><td>");
        sk_html_text(out, *slices[i].name ? slices[i].name : "(none)");
        sk_text_add(out,
                    "</td><td>%zu</td><td>%zu</td><td>%s</td><td>%.1f\xe2\x80\x93%.1f %%</td><td>%zu</td><td>%zu</td>"
                    "<td>%s</td><td>%s</td><td>%s</td></tr>\n",
                    m->n, m->confusion[1][0] + m->confusion[1][1], sk_html_percent(a, m->accuracy, 1),
                    m->accuracy_low * 100, m->accuracy_high * 100, m->confusion[1][0], m->confusion[0][1],
                    sk_html_percent(b, m->precision, 1), sk_html_percent(c, m->recall, 1),
                    sk_html_fraction(d, m->roc_area));
    }
    sk_text_add(out, "</table></div>\n");
}

/* ---- sections ---------------------------------------------------------------------------------------------------- */

static sk_status put_results(const sk_page *page, sk_text *out, sk_error *err) {
    sk_confusion confusion = {.title = "Confusion matrix"};
    memcpy(confusion.counts, page->metrics.confusion, sizeof confusion.counts);
    const sk_figure figures[4] = {sk_confusion_figure(&confusion), sk_roc_figure(&page->roc),
                                  sk_histogram_figure(&page->roc), sk_reliability_figure(&page->reliability)};
    static const char *const alts[4] = {"Confusion matrix", "ROC curve", "Histogram of the score for each label",
                                        "Reliability diagram: share of birds against p"};
    sk_status status = SK_OK;
    sk_text_add(out, "<h2>Results</h2>\n<div class=\"figures\">\n");
    for (int i = 0; i < 4 && !status; i++) status = sk_html_figure(out, &figures[i], NULL, alts[i], NULL, err);
    sk_text_add(out, "</div>\n<h2>Per source</h2>\n");
    put_slice_rows(out, page->sources, page->source_count);
    return status;
}

static void put_compared_rows(const sk_page *page, sk_text *out) {
    sk_text_add(out, "<div class=\"scroll\"><table><tr><th>source</th><th>pictures</th><th>points</th>"
                     "<th>95 %% interval</th><th>flips</th><th>mean change of p</th><th>largest</th></tr>\n");
    for (size_t i = 0; i < page->compared_count; i++) {
        const sk_comparison *c = &page->compared[i].comparison;
        sk_text_add(out, "<tr><td>");
        sk_html_text(out, *page->compared[i].name ? page->compared[i].name : "(none)");
        sk_text_add(out, "</td><td>%zu</td><td>%+.2f</td><td>%+.2f to %+.2f</td><td>%zu</td><td>%.2g</td><td>%.2g</td>"
                         "</tr>\n",
                    c->n, c->accuracy_difference * 100, c->difference_low * 100, c->difference_high * 100, c->flips,
                    c->mean_dp, c->max_dp);
    }
    sk_text_add(out, "</table></div>\n");
}

static sk_status put_compared(const sk_page *page, sk_text *out, sk_error *err) {
    const sk_comparison *c = &page->comparison;
    const char *other = page->in->other_name ? page->in->other_name : "the second model";
    char a[64], b[160];
    sk_text_add(out, "<h2>Compared with <span class=\"path\">");
    sk_html_text(out, other);
    sk_text_add(out, "</span></h2>\n<div class=\"cards\">\n");
    const double points = c->accuracy_difference * 100;
    snprintf(a, sizeof a, "%s%.2f points", points < 0 ? "\xe2\x88\x92" : "+", fabs(points));
    snprintf(b, sizeof b,
             "accuracy of the second model, %.2f %%, against the first's %.2f %%; interval over pairs %+.2f to %+.2f",
             page->other_metrics.accuracy * 100, page->metrics.accuracy * 100, c->difference_low * 100,
             c->difference_high * 100);
    sk_html_card(out, a, b);
    char rate[32];
    snprintf(b, sizeof b, "verdicts differ: %zu of %zu", c->flips, c->n);
    sk_html_card(out, sk_html_percent(rate, c->flip_rate, 2), b);
    snprintf(a, sizeof a, c->mcnemar_p < .0001 ? "%.1e" : "%.4f", c->mcnemar_p);
    snprintf(b, sizeof b, "p of McNemar's exact test: only the first is right on %zu pictures, only the second on %zu",
             c->only_first, c->only_second);
    sk_html_card(out, a, b);
    snprintf(a, sizeof a, "%.2g", c->mean_dp);
    snprintf(b, sizeof b, "mean change of p of the centre crop; the largest is %.2g", c->max_dp);
    sk_html_card(out, a, b);
    if (isfinite(c->mean_cosine)) {
        snprintf(a, sizeof a, "%.4f", c->mean_cosine);
        snprintf(b, sizeof b, "mean cosine of the pooled features; the least is %.4f", c->least_cosine);
        sk_html_card(out, a, b);
    }
    sk_text_add(out, "</div>\n");
    put_compared_rows(page, out);
    sk_text_add(out, "<p></p><div class=\"figures\">\n");
    sk_confusion first = {.title = "First model"}, second = {.title = "Second model"};
    memcpy(first.counts, page->metrics.confusion, sizeof first.counts);
    memcpy(second.counts, page->other_metrics.confusion, sizeof second.counts);
    const sk_figure left = sk_confusion_figure(&first), right = sk_confusion_figure(&second);
    sk_status status =
        sk_html_figure(out, &left, NULL, "Confusion matrix of the first model", page->in->model_path, err);
    if (!status) status = sk_html_figure(out, &right, NULL, "Confusion matrix of the second model", other, err);
    sk_text_add(out, "</div>\n");
    return status;
}

static sk_status put_curves(const sk_page *page, sk_text *out, sk_error *err) {
    const sk_figure figure = sk_curves_figure(&page->curves);
    sk_text_add(out, "<h2>Training</h2>\n");
    return sk_html_figure(out, &figure, "wide", "Loss and accuracy per epoch", page->in->run_dir, err);
}

static sk_status put_tsne(const sk_page *page, sk_text *out, sk_error *err) {
    char caption[256];
    const sk_page_input *in = page->in;
    const sk_tsne_map map = {"t-SNE of the pooled features", page->points, in->evaluation, in->pictures};
    const sk_figure figure = sk_tsne_figure(&map);
    snprintf(
        caption, sizeof caption,
        "%d pooled features of the centre crop in two dimensions; perplexity %.3g, seed %llu, "
        "%d iterations, Kullback-Leibler divergence %.3f. Near pictures look alike to the network; distances between "
        "far groups mean little.",
        in->feature_count, sk_tsne_perplexity(&in->tsne, in->evaluation->n), (unsigned long long)in->tsne.seed,
        in->tsne.iterations, page->kl);
    sk_text_add(out, "<h2>How the network sees the pictures</h2>\n");
    return sk_html_figure(out, &figure, "wide", "Map of the features, wrong verdicts ringed", caption, err);
}

static void put_probabilities(sk_text *out, const sk_verdict *v) {
    for (int i = 0; i < v->crops && i < 3; i++)
        sk_text_add(out, i ? " \xc2\xb7 %.3f" : "p of bird %.3f", (double)v->p[i]);
}

static sk_status put_wrong_one(const sk_page *page, size_t index, sk_text *out, sk_error *err) {
    const sk_page_input *in = page->in;
    const sk_sample *s = &in->evaluation->samples[index];
    const sk_verdict *v = &in->evaluation->outcomes[index].verdict;
    char caption[512];
    sk_image image;
    in->pictures.get(in->pictures.user, in->evaluation->outcomes[index].sample, &image);
    sk_sample_caption(s, caption, sizeof caption);
    sk_text_add(out, "<figure>");
    const sk_status status = sk_html_picture(out, &image, caption, err);
    sk_text_add(out, "<figcaption><b>%s, called %s</b><br>", sk_verdict_words(s->label == SK_LABEL_BIRD),
                sk_verdict_words(v->bird));
    put_probabilities(out, v);
    if (in->other) {
        const sk_verdict *w = &in->other->outcomes[index].verdict;
        sk_text_add(out, "<br>second model: %s, ", sk_verdict_words(w->bird));
        put_probabilities(out, w);
    }
    sk_text_add(out, "<br>");
    sk_html_text(out, s->source);
    sk_text_add(out, "<br><span class=\"muted\">");
    sk_html_text(out, caption);
    sk_text_add(out, "</span></figcaption></figure>\n");
    return status;
}

static sk_status put_wrong(const sk_page *page, sk_text *out, sk_error *err) {
    const size_t shown = page->wrong_count < GALLERY_MOST ? page->wrong_count : GALLERY_MOST;
    sk_status status = SK_OK;
    sk_text_add(out, "<h2>Wrong verdicts</h2>\n");
    if (!shown) sk_text_add(out, "<p>Every verdict was right.</p>\n");
    else
        sk_text_add(out, "<p class=\"muted\">The most certain errors first.%s</p>\n<div class=\"gallery\">\n",
                    shown < page->wrong_count ? " Not all are shown; evaluation.json lists the rest." : "");
    for (size_t i = 0; i < shown && !status; i++) status = put_wrong_one(page, page->wrong[i], out, err);
    if (shown) sk_text_add(out, "</div>\n");
    return status;
}

sk_status sk_page_html(const sk_page *page, sk_text *out, sk_error *err) {
    sk_html_begin(out, "evaluation of ", sk_path_name(page->in->model_path));
    sk_text_add(out, "<h1>Bird or no bird: <span class=\"path\">");
    sk_html_text(out, sk_path_name(page->in->model_path));
    sk_text_add(out, "</span></h1>\n");
    put_headline(page, out);
    put_facts(page, out);
    sk_status status = put_results(page, out, err);
    sk_html_calibration(page, out);
    if (!status && page->in->other) status = put_compared(page, out, err);
    if (!status && page->curves.n) status = put_curves(page, out, err);
    if (!status && page->points) status = put_tsne(page, out, err);
    if (!status) status = put_wrong(page, out, err);
    if (page->in->shortcuts) sk_html_shortcuts(page, out);
    if (!status && page->in->looks) status = sk_html_looks(page, out, err);
    if (status) return status;
    sk_text_add(out, "<details%s><summary>Per group (%zu)</summary>\n", page->group_count <= 12 ? " open" : "",
                page->group_count);
    put_slice_rows(out, page->groups, page->group_count);
    sk_text_add(out, "</details>\n");
    sk_html_end(out, "Intervals are Wilson's score intervals at 95 %. The score of the ROC is p of the centre crop or "
                     "the largest p of a side crop, stretched so that its penalty falls on the threshold. All figures "
                     "of this page are in evaluation.json.");
    return out->failed ? sk_fail_memory(err, "the report") : SK_OK;
}
