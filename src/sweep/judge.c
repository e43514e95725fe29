/* SPDX-License-Identifier: Apache-2.0 */
/* What is measured of a run: the val part as training saw it, and the test parts of the dataset and of others. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sweep/sweep.h"

static sk_status add_judge(sk_sweep *sweep, const char *name, const char *dir, sk_error *err) {
    for (size_t i = 0; i < sweep->judge_count; i++)
        if (strcmp(sweep->judges[i].name, name) == 0)
            return sk_fail(err, SK_ERR_ARGUMENT, "two datasets that judge are called %s; give one of them another name",
                           name);
    sk_judge *grown = sk_realloc(sweep->judges, sweep->judge_count, sweep->judge_count + 1, sizeof *grown);
    if (!grown) return sk_fail_memory(err, "the datasets");
    sweep->judges = grown;
    sk_judge *j = &grown[sweep->judge_count];
    *j = (sk_judge){.name = sk_strdup(name), .dir = dir ? sk_strdup(dir) : NULL};
    sweep->judge_count++;
    return j->name && (!dir || j->dir) ? SK_OK : sk_fail_memory(err, "the datasets");
}

sk_status sk_sweep_judge(sk_sweep *sweep, const char *dir, sk_error *err) {
    char *absolute = sk_path_absolute(dir);
    if (!absolute) return sk_fail_memory(err, "the datasets");
    for (size_t n = strlen(absolute); n > 1 && absolute[n - 1] == '/';) absolute[--n] = '\0';
    const sk_status status = add_judge(sweep, sk_path_name(absolute), dir, err);
    sk_free(absolute);
    return status;
}

/* ---- measures -------------------------------------------------------------------------------------------------- */

static sk_status add_measure(sk_sweep *sweep, char *key, char *name, sk_measure_kind kind, int is_source,
                             sk_error *err) {
    sk_measure *grown =
        key && name ? sk_realloc(sweep->measures, sweep->measure_count, sweep->measure_count + 1, sizeof *grown) : NULL;
    if (!grown) {
        sk_free(key);
        sk_free(name);
        return sk_fail_memory(err, "the measures");
    }
    sweep->measures = grown;
    grown[sweep->measure_count++] = (sk_measure){key, name, kind, is_source};
    return SK_OK;
}

static sk_status add_own_measures(sk_sweep *sweep, sk_error *err) {
    static const sk_measure own[SK_OWN_MEASURES] = {{"val_accuracy", "val accuracy", SK_MEASURE_SHARE, 0},
                                                    {"val_loss", "val loss", SK_MEASURE_LOSS, 0},
                                                    {"seconds", "seconds of training", SK_MEASURE_SECONDS, 0}};
    sk_status status = SK_OK;
    for (int i = 0; i < SK_OWN_MEASURES && status == SK_OK; i++)
        status = add_measure(sweep, sk_strdup(own[i].key), sk_strdup(own[i].name), own[i].kind, 0, err);
    return status;
}

static int by_text(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

static const char *source_of(const sk_sample *sample) { return sample->source ? sample->source : ""; }

/* Whether the picture is judged: as sk_evaluate chooses. */
static int judges(const sk_judge *j, size_t i) {
    const sk_sample *sample = sk_dataset_sample(j->dataset, i);
    sk_image image;
    if (sample->split != SK_SPLIT_TEST || sample->label == SK_LABEL_UNKNOWN) return 0;
    sk_cache_image(j->cache, i, &image);
    return image.data != NULL;
}

static sk_status add_source_measures(sk_sweep *sweep, sk_judge *j, sk_error *err) {
    const size_t n = sk_dataset_size(j->dataset);
    const char **names = sk_alloc(n ? n : 1, sizeof *names);
    if (!names) return sk_fail_memory(err, "the sources");
    for (size_t i = 0; i < n; i++)
        if (judges(j, i)) names[j->pictures++] = source_of(sk_dataset_sample(j->dataset, i));
    qsort(names, j->pictures, sizeof *names, by_text);
    sk_status status = SK_OK;
    for (size_t i = 0; i < j->pictures && status == SK_OK; i++) {
        if (i && strcmp(names[i - 1], names[i]) == 0) continue;
        status = add_measure(sweep, sk_format("%s.source.%s", j->name, names[i]),
                             sk_format("%s %s", j->name, *names[i] ? names[i] : "(no source)"), SK_MEASURE_SHARE, 1,
                             err);
    }
    sk_free(names);
    return status;
}

static sk_status add_judge_measures(sk_sweep *sweep, sk_judge *j, sk_error *err) {
    j->first = sweep->measure_count;
    sk_status status = add_measure(sweep, sk_format("%s.accuracy", j->name), sk_format("%s accuracy", j->name),
                                   SK_MEASURE_SHARE, 0, err);
    if (status == SK_OK)
        status = add_measure(sweep, sk_format("%s.roc_area", j->name), sk_format("%s ROC area", j->name),
                             SK_MEASURE_AREA, 0, err);
    if (status == SK_OK)
        status = add_measure(sweep, sk_format("%s.loss", j->name), sk_format("%s loss", j->name), SK_MEASURE_LOSS, 0,
                             err);
    if (status == SK_OK) status = add_source_measures(sweep, j, err);
    j->count = sweep->measure_count - j->first;
    if (status == SK_OK && !j->pictures)
        return sk_fail(err, SK_ERR_DATA, "%s has no labelled, readable picture in its test part; it cannot judge",
                       j->dir);
    return status;
}

static sk_status open_judge(sk_sweep *sweep, sk_judge *j, const sk_hooks *hooks, sk_error *err) {
    const sk_train_options *o = &sweep->configs[0].options;
    sk_status status = SK_OK;
    size_t bad = 0;
    if (!j->dir) {
        j->dataset = sweep->dataset;
        j->cache = sweep->cache;
    } else {
        status = sk_dataset_open(j->dir, &j->dataset, err);
        if (status == SK_OK)
            status = sk_cache_open(j->dataset, o->max_bad, o->threads, hooks, &j->cache, &bad, err);
    }
    return status == SK_OK ? add_judge_measures(sweep, j, err) : status;
}

/* The dataset's own test part comes first. */
static sk_status add_own_judge(sk_sweep *sweep, sk_error *err) {
    int has_test = 0;
    for (size_t i = 0; i < sk_dataset_size(sweep->dataset) && !has_test; i++)
        has_test = judges(&(sk_judge){.dataset = sweep->dataset, .cache = sweep->cache}, i);
    if (!has_test) return SK_OK;
    sk_status status = add_judge(sweep, "test", NULL, err);
    if (status != SK_OK) return status;
    const sk_judge own = sweep->judges[sweep->judge_count - 1];
    memmove(sweep->judges + 1, sweep->judges, (sweep->judge_count - 1) * sizeof own);
    sweep->judges[0] = own;
    return SK_OK;
}

sk_status sk_sweep_open(sk_sweep *sweep, const char *dataset, const sk_hooks *hooks, sk_error *err) {
    const sk_train_options *o = &sweep->configs[0].options;
    size_t bad = 0;
    sk_status status = sk_dataset_open(dataset, &sweep->dataset, err);
    if (status == SK_OK)
        status = sk_cache_open(sweep->dataset, o->max_bad, o->threads, hooks, &sweep->cache, &bad, err);
    if (status == SK_OK) status = add_own_judge(sweep, err);
    if (status == SK_OK) status = add_own_measures(sweep, err);
    for (size_t i = 0; i < sweep->judge_count && status == SK_OK; i++)
        status = open_judge(sweep, &sweep->judges[i], hooks, err);
    for (size_t i = 0; i < sweep->run_count && status == SK_OK; i++) {
        double *values = sk_alloc(sweep->measure_count, sizeof *values);
        if (!values) return sk_fail_memory(err, "the measures");
        for (size_t m = 0; m < sweep->measure_count; m++) values[m] = NAN;
        sweep->runs[i].values = values;
    }
    return status;
}

/* ---- one run ----------------------------------------------------------------------------------------------------- */

static sk_status read_log(sk_sweep_record *run, sk_error *err) {
    sk_epoch_log *log = NULL;
    size_t rows = 0;
    const sk_status status = sk_train_log_read(run->dir, &log, &rows, err);
    double seconds = 0;
    for (size_t i = 0; i < rows; i++) {
        seconds += log[i].seconds;
        if (!log[i].is_best) continue;
        run->best_epoch = log[i].epoch;
        run->values[SK_VAL_ACCURACY] = log[i].val_accuracy;
        run->values[SK_VAL_LOSS] = log[i].val_loss;
    }
    run->epochs = (int)rows;
    run->values[SK_SECONDS] = seconds;
    sk_train_log_free(log);
    return status;
}

/* By the rule of the model's card, as siskin eval does. */
static sk_eval_options rule_of(const sk_card *card, int threads) {
    return (sk_eval_options){.split = SK_SPLIT_TEST,
                             .crops = (sk_crops)card->crops,
                             .threshold = card->threshold,
                             .penalty = card->penalty,
                             .threads = threads};
}

static sk_status judge_one(const sk_judge *j, sk_classifier *classifier, sk_sweep_record *run,
                           const sk_hooks *hooks, int threads, sk_error *err) {
    const sk_eval_options options = rule_of(sk_classifier_card(classifier), threads);
    sk_evaluation *evaluation = NULL;
    sk_slice *slices = NULL;
    size_t count = 0;
    sk_status status = sk_evaluate(classifier, j->dataset, j->cache, &options, hooks, &evaluation, err);
    if (status == SK_OK) status = sk_evaluation_slices(evaluation, 0, &slices, &count, err);
    if (status == SK_OK) {
        const sk_metrics m = sk_evaluation_metrics(evaluation);
        double *values = run->values + j->first;
        values[0] = m.accuracy;
        values[1] = m.roc_area;
        values[2] = sk_evaluation_calibration(evaluation, 1).nll;
        /* Both lists are sorted by the source's name. */
        for (size_t i = 0; i < count && 3 + i < j->count; i++) values[3 + i] = slices[i].metrics.accuracy;
    }
    sk_slices_free(slices);
    sk_evaluation_free(evaluation);
    return status;
}

sk_status sk_sweep_judge_run(const sk_sweep *sweep, sk_sweep_record *run, const sk_hooks *hooks, int threads,
                             sk_error *err) {
    sk_classifier *classifier = NULL;
    sk_status status = read_log(run, err);
    if (status == SK_OK && sweep->judge_count) status = sk_classifier_open(run->dir, &classifier, err);
    for (size_t i = 0; i < sweep->judge_count && status == SK_OK; i++)
        status = judge_one(&sweep->judges[i], classifier, run, hooks, threads, err);
    sk_classifier_close(classifier);
    return status;
}
