/* SPDX-License-Identifier: Apache-2.0 */
/* The float ONNX with channels in units of their own, read back by its wire format: it must be the function of the
 * plain one, whatever the factors are. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/base.h"
#include "formats/wire.h"
#include "siskin/quant.h"

enum { SIZE = 64, PICTURES = 3 };
enum { GRAPH = 7, INITIALISER = 5, NAME = 8, RAW = 9 }; /* fields of onnx.proto */

static char path[64];
static float pool[65536];
static size_t pooled;

static int make_path(void **state) {
    (void)state;
    snprintf(path, sizeof path, "/tmp/siskin-equalised-%d.onnx", (int)getpid());
    return 0;
}

static int remove_path(void **state) {
    (void)state;
    return unlink(path);
}

/* One channel of the first layer towers, one of features.2.block.0 hardly shows. */
static sk_model *make_model(sk_arch arch, sk_quant_pictures *pictures) {
    sk_card card = sk_card_default(arch);
    sk_model *model = NULL;
    sk_rng rng = sk_rng_make(3, 1, 4);
    pooled = 0;
    card.size = SIZE;
    assert_int_equal(sk_model_create(&card, 1, &model, NULL), SK_OK);
    for (size_t i = 0; i < sk_model_tensor_count(model); i++) {
        sk_tensor t;
        assert_int_equal(sk_model_tensor(model, i, &t, NULL), SK_OK);
        for (size_t k = 0; t.rank == 1 && k < t.count; k++) t.data[k] += (float)sk_rng_uniform(&rng) / 4;
        if (strcmp(t.name, "features.0.1.weight") == 0) t.data[5] = 40;
        if (strcmp(t.name, "features.2.block.0.1.weight") == 0) t.data[7] = .02f;
    }
    pictures->picture_bytes = SIZE * SIZE * 3;
    pictures->count = PICTURES;
    pictures->bytes = malloc(PICTURES * pictures->picture_bytes);
    for (size_t i = 0; i < PICTURES * pictures->picture_bytes; i++) pictures->bytes[i] = (uint8_t)sk_rng_next(&rng);
    return model;
}

static sk_status export_equalised(sk_model *model, const sk_quant_pictures *pictures, sk_error *err) {
    sk_vendor_form form;
    sk_status status = sk_vendor_form_make(model, pictures, 1, &form, err);
    if (status != SK_OK) return status;
    status = sk_export_onnx_form(model, &form, path, err);
    sk_vendor_form_free(&form);
    return status;
}

/* A copy of the initialiser `name`, aligned, in the pool; NULL if there is none. */
static const float *find(const uint8_t *data, size_t size, const char *name) {
    sk_wire file = {data, data + size}, graph, tensor;
    sk_wire_field f, g, t;
    while (sk_wire_next(&file, &f) == 1) {
        if (f.number != GRAPH) continue;
        for (graph = f.bytes; sk_wire_next(&graph, &g) == 1;) {
            sk_wire raw = {0};
            int named = 0;
            if (g.number != INITIALISER) continue;
            for (tensor = g.bytes; sk_wire_next(&tensor, &t) == 1;) {
                const size_t length = (size_t)(t.bytes.end - t.bytes.at);
                if (t.number == NAME) named = length == strlen(name) && memcmp(t.bytes.at, name, length) == 0;
                if (t.number == RAW) raw = t.bytes;
            }
            if (!named) continue;
            float *values = pool + pooled;
            pooled += (size_t)(raw.end - raw.at) / sizeof *values;
            assert_true(pooled <= sizeof pool / sizeof *pool);
            return memcpy(values, raw.at, (size_t)(raw.end - raw.at));
        }
    }
    return NULL;
}

static size_t layer_of(const sk_model *model, const char *name) {
    for (size_t i = 0; i < sk_model_layer_count(model); i++)
        if (strcmp(sk_model_layer(model, i)->name, name) == 0) return i;
    fail_msg("no layer %s", name);
    return 0;
}

static void folded(const sk_model *model, const char *name, float weight[8192], float bias[256]) {
    const size_t layer = layer_of(model, name);
    assert_true(sk_model_weight_count(model, layer) <= 8192);
    assert_int_equal(sk_model_folded(model, layer, weight, bias, NULL), SK_OK);
}

static void close_to(float a, float b) {
    if (!(fabsf(a - b) <= 2e-5f * (fabsf(a) + fabsf(b)) + 1e-6f)) fail_msg("%.9g is not %.9g", (double)a, (double)b);
}

static float clip(float x, float low, float high) {
    return fminf(fmaxf(x, low), high);
}

static float taps(const float *weight, const float *bias, int c, const float x[27]) {
    float sum = bias[c];
    for (int i = 0; i < 27; i++) sum += weight[c * 27 + i] * x[i];
    return sum;
}

/* The first layer and what its reader multiplies with: x * hard-sigmoid(x) * w, at random patches. */
static void check_first(const sk_model *model, const uint8_t *data, size_t size) {
    static float weight[8192], bias[256], turned[432], reader[8192], unused[256];
    const float *w = find(data, size, "features.0.0.weight"), *b = find(data, size, "features.0.0.bias");
    const float *gate = find(data, size, "features.0.gate.weight"), *shift = find(data, size, "features.0.gate.bias");
    const float *back = find(data, size, "features.1.block.0.0.weight");
    const float *low = find(data, size, "features.0/clip/low");
    sk_rng rng = sk_rng_make(1, 2, 3);
    float tallest = 0;
    assert_true(w && b && gate && shift && back && low);
    folded(model, "features.0", weight, bias);
    folded(model, "features.1.block.0", reader, unused);
    for (int i = 0; i < 432; i++) turned[i / 27 * 27 + i % 3 * 9 + i % 27 / 3] = weight[i]; /* OHWI to OIHW */
    for (int trial = 0; trial < 2000; trial++) {
        const int c = trial % 16;
        float x[27];
        for (int i = 0; i < 27; i++) x[i] = (float)sk_rng_uniform(&rng) * 5 - 2.3f;
        const float plain = taps(turned, bias, c, x), open = clip(plain / 6 + .5f, 0, 1);
        const float written = clip(taps(w, b, c, x), *low, 1e6f) * clip(taps(gate, shift, c, x), 0, 1);
        close_to(written * back[c * 9], plain * open * reader[c * 9]);
        tallest = fmaxf(tallest, back[c * 9] / reader[c * 9]);
    }
    assert_true(tallest > 5); /* the channel that towers was taken down */
}

/* Behind a ReLU: rows of the one and the channel's weights of the other keep their product. */
static void check_relu(const sk_model *model, const uint8_t *data, size_t size) {
    static float weight[8192], bias[256], reader[8192], unused[256];
    const sk_layer *layer = sk_model_layer(model, layer_of(model, "features.2.block.0"));
    const float *w = find(data, size, "features.2.block.0.0.weight");
    const float *b = find(data, size, "features.2.block.0.0.bias");
    const float *back = find(data, size, "features.2.block.1.0.weight");
    int moved = 0;
    assert_true(w && b && back && layer->act == SK_ACT_RELU);
    folded(model, "features.2.block.0", weight, bias);
    folded(model, "features.2.block.1", reader, unused);
    for (int c = 0; c < layer->out_c; c++) {
        const float f = back[c * 9] / reader[c * 9];
        assert_true(f > 0 && f <= 1.00001f);
        for (int t = 0; t < 9; t++) close_to(back[c * 9 + t], f * reader[c * 9 + t]);
        for (int i = 0; i < layer->in_c; i++)
            close_to(w[c * layer->in_c + i] * f, weight[c * layer->in_c + i]);
        close_to(b[c] * f, bias[c]);
        moved += f < .5f;
    }
    assert_true(moved > 0);
}

static void is_the_same_function(void **state) {
    (void)state;
    sk_quant_pictures pictures = {0};
    uint8_t *data = NULL;
    size_t size = 0;
    sk_error err = {0};
    sk_model *model = make_model(SK_ARCH_V3_SMALL, &pictures);
    if (export_equalised(model, &pictures, &err) != SK_OK) fail_msg("%s", err.message);
    assert_int_equal(sk_file_read(path, &data, &size, NULL), SK_OK);
    check_first(model, data, size);
    check_relu(model, data, size);
    sk_free(data);
    sk_model_free(model);
    free(pictures.bytes);
}

/* MobileNetV3-Large adds the first layer's output to a later one, which could not give a factor back. */
static void leaves_alone_what_is_added(void **state) {
    (void)state;
    sk_quant_pictures pictures = {0};
    uint8_t *data = NULL;
    size_t size = 0;
    sk_model *model = make_model(SK_ARCH_V3_LARGE, &pictures);
    assert_int_equal(export_equalised(model, &pictures, NULL), SK_OK);
    assert_int_equal(sk_file_read(path, &data, &size, NULL), SK_OK);
    assert_null(find(data, size, "features.0.gate.weight"));
    check_relu(model, data, size);
    sk_free(data);
    sk_model_free(model);
    free(pictures.bytes);
}

static void under_failure(void **state) {
    (void)state;
    sk_quant_pictures pictures = {0};
    sk_model *model = make_model(SK_ARCH_V3_SMALL, &pictures);
    int failures = 0;
    assert_int_equal(export_equalised(model, &pictures, NULL), SK_OK);
    const long before = sk_memory_live();
    for (long n = 0;; n += 1 + n / 8) {
        unlink(path);
        sk_memory_fail_at(n, 1);
        const sk_status status = export_equalised(model, &pictures, NULL);
        sk_memory_fail_at(-1, 0);
        assert_int_equal(sk_memory_live(), before);
        if (status == SK_OK) break;
        failures++;
        assert_int_equal(status, SK_ERR_MEMORY);
        assert_false(sk_path_exists(path));
    }
    assert_true(failures > 20);
    sk_model_free(model);
    free(pictures.bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_the_same_function),
        cmocka_unit_test(leaves_alone_what_is_added),
        cmocka_unit_test(under_failure),
    };
    return cmocka_run_group_tests(tests, make_path, remove_path);
}
