/* SPDX-License-Identifier: Apache-2.0 */
/* Statistics of evaluation against known figures and brute force. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/base.h"
#include "eval/evaluation.h"

static void close_to(double value, double wanted, double tolerance) {
    if (!(fabs(value - wanted) <= tolerance)) fail_msg("%.12g is not %.12g", value, wanted);
}

/* ---- intervals and tests ----------------------------------------------------------------------------------------- */

/* Newcombe 1998 (Statistics in Medicine 17), table I, method 3: 81/263, 15/148, 0/20, 1/29. */
static void wilson_known(void **state) {
    (void)state;
    static const struct {
        size_t k, n;
        double low, high;
    } known[] = {{81, 263, .2553, .3662}, {15, 148, .0624, .1605}, {0, 20, 0, .1611}, {1, 29, .0061, .1718}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        double low, high;
        sk_wilson(known[i].k, known[i].n, &low, &high);
        close_to(low, known[i].low, 5.1e-5);
        close_to(high, known[i].high, 5.1e-5);
        sk_wilson(known[i].n - known[i].k, known[i].n, &low, &high);
        close_to(1 - high, known[i].low, 5.1e-5);
        close_to(1 - low, known[i].high, 5.1e-5);
    }
    double low, high;
    sk_wilson(0, 0, &low, &high);
    close_to(low, 0, 0);
    close_to(high, 1, 0);
    sk_wilson(7, 7, &low, &high);
    close_to(high, 1, 0);
}

static void mcnemar_known(void **state) {
    (void)state;
    close_to(sk_mcnemar(0, 0), 1, 0);
    close_to(sk_mcnemar(5, 5), 1, 0);
    close_to(sk_mcnemar(0, 5), .0625, 1e-12);
    close_to(sk_mcnemar(8, 2), .109375, 1e-12); /* 2 (1 + 10 + 45) / 1024 */
    close_to(sk_mcnemar(2, 8), .109375, 1e-12);
    assert_true(sk_mcnemar(0, 3000) < 1e-300);
    assert_true(sk_mcnemar(1500, 1500) > .99 && isfinite(sk_mcnemar(1400, 1600)));
}

static void roc_brute_force(void **state) {
    (void)state;
    for (uint64_t trial = 0; trial < 60; trial++) {
        sk_rng rng = sk_rng_make(trial, 1, 2);
        double scores[70], sum = 0, pairs = 0;
        int birds[70];
        const size_t n = 2 + sk_rng_below(&rng, 69);
        const uint32_t levels = trial % 3 ? 5 : 100000; /* few levels: many ties */
        for (size_t i = 0; i < n; i++) {
            birds[i] = (int)sk_rng_below(&rng, 2);
            scores[i] = (double)sk_rng_below(&rng, levels) / levels + .1 * birds[i];
        }
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++) {
                if (!birds[i] || birds[j]) continue;
                pairs += 1;
                sum += scores[i] > scores[j] ? 1 : scores[i] < scores[j] ? 0 : .5;
            }
        double area;
        assert_int_equal(sk_roc_area(scores, birds, n, &area, NULL), SK_OK);
        if (pairs > 0) close_to(area, sum / pairs, 1e-12);
        else assert_true(isnan(area));
    }
    double area = 0;
    assert_int_equal(sk_roc_area(NULL, NULL, 0, &area, NULL), SK_OK);
    assert_true(isnan(area));
}

/* The score must agree with the rule, or the ROC would be that of another classifier. */
static void score_follows_rule(void **state) {
    (void)state;
    sk_rng rng = sk_rng_make(3, 0, 0);
    for (int i = 0; i < 20000; i++) {
        const float thresholds[] = {.5f, .3f, .75f}, penalties[] = {.5f, .8f, .85f, 1.f};
        const float t = thresholds[sk_rng_below(&rng, 3)], q = penalties[sk_rng_below(&rng, 4)];
        float p[3];
        for (int c = 0; c < 3; c++) p[c] = (float)sk_rng_below(&rng, 41) / 40;
        const int crops = sk_rng_below(&rng, 2) ? 3 : 1;
        const sk_verdict v = sk_decide(p, crops, t, q);
        assert_int_equal(v.bird != 0, sk_score(&v, t, q) >= (double)t);
    }
}

/* ---- metrics on handmade outcomes -------------------------------------------------------------------------------- */

typedef struct made {
    sk_label label;
    float p;
    const char *source, *group;
} made;

static const made pictures[] = {
    {SK_LABEL_BIRD, .9f, "cam", "a"},   {SK_LABEL_BIRD, .8f, "cam", "a"},   {SK_LABEL_BIRD, .4f, "cam", "b"},
    {SK_LABEL_NOBIRD, .1f, "cam", "b"}, {SK_LABEL_NOBIRD, .6f, "web", "c"}, {SK_LABEL_NOBIRD, .2f, "web", "c"},
    {SK_LABEL_NOBIRD, .3f, "web", "d"}, {SK_LABEL_NOBIRD, .0f, "web", "d"},
};
enum { PICTURES = sizeof pictures / sizeof *pictures };

static sk_evaluation *evaluation_of(const made *list, size_t n) {
    const sk_eval_options options = {.split = SK_SPLIT_TEST, .crops = SK_CROPS_ONE, .threshold = .5f, .penalty = .8f};
    sk_evaluation *e = NULL;
    assert_int_equal(sk_evaluation_create(&options, n, 0, &e, NULL), SK_OK);
    for (size_t i = 0; i < n; i++) {
        e->samples[i] = (sk_sample){.path = "x",
                                    .label = list[i].label,
                                    .source = list[i].source,
                                    .group = list[i].group,
                                    .split = SK_SPLIT_TEST};
        e->outcomes[i] = (sk_outcome){i, sk_decide(&list[i].p, 1, .5f, .8f)};
    }
    e->n = n;
    return e;
}

static void metrics_handmade(void **state) {
    (void)state;
    sk_evaluation *e = evaluation_of(pictures, PICTURES);
    const sk_metrics m = sk_evaluation_metrics(e);
    assert_int_equal(m.n, 8);
    assert_int_equal(m.confusion[1][1], 2);
    assert_int_equal(m.confusion[1][0], 1);
    assert_int_equal(m.confusion[0][1], 1);
    assert_int_equal(m.confusion[0][0], 4);
    close_to(m.accuracy, .75, 1e-12);
    close_to(m.precision, 2. / 3, 1e-12);
    close_to(m.recall, 2. / 3, 1e-12);
    close_to(m.f1, 2. / 3, 1e-12);
    close_to(m.roc_area, 14. / 15, 1e-12);
    assert_true(m.accuracy_low < .75 && m.accuracy_high > .75);
    sk_slice *slices;
    size_t count;
    assert_int_equal(sk_evaluation_slices(e, 0, &slices, &count, NULL), SK_OK);
    assert_int_equal(count, 2);
    assert_string_equal(slices[1].name, "web");
    assert_int_equal(slices[1].metrics.n, 4);
    close_to(slices[1].metrics.accuracy, .75, 1e-12);
    assert_true(isnan(slices[1].metrics.roc_area) && isnan(slices[1].metrics.recall));
    close_to(slices[1].metrics.precision, 0, 0);
    sk_slices_free(slices);
    assert_int_equal(sk_evaluation_slices(e, 1, &slices, &count, NULL), SK_OK);
    assert_int_equal(count, 4);
    assert_string_equal(slices[2].name, "c");
    close_to(slices[2].metrics.accuracy, .5, 1e-12);
    sk_slices_free(slices);
    sk_evaluation_free(e);
}

static void metrics_empty(void **state) {
    (void)state;
    sk_evaluation *e = evaluation_of(pictures, 0);
    const sk_metrics m = sk_evaluation_metrics(e);
    assert_true(isnan(m.accuracy) && isnan(m.precision) && isnan(m.recall) && isnan(m.f1) && isnan(m.roc_area));
    sk_evaluation_free(e);
}

static void comparison(void **state) {
    (void)state;
    made other[PICTURES];
    memcpy(other, pictures, sizeof other);
    other[0].p = .2f; /* right becomes wrong */
    other[4].p = .4f; /* wrong becomes right */
    other[1].p = .3f;
    sk_evaluation *a = evaluation_of(pictures, PICTURES), *b = evaluation_of(other, PICTURES);
    sk_comparison c;
    assert_int_equal(sk_evaluation_compare(a, b, &c, NULL), SK_OK);
    assert_int_equal(c.only_first, 2);
    assert_int_equal(c.only_second, 1);
    assert_int_equal(c.both_right, 4);
    assert_int_equal(c.both_wrong, 1);
    assert_int_equal(c.flips, 3);
    close_to(c.flip_rate, 3. / 8, 1e-12);
    close_to(c.accuracy_difference, -1. / 8, 1e-12);
    close_to(c.max_dp, .7, 1e-6);
    close_to(c.mean_dp, (.7 + .5 + .2) / 8, 1e-6);
    close_to(c.mcnemar_p, 1, 1e-12);
    b->n--;
    assert_int_equal(sk_evaluation_compare(a, b, &c, NULL), SK_ERR_MISMATCH);
    b->n++;
    b->outcomes[3].sample = 99;
    assert_int_equal(sk_evaluation_compare(a, b, &c, NULL), SK_ERR_MISMATCH);
    sk_evaluation_free(a);
    sk_evaluation_free(b);
}

static void memory_faults(void **state) {
    (void)state;
    sk_evaluation *e = evaluation_of(pictures, PICTURES);
    const long live = sk_memory_live();
    for (long at = 0; at < 20; at++) {
        sk_slice *slices;
        size_t count;
        sk_memory_fail_at(at, 1);
        const sk_status status = sk_evaluation_slices(e, 1, &slices, &count, NULL);
        assert_int_equal(status, at < 2 ? SK_ERR_MEMORY : SK_OK);
        close_to(sk_evaluation_metrics(e).roc_area, 14. / 15, 1e-12);
        sk_memory_fail_at(-1, 0);
        sk_slices_free(slices);
        assert_int_equal(sk_memory_live(), live);
    }
    sk_evaluation_free(e);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wilson_known),       cmocka_unit_test(mcnemar_known),      cmocka_unit_test(roc_brute_force),
        cmocka_unit_test(score_follows_rule), cmocka_unit_test(metrics_handmade),   cmocka_unit_test(metrics_empty),
        cmocka_unit_test(comparison),         cmocka_unit_test(memory_faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
