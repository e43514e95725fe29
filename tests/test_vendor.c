/* SPDX-License-Identifier: Apache-2.0 */
/* The forecast of the vendor's int8. Ranges and codes are those that toolkit 2.5.0 told for models/bird-small; the
 * float side of it is held to the network's own forward pass. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "quant/vendor.h"

#define SIZE 224
#define PICTURE ((size_t)SIZE * SIZE * 3)

static sk_model *model;
static sk_quant_pictures pictures;

static int begin(void **state) {
    (void)state;
    pictures = (sk_quant_pictures){sk_alloc(2, PICTURE), PICTURE, 2, NULL};
    for (size_t i = 0; pictures.bytes && i < 2 * PICTURE; i++) {
        pictures.bytes[i] = (uint8_t)(sk_hash64(i / 96) % 200 + sk_hash64(i) % 56);
    }
    if (!pictures.bytes) {
        return -1;
    }
    return sk_model_read(SK_SOURCE_DIR "/models/bird-small.safetensors", &model, NULL) == SK_OK ? 0 : -1;
}

static int end(void **state) {
    (void)state;
    sk_quant_pictures_free(&pictures);
    sk_model_free(model);
    return 0;
}

static void test_codes(void **state) {
    (void)state;
    static const struct {
        double low, high, scale;
        int zero;
    } told[] = {{-3, 191.949951171875, 0.7645096124387255, -124},
                {-0.375, 191.949951171875, 0.7542154947916667, -128},
                {-17.846811, 23.629443, 0.16265207, -18},
                {-2.9999999105930355, 2.9999999105930355, 0.023529411063474788, 0},
                {0, 0, 0.0078431373, 0},
                {0.3, 0.72574, 0.0028460392, -128}};
    for (size_t i = 0; i < sizeof told / sizeof *told; i++) {
        const sk_vendor_codes c = sk_vendor_codes_of(told[i].low, told[i].high);
        assert_float_equal(c.scale / told[i].scale, 1, 1e-6);
        assert_float_equal(c.least, -128 - told[i].zero, 0);
        assert_float_equal(c.most, 127 - told[i].zero, 0);
    }
    float values[] = {0.24f, 0.26f, -0.25f, 0.25f, 100, -100}; /* ties to even codes */
    const sk_vendor_codes c = {0.5f, -28, 227};
    const float wanted[] = {0, 0.5f, -0.0f, 0, 100, -14};
    sk_vendor_round(&c, values, 6);
    for (int i = 0; i < 6; i++) {
        assert_float_equal(values[i], wanted[i], 0);
    }
}

/* features.2.block.0 of the shipped model, channel 42: the toolkit has the bias 17552 there, exact division 17551. */
static void test_bias(void **state) {
    (void)state;
    const sk_layer layer = {.op = SK_OP_POINTWISE, .in_c = 1, .out_c = 1, .kernel = 1};
    const sk_vendor_codes codes = {0.000492483494f, -115, 140};
    const float weight = 0.01f, bias = 1.00068057f, in = 0.115768276f;
    float out_weight = 0, out_bias = 0;
    sk_vendor_round_weights(&layer, in, &codes, 1, &weight, &bias, &out_weight, &out_bias);
    assert_float_equal(out_bias / (in * codes.scale), 17552, 0.01);
    assert_float_equal(out_weight / codes.scale, 20, 1e-4);
}

/* Taken apart for rounding, but not rounded, the network is still the network. */
static void test_float(void **state) {
    (void)state;
    sk_vendor *net = NULL;
    float wanted[2];
    assert_int_equal(sk_vendor_begin(model, NULL, &net, NULL), SK_OK);
    assert_int_equal(sk_model_forward(model, pictures.bytes, 1, 1, wanted, NULL, NULL, NULL, NULL), SK_OK);
    sk_float_run_picture(net->real, &net->pass.run, pictures.bytes);
    for (size_t i = 0; i < net->folded.net.count; i++) {
        sk_vendor_step(net, &net->pass, i, NULL);
    }
    const float *got = net->pass.run.tensor[net->folded.net.count];
    assert_float_equal(got[0], wanted[0], 2e-3);
    assert_float_equal(got[1], wanted[1], 2e-3);
    sk_vendor_free(net);
}

static void off_grid(void *user, size_t layer, const float *data) {
    const sk_vendor *net = user;
    const sk_vendor_layer *v = &net->layers[layer];
    const size_t count = sk_layer_values(&net->folded.layers[layer]);
    for (size_t i = 0; v->after && i < count; i++) {
        const float code = data[i] / v->out.scale;
        if (fabsf(code - rintf(code)) > 1e-2f || code < v->out.least - 0.1f || code > v->out.most + 0.1f) {
            fail_msg("%s: value %zu is no code", net->folded.layers[layer].name, i);
        }
    }
}

static void test_rounded(void **state) {
    (void)state;
    for (int by_layer = 0; by_layer < 2; by_layer++) {
        sk_vendor *net = NULL;
        float logits[2], features[576], again[2];
        assert_int_equal(sk_vendor_observe(model, NULL, &pictures, by_layer, NULL, &net, NULL), SK_OK);
        sk_vendor_run(net, pictures.bytes, logits, features, off_grid, net);
        sk_vendor_run(net, pictures.bytes, again, NULL, NULL, NULL);
        assert_memory_equal(logits, again, sizeof logits);
        assert_true(isfinite(logits[0]) && isfinite(features[575]));
        int before = 0, sums = 0;
        for (size_t i = 0; i < net->folded.net.count; i++) {
            before += net->layers[i].before;
            sums += !net->layers[i].after;
        }
        assert_int_equal(before, 9 + 8 + 1); /* gates, depthwise hard-swishes, the classifier's */
        assert_int_equal(sums, 6);           /* convolutions that are one layer with an addition */
        sk_vendor_free(net);
    }
}

static void test_table(void **state) {
    (void)state;
    const float scale[2] = {0.02f, 0}, zero[2] = {-14, 0};
    sk_vendor_range ranges[] = {{"input_int8", 1, scale, zero}, {"features.0", 1, scale, zero},
                                {"features.0.0.weight", 1, scale, zero}};
    sk_vendor *net = NULL;
    sk_error err = {0};
    assert_int_equal(sk_vendor_take(model, NULL, ranges, 3, &net, &err), SK_ERR_MISMATCH);
    assert_null(net);
    assert_non_null(strstr(err.message, "no range for features.1.block.0"));
    ranges[2].count = 2;
    assert_int_equal(sk_vendor_take(model, NULL, ranges, 3, &net, &err), SK_ERR_MISMATCH);
    assert_non_null(strstr(err.message, "2 ranges for features.0.0.weight, not 16"));
    ranges[1].scale = scale + 1;
    assert_int_equal(sk_vendor_take(model, NULL, ranges, 3, &net, &err), SK_ERR_MISMATCH);
    assert_non_null(strstr(err.message, "features.0 is no range"));
}

static int stop(void *user) {
    (void)user;
    return 1;
}

static void test_failures(void **state) {
    (void)state;
    const sk_hooks hooks = {.cancelled = stop};
    sk_vendor *net = NULL;
    sk_error err = {0};
    assert_int_equal(sk_vendor_observe(model, NULL, &pictures, 0, &hooks, &net, &err), SK_ERR_CANCELLED);
    const long live = sk_memory_live();
    sk_quant_pictures one = pictures;
    one.count = 1;
    for (long at = 0, failed = 1; failed; at += 17) {
        sk_memory_fail_at(at, 0);
        failed = sk_vendor_observe(model, NULL, &one, 0, NULL, &net, &err) != SK_OK;
        sk_memory_fail_at(-1, 0);
        assert_true(!failed || err.code == SK_ERR_MEMORY);
        sk_vendor_free(net);
        assert_int_equal(sk_memory_live(), live);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_codes),   cmocka_unit_test(test_bias),
                                       cmocka_unit_test(test_float),   cmocka_unit_test(test_rounded),
                                       cmocka_unit_test(test_table),   cmocka_unit_test(test_failures)};
    return cmocka_run_group_tests(tests, begin, end);
}
