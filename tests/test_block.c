/* SPDX-License-Identifier: Apache-2.0 */
/* Block-wise reconstruction: where blocks end, their gradient against finite differences, the error on pictures that
 * were not calibrated with, threads, memory. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "quant/block.h"
#include "quant_help.h"

enum { SIDE = 32, WIDTH = 8, PICTURES = 40 };

/* Behind the residual's sum and behind the mean of the head; not behind the mean of the gate, nor the gated product. */
static void test_ends(void **state) {
    (void)state;
    test_net net;
    net_make(&net, SIDE, WIDTH, 1);
    const sk_quant_net n = folded(&net);
    assert_int_equal(sk_qblock_end(&n, 0), 8);
    assert_int_equal(sk_qblock_end(&n, 9), 11);
    assert_int_equal(sk_qblock_end(&n, 12), 13);
    net.layers[8].op = SK_OP_POINTWISE; /* without the residual the block ends with its projection */
    net.layers[8].act = SK_ACT_HSWISH;
    assert_int_equal(sk_qblock_end(&n, 0), 7);
    net_free(&net);
}

/* ---- gradient ------------------------------------------------------------------------------------------------ */

/* A weighted sum of what leaves the block. */
static double value(const sk_qblock *b, sk_qblock_run *run, const float *input, const float *d) {
    const float *out = sk_qblock_forward(b, run, input);
    double sum = 0;
    for (size_t i = 0; i < sk_layer_values(&b->net->layers[b->last]); i++) {
        sum += (double)out[i] * (double)d[i];
    }
    return sum;
}

static void fill(float *x, size_t count, uint64_t seed, double size) {
    sk_rng rng = sk_rng_make(seed, 3, 0);
    for (size_t i = 0; i < count; i++) {
        x[i] = (float)(size * sk_rng_normal(&rng));
    }
}

/* The derivative along a random direction of one layer's weights or biases, by central differences. */
static void hold_against_differences(sk_qblock *b, sk_qblock_run *run, size_t i, float *x, size_t count,
                                     const float *gradient, const float *input, const float *d) {
    const double eps = 1e-4;
    float *direction = calloc(count, sizeof *direction), *kept = calloc(count, sizeof *kept);
    double expected = 0, side[2], norm = 0;
    fill(direction, count, 77 + i, 1);
    memcpy(kept, x, count * sizeof *kept);
    for (size_t k = 0; k < count; k++) {
        expected += (double)direction[k] * (double)gradient[k];
        norm += (double)gradient[k] * (double)gradient[k];
    }
    for (int s = 0; s < 2; s++) {
        for (size_t k = 0; k < count; k++) {
            x[k] = kept[k] + (float)((s ? eps : -eps) * (double)direction[k]);
        }
        sk_qblock_pack(b, b->first + i);
        side[s] = value(b, run, input, d);
    }
    memcpy(x, kept, count * sizeof *kept);
    sk_qblock_pack(b, b->first + i);
    const double found = (side[1] - side[0]) / (2 * eps);
    print_message("layer %zu: gradient along a direction %.6g, differences %.6g\n", b->first + i, expected, found);
    assert_true(norm > 0);
    assert_true(fabs(found - expected) < 0.02 * sqrt(norm) + 1e-3);
    free(direction);
    free(kept);
}

static void check_block(const sk_quant_net *n, size_t first, size_t last) {
    sk_qblock b;
    sk_qblock_run run;
    float *dweight[NET_LAYERS] = {NULL}, *dbias[NET_LAYERS] = {NULL};
    assert_int_equal(sk_qblock_create(n, first, last, &b, NULL), SK_OK);
    assert_int_equal(sk_qblock_run_create(&b, &run, NULL), SK_OK);
    const sk_layer *in = first ? &n->layers[first - 1] : NULL;
    const size_t entering = in ? sk_layer_values(in) : (size_t)n->card->size * (size_t)n->card->size * 3;
    const size_t leaving = sk_layer_values(&n->layers[last]);
    float *input = calloc(entering, sizeof *input), *d = calloc(leaving, sizeof *d);
    fill(input, entering, 5 + first, 1);
    fill(d, leaving, 6 + first, 0.1);
    for (size_t i = 0; i <= last - first; i++) {
        const sk_layer *l = &n->layers[first + i];
        const size_t count = (size_t)l->out_c * (size_t)sk_layer_depth(l);
        if (sk_layer_has_weights(l)) {
            memcpy(b.weight[i], n->weight[first + i], count * sizeof **b.weight);
            memcpy(b.bias[i], n->bias[first + i], (size_t)l->out_c * sizeof **b.bias);
            dweight[i] = calloc(count, sizeof **dweight);
            dbias[i] = calloc((size_t)l->out_c, sizeof **dbias);
            sk_qblock_pack(&b, first + i);
        }
    }
    value(&b, &run, input, d);
    sk_qblock_backward(&b, &run, input, d, dweight, dbias);
    for (size_t i = 0; i <= last - first; i++) {
        const sk_layer *l = &n->layers[first + i];
        if (dweight[i]) {
            hold_against_differences(&b, &run, i, b.weight[i], (size_t)l->out_c * (size_t)sk_layer_depth(l), dweight[i],
                                     input, d);
            hold_against_differences(&b, &run, i, b.bias[i], (size_t)l->out_c, dbias[i], input, d);
        }
        free(dweight[i]);
        free(dbias[i]);
    }
    free(input);
    free(d);
    sk_qblock_run_free(&run);
    sk_qblock_free(&b);
}

static void test_gradient(void **state) {
    (void)state;
    test_net net;
    net_make(&net, SIDE, WIDTH, 3);
    const sk_quant_net n = folded(&net);
    check_block(&n, 0, 8);
    check_block(&n, 9, 11);
    check_block(&n, 12, 13);
    net_free(&net);
}

/* ---- the stage ------------------------------------------------------------------------------------------------ */

static void test_pays(void **state) {
    (void)state;
    double square[2] = {0};
    for (uint64_t seed = 1; seed < 5; seed++) {
        test_net net;
        net_make(&net, SIDE, WIDTH, seed);
        net.built = 1; /* its own ranges are not used */
        sk_quant_pictures pictures = make_pictures(SIDE, PICTURES, 0);
        for (int i = 0; i < 2; i++) {
            sk_quant_options o = sk_quant_defaults();
            o.reconstruct = i;
            o.adaround = o.correct_bias = 0; /* they win most of it, and would hide a broken stage */
            o.per = SK_QUANT_PER_TENSOR; /* coarse enough for the step to stand out of the activations' noise */
            size_t size = 0;
            double error, mean, agreement;
            uint8_t *bytes = quantise(&net, &pictures, &o, &size, &agreement);
            held_out_error(&net, bytes, size, &error, &mean);
            square[i] += error;
            sk_free(bytes);
        }
        sk_quant_pictures_free(&pictures);
        net_free(&net);
    }
    print_message("held out: squared error %.4g, with blocks %.4g\n", square[0], square[1]);
    assert_true(square[1] < .7 * square[0]);
}

static void test_threads(void **state) {
    (void)state;
    test_net net;
    net_make(&net, 24, 8, 5);
    net.built = 1;
    sk_quant_pictures pictures = make_pictures(24, 13, 0);
    for (int per = 0; per < 2; per++) {
        sk_quant_options o = sk_quant_defaults();
        uint8_t *bytes[3] = {NULL};
        size_t size[3] = {0};
        o.per = per ? SK_QUANT_PER_TENSOR : SK_QUANT_PER_CHANNEL;
        for (int i = 0; i < 3; i++) {
            o.reconstruct = i < 2;
            o.threads = i ? 3 : 1;
            double agreement;
            bytes[i] = quantise(&net, &pictures, &o, &size[i], &agreement);
        }
        assert_int_equal(size[0], size[1]);
        assert_memory_equal(bytes[0], bytes[1], size[0]);
        assert_int_equal(size[0], size[2]);
        assert_memory_not_equal(bytes[0] + 400, bytes[2] + 400, size[0] - 400); /* the step does something */
        for (int i = 0; i < 3; i++) {
            sk_free(bytes[i]);
        }
    }
    sk_quant_pictures_free(&pictures);
    net_free(&net);
}

static void test_out_of_memory(void **state) {
    (void)state;
    test_net net;
    net_make(&net, 8, 4, 5);
    net.built = 1;
    sk_quant_pictures pictures = make_pictures(8, 10, 0);
    sk_quant_options o = sk_quant_defaults();
    o.threads = 1;
    o.correct_bias = o.adaround = 0;
    o.reconstruct = 1;
    assert_true(runs_out_of_memory(&net, &pictures, &o, NULL) > 60);
    sk_quant_pictures_free(&pictures);
    net_free(&net);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ends), cmocka_unit_test(test_gradient), cmocka_unit_test(test_pays),
        cmocka_unit_test(test_threads), cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
