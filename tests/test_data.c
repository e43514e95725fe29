/* SPDX-License-Identifier: Apache-2.0 */
/* Import and candidate frames from outside: tables and folders in every form, broken tables and files, the rule for
 * clips, and, with the shared data beside the project, its counts. */
#include "data_help.h"

/* ---- tables ------------------------------------------------------------------------------------- */
static void broken_tables_are_told_with_their_line(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "is empty: its first line must name the columns"},
        {"name\tlabel\n", ":1: the header names neither a `path` nor a `video` column"},
        {"path\tvideo\tlabel\n", ":1: the header names both `path` and `video`: keep one"},
        {"path\tsource\n", ":1: the header does not name a `label` column"},
        {"video\tlabel\n", ":1: the header names `video` but no `frame` column"},
        {"path\tlabel\tpath\n", ":1: the header names the column `path` twice"},
        {"path\t\n", ":1: column 2 of the header has no name"},
        {"path\tlabel\na.jpg\tbird\nb.jpg\n", ":3: has 1 cells, but the header names 2 columns"},
        {"path\tlabel\n\na.jpg\tbird\tx\n", ":3: has 3 cells, but the header names 2 columns"},
        {"path\tlabel\na.jpg\tparrot\n", ":2: label `parrot` is not one of bird, nobird, unknown"},
        {"path\tlabel\na.mp4\tbird\n", ":2: `a.mp4` is a clip: its `frame` must be given"},
        {"video\tframe\tlabel\na.mp4\t-3\tbird\n", ":2: frame `-3` is not a frame number from 0 on"},
        {"video\tframe\tlabel\na.mp4\t99999999999999999999\tbird\n",
         ":2: frame `99999999999999999999` is not a frame number from 0 on"},
        {"path\tlabel\ttime_s\na.jpg\tbird\tnan\n", ":2: time_s `nan` is not a time in seconds"},
        {"path\tlabel\trole\na.jpg\tbird\tguest\n",
         ":2: role `guest` is not one of train (web), test (held-out), clip"},
        {"path\tlabel\tsplit\na.jpg\tbird\tTest\n", ":2: split `Test` is not one of train, val, test"},
        {"path\tlabel\n\tbird\n", ":2: the path is empty"},
        {"path\tlabel\na\x01.jpg\tbird\n", ":2: holds the control character 0x01: not a tab-separated text table"},
        {"path\tlabel\n", NULL},
    };
    const char *table = at("broken.tsv");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sk_error err;
        sk_import_report report;
        write_text(table, cases[i].text);
        assert_int_not_equal(import(table, at("never"), &report, &err), SK_OK);
        if (!cases[i].message) {
            assert_string_equal(err.message, "the inputs hold no rows: nothing to import");
            continue;
        }
        const char *told = strstr(err.message, "broken.tsv");
        assert_non_null(told);
        told += strlen("broken.tsv");
        assert_string_equal(*told == ':' && told[1] == ' ' ? told + 2 : told, cases[i].message);
    }
    assert_false(sk_path_exists(at("never")));
}

static void a_table_of_any_bytes_does_no_harm(void **state)
{
    (void)state;
    static const char letters[] = "path\tlabel\n\r\tbird frame0\x01\xff";
    sk_rng rng = sk_rng_make(3, 3, 3);
    for (int round = 0; round < 3000; round++) {
        const size_t size = sk_rng_below(&rng, 80);
        char *text = sk_alloc(size + 1, 1);
        assert_non_null(text);
        for (size_t i = 0; i < size; i++)
            text[i] = letters[sk_rng_below(&rng, sizeof letters)];
        text[size] = 0;
        sk_table table;
        if (sk_table_parse(text, size, "random", &table, NULL) == SK_OK) {
            for (size_t r = 0; r < table.rows; r++)
                for (size_t c = 0; c < table.columns; c++)
                    assert_true(strlen(sk_table_cell(&table, r, (int)c)) <= size);
            sk_table_free(&table);
        }
    }
}

static void a_broken_dataset_is_told(void **state)
{
    (void)state;
    static const char head[] = "path\tframe\ttime_s\tlabel\tsource\tgroup\trole\tsplit\n";
    static const struct {
        const char *row, *message;
    } cases[] = {
        {"a.jpg\t\t\tbird\ts\tg\tweb\ttrain\n", NULL},
        {"a.jpg\tx\t\tbird\ts\tg\tweb\ttrain\n", ":2: frame `x` is not a frame number from 0 on (empty: a picture)"},
        {"a.jpg\t\t\tbird\ts\t\tweb\ttrain\n", ":2: path, source and group must not be empty"},
        {"a.jpg\t\t\tbird\ts\tg\ttrain\ttrain\n", ":2: role `train` is not one of clip, web, held-out"},
        {"a.jpg\t\t\tbird\ts\tg\tweb\ttrain\n\na.jpg\t\t\tnobird\ts\tg\tweb\ttrain\n",
         ":4: lists again what line 2 lists: a.jpg"},
        {"a.jpg\t\t\tbird\ts\tg\tweb\tdev\n", ":2: split `dev` is not one of train, val, test (empty: none)"}};
    make_dir(at("hand"));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sk_dataset *d = NULL;
        sk_error err = {0};
        char text[400];
        snprintf(text, sizeof text, "%s%s", head, cases[i].row);
        write_text(at("hand/dataset.tsv"), text);
        const sk_status status = sk_dataset_open(at("hand"), &d, &err);
        assert_int_equal(status, cases[i].message ? SK_ERR_FORMAT : SK_OK);
        if (cases[i].message)
            assert_string_equal(strstr(err.message, "dataset.tsv") + strlen("dataset.tsv"), cases[i].message);
        sk_dataset_close(d);
    }
    sk_dataset *d = NULL;
    assert_int_equal(sk_dataset_open(at("nowhere"), &d, NULL), SK_ERR_IO);
}

/* ---- import ------------------------------------------------------------------------------------- */
static void all_forms_come_together(void **state)
{
    (void)state;
    sk_import_report r;
    sk_error err = {0};
    char inputs_text[3][600];
    snprintf(inputs_text[0], 600, "%s", at("in/photos.tsv"));
    snprintf(inputs_text[1], 600, "%s", at("in/feeder/frames.tsv"));
    snprintf(inputs_text[2], 600, "%s", at("in/classes"));
    const char *inputs[] = {inputs_text[0], inputs_text[1], inputs_text[2]};
    log_text[0] = 0;
    assert_int_equal(sk_dataset_import(inputs, 3, at("all"), NULL, &hooks, &r, &err), SK_OK);
    assert_int_equal(r.rows, 7 + 36 + 3);
    assert_int_equal(r.bad, 4);
    assert_int_equal(r.unknown, 2);
    assert_int_equal(r.clips, 2);
    for (int i = 0; i < 4; i++) {
        static const char *const names[] = {"text.jpg", "empty.jpg", "cut.jpg", "gone.jpg"};
        assert_non_null(strstr(log_text, names[i]));
    }
    sk_dataset *d = open_dataset(at("all"));
    assert_int_equal(sk_dataset_size(d), r.kept);
    assert_int_equal(r.kept, r.birds + r.nobirds + r.unknown);
    const sk_sample *s = find(d, "photos/bird/a.jpg", -1);
    assert_non_null(s);
    assert_string_equal(s->group, "shop/wren");
    assert_int_equal(s->role, SK_ROLE_WEB);
    s = find(d, "photos/b.png", -1);
    assert_string_equal(s->group, "garden");
    assert_int_equal(s->role, SK_ROLE_HELDOUT);
    s = find(d, "classes/bird/wren/e.jpg", -1);
    assert_int_equal(s->label, SK_LABEL_BIRD);
    assert_string_equal(s->source, "classes");
    assert_string_equal(s->group, "classes/wren");
    assert_int_equal(find(d, "classes/no-bird/f.png", -1)->label, SK_LABEL_NOBIRD);
    s = find(d, "feeder/videos/lively.mp4", 22);
    assert_non_null(s); /* unknown: kept */
    assert_int_equal(s->label, SK_LABEL_UNKNOWN);
    assert_string_equal(s->source, "feeder");
    assert_string_equal(s->group, "feeder/lively.mp4");
    assert_int_equal(s->role, SK_ROLE_CLIP);
    assert_null(find(d, "text.jpg", -1));
    sk_dataset_close(d);
}

static void clips_give_few_unlike_frames(void **state)
{
    (void)state;
    size_t birds = 0, empties = 0, of_still = 0;
    double times[8];
    sk_dataset *d = open_dataset(at("all"));
    for (size_t i = 0; i < sk_dataset_size(d); i++) {
        const sk_sample *s = sk_dataset_sample(d, i);
        of_still += sk_has_suffix(s->path, "still.mp4");
        empties += sk_has_suffix(s->path, "lively.mp4") && s->label == SK_LABEL_NOBIRD;
        if (sk_has_suffix(s->path, "lively.mp4") && s->label == SK_LABEL_BIRD)
            times[birds++] = s->time_s;
    }
    assert_int_equal(birds, 4);
    assert_int_equal(empties, 2);
    assert_int_equal(of_still, 1); /* a second frame would show the same */
    for (size_t i = 0; i < birds; i++)
        for (size_t k = 0; k < i; k++)
            assert_true(fabs(times[i] - times[k]) >= 0.4);
    /* Six seconds, four frames: spread, not bunched. */
    assert_true(times[birds - 1] - times[0] > 3);
    sk_dataset_close(d);
}

static void options_of_the_rule_hold(void **state)
{
    (void)state;
    const char *input = at("in/feeder/frames.tsv");
    sk_import_options o = sk_import_defaults();
    sk_import_report r;
    o.birds_per_clip = 0;
    o.empties_per_clip = 1;
    assert_int_equal(sk_dataset_import(&input, 1, at("rule"), &o, NULL, &r, NULL), SK_OK);
    assert_int_equal(r.birds, 15);
    assert_int_equal(r.nobirds, 2);
    assert_int_equal(r.clip_frames_dropped, 36 - 1 - 15 - 2);
    o.birds_per_clip = 100;
    o.min_gap_s = 2;
    assert_int_equal(sk_dataset_import(&input, 1, at("rule"), &o, NULL, &r, NULL), SK_OK);
    assert_in_range(r.birds, 2, 3);
}

static void too_many_bad_files_end_the_import(void **state)
{
    (void)state;
    const char *input = at("in/photos.tsv");
    sk_import_options o = sk_import_defaults();
    sk_error err = {0};
    char *before = read_text(at("all/dataset.tsv"));
    o.max_bad = 3;
    assert_int_equal(sk_dataset_import(&input, 1, at("all"), &o, NULL, NULL, &err), SK_ERR_DATA);
    assert_non_null(strstr(err.message, "more than 3 files cannot be read"));
    char *after = read_text(at("all/dataset.tsv"));
    assert_string_equal(before, after); /* nothing was changed */
    sk_free(before);
    sk_free(after);
}

static void broken_clips_are_left_out(void **state)
{
    (void)state;
    sk_import_report r;
    sk_error err;
    make_dir(at("broken/videos"));
    write_text(at("broken/videos/text.mp4"), "no clip at all");
    static const uint64_t seeds[] = {5, 6};
    write_clip(at("broken/videos/short.mp4"), seeds, 2);
    write_text(at("broken/t.tsv"),
               "path\tframe\tlabel\nvideos/text.mp4\t0\tbird\nvideos/short.mp4\t3\tbird\n"
               "videos/short.mp4\t9\tnobird\nvideos/short.mp4\t12\tbird\nvideos/none.mp4\t1\tbird\n");
    assert_int_equal(import(at("broken/t.tsv"), at("broken/out"), &r, &err), SK_OK);
    assert_int_equal(r.bad, 3);
    assert_int_equal(r.kept, 2);
    assert_non_null(strstr(log_text, "cannot read frame 12 of"));
    assert_non_null(strstr(log_text, "text.mp4"));
    assert_non_null(strstr(log_text, "none.mp4"));
}

static void contradictions_are_refused(void **state)
{
    (void)state;
    sk_import_report r;
    sk_error err;
    write_text(at("in/twice.tsv"), "path\tlabel\nphotos/b.png\tbird\n./photos//b.png\tnobird\n");
    assert_int_equal(import(at("in/twice.tsv"), at("twice"), &r, &err), SK_ERR_DATA);
    assert_non_null(strstr(err.message, "is listed twice, as bird and as nobird"));
    write_text(at("in/twice.tsv"), "path\tlabel\nphotos/b.png\tbird\nphotos/b.png\tbird\n");
    assert_int_equal(import(at("in/twice.tsv"), at("twice"), &r, &err), SK_OK);
    assert_int_equal(r.kept, 1);
}

/* A dataset's own table is a table like any other. */
static void a_dataset_can_be_imported_again(void **state)
{
    (void)state;
    sk_import_report r;
    sk_error err;
    assert_int_equal(split_clips(at("all"), SIX_TWO_TWO, 5, NULL), SK_OK);
    assert_int_equal(import(at("all/dataset.tsv"), at("again"), &r, &err), SK_OK);
    sk_dataset *a = open_dataset(at("all")), *b = open_dataset(at("again"));
    assert_int_equal(sk_dataset_size(a), sk_dataset_size(b));
    for (size_t i = 0; i < sk_dataset_size(a); i++) {
        const sk_sample *x = sk_dataset_sample(a, i), *y = sk_dataset_sample(b, i);
        assert_string_equal(x->path, y->path);
        assert_string_equal(x->group, y->group);
        assert_true(x->frame == y->frame && x->label == y->label && x->role == y->role && x->split == y->split);
    }
    sk_dataset_close(a);
    sk_dataset_close(b);
}

static void a_root_stands_for_the_tables_folder(void **state)
{
    (void)state;
    const char *input = at("elsewhere.tsv");
    sk_import_options o = sk_import_defaults();
    sk_import_report r;
    o.root = at("in");
    write_text(input, "path\tlabel\nphotos/b.png\tbird\nphotos/bird/a.jpg\tbird\n");
    assert_int_equal(sk_dataset_import(&input, 1, at("rooted"), &o, NULL, &r, NULL), SK_OK);
    assert_int_equal(r.kept, 2);
    sk_dataset *d = open_dataset(at("rooted"));
    assert_string_equal(sk_dataset_sample(d, 0)->path, at("in/photos/b.png"));
    assert_string_equal(sk_dataset_sample(d, 0)->source, "photos");
    assert_string_equal(sk_dataset_sample(d, 1)->source, "photos"); /* a class is no source */
    sk_dataset_close(d);
}

/* A dataset that holds its pictures can be moved with them and keeps its cache. */
static void a_moved_dataset_needs_nothing_new(void **state)
{
    (void)state;
    const char *input = at("own/set/t.tsv");
    make_dir(at("own/set"));
    write_scene(at("own/set/a.jpg"), 41, 60, 60);
    write_scene(at("own/set/b.jpg"), 42, 60, 60);
    write_text(input, "path\tlabel\na.jpg\tbird\nb.jpg\tnobird\n");
    assert_int_equal(sk_dataset_import(&input, 1, at("own/set"), NULL, NULL, NULL, NULL), SK_OK);
    assert_int_equal(rename(at("own/set"), at("own/moved")), 0);
    sk_dataset *d = open_dataset(at("own/moved"));
    assert_string_equal(sk_dataset_sample(d, 0)->path, at("own/moved/a.jpg"));
    struct stat before, after;
    assert_int_equal(stat(at("own/moved/cache.skc"), &before), 0);
    sk_cache *cache = NULL;
    assert_int_equal(sk_cache_open(d, 0, 1, NULL, &cache, NULL, NULL), SK_OK);
    assert_int_equal(stat(at("own/moved/cache.skc"), &after), 0);
    assert_true(before.st_ino == after.st_ino);
    sk_cache_close(cache);
    sk_dataset_close(d);
}

/* ---- candidate frames --------------------------------------------------------------------------- */
static void frames_are_picked_once(void **state)
{
    (void)state;
    const char *clips[] = {at("in/feeder/videos/lively.mp4"), at("in/feeder/videos/still.mp4"),
                           at("in/photos/text.jpg")};
    sk_frames_options o = sk_frames_defaults();
    size_t picked = 0;
    o.per_clip = 5;
    log_text[0] = 0;
    assert_int_equal(sk_frames_pick(clips, 3, at("picked"), &o, &hooks, &picked, NULL), SK_OK);
    assert_in_range(picked, 6, 10);
    assert_non_null(strstr(log_text, "text.jpg"));
    sk_table table;
    assert_int_equal(sk_table_read(at("picked/frames.tsv"), &table, NULL), SK_OK);
    assert_int_equal(table.rows, picked);
    for (size_t i = 0; i < table.rows; i++) {
        sk_image image = {0};
        assert_string_equal(sk_table_cell(&table, i, sk_table_column(&table, "label")), "unknown");
        const char *name = sk_table_cell(&table, i, sk_table_column(&table, "picture"));
        assert_int_equal(sk_image_read(at("picked/%s", name), &image, NULL), SK_OK);
        assert_int_equal(image.width, 96);
        sk_image_free(&image);
    }
    sk_table_free(&table);
    sk_import_report r;
    sk_error err;
    assert_int_equal(import(at("picked/frames.tsv"), at("picked/set"), &r, &err), SK_OK);
    assert_int_equal(r.unknown, picked);
    assert_int_equal(sk_frames_pick(clips, 2, at("picked"), &o, NULL, NULL, &err), SK_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "may hold labels"));
}

/* ---- the shared data ---------------------------------------------------------------------------- */
static void the_shared_data_is_imported_as_it_is(void **state)
{
    (void)state;
    const char *shared = getenv("SISKIN_SHARED");
    if (!shared)
        shared = SK_SOURCE_DIR "/../shared";
    char photos[500], frames[500];
    snprintf(photos, sizeof photos, "%s/data/photos.tsv", shared);
    snprintf(frames, sizeof frames, "%s/data/feeder/frames.tsv", shared);
    if (!sk_path_exists(photos) || !sk_path_exists(frames)) {
        print_message("left out: %s is not there\n", photos);
        skip();
    }
    const char *inputs[] = {photos, frames};
    sk_import_report r;
    sk_check_report c;
    sk_error err = {0};
    const double start = sk_now();
    if (sk_dataset_import(inputs, 2, at("shared"), NULL, NULL, &r, &err) != SK_OK)
        fail_msg("%s", err.message);
    const double end = sk_now();
    assert_int_equal(r.rows, 10503 + 416);
    assert_int_equal(r.bad, 0);
    assert_int_equal(r.unknown, 10);
    assert_int_equal(r.clips, 19);
    assert_in_range(r.birds, 4700 + 3 * 19 - 5, 4700 + 4 * 19);
    assert_in_range(r.nobirds, 5803 + 18, 5803 + 2 * 19);
    assert_int_equal(split_clips(at("shared"), SIX_TWO_TWO, 1, NULL), SK_OK);
    const double check_start = sk_now();
    assert_int_equal(sk_dataset_check(at("shared"), NULL, &c, &err), SK_OK);
    print_message("import and cache %.1f s, check %.2f s, %zu look-alike pairs of the feeder's frames\n", end - start,
                  sk_now() - check_start, c.same_camera_pairs);
    assert_true(c.counts[SK_SPLIT_TEST][2] >= 123 && c.counts[SK_SPLIT_TEST][1] >= 77);
    assert_true(c.counts[SK_SPLIT_VAL][2] > 0 && c.counts[SK_SPLIT_VAL][1] > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(broken_tables_are_told_with_their_line),
        cmocka_unit_test(a_table_of_any_bytes_does_no_harm),
        cmocka_unit_test(a_broken_dataset_is_told),
        cmocka_unit_test(all_forms_come_together),
        cmocka_unit_test(clips_give_few_unlike_frames),
        cmocka_unit_test(options_of_the_rule_hold),
        cmocka_unit_test(too_many_bad_files_end_the_import),
        cmocka_unit_test(broken_clips_are_left_out),
        cmocka_unit_test(contradictions_are_refused),
        cmocka_unit_test(a_dataset_can_be_imported_again),
        cmocka_unit_test(a_root_stands_for_the_tables_folder),
        cmocka_unit_test(a_moved_dataset_needs_nothing_new),
        cmocka_unit_test(frames_are_picked_once),
        cmocka_unit_test(the_shared_data_is_imported_as_it_is),
    };
    return cmocka_run_group_tests_name("data", tests, start, finish);
}
