/* SPDX-License-Identifier: Apache-2.0 */
/* Any model behind one face: float models run through the network, .skn files through the board runtime, one handle per
 * thread over one map of the file, others through a backend. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "base/base.h"
#include "rt/check.h"
#include "siskin/classifier.h"
#include "siskin/rt.h"

#define FLOAT_BATCH 32 /* bounds the activations' memory; more gains no speed */
#define MAX_THREADS 64

struct sk_classifier {
    sk_card card;
    sk_model *model; /* float, or NULL */
    sk_backend backend; /* run NULL: none */
    sk_map map;      /* of the .skn file */
    uint8_t *copy;   /* of it with another temperature or thresholds, or NULL */
    sk_rt *rt[MAX_THREADS];
    int features;
};

static int begins_with(const char *path, const void *magic, size_t size) {
    unsigned char bytes[16];
    FILE *file = sk_path_is_dir(path) ? NULL : fopen(path, "rb");
    if (!file) {
        return 0;
    }
    const size_t got = fread(bytes, 1, size, file);
    fclose(file);
    return got == size && memcmp(bytes, magic, size) == 0;
}

static sk_status card_of_rt(const char *path, const sk_rt_info *info, sk_card *card, sk_error *err) {
    sk_arch arch;
    if (sk_arch_parse(info->arch, &arch, err) != SK_OK) {
        return sk_error_prefix(err, SK_ERR_UNSUPPORTED, "%s", path);
    }
    *card = sk_card_default(arch);
    card->size = info->size;
    card->classes = info->classes;
    memcpy(card->mean, info->mean, sizeof card->mean);
    memcpy(card->std, info->std, sizeof card->std);
    memcpy(card->class_names, info->class_names, sizeof card->class_names);
    card->crops = info->crops;
    card->threshold = info->threshold;
    card->penalty = info->penalty;
    card->temperature = info->temperature;
    memcpy(card->run_id, info->run_id, sizeof card->run_id);
    return SK_OK;
}

static sk_status open_int8(sk_classifier *c, const char *path, sk_error *err) {
    sk_status status = sk_file_map(path, &c->map, err);
    if (status == SK_OK) {
        status = sk_rt_open_memory(c->map.bytes, c->map.size, &c->rt[0], err);
        if (status != SK_OK) {
            return sk_error_prefix(err, status, "cannot read %s", path);
        }
    }
    if (status == SK_OK) {
        c->features = sk_rt_get_info(c->rt[0])->features;
        status = card_of_rt(path, sk_rt_get_info(c->rt[0]), &c->card, err);
    }
    return status;
}

sk_status sk_classifier_open(const char *path, sk_classifier **out, sk_error *err) {
    *out = NULL;
    sk_classifier *c = sk_calloc(1, sizeof *c);
    if (!c) {
        return sk_fail_memory(err, "the model");
    }
    sk_status status;
    if (begins_with(path, SK_SKN_MAGIC, sizeof SK_SKN_MAGIC - 1)) {
        status = open_int8(c, path, err);
    } else if (begins_with(path, "RKNN\0\0\0", 8)) {
        status = sk_fail(err, SK_ERR_UNSUPPORTED,
                         "%s runs on the board alone: judge the model it was made of, with --backend rknn-sim", path);
    } else {
        status = sk_model_read(path, &c->model, err);
        if (status == SK_OK) {
            c->card = *sk_model_card(c->model);
            c->features = sk_model_feature_count(c->model);
        }
    }
    if (status != SK_OK) {
        sk_classifier_close(c);
        return status;
    }
    *out = c;
    return SK_OK;
}

sk_status sk_classifier_wrap(const sk_backend *backend, sk_classifier **out, sk_error *err) {
    sk_classifier *c = sk_calloc(1, sizeof *c);
    *out = c;
    if (!c) {
        backend->close(backend->user);
        return sk_fail_memory(err, "the model");
    }
    c->backend = *backend;
    c->card = backend->card;
    c->features = backend->features;
    return SK_OK;
}

void sk_classifier_close(sk_classifier *c) {
    if (!c) {
        return;
    }
    if (c->backend.run) {
        c->backend.close(c->backend.user);
    }
    sk_model_free(c->model);
    for (int i = 0; i < MAX_THREADS; i++) {
        sk_rt_close(c->rt[i]);
    }
    sk_free(c->copy);
    sk_file_unmap(&c->map);
    sk_free(c);
}

static const uint8_t *skn_bytes(const sk_classifier *c) {
    return c->copy ? c->copy : c->map.bytes;
}

const sk_card *sk_classifier_card(const sk_classifier *c) {
    return &c->card;
}

int sk_classifier_is_int8(const sk_classifier *c) {
    return c->model == NULL;
}

sk_model *sk_classifier_model(sk_classifier *c) {
    return c->model;
}

/* A .skn in memory like the old one but for the temperature and the thresholds of `card`. */
static sk_status recast(sk_classifier *c, const sk_card *card, sk_error *err) {
    uint8_t *copy = sk_alloc(c->map.size, 1);
    sk_rt *rt = NULL;
    if (!copy) {
        return sk_fail_memory(err, "the model");
    }
    memcpy(copy, c->map.bytes, c->map.size);
    sk_skn_header *header = (sk_skn_header *)(void *)copy;
    header->temperature = card->temperature;
    header->threshold = card->threshold;
    header->penalty = card->penalty;
    header->crc32 = sk_skn_crc(copy, c->map.size);
    const sk_status status = sk_rt_open_memory(copy, c->map.size, &rt, err);
    if (status != SK_OK) {
        sk_free(copy);
        return status;
    }
    for (int i = 0; i < MAX_THREADS; i++) {
        sk_rt_close(c->rt[i]);
        c->rt[i] = NULL;
    }
    sk_free(c->copy);
    c->copy = copy;
    c->rt[0] = rt;
    return SK_OK;
}

/* Thresholds are not looked at: those that a file came with may stay what they are. */
static sk_status set_card(sk_classifier *c, const sk_card *card, sk_error *err) {
    const float temperature = card->temperature;
    if (!(temperature >= SK_TEMPERATURE_LEAST && temperature <= SK_TEMPERATURE_MOST)) {
        return sk_fail(err, SK_ERR_ARGUMENT, "temperature %g is out of range: use %g to %g", (double)temperature,
                       (double)SK_TEMPERATURE_LEAST, (double)SK_TEMPERATURE_MOST);
    }
    const sk_status status = c->model || c->backend.run ? SK_OK : recast(c, card, err);
    if (status == SK_OK) {
        c->card = *card;
    }
    if (c->model) {
        sk_model_set_card(c->model, &c->card);
    }
    return status;
}

sk_status sk_classifier_set_temperature(sk_classifier *c, float temperature, sk_error *err) {
    sk_card card = c->card;
    card.temperature = temperature;
    return set_card(c, &card, err);
}

sk_status sk_thresholds_check(float threshold, float penalty, sk_error *err) {
    if (threshold > 0 && threshold < 1 && penalty > 0 && penalty <= 1) {
        return SK_OK;
    }
    return sk_fail(err, SK_ERR_ARGUMENT, "threshold %g and penalty %g must lie between 0 and 1", (double)threshold,
                   (double)penalty);
}

sk_status sk_classifier_set_thresholds(sk_classifier *c, float temperature, float threshold, float penalty,
                                       sk_error *err) {
    sk_card card = c->card;
    card.temperature = temperature;
    card.threshold = threshold;
    card.penalty = penalty;
    const sk_status status = sk_thresholds_check(threshold, penalty, err);
    return status ? status : set_card(c, &card, err);
}

sk_status sk_classifier_write(const sk_classifier *c, const char *path, sk_error *err) {
    if (c->backend.run) {
        return sk_fail(err, SK_ERR_UNSUPPORTED, "cannot write %s: the model answers elsewhere", path);
    }
    return c->model ? sk_model_write(c->model, path, err) : sk_file_write(path, skn_bytes(c), c->map.size, err);
}

int sk_classifier_feature_count(const sk_classifier *c) {
    return c->features;
}

static void softmax(const float *logits, int n, float temperature, float *p) {
    float most = logits[0], sum = 0;
    for (int i = 1; i < n; i++) {
        most = logits[i] > most ? logits[i] : most;
    }
    for (int i = 0; i < n; i++) {
        p[i] = expf((logits[i] - most) / temperature);
        sum += p[i];
    }
    for (int i = 0; i < n; i++) {
        p[i] /= sum;
    }
}

/* What is asked of one call; what is NULL is not. */
typedef struct answer {
    float *probabilities, *logits, *features;
} answer;

/* Logits and features from the network, or from elsewhere. */
static sk_status forward(sk_classifier *c, const uint8_t *images, int n, int threads, float *logits, float *features,
                         sk_error *err) {
    return c->model ? sk_model_forward(c->model, images, n, threads, logits, features, NULL, NULL, err)
                    : c->backend.run(c->backend.user, images, n, logits, features, err);
}

static sk_status run_float(sk_classifier *c, const uint8_t *images, int n, int threads, const answer *to,
                           sk_error *err) {
    const size_t classes = (size_t)c->card.classes, bytes = (size_t)c->card.size * (size_t)c->card.size * 3;
    float *logits = sk_alloc(classes * FLOAT_BATCH, sizeof *logits);
    if (!logits) {
        return sk_fail_memory(err, "the logits");
    }
    sk_status status = SK_OK;
    for (int i = 0; status == SK_OK && i < n; i += FLOAT_BATCH) {
        const int m = n - i < FLOAT_BATCH ? n - i : FLOAT_BATCH;
        status = forward(c, images + bytes * (size_t)i, m, threads, logits,
                         to->features ? to->features + (size_t)c->features * (size_t)i : NULL, err);
        for (int k = 0; status == SK_OK && k < m; k++) {
            softmax(logits + classes * (size_t)k, c->card.classes, c->card.temperature,
                    to->probabilities + classes * (size_t)(i + k));
        }
        if (status == SK_OK && to->logits) {
            memcpy(to->logits + classes * (size_t)i, logits, classes * (size_t)m * sizeof *logits);
        }
    }
    sk_free(logits);
    return status;
}

static void run_one(const sk_classifier *c, sk_rt *rt, const uint8_t *image, int8_t *codes, const answer *to,
                    size_t index) {
    const size_t classes = (size_t)c->card.classes, width = (size_t)c->features;
    int8_t *feature_codes = codes + classes;
    sk_rt_run(rt, image, codes, to->features ? feature_codes : NULL);
    sk_rt_probabilities(rt, codes, to->probabilities + classes * index);
    if (to->logits) {
        sk_rt_logits(rt, codes, to->logits + classes * index);
    }
    for (size_t k = 0; to->features && k < width; k++) {
        to->features[width * index + k] = sk_rt_feature_value(rt, feature_codes[k]);
    }
}

static sk_status run_int8(sk_classifier *c, const uint8_t *images, int n, int threads, const answer *to,
                          sk_error *err) {
    int count = sk_thread_count(threads);
    count = count > n ? n : count;
    count = count > MAX_THREADS ? MAX_THREADS : count;
    for (int i = 0; i < count; i++) {
        if (!c->rt[i]) {
            const sk_status status = sk_rt_open_memory(skn_bytes(c), c->map.size, &c->rt[i], err);
            if (status != SK_OK) {
                return status;
            }
        }
    }
    const size_t classes = (size_t)c->card.classes, width = (size_t)c->features;
    const size_t bytes = (size_t)c->card.size * (size_t)c->card.size * 3;
    int8_t *codes = sk_alloc((size_t)count, classes + width);
    if (!codes) {
        return sk_fail_memory(err, "the codes");
    }
#ifdef _OPENMP
#pragma omp parallel for schedule(dynamic) num_threads(count)
#endif
    for (int i = 0; i < n; i++) {
#ifdef _OPENMP
        const int t = omp_get_thread_num();
#else
        const int t = 0;
#endif
        run_one(c, c->rt[t], images + bytes * (size_t)i, codes + (classes + width) * (size_t)t, to, (size_t)i);
    }
    sk_free(codes);
    return SK_OK;
}

sk_status sk_classifier_run_logits(sk_classifier *c, const uint8_t *images, int n, int threads, float *probabilities,
                                   float *logits, float *features, sk_error *err) {
    if (n < 0 || (n > 0 && (!images || !probabilities))) {
        return sk_fail(err, SK_ERR_ARGUMENT, "cannot classify: no pictures or no room for the answer were given");
    }
    if (n == 0) {
        return SK_OK;
    }
    const answer to = {probabilities, logits, features};
    return c->model || c->backend.run ? run_float(c, images, n, threads, &to, err)
                                      : run_int8(c, images, n, threads, &to, err);
}

sk_status sk_classifier_run(sk_classifier *c, const uint8_t *images, int n, int threads, float *probabilities,
                            float *features, sk_error *err) {
    return sk_classifier_run_logits(c, images, n, threads, probabilities, NULL, features, err);
}
