/* SPDX-License-Identifier: Apache-2.0 */
/* Saliency: the gradient against differences of the head in double precision, the map against the feature map that the
 * network shows, occlusion by where it must be silent. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "eval/cam.h"
#include "int8_net.h"
#include "siskin/eval.h"

enum { SIDE = 96, CELLS = 3, FEATURES = 576, HIDDEN = 1024 };

static sk_model *make_model(sk_arch arch, uint64_t seed) {
    sk_card card = sk_card_default(arch);
    sk_model *model = NULL;
    card.size = SIDE;
    assert_int_equal(sk_model_create(&card, seed, &model, NULL), SK_OK);
    /* torchvision's linear layers start near zero: larger ones put both bends of hard-swish to use */
    static const char *const names[] = {"classifier.0.weight", "classifier.0.bias", "classifier.3.weight"};
    for (size_t k = 0; k < 3; k++) {
        sk_tensor t;
        sk_rng rng = sk_rng_make(seed, k, 9);
        assert_int_equal(sk_model_find_tensor(model, names[k], &t, NULL), SK_OK);
        for (size_t i = 0; i < t.count; i++) t.data[i] = (float)((k == 1 ? 2 : .2) * sk_rng_normal(&rng));
    }
    return model;
}

/* The head once more: linear, hard-swish, linear; bird less no bird. */
static double head_margin(const sk_model *model, const double *features) {
    sk_tensor w, b, v, c;
    assert_int_equal(sk_model_find_tensor(model, "classifier.0.weight", &w, NULL), SK_OK);
    assert_int_equal(sk_model_find_tensor(model, "classifier.0.bias", &b, NULL), SK_OK);
    assert_int_equal(sk_model_find_tensor(model, "classifier.3.weight", &v, NULL), SK_OK);
    assert_int_equal(sk_model_find_tensor(model, "classifier.3.bias", &c, NULL), SK_OK);
    double margin = (double)c.data[1] - (double)c.data[0];
    for (size_t j = 0; j < HIDDEN; j++) {
        double h = b.data[j];
        for (size_t k = 0; k < FEATURES; k++) h += (double)w.data[j * FEATURES + k] * features[k];
        margin += h * fmin(fmax(h + 3, 0), 6) / 6 * ((double)v.data[HIDDEN + j] - (double)v.data[j]);
    }
    return margin;
}

static void gradient_by_differences(void **state) {
    (void)state;
    sk_model *model = make_model(SK_ARCH_V3_SMALL, 2);
    sk_cam *cam = NULL;
    assert_int_equal(sk_cam_create(model, &cam, NULL), SK_OK);
    static float features[FEATURES], gradient[FEATURES], other[FEATURES];
    static double moved[FEATURES];
    sk_rng rng = sk_rng_make(1, 0, 0);
    for (size_t k = 0; k < FEATURES; k++) features[k] = (float)sk_rng_uniform(&rng);
    sk_cam_gradient(cam, features, SK_LABEL_BIRD, gradient);
    sk_cam_gradient(cam, features, SK_LABEL_NOBIRD, other);
    double most = 0;
    for (size_t k = 0; k < FEATURES; k++) most = fmax(most, fabs((double)gradient[k]));
    assert_true(most > .1);
    for (size_t k = 0; k < FEATURES; k += 37) {
        double side[2];
        for (int s = 0; s < 2; s++) {
            for (size_t i = 0; i < FEATURES; i++) moved[i] = features[i];
            moved[k] += s ? 1e-5 : -1e-5;
            side[s] = head_margin(model, moved);
        }
        assert_true(fabs((side[1] - side[0]) / 2e-5 - (double)gradient[k]) < 1e-3 * most);
        assert_true(fabs((double)gradient[k] + (double)other[k]) < 1e-5 * most);
    }
    sk_cam_free(cam);
    sk_model_free(model);
}

/* ---- maps -------------------------------------------------------------------------------------------------------- */

typedef struct seen {
    size_t layer;
    float cells[CELLS * CELLS * 960];
} seen;

static void keep(void *user, size_t layer, const float *data, int n, int h, int w, int c) {
    seen *s = user;
    if (layer == s->layer) memcpy(s->cells, data, sizeof(float) * (size_t)(n * h * w) * (size_t)c);
}

static char path[64];

static sk_classifier *open_model(const sk_model *model) {
    sk_classifier *c = NULL;
    sk_error err = {0};
    snprintf(path, sizeof path, "/tmp/siskin-saliency-%ld", (long)getpid());
    assert_int_equal(sk_model_write(model, path, NULL), SK_OK);
    if (sk_classifier_open(path, &c, &err)) fail_msg("%s", err.message);
    unlink(path);
    return c;
}

/* At the cells' middles the map is the weighted sum of the channels there, or 0. */
static void map_is_the_weighted_sum(void **state) {
    (void)state;
    static uint8_t picture[SIDE * SIDE * 3];
    static float map[SIDE * SIDE], features[960], gradient[960];
    static seen s;
    for (int arch = SK_ARCH_V3_SMALL; arch <= SK_ARCH_V3_LARGE; arch++) {
        sk_model *model = make_model((sk_arch)arch, 5);
        sk_classifier *c = open_model(model);
        sk_saliency *saliency = NULL;
        sk_cam *cam = NULL;
        float logits[2];
        const size_t width = (size_t)sk_model_feature_count(model);
        s.layer = sk_model_layer_count(model) - 4;
        net_picture(SIDE, 4, picture);
        assert_int_equal(sk_saliency_create(c, SK_SALIENCY_AUTO, 1, &saliency, NULL), SK_OK);
        assert_int_equal(sk_saliency_method_of(saliency), SK_SALIENCY_CAM);
        assert_int_equal(sk_model_forward(model, picture, 1, 1, logits, features, keep, &s, NULL), SK_OK);
        assert_int_equal(sk_cam_create(model, &cam, NULL), SK_OK);
        int positive = 0;
        for (int label = 0; label < 2; label++) {
            sk_cam_gradient(cam, features, (sk_label)label, gradient);
            assert_int_equal(sk_saliency_map(saliency, picture, (sk_label)label, map, NULL), SK_OK);
            for (int k = 0; k < CELLS * CELLS; k++) {
                /* 32 pixels a cell: the middle lies between pixels 15 and 16 */
                const int y = k / CELLS * 32 + 15, x = k % CELLS * 32 + 15;
                double sum = 0, scale = 0;
                for (size_t i = 0; i < width; i++) {
                    const double term = (double)gradient[i] * (double)s.cells[(size_t)k * width + i];
                    sum += term;
                    scale += fabs(term);
                }
                const double mean = ((double)map[y * SIDE + x] + (double)map[(y + 1) * SIDE + x] +
                                     (double)map[y * SIDE + x + 1] + (double)map[(y + 1) * SIDE + x + 1]) /
                                    4;
                /* half a pixel beside the middle, 1/64 of the neighbours comes in on each side */
                if (k == 0) assert_true(fabs((double)map[0] - fmax(sum, 0)) < 1e-4 * scale);
                if (sum <= 0) assert_true(mean < .1 * scale);
                else assert_true(fabs(mean - sum) < .1 * scale);
                positive += sum > 0;
            }
        }
        assert_int_equal(positive, CELLS * CELLS); /* what speaks for one speaks against the other */
        sk_cam_free(cam);
        sk_saliency_free(saliency);
        sk_classifier_close(c);
        sk_model_free(model);
    }
}

/* One colour everywhere but for a patch of noise: blurring places that neither the noise nor its blur reaches changes
 * nothing, so the map has to be 0 there, and not 0 everywhere. */
static void occlusion_is_local(sk_classifier *c, int size) {
    sk_saliency *s = NULL;
    uint8_t *picture = malloc((size_t)size * (size_t)size * 3);
    float *maps[3];
    sk_rng rng = sk_rng_make(7, 0, 0);
    memset(picture, 120, (size_t)size * (size_t)size * 3);
    for (int y = 0; y < size / 8; y++)
        for (int x = 0; x < 3 * size / 8; x++) picture[(y * size + x) * 3 + x % 3] = (uint8_t)sk_rng_below(&rng, 256);
    for (int k = 0; k < 3; k++) {
        maps[k] = malloc((size_t)size * (size_t)size * sizeof(float));
        assert_int_equal(sk_saliency_create(c, SK_SALIENCY_OCCLUSION, k == 2 ? 2 : 1, &s, NULL), SK_OK);
        assert_int_equal(sk_saliency_map(s, picture, k ? SK_LABEL_BIRD : SK_LABEL_NOBIRD, maps[k], NULL), SK_OK);
        sk_saliency_free(s);
    }
    assert_memory_equal(maps[1], maps[2], (size_t)size * (size_t)size * sizeof(float));
    double near = 0;
    for (int y = 0; y < size; y++)
        for (int x = 0; x < size; x++) {
            const double sum = (double)maps[0][y * size + x] + (double)maps[1][y * size + x];
            near += sum;
            if (y > size * 5 / 8 || x > size * 7 / 8) assert_true(sum <= 1e-5);
        }
    assert_true(near > 0);
    memset(picture, 120, (size_t)size * (size_t)size * 3);
    assert_int_equal(sk_saliency_create(c, SK_SALIENCY_OCCLUSION, 1, &s, NULL), SK_OK);
    assert_int_equal(sk_saliency_map(s, picture, SK_LABEL_BIRD, maps[0], NULL), SK_OK);
    assert_true(isnan(sk_saliency_border(maps[0], size))); /* nothing to blur, nothing to see */
    assert_int_equal(sk_saliency_map(s, picture, SK_LABEL_UNKNOWN, maps[0], NULL), SK_ERR_ARGUMENT);
    sk_saliency_free(s);
    for (int k = 0; k < 3; k++) free(maps[k]);
    free(picture);
}

static void occlusion_of_float(void **state) {
    (void)state;
    sk_classifier *c = NULL; /* a trained one: fresh weights hardly answer to anything */
    assert_int_equal(sk_classifier_open(SK_SOURCE_DIR "/models/bird-small.safetensors", &c, NULL), SK_OK);
    occlusion_is_local(c, sk_classifier_card(c)->size);
    sk_classifier_close(c);
}

static void occlusion_of_int8(void **state) {
    (void)state;
    test_net net;
    uint8_t picture[48 * 48 * 3], *bytes = NULL;
    size_t size = 0;
    sk_classifier *c = NULL;
    sk_saliency *s = NULL;
    sk_error err = {0};
    net_make(&net, 48, 16, 21);
    for (uint64_t i = 0; i < 4; i++) {
        net_picture(48, i, picture);
        net_run(&net, picture);
    }
    assert_int_equal(net_build(&net, 0, &bytes, &size, NULL), SK_OK);
    net_free(&net);
    snprintf(path, sizeof path, "/tmp/siskin-saliency-%ld", (long)getpid());
    assert_int_equal(sk_file_write(path, bytes, size, NULL), SK_OK);
    assert_int_equal(sk_classifier_open(path, &c, NULL), SK_OK);
    assert_int_equal(sk_saliency_create(c, SK_SALIENCY_CAM, 1, &s, &err), SK_ERR_MISMATCH);
    assert_non_null(strstr(err.message, "occlusion"));
    assert_int_equal(sk_saliency_create(c, SK_SALIENCY_AUTO, 1, &s, &err), SK_OK);
    assert_int_equal(sk_saliency_method_of(s), SK_SALIENCY_OCCLUSION);
    sk_saliency_free(s);
    occlusion_is_local(c, 48);
    sk_classifier_close(c);
    sk_free(bytes);
    unlink(path);
}

static void lack_of_memory(void **state) {
    (void)state;
    sk_model *model = make_model(SK_ARCH_V3_SMALL, 6);
    sk_classifier *c = open_model(model);
    const long live = sk_memory_live();
    for (int method = SK_SALIENCY_CAM; method <= SK_SALIENCY_OCCLUSION; method++) {
        sk_saliency *s = NULL;
        sk_status status = SK_ERR_MEMORY;
        long n = 0;
        for (; status && n < 60; n++) {
            sk_error err = {0};
            sk_memory_fail_at(n, 0);
            status = sk_saliency_create(c, (sk_saliency_method)method, 1, &s, &err);
            sk_memory_fail_at(-1, 0);
            assert_true(status == SK_OK || (status == SK_ERR_MEMORY && !s && err.message[0]));
            if (status) assert_int_equal(sk_memory_live(), live);
        }
        assert_true(status == SK_OK && n > 4);
        sk_saliency_free(s);
    }
    sk_classifier_close(c);
    sk_model_free(model);
}

static void border_share(void **state) {
    (void)state;
    enum { SIZE = 200 }; /* .12 of it is a whole number of pixels */
    static float map[SIZE * SIZE];
    assert_true(isnan(sk_saliency_border(map, SIZE)));
    for (int i = 0; i < SIZE * SIZE; i++) map[i] = .25f;
    assert_true(fabs(sk_saliency_border(map, SIZE) - SK_BORDER_AREA) < 1e-9);
    memset(map, 0, sizeof map);
    map[24 * SIZE + 24] = 1;
    assert_true(sk_saliency_border(map, SIZE) == 0);
    map[175 * SIZE + 176] = 3;
    assert_true(fabs(sk_saliency_border(map, SIZE) - .75) < 1e-9);
    sk_saliency_method method = SK_SALIENCY_AUTO;
    assert_int_equal(sk_saliency_method_parse("occlusion", &method, NULL), SK_OK);
    assert_int_equal(method, SK_SALIENCY_OCCLUSION);
    assert_int_equal(sk_saliency_method_parse("lime", &method, NULL), SK_ERR_ARGUMENT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradient_by_differences), cmocka_unit_test(map_is_the_weighted_sum),
        cmocka_unit_test(occlusion_of_float),      cmocka_unit_test(occlusion_of_int8),
        cmocka_unit_test(lack_of_memory),          cmocka_unit_test(border_share)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
