/* SPDX-License-Identifier: Apache-2.0 */
/* The training loop. After every epoch state.safetensors is written first and holds everything; the other files follow
 * from it. Whatever moment a run is killed at, the folder therefore holds one whole epoch, and --resume repeats what
 * came after it with the same random numbers, since these are functions of the seed, the epoch and the step. */
#include "siskin/train.h"

#include <string.h>

#include "net/model.h"
#include "train/job.h"
#include "train/keys.h"

enum { VAL_BATCH = 64 };

sk_train_options sk_train_defaults(sk_arch arch) {
    return (sk_train_options){.card = sk_card_default(arch), .epochs = 100, .batch = 128, .lr = 1e-4f, .dropout = 0.2f,
                              .momentum = 0.9f, .clip_repeat = 1, .qat_lr = 1e-3f, .augment = sk_augment_seed(),
                              .seed = 1, .max_bad = 100};
}

/* Every rank knows all; one of them keeps it. */
static int writes(const sk_job *j) { return sk_ranks_rank(j->options.ranks) == 0; }

static sk_status agree(const sk_job *j, sk_status own, sk_error *err) {
    return sk_ranks_agree(j->options.ranks, own, err);
}

static sk_status check_folder(const sk_job *j, int *has_state, sk_error *err) {
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

static sk_status check_data(const sk_job *j, sk_error *err) {
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

static sk_status open_data(sk_job *j, sk_error *err) {
    size_t bad = 0;
    sk_status status = sk_cache_open(j->dataset, j->options.max_bad, j->options.threads, j->hooks, &j->cache, &bad,
                                     err);
    if (status != SK_OK) return status;
    if (bad) sk_log(j->hooks, SK_LOG_WARNING, "%zu unreadable pictures are left out", bad);
    sk_loader_options options = {.split = SK_SPLIT_TRAIN, .train = 1, .batch = j->options.batch,
                                 .size = j->options.card.size, .threads = j->options.threads,
                                 .clip_repeat = j->options.clip_repeat, .augment = j->options.augment,
                                 .balanced = j->options.balance == SK_BALANCE_SAMPLING,
                                 .source_mix = (double)j->options.source_mix,
                                 .epoch_size = j->options.epoch_size, .seed = j->options.seed,
                                 .sync = j->sync};
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
    if (!j->logits || !j->labels) return sk_fail_memory(err, "the logits");
    status = check_data(j, err);
    return status == SK_OK && j->qat ? sk_qat_draw(j->qat, j->dataset, j->cache, &j->options, j->hooks, err) : status;
}

static sk_status open_update(sk_job *j, sk_error *err) {
    const sk_train_options *o = &j->options;
    const sk_update_options options = {.kind = o->optimizer,
                                       .weight_decay = (double)o->weight_decay,
                                       .momentum = (double)o->momentum,
                                       .ema = (double)o->ema,
                                       .head_steps = (uint64_t)o->head_epochs * sk_loader_steps(j->train),
                                       .freeze_features = o->freeze_features,
                                       .limits = j->limits,
                                       .keep = o->adjust_keep,
                                       .range_penalty = (double)o->range_penalty,
                                       .threads = o->threads};
    return sk_update_create(j->model, &options, &j->update, err);
}

static sk_status load_pretrained(sk_job *j, sk_error *err) {
    char note[512] = "", where[160];
    sk_status status = sk_model_load_pretrained(j->model, j->options.pretrained, note, sizeof note, err);
    if (status == SK_OK) status = sk_model_find_bad(j->model, NULL, 0, 1, where, sizeof where, err);
    if (status != SK_OK) return status;
    if (where[0])
        return sk_fail(err, SK_ERR_FORMAT, "%s cannot be trained further: it has a %s", j->options.pretrained, where);
    if (note[0]) sk_log(j->hooks, SK_LOG_NOTE, "%s", note);
    sk_model_set_card(j->model, &j->options.card);
    return SK_OK;
}

/* Limits are those of the pretrained weights, which are clamped to them. A resumed run gets the model and the limits
 * out of its state: then these are only made room for. */
static sk_status adjust(sk_job *j, int has_state, sk_error *err) {
    const sk_train_options *o = &j->options;
    const sk_adjust_options options = {.method = o->adjust ? o->adjust : SK_ADJUST_SIGMA,
                                       .k = o->adjust_k,
                                       .on = o->adjust_on,
                                       .per = o->adjust_per,
                                       .layers = "features.*"};
    size_t moved = 0, total = 0;
    if (!o->adjust && !(o->range_penalty > 0)) return SK_OK;
    const sk_status status = sk_limits_create(j->model, &options, &j->limits, err);
    for (size_t i = 0; status == SK_OK && o->adjust && !has_state && i < j->limits->count; i++) {
        sk_adjust_row row;
        sk_limits_clamp(j->limits, i, &row);
        moved += row.moved;
        total += row.count;
    }
    if (total)
        sk_log(j->hooks, SK_LOG_NOTE, "adjusted: %zu of %zu weights of the features pulled in (%.3f %%)", moved, total,
               100. * (double)moved / (double)total);
    return status;
}

/* The converter for the NPU has one scale per tensor and no other remedy. */
enum { NPU_HIGHEST = 16 };

static sk_status equalise(sk_job *j, sk_error *err) {
    const sk_train_options *o = &j->options;
    const float highest = o->equalise > 0 || o->qat != SK_QAT_NPU ? o->equalise : NPU_HIGHEST;
    sk_quant_pictures own = {0};
    size_t channels = 0;
    sk_status status = SK_OK;
    if (!(highest > 0)) return SK_OK;
    if (!j->qat)
        status = sk_quant_draw(&o->card, j->dataset, j->cache, SK_QAT_PICTURES, o->seed, j->hooks, &own, err);
    if (status == SK_OK)
        status = sk_equalise_channels(j->model, j->qat ? &j->qat->pictures : &own, highest, o->threads, &channels, err);
    if (channels) sk_log(j->hooks, SK_LOG_NOTE, "equalised: %zu channels reached beyond %g", channels, (double)highest);
    sk_quant_pictures_free(&own);
    return status;
}

/* Of a run folder its best weights. */
static sk_status hash_pretrained(sk_job *j, sk_error *err) {
    const char *path = j->options.pretrained;
    char *file = sk_path_is_dir(path) ? sk_path_join(path, SK_RUN_BEST) : sk_strdup(path);
    const sk_status status = file ? sk_run_file_hash(file, j->pretrained_hash, err) : sk_fail_memory(err, "a path");
    sk_free(file);
    return status;
}

static sk_status open_model(sk_job *j, int has_state, sk_error *err) {
    sk_run_fingerprint(j->dataset, j->cache, j->fingerprint);
    if (j->options.pretrained) {
        sk_status status = hash_pretrained(j, has_state ? NULL : err);
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
    if (j->options.pretrained && !has_state) status = load_pretrained(j, err);
    if (status == SK_OK && !has_state) status = equalise(j, err);
    if (status == SK_OK) status = adjust(j, has_state, err);
    return status == SK_OK ? open_update(j, err) : status;
}

/* Small validation parts saturate early: the loss then still tells the better epoch. */
static int improves(const sk_run_state *state, const sk_epoch_log *row) {
    if (state->best_epoch == 0 || row->val_accuracy > state->best_accuracy) return 1;
    return row->val_accuracy == state->best_accuracy && row->val_loss < state->best_loss;
}

/* best and last hold the averaged weights, the state holds both. */
static sk_status derive(sk_job *j, sk_error *err) {
    sk_status status = sk_update_swap(j->update, err);
    if (status == SK_OK) status = sk_run_derive(j->dir, &j->state, j->model, err);
    return status == SK_OK ? sk_update_swap(j->update, err) : status;
}

static sk_status run_epoch(sk_job *j, sk_epoch_log *row, sk_error *err) {
    *row = (sk_epoch_log){.epoch = j->state.epoch + 1};
    sk_status status = sk_job_epoch(j, row, err);
    if (status != SK_OK) return status;
    row->is_best = improves(&j->state, row);
    status = sk_run_state_add(&j->state, row, err);
    if (status == SK_OK && j->qat) status = sk_qat_publish(j->qat, j->model, err);
    if (status == SK_OK && writes(j)) status = sk_run_save(j->dir, &j->state, j->model, j->update, j->qat, err);
    if (status == SK_OK && writes(j)) status = derive(j, err);
    status = agree(j, status, err);
    if (status != SK_OK)
        return sk_error_prefix(err, status, "epoch %d is not saved, %s keeps the one before (--resume goes on)",
                               row->epoch, j->dir);
    return SK_OK;
}

/* The run keeps the id it was begun with. */
static void adopt(sk_job *j) {
    sk_run_pretrained(j->state.config, j->pretrained_hash);
    sk_run_id(j->state.config, j->id);
    memcpy(j->options.card.run_id, j->id, sizeof j->id);
    sk_card card = j->options.card;
    card.temperature = sk_model_card(j->model)->temperature; /* of the epoch that the state holds */
    sk_model_set_card(j->model, &card);
}

static sk_status write_json(const sk_job *j, int stopped_early, sk_error *err) {
    const sk_run_about about = {&j->options, j->dataset, j->pretrained_hash, j->fingerprint,
                                j->id,       j->train,   j->val,             stopped_early};
    return sk_run_write_json(j->dir, &about, err);
}

/* Rank 0 first: it may have to make the cache. */
static sk_status open_data_in_turn(sk_job *j, sk_error *err) {
    const int first = sk_ranks_rank(j->options.ranks) == 0;
    const sk_status status = agree(j, first ? open_data(j, err) : SK_OK, err);
    return status == SK_OK && !first ? open_data(j, err) : status;
}

static sk_status load(sk_job *j, sk_error *err) {
    const sk_status status = sk_run_load(j->dir, &j->state, j->model, j->update, j->qat, err);
    if (status != SK_OK) return status;
    adopt(j);
    if (j->qat) {
        const sk_status given = sk_qat_publish(j->qat, j->model, err);
        if (given != SK_OK) return given;
    }
    sk_log(j->hooks, SK_LOG_NOTE, "going on after epoch %d", j->state.epoch);
    return SK_OK;
}

/* What the folder holds before the first epoch of this call. */
static sk_status write_folder(sk_job *j, int has_state, sk_error *err) {
    sk_status status = sk_make_dirs(j->dir, err);
    if (status == SK_OK && has_state) status = derive(j, err);
    return status == SK_OK ? write_json(j, 0, err) : status;
}

static sk_status prepare(sk_job *j, sk_error *err) {
    int has_state = 0;
    sk_status status = sk_train_options_check(&j->options, err);
    if (status == SK_OK && j->options.qat != SK_QAT_OFF) status = sk_qat_open(&j->options, &j->qat, err);
    if (status == SK_OK) status = check_folder(j, &has_state, err);
    status = agree(j, status, err);
    if (status == SK_OK) status = open_data_in_turn(j, err);
    else return status;
    if (status == SK_OK) status = open_model(j, has_state, err);
    if (status == SK_OK && j->qat && !has_state) status = sk_qat_begin(j->qat, j->model, j->options.threads, err);
    if (status == SK_OK && has_state) status = load(j, err);
    /* No rank looks at the folder any more. */
    status = agree(j, status, err);
    if (status != SK_OK) return status;
    return agree(j, writes(j) ? write_folder(j, has_state, err) : SK_OK, err);
}

/* No better epoch for as long as the user has patience. */
static int is_over(const sk_job *j) {
    const int patience = j->options.patience;
    return j->state.epoch >= j->options.epochs || (patience && j->state.epoch - j->state.best_epoch >= patience);
}

static sk_status finish(const sk_job *j, sk_error *err) {
    if (j->state.epoch >= j->options.epochs) return SK_OK;
    sk_log(j->hooks, SK_LOG_NOTE, "stopped after epoch %d: none was better than epoch %d (--patience %d)",
           j->state.epoch, j->state.best_epoch, j->options.patience);
    return agree(j, writes(j) ? write_json(j, j->state.epoch, err) : SK_OK, err);
}

sk_status sk_train(const sk_dataset *dataset, const char *run_dir, const sk_train_options *options,
                   const sk_hooks *hooks, sk_epoch_hook on_epoch, void *epoch_user, sk_error *err) {
    if (!dataset || !run_dir || !options) return sk_fail(err, SK_ERR_ARGUMENT, "sk_train needs data, folder, options");
    sk_job j = {.dataset = dataset, .dir = run_dir, .options = *options, .hooks = hooks,
                .sync = sk_ranks_sync(options->ranks)};
    j.options.threads = sk_thread_count(options->threads);
    sk_status status = prepare(&j, err);
    while (status == SK_OK && !is_over(&j)) {
        sk_epoch_log row;
        status = run_epoch(&j, &row, err);
        if (status == SK_OK && on_epoch) on_epoch(epoch_user, &row);
    }
    if (status == SK_OK) status = finish(&j, err);
    if (sk_ranks_lost(j.options.ranks)) status = sk_job_lost(&j, status, err);
    sk_run_state_free(&j.state);
    sk_update_free(j.update);
    sk_limits_free(j.limits);
    sk_engine_free(j.engine);
    sk_qat_close(j.qat);
    sk_model_free(j.model);
    sk_loader_free(j.train);
    sk_loader_free(j.val);
    sk_cache_close(j.cache);
    sk_free(j.logits);
    sk_free(j.labels);
    return status;
}
