/* SPDX-License-Identifier: Apache-2.0 */
/* The runs of a sweep, some at a time, each in a thread that trains as sk_train does alone. The caller's thread
 * watches: it alone calls the hooks and writes the table. */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "siskin/report.h"
#include "sweep/sweep.h"

enum { WATCH_MS = 100, NOTES_MAX = 64 };

typedef struct note {
    sk_log_level level;
    char *text;
} note;

typedef struct crew {
    sk_sweep *sweep;
    const char *dir;
    int threads; /* of each run */
    pthread_mutex_t lock, drawing; /* lock: everything below */
    pthread_cond_t news;
    size_t next, busy, ended; /* runs */
    int stop, dirty;          /* dirty: the table has to be written */
    sk_status status;
    sk_error error;           /* what ends the sweep */
    note notes[NOTES_MAX];
    size_t note_count;
} crew;

/* A run and who trains it. */
typedef struct work {
    crew *crew;
    sk_sweep_record *run;
    uint64_t last; /* of the epoch, to see the next one begin */
} work;

/* ---- told by the threads --------------------------------------------------------------------------------------- */

/* Under the lock. A note that finds no room is not worth waiting for. */
static void add_note(crew *c, sk_log_level level, char *text) {
    if (text && c->note_count < NOTES_MAX) c->notes[c->note_count++] = (note){level, text};
    else sk_free(text);
}

static void on_log(void *user, sk_log_level level, const char *text) {
    const work *w = user;
    char *named = sk_format("%s: %s", w->run->name, text);
    pthread_mutex_lock(&w->crew->lock);
    add_note(w->crew, level, named);
    pthread_mutex_unlock(&w->crew->lock);
}

static int on_cancelled(void *user) {
    const work *w = user;
    pthread_mutex_lock(&w->crew->lock);
    const int stop = w->crew->stop;
    pthread_mutex_unlock(&w->crew->lock);
    return stop;
}

/* Of an epoch, or of the test pictures. */
static void on_progress(void *user, const char *stage, const char *unit, uint64_t done, uint64_t total) {
    work *w = user;
    if (strcmp(unit, "images") != 0) return;
    pthread_mutex_lock(&w->crew->lock);
    if (strncmp(stage, "epoch", 5) == 0) w->run->per_epoch = total;
    else if (done < w->last) w->run->finished += w->last; /* the next dataset */
    w->last = done;
    w->run->seen = w->run->finished + done;
    pthread_mutex_unlock(&w->crew->lock);
}

static void on_epoch(void *user, const sk_epoch_log *row) {
    work *w = user;
    (void)row;
    pthread_mutex_lock(&w->crew->lock);
    w->run->finished += w->run->per_epoch;
    w->run->seen = w->run->finished;
    w->last = 0;
    pthread_mutex_unlock(&w->crew->lock);
}

/* ---- one run ----------------------------------------------------------------------------------------------------- */

static int has_begun(const sk_sweep_record *run) {
    char *json = sk_path_join(run->dir, "run.json"), *state = sk_path_join(run->dir, "state.safetensors");
    const int begun = (json && sk_path_exists(json)) || (state && sk_path_exists(state));
    sk_free(json);
    sk_free(state);
    return begun;
}

static sk_status draw_curves(work *w, sk_error *err) {
    sk_epoch_log *log = NULL;
    size_t rows = 0;
    char *path = sk_path_join(w->run->dir, "curves");
    sk_status status = path ? sk_train_log_read(w->run->dir, &log, &rows, err) : sk_fail_memory(err, "a path");
    pthread_mutex_lock(&w->crew->drawing);
    if (status == SK_OK) status = sk_plot_curves(path, log, rows, err);
    pthread_mutex_unlock(&w->crew->drawing);
    sk_train_log_free(log);
    sk_free(path);
    return status;
}

static sk_status do_run(work *w, int *failed, sk_error *err) {
    const sk_sweep *sweep = w->crew->sweep;
    const sk_hooks hooks = {.user = w, .progress = on_progress, .log = on_log, .cancelled = on_cancelled};
    sk_train_options options = sweep->configs[w->run->config].options;
    options.seed = w->run->seed;
    options.threads = w->crew->threads;
    options.resume = has_begun(w->run);
    sk_status status = sk_train(sweep->dataset, w->run->dir, &options, &hooks, on_epoch, w, err);
    *failed = status == SK_ERR_DATA;
    if (status == SK_OK) status = draw_curves(w, err);
    if (status == SK_OK) status = sk_sweep_judge_run(sweep, w->run, &hooks, w->crew->threads, err);
    return status == SK_OK || *failed ? status : sk_error_prefix(err, status, "%s", w->run->name);
}

/* Under the lock. A loss that runs away is an outcome; anything else ends the sweep. */
static void take_outcome(crew *c, sk_sweep_record *run, sk_status status, int failed, const sk_error *err) {
    c->busy--;
    c->ended++;
    run->planned = run->seen;
    if (status == SK_OK) {
        run->state = SK_RUN_DONE;
        add_note(c, SK_LOG_NOTE,
                 sk_format("%s: val accuracy %.4f, loss %.4f, best of %d epochs is %d (%zu of %zu runs)", run->name,
                           run->values[SK_VAL_ACCURACY], run->values[SK_VAL_LOSS], run->epochs, run->best_epoch,
                           c->ended, c->sweep->run_count));
    } else if (failed) {
        run->state = SK_RUN_FAILED;
        run->error = sk_strdup(err->message);
        add_note(c, SK_LOG_WARNING, sk_format("%s: %s", run->name, err->message));
    } else {
        if (c->status == SK_OK || c->status == SK_ERR_CANCELLED) {
            c->status = status;
            c->error = *err;
        }
        c->stop = 1;
    }
    c->dirty = 1;
    pthread_cond_signal(&c->news);
}

static void *train_runs(void *user) {
    crew *c = user;
    pthread_mutex_lock(&c->lock);
    while (!c->stop && c->next < c->sweep->run_count) {
        work w = {.crew = c, .run = &c->sweep->runs[c->next++]};
        sk_error err = {0};
        int failed = 0;
        c->busy++;
        pthread_mutex_unlock(&c->lock);
        const sk_status status = do_run(&w, &failed, &err);
        pthread_mutex_lock(&c->lock);
        take_outcome(c, w.run, status, failed, &err);
    }
    pthread_cond_signal(&c->news);
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

/* ---- the watch ------------------------------------------------------------------------------------------------- */

/* Pictures that are still to be seen, so that the time left is that of the whole sweep. */
static void plan_pictures(sk_sweep *sweep) {
    uint64_t judged = 0;
    for (size_t i = 0; i < sweep->judge_count; i++) judged += sweep->judges[i].pictures;
    for (size_t r = 0; r < sweep->run_count; r++) {
        sk_sweep_record *run = &sweep->runs[r];
        const sk_train_options *o = &sweep->configs[run->config].options;
        sk_epoch_log *log = NULL;
        size_t rows = 0;
        uint64_t counts[2] = {0};
        for (size_t i = 0; i < sk_dataset_size(sweep->dataset); i++) {
            const sk_sample *s = sk_dataset_sample(sweep->dataset, i);
            if (s->label == SK_LABEL_UNKNOWN) continue;
            if (s->split == SK_SPLIT_TRAIN) counts[0] += s->frame >= 0 ? (uint64_t)o->clip_repeat : 1;
            else counts[1] += s->split == SK_SPLIT_VAL;
        }
        if (o->epoch_size) counts[0] = (uint64_t)o->epoch_size;
        if (has_begun(run)) sk_train_log_read(run->dir, &log, &rows, NULL);
        sk_train_log_free(log);
        run->before = (int)rows < o->epochs ? (int)rows : o->epochs;
        run->per_epoch = counts[0] + counts[1];
        run->planned = (uint64_t)(o->epochs - run->before) * run->per_epoch + judged;
    }
}

/* Under the lock, which it leaves for the caller's hooks. */
static void tell(crew *c, const sk_hooks *hooks) {
    note notes[NOTES_MAX];
    const size_t count = c->note_count;
    uint64_t seen = 0, planned = 0;
    memcpy(notes, c->notes, count * sizeof *notes);
    c->note_count = 0;
    for (size_t i = 0; i < c->sweep->run_count; i++) {
        const sk_sweep_record *run = &c->sweep->runs[i];
        seen += run->seen;
        planned += run->planned > run->seen ? run->planned : run->seen;
    }
    pthread_mutex_unlock(&c->lock);
    for (size_t i = 0; i < count; i++) {
        sk_log(hooks, notes[i].level, "%s", notes[i].text);
        sk_free(notes[i].text);
    }
    sk_progress(hooks, "sweep", "images", seen, planned);
    pthread_mutex_lock(&c->lock);
}

/* A table that cannot be written ends the sweep: nobody would see what the night has brought. */
static void write_table(crew *c) {
    sk_error err = {0};
    size_t done, failed, total;
    c->dirty = 0;
    sk_sweep_counts(c->sweep, &done, &failed, &total);
    if (done + failed == 0) return;
    const sk_status status = sk_sweep_write_table(c->sweep, c->dir, &err);
    if (status == SK_OK) return;
    c->stop = 1;
    if (c->status != SK_OK && c->status != SK_ERR_CANCELLED) return;
    c->status = status;
    c->error = err;
}

static void watch(crew *c, const sk_hooks *hooks) {
    pthread_mutex_lock(&c->lock);
    while (c->busy || (!c->stop && c->next < c->sweep->run_count)) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += WATCH_MS * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000L;
        until.tv_nsec %= 1000000000L;
        pthread_cond_timedwait(&c->news, &c->lock, &until);
        if (sk_cancelled(hooks)) c->stop = 1;
        if (c->dirty) write_table(c);
        tell(c, hooks);
    }
    if (c->dirty) write_table(c);
    tell(c, hooks);
    pthread_mutex_unlock(&c->lock);
}

static sk_status run_all(crew *c, int jobs, const sk_hooks *hooks, sk_error *err) {
    pthread_t *threads = sk_calloc((size_t)jobs, sizeof *threads);
    int started = 0;
    if (!threads) return sk_fail_memory(err, "the runs");
    pthread_mutex_init(&c->lock, NULL);
    pthread_mutex_init(&c->drawing, NULL);
    pthread_cond_init(&c->news, NULL);
    while (started < jobs && pthread_create(&threads[started], NULL, train_runs, c) == 0) started++;
    if (started) watch(c, hooks);
    for (int i = 0; i < started; i++) pthread_join(threads[i], NULL);
    pthread_cond_destroy(&c->news);
    pthread_mutex_destroy(&c->drawing);
    pthread_mutex_destroy(&c->lock);
    sk_free(threads);
    return started ? SK_OK : sk_fail(err, SK_ERR_MEMORY, "cannot start a thread to train in");
}

/* ---- the sweep ------------------------------------------------------------------------------------------------- */

static sk_status outcome(const crew *c, sk_error *err) {
    const size_t count = c->sweep->run_count;
    size_t done, failed, total;
    sk_sweep_counts(c->sweep, &done, &failed, &total);
    if (c->status == SK_ERR_CANCELLED || (c->status == SK_OK && done + failed < count))
        return sk_fail(err, SK_ERR_CANCELLED, "stopped after %zu of %zu runs; the same call goes on with %s",
                       done + failed, count, c->dir);
    if (c->status != SK_OK) {
        if (err) *err = c->error;
        return c->status;
    }
    if (failed == count)
        return sk_fail(err, SK_ERR_DATA, "every run has failed, the first with: %s",
                       c->sweep->runs[0].error ? c->sweep->runs[0].error : "an unknown error");
    return SK_OK;
}

sk_status sk_sweep_run(sk_sweep *sweep, const char *dataset, const char *dir, int jobs, const sk_hooks *hooks,
                       sk_error *err) {
    crew c = {.sweep = sweep, .dir = dir};
    if (sweep->config_count) return sk_fail(err, SK_ERR_ARGUMENT, "a sweep runs once; make another");
    if (jobs < 1 || jobs > 256) return sk_fail(err, SK_ERR_ARGUMENT, "--jobs must be from 1 to 256, not %d", jobs);
    sk_status status = sk_sweep_plan(sweep, dir, err);
    if (status == SK_OK) status = sk_sweep_open(sweep, dataset, hooks, err);
    if (status == SK_OK) status = sk_make_dirs(dir, err);
    if (status != SK_OK) return status;
    plan_pictures(sweep);
    const int threads = sk_thread_count(sweep->configs[0].options.threads);
    if ((size_t)jobs > sweep->run_count) jobs = (int)sweep->run_count;
    c.threads = threads > jobs ? threads / jobs : 1;
    status = run_all(&c, jobs, hooks, err);
    return status == SK_OK ? outcome(&c, err) : status;
}
