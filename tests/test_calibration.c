/* SPDX-License-Identifier: Apache-2.0 */
/* Temperature, calibration figures and the threshold under a share of false alarms against sums written out by hand or
 * in double precision; temperature and thresholds on their way through both kinds of model file. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "eval/evaluation.h"
#include "int8_net.h"
#include "rt/check.h"
#include "siskin/rt.h"

enum { PICTURES = 4000, CLASSES = 3 };

/* Logits whose labels are drawn from softmax(logits / temperature). */
static void draw(sk_rng *rng, double temperature, int n, int classes, float *logits, int *labels) {
    for (int i = 0; i < n; i++) {
        double weight[8], sum = 0;
        for (int c = 0; c < classes; c++) {
            logits[i * classes + c] = (float)(1.5 * sk_rng_normal(rng));
            weight[c] = exp((double)logits[i * classes + c] / temperature);
            sum += weight[c];
        }
        double at = sk_rng_uniform(rng) * sum;
        labels[i] = 0;
        while (labels[i] < classes - 1 && (at -= weight[labels[i]]) > 0) labels[i]++;
    }
}

/* The documented loss, term by term. */
static double loss(const float *logits, const int *labels, int n, int classes, double temperature) {
    double total = 0, seen[8] = {0};
    for (int i = 0; i < n; i++) seen[labels[i]]++;
    for (int i = 0; i < n; i++) {
        double sum = 0;
        for (int c = 0; c < classes; c++) sum += exp((double)logits[i * classes + c] / temperature);
        for (int c = 0; c < classes; c++) {
            const double certain = (c == labels[i] ? seen[labels[i]] + 1 : 1) / (seen[labels[i]] + classes);
            total -= certain * ((double)logits[i * classes + c] / temperature - log(sum));
        }
    }
    return total / n;
}

static void fit_is_the_minimum(void **state) {
    (void)state;
    static float logits[PICTURES * CLASSES];
    static int labels[PICTURES];
    static const double truths[] = {.6, 1, 2.5};
    for (size_t t = 0; t < 3; t++) {
        sk_rng rng = sk_rng_make(3, t, 0);
        float found = 0, again = 0;
        draw(&rng, truths[t], PICTURES, CLASSES, logits, labels);
        assert_int_equal(sk_fit_temperature(logits, labels, PICTURES, CLASSES, &found, NULL), SK_OK);
        assert_int_equal(sk_fit_temperature(logits, labels, PICTURES, CLASSES, &again, NULL), SK_OK);
        assert_true(found == again);
        assert_true(fabs(log((double)found / truths[t])) < .1); /* so many pictures tell it to about 3 % */
        const double least = loss(logits, labels, PICTURES, CLASSES, (double)found);
        for (double factor = .9; factor < 1.11; factor += .02)
            assert_true(least <= loss(logits, labels, PICTURES, CLASSES, (double)found * factor) + 1e-12);
    }
}

/* All right, all with the same margin m: p has to become (N + 1) / (N + 2), so temperature = m / log(N + 1). */
static void few_right_pictures_bound_it(void **state) {
    (void)state;
    float logits[2 * 40], temperature = 0;
    int labels[40];
    for (int n = 10; n <= 20; n += 10) {
        for (int i = 0; i < 2 * n; i++) {
            labels[i] = i % 2;
            logits[2 * i] = i % 2 ? -4 : 4;
            logits[2 * i + 1] = -logits[2 * i];
        }
        assert_int_equal(sk_fit_temperature(logits, labels, (size_t)n * 2, 2, &temperature, NULL), SK_OK);
        assert_true(fabs((double)temperature - 8 / log(n + 1.)) < 1e-5);
    }
    for (int i = 0; i < 80; i++) logits[i] *= 1e4f; /* endlessly certain */
    assert_int_equal(sk_fit_temperature(logits, labels, 40, 2, &temperature, NULL), SK_OK);
    assert_true(temperature == SK_FIT_MOST);
    for (int i = 0; i < 80; i++) logits[i] *= 1e-8f; /* right and doubtful */
    assert_int_equal(sk_fit_temperature(logits, labels, 40, 2, &temperature, NULL), SK_OK);
    assert_true(temperature == SK_FIT_LEAST);
}

static void fit_refusals(void **state) {
    (void)state;
    float logits[4] = {1, 2, 3, 4}, temperature = 7;
    int labels[2] = {0, 2};
    sk_error err = {0};
    assert_int_equal(sk_fit_temperature(logits, labels, 2, 2, &temperature, &err), SK_ERR_ARGUMENT);
    assert_int_equal(sk_fit_temperature(logits, labels, 0, 2, &temperature, &err), SK_ERR_ARGUMENT);
    labels[1] = 1;
    logits[3] = NAN;
    assert_int_equal(sk_fit_temperature(logits, labels, 2, 2, &temperature, &err), SK_ERR_DATA);
    assert_true(temperature == 7 && err.message[0]);
    logits[3] = 4;
    sk_memory_fail_at(0, 0);
    assert_int_equal(sk_fit_temperature(logits, labels, 2, 2, &temperature, &err), SK_ERR_MEMORY);
    sk_memory_fail_at(-1, 0);
}

/* Five pictures: .02 and .06 share the first of 15 bins, .3 and .9 have their own, 1 is in the last one. */
static void figures_by_hand(void **state) {
    (void)state;
    static const float p[5] = {.02f, .06f, .3f, .9f, 1};
    static const int birds[5] = {0, 1, 0, 1, 0};
    const sk_eval_options options = {.split = SK_SPLIT_TEST, .crops = SK_CROPS_ONE, .threshold = .5f, .penalty = .8f};
    sk_evaluation *e = NULL;
    assert_int_equal(sk_evaluation_create(&options, 5, 0, &e, NULL), SK_OK);
    assert_true(isnan(sk_evaluation_calibration(e, 1).ece));
    for (size_t i = 0; i < 5; i++) {
        e->samples[i] = (sk_sample){.label = birds[i] ? SK_LABEL_BIRD : SK_LABEL_NOBIRD};
        e->outcomes[i] = (sk_outcome){i, sk_decide(&p[i], 1, .5f, .8f)};
    }
    e->n = 5;
    const sk_calibration c = sk_evaluation_calibration(e, 1);
    assert_int_equal(c.n, 5);
    assert_true(c.count[0] == 2 && c.count[4] == 1 && c.count[13] == 1 && c.count[14] == 1);
    assert_true(fabs(c.mean_p[0] - .04) < 1e-8 && c.share[0] == .5 && isnan(c.share[1]));
    /* |.04 - .5| * 2/5 + |.3 - 0| / 5 + |.9 - 1| / 5 + |1 - 0| / 5 */
    assert_true(fabs(c.ece - (.46 * .4 + .06 + .02 + .2)) < 1e-7);
    assert_true(fabs(c.brier - (.0004 + .8836 + .09 + .01 + 1) / 5) < 1e-7);
    const double nll = -(log(.98) + log(.06) + log(.7) + log(.9) + log(ldexp(1, -24))) / 5;
    assert_true(fabs(c.nll - nll) < 1e-6);
    /* log-odds doubled: .3 becomes .09 / (.09 + .49) */
    const sk_calibration twice = sk_evaluation_calibration(e, 2);
    assert_true(fabs(twice.mean_p[2] - .09 / .58) < 1e-7);
    sk_evaluation_free(e);
}

/* ---- the threshold under a share of false alarms ---------------------------------------------------------------- */

/* An evaluation whose i-th picture has logits that differ by margins[i]. */
static sk_evaluation *judged(const double *margins, const int *birds, size_t n) {
    const sk_eval_options options = {.split = SK_SPLIT_VAL, .with_logits = 1};
    sk_evaluation *e = NULL;
    assert_int_equal(sk_evaluation_create(&options, n, 0, &e, NULL), SK_OK);
    for (size_t i = 0; i < n; i++) {
        e->samples[i] = (sk_sample){.label = birds[i] ? SK_LABEL_BIRD : SK_LABEL_NOBIRD};
        e->logits[2 * i] = -1; /* a common offset says nothing */
        e->logits[2 * i + 1] = (float)(margins[i] - 1);
    }
    e->n = n;
    return e;
}

/* The log-odds of the threshold. */
static double chosen(const sk_evaluation *e, float temperature, double share) {
    float threshold = 0;
    sk_error err = {0};
    if (sk_evaluation_threshold(e, temperature, share, &threshold, &err)) fail_msg("%s", err.message);
    assert_true(threshold > 0 && threshold < 1);
    return log((double)threshold / (1 - (double)threshold));
}

#define NEAR(a, b) assert_true(fabs((a) - (b)) < 1e-5)

static void threshold_by_hand(void **state) {
    (void)state;
    static const double margins[] = {2.5, 0, 3, 1, 4, 2};
    static const int birds[] = {1, 0, 0, 0, 1, 0};
    sk_evaluation *e = judged(margins, birds, 6);
    size_t called[2];
    NEAR(chosen(e, 1, 0), 3.5);     /* above every picture without a bird, below the bird at 4 */
    NEAR(chosen(e, 1, .2499), 3.5); /* one of four is more than that */
    NEAR(chosen(e, 1, .25), 2.25);  /* the next above 2 is a bird */
    NEAR(chosen(e, 1, .5), 1.5);
    NEAR(chosen(e, 1, .9999), .5); /* one of the four never alarms */
    NEAR(chosen(e, 2, .25), 1.125);
    sk_evaluation_called(e, 2, .5f, called);
    assert_true(called[0] == 4 && called[1] == 2); /* p of .5 is bird */
    sk_evaluation_called(e, 2, (float)(1 / (1 + exp(-1.125))), called);
    assert_true(called[0] == 1 && called[1] == 2);
    sk_evaluation_free(e);
    e = judged(margins + 1, birds + 1, 3); /* nothing above 3: a sixteenth */
    NEAR(chosen(e, 1, 0), 3.0625);
    sk_evaluation_free(e);
}

/* Equal scores alarm together or not at all, whether bird or not; so do those that float may not keep apart. */
static void threshold_of_ties(void **state) {
    (void)state;
    static const double margins[] = {1, 1, 1, 0, 1, 2, 30, 45};
    static const double nearly[] = {1, 1.000002, .999998, 0, 1, 2, 30, 45};
    static const int birds[] = {0, 0, 0, 0, 1, 1, 1, 1};
    for (int i = 0; i < 2; i++) {
        sk_evaluation *e = judged(i ? nearly : margins, birds, 8);
        for (double share = 0; share < .7; share += .25) NEAR(chosen(e, 1, share), 1.5);
        NEAR(chosen(e, 1, .75), .5);
        sk_evaluation_free(e);
    }
    /* The bird above is endlessly certain: p counts as 1 - 2^-24. */
    static const int two[] = {0, 1};
    sk_evaluation *e = judged(margins + 5, two, 2);
    assert_true(fabs(chosen(e, 1, 0) - (2 + log(ldexp(1, 24) - 1)) / 2) < 1e-3); /* as exact as float is there */
    sk_evaluation_free(e);
    /* .29 of 100 are 29, though their product is a little less. */
    double row[100];
    int none[100] = {0};
    for (int i = 0; i < 100; i++) row[i] = i * .05;
    e = judged(row, none, 100);
    NEAR(chosen(e, 1, .29), 3.525);
    NEAR(chosen(e, 1, .07), 4.625);
    sk_evaluation_free(e);
}

/* Drawn scores on a coarse grid: no more alarms than allowed, and at the next lower score there are too many. */
static void threshold_is_the_least(void **state) {
    (void)state;
    enum { N = 200 };
    double margins[N];
    int birds[N];
    for (uint64_t seed = 0; seed < 50; seed++) {
        sk_rng rng = sk_rng_make(seed, 0, 0);
        double none = 0;
        for (int i = 0; i < N; i++) {
            birds[i] = sk_rng_uniform(&rng) < .4;
            margins[i] = round(4 * sk_rng_normal(&rng) + 3 * birds[i]) / 4;
            none += !birds[i];
        }
        const double share = sk_rng_uniform(&rng) * .5;
        sk_evaluation *e = judged(margins, birds, N);
        const double at = chosen(e, 1, share);
        double next = -INFINITY, alarms = 0, more = 0;
        for (int i = 0; i < N; i++) next = margins[i] < at ? fmax(next, margins[i]) : next;
        for (int i = 0; i < N; i++) {
            alarms += !birds[i] && margins[i] >= at;
            more += !birds[i] && margins[i] >= next;
            assert_true(fabs(margins[i] - at) > .05);
        }
        assert_true(alarms <= share * none && more > share * none);
        sk_evaluation_free(e);
    }
}

static void threshold_refusals(void **state) {
    (void)state;
    static const double margins[] = {0, 17, 40, 50};
    static const int birds[] = {1, 0, 0, 1};
    static const double shares[] = {-.01, 1, NAN, INFINITY};
    float threshold = 7;
    sk_error err = {0};
    sk_evaluation *e = judged(margins, birds, 4);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(sk_evaluation_threshold(e, 1, shares[i], &threshold, &err), SK_ERR_ARGUMENT);
    assert_int_equal(sk_evaluation_threshold(e, 0, .1, &threshold, &err), SK_ERR_ARGUMENT);
    /* p of both without a bird is 1 as float, at the bird's and at any threshold. */
    assert_int_equal(sk_evaluation_threshold(e, 1, .5, &threshold, &err), SK_ERR_DATA);
    assert_non_null(strstr(err.message, "more than 1 of 2"));
    assert_true(chosen(e, 4, .5) > 17. / 4); /* a higher temperature parts them */
    e->n = 1;
    assert_int_equal(sk_evaluation_threshold(e, 1, 0, &threshold, &err), SK_ERR_DATA);
    assert_non_null(strstr(err.message, "\"val\" is without a bird"));
    sk_free(e->logits);
    e->logits = NULL;
    assert_int_equal(sk_evaluation_threshold(e, 1, 0, &threshold, &err), SK_ERR_ARGUMENT);
    assert_true(threshold == 7);
    sk_evaluation_free(e);
}

/* ---- temperature and thresholds in the files -------------------------------------------------------------------- */
enum { SIDE = 24 };

static char path[64];

static uint8_t *small_skn(size_t *size) {
    test_net net;
    uint8_t picture[SIDE * SIDE * 3], *bytes = NULL;
    net_make(&net, SIDE, 16, 21);
    for (uint64_t i = 0; i < 4; i++) {
        net_picture(SIDE, i, picture);
        net_run(&net, picture);
    }
    assert_int_equal(net_build(&net, 0, &bytes, size, NULL), SK_OK);
    net_free(&net);
    return bytes;
}

static double log_odds(const float p[2]) { return log((double)p[1] / (double)p[0]); }

static const float THRESHOLD = 1 - 0x1p-24f, PENALTY = 1; /* no decimal text may lose the last bit */

static int card_is(const sk_classifier *c, float temperature, float threshold, float penalty) {
    const sk_card *card = sk_classifier_card(c);
    return card->temperature == temperature && card->threshold == threshold && card->penalty == penalty;
}

/* From temperature 2 and the default thresholds: refusals and lack of memory leave all three. */
static void set_thresholds(sk_classifier *c, int int8) {
    static const float bad[][3] = {{2, 0, .8f}, {2, 1, 1}, {2, NAN, 1}, {2, .5f, 0}, {2, .5f, 1.5f}, {0, .5f, .8f}};
    sk_error err = {0};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(sk_classifier_set_thresholds(c, bad[i][0], bad[i][1], bad[i][2], &err), SK_ERR_ARGUMENT);
    sk_status status = SK_ERR_MEMORY;
    long at = 0;
    for (; status; at++) {
        const long live = sk_memory_live();
        assert_true(card_is(c, 2, .5f, .8f));
        sk_memory_fail_at(at, 0);
        status = sk_classifier_set_thresholds(c, 2, THRESHOLD, PENALTY, &err);
        sk_memory_fail_at(-1, 0);
        assert_true(status == SK_OK || (status == SK_ERR_MEMORY && sk_memory_live() == live));
    }
    assert_true(int8 ? at > 1 : at == 1); /* a .skn is made anew, a float model has its card at hand */
    assert_true(card_is(c, 2, THRESHOLD, PENALTY));
}

/* Opens `path`, halves the log-odds by temperature 2, sets thresholds, writes it back and finds it all again. */
static void round_trip(int int8) {
    static uint8_t picture[224 * 224 * 3];
    float before[2], logits[2], after[2], again[2];
    sk_classifier *c = NULL;
    sk_error err = {0};
    if (sk_classifier_open(path, &c, &err)) fail_msg("%s", err.message);
    assert_true(sk_classifier_is_int8(c) == int8 && (sk_classifier_model(c) == NULL) == int8);
    const int size = sk_classifier_card(c)->size;
    assert_true(sk_classifier_card(c)->temperature == 1);
    net_picture(size, 5, picture);
    assert_int_equal(sk_classifier_run_logits(c, picture, 1, 1, before, logits, NULL, NULL), SK_OK);
    assert_true(fabs(log_odds(before) - (double)(logits[1] - logits[0])) < 1e-4);
    assert_int_equal(sk_classifier_set_temperature(c, 0, &err), SK_ERR_ARGUMENT);
    assert_int_equal(sk_classifier_set_temperature(c, NAN, &err), SK_ERR_ARGUMENT);
    assert_int_equal(sk_classifier_set_temperature(c, 2, &err), SK_OK);
    assert_int_equal(sk_classifier_run(c, picture, 1, 2, after, NULL, NULL), SK_OK);
    set_thresholds(c, int8);
    assert_true(fabs(log_odds(after) - log_odds(before) / 2) < 1e-4);
    assert_int_equal(sk_classifier_write(c, path, &err), SK_OK);
    sk_classifier_close(c);
    assert_int_equal(sk_classifier_open(path, &c, &err), SK_OK);
    assert_true(sk_classifier_is_int8(c) == int8);
    assert_true(card_is(c, 2, THRESHOLD, PENALTY));
    assert_int_equal(sk_classifier_run(c, picture, 1, 1, again, NULL, NULL), SK_OK);
    assert_memory_equal(after, again, sizeof after);
    sk_classifier_close(c);
}

static void temperature_travels(void **state) {
    (void)state;
    size_t size = 0;
    uint8_t *bytes = small_skn(&size);
    sk_model *model = NULL;
    sk_card card = sk_card_default(SK_ARCH_V3_SMALL);
    const long live = sk_memory_live();
    snprintf(path, sizeof path, "/tmp/siskin-calibration-%ld", (long)getpid());
    assert_int_equal(sk_file_write(path, bytes, size, NULL), SK_OK);
    round_trip(1);
    sk_rt *rt = NULL; /* as on the board */
    assert_int_equal(sk_rt_open(path, &rt, NULL), SK_OK);
    assert_true(sk_rt_get_info(rt)->threshold == THRESHOLD && sk_rt_get_info(rt)->penalty == PENALTY);
    sk_rt_close(rt);
    card.size = 64;
    assert_int_equal(sk_model_create(&card, 4, &model, NULL), SK_OK);
    assert_int_equal(sk_model_write(model, path, NULL), SK_OK);
    round_trip(0);
    card.temperature = -1; /* not taken over */
    sk_model_set_card(model, &card);
    assert_true(sk_model_card(model)->temperature == 1);
    sk_model_free(model);
    assert_int_equal(sk_memory_live(), live);
    sk_free(bytes);
    unlink(path);
}

static sk_status open_as(uint8_t *bytes, size_t size, uint32_t version, float temperature, sk_rt **rt) {
    sk_skn_header *h = (sk_skn_header *)(void *)bytes;
    h->version = version;
    h->temperature = temperature;
    h->crc32 = sk_skn_crc(bytes, size);
    return sk_rt_open_memory(bytes, size, rt, NULL);
}

static void versions_of_skn(void **state) {
    (void)state;
    size_t size = 0;
    uint8_t *bytes = small_skn(&size), picture[SIDE * SIDE * 3];
    int8_t logits[2];
    float p[2][2];
    static const struct {
        uint32_t version;
        float temperature;
        int opens;
    } files[] = {{4, 1, 1}, {4, 2, 1},  {0, 0, 0},   {1, 0, 0},       {3, 1, 0}, {6, 1, 0},
                 {4, 0, 0}, {4, -1, 0}, {4, NAN, 0}, {4, INFINITY, 0}};
    net_picture(SIDE, 5, picture);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        sk_rt *rt = NULL;
        assert_int_equal(open_as(bytes, size, files[i].version, files[i].temperature, &rt) == SK_OK, files[i].opens);
        if (!rt) continue;
        assert_true(sk_rt_get_info(rt)->temperature == (i == 1 ? 2 : 1));
        sk_rt_run(rt, picture, logits, NULL);
        sk_rt_probabilities(rt, logits, p[i]);
        sk_rt_close(rt);
    }
    assert_true(fabs(log_odds(p[1]) - log_odds(p[0]) / 2) < 1e-5);
    sk_free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fit_is_the_minimum),  cmocka_unit_test(few_right_pictures_bound_it),
        cmocka_unit_test(fit_refusals),        cmocka_unit_test(figures_by_hand),
        cmocka_unit_test(threshold_by_hand),   cmocka_unit_test(threshold_of_ties),
        cmocka_unit_test(threshold_refusals),  cmocka_unit_test(threshold_is_the_least),
        cmocka_unit_test(temperature_travels), cmocka_unit_test(versions_of_skn)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
