/* SPDX-License-Identifier: Apache-2.0 */
/* Base: memory with failures on demand, outputs written aside, random numbers, paths, text, error sentences. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"

static char folder[] = "/tmp/siskin-base-XXXXXX";

static int make_folder(void **state) {
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

static void memory(void **state) {
    (void)state;
    long live = sk_memory_live();
    float *values = sk_alloc(3, sizeof *values);
    assert_non_null(values);
    assert_int_equal((uintptr_t)values % 64, 0);
    values[2] = 7;
    values = sk_realloc(values, 3, 1000, sizeof *values);
    assert_true(values[2] == 7);
    assert_int_equal((uintptr_t)values % 64, 0);
    assert_int_equal(sk_memory_live(), live + 1);
    assert_null(sk_realloc(values, 1000, SIZE_MAX / 2, sizeof *values));
    assert_true(values[2] == 7);
    sk_free(values);
    sk_free(NULL);
    assert_null(sk_alloc(SIZE_MAX / 2, 3));
    assert_null(sk_alloc(SIZE_MAX, 1));
    unsigned char *zeros = sk_calloc(100, 1);
    for (int i = 0; i < 100; i++) assert_int_equal(zeros[i], 0);
    sk_free(zeros);
    void *empty = sk_alloc(0, 8);
    assert_non_null(empty);
    sk_free(empty);
    assert_int_equal(sk_memory_live(), live);
}

static void memory_failures(void **state) {
    (void)state;
    sk_memory_fail_at(1, 0);
    void *a = sk_alloc(1, 1), *b = sk_alloc(1, 1), *c = sk_alloc(1, 1);
    assert_non_null(a);
    assert_null(b);
    assert_non_null(c);
    sk_memory_fail_at(0, 1);
    assert_null(sk_strdup("x"));
    assert_null(sk_format("%d", 1));
    sk_text text = {0};
    sk_text_add(&text, "x");
    assert_true(text.failed);
    sk_memory_fail_at(-1, 0);
    sk_text_add(&text, "x");
    assert_true(text.failed && !text.data);
    sk_text_free(&text);
    sk_free(a);
    sk_free(c);
}

static void errors(void **state) {
    (void)state;
    sk_error err = {0};
    assert_int_equal(sk_fail(&err, SK_ERR_IO, "cannot read %s", "a"), SK_ERR_IO);
    assert_int_equal(sk_error_prefix(&err, SK_ERR_DATA, "row %d", 3), SK_ERR_IO);
    assert_string_equal(err.message, "row 3: cannot read a");
    assert_int_equal(sk_fail(&err, SK_ERR_DATA, "again: %s", err.message), SK_ERR_DATA);
    assert_string_equal(err.message, "again: row 3: cannot read a");
    char large[2000];
    memset(large, 'x', sizeof large - 1);
    large[sizeof large - 1] = 0;
    sk_error_prefix(&err, SK_ERR_DATA, "%s", large);
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
    assert_int_equal(sk_error_prefix(NULL, SK_ERR_DATA, "x"), SK_ERR_DATA);
    assert_int_equal(sk_fail(NULL, SK_ERR_DATA, "x"), SK_ERR_DATA);
    for (int i = 0; i <= SK_ERR_CANCELLED + 1; i++) assert_true(strlen(sk_status_name((sk_status)i)) > 1);
}

static void text(void **state) {
    (void)state;
    sk_text t = {0};
    for (int i = 0; i < 1000; i++) sk_text_add(&t, "%d,", i % 10);
    char large[1000];
    memset(large, 'y', sizeof large - 1);
    large[sizeof large - 1] = 0;
    sk_text_add(&t, "<%s>", large);
    sk_text_add_bytes(&t, "\0z", 2);
    assert_int_equal(t.size, 2000 + 1001 + 2);
    assert_int_equal(t.data[2000], '<');
    assert_int_equal(t.data[3000], '>');
    assert_int_equal(t.data[t.size], 0);
    sk_text_free(&t);
    assert_true(sk_has_suffix("A.JPG", ".jpg"));
    assert_false(sk_has_suffix("jpg", ".jpg"));
}

static void files(void **state) {
    (void)state;
    sk_error err = {0};
    char *deep = sk_path_join(folder, "a/b/c");
    assert_int_equal(sk_make_dirs(deep, &err), SK_OK);
    assert_int_equal(sk_make_dirs(deep, &err), SK_OK);
    assert_true(sk_path_is_dir(deep));
    char *path = sk_path_join(deep, "f"), *part = sk_format("%s.part", path);
    static uint8_t bytes[300000];
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)(i * 7 + i / 251);
    sk_output *output;
    assert_int_equal(sk_output_open(path, &output, &err), SK_OK);
    assert_string_equal(sk_output_part_path(output), part);
    for (size_t at = 0, n = 1; at < sizeof bytes; at += n, n = n * 3 + 1) {
        if (n > sizeof bytes - at) n = sizeof bytes - at;
        sk_output_write(output, bytes + at, n);
    }
    assert_false(sk_path_exists(path));
    assert_true(sk_path_exists(part));
    assert_int_equal(sk_output_commit(output, &err), SK_OK);
    assert_false(sk_path_exists(part));
    uint8_t *back;
    size_t size;
    assert_int_equal(sk_file_read(path, &back, &size, &err), SK_OK);
    assert_int_equal(size, sizeof bytes);
    assert_memory_equal(back, bytes, size);
    assert_int_equal(back[size], 0);
    sk_free(back);
    sk_map map;
    assert_int_equal(sk_file_map(path, &map, &err), SK_OK);
    assert_int_equal(map.size, sizeof bytes);
    assert_memory_equal(map.bytes, bytes, size);
    sk_file_unmap(&map);
    /* A failed or aborted output leaves the old file and nothing beside it. */
    for (long n = 0; n < 2; n++) {
        sk_file_fail_at(n);
        assert_int_equal(sk_file_write(path, "new", 3, &err), SK_ERR_IO);
        assert_non_null(strstr(err.message, path));
        assert_non_null(strstr(err.message, "No space left"));
        assert_false(sk_path_exists(part));
    }
    sk_file_fail_at(-1);
    assert_int_equal(sk_output_open(path, &output, &err), SK_OK);
    sk_output_write(output, "new", 3);
    sk_output_abort(output);
    assert_false(sk_path_exists(part));
    assert_int_equal(sk_file_read(path, &back, &size, &err), SK_OK);
    assert_int_equal(size, sizeof bytes);
    sk_free(back);
    assert_int_equal(sk_file_write(path, "", 0, &err), SK_OK);
    assert_int_equal(sk_file_map(path, &map, &err), SK_OK);
    assert_int_equal(map.size, 0);
    sk_file_unmap(&map);
    assert_int_equal(sk_make_dirs(path, &err), SK_ERR_IO);
    sk_free(deep);
    sk_free(path);
    sk_free(part);
}

static void odd_files(void **state) {
    (void)state;
    sk_error err = {0};
    uint8_t *bytes;
    size_t size;
    sk_map map;
    assert_int_equal(sk_file_read("/nowhere/x", &bytes, &size, &err), SK_ERR_IO);
    assert_non_null(strstr(err.message, "/nowhere/x"));
    assert_int_equal(sk_file_read(folder, &bytes, &size, &err), SK_ERR_IO);
    assert_int_equal(sk_file_map(folder, &map, &err), SK_ERR_IO);
    assert_int_equal(sk_file_write("/nowhere/x", "x", 1, &err), SK_ERR_IO);
    assert_int_equal(sk_file_write(folder, "x", 1, &err), SK_ERR_IO);
    /* A device is written, never replaced. */
    assert_int_equal(sk_file_write("/dev/null", "x", 1, &err), SK_OK);
    assert_int_equal(sk_file_write("/dev/full", "x", 1, &err), SK_ERR_IO);
    struct stat info;
    assert_int_equal(stat("/dev/full", &info), 0);
    assert_true(S_ISCHR(info.st_mode));
    assert_false(sk_path_exists("/dev/full.part"));
}

static void paths(void **state) {
    (void)state;
    static const char *const cases[][3] = {
        {"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"a", "/b", "/b"}, {"", "b", "b"}, {"/", "b", "/b"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *joined = sk_path_join(cases[i][0], cases[i][1]);
        assert_string_equal(joined, cases[i][2]);
        sk_free(joined);
    }
    char *absolute = sk_path_absolute("x/y");
    assert_int_equal(absolute[0], '/');
    assert_true(sk_has_suffix(absolute, "/x/y"));
    sk_free(absolute);
    assert_string_equal(sk_path_name("a/b.c"), "b.c");
    assert_string_equal(sk_path_name("b.c"), "b.c");
}

static void random_numbers(void **state) {
    (void)state;
    /* splitmix64's published first output for state 0, and FNV-1a's for "a". */
    sk_rng zero = {0};
    assert_true(sk_rng_next(&zero) == 0xe220a8397b1dcdafu);
    assert_true(sk_hash_bytes("a", 1) == 0xaf63dc4c8601ec8cu);
    sk_rng a = sk_rng_make(1, 2, 3), b = sk_rng_make(1, 2, 3), c = sk_rng_make(1, 3, 2);
    uint64_t first = sk_rng_next(&a);
    assert_true(first == sk_rng_next(&b));
    assert_true(first != sk_rng_next(&c));
    double sum = 0, square = 0, least = 1, most = 0;
    int counts[6] = {0};
    for (int i = 0; i < 60000; i++) {
        double u = sk_rng_uniform(&a), n = sk_rng_normal(&b);
        if (u < least) least = u;
        if (u > most) most = u;
        sum += n;
        square += n * n;
        counts[sk_rng_below(&c, 6)]++;
    }
    assert_true(least >= 0 && least < 1e-3 && most < 1 && most > 1 - 1e-3);
    assert_true(fabs(sum / 60000) < 0.02 && fabs(square / 60000 - 1) < 0.03);
    for (int i = 0; i < 6; i++) assert_true(abs(counts[i] - 10000) < 500);
    assert_int_equal(sk_rng_below(&c, 1), 0);
    for (int i = 0; i < 1000; i++) {
        const double x = sk_rng_between(&c, -3, 5);
        assert_true(x >= -3 && x < 5);
    }
    /* All 24 orders of four items of an odd size come, about equally often; nothing is lost. */
    int orders[256] = {0};
    for (int i = 0; i < 24000; i++) {
        char items[4][3] = {"0a", "1b", "2c", "3d"};
        sk_rng_shuffle(&c, items, 4, sizeof *items);
        int code = 0, found = 0;
        for (int k = 0; k < 4; k++) {
            assert_int_equal(items[k][1] - 'a', items[k][0] - '0');
            code = code * 4 + items[k][0] - '0';
            found |= 1 << (items[k][0] - '0');
        }
        assert_int_equal(found, 15);
        orders[code]++;
    }
    int seen = 0;
    for (int i = 0; i < 256; i++) {
        if (!orders[i]) continue;
        assert_in_range(orders[i], 850, 1150); /* five standard deviations */
        seen++;
    }
    assert_int_equal(seen, 24);
}

static char last_log[64];
static void remember(void *user, sk_log_level level, const char *message) {
    (void)user;
    snprintf(last_log, sizeof last_log, "%d %s", level, message);
}
static int yes(void *user) {
    (void)user;
    return 1;
}

static void hooks(void **state) {
    (void)state;
    sk_hooks none = {0}, some = {.log = remember, .cancelled = yes};
    sk_log(NULL, SK_LOG_NOTE, "x");
    sk_log(&none, SK_LOG_NOTE, "x");
    sk_progress(NULL, "a", "b", 1, 2);
    assert_false(sk_cancelled(NULL) || sk_cancelled(&none));
    assert_true(sk_cancelled(&some));
    sk_log(&some, SK_LOG_WARNING, "n=%d", 5);
    assert_string_equal(last_log, "1 n=5");
    assert_int_equal(sk_thread_count(3), 3);
    assert_true(sk_thread_count(0) >= 1);
    double start = sk_now();
    assert_true(sk_now() >= start);
}

enum { WORK = 200 };
static int fails_at[WORK], worked[WORK];

static sk_status work_at(void *user, int i, sk_error *err) {
    assert_ptr_equal(user, fails_at);
    worked[i]++;
    return fails_at[i] ? sk_fail(err, SK_ERR_FORMAT, "thing %d", i) : SK_OK;
}

/* Whatever thread comes first: everything is worked on once, and the first thing that failed is told. */
static void parallel(void **state) {
    (void)state;
    for (int threads = 1; threads <= 4; threads++) {
        sk_error err = {0};
        memset(worked, 0, sizeof worked);
        memset(fails_at, 0, sizeof fails_at);
        assert_int_equal(sk_parallel(3, WORK, threads, work_at, fails_at, &err), SK_OK);
        fails_at[1] = fails_at[150] = fails_at[20] = fails_at[199] = 1;
        assert_int_equal(sk_parallel(3, WORK, threads, work_at, fails_at, &err), SK_ERR_FORMAT);
        assert_string_equal(err.message, "thing 20");
        assert_int_equal(sk_parallel(3, WORK, threads, work_at, fails_at, NULL), SK_ERR_FORMAT);
        for (int i = 0; i < WORK; i++) assert_int_equal(worked[i], i < 3 ? 0 : 3);
    }
    assert_int_equal(sk_parallel(5, 5, 2, work_at, fails_at, NULL), SK_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory),    cmocka_unit_test(memory_failures), cmocka_unit_test(errors),
        cmocka_unit_test(text),      cmocka_unit_test(files),           cmocka_unit_test(odd_files),
        cmocka_unit_test(paths),     cmocka_unit_test(random_numbers),  cmocka_unit_test(hooks),
        cmocka_unit_test(parallel)};
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
