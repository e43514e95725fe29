/* SPDX-License-Identifier: Apache-2.0 */
/* A test set of composites: which picture goes on which ground, the pictures written, their tables. Both labels go
 * through the same hands: number N of a kind has one ground, one place and one light, and only what is pasted
 * differs. */
#include <stdio.h>
#include <string.h>

#include "data/compose.h"
#include "data/data.h"

enum { TRIES = 6, BATCH = 64, STREAM_DECK = 0xdec };
#define CLEAR 20 /* levels: an object that differs less from its ground can hardly be seen, so another try is made */

sk_compose_options sk_compose_defaults(void)
{
    return (sk_compose_options){.count = 100, .seed = 1, .max_bad = 100};
}

/* ---- decks: what is drawn from ------------------------------------------------------------------ */
/* Samples in the order in which they are used: the sources take turns, each in a random order of its own. */
typedef struct deck {
    size_t *samples, *first; /* first[s]..first[s+1] of source s */
    size_t sources, capacity;
} deck;

typedef struct job {
    const sk_dataset *dataset;
    const sk_cache *cache;
    const sk_compose_options *options;
    const sk_hooks *hooks;
    deck patches[SK_CLASS_COUNT], grounds;
    int kinds[SK_COMPOSE_KINDS], kind_count;
    char *dir; /* absolute */
} job;

/* One picture of the set. */
typedef struct piece {
    int kind, label;
    size_t patch, ground; /* samples */
    sk_composite composite;
    sk_status status;
    sk_error error;
} piece;

static void deck_free(deck *d)
{
    sk_free(d->samples);
    sk_free(d->first);
}

static size_t deck_size(const deck *d)
{
    return d->sources ? d->first[d->sources] : 0;
}

static size_t deck_take(const deck *d, size_t number)
{
    const size_t s = number % d->sources, size = d->first[s + 1] - d->first[s];
    return d->samples[d->first[s] + number / d->sources % size];
}

static size_t count_words(const char *text)
{
    size_t n = 1;
    for (; *text; text++)
        n += *text == ',';
    return n;
}

static int has_source(const job *j, const char *name, size_t length)
{
    for (size_t i = 0; i < sk_dataset_size(j->dataset); i++) {
        const char *source = sk_dataset_sample(j->dataset, i)->source;
        if (strlen(source) == length && memcmp(source, name, length) == 0)
            return 1;
    }
    return 0;
}

/* The samples of one source that may be taken, shuffled, as the deck's next source. */
static void add_source(const job *j, deck *d, const char *name, size_t length, int label, sk_split split)
{
    const size_t first = deck_size(d);
    size_t n = first;
    for (size_t i = 0; i < sk_dataset_size(j->dataset); i++) {
        const sk_sample *s = sk_dataset_sample(j->dataset, i);
        sk_image image;
        if ((int)s->label != label || strlen(s->source) != length || memcmp(s->source, name, length) ||
            (split != SK_SPLIT_NONE && s->split != split))
            continue;
        sk_cache_image(j->cache, i, &image);
        if (image.data)
            d->samples[n++] = i;
    }
    if (n == first)
        return;
    sk_rng rng = sk_rng_make(j->options->seed, STREAM_DECK, sk_hash_bytes(name, length));
    sk_rng_shuffle(&rng, d->samples + first, n - first, sizeof *d->samples);
    d->first[++d->sources] = n;
}

/* Reads "SOURCE[:LABEL],..." into the deck of one label. `what` is the option's name. */
static sk_status deck_fill(const job *j, deck *d, const char *what, const char *text, int label, sk_split split,
                           sk_error *err)
{
    if (!text || !*text)
        return sk_fail(err, SK_ERR_ARGUMENT, "no sources of %s are named", what);
    const size_t words = count_words(text);
    d->samples = sk_alloc(sk_dataset_size(j->dataset) * words + 1, sizeof *d->samples);
    d->first = sk_calloc(words + 1, sizeof *d->first);
    if (!d->samples || !d->first)
        return sk_fail_memory(err, "the list of pictures");
    for (const char *word = text;; word++) {
        size_t length = strcspn(word, ",");
        const char *end = word + length;
        int wanted = 1;
        if (!has_source(j, word, length)) {
            const char *colon = end;
            while (colon > word && colon[-1] != ':')
                colon--;
            const size_t tail = colon > word ? (size_t)(end - colon) : 0;
            const int bird = tail == 4 && memcmp(colon, "bird", 4) == 0;
            if (bird || (tail == 6 && memcmp(colon, "nobird", 6) == 0)) {
                length -= tail + 1;
                wanted = bird == label;
            }
            if (!has_source(j, word, length))
                return sk_fail(err, SK_ERR_ARGUMENT, "%s: the dataset %s has no source `%.*s`", what,
                               sk_dataset_dir(j->dataset), (int)length, word);
        }
        if (wanted)
            add_source(j, d, word, length, label, split);
        word = end;
        if (!*word)
            break;
    }
    if (deck_size(d))
        return SK_OK;
    return sk_fail(err, SK_ERR_ARGUMENT, "%s: `%s` gives no readable %s picture%s%s; name another source", what, text,
                   sk_label_name((sk_label)label), split ? " of split " : "", sk_split_name(split));
}

/* Train beside other splits would be a test that was partly learnt by heart: only if it was asked for. */
static sk_status refuse_mixture(const job *j, const deck *decks, int count, int allowed, const char *what,
                                sk_error *err)
{
    size_t train = 0, all = 0;
    for (int d = 0; d < count; d++)
        for (size_t i = 0; i < deck_size(&decks[d]); i++, all++)
            train += sk_dataset_sample(j->dataset, decks[d].samples[i])->split == SK_SPLIT_TRAIN;
    if (!train || train == all || allowed)
        return SK_OK;
    return sk_fail(err, SK_ERR_ARGUMENT,
                   "%zu of the %zu %s are from the training part and the others not: choose one split, or `any` to mix "
                   "them",
                   train, all, what);
}

static sk_status fill_decks(job *j, sk_error *err)
{
    const sk_compose_options *o = j->options;
    sk_status status = SK_OK;
    for (int label = 0; status == SK_OK && label < SK_CLASS_COUNT; label++)
        status = deck_fill(j, &j->patches[label], "patches", o->patches, label, o->patch_split, err);
    if (status == SK_OK)
        status = refuse_mixture(j, j->patches, SK_CLASS_COUNT, o->mix_patches, "patches", err);
    if (status == SK_OK)
        status = deck_fill(j, &j->grounds, "grounds", o->grounds, SK_LABEL_NOBIRD, o->ground_split, err);
    return status == SK_OK ? refuse_mixture(j, &j->grounds, 1, o->mix_grounds, "grounds", err) : status;
}

static sk_status read_kinds(job *j, sk_error *err)
{
    const char *text = j->options->kinds;
    for (int k = 0; !text && k < SK_COMPOSE_KINDS; k++)
        j->kinds[j->kind_count++] = k;
    for (const char *word = text; word; word++) {
        const size_t length = strcspn(word, ",");
        int k = 0;
        while (k < SK_COMPOSE_KINDS &&
               (strlen(sk_compose_kind(k)) != length || memcmp(sk_compose_kind(k), word, length)))
            k++;
        if (k == SK_COMPOSE_KINDS)
            return sk_fail(err, SK_ERR_ARGUMENT, "kind `%.*s` is not one of small, dark, cut, night, blur",
                           (int)length, word);
        for (int i = 0; i < j->kind_count; i++)
            if (j->kinds[i] == k)
                return sk_fail(err, SK_ERR_ARGUMENT, "kind `%.*s` is named twice", (int)length, word);
        j->kinds[j->kind_count++] = k;
        word += length;
        if (!*word)
            break;
    }
    return SK_OK;
}

/* ---- pictures ----------------------------------------------------------------------------------- */
static char *picture_name(const piece *p, size_t number)
{
    return sk_format("pictures/%s-%s-%05zu.png", sk_compose_kind(p->kind), sk_label_name((sk_label)p->label),
                     number + 1);
}

/* An object that cannot be seen (a dark one at night) would make a wrong label: then the next ground is tried. */
static void make(const job *j, piece *p, size_t number)
{
    sk_composite best = {.contrast = -1};
    p->patch = deck_take(&j->patches[p->label], number);
    p->status = SK_OK;
    for (size_t attempt = 0; attempt < TRIES && best.contrast < CLEAR; attempt++) {
        const size_t ground = deck_take(&j->grounds, number + attempt * (size_t)j->options->count);
        sk_image patch, empty;
        sk_composite c;
        sk_cache_image(j->cache, p->patch, &patch);
        sk_cache_image(j->cache, ground, &empty);
        p->status = sk_composite_make(p->kind, &patch, &empty, j->options->seed, number * TRIES + attempt, &c,
                                      &p->error);
        if (p->status != SK_OK)
            break;
        if (c.contrast > best.contrast) {
            sk_image_free(&best.image);
            best = c;
            p->ground = ground;
        } else {
            sk_image_free(&c.image);
        }
    }
    char *name = picture_name(p, number), *path = name ? sk_path_join(j->dir, name) : NULL;
    if (p->status == SK_OK)
        p->status = path ? sk_image_write(path, &best.image, 0, &p->error) : sk_fail_memory(&p->error, "a picture");
    sk_free(name);
    sk_free(path);
    sk_image_free(&best.image);
    p->composite = best;
}

static sk_status make_all(const job *j, piece *pieces, size_t total, sk_error *err)
{
    const size_t count = (size_t)j->options->count;
    for (size_t first = 0; first < total; first += BATCH) {
        const size_t end = first + BATCH < total ? first + BATCH : total;
        sk_progress(j->hooks, "compose", "pictures", first, total);
        if (sk_cancelled(j->hooks))
            return sk_fail(err, SK_ERR_CANCELLED, "stopped after %zu of %zu pictures; no table was written", first,
                           total);
#pragma omp parallel for schedule(dynamic) num_threads(sk_thread_count(j->options->threads))
        for (size_t i = first; i < end; i++) {
            pieces[i].kind = j->kinds[i / count / SK_CLASS_COUNT];
            pieces[i].label = (int)(i / count % SK_CLASS_COUNT);
            make(j, &pieces[i], i % count);
        }
        for (size_t i = first; i < end; i++)
            if (pieces[i].status != SK_OK) {
                if (err)
                    *err = pieces[i].error;
                return pieces[i].status;
            }
    }
    sk_progress(j->hooks, "compose", "pictures", total, total);
    return SK_OK;
}

/* ---- tables ------------------------------------------------------------------------------------- */
static void add_sample_cells(const job *j, sk_text *text, size_t index)
{
    const sk_sample *s = sk_dataset_sample(j->dataset, index);
    sk_text_add(text, "\t%s\t", s->path);
    if (s->frame >= 0)
        sk_text_add(text, "%lld", (long long)s->frame);
    sk_text_add(text, "\t%s", sk_split_name(s->split));
}

static sk_status write_origin(const job *j, const piece *pieces, size_t total, sk_error *err)
{
    sk_text text = {0};
    sk_text_add(&text, "path\tkind\tlabel\tpatch\tpatch_frame\tpatch_split\tground\tground_frame\tground_split\tx\ty\t"
                       "width\theight\tmirrored\tvisible\tcontrast\tseparated\n");
    for (size_t i = 0; i < total; i++) {
        const piece *p = &pieces[i];
        const sk_composite *c = &p->composite;
        char *name = picture_name(p, i % (size_t)j->options->count);
        text.failed |= !name;
        sk_text_add(&text, "%s\t%s\t%s", name ? name : "", sk_compose_kind(p->kind), sk_label_name((sk_label)p->label));
        add_sample_cells(j, &text, p->patch);
        add_sample_cells(j, &text, p->ground);
        sk_text_add(&text, "\t%d\t%d\t%d\t%d\t%d\t%.3f\t%.1f\t%d\n", c->place.x, c->place.y, c->place.width,
                    c->place.height, c->place.mirrored, c->visible, c->contrast, c->separated);
        sk_free(name);
    }
    char *path = sk_path_join(j->dir, "compose.tsv");
    const sk_status status =
        path && !text.failed ? sk_file_write(path, text.data, text.size, err) : sk_fail_memory(err, "compose.tsv");
    sk_free(path);
    sk_text_free(&text);
    return status;
}

static sk_status write_dataset(const job *j, const piece *pieces, size_t total, sk_error *err)
{
    sk_dataset *set = NULL;
    sk_status status = sk_dataset_new(j->dir, &set, err);
    for (size_t i = 0; status == SK_OK && i < total; i++) {
        const piece *p = &pieces[i];
        char *name = picture_name(p, i % (size_t)j->options->count), *path = name ? sk_path_join(j->dir, name) : NULL;
        char *source = sk_format("composite-%s", sk_compose_kind(p->kind));
        char *group = sk_format("%s/%s", source ? source : "", sk_dataset_sample(j->dataset, p->patch)->source);
        const sk_sample row = {.path = path, .frame = -1, .time_s = -1, .label = (sk_label)p->label, .source = source,
                               .group = group, .role = SK_ROLE_HELDOUT, .split = SK_SPLIT_TEST};
        status = path && source && group ? sk_dataset_add(set, &row, err) : sk_fail_memory(err, "the dataset's rows");
        sk_free(name);
        sk_free(path);
        sk_free(source);
        sk_free(group);
    }
    if (status == SK_OK)
        status = sk_dataset_save(set, err);
    sk_dataset_close(set);
    return status;
}

static sk_status count_origin(const job *j, const piece *pieces, size_t total, sk_compose_report *report, sk_error *err)
{
    uint8_t *seen = sk_calloc(sk_dataset_size(j->dataset) + 1, 1);
    if (!seen)
        return sk_fail_memory(err, "the report");
    *report = (sk_compose_report){.pictures = total};
    for (size_t i = 0; i < total; i++) {
        const piece *p = &pieces[i];
        report->unclear += p->composite.contrast < CLEAR;
        if (!(seen[p->patch] & 1))
            report->patches[p->label][sk_dataset_sample(j->dataset, p->patch)->split]++;
        if (!(seen[p->ground] & 2))
            report->grounds[sk_dataset_sample(j->dataset, p->ground)->split]++;
        seen[p->patch] |= 1;
        seen[p->ground] |= 2;
    }
    sk_free(seen);
    return SK_OK;
}

/* ---- the whole ---------------------------------------------------------------------------------- */
static sk_status prepare(job *j, const char *dir, sk_error *err)
{
    j->dir = sk_path_clean(dir);
    char *table = j->dir ? sk_path_join(j->dir, "dataset.tsv") : NULL;
    char *pictures = j->dir ? sk_path_join(j->dir, "pictures") : NULL;
    sk_status status = SK_OK;
    if (!table || !pictures)
        status = sk_fail_memory(err, dir);
    else if (sk_path_exists(table))
        status = sk_fail(err, SK_ERR_ARGUMENT, "%s is there already: choose another folder or remove it", table);
    else
        status = sk_make_dirs(pictures, err);
    sk_free(table);
    sk_free(pictures);
    return status;
}

static sk_status compose(job *j, const char *dir, sk_compose_report *report, sk_error *err)
{
    sk_status status = fill_decks(j, err);
    if (status == SK_OK)
        status = prepare(j, dir, err);
    if (status != SK_OK)
        return status;
    const size_t total = (size_t)j->options->count * SK_CLASS_COUNT * (size_t)j->kind_count;
    piece *pieces = sk_calloc(total, sizeof *pieces);
    if (!pieces)
        return sk_fail_memory(err, "the list of composites");
    status = make_all(j, pieces, total, err);
    if (status == SK_OK)
        status = write_origin(j, pieces, total, err);
    if (status == SK_OK && report)
        status = count_origin(j, pieces, total, report, err);
    if (status == SK_OK) /* last: a folder with this table is complete */
        status = write_dataset(j, pieces, total, err);
    sk_free(pieces);
    return status;
}

sk_status sk_dataset_compose(const sk_dataset *dataset, const char *dir, const sk_compose_options *options,
                             const sk_hooks *hooks, sk_compose_report *report, sk_error *err)
{
    job j = {.dataset = dataset, .options = options, .hooks = hooks};
    sk_cache *cache = NULL;
    size_t bad = 0;
    if (options->count < 1 || options->count > 100000)
        return sk_fail(err, SK_ERR_ARGUMENT, "%d pictures per kind and label are not possible: 1 to 100000",
                       options->count);
    sk_status status = read_kinds(&j, err);
    if (status == SK_OK)
        status = sk_cache_open(dataset, options->max_bad, options->threads, hooks, &cache, &bad, err);
    if (status == SK_OK) {
        j.cache = cache;
        status = compose(&j, dir, report, err);
    }
    for (int label = 0; label < SK_CLASS_COUNT; label++)
        deck_free(&j.patches[label]);
    deck_free(&j.grounds);
    sk_cache_close(cache);
    sk_free(j.dir);
    return status;
}
