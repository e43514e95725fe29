/* SPDX-License-Identifier: Apache-2.0 */
/* Splits and the leak check from outside: rules that hold for random datasets, and leaks planted on purpose. */
#include "data_help.h"

/* ---- split -------------------------------------------------------------------------------------- */
/* Writes a dataset of random clips and photo sources, rows in random order; the same `seed` means the same rows. */
static size_t random_dataset(const char *dir, uint64_t seed, uint64_t order, size_t *clips)
{
    sk_rng rng = sk_rng_make(seed, 0, 0), shuffle = sk_rng_make(order, 1, 0);
    const size_t groups = 1 + sk_rng_below(&rng, 40);
    static char rows[1200][120];
    size_t count = 0;
    *clips = 0;
    for (size_t g = 0; g < groups; g++) {
        const uint32_t kind = sk_rng_below(&rng, 8);
        const char *role = kind == 0 ? "web" : kind == 1 ? "held-out" : "clip";
        size_t labelled = 0;
        const size_t size = 1 + sk_rng_below(&rng, 8);
        for (size_t i = 0; i < size; i++) {
            static const char *const labels[] = {"bird", "nobird", "bird", "unknown"};
            const uint32_t label = sk_rng_below(&rng, 4);
            labelled += label != 3;
            snprintf(rows[count++], sizeof rows[0], "g%zu\t%zu\t\t%s\ts\ts/g%zu\t%s\t\n", g, i, labels[label], g, role);
        }
        *clips += kind > 1 && labelled;
    }
    sk_text text = {0};
    sk_text_add(&text, "path\tframe\ttime_s\tlabel\tsource\tgroup\trole\tsplit\n");
    for (size_t i = count; i-- > 0;) {
        char swap[120];
        const size_t k = sk_rng_below(&shuffle, (uint32_t)i + 1);
        memcpy(swap, rows[i], sizeof swap);
        memcpy(rows[i], rows[k], sizeof swap);
        memcpy(rows[k], swap, sizeof swap);
        sk_text_add(&text, "%s", rows[i]);
    }
    make_dir(dir);
    write_text(at("%s/dataset.tsv", sk_path_name(dir)), text.data);
    sk_text_free(&text);
    return count;
}

static void check_split_rules(const sk_dataset *d, size_t clips, const double parts[3])
{
    size_t clip_groups[4] = {0};
    for (size_t i = 0; i < sk_dataset_size(d); i++) {
        const sk_sample *a = sk_dataset_sample(d, i);
        int first = 1, labelled = 0;
        for (size_t k = 0; k < sk_dataset_size(d); k++) {
            const sk_sample *b = sk_dataset_sample(d, k);
            if (strcmp(a->group, b->group))
                continue;
            assert_int_equal(a->split, b->split);
            first &= k >= i;
            labelled |= b->label != SK_LABEL_UNKNOWN;
        }
        if (a->role == SK_ROLE_WEB && labelled)
            assert_int_equal(a->split, SK_SPLIT_TRAIN);
        if (a->role == SK_ROLE_HELDOUT && labelled)
            assert_int_equal(a->split, SK_SPLIT_TEST);
        if (a->role == SK_ROLE_CLIP && labelled)
            assert_int_not_equal(a->split, SK_SPLIT_NONE);
        clip_groups[a->split] += first && labelled && a->role == SK_ROLE_CLIP;
    }
    size_t wanted = 0;
    for (int p = 0; p < 3; p++)
        wanted += parts[p] > 0;
    for (int p = 0; p < 3; p++) {
        if (parts[p] <= 0)
            assert_int_equal(clip_groups[p + 1], 0);
        else if (clips >= wanted)
            assert_true(clip_groups[p + 1] > 0);
    }
}

static void splits_keep_groups_together(void **state)
{
    (void)state;
    static const double ratios[][3] = {{6, 2, 2}, {1, 1, 1}, {8, 0, 2}, {98, 1, 1}};
    for (uint64_t seed = 0; seed < 120; seed++) {
        const double *parts = ratios[seed % 4];
        size_t clips = 0;
        random_dataset(at("random"), seed, 1, &clips);
        assert_int_equal(split_clips(at("random"), parts, seed, NULL), SK_OK);
        sk_dataset *a = open_dataset(at("random"));
        check_split_rules(a, clips, parts);
        random_dataset(at("random"), seed, 2, &clips);
        assert_int_equal(split_clips(at("random"), parts, seed, NULL), SK_OK);
        sk_dataset *b = open_dataset(at("random"));
        for (size_t i = 0; i < sk_dataset_size(a); i++) {
            const sk_sample *s = sk_dataset_sample(a, i);
            const sk_sample *t = find(b, s->path, s->frame);
            assert_non_null(t);
            assert_int_equal(s->split, t->split);
        }
        sk_dataset_close(a);
        sk_dataset_close(b);
    }
}

/* 100 clips of 0..4 bird and 0..3 empty frames: both labels end near 6:2:2, and another seed moves clips. */
static void splits_are_stratified(void **state)
{
    (void)state;
    sk_text text = {0};
    sk_rng rng = sk_rng_make(77, 0, 0);
    sk_text_add(&text, "path\tframe\ttime_s\tlabel\tsource\tgroup\trole\tsplit\n");
    for (int g = 0; g < 100; g++) {
        const int birds = (int)sk_rng_below(&rng, 5), all = birds + (int)sk_rng_below(&rng, 4);
        for (int i = 0; i < all; i++)
            sk_text_add(&text, "g%d\t%d\t\t%s\ts\ts/g%d\tclip\t\n", g, i, i < birds ? "bird" : "nobird", g);
    }
    make_dir(at("strata"));
    write_text(at("strata/dataset.tsv"), text.data);
    sk_text_free(&text);
    char *first = NULL;
    int moved = 0;
    for (uint64_t seed = 0; seed < 5; seed++) {
        double in[3][2] = {{0}}, all[2] = {0};
        assert_int_equal(split_clips(at("strata"), SIX_TWO_TWO, seed, NULL), SK_OK);
        sk_dataset *d = open_dataset(at("strata"));
        for (size_t i = 0; i < sk_dataset_size(d); i++) {
            const sk_sample *s = sk_dataset_sample(d, i);
            in[s->split - 1][s->label]++;
            all[s->label]++;
        }
        for (int p = 0; p < 3; p++)
            for (int k = 0; k < 2; k++)
                assert_true(fabs(in[p][k] / all[k] - (p ? 0.2 : 0.6)) < 0.04);
        sk_dataset_close(d);
        char *now = read_text(at("strata/dataset.tsv"));
        moved += first && strcmp(first, now) != 0;
        sk_free(first);
        first = now;
    }
    sk_free(first);
    assert_int_equal(moved, 4);
    sk_error err = {0};
    assert_int_equal(split_clips(at("strata"), (const double[]){0, 0, 0}, 1, &err), SK_ERR_ARGUMENT);
    assert_int_equal(split_clips(at("strata"), (const double[]){1, -1, 1}, 1, &err), SK_ERR_ARGUMENT);
    assert_int_equal(split_clips(at("strata"), (const double[]){1, NAN, 1}, 1, &err), SK_ERR_ARGUMENT);
}

/* Web sources of three shapes: many small groups of both labels, one group per label, one group. */
static void write_photo_sources(const char *dir)
{
    sk_text text = {0};
    sk_text_add(&text, "path\tframe\ttime_s\tlabel\tsource\tgroup\trole\tsplit\n");
    for (int i = 0; i < 400; i++)
        sk_text_add(&text, "many%d\t\t\t%s\tmany\tmany/%d\tweb\t\n", i, i % 4 ? "nobird" : "bird",
                    i / 2 * 2 + i % 4 / 3);
    for (int i = 0; i < 300; i++)
        sk_text_add(&text, "two%d\t\t\t%s\ttwo\ttwo/%d\tweb\t\n", i, i % 3 ? "nobird" : "bird", i % 3 > 0);
    for (int i = 0; i < 100; i++)
        sk_text_add(&text, "one%d\t\t\tnobird\tone\tone\tweb\t\n", i);
    for (int i = 0; i < 20; i++)
        sk_text_add(&text, "clip%d\t%d\t\t%s\tcam\tcam/%d\tclip\t\n", i / 2, i, i % 2 ? "nobird" : "bird", i / 2);
    sk_text_add(&text, "held\t\t\tbird\theld\theld\theld-out\t\n");
    make_dir(dir);
    write_text(at("%s/dataset.tsv", sk_path_name(dir)), text.data);
    sk_text_free(&text);
}

static void photographs_can_be_validated_on(void **state)
{
    (void)state;
    sk_error err = {0};
    write_photo_sources(at("photos"));
    assert_int_equal(split_clips(at("photos"), SIX_TWO_TWO, 3, NULL), SK_OK);
    sk_dataset *plain = open_dataset(at("photos"));
    sk_split_options o = sk_split_defaults();
    o.seed = 3;
    o.val_photos = 0.1;
    assert_int_equal(sk_dataset_split(at("photos"), &o, NULL), SK_OK);
    sk_dataset *d = open_dataset(at("photos"));
    int many[2] = {0};
    for (size_t i = 0; i < sk_dataset_size(d); i++) {
        const sk_sample *s = sk_dataset_sample(d, i);
        if (strcmp(s->source, "many") == 0)
            many[s->label] += s->split == SK_SPLIT_VAL;
        else /* clips and held-out pictures as without; large groups stay in train */
            assert_int_equal(s->split, sk_dataset_sample(plain, i)->split);
        assert_true(s->role != SK_ROLE_WEB || s->split == SK_SPLIT_TRAIN || s->split == SK_SPLIT_VAL);
        for (size_t k = 0; k < i; k++)
            if (strcmp(s->group, sk_dataset_sample(d, k)->group) == 0)
                assert_int_equal(s->split, sk_dataset_sample(d, k)->split);
    }
    assert_in_range(many[SK_LABEL_BIRD], 8, 12);
    assert_in_range(many[SK_LABEL_NOBIRD], 27, 33);
    sk_dataset_close(plain);
    sk_dataset_close(d);
    static const double wrong[] = {-0.1, 0.95, NAN};
    for (int i = 0; i < 3; i++) {
        o.val_photos = wrong[i];
        assert_int_equal(sk_dataset_split(at("photos"), &o, &err), SK_ERR_ARGUMENT);
        assert_non_null(strstr(err.message, "outside 0 to 0.9"));
    }
}

/* ---- check -------------------------------------------------------------------------------------- */
static sk_status check(const char *name, sk_check_report *r)
{
    log_text[0] = 0;
    return sk_dataset_check(at("%s", name), &hooks, r, NULL);
}

static void planted_leaks_are_found(void **state)
{
    (void)state;
    sk_check_report r;
    make_dir(at("leak"));
    for (int i = 0; i < 12; i++)
        write_scene(at("leak/p%d.jpg", i), (uint64_t)(200 + i), 120, 90);
    /* p20: p0 smaller and recompressed; p21: p1 mirrored. */
    sk_image image = scene(200, 120, 90), half = {0};
    assert_int_equal(sk_image_create(80, 60, &half, NULL), SK_OK);
    assert_int_equal(sk_image_resize(&image, NULL, 80, 60, half.data, NULL), SK_OK);
    assert_int_equal(sk_image_write(at("leak/p20.jpg"), &half, 60, NULL), SK_OK);
    sk_image_free(&half);
    sk_image_free(&image);
    image = scene(201, 120, 90);
    for (int y = 0; y < 90; y++)
        for (int x = 0; x < 60; x++)
            for (int c = 0; c < 3; c++) {
                uint8_t *a = &image.data[(y * 120 + x) * 3 + c], *b = &image.data[(y * 120 + 119 - x) * 3 + c];
                const uint8_t swap = *a;
                *a = *b;
                *b = swap;
            }
    assert_int_equal(sk_image_write(at("leak/p21.png"), &image, 0, NULL), SK_OK);
    sk_image_free(&image);

    write_dataset("leak", "p0.jpg\t\t\tbird\ta\ta\tweb\ttrain\np1.jpg\t\t\tnobird\ta\ta\tweb\ttrain\n"
                          "p2.jpg\t\t\tbird\tb\tb/1\tclip\tval\np3.jpg\t\t\tnobird\tb\tb/1\tclip\tval\n"
                          "p4.jpg\t\t\tbird\tc\tc\theld-out\ttest\np5.jpg\t\t\tnobird\tc\tc\theld-out\ttest\n");
    assert_int_equal(check("leak", &r), SK_OK);
    assert_int_equal(r.near_duplicates + r.groups_in_two_splits + r.web_in_test + r.heldout_outside_test, 0);
    assert_int_equal(r.counts[SK_SPLIT_TEST][2], 1);

    write_dataset("leak", "p0.jpg\t\t\tbird\ta\ta\tweb\ttrain\np1.jpg\t\t\tnobird\ta\ta\tweb\ttrain\n"
                          "p2.jpg\t\t\tbird\tb\tb/1\tclip\tval\np3.jpg\t\t\tnobird\tb\tb/1\tclip\ttest\n"
                          "p4.jpg\t\t\tbird\td\td\tweb\ttest\np8.jpg\t\t\tbird\td\te8\tweb\tval\n"
                          "p5.jpg\t\t\tnobird\te\te\theld-out\ttrain\n"
                          "gone.jpg\t\t\tnobird\te\tf\tclip\ttrain\n"
                          "p6.jpg\t\t\tunknown\ta\ta\tweb\ttest\n" /* not used: no leak */
                          "p20.jpg\t\t\tbird\tc\tc\theld-out\ttest\np21.png\t\t\tnobird\tc\tc\theld-out\ttest\n");
    assert_int_equal(check("leak", &r), SK_ERR_DATA);
    assert_int_equal(r.near_duplicates, 2);
    assert_int_equal(r.groups_in_two_splits, 1);
    assert_int_equal(r.web_in_test, 1);
    assert_int_equal(r.web_in_val, 1);
    assert_int_equal(r.heldout_outside_test, 1);
    assert_int_equal(r.unreadable, 1);
    assert_non_null(strstr(log_text, "near-duplicates: p0.jpg (train) and p20.jpg (test)"));
    assert_non_null(strstr(log_text, "p1.jpg (train) and p21.png (test) mirrored"));
    assert_non_null(strstr(log_text, "the group `b/1` is in more than one split"));
    assert_non_null(strstr(log_text, "gone.jpg"));
}

static void duplicates_can_be_taken_out(void **state)
{
    (void)state;
    sk_check_report r;
    size_t dropped = 0;
    write_dataset("leak", "p0.jpg\t\t\tbird\ta\ta\tweb\ttrain\np1.jpg\t\t\tnobird\ta\ta\tweb\ttrain\n"
                          "p7.jpg\t\t\tbird\ta\ta\tweb\ttrain\np20.jpg\t\t\tbird\tc\tc\theld-out\ttest\n"
                          "p5.jpg\t\t\tnobird\tc\tc\theld-out\ttest\n");
    assert_int_equal(sk_dataset_drop_duplicates(at("leak"), NULL, &dropped, NULL), SK_OK);
    assert_int_equal(dropped, 1);
    sk_dataset *d = open_dataset(at("leak"));
    assert_int_equal(find(d, "/p0.jpg", -1)->label, SK_LABEL_UNKNOWN);
    assert_int_equal(find(d, "/p20.jpg", -1)->label, SK_LABEL_BIRD);
    assert_int_equal(find(d, "/p7.jpg", -1)->label, SK_LABEL_BIRD);
    sk_dataset_close(d);
    assert_int_equal(check("leak", &r), SK_OK);
}

/* The scene of `seed` with a small dark visitor in a corner. */
static void write_visited_clip(const char *path, uint64_t seed)
{
    sk_video_writer *writer = NULL;
    sk_image image = scene(seed, 96, 64);
    for (int y = 50; y < 60; y++)
        memset(image.data + (y * 96 + 80) * 3, 20, 10 * 3);
    assert_int_equal(sk_video_writer_open(path, 96, 64, 12, &writer, NULL), SK_OK);
    for (int k = 0; k < 6; k++)
        assert_int_equal(sk_video_writer_add(writer, &image, NULL), SK_OK);
    sk_image_free(&image);
    assert_int_equal(sk_video_writer_close(writer, NULL), SK_OK);
}

static void a_fixed_camera_is_no_leak_but_a_copied_clip_is(void **state)
{
    (void)state;
    sk_check_report r;
    static const uint64_t same[] = {300, 0};
    make_dir(at("camera"));
    write_clip(at("camera/a.mp4"), same, 2);
    write_clip(at("camera/b.mp4"), same, 2);
    write_dataset("camera", "a.mp4\t1\t\tbird\tcam\tcam/a\tclip\ttrain\nb.mp4\t1\t\tbird\tcam\tcam/b\tclip\ttest\n");
    assert_int_equal(check("camera", &r), SK_ERR_DATA);
    assert_int_equal(r.near_duplicates, 1);
    write_visited_clip(at("camera/b.mp4"), same[0]);
    write_dataset("camera", "a.mp4\t1\t\tbird\tcam\tcam/a\tclip\ttrain\nb.mp4\t1\t\tbird\tcam\tcam/b\tclip\ttest\n");
    assert_int_equal(check("camera", &r), SK_OK);
    assert_int_equal(r.same_camera_pairs, 1);
    assert_int_equal(r.near_duplicates, 0);
    write_dataset("camera",
                  "a.mp4\t1\t\tbird\tcam\tcam/a\tclip\ttrain\nb.mp4\t1\t\tbird\tother\tother/b\tclip\ttest\n");
    assert_int_equal(check("camera", &r), SK_ERR_DATA);
    assert_int_equal(r.near_duplicates, 1);
}

static void another_exposure_is_a_duplicate(void **state)
{
    (void)state;
    sk_check_report r;
    make_dir(at("leak"));
    write_scene(at("leak/day.jpg"), 204, 120, 90);
    sk_image image = scene(204, 120, 90);
    for (int i = 0; i < 120 * 90 * 3; i++)
        image.data[i] = (uint8_t)(image.data[i] * 7 / 10);
    assert_int_equal(sk_image_write(at("leak/dusk.jpg"), &image, 80, NULL), SK_OK);
    sk_image_free(&image);
    write_dataset("leak", "day.jpg\t\t\tbird\ta\ta\tweb\ttrain\ndusk.jpg\t\t\tbird\tb\tb\theld-out\ttest\n");
    assert_int_equal(check("leak", &r), SK_ERR_DATA);
    assert_int_equal(r.near_duplicates, 1);
}

/* The hash of a plain picture says little: two slopes of light, one dark and one bright, share it. */
static void plain_pictures_are_no_duplicates(void **state)
{
    (void)state;
    sk_check_report r;
    for (int bright = 0; bright < 2; bright++) {
        sk_image image;
        assert_int_equal(sk_image_create(64, 64, &image, NULL), SK_OK);
        for (int i = 0; i < 64 * 64 * 3; i++) {
            const int x = i / 3 % 64, y = i / 3 / 64;
            image.data[i] = (uint8_t)((x * x / 64 + x * y / 32 + y) / 3 + bright * 100);
        }
        assert_int_equal(sk_image_write(at("leak/plain%d.png", bright), &image, 0, NULL), SK_OK);
        sk_image_free(&image);
    }
    write_dataset("leak", "plain0.png\t\t\tbird\ta\ta\tweb\ttrain\nplain1.png\t\t\tbird\tb\tb\theld-out\ttest\n");
    sk_dataset *d = open_dataset(at("leak"));
    sk_cache *cache = NULL;
    uint64_t hashes[2];
    assert_int_equal(sk_cache_open(d, 0, 1, NULL, &cache, NULL, NULL), SK_OK);
    for (size_t i = 0; i < 2; i++)
        assert_non_null(sk_cache_thumb(cache, i, &hashes[i]));
    assert_true(__builtin_popcountll(hashes[0] ^ hashes[1]) <= 10); /* or the test would show nothing */
    sk_cache_close(cache);
    sk_dataset_close(d);
    assert_int_equal(check("leak", &r), SK_OK);
}

/* ---- the verbs ---------------------------------------------------------------------------------- */
static int run_program(const char *arguments)
{
    const char *program = getenv("SISKIN_PROGRAM");
    char *command = sk_format("cd '%s' && '%s' %s >out 2>err", work, program, arguments);
    assert_non_null(command);
    const int status = system(command);
    sk_free(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void the_verbs_answer_with_their_exit_codes(void **state)
{
    (void)state;
    if (!getenv("SISKIN_PROGRAM")) {
        print_message("left out: SISKIN_PROGRAM does not name the program\n");
        skip();
    }
    assert_int_equal(run_program("import in/photos.tsv in/feeder/frames.tsv in/classes -o verbs"), 0);
    char *out = read_text(at("out"));
    assert_non_null(strstr(out, "of 46 rows kept"));
    sk_free(out);
    assert_int_equal(run_program("import in/photos.tsv --max-bad 1 -o verbs"), 3);
    assert_int_equal(run_program("split verbs --ratio 6:2"), 2);
    assert_int_equal(run_program("split verbs --ratio 6:2:2 --seed 3"), 0);
    assert_int_equal(run_program("check verbs"), 0);
    assert_int_equal(run_program("check nowhere"), 1);
    write_scene(at("leak/copy.png"), 203, 60, 45);
    write_dataset("leak", "p3.jpg\t\t\tbird\ta\ta\tweb\ttrain\ncopy.png\t\t\tbird\tb\tb\theld-out\ttest\n");
    assert_int_equal(run_program("check leak --json"), 3);
    out = read_text(at("out"));
    assert_non_null(strstr(out, "\"near_duplicates\":1,"));
    assert_non_null(strstr(out, "\"leak\":true}"));
    sk_free(out);
    assert_int_equal(run_program("check leak --fix"), 0);
    assert_int_equal(run_program("check leak"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(splits_keep_groups_together),      cmocka_unit_test(splits_are_stratified),
        cmocka_unit_test(photographs_can_be_validated_on),
        cmocka_unit_test(planted_leaks_are_found),          cmocka_unit_test(duplicates_can_be_taken_out),
        cmocka_unit_test(a_fixed_camera_is_no_leak_but_a_copied_clip_is),
        cmocka_unit_test(another_exposure_is_a_duplicate),
        cmocka_unit_test(plain_pictures_are_no_duplicates), cmocka_unit_test(the_verbs_answer_with_their_exit_codes),
    };
    return cmocka_run_group_tests_name("split", tests, start, finish);
}
