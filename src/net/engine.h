/* SPDX-License-Identifier: Apache-2.0 */
/* One training step of a model: forward with statistics of the batch or frozen ones, loss, backward. Internal. */
#ifndef SK_NET_ENGINE_H
#define SK_NET_ENGINE_H

#include "base/base.h"
#include "net/fake.h"
#include "net/sync.h"
#include "siskin/model.h"

typedef struct sk_engine sk_engine;

typedef struct sk_engine_options {
    int batch;           /* most pictures of a step */
    int threads;         /* 0: all cores; results do not depend on it */
    int freeze_features; /* features in evaluation mode, gradients of the classifier alone */
    float dropout;       /* 0..1 before the last linear layer */
    int freeze_bn;       /* batch norm uses and keeps its running statistics; gamma and beta are still trained */
    float label_smoothing; /* 0..1: share of the target that is spread over all classes */
    const float *class_weights; /* of the loss, one per class, positive; NULL: 1 each; copied */
    const sk_sync *sync; /* other processes that take every step along; NULL: none; outlives the engine */
    sk_fake *fake;       /* with freeze_bn: round as int8 does; receives the gradients of the ranges; NULL: not;
                          * outlives the engine */
    float distill;       /* 0..1: share of the divergence from the teacher in the loss of a step that has one */
} sk_engine_options;

/* Allocates all activations and gradients. The model outlives the engine; running statistics are updated in it. */
sk_status sk_engine_create(sk_model *model, const sk_engine_options *options, sk_engine **out, sk_error *err);
void sk_engine_free(sk_engine *engine);
/* images: n x size x size x 3 RGB bytes, labels: n class indices. Mean cross-entropy (over the weights) in *loss, count
 * of right top-1 in *correct; dropout masks are a function of `seed`. Gradients are overwritten. With other processes,
 * images outside this one's share (sk_sync_share) are not read; labels are those of the whole batch. */
sk_status sk_engine_step(sk_engine *engine, const uint8_t *images, const int *labels, int n, uint64_t seed,
                         double *loss, int *correct, sk_error *err);
/* Logits that the next steps are also held against, n x classes as their pictures; NULL: none. Kept by address. */
void sk_engine_teach(sk_engine *engine, const float *logits);
/* Logits n x classes of the network that is trained, rounded if the steps are; needs freeze_bn. n: at most a batch. */
sk_status sk_engine_predict(sk_engine *engine, const uint8_t *images, int n, float *logits, sk_error *err);
/* Gradient of tensor `index` (sk_model_tensor's order, same layout); NULL if it is not trained. */
const float *sk_engine_gradient(const sk_engine *engine, size_t index);
#endif
