/* SPDX-License-Identifier: Apache-2.0 */
/* Adam as torch.optim.Adam does it (no weight decay, no AMSGrad). Internal. */
#ifndef SK_TRAIN_ADAM_H
#define SK_TRAIN_ADAM_H

#include "net/engine.h"

typedef struct sk_adam {
    sk_model *model;
    size_t count;  /* tensors of the model */
    float **first; /* per tensor: mean of the gradient; NULL if the tensor is not trained */
    float **second;/* per tensor: mean of its square */
    uint64_t step; /* steps done */
    double lr, beta1, beta2, epsilon;
} sk_adam;

/* Moments (zero) for every tensor that `engine` has a gradient of. */
sk_status sk_adam_create(sk_model *model, const sk_engine *engine, double lr, sk_adam **out, sk_error *err);
void sk_adam_free(sk_adam *adam);
/* One step with the engine's gradients. */
sk_status sk_adam_step(sk_adam *adam, const sk_engine *engine, sk_error *err);
#endif
