/* SPDX-License-Identifier: Apache-2.0 */
/* The float face of the training step. */
#include "net/engine.h"

#include "net/model.h"
#include "net/step.h"

struct sk_engine {
    sk_step *step;
};

sk_status sk_engine_create(sk_model *model, const sk_engine_options *options, sk_engine **out, sk_error *err) {
    const sk_step_options inner = {.batch = options->batch,
                                   .threads = options->threads,
                                   .freeze_features = options->freeze_features,
                                   .freeze_bn = options->freeze_bn,
                                   .dropout = (double)options->dropout,
                                   .label_smoothing = (double)options->label_smoothing,
                                   .class_weight = options->class_weights,
                                   .sync = options->sync,
                                   .fake = options->fake,
                                   .distill = (double)options->distill};
    sk_engine *engine = sk_calloc(1, sizeof *engine);
    sk_status status;

    *out = NULL;
    if (!engine) return sk_fail_memory(err, "the training engine");
    sk_model_share(model);
    status = sk_step_create(sk_model_net(model), &inner, &engine->step, err);
    if (status == SK_OK) *out = engine;
    else sk_free(engine);
    return status;
}

void sk_engine_free(sk_engine *engine) {
    if (engine) sk_step_free(engine->step);
    sk_free(engine);
}

sk_status sk_engine_step(sk_engine *engine, const uint8_t *images, const int *labels, int n, uint64_t seed,
                         double *loss, int *correct, sk_error *err) {
    return sk_step_run(engine->step, images, labels, n, seed, loss, correct, err);
}

void sk_engine_teach(sk_engine *engine, const float *logits) { engine->step->teacher = logits; }

sk_status sk_engine_predict(sk_engine *engine, const uint8_t *images, int n, float *logits, sk_error *err) {
    return sk_step_predict(engine->step, images, n, logits, err);
}

const float *sk_engine_gradient(const sk_engine *engine, size_t index) {
    return index < (size_t)SK_MAX_PARAMS ? sk_step_gradient(engine->step, (int)index) : NULL;
}
