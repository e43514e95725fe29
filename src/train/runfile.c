/* SPDX-License-Identifier: Apache-2.0 */
/* run.json and the fingerprints in it: whoever has the folder knows the options, the data and the weights the run began
 * with, and can repeat it. */
#include <stdio.h>
#include <string.h>

#include "formats/json.h"
#include "train/keys.h"
#include "train/run.h"

#ifndef SK_VERSION
#define SK_VERSION "0.1.0"
#endif

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
    char *best = sk_path_is_dir(path) ? sk_path_join(path, SK_RUN_BEST) : NULL; /* a run stands for its best weights */
    if (sk_path_is_dir(path) && !best) return sk_fail_memory(err, "a path");
    sk_status status = sk_file_map(best ? best : path, &map, err);
    sk_free(best);
    if (status != SK_OK) return status;
    snprintf(out, 17, "%016llx", (unsigned long long)sk_hash_bytes(map.bytes, map.size));
    sk_file_unmap(&map);
    return SK_OK;
}

/* ---- writing ----------------------------------------------------------------------------------------------- */
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

static void add_counts(sk_text *text, const char *name, const sk_loader *loader) {
    sk_text_add(text, "  \"%s\": {\"nobird\": %zu, \"bird\": %zu},\n", name,
                sk_loader_class_size(loader, SK_LABEL_NOBIRD), sk_loader_class_size(loader, SK_LABEL_BIRD));
}

static const char *json_name(const sk_train_key *key) {
    const char *dot = strchr(key->name, '.');
    return dot ? dot + 1 : key->name;
}

static void add_key(sk_text *text, const sk_train_options *o, const sk_train_key *key, const char *indent) {
    char value[32];
    const char *shown = sk_train_options_get(o, key, value);
    sk_text_add(text, "%s\"%s\": ", indent, json_name(key));
    if (key->type == SK_KEY_FLAG) sk_text_add(text, "%s", strcmp(shown, "yes") == 0 ? "true" : "false");
    else if (key->type == SK_KEY_INT || key->type == SK_KEY_FLOAT) sk_text_add(text, "%s", shown);
    else sk_json_put_string(text, shown);
}

static void add_keys(sk_text *text, const sk_train_options *o) {
    const char *before = "";
    for (size_t i = 0; sk_train_key_at(i); i++) {
        const sk_train_key *key = sk_train_key_at(i);
        if (key->section == SK_SECTION_AUGMENT || key->type == SK_KEY_TEXT) continue;
        add_key(text, o, key, "  ");
        sk_text_add(text, ",\n");
    }
    sk_text_add(text, "  \"augment\": {");
    for (size_t i = 0; sk_train_key_at(i); i++) {
        if (sk_train_key_at(i)->section != SK_SECTION_AUGMENT) continue;
        sk_text_add(text, "%s\n", before);
        add_key(text, o, sk_train_key_at(i), "    ");
        before = ",";
    }
    sk_text_add(text, "\n  },\n");
}

sk_status sk_run_write_json(const char *run_dir, const sk_run_about *about, sk_error *err) {
    const sk_train_options *o = about->options;
    const sk_card *card = &o->card;
    sk_text text = {0};
    sk_text_add(&text, "{\n");
    add_string(&text, "siskin", SK_VERSION);
    add_string(&text, "run_id", about->run_id);
    add_string(&text, "recipe", o->recipe);
    add_string(&text, "class_names", card->class_names);
    sk_text_add(&text, "  \"mean\": [%.9g, %.9g, %.9g],\n  \"std\": [%.9g, %.9g, %.9g],\n", (double)card->mean[0],
                (double)card->mean[1], (double)card->mean[2], (double)card->std[0], (double)card->std[1],
                (double)card->std[2]);
    add_path(&text, "pretrained", o->pretrained);
    add_string(&text, "pretrained_fnv1a64", about->pretrained_hash);
    add_keys(&text, o);
    add_path(&text, "dataset", sk_dataset_dir(about->dataset));
    add_string(&text, "dataset_fingerprint", about->fingerprint);
    add_counts(&text, "train", about->train);
    add_counts(&text, "val", about->val);
    sk_text_add(&text, "  \"stopped_early\": %d\n}\n", about->stopped_early);
    char *path = sk_path_join(run_dir, SK_RUN_JSON);
    sk_status status =
        path && !text.failed ? sk_file_write(path, text.data, text.size, err) : sk_fail_memory(err, SK_RUN_JSON);
    sk_free(path);
    sk_text_free(&text);
    return status;
}

/* ---- reading ------------------------------------------------------------------------------------------------ */
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

/* What every run has; an option that a run does not name came later and was off. */
static int is_needed(const char *name) {
    static const char *const needed[] = {"model", "size", "seed", "epochs", "batch", "lr"};
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
        if (strcmp(needed[i], name) == 0) return 1;
    return 0;
}

static sk_status read_key(const cJSON *json, const sk_train_key *key, const char *path, sk_train_options *o,
                          sk_error *err) {
    if (key->section == SK_SECTION_AUGMENT) json = cJSON_GetObjectItemCaseSensitive(json, "augment");
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, json_name(key));
    char number[40];
    const char *text = cJSON_GetStringValue(item);
    if (!item && !is_needed(key->name)) return SK_OK;
    if (cJSON_IsNumber(item)) {
        snprintf(number, sizeof number, key->type == SK_KEY_FLOAT ? "%.17g" : "%.0f", item->valuedouble);
        text = number;
    } else if (cJSON_IsBool(item)) {
        text = cJSON_IsTrue(item) ? "yes" : "no";
    }
    if (!text) return sk_fail(err, SK_ERR_FORMAT, "%s: \"%s\" is missing or of another type", path, key->name);
    if (sk_train_options_set(o, key->name, text, err) == SK_OK) return SK_OK;
    if (err) err->code = SK_ERR_FORMAT;
    return sk_error_prefix(err, SK_ERR_FORMAT, "%s", path);
}

static sk_status read_options(const cJSON *json, const char *path, sk_train_options *o, char *pretrained, size_t size,
                              sk_error *err) {
    sk_status status = SK_OK;
    for (size_t i = 0; status == SK_OK && sk_train_key_at(i); i++) {
        const sk_train_key *key = sk_train_key_at(i);
        if (key->type != SK_KEY_TEXT && strcmp(key->name, "threads") != 0) status = read_key(json, key, path, o, err);
    }
    if (status == SK_OK) status = read_floats(json, "mean", path, o->card.mean, err);
    if (status == SK_OK) status = read_floats(json, "std", path, o->card.std, err);
    if (status != SK_OK) return status;
    const cJSON *first = cJSON_GetObjectItemCaseSensitive(json, "pretrained");
    const cJSON *recipe = cJSON_GetObjectItemCaseSensitive(json, "recipe");
    const char *file = cJSON_IsString(first) ? first->valuestring : "";
    if (strlen(file) >= size) return sk_fail(err, SK_ERR_UNSUPPORTED, "%s: the path of the weights is too long", path);
    memcpy(pretrained, file, strlen(file) + 1);
    o->pretrained = pretrained[0] ? pretrained : NULL;
    snprintf(o->recipe, sizeof o->recipe, "%s", cJSON_IsString(recipe) ? recipe->valuestring : "");
    return SK_OK;
}

sk_status sk_train_options_read(const char *run_dir, sk_train_options *options, char *pretrained, size_t size,
                                sk_error *err) {
    sk_train_options read = sk_train_defaults(SK_ARCH_V3_SMALL);
    cJSON *json = NULL;
    char *path = sk_path_join(run_dir, SK_RUN_JSON);
    if (!path) return sk_fail_memory(err, "a path");
    read.threads = options->threads;
    read.resume = options->resume;
    sk_status status = SK_OK;
    if (!sk_path_exists(path))
        status =
            sk_fail(err, SK_ERR_ARGUMENT, "there is no run to resume in %s; leave out --resume to begin one", run_dir);
    if (status == SK_OK) status = sk_json_read(path, &json, err);
    if (status == SK_OK) status = read_options(json, path, &read, pretrained, size, err);
    if (status == SK_OK) *options = read;
    cJSON_Delete(json);
    sk_free(path);
    return status;
}
