/* SPDX-License-Identifier: Apache-2.0 */
/* Systematic sampling (Madow & Madow 1944): the items lie one after the other on a line, each as long as its expected
 * count, and the draws are the points u, u+1, u+2, ... of it. An item of length 0.3 then comes three times in ten
 * epochs and never twice in one, and since items of one label and source lie together, these come as often as they
 * should up to one picture. Independent draws would leave out a third of the pictures of every epoch. */
#include "train/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STREAM_ORDER = 0x0de2, STREAM_CHOICE = 0xc401, STREAM_OFFSET = 0x0ff5 };

struct sk_sampler {
    sk_sampler_options options;
    size_t count, draws;
    int even;         /* every item once */
    double *expected; /* per item: draws per epoch */
    uint32_t *line;   /* items sorted by label and source */
    uint32_t *mixed;  /* the same, in this epoch's order within label and source */
    sk_sampler_item *items;
};

/* ---- expected counts ---------------------------------------------------------------------------------------- */
/* Items per source into counts[sources]. */
static sk_status count_sources(const sk_sampler *s, size_t **counts, sk_error *err) {
    int sources = 0;
    for (size_t i = 0; i < s->count; i++)
        if (s->items[i].source >= sources) sources = s->items[i].source + 1;
    *counts = sk_calloc(sources ? (size_t)sources : 1, sizeof **counts);
    if (!*counts) return sk_fail_memory(err, "the sources");
    for (size_t i = 0; i < s->count; i++) (*counts)[s->items[i].source]++;
    return SK_OK;
}

static sk_status set_expected(sk_sampler *s, sk_error *err) {
    double label_sum[SK_CLASS_COUNT] = {0}, all = 0;
    size_t *counts = NULL;
    const sk_status status = count_sources(s, &counts, err);
    if (status != SK_OK) return status;
    for (size_t i = 0; i < s->count; i++) {
        /* share^(1-m) spread over the source's n items, share being n / count. */
        const double n = (double)counts[s->items[i].source];
        s->expected[i] = pow(n, -s->options.source_mix);
        label_sum[s->items[i].label] += s->expected[i];
        all += s->expected[i];
    }
    sk_free(counts);
    int labels = 0;
    for (int c = 0; c < SK_CLASS_COUNT; c++) labels += label_sum[c] > 0;
    for (size_t i = 0; i < s->count; i++) {
        const double whole = s->options.balanced ? label_sum[s->items[i].label] * labels : all;
        s->expected[i] *= (double)s->draws / whole;
    }
    return SK_OK;
}

static int compare_keys(const void *a, const void *b) {
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Items by label, then source, then as they came: one number holds all three. */
static sk_status sort_items(sk_sampler *s, sk_error *err) {
    uint64_t *keys = sk_calloc(s->count ? s->count : 1, sizeof *keys);
    if (!keys) return sk_fail_memory(err, "the order of pictures");
    for (size_t i = 0; i < s->count; i++)
        keys[i] = (uint64_t)s->items[i].label << 62 | (uint64_t)s->items[i].source << 32 | i;
    qsort(keys, s->count, sizeof *keys, compare_keys);
    for (size_t i = 0; i < s->count; i++) s->line[i] = (uint32_t)keys[i];
    sk_free(keys);
    return SK_OK;
}

/* ---- life ---------------------------------------------------------------------------------------------------- */
sk_status sk_sampler_create(const sk_sampler_item *items, size_t count, const sk_sampler_options *options,
                            sk_sampler **out, sk_error *err) {
    const size_t room = count ? count : 1;
    *out = NULL;
    sk_sampler *s = sk_calloc(1, sizeof *s);
    if (!s) return sk_fail_memory(err, "the order of pictures");
    s->options = *options;
    s->count = count;
    s->draws = count && options->epoch_size ? options->epoch_size : count;
    s->even = !options->balanced && options->source_mix <= 0 && s->draws == count;
    s->expected = sk_calloc(room, sizeof *s->expected);
    s->line = sk_calloc(room, sizeof *s->line);
    s->mixed = sk_calloc(room, sizeof *s->mixed);
    s->items = sk_calloc(room, sizeof *s->items);
    sk_status status = SK_OK;
    if (!s->expected || !s->line || !s->mixed || !s->items) status = sk_fail_memory(err, "the order of pictures");
    if (status == SK_OK) memcpy(s->items, items, count * sizeof *items);
    if (status == SK_OK) status = set_expected(s, err);
    if (status == SK_OK) status = sort_items(s, err);
    if (status == SK_OK) *out = s;
    else sk_sampler_free(s);
    return status;
}

void sk_sampler_free(sk_sampler *s) {
    if (!s) return;
    sk_free(s->expected);
    sk_free(s->line);
    sk_free(s->mixed);
    sk_free(s->items);
    sk_free(s);
}

size_t sk_sampler_size(const sk_sampler *s) { return s->draws; }

double sk_sampler_share(const sk_sampler *s, int label) {
    double sum = 0;
    for (size_t i = 0; i < s->count; i++)
        if (s->items[i].label == label) sum += s->expected[i];
    return s->draws ? sum / (double)s->draws : 0;
}

/* ---- an epoch ------------------------------------------------------------------------------------------------ */
static int same_kind(const sk_sampler *s, uint32_t a, uint32_t b) {
    return s->items[a].label == s->items[b].label && s->items[a].source == s->items[b].source;
}

/* Items of one kind lie together in `line`; only among themselves do they change places. */
static void mix_kinds(sk_sampler *s, sk_rng *rng) {
    memcpy(s->mixed, s->line, s->count * sizeof *s->line);
    for (size_t first = 0, end; first < s->count; first = end) {
        for (end = first + 1; end < s->count && same_kind(s, s->line[first], s->line[end]); end++) {
        }
        sk_rng_shuffle(rng, s->mixed + first, end - first, sizeof *s->mixed);
    }
}

static void choose(sk_sampler *s, int epoch, sk_draw *draws) {
    sk_rng rng = sk_rng_make(s->options.seed, STREAM_CHOICE, (uint64_t)epoch);
    sk_rng offset = sk_rng_make(s->options.seed, STREAM_OFFSET, (uint64_t)epoch);
    const double start = sk_rng_uniform(&offset);
    double end = 0;
    size_t n = 0;
    mix_kinds(s, &rng);
    for (size_t i = 0; i < s->count; i++) {
        end += s->expected[s->mixed[i]];
        /* The sum may end a rounding short of the last point. */
        const int last = i + 1 == s->count;
        for (uint32_t copy = 0; n < s->draws && (last || start + (double)n < end); copy++)
            draws[n++] = (sk_draw){s->mixed[i], copy};
    }
}

void sk_sampler_draw(sk_sampler *s, int epoch, sk_draw *draws) {
    if (s->even)
        for (size_t i = 0; i < s->count; i++) draws[i] = (sk_draw){(uint32_t)i, 0};
    else choose(s, epoch, draws);
    sk_rng rng = sk_rng_make(s->options.seed, STREAM_ORDER, (uint64_t)epoch);
    sk_rng_shuffle(&rng, draws, s->draws, sizeof *draws);
}
