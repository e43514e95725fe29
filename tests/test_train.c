/* SPDX-License-Identifier: Apache-2.0 */
/* Training from outside: a tiny dataset of coloured pictures is learnt, and a run that was cancelled, killed, starved
 * of disk or spread over threads ends with the bytes of one that was left alone. */
#include <math.h>
#include <signal.h>
#include <sys/wait.h>

#include "train/loader.h"
#include "train/optimizer.h"
#include "train_help.h"

static const char *self;

/* ---- the tests -------------------------------------------------------------------------------------------- */
static void test_learns(void **unused) {
    (void)unused;
    sk_train_options options = small_options();
    options.epochs = 10;
    options.batch = 16;
    options.lr = 1e-3f;
    train(paint, "learns", &options);
    sk_epoch_log *log = NULL;
    size_t epochs = 0;
    sk_error err = {0};
    char *dir = in_root("learns");
    assert_int_equal(sk_train_log_read(dir, &log, &epochs, &err), SK_OK);
    assert_int_equal(epochs, 10);
    /* Of the validation nothing can be asked: from random weights the running statistics need a thousand steps. */
    assert_true(log[8].train_accuracy + log[9].train_accuracy > 1.8);
    assert_true(log[8].train_loss + log[9].train_loss < log[0].train_loss);
    double best = 0, loss = 0;
    for (size_t i = 0; i < epochs; i++) {
        const int tie = log[i].val_accuracy == best && log[i].val_loss < loss;
        const int better = i == 0 || log[i].val_accuracy > best || tie;
        assert_int_equal(log[i].is_best, better);
        if (better) best = log[i].val_accuracy, loss = log[i].val_loss;
    }
    sk_train_log_free(log);
    sk_free(dir);
}

static void test_threads(void **unused) {
    (void)unused;
    sk_train_options options = small_options();
    train(paint, "whole", &options); /* the run that the following tests compare with */
    options.threads = 2;
    train(paint, "threads", &options);
    assert_same_run("whole", "threads");
}

typedef struct stopper {
    int left; /* asks to stop at the n-th question */
} stopper;
static int stop_soon(void *user) { return ((stopper *)user)->left-- <= 0; }

static void test_cancel_and_resume(void **unused) {
    (void)unused;
    sk_train_options options = small_options();
    char *dir = in_root("cancelled");
    for (int n = 0; n < 60; n++) {
        stopper user = {.left = 1 + n % 9};
        const sk_hooks hooks = {.user = &user, .cancelled = stop_soon};
        sk_error err = {0};
        options.resume = n > 0;
        const sk_status status = sk_train(paint, dir, &options, &hooks, NULL, NULL, &err);
        if (status == SK_OK) break;
        assert_int_equal(status, SK_ERR_CANCELLED);
    }
    assert_same_run("whole", "cancelled");
    sk_free(dir);
}

static void test_extend(void **unused) {
    (void)unused;
    sk_train_options options = small_options();
    options.epochs = 2;
    train(paint, "extended", &options);
    options.epochs = EPOCHS;
    options.resume = 1;
    train(paint, "extended", &options);
    assert_same_run("whole", "extended");
    char *dir = in_root("extended"), pretrained[64];
    sk_train_options read = sk_train_defaults(SK_ARCH_V3_LARGE);
    sk_error err = {0};
    assert_int_equal(sk_train_options_read(dir, &read, pretrained, sizeof pretrained, &err), SK_OK);
    assert_int_equal(read.epochs, EPOCHS);
    assert_int_equal(read.batch, options.batch);
    assert_int_equal(read.card.arch, SK_ARCH_V3_SMALL);
    assert_int_equal(read.card.size, SIZE);
    assert_true(read.lr == options.lr && read.dropout == options.dropout && read.seed == options.seed);
    assert_null(read.pretrained);
    sk_free(dir);
}

/* Run by another process, since it is going to be killed. */
static int child(const char *data, const char *run, int resume) {
    sk_dataset *dataset = NULL;
    sk_train_options options = small_options();
    options.resume = resume;
    if (sk_dataset_open(data, &dataset, NULL) != SK_OK) return 2;
    const sk_status status = sk_train(dataset, run, &options, NULL, NULL, NULL, NULL);
    sk_dataset_close(dataset);
    return status == SK_OK ? 0 : 1;
}

static void test_kill(void **unused) {
    (void)unused;
    char *dir = in_root("killed"), *data = in_root("paint"), *json = in_root("killed/run.json");
    unsigned wait_us = 20000;
    int done = 0, kills = 0;
    for (int n = 0; n < 100 && !done; n++) {
        const int resume = sk_path_exists(json);
        const pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            execl(self, self, "--child", data, dir, resume ? "1" : "0", (char *)NULL);
            _exit(3);
        }
        usleep(wait_us);
        wait_us += wait_us / 3; /* at last it gets the time it needs */
        kill(pid, SIGKILL);
        int how = 0;
        assert_int_equal(waitpid(pid, &how, 0), pid);
        kills += WIFSIGNALED(how) != 0;
        done = WIFEXITED(how);
        if (done) assert_int_equal(WEXITSTATUS(how), 0);
    }
    assert_true(done);
    assert_true(kills > 1);
    assert_same_run("whole", "killed");
    sk_free(dir);
    sk_free(data);
    sk_free(json);
}

static void test_full_disk(void **unused) {
    (void)unused;
    sk_train_options options = small_options();
    options.epochs = 1;
    train(paint, "full", &options);
    options.epochs = EPOCHS;
    options.resume = 1;
    char *dir = in_root("full");
    int failures = 0, said = 0;
    for (long n = 0;; n += 1 + n / 2) {
        sk_error err = {0};
        sk_file_fail_at(n);
        const sk_status status = sk_train(paint, dir, &options, NULL, NULL, NULL, &err);
        sk_file_fail_at(-1);
        sk_model *model = NULL; /* whatever happened, there is a whole model */
        if (sk_model_read(dir, &model, &err) != SK_OK) fail_msg("%s", err.message);
        sk_model_free(model);
        if (status == SK_OK) break;
        assert_int_equal(status, SK_ERR_IO);
        assert_non_null(strstr(err.message, "No space left"));
        said += strstr(err.message, "is not saved") && strstr(err.message, "keeps the one before (--resume goes on)");
        failures++;
    }
    assert_true(failures > 3 && said > 0);
    assert_same_run("whole", "full");
    sk_free(dir);
}

static void test_freeze(void **unused) {
    (void)unused;
    sk_train_options options = small_options();
    options.freeze_features = 1;
    options.epochs = 1;
    train(paint, "frozen", &options);
    sk_model *before = NULL, *after = NULL;
    sk_error err = {0};
    char *path = in_root("frozen/last.safetensors");
    assert_int_equal(sk_model_create(&options.card, options.seed, &before, &err), SK_OK);
    assert_int_equal(sk_model_read(path, &after, &err), SK_OK);
    int trained = 0;
    for (size_t i = 0; i < sk_model_tensor_count(before); i++) {
        sk_tensor a, b;
        assert_int_equal(sk_model_tensor(before, i, &a, &err), SK_OK);
        assert_int_equal(sk_model_tensor(after, i, &b, &err), SK_OK);
        assert_string_equal(a.name, b.name);
        const int same = memcmp(a.data, b.data, a.count * sizeof(float)) == 0;
        if (strncmp(a.name, "features.", 9) == 0)
            assert_true(same);
        else
            trained += !same;
    }
    assert_int_equal(trained, 4);
    sk_model_free(before);
    sk_model_free(after);
    sk_free(path);
}

static void test_sentences(void **unused) {
    (void)unused;
    sk_train_options options = small_options();
    sk_dataset *no_birds = make_dataset("no_birds", 1), *no_val = make_dataset("no_val", 2);
    sk_dataset *birds_only = make_dataset("birds_only", 0);
    expect_failure(no_birds, "x", &options, SK_ERR_DATA, "no picture of class bird; both classes are needed");
    expect_failure(birds_only, "x", &options, SK_ERR_DATA, "no picture of class nobird; both classes are needed");
    sk_dataset_close(birds_only);
    expect_failure(no_val, "x", &options, SK_ERR_DATA, "siskin split");
    sk_dataset_close(no_birds);
    sk_dataset_close(no_val);
    options.batch = 1000;
    expect_failure(paint, "x", &options, SK_ERR_ARGUMENT, "--batch 48");
    options.batch = 1;
    expect_failure(paint, "x", &options, SK_ERR_ARGUMENT, "--batch");
    options = small_options();
    expect_failure(paint, "whole", &options, SK_ERR_ARGUMENT, "--resume");
    options.resume = 1;
    expect_failure(paint, "nothing", &options, SK_ERR_ARGUMENT, "no run to resume");
    options.batch = 12;
    expect_failure(paint, "whole", &options, SK_ERR_MISMATCH, "--batch 10");
    options = small_options();
    options.lr = 1000;
    expect_failure(paint, "nan", &options, SK_ERR_DATA, "smaller --lr");
    options = small_options();
    options.pretrained = "/nowhere/weights.safetensors";
    expect_failure(paint, "x", &options, SK_ERR_IO, "/nowhere/weights.safetensors");
}

static void test_pretrained(void **unused) {
    (void)unused;
    sk_train_options options = small_options();
    char *path = in_root("whole/best.safetensors");
    options.pretrained = path;
    options.epochs = 1;
    options.lr = 1e-9f; /* so small that the first epoch must look like the model it began with */
    train(paint, "tuned", &options);
    /* The first weights may be gone when the run is resumed; other ones are refused. */
    options.resume = 1;
    options.pretrained = NULL;
    train(paint, "tuned", &options);
    char *last = in_root("whole/last.safetensors");
    options.pretrained = last;
    expect_failure(paint, "tuned", &options, SK_ERR_MISMATCH, "pretrained");
    sk_free(last);
    sk_epoch_log *log = NULL, *whole = NULL;
    size_t rows = 0;
    sk_error err = {0};
    char *dir = in_root("tuned"), *first = in_root("whole");
    assert_int_equal(sk_train_log_read(first, &whole, &rows, &err), SK_OK);
    assert_int_equal(rows, EPOCHS);
    assert_int_equal(sk_train_log_read(dir, &log, &rows, &err), SK_OK);
    assert_int_equal(rows, 1);
    assert_true(log[0].train_loss < whole[0].train_loss);
    sk_train_log_free(log);
    sk_train_log_free(whole);
    sk_free(dir);
    sk_free(first);
    sk_free(path);
}

static void test_no_memory(void **unused) {
    (void)unused;
    sk_train_options options = small_options();
    options.epochs = 1;
    char *dir = in_root("starved"), *json = in_root("starved/run.json");
    for (long n = 0, ended = 0; !ended; n += 1 + n / 2) {
        sk_error err = {0};
        options.resume = sk_path_exists(json);
        const long live = sk_memory_live();
        sk_memory_fail_at(n, 0);
        const sk_status status = sk_train(paint, dir, &options, NULL, NULL, NULL, &err);
        sk_memory_fail_at(-1, 0);
        assert_int_equal(sk_memory_live(), live);
        ended = status == SK_OK;
        if (!ended) assert_int_equal(status, SK_ERR_MEMORY);
    }
    sk_free(dir);
    sk_free(json);
}

/* The pictures of an epoch, in order, as one block. */
static uint8_t *epoch_bytes(sk_cache *cache, int batch, int threads, int epoch, size_t *size) {
    const sk_loader_options options = {.split = SK_SPLIT_TRAIN, .train = 1, .batch = batch, .size = SIZE,
                                       .threads = threads, .clip_repeat = 1, .seed = 3};
    sk_loader *loader = NULL;
    sk_error err = {0};
    assert_int_equal(sk_loader_create(paint, cache, &options, &loader, &err), SK_OK);
    const size_t picture = (size_t)SIZE * SIZE * 3;
    uint8_t *all = sk_alloc(sk_loader_size(loader), picture);
    assert_non_null(all);
    sk_loader_start(loader, epoch);
    *size = 0;
    for (;;) {
        sk_batch got;
        assert_int_equal(sk_loader_next(loader, &got, &err), SK_OK);
        if (got.n == 0) break;
        memcpy(all + *size, got.images, (size_t)got.n * picture);
        *size += (size_t)got.n * picture;
    }
    sk_loader_free(loader);
    return all;
}

static void test_loader(void **unused) {
    (void)unused;
    sk_cache *cache = NULL;
    size_t bad = 0, size[4];
    sk_error err = {0};
    assert_int_equal(sk_cache_open(paint, 0, 1, NULL, &cache, &bad, &err), SK_OK);
    uint8_t *a = epoch_bytes(cache, 8, 1, 1, &size[0]), *b = epoch_bytes(cache, 12, 2, 1, &size[1]);
    uint8_t *c = epoch_bytes(cache, 8, 1, 2, &size[2]), *d = epoch_bytes(cache, 47, 1, 1, &size[3]);
    assert_int_equal(size[0], (size_t)48 * SIZE * SIZE * 3);
    assert_int_equal(size[0], size[1]);
    assert_memory_equal(a, b, size[0]);
    assert_memory_not_equal(a, c, size[0]);
    assert_int_equal(size[3], (size_t)47 * SIZE * SIZE * 3); /* a single picture is left out: batch norm */
    sk_free(a);
    sk_free(b);
    sk_free(c);
    sk_free(d);
    sk_cache_close(cache);
}

/* Adam's first step moves every weight by lr * g / (|g| + eps): a known answer without knowing the gradient. */
/* The pictures of a column of the sheet are among those that training gets in that epoch, byte for byte. */
static void test_show(void **unused) {
    (void)unused;
    enum { EPOCH = 3, STEP = SIZE + 4, ROWS = 8, COLUMNS = 10 };
    sk_train_options options = small_options();
    options.augment.overlay = options.augment.noise = 0.5f;
    char *path = in_root("sheet.png");
    sk_error err = {0};
    if (sk_train_show(paint, &options, path, NULL, &err) != SK_OK) fail_msg("%s", err.message);
    sk_image sheet;
    assert_int_equal(sk_image_read(path, &sheet, &err), SK_OK);
    assert_int_equal(sheet.width, COLUMNS * STEP - 4);
    assert_int_equal(sheet.height, ROWS * STEP - 4);
    sk_cache *cache = NULL;
    sk_loader *loader = NULL;
    size_t bad = 0;
    assert_int_equal(sk_cache_open(paint, 0, 1, NULL, &cache, &bad, &err), SK_OK);
    const sk_loader_options o = {.split = SK_SPLIT_TRAIN, .train = 1, .batch = 2 * PER_CLASS, .size = SIZE,
                                 .threads = 1, .clip_repeat = 1, .augment = options.augment, .seed = options.seed};
    assert_int_equal(sk_loader_create(paint, cache, &o, &loader, &err), SK_OK);
    sk_loader_start(loader, EPOCH);
    sk_batch batch;
    assert_int_equal(sk_loader_next(loader, &batch, &err), SK_OK);
    assert_int_equal(batch.n, sk_loader_size(loader));
    for (int row = 0; row < ROWS; row++) {
        int found = 0;
        for (int i = 0; i < batch.n && !found; i++) {
            int equal = 1;
            for (int y = 0; y < SIZE && equal; y++)
                equal = memcmp(sheet.data + ((row * STEP + y) * sheet.width + EPOCH * STEP) * 3,
                               batch.images + ((i * SIZE + y) * SIZE) * 3, SIZE * 3) == 0;
            found = equal;
        }
        if (!found) fail_msg("row %d is no picture of epoch %d", row, EPOCH);
    }
    sk_loader_free(loader);
    sk_cache_close(cache);
    sk_image_free(&sheet);
    sk_free(path);
}

static void test_adam(void **unused) {
    (void)unused;
    sk_card card = sk_card_default(SK_ARCH_V3_SMALL);
    card.size = SIZE;
    sk_model *model = NULL, *old = NULL;
    sk_engine *engine = NULL;
    sk_update *adam = NULL;
    sk_error err = {0};
    const sk_engine_options options = {.batch = 4, .threads = 1};
    const sk_update_options update = {.kind = SK_OPTIMIZER_ADAM, .threads = 1};
    assert_int_equal(sk_model_create(&card, 1, &model, &err), SK_OK);
    assert_int_equal(sk_model_create(&card, 1, &old, &err), SK_OK);
    assert_int_equal(sk_engine_create(model, &options, &engine, &err), SK_OK);
    assert_int_equal(sk_update_create(model, &update, &adam, &err), SK_OK);
    static uint8_t images[4 * SIZE * SIZE * 3];
    for (size_t i = 0; i < sizeof images; i++) images[i] = (uint8_t)sk_hash64(i);
    const int labels[4] = {0, 1, 0, 1};
    double loss;
    int correct;
    assert_int_equal(sk_engine_step(engine, images, labels, 4, 1, &loss, &correct, &err), SK_OK);
    assert_int_equal(sk_update_step(adam, engine, 1e-3, &err), SK_OK);
    size_t moved = 0;
    for (size_t i = 0; i < sk_model_tensor_count(model); i++) {
        sk_tensor now, was;
        assert_int_equal(sk_model_tensor(model, i, &now, &err), SK_OK);
        assert_int_equal(sk_model_tensor(old, i, &was, &err), SK_OK);
        const float *g = sk_engine_gradient(engine, i);
        assert_true(!g == !now.trainable);
        for (size_t k = 0; g && k < now.count; k++) {
            const double step = 1e-3 * (double)g[k] / (fabs((double)g[k]) + 1e-8);
            const double seen = (double)was.data[k] - (double)now.data[k];
            assert_true(fabs(seen - step) < 2e-6 + 1e-6 * fabs((double)was.data[k]));
            moved += now.data[k] != was.data[k];
        }
    }
    assert_true(moved > 1000000);
    sk_update_free(adam);
    sk_engine_free(engine);
    sk_model_free(model);
    sk_model_free(old);
}

/* A hundred real photographs, from the ImageNet backbone: a few steps must tell birds from the rest. */
static void test_photographs(void **unused) {
    (void)unused;
    const char *shared = getenv("SISKIN_SHARED");
    char base[512], table[600], line[2048];
    snprintf(base, sizeof base, "%s", shared ? shared : SK_SOURCE_DIR "/../shared");
    snprintf(table, sizeof table, "%s/data/photos.tsv", base);
    FILE *in = fopen(table, "r");
    if (!in) {
        print_message("left out: no %s\n", table);
        skip();
    }
    char *dir = in_root("photos"), mine[600], weights[600];
    sk_error err = {0};
    assert_int_equal(sk_make_dirs(dir, &err), SK_OK);
    snprintf(mine, sizeof mine, "%s/table.tsv", dir);
    FILE *out = fopen(mine, "w");
    assert_non_null(out);
    fprintf(out, "path\tlabel\tsource\tgroup\trole\tsplit\n");
    for (unsigned row = 0, taken = 0; fgets(line, sizeof line, in); row++) {
        char path[512], label[32], source[128];
        const int fields = sscanf(line, "%511s %31s %127s", path, label, source);
        if (fields != 3 || row % 67 != 1 || !strstr(line, "\ttrain")) continue;
        fprintf(out, "%s/data/%s\t%s\t%s\tg%u\tclip\t%s\n", base, path, label, source, row,
                taken++ % 3 ? "train" : "val");
    }
    fclose(in);
    fclose(out);
    const char *inputs[] = {mine};
    sk_import_options import = sk_import_defaults();
    import.birds_per_clip = import.empties_per_clip = 0;
    sk_import_report report;
    sk_dataset *dataset = NULL;
    if (sk_dataset_import(inputs, 1, dir, &import, NULL, &report, &err) != SK_OK) fail_msg("%s", err.message);
    if (sk_dataset_open(dir, &dataset, &err) != SK_OK) fail_msg("%s", err.message);
    sk_train_options options = sk_train_defaults(SK_ARCH_V3_SMALL);
    snprintf(weights, sizeof weights, "%s/weights/mobilenet_v3_small_imagenet_backbone.safetensors", base);
    options.pretrained = weights;
    options.epochs = 4;
    options.batch = 20;
    options.lr = 5e-4f;
    train(dataset, "photo_run", &options);
    sk_dataset_close(dataset);
    sk_epoch_log *log = NULL;
    size_t rows = 0;
    char *run = in_root("photo_run");
    assert_int_equal(sk_train_log_read(run, &log, &rows, &err), SK_OK);
    assert_int_equal(rows, 4);
    print_message("photographs: validation accuracy %.3f, training loss %.3f to %.3f\n", log[3].val_accuracy,
                  log[0].train_loss, log[3].train_loss);
    assert_true(log[3].train_loss < 0.6 * log[0].train_loss);
    assert_true(log[3].val_accuracy > 0.75);
    sk_train_log_free(log);
    sk_free(run);
    sk_free(dir);
}

int main(int argc, char **argv) {
    if (argc == 5 && !strcmp(argv[1], "--child")) return child(argv[2], argv[3], atoi(argv[4]));
    self = "/proc/self/exe";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_adam),      cmocka_unit_test(test_loader), cmocka_unit_test(test_show),
        cmocka_unit_test(test_learns),
        cmocka_unit_test(test_threads),   cmocka_unit_test(test_cancel_and_resume),
        cmocka_unit_test(test_extend),    cmocka_unit_test(test_kill),      cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_freeze),    cmocka_unit_test(test_pretrained), cmocka_unit_test(test_sentences),
        cmocka_unit_test(test_no_memory),  cmocka_unit_test(test_photographs),
    };
    return cmocka_run_group_tests_name("train", tests, setup, teardown);
}
