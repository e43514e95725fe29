/* SPDX-License-Identifier: Apache-2.0 */
/* The scalars of a step are computed in double and rounded once, as PyTorch does, and each value is updated on its own,
 * so that the result depends neither on threads nor on how the tensors are cut. */
#include "train/optimizer.h"

#include <math.h>
#include <string.h>

#include "kernels/kernels.h"

/* Pieces of a tensor for the threads: a multiple of every vector length, so that a piece has no rest of its own. */
enum { PIECE = 1 << 15 };
static const double BETA1 = 0.9, BETA2 = 0.999, EPSILON = 1e-8;

static int is_feature(const sk_tensor *tensor) { return strncmp(tensor->name, "features.", 9) == 0; }

/* ---- memory ------------------------------------------------------------------------------------------------- */
static sk_status create_tensor(sk_update *u, size_t i, sk_error *err) {
    sk_tensor tensor;
    const sk_status status = sk_model_tensor(u->model, i, &tensor, err);
    if (status != SK_OK) return status;
    const int moves = tensor.trainable && !(u->options.freeze_features && is_feature(&tensor));
    int failed = 0;
    if (moves) failed |= !(u->first[i] = sk_calloc(tensor.count, sizeof(float)));
    if (moves && u->options.kind != SK_OPTIMIZER_SGD)
        failed |= !(u->second[i] = sk_calloc(tensor.count, sizeof(float)));
    if (u->options.ema > 0) {
        u->average[i] = sk_alloc(tensor.count, sizeof(float));
        if (u->average[i]) memcpy(u->average[i], tensor.data, tensor.count * sizeof(float));
        else failed = 1;
    }
    return failed ? sk_fail_memory(err, "the optimiser") : SK_OK;
}

sk_status sk_update_create(sk_model *model, const sk_update_options *options, sk_update **out, sk_error *err) {
    *out = NULL;
    sk_update *u = sk_calloc(1, sizeof *u);
    if (!u) return sk_fail_memory(err, "the optimiser");
    *u = (sk_update){.model = model, .options = *options, .count = sk_model_tensor_count(model)};
    u->first = sk_calloc(u->count, sizeof *u->first);
    u->second = sk_calloc(u->count, sizeof *u->second);
    u->average = sk_calloc(u->count, sizeof *u->average);
    sk_status status = u->first && u->second && u->average ? SK_OK : sk_fail_memory(err, "the optimiser");
    for (size_t i = 0; status == SK_OK && i < u->count; i++) status = create_tensor(u, i, err);
    if (status == SK_OK) *out = u;
    else sk_update_free(u);
    return status;
}

void sk_update_free(sk_update *u) {
    if (!u) return;
    float **const lists[] = {u->first, u->second, u->average};
    for (size_t l = 0; l < 3; l++) {
        for (size_t i = 0; lists[l] && i < u->count; i++) sk_free(lists[l][i]);
        sk_free(lists[l]);
    }
    sk_free(u);
}

/* ---- one step ------------------------------------------------------------------------------------------------ */
static void sgd(double lr, float decay, float momentum, size_t count, float *w, const float *gradient,
                float *velocity) {
    for (size_t i = 0; i < count; i++) {
        const float g = gradient[i] + decay * w[i];
        velocity[i] = momentum * velocity[i] + g;
        w[i] -= (float)lr * (g + momentum * velocity[i]);
    }
}

void sk_update_values(const sk_update_options *o, int decays, uint64_t t, double lr, size_t count, float *w,
                      const float *gradient, float *first, float *second) {
    const double decay = decays ? o->weight_decay : 0, steps = (double)t;
    if (o->kind == SK_OPTIMIZER_SGD) {
        sgd(lr, (float)decay, (float)o->momentum, count, w, gradient, first);
        return;
    }
    const float shrink = (float)(1 - lr * decay);
    if (o->kind == SK_OPTIMIZER_ADAMW && shrink != 1)
        for (size_t k = 0; k < count; k++) w[k] *= shrink;
    sk_kernels_get()->adam(count, w, gradient, first, second, (float)BETA1, (float)BETA2,
                           (float)(lr / (1 - pow(BETA1, steps))), (float)(1 / sqrt(1 - pow(BETA2, steps))),
                           (float)EPSILON);
}

/* Whom a pass over the tensors calls. */
typedef void (*tensor_work)(const sk_update *u, size_t i, const sk_tensor *tensor, const float *gradient, double by);

static sk_status all_tensors(sk_update *u, const sk_engine *engine, tensor_work work, double by, sk_error *err) {
    for (size_t i = 0; i < u->count; i++) {
        sk_tensor tensor;
        const sk_status status = sk_model_tensor(u->model, i, &tensor, err);
        if (status != SK_OK) return status;
        work(u, i, &tensor, u->first[i] ? sk_engine_gradient(engine, i) : NULL, by);
    }
    return SK_OK;
}

static void step_tensor(const sk_update *u, size_t i, const sk_tensor *tensor, const float *gradient, double lr) {
    const long pieces = (long)((tensor->count + PIECE - 1) / PIECE);
    const int threads = pieces < u->options.threads ? (int)pieces : u->options.threads;
    if (!gradient) return;
    /* Features that stood still have no past that Adam's bias correction could know of. */
    const uint64_t t = is_feature(tensor) ? u->step - u->options.head_steps : u->step;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (long p = 0; p < pieces; p++) {
        const size_t at = (size_t)p * PIECE, left = tensor->count - at, count = left < PIECE ? left : PIECE;
        float *second = u->second[i] ? u->second[i] + at : NULL;
        sk_update_values(&u->options, tensor->rank > 1, t, lr, count, tensor->data + at, gradient + at,
                         u->first[i] + at, second);
    }
}

static void average_tensor(const sk_update *u, size_t i, const sk_tensor *tensor, const float *gradient, double by) {
    const float keep = (float)by;
    float *average = u->average[i];
    (void)gradient;
    for (size_t k = 0; average && k < tensor->count; k++) average[k] = keep * average[k] + (1 - keep) * tensor->data[k];
}

/* Weights back towards their limits, or into them. */
static void limit(const sk_update *u, double lr) {
    const sk_update_options *o = &u->options;
    if (!o->limits || o->freeze_features || u->step <= o->head_steps) return;
    if (o->range_penalty > 0) sk_limits_pull(o->limits, lr * o->range_penalty);
    if (o->keep) sk_limits_keep(o->limits);
}

sk_status sk_update_step(sk_update *u, const sk_engine *engine, double lr, sk_error *err) {
    u->step++;
    const double t = (double)u->step;
    sk_status status = all_tensors(u, engine, step_tensor, lr, err);
    if (status != SK_OK) return status;
    limit(u, lr);
    return u->options.ema > 0 ? all_tensors(u, engine, average_tensor, fmin(u->options.ema, (1 + t) / (10 + t)), err)
                              : SK_OK;
}

sk_status sk_update_swap(sk_update *u, sk_error *err) {
    for (size_t i = 0; i < u->count; i++) {
        sk_tensor tensor;
        if (!u->average[i]) continue;
        const sk_status status = sk_model_tensor(u->model, i, &tensor, err);
        if (status != SK_OK) return status;
        for (size_t k = 0; k < tensor.count; k++) {
            const float kept = tensor.data[k];
            tensor.data[k] = u->average[i][k];
            u->average[i][k] = kept;
        }
    }
    return SK_OK;
}

/* ---- learning rate ------------------------------------------------------------------------------------------ */
double sk_learning_rate(const sk_train_options *o, uint64_t steps_per_epoch, uint64_t step) {
    const double lr = (double)o->lr, warm = floor((double)o->warmup * (double)steps_per_epoch + 0.5);
    const double at = (double)step, all = (double)o->epochs * (double)steps_per_epoch;
    if (at < warm) return lr * (at + 1) / warm;
    if (o->schedule == SK_SCHEDULE_CONSTANT || all <= warm) return lr;
    return lr * 0.5 * (1 + cos(M_PI * (at - warm) / (all - warm)));
}
