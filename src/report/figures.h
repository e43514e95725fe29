/* SPDX-License-Identifier: Apache-2.0 */
/* The figures of siskin as sk_figure descriptions, so that files and the HTML report draw the same thing. A figure's
 * `user` must outlive it. */
#ifndef SK_FIGURES_H
#define SK_FIGURES_H

#include "eval/evaluation.h"
#include "report/plot.h"
#include "siskin/report.h"

/* ---- training curves --------------------------------------------------------------------------------------------- */
/* Five rows of n numbers: epoch, loss of training and validation, accuracy of training and validation. */
typedef struct sk_curves {
    double *numbers;
    size_t n, best; /* best == n: no epoch is marked */
} sk_curves;
sk_status sk_curves_make(const sk_epoch_log *log, size_t epochs, sk_curves *out, sk_error *err);
sk_figure sk_curves_figure(const sk_curves *curves);

/* ---- confusion matrix, ROC, histogram ---------------------------------------------------------------------------- */
typedef struct sk_confusion {
    const char *title;
    size_t counts[2][2]; /* [label][verdict] */
} sk_confusion;
sk_figure sk_confusion_figure(const sk_confusion *confusion);

typedef struct sk_roc {
    double *false_rate, *true_rate; /* of `points` thresholds, from none to all; NULL without both classes */
    size_t points;
    double area, threshold, at_false, at_true; /* the operating point */
    size_t bins[2][20];                        /* [label] counts of the score in 20 equal bins */
} sk_roc;
sk_status sk_roc_make(const sk_evaluation *evaluation, sk_roc *out, sk_error *err);
void sk_roc_free(sk_roc *roc);
sk_figure sk_roc_figure(const sk_roc *roc);
sk_figure sk_histogram_figure(const sk_roc *roc);

/* ---- reliability of p -------------------------------------------------------------------------------------------- */
typedef struct sk_reliability {
    sk_calibration calibration, uncalibrated; /* the same if the temperature is 1 */
    double temperature;
} sk_reliability;
sk_figure sk_reliability_figure(const sk_reliability *reliability);

/* ---- figures with pictures --------------------------------------------------------------------------------------- */
/* Where pictures come from: `get` gives data NULL where there is none; the data stays the owner's. */
typedef struct sk_pictures {
    void (*get)(const void *user, size_t sample, sk_image *out);
    const void *user;
} sk_pictures;
sk_pictures sk_pictures_of_cache(const sk_cache *cache);

typedef struct sk_tsne_map {
    const char *title;
    const float *points; /* n x 2 */
    const sk_evaluation *evaluation;
    sk_pictures pictures;
} sk_tsne_map;
sk_figure sk_tsne_figure(const sk_tsne_map *map);

typedef struct sk_wrong_sheet {
    const sk_evaluation *evaluation;
    const size_t *list;
    size_t count, shown;
    sk_pictures pictures;
} sk_wrong_sheet;
sk_figure sk_wrong_figure(const sk_wrong_sheet *sheet);
/* PATH.png of the above. */
sk_status sk_wrong_write(const char *path, const sk_wrong_sheet *sheet, sk_error *err);
/* ---- saliency ---------------------------------------------------------------------------------------------------- */
enum { SK_SHEET_MOST = 60 };
typedef struct sk_saliency_sheet {
    const char *title;
    const sk_saliency_picture *pictures;
    size_t count;
} sk_saliency_sheet;
sk_figure sk_saliency_figure(const sk_saliency_sheet *sheet);
/* The picture and, to its right, its map over it in grey; the map's largest value is the brightest colour. */
sk_status sk_saliency_pair(const sk_saliency_picture *picture, sk_image *out, sk_error *err);
/* The pictures of one list with their captions; *out is released with sk_free, images and maps stay the looks'. */
sk_status sk_looks_pictures(const sk_evaluation *evaluation, const sk_looks *looks, sk_look_list list,
                            sk_saliency_picture **out, size_t *count, sk_error *err);

/* "clip.mp4, frame 12" */
void sk_sample_caption(const sk_sample *sample, char *out, size_t size);
/* "no bird" or "bird" */
const char *sk_verdict_words(int bird);

#endif
