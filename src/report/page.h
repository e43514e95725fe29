/* SPDX-License-Identifier: Apache-2.0 */
/* Everything that evaluation.json and report.html tell, gathered once. */
#ifndef SK_PAGE_H
#define SK_PAGE_H

#include "report/figures.h"

/* What is given; plain values, so that tests need neither a network nor a dataset on disk. */
typedef struct sk_page_input {
    const sk_evaluation *evaluation, *other; /* other may be NULL */
    const sk_looks *looks;                   /* may be NULL */
    const sk_shortcut *shortcuts;            /* SK_SHORTCUT_COUNT or NULL */
    const char *model_path, *other_name;     /* other_name may be NULL */
    sk_card card;
    int is_int8, feature_count;
    const char *dataset_dir;
    size_t dataset_counts[4][3]; /* [split][unknown, nobird, bird] */
    sk_pictures pictures;
    const char *run_dir; /* may be NULL */
    sk_tsne_options tsne;
} sk_page_input;

/* What follows from it. */
typedef struct sk_page {
    const sk_page_input *in;
    sk_metrics metrics, other_metrics;
    sk_comparison comparison;
    sk_compared_source *compared; /* per source */
    size_t compared_count;
    sk_reliability reliability;
    sk_slice *sources, *groups;
    size_t source_count, group_count;
    size_t *wrong, wrong_count;
    sk_roc roc;
    sk_curves curves; /* n 0: none */
    float *points;    /* t-SNE, NULL: none */
    double kl;
} sk_page;

/* Everything but the t-SNE map; `page` is to be freed whatever the result. */
sk_status sk_page_make(const sk_page_input *input, sk_page *page, sk_error *err);
void sk_page_free(sk_page *page);
/* Appends the document of docs/formats.md. */
void sk_page_json(const sk_page *page, sk_text *out);
/* Appends report.html. */
sk_status sk_page_html(const sk_page *page, sk_text *out, sk_error *err);
/* Makes the t-SNE map if there are features, and writes all files into `dir`. */
sk_status sk_page_write(const char *dir, const sk_page_input *input, const sk_hooks *hooks, sk_error *err);

const char *sk_crops_words(sk_crops crops); /* "1", "3", "squeeze" */

#endif
