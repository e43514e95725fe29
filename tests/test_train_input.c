/* SPDX-License-Identifier: Apache-2.0 */
/* What can be wrong with what training is given, and a loss that runs away: one sentence each that names the thing, and
 * nothing is lost. (Empty classes, too large a batch, full disks and memory: test_train.c.) */
#include <math.h>

#include "formats/tensors.h"
#include "train_help.h"

static char *write_bytes(const char *name, const void *bytes, size_t size) {
    char *path = in_root(name);
    assert_int_equal(sk_file_write(path, bytes, size, NULL), SK_OK);
    return path;
}

/* A model file; `large`: the other network. */
static char *write_model(const char *name, sk_arch arch, int classes) {
    char *path = in_root(name);
    sk_card card = sk_card_default(arch);
    sk_model *model = NULL;
    card.size = SIZE;
    card.classes = classes;
    if (classes == 3) snprintf(card.class_names, sizeof card.class_names, "a,b,c");
    assert_int_equal(sk_model_create(&card, 1, &model, NULL), SK_OK);
    assert_int_equal(sk_model_write(model, path, NULL), SK_OK);
    sk_model_free(model);
    return path;
}

static void spoil(const char *from, const char *to, const char *tensor) {
    sk_tensor_file file;
    sk_error err = {0};
    if (sk_tensors_read(from, &file, &err) != SK_OK) fail_msg("%s", err.message);
    sk_tensor_entry *entry = (sk_tensor_entry *)sk_tensors_find(&file, tensor);
    assert_non_null(entry);
    entry->data[entry->count / 2] = NAN;
    assert_int_equal(sk_tensors_write_safetensors(to, &file, NULL), SK_OK);
    sk_tensors_free(&file);
}

/* Refused before there is a run folder. */
static void refused_weights(char *path, sk_status code, const char *part) {
    sk_train_options options = small_options();
    char *dir = in_root("refused");
    options.pretrained = path;
    expect_failure(paint, "refused", &options, code, part);
    expect_failure(paint, "refused", &options, code, sk_path_name(path));
    assert_false(sk_path_exists(dir));
    sk_free(dir);
    sk_free(path);
}

static void test_weights(void **unused) {
    (void)unused;
    uint8_t *bytes = NULL;
    size_t size = 0;
    refused_weights(write_model("large.safetensors", SK_ARCH_V3_LARGE, 2), SK_ERR_MISMATCH, "mobilenet_v3_small");
    refused_weights(write_bytes("empty.safetensors", "", 0), SK_ERR_FORMAT, "empty");
    refused_weights(write_bytes("letter.pth", "Dear reader, this is no model.", 30), SK_ERR_FORMAT, "");
    char *whole = write_model("whole.safetensors", SK_ARCH_V3_SMALL, 2);
    assert_int_equal(sk_file_read(whole, &bytes, &size, NULL), SK_OK);
    refused_weights(write_bytes("cut.safetensors", bytes, size / 2), SK_ERR_FORMAT, "");
    refused_weights(write_bytes("head.safetensors", bytes, 100), SK_ERR_FORMAT, "");
    sk_free(bytes);
    sk_free(whole);
    assert_int_equal(sk_file_read(SK_SOURCE_DIR "/tests/fixtures/tiny.pth", &bytes, &size, NULL), SK_OK);
    refused_weights(write_bytes("cut.pth", bytes, size - size / 3), SK_ERR_FORMAT, "");
    refused_weights(write_bytes("tiny.pth", bytes, size), SK_ERR_MISMATCH, ""); /* whole, but of another network */
    sk_free(bytes);
    char *model = write_model("spoilt.safetensors", SK_ARCH_V3_SMALL, 2);
    spoil(model, model, "features.5.block.1.0.weight");
    refused_weights(model, SK_ERR_FORMAT, "layer features.5.block.1, whose weights are not finite");
}

static char noted[2048];
static void keep_note(void *user, sk_log_level level, const char *text) {
    (void)user;
    if (level == SK_LOG_NOTE) snprintf(noted, sizeof noted, "%s", text);
}

/* Other classes are no mistake: the backbone is taken, and it is said that the classifier is not. */
static void test_other_classes(void **unused) {
    (void)unused;
    sk_train_options options = small_options();
    const sk_hooks hooks = {.log = keep_note};
    char *dir = in_root("classes"), *weights = write_model("three.safetensors", SK_ARCH_V3_SMALL, 3);
    sk_error err = {0};
    options.pretrained = weights;
    options.epochs = 1;
    if (sk_train(paint, dir, &options, &hooks, NULL, NULL, &err) != SK_OK) fail_msg("%s", err.message);
    assert_non_null(strstr(noted, "classifier"));
    sk_free(dir);
    sk_free(weights);
}

/* ---- a loss that runs away ------------------------------------------------------------------------------------ */
/* The second epoch begins with a weight that is none. */
static void test_first_layer(void **unused) {
    (void)unused;
    static const char *const cases[][3] = {
        {"features.0.0.weight", "is not a finite number", "layer features.0, whose weights"},
        {"features.5.block.1.0.weight", "is not a finite number", "layer features.5.block.1, whose weights"},
        /* A ReLU hides the value from the loss, not the gradient from the layers before. */
        {"features.4.block.2.fc1.weight", "is not a finite number", "whose weights are not finite"},
        {"features.12.1.running_var", "a weight is not", "layer features.12, whose running statistics"},
        {"classifier.3.weight", "step 1: the loss", "layer classifier.3, whose weights"}};
    sk_train_options options = small_options();
    size_t size = 0;
    char *state = in_root("layers/state.safetensors");
    options.epochs = 1;
    train(paint, "layers", &options);
    uint8_t *bytes = slurp("layers", "state.safetensors", &size);
    options.epochs = 2;
    options.resume = 1;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sk_free(write_bytes("layers/state.safetensors", bytes, size));
        spoil(state, state, cases[i][0]);
        expect_failure(paint, "layers", &options, SK_ERR_DATA, cases[i][1]);
        expect_failure(paint, "layers", &options, SK_ERR_DATA, cases[i][2]);
        expect_failure(paint, "layers", &options, SK_ERR_DATA, "epoch 2, ");
    }
    sk_free(bytes);
    sk_free(state);
}

/* In the second epoch: the first one is kept as it is, and the sentence says so. */
static void test_kept(void **unused) {
    (void)unused;
    static const char *const files[] = {"state.safetensors", "best.safetensors", "last.safetensors", "log.tsv"};
    enum { FILES = 4 };
    sk_train_options options = small_options();
    char *state = in_root("kept/state.safetensors");
    size_t size[FILES];
    uint8_t *before[FILES];
    options.epochs = 1;
    train(paint, "kept", &options);
    spoil(state, state, "features.12.0.weight");
    options.epochs = 3;
    options.resume = 1;
    /* A resumed run derives the others from the state once more. */
    expect_failure(paint, "kept", &options, SK_ERR_DATA, "");
    for (int i = 0; i < FILES; i++) before[i] = slurp("kept", files[i], &size[i]);
    expect_failure(paint, "kept", &options, SK_ERR_DATA, "epoch 2, step 1: the loss is not a finite number");
    expect_failure(paint, "kept", &options, SK_ERR_DATA, "smaller --lr than 0.002 or a longer --warmup");
    expect_failure(paint, "kept", &options, SK_ERR_DATA, "keeps the weights of epoch 1");
    for (int i = 0; i < FILES; i++) {
        size_t again = 0;
        uint8_t *after = slurp("kept", files[i], &again);
        assert_int_equal(again, size[i]);
        assert_memory_equal(after, before[i], again);
        sk_free(after);
        sk_free(before[i]);
    }
    sk_free(state);
}

/* Finite, but certain and wrong for two epochs. */
static void test_hopeless(void **unused) {
    (void)unused;
    sk_train_options options = small_options();
    options.optimizer = SK_OPTIMIZER_SGD;
    options.freeze_features = 1;
    options.lr = 1000;
    options.epochs = 9;
    expect_failure(paint, "hopeless", &options, SK_ERR_DATA, "epoch 2: the training loss");
    expect_failure(paint, "hopeless2", &options, SK_ERR_DATA, "hopeless2 keeps the weights of epoch 1");
    sk_model *model = NULL;
    char *dir = in_root("hopeless");
    assert_int_equal(sk_model_read(dir, &model, NULL), SK_OK);
    sk_model_free(model);
    sk_free(dir);
}

/* ---- a broken run folder -------------------------------------------------------------------------------------- */
static void test_broken_run(void **unused) {
    (void)unused;
    sk_train_options options = small_options();
    size_t size = 0;
    options.epochs = 1;
    train(paint, "broken", &options);
    uint8_t *bytes = slurp("broken", "state.safetensors", &size);
    options.epochs = 2;
    options.resume = 1;
    for (int cut = 1; cut < 4; cut++) {
        sk_free(write_bytes("broken/state.safetensors", bytes, size * (size_t)cut / 4));
        expect_failure(paint, "broken", &options, SK_ERR_FORMAT, "state.safetensors");
    }
    /* A model is no state. */
    size_t other = 0;
    uint8_t *best = slurp("broken", "best.safetensors", &other);
    sk_free(write_bytes("broken/state.safetensors", best, other));
    expect_failure(paint, "broken", &options, SK_ERR_FORMAT, "not the state of a training run");
    sk_free(best);
    /* Put back, all is well. */
    sk_free(write_bytes("broken/state.safetensors", bytes, size));
    train(paint, "broken", &options);
    sk_free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_weights), cmocka_unit_test(test_other_classes), cmocka_unit_test(test_first_layer),
        cmocka_unit_test(test_kept),    cmocka_unit_test(test_hopeless),      cmocka_unit_test(test_broken_run),
    };
    return cmocka_run_group_tests_name("train input", tests, setup, teardown);
}
