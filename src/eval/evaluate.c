/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a classifier over a split of a dataset, from the decoded cache, and keeps every verdict. */
#include <string.h>

#include "base/base.h"
#include "eval/evaluation.h"

enum { BATCH = 32 };

sk_status sk_evaluation_create(const sk_eval_options *options, size_t capacity, int feature_count, sk_evaluation **out,
                               sk_error *err) {
    sk_evaluation *e = sk_calloc(1, sizeof *e);
    if (!e) return sk_fail_memory(err, "the evaluation");
    e->options = *options;
    e->feature_count = feature_count;
    e->outcomes = sk_calloc(capacity ? capacity : 1, sizeof *e->outcomes);
    e->samples = sk_calloc(capacity ? capacity : 1, sizeof *e->samples);
    e->scratch = sk_alloc(capacity ? capacity : 1, sizeof *e->scratch);
    if (feature_count > 0) e->features = sk_calloc(capacity ? capacity : 1, sizeof(float) * (size_t)feature_count);
    if (options->with_logits) e->logits = sk_alloc(capacity ? capacity : 1, SK_CLASS_COUNT * sizeof(float));
    if (!e->outcomes || !e->samples || !e->scratch || (feature_count > 0 && !e->features) ||
        (options->with_logits && !e->logits)) {
        sk_evaluation_free(e);
        return sk_fail_memory(err, "the evaluation");
    }
    *out = e;
    return SK_OK;
}

void sk_evaluation_free(sk_evaluation *evaluation) {
    if (!evaluation) return;
    sk_free(evaluation->outcomes);
    sk_free(evaluation->samples);
    sk_free(evaluation->features);
    sk_free(evaluation->logits);
    sk_free(evaluation->scratch);
    sk_free(evaluation);
}

size_t sk_evaluation_count(const sk_evaluation *evaluation) {
    return evaluation->n;
}

const sk_outcome *sk_evaluation_outcome(const sk_evaluation *evaluation, size_t index) {
    return index < evaluation->n ? &evaluation->outcomes[index] : NULL;
}

const float *sk_evaluation_features(const sk_evaluation *evaluation, int *feature_count) {
    if (feature_count) *feature_count = evaluation->feature_count;
    return evaluation->features;
}

const float *sk_evaluation_logits(const sk_evaluation *evaluation) {
    return evaluation->logits;
}

/* Buffers of one batch. */
typedef struct batch {
    uint8_t *images;
    float *probabilities, *logits, *features;
    size_t samples[BATCH];
    int n;
} batch;

typedef struct run {
    sk_classifier *classifier;
    const sk_dataset *dataset;
    const sk_cache *cache;
    const sk_card *card;
    sk_evaluation *e;
    int crops, threads;
    batch batch;
} run;

/* The crops of the i-th picture of the batch. */
static sk_status prepare(void *user, int i, sk_error *err) {
    const run *r = user;
    const size_t bytes = (size_t)r->crops * (size_t)r->card->size * (size_t)r->card->size * 3;
    sk_image image;
    sk_cache_image(r->cache, r->batch.samples[i], &image);
    return sk_crops_prepare(&image, r->e->options.crops, r->card->size, r->batch.images + (size_t)i * bytes, err);
}

static sk_status run_batch(run *r, sk_error *err) {
    batch *b = &r->batch;
    sk_status status = sk_parallel(0, b->n, r->threads, prepare, r, err);
    if (!status)
        status = sk_classifier_run_logits(r->classifier, b->images, b->n * r->crops, r->e->options.threads,
                                          b->probabilities, b->logits, b->features, err);
    if (status) return status;
    const size_t features = (size_t)r->e->feature_count, classes = (size_t)r->card->classes;
    for (int i = 0; i < b->n; i++) {
        float p[3] = {0};
        for (int c = 0; c < r->crops; c++)
            p[c] = b->probabilities[((size_t)i * (size_t)r->crops + (size_t)c) * classes + SK_LABEL_BIRD];
        const size_t at = r->e->n++;
        r->e->samples[at] = *sk_dataset_sample(r->dataset, b->samples[i]);
        r->e->outcomes[at].sample = b->samples[i];
        r->e->outcomes[at].verdict = sk_decide(p, r->crops, r->e->options.threshold, r->e->options.penalty);
        if (r->e->features)
            memcpy(r->e->features + at * features, b->features + (size_t)i * (size_t)r->crops * features,
                   features * sizeof(float));
        if (r->e->logits)
            memcpy(r->e->logits + at * classes, b->logits + (size_t)i * (size_t)r->crops * classes,
                   classes * sizeof(float));
    }
    b->n = 0;
    return SK_OK;
}

/* 1: to be judged. */
static int usable(const run *r, size_t index, size_t *unlabelled, size_t *unreadable) {
    const sk_sample *sample = sk_dataset_sample(r->dataset, index);
    if (sample->split != r->e->options.split) return 0;
    if (sample->label == SK_LABEL_UNKNOWN) {
        if (unlabelled) ++*unlabelled;
        return 0;
    }
    sk_image image;
    sk_cache_image(r->cache, index, &image);
    if (!image.data && unreadable) ++*unreadable;
    return image.data != NULL;
}

static sk_status run_all(run *r, size_t total, const sk_hooks *hooks, sk_error *err) {
    batch *b = &r->batch;
    const size_t count = sk_dataset_size(r->dataset);
    for (size_t i = 0; i < count; i++) {
        if (!usable(r, i, &r->e->unlabelled, &r->e->unreadable)) continue;
        b->samples[b->n++] = i;
        if (b->n < BATCH && r->e->n + (size_t)b->n < total) continue;
        if (sk_cancelled(hooks)) return sk_fail(err, SK_ERR_CANCELLED, "the evaluation was stopped");
        const sk_status status = run_batch(r, err);
        if (status) return status;
        sk_progress(hooks, "evaluate", "images", r->e->n, total);
    }
    return SK_OK;
}

static sk_status check_options(const sk_card *card, const sk_dataset *dataset, const sk_eval_options *o, size_t total,
                               sk_error *err) {
    if (card->classes != SK_CLASS_COUNT)
        return sk_fail(err, SK_ERR_MISMATCH,
                       "the model has %d classes where %d (nobird, bird) are needed: train it first", card->classes,
                       SK_CLASS_COUNT);
    const sk_status status = sk_thresholds_check(o->threshold, o->penalty, err);
    if (status) return status;
    if (!total)
        return sk_fail(err, SK_ERR_DATA,
                       "%s: no labelled, readable picture has the split \"%s\": run `siskin split` or "
                       "choose another with --split",
                       sk_dataset_dir(dataset), sk_split_name(o->split));
    return SK_OK;
}

sk_status sk_evaluate(sk_classifier *classifier, const sk_dataset *dataset, const sk_cache *cache,
                      const sk_eval_options *options, const sk_hooks *hooks, sk_evaluation **out, sk_error *err) {
    *out = NULL;
    sk_evaluation *e = NULL;
    run r = {.classifier = classifier,
             .dataset = dataset,
             .cache = cache,
             .card = sk_classifier_card(classifier),
             .crops = sk_crops_count(options->crops),
             .threads = sk_thread_count(options->threads)};
    batch *b = &r.batch;
    size_t total = 0;
    const int features = options->with_features ? sk_classifier_feature_count(classifier) : 0;
    sk_status status = sk_evaluation_create(options, sk_dataset_size(dataset), features, &e, err);
    if (status) return status;
    r.e = e;
    for (size_t i = 0; i < sk_dataset_size(dataset); i++) total += (size_t)usable(&r, i, NULL, NULL);
    status = check_options(r.card, dataset, options, total, err);
    if (status) goto done;
    const size_t pictures = BATCH * (size_t)r.crops, side = (size_t)r.card->size;
    b->images = sk_alloc(pictures, side * side * 3);
    b->probabilities = sk_alloc(pictures * (size_t)r.card->classes, sizeof(float));
    if (features) b->features = sk_alloc(pictures * (size_t)features, sizeof(float));
    if (options->with_logits) b->logits = sk_alloc(pictures * (size_t)r.card->classes, sizeof(float));
    if (!b->images || !b->probabilities || (features && !b->features) || (options->with_logits && !b->logits)) {
        status = sk_fail_memory(err, "a batch of pictures");
        goto done;
    }
    const double start = sk_now();
    status = run_all(&r, total, hooks, err);
    e->seconds = sk_now() - start;
done:
    sk_free(b->images);
    sk_free(b->probabilities);
    sk_free(b->features);
    sk_free(b->logits);
    if (status) sk_evaluation_free(e);
    else *out = e;
    return status;
}
