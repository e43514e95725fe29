/* SPDX-License-Identifier: Apache-2.0 */
/* What a sweep trains: fixed values, axes and seeds become configurations and runs. Everything is checked here, so that
 * no slip of the pen is found after a night of training. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "siskin/text.h"
#include "sweep/sweep.h"
#include "train/keys.h"

static const char recipe_name[] = "recipe";

sk_status sk_sweep_create(sk_sweep **out, sk_error *err) {
    *out = sk_calloc(1, sizeof **out);
    if (!*out) return sk_fail_memory(err, "the sweep");
    (*out)->seeds = 3;
    return SK_OK;
}

static void free_axes(sk_axis_values *axes, size_t count) {
    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; k < axes[i].count; k++) sk_free(axes[i].values[k]);
        sk_free(axes[i].values);
        sk_free(axes[i].name);
    }
    sk_free(axes);
}

void sk_sweep_free(sk_sweep *sweep) {
    if (!sweep) return;
    free_axes(sweep->fixed, sweep->fixed_count);
    free_axes(sweep->axes, sweep->axis_count);
    for (size_t i = 0; i < sweep->config_count; i++) {
        sk_free(sweep->configs[i].name);
        sk_free(sweep->configs[i].choice);
    }
    for (size_t i = 0; i < sweep->run_count; i++) {
        sk_free(sweep->runs[i].name);
        sk_free(sweep->runs[i].dir);
        sk_free(sweep->runs[i].error);
        sk_free(sweep->runs[i].values);
    }
    for (size_t i = 0; i < sweep->measure_count; i++) {
        sk_free((char *)sweep->measures[i].key);
        sk_free((char *)sweep->measures[i].name);
    }
    for (size_t i = 0; i < sweep->judge_count; i++) {
        sk_judge *j = &sweep->judges[i];
        if (j->cache != sweep->cache) sk_cache_close(j->cache);
        if (j->dataset != sweep->dataset) sk_dataset_close(j->dataset);
        sk_free(j->name);
        sk_free(j->dir);
    }
    sk_cache_close(sweep->cache);
    sk_dataset_close(sweep->dataset);
    sk_free(sweep->configs);
    sk_free(sweep->runs);
    sk_free(sweep->measures);
    sk_free(sweep->judges);
    sk_free(sweep);
}

/* ---- names and values --------------------------------------------------------------------------------------- */

static const char *nth_name(const void *user, int index) {
    (void)user;
    if (index == 0) return recipe_name;
    const sk_train_key *key = sk_train_key_at((size_t)index - 1);
    return key ? key->name : NULL;
}

/* *name becomes the key's own name; *key is NULL for "recipe". */
static sk_status find_name(const char **name, const sk_train_key **key, sk_error *err) {
    *key = NULL;
    if (strcmp(*name, recipe_name) == 0) return SK_OK;
    for (size_t i = 0; sk_train_key_at(i) && !*key; i++) {
        const sk_train_key *k = sk_train_key_at(i);
        if (strcmp(k->name, *name) == 0 || strcmp(k->option, *name) == 0) *key = k;
    }
    if (*key) {
        *name = (*key)->name;
        return SK_OK;
    }
    const char *near = sk_nearest(*name, nth_name, NULL);
    if (near) return sk_fail(err, SK_ERR_ARGUMENT, "unknown key '%.60s'; did you mean %s?", *name, near);
    return sk_fail(err, SK_ERR_ARGUMENT, "unknown key '%.60s'; docs/recipes.md lists all keys", *name);
}

static const sk_axis_values *find_axis(const sk_axis_values *axes, size_t count, const char *name) {
    for (size_t i = 0; i < count; i++)
        if (strcmp(axes[i].name, name) == 0) return &axes[i];
    return NULL;
}

static sk_status already_set(const sk_sweep *sweep, const char *name, sk_error *err) {
    if (find_axis(sweep->axes, sweep->axis_count, name))
        return sk_fail(err, SK_ERR_ARGUMENT, "%s is already an axis of the grid; give it once, with all its values",
                       name);
    if (find_axis(sweep->fixed, sweep->fixed_count, name))
        return sk_fail(err, SK_ERR_ARGUMENT, "%s already has one value for all runs; give it once, as that or in the "
                       "grid", name);
    return SK_OK;
}

/* The recipe's own sentence, or the key's. */
static sk_status try_value(const char *name, const sk_train_key *key, const char *text, sk_error *err) {
    sk_train_options options = sk_train_defaults(SK_ARCH_V3_SMALL);
    return key ? sk_train_options_set(&options, name, text, err) : sk_recipe_read(text, &options, err);
}

/* Whether two texts mean the same: 1e-4 and 0.0001. */
static int same_value(const sk_train_key *key, const char *a, const char *b) {
    sk_train_options x = sk_train_defaults(SK_ARCH_V3_SMALL), y = x;
    char first[32], second[32];
    if (!key || strcmp(a, b) == 0) return strcmp(a, b) == 0;
    if (sk_train_options_set(&x, key->name, a, NULL) != SK_OK) return 0;
    if (sk_train_options_set(&y, key->name, b, NULL) != SK_OK) return 0;
    return strcmp(sk_train_options_get(&x, key, first), sk_train_options_get(&y, key, second)) == 0;
}

static sk_status add_axis(sk_axis_values **list, size_t *count, const char *name, sk_error *err) {
    sk_axis_values *grown = sk_realloc(*list, *count, *count + 1, sizeof *grown);
    if (!grown) return sk_fail_memory(err, "the grid");
    *list = grown;
    grown[*count] = (sk_axis_values){.name = sk_strdup(name)};
    if (!grown[*count].name) return sk_fail_memory(err, "the grid");
    ++*count;
    return SK_OK;
}

static sk_status add_value(sk_axis_values *axis, const char *text, size_t size, sk_error *err) {
    char **grown = sk_realloc(axis->values, axis->count, axis->count + 1, sizeof *grown);
    if (!grown) return sk_fail_memory(err, "the grid");
    axis->values = grown;
    grown[axis->count] = sk_format("%.*s", (int)size, text);
    return grown[axis->count] ? (axis->count++, SK_OK) : sk_fail_memory(err, "the grid");
}

sk_status sk_sweep_fix(sk_sweep *sweep, const char *name, const char *text, sk_error *err) {
    const sk_train_key *key;
    sk_status status = find_name(&name, &key, err);
    if (status == SK_OK) status = already_set(sweep, name, err);
    if (status == SK_OK) status = try_value(name, key, text, err);
    if (status == SK_OK) status = add_axis(&sweep->fixed, &sweep->fixed_count, name, err);
    return status == SK_OK ? add_value(&sweep->fixed[sweep->fixed_count - 1], text, strlen(text), err) : status;
}

/* ---- axes ----------------------------------------------------------------------------------------------------- */

static void trim(const char **at, size_t *size) {
    while (*size && isspace((unsigned char)**at)) ++*at, --*size;
    while (*size && isspace((unsigned char)(*at)[*size - 1])) --*size;
}

static sk_status vary_value(sk_axis_values *axis, const sk_train_key *key, const char *at, size_t size, sk_error *err) {
    trim(&at, &size);
    if (!size)
        return sk_fail(err, SK_ERR_ARGUMENT, "a value of %s is empty; write %s=VALUE,VALUE", axis->name, axis->name);
    sk_status status = add_value(axis, at, size, err);
    if (status != SK_OK) return status;
    const char *text = axis->values[axis->count - 1];
    for (size_t i = 0; i + 1 < axis->count; i++)
        if (same_value(key, axis->values[i], text))
            return sk_fail(err, SK_ERR_ARGUMENT, "%s has the value %.60s twice", axis->name, text);
    return try_value(axis->name, key, text, err);
}

static int is_no_axis(const char *name) {
    return strcmp(name, "seed") == 0 || strcmp(name, "threads") == 0 || strcmp(name, "max_bad") == 0;
}

static sk_status vary_values(sk_sweep *sweep, const char *name, const char *values, sk_error *err) {
    const sk_train_key *key;
    sk_status status = find_name(&name, &key, err);
    if (status == SK_OK) status = already_set(sweep, name, err);
    if (status == SK_OK && is_no_axis(name))
        status = sk_fail(err, SK_ERR_ARGUMENT, strcmp(name, "seed") == 0
                         ? "seed is no axis of the grid: every configuration is trained with each seed, see --seeds"
                         : "%s is no axis of the grid: it does not change what is learnt", name);
    if (status == SK_OK) status = add_axis(&sweep->axes, &sweep->axis_count, name, err);
    if (status != SK_OK) return status;
    sk_axis_values *axis = &sweep->axes[sweep->axis_count - 1];
    for (const char *at = values;; at++) {
        const size_t size = strcspn(at, ",");
        status = vary_value(axis, key, at, size, err);
        at += size;
        if (status != SK_OK || !*at) return status;
    }
}

sk_status sk_sweep_vary(sk_sweep *sweep, const char *axis, sk_error *err) {
    const char *equals = strchr(axis, '='), *at = axis;
    if (!equals) return sk_fail(err, SK_ERR_ARGUMENT, "'%.60s' is no axis of a grid; write KEY=VALUE,VALUE", axis);
    size_t size = (size_t)(equals - axis);
    trim(&at, &size);
    if (!size) return sk_fail(err, SK_ERR_ARGUMENT, "'%.60s' names no key; write KEY=VALUE,VALUE", axis);
    char *name = sk_format("%.*s", (int)size, at);
    if (!name) return sk_fail_memory(err, "the grid");
    const sk_status status = vary_values(sweep, name, equals + 1, err);
    sk_free(name);
    return status;
}

static sk_status vary_line(sk_sweep *sweep, const char *name, int line, const char *at, size_t size, sk_error *err) {
    const char *comment = memchr(at, '#', size);
    if (comment) size = (size_t)(comment - at);
    trim(&at, &size);
    if (!size) return SK_OK;
    char *text = sk_format("%.*s", (int)size, at);
    if (!text) return sk_fail_memory(err, "the grid");
    sk_status status = sk_sweep_vary(sweep, text, err);
    sk_free(text);
    if (status == SK_OK || status == SK_ERR_MEMORY) return status;
    if (err) err->code = SK_ERR_FORMAT;
    return sk_error_prefix(err, SK_ERR_FORMAT, "%s:%d", name, line);
}

sk_status sk_sweep_vary_file(sk_sweep *sweep, const char *path, sk_error *err) {
    uint8_t *bytes = NULL;
    size_t size = 0;
    sk_status status = sk_file_read(path, &bytes, &size, err);
    const char *text = (const char *)bytes;
    int line = 1;
    if (status == SK_OK && memchr(text, '\0', size))
        status = sk_fail(err, SK_ERR_FORMAT, "%s is not text; a grid is lines of KEY=VALUE,VALUE", sk_path_name(path));
    for (size_t at = 0; status == SK_OK && at < size; line++) {
        const size_t length = strcspn(text + at, "\n");
        status = vary_line(sweep, sk_path_name(path), line, text + at, length, err);
        at += length + 1;
    }
    sk_free(bytes);
    return status;
}

sk_status sk_sweep_seeds(sk_sweep *sweep, int count, sk_error *err) {
    if (count < 1 || count > 1000)
        return sk_fail(err, SK_ERR_ARGUMENT, "--seeds must be from 1 to 1000, not %d", count);
    sweep->seeds = count;
    return SK_OK;
}

/* ---- configurations and runs ------------------------------------------------------------------------------ */

static int is_named(const sk_sweep *sweep, const char *key) {
    return find_axis(sweep->fixed, sweep->fixed_count, key) || find_axis(sweep->axes, sweep->axis_count, key);
}

/* Recipe, then what is fixed, then the grid. */
static sk_status set_options(const sk_sweep *sweep, sk_config *config, sk_error *err) {
    const sk_axis_values *fixed = find_axis(sweep->fixed, sweep->fixed_count, recipe_name);
    const char *recipe = fixed ? fixed->values[0] : "feeder";
    for (size_t a = 0; a < sweep->axis_count; a++)
        if (strcmp(sweep->axes[a].name, recipe_name) == 0) recipe = sweep->axes[a].values[config->choice[a]];
    config->options = sk_train_defaults(SK_ARCH_V3_SMALL);
    sk_status status = sk_recipe_read(recipe, &config->options, err);
    for (size_t i = 0; status == SK_OK && i < sweep->fixed_count; i++)
        if (strcmp(sweep->fixed[i].name, recipe_name) != 0)
            status = sk_train_options_set(&config->options, sweep->fixed[i].name, sweep->fixed[i].values[0], err);
    for (size_t a = 0; status == SK_OK && a < sweep->axis_count; a++)
        if (strcmp(sweep->axes[a].name, recipe_name) != 0)
            status = sk_train_options_set(&config->options, sweep->axes[a].name,
                                          sweep->axes[a].values[config->choice[a]], err);
    if (status == SK_OK)
        sk_recipe_settle(&config->options, is_named(sweep, "freeze_bn"), is_named(sweep, "head_epochs"),
                         is_named(sweep, "equalise"));
    if (status == SK_OK) status = sk_train_options_check(&config->options, err);
    return status == SK_OK ? SK_OK : sk_error_prefix(err, status, "%s", config->name);
}

/* What a value is called: of a path the last part. */
static const char *value_name(const char *text) {
    const char *name = sk_path_name(text);
    return *name ? name : text;
}

static sk_status make_config(const sk_sweep *sweep, size_t number, sk_config *config, sk_error *err) {
    sk_text name = {0};
    config->choice = sk_calloc(sweep->axis_count ? sweep->axis_count : 1, sizeof *config->choice);
    if (!config->choice) return sk_fail_memory(err, "the grid");
    /* The first axis turns slowest. */
    for (size_t a = sweep->axis_count; a-- > 0; number /= sweep->axes[a].count)
        config->choice[a] = number % sweep->axes[a].count;
    for (size_t a = 0; a < sweep->axis_count; a++)
        sk_text_add(&name, "%s%s=%s", a ? " " : "", sweep->axes[a].name,
                    value_name(sweep->axes[a].values[config->choice[a]]));
    if (!sweep->axis_count) sk_text_add(&name, "all");
    config->name = name.data;
    return name.failed || !name.data ? sk_fail_memory(err, "the grid") : set_options(sweep, config, err);
}

/* A folder that no shell has to quote. */
static char *folder_name(const char *config, uint64_t seed) {
    char *name = sk_format("%s-seed%llu", config, (unsigned long long)seed);
    for (char *c = name; c && *c; c++) {
        if (*c == ' ') *c = ',';
        else if (!isalnum((unsigned char)*c) && !strchr("=,.+-_", *c)) *c = '_';
    }
    return name;
}

static sk_status make_run(sk_sweep *sweep, size_t config, int nth, const char *dir, sk_error *err) {
    sk_sweep_record *run = &sweep->runs[sweep->run_count++];
    const sk_train_options *o = &sweep->configs[config].options;
    *run = (sk_sweep_record){.config = config, .seed = o->seed + (uint64_t)nth};
    run->name = folder_name(sweep->configs[config].name, run->seed);
    run->dir = run->name ? sk_path_join(dir, run->name) : NULL;
    if (!run->dir) return sk_fail_memory(err, "the runs");
    if (strlen(run->name) > 200)
        return sk_fail(err, SK_ERR_ARGUMENT, "%.80s... is too long for the name of a folder; take axes out of the grid",
                       run->name);
    for (size_t i = 0; i + 1 < sweep->run_count; i++)
        if (strcmp(sweep->runs[i].name, run->name) == 0)
            return sk_fail(err, SK_ERR_ARGUMENT, "two configurations would both be called %s; rename a file",
                           sweep->configs[config].name);
    return SK_OK;
}

sk_status sk_sweep_plan(sk_sweep *sweep, const char *dir, sk_error *err) {
    size_t count = 1;
    for (size_t a = 0; a < sweep->axis_count; a++) {
        count *= sweep->axes[a].count;
        if (count * (size_t)sweep->seeds > SK_SWEEP_RUNS_MAX)
            return sk_fail(err, SK_ERR_ARGUMENT, "the grid makes more than %d runs; give it fewer values",
                           SK_SWEEP_RUNS_MAX);
    }
    sweep->configs = sk_calloc(count, sizeof *sweep->configs);
    sweep->runs = sk_calloc(count * (size_t)sweep->seeds, sizeof *sweep->runs);
    if (!sweep->configs || !sweep->runs) return sk_fail_memory(err, "the runs");
    sk_status status = SK_OK;
    for (size_t i = 0; status == SK_OK && i < count; i++)
        status = make_config(sweep, i, &sweep->configs[sweep->config_count++], err);
    for (int nth = 0; status == SK_OK && nth < sweep->seeds; nth++)
        for (size_t i = 0; status == SK_OK && i < count; i++) status = make_run(sweep, i, nth, dir, err);
    return status;
}
