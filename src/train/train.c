/* SPDX-License-Identifier: Apache-2.0 */
/* The training loop. After every epoch state.safetensors is written first and holds everything; the other files follow
 * from it. Whatever moment a run is killed at, the folder therefore holds one whole epoch, and --resume repeats what
 * came after it with the same random numbers, since these are functions of the seed, the epoch and the step. */
#include "siskin/train.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "train/keys.h"
#include "train/run.h"

enum { STREAM_DROPOUT = 0xd209, VAL_BATCH = 64 };

typedef struct job {
    const sk_dataset *dataset;
    const char *dir;
    sk_train_options options;
    const sk_hooks *hooks;
    sk_cache *cache;
    sk_loader *train, *val;
    sk_model *model;
    sk_engine *engine;
    sk_adam *adam;
    sk_run_state state;
    float *logits; /* of the validation part */
    int *labels;
    char fingerprint[17], pretrained_hash[17], id[17];
} job;

sk_train_options sk_train_defaults(sk_arch arch) {
    return (sk_train_options){.card = sk_card_default(arch), .epochs = 100, .batch = 128, .lr = 1e-4f, .dropout = 0.2f,
                              .momentum = 0.9f, .clip_repeat = 1, .augment = sk_augment_seed(), .seed = 1,
                              .max_bad = 100};
}

static sk_status check_folder(const job *j, int *has_state, sk_error *err) {
    char *json = sk_path_join(j->dir, SK_RUN_JSON), *state = sk_path_join(j->dir, SK_RUN_STATE);
    sk_status status = SK_OK;
    *has_state = 0;
    if (!json || !state) {
        status = sk_fail_memory(err, "a path");
    } else if (j->options.resume) {
        *has_state = sk_path_exists(state);
        if (!*has_state && !sk_path_exists(json))
            status = sk_fail(err, SK_ERR_ARGUMENT, "there is no run to resume in %s; leave out --resume to begin one",
                             j->dir);
    } else if (sk_path_exists(json) || sk_path_exists(state)) {
        status = sk_fail(err, SK_ERR_ARGUMENT, "%s already holds a run; give --resume to go on with it, or another "
                         "folder", j->dir);
    }
    sk_free(json);
    sk_free(state);
    return status;
}

static sk_status check_data(const job *j, sk_error *err) {
    const char *dir = sk_dataset_dir(j->dataset);
    const size_t count = sk_loader_size(j->train);
    if (count == 0)
        return sk_fail(err, SK_ERR_DATA, "%s has no labelled picture in its train part; divide it with "
                       "`siskin split %s --ratio 6:2:2`", dir, dir);
    for (int label = 0; label < SK_CLASS_COUNT; label++)
        if (sk_loader_class_size(j->train, label) == 0)
            return sk_fail(err, SK_ERR_DATA, "the train part of %s has no picture of class %s; both classes are needed",
                           dir, sk_label_name((sk_label)label));
    if (sk_loader_size(j->val) == 0)
        return sk_fail(err, SK_ERR_DATA, "%s has no val part; make one with `siskin split %s --ratio 6:2:2`", dir, dir);
    if ((size_t)j->options.batch > count)
        return sk_fail(err, SK_ERR_ARGUMENT, "--batch %d is more than the %zu pictures of the train part; give at most "
                       "--batch %zu", j->options.batch, count, count);
    return SK_OK;
}

static sk_status open_data(job *j, sk_error *err) {
    size_t bad = 0;
    sk_status status = sk_cache_open(j->dataset, j->options.max_bad, j->options.threads, j->hooks, &j->cache, &bad,
                                     err);
    if (status != SK_OK) return status;
    if (bad) sk_log(j->hooks, SK_LOG_WARNING, "%zu unreadable pictures are left out", bad);
    sk_loader_options options = {.split = SK_SPLIT_TRAIN, .train = 1, .batch = j->options.batch,
                                 .size = j->options.card.size, .threads = j->options.threads,
                                 .clip_repeat = j->options.clip_repeat, .augment = j->options.augment,
                                 .seed = j->options.seed};
    status = sk_loader_create(j->dataset, j->cache, &options, &j->train, err);
    if (status != SK_OK) return status;
    options.split = SK_SPLIT_VAL;
    options.train = 0;
    if (options.batch > VAL_BATCH) options.batch = VAL_BATCH;
    status = sk_loader_create(j->dataset, j->cache, &options, &j->val, err);
    if (status != SK_OK) return status;
    const size_t count = sk_loader_size(j->val);
    j->logits = sk_calloc(count ? count : 1, SK_CLASS_COUNT * sizeof *j->logits);
    j->labels = sk_calloc(count ? count : 1, sizeof *j->labels);
    return j->logits && j->labels ? check_data(j, err) : sk_fail_memory(err, "the logits");
}

static sk_status open_model(job *j, int has_state, sk_error *err) {
    sk_run_fingerprint(j->dataset, j->cache, j->fingerprint);
    if (j->options.pretrained) {
        sk_status status = sk_run_file_hash(j->options.pretrained, j->pretrained_hash, has_state ? NULL : err);
        if (status != SK_OK && !has_state) return status;
    }
    /* The first weights have done their work once there is a state: they may be gone. */
    if (has_state && !j->pretrained_hash[0]) memcpy(j->pretrained_hash, SK_RUN_ANY, sizeof SK_RUN_ANY);
    j->state.config = sk_run_config(&j->options, j->pretrained_hash, j->fingerprint);
    if (!j->state.config) return sk_fail_memory(err, "the run's options");
    sk_run_id(j->state.config, j->id);
    memcpy(j->options.card.run_id, j->id, sizeof j->id);
    sk_status status = sk_model_create(&j->options.card, j->options.seed, &j->model, err);
    if (status != SK_OK) return status;
    if (j->options.pretrained && !has_state) {
        char note[512] = "";
        status = sk_model_load_pretrained(j->model, j->options.pretrained, note, sizeof note, err);
        if (status != SK_OK) return status;
        if (note[0]) sk_log(j->hooks, SK_LOG_NOTE, "%s", note);
        sk_model_set_card(j->model, &j->options.card);
    }
    const sk_engine_options engine = {.batch = j->options.batch, .threads = j->options.threads,
                                      .freeze_features = j->options.freeze_features, .dropout = j->options.dropout};
    status = sk_engine_create(j->model, &engine, &j->engine, err);
    if (status != SK_OK) return status;
    return sk_adam_create(j->model, j->engine, (double)j->options.lr, &j->adam, err);
}

static sk_status cancelled(const job *j, sk_error *err) {
    if (j->state.epoch == 0)
        return sk_fail(err, SK_ERR_CANCELLED, "stopped in epoch 1, nothing is saved yet; --resume begins again");
    return sk_fail(err, SK_ERR_CANCELLED, "stopped in epoch %d; %s holds epoch %d, go on with --resume",
                   j->state.epoch + 1, j->dir, j->state.epoch);
}

static sk_status diverged(const job *j, const char *what, sk_error *err) {
    char kept[64] = "no epoch was finished";
    if (j->state.epoch) snprintf(kept, sizeof kept, "the weights of epoch %d are kept", j->state.epoch);
    return sk_fail(err, SK_ERR_DATA, "epoch %d: %s is not a finite number; try a smaller --lr than %g (%s)",
                   j->state.epoch + 1, what, (double)j->options.lr, kept);
}

static sk_status train_epoch(job *j, int epoch, sk_epoch_log *row, sk_error *err) {
    char stage[64];
    const size_t total = sk_loader_size(j->train) + sk_loader_size(j->val);
    const uint64_t stream = (uint64_t)STREAM_DROPOUT << 32 | (uint32_t)epoch;
    size_t done = 0, right = 0;
    double loss_sum = 0;
    snprintf(stage, sizeof stage, "epoch %d/%d", epoch, j->options.epochs);
    sk_loader_start(j->train, epoch);
    for (uint64_t step = 0;; step++) {
        sk_batch batch;
        double loss = 0;
        int correct = 0;
        if (sk_cancelled(j->hooks)) return cancelled(j, err);
        sk_status status = sk_loader_next(j->train, &batch, err);
        if (status != SK_OK) return status;
        if (batch.n == 0) break;
        const uint64_t drop = sk_rng_make(j->options.seed, stream, step).state;
        status = sk_engine_step(j->engine, batch.images, batch.labels, batch.n, drop, &loss, &correct, err);
        if (status != SK_OK) return status;
        if (!isfinite(loss)) return diverged(j, "the loss", err);
        status = sk_adam_step(j->adam, j->engine, err);
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

static sk_status validate(job *j, sk_epoch_log *row, sk_error *err) {
    char stage[64];
    const size_t total = sk_loader_size(j->train) + sk_loader_size(j->val);
    size_t done = 0, right = 0;
    double loss = 0;
    snprintf(stage, sizeof stage, "epoch %d/%d", row->epoch, j->options.epochs);
    sk_loader_start(j->val, 0);
    for (;;) {
        sk_batch batch;
        if (sk_cancelled(j->hooks)) return cancelled(j, err);
        sk_status status = sk_loader_next(j->val, &batch, err);
        if (status != SK_OK) return status;
        if (batch.n == 0) break;
        float *logits = j->logits + done * SK_CLASS_COUNT;
        status = sk_model_forward(j->model, batch.images, batch.n, j->options.threads, logits, NULL, NULL, NULL, err);
        if (status != SK_OK) return status;
        memcpy(j->labels + done, batch.labels, (size_t)batch.n * sizeof *j->labels);
        for (int i = 0; i < batch.n; i++) {
            int hit = 0;
            loss += cross_entropy(logits + (size_t)i * SK_CLASS_COUNT, batch.labels[i], &hit);
            right += (size_t)hit;
        }
        done += (size_t)batch.n;
        /* The last batch is told by on_epoch: one bar and one line per epoch. */
        if (done < sk_loader_size(j->val))
            sk_progress(j->hooks, stage, "images", sk_loader_size(j->train) + done, total);
    }
    row->val_loss = loss / (double)done;
    row->val_accuracy = (double)right / (double)done;
    if (!isfinite(row->val_loss)) return diverged(j, "the validation loss", err);
    sk_card card = *sk_model_card(j->model);
    const sk_status status = sk_fit_temperature(j->logits, j->labels, done, SK_CLASS_COUNT, &card.temperature, err);
    sk_model_set_card(j->model, &card); /* travels with this epoch's weights */
    return status;
}

/* Small validation parts saturate early: the loss then still tells the better epoch. */
static int improves(const sk_run_state *state, const sk_epoch_log *row) {
    if (state->best_epoch == 0 || row->val_accuracy > state->best_accuracy) return 1;
    return row->val_accuracy == state->best_accuracy && row->val_loss < state->best_loss;
}

static sk_status run_epoch(job *j, sk_epoch_log *row, sk_error *err) {
    const double start = sk_now();
    *row = (sk_epoch_log){.epoch = j->state.epoch + 1};
    sk_status status = train_epoch(j, row->epoch, row, err);
    if (status != SK_OK) return status;
    row->images_per_second /= fmax(sk_now() - start, 1e-9);
    status = validate(j, row, err);
    if (status != SK_OK) return status;
    row->seconds = sk_now() - start;
    row->is_best = improves(&j->state, row);
    status = sk_run_state_add(&j->state, row, err);
    if (status == SK_OK) status = sk_run_save(j->dir, &j->state, j->model, j->adam, err);
    if (status == SK_OK) status = sk_run_derive(j->dir, &j->state, j->model, err);
    if (status != SK_OK)
        return sk_error_prefix(err, status, "epoch %d is not saved, %s keeps the one before (--resume goes on)",
                               row->epoch, j->dir);
    return SK_OK;
}

/* The run keeps the id it was begun with. */
static void adopt(job *j) {
    sk_run_pretrained(j->state.config, j->pretrained_hash);
    sk_run_id(j->state.config, j->id);
    memcpy(j->options.card.run_id, j->id, sizeof j->id);
    sk_card card = j->options.card;
    card.temperature = sk_model_card(j->model)->temperature; /* of the epoch that the state holds */
    sk_model_set_card(j->model, &card);
}

static sk_status write_json(const job *j, int stopped_early, sk_error *err) {
    const sk_run_about about = {&j->options, j->dataset, j->pretrained_hash, j->fingerprint,
                                j->id,       j->train,   j->val,             stopped_early};
    return sk_run_write_json(j->dir, &about, err);
}

static sk_status prepare(job *j, sk_error *err) {
    int has_state = 0;
    sk_status status = sk_train_options_check(&j->options, err);
    if (status == SK_OK) status = check_folder(j, &has_state, err);
    if (status == SK_OK) status = open_data(j, err);
    if (status == SK_OK) status = open_model(j, has_state, err);
    if (status == SK_OK) status = sk_make_dirs(j->dir, err);
    if (status != SK_OK) return status;
    if (has_state) {
        status = sk_run_load(j->dir, &j->state, j->model, j->adam, err);
        if (status == SK_OK) adopt(j);
        if (status == SK_OK) status = sk_run_derive(j->dir, &j->state, j->model, err);
        if (status != SK_OK) return status;
        sk_log(j->hooks, SK_LOG_NOTE, "going on after epoch %d", j->state.epoch);
    }
    return write_json(j, 0, err);
}

sk_status sk_train(const sk_dataset *dataset, const char *run_dir, const sk_train_options *options,
                   const sk_hooks *hooks, sk_epoch_hook on_epoch, void *epoch_user, sk_error *err) {
    if (!dataset || !run_dir || !options) return sk_fail(err, SK_ERR_ARGUMENT, "sk_train needs data, folder, options");
    job j = {.dataset = dataset, .dir = run_dir, .options = *options, .hooks = hooks};
    j.options.threads = sk_thread_count(options->threads);
    sk_status status = prepare(&j, err);
    while (status == SK_OK && j.state.epoch < j.options.epochs) {
        sk_epoch_log row;
        status = run_epoch(&j, &row, err);
        if (status == SK_OK && on_epoch) on_epoch(epoch_user, &row);
    }
    sk_run_state_free(&j.state);
    sk_adam_free(j.adam);
    sk_engine_free(j.engine);
    sk_model_free(j.model);
    sk_loader_free(j.train);
    sk_loader_free(j.val);
    sk_cache_close(j.cache);
    sk_free(j.logits);
    sk_free(j.labels);
    return status;
}
