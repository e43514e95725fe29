/* SPDX-License-Identifier: Apache-2.0 */
/* Split by group. The groups are shuffled by a hash of the seed and their name, so neither the order of the rows nor a
 * group added elsewhere moves them by chance; then each goes, in turn, where bird frames, empty frames and groups
 * are missing most. Clips are shared out together, photographs of the web source by source. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "data/data.h"

typedef struct group {
    const char *name, *source;
    uint64_t rank;
    size_t counts[SK_CLASS_COUNT];
    int has_web, has_heldout;
    sk_split split;
} group;

enum { KINDS = SK_CLASS_COUNT + 1 }; /* nobird, bird, groups */

static int compare_samples(const void *a, const void *b)
{
    const sk_sample *const *x = a, *const *y = b;
    return strcmp((*x)->group, (*y)->group);
}

static int compare_rank(const void *a, const void *b)
{
    const group *const *x = a, *const *y = b;
    if ((*x)->rank != (*y)->rank)
        return (*x)->rank < (*y)->rank ? -1 : 1;
    return strcmp((*x)->name, (*y)->name);
}

static int compare_sources(const void *a, const void *b)
{
    const group *const *x = a, *const *y = b;
    const int order = strcmp((*x)->source, (*y)->source);
    return order ? order : compare_rank(a, b);
}

static double amount(const group *g, int kind)
{
    return kind < SK_CLASS_COUNT ? (double)g->counts[kind] : 1;
}

/* How much worse (or, below 0, better) the parts fit their targets with `g` in part `p`. */
static double cost(const group *g, const double have[3][KINDS], const double parts[3], const double *total, int p)
{
    double sum = 0;
    for (int k = 0; k < KINDS; k++) {
        if (total[k] <= 0)
            continue;
        const double deficit = parts[p] * total[k] - have[p][k], plus = amount(g, k);
        /* In shares of the part's target, so that small parts are served as faithfully as large ones. */
        sum += plus * (plus - 2 * deficit) / (total[k] * total[k] * parts[p]);
    }
    return sum;
}

/* A part with a share must not stay empty while another has two groups to give from. */
static void fill_empty_parts(group **free_groups, size_t count, const double parts[3], size_t groups_in[4])
{
    for (int p = 0; p < 3; p++) {
        if (parts[p] <= 0 || groups_in[p + 1])
            continue;
        int richest = 0;
        for (int q = 1; q < 3; q++)
            if (groups_in[q + 1] > groups_in[richest + 1])
                richest = q;
        if (groups_in[richest + 1] < 2)
            return;
        for (size_t i = count; i-- > 0;) {
            if (free_groups[i]->split == (sk_split)(richest + 1)) {
                free_groups[i]->split = (sk_split)(p + 1);
                groups_in[richest + 1]--;
                groups_in[p + 1]++;
                break;
            }
        }
    }
}

/* In the order given, each where it is missing most; groups_in counts them per split. */
static void assign(group **free_groups, size_t count, const double parts[3], size_t groups_in[4])
{
    double have[3][KINDS] = {{0}}, total[KINDS] = {0};
    for (size_t i = 0; i < count; i++)
        for (int k = 0; k < KINDS; k++)
            total[k] += amount(free_groups[i], k);
    for (size_t i = 0; i < count; i++) {
        int best = -1;
        double least = INFINITY;
        for (int p = 0; p < 3; p++) {
            const double c =
                parts[p] > 0 ? cost(free_groups[i], (const double(*)[KINDS])have, parts, total, p) : INFINITY;
            if (c < least) {
                least = c;
                best = p;
            }
        }
        free_groups[i]->split = (sk_split)(best + 1);
        groups_in[best + 1]++;
        for (int k = 0; k < KINDS; k++)
            have[best][k] += amount(free_groups[i], k);
    }
}

static void assign_clips(group **groups, size_t count, const double parts[3])
{
    size_t groups_in[4] = {0};
    qsort(groups, count, sizeof *groups, compare_rank);
    assign(groups, count, parts, groups_in);
    fill_empty_parts(groups, count, parts, groups_in);
}

/* Source by source, so that all kinds of photographs are validated on. Parts are not filled by force: the only group of
 * a label, if it is large, would leave training. */
static void assign_photos(group **groups, size_t count, double val)
{
    const double parts[3] = {1 - val, val, 0};
    size_t groups_in[4] = {0};
    qsort(groups, count, sizeof *groups, compare_sources);
    for (size_t begin = 0, end; begin < count; begin = end) {
        for (end = begin + 1; end < count && strcmp(groups[end]->source, groups[begin]->source) == 0; end++) {}
        assign(groups + begin, end - begin, parts, groups_in);
    }
}

/* Groups of the samples, which are sorted by group. */
static sk_status find_groups(const sk_sample *const *sorted, size_t count, uint64_t seed, group *groups, size_t *found,
                             sk_error *err)
{
    *found = 0;
    for (size_t i = 0; i < count; i++) {
        const sk_sample *s = sorted[i];
        if (i == 0 || strcmp(s->group, sorted[i - 1]->group)) {
            const uint64_t hash = sk_hash_bytes(s->group, strlen(s->group));
            groups[(*found)++] = (group){
                .name = s->group, .source = s->source, .rank = sk_hash64(hash ^ sk_hash64(seed + 1))};
        }
        group *g = &groups[*found - 1];
        if (s->label == SK_LABEL_UNKNOWN)
            continue; /* never used, so it decides nothing */
        g->counts[s->label]++;
        g->has_web |= s->role == SK_ROLE_WEB;
        g->has_heldout |= s->role == SK_ROLE_HELDOUT;
        if (g->has_web && g->has_heldout)
            return sk_fail(err, SK_ERR_DATA,
                           "the group `%s` holds both web and held-out pictures, so it can go nowhere: "
                           "give them groups of their own",
                           g->name);
    }
    return SK_OK;
}

/* `list` has room for every group: clips from its front, photographs from its back. */
static void assign_all(group *groups, size_t count, group **list, const sk_split_options *options)
{
    size_t clips = 0, photos = 0;
    for (size_t i = 0; i < count; i++) {
        group *g = &groups[i];
        if (g->has_web)
            list[count - ++photos] = g;
        else if (g->has_heldout)
            g->split = SK_SPLIT_TEST;
        else if (g->counts[0] + g->counts[1])
            list[clips++] = g;
    }
    assign_clips(list, clips, options->parts);
    assign_photos(list + count - photos, photos, options->val_photos);
}

static sk_status split_samples(sk_dataset *d, const sk_sample **sorted, group *groups, group **list,
                               const sk_split_options *options, sk_error *err)
{
    size_t count = 0;
    for (size_t i = 0; i < d->size; i++)
        sorted[i] = &d->samples[i];
    qsort((void *)sorted, d->size, sizeof *sorted, compare_samples);
    const sk_status status = find_groups(sorted, d->size, options->seed, groups, &count, err);
    if (status != SK_OK)
        return status;
    assign_all(groups, count, list, options);
    size_t at = 0;
    for (size_t i = 0; i < d->size; i++) {
        at += strcmp(sorted[i]->group, groups[at].name) != 0;
        d->samples[sorted[i] - d->samples].split = groups[at].split;
    }
    return SK_OK;
}

sk_split_options sk_split_defaults(void)
{
    return (sk_split_options){.parts = {6, 2, 2}};
}

/* Shares that sum to 1. */
static sk_status check_options(const sk_split_options *given, sk_split_options *out, sk_error *err)
{
    const double sum = given->parts[0] + given->parts[1] + given->parts[2];
    *out = *given;
    for (int p = 0; p < 3; p++) {
        if (!(given->parts[p] >= 0) || !(sum > 0) || !isfinite(sum))
            return sk_fail(err, SK_ERR_ARGUMENT,
                           "the parts of a split must be zero or more and not all zero, e.g. 6:2:2");
        out->parts[p] = given->parts[p] / sum;
    }
    if (!(given->val_photos >= 0 && given->val_photos <= 0.9))
        return sk_fail(err, SK_ERR_ARGUMENT, "the share of photographs for validation, %g, is outside 0 to 0.9",
                       given->val_photos);
    return SK_OK;
}

sk_status sk_dataset_split(const char *dir, const sk_split_options *options, sk_error *err)
{
    const sk_split_options defaults = sk_split_defaults();
    sk_split_options shares;
    sk_dataset *d = NULL;
    sk_status status = check_options(options ? options : &defaults, &shares, err);
    if (status == SK_OK)
        status = sk_dataset_open(dir, &d, err);
    if (status != SK_OK)
        return status;
    const sk_sample **sorted = sk_alloc(d->size + 1, sizeof *sorted);
    group *groups = sk_alloc(d->size + 1, sizeof *groups);
    group **list = sk_alloc(d->size + 1, sizeof *list);
    status = sorted && groups && list ? split_samples(d, sorted, groups, list, &shares, err)
                                      : sk_fail_memory(err, "the groups");
    if (status == SK_OK)
        status = sk_dataset_save(d, err);
    sk_free((void *)sorted);
    sk_free(groups);
    sk_free(list);
    sk_dataset_close(d);
    return status;
}
