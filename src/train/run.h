/* SPDX-License-Identifier: Apache-2.0 */
/* The run folder: its names, its state between two epochs, its files. Internal. */
#ifndef SK_TRAIN_RUN_H
#define SK_TRAIN_RUN_H

#include "siskin/train.h"
#include "train/optimizer.h"
#include "train/loader.h"
#include "train/qat.h"

#define SK_RUN_JSON "run.json"
#define SK_RUN_LOG "log.tsv"
#define SK_RUN_STATE "state.safetensors"
#define SK_RUN_BEST "best.safetensors"
#define SK_RUN_LAST "last.safetensors"

/* All that a resumed run needs besides the weights and the moments. */
typedef struct sk_run_state {
    char *config;      /* name TAB value per line: the options that decide the bytes of the result */
    int epoch;         /* finished epochs */
    int best_epoch;    /* 0: none yet */
    double best_accuracy, best_loss;
    sk_epoch_log *log; /* `epoch` rows */
} sk_run_state;
void sk_run_state_free(sk_run_state *state);
sk_status sk_run_state_add(sk_run_state *state, const sk_epoch_log *row, sk_error *err);

/* The options that decide the result, one per line, and 16 hex digits that stand for them. NULL: no memory. */
char *sk_run_config(const sk_train_options *options, const char *pretrained_hash, const char *fingerprint);
#define SK_RUN_ANY "?" /* as pretrained hash: whatever it was */
/* The hash of the first weights in a config, "" if there were none. */
void sk_run_pretrained(const char *config, char out[17]);
void sk_run_id(const char *config, char out[17]);
/* MISMATCH that names the first option that differs. */
sk_status sk_run_compare(const char *run_dir, const char *old_config, const char *new_config, sk_error *err);

/* Which pictures there are, in what order, how labelled, and what is in them: 16 hex digits. */
void sk_run_fingerprint(const sk_dataset *dataset, const sk_cache *cache, char out[17]);
sk_status sk_run_file_hash(const char *path, char out[17], sk_error *err);

/* What run.json says. */
typedef struct sk_run_about {
    const sk_train_options *options;
    const sk_dataset *dataset;
    const char *pretrained_hash, *fingerprint, *run_id;
    const sk_loader *train, *val;
    int stopped_early; /* epoch after which patience ended the run, 0: it did not */
} sk_run_about;
sk_status sk_run_write_json(const char *run_dir, const sk_run_about *about, sk_error *err);
/* Text of log.tsv; parse gives the rows back. */
void sk_run_log_text(const sk_epoch_log *log, size_t rows, sk_text *out);
sk_status sk_run_log_parse(const char *text, const char *name, sk_epoch_log **log, size_t *rows, sk_error *err);

/* Weights, moments and counters in one file, so that they always belong together. qat: NULL, or its ranges too. */
sk_status sk_run_save(const char *run_dir, const sk_run_state *state, const sk_model *model, const sk_update *update,
                      const sk_qat *qat, sk_error *err);
sk_status sk_run_load(const char *run_dir, sk_run_state *state, sk_model *model, sk_update *update, sk_qat *qat,
                      sk_error *err);
/* The files that follow from the state: best (if this epoch is the best), last, log.tsv. */
sk_status sk_run_derive(const char *run_dir, const sk_run_state *state, const sk_model *model, sk_error *err);
#endif
