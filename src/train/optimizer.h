/* SPDX-License-Identifier: Apache-2.0 */
/* How gradients move the weights: Adam, AdamW and SGD with Nesterov momentum as torch.optim computes them, the learning
 * rate of a step, and the moving average of the weights. Internal. */
#ifndef SK_TRAIN_OPTIMIZER_H
#define SK_TRAIN_OPTIMIZER_H

#include "net/engine.h"
#include "siskin/train.h"
#include "weights/weights.h"

typedef struct sk_update_options {
    sk_optimizer kind;
    double weight_decay; /* of tensors with more than one dimension: not of biases and batch norm */
    double momentum;     /* SGD */
    double ema;          /* 0: no average */
    uint64_t head_steps; /* first steps in which the features stand still; they start counting after them */
    int freeze_features; /* they never move */
    const sk_limits *limits; /* of the features; NULL: none. Used once these move, between step and average */
    int keep;                /* sk_limits_keep after every step */
    double range_penalty;    /* times lr: rate of sk_limits_pull */
    int threads;
} sk_update_options;

typedef struct sk_update {
    sk_model *model;
    sk_update_options options;
    size_t count;    /* tensors of the model */
    float **first;   /* per tensor: Adam's mean of the gradient, or SGD's momentum; NULL if the tensor is not trained */
    float **second;  /* per tensor: Adam's mean of its square; NULL with SGD */
    float **average; /* per tensor, running statistics too: moving average; NULL without `ema` */
    uint64_t step;   /* steps done */
} sk_update;

/* Everything zero but the averages, which begin as copies of the model's tensors. */
sk_status sk_update_create(sk_model *model, const sk_update_options *options, sk_update **out, sk_error *err);
void sk_update_free(sk_update *update);
/* One step with the engine's gradients at learning rate `lr`, then one of the average: average = d * average + (1 - d)
 * * weights, d = min(ema, (1 + step) / (10 + step)), so that the first steps do not drag the random start along. */
sk_status sk_update_step(sk_update *update, const sk_engine *engine, double lr, sk_error *err);
/* The arithmetic of it: `count` values of one tensor in their t-th step (from 1). decays: weight_decay is for them.
 * first, second: as in sk_update; second is not touched with SGD. */
void sk_update_values(const sk_update_options *options, int decays, uint64_t t, double lr, size_t count, float *w,
                      const float *gradient, float *first, float *second);
/* Exchanges the model's tensors and their averages; called twice it changes nothing. Without `ema` it does nothing. */
sk_status sk_update_swap(sk_update *update, sk_error *err);

/* Learning rate of step `step` (0-based, over the whole run): (step + 1) / warm-up steps of `lr` while it warms up,
 * then `lr`, or `lr` times half of 1 + cos(pi * share of the remaining steps that are done). */
double sk_learning_rate(const sk_train_options *options, uint64_t steps_per_epoch, uint64_t step);
#endif
