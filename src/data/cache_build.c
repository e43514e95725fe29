/* SPDX-License-Identifier: Apache-2.0 */
/* Building side of the decoded cache. Pictures are decoded in parallel, a batch at a time, and written in order, so
 * that the same pictures give the same file; a clip is decoded in one pass for all its frames. The new file is written
 * aside and takes the old one's place only when complete: whatever happens before, the old cache stands. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "data/data.h"
#include "siskin/video.h"

#define BATCH_PICTURES 128
/* A strip of a million by one pixels would grow to gigabytes at a shorter side of 256. */
#define MAX_ASPECT 16

typedef struct picture {
    size_t sample; /* the first sample that shows it */
    sk_cache_entry entry;
    sk_thumb thumb;
    sk_image image; /* until written */
    int ready;
} picture;

/* One file to decode and what is wanted of it. */
typedef struct job {
    picture *pictures; /* of one file, by frame */
    size_t count;
    sk_status status;
    sk_error error;
} job;

typedef struct builder {
    const sk_dataset *dataset;
    const sk_hooks *hooks;
    char *path;
    sk_cache_file old;
    size_t *order;
    uint64_t *keys; /* by sample */
    struct source {
        uint64_t size;
        int64_t mtime_ns;
        int state; /* 0 not wanted, 1 to decode, 2 fresh, 3 unreadable */
    } * sources;
    picture *pictures;
    size_t picture_count;
    job *jobs;
    size_t job_count;
    sk_output *output;
    uint64_t position;
    picture *written; /* what stands in the new file: entry and thumbnail */
    size_t written_count;
    size_t bad;
    size_t max_bad;
    int threads;
} builder;

/* ---- decoding ----------------------------------------------------------------------------------- */
static sk_status finish_picture(const sk_image *full, const char *name, picture *p, sk_error *err)
{
    const int shorter = full->width < full->height ? full->width : full->height;
    const int longer = full->width < full->height ? full->height : full->width;
    if (shorter < 1 || longer / shorter >= MAX_ASPECT)
        return sk_fail(err, SK_ERR_FORMAT, "cannot use %s: %dx%d is more than %d times as long as wide", name,
                       full->width, full->height, MAX_ASPECT);
    sk_status status = sk_image_resize_shorter(full, SK_CACHE_SIDE, &p->image, err);
    if (status == SK_OK)
        status = sk_thumb_make(&p->image, &p->thumb, &p->entry.phash, err);
    p->entry.width = (uint32_t)p->image.width;
    p->entry.height = (uint32_t)p->image.height;
    p->ready = status == SK_OK;
    return status;
}

static sk_status decode_clip(const char *path, job *j)
{
    sk_video *video = NULL;
    sk_image frame = {0};
    size_t next = 0;
    int64_t index = -1, last = -1;
    sk_status status = sk_video_open(path, &video, NULL, &j->error);
    while (status == SK_OK && next < j->count) {
        picture *p = &j->pictures[next];
        /* The colours of frames that nobody wants are not worked out. */
        const int wanted = p->entry.offset == (uint64_t)(last + 1);
        status = sk_video_next(video, wanted ? &frame : NULL, &index, NULL, &j->error);
        if (status != SK_OK || index < 0)
            break;
        last = index;
        if (p->entry.offset == (uint64_t)index) { /* the frame's number, until the place in the file is known */
            status = finish_picture(&frame, path, p, &j->error);
            next++;
        }
    }
    if (status == SK_OK && next < j->count)
        status = sk_fail(&j->error, SK_ERR_FORMAT, "cannot read frame %llu of %s: the clip ends after %lld frames",
                         (unsigned long long)j->pictures[next].entry.offset, path, (long long)last + 1);
    sk_image_free(&frame);
    sk_video_close(video);
    return status;
}

static void decode(const builder *b, job *j)
{
    const sk_sample *sample = &b->dataset->samples[j->pictures[0].sample];
    if (sample->frame >= 0) {
        j->status = decode_clip(sample->path, j);
        return;
    }
    sk_image full = {0};
    j->status = sk_image_read(sample->path, &full, &j->error);
    if (j->status == SK_OK)
        j->status = finish_picture(&full, sample->path, &j->pictures[0], &j->error);
    sk_image_free(&full);
}

/* ---- what is there, what is missing ------------------------------------------------------------- */
static sk_status count_bad(builder *b, const char *text, sk_error *err)
{
    sk_log(b->hooks, SK_LOG_WARNING, "left out: %s", text);
    b->bad++;
    if (b->bad > b->max_bad)
        return sk_fail(err, SK_ERR_DATA,
                       "more than %zu files cannot be read (last: %s): see to them or raise --max-bad", b->max_bad,
                       text);
    return SK_OK;
}

/* Finds the state of every sample; files that are not there are told here. */
static sk_status look(builder *b, sk_error *err)
{
    const sk_dataset *d = b->dataset;
    struct source found = {0};
    const char *found_path = NULL;
    for (size_t k = 0; k < d->size; k++) {
        const size_t i = b->order[k];
        const sk_sample *s = &d->samples[i];
        if (s->label == SK_LABEL_UNKNOWN)
            continue;
        if (!found_path || strcmp(found_path, s->path)) {
            struct stat info;
            found_path = s->path;
            found = (struct source){.state = 3};
            if (stat(s->path, &info) == 0 && S_ISREG(info.st_mode)) {
                found = (struct source){(uint64_t)info.st_size,
                                        (int64_t)info.st_mtim.tv_sec * 1000000000 + info.st_mtim.tv_nsec, 1};
            } else {
                char *text = sk_format("cannot read %s: no such file", s->path);
                const sk_status status = text ? count_bad(b, text, err) : sk_fail_memory(err, "a message");
                sk_free(text);
                if (status != SK_OK)
                    return status;
            }
        }
        b->sources[i] = found;
        b->keys[i] = sk_cache_key(d, s);
        if (found.state != 1)
            continue;
        const sk_cache_entry *e = sk_cache_find(&b->old, b->keys[i]);
        if (e && e->file_size == found.size && e->mtime_ns == found.mtime_ns)
            b->sources[i].state = 2;
    }
    return SK_OK;
}

static sk_status plan(builder *b, sk_error *err)
{
    const sk_dataset *d = b->dataset;
    b->pictures = sk_calloc(d->size + 1, sizeof *b->pictures);
    b->written = sk_calloc(d->size + 1, sizeof *b->written);
    b->jobs = sk_calloc(d->size + 1, sizeof *b->jobs);
    if (!b->pictures || !b->jobs || !b->written)
        return sk_fail_memory(err, "the cache's index");
    const sk_sample *last = NULL;
    for (size_t k = 0; k < d->size; k++) {
        const size_t i = b->order[k];
        const sk_sample *s = &d->samples[i];
        if (b->sources[i].state != 1)
            continue;
        const int same_file = last && strcmp(last->path, s->path) == 0 && (last->frame < 0) == (s->frame < 0);
        if (same_file && last->frame == s->frame)
            continue;
        picture *p = &b->pictures[b->picture_count++];
        p->sample = i;
        p->entry = (sk_cache_entry){.key = b->keys[i],
                                    .file_size = b->sources[i].size,
                                    .mtime_ns = b->sources[i].mtime_ns,
                                    .offset = (uint64_t)s->frame};
        if (!same_file)
            b->jobs[b->job_count++].pictures = p;
        b->jobs[b->job_count - 1].count++;
        last = s;
    }
    return SK_OK;
}

/* ---- writing ------------------------------------------------------------------------------------ */
static void write_padded(builder *b, const void *bytes, size_t size)
{
    static const uint8_t zeros[SK_CACHE_ALIGN];
    sk_output_write(b->output, bytes, size);
    const size_t odd = size % SK_CACHE_ALIGN;
    if (odd)
        sk_output_write(b->output, zeros, SK_CACHE_ALIGN - odd);
    b->position += size + (odd ? SK_CACHE_ALIGN - odd : 0);
}

static void write_picture(builder *b, const sk_cache_entry *entry, const sk_thumb *thumb, const uint8_t *pixels)
{
    picture *w = &b->written[b->written_count++];
    w->entry = *entry;
    w->entry.offset = b->position;
    w->thumb = *thumb;
    write_padded(b, pixels, (size_t)entry->width * entry->height * 3);
}

/* Starts the new file with the pictures that are still good. */
static sk_status start_file(builder *b, sk_error *err)
{
    const sk_status status = sk_output_open(b->path, &b->output, err);
    if (status != SK_OK)
        return status;
    write_padded(b, sk_cache_magic, sizeof sk_cache_magic);
    uint64_t last_key = 0;
    for (size_t k = 0; k < b->dataset->size; k++) {
        const size_t i = b->order[k];
        if (b->sources[i].state != 2 || (b->written_count && b->keys[i] == last_key))
            continue;
        const sk_cache_entry *e = sk_cache_find(&b->old, b->keys[i]);
        last_key = b->keys[i];
        write_picture(b, e, &b->old.thumbs[e - b->old.entries], b->old.map.bytes + e->offset);
    }
    return SK_OK;
}

static int compare_written(const void *a, const void *b)
{
    const picture *x = a, *y = b;
    return (x->entry.key > y->entry.key) - (x->entry.key < y->entry.key);
}

static sk_status finish_file(builder *b, sk_error *err)
{
    sk_cache_entry *index = sk_alloc(b->written_count + 1, sizeof *index);
    if (!index)
        return sk_fail_memory(err, "the cache's index");
    qsort(b->written, b->written_count, sizeof *b->written, compare_written);
    sk_cache_footer end = {.version = SK_CACHE_VERSION,
                           .endian = SK_CACHE_ENDIAN,
                           .side = SK_CACHE_SIDE,
                           .thumbs_offset = b->position,
                           .count = b->written_count,
                           .index_offset = b->position + b->written_count * sizeof(sk_thumb)};
    memcpy(end.magic, sk_cache_magic, sizeof end.magic);
    for (size_t i = 0; i < b->written_count; i++) {
        index[i] = b->written[i].entry;
        sk_output_write(b->output, &b->written[i].thumb, sizeof(sk_thumb));
    }
    const size_t size = b->written_count * sizeof *index;
    end.index_hash = sk_hash_bytes(index, size);
    sk_output_write(b->output, index, size);
    sk_output_write(b->output, &end, sizeof end);
    sk_output *output = b->output;
    b->output = NULL;
    sk_free(index);
    return sk_output_commit(output, err);
}

/* ---- the run ------------------------------------------------------------------------------------ */
/* Writes or tells what a decoded job brought. */
static sk_status take_job(builder *b, job *j, sk_error *err)
{
    sk_status status = SK_OK;
    if (j->status == SK_ERR_MEMORY)
        status = sk_fail(err, SK_ERR_MEMORY, "%s", j->error.message);
    for (size_t i = 0; i < j->count; i++) {
        picture *p = &j->pictures[i];
        if (p->ready && status == SK_OK) {
            if (!b->output)
                status = start_file(b, err);
            if (status == SK_OK)
                write_picture(b, &p->entry, &p->thumb, p->image.data);
        } else if (!p->ready) {
            b->sources[p->sample].state = 3;
        }
        sk_image_free(&p->image);
    }
    if (status == SK_OK && j->status != SK_OK)
        status = count_bad(b, j->error.message, err);
    return status;
}

static sk_status decode_all(builder *b, sk_error *err)
{
    sk_status status = SK_OK;
    size_t done = 0;
    for (size_t first = 0; status == SK_OK && first < b->job_count;) {
        size_t end = first, pictures = 0;
        while (end < b->job_count && pictures < BATCH_PICTURES)
            pictures += b->jobs[end++].count;
#pragma omp parallel for schedule(dynamic) num_threads(b->threads)
        for (size_t k = first; k < end; k++)
            decode(b, &b->jobs[k]);
        for (size_t k = first; k < end; k++) {
            if (status == SK_OK)
                status = take_job(b, &b->jobs[k], err);
            for (size_t i = 0; i < b->jobs[k].count; i++)
                sk_image_free(&b->jobs[k].pictures[i].image);
        }
        done += pictures;
        first = end;
        sk_progress(b->hooks, "cache", "pictures", done, b->picture_count);
        if (status == SK_OK && sk_cancelled(b->hooks))
            status = sk_fail(err, SK_ERR_CANCELLED, "stopped while building the cache; nothing is lost");
    }
    if (status == SK_OK && b->output)
        status = finish_file(b, err);
    return status;
}

/* Maps the finished file and finds every sample's picture in it. */
static sk_status map_file(builder *b, uint8_t *unreadable, sk_cache **out, sk_error *err)
{
    sk_cache *cache = sk_calloc(1, sizeof *cache);
    if (!cache)
        return sk_fail_memory(err, "the cache");
    cache->size = b->dataset->size;
    cache->by_sample = sk_calloc(cache->size + 1, sizeof *cache->by_sample);
    if (!cache->by_sample) {
        sk_free(cache);
        return sk_fail_memory(err, "the cache");
    }
    sk_cache_file_open(b->path, &cache->file, b->hooks);
    for (size_t i = 0; i < cache->size; i++) {
        const struct source *s = &b->sources[i];
        if (s->state == 0)
            continue;
        const sk_cache_entry *e = s->state == 3 ? NULL : sk_cache_find(&cache->file, b->keys[i]);
        cache->by_sample[i] = e && e->file_size == s->size && e->mtime_ns == s->mtime_ns ? e : NULL;
        if (unreadable)
            unreadable[i] = !cache->by_sample[i];
    }
    *out = cache;
    return SK_OK;
}

/* Two programs must not write the same file aside at once: the second waits and then finds the first one's work. The
 * kernel lets go of the lock whatever becomes of its holder. *lock may end up -1, where files cannot be locked. */
static sk_status take_lock(const builder *b, int *lock, sk_error *err)
{
    int told = 0;
    *lock = open(b->dataset->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    while (*lock >= 0 && flock(*lock, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR) {
            close(*lock);
            *lock = -1;
            break;
        }
        if (!told++)
            sk_log(b->hooks, SK_LOG_NOTE, "waiting for another program that builds the cache of %s", b->dataset->dir);
        if (sk_cancelled(b->hooks))
            return sk_fail(err, SK_ERR_CANCELLED, "stopped while waiting for the cache");
        nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    }
    return SK_OK;
}

sk_status sk_cache_open_flags(const sk_dataset *dataset, int max_bad, int threads, const sk_hooks *hooks,
                              uint8_t *unreadable, sk_cache **out, size_t *bad, sk_error *err)
{
    builder b = {.dataset = dataset,
                 .hooks = hooks,
                 .max_bad = max_bad < 0 ? 0 : (size_t)max_bad,
                 .threads = sk_thread_count(threads)};
    int lock = -1;
    *out = NULL;
    if (bad)
        *bad = 0;
    b.path = sk_path_join(dataset->dir, SK_CACHE_NAME);
    b.order = sk_dataset_order(dataset);
    b.keys = sk_calloc(dataset->size + 1, sizeof *b.keys);
    b.sources = sk_calloc(dataset->size + 1, sizeof *b.sources);
    sk_status status = b.path && b.order && b.keys && b.sources ? SK_OK : sk_fail_memory(err, "the cache's index");
    if (status == SK_OK)
        status = take_lock(&b, &lock, err);
    if (status == SK_OK) {
        sk_cache_file_open(b.path, &b.old, hooks);
        status = look(&b, err);
    }
    if (status == SK_OK)
        status = plan(&b, err);
    if (status == SK_OK && b.job_count)
        status = decode_all(&b, err);
    if (b.output)
        sk_output_abort(b.output);
    if (status == SK_OK)
        status = map_file(&b, unreadable, out, err);
    if (bad)
        *bad = b.bad;
    if (lock >= 0)
        close(lock);
    sk_cache_file_close(&b.old);
    sk_free(b.path);
    sk_free(b.order);
    sk_free(b.keys);
    sk_free(b.sources);
    sk_free(b.pictures);
    sk_free(b.written);
    sk_free(b.jobs);
    return status;
}
