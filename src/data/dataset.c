/* SPDX-License-Identifier: Apache-2.0 */
/* The dataset in memory and its table on disk. Everything that dataset.tsv says is checked here, once, so that the
 * rooms behind can trust it. */
#include <stdlib.h>
#include <string.h>

#include "data/data.h"
#include "data/table.h"

#define POOL_BLOCK 65536

struct sk_pool_block {
    sk_pool_block *next;
    size_t used, size;
    char text[];
};

const char *sk_pool_add(sk_pool *pool, const char *text)
{
    const size_t size = strlen(text) + 1;
    sk_pool_block *block = pool->head;
    if (!block || block->size - block->used < size) {
        const size_t room = size > POOL_BLOCK ? size : POOL_BLOCK;
        block = sk_alloc(1, sizeof *block + room);
        if (!block)
            return NULL;
        *block = (sk_pool_block){.next = pool->head, .size = room};
        pool->head = block;
    }
    char *copy = block->text + block->used;
    memcpy(copy, text, size);
    block->used += size;
    return copy;
}

void sk_pool_free(sk_pool *pool)
{
    while (pool->head) {
        sk_pool_block *next = pool->head->next;
        sk_free(pool->head);
        pool->head = next;
    }
}

/* ---- names -------------------------------------------------------------------------------------- */
const char *sk_label_name(sk_label label)
{
    return label == SK_LABEL_BIRD ? "bird" : label == SK_LABEL_NOBIRD ? "nobird" : "unknown";
}

sk_status sk_label_parse(const char *text, sk_label *out)
{
    for (int label = SK_LABEL_UNKNOWN; label <= SK_LABEL_BIRD; label++) {
        if (strcmp(text, sk_label_name((sk_label)label)) == 0) {
            *out = (sk_label)label;
            return SK_OK;
        }
    }
    return SK_ERR_ARGUMENT;
}

const char *sk_split_name(sk_split split)
{
    static const char *const names[] = {"", "train", "val", "test"};
    return (unsigned)split < 4 ? names[split] : "";
}

sk_status sk_split_parse(const char *text, sk_split *out, sk_error *err)
{
    for (int split = SK_SPLIT_NONE; split <= SK_SPLIT_TEST; split++) {
        if (strcmp(text, sk_split_name((sk_split)split)) == 0) {
            *out = (sk_split)split;
            return SK_OK;
        }
    }
    return sk_fail(err, SK_ERR_ARGUMENT, "split `%s` is not one of train, val, test", text);
}

const char *sk_role_name(sk_role role)
{
    return role == SK_ROLE_CLIP ? "clip" : role == SK_ROLE_WEB ? "web" : "held-out";
}

/* ---- life --------------------------------------------------------------------------------------- */
char *sk_path_clean(const char *path)
{
    char *text = sk_path_absolute(path);
    if (!text)
        return NULL;
    char *to = text;
    for (const char *from = text; *from;) {
        if (from[0] == '/' && from[1] == '/')
            from++;
        else if (from[0] == '/' && from[1] == '.' && (from[2] == '/' || !from[2]))
            from += 2;
        else
            *to++ = *from++;
    }
    while (to > text + 1 && to[-1] == '/')
        to--;
    if (to == text && *text == 0)
        *to++ = '/';
    *to = 0;
    return text;
}

sk_status sk_dataset_new(const char *dir, sk_dataset **out, sk_error *err)
{
    *out = NULL;
    sk_dataset *dataset = sk_calloc(1, sizeof *dataset);
    if (!dataset)
        return sk_fail_memory(err, "the dataset");
    dataset->dir = sk_path_clean(dir);
    if (!dataset->dir) {
        sk_free(dataset);
        return sk_fail_memory(err, "the dataset");
    }
    *out = dataset;
    return SK_OK;
}

void sk_dataset_close(sk_dataset *dataset)
{
    if (!dataset)
        return;
    sk_pool_free(&dataset->strings);
    sk_free(dataset->samples);
    sk_free(dataset->dir);
    sk_free(dataset);
}

const char *sk_dataset_dir(const sk_dataset *dataset)
{
    return dataset->dir;
}

size_t sk_dataset_size(const sk_dataset *dataset)
{
    return dataset->size;
}

const sk_sample *sk_dataset_sample(const sk_dataset *dataset, size_t index)
{
    return index < dataset->size ? &dataset->samples[index] : NULL;
}

/* Neighbouring rows mostly share source and group: then one copy serves both. */
static const char *pool_text(sk_dataset *dataset, const char *text, const char *before)
{
    return before && strcmp(text, before) == 0 ? before : sk_pool_add(&dataset->strings, text);
}

sk_status sk_dataset_add(sk_dataset *dataset, const sk_sample *sample, sk_error *err)
{
    if (dataset->size == dataset->capacity) {
        const size_t wanted = dataset->capacity ? dataset->capacity * 2 : 256;
        sk_sample *grown = sk_realloc(dataset->samples, dataset->capacity, wanted, sizeof *grown);
        if (!grown)
            return sk_fail_memory(err, "the dataset's rows");
        dataset->samples = grown;
        dataset->capacity = wanted;
    }
    const sk_sample *last = dataset->size ? &dataset->samples[dataset->size - 1] : NULL;
    sk_sample copy = *sample;
    copy.path = pool_text(dataset, sample->path, last ? last->path : NULL);
    copy.source = pool_text(dataset, sample->source, last ? last->source : NULL);
    copy.group = pool_text(dataset, sample->group, last ? last->group : NULL);
    if (!copy.path || !copy.source || !copy.group)
        return sk_fail_memory(err, "the dataset's texts");
    dataset->samples[dataset->size++] = copy;
    return SK_OK;
}

void sk_dataset_drop(sk_dataset *dataset, const uint8_t *flags)
{
    size_t kept = 0;
    for (size_t i = 0; i < dataset->size; i++)
        if (!flags[i])
            dataset->samples[kept++] = dataset->samples[i];
    dataset->size = kept;
}

/* qsort has no context argument, so the sorted items carry what the comparison needs. */
typedef struct order_item {
    const sk_sample *sample;
    size_t index;
} order_item;

static int compare_items(const void *a, const void *b)
{
    const order_item *x = a, *y = b;
    const int order = strcmp(x->sample->path, y->sample->path);
    if (order)
        return order;
    if (x->sample->frame != y->sample->frame)
        return x->sample->frame < y->sample->frame ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

size_t *sk_dataset_order(const sk_dataset *dataset)
{
    const size_t count = dataset->size;
    order_item *items = sk_alloc(count + 1, sizeof *items);
    size_t *order = sk_alloc(count + 1, sizeof *order);
    if (items && order) {
        for (size_t i = 0; i < count; i++)
            items[i] = (order_item){&dataset->samples[i], i};
        qsort(items, count, sizeof *items, compare_items);
        for (size_t i = 0; i < count; i++)
            order[i] = items[i].index;
    } else {
        sk_free(order);
        order = NULL;
    }
    sk_free(items);
    return order;
}

/* ---- dataset.tsv -------------------------------------------------------------------------------- */
static const char *const columns[] = {"path", "frame", "time_s", "label", "source", "group", "role", "split"};
enum { PATH, FRAME, TIME, LABEL, SOURCE, GROUP, ROLE, SPLIT, COLUMNS };

static sk_status bad_cell(const sk_table *t, size_t row, const char *column, const char *cell, const char *wanted,
                          sk_error *err)
{
    return sk_fail(err, SK_ERR_FORMAT, "%s:%zu: %s `%s` is not %s", t->path, t->lines[row], column, cell, wanted);
}

/* Fills what needs no memory of its own; `path` stays as written. */
static sk_status read_row(const sk_table *t, const int *at, size_t row, sk_sample *s, sk_error *err)
{
    const char *cells[COLUMNS];
    for (int i = 0; i < COLUMNS; i++)
        cells[i] = sk_table_cell(t, row, at[i]);
    *s = (sk_sample){.path = cells[PATH], .frame = -1, .time_s = -1, .source = cells[SOURCE], .group = cells[GROUP]};
    if (!*s->path || !*s->source || !*s->group)
        return sk_fail(err, SK_ERR_FORMAT, "%s:%zu: path, source and group must not be empty", t->path, t->lines[row]);
    if (*cells[FRAME] && !sk_parse_index(cells[FRAME], &s->frame))
        return bad_cell(t, row, "frame", cells[FRAME], "a frame number from 0 on (empty: a picture)", err);
    if (*cells[TIME] && !sk_parse_seconds(cells[TIME], &s->time_s))
        return bad_cell(t, row, "time_s", cells[TIME], "a time in seconds (empty: not known)", err);
    if (sk_label_parse(cells[LABEL], &s->label) != SK_OK)
        return bad_cell(t, row, "label", cells[LABEL], "one of bird, nobird, unknown", err);
    int role = SK_ROLE_CLIP;
    while (role <= SK_ROLE_HELDOUT && strcmp(cells[ROLE], sk_role_name((sk_role)role)))
        role++;
    if (role > SK_ROLE_HELDOUT)
        return bad_cell(t, row, "role", cells[ROLE], "one of clip, web, held-out", err);
    s->role = (sk_role)role;
    if (sk_split_parse(cells[SPLIT], &s->split, NULL) != SK_OK)
        return bad_cell(t, row, "split", cells[SPLIT], "one of train, val, test (empty: none)", err);
    return SK_OK;
}

static sk_status find_columns(const sk_table *t, int *at, sk_error *err)
{
    for (int i = 0; i < COLUMNS; i++) {
        at[i] = sk_table_column(t, columns[i]);
        if (at[i] < 0)
            return sk_fail(err, SK_ERR_FORMAT,
                           "%s:1: the header does not name the column `%s`: make the dataset with `siskin import`",
                           t->path, columns[i]);
    }
    if (t->columns != COLUMNS)
        return sk_fail(err, SK_ERR_FORMAT,
                       "%s:1: the header names %zu columns, but a dataset has these %d: path frame "
                       "time_s label source group role split",
                       t->path, t->columns, COLUMNS);
    return SK_OK;
}

/* The same picture twice would count twice, or with two labels. */
static sk_status refuse_doubles(const sk_dataset *dataset, const sk_table *t, sk_error *err)
{
    size_t *order = sk_dataset_order(dataset);
    if (!order)
        return sk_fail_memory(err, "the dataset's rows");
    sk_status status = SK_OK;
    for (size_t k = 1; status == SK_OK && k < dataset->size; k++) {
        const sk_sample *a = &dataset->samples[order[k - 1]], *b = &dataset->samples[order[k]];
        if (strcmp(a->path, b->path) == 0 && a->frame == b->frame)
            status = sk_fail(err, SK_ERR_FORMAT, "%s:%zu: lists again what line %zu lists: %s", t->path,
                             t->lines[order[k]], t->lines[order[k - 1]], sk_dataset_short_path(dataset, b->path));
    }
    sk_free(order);
    return status;
}

static sk_status load(sk_dataset *dataset, const sk_table *t, sk_error *err)
{
    int at[COLUMNS];
    sk_status status = find_columns(t, at, err);
    for (size_t row = 0; status == SK_OK && row < t->rows; row++) {
        sk_sample sample;
        status = read_row(t, at, row, &sample, err);
        if (status != SK_OK)
            break;
        char *path = sk_path_join(dataset->dir, sample.path);
        if (!path)
            return sk_fail_memory(err, "the dataset's paths");
        sample.path = path;
        status = sk_dataset_add(dataset, &sample, err);
        sk_free(path);
    }
    return status == SK_OK ? refuse_doubles(dataset, t, err) : status;
}

sk_status sk_dataset_open(const char *dir, sk_dataset **out, sk_error *err)
{
    sk_dataset *dataset = NULL;
    sk_table table = {0};
    char *path = NULL;
    *out = NULL;
    if (!sk_path_is_dir(dir))
        return sk_fail(err, SK_ERR_IO, "cannot open the dataset %s: not a folder (make one with `siskin import`)", dir);
    sk_status status = sk_dataset_new(dir, &dataset, err);
    if (status != SK_OK)
        return status;
    path = sk_path_join(dir, "dataset.tsv");
    if (!path)
        status = sk_fail_memory(err, "the dataset's path");
    else if (!sk_path_exists(path))
        status = sk_fail(err, SK_ERR_IO,
                         "the folder %s is no dataset: it holds no dataset.tsv (make one with `siskin "
                         "import`)",
                         dir);
    if (status == SK_OK)
        status = sk_table_read(path, &table, err);
    if (status == SK_OK)
        status = load(dataset, &table, err);
    if (status == SK_OK)
        *out = dataset;
    else
        sk_dataset_close(dataset);
    sk_table_free(&table);
    sk_free(path);
    return status;
}

const char *sk_dataset_short_path(const sk_dataset *dataset, const char *path)
{
    const size_t length = strlen(dataset->dir);
    return strncmp(path, dataset->dir, length) == 0 && path[length] == '/' && path[length + 1] ? path + length + 1
                                                                                               : path;
}

sk_status sk_dataset_save(const sk_dataset *dataset, sk_error *err)
{
    sk_text text = {0};
    sk_text_add(&text, "path\tframe\ttime_s\tlabel\tsource\tgroup\trole\tsplit\n");
    for (size_t i = 0; i < dataset->size; i++) {
        const sk_sample *s = &dataset->samples[i];
        sk_text_add(&text, "%s\t", sk_dataset_short_path(dataset, s->path));
        if (s->frame >= 0)
            sk_text_add(&text, "%lld", (long long)s->frame);
        sk_text_add(&text, "\t");
        if (s->time_s >= 0)
            sk_text_add(&text, "%.3f", s->time_s);
        sk_text_add(&text, "\t%s\t%s\t%s\t%s\t%s\n", sk_label_name(s->label), s->source, s->group,
                    sk_role_name(s->role), sk_split_name(s->split));
    }
    char *path = sk_path_join(dataset->dir, "dataset.tsv");
    sk_status status =
        path && !text.failed ? sk_file_write(path, text.data, text.size, err) : sk_fail_memory(err, "dataset.tsv");
    sk_free(path);
    sk_text_free(&text);
    return status;
}
