/* SPDX-License-Identifier: Apache-2.0 */
/* A small network over a small dataset on disk: verdicts must be those of the same pictures run one by one. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/base.h"
#include "eval/evaluation.h"

enum { PICTURES = 40, SIZE = 64 }; /* more than one batch of 32 */

static char folder[64] = "/tmp/siskin-eval-";
static sk_classifier *classifier;
static sk_dataset *dataset;
static sk_cache *cache;
static size_t bad;

static sk_label label_of(size_t i) { return i == 5 ? SK_LABEL_UNKNOWN : i % 3 ? SK_LABEL_BIRD : SK_LABEL_NOBIRD; }

static const char *split_of(size_t i) { return i == 7 ? "val" : "test"; }

static int write_pictures(void) {
    sk_text table = {0};
    char path[128];
    int fault = 0;
    sk_text_add(&table, "path\tframe\ttime_s\tlabel\tsource\tgroup\trole\tsplit\n");
    for (size_t i = 0; i < PICTURES; i++) {
        sk_image image = {0};
        sk_rng rng = sk_rng_make(i, 0, 0);
        fault |= sk_image_create(330, 256, &image, NULL);
        for (size_t k = 0; !fault && k < 330 * 256 * 3; k++)
            image.data[k] = (uint8_t)((k * (1 + i) >> 9) + sk_rng_below(&rng, 60));
        snprintf(path, sizeof path, "%s/%02zu.png", folder, i);
        fault |= i == 9 ? sk_file_write(path, "no picture", 10, NULL) : sk_image_write(path, &image, 90, NULL);
        sk_image_free(&image);
        sk_text_add(&table, "%02zu.png\t\t\t%s\tcam%zu\tcam%zu/%zu\theld-out\t%s\n", i, sk_label_name(label_of(i)),
                    i % 2, i % 2, i, split_of(i));
    }
    snprintf(path, sizeof path, "%s/dataset.tsv", folder);
    fault |= table.failed || sk_file_write(path, table.data, table.size, NULL);
    sk_text_free(&table);
    return fault;
}

/* Fresh weights answer .5 to everything; a steeper last layer makes the verdicts differ. */
static sk_status strengthen(sk_model *model, sk_error *err) {
    sk_tensor t;
    const sk_status status = sk_model_find_tensor(model, "classifier.3.weight", &t, err);
    for (size_t i = 0; !status && i < t.count; i++) t.data[i] *= 1e10f;
    return status;
}

static int setup(void **state) {
    (void)state;
    sk_card card = sk_card_default(SK_ARCH_V3_SMALL);
    sk_model *model = NULL;
    char path[128];
    sk_error err = {0};
    char *at = folder + strlen(folder);
    memset(at, 'X', 6); /* what mkdtemp fills in */
    at[6] = 0;
    card.size = SIZE;
    if (!mkdtemp(folder) || write_pictures()) return 1;
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    sk_status status = sk_model_create(&card, 3, &model, &err);
    if (!status) status = strengthen(model, &err);
    if (!status) status = sk_model_write(model, path, &err);
    sk_model_free(model);
    if (!status) status = sk_classifier_open(path, &classifier, &err);
    if (!status) status = sk_dataset_open(folder, &dataset, &err);
    if (!status) status = sk_cache_open(dataset, 5, 2, NULL, &cache, &bad, &err);
    if (status) print_message("setup: %s\n", err.message);
    return status != SK_OK;
}

static int teardown(void **state) {
    (void)state;
    char command[96];
    sk_cache_close(cache);
    sk_dataset_close(dataset);
    sk_classifier_close(classifier);
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    return system(command);
}

static sk_eval_options options_of(sk_crops crops) {
    return (sk_eval_options){.split = SK_SPLIT_TEST,
                             .crops = crops,
                             .threshold = .5f,
                             .penalty = .8f,
                             .threads = 2,
                             .max_bad = 5,
                             .with_features = 1};
}

static void same_as_one_by_one(void **state) {
    (void)state;
    static const sk_crops rules[] = {SK_CROPS_ONE, SK_CROPS_THREE, SK_CROPS_SQUEEZE};
    static uint8_t pixels[3 * SIZE * SIZE * 3];
    static float features[3 * 2048];
    assert_int_equal(bad, 1);
    for (size_t r = 0; r < 3; r++) {
        const sk_eval_options o = options_of(rules[r]);
        sk_evaluation *e = NULL;
        sk_error err = {0};
        if (sk_evaluate(classifier, dataset, cache, &o, NULL, &e, &err)) fail_msg("%s", err.message);
        /* One is of val, one without label, one unreadable. */
        assert_int_equal(sk_evaluation_count(e), PICTURES - 3);
        assert_int_equal(e->unlabelled, 1);
        assert_int_equal(e->unreadable, 1);
        int count = 0;
        const float *kept = sk_evaluation_features(e, &count);
        assert_int_equal(count, sk_classifier_feature_count(classifier));
        for (size_t i = 0; i < sk_evaluation_count(e); i++) {
            const sk_outcome *outcome = sk_evaluation_outcome(e, i);
            const int crops = sk_crops_count(rules[r]);
            float p[6];
            sk_image image;
            assert_true(i == 0 || outcome->sample > sk_evaluation_outcome(e, i - 1)->sample);
            assert_int_equal(e->samples[i].label, label_of(outcome->sample));
            sk_cache_image(cache, outcome->sample, &image);
            assert_int_equal(sk_crops_prepare(&image, rules[r], SIZE, pixels, NULL), SK_OK);
            assert_int_equal(sk_classifier_run(classifier, pixels, crops, 1, p, features, NULL), SK_OK);
            assert_int_equal(outcome->verdict.crops, crops);
            for (int c = 0; c < crops; c++) assert_true(fabsf(outcome->verdict.p[c] - p[2 * c + 1]) < 1e-6f);
            for (int d = 0; d < count; d++)
                assert_true(fabsf(kept[i * (size_t)count + (size_t)d] - features[d]) < 1e-4f);
        }
        sk_evaluation_free(e);
    }
    assert_null(sk_evaluation_outcome(&(sk_evaluation){0}, 0));
}

static int found_in(const sk_looks *looks, sk_look_list list, size_t index) {
    int found = 0;
    for (size_t i = 0; i < looks->count; i++) found += looks->looks[i].list == list && looks->looks[i].index == index;
    return found;
}

/* Lists hold what they say, with the map of the crop that decided; rows cover every source and label. */
static void check_looks(const sk_evaluation *e, const sk_looks *looks, size_t most) {
    static float map[SIZE * SIZE];
    sk_saliency *s = NULL;
    size_t lists[SK_LOOK_LISTS] = {0}, wrong = 0, judged = 0;
    assert_int_equal(looks->size, SIZE);
    assert_int_equal(sk_saliency_create(classifier, looks->method, 1, &s, NULL), SK_OK);
    for (size_t i = 0; i < e->n; i++) {
        const int is_wrong = (e->outcomes[i].verdict.bird != 0) != (e->samples[i].label == SK_LABEL_BIRD);
        wrong += (size_t)is_wrong;
        assert_int_equal(found_in(looks, SK_LOOK_WRONG, i), is_wrong);
    }
    assert_int_equal(looks->wrong, wrong);
    for (size_t i = 0; i < looks->count; i++) {
        const sk_look *look = &looks->looks[i];
        const sk_label said = e->outcomes[look->index].verdict.bird ? SK_LABEL_BIRD : SK_LABEL_NOBIRD;
        lists[look->list]++;
        assert_int_equal(found_in(looks, look->list, look->index), 1);
        assert_int_equal(sk_saliency_map(s, look->image, said, map, NULL), SK_OK);
        assert_memory_equal(map, look->map, sizeof map);
    }
    const size_t right = e->n - wrong, shown = right < most ? right : most;
    assert_int_equal(lists[SK_LOOK_CERTAIN], shown);
    assert_int_equal(lists[SK_LOOK_UNCERTAIN], shown);
    assert_int_equal(looks->row_count, 4); /* two cameras, two labels */
    for (size_t i = 0; i < 4; i++) {
        assert_string_equal(looks->rows[i].source, i < 2 ? "cam0" : "cam1");
        assert_int_equal(looks->rows[i].label, i % 2 ? SK_LABEL_BIRD : SK_LABEL_NOBIRD);
        assert_true(!(looks->rows[i].share < 0 || looks->rows[i].share > 1));
        judged += looks->rows[i].n;
    }
    assert_true(judged <= (looks->method == SK_SALIENCY_CAM ? e->n : 4 * most));
    sk_saliency_free(s);
}

static uint64_t maps_made;
static void count_maps(void *user, const char *stage, const char *unit, uint64_t done, uint64_t total) {
    (void)user;
    (void)stage;
    (void)unit;
    assert_true(done <= total);
    maps_made = done;
}

static void looks(void **state) {
    (void)state;
    const sk_hooks count = {.progress = count_maps};
    sk_eval_options o = options_of(SK_CROPS_THREE);
    sk_evaluation *e = NULL;
    sk_looks *looks = NULL;
    sk_error err = {0};
    assert_int_equal(sk_evaluate(classifier, dataset, cache, &o, NULL, &e, &err), SK_OK);
    for (int method = SK_SALIENCY_CAM; method <= SK_SALIENCY_OCCLUSION; method++) {
        if (sk_evaluation_looks(e, classifier, cache, (sk_saliency_method)method, 2, &count, &looks, &err))
            fail_msg("%s", err.message);
        check_looks(e, looks, 2);
        /* Of every picture once, also if it is in two lists and in a row. */
        if (method == SK_SALIENCY_CAM) assert_int_equal(maps_made, e->n);
        sk_looks_free(looks);
    }
    const long live = sk_memory_live();
    sk_status status = SK_ERR_MEMORY;
    for (long at = 0; at < 20000 && status; at += at < 20 ? 1 : 1 + at / 4) {
        sk_memory_fail_at(at, 0);
        status = sk_evaluation_looks(e, classifier, cache, SK_SALIENCY_CAM, 1, NULL, &looks, NULL);
        sk_memory_fail_at(-1, 0);
        assert_true(status == SK_OK || (status == SK_ERR_MEMORY && !looks));
        if (status) assert_int_equal(sk_memory_live(), live);
    }
    assert_int_equal(status, SK_OK);
    sk_looks_free(looks);
    sk_evaluation_free(e);
}

static int stop_at_once(void *user) {
    (void)user;
    return 1;
}

/* Every change is judged over all pictures; that of the black frame is the one made by hand. */
static void shortcuts(void **state) {
    (void)state;
    static uint8_t pixels[SIZE * SIZE * 3];
    const sk_eval_options o = options_of(SK_CROPS_ONE);
    sk_shortcut found[SK_SHORTCUT_COUNT], again[SK_SHORTCUT_COUNT];
    sk_evaluation *e = NULL;
    sk_error err = {0};
    assert_int_equal(sk_evaluate(classifier, dataset, cache, &o, NULL, &e, NULL), SK_OK);
    if (sk_evaluation_shortcuts(e, classifier, cache, NULL, found, &err)) fail_msg("%s", err.message);
    double frame[2] = {0};
    for (size_t i = 0; i < e->n; i++) { /* the frame by hand: 8 % of 64 pixels are 5 */
        float p[2];
        sk_image image;
        const int bird = e->samples[i].label == SK_LABEL_BIRD;
        sk_cache_image(cache, e->outcomes[i].sample, &image);
        assert_int_equal(sk_crops_prepare(&image, SK_CROPS_ONE, SIZE, pixels, NULL), SK_OK);
        for (int k = 0; k < SIZE * SIZE; k++)
            if (k % SIZE < 5 || k % SIZE > 58 || k / SIZE < 5 || k / SIZE > 58) memset(pixels + 3 * k, 0, 3);
        assert_int_equal(sk_classifier_run(classifier, pixels, 1, 1, p, NULL, NULL), SK_OK);
        frame[bird] += (double)p[1] - (double)e->outcomes[i].verdict.p[0];
    }
    assert_true(fabs(frame[0]) > 1e-3 && fabs(frame[1]) > 1e-3); /* there is something to find */
    for (int label = 0; label < 2; label++) {
        size_t n = 0;
        for (size_t i = 0; i < e->n; i++) n += e->samples[i].label == (sk_label)label;
        assert_true(fabs(found[0].mean_dp[label] - frame[label] / (double)n) < 1e-6);
        for (int k = 0; k < SK_SHORTCUT_COUNT; k++) {
            assert_int_equal(found[k].n[label], n);
            assert_true(found[k].flips[label] <= n && found[k].name[0]);
        }
    }
    for (int k = 0; k < SK_SHORTCUT_COUNT; k++) { /* two cameras, two labels: the parts of the whole */
        assert_int_equal(found[k].row_count, 4);
        for (int label = 0; label < 2; label++) {
            size_t n = 0, flips = 0;
            double dp = 0;
            for (int row = label; row < 4; row += 2) {
                const sk_shortcut_row *r = &found[k].rows[row];
                assert_string_equal(r->source, row < 2 ? "cam0" : "cam1");
                assert_int_equal(r->label, label);
                n += r->n;
                flips += r->flips;
                dp += r->mean_dp * (double)r->n;
            }
            assert_int_equal(n, found[k].n[label]);
            assert_int_equal(flips, found[k].flips[label]);
            assert_true(fabs(dp / (double)n - found[k].mean_dp[label]) < 1e-9);
        }
    }
    sk_shortcuts_free(found);
    const sk_hooks hooks = {.cancelled = stop_at_once};
    const long live = sk_memory_live();
    assert_int_equal(sk_evaluation_shortcuts(e, classifier, cache, &hooks, again, &err), SK_ERR_CANCELLED);
    for (long at = 0; at < 60; at++) {
        sk_memory_fail_at(at, 0);
        const sk_status status = sk_evaluation_shortcuts(e, classifier, cache, NULL, again, &err);
        sk_memory_fail_at(-1, 0);
        if (status == SK_OK) sk_shortcuts_free(again);
        assert_true(status == SK_OK || status == SK_ERR_MEMORY);
        assert_int_equal(sk_memory_live(), live);
    }
    sk_evaluation_free(e);
}

/* What calibrate fits is the minimum over the logits that the evaluation keeps; the handle answers by it. */
static void calibrate(void **state) {
    (void)state;
    sk_eval_options o = options_of(SK_CROPS_ONE);
    o.with_logits = 1;
    sk_evaluation *e = NULL, *after = NULL;
    sk_calibrate_report report;
    sk_calibrate_options how = {.split = SK_SPLIT_TEST, .threads = 2};
    int labels[PICTURES];
    float temperature = 0;
    assert_int_equal(sk_evaluate(classifier, dataset, cache, &o, NULL, &e, NULL), SK_OK);
    for (size_t i = 0; i < e->n; i++) {
        const float *z = sk_evaluation_logits(e) + 2 * i;
        labels[i] = e->samples[i].label;
        assert_true(fabs(1 / (1 + exp((double)z[0] - (double)z[1])) - (double)e->outcomes[i].verdict.p[0]) < 1e-6);
    }
    assert_int_equal(sk_fit_temperature(sk_evaluation_logits(e), labels, e->n, 2, &temperature, NULL), SK_OK);
    assert_int_equal(sk_calibrate(classifier, dataset, cache, &how, NULL, &report, NULL), SK_OK);
    assert_true(report.temperature == temperature && report.old_temperature == 1);
    assert_true(sk_classifier_card(classifier)->threshold == .5f && report.penalty == .8f);
    assert_true(sk_classifier_card(classifier)->temperature == temperature);
    assert_int_equal(sk_evaluate(classifier, dataset, cache, &o, NULL, &after, NULL), SK_OK);
    assert_true(fabs(sk_evaluation_calibration(after, 1).nll - report.after.nll) < 1e-6);
    assert_true(fabs(sk_evaluation_calibration(after, (double)temperature).nll - report.before.nll) < 1e-6);
    assert_int_equal(sk_classifier_set_temperature(classifier, 1, NULL), SK_OK);
    sk_evaluation_free(e);
    sk_evaluation_free(after);
}

/* What calibrate tells of false alarms is what an evaluation by the card's rule finds, before and after. */
static void calibrate_threshold(void **state) {
    (void)state;
    sk_calibrate_options how = {.split = SK_SPLIT_TEST, .threads = 2, .with_threshold = 1, .false_alarms = 1};
    sk_calibrate_report report;
    const sk_card *card = sk_classifier_card(classifier);
    sk_metrics found[2];
    assert_int_equal(sk_calibrate(classifier, dataset, cache, &how, NULL, &report, NULL), SK_ERR_ARGUMENT);
    assert_true(card->temperature == 1 && card->threshold == .5f);
    how.false_alarms = .2;
    assert_int_equal(sk_classifier_set_thresholds(classifier, 1, .5f, .05f, NULL), SK_OK);
    for (int i = 0; i < 2; i++) {
        sk_eval_options o = options_of(SK_CROPS_ONE);
        sk_evaluation *e = NULL;
        if (i) assert_int_equal(sk_calibrate(classifier, dataset, cache, &how, NULL, &report, NULL), SK_OK);
        o.threshold = card->threshold;
        o.penalty = card->penalty;
        assert_int_equal(sk_evaluate(classifier, dataset, cache, &o, NULL, &e, NULL), SK_OK);
        found[i] = sk_evaluation_metrics(e);
        sk_evaluation_free(e);
    }
    assert_true(report.old_threshold == .5f && report.old_penalty == .05f);
    assert_true(report.threshold == card->threshold && report.penalty == card->penalty);
    assert_true(report.threshold > .05f && report.penalty == report.threshold);
    for (int label = 0; label < 2; label++) {
        assert_int_equal(report.pictures[label], found[0].confusion[label][0] + found[0].confusion[label][1]);
        assert_int_equal(report.called_before[label], found[0].confusion[label][1]);
        assert_int_equal(report.called_after[label], found[1].confusion[label][1]);
    }
    assert_int_equal(report.called_after[0], report.pictures[0] / 5);
    assert_int_equal(sk_classifier_set_thresholds(classifier, 1, .5f, 1, NULL), SK_OK);
    assert_int_equal(sk_calibrate(classifier, dataset, cache, &how, NULL, &report, NULL), SK_OK);
    assert_true(report.penalty == 1); /* is not lowered */
    assert_int_equal(sk_classifier_set_thresholds(classifier, 1, .5f, .8f, NULL), SK_OK);
}

static void refusals(void **state) {
    (void)state;
    sk_evaluation *e = NULL;
    sk_error err = {0};
    sk_eval_options o = options_of(SK_CROPS_ONE);
    o.split = SK_SPLIT_TRAIN; /* there are none */
    assert_int_equal(sk_evaluate(classifier, dataset, cache, &o, NULL, &e, &err), SK_ERR_DATA);
    assert_non_null(strstr(err.message, folder));
    o = options_of(SK_CROPS_ONE);
    o.threshold = 0;
    assert_int_equal(sk_evaluate(classifier, dataset, cache, &o, NULL, &e, &err), SK_ERR_ARGUMENT);
    o = options_of(SK_CROPS_ONE);
    const sk_hooks hooks = {.cancelled = stop_at_once};
    const long live = sk_memory_live();
    assert_int_equal(sk_evaluate(classifier, dataset, cache, &o, &hooks, &e, &err), SK_ERR_CANCELLED);
    assert_null(e);
    assert_int_equal(sk_memory_live(), live);
    sk_looks *none = NULL;
    assert_int_equal(sk_evaluate(classifier, dataset, cache, &o, NULL, &e, &err), SK_OK);
    assert_int_equal(sk_evaluation_looks(e, classifier, cache, SK_SALIENCY_CAM, 3, &hooks, &none, &err),
                     SK_ERR_CANCELLED);
    assert_null(none);
    sk_evaluation_free(e);
}

static void memory_faults(void **state) {
    (void)state;
    const sk_eval_options o = options_of(SK_CROPS_THREE);
    sk_evaluation *e = NULL;
    sk_status status = SK_ERR_MEMORY;
    /* The model keeps its working memory from the first run on. */
    assert_int_equal(sk_evaluate(classifier, dataset, cache, &o, NULL, &e, NULL), SK_OK);
    sk_evaluation_free(e);
    const long live = sk_memory_live();
    for (long at = 0; at < 20000 && status; at += at < 12 ? 1 : 1 + at / 6) {
        sk_memory_fail_at(at, 0);
        status = sk_evaluate(classifier, dataset, cache, &o, NULL, &e, NULL);
        sk_memory_fail_at(-1, 0);
        assert_true(status == SK_OK || (status == SK_ERR_MEMORY && !e));
        if (status) assert_int_equal(sk_memory_live(), live);
    }
    assert_int_equal(status, SK_OK);
    sk_evaluation_free(e);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(same_as_one_by_one), cmocka_unit_test(looks),
                                       cmocka_unit_test(calibrate),          cmocka_unit_test(calibrate_threshold),
                                       cmocka_unit_test(shortcuts),          cmocka_unit_test(refusals),
                                       cmocka_unit_test(memory_faults)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
