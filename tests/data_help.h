/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of datasets share: a work folder, synthetic pictures and clips, a set of inputs with every form and
 * every kind of broken file. */
#ifndef SK_TESTS_DATA_HELP_H
#define SK_TESTS_DATA_HELP_H

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

/* A test need not call all of them. */
#define SK_HELPER static __attribute__((unused))

static char work[64];
static char log_text[1 << 16];

SK_HELPER void keep_log(void *user, sk_log_level level, const char *text)
{
    (void)user;
    (void)level;
    const size_t used = strlen(log_text);
    snprintf(log_text + used, sizeof log_text - used, "%s\n", text);
}
SK_HELPER const sk_hooks hooks = {.log = keep_log};

/* A path in the work folder; valid to the end, since equal ones share a place. */
SK_HELPER const char *at(const char *format, ...)
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

SK_HELPER void write_text(const char *path, const char *text)
{
    assert_int_equal(sk_file_write(path, text, strlen(text), NULL), SK_OK);
}

SK_HELPER char *read_text(const char *path)
{
    uint8_t *bytes = NULL;
    size_t size = 0;
    assert_int_equal(sk_file_read(path, &bytes, &size, NULL), SK_OK);
    return (char *)bytes;
}

SK_HELPER void make_dir(const char *path)
{
    assert_int_equal(sk_make_dirs(path, NULL), SK_OK);
}

/* Rectangles in random places and colours; another seed is another scene. */
SK_HELPER sk_image scene(uint64_t seed, int width, int height)
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

SK_HELPER void write_scene(const char *path, uint64_t seed, int width, int height)
{
    sk_image image = scene(seed, width, height);
    assert_int_equal(sk_image_write(path, &image, 90, NULL), SK_OK);
    sk_image_free(&image);
}

/* 12 frames a second; `seeds[i]` is shown for half a second, 0 goes on showing the one before. */
SK_HELPER void write_clip(const char *path, const uint64_t *seeds, size_t count)
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

static const double SIX_TWO_TWO[3] __attribute__((unused)) = {6, 2, 2};

SK_HELPER sk_status split_clips(const char *dir, const double parts[3], uint64_t seed, sk_error *err)
{
    const sk_split_options o = {.parts = {parts[0], parts[1], parts[2]}, .seed = seed};
    return sk_dataset_split(dir, &o, err);
}

SK_HELPER sk_dataset *open_dataset(const char *dir)
{
    sk_dataset *d = NULL;
    sk_error err = {0};
    if (sk_dataset_open(dir, &d, &err) != SK_OK)
        fail_msg("%s", err.message);
    return d;
}

SK_HELPER const sk_sample *find(const sk_dataset *d, const char *end_of_path, int64_t frame)
{
    for (size_t i = 0; i < sk_dataset_size(d); i++) {
        const sk_sample *s = sk_dataset_sample(d, i);
        if (sk_has_suffix(s->path, end_of_path) && s->frame == frame)
            return s;
    }
    return NULL;
}

SK_HELPER sk_status import(const char *input, const char *dir, sk_import_report *report, sk_error *err)
{
    sk_import_options options = sk_import_defaults();
    memset(err, 0, sizeof *err);
    log_text[0] = 0;
    return sk_dataset_import(&input, 1, dir, &options, &hooks, report, err);
}

/* A feeder with a clip of changing scenes and one that stands still, a photo table, a folder per class, broken files.
 */
SK_HELPER void make_inputs(void)
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
                 (i * 3 + 1) / 12.0,
                 i == 7  ? "unknown"
                 : i % 3 ? "bird"
                         : "nobird");
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

SK_HELPER void write_dataset(const char *name, const char *rows)
{
    char *text = sk_format("path\tframe\ttime_s\tlabel\tsource\tgroup\trole\tsplit\n%s", rows);
    assert_non_null(text);
    make_dir(at("%s", name));
    write_text(at("%s/dataset.tsv", name), text);
    sk_free(text);
}

SK_HELPER int start(void **state)
{
    (void)state;
    snprintf(work, sizeof work,
             "/tmp/siskin-data-XX" "XX" "XX");
    if (!mkdtemp(work))
        return 1;
    make_inputs();
    const char *inputs[] = {at("in/photos.tsv"), at("in/feeder/frames.tsv"), at("in/classes")};
    return sk_dataset_import(inputs, 3, at("all"), NULL, NULL, NULL, NULL) != SK_OK;
}

SK_HELPER int finish(void **state)
{
    (void)state;
    char command[100];
    snprintf(command, sizeof command, "rm -rf '%s'", work);
    return system(command);
}

#endif
