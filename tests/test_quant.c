/* SPDX-License-Identifier: Apache-2.0 */
/* The steps of quantisation: observers and interval against tests/peer_quant.py, learned rounding against all
 * roundings, bias correction and rounding on pictures that were not calibrated with, threads, explanation, options,
 * memory. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "quant_help.h"
#include "siskin/eval.h"

enum { SIDE = 48, WIDTH = 16, PICTURES = 40 };

/* ---- observers against numpy --------------------------------------------------------------------------------- */

static void fill_range(sk_range *range) {
    const int count = 200000;
    float *x = malloc((size_t)count * sizeof *x);
    for (int i = 0; i < count; i++) {
        const double u = (i + 0.5) / count * 2 - 1;
        x[i] = i % 50000 == 0 ? 11 : (float)(0.4 * u + 2 * u * u * u + 3 * pow(u, 15));
    }
    memset(range, 0, sizeof *range);
    sk_range_widen(range, x, (size_t)count);
    range->bins = sk_calloc(SK_RANGE_BINS, sizeof *range->bins);
    sk_range_count(range, NULL, x, (size_t)count, 1);
    free(x);
}

static void test_observers_equal_peer(void **state) {
    (void)state;
    const struct {
        sk_quant_observer observer;
        double percentile, low, high, tolerance;
    } cases[] = {{SK_QUANT_PERCENTILE, 99.9, -5.29772, 5.30023, 0},
                 {SK_QUANT_PERCENTILE, 99.99, -5.38896, 5.39153, 0},
                 {SK_QUANT_MMSE, 0, -5.34524, 9.90000, 0},
                 {SK_QUANT_KL, 0, -5.39923, 5.50000, 0}};
    sk_range range;
    fill_range(&range);
    const double bin = ((double)range.high - (double)range.low) / SK_RANGE_BINS;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        float out[2];
        assert_int_equal(sk_range_choose(&range, cases[i].observer, cases[i].percentile, out, NULL), SK_OK);
        print_message("%s: %.5f to %.5f, peer %.5f to %.5f\n", sk_quant_observer_name(cases[i].observer),
                      (double)out[0], (double)out[1], cases[i].low, cases[i].high);
        assert_true(fabs((double)out[0] - cases[i].low) < bin + cases[i].tolerance);
        assert_true(fabs((double)out[1] - cases[i].high) < bin + cases[i].tolerance);
    }
    sk_free(range.bins);
}

static void test_interval_equals_peer(void **state) {
    (void)state;
    const struct {
        size_t both, first, second, neither;
        double low, high;
    } cases[] = {{36, 2, 12, 0, 0.056930, 0.340428}, /* also the paper's own example */
                 {247, 1, 0, 23, -0.019511, 0.011227},
                 {108, 140, 0, 23, -0.573374, -0.453612},
                 {50, 0, 0, 0, -0.071348, 0.071348},
                 {10, 6, 3, 1, -0.408511, 0.137759}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double low, high;
        sk_paired_interval(cases[i].both, cases[i].first, cases[i].second, cases[i].neither, &low, &high);
        assert_true(fabs(low - cases[i].low) < 2e-6 && fabs(high - cases[i].high) < 2e-6);
    }
    double low, high;
    sk_paired_interval(0, 0, 0, 0, &low, &high);
    assert_true(isnan(low) && isnan(high));
}

/* ---- learned rounding ------------------------------------------------------------------------------------------ */

enum { DEPTH = 10, ROWS = 60, CHANNELS = 16 };

/* Inputs that go together, as neighbouring channels do. */
static void make_problem(uint64_t seed, float *real, float *gram, float *cross) {
    float x[ROWS][DEPTH];
    sk_rng rng = sk_rng_make(seed, 9, 0);
    for (int i = 0; i < ROWS; i++) {
        const double common = sk_rng_normal(&rng), other = sk_rng_normal(&rng);
        for (int k = 0; k < DEPTH; k++) {
            x[i][k] = (float)(2 * common + (k & 1 ? other : -other) + 0.5 * sk_rng_normal(&rng));
        }
    }
    for (int c = 0; c < CHANNELS; c++) {
        for (int k = 0; k < DEPTH; k++) {
            real[c * DEPTH + k] = (float)(40 * sk_rng_normal(&rng));
        }
        real[c * DEPTH] = 140; /* beyond the codes: no choice */
    }
    for (int a = 0; a < DEPTH; a++) {
        for (int b = 0; b < DEPTH; b++) {
            double sum = 0;
            for (int i = 0; i < ROWS; i++) {
                sum += (double)x[i][a] * (double)x[i][b];
            }
            gram[a * DEPTH + b] = (float)(sum / ROWS);
        }
    }
    for (int c = 0; c < CHANNELS; c++) {
        for (int a = 0; a < DEPTH; a++) {
            double sum = 0;
            for (int b = 0; b < DEPTH; b++) {
                sum += (double)gram[a * DEPTH + b] * (double)real[c * DEPTH + b];
            }
            cross[c * DEPTH + a] = (float)sum;
        }
    }
}

static int8_t clamp_code(double code) {
    return (int8_t)fmin(fmax(code, -127), 127);
}

static void test_adaround(void **state) {
    (void)state;
    static float real[CHANNELS * DEPTH], gram[DEPTH * DEPTH], cross[CHANNELS * DEPTH];
    double nearest_sum = 0, learned_sum = 0, best_sum = 0;
    for (uint64_t seed = 0; seed < 8; seed++) {
        int8_t nearest[CHANNELS * DEPTH], learned[CHANNELS * DEPTH];
        make_problem(seed, real, gram, cross);
        for (int i = 0; i < CHANNELS * DEPTH; i++) {
            nearest[i] = learned[i] = clamp_code(floor((double)real[i] + .5));
        }
        const sk_rounding problem = {DEPTH, CHANNELS, -127, 127, real, gram, cross};
        assert_int_equal(sk_adaround(&problem, learned, NULL), SK_OK);
        for (int c = 0; c < CHANNELS; c++) {
            double floor_error = 0, best = INFINITY; /* the error of the real codes is the constant left out */
            for (int i = 0; i < DEPTH; i++) {
                const double r = (double)real[c * DEPTH + i];
                floor_error -= r * (double)cross[c * DEPTH + i];
                const double code = learned[c * DEPTH + i];
                assert_true(fabs(code - fmin(fmax(r, -127), 127)) < 1);
            }
            for (int bits = 0; bits < 1 << DEPTH; bits++) {
                int8_t codes[DEPTH];
                for (int i = 0; i < DEPTH; i++) {
                    codes[i] = clamp_code(floor((double)real[c * DEPTH + i]) + (bits >> i & 1));
                }
                best = fmin(best, sk_rounding_error(&problem, c, codes) - floor_error);
            }
            const double before = sk_rounding_error(&problem, c, nearest + c * DEPTH) - floor_error;
            const double after = sk_rounding_error(&problem, c, learned + c * DEPTH) - floor_error;
            assert_true(after <= before * (1 + 1e-6) && after >= best * (1 - 1e-3) - 1e-2);
            nearest_sum += before;
            learned_sum += after;
            best_sum += best;
        }
    }
    print_message("squared error: nearest %.1f, learned %.1f, best of all roundings %.1f\n", nearest_sum, learned_sum,
                  best_sum);
    assert_true(learned_sum - best_sum < .35 * (nearest_sum - best_sum));
}

/* ---- whole networks -------------------------------------------------------------------------------------------- */

static void test_steps_pay(void **state) {
    (void)state;
    double square[4] = {0}, mean[4] = {0}; /* nearest, biases corrected, rounding learned, both */
    for (uint64_t seed = 1; seed < 5; seed++) {
        test_net net;
        net_make(&net, SIDE, WIDTH, seed);
        net.built = 1; /* its own ranges are not used */
        sk_quant_pictures pictures = make_pictures(SIDE, PICTURES, 0);
        for (int i = 0; i < 4; i++) {
            sk_quant_options o = sk_quant_defaults();
            o.correct_bias = i & 1;
            o.adaround = i >> 1;
            o.per = SK_QUANT_PER_TENSOR; /* coarse enough for the steps to stand out of the activations' noise */
            o.threads = 1;
            size_t size = 0;
            double s, m, agreement;
            uint8_t *bytes = quantise(&net, &pictures, &o, &size, &agreement);
            assert_true(agreement > .8);
            held_out_error(&net, bytes, size, &s, &m);
            square[i] += s;
            mean[i] += m;
            sk_free(bytes);
        }
        sk_quant_pictures_free(&pictures);
        net_free(&net);
    }
    print_message("held out: squared error %.4g, biases %.4g, rounding %.4g, both %.4g\n", square[0], square[1],
                  square[2], square[3]);
    print_message("squared mean error per channel %.4g, biases %.4g, rounding %.4g, both %.4g\n", mean[0], mean[1],
                  mean[2], mean[3]);
    assert_true(mean[1] < .7 * mean[0] && mean[3] < .7 * mean[0]);
    assert_true(square[1] < square[0] && square[2] < square[0] && square[3] < square[1]);
}

static void test_threads_and_choices(void **state) {
    (void)state;
    test_net net;
    net_make(&net, 24, 8, 5);
    net.built = 1;
    sk_quant_pictures pictures = make_pictures(24, 13, 0);
    for (int observer = 0; observer < 4; observer++) {
        for (int equalise = 0; equalise < 3; equalise++) {
            sk_quant_options o = sk_quant_defaults();
            uint8_t *bytes[2] = {NULL, NULL};
            size_t size[2] = {0, 0};
            o.observer = (sk_quant_observer)observer;
            o.equalise = (sk_quant_equalise_scope)equalise;
            o.per = observer & 1 ? SK_QUANT_PER_TENSOR : SK_QUANT_PER_CHANNEL;
            o.weights = equalise & 1 ? SK_QUANT_WEIGHTS_MAX : SK_QUANT_WEIGHTS_MMSE;
            for (int i = 0; i < 2; i++) {
                o.threads = i ? 3 : 1;
                double agreement;
                bytes[i] = quantise(&net, &pictures, &o, &size[i], &agreement);
                assert_true(agreement > .8);
            }
            assert_int_equal(size[0], size[1]);
            assert_memory_equal(bytes[0], bytes[1], size[0]);
            sk_free(bytes[0]);
            sk_free(bytes[1]);
        }
    }
    sk_quant_pictures_free(&pictures);
    net_free(&net);
}

/* Healthy layers are clean; ranges cut at the quartiles are told as clipped and noisy. */
static void test_explain(void **state) {
    (void)state;
    test_net net;
    net_make(&net, 24, 8, 5);
    net.built = 1;
    const sk_quant_net n = folded(&net);
    sk_quant_pictures pictures = make_pictures(24, 12, 0), shown = make_pictures(24, 11, 500);
    sk_quant_options o = sk_quant_defaults();
    sk_quant_report report = {0}, again = {0};
    uint8_t *bytes = NULL;
    size_t size = 0;
    o.threads = 1;
    assert_int_equal(sk_quant_run(&n, &pictures, &o, &shown, NULL, &bytes, &size, &report, NULL), SK_OK);
    sk_free(bytes);
    o.threads = 3;
    assert_int_equal(sk_quant_run(&n, &pictures, &o, &shown, NULL, &bytes, &size, &again, NULL), SK_OK);
    sk_free(bytes);
    for (size_t i = 0; i < net.count; i++) {
        const sk_quant_layer *r = &report.explained[i];
        assert_int_equal(r->index, (int)i);
        assert_true(memcmp(r, &again.explained[i], sizeof *r) == 0);
        assert_true(r->own_snr > 20 && r->snr > 10 && r->cosine > .98 && r->divergence >= 0 && r->divergence < .1);
        assert_true(r->clipped < .1);
    }
    sk_quant_layers_free(again.explained);
    sk_quant_layers_sort(report.explained, net.count);
    for (size_t i = 1; i < net.count; i++) {
        assert_true(report.explained[i - 1].divergence >= report.explained[i].divergence);
    }
    sk_quant_layers_free(report.explained);
    o.observer = SK_QUANT_PERCENTILE; /* half of all values are clipped */
    o.percentile = 75;
    o.correct_bias = o.adaround = 0;
    memset(&report, 0, sizeof report);
    assert_int_equal(sk_quant_run(&n, &pictures, &o, &shown, NULL, &bytes, &size, &report, NULL), SK_OK);
    sk_free(bytes);
    int clipped = 0;
    for (size_t i = 0; i < net.count; i++) {
        const sk_quant_layer *r = &report.explained[i];
        clipped += r->clipped > .15 && r->clipped < .6 && r->own_snr < 20;
    }
    assert_true(clipped * 2 > (int)net.count);
    sk_quant_layers_free(report.explained);
    sk_quant_pictures_free(&pictures);
    sk_quant_pictures_free(&shown);
    net_free(&net);
}

/* The option names layers by patterns; the one whose codes are cut to nothing is cured by it. */
static void test_act16(void **state) {
    (void)state;
    test_net net;
    net_make(&net, 24, 8, 5);
    net.built = 1;
    for (size_t i = 0; i < net.count; i++) {
        snprintf(net.layers[i].name, sizeof net.layers[i].name, "features.%zu", i);
    }
    net.bias[0][0] = 3000; /* a channel that nobody looks at, and that leaves no codes to the others */
    for (size_t k = 0; k < net_depth(&net.layers[1]) * (size_t)net.layers[1].out_c; k += net_depth(&net.layers[1])) {
        net.weight[1][k] = 0;
    }
    const sk_quant_net n = folded(&net);
    sk_quant_pictures pictures = make_pictures(24, 12, 0), shown = make_pictures(24, 11, 500);
    sk_quant_options o;
    sk_error err = {0};
    double snr[2] = {0, 0};
    assert_int_equal(sk_quant_recipe("seed", &o, NULL), SK_OK);
    for (int i = 0; i < 2; i++) {
        sk_quant_report report = {0};
        uint8_t *bytes[2] = {NULL, NULL};
        size_t size = 0;
        o.act16 = i ? "features.0,features.1" : NULL;
        for (int k = 0; k < 2; k++) {
            o.threads = 1 + 2 * k;
            sk_quant_layers_free(report.explained);
            report = (sk_quant_report){0};
            assert_int_equal(sk_quant_run(&n, &pictures, &o, &shown, NULL, &bytes[k], &size, &report, NULL), SK_OK);
        }
        assert_memory_equal(bytes[0], bytes[1], size);
        assert_int_equal(report.int16_layers, 2 * i);
        snr[i] = report.explained[1].snr;
        sk_quant_layers_free(report.explained);
        sk_free(bytes[0]);
        sk_free(bytes[1]);
    }
    print_message("second layer, signal to noise: %.1f dB, 16 bits %.1f dB\n", snr[0], snr[1]);
    assert_true(snr[1] > snr[0] + 10);
    const char *wrong[] = {"features.99", "features.0,nothing.*", "features.11", "features.13"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) { /* no such layer; features and logits */
        sk_quant_report report = {0};
        uint8_t *bytes = NULL;
        size_t size = 0;
        o.act16 = wrong[i];
        assert_int_equal(sk_quant_run(&n, &pictures, &o, NULL, NULL, &bytes, &size, &report, &err), SK_ERR_ARGUMENT);
        assert_non_null(strstr(err.message, i == 1 ? "nothing.*" : wrong[i]));
    }
    sk_quant_pictures_free(&pictures);
    sk_quant_pictures_free(&shown);
    net_free(&net);
}

static void test_bad_options(void **state) {
    (void)state;
    sk_quant_options o;
    sk_quant_observer observer;
    sk_quant_equalise_scope scope;
    sk_error err = {0};
    assert_int_equal(sk_quant_recipe("worst", &o, &err), SK_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "worst"));
    assert_int_equal(sk_quant_observer_parse("mse", &observer, &err), SK_ERR_ARGUMENT);
    assert_int_equal(sk_quant_equalise_parse("some", &scope, &err), SK_ERR_ARGUMENT);
    assert_int_equal(sk_quant_recipe("seed", &o, &err), SK_OK);
    assert_true(o.observer == SK_QUANT_NORMAL && !o.adaround && !o.correct_bias);
    assert_int_equal(o.equalise, SK_QUANT_EQUALISE_NONE);
    o.percentile = 50;
    assert_int_equal(sk_quantize(NULL, NULL, NULL, "x.skn", &o, NULL, NULL, &err), SK_ERR_ARGUMENT);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(sk_quant_observer_parse(sk_quant_observer_name((sk_quant_observer)i), &observer, &err), SK_OK);
        assert_int_equal(observer, i);
    }
}

static void test_out_of_memory(void **state) {
    (void)state;
    test_net net;
    net_make(&net, 16, 4, 5);
    net.built = 1;
    sk_quant_pictures pictures = make_pictures(16, 2, 0), shown = make_pictures(16, 2, 100);
    sk_quant_options o = sk_quant_defaults();
    o.threads = 1;
    o.equalise = SK_QUANT_EQUALISE_ALL;
    assert_true(runs_out_of_memory(&net, &pictures, &o, &shown) > 60);
    sk_quant_pictures_free(&pictures);
    sk_quant_pictures_free(&shown);
    net_free(&net);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_observers_equal_peer), cmocka_unit_test(test_interval_equals_peer),
        cmocka_unit_test(test_adaround),             cmocka_unit_test(test_steps_pay),
        cmocka_unit_test(test_threads_and_choices),  cmocka_unit_test(test_explain),
        cmocka_unit_test(test_act16),                cmocka_unit_test(test_bad_options),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
