/* SPDX-License-Identifier: Apache-2.0 */
/* A sweep at work, shared by the files of the room. Internal. */
#ifndef SK_SWEEP_SWEEP_H
#define SK_SWEEP_SWEEP_H

#include "base/base.h"
#include "siskin/eval.h"
#include "siskin/sweep.h"

#define SK_SWEEP_TSV "sweep.tsv"
enum { SK_SWEEP_RUNS_MAX = 10000 };

/* "recipe" or a key, and its text, or all texts that it takes in turn. */
typedef struct sk_axis_values {
    char *name, **values;
    size_t count;
} sk_axis_values;

typedef struct sk_config {
    char *name; /* "lr=1e-4 recipe=seed", "all" without a grid */
    size_t *choice; /* of each axis */
    sk_train_options options;
} sk_config;

typedef enum sk_run_state_name { SK_RUN_WAITING, SK_RUN_DONE, SK_RUN_FAILED } sk_run_outcome;

typedef struct sk_sweep_run_record {
    size_t config;
    uint64_t seed;
    char *name, *dir; /* "lr=1e-4,recipe=seed-seed1", in the sweep's folder */
    sk_run_outcome state;
    char *error;      /* of a failed run */
    int epochs, best_epoch;
    double *values;   /* of every measure, NaN: none */
    /* Progress in pictures, behind the crew's lock. */
    int before;       /* epochs that were finished when the sweep began */
    uint64_t per_epoch, finished, seen, planned;
} sk_sweep_record;

/* A dataset that judges: its test part. */
typedef struct sk_judge {
    char *name, *dir;
    sk_dataset *dataset;
    sk_cache *cache;
    size_t first, count; /* measures: accuracy, ROC area, loss, then the sources */
    size_t pictures;
} sk_judge;

struct sk_sweep {
    sk_axis_values *fixed, *axes;
    size_t fixed_count, axis_count;
    int seeds;
    sk_judge *judges;
    size_t judge_count;
    sk_config *configs;
    size_t config_count;
    sk_sweep_record *runs; /* seed by seed, configurations within */
    size_t run_count;
    sk_measure *measures;
    size_t measure_count;
    sk_dataset *dataset;
    sk_cache *cache; /* open while runs train, so that it is made once */
};

/* The first three measures; the judges' follow. */
enum { SK_VAL_ACCURACY, SK_VAL_LOSS, SK_SECONDS, SK_OWN_MEASURES };

/* grid.c: configurations and runs out of axes and seeds, every one checked. */
sk_status sk_sweep_plan(sk_sweep *sweep, const char *dir, sk_error *err);
/* judge.c: opens the datasets, lists the measures, gives every run room for them. */
sk_status sk_sweep_open(sk_sweep *sweep, const char *dataset, const sk_hooks *hooks, sk_error *err);
/* Fills the values of a run that has been trained. */
sk_status sk_sweep_judge_run(const sk_sweep *sweep, sk_sweep_record *run, const sk_hooks *hooks, int threads,
                             sk_error *err);
/* table.c */
sk_status sk_sweep_write_table(const sk_sweep *sweep, const char *dir, sk_error *err);
void sk_sweep_json_text(const sk_sweep *sweep, sk_text *out);
/* "97.31 %", "0.9731", "83 s"; "-" for NaN. */
const char *sk_measure_text(char text[32], sk_measure_kind kind, double value);
/* figure.c: one panel per measure, sources or the others. */
sk_status sk_sweep_write_figures(const sk_sweep *sweep, const char *dir, sk_error *err);
/* page.c: appends sweep.html. */
sk_status sk_sweep_page(const sk_sweep *sweep, sk_text *out, sk_error *err);

#endif
