/* SPDX-License-Identifier: Apache-2.0 */
/* What an evaluation keeps. The statistics work on this alone, so that they are tested on handmade outcomes without a
 * network or a dataset. */
#ifndef SK_EVALUATION_H
#define SK_EVALUATION_H

#include "siskin/eval.h"

typedef struct sk_scored {
    double score;
    int bird; /* label */
} sk_scored;

struct sk_evaluation {
    sk_eval_options options;
    size_t n;
    sk_outcome *outcomes;
    sk_sample *samples; /* copies, in the order of the outcomes; their texts belong to the dataset */
    float *features;    /* n x feature_count or NULL */
    int feature_count;
    float *logits; /* n x 2 of the centre crop or NULL */
    sk_scored *scratch;            /* room to sort all outcomes, so that metrics cannot fail; one thread at a time */
    size_t unlabelled, unreadable; /* pictures of the split that were left out */
    double seconds;                /* spent in preparing and running */
};

/* Room for `capacity` outcomes, n = 0. */
sk_status sk_evaluation_create(const sk_eval_options *options, size_t capacity, int feature_count, sk_evaluation **out,
                               sk_error *err);

/* By rising score. */
void sk_scored_sort(sk_scored *list, size_t n);
/* How many pictures of each label have p (of the kept logits at `temperature`) of at least `threshold`: false alarms
 * and birds that are found. */
void sk_evaluation_called(const sk_evaluation *evaluation, float temperature, float threshold,
                          size_t called[SK_CLASS_COUNT]);
/* ARGUMENT unless 0 <= share < 1. */
sk_status sk_false_alarms_check(double share, sk_error *err);

/* The verdict is not the label. */
int sk_evaluation_is_wrong(const sk_evaluation *evaluation, size_t index);
/* How certain a verdict is: distance of its score to the threshold. */
double sk_evaluation_margin(const sk_evaluation *evaluation, size_t index);

#endif
