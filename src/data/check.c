/* SPDX-License-Identifier: Apache-2.0 */
/* The leak check: what the network will be tested on must not be what it has seen. Groups and roles are read off the
 * table; near-duplicates are found by a 64-bit perceptual hash, each hit confirmed on 32x32 grey thumbnails, since
 * hashes of plain pictures (sky, dark nights) collide. Every pair of two splits is compared: a comparison is one XOR
 * and one bit count, so 10,000 pictures against 300 take milliseconds and no index is worth its code; at the
 * distances allowed here, buckets of a multi-index would be so small that they save nothing. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "data/data.h"
#include "image/phash.h"

/* Looked at on 60 million pairs of 10,600 photographs: within these bounds all pairs but variants of one drawing show
 * the same scene; with more bits or larger differences, different birds in one pose and bicycles on white join them.
 * Of copies at half the size, of JPEG quality 30 or at 0.7 of the brightness all are found, with 5 % of the sides cut
 * off 4 of 5, with 10 % one of 5. */
#define HASH_BITS 10  /* most differing bits of a candidate pair */
#define LOOK 12.0     /* most mean absolute difference of the thumbnails, of 255 */
#define EXPOSURE 0.23 /* the same once both have mean 0 and deviation 1 */
#define SHIFT 64.0    /* most difference of the means that counts as exposure */
#define TOLD 40       /* findings of a kind that are told one by one */

typedef struct used {
    size_t index; /* of the sample */
    uint64_t hash, mirrored;
    const sk_thumb *thumb;
} used;

typedef struct pair {
    size_t a, b; /* samples; a's split comes first */
    int bits, mirrored;
    double look;
} pair;

typedef struct pairs {
    pair *list;
    size_t count, capacity;
} pairs;

/* ---- what the table says ------------------------------------------------------------------------ */
static int is_used(const sk_sample *s)
{
    return s->label != SK_LABEL_UNKNOWN && s->split != SK_SPLIT_NONE;
}

static char *describe(const sk_dataset *d, const sk_sample *s)
{
    const char *path = sk_dataset_short_path(d, s->path);
    return s->frame < 0 ? sk_format("%s", path) : sk_format("%s frame %lld", path, (long long)s->frame);
}

static int compare_groups(const void *a, const void *b)
{
    const sk_sample *const *x = a, *const *y = b;
    const int order = strcmp((*x)->group, (*y)->group);
    return order ? order : (int)(*x)->split - (int)(*y)->split;
}

static sk_status check_groups(const sk_dataset *d, const sk_hooks *hooks, sk_check_report *report, sk_error *err)
{
    const sk_sample **sorted = sk_alloc(d->size + 1, sizeof *sorted);
    if (!sorted)
        return sk_fail_memory(err, "the groups");
    size_t count = 0;
    for (size_t i = 0; i < d->size; i++)
        if (is_used(&d->samples[i]))
            sorted[count++] = &d->samples[i];
    qsort((void *)sorted, count, sizeof *sorted, compare_groups);
    for (size_t i = 0; i < count;) {
        size_t end = i, in[4] = {0};
        while (end < count && strcmp(sorted[end]->group, sorted[i]->group) == 0)
            in[sorted[end++]->split]++;
        if (sorted[end - 1]->split != sorted[i]->split && ++report->groups_in_two_splits <= TOLD)
            sk_log(hooks, SK_LOG_WARNING,
                   "leak: the group `%s` is in more than one split: %zu train, %zu val, %zu test", sorted[i]->group,
                   in[SK_SPLIT_TRAIN], in[SK_SPLIT_VAL], in[SK_SPLIT_TEST]);
        i = end;
    }
    sk_free((void *)sorted);
    return SK_OK;
}

static void check_roles(const sk_dataset *d, const sk_hooks *hooks, sk_check_report *report)
{
    for (size_t i = 0; i < d->size; i++) {
        const sk_sample *s = &d->samples[i];
        report->counts[s->split][s->label + 1]++;
        if (!is_used(s))
            continue;
        const char *name = sk_dataset_short_path(d, s->path);
        report->web_in_val += s->role == SK_ROLE_WEB && s->split == SK_SPLIT_VAL;
        if (s->role == SK_ROLE_WEB && s->split == SK_SPLIT_TEST && ++report->web_in_test <= TOLD)
            sk_log(hooks, SK_LOG_WARNING, "leak: the web picture %s is in test, but may be in train or val only", name);
        if (s->role == SK_ROLE_HELDOUT && s->split != SK_SPLIT_TEST && ++report->heldout_outside_test <= TOLD)
            sk_log(hooks, SK_LOG_WARNING, "leak: the held-out picture %s is in %s, but may be in test only", name,
                   sk_split_name(s->split));
    }
}

static void check_balance(const sk_check_report *report, const sk_hooks *hooks)
{
    for (int split = SK_SPLIT_TRAIN; split <= SK_SPLIT_TEST; split++) {
        const size_t nobird = report->counts[split][1], bird = report->counts[split][2];
        const char *name = sk_split_name((sk_split)split);
        if (!nobird && !bird)
            sk_log(hooks, SK_LOG_WARNING,
                   "%s is empty: run `siskin split`; only rows of the role `clip` are shared out by its ratio", name);
        else if (!nobird || !bird)
            sk_log(hooks, SK_LOG_WARNING, "%s holds no %s picture", name, nobird ? "bird" : "nobird");
        else if (nobird > 4 * bird || bird > 4 * nobird)
            sk_log(hooks, SK_LOG_WARNING, "%s is out of balance: %zu bird, %zu nobird", name, bird, nobird);
    }
}

/* ---- near-duplicates ---------------------------------------------------------------------------- */
static void mirror(const sk_thumb *thumb, sk_thumb *out)
{
    for (int y = 0; y < SK_THUMB; y++)
        for (int x = 0; x < SK_THUMB; x++)
            out->grey[y * SK_THUMB + x] = thumb->grey[y * SK_THUMB + SK_THUMB - 1 - x];
}

static sk_status mirrored_hash(const sk_thumb *thumb, uint64_t *out, sk_error *err)
{
    sk_thumb flipped;
    uint8_t rgb[SK_THUMB * SK_THUMB * 3];
    mirror(thumb, &flipped);
    for (int i = 0; i < SK_THUMB * SK_THUMB * 3; i++)
        rgb[i] = flipped.grey[i / 3];
    const sk_image image = {SK_THUMB, SK_THUMB, rgb};
    return sk_phash(&image, out) == SK_OK ? SK_OK : sk_fail_memory(err, "a hash");
}

static void mean_and_deviation(const sk_thumb *t, double *mean, double *deviation)
{
    const int count = SK_THUMB * SK_THUMB;
    long sum = 0, squares = 0;
    for (int i = 0; i < count; i++) {
        sum += t->grey[i];
        squares += t->grey[i] * t->grey[i];
    }
    *mean = (double)sum / count;
    *deviation = sqrt(fmax((double)squares / count - *mean * *mean, 0));
}

/* How unlike two thumbnails look, in the unit of LOOK; another exposure of one picture is no other picture. */
static double unlikeness(const sk_thumb *a, const sk_thumb *b)
{
    double mean_a, mean_b, dev_a, dev_b, sum = 0;
    const double plain = sk_thumb_difference(a, b);
    if (plain <= LOOK)
        return plain;
    mean_and_deviation(a, &mean_a, &dev_a);
    mean_and_deviation(b, &mean_b, &dev_b);
    if (fabs(mean_a - mean_b) > SHIFT || fmin(dev_a, dev_b) < 4 || dev_a > 2 * dev_b || dev_b > 2 * dev_a)
        return plain;
    for (int i = 0; i < SK_THUMB * SK_THUMB; i++)
        sum += fabs((a->grey[i] - mean_a) / dev_a - (b->grey[i] - mean_b) / dev_b);
    return fmin(plain, sum / (SK_THUMB * SK_THUMB) * (LOOK / EXPOSURE));
}

/* Compares one picture of val or test with one of an earlier split; 1: near-duplicate. */
static int is_near(const used *early, const used *late, pair *out)
{
    const int straight = sk_phash_distance(early->hash, late->hash);
    const int flipped = sk_phash_distance(early->hash, late->mirrored);
    if (straight > HASH_BITS && flipped > HASH_BITS)
        return 0;
    *out = (pair){.a = early->index, .b = late->index, .bits = straight, .look = 256};
    if (straight <= HASH_BITS)
        out->look = unlikeness(early->thumb, late->thumb);
    if (flipped <= HASH_BITS && out->look > LOOK) {
        sk_thumb turned;
        mirror(late->thumb, &turned);
        *out = (pair){.a = early->index,
                      .b = late->index,
                      .bits = flipped,
                      .mirrored = 1,
                      .look = unlikeness(early->thumb, &turned)};
    }
    return out->look <= LOOK;
}

static sk_status add_pair(pairs *p, const pair *new_pair, sk_error *err)
{
    if (p->count == p->capacity) {
        const size_t wanted = p->capacity ? p->capacity * 2 : 64;
        pair *grown = sk_realloc(p->list, p->capacity, wanted, sizeof *grown);
        if (!grown)
            return sk_fail_memory(err, "the list of near-duplicates");
        p->list = grown;
        p->capacity = wanted;
    }
    p->list[p->count++] = *new_pair;
    return SK_OK;
}

/* The used pictures that are in the cache, train first, then val, then test; starts[s-1]..starts[s] is split s. */
static sk_status gather(const sk_dataset *d, const sk_cache *cache, used *list, size_t starts[4], sk_error *err)
{
    size_t count = 0;
    for (int split = SK_SPLIT_TRAIN; split <= SK_SPLIT_TEST; split++) {
        starts[split - 1] = count;
        for (size_t i = 0; i < d->size; i++) {
            if (!is_used(&d->samples[i]) || d->samples[i].split != (sk_split)split)
                continue;
            used *u = &list[count];
            *u = (used){.index = i};
            u->thumb = sk_cache_thumb(cache, i, &u->hash);
            if (!u->thumb)
                continue;
            /* Only the later one of a pair is turned, so the many of train need no second hash. */
            if (split != SK_SPLIT_TRAIN && mirrored_hash(u->thumb, &u->mirrored, err) != SK_OK)
                return SK_ERR_MEMORY;
            count++;
        }
    }
    starts[3] = count;
    return SK_OK;
}

static sk_status find_pairs(const sk_dataset *d, const sk_cache *cache, pairs *out, sk_error *err)
{
    size_t starts[4];
    used *list = sk_alloc(d->size + 1, sizeof *list);
    sk_status status = list ? gather(d, cache, list, starts, err) : sk_fail_memory(err, "the list of pictures");
    for (int split = 1; status == SK_OK && split < 3; split++) {
        for (size_t k = starts[split]; status == SK_OK && k < starts[split + 1]; k++) {
            for (size_t i = 0; status == SK_OK && i < starts[split]; i++) {
                pair found;
                if (is_near(&list[i], &list[k], &found))
                    status = add_pair(out, &found, err);
            }
        }
    }
    sk_free(list);
    return status;
}

/* Frames of one fixed camera look alike because the background does, but are never equal: that is a copied clip. */
static int is_same_camera(const sk_dataset *d, const pair *p)
{
    const sk_sample *a = &d->samples[p->a], *b = &d->samples[p->b];
    return a->frame >= 0 && b->frame >= 0 && strcmp(a->source, b->source) == 0 && strcmp(a->path, b->path) != 0 &&
           p->look > 0;
}

static sk_status tell_pair(const sk_dataset *d, const pair *p, const sk_hooks *hooks, sk_error *err)
{
    char *a = describe(d, &d->samples[p->a]), *b = describe(d, &d->samples[p->b]);
    if (a && b)
        sk_log(hooks, SK_LOG_WARNING, "leak: near-duplicates: %s (%s) and %s (%s)%s, %d bits, difference %.1f", a,
               sk_split_name(d->samples[p->a].split), b, sk_split_name(d->samples[p->b].split),
               p->mirrored ? " mirrored" : "", p->bits, p->look);
    sk_free(a);
    sk_free(b);
    return a && b ? SK_OK : sk_fail_memory(err, "a message");
}

static sk_status tell_pairs(const sk_dataset *d, const pairs *p, const sk_hooks *hooks, sk_check_report *report,
                            sk_error *err)
{
    sk_status status = SK_OK;
    for (size_t i = 0; status == SK_OK && i < p->count; i++) {
        if (is_same_camera(d, &p->list[i]))
            report->same_camera_pairs++;
        else if (++report->near_duplicates <= TOLD)
            status = tell_pair(d, &p->list[i], hooks, err);
    }
    if (report->same_camera_pairs)
        sk_log(hooks, SK_LOG_NOTE,
               "%zu pairs of frames of one fixed camera look alike across splits; this is no leak "
               "between clips, but test figures of such a camera say little about another one",
               report->same_camera_pairs);
    return status;
}

/* ---- the two calls ------------------------------------------------------------------------------ */
static sk_status open_both(const char *dir, const sk_hooks *hooks, sk_dataset **d, sk_cache **cache, size_t *bad,
                           sk_error *err)
{
    const sk_status status = sk_dataset_open(dir, d, err);
    return status == SK_OK ? sk_cache_open(*d, INT32_MAX, 0, hooks, cache, bad, err) : status;
}

static size_t more_than_told(size_t count)
{
    return count > TOLD ? count - TOLD : 0;
}

static sk_status sum_up(const sk_check_report *r, const sk_hooks *hooks, sk_error *err)
{
    const size_t untold = more_than_told(r->groups_in_two_splits) + more_than_told(r->web_in_test) +
                          more_than_told(r->heldout_outside_test) + more_than_told(r->near_duplicates);
    if (untold)
        sk_log(hooks, SK_LOG_WARNING, "%zu more findings are not listed", untold);
    if (!(r->groups_in_two_splits + r->web_in_test + r->heldout_outside_test + r->near_duplicates))
        return SK_OK;
    return sk_fail(err, SK_ERR_DATA,
                   "the splits leak: %zu groups in two splits, %zu web pictures outside train, %zu held-out "
                   "pictures outside test, %zu near-duplicate pairs across splits",
                   r->groups_in_two_splits, r->web_in_test, r->heldout_outside_test, r->near_duplicates);
}

sk_status sk_dataset_check(const char *dir, const sk_hooks *hooks, sk_check_report *report, sk_error *err)
{
    sk_check_report own = {0};
    sk_dataset *d = NULL;
    sk_cache *cache = NULL;
    pairs found = {0};
    sk_status status = open_both(dir, hooks, &d, &cache, &own.unreadable, err);
    if (status == SK_OK)
        status = check_groups(d, hooks, &own, err);
    if (status == SK_OK) {
        check_roles(d, hooks, &own);
        check_balance(&own, hooks);
        status = find_pairs(d, cache, &found, err);
    }
    if (status == SK_OK)
        status = tell_pairs(d, &found, hooks, &own, err);
    if (status == SK_OK)
        status = sum_up(&own, hooks, err);
    if (report)
        *report = own;
    sk_free(found.list);
    sk_cache_close(cache);
    sk_dataset_close(d);
    return status;
}

sk_status sk_dataset_drop_duplicates(const char *dir, const sk_hooks *hooks, size_t *dropped, sk_error *err)
{
    sk_dataset *d = NULL;
    sk_cache *cache = NULL;
    pairs found = {0};
    size_t bad = 0, count = 0;
    sk_status status = open_both(dir, hooks, &d, &cache, &bad, err);
    if (status == SK_OK)
        status = find_pairs(d, cache, &found, err);
    for (size_t i = 0; status == SK_OK && i < found.count; i++) {
        sk_sample *victim = &d->samples[found.list[i].a];
        if (is_same_camera(d, &found.list[i]) || victim->label == SK_LABEL_UNKNOWN ||
            d->samples[found.list[i].b].label == SK_LABEL_UNKNOWN)
            continue;
        status = tell_pair(d, &found.list[i], hooks, err);
        victim->label = SK_LABEL_UNKNOWN;
        count++;
    }
    if (status == SK_OK && count)
        status = sk_dataset_save(d, err);
    if (dropped)
        *dropped = status == SK_OK ? count : 0;
    sk_free(found.list);
    sk_cache_close(cache);
    sk_dataset_close(d);
    return status;
}
