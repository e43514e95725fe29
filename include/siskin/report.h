/* SPDX-License-Identifier: Apache-2.0 */
/* Figures (PNG and SVG from one drawing) and the HTML report. */
#ifndef SISKIN_REPORT_H
#define SISKIN_REPORT_H

#include "siskin/eval.h"
#include "siskin/quant.h"
#include "siskin/train.h"
#include "siskin/weights.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Paths are given without extension: PATH.png and PATH.svg are written aside and renamed. */

/* Loss and accuracy of train and val per epoch. */
sk_status sk_plot_curves(const char *path, const sk_epoch_log *log, size_t epochs, sk_error *err);
sk_status sk_plot_confusion(const char *path, const char *title, const size_t confusion[2][2], sk_error *err);
/* points: n x 2. Wrong verdicts are ringed; thumbnails (may be NULL) are drawn for an evenly spread subset. */
sk_status sk_plot_tsne(const char *path, const char *title, const float *points, const sk_evaluation *evaluation,
                       const sk_dataset *dataset, const sk_cache *cache, sk_error *err);
/* Signal-to-noise and sensitivity of every layer of an int8 model, in the order of execution. */
sk_status sk_plot_layers(const char *path, const char *title, const sk_quant_layer *layers, size_t count,
                         sk_error *err);
/* Contact sheet of the wrong pictures, worst first, at most `most`. PNG only. */
sk_status sk_plot_wrong(const char *path, const sk_evaluation *evaluation, const sk_dataset *dataset,
                        const sk_cache *cache, size_t most, sk_error *err);

/* A picture with its saliency map (sk_saliency_map) and three lines below it. */
typedef struct sk_saliency_picture {
    const uint8_t *image; /* size x size x 3 */
    const float *map;     /* size x size */
    int size;
    char heading[64], detail[96], name[256];
} sk_saliency_picture;
/* Sheet of pictures beside their maps, at most 60. title NULL: "What the model looked at". */
sk_status sk_plot_saliency(const char *path, const char *title, const sk_saliency_picture *pictures, size_t count,
                           sk_error *err);

/* ---- weights and activations: a strip per layer, in the order of execution, on a logarithmic axis ---------------- */
/* The largest magnitudes of the folded tensors' channels: line from the least to the largest, box over the middle half.
 * Below in grey those of the raw tensors or, if `before` is given, those of the same tensors before they were adjusted.
 * Named in colour: layers of which rknn-toolkit2 warns, and tensors whose channels differ more than 30-fold. MISMATCH
 * if `before` has other tensors. */
sk_status sk_plot_weights(const char *path, const char *title, const sk_weights *weights, const sk_weights *before,
                          sk_error *err);
/* The largest magnitudes of the channels' outputs, in grey their 99.9th percentiles. Named in colour: layers with less
 * than four steps of int8 in the lobe of hard-swish, and those whose channels differ more than 30-fold. */
sk_status sk_plot_activations(const char *path, const sk_activations *activations, sk_error *err);
/* Counts of the folded weights of one tensor, logarithmic, and of the raw ones as a line. */
sk_status sk_plot_weight_histogram(const char *path, const sk_weight_row *row, sk_error *err);
/* Writes weights.tsv, weights.json, weights.png and .svg (the strips), histograms/LAYER.png and .svg and, unless
 * activations is NULL, activations.tsv, channels.tsv, activations.png and .svg into `dir` (docs/formats.md). */
sk_status sk_weights_write(const char *dir, const char *model, const sk_weights *weights,
                           const sk_activations *activations, const sk_hooks *hooks, sk_error *err);
/* What weights.json holds, with a NUL that is not counted; released with sk_free_bytes. */
sk_status sk_weights_json(const char *model, const sk_weights *weights, const sk_activations *activations,
                          uint8_t **bytes, size_t *size, sk_error *err);

/* Writes evaluation.json (docs/formats.md), confusion.*, roc.*, histogram.*, reliability.*, tsne.* (if the evaluation
 * kept features), saliency_certain.*, saliency_uncertain.*, saliency_wrong.* (if there are looks), wrong.png and a
 * self-contained report.html into `dir`. */
typedef struct sk_report_options {
    const char *model_path; /* for the headline */
    sk_tsne_options tsne;
    const char *run_dir;    /* NULL, or a run folder whose curves are shown */
    const char *other_name; /* NULL, or the name of `other` */
    const sk_evaluation *other; /* NULL, or a second evaluation over the same pictures (e.g. int8): compared */
    const sk_looks *looks;      /* NULL, or what the model looked at (sk_evaluation_looks) */
    const sk_shortcut *shortcuts; /* NULL, or SK_SHORTCUT_COUNT of them (sk_evaluation_shortcuts) */
} sk_report_options;
sk_status sk_report_write(const char *dir, const sk_evaluation *evaluation, sk_classifier *classifier,
                          const sk_dataset *dataset, const sk_cache *cache, const sk_report_options *options,
                          const sk_hooks *hooks, sk_error *err);
/* What evaluation.json holds, with a NUL that is not counted; released with sk_free_bytes. */
sk_status sk_report_json(const sk_evaluation *evaluation, sk_classifier *classifier, const sk_dataset *dataset,
                         const sk_report_options *options, uint8_t **bytes, size_t *size, sk_error *err);

#ifdef __cplusplus
}
#endif
#endif
