/* SPDX-License-Identifier: Apache-2.0 */
/* The decoded cache from outside, and what is lost when memory, the disk or the process itself fails: nothing. */
#include "data_help.h"

/* ---- cache -------------------------------------------------------------------------------------- */
static sk_cache *open_cache(const sk_dataset *d, int threads)
{
    sk_cache *cache = NULL;
    sk_error err = {0};
    if (sk_cache_open(d, 1000, threads, NULL, &cache, NULL, &err) != SK_OK)
        fail_msg("%s", err.message);
    return cache;
}

static ino_t inode(const char *path)
{
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    return info.st_ino;
}

static void the_cache_holds_what_decoding_gives(void **state)
{
    (void)state;
    sk_dataset *d = open_dataset(at("all"));
    sk_cache *cache = open_cache(d, 2);
    size_t seen = 0;
    for (size_t i = 0; i < sk_dataset_size(d); i++) {
        const sk_sample *s = sk_dataset_sample(d, i);
        sk_image got, full = {0}, want = {0};
        sk_cache_image(cache, i, &got);
        if (s->label == SK_LABEL_UNKNOWN) {
            assert_null(got.data);
            continue;
        }
        if (s->frame < 0) {
            assert_int_equal(sk_image_read(s->path, &full, NULL), SK_OK);
        } else {
            sk_video *video = NULL;
            int64_t index = -1;
            double time_s;
            assert_int_equal(sk_video_open(s->path, &video, NULL, NULL), SK_OK);
            while (index != s->frame)
                assert_int_equal(sk_video_next(video, &full, &index, &time_s, NULL), SK_OK);
            sk_video_close(video);
        }
        assert_int_equal(sk_image_resize_shorter(&full, SK_CACHE_SIDE, &want, NULL), SK_OK);
        assert_int_equal(got.width, want.width);
        assert_int_equal(got.height, want.height);
        assert_memory_equal(got.data, want.data, (size_t)want.width * (size_t)want.height * 3);
        sk_image_free(&full);
        sk_image_free(&want);
        seen++;
    }
    assert_true(seen > 8);
    sk_image outside = {1, 1, NULL};
    sk_cache_image(cache, sk_dataset_size(d), &outside);
    assert_null(outside.data);
    sk_cache_close(cache);
    sk_dataset_close(d);
}

static void the_cache_rebuilds_what_changed(void **state)
{
    (void)state;
    sk_dataset *d = open_dataset(at("all"));
    const char *file = at("all/cache.skc"), *picture = at("in/photos/bird/a.jpg");
    sk_cache_close(open_cache(d, 2));
    const ino_t before = inode(file);
    sk_cache_close(open_cache(d, 2));
    assert_int_equal(inode(file), before); /* nothing to do, nothing written */

    write_scene(picture, 999, 100, 50);
    sk_cache *cache = open_cache(d, 1);
    assert_int_not_equal(inode(file), before);
    for (size_t i = 0; i < sk_dataset_size(d); i++) {
        sk_image image;
        sk_cache_image(cache, i, &image);
        if (strcmp(sk_dataset_sample(d, i)->path, picture) == 0)
            assert_int_equal(image.width, 512);
        else if (sk_dataset_sample(d, i)->label != SK_LABEL_UNKNOWN)
            assert_non_null(image.data);
    }
    sk_cache_close(cache);

    /* Same bytes whatever the number of threads. */
    unlink(file);
    sk_cache_close(open_cache(d, 1));
    char *one = read_text(file);
    struct stat info;
    stat(file, &info);
    unlink(file);
    sk_cache_close(open_cache(d, 3));
    char *three = read_text(file);
    assert_memory_equal(one, three, (size_t)info.st_size);
    sk_free(one);
    sk_free(three);
    sk_dataset_close(d);
}

/* All pictures of the dataset as the cache gives them; *sum changes with any byte of any. */
static void take_all(const sk_dataset *d, uint64_t *sum)
{
    sk_cache *cache = open_cache(d, 2);
    *sum = 0;
    for (size_t i = 0; i < sk_dataset_size(d); i++) {
        sk_image image;
        uint64_t hash = 0;
        sk_cache_image(cache, i, &image);
        if (sk_dataset_sample(d, i)->label == SK_LABEL_UNKNOWN)
            continue;
        assert_non_null(image.data);
        *sum = sk_hash64(*sum ^ sk_hash_bytes(image.data, (size_t)image.width * (size_t)image.height * 3));
        const sk_thumb *thumb = sk_cache_thumb(cache, i, &hash);
        *sum = sk_hash64(*sum ^ sk_hash_bytes(thumb->grey, sizeof thumb->grey) ^ hash);
    }
    sk_cache_close(cache);
}

/* Any byte of the part that is used for addressing may be wrong, and the file may end anywhere. */
static void a_damaged_cache_is_built_anew(void **state)
{
    (void)state;
    sk_dataset *d = open_dataset(at("all"));
    const char *file = at("all/cache.skc");
    uint64_t want, got;
    take_all(d, &want);
    uint8_t *good = NULL;
    size_t size = 0;
    assert_int_equal(sk_file_read(file, &good, &size, NULL), SK_OK);
    size_t entries = 0;
    memcpy(&entries, good + size - 24, sizeof entries);
    sk_rng rng = sk_rng_make(9, 9, 9);
    for (int round = 0; round < 80; round++) {
        uint8_t *bad = sk_alloc(size, 1);
        assert_non_null(bad);
        memcpy(bad, good, size);
        size_t length = size;
        if (round < 10) { /* each number of the foot, by an amount that keeps it even */
            uint64_t number;
            uint8_t *place = bad + size - 40 + (size_t)(round / 2) * 8;
            memcpy(&number, place, sizeof number);
            number += round % 2 ? 64 : (uint64_t)-64;
            memcpy(place, &number, sizeof number);
        } else if (round % 3 == 0)
            length = sk_rng_below(&rng, (uint32_t)size);
        else
            bad[size - 1 - sk_rng_below(&rng, (uint32_t)(56 + entries * 48))] ^= (uint8_t)(1 + sk_rng_below(&rng, 255));
        assert_int_equal(sk_file_write(file, bad, length, NULL), SK_OK);
        sk_free(bad);
        take_all(d, &got);
        assert_true(got == want);
    }
    sk_free(good);
    sk_dataset_close(d);
}

/* Several programs ask for the same missing cache at once: all get it, and it is whole. */
static void builders_do_not_meet(void **state)
{
    (void)state;
    sk_text rows = {0};
    make_dir(at("race"));
    for (int i = 0; i < 40; i++) {
        write_scene(at("race/%d.jpg", i), (uint64_t)(800 + i), 60, 50);
        sk_text_add(&rows, "%d.jpg\t\t\tbird\ts\ts\tweb\ttrain\n", i);
    }
    write_dataset("race", rows.data);
    sk_text_free(&rows);
    pid_t children[4];
    for (int k = 0; k < 4; k++) {
        children[k] = fork();
        if (children[k] == 0) {
            sk_cache *cache = NULL;
            sk_dataset *mine = NULL;
            int ok = sk_dataset_open(at("race"), &mine, NULL) == SK_OK &&
                     sk_cache_open(mine, 0, 1, NULL, &cache, NULL, NULL) == SK_OK;
            for (size_t i = 0; ok && i < 40; i++) {
                sk_image image;
                sk_cache_image(cache, i, &image);
                ok = image.data != NULL;
            }
            _exit(ok ? 0 : 1);
        }
    }
    for (int k = 0; k < 4; k++) {
        int status = 1;
        waitpid(children[k], &status, 0);
        assert_int_equal(status, 0);
    }
    char *raced = read_text(at("race/cache.skc"));
    struct stat info;
    assert_int_equal(stat(at("race/cache.skc"), &info), 0);
    unlink(at("race/cache.skc"));
    sk_dataset *d = open_dataset(at("race"));
    sk_cache_close(open_cache(d, 1));
    char *alone = read_text(at("race/cache.skc"));
    assert_memory_equal(raced, alone, (size_t)info.st_size);
    sk_free(raced);
    sk_free(alone);
    sk_dataset_close(d);
}

/* ---- failing memory, failing disk, killed process ----------------------------------------------- */
static void every_failed_allocation_is_survived(void **state)
{
    (void)state;
    const char *input = at("in/feeder/frames.tsv");
    const long live = sk_memory_live();
    int failures = 0, successes = 0;
    for (long n = 0; successes == 0 && n < 4000; n += n < 150 ? 1 : 17) {
        sk_error err = {0};
        unlink(at("few/cache.skc"));
        sk_memory_fail_at(n, 1);
        const sk_status status = sk_dataset_import(&input, 1, at("few"), NULL, NULL, NULL, &err);
        sk_memory_fail_at(-1, 0);
        if (status == SK_OK)
            successes++;
        else if (status == SK_ERR_MEMORY)
            failures++;
        else
            fail_msg("allocation %ld: %s: %s", n, sk_status_name(status), err.message);
        assert_int_equal(sk_memory_live(), live);
    }
    assert_true(failures > 30);
    assert_int_equal(successes, 1);
    for (long n = 0; n < 400; n++) {
        sk_check_report r;
        sk_memory_fail_at(n, 1);
        sk_status status = split_clips(at("all"), SIX_TWO_TWO, 1, NULL);
        if (status == SK_OK)
            status = sk_dataset_check(at("all"), NULL, &r, NULL);
        sk_memory_fail_at(-1, 0);
        assert_int_equal(sk_memory_live(), live);
        if (status == SK_OK)
            return;
        assert_int_equal(status, SK_ERR_MEMORY);
    }
    fail_msg("never came through");
}

static void a_full_disk_costs_nothing(void **state)
{
    (void)state;
    const char *input = at("in/classes");
    sk_import_report r;
    sk_error err;
    assert_int_equal(import(input, at("full"), &r, &err), SK_OK);
    char *table = read_text(at("full/dataset.tsv"));
    int failures = 0;
    for (long n = 0; n < 50; n++) {
        write_scene(at("in/classes/bird/d.jpg"), (uint64_t)(500 + n), 70 + (int)n, 60);
        memset(&err, 0, sizeof err);
        sk_file_fail_at(n);
        const sk_status status = sk_dataset_import(&input, 1, at("full"), NULL, NULL, NULL, &err);
        sk_file_fail_at(-1);
        char *now = read_text(at("full/dataset.tsv"));
        assert_string_equal(table, now);
        sk_free(now);
        assert_false(sk_path_exists(at("full/cache.skc.part")) || sk_path_exists(at("full/dataset.tsv.part")));
        if (status == SK_OK)
            break;
        assert_int_equal(status, SK_ERR_IO);
        failures++;
    }
    sk_free(table);
    assert_true(failures >= 2);
}

static void a_kill_while_building_costs_nothing(void **state)
{
    (void)state;
    make_dir(at("kill"));
    sk_text rows = {0};
    for (int i = 0; i < 60; i++) {
        write_scene(at("kill/%d.jpg", i), (uint64_t)(700 + i), 60, 50);
        sk_text_add(&rows, "%d.jpg\t\t\tbird\ts\ts\tweb\ttrain\n", i);
    }
    char *whole = sk_format("%s", rows.data);
    assert_non_null(whole);
    write_dataset("kill", "0.jpg\t\t\tbird\ts\ts\tweb\ttrain\n");
    sk_dataset *d = open_dataset(at("kill"));
    sk_cache_close(open_cache(d, 1));
    sk_dataset_close(d);
    write_dataset("kill", whole);
    struct stat before, now;
    assert_int_equal(stat(at("kill/cache.skc"), &before), 0);
    int killed = 0;
    for (int round = 0; round < 12; round++) {
        const pid_t child = fork();
        if (child == 0) {
            /* A new program's worth of state: OpenMP does not survive a fork after use, one thread does. */
            sk_cache *cache = NULL;
            sk_dataset *mine = NULL;
            const int ok = sk_dataset_open(at("kill"), &mine, NULL) == SK_OK &&
                           sk_cache_open(mine, 0, 1, NULL, &cache, NULL, NULL) == SK_OK;
            _exit(ok ? 0 : 1);
        }
        usleep((unsigned)(round * 2500 + 500));
        kill(child, SIGKILL);
        int status = 0;
        waitpid(child, &status, 0);
        if (WIFSIGNALED(status)) {
            killed++;
            assert_int_equal(stat(at("kill/cache.skc"), &now), 0);
            assert_true(now.st_ino == before.st_ino || now.st_size > before.st_size);
        } else {
            assert_int_equal(WEXITSTATUS(status), 0);
            break;
        }
    }
    assert_true(killed > 0);
    d = open_dataset(at("kill"));
    sk_cache *cache = open_cache(d, 2);
    for (size_t i = 0; i < sk_dataset_size(d); i++) {
        sk_image image;
        sk_cache_image(cache, i, &image);
        assert_non_null(image.data);
    }
    sk_cache_close(cache);
    sk_dataset_close(d);
    sk_free(whole);
    sk_text_free(&rows);
}

static int always(void *user)
{
    (void)user;
    return 1;
}

static void cancelling_stops(void **state)
{
    (void)state;
    const char *input = at("in/feeder/frames.tsv");
    const sk_hooks stop = {.cancelled = always};
    assert_int_equal(sk_dataset_import(&input, 1, at("stopped"), NULL, &stop, NULL, NULL), SK_ERR_CANCELLED);
    assert_false(sk_path_exists(at("stopped/dataset.tsv")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(builders_do_not_meet),
        cmocka_unit_test(a_kill_while_building_costs_nothing),
        cmocka_unit_test(the_cache_holds_what_decoding_gives),
        cmocka_unit_test(the_cache_rebuilds_what_changed),
        cmocka_unit_test(a_damaged_cache_is_built_anew),
        cmocka_unit_test(every_failed_allocation_is_survived),
        cmocka_unit_test(a_full_disk_costs_nothing),
        cmocka_unit_test(cancelling_stops),
    };
    return cmocka_run_group_tests_name("cache", tests, start, finish);
}
