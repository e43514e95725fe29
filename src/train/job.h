/* SPDX-License-Identifier: Apache-2.0 */
/* A training run at work, shared by the files of the loop. Internal. */
#ifndef SK_TRAIN_JOB_H
#define SK_TRAIN_JOB_H

#include "train/qat.h"
#include "train/ranks.h"
#include "train/run.h"

typedef struct sk_job {
    const sk_dataset *dataset;
    const char *dir;
    sk_train_options options;
    const sk_hooks *hooks;
    const sk_sync *sync; /* of options.ranks; NULL: one process alone */
    sk_cache *cache;
    sk_loader *train, *val;
    sk_model *model;
    sk_engine *engine;
    int engine_head; /* the engine trains the classifier alone */
    sk_update *update;
    sk_limits *limits; /* that weights are held to or pulled towards; NULL: none */
    sk_qat *qat; /* NULL: trained in float alone */
    sk_run_state state;
    float *logits; /* of the validation part */
    int *labels;
    char fingerprint[17], pretrained_hash[17], id[17];
} sk_job;

/* Makes the engine that epoch `epoch` (1-based) needs, unless it is there. */
sk_status sk_job_engine(sk_job *job, int epoch, sk_error *err);
/* One pass over the training part, then one over the validation part with the averaged weights, if there are any;
 * fills *row apart from `is_best`. Nothing is saved. DATA names the epoch, step and layer where the loss stops being a
 * number, or says that it has been hopeless for two epochs. */
sk_status sk_job_epoch(sk_job *job, sk_epoch_log *row, sk_error *err);
/* Another rank is lost: the sentence in *err is followed by what the folder still holds. */
sk_status sk_job_lost(const sk_job *job, sk_status status, sk_error *err);
#endif
