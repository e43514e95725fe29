/* SPDX-License-Identifier: Apache-2.0 */
/* Adam: the scalars of a step are computed in double and rounded once, as PyTorch does, and each value is updated
 * on its own, so that the result depends neither on threads nor on how the tensors are cut. */
#include "train/adam.h"

#include <math.h>

#include "kernels/kernels.h"

sk_status sk_adam_create(sk_model *model, const sk_engine *engine, double lr, sk_adam **out, sk_error *err) {
    *out = NULL;
    sk_adam *adam = sk_calloc(1, sizeof *adam);
    if (!adam) return sk_fail_memory(err, "the optimiser");
    *adam = (sk_adam){.model = model, .count = sk_model_tensor_count(model), .lr = lr, .beta1 = 0.9, .beta2 = 0.999,
                      .epsilon = 1e-8};
    sk_status status = SK_OK;
    adam->first = sk_calloc(adam->count, sizeof *adam->first);
    adam->second = sk_calloc(adam->count, sizeof *adam->second);
    if (!adam->first || !adam->second) status = sk_fail_memory(err, "the optimiser");
    for (size_t i = 0; status == SK_OK && i < adam->count; i++) {
        sk_tensor tensor;
        if (!sk_engine_gradient(engine, i)) continue;
        status = sk_model_tensor(model, i, &tensor, err);
        if (status != SK_OK) break;
        adam->first[i] = sk_calloc(tensor.count, sizeof(float));
        adam->second[i] = sk_calloc(tensor.count, sizeof(float));
        if (!adam->first[i] || !adam->second[i]) status = sk_fail_memory(err, "the optimiser's moments");
    }
    if (status == SK_OK)
        *out = adam;
    else
        sk_adam_free(adam);
    return status;
}

void sk_adam_free(sk_adam *adam) {
    if (!adam) return;
    for (size_t i = 0; i < adam->count; i++) {
        if (adam->first) sk_free(adam->first[i]);
        if (adam->second) sk_free(adam->second[i]);
    }
    sk_free(adam->first);
    sk_free(adam->second);
    sk_free(adam);
}

sk_status sk_adam_step(sk_adam *adam, const sk_engine *engine, sk_error *err) {
    adam->step++;
    const double t = (double)adam->step;
    const float step_size = (float)(adam->lr / (1.0 - pow(adam->beta1, t)));
    const float inv_root = (float)(1.0 / sqrt(1.0 - pow(adam->beta2, t)));
    const sk_kernels *kernels = sk_kernels_get();
    for (size_t i = 0; i < adam->count; i++) {
        const float *gradient = sk_engine_gradient(engine, i);
        sk_tensor tensor;
        if (!gradient || !adam->first[i]) continue;
        const sk_status status = sk_model_tensor(adam->model, i, &tensor, err);
        if (status != SK_OK) return status;
        kernels->adam(tensor.count, tensor.data, gradient, adam->first[i], adam->second[i], (float)adam->beta1,
                      (float)adam->beta2, step_size, inv_root, (float)adam->epsilon);
    }
    return SK_OK;
}
