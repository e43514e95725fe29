/* SPDX-License-Identifier: Apache-2.0 */
/* What the run folder says about a run: the options that decide its result, the data and the weights it began with,
 * and the log. Whoever has the folder can repeat the run; whoever resumes it with other options is told which. */
#include <float.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/json.h"
#include "train/run.h"

#ifndef SK_VERSION
#define SK_VERSION "0.1.0"
#endif

char *sk_run_config(const sk_train_options *o, const char *pretrained_hash, const char *fingerprint) {
    const sk_card *card = &o->card;
    sk_text text = {0};
    sk_text_add(&text, "--model\t%s\n--size\t%d\n--batch\t%d\n", sk_arch_name(card->arch), card->size, o->batch);
    sk_text_add(&text, "--lr\t%.9g\n--dropout\t%.9g\n", (double)o->lr, (double)o->dropout);
    sk_text_add(&text, "--freeze-features\t%d\n--clip-repeat\t%d\n", o->freeze_features != 0, o->clip_repeat);
    sk_text_add(&text, "--seed\t%llu\n", (unsigned long long)o->seed);
    sk_text_add(&text, "mean\t%.9g,%.9g,%.9g\n", (double)card->mean[0], (double)card->mean[1], (double)card->mean[2]);
    sk_text_add(&text, "std\t%.9g,%.9g,%.9g\n", (double)card->std[0], (double)card->std[1], (double)card->std[2]);
    sk_text_add(&text, "pretrained\t%s\ndata\t%s\n", pretrained_hash[0] ? pretrained_hash : "none", fingerprint);
    if (!text.failed) return text.data;
    sk_text_free(&text);
    return NULL;
}

void sk_run_id(const char *config, char out[17]) {
    snprintf(out, 17, "%016llx", (unsigned long long)sk_hash_bytes(config, strlen(config)));
}

void sk_run_pretrained(const char *config, char out[17]) {
    static const char name[] = "\npretrained\t";
    const char *at = strstr(config, name);
    const char *value = at ? at + sizeof name - 1 : "none";
    const size_t length = strcspn(value, "\n");
    out[0] = '\0';
    if (length == 16) snprintf(out, 17, "%.16s", value);
}

/* Length of the line at `text` and of its name. */
static size_t line_length(const char *text, size_t *name) {
    const size_t length = strcspn(text, "\n");
    *name = strcspn(text, "\t\n");
    return length;
}

/* The fewest digits that still name this very float: 1e-4 and not 9.99999975e-05. */
static const char *float_text(float value, char out[32]) {
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(out, 32, "%.*g", digits, (double)value);
        if (strtof(out, NULL) == value) break;
    }
    return out;
}

static sk_status differs(const char *run_dir, const char *line, size_t length, size_t name, sk_error *err) {
    char value[64], number[32], *end = NULL;
    snprintf(value, sizeof value, "%.*s", (int)(length - name - (name < length)), line + name + (name < length));
    const float parsed = strtof(value, &end);
    if (strchr(value, '.') && *end == '\0') snprintf(value, sizeof value, "%s", float_text(parsed, number));
    return sk_fail(err, SK_ERR_MISMATCH, "cannot resume %s: it was begun with %.*s %s; give the same options or "
                   "another folder", run_dir, (int)name, line, value);
}

sk_status sk_run_compare(const char *run_dir, const char *old_config, const char *new_config, sk_error *err) {
    const char *was = old_config, *is = new_config;
    while (*was && *is) {
        size_t name = 0, other = 0;
        const size_t a = line_length(was, &name), b = line_length(is, &other);
        if (a != b || memcmp(was, is, a) != 0) {
            if (b == 12 && memcmp(is, "pretrained\t" SK_RUN_ANY, 12) == 0 && strncmp(was, is, 11) == 0) goto next;
            if (strncmp(was, "data\t", 5) == 0)
                return sk_fail(err, SK_ERR_MISMATCH, "cannot resume %s: the dataset is not the one it was begun with; "
                               "train into another folder", run_dir);
            if (strncmp(was, "pretrained\t", 11) == 0)
                return sk_fail(err, SK_ERR_MISMATCH, "cannot resume %s: it was begun from other pretrained weights",
                               run_dir);
            return differs(run_dir, was, a, name, err);
        }
next:
        was += a + (was[a] == '\n');
        is += b + (is[b] == '\n');
    }
    if (*was || *is) return sk_fail(err, SK_ERR_MISMATCH, "cannot resume %s: another version made it", run_dir);
    return SK_OK;
}

/* ---- hashes ------------------------------------------------------------------------------------------------ */
static uint64_t mix(uint64_t hash, uint64_t value) { return sk_hash64(hash ^ sk_hash64(value)); }

static uint64_t mix_text(uint64_t hash, const char *text) {
    return text ? mix(hash, sk_hash_bytes(text, strlen(text))) : mix(hash, 0);
}

void sk_run_fingerprint(const sk_dataset *dataset, const sk_cache *cache, char out[17]) {
    const size_t count = sk_dataset_size(dataset);
    uint64_t hash = count;
    for (size_t i = 0; i < count; i++) {
        const sk_sample *sample = sk_dataset_sample(dataset, i);
        sk_image image = {0};
        /* The name without its folder: a dataset that was moved as a whole is still the same. */
        hash = mix_text(hash, sk_path_name(sample->path));
        hash = mix(hash, (uint64_t)sample->frame);
        hash = mix(hash, (uint64_t)(sample->label + 1) << 16 | (uint64_t)sample->role << 8 | (uint64_t)sample->split);
        sk_cache_image(cache, i, &image);
        if (!image.data) continue;
        /* A strip from the middle tells two pictures apart without reading the whole cache. */
        const size_t size = (size_t)image.width * (size_t)image.height * 3, strip = size < 256 ? size : 256;
        hash = mix(hash, (uint64_t)image.width << 32 | (uint64_t)image.height);
        hash = mix(hash, sk_hash_bytes(image.data + (size - strip) / 2, strip));
    }
    snprintf(out, 17, "%016llx", (unsigned long long)hash);
}

sk_status sk_run_file_hash(const char *path, char out[17], sk_error *err) {
    sk_map map = {0};
    sk_status status = sk_file_map(path, &map, err);
    if (status != SK_OK) return status;
    snprintf(out, 17, "%016llx", (unsigned long long)sk_hash_bytes(map.bytes, map.size));
    sk_file_unmap(&map);
    return SK_OK;
}

/* ---- run.json ---------------------------------------------------------------------------------------------- */
static void add_string(sk_text *text, const char *name, const char *value) {
    sk_text_add(text, "  \"%s\": ", name);
    sk_json_put_string(text, value);
    sk_text_add(text, ",\n");
}

static void add_path(sk_text *text, const char *name, const char *path) {
    char *absolute = path ? sk_path_absolute(path) : NULL;
    add_string(text, name, absolute);
    sk_free(absolute);
}

static void add_counts(sk_text *text, const char *name, const sk_loader *loader, const char *end) {
    sk_text_add(text, "  \"%s\": {\"nobird\": %zu, \"bird\": %zu}%s\n", name,
                sk_loader_class_size(loader, SK_LABEL_NOBIRD), sk_loader_class_size(loader, SK_LABEL_BIRD), end);
}

sk_status sk_run_write_json(const char *run_dir, const sk_train_options *o, const sk_dataset *dataset,
                            const char *pretrained_hash, const char *fingerprint, const char *run_id,
                            const sk_loader *train, const sk_loader *val, sk_error *err) {
    const sk_card *card = &o->card;
    char lr[32], dropout[32];
    sk_text text = {0};
    sk_text_add(&text, "{\n");
    add_string(&text, "siskin", SK_VERSION);
    add_string(&text, "run_id", run_id);
    add_string(&text, "model", sk_arch_name(card->arch));
    add_string(&text, "class_names", card->class_names);
    sk_text_add(&text, "  \"size\": %d,\n  \"mean\": [%.9g, %.9g, %.9g],\n  \"std\": [%.9g, %.9g, %.9g],\n", card->size,
                (double)card->mean[0], (double)card->mean[1], (double)card->mean[2], (double)card->std[0],
                (double)card->std[1], (double)card->std[2]);
    add_path(&text, "pretrained", o->pretrained);
    add_string(&text, "pretrained_fnv1a64", pretrained_hash);
    sk_text_add(&text, "  \"optimizer\": \"adam\",\n  \"betas\": [0.9, 0.999],\n  \"eps\": 1e-8,\n");
    sk_text_add(&text, "  \"augmentation\": \"random resized crop, horizontal flip\",\n");
    sk_text_add(&text, "  \"epochs\": %d,\n  \"batch\": %d,\n  \"lr\": %s,\n  \"dropout\": %s,\n", o->epochs,
                o->batch, float_text(o->lr, lr), float_text(o->dropout, dropout));
    sk_text_add(&text, "  \"freeze_features\": %s,\n  \"clip_repeat\": %d,\n  \"seed\": \"%llu\",\n  \"threads\": %d,\n"
                "  \"max_bad\": %d,\n", o->freeze_features ? "true" : "false", o->clip_repeat,
                (unsigned long long)o->seed, o->threads, o->max_bad);
    add_path(&text, "dataset", sk_dataset_dir(dataset));
    add_string(&text, "dataset_fingerprint", fingerprint);
    add_counts(&text, "train", train, ",");
    add_counts(&text, "val", val, "\n}");
    char *path = sk_path_join(run_dir, SK_RUN_JSON);
    sk_status status = path && !text.failed ? sk_file_write(path, text.data, text.size, err)
                                            : sk_fail_memory(err, SK_RUN_JSON);
    sk_free(path);
    sk_text_free(&text);
    return status;
}

typedef struct member {
    const char *name;
    double min, max, value;
} member;

static sk_status read_floats(const cJSON *json, const char *name, const char *path, float out[3], sk_error *err) {
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(json, name);
    for (int i = 0; i < 3; i++) {
        const cJSON *item = cJSON_GetArrayItem(list, i);
        if (!cJSON_IsNumber(item))
            return sk_fail(err, SK_ERR_FORMAT, "%s: \"%s\" is not a list of 3 numbers", path, name);
        out[i] = (float)item->valuedouble;
    }
    return SK_OK;
}

static sk_status read_options(const cJSON *json, const char *path, sk_train_options *o, char *pretrained, size_t size,
                              sk_error *err) {
    const char *model = NULL, *seed = NULL;
    sk_arch arch = SK_ARCH_V3_SMALL;
    member m[] = {{"size", 1, 4096, 0},   {"epochs", 1, INT_MAX, 0}, {"batch", 2, INT_MAX, 0},
                  {"lr", 0, FLT_MAX, 0},  {"dropout", 0, 1, 0},      {"clip_repeat", 1, INT_MAX, 0},
                  {"max_bad", 0, INT_MAX, 0}};
    sk_status status = sk_json_string(json, "model", path, &model, err);
    if (status == SK_OK) status = sk_arch_parse(model, &arch, err);
    if (status == SK_OK) status = sk_json_string(json, "seed", path, &seed, err);
    for (size_t i = 0; status == SK_OK && i < sizeof m / sizeof *m; i++)
        status = sk_json_number(json, m[i].name, m[i].min, m[i].max, path, &m[i].value, err);
    if (status != SK_OK) return status;
    o->card = sk_card_default(arch);
    status = read_floats(json, "mean", path, o->card.mean, err);
    if (status == SK_OK) status = read_floats(json, "std", path, o->card.std, err);
    if (status != SK_OK) return status;
    o->card.size = (int)m[0].value;
    o->epochs = (int)m[1].value;
    o->batch = (int)m[2].value;
    o->lr = (float)m[3].value;
    o->dropout = (float)m[4].value;
    o->clip_repeat = (int)m[5].value;
    o->max_bad = (int)m[6].value;
    o->freeze_features = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(json, "freeze_features"));
    o->seed = strtoull(seed, NULL, 10);
    const cJSON *first = cJSON_GetObjectItemCaseSensitive(json, "pretrained");
    const char *file = cJSON_IsString(first) ? first->valuestring : "";
    if (strlen(file) >= size) return sk_fail(err, SK_ERR_UNSUPPORTED, "%s: the path of the weights is too long", path);
    memcpy(pretrained, file, strlen(file) + 1);
    o->pretrained = pretrained[0] ? pretrained : NULL;
    return SK_OK;
}

sk_status sk_train_options_read(const char *run_dir, sk_train_options *options, char *pretrained, size_t size,
                                sk_error *err) {
    cJSON *json = NULL;
    char *path = sk_path_join(run_dir, SK_RUN_JSON);
    if (!path) return sk_fail_memory(err, "a path");
    sk_status status = SK_OK;
    if (!sk_path_exists(path))
        status = sk_fail(err, SK_ERR_ARGUMENT, "there is no run to resume in %s; leave out --resume to begin one",
                         run_dir);
    if (status == SK_OK) status = sk_json_read(path, &json, err);
    if (status == SK_OK) status = read_options(json, path, options, pretrained, size, err);
    cJSON_Delete(json);
    sk_free(path);
    return status;
}

/* ---- log.tsv ----------------------------------------------------------------------------------------------- */
static const char log_head[] =
    "epoch\ttrain_loss\ttrain_accuracy\tval_loss\tval_accuracy\tbest\tseconds\timages_per_second\n";

void sk_run_log_text(const sk_epoch_log *log, size_t rows, sk_text *out) {
    sk_text_add(out, "%s", log_head);
    for (size_t i = 0; i < rows; i++)
        sk_text_add(out, "%d\t%.9g\t%.9g\t%.9g\t%.9g\t%d\t%.3f\t%.2f\n", log[i].epoch, log[i].train_loss,
                    log[i].train_accuracy, log[i].val_loss, log[i].val_accuracy, log[i].is_best, log[i].seconds,
                    log[i].images_per_second);
}

sk_status sk_run_log_parse(const char *text, const char *name, sk_epoch_log **log, size_t *rows, sk_error *err) {
    *log = NULL;
    *rows = 0;
    if (strncmp(text, log_head, sizeof log_head - 1) != 0)
        return sk_fail(err, SK_ERR_FORMAT, "%s is not the log of a training run", name);
    text += sizeof log_head - 1;
    while (*text) {
        sk_epoch_log row = {0};
        if (sscanf(text, "%d\t%lf\t%lf\t%lf\t%lf\t%d\t%lf\t%lf", &row.epoch, &row.train_loss, &row.train_accuracy,
                   &row.val_loss, &row.val_accuracy, &row.is_best, &row.seconds, &row.images_per_second) != 8 ||
            row.epoch != (int)*rows + 1) {
            sk_free(*log);
            *log = NULL;
            return sk_fail(err, SK_ERR_FORMAT, "%s is broken in row %zu", name, *rows + 1);
        }
        sk_epoch_log *grown = sk_realloc(*log, *rows, *rows + 1, sizeof **log);
        if (!grown) {
            sk_free(*log);
            *log = NULL;
            return sk_fail_memory(err, "the log");
        }
        *log = grown;
        grown[(*rows)++] = row;
        text += strcspn(text, "\n");
        text += *text == '\n';
    }
    return SK_OK;
}

sk_status sk_train_log_read(const char *run_dir, sk_epoch_log **log, size_t *epochs, sk_error *err) {
    uint8_t *bytes = NULL;
    size_t size = 0;
    *log = NULL;
    *epochs = 0;
    char *path = sk_path_join(run_dir, SK_RUN_LOG);
    if (!path) return sk_fail_memory(err, "a path");
    sk_status status = sk_file_read(path, &bytes, &size, err);
    if (status == SK_OK) status = sk_run_log_parse((const char *)bytes, path, log, epochs, err);
    sk_free(bytes);
    sk_free(path);
    return status;
}

void sk_train_log_free(sk_epoch_log *log) { sk_free(log); }
