/* SPDX-License-Identifier: Apache-2.0 */
/* Evaluation: verdicts over a split, metrics with intervals, t-SNE. */
#ifndef SISKIN_EVAL_H
#define SISKIN_EVAL_H

#include "siskin/classifier.h"
#include "siskin/dataset.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sk_eval_options {
    sk_split split;
    sk_crops crops;
    float threshold, penalty;
    int threads;
    int max_bad;
    int with_features; /* keep the pooled features (of the centre crop) */
    int with_logits;   /* keep the logits (of the centre crop) */
} sk_eval_options;

/* One picture's outcome. `sample` is its index in the dataset. */
typedef struct sk_outcome {
    size_t sample;
    sk_verdict verdict;
} sk_outcome;

typedef struct sk_metrics {
    size_t n, confusion[2][2];          /* [label][verdict], 0 nobird, 1 bird */
    double accuracy, accuracy_low, accuracy_high; /* Wilson score interval, 95 % */
    double precision, recall, f1;       /* of bird; NaN where undefined */
    double roc_area;                    /* Mann-Whitney with ties halved, over the score; NaN with one class */
} sk_metrics;

typedef struct sk_evaluation sk_evaluation;
/* Runs every labelled, readable picture of the split. `cache` must belong to `dataset`. */
sk_status sk_evaluate(sk_classifier *classifier, const sk_dataset *dataset, const sk_cache *cache,
                      const sk_eval_options *options, const sk_hooks *hooks, sk_evaluation **out, sk_error *err);
void sk_evaluation_free(sk_evaluation *evaluation);
size_t sk_evaluation_count(const sk_evaluation *evaluation);
const sk_outcome *sk_evaluation_outcome(const sk_evaluation *evaluation, size_t index);
/* count x feature_count floats, or NULL if they were not asked for. */
const float *sk_evaluation_features(const sk_evaluation *evaluation, int *feature_count);
/* count x 2 floats, before the temperature, or NULL if they were not asked for. */
const float *sk_evaluation_logits(const sk_evaluation *evaluation);
/* Metrics of one evaluation: from one thread at a time. */
sk_metrics sk_evaluation_metrics(const sk_evaluation *evaluation);
/* The metrics of the pictures for which `keep` is non-zero. */
sk_metrics sk_evaluation_metrics_where(const sk_evaluation *evaluation,
                                       int (*keep)(void *user, const sk_sample *sample),
                                       void *user);
/* Wilson score interval (Wilson 1927) of k successes in n at 95 %. */
void sk_wilson(size_t k, size_t n, double *low, double *high);

/* The number that the ROC is drawn over: >= threshold exactly when the verdict is bird. The centre crop's p, or the
 * largest side crop's p stretched so that `penalty` falls on `threshold`. */
double sk_score(const sk_verdict *verdict, float threshold, float penalty);
/* Area under the ROC: chance that a bird scores above a non-bird, ties count half. NaN with one class. */
sk_status sk_roc_area(const double *scores, const int *birds, size_t n, double *area, sk_error *err);

/* The metrics of every source (by_group 0) or group (1), sorted by name. Names belong to the dataset. */
typedef struct sk_slice {
    const char *name;
    sk_metrics metrics;
} sk_slice;
sk_status sk_evaluation_slices(const sk_evaluation *evaluation, int by_group, sk_slice **out, size_t *count,
                               sk_error *err);
void sk_slices_free(sk_slice *slices);

/* Indices of the outcomes whose verdict is wrong, the most certain error first; released with sk_wrong_free. */
sk_status sk_evaluation_wrong(const sk_evaluation *evaluation, size_t **out, size_t *count, sk_error *err);
void sk_wrong_free(size_t *list);

/* ---- calibration: is p what it says? ------------------------------------------------------------------------ */
/* p is that of bird of the centre crop (squeezed: of the frame), the number that thresholds are compared with. */
#define SK_CALIBRATION_BINS 15
typedef struct sk_calibration {
    size_t n, count[SK_CALIBRATION_BINS]; /* pictures per bin of p: bins of equal width */
    double mean_p[SK_CALIBRATION_BINS];   /* NaN in empty bins, as the next */
    double share[SK_CALIBRATION_BINS];    /* of birds */
    double ece;   /* expected calibration error: mean |mean_p - share|, bins weighted by their pictures (Naeini et al.
                   * 2015; Guo et al. 2017, there of the larger p) */
    double nll;   /* mean -log of the p that the label got; p is kept 2^-24 away from 0 and 1, where float ends */
    double brier; /* mean (p - label)^2, 0 to 1 (Brier 1950) */
} sk_calibration;
/* Of p whose log-odds are multiplied by `factor`: 1 for the p of the evaluation, the card's temperature for what p
 * would be without it. All NaN over no picture. */
sk_calibration sk_evaluation_calibration(const sk_evaluation *evaluation, double factor);

/* The least threshold at which at most `share` (0 to below 1) of the pictures without a bird are called bird by the
 * centre crop (squeezed: by the frame), p being that of the kept logits at `temperature` (above 0). It lies midway, in
 * log-odds, between the highest score that no longer alarms and the next of any picture, or a sixteenth above if there
 * is none; scores that float arithmetic may not keep apart count as ties, which alarm together or not at all. Above 0
 * and below 1. The evaluation has to have logits; from one thread at a time. Errors: ARGUMENT (share, temperature, no
 * logits), DATA (no picture without a bird, or too many of them whose p is 1); *threshold then stays. */
sk_status sk_evaluation_threshold(const sk_evaluation *evaluation, float temperature, double share, float *threshold,
                                  sk_error *err);

typedef struct sk_calibrate_options {
    sk_split split;
    int threads;         /* 0: all */
    int with_threshold;  /* 0: the card's threshold and penalty stay */
    double false_alarms; /* share of the pictures without a bird that may be called bird, 0 to below 1 */
} sk_calibrate_options;
/* before: with the old temperature and threshold; after: with the new ones; both on the pictures of the fit. */
typedef struct sk_calibrate_report {
    float old_temperature, temperature;
    float old_threshold, threshold, old_penalty, penalty;
    sk_calibration before, after;
    size_t pictures[SK_CLASS_COUNT]; /* of each label: 0 no bird, 1 bird */
    size_t called_before[SK_CLASS_COUNT], called_after[SK_CLASS_COUNT]; /* bird by the centre crop: false alarms, birds
                                                                         * that are found */
} sk_calibrate_report;
/* Fits the temperature (sk_fit_temperature) to a part of the data, which should not be the training part, and sets it
 * on the classifier (sk_classifier_write keeps it). Pictures are seen by the card's rule, of three crops the centre.
 * With a share of false alarms the card's threshold becomes sk_evaluation_threshold's at the new temperature, and its
 * penalty no less than that. A fit that the pictures did not bound is told through hooks->log. Errors: those of
 * sk_evaluate, of the two fits and of sk_classifier_set_thresholds; the classifier then stays what it was. */
sk_status sk_calibrate(sk_classifier *classifier, const sk_dataset *dataset, const sk_cache *cache,
                       const sk_calibrate_options *options, const sk_hooks *hooks, sk_calibrate_report *report,
                       sk_error *err);

/* ---- saliency: what the model looked at ---------------------------------------------------------------------- */
typedef enum sk_saliency_method {
    SK_SALIENCY_AUTO = 0,  /* cam for float models, occlusion for int8 */
    SK_SALIENCY_CAM,       /* class activation map: the last feature map, weighted by the gradient of the margin with
                            * respect to its pooled channels (Zhou et al. 2016; Selvaraju et al. 2017, Grad-CAM). One
                            * forward pass; float only; as coarse as that map, size / 32 cells a side */
    SK_SALIENCY_OCCLUSION  /* fall of the margin when a place is blurred away (Zeiler and Fergus 2014): 81 places on a
                            * grid an eighth of the side apart, a quarter of the side wide, soft-edged. Any model */
} sk_saliency_method;
sk_status sk_saliency_method_parse(const char *text, sk_saliency_method *out, sk_error *err); /* auto, cam, occlusion */
const char *sk_saliency_method_name(sk_saliency_method method);

typedef struct sk_saliency sk_saliency;
/* The classifier (of two classes) outlives the handle; one thread at a time. Errors: MISMATCH (number of classes, or
 * cam of an int8 model), MEMORY. */
sk_status sk_saliency_create(sk_classifier *classifier, sk_saliency_method method, int threads, sk_saliency **out,
                             sk_error *err);
void sk_saliency_free(sk_saliency *saliency);
sk_saliency_method sk_saliency_method_of(const sk_saliency *saliency); /* never auto */
/* image: size x size x 3 RGB bytes as the network sees them (sk_crops_prepare). map: size x size floats, row by row, 0
 * or more: how much each place spoke for `label`, in units of the margin (logit of `label` less the other), 0 where it
 * spoke against it. The same bytes for any number of threads. */
sk_status sk_saliency_map(sk_saliency *saliency, const uint8_t *image, sk_label label, float *map, sk_error *err);
/* Share of the map's sum in the outer SK_BORDER of each side, 0 to 1; NaN if the map is empty. A map that is the same
 * everywhere has SK_BORDER_AREA there. Far more says that the model judges by what is at the border of its pictures:
 * frames, bars, overlaid text. */
#define SK_BORDER 0.12
#define SK_BORDER_AREA 0.4224 /* 1 - (1 - 2 * SK_BORDER)^2 */
double sk_saliency_border(const float *map, int size);

typedef enum sk_look_list { SK_LOOK_CERTAIN = 0, SK_LOOK_UNCERTAIN, SK_LOOK_WRONG, SK_LOOK_LISTS } sk_look_list;
/* One picture of an evaluation with its map. */
typedef struct sk_look {
    sk_look_list list;
    size_t index;   /* of the outcome */
    uint8_t *image; /* size x size x 3: the crop that decided */
    float *map;     /* size x size, for the verdict */
    double border;  /* sk_saliency_border of the map */
} sk_look;
/* Mean border share of the pictures of one source and label. */
typedef struct sk_border_row {
    const char *source; /* belongs to the dataset */
    sk_label label;
    size_t n; /* pictures with a map that is not empty */
    double share;
} sk_border_row;
typedef struct sk_looks {
    sk_saliency_method method;
    int size;
    sk_look *looks; /* list by list */
    size_t count, wrong; /* wrong: of the evaluation; at most 200 of them are looked at */
    sk_border_row *rows; /* by source, then label */
    size_t row_count;
} sk_looks;
/* Maps of three lists: the `most` most certain right verdicts (sources and labels in turn), the `most` least certain
 * right ones, the wrong ones (most certain first). Border shares are over all pictures with cam; with occlusion over at
 * most `most` of every source and label, evenly spread. */
sk_status sk_evaluation_looks(const sk_evaluation *evaluation, sk_classifier *classifier, const sk_cache *cache,
                              sk_saliency_method method, size_t most, const sk_hooks *hooks, sk_looks **out,
                              sk_error *err);
void sk_looks_free(sk_looks *looks);

/* ---- shortcuts: marks of a source that have nothing to do with birds --------------------------------------------- */
#define SK_SHORTCUT_COUNT 6
/* The pictures of an evaluation judged again by the same rule after one change: a black frame of 8 % of the side, a
 * date in the lower right corner or on a black bar below (drawn into each crop), resolution lost to a shorter side of
 * 128 or 192 pixels, no colour. Index of the arrays: label, 0 no bird, 1 bird. */
typedef struct sk_shortcut_row {
    const char *source; /* belongs to the dataset */
    sk_label label;
    size_t n, flips;
    double mean_dp;
} sk_shortcut_row;
typedef struct sk_shortcut {
    const char *name; /* constant */
    size_t n[SK_CLASS_COUNT], flips[SK_CLASS_COUNT]; /* flips: verdicts that are not what they were */
    double mean_dp[SK_CLASS_COUNT]; /* mean change of p of bird of the centre crop; 0 without pictures */
    sk_shortcut_row *rows;          /* the same of every source and label, by source, then label */
    size_t row_count;
} sk_shortcut;
/* After success `out` is released with sk_shortcuts_free. */
sk_status sk_evaluation_shortcuts(const sk_evaluation *evaluation, sk_classifier *classifier, const sk_cache *cache,
                                  const sk_hooks *hooks, sk_shortcut out[SK_SHORTCUT_COUNT], sk_error *err);
void sk_shortcuts_free(sk_shortcut shortcuts[SK_SHORTCUT_COUNT]);

/* Two models over the same pictures, e.g. float and int8. */
typedef struct sk_comparison {
    size_t n, both_right, only_first, only_second, both_wrong;
    size_t flips;               /* verdicts that differ */
    double accuracy_difference; /* second minus first */
    double difference_low, difference_high; /* 95 % interval of it over pairs: Newcombe 1998, Improved confidence
                                             * intervals for the difference between binomial proportions based on
                                             * paired data, method 10 */
    double flip_rate, mcnemar_p, mean_dp, max_dp; /* dp: difference of the centre crop's p */
    double mean_cosine, least_cosine; /* of the two models' pooled features; NaN unless both evaluations kept as many */
} sk_comparison;
/* MISMATCH if the two are not over the same pictures. */
sk_status sk_evaluation_compare(const sk_evaluation *first, const sk_evaluation *second, sk_comparison *out,
                                sk_error *err);
/* The same per source, sorted by name; names belong to the dataset. */
typedef struct sk_compared_source {
    const char *name;
    sk_comparison comparison;
} sk_compared_source;
sk_status sk_evaluation_compare_sources(const sk_evaluation *first, const sk_evaluation *second,
                                        sk_compared_source **out, size_t *count, sk_error *err);
void sk_compared_free(sk_compared_source *sources);
/* The interval above for a table of pairs: both right, only the first, only the second, neither. */
void sk_paired_interval(size_t both, size_t only_first, size_t only_second, size_t neither, double *low, double *high);
/* Two-sided exact McNemar test: p of a split at least as uneven as this one if both models were equally good. */
double sk_mcnemar(size_t only_first, size_t only_second);

/* ---- t-SNE (van der Maaten 2008; Barnes-Hut, van der Maaten 2014) ------------------------------------------ */
typedef struct sk_tsne_options {
    double perplexity;  /* 30; reduced to (n-1)/3 for few points */
    int iterations;     /* 1000 */
    uint64_t seed;
    int threads;
} sk_tsne_options;
sk_tsne_options sk_tsne_defaults(void);
/* The perplexity that is used for n points. */
double sk_tsne_perplexity(const sk_tsne_options *options, size_t n);
/* data: n x dims, row-major. out: n x 2. kl (may be NULL) receives the final KL divergence. The same bytes for any
 * number of threads and any CPU. */
sk_status sk_tsne(const float *data, size_t n, int dims, const sk_tsne_options *options, const sk_hooks *hooks,
                  float *out, double *kl, sk_error *err);

#ifdef __cplusplus
}
#endif
#endif
