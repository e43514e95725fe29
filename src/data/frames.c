/* SPDX-License-Identifier: Apache-2.0 */
/* Candidate frames of clips nobody has labelled yet: few per clip, unlike each other, written as pictures to look at
 * and as a table to fill in. A table that is there already may hold somebody's labels and is never replaced. */
#include <stdio.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#include "data/data.h"
#include "siskin/video.h"

/* A candidate about every quarter of a second; a long clip gets them further apart. */
#define STEP_S 0.25
#define MAX_CANDIDATES 20000

sk_frames_options sk_frames_defaults(void)
{
    return (sk_frames_options){.per_clip = 6, .min_gap_s = 0.5, .max_bad = 100};
}

typedef struct clip {
    char *path; /* absolute */
    char *name; /* of its pictures, without number and extension */
    sk_candidate *candidates;
    size_t count, capacity;
    sk_status status;
    sk_error error;
} clip;

static sk_status add_candidate(clip *c, const sk_image *frame, int64_t index, double time_s)
{
    if (c->count == c->capacity) {
        const size_t wanted = c->capacity ? c->capacity * 2 : 64;
        sk_candidate *grown = sk_realloc(c->candidates, c->capacity, wanted, sizeof *grown);
        if (!grown)
            return sk_fail_memory(&c->error, c->path);
        c->candidates = grown;
        c->capacity = wanted;
    }
    sk_candidate *to = &c->candidates[c->count];
    *to = (sk_candidate){.frame = index, .time_s = time_s};
    const sk_status status = sk_thumb_make(frame, &to->thumb, NULL, &c->error);
    c->count += status == SK_OK;
    return status;
}

/* Keeps every second candidate: a clip of hours needs no more memory than one of minutes. */
static void halve(clip *c)
{
    for (size_t i = 0; i < c->count; i += 2)
        c->candidates[i / 2] = c->candidates[i];
    c->count = (c->count + 1) / 2;
}

static sk_status find_candidates(clip *c)
{
    sk_video *video = NULL;
    sk_image frame = {0};
    double step = STEP_S, next = 0;
    sk_status status = sk_video_open(c->path, &video, NULL, &c->error);
    while (status == SK_OK) {
        int64_t index = -1;
        double time_s = 0;
        status = sk_video_next(video, &frame, &index, &time_s, &c->error);
        if (status != SK_OK || index < 0)
            break;
        if (time_s + 1e-9 < next)
            continue;
        status = add_candidate(c, &frame, index, time_s);
        next = time_s + step;
        if (c->count >= MAX_CANDIDATES) {
            halve(c);
            step *= 2;
        }
    }
    if (status == SK_OK && !c->count)
        status = sk_fail(&c->error, SK_ERR_FORMAT, "cannot use %s: the clip holds no frame", c->path);
    sk_image_free(&frame);
    sk_video_close(video);
    return status;
}

static char *picture_name(const clip *c, int64_t frame)
{
    return sk_format("frames/%s-%06lld.jpg", c->name, (long long)frame);
}

/* Second pass: the chosen frames as pictures. */
static sk_status write_pictures(clip *c, const char *dir)
{
    sk_video *video = NULL;
    sk_image frame = {0};
    size_t at = 0;
    int64_t index = -1;
    sk_status status = sk_video_open(c->path, &video, NULL, &c->error);
    while (status == SK_OK) {
        double time_s = 0;
        while (at < c->count && !c->candidates[at].chosen)
            at++;
        if (at == c->count)
            break;
        const int wanted = c->candidates[at].frame == index + 1;
        status = sk_video_next(video, wanted ? &frame : NULL, &index, &time_s, &c->error);
        if (status != SK_OK || index < 0)
            break;
        if (index != c->candidates[at].frame)
            continue;
        char *name = picture_name(c, index);
        char *path = name ? sk_path_join(dir, name) : NULL;
        status = path ? sk_image_write(path, &frame, 92, &c->error) : sk_fail_memory(&c->error, c->path);
        sk_free(name);
        sk_free(path);
        at++;
    }
    sk_image_free(&frame);
    sk_video_close(video);
    return status;
}

static void pick(clip *c, const char *dir, const sk_frames_options *options)
{
    c->status = find_candidates(c);
    /* What a broken clip still shows is worth labelling; it is told as broken all the same. */
    if (c->status == SK_ERR_MEMORY || !c->count)
        return;
    sk_choose(c->candidates, c->count, (size_t)options->per_clip, options->min_gap_s);
    const sk_status read = c->status;
    const sk_error read_error = c->error;
    c->status = write_pictures(c, dir);
    if (c->status == SK_OK && read != SK_OK) {
        c->status = read;
        c->error = read_error;
    }
}

/* Names of the pictures: the clip's own, with a number where two clips share it. */
static sk_status name_clips(clip *clips, size_t count, const char *const *paths, sk_error *err)
{
    for (size_t i = 0; i < count; i++) {
        const char *name = sk_path_name(paths[i]);
        const char *dot = strrchr(name, '.');
        const int length = (int)(dot && dot > name ? (size_t)(dot - name) : strlen(name));
        for (const char *p = paths[i]; *p; p++)
            if ((unsigned char)*p < 0x20 || *p == 0x7f)
                return sk_fail(err, SK_ERR_ARGUMENT,
                               "the name of clip %zu holds a control character, which a table cannot "
                               "hold: rename it",
                               i + 1);
        size_t before = 0;
        for (size_t k = 0; k < i; k++) {
            const char *other = sk_path_name(paths[k]);
            before += strncmp(other, name, (size_t)length) == 0 && (!other[length] || other[length] == '.');
        }
        clips[i].path = sk_path_clean(paths[i]);
        clips[i].name = before ? sk_format("%.*s.%zu", length, name, before + 1) : sk_format("%.*s", length, name);
        if (!clips[i].path || !clips[i].name)
            return sk_fail_memory(err, "the names of the clips");
    }
    return SK_OK;
}

static void add_rows(sk_text *text, const clip *c, const char *dir, size_t *picked)
{
    const size_t length = strlen(dir);
    const int below = strncmp(c->path, dir, length) == 0 && c->path[length] == '/';
    for (size_t i = 0; i < c->count; i++) {
        if (!c->candidates[i].chosen)
            continue;
        sk_text_add(text, "%s\t%lld\t%.3f\tunknown\tframes/%s-%06lld.jpg\n", below ? c->path + length + 1 : c->path,
                    (long long)c->candidates[i].frame, c->candidates[i].time_s, c->name,
                    (long long)c->candidates[i].frame);
        ++*picked;
    }
}

static int is_first_thread(void)
{
#ifdef _OPENMP
    return omp_get_thread_num() == 0;
#else
    return 1;
#endif
}

static sk_status pick_all(clip *clips, size_t count, const char *dir, const sk_frames_options *options,
                          const sk_hooks *hooks, sk_error *err)
{
    int stop = 0;
    unsigned long done = 0;
#pragma omp parallel for schedule(dynamic) num_threads(sk_thread_count(0))
    for (size_t i = 0; i < count; i++) {
        int stopped;
        unsigned long so_far;
#pragma omp atomic read
        stopped = stop;
        if (stopped)
            continue;
        pick(&clips[i], dir, options);
#pragma omp atomic capture
        so_far = ++done;
        if (is_first_thread()) {
            sk_progress(hooks, "pick frames", "clips", so_far, count);
            if (sk_cancelled(hooks)) {
#pragma omp atomic write
                stop = 1;
            }
        }
    }
    if (stop)
        return sk_fail(err, SK_ERR_CANCELLED, "stopped while picking frames; no table was written");
    size_t bad = 0;
    for (size_t i = 0; i < count; i++) {
        const clip *c = &clips[i];
        if (c->status == SK_ERR_MEMORY || (c->status == SK_ERR_IO && c->count))
            return sk_fail(err, c->status, "%s", c->error.message); /* out of memory, or a picture not written */
        if (c->status == SK_OK)
            continue;
        sk_log(hooks, SK_LOG_WARNING, "%s: %s", c->count ? "read in part" : "left out", c->error.message);
        if (++bad > (size_t)(options->max_bad < 0 ? 0 : options->max_bad))
            return sk_fail(err, SK_ERR_DATA,
                           "more than %d clips cannot be read (last: %s): see to them or raise --max-bad",
                           options->max_bad, c->error.message);
    }
    return SK_OK;
}

static sk_status prepare(const char *dir, const char *table, sk_error *err)
{
    if (sk_path_exists(table))
        return sk_fail(err, SK_ERR_ARGUMENT,
                       "%s is there already and may hold labels: choose another folder or move it "
                       "away",
                       table);
    char *pictures = sk_path_join(dir, "frames");
    const sk_status status = pictures ? sk_make_dirs(pictures, err) : sk_fail_memory(err, dir);
    sk_free(pictures);
    return status;
}

sk_status sk_frames_pick(const char *const *paths, size_t count, const char *dir, const sk_frames_options *options,
                         const sk_hooks *hooks, size_t *picked, sk_error *err)
{
    const sk_frames_options defaults = sk_frames_defaults();
    if (!options)
        options = &defaults;
    size_t total = 0;
    sk_text text = {0};
    if (picked)
        *picked = 0;
    if (!count || options->per_clip < 1)
        return sk_fail(err, SK_ERR_ARGUMENT, count ? "frames per clip must be 1 or more" : "no clips were given");
    clip *clips = sk_calloc(count, sizeof *clips);
    char *clean = sk_path_clean(dir);
    char *table = clean ? sk_path_join(clean, "frames.tsv") : NULL;
    sk_status status = clips && table ? name_clips(clips, count, paths, err) : sk_fail_memory(err, "the clips");
    if (status == SK_OK)
        status = prepare(clean, table, err);
    if (status == SK_OK)
        status = pick_all(clips, count, clean, options, hooks, err);
    if (status == SK_OK) {
        sk_text_add(&text, "video\tframe\ttime_s\tlabel\tpicture\n");
        for (size_t i = 0; i < count; i++)
            add_rows(&text, &clips[i], clean, &total);
        status = text.failed ? sk_fail_memory(err, table) : sk_file_write(table, text.data, text.size, err);
    }
    if (status == SK_OK && picked)
        *picked = total;
    for (size_t i = 0; clips && i < count; i++) {
        sk_free(clips[i].path);
        sk_free(clips[i].name);
        sk_free(clips[i].candidates);
    }
    sk_text_free(&text);
    sk_free(clips);
    sk_free(clean);
    sk_free(table);
    return status;
}
