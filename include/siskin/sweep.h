/* SPDX-License-Identifier: Apache-2.0 */
/* Sweeps: every combination of a grid of training options, each with several seeds; the outcome of every combination
 * with intervals over the seeds. */
#ifndef SISKIN_SWEEP_H
#define SISKIN_SWEEP_H

#include "siskin/train.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sk_sweep sk_sweep;
sk_status sk_sweep_create(sk_sweep **out, sk_error *err);
void sk_sweep_free(sk_sweep *sweep);

/* ---- what is trained: in any order; texts are copied. Errors: ARGUMENT, MEMORY, of the file FORMAT and IO ---- */
/* One value for all runs. `name`: a key of siskin/keys.h or its option's name, or "recipe" (a built-in one or a file;
 * "feeder" unless it is set). "seed" is that of the first of the runs of a configuration; the others count on. */
sk_status sk_sweep_fix(sk_sweep *sweep, const char *name, const char *text, sk_error *err);
/* An axis of the grid: "NAME=VALUE,VALUE,...". Values go over the recipe's. seed, threads and max_bad are no axes. */
sk_status sk_sweep_vary(sk_sweep *sweep, const char *axis, sk_error *err);
/* The same from a text file, one axis per line; blank lines and what follows a # are passed over. */
sk_status sk_sweep_vary_file(sk_sweep *sweep, const char *path, sk_error *err);
/* Runs per configuration, 1 to 1000; 3 unless it is set. */
sk_status sk_sweep_seeds(sk_sweep *sweep, int count, sk_error *err);
/* A dataset whose test part judges every run too; told as the name of its folder. */
sk_status sk_sweep_judge(sk_sweep *sweep, const char *dir, sk_error *err);

/* ---- the runs ------------------------------------------------------------------------------------------------- */
/* Trains every run as sk_train would alone, with the same bytes, into dir/NAME-seedN, `jobs` at a time, which share
 * the threads; judges it on the val part, on the test part of `dataset` (if it has one, as "test") and on the datasets
 * of sk_sweep_judge; writes its curves, and dir/sweep.tsv after each run. A run that is there is gone on with, or, if
 * it is whole, only judged again. All configurations are checked before the first one is trained. A run that diverges
 * is told through hooks->log and counts as failed; anything else that goes wrong ends the sweep, which the same call
 * goes on with. Once per handle. */
sk_status sk_sweep_run(sk_sweep *sweep, const char *dataset, const char *dir, int jobs, const sk_hooks *hooks,
                       sk_error *err);

/* ---- results -------------------------------------------------------------------------------------------------- */
typedef enum sk_measure_kind { SK_MEASURE_SHARE, SK_MEASURE_AREA, SK_MEASURE_LOSS, SK_MEASURE_SECONDS } sk_measure_kind;
typedef struct sk_measure {
    const char *key;  /* "val_accuracy", "test.source.garden": the column of sweep.tsv */
    const char *name; /* "val accuracy", "test garden" */
    sk_measure_kind kind;
    int is_source;    /* accuracy on one source of a judging dataset */
} sk_measure;
typedef struct sk_summary {
    size_t n;         /* finite values */
    double mean, sd;  /* sd: of the sample, over n - 1 */
    double low, high; /* 95 % interval of the mean by Student's t (Student 1908); NaN for fewer than two values */
} sk_summary;
sk_summary sk_summarise(const double *values, size_t n);
/* The same of a measure: no end of the interval lies where no value can, below 0 or, of a share or an area, above 1. */
sk_summary sk_summarise_measure(const double *values, size_t n, sk_measure_kind kind);
/* Half of a two-sided 95 % interval in standard errors: t of 0.975 with so many degrees of freedom, 1 or more. */
double sk_student_t(size_t degrees);

/* Known after sk_sweep_run, also after one that was stopped. Texts belong to the sweep; NULL past the last. */
const char *sk_sweep_config(const sk_sweep *sweep, size_t config); /* "lr=1e-4 recipe=seed" */
const sk_measure *sk_sweep_measure(const sk_sweep *sweep, size_t measure);
sk_summary sk_sweep_summary(const sk_sweep *sweep, size_t config, size_t measure);
/* Runs that are done, and that have failed. */
void sk_sweep_counts(const sk_sweep *sweep, size_t *done, size_t *failed, size_t *total);
/* What sweep.json holds, with a NUL that is not counted; released with sk_free_bytes. */
sk_status sk_sweep_json(const sk_sweep *sweep, uint8_t **bytes, size_t *size, sk_error *err);
/* sweep.json, sweep.png and sweep.svg, sweep_sources.* (with test parts), sweep.html, and sweep.tsv once more. */
sk_status sk_sweep_write(const sk_sweep *sweep, const char *dir, sk_error *err);

#ifdef __cplusplus
}
#endif
#endif
