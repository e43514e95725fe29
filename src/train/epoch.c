/* SPDX-License-Identifier: Apache-2.0 */
/* One epoch: the steps over the training part, the validation, and the watch over a loss that runs away. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "net/model.h"
#include "train/job.h"

enum { STREAM_DROPOUT = 0xd209 };

/* ---- the engine of an epoch ---------------------------------------------------------------------------------- */
sk_status sk_job_engine(sk_job *j, int epoch, sk_error *err) {
    const sk_train_options *o = &j->options;
    const int head = o->freeze_features || epoch <= o->head_epochs;
    if (j->engine && j->engine_head == head) return SK_OK;
    sk_engine_free(j->engine);
    float weights[SK_CLASS_COUNT];
    for (int c = 0; c < SK_CLASS_COUNT; c++) weights[c] = (float)(1 / (SK_CLASS_COUNT * sk_loader_share(j->train, c)));
    const sk_engine_options engine = {.batch = o->batch,
                                      .threads = o->threads,
                                      .freeze_features = head,
                                      .freeze_bn = o->freeze_bn,
                                      .dropout = o->dropout,
                                      .label_smoothing = o->label_smoothing,
                                      .sync = j->sync,
                                      .fake = j->qat ? &j->qat->fake : NULL,
                                      .distill = j->qat ? o->distill : 0,
                                      .class_weights = o->balance == SK_BALANCE_WEIGHTS ? weights : NULL};
    j->engine_head = head;
    return sk_ranks_agree(o->ranks, sk_engine_create(j->model, &engine, &j->engine, err), err);
}

/* ---- sentences ----------------------------------------------------------------------------------------------- */
static sk_status cancelled(const sk_job *j, sk_error *err) {
    if (j->state.epoch == 0)
        return sk_fail(err, SK_ERR_CANCELLED, "stopped in epoch 1, nothing is saved yet; --resume begins again");
    return sk_fail(err, SK_ERR_CANCELLED, "stopped in epoch %d; %s holds epoch %d, go on with --resume",
                   j->state.epoch + 1, j->dir, j->state.epoch);
}

static void kept_text(const sk_job *j, char *out, size_t size) {
    if (j->state.epoch == 0) snprintf(out, size, "no epoch was finished");
    else
        snprintf(out, size, "%s keeps the weights of epoch %d, and as best those of epoch %d", j->dir, j->state.epoch,
                 j->state.best_epoch);
}

sk_status sk_job_lost(const sk_job *j, sk_status status, sk_error *err) {
    if (!err) return status;
    if (j->state.epoch == 0)
        return sk_fail(err, status, "%s; nothing is saved yet, --resume begins again", err->message);
    return sk_fail(err, status, "%s; %s holds epoch %d, go on with --resume", err->message, j->dir, j->state.epoch);
}

static sk_status not_finite(const sk_job *j, const char *when, const char *what, const char *where, sk_error *err) {
    char kept[256];
    kept_text(j, kept, sizeof kept);
    return sk_fail(err, SK_ERR_DATA, "epoch %d, %s: %s is not a finite number%s%s; try a smaller --lr than %g or a "
                   "longer --warmup (%s)", j->state.epoch + 1, when, what, where[0] ? ", first in " : "", where,
                   (double)j->options.lr, kept);
}

static sk_status bad_loss(const sk_job *j, const char *when, const sk_batch *batch, sk_error *err) {
    char where[160];
    const size_t picture = (size_t)j->options.card.size * (size_t)j->options.card.size * 3;
    int first, last;
    sk_sync_share(j->sync, batch->n, &first, &last);
    const sk_status status = sk_model_find_bad(j->model, batch->images + (size_t)first * picture, last - first,
                                               j->options.threads, where, sizeof where, err);
    return status == SK_OK ? not_finite(j, when, "the loss", where, err) : status;
}

/* Weights that are no numbers are not kept, even if the loss does not show them. */
static sk_status check_weights(const sk_job *j, sk_error *err) {
    char where[160];
    const sk_status status = sk_model_find_bad(j->model, NULL, 0, 1, where, sizeof where, err);
    return status == SK_OK && where[0] ? not_finite(j, "after the last step", "a weight", where, err) : status;
}

/* Ten times the loss of guessing is a network that is certain and wrong. Two whole epochs of it are no bad start that
 * passes: a network with such weights does not come back. */
static sk_status check_hopeless(const sk_job *j, const sk_epoch_log *row, sk_error *err) {
    const double limit = 10 * log(SK_CLASS_COUNT);
    char kept[256];
    if (row->train_loss <= limit || j->state.epoch == 0) return SK_OK;
    if (j->state.log[j->state.epoch - 1].train_loss <= limit) return SK_OK;
    kept_text(j, kept, sizeof kept);
    return sk_fail(err, SK_ERR_DATA,
                   "epoch %d: the training loss, now %.3g, is above %.1f for the second epoch, ten "
                   "times that of guessing; try a smaller --lr than %g or a longer --warmup (%s)",
                   row->epoch, row->train_loss, limit, (double)j->options.lr, kept);
}

/* The next batch, unless the user wants to stop or a rank could not make its share. */
static sk_status next_batch(sk_job *j, sk_loader *loader, sk_batch *batch, sk_error *err) {
    const sk_status own = sk_cancelled(j->hooks) ? cancelled(j, err) : sk_loader_next(loader, batch, err);
    return sk_ranks_agree(j->options.ranks, own, err);
}

/* ---- training ------------------------------------------------------------------------------------------------ */
/* The teacher sees what the network sees. */
static sk_status teach(sk_job *j, const sk_batch *batch, sk_error *err) {
    const size_t picture = (size_t)j->options.card.size * (size_t)j->options.card.size * 3;
    int first, last;
    sk_sync_share(j->sync, batch->n, &first, &last);
    const sk_status status = sk_qat_teach(j->qat, j->engine, batch->images + (size_t)first * picture, first, last,
                                          j->options.threads, err);
    return sk_ranks_agree(j->options.ranks, status, err);
}

static sk_status train_step(sk_job *j, uint64_t step, uint64_t drop, const sk_batch *batch, double lr, double *loss,
                            int *correct, sk_error *err) {
    char when[32];
    sk_status status = SK_OK;
    if (j->qat && j->options.distill > 0) status = teach(j, batch, err);
    if (status != SK_OK) return status;
    status = sk_engine_step(j->engine, batch->images, batch->labels, batch->n, drop, loss, correct, err);
    if (status != SK_OK) return status;
    if (isfinite(*loss)) {
        if (j->qat) sk_qat_move(j->qat, lr / (double)j->options.lr * (double)j->options.qat_lr);
        return sk_update_step(j->update, j->engine, lr, err);
    }
    snprintf(when, sizeof when, "step %llu", (unsigned long long)step + 1);
    return bad_loss(j, when, batch, err);
}

static sk_status train_part(sk_job *j, sk_epoch_log *row, sk_error *err) {
    char stage[64];
    const size_t total = sk_loader_size(j->train) + sk_loader_size(j->val);
    const uint64_t stream = (uint64_t)STREAM_DROPOUT << 32 | (uint32_t)row->epoch, steps = sk_loader_steps(j->train);
    size_t done = 0, right = 0;
    double loss_sum = 0;
    snprintf(stage, sizeof stage, "epoch %d/%d", row->epoch, j->options.epochs);
    sk_loader_start(j->train, row->epoch);
    for (uint64_t step = 0;; step++) {
        sk_batch batch;
        double loss = 0;
        int correct = 0;
        sk_status status = next_batch(j, j->train, &batch, err);
        if (status != SK_OK) return status;
        if (batch.n == 0) break;
        row->lr = sk_learning_rate(&j->options, steps, (uint64_t)(row->epoch - 1) * steps + step);
        const uint64_t drop = sk_rng_make(j->options.seed, stream, step).state;
        status = train_step(j, step, drop, &batch, row->lr, &loss, &correct, err);
        if (status != SK_OK) return status;
        loss_sum += loss * batch.n;
        right += (size_t)correct;
        done += (size_t)batch.n;
        sk_progress(j->hooks, stage, "images", done, total);
    }
    row->train_loss = loss_sum / (double)done;
    row->train_accuracy = (double)right / (double)done;
    row->images_per_second = (double)done; /* the caller divides by the time */
    return SK_OK;
}

/* ---- validation ---------------------------------------------------------------------------------------------- */
static double cross_entropy(const float *logits, int label, int *right) {
    double most = logits[0], sum = 0;
    int top = 0;
    for (int c = 1; c < SK_CLASS_COUNT; c++)
        if (logits[c] > logits[top]) top = c;
    most = logits[top];
    for (int c = 0; c < SK_CLASS_COUNT; c++) sum += exp((double)logits[c] - most);
    *right = top == label;
    return log(sum) + most - (double)logits[label];
}

/* Logits of the network as it will be used: with its values rounded, if that is what is trained. */
static sk_status answer(sk_job *j, const uint8_t *images, int n, float *logits, sk_error *err) {
    if (j->qat) return sk_engine_predict(j->engine, images, n, logits, err);
    return sk_model_forward(j->model, images, n, j->options.threads, logits, NULL, NULL, NULL, err);
}

/* Each rank runs its share; all get the logits of all. */
static sk_status forward(sk_job *j, const sk_batch *batch, float *logits, sk_error *err) {
    const size_t picture = (size_t)j->options.card.size * (size_t)j->options.card.size * 3;
    sk_status status = SK_OK;
    int first, last;
    sk_sync_share(j->sync, batch->n, &first, &last);
    if (last > first)
        status = answer(j, batch->images + (size_t)first * picture, last - first,
                        logits + (size_t)first * SK_CLASS_COUNT, err);
    status = sk_ranks_agree(j->options.ranks, status, err);
    if (status != SK_OK) return status;
    return sk_sync_gather_pictures(j->sync, logits, batch->n, SK_CLASS_COUNT * sizeof *logits, err);
}

static sk_status validate(sk_job *j, sk_epoch_log *row, sk_error *err) {
    char stage[64];
    const size_t total = sk_loader_size(j->train) + sk_loader_size(j->val);
    size_t done = 0, right = 0;
    double loss = 0;
    snprintf(stage, sizeof stage, "epoch %d/%d", row->epoch, j->options.epochs);
    sk_loader_start(j->val, 0);
    for (;;) {
        sk_batch batch;
        sk_status status = next_batch(j, j->val, &batch, err);
        if (status != SK_OK) return status;
        if (batch.n == 0) break;
        float *logits = j->logits + done * SK_CLASS_COUNT;
        status = forward(j, &batch, logits, err);
        if (status != SK_OK) return status;
        memcpy(j->labels + done, batch.labels, (size_t)batch.n * sizeof *j->labels);
        for (int i = 0; i < batch.n; i++) {
            int hit = 0;
            loss += cross_entropy(logits + (size_t)i * SK_CLASS_COUNT, batch.labels[i], &hit);
            right += (size_t)hit;
        }
        if (!isfinite(loss)) return bad_loss(j, "validation", &batch, err);
        done += (size_t)batch.n;
        /* The last batch is told by on_epoch: one bar and one line per epoch. */
        if (done < sk_loader_size(j->val))
            sk_progress(j->hooks, stage, "images", sk_loader_size(j->train) + done, total);
    }
    row->val_loss = loss / (double)done;
    row->val_accuracy = (double)right / (double)done;
    sk_card card = *sk_model_card(j->model);
    const sk_status status = sk_fit_temperature(j->logits, j->labels, done, SK_CLASS_COUNT, &card.temperature, err);
    sk_model_set_card(j->model, &card); /* travels with this epoch's weights */
    return status;
}

sk_status sk_job_epoch(sk_job *j, sk_epoch_log *row, sk_error *err) {
    const double start = sk_now();
    sk_status status = sk_job_engine(j, row->epoch, err);
    if (status == SK_OK && j->qat) status = sk_qat_renew(j->qat, j->model, j->options.threads, err);
    if (status == SK_OK) status = train_part(j, row, err);
    if (status == SK_OK) status = check_weights(j, err);
    if (status == SK_OK) status = check_hopeless(j, row, err);
    if (status != SK_OK) return status;
    row->images_per_second /= fmax(sk_now() - start, 1e-9);
    status = sk_update_swap(j->update, err);
    if (status == SK_OK) status = validate(j, row, err);
    if (status == SK_OK) status = sk_update_swap(j->update, err);
    row->seconds = sk_now() - start;
    return status;
}
