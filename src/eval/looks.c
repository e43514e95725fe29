/* SPDX-License-Identifier: Apache-2.0 */
/* Which pictures of an evaluation are looked at, their maps, and the border share of every source and label. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "eval/evaluation.h"

enum { WRONG_MOST = 200 };

/* An outcome with what it is sorted by. */
typedef struct ranked {
    size_t index, turn; /* turn: how many more certain ones there are of its source and label */
    double distance;    /* of the score to the threshold */
    const char *source;
    int bird, wrong; /* label; verdict differs from it */
} ranked;

/* Where the map of an outcome goes. */
typedef struct use {
    size_t looks[2]; /* few right ones: the most certain are the least certain too */
    int look_count, in_row;
} use;

typedef struct looking {
    const sk_evaluation *e;
    const sk_cache *cache;
    sk_saliency *saliency;
    const sk_hooks *hooks;
    sk_looks *out;
    ranked *list; /* all outcomes */
    use *uses;    /* of every outcome */
    uint8_t *crops;
    float *map;
    size_t done, total;
} looking;

static int by_source(const ranked *x, const ranked *y) {
    const int order = strcmp(x->source, y->source);
    return order ? order : x->bird - y->bird;
}

static int by_index(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    return (x->index > y->index) - (x->index < y->index);
}

static int most_certain(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    if (x->distance > y->distance || x->distance < y->distance) return x->distance > y->distance ? -1 : 1;
    return by_index(a, b);
}

static int least_certain(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    if (x->distance > y->distance || x->distance < y->distance) return x->distance < y->distance ? -1 : 1;
    return by_index(a, b);
}

static int slice_then_certain(const void *a, const void *b) {
    const int order = by_source(a, b);
    return order ? order : most_certain(a, b);
}

static int slice_then_index(const void *a, const void *b) {
    const int order = by_source(a, b);
    return order ? order : by_index(a, b);
}

static int in_turns(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    if (x->turn != y->turn) return x->turn < y->turn ? -1 : 1;
    return slice_then_certain(a, b);
}

/* The right outcomes first, then the wrong ones; returns the number of right ones. */
static size_t part(ranked *list, size_t n) {
    size_t right = 0;
    for (size_t i = 0; i < n; i++) {
        if (list[i].wrong) continue;
        const ranked swap = list[right];
        list[right++] = list[i];
        list[i] = swap;
    }
    return right;
}

/* ---- one picture ------------------------------------------------------------------------------------------------- */

/* The crop that decided an outcome, in l->crops. */
static sk_status crop_of(looking *l, size_t index, const uint8_t **crop, sk_error *err) {
    const sk_outcome *o = &l->e->outcomes[index];
    const size_t side = (size_t)l->out->size;
    sk_image image;
    sk_cache_image(l->cache, o->sample, &image);
    *crop = l->crops + side * side * 3 * (size_t)o->verdict.deciding;
    return sk_crops_prepare(&image, l->e->options.crops, l->out->size, l->crops, err);
}

static sk_status map_of(looking *l, size_t index, const uint8_t **crop, sk_error *err) {
    if (sk_cancelled(l->hooks)) return sk_fail(err, SK_ERR_CANCELLED, "the saliency maps were stopped");
    const sk_status status = crop_of(l, index, crop, err);
    if (status) return status;
    sk_progress(l->hooks, "saliency", "images", ++l->done, l->total);
    return sk_saliency_map(l->saliency, *crop, l->e->outcomes[index].verdict.bird ? SK_LABEL_BIRD : SK_LABEL_NOBIRD,
                           l->map, err);
}

/* Keeps the map in l->map wherever the outcome is shown. */
static sk_status keep(looking *l, size_t index, const uint8_t *crop, sk_error *err) {
    const size_t pixels = (size_t)l->out->size * (size_t)l->out->size;
    for (int i = 0; i < l->uses[index].look_count; i++) {
        sk_look *look = &l->out->looks[l->uses[index].looks[i]];
        look->image = sk_alloc(pixels, 3);
        look->map = sk_alloc(pixels, sizeof(float));
        if (!look->image || !look->map) return sk_fail_memory(err, "the saliency maps");
        memcpy(look->image, crop, pixels * 3);
        memcpy(look->map, l->map, pixels * sizeof(float));
        look->border = sk_saliency_border(l->map, l->out->size);
    }
    return SK_OK;
}

/* ---- lists and rows ---------------------------------------------------------------------------------------------- */

static void list_look(looking *l, sk_look_list list, size_t index) {
    use *u = &l->uses[index];
    l->out->looks[l->out->count] = (sk_look){.list = list, .index = index};
    u->looks[u->look_count++] = l->out->count++;
}

static void choose_looks(looking *l, size_t right, size_t most) {
    const size_t wrong = l->e->n - right, shown = right < most ? right : most;
    qsort(l->list, right, sizeof *l->list, slice_then_certain);
    for (size_t i = 1; i < right; i++)
        l->list[i].turn = by_source(&l->list[i - 1], &l->list[i]) ? 0 : l->list[i - 1].turn + 1;
    qsort(l->list, right, sizeof *l->list, in_turns);
    for (size_t i = 0; i < shown; i++) list_look(l, SK_LOOK_CERTAIN, l->list[i].index);
    qsort(l->list, right, sizeof *l->list, least_certain);
    for (size_t i = 0; i < shown; i++) list_look(l, SK_LOOK_UNCERTAIN, l->list[i].index);
    qsort(l->list + right, wrong, sizeof *l->list, most_certain);
    for (size_t i = 0; i < wrong && i < WRONG_MOST; i++) list_look(l, SK_LOOK_WRONG, l->list[right + i].index);
}

/* The number of outcomes from `first` on that share its source and label. */
static size_t slice_end(const ranked *list, size_t first, size_t n) {
    size_t end = first + 1;
    while (end < n && !by_source(&list[first], &list[end])) end++;
    return end;
}

/* At most `most` outcomes of list[first] to list[end - 1], evenly spread; the i-th of them. */
static size_t spread(const looking *l, size_t first, size_t end, size_t used, size_t i) {
    return l->list[first + i * (end - first) / used].index;
}

/* Returns the number of sources and labels. */
static size_t choose_rows(looking *l, size_t most) {
    const size_t n = l->e->n;
    size_t slices = 0;
    for (size_t first = 0, end; first < n; first = end, slices++) {
        end = slice_end(l->list, first, n);
        const size_t used = end - first < most ? end - first : most;
        for (size_t i = 0; i < used; i++) l->uses[spread(l, first, end, used, i)].in_row = 1;
    }
    return slices;
}

/* One source and label: list[first] to list[end - 1]. */
static sk_status add_row(looking *l, size_t first, size_t end, size_t most, sk_error *err) {
    const size_t used = end - first < most ? end - first : most;
    sk_border_row *row = &l->out->rows[l->out->row_count++];
    *row = (sk_border_row){.source = l->list[first].source,
                           .label = l->list[first].bird ? SK_LABEL_BIRD : SK_LABEL_NOBIRD};
    for (size_t i = 0; i < used; i++) {
        const size_t index = spread(l, first, end, used, i);
        const uint8_t *crop = NULL;
        sk_status status = map_of(l, index, &crop, err);
        if (!status) status = keep(l, index, crop, err);
        if (status) return status;
        const double share = sk_saliency_border(l->map, l->out->size);
        if (!isfinite(share)) continue;
        row->n++;
        row->share += share;
    }
    row->share = row->n ? row->share / (double)row->n : NAN;
    return SK_OK;
}

static sk_status add_rows(looking *l, size_t most, sk_error *err) {
    const size_t n = l->e->n;
    sk_status status = SK_OK;
    for (size_t first = 0, end; first < n && !status; first = end) {
        end = slice_end(l->list, first, n);
        status = add_row(l, first, end, most, err);
    }
    return status;
}

/* Shown, but in no row: occlusion, which takes a sample of each source. */
static sk_status add_rest(looking *l, sk_error *err) {
    sk_status status = SK_OK;
    for (size_t i = 0; i < l->e->n && !status; i++) {
        const uint8_t *crop = NULL;
        if (l->uses[i].in_row || !l->uses[i].look_count) continue;
        status = map_of(l, i, &crop, err);
        if (!status) status = keep(l, i, crop, err);
    }
    return status;
}

static void rank_all(looking *l) {
    const sk_evaluation *e = l->e;
    for (size_t i = 0; i < e->n; i++) {
        l->list[i] = (ranked){.index = i,
                              .distance = sk_evaluation_margin(e, i),
                              .source = e->samples[i].source ? e->samples[i].source : "",
                              .bird = e->samples[i].label == SK_LABEL_BIRD,
                              .wrong = sk_evaluation_is_wrong(e, i)};
    }
}

static sk_status look(looking *l, size_t most, sk_error *err) {
    const size_t n = l->e->n, pixels = (size_t)l->out->size * (size_t)l->out->size;
    const size_t per_row = l->out->method == SK_SALIENCY_CAM ? n : most;
    l->list = sk_alloc(n ? n : 1, sizeof *l->list);
    l->uses = sk_calloc(n ? n : 1, sizeof *l->uses);
    l->crops = sk_alloc(3, pixels * 3);
    l->map = sk_alloc(pixels, sizeof *l->map);
    if (!l->list || !l->uses || !l->crops || !l->map) return sk_fail_memory(err, "the saliency maps");
    rank_all(l);
    const size_t right = part(l->list, n), shown = right < most ? right : most;
    l->out->wrong = n - right;
    const size_t lists = 2 * shown + (l->out->wrong < WRONG_MOST ? l->out->wrong : WRONG_MOST);
    l->out->looks = sk_calloc(lists ? lists : 1, sizeof *l->out->looks);
    if (!l->out->looks) return sk_fail_memory(err, "the saliency maps");
    choose_looks(l, right, most);
    qsort(l->list, n, sizeof *l->list, slice_then_index);
    const size_t slices = choose_rows(l, per_row);
    l->out->rows = sk_calloc(slices ? slices : 1, sizeof *l->out->rows);
    if (!l->out->rows) return sk_fail_memory(err, "the saliency maps");
    for (size_t i = 0; i < n; i++) l->total += l->uses[i].in_row || l->uses[i].look_count;
    const sk_status status = add_rows(l, per_row, err);
    return status ? status : add_rest(l, err);
}

sk_status sk_evaluation_looks(const sk_evaluation *evaluation, sk_classifier *classifier, const sk_cache *cache,
                              sk_saliency_method method, size_t most, const sk_hooks *hooks, sk_looks **out,
                              sk_error *err) {
    looking l = {.e = evaluation, .cache = cache, .hooks = hooks};
    *out = NULL;
    sk_status status = sk_saliency_create(classifier, method, evaluation->options.threads, &l.saliency, err);
    if (status) return status;
    l.out = sk_calloc(1, sizeof *l.out);
    if (l.out) {
        l.out->method = sk_saliency_method_of(l.saliency);
        l.out->size = sk_classifier_card(classifier)->size;
        status = look(&l, most, err);
    } else {
        status = sk_fail_memory(err, "the saliency maps");
    }
    sk_free(l.list);
    sk_free(l.uses);
    sk_free(l.crops);
    sk_free(l.map);
    sk_saliency_free(l.saliency);
    if (status) sk_looks_free(l.out);
    else *out = l.out;
    return status;
}

void sk_looks_free(sk_looks *looks) {
    if (!looks) return;
    for (size_t i = 0; i < looks->count; i++) {
        sk_free(looks->looks[i].image);
        sk_free(looks->looks[i].map);
    }
    sk_free(looks->looks);
    sk_free(looks->rows);
    sk_free(looks);
}
