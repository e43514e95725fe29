/* SPDX-License-Identifier: Apache-2.0 */
/* Datasets from outside: synthetic pictures and clips are imported, split, checked and cached; tables, files, memory,
 * disk and the process itself are broken on purpose. With the shared data beside the project, its counts must hold. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/base.h"
#include "data/data.h"
#include "data/table.h"
#include "siskin/video.h"

#ifndef SK_SOURCE_DIR
#define SK_SOURCE_DIR "."
#endif

static char work[64];
static char log_text[1 << 16];

static void keep_log(void *user, sk_log_level level, const char *text)
{
    (void)user;
    (void)level;
    const size_t used = strlen(log_text);
    snprintf(log_text + used, sizeof log_text - used, "%s\n", text);
}
static const sk_hooks hooks = {.log = keep_log};

/* A path in the work folder; valid to the end, since equal ones share a place. */
static const char *at(const char *format, ...)
{
    static char paths[400][160];
    char path[160];
    const int used = snprintf(path, sizeof path, "%s/", work);
    va_list args;
    va_start(args, format);
    vsnprintf(path + used, sizeof path - (size_t)used, format, args);
    va_end(args);
    for (int i = 0; i < 400; i++) {
        if (!paths[i][0])
            memcpy(paths[i], path, sizeof path);
        if (strcmp(paths[i], path) == 0)
            return paths[i];
    }
    fail_msg("too many paths");
    return NULL;
}

static void write_text(const char *path, const char *text)
{
    assert_int_equal(sk_file_write(path, text, strlen(text), NULL), SK_OK);
}

static char *read_text(const char *path)
{
    uint8_t *bytes = NULL;
    size_t size = 0;
    assert_int_equal(sk_file_read(path, &bytes, &size, NULL), SK_OK);
    return (char *)bytes;
}

static void make_dir(const char *path)
{
    assert_int_equal(sk_make_dirs(path, NULL), SK_OK);
}

/* Rectangles in random places and colours; another seed is another scene. */
static sk_image scene(uint64_t seed, int width, int height)
{
    sk_image image;
    assert_int_equal(sk_image_create(width, height, &image, NULL), SK_OK);
    sk_rng rng = sk_rng_make(seed, 1, 2);
    memset(image.data, (int)sk_rng_below(&rng, 256), (size_t)width * (size_t)height * 3);
    for (int i = 0; i < 25; i++) {
        const int w = width / 8 + (int)sk_rng_below(&rng, (uint32_t)width / 3);
        const int h = height / 8 + (int)sk_rng_below(&rng, (uint32_t)height / 3);
        const int x0 = (int)sk_rng_below(&rng, (uint32_t)(width - w));
        const int y0 = (int)sk_rng_below(&rng, (uint32_t)(height - h));
        const uint64_t color = sk_rng_next(&rng);
        for (int y = y0; y < y0 + h; y++)
            for (int x = x0; x < x0 + w; x++)
                memcpy(image.data + ((size_t)y * (size_t)width + (size_t)x) * 3, &color, 3);
    }
    return image;
}

static void write_scene(const char *path, uint64_t seed, int width, int height)
{
    sk_image image = scene(seed, width, height);
    assert_int_equal(sk_image_write(path, &image, 90, NULL), SK_OK);
    sk_image_free(&image);
}

/* 12 frames a second; `seeds[i]` is shown for half a second, 0 goes on showing the one before. */
static void write_clip(const char *path, const uint64_t *seeds, size_t count)
{
    sk_video_writer *writer = NULL;
    sk_image image = {0};
    assert_int_equal(sk_video_writer_open(path, 96, 64, 12, &writer, NULL), SK_OK);
    for (size_t i = 0; i < count; i++) {
        if (seeds[i] || !image.data) {
            sk_image_free(&image);
            image = scene(seeds[i], 96, 64);
        }
        for (int k = 0; k < 6; k++)
            assert_int_equal(sk_video_writer_add(writer, &image, NULL), SK_OK);
    }
    sk_image_free(&image);
    assert_int_equal(sk_video_writer_close(writer, NULL), SK_OK);
}

static sk_dataset *open_dataset(const char *dir)
{
    sk_dataset *d = NULL;
    sk_error err = {0};
    if (sk_dataset_open(dir, &d, &err) != SK_OK)
        fail_msg("%s", err.message);
    return d;
}

static const sk_sample *find(const sk_dataset *d, const char *end_of_path, int64_t frame)
{
    for (size_t i = 0; i < sk_dataset_size(d); i++) {
        const sk_sample *s = sk_dataset_sample(d, i);
        if (sk_has_suffix(s->path, end_of_path) && s->frame == frame)
            return s;
    }
    return NULL;
}

static sk_status import(const char *input, const char *dir, sk_import_report *report, sk_error *err)
{
    sk_import_options options = sk_import_defaults();
    memset(err, 0, sizeof *err);
    log_text[0] = 0;
    return sk_dataset_import(&input, 1, dir, &options, &hooks, report, err);
}

/* ---- tables ------------------------------------------------------------------------------------------------------- */
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
        {"path\tlabel\trole\na.jpg\tbird\tguest\n", ":2: role `guest` is not one of train (web), test (held-out), clip"},
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
    } cases[] = {{"a.jpg\t\t\tbird\ts\tg\tweb\ttrain\n", NULL},
                 {"a.jpg\tx\t\tbird\ts\tg\tweb\ttrain\n", ":2: frame `x` is not a frame number from 0 on (empty: a picture)"},
                 {"a.jpg\t\t\tbird\ts\t\tweb\ttrain\n", ":2: path, source and group must not be empty"},
                 {"a.jpg\t\t\tbird\ts\tg\ttrain\ttrain\n", ":2: role `train` is not one of clip, web, held-out"},
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

/* ---- import ---------------------------------------------------------------------------------------------------------- */
/* A feeder with a clip of changing scenes and one that stands still, a photo table, a folder per class, broken files. */
static void make_inputs(void)
{
    static const uint64_t lively[] = {11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22}, still[12] = {31};
    char table[4000] = "video\tframe\ttime_s\tlabel\n";
    make_dir(at("in/feeder/videos"));
    make_dir(at("in/photos/bird"));
    make_dir(at("in/classes/bird/wren"));
    make_dir(at("in/classes/no-bird"));
    write_clip(at("in/feeder/videos/lively.mp4"), lively, 12);
    write_clip(at("in/feeder/videos/still.mp4"), still, 12);
    for (int i = 0; i < 24; i++)
        snprintf(table + strlen(table), sizeof table - strlen(table), "lively.mp4\t%d\t%.3f\t%s\n", i * 3 + 1,
                 (i * 3 + 1) / 12.0, i == 7 ? "unknown" : i % 3 ? "bird" : "nobird");
    for (int i = 0; i < 12; i++)
        snprintf(table + strlen(table), sizeof table - strlen(table), "still.mp4\t%d\t%.3f\tnobird\n", i * 6,
                 i * 6 / 12.0);
    write_text(at("in/feeder/frames.tsv"), table);
    write_scene(at("in/photos/bird/a.jpg"), 101, 90, 70);
    write_scene(at("in/photos/b.png"), 102, 60, 90);
    write_scene(at("in/photos/c.jpg"), 103, 80, 80);
    write_text(at("in/photos/text.jpg"), "this is no picture");
    write_text(at("in/photos/empty.jpg"), "");
    char *whole = read_text(at("in/photos/c.jpg"));
    assert_int_equal(sk_file_write(at("in/photos/cut.jpg"), whole, 300, NULL), SK_OK);
    sk_free(whole);
    write_text(at("in/photos.tsv"), "\xef\xbb\xbfpath\tlabel\tsource\tgroup\trole\r\n"
                                    "photos/bird/a.jpg\tbird\tshop\twren\ttrain\r\n"
                                    "photos/b.png\tnobird\tgarden\t\ttest\r\n"
                                    "photos/c.jpg\tunknown\tgarden\t\t\r\n"
                                    "photos/text.jpg\tbird\tshop\twren\ttrain\r\n"
                                    "photos/empty.jpg\tbird\tshop\twren\ttrain\r\n"
                                    "photos/cut.jpg\tbird\tshop\twren\ttrain\r\n"
                                    "photos/gone.jpg\tbird\tshop\twren\ttrain\r\n");
    write_scene(at("in/classes/bird/d.jpg"), 104, 70, 60);
    write_scene(at("in/classes/bird/wren/e.jpg"), 105, 70, 60);
    write_scene(at("in/classes/no-bird/f.png"), 106, 70, 60);
}

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
    write_text(at("broken/t.tsv"), "path\tframe\tlabel\nvideos/text.mp4\t0\tbird\nvideos/short.mp4\t3\tbird\n"
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
    assert_int_equal(sk_dataset_split(at("all"), (const double[]){6, 2, 2}, 5, NULL), SK_OK);
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

/* ---- candidate frames ---------------------------------------------------------------------------------------------------- */
static void frames_are_picked_once(void **state)
{
    (void)state;
    const char *clips[] = {at("in/feeder/videos/lively.mp4"), at("in/feeder/videos/still.mp4"), at("in/photos/text.jpg")};
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

/* ---- split -------------------------------------------------------------------------------------------------------------------- */
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
        assert_int_equal(sk_dataset_split(at("random"), parts, seed, NULL), SK_OK);
        sk_dataset *a = open_dataset(at("random"));
        check_split_rules(a, clips, parts);
        random_dataset(at("random"), seed, 2, &clips);
        assert_int_equal(sk_dataset_split(at("random"), parts, seed, NULL), SK_OK);
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
        assert_int_equal(sk_dataset_split(at("strata"), (const double[]){6, 2, 2}, seed, NULL), SK_OK);
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
    assert_int_equal(sk_dataset_split(at("strata"), (const double[]){0, 0, 0}, 1, &err), SK_ERR_ARGUMENT);
    assert_int_equal(sk_dataset_split(at("strata"), (const double[]){1, -1, 1}, 1, &err), SK_ERR_ARGUMENT);
    assert_int_equal(sk_dataset_split(at("strata"), (const double[]){1, NAN, 1}, 1, &err), SK_ERR_ARGUMENT);
}

/* ---- check ---------------------------------------------------------------------------------------------------------------------- */
static void write_dataset(const char *name, const char *rows)
{
    char *text = sk_format("path\tframe\ttime_s\tlabel\tsource\tgroup\trole\tsplit\n%s", rows);
    assert_non_null(text);
    make_dir(at("%s", name));
    write_text(at("%s/dataset.tsv", name), text);
    sk_free(text);
}

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
    assert_int_equal(r.near_duplicates + r.groups_in_two_splits + r.web_outside_train + r.heldout_outside_test, 0);
    assert_int_equal(r.counts[SK_SPLIT_TEST][2], 1);

    write_dataset("leak", "p0.jpg\t\t\tbird\ta\ta\tweb\ttrain\np1.jpg\t\t\tnobird\ta\ta\tweb\ttrain\n"
                          "p2.jpg\t\t\tbird\tb\tb/1\tclip\tval\np3.jpg\t\t\tnobird\tb\tb/1\tclip\ttest\n"
                          "p4.jpg\t\t\tbird\td\td\tweb\tval\np5.jpg\t\t\tnobird\te\te\theld-out\ttrain\n"
                          "gone.jpg\t\t\tnobird\te\tf\tclip\ttrain\n"
                          "p6.jpg\t\t\tunknown\ta\ta\tweb\ttest\n" /* not used: no leak */
                          "p20.jpg\t\t\tbird\tc\tc\theld-out\ttest\np21.png\t\t\tnobird\tc\tc\theld-out\ttest\n");
    assert_int_equal(check("leak", &r), SK_ERR_DATA);
    assert_int_equal(r.near_duplicates, 2);
    assert_int_equal(r.groups_in_two_splits, 1);
    assert_int_equal(r.web_outside_train, 1);
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

static void a_fixed_camera_is_no_leak(void **state)
{
    (void)state;
    sk_check_report r;
    static const uint64_t same[] = {300, 0};
    make_dir(at("camera"));
    write_clip(at("camera/a.mp4"), same, 2);
    write_clip(at("camera/b.mp4"), same, 2);
    write_dataset("camera", "a.mp4\t1\t\tbird\tcam\tcam/a\tclip\ttrain\nb.mp4\t1\t\tbird\tcam\tcam/b\tclip\ttest\n");
    assert_int_equal(check("camera", &r), SK_OK);
    assert_int_equal(r.same_camera_pairs, 1);
    assert_int_equal(r.near_duplicates, 0);
    write_dataset("camera", "a.mp4\t1\t\tbird\tcam\tcam/a\tclip\ttrain\nb.mp4\t1\t\tbird\tother\tother/b\tclip\ttest\n");
    assert_int_equal(check("camera", &r), SK_ERR_DATA);
    assert_int_equal(r.near_duplicates, 1);
}

/* ---- cache ---------------------------------------------------------------------------------------------------------------------- */
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

/* Any byte of the part that is used for addressing may be wrong, and the file may end anywhere. */
static void a_damaged_cache_is_built_anew(void **state)
{
    (void)state;
    sk_dataset *d = open_dataset(at("all"));
    const char *file = at("all/cache.skc");
    sk_cache_close(open_cache(d, 2));
    uint8_t *good = NULL;
    size_t size = 0;
    assert_int_equal(sk_file_read(file, &good, &size, NULL), SK_OK);
    sk_rng rng = sk_rng_make(9, 9, 9);
    for (int round = 0; round < 60; round++) {
        uint8_t *bad = sk_alloc(size, 1);
        assert_non_null(bad);
        memcpy(bad, good, size);
        size_t length = size;
        if (round % 3 == 0)
            length = sk_rng_below(&rng, (uint32_t)size);
        else
            bad[size - 1 - sk_rng_below(&rng, round % 3 == 1 ? 72 : 1200)] ^= (uint8_t)(1 + sk_rng_below(&rng, 255));
        assert_int_equal(sk_file_write(file, bad, length, NULL), SK_OK);
        sk_free(bad);
        sk_cache *cache = open_cache(d, 2);
        for (size_t i = 0; i < sk_dataset_size(d); i++) {
            sk_image image;
            sk_cache_image(cache, i, &image);
            if (sk_dataset_sample(d, i)->label == SK_LABEL_UNKNOWN)
                continue;
            assert_non_null(image.data);
            assert_true(image.data + (size_t)image.width * (size_t)image.height * 3 <=
                        cache->file.map.bytes + cache->file.map.size);
        }
        sk_cache_close(cache);
    }
    sk_free(good);
    sk_dataset_close(d);
}

/* ---- failing memory, failing disk, killed process ------------------------------------------------------------------------------ */
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
        sk_status status = sk_dataset_check(at("leak"), NULL, &r, NULL);
        if (status == SK_OK)
            status = sk_dataset_split(at("random"), (const double[]){6, 2, 2}, 1, NULL);
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

/* ---- the shared data ------------------------------------------------------------------------------------------------------------ */
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
    assert_int_equal(sk_dataset_split(at("shared"), (const double[]){6, 2, 2}, 1, NULL), SK_OK);
    const double check_start = sk_now();
    assert_int_equal(sk_dataset_check(at("shared"), NULL, &c, &err), SK_OK);
    print_message("import and cache %.1f s, check %.2f s, %zu look-alike pairs of the feeder's frames\n", end - start,
                  sk_now() - check_start, c.same_camera_pairs);
    assert_true(c.counts[SK_SPLIT_TEST][2] >= 123 && c.counts[SK_SPLIT_TEST][1] >= 77);
    assert_true(c.counts[SK_SPLIT_VAL][2] > 0 && c.counts[SK_SPLIT_VAL][1] > 0);
}

static int start(void **state)
{
    (void)state;
    snprintf(work, sizeof work, "/tmp/siskin-data-XXXXXX");
    if (!mkdtemp(work))
        return 1;
    make_inputs();
    return 0;
}

static int finish(void **state)
{
    (void)state;
    char command[100];
    snprintf(command, sizeof command, "rm -rf '%s'", work);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_kill_while_building_costs_nothing),
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
        cmocka_unit_test(frames_are_picked_once),
        cmocka_unit_test(splits_keep_groups_together),
        cmocka_unit_test(splits_are_stratified),
        cmocka_unit_test(planted_leaks_are_found),
        cmocka_unit_test(duplicates_can_be_taken_out),
        cmocka_unit_test(a_fixed_camera_is_no_leak),
        cmocka_unit_test(the_cache_holds_what_decoding_gives),
        cmocka_unit_test(the_cache_rebuilds_what_changed),
        cmocka_unit_test(a_damaged_cache_is_built_anew),
        cmocka_unit_test(every_failed_allocation_is_survived),
        cmocka_unit_test(a_full_disk_costs_nothing),
        cmocka_unit_test(cancelling_stops),
        cmocka_unit_test(the_shared_data_is_imported_as_it_is),
    };
    return cmocka_run_group_tests_name("data", tests, start, finish);
}
