/* SPDX-License-Identifier: Apache-2.0 */
/* Training: the loop, its options, its run folder. */
#ifndef SISKIN_TRAIN_H
#define SISKIN_TRAIN_H

#include "siskin/augment.h"
#include "siskin/dataset.h"
#include "siskin/model.h"
#include "siskin/quant.h"
#include "siskin/ranks.h"
#include "siskin/weights.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum sk_optimizer { SK_OPTIMIZER_ADAM, SK_OPTIMIZER_ADAMW, SK_OPTIMIZER_SGD } sk_optimizer;
typedef enum sk_schedule { SK_SCHEDULE_CONSTANT, SK_SCHEDULE_COSINE } sk_schedule;
/* Off; what the integer engine rounds; what the NPU's converter rounds in its plainest way. */
typedef enum sk_qat_scheme { SK_QAT_OFF, SK_QAT_ENGINE, SK_QAT_NPU } sk_qat_scheme;
typedef enum sk_balance { SK_BALANCE_NONE, SK_BALANCE_WEIGHTS, SK_BALANCE_SAMPLING } sk_balance;

/* Fields are named as the keys of a recipe file and the options of `siskin train`. */
typedef struct sk_train_options {
    sk_card card;
    const char *pretrained;  /* file or NULL: random weights */
    int epochs;              /* 100 */
    int batch;               /* 128 */
    int epoch_size;          /* pictures per epoch, drawn anew each epoch; 0: all */
    float lr;                /* learning rate after the warm-up, 1e-4 */
    sk_optimizer optimizer;  /* Adam */
    float weight_decay;      /* AdamW: decoupled (Loshchilov & Hutter 2019); SGD: added to the gradient; not for biases
                              * and batch norm; 0 */
    float momentum;          /* of SGD (Nesterov), 0.9 */
    sk_schedule schedule;    /* constant */
    float warmup;            /* epochs of linear warm-up, may be a fraction; 0 */
    float ema;               /* decay per step of the moving average of the weights, e.g. .999; 0: none. Validation and
                              * the saved weights are then the average's */
    float label_smoothing;   /* 0 up to but not 1; 0 */
    sk_balance balance;      /* classes: as they are, weighted in the loss, or drawn equally often */
    float source_mix;        /* 0: pictures as often as they are; 1: every source equally often; between: each source's
                              * share to the power 1 - source_mix */
    float dropout;           /* before the last linear layer, 0.2 as torchvision's */
    int head_epochs;         /* first epochs in which only the classifier is trained; 0 */
    int freeze_features;     /* train the classifier only, features in evaluation mode */
    int freeze_bn;           /* batch norm uses and keeps its running statistics */
    int patience;            /* stop after so many epochs without a better one; 0: never */
    int clip_repeat;         /* each clip frame of the training part is seen this often per epoch, default 1 */
    sk_adjust adjust;        /* pulls the convolutions of `pretrained` in before the first step; none */
    float adjust_k;          /* of sk_adjust_options, as the two below */
    sk_adjust_on adjust_on;
    sk_adjust_per adjust_per;
    int adjust_keep;         /* after every step, back into the limits that adjust had: raw weights are clamped,
                              * channels whose folded weights left them get a smaller gamma */
    float range_penalty;     /* lr times this is the share that a step takes away of every excess over the limits (of
                              * adjust, or of sigma 3), and of |beta| + 4 |gamma| over 6; 0: none */
    float equalise;          /* before the first step, channels that depthwise layers alone read and that reach beyond
                              * this on 100 pictures are made smaller and what reads them larger; 0: none, with qat npu
                              * 16 */
    sk_augment augment;      /* sk_augment_seed() */
    sk_qat_scheme qat;       /* quantisation-aware: `pretrained` is a trained model, whose card is taken over; needs
                              * freeze_bn */
    sk_quant_per qat_per;    /* with qat: what has a scale of its own among the weights of a layer; channel */
    float distill;           /* with qat: share of the loss that is the divergence from the float model, 0 */
    float qat_lr;            /* with qat engine: learning rate of the ranges, as parts of themselves; 1e-3 */
    float qat_pull;          /* with qat npu: gradient per code of excess over the range of least error; 0 */
    uint64_t seed;
    int threads;             /* 0: all cores */
    int resume;              /* go on in an existing run folder */
    sk_ranks *ranks;         /* other processes that train along, each with a share of every batch; NULL: none. The
                              * result has the same bytes. All call sk_train alike; rank 0 writes the files */
    int max_bad;             /* more unreadable pictures end the run, 100 */
    char recipe[64];         /* name of the recipe that was read, "" if none: for run.json */
} sk_train_options;
/* The values above, which are those of the recipe `seed`. */
sk_train_options sk_train_defaults(sk_arch arch);

/* ---- options as text: recipe files, command line, sweeps -------------------------------------------------- */
typedef enum sk_key_type {
    SK_KEY_INT,
    SK_KEY_FLOAT,
    SK_KEY_FLAG,   /* yes or no */
    SK_KEY_CHOICE,
    SK_KEY_MODEL,  /* small or large */
    SK_KEY_SEED,   /* whole number up to 2^64 - 1 */
    SK_KEY_TEXT    /* a path */
} sk_key_type;
/* Sections of a recipe file; keys of SK_SECTION_RUN belong to one run and are in no recipe. */
typedef enum sk_key_section { SK_SECTION_RUN, SK_SECTION_TRAIN, SK_SECTION_AUGMENT } sk_key_section;
typedef struct sk_train_key {
    const char *name;     /* "lr", "augment.paste" */
    const char *option;   /* of the command line, without dashes: "lr", "augment-paste" */
    sk_key_section section;
    sk_key_type type;
    const char *argument; /* word for the value in help: "RATE"; NULL for flags */
    double least, most;   /* of SK_KEY_INT and SK_KEY_FLOAT */
    const char *choices;  /* "a|b" of SK_KEY_CHOICE and SK_KEY_MODEL, else NULL */
    const char *help;     /* one line, no full stop */
} sk_train_key;
/* All keys in the order of siskin/keys.h; NULL past the last. */
const sk_train_key *sk_train_key_at(size_t index);
/* Sets one key from text; ARGUMENT names an unknown key (with the nearest one) or a value out of range, and *options
 * stays as it was. The text of "pretrained" is kept by address and has to outlive the options. */
sk_status sk_train_options_set(sk_train_options *options, const char *name, const char *text, sk_error *err);
/* The value as text that sk_train_options_set takes, in `out` or, for words and paths, elsewhere. */
const char *sk_train_options_get(const sk_train_options *options, const sk_train_key *key, char out[32]);

/* ---- recipes ------------------------------------------------------------------------------------------------ */
/* Overrides what the recipe's text (docs/recipes.md) sets; FORMAT with "NAME:LINE: ..." leaves *options as it was. */
sk_status sk_recipe_parse(const char *text, size_t size, const char *name, sk_train_options *options, sk_error *err);
/* The same of a built-in recipe ("seed", "feeder", "qat") or of a file; options->recipe receives its name. */
sk_status sk_recipe_read(const char *name, sk_train_options *options, sk_error *err);
/* What a recipe keeps of the first weights is worth nothing in random ones: their batch norm has never seen a picture,
 * and a classifier learns nothing from their features. Without `pretrained` freeze_bn, head_epochs and equalise are
 * switched off, but for those that somebody asked for by name (`keep_bn` and so on). 1 if that changed anything. */
int sk_recipe_settle(sk_train_options *options, int keep_bn, int keep_head, int keep_equalise);
const char *sk_recipe_builtin(const char *name); /* its text, NULL: there is none */
const char *sk_recipe_name(size_t index);        /* of the built-in ones; NULL past the last */

typedef struct sk_epoch_log {
    int epoch; /* 1-based */
    double train_loss, train_accuracy, val_loss, val_accuracy, images_per_second, seconds;
    double lr; /* learning rate of the last step; 0: not known, in the log of an early version */
    int is_best;
} sk_epoch_log;
/* Called after each epoch's files are safely written. */
typedef void (*sk_epoch_hook)(void *user, const sk_epoch_log *log);

/* Creates `run_dir` with run.json, log.tsv, best.safetensors, last.safetensors and state.safetensors (weights, Adam's
 * moments, counters and log in one file, so that they belong together at any moment; docs/formats.md). Curves are
 * drawn by whoever owns the hook: see sk_train_log_read and sk_plot_curves. */
sk_status sk_train(const sk_dataset *dataset, const char *run_dir, const sk_train_options *options,
                   const sk_hooks *hooks, sk_epoch_hook on_epoch, void *epoch_user, sk_error *err);

/* A sheet to look at a recipe's augmentation, nothing is trained: one row per picture, eight of them spread over the
 * train part, and in it what the network would get in ten epochs. `path` ends in .png or .jpg. */
sk_status sk_train_show(const sk_dataset *dataset, const sk_train_options *options, const char *path,
                        const sk_hooks *hooks, sk_error *err);

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
