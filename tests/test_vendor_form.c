/* SPDX-License-Identifier: Apache-2.0 */
/* The form that the vendor's converter gets: refined weights lie where its rounding to nearest leaves them, and what it
 * makes of them is closer to float. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "quant/vendor.h"

enum { SIZE = 32, PICTURES = 8, WIDTH = 576 };
#define PICTURE ((size_t)SIZE * SIZE * 3)

static sk_model *model;
static sk_quant_pictures pictures; /* twice as many as are calibrated with */
static sk_vendor_form plain, refined, by_layer;

/* The shipped weights at a smaller size, which is quick; pictures of patches, noise and a gradient. */
static int begin(void **state) {
    (void)state;
    sk_card card;
    sk_model *shipped = NULL;
    pictures = (sk_quant_pictures){sk_alloc(2 * PICTURES, PICTURE), PICTURE, PICTURES, NULL};
    if (!pictures.bytes || sk_model_read(SK_SOURCE_DIR "/models/seed-small.safetensors", &shipped, NULL) != SK_OK) {
        return -1;
    }
    for (size_t i = 0; i < 2 * PICTURES * PICTURE; i++) {
        const size_t pixel = i / 3 % (SIZE * SIZE), y = pixel / SIZE, x = pixel % SIZE, p = i / PICTURE;
        pictures.bytes[i] = (uint8_t)(sk_hash64(p * 977 + y / (4 + p) * 64 + x / (3 + p)) % 150 +
                                      sk_hash64(i) % 20 + (x + y) / 2 + 10 * (i % 3));
    }
    card = *sk_model_card(shipped);
    card.size = SIZE;
    if (sk_model_create(&card, 1, &model, NULL) != SK_OK) {
        return -1;
    }
    for (size_t i = 0; i < sk_model_tensor_count(model); i++) {
        sk_tensor to, from;
        if (sk_model_tensor(model, i, &to, NULL) != SK_OK || sk_model_tensor(shipped, i, &from, NULL) != SK_OK) {
            return -1;
        }
        memcpy(to.data, from.data, to.count * sizeof *to.data);
    }
    sk_model_free(shipped);
    return 0;
}

static int refine(int layer_scale, int threads, sk_vendor_form *form) {
    return sk_vendor_form_make(model, &pictures, threads, form, NULL) == SK_OK &&
           sk_vendor_form_refine(model, &pictures, layer_scale, threads, 1, NULL, form, NULL) == SK_OK;
}

static int begin_all(void **state) {
    return begin(state) == 0 && sk_vendor_form_make(model, &pictures, 1, &plain, NULL) == SK_OK &&
                   refine(0, 1, &refined) && refine(1, 2, &by_layer)
               ? 0 : -1;
}

static int end(void **state) {
    (void)state;
    sk_vendor_form_free(&plain);
    sk_vendor_form_free(&refined);
    sk_vendor_form_free(&by_layer);
    sk_quant_pictures_free(&pictures);
    sk_model_free(model);
    return 0;
}

/* A range ends up to half a code off its codes. */
static int is_end(const sk_vendor_codes *codes, float rounded) {
    const float code = rounded / codes->scale;
    return code < codes->least + 0.5f || code > codes->most - 0.5f;
}

/* `before` and `after` of one tensor: the same scales, and every weight either where it was or on one of the two codes
 * around that. How many have another code than by rounding to nearest. */
static int check_weights(const sk_layer *l, const float *before, const float *after, int layer_scale) {
    static sk_vendor_codes old[1024], new[1024];
    const size_t depth = (size_t)sk_layer_depth(l), channels = (size_t)l->out_c;
    int turned = 0;
    sk_vendor_weight_codes(l, before, layer_scale, old);
    sk_vendor_weight_codes(l, after, layer_scale, new);
    for (size_t i = 0; i < channels * depth; i++) {
        const sk_vendor_codes *o = &old[layer_scale ? 0 : i / depth], *n = &new[layer_scale ? 0 : i / depth];
        float rounded = after[i], nearest = before[i];
        sk_vendor_round(n, &rounded, 1);
        sk_vendor_round(o, &nearest, 1);
        assert_float_equal(n->scale / o->scale, 1, 1e-6);
        if (after[i] != before[i]) {
            assert_true(fabsf(rounded - after[i]) < (is_end(n, rounded) ? 0.51f : 1e-3f) * n->scale);
            assert_true(fabsf(after[i] - before[i]) < 1.01f * o->scale);
        }
        turned += fabsf(rounded - nearest) > 0.5f * o->scale;
    }
    return turned;
}

static void survives_rounding(void **state) {
    (void)state;
    for (int k = 0; k < 2; k++) {
        const sk_vendor_form *form = k ? &by_layer : &refined;
        int turned = 0, gates = 0;
        for (size_t i = 0; i < plain.layers; i++) {
            const sk_layer *l = sk_model_layer(model, i);
            turned += plain.weight[i] ? check_weights(l, plain.weight[i], form->weight[i], k) : 0;
            gates += plain.gate[i] ? check_weights(l, plain.gate[i], form->gate[i], k) : 0;
        }
        assert_true(turned > 10000 && gates > 0); /* rounding to nearest would have done without any of this */
    }
}

static void does_not_depend_on_threads(void **state) {
    (void)state;
    sk_vendor_form three;
    assert_true(refine(0, 3, &three));
    for (size_t i = 0; i < refined.layers; i++) {
        const sk_layer *l = sk_model_layer(model, i);
        const size_t bytes = sk_model_weight_count(model, i) * sizeof(float), more = (size_t)l->out_c * sizeof(float);
        if (bytes) {
            assert_memory_equal(refined.weight[i], three.weight[i], bytes);
            assert_memory_equal(refined.bias[i], three.bias[i], more);
        }
        if (refined.gate[i]) {
            assert_memory_equal(refined.gate[i], three.gate[i], bytes);
            assert_memory_equal(refined.shift[i], three.shift[i], more);
        }
    }
    sk_vendor_form_free(&three);
}

/* |pooled features - the network's| / |the network's|, over pictures that were not calibrated with; no factor divides
 * these features. */
static double features_error(const sk_vendor_form *form, int rounded) {
    sk_vendor *net = NULL;
    double error = 0, norm = 0;
    float logits[2], wanted[WIDTH], got[WIDTH];
    assert_int_equal(sk_vendor_observe(model, form, &pictures, 0, NULL, &net, NULL), SK_OK);
    sk_vendor_pass real;
    assert_int_equal(sk_vendor_pass_open(net, &real, NULL), SK_OK);
    for (size_t p = PICTURES; p < 2 * PICTURES; p++) {
        const uint8_t *picture = pictures.bytes + p * PICTURE;
        assert_int_equal(sk_model_forward(model, picture, 1, 1, logits, wanted, NULL, NULL, NULL), SK_OK);
        if (rounded) {
            sk_vendor_run(net, picture, logits, got, NULL, NULL);
        } else {
            size_t pooled = 0;
            sk_float_run_picture(net->real, &real.run, picture);
            for (size_t i = 0; i < net->folded.net.count; i++) {
                sk_vendor_step(net, &real, i, NULL);
                pooled = net->layers[i].stages ? i : pooled;
            }
            memcpy(got, real.run.tensor[pooled + 1], sizeof got);
        }
        for (int k = 0; k < WIDTH; k++) {
            error += (double)(got[k] - wanted[k]) * (double)(got[k] - wanted[k]);
            norm += (double)wanted[k] * (double)wanted[k];
        }
    }
    sk_vendor_pass_close(&real);
    sk_vendor_free(net);
    return sqrt(error / norm);
}

static void is_closer_to_float(void **state) {
    (void)state;
    const double unrounded = features_error(&plain, 0), written = features_error(&refined, 0);
    const double before = features_error(&plain, 1), after = features_error(&refined, 1);
    print_message("features' error: plain %.2g, written %.3f, int8 %.3f, refined int8 %.3f\n", unrounded, written,
                  before, after);
    assert_true(unrounded < 1e-4); /* another form of the same function */
    assert_true(after < 0.9 * before);
    assert_true(written < before);
}

static int stop(void *user) {
    (void)user;
    return 1;
}

static void under_failure(void **state) {
    (void)state;
    const sk_hooks hooks = {.cancelled = stop};
    sk_vendor_form form;
    sk_error err = {0};
    sk_quant_pictures one = pictures;
    one.count = 1;
    const long live = sk_memory_live();
    assert_int_equal(sk_vendor_form_make(model, &one, 1, &form, NULL), SK_OK);
    assert_int_equal(sk_vendor_form_refine(model, &one, 0, 1, 1, &hooks, &form, &err), SK_ERR_CANCELLED);
    sk_vendor_form_free(&form);
    assert_int_equal(sk_memory_live(), live);
    for (long at = 0; at < 500; at += 1 + at) { /* the first layers: the others are rounded the same way */
        sk_memory_fail_at(at, 0);
        sk_status status = sk_vendor_form_make(model, &one, 1, &form, &err);
        if (status == SK_OK) {
            status = sk_vendor_form_refine(model, &one, 0, 1, 1, NULL, &form, &err);
            sk_vendor_form_free(&form);
        }
        sk_memory_fail_at(-1, 0);
        assert_int_equal(status, SK_ERR_MEMORY);
        assert_int_equal(sk_memory_live(), live);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(survives_rounding), cmocka_unit_test(does_not_depend_on_threads),
        cmocka_unit_test(is_closer_to_float), cmocka_unit_test(under_failure)};
    return cmocka_run_group_tests(tests, begin_all, end);
}
