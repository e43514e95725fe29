/* SPDX-License-Identifier: Apache-2.0 */
/* Training: the loop, its options, its run folder. */
#ifndef SISKIN_TRAIN_H
#define SISKIN_TRAIN_H

#include "siskin/dataset.h"
#include "siskin/model.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sk_train_options {
    sk_card card;
    const char *pretrained;  /* file or NULL: random weights */
    int epochs;              /* 100 */
    int batch;               /* 128 */
    float lr;                /* Adam learning rate, 1e-4 */
    float dropout;           /* before the last linear layer, 0.2 as torchvision's */
    int freeze_features;     /* train the classifier only, features in evaluation mode */
    int clip_repeat;         /* each clip frame of the training part is seen this often per epoch, default 1 */
    uint64_t seed;
    int threads;             /* 0: all cores */
    int resume;              /* go on in an existing run folder */
    int max_bad;
} sk_train_options;
sk_train_options sk_train_defaults(sk_arch arch);

typedef struct sk_epoch_log {
    int epoch; /* 1-based */
    double train_loss, train_accuracy, val_loss, val_accuracy, images_per_second, seconds;
    int is_best;
} sk_epoch_log;
/* Called after each epoch's files are safely written. */
typedef void (*sk_epoch_hook)(void *user, const sk_epoch_log *log);

/* Creates `run_dir` with run.json, log.tsv, best.safetensors, last.safetensors and state.safetensors (weights, Adam's
 * moments, counters and log in one file, so that they belong together at any moment; docs/formats.md). Curves are
 * drawn by whoever owns the hook: see sk_train_log_read and sk_plot_curves. */
sk_status sk_train(const sk_dataset *dataset, const char *run_dir, const sk_train_options *options,
                   const sk_hooks *hooks, sk_epoch_hook on_epoch, void *epoch_user, sk_error *err);

/* The rows of a run's log.tsv; *log is released with sk_train_log_free. */
sk_status sk_train_log_read(const char *run_dir, sk_epoch_log **log, size_t *epochs, sk_error *err);
void sk_train_log_free(sk_epoch_log *log);

/* Replaces the values of `options` by those of the run (not threads, resume), to resume it without repeating them.
 * `pretrained` receives the path of its first weights ("" if none) and backs options->pretrained. */
sk_status sk_train_options_read(const char *run_dir, sk_train_options *options, char *pretrained, size_t size,
                                sk_error *err);

#ifdef __cplusplus
}
#endif
#endif
