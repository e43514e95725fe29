/* SPDX-License-Identifier: Apache-2.0 */
/* Import: rows of all inputs together, doubles removed, the frames of each clip thinned by the seed's rule, every file
 * decoded once into the cache, and what cannot be read left out. dataset.tsv is written last and whole, so an import
 * that ends early changes nothing. */
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#include "data/data.h"
#include "siskin/video.h"

sk_import_options sk_import_defaults(void)
{
    return (sk_import_options){.birds_per_clip = 4, .empties_per_clip = 2, .min_gap_s = 0.4, .max_bad = 100};
}

/* One clip's labelled rows. */
typedef struct clip {
    const char *path;
    size_t *rows; /* sample indices by frame, labelled ones only */
    size_t count;
    int whole; /* 0: broken or shorter than its rows say */
    sk_status status;
    sk_error error;
} clip;

typedef struct importer {
    sk_dataset *dataset;
    const sk_import_options *options;
    const sk_hooks *hooks;
    sk_import_report *report;
    size_t *order;
    uint8_t *drop;
    clip *clips;
    size_t clip_count;
} importer;

/* ---- doubles ------------------------------------------------------------------------------------ */
static sk_status drop_doubles(importer *m, sk_error *err)
{
    size_t doubles = 0;
    for (size_t k = 1; k < m->dataset->size; k++) {
        const sk_sample *a = &m->dataset->samples[m->order[k - 1]], *b = &m->dataset->samples[m->order[k]];
        if (strcmp(a->path, b->path) || a->frame != b->frame)
            continue;
        if (a->label != b->label) {
            if (a->frame < 0)
                return sk_fail(err, SK_ERR_DATA, "%s is listed twice, as %s and as %s: correct the tables", a->path,
                               sk_label_name(a->label), sk_label_name(b->label));
            return sk_fail(err, SK_ERR_DATA, "frame %lld of %s is listed twice, as %s and as %s: correct the tables",
                           (long long)a->frame, a->path, sk_label_name(a->label), sk_label_name(b->label));
        }
        m->drop[m->order[k]] = 1;
        doubles++;
    }
    if (doubles)
        sk_log(m->hooks, SK_LOG_NOTE, "%zu rows are listed more than once: one of each is kept", doubles);
    return SK_OK;
}

/* ---- the rule for clips ------------------------------------------------------------------------- */
static sk_status find_clips(importer *m, sk_error *err)
{
    const sk_dataset *d = m->dataset;
    const char *path = NULL;
    m->clips = sk_calloc(d->size + 1, sizeof *m->clips);
    if (!m->clips)
        return sk_fail_memory(err, "the list of clips");
    size_t labelled = 0; /* the rows of a clip are moved to the front of its stretch of `order` */
    for (size_t k = 0; k < d->size; k++) {
        const sk_sample *s = &d->samples[m->order[k]];
        if (s->frame < 0 || m->drop[m->order[k]] || s->label == SK_LABEL_UNKNOWN)
            continue;
        if (!path || strcmp(path, s->path)) {
            path = s->path;
            m->clips[m->clip_count++] = (clip){.path = path, .rows = m->order + labelled, .whole = 1};
        }
        m->order[labelled++] = m->order[k];
        m->clips[m->clip_count - 1].count++;
    }
    return SK_OK;
}

/* Decodes the clip up to its last labelled frame; *found counts the leading rows whose frames are there. */
static sk_status make_thumbs(importer *m, clip *c, sk_candidate *candidates, size_t *found)
{
    sk_video *video = NULL;
    sk_image frame = {0};
    int64_t index = -1;
    sk_status status = sk_video_open(c->path, &video, NULL, &c->error);
    *found = 0;
    while (status == SK_OK && *found < c->count) {
        double time_s = 0;
        sk_sample *s = &m->dataset->samples[c->rows[*found]];
        status = sk_video_next(video, s->frame == index + 1 ? &frame : NULL, &index, &time_s, &c->error);
        if (status != SK_OK || index < 0)
            break;
        if (s->frame != index)
            continue;
        sk_candidate *to = &candidates[*found];
        *to = (sk_candidate){.frame = index, .time_s = time_s};
        status = sk_thumb_make(&frame, &to->thumb, NULL, &c->error);
        if (s->time_s < 0)
            s->time_s = time_s;
        ++*found;
    }
    if (status == SK_OK && *found < c->count)
        status = sk_fail(&c->error, SK_ERR_FORMAT, "cannot read frame %lld of %s: the clip is shorter",
                         (long long)m->dataset->samples[c->rows[*found]].frame, c->path);
    sk_image_free(&frame);
    sk_video_close(video);
    return status;
}

static void choose_of_label(importer *m, const clip *c, const sk_candidate *all, sk_candidate *some, size_t found,
                            sk_label label)
{
    const int most = label == SK_LABEL_BIRD ? m->options->birds_per_clip : m->options->empties_per_clip;
    size_t count = 0;
    for (size_t i = 0; i < found; i++)
        if (m->dataset->samples[c->rows[i]].label == label)
            some[count++] = all[i];
    if (most <= 0 || !count)
        return;
    sk_choose(some, count, (size_t)most, m->options->min_gap_s);
    count = 0;
    for (size_t i = 0; i < found; i++)
        if (m->dataset->samples[c->rows[i]].label == label)
            m->drop[c->rows[i]] = !some[count++].chosen;
}

static void thin_clip(importer *m, clip *c)
{
    size_t found = 0;
    sk_candidate *all = sk_alloc(c->count * 2, sizeof *all);
    if (!all) {
        c->status = sk_fail_memory(&c->error, c->path);
        return;
    }
    c->status = make_thumbs(m, c, all, &found);
    c->whole = c->status == SK_OK;
    for (size_t i = found; i < c->count; i++)
        m->drop[c->rows[i]] = 2; /* not there, as against not chosen */
    choose_of_label(m, c, all, all + c->count, found, SK_LABEL_NOBIRD);
    choose_of_label(m, c, all, all + c->count, found, SK_LABEL_BIRD);
    sk_free(all);
}

/* Non-zero in the thread that entered the library, the only one that may call hooks. */
static int is_first_thread(void)
{
#ifdef _OPENMP
    return omp_get_thread_num() == 0;
#else
    return 1;
#endif
}

static sk_status count_bad(importer *m, const char *text, sk_error *err)
{
    sk_log(m->hooks, SK_LOG_WARNING, "left out: %s", text);
    m->report->bad++;
    if (m->report->bad > (size_t)(m->options->max_bad < 0 ? 0 : m->options->max_bad))
        return sk_fail(err, SK_ERR_DATA, "more than %d files cannot be read (last: %s): see to them or raise --max-bad",
                       m->options->max_bad, text);
    return SK_OK;
}

static sk_status thin_clips(importer *m, sk_error *err)
{
    unsigned long done = 0;
    int stop = 0;
    if (m->options->birds_per_clip <= 0 && m->options->empties_per_clip <= 0)
        return SK_OK;
#pragma omp parallel for schedule(dynamic) num_threads(sk_thread_count(0))
    for (size_t i = 0; i < m->clip_count; i++) {
        int stopped;
        unsigned long so_far;
#pragma omp atomic read
        stopped = stop;
        if (stopped)
            continue;
        thin_clip(m, &m->clips[i]);
#pragma omp atomic capture
        so_far = ++done;
        if (is_first_thread()) {
            sk_progress(m->hooks, "choose frames", "clips", so_far, m->clip_count);
            if (sk_cancelled(m->hooks)) {
#pragma omp atomic write
                stop = 1;
            }
        }
    }
    if (stop)
        return sk_fail(err, SK_ERR_CANCELLED, "import stopped; nothing was changed");
    sk_status status = SK_OK;
    for (size_t i = 0; status == SK_OK && i < m->clip_count; i++) {
        const clip *c = &m->clips[i];
        if (c->status == SK_ERR_MEMORY)
            status = sk_fail(err, c->status, "%s", c->error.message);
        else if (c->status != SK_OK)
            status = count_bad(m, c->error.message, err);
        for (size_t k = 0; k < c->count; k++)
            m->report->clip_frames_dropped += m->drop[c->rows[k]] == 1;
    }
    return status;
}

/* ---- the run ------------------------------------------------------------------------------------ */
static sk_status read_inputs(importer *m, const char *const *inputs, size_t count, sk_error *err)
{
    for (size_t i = 0; i < count; i++) {
        const sk_status status = sk_path_is_dir(inputs[i])
                                     ? sk_import_folder(m->dataset, inputs[i], m->hooks, err)
                                     : sk_import_table(m->dataset, inputs[i], m->options->root, m->hooks, err);
        if (status != SK_OK)
            return status;
    }
    if (!m->dataset->size)
        return sk_fail(err, SK_ERR_DATA, "the inputs hold no rows: nothing to import");
    return SK_OK;
}

static sk_status thin(importer *m, sk_error *err)
{
    m->order = sk_dataset_order(m->dataset);
    m->drop = sk_calloc(m->dataset->size + 1, 1);
    sk_status status = m->order && m->drop ? SK_OK : sk_fail_memory(err, "the rows");
    if (status == SK_OK)
        status = drop_doubles(m, err);
    if (status == SK_OK)
        status = find_clips(m, err);
    m->report->clips = m->clip_count;
    if (status == SK_OK)
        status = thin_clips(m, err);
    if (status == SK_OK)
        sk_dataset_drop(m->dataset, m->drop);
    return status;
}

/* Decodes what is left into the cache and drops what cannot be read. */
static sk_status verify(importer *m, sk_error *err)
{
    sk_cache *cache = NULL;
    size_t bad = 0;
    const int left = m->options->max_bad - (int)m->report->bad;
    memset(m->drop, 0, m->dataset->size);
    const sk_status status = sk_cache_open_flags(m->dataset, left, 0, m->hooks, m->drop, &cache, &bad, err);
    m->report->bad += bad;
    sk_cache_close(cache);
    if (status == SK_OK)
        sk_dataset_drop(m->dataset, m->drop);
    return status;
}

static void count_kept(importer *m)
{
    sk_import_report *r = m->report;
    r->kept = m->dataset->size;
    for (size_t i = 0; i < m->dataset->size; i++) {
        const sk_label label = m->dataset->samples[i].label;
        r->unknown += label == SK_LABEL_UNKNOWN;
        r->birds += label == SK_LABEL_BIRD;
        r->nobirds += label == SK_LABEL_NOBIRD;
    }
}

sk_status sk_dataset_import(const char *const *inputs, size_t count, const char *dir, const sk_import_options *options,
                            const sk_hooks *hooks, sk_import_report *report, sk_error *err)
{
    const sk_import_options defaults = sk_import_defaults();
    sk_import_report own_report = {0};
    importer m = {.options = options ? options : &defaults, .hooks = hooks, .report = report ? report : &own_report};
    *m.report = own_report;
    if (!count)
        return sk_fail(err, SK_ERR_ARGUMENT, "nothing to import: name a table or a folder per class");
    sk_status status = sk_dataset_new(dir, &m.dataset, err);
    if (status == SK_OK)
        status = read_inputs(&m, inputs, count, err);
    if (status == SK_OK) {
        m.report->rows = m.dataset->size;
        status = thin(&m, err);
    }
    if (status == SK_OK)
        status = sk_make_dirs(dir, err);
    if (status == SK_OK)
        status = verify(&m, err);
    if (status == SK_OK)
        count_kept(&m);
    if (status == SK_OK && !(m.report->birds + m.report->nobirds))
        sk_log(hooks, SK_LOG_WARNING, "no row has a label: label them in a table and import again");
    if (status == SK_OK)
        status = sk_dataset_save(m.dataset, err);
    sk_free(m.order);
    sk_free(m.drop);
    sk_free(m.clips);
    sk_dataset_close(m.dataset);
    return status;
}
