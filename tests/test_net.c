/* SPDX-License-Identifier: Apache-2.0 */
/* The network through its public interface: sizes and names as torchvision's, folding against batch norm, files there
 * and back, pretrained weights, the training step's promises (threads, seed, frozen features, uneven batches),
 * refusals, memory running out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "net/engine.h"
#include "siskin/model.h"

enum { SIZE = 64, BATCH = 19 };

static char folder[] = "/tmp/siskin-net-XXXXXX";
static uint8_t *images;
static int labels[BATCH];

static int setup(void **state) {
    (void)state;
    sk_rng rng = sk_rng_make(5, 6, 7);

    images = sk_alloc(BATCH * SIZE * SIZE, 3);
    if (!images) return -1;
    for (int i = 0; i < BATCH * SIZE * SIZE * 3; i++) images[i] = (uint8_t)(sk_rng_next(&rng) >> 56);
    for (int i = 0; i < BATCH; i++) labels[i] = i % 2;
    return mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    char command[128];

    sk_free(images);
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

static sk_model *make(sk_arch arch, int classes, uint64_t seed) {
    sk_card card = sk_card_default(arch);
    sk_model *model;

    card.size = SIZE;
    card.classes = classes;
    assert_int_equal(sk_model_create(&card, seed, &model, NULL), SK_OK);
    return model;
}

static size_t count_trainable(const sk_model *model) {
    size_t count = 0;

    for (size_t i = 0; i < sk_model_tensor_count(model); i++) {
        sk_tensor t;

        assert_int_equal(sk_model_tensor(model, i, &t, NULL), SK_OK);
        count += t.trainable ? t.count : 0;
    }
    return count;
}

/* Running statistics that are not 0 and 1, so that folding has something to do. */
static void stir(sk_model *model, uint64_t seed) {
    sk_rng rng = sk_rng_make(seed, 1, 1);

    for (size_t i = 0; i < sk_model_tensor_count(model); i++) {
        sk_tensor t;

        assert_int_equal(sk_model_tensor(model, i, &t, NULL), SK_OK);
        for (size_t j = 0; t.rank == 1 && j < t.count; j++) t.data[j] += (float)(0.2 * sk_rng_uniform(&rng));
    }
}

static void structure(void **state) {
    (void)state;
    static const char *const first[] = {"features.0.0.weight",      "features.0.1.weight",
                                        "features.0.1.bias",        "features.0.1.running_mean",
                                        "features.0.1.running_var", "features.1.block.0.0.weight"};
    sk_model *small = make(SK_ARCH_V3_SMALL, 2, 1), *large = make(SK_ARCH_V3_LARGE, 2, 1);
    sk_tensor t;

    assert_int_equal(count_trainable(small), 1519906);
    assert_int_equal(count_trainable(large), 4204594);
    assert_int_equal(sk_model_feature_count(small), 576);
    assert_int_equal(sk_model_feature_count(large), 960);
    for (size_t i = 0; i < sizeof first / sizeof *first; i++) {
        assert_int_equal(sk_model_tensor(small, i, &t, NULL), SK_OK);
        assert_string_equal(t.name, first[i]);
    }
    assert_int_equal(sk_model_find_tensor(small, "features.4.block.2.fc1.weight", &t, NULL), SK_OK);
    assert_int_equal(t.rank, 4);
    assert_int_equal(t.shape[0], 24);
    assert_int_equal(t.shape[1], 96);
    assert_int_equal(sk_model_find_tensor(small, "features.4.block.2.fc9.weight", &t, NULL), SK_ERR_MISMATCH);
    assert_int_equal(sk_model_find_tensor(small, NULL, &t, NULL), SK_ERR_MISMATCH);
    assert_int_equal(sk_model_tensor(small, sk_model_tensor_count(small), &t, NULL), SK_ERR_ARGUMENT);
    for (size_t i = 0; i < sk_model_layer_count(large); i++) { /* a layer reads only what is there already */
        const sk_layer *l = sk_model_layer(large, i);

        assert_true(l->input < (int)i && l->input2 < (int)i);
        if (l->input >= 0) assert_int_equal(l->in_c, sk_model_layer(large, (size_t)l->input)->out_c);
    }
    assert_null(sk_model_layer(large, sk_model_layer_count(large)));
    sk_model_free(small);
    sk_model_free(large);
}

static void refusals(void **state) {
    (void)state;
    sk_card card = sk_card_default(SK_ARCH_V3_SMALL);
    sk_error err = {0};
    sk_model *model;
    sk_arch arch;

    card.size = 8;
    assert_int_equal(sk_model_create(&card, 0, &model, &err), SK_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "8"));
    card = sk_card_default(SK_ARCH_V3_SMALL);
    card.classes = 1;
    assert_int_equal(sk_model_create(&card, 0, &model, &err), SK_ERR_ARGUMENT);
    card = sk_card_default(SK_ARCH_V3_SMALL);
    card.std[1] = 0;
    assert_int_equal(sk_model_create(&card, 0, &model, &err), SK_ERR_ARGUMENT);
    assert_int_equal(sk_arch_parse("medium", &arch, &err), SK_ERR_ARGUMENT);
    assert_int_equal(sk_arch_parse("mobilenet_v3_large", &arch, &err), SK_OK);
    assert_int_equal(arch, SK_ARCH_V3_LARGE);
    assert_int_equal(sk_model_read("/nonexistent.safetensors", &model, &err), SK_ERR_IO);
}

static void same_outputs(sk_model *a, sk_model *b) {
    float of_a[BATCH * 2], of_b[BATCH * 2];

    assert_int_equal(sk_model_forward(a, images, BATCH, 1, of_a, NULL, NULL, NULL, NULL), SK_OK);
    assert_int_equal(sk_model_forward(b, images, BATCH, 3, of_b, NULL, NULL, NULL, NULL), SK_OK);
    assert_memory_equal(of_a, of_b, sizeof of_a);
}

static void forward(void **state) {
    (void)state;
    sk_model *model = make(SK_ARCH_V3_SMALL, 2, 3), *other = make(SK_ARCH_V3_SMALL, 2, 3);
    float one[2], all[BATCH * 2], *features = sk_alloc(BATCH * 576, sizeof *features), before[2];
    sk_tensor t;

    same_outputs(model, other); /* the seed decides */
    stir(model, 1);
    assert_int_equal(sk_model_forward(model, images, BATCH, 2, all, features, NULL, NULL, NULL), SK_OK);
    for (int i = 0; i < BATCH; i += 6) { /* a picture's answer does not depend on its neighbours */
        assert_int_equal(sk_model_forward(model, images + i * SIZE * SIZE * 3, 1, 1, one, NULL, NULL, NULL, NULL),
                         SK_OK);
        assert_memory_equal(one, all + 2 * i, sizeof one);
    }
    assert_true(features[0] != features[576]);
    memcpy(before, all, sizeof before);
    assert_int_equal(sk_model_find_tensor(model, "classifier.3.bias", &t, NULL), SK_OK);
    t.data[0] += 1; /* weights that change are seen */
    assert_int_equal(sk_model_forward(model, images, 1, 1, one, NULL, NULL, NULL, NULL), SK_OK);
    assert_float_equal(one[0], before[0] + 1, 1e-5);
    assert_int_equal(sk_model_forward(model, images, 0, 1, one, NULL, NULL, NULL, NULL), SK_OK);
    sk_free(features);
    sk_model_free(model);
    sk_model_free(other);
}

/* Another size keeps the weights and changes the shapes. */
static void other_size(void **state) {
    (void)state;
    sk_model *model = make(SK_ARCH_V3_SMALL, 2, 3);
    sk_card card = *sk_model_card(model);
    uint8_t *large = sk_calloc(96 * 96, 3);
    float logits[2], again[2];
    sk_card fresh = card;
    sk_model *other;

    assert_int_equal(sk_model_forward(model, images, 1, 1, logits, NULL, NULL, NULL, NULL), SK_OK);
    card.size = fresh.size = 96;
    sk_model_set_card(model, &card);
    assert_int_equal(sk_model_create(&fresh, 3, &other, NULL), SK_OK);
    assert_int_equal(sk_model_layer(model, 0)->out_h, 48);
    for (size_t i = 0; i < sk_model_layer_count(model); i++)
        assert_memory_equal(sk_model_layer(model, i), sk_model_layer(other, i), sizeof(sk_layer));
    assert_int_equal(sk_model_forward(model, large, 1, 1, logits, NULL, NULL, NULL, NULL), SK_OK);
    assert_int_equal(sk_model_forward(other, large, 1, 1, again, NULL, NULL, NULL, NULL), SK_OK);
    assert_memory_equal(logits, again, sizeof logits);
    card.size = 3; /* cannot run: not taken over */
    sk_model_set_card(model, &card);
    assert_int_equal(sk_model_card(model)->size, 96);
    sk_free(large);
    sk_model_free(model);
    sk_model_free(other);
}

static void files(void **state) {
    (void)state;
    char *path = sk_path_join(folder, "m.safetensors"), *missing = sk_path_join(folder, "none.safetensors");
    sk_model *model = make(SK_ARCH_V3_SMALL, 2, 3), *back, *fresh = make(SK_ARCH_V3_SMALL, 5, 9);
    sk_model *large = make(SK_ARCH_V3_LARGE, 2, 9);
    sk_card card = *sk_model_card(model);
    char note[256] = "";
    sk_tensor a, b;
    sk_error err = {0};
    float kept;

    stir(model, 2);
    card.threshold = 0.625f;
    snprintf(card.run_id, sizeof card.run_id, "run-7");
    sk_model_set_card(model, &card);
    assert_int_equal(sk_model_write(model, path, &err), SK_OK);
    assert_int_equal(sk_model_read(path, &back, &err), SK_OK);
    assert_int_equal(sk_model_card(back)->size, SIZE);
    assert_true(sk_model_card(back)->threshold == 0.625f);
    assert_string_equal(sk_model_card(back)->run_id, "run-7");
    same_outputs(model, back);

    sk_model_find_tensor(fresh, "classifier.3.weight", &b, NULL);
    kept = b.data[17];
    assert_int_equal(sk_model_load_pretrained(fresh, path, note, sizeof note, &err), SK_OK);
    assert_non_null(strstr(note, "classifier"));
    assert_true(b.data[17] == kept); /* the last layer is of another size */
    sk_model_find_tensor(model, "features.7.block.1.0.weight", &a, NULL);
    sk_model_find_tensor(fresh, "features.7.block.1.0.weight", &b, NULL);
    assert_memory_equal(a.data, b.data, a.count * sizeof(float));
    assert_int_equal(sk_model_load_pretrained(large, path, note, sizeof note, &err), SK_ERR_MISMATCH);
    assert_non_null(strstr(err.message, "mobilenet_v3_large"));
    assert_int_equal(sk_model_load_pretrained(large, missing, NULL, 0, &err), SK_ERR_IO);
    sk_model_free(model);
    sk_model_free(back);
    sk_model_free(fresh);
    sk_model_free(large);
    sk_free(path);
    sk_free(missing);
}

/* ---- training step ------------------------------------------------------------------------------------------ */
static uint64_t step_hash(int threads, uint64_t seed, float dropout, int freeze, int n, double *loss) {
    sk_model *model = make(SK_ARCH_V3_SMALL, 2, 4);
    const sk_engine_options options = {BATCH, threads, freeze, dropout};
    sk_engine *engine;
    uint64_t hash = 0;
    int correct;

    assert_int_equal(sk_engine_create(model, &options, &engine, NULL), SK_OK);
    assert_int_equal(sk_engine_step(engine, images, labels, n, seed, loss, &correct, NULL), SK_OK);
    assert_in_range(correct, 0, n);
    for (size_t i = 0; i < sk_model_tensor_count(model); i++) {
        const float *gradient = sk_engine_gradient(engine, i);
        sk_tensor t;

        sk_model_tensor(model, i, &t, NULL);
        assert_int_equal(gradient != NULL, t.trainable && (!freeze || !strncmp(t.name, "classifier", 10)));
        hash = sk_hash64(hash ^ sk_hash_bytes(gradient ? gradient : t.data, t.count * sizeof(float)));
    }
    assert_null(sk_engine_gradient(engine, sk_model_tensor_count(model)));
    assert_null(sk_engine_gradient(engine, (size_t)1 << 40));
    sk_engine_free(engine);
    sk_model_free(model);
    return hash;
}

static void steps(void **state) {
    (void)state;
    double loss, other;
    const uint64_t one = step_hash(1, 8, 0.2f, 0, BATCH, &loss);

    assert_true(one == step_hash(2, 8, 0.2f, 0, BATCH, &other) && loss == other);
    assert_true(one == step_hash(3, 8, 0.2f, 0, BATCH, &other));
    assert_true(one != step_hash(1, 9, 0.2f, 0, BATCH, &other));                      /* other dropout masks */
    assert_true(step_hash(1, 8, 0, 0, 7, &loss) == step_hash(2, 9, 0, 0, 7, &other)); /* no dropout: no seed */
    assert_true(step_hash(1, 8, 0.2f, 1, BATCH, &loss) == step_hash(2, 8, 0.2f, 1, BATCH, &other));
    assert_true(step_hash(1, 8, 0.2f, 0, 1, &loss) == step_hash(2, 8, 0.2f, 0, 1, &other)); /* one picture */
    assert_true(isfinite(loss));
}

/* With frozen statistics a step sees the network as evaluation does: the loss follows from the logits of the forward
 * pass, batch norm's statistics stay, gamma and beta have gradients, and the threads do not matter. */
static void frozen_norms(void **state) {
    (void)state;
    float logits[BATCH * 2], *gradients[2];
    double loss[2], expected = 0;
    int correct[2];

    for (int t = 0; t < 2; t++) {
        sk_model *model = make(SK_ARCH_V3_SMALL, 2, 4);
        const sk_engine_options options = {.batch = BATCH, .threads = t + 1, .freeze_bn = 1};
        const size_t count = sk_model_tensor_count(model);
        size_t total = 0, at = 0;
        sk_engine *engine;
        sk_tensor tensor;

        for (size_t i = 0; i < count; i++) { /* statistics and norms as after some training */
            sk_model_tensor(model, i, &tensor, NULL);
            for (size_t j = 0; j < tensor.count && tensor.rank == 1; j++)
                tensor.data[j] += 0.3f * (float)(sk_hash64(i * 4096 + j) % 1000) / 1000;
            total += tensor.count;
        }
        gradients[t] = sk_calloc(total, sizeof(float));
        assert_int_equal(sk_model_forward(model, images, BATCH, 1, logits, NULL, NULL, NULL, NULL), SK_OK);
        assert_int_equal(sk_engine_create(model, &options, &engine, NULL), SK_OK);
        for (size_t i = 0; i < count; i++) { /* batch norm's statistics before the step */
            sk_model_tensor(model, i, &tensor, NULL);
            if (!tensor.trainable) memcpy(gradients[t] + at, tensor.data, tensor.count * sizeof(float));
            at += tensor.count;
        }
        assert_int_equal(sk_engine_step(engine, images, labels, BATCH, 3, &loss[t], &correct[t], NULL), SK_OK);
        at = 0;
        for (size_t i = 0; i < count; i++) {
            sk_model_tensor(model, i, &tensor, NULL);
            if (tensor.trainable)
                memcpy(gradients[t] + at, sk_engine_gradient(engine, i), tensor.count * sizeof(float));
            else assert_memory_equal(gradients[t] + at, tensor.data, tensor.count * sizeof(float));
            at += tensor.count;
        }
        assert_memory_equal(gradients[0], gradients[t], total * sizeof(float));
        sk_engine_free(engine);
        sk_model_free(model);
    }
    for (int i = 0; i < BATCH; i++)
        expected += log(1 + exp((double)logits[2 * i + !labels[i]] - (double)logits[2 * i + labels[i]])) / BATCH;
    assert_true(fabs(loss[0] - expected) < 1e-5 * (1 + expected));
    assert_true(loss[0] == loss[1] && correct[0] == correct[1]);
    sk_free(gradients[0]);
    sk_free(gradients[1]);
}

static void step_refusals(void **state) {
    (void)state;
    sk_model *model = make(SK_ARCH_V3_SMALL, 2, 4);
    sk_engine_options options = {.batch = 2, .threads = 1};
    const int wrong[2] = {0, 2};
    sk_engine *engine;
    sk_error err = {0};
    double loss;

    assert_int_equal(sk_engine_create(model, &options, &engine, NULL), SK_OK);
    assert_int_equal(sk_engine_step(engine, images, labels, 3, 0, &loss, NULL, &err), SK_ERR_ARGUMENT);
    assert_int_equal(sk_engine_step(engine, images, labels, 0, 0, &loss, NULL, &err), SK_ERR_ARGUMENT);
    assert_int_equal(sk_engine_step(engine, images, wrong, 2, 0, &loss, NULL, &err), SK_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "label 2"));
    sk_engine_free(engine);
    options.batch = 0;
    assert_int_equal(sk_engine_create(model, &options, &engine, &err), SK_ERR_ARGUMENT);
    options.batch = 2;
    options.dropout = 1;
    assert_int_equal(sk_engine_create(model, &options, &engine, &err), SK_ERR_ARGUMENT);
    sk_model_free(model);
}

/* Every allocation fails once: an error each time, nothing lost. */
static void memory(void **state) {
    (void)state;
    char *path = sk_path_join(folder, "memory.safetensors");
    sk_model *model = make(SK_ARCH_V3_SMALL, 2, 4);
    const long live = sk_memory_live();
    int finished = 0, refused = 0;

    assert_int_equal(sk_model_write(model, path, NULL), SK_OK);
    for (long at = 0; at < 4000 && !finished; at += at < 60 ? 1 : 97) {
        const sk_engine_options options = {.batch = 1, .threads = 1, .freeze_features = (int)(at & 1)};
        sk_model *other = NULL;
        sk_engine *engine = NULL;
        float logits[2];
        sk_status status;

        sk_memory_fail_at(at, 0);
        status = sk_model_read(path, &other, NULL);
        if (status == SK_OK) status = sk_model_forward(other, images, 1, 1, logits, NULL, NULL, NULL, NULL);
        if (status == SK_OK) status = sk_engine_create(other, &options, &engine, NULL);
        sk_memory_fail_at(-1, 0);
        finished = status == SK_OK;
        refused += status == SK_ERR_MEMORY;
        assert_true(finished || status == SK_ERR_MEMORY);
        sk_engine_free(engine);
        sk_model_free(other);
        assert_int_equal(sk_memory_live(), live);
    }
    assert_true(finished && refused > 10);
    for (long at = 0; at < 12; at++) { /* the inference and training state alone */
        const sk_engine_options options = {.batch = 1, .threads = 1, .freeze_features = (int)(at & 1)};
        sk_engine *engine = NULL;
        sk_status status;

        sk_memory_fail_at(at, 0);
        status = sk_engine_create(model, &options, &engine, NULL);
        sk_memory_fail_at(-1, 0);
        assert_true(status == SK_OK || status == SK_ERR_MEMORY);
        assert_true(status == SK_ERR_MEMORY || at >= 2);
        sk_engine_free(engine);
        assert_int_equal(sk_memory_live(), live);
    }
    sk_model_free(model);
    sk_free(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(structure),     cmocka_unit_test(refusals), cmocka_unit_test(forward),
        cmocka_unit_test(other_size),    cmocka_unit_test(files),    cmocka_unit_test(steps),
        cmocka_unit_test(frozen_norms),  cmocka_unit_test(step_refusals), cmocka_unit_test(memory),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
