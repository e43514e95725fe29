/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of training share: a tiny dataset of coloured pictures, small options, runs in a temporary folder. */
#ifndef SK_TESTS_TRAIN_HELP_H
#define SK_TESTS_TRAIN_HELP_H

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/base.h"
#include "siskin/train.h"

/* A test need not call all of them. */
#define SK_HELPER static __attribute__((unused))

enum { SIDE = 48, SIZE = 32, PER_CLASS = 32, EPOCHS = 3 };

static char root[256]; /* temporary folder of this process */

SK_HELPER char *in_root(const char *name) {
    char *path = sk_path_join(root, name);
    assert_non_null(path);
    return path;
}

/* Birds are reddish, the rest is bluish; every picture is noisy and differs from all others. */
SK_HELPER void draw(const char *path, int bird, unsigned number) {
    sk_image image;
    sk_error err = {0};
    assert_int_equal(sk_image_create(SIDE + (int)(number % 5), SIDE, &image, &err), SK_OK);
    sk_rng rng = sk_rng_make(7, (uint64_t)bird, number);
    for (int i = 0; i < image.width * image.height; i++) {
        const int main = 150 + (int)sk_rng_below(&rng, 100), other = (int)sk_rng_below(&rng, 100);
        image.data[i * 3] = (uint8_t)(bird ? main : other);
        image.data[i * 3 + 1] = (uint8_t)sk_rng_below(&rng, 200);
        image.data[i * 3 + 2] = (uint8_t)(bird ? other : main);
    }
    assert_int_equal(sk_image_write(path, &image, 90, &err), SK_OK);
    sk_image_free(&image);
}

/* A dataset folder; `skip` leaves out a class of the train part (0, 1) or the val part (2); -1: nothing. */
SK_HELPER sk_dataset *make_dataset(const char *name, int skip) {
    char *dir = in_root(name), table[512];
    sk_error err = {0};
    assert_int_equal(sk_make_dirs(dir, &err), SK_OK);
    snprintf(table, sizeof table, "%s/table.tsv", dir);
    FILE *file = fopen(table, "w");
    assert_non_null(file);
    fprintf(file, "path\tlabel\tsource\tgroup\trole\tsplit\n");
    for (unsigned i = 0; i < PER_CLASS * 2; i++) {
        const int bird = (int)(i % 2), val = i % 8 > 5;
        char picture[600];
        if ((val && skip == 2) || (!val && bird == skip)) continue;
        snprintf(picture, sizeof picture, "%s/p%02u.png", dir, i);
        draw(picture, bird, i);
        fprintf(file, "p%02u.png\t%s\tpaint\tg%u\tclip\t%s\n", i, bird ? "bird" : "nobird", i, val ? "val" : "train");
    }
    fclose(file);
    const char *inputs[] = {table};
    sk_import_options options = sk_import_defaults();
    options.birds_per_clip = options.empties_per_clip = 0;
    sk_import_report report;
    if (sk_dataset_import(inputs, 1, dir, &options, NULL, &report, &err) != SK_OK) fail_msg("%s", err.message);
    sk_dataset *dataset = NULL;
    if (sk_dataset_open(dir, &dataset, &err) != SK_OK) fail_msg("%s", err.message);
    sk_free(dir);
    return dataset;
}

SK_HELPER sk_train_options small_options(void) {
    sk_train_options options = sk_train_defaults(SK_ARCH_V3_SMALL);
    options.card.size = SIZE;
    options.epochs = EPOCHS;
    options.batch = 10;
    options.lr = 2e-3f;
    options.threads = 1;
    options.seed = 5;
    return options;
}

SK_HELPER void train(const sk_dataset *dataset, const char *run, const sk_train_options *options) {
    sk_error err = {0};
    char *dir = in_root(run);
    if (sk_train(dataset, dir, options, NULL, NULL, NULL, &err) != SK_OK) fail_msg("%s: %s", run, err.message);
    sk_free(dir);
}

SK_HELPER void expect_failure(const sk_dataset *dataset, const char *run, const sk_train_options *options,
                              sk_status code, const char *part) {
    sk_error err = {0};
    char *dir = in_root(run);
    const sk_status status = sk_train(dataset, dir, options, NULL, NULL, NULL, &err);
    if (status != code || err.code != code) fail_msg("status %d, not %d: %s", status, code, err.message);
    if (!strstr(err.message, part)) fail_msg("\"%s\" does not say \"%s\"", err.message, part);
    sk_free(dir);
}

SK_HELPER uint8_t *slurp(const char *run, const char *name, size_t *size) {
    char path[600];
    uint8_t *bytes = NULL;
    sk_error err = {0};
    snprintf(path, sizeof path, "%s/%s/%s", root, run, name);
    if (sk_file_read(path, &bytes, size, &err) != SK_OK) fail_msg("%s", err.message);
    return bytes;
}

SK_HELPER void assert_same_file(const char *a, const char *b, const char *name) {
    size_t size_a = 0, size_b = 0;
    uint8_t *bytes_a = slurp(a, name, &size_a), *bytes_b = slurp(b, name, &size_b);
    if (size_a != size_b || memcmp(bytes_a, bytes_b, size_a) != 0) fail_msg("%s of %s and %s differ", name, a, b);
    sk_free(bytes_a);
    sk_free(bytes_b);
}

/* Everything but the times, which are the last two columns of the log. */
SK_HELPER void assert_same_run(const char *a, const char *b) {
    assert_same_file(a, b, "best.safetensors");
    assert_same_file(a, b, "last.safetensors");
    size_t size = 0;
    char *text[2] = {(char *)slurp(a, "log.tsv", &size), (char *)slurp(b, "log.tsv", &size)};
    const char *line[2] = {text[0], text[1]};
    while (*line[0]) {
        size_t length[2];
        for (int i = 0; i < 2; i++) {
            size_t tabs = 0, n = 0;
            for (; line[i][n] && line[i][n] != '\n' && tabs < 7; n++) tabs += line[i][n] == '\t';
            length[i] = n;
        }
        assert_int_equal(length[0], length[1]);
        assert_memory_equal(line[0], line[1], length[0]);
        for (int i = 0; i < 2; i++) {
            line[i] += strcspn(line[i], "\n");
            line[i] += *line[i] == '\n';
        }
    }
    assert_int_equal(*line[1], 0);
    sk_free(text[0]);
    sk_free(text[1]);
}

static sk_dataset *paint; /* the whole little dataset */

SK_HELPER void remove_tree(const char *path) {
    DIR *dir = opendir(path);
    if (dir) {
        for (struct dirent *entry; (entry = readdir(dir));) {
            char below[1024];
            if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
            snprintf(below, sizeof below, "%s/%s", path, entry->d_name);
            remove_tree(below);
        }
        closedir(dir);
    }
    remove(path);
}

SK_HELPER int setup(void **unused) {
    (void)unused;
    const char *tmp = getenv("TMPDIR");
    snprintf(root, sizeof root, "%s/siskin-train-%d", tmp ? tmp : "/tmp", (int)getpid());
    if (mkdir(root, 0700) != 0) return 1;
    paint = make_dataset("paint", -1);
    return 0;
}

SK_HELPER int teardown(void **unused) {
    (void)unused;
    sk_dataset_close(paint);
    remove_tree(root);
    return 0;
}
#endif
