/* SPDX-License-Identifier: Apache-2.0 */
/* What changes when a picture gets the marks of another source: the same pictures are judged again with a frame, a
 * camera's text, less resolution, no colour. None of these has to do with a bird. */
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "eval/evaluation.h"
#include "image/effects.h"

enum { BATCH = 16 };
typedef enum effect { FRAME, TEXT, BAR, FROM_128, FROM_192, GREY } effect;
static const char *const names[SK_SHORTCUT_COUNT] = {"black frame",     "date in a corner", "text bar below",
                                                     "from 128 pixels", "from 192 pixels",  "greyscale"};

static void add_frame(uint8_t *pixels, int size) {
    const int width = (size * 2 + 12) / 25; /* 8 % */
    for (int y = 0; y < size; y++)
        for (int x = 0; x < size; x++)
            if (x < width || y < width || x >= size - width || y >= size - width)
                memset(pixels + (y * size + x) * 3, 0, 3);
}

static sk_status add_text(uint8_t *pixels, int size, sk_text_ground ground, sk_error *err) {
    const sk_stamp stamp = {
        .text = "2024-05-17 06:31:22", .height = size / 20., .x = 1, .y = 1, .ink = {255, 255, 255}, .ground = ground};
    return sk_stamp_draw(pixels, size, &stamp, err);
}

/* Resolution is lost before the crops are cut; everything else happens to each of them, so that it is always seen. */
static sk_status prepare(const sk_image *image, sk_crops crops, int size, effect what, uint8_t *out, sk_error *err) {
    sk_image small = {0};
    const sk_image *from = image;
    const size_t pixels = (size_t)size * (size_t)size;
    sk_status status = SK_OK;
    if (what == FROM_128 || what == FROM_192) {
        status = sk_image_resize_shorter(image, what == FROM_128 ? 128 : 192, &small, err);
        from = &small;
    }
    if (!status) status = sk_crops_prepare(from, crops, size, out, err);
    for (int i = 0; i < sk_crops_count(crops) && !status; i++) {
        uint8_t *crop = out + pixels * 3 * (size_t)i;
        if (what == FRAME) add_frame(crop, size);
        else if (what == TEXT) status = add_text(crop, size, SK_TEXT_OUTLINE, err);
        else if (what == BAR) status = add_text(crop, size, SK_TEXT_STRIP, err);
        else if (what == GREY) sk_light_saturation(crop, pixels, 0);
    }
    sk_image_free(&small);
    return status;
}

typedef struct judging {
    const sk_evaluation *e;
    sk_classifier *classifier;
    const sk_cache *cache;
    uint8_t *images;
    float *p;
    int crops, size, threads;
    size_t first; /* outcome that the batch begins with */
    effect what;
    size_t *row_of; /* of every outcome: its source and label */
} judging;

/* ---- sources and labels ------------------------------------------------------------------------------------------ */

typedef struct place {
    const char *source;
    int bird;
    size_t index; /* of the outcome */
} place;

static int by_place(const void *a, const void *b) {
    const place *x = a, *y = b;
    const int order = strcmp(x->source, y->source);
    return order ? order : x->bird - y->bird;
}

/* Numbers sources and labels in order and gives every change a row for each. */
static sk_status make_rows(judging *j, sk_shortcut *out, sk_error *err) {
    const size_t n = j->e->n;
    place *places = sk_alloc(n ? n : 1, sizeof *places);
    j->row_of = sk_alloc(n ? n : 1, sizeof *j->row_of);
    size_t rows = 0;
    int failed = !places || !j->row_of;
    for (size_t i = 0; i < n && !failed; i++) {
        const sk_sample *s = &j->e->samples[i];
        places[i] = (place){s->source ? s->source : "", s->label == SK_LABEL_BIRD, i};
    }
    if (!failed) qsort(places, n, sizeof *places, by_place);
    for (size_t i = 0; i < n && !failed; i++) {
        rows += i == 0 || by_place(&places[i - 1], &places[i]) != 0;
        j->row_of[places[i].index] = rows - 1;
    }
    for (int what = 0; what < SK_SHORTCUT_COUNT && !failed; what++) {
        out[what].rows = sk_calloc(rows ? rows : 1, sizeof *out[what].rows);
        out[what].row_count = rows;
        failed = !out[what].rows;
        for (size_t i = 0; i < n && !failed; i++) {
            sk_shortcut_row *row = &out[what].rows[j->row_of[places[i].index]];
            row->source = places[i].source;
            row->label = places[i].bird ? SK_LABEL_BIRD : SK_LABEL_NOBIRD;
        }
    }
    sk_free(places);
    return failed ? sk_fail_memory(err, "the shortcut checks") : SK_OK;
}

void sk_shortcuts_free(sk_shortcut shortcuts[SK_SHORTCUT_COUNT]) {
    for (int i = 0; i < SK_SHORTCUT_COUNT; i++) {
        sk_free(shortcuts[i].rows);
        shortcuts[i].rows = NULL;
        shortcuts[i].row_count = 0;
    }
}

/* ---- judging ----------------------------------------------------------------------------------------------------- */

/* The i-th picture of the batch. */
static sk_status prepare_nth(void *user, int i, sk_error *err) {
    const judging *j = user;
    const size_t bytes = (size_t)j->crops * (size_t)j->size * (size_t)j->size * 3;
    sk_image image;
    sk_cache_image(j->cache, j->e->outcomes[j->first + (size_t)i].sample, &image);
    return prepare(&image, j->e->options.crops, j->size, j->what, j->images + bytes * (size_t)i, err);
}

static sk_status judge_batch(judging *j, int n, sk_shortcut *out, sk_error *err) {
    const sk_eval_options *o = &j->e->options;
    sk_status status = sk_parallel(0, n, j->threads, prepare_nth, j, err);
    if (!status) status = sk_classifier_run(j->classifier, j->images, n * j->crops, o->threads, j->p, NULL, err);
    for (int i = 0; i < n && !status; i++) {
        const size_t at = j->first + (size_t)i;
        const sk_verdict *was = &j->e->outcomes[at].verdict;
        const int bird = j->e->samples[at].label == SK_LABEL_BIRD;
        float p[3] = {0};
        for (int c = 0; c < j->crops; c++) p[c] = j->p[(i * j->crops + c) * SK_CLASS_COUNT + SK_LABEL_BIRD];
        const sk_verdict is = sk_decide(p, j->crops, o->threshold, o->penalty);
        const size_t flips = (is.bird != 0) != (was->bird != 0);
        const double dp = (double)is.p[0] - (double)was->p[0];
        sk_shortcut_row *row = &out->rows[j->row_of[at]];
        out->n[bird]++;
        out->flips[bird] += flips;
        out->mean_dp[bird] += dp;
        row->n++;
        row->flips += flips;
        row->mean_dp += dp;
    }
    return status;
}

static sk_status judge_all(judging *j, const sk_hooks *hooks, sk_shortcut *out, sk_error *err) {
    const size_t n = j->e->n;
    for (j->first = 0; j->first < n; j->first += BATCH) {
        const int count = n - j->first < BATCH ? (int)(n - j->first) : BATCH;
        for (int what = 0; what < SK_SHORTCUT_COUNT; what++) {
            if (sk_cancelled(hooks)) return sk_fail(err, SK_ERR_CANCELLED, "the shortcut checks were stopped");
            j->what = (effect)what;
            const sk_status status = judge_batch(j, count, &out[what], err);
            if (status) return status;
        }
        sk_progress(hooks, "shortcuts", "images", j->first + (size_t)count, n);
    }
    return SK_OK;
}

sk_status sk_evaluation_shortcuts(const sk_evaluation *e, sk_classifier *classifier, const sk_cache *cache,
                                  const sk_hooks *hooks, sk_shortcut out[SK_SHORTCUT_COUNT], sk_error *err) {
    judging j = {.e = e,
                 .classifier = classifier,
                 .cache = cache,
                 .crops = sk_crops_count(e->options.crops),
                 .size = sk_classifier_card(classifier)->size,
                 .threads = sk_thread_count(e->options.threads)};
    const size_t most = (size_t)(BATCH * j.crops);
    j.images = sk_alloc(most, (size_t)j.size * (size_t)j.size * 3);
    j.p = sk_alloc(most * SK_CLASS_COUNT, sizeof *j.p);
    for (int i = 0; i < SK_SHORTCUT_COUNT; i++) out[i] = (sk_shortcut){.name = names[i]};
    sk_status status = j.images && j.p ? make_rows(&j, out, err) : sk_fail_memory(err, "the shortcut checks");
    if (!status) status = judge_all(&j, hooks, out, err);
    for (int i = 0; i < SK_SHORTCUT_COUNT; i++) {
        for (int label = 0; label < SK_CLASS_COUNT; label++)
            if (out[i].n[label]) out[i].mean_dp[label] /= (double)out[i].n[label];
        for (size_t k = 0; k < out[i].row_count && !status; k++) out[i].rows[k].mean_dp /= (double)out[i].rows[k].n;
    }
    if (status) sk_shortcuts_free(out);
    sk_free(j.row_of);
    sk_free(j.images);
    sk_free(j.p);
    return status;
}
