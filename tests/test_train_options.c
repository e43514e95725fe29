/* SPDX-License-Identifier: Apache-2.0 */
/* The options of a recipe at work in the loop: whatever is switched on, threads and interruptions change no byte; what
 * stands still, what is averaged, when a run ends by itself, and that runs of the first format are still resumed. */
#include <math.h>

#include "formats/tensors.h"
#include "train_help.h"
#include "weights/weights.h"

/* Everything at once, for an optimiser. */
static sk_train_options rich_options(sk_optimizer kind) {
    sk_train_options o = small_options();
    o.optimizer = kind;
    o.weight_decay = kind == SK_OPTIMIZER_ADAM ? 0 : 0.05f;
    o.schedule = SK_SCHEDULE_COSINE;
    o.warmup = 1.5f;
    o.ema = 0.9f;
    o.label_smoothing = 0.1f;
    o.balance = kind == SK_OPTIMIZER_SGD ? SK_BALANCE_SAMPLING : SK_BALANCE_WEIGHTS;
    o.source_mix = 0.5f;
    o.epoch_size = 33;
    o.head_epochs = 1;
    o.freeze_bn = kind == SK_OPTIMIZER_ADAM;
    return o;
}

typedef struct stopper {
    int left; /* asks to stop at the n-th question */
} stopper;
static int stop_soon(void *user) { return ((stopper *)user)->left-- <= 0; }

static void train_in_pieces(const char *run, sk_train_options options) {
    char *dir = in_root(run);
    sk_status status = SK_ERR_CANCELLED;
    for (int n = 0; n < 60 && status == SK_ERR_CANCELLED; n++) {
        stopper user = {.left = 3 + n % 7};
        const sk_hooks hooks = {.user = &user, .cancelled = stop_soon};
        options.resume = n > 0;
        status = sk_train(paint, dir, &options, &hooks, NULL, NULL, NULL);
    }
    assert_int_equal(status, SK_OK);
    sk_free(dir);
}

static void test_same_bytes(void **unused) {
    (void)unused;
    static const char *const names[] = {"adam", "adamw", "sgd"};
    for (int kind = 0; kind < 3; kind++) {
        sk_train_options options = rich_options((sk_optimizer)kind);
        char whole[32], pieces[32];
        snprintf(whole, sizeof whole, "whole_%s", names[kind]);
        snprintf(pieces, sizeof pieces, "pieces_%s", names[kind]);
        train(paint, whole, &options);
        options.threads = 2;
        train_in_pieces(pieces, options);
        assert_same_run(whole, pieces);
    }
}

static void read_file(const char *run, const char *name, sk_tensor_file *out) {
    char path[600];
    sk_error err = {0};
    snprintf(path, sizeof path, "%s/%s/%s", root, run, name);
    if (sk_tensors_read(path, out, &err) != SK_OK) fail_msg("%s", err.message);
}

/* The state holds live weights and averages, the models of the run are the averages. */
static void test_average(void **unused) {
    (void)unused;
    sk_tensor_file state, last;
    size_t averaged = 0, apart = 0;
    read_file("whole_adamw", "state.safetensors", &state);
    read_file("whole_adamw", "last.safetensors", &last);
    for (size_t i = 0; i < last.count; i++) {
        char name[300];
        snprintf(name, sizeof name, "ema.%s", last.items[i].name);
        const sk_tensor_entry *average = sk_tensors_find(&state, name);
        const sk_tensor_entry *live = sk_tensors_find(&state, last.items[i].name);
        if (!average) continue;
        const size_t size = average->count * sizeof(float);
        assert_memory_equal(average->data, last.items[i].data, size);
        averaged++;
        apart += memcmp(average->data, live->data, size) != 0;
    }
    assert_true(averaged > 100 && apart > 100);
    sk_tensors_free(&state);
    sk_tensors_free(&last);
}

/* Number of tensors of `prefix` that a run has moved away from its first weights. */
static size_t moved(const char *run, const sk_train_options *options, const char *prefix, const char *end) {
    char path[600];
    sk_model *before = NULL, *after = NULL;
    size_t count = 0;
    snprintf(path, sizeof path, "%s/%s/last.safetensors", root, run);
    assert_int_equal(sk_model_create(&options->card, options->seed, &before, NULL), SK_OK);
    assert_int_equal(sk_model_read(path, &after, NULL), SK_OK);
    for (size_t i = 0; i < sk_model_tensor_count(before); i++) {
        sk_tensor a, b;
        assert_int_equal(sk_model_tensor(before, i, &a, NULL), SK_OK);
        assert_int_equal(sk_model_tensor(after, i, &b, NULL), SK_OK);
        if (strncmp(a.name, prefix, strlen(prefix)) == 0 && sk_has_suffix(a.name, end))
            count += memcmp(a.data, b.data, a.count * sizeof(float)) != 0;
    }
    sk_model_free(before);
    sk_model_free(after);
    return count;
}

static void test_what_stands_still(void **unused) {
    (void)unused;
    sk_train_options options = small_options();
    options.epochs = options.head_epochs = 1;
    train(paint, "head", &options);
    assert_int_equal(moved("head", &options, "features.", ""), 0);
    assert_int_equal(moved("head", &options, "classifier.", ""), 4);
    options.epochs = 2;
    options.resume = 1;
    train(paint, "head", &options); /* now the features too */
    assert_true(moved("head", &options, "features.", "weight") > 50);
    options = small_options();
    options.epochs = 1;
    options.freeze_bn = 1;
    train(paint, "bn", &options);
    assert_int_equal(moved("bn", &options, "features.", "running_mean"), 0);
    assert_int_equal(moved("bn", &options, "features.", "running_var"), 0);
    assert_true(moved("bn", &options, "features.", "weight") > 50);
}

static char noted[2048];
static void keep_note(void *user, sk_log_level level, const char *text) {
    (void)user;
    (void)level;
    snprintf(noted, sizeof noted, "%s", text);
}

/* With a rate too small to move a float no epoch is better than the first. */
static void test_patience(void **unused) {
    (void)unused;
    sk_train_options options = small_options();
    const sk_hooks hooks = {.log = keep_note};
    sk_epoch_log *log = NULL;
    size_t rows = 0, size = 0;
    char *dir = in_root("patient");
    options.epochs = 50;
    options.lr = 1e-12f;
    options.freeze_bn = 1;
    options.patience = 2;
    for (int again = 0; again < 2; again++) {
        options.resume = again;
        assert_int_equal(sk_train(paint, dir, &options, &hooks, NULL, NULL, NULL), SK_OK);
        assert_int_equal(sk_train_log_read(dir, &log, &rows, NULL), SK_OK);
        /* A last bit of the loss may still fall in an early epoch. */
        int best = 0;
        for (size_t i = 0; i < rows; i++)
            if (log[i].is_best) best = log[i].epoch;
        assert_int_equal(rows, (size_t)best + 2);
        assert_true(rows < 50);
        sk_train_log_free(log);
        assert_non_null(strstr(noted, "--patience 2"));
        char *json = (char *)slurp("patient", "run.json", &size), wanted[64];
        snprintf(wanted, sizeof wanted, "\"stopped_early\": %zu", rows);
        assert_non_null(strstr(json, wanted));
        sk_free(json);
    }
    sk_free(dir);
}

static void test_rate_in_log(void **unused) {
    (void)unused;
    sk_epoch_log *log = NULL;
    size_t rows = 0;
    char *dir = in_root("whole_adamw");
    assert_int_equal(sk_train_log_read(dir, &log, &rows, NULL), SK_OK);
    assert_int_equal(rows, EPOCHS);
    /* 33 pictures in batches of 10: four steps an epoch, six of warm-up, six of cosine; the rate of each last step. */
    assert_true(fabs(log[0].lr - 2e-3 * 4 / 6) < 1e-9);
    assert_true(fabs(log[1].lr - 2e-3 * 0.5 * (1 + cos(M_PI / 6))) < 1e-9);
    assert_true(fabs(log[2].lr - 2e-3 * 0.5 * (1 + cos(M_PI * 5 / 6))) < 1e-9);
    sk_train_log_free(log);
    sk_free(dir);
}

/* A cosine ends with the run: it cannot be made longer afterwards; a setting cannot change on the way. */
static void test_refused(void **unused) {
    (void)unused;
    sk_train_options options = rich_options(SK_OPTIMIZER_ADAMW);
    options.resume = 1;
    options.epochs = 5;
    expect_failure(paint, "whole_adamw", &options, SK_ERR_MISMATCH, "--epochs 3");
    options.epochs = EPOCHS;
    options.ema = 0.99f;
    expect_failure(paint, "whole_adamw", &options, SK_ERR_MISMATCH, "begun with --ema 0.9;");
    options = rich_options(SK_OPTIMIZER_ADAMW);
    options.resume = 1;
    options.augment.flip = 0;
    expect_failure(paint, "whole_adamw", &options, SK_ERR_MISMATCH, "begun with --augment-flip 0.5;");
    options = small_options();
    options.weight_decay = 0.1f;
    expect_failure(paint, "x", &options, SK_ERR_ARGUMENT, "--optimizer adamw");
    options = small_options();
    options.warmup = 4;
    expect_failure(paint, "x", &options, SK_ERR_ARGUMENT, "--warmup");
    options = small_options();
    options.augment.scale_min = 0.9f;
    options.augment.scale_max = 0.5f;
    expect_failure(paint, "x", &options, SK_ERR_ARGUMENT, "--augment-scale-min");
    options = small_options();
    options.label_smoothing = NAN;
    expect_failure(paint, "x", &options, SK_ERR_ARGUMENT, "--label-smoothing");
}

/* ---- runs of the first format --------------------------------------------------------------------------------- */
/* Takes the lines of a config that the first format had, and writes numbers as it did. */
static char *first_config(const char *config) {
    static const char *const kept[] = {"--model", "--size", "--freeze-features", "--clip-repeat", "--seed",
                                       "mean",    "std",    "--batch",           "pretrained",    "data"};
    sk_text text = {0};
    sk_text_add(&text, "--lr\t0.00200000009\n--dropout\t0.200000003\n");
    for (const char *at = config; *at; at += strcspn(at, "\n") + 1) {
        const size_t name = strcspn(at, "\t");
        for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
            if (strlen(kept[i]) != name || memcmp(kept[i], at, name) != 0) continue;
            if (strcmp(kept[i], "--freeze-features") == 0) sk_text_add(&text, "--freeze-features\t0\n");
            else sk_text_add(&text, "%.*s\n", (int)strcspn(at, "\n"), at);
        }
    }
    assert_int_equal(text.failed, 0);
    return text.data;
}

/* The log without its sixth column. */
static char *first_log(const char *log) {
    sk_text text = {0};
    for (int column = 0; *log; log++) {
        if (column != 5) sk_text_add_bytes(&text, log, 1);
        column = *log == '\n' ? 0 : column + (*log == '\t');
    }
    assert_int_equal(text.failed, 0);
    return text.data;
}

static void test_first_format(void **unused) {
    (void)unused;
    sk_train_options options = small_options();
    sk_tensor_file file;
    char path[600];
    train(paint, "unbroken", &options);
    options.epochs = 1;
    train(paint, "first", &options);
    read_file("first", "state.safetensors", &file);
    char *config = first_config(sk_tensors_meta(&file, "siskin.train.config"));
    char *log = first_log(sk_tensors_meta(&file, "siskin.train.log"));
    assert_int_equal(sk_tensors_set_meta(&file, "siskin.train.format", "1", NULL), SK_OK);
    assert_int_equal(sk_tensors_set_meta(&file, "siskin.train.config", config, NULL), SK_OK);
    assert_int_equal(sk_tensors_set_meta(&file, "siskin.train.log", log, NULL), SK_OK);
    snprintf(path, sizeof path, "%s/first/state.safetensors", root);
    assert_int_equal(sk_tensors_write_safetensors(path, &file, NULL), SK_OK);
    options.resume = 1;
    options.epochs = EPOCHS;
    train(paint, "first", &options);
    sk_tensor_file a, b;
    read_file("first", "last.safetensors", &a);
    read_file("unbroken", "last.safetensors", &b);
    assert_int_equal(a.count, b.count);
    for (size_t i = 0; i < a.count; i++)
        assert_memory_equal(a.items[i].data, b.items[i].data, a.items[i].count * sizeof(float));
    /* What it did not have was off, and cannot be switched on in the middle. */
    options.ema = 0.9f;
    expect_failure(paint, "first", &options, SK_ERR_MISMATCH, "begun with --ema 0;");
    sk_tensors_set_meta(&file, "siskin.train.format", "3", NULL);
    assert_int_equal(sk_tensors_write_safetensors(path, &file, NULL), SK_OK);
    expect_failure(paint, "first", &options, SK_ERR_UNSUPPORTED, "newer siskin");
    sk_tensors_free(&a);
    sk_tensors_free(&b);
    sk_tensors_free(&file);
    sk_free(config);
    sk_free(log);
}

/* run.json gives every value back. */
static void test_run_json(void **unused) {
    (void)unused;
    const sk_train_options was = rich_options(SK_OPTIMIZER_ADAMW);
    sk_train_options read = sk_train_defaults(SK_ARCH_V3_LARGE);
    char *dir = in_root("whole_adamw"), pretrained[64], value[2][32];
    sk_error err = {0};
    if (sk_train_options_read(dir, &read, pretrained, sizeof pretrained, &err) != SK_OK) fail_msg("%s", err.message);
    for (size_t i = 0; sk_train_key_at(i); i++) {
        const sk_train_key *key = sk_train_key_at(i);
        if (strcmp(key->name, "threads") != 0)
            assert_string_equal(sk_train_options_get(&read, key, value[0]), sk_train_options_get(&was, key, value[1]));
    }
    sk_free(dir);
}

/* ---- weights that are adjusted and kept ------------------------------------------------------------------------- */
/* Pretrained weights with a few far out. */
static char *make_pretrained(void) {
    const sk_train_options options = small_options();
    char *path = in_root("pretrained.safetensors");
    sk_model *model = NULL;
    sk_tensor w;
    assert_int_equal(sk_model_create(&options.card, 77, &model, NULL), SK_OK);
    assert_int_equal(sk_model_find_tensor(model, "features.4.block.1.0.weight", &w, NULL), SK_OK);
    for (size_t i = 0; i < w.count; i += 211) w.data[i] *= 40;
    assert_int_equal(sk_model_write(model, path, NULL), SK_OK);
    sk_model_free(model);
    return path;
}

/* Largest factor by which a weight of the features is outside the limits of the pretrained ones. */
static double outside(const char *run, const char *pretrained, sk_adjust_on on) {
    const sk_adjust_options o = {.method = SK_ADJUST_SIGMA, .on = on, .layers = "features.*"};
    char path[600];
    sk_model *first = NULL, *last = NULL;
    sk_limits *limits = NULL;
    sk_site *sites = NULL;
    size_t count = 0;
    double most = 0;
    snprintf(path, sizeof path, "%s/%s/last.safetensors", root, run);
    assert_int_equal(sk_model_read(pretrained, &first, NULL), SK_OK);
    assert_int_equal(sk_model_read(path, &last, NULL), SK_OK);
    assert_int_equal(sk_limits_create(first, &o, &limits, NULL), SK_OK);
    assert_int_equal(sk_sites_make(last, "features.*", &sites, &count, NULL), SK_OK);
    assert_int_equal(count, limits->count);
    for (size_t s = 0; s < count; s++)
        for (size_t i = 0; i < sites[s].weight.count; i++) {
            const double scale = on == SK_ADJUST_FOLDED ? sk_site_scale(&sites[s], i / sites[s].size) : 1;
            const double value = scale * (double)sites[s].weight.data[i];
            most = fmax(most, value / (double)limits->bounds[s][0][value > 0]);
        }
    sk_free(sites);
    sk_limits_free(limits);
    sk_model_free(first);
    sk_model_free(last);
    return most;
}

static void test_adjusted(void **unused) {
    (void)unused;
    char *pretrained = make_pretrained();
    sk_train_options options = small_options();
    options.pretrained = pretrained;
    options.epochs = 2;
    train(paint, "unadjusted", &options);
    options.adjust = SK_ADJUST_SIGMA;
    options.adjust_on = SK_ADJUST_RAW;
    train(paint, "adjusted", &options);
    options.adjust_keep = 1;
    train(paint, "kept", &options);
    options.adjust_on = SK_ADJUST_FOLDED;
    train(paint, "kept_folded", &options);
    options.adjust = SK_ADJUST_NONE;
    options.adjust_keep = 0;
    options.range_penalty = 100; /* times lr: a fifth of the excess per step */
    train(paint, "pulled", &options);
    const double plain = outside("unadjusted", pretrained, SK_ADJUST_RAW);
    assert_true(plain > 3);
    assert_true(outside("adjusted", pretrained, SK_ADJUST_RAW) > 1.0001);
    assert_true(outside("adjusted", pretrained, SK_ADJUST_RAW) < plain);
    assert_true(outside("kept", pretrained, SK_ADJUST_RAW) <= 1);
    assert_true(outside("kept_folded", pretrained, SK_ADJUST_FOLDED) <= 1.00001);
    assert_true(outside("kept", pretrained, SK_ADJUST_FOLDED) > 1.01); /* batch norm scaled them up again */
    assert_true(outside("pulled", pretrained, SK_ADJUST_RAW) < plain / 2);
    sk_free(pretrained);
}

/* Also when the pretrained file is gone by the time the run is resumed, and with averages and a frozen beginning. */
static void test_adjusted_same_bytes(void **unused) {
    (void)unused;
    char *pretrained = make_pretrained();
    sk_train_options options = rich_options(SK_OPTIMIZER_ADAMW);
    options.pretrained = pretrained;
    options.adjust = SK_ADJUST_TUKEY;
    options.adjust_keep = 1;
    options.range_penalty = 30;
    options.equalise = .5f;
    train(paint, "limits_whole", &options);
    options.threads = 2;
    options.epochs = 3;
    train_in_pieces("limits_pieces", options);
    assert_same_run("limits_whole", "limits_pieces");
    options.threads = 1;
    stopper user = {.left = 16};
    const sk_hooks hooks = {.user = &user, .cancelled = stop_soon};
    char *dir = in_root("limits_gone");
    assert_int_equal(sk_train(paint, dir, &options, &hooks, NULL, NULL, NULL), SK_ERR_CANCELLED);
    assert_int_equal(remove(pretrained), 0);
    options.resume = 1;
    train(paint, "limits_gone", &options);
    assert_same_run("limits_whole", "limits_gone");
    options.adjust_k = 2;
    expect_failure(paint, "limits_gone", &options, SK_ERR_MISMATCH, "--adjust-k 0");
    sk_free(dir);
    sk_free(pretrained);
}

static void test_adjust_refused(void **unused) {
    (void)unused;
    sk_train_options options = small_options();
    options.adjust = SK_ADJUST_SIGMA;
    expect_failure(paint, "no", &options, SK_ERR_ARGUMENT, "--adjust is about pretrained weights");
    options.pretrained = "x";
    options.adjust_k = .01f;
    expect_failure(paint, "no", &options, SK_ERR_ARGUMENT, "--adjust-k: k of sigma is 0.01");
    options.adjust = SK_ADJUST_NONE;
    options.adjust_k = 0;
    options.adjust_keep = 1;
    expect_failure(paint, "no", &options, SK_ERR_ARGUMENT, "--adjust-keep needs --adjust");
    options.adjust_keep = 0;
    options.range_penalty = 501;
    expect_failure(paint, "no", &options, SK_ERR_ARGUMENT, "a step would overshoot");
    options.pretrained = NULL;
    options.range_penalty = 1;
    expect_failure(paint, "no", &options, SK_ERR_ARGUMENT, "--range-penalty is about pretrained weights");
    options.range_penalty = 0;
    options.equalise = 16;
    expect_failure(paint, "no", &options, SK_ERR_ARGUMENT, "--equalise is about pretrained weights");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bytes),        cmocka_unit_test(test_average),
        cmocka_unit_test(test_what_stands_still), cmocka_unit_test(test_patience),
        cmocka_unit_test(test_rate_in_log),       cmocka_unit_test(test_refused),
        cmocka_unit_test(test_first_format),      cmocka_unit_test(test_run_json),
        cmocka_unit_test(test_adjusted),          cmocka_unit_test(test_adjusted_same_bytes),
        cmocka_unit_test(test_adjust_refused),
    };
    return cmocka_run_group_tests_name("train options", tests, setup, teardown);
}
