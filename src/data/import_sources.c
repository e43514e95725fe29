/* SPDX-License-Identifier: Apache-2.0 */
/* Reading half of the import: tables and folders per class become rows of a dataset. What a table leaves out (source,
 * group, role) is filled in the careful way: pictures are of the web and form one group per source unless told
 * otherwise, so that nothing can leak by omission. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "data/data.h"
#include "data/table.h"
#include "siskin/video.h"

#define MAX_DEPTH 8
#define MAX_PATH 4000

/* ---- names of classes --------------------------------------------------------------------------- */
/* The label a folder's name stands for; 0 if none. */
static int folder_label(const char *name, size_t length, sk_label *out)
{
    static const struct {
        const char *name;
        sk_label label;
    } names[] = {{"bird", SK_LABEL_BIRD},      {"nobird", SK_LABEL_NOBIRD}, {"no_bird", SK_LABEL_NOBIRD},
                 {"no-bird", SK_LABEL_NOBIRD}, {"empty", SK_LABEL_NOBIRD},  {"background", SK_LABEL_NOBIRD}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strlen(names[i].name) == length && strncasecmp(names[i].name, name, length) == 0) {
            *out = names[i].label;
            return 1;
        }
    }
    return 0;
}

/* The folder above the file that names where it comes from: class folders and `videos` are passed over. */
static char *default_source(const char *path)
{
    const char *end = strrchr(path, '/');
    while (end && end > path) {
        const char *start = end;
        while (start > path && start[-1] != '/')
            start--;
        const size_t length = (size_t)(end - start);
        sk_label label;
        if (length && !folder_label(start, length, &label) && !(length == 6 && strncmp(start, "videos", 6) == 0))
            return sk_format("%.*s", (int)length, start);
        end = start > path ? start - 1 : NULL;
    }
    return sk_strdup("pictures");
}

/* SOURCE/GROUP, so that equal group names of two sources stay two groups; one that is already so is kept. */
static char *group_key(const char *source, const char *group)
{
    const size_t length = strlen(source);
    if (!*group || strcmp(group, source) == 0)
        return sk_strdup(source);
    if (strncmp(group, source, length) == 0 && group[length] == '/')
        return sk_strdup(group);
    return sk_format("%s/%s", source, group);
}

/* ---- tables ------------------------------------------------------------------------------------- */
typedef struct table_reader {
    sk_dataset *dataset;
    sk_table table;
    const char *root; /* folder of relative paths */
    int path, video, frame, time, label, source, group, role, split;
} table_reader;

static const char *cell(const table_reader *r, size_t row, int column)
{
    return sk_table_cell(&r->table, row, column);
}

static sk_status find_columns(table_reader *r, const sk_hooks *hooks, sk_error *err)
{
    const struct {
        const char *name;
        int *at;
    } known[] = {{"path", &r->path},   {"video", &r->video}, {"frame", &r->frame},
                 {"time_s", &r->time}, {"label", &r->label}, {"source", &r->source},
                 {"group", &r->group}, {"role", &r->role},   {"split", &r->split}};
    const sk_table *t = &r->table;
    size_t found = 0;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        *known[i].at = sk_table_column(t, known[i].name);
        found += *known[i].at >= 0;
    }
    if (r->path < 0 && r->video < 0)
        return sk_fail(err, SK_ERR_FORMAT, "%s:1: the header names neither a `path` nor a `video` column", t->path);
    if (r->path >= 0 && r->video >= 0)
        return sk_fail(err, SK_ERR_FORMAT, "%s:1: the header names both `path` and `video`: keep one", t->path);
    if (r->label < 0)
        return sk_fail(err, SK_ERR_FORMAT, "%s:1: the header does not name a `label` column", t->path);
    if (r->video >= 0 && r->frame < 0)
        return sk_fail(err, SK_ERR_FORMAT, "%s:1: the header names `video` but no `frame` column", t->path);
    if (found < t->columns)
        sk_log(hooks, SK_LOG_NOTE, "%s: %zu other columns are not used", t->path, t->columns - found);
    return SK_OK;
}

static sk_status bad_cell(const table_reader *r, size_t row, const char *column, const char *text, const char *wanted,
                          sk_error *err)
{
    return sk_fail(err, SK_ERR_FORMAT, "%s:%zu: %s `%s` is not %s", r->table.path, r->table.lines[row], column, text,
                   wanted);
}

static int parse_role(const char *text, sk_role *out)
{
    if (strcmp(text, "clip") == 0)
        *out = SK_ROLE_CLIP;
    else if (strcmp(text, "web") == 0 || strcmp(text, "train") == 0)
        *out = SK_ROLE_WEB;
    else if (strcmp(text, "held-out") == 0 || strcmp(text, "test") == 0)
        *out = SK_ROLE_HELDOUT;
    else
        return 0;
    return 1;
}

/* The cells that need no memory of their own. */
static sk_status read_cells(const table_reader *r, size_t row, sk_sample *s, sk_error *err)
{
    const char *name = cell(r, row, r->video >= 0 ? r->video : r->path), *frame = cell(r, row, r->frame);
    const char *time = cell(r, row, r->time), *label = cell(r, row, r->label), *role = cell(r, row, r->role);
    const char *split = cell(r, row, r->split);
    *s = (sk_sample){.frame = -1, .time_s = -1};
    if (!*name)
        return sk_fail(err, SK_ERR_FORMAT, "%s:%zu: the path is empty", r->table.path, r->table.lines[row]);
    if (*frame && strcmp(frame, "-1") && !sk_parse_index(frame, &s->frame))
        return bad_cell(r, row, "frame", frame, "a frame number from 0 on", err);
    if (s->frame < 0 && (r->video >= 0 || sk_is_video_name(name)))
        return sk_fail(err, SK_ERR_FORMAT, "%s:%zu: `%s` is a clip: its `frame` must be given", r->table.path,
                       r->table.lines[row], name);
    if (*time && strcmp(time, "-1") && !sk_parse_seconds(time, &s->time_s))
        return bad_cell(r, row, "time_s", time, "a time in seconds", err);
    if (sk_label_parse(label, &s->label) != SK_OK)
        return bad_cell(r, row, "label", label, "one of bird, nobird, unknown", err);
    s->role = s->frame >= 0 ? SK_ROLE_CLIP : SK_ROLE_WEB;
    if (*role && !parse_role(role, &s->role))
        return bad_cell(r, row, "role", role, "one of train (web), test (held-out), clip", err);
    if (sk_split_parse(split, &s->split, NULL) != SK_OK)
        return bad_cell(r, row, "split", split, "one of train, val, test", err);
    return SK_OK;
}

/* Clips may lie beside the table or in its `videos` folder. */
static char *resolve(const char *root, const char *name, int clip)
{
    char *path = sk_path_join(root, name);
    if (path && clip && name[0] != '/' && !sk_path_exists(path)) {
        char *below = sk_format("%s/videos/%s", root, name);
        if (!below || sk_path_exists(below)) {
            sk_free(path);
            path = below;
        } else {
            sk_free(below);
        }
    }
    char *clean = path ? sk_path_clean(path) : NULL;
    sk_free(path);
    return clean;
}

static sk_status add_row(table_reader *r, size_t row, sk_error *err)
{
    sk_sample s;
    sk_status status = read_cells(r, row, &s, err);
    if (status != SK_OK)
        return status;
    const char *given = cell(r, row, r->source), *group = cell(r, row, r->group);
    char *path = resolve(r->root, cell(r, row, r->video >= 0 ? r->video : r->path), s.frame >= 0);
    char *source = !path ? NULL : *given ? sk_strdup(given) : default_source(path);
    char *key = !source ? NULL : group_key(source, *group ? group : s.frame >= 0 ? sk_path_name(path) : "");
    if (!key) {
        status = sk_fail_memory(err, r->table.path);
    } else if (strlen(path) > MAX_PATH) {
        status = sk_fail(err, SK_ERR_FORMAT, "%s:%zu: the path is longer than %d bytes", r->table.path,
                         r->table.lines[row], MAX_PATH);
    } else {
        s.path = path;
        s.source = source;
        s.group = key;
        status = sk_dataset_add(r->dataset, &s, err);
    }
    sk_free(path);
    sk_free(source);
    sk_free(key);
    return status;
}

sk_status sk_import_table(sk_dataset *dataset, const char *path, const char *root, const sk_hooks *hooks, sk_error *err)
{
    table_reader r = {.dataset = dataset};
    char *own_root = NULL;
    sk_status status = sk_table_read(path, &r.table, err);
    if (status != SK_OK)
        return status;
    const size_t length = (size_t)(sk_path_name(path) - path);
    own_root = root ? sk_strdup(root) : sk_format("%.*s", length ? (int)length : 1, length ? path : ".");
    r.root = own_root;
    status = own_root ? find_columns(&r, hooks, err) : sk_fail_memory(err, path);
    for (size_t row = 0; status == SK_OK && row < r.table.rows; row++)
        status = add_row(&r, row, err);
    sk_free(own_root);
    sk_table_free(&r.table);
    return status;
}

/* ---- a folder per class ------------------------------------------------------------------------- */
typedef struct names {
    char **list;
    size_t count, capacity;
} names;

static void free_names(names *n)
{
    for (size_t i = 0; i < n->count; i++)
        sk_free(n->list[i]);
    sk_free(n->list);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The visible names in a folder, sorted, so that the order does not depend on the file system. */
static sk_status list_folder(const char *path, names *out, sk_error *err)
{
    sk_status status = SK_OK;
    memset(out, 0, sizeof *out);
    DIR *dir = opendir(path);
    if (!dir)
        return sk_fail(err, SK_ERR_IO, "cannot open the folder %s: %s", path, strerror(errno));
    for (const struct dirent *e; status == SK_OK && (e = readdir(dir));) {
        if (e->d_name[0] == '.')
            continue;
        if (out->count == out->capacity) {
            const size_t wanted = out->capacity ? out->capacity * 2 : 64;
            char **grown = sk_realloc(out->list, out->capacity, wanted, sizeof *grown);
            if (!grown) {
                status = sk_fail_memory(err, path);
                break;
            }
            out->list = grown;
            out->capacity = wanted;
        }
        out->list[out->count] = sk_strdup(e->d_name);
        if (out->list[out->count])
            out->count++;
        else
            status = sk_fail_memory(err, path);
    }
    closedir(dir);
    if (status == SK_OK && out->count)
        qsort(out->list, out->count, sizeof *out->list, compare_names);
    return status;
}

static int has_control(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            return 1;
    return 0;
}

/* All files below `path`; `group` grows with the sub-folders, which often are species or sites. */
static sk_status add_files(sk_dataset *dataset, const char *path, sk_label label, const char *source, const char *group,
                           int depth, const sk_hooks *hooks, sk_error *err)
{
    names list;
    sk_status status = list_folder(path, &list, err);
    for (size_t i = 0; status == SK_OK && i < list.count; i++) {
        char *full = sk_format("%s/%s", path, list.list[i]);
        char *deeper = sk_format("%s/%s", group, list.list[i]);
        if (!full || !deeper) {
            status = sk_fail_memory(err, path);
        } else if (has_control(list.list[i]) || strlen(full) > MAX_PATH) {
            sk_log(hooks, SK_LOG_WARNING,
                   "left out: a file in %s has a control character in its name or too long a "
                   "path",
                   path);
        } else if (sk_path_is_dir(full)) {
            if (depth >= MAX_DEPTH)
                status = sk_fail(err, SK_ERR_DATA, "%s: folders are nested more than %d deep", full, MAX_DEPTH);
            else
                status = add_files(dataset, full, label, source, deeper, depth + 1, hooks, err);
        } else if (sk_is_video_name(full)) {
            sk_log(hooks, SK_LOG_WARNING, "left out: %s is a clip: label its frames in a table (see `siskin frames`)",
                   full);
        } else {
            const sk_sample s = {.path = full,
                                 .frame = -1,
                                 .time_s = -1,
                                 .label = label,
                                 .source = source,
                                 .group = group,
                                 .role = SK_ROLE_WEB};
            status = sk_dataset_add(dataset, &s, err);
        }
        sk_free(full);
        sk_free(deeper);
    }
    free_names(&list);
    return status;
}

sk_status sk_import_folder(sk_dataset *dataset, const char *path, const sk_hooks *hooks, sk_error *err)
{
    names list = {0};
    char *clean = sk_path_clean(path);
    char *source = clean ? sk_strdup(sk_path_name(clean)) : NULL;
    int classes = 0;
    sk_status status = source ? SK_OK : sk_fail_memory(err, path);
    if (status == SK_OK && (has_control(source) || !*source))
        status = sk_fail(err, SK_ERR_ARGUMENT, "the folder's name `%s` cannot serve as a source's name", source);
    if (status == SK_OK)
        status = list_folder(clean, &list, err);
    for (size_t i = 0; status == SK_OK && i < list.count; i++) {
        sk_label label;
        char *full = sk_format("%s/%s", clean, list.list[i]);
        if (!full) {
            status = sk_fail_memory(err, path);
        } else if (sk_path_is_dir(full)) {
            if (!folder_label(list.list[i], strlen(list.list[i]), &label)) {
                sk_log(hooks, SK_LOG_WARNING,
                       "left out: the folder %s is not named after a class (bird, nobird, "
                       "no_bird, no-bird, empty, background)",
                       full);
            } else {
                classes++;
                status = add_files(dataset, full, label, source, source, 0, hooks, err);
            }
        }
        sk_free(full);
    }
    if (status == SK_OK && !classes)
        status = sk_fail(err, SK_ERR_DATA,
                         "%s holds no folder named after a class (bird, nobird, no_bird, no-bird, empty, "
                         "background)",
                         path);
    free_names(&list);
    sk_free(clean);
    sk_free(source);
    return status;
}
