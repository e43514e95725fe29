/* SPDX-License-Identifier: Apache-2.0 */
/* Quantisation-aware training: what a run has besides the float network when its values are rounded as int8 does. The
 * rounding itself is net/fake.h. Internal. */
#ifndef SK_TRAIN_QAT_H
#define SK_TRAIN_QAT_H

#include "formats/tensors.h"
#include "net/engine.h"
#include "net/model.h"
#include "siskin/dataset.h"
#include "siskin/quant.h"
#include "siskin/train.h"

enum { SK_QAT_PICTURES = 100 }; /* that ranges are looked for on */

typedef struct sk_qat {
    sk_qat_scheme scheme;
    sk_fake fake;
    sk_model *teacher;   /* the float model that the run began with */
    float *answers;      /* [batch][classes], the teacher's */
    sk_quant_pictures pictures;
    size_t layers;
    /* Ends of the ranges: low and high of each layer are base * part. Adam moves the parts, so that one learning rate
     * serves ranges of any size. */
    float base[SK_MAX_LAYERS][2], part[SK_MAX_LAYERS][2], first[SK_MAX_LAYERS][2], second[SK_MAX_LAYERS][2];
    uint64_t step;
    sk_ranges ranges; /* base * part, and the channels' factors */
} sk_qat;

/* Reads the float model at options->pretrained, which also is the teacher, and takes its card over into *options. */
sk_status sk_qat_open(sk_train_options *options, sk_qat **out, sk_error *err);
void sk_qat_close(sk_qat *qat);
/* Draws the pictures from the train part. */
sk_status sk_qat_draw(sk_qat *qat, const sk_dataset *dataset, const sk_cache *cache, const sk_train_options *options,
                      const sk_hooks *hooks, sk_error *err);
/* Ranges of a run's beginning; those of the NPU come with the first epoch. */
sk_status sk_qat_begin(sk_qat *qat, sk_model *model, int threads, sk_error *err);
/* NPU, at the start of an epoch: what the converter would find on the pictures now. */
sk_status sk_qat_renew(sk_qat *qat, sk_model *model, int threads, sk_error *err);
/* Before a step: the teacher's answers go to the engine. After it: the ends follow their gradients. */
/* images: those of pictures first..last-1 of the batch. */
sk_status sk_qat_teach(sk_qat *qat, sk_engine *engine, const uint8_t *images, int first, int last, int threads,
                       sk_error *err);
void sk_qat_move(sk_qat *qat, double lr);
/* The ranges go into the model, to be written with it. */
sk_status sk_qat_publish(const sk_qat *qat, sk_model *model, sk_error *err);
/* What a resumed run needs, as tensors of its state. */
sk_status sk_qat_save(const sk_qat *qat, sk_tensor_file *file, sk_error *err);
sk_status sk_qat_load(sk_qat *qat, const sk_tensor_file *file, const char *path, sk_error *err);

/* ---- observe.c ---------------------------------------------------------------------------------------------- */
typedef struct sk_observed {
    float all[SK_MAX_LAYERS][2];    /* smallest and largest value that a layer wrote, 0 included */
    float best[SK_MAX_LAYERS][2];   /* range of least squared error */
    float before[SK_MAX_LAYERS][2]; /* linear layers: as `all`, before the activation */
    float *highest[SK_MAX_LAYERS];  /* per channel of a layer that depthwise layers alone read: largest magnitude */
    float *equal[SK_MAX_LAYERS];    /* its factors, if they are asked for; `all` and `best` are then after division */
} sk_observed;
/* How much of it is wanted: one pass over the pictures for `all`, `before` and `highest`; another for `best`; with
 * channels equalised ahead of that one. */
typedef enum sk_observe_what { SK_OBSERVE_ENDS, SK_OBSERVE_BEST, SK_OBSERVE_EQUAL } sk_observe_what;
/* Runs the float model on the pictures. */
sk_status sk_observe(sk_model *model, const sk_quant_pictures *pictures, int threads, sk_observe_what what,
                     sk_observed *out, sk_error *err);
void sk_observed_free(sk_observed *observed);

/* ---- equalise.c --------------------------------------------------------------------------------------------- */
/* Channels of tensors that depthwise layers alone read, and that reach beyond `highest` on the pictures, reach that far
 * afterwards; *channels receives how many they were. */
sk_status sk_equalise_channels(sk_model *model, const sk_quant_pictures *pictures, float highest, int threads,
                               size_t *channels, sk_error *err);
#endif
