/* SPDX-License-Identifier: Apache-2.0 */
/* The table of all keys made out of siskin/keys.h, and their values as text in both directions. Recipe files, the
 * command line, run.json, a run's identity and sweeps go through here, so none of them can know a key that another
 * does not, or take a value that another refuses. */
#include "siskin/keys.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "siskin/text.h"
#include "train/keys.h"

typedef struct entry {
    sk_train_key key;
    size_t offset; /* of the member in sk_train_options */
} entry;

#define ENTRY(section_, name_, option_, letter_, type_, member_, argument_, least_, most_, choices_, help_)            \
    {{.name = name_,                                                                                                   \
      .option = option_,                                                                                               \
      .section = section_,                                                                                             \
      .type = SK_KEY_##type_,                                                                                          \
      .argument = argument_,                                                                                           \
      .least = least_,                                                                                                 \
      .most = most_,                                                                                                   \
      .choices = choices_,                                                                                             \
      .help = help_},                                                                                                  \
     offsetof(sk_train_options, member_)},
#define RUN(...) ENTRY(SK_SECTION_RUN, __VA_ARGS__)
#define TRAIN(...) ENTRY(SK_SECTION_TRAIN, __VA_ARGS__)
#define AUGMENT(...) ENTRY(SK_SECTION_AUGMENT, __VA_ARGS__)

static const entry entries[] = {SK_TRAIN_KEYS_RUN(RUN) SK_TRAIN_KEYS_TRAIN(TRAIN) SK_TRAIN_KEYS_AUGMENT(AUGMENT)};
static const size_t entry_count = sizeof entries / sizeof *entries;

const sk_train_key *sk_train_key_at(size_t index) { return index < entry_count ? &entries[index].key : NULL; }

const sk_train_key *sk_train_key_find(const char *name) {
    for (size_t i = 0; i < entry_count; i++)
        if (strcmp(entries[i].key.name, name) == 0) return &entries[i].key;
    return NULL;
}

/* Where the value lives. The key is the first member of its entry. */
static void *place(sk_train_options *o, const sk_train_key *key) { return (char *)o + ((const entry *)key)->offset; }
static const void *place_of(const sk_train_options *o, const sk_train_key *key) {
    return (const char *)o + ((const entry *)key)->offset;
}

/* ---- text to value ------------------------------------------------------------------------------------------ */
static const char *name_at(const void *user, int index) {
    (void)user;
    return (size_t)index < entry_count ? entries[index].key.name : NULL;
}

/* Index of `text` in "a|b|c", -1: not there. */
static int choice_index(const char *choices, const char *text) {
    const size_t length = strlen(text);
    for (int i = 0; *choices; i++) {
        const size_t n = strcspn(choices, "|");
        if (n == length && memcmp(choices, text, n) == 0) return i;
        choices += n + (choices[n] == '|');
    }
    return -1;
}

static int flag_value(const char *text) {
    static const char *const words[2][3] = {{"no", "false", "0"}, {"yes", "true", "1"}};
    for (int i = 0; i < 6; i++)
        if (strcmp(words[i / 3][i % 3], text) == 0) return i / 3;
    return -1;
}

/* A plain decimal number and nothing else; strtod alone would also take "nan", "0x10" and blanks. */
static int number(const char *text, int whole, double *out) {
    char *end = NULL;
    if (!*text || text[strspn(text, whole ? "-0123456789" : "+-.0123456789eE")]) return 0;
    *out = strtod(text, &end);
    return *end == '\0' && isfinite(*out);
}

static sk_status bad_number(const sk_train_key *key, const char *text, sk_error *err) {
    return sk_fail(err, SK_ERR_ARGUMENT, "%s must be %s from %.10g to %.10g, not '%.40s'", key->name,
                   key->type == SK_KEY_INT ? "a whole number" : "a number", key->least, key->most, text);
}

static sk_status set_value(const sk_train_key *key, void *at, const char *text, sk_error *err) {
    double value = 0;
    char *end = NULL;
    int index = 0;
    switch (key->type) {
    case SK_KEY_INT:
    case SK_KEY_FLOAT:
        if (!number(text, key->type == SK_KEY_INT, &value) || value < key->least || value > key->most)
            return bad_number(key, text, err);
        if (key->type == SK_KEY_INT) *(int *)at = (int)value;
        else *(float *)at = (float)value;
        return SK_OK;
    case SK_KEY_FLAG:
        if ((index = flag_value(text)) < 0)
            return sk_fail(err, SK_ERR_ARGUMENT, "%s must be yes or no, not '%.40s'", key->name, text);
        *(int *)at = index;
        return SK_OK;
    case SK_KEY_CHOICE:
        if ((index = choice_index(key->choices, text)) < 0)
            return sk_fail(err, SK_ERR_ARGUMENT, "%s must be one of %s, not '%.40s'", key->name, key->choices, text);
        memcpy(at, &index, sizeof index);
        return SK_OK;
    case SK_KEY_MODEL: return sk_arch_parse(text, at, err);
    case SK_KEY_SEED:
        errno = 0;
        if (*text) *(uint64_t *)at = strtoull(text, &end, 10);
        if (!end || *end || errno || strchr("+- \t", *text))
            return sk_fail(err, SK_ERR_ARGUMENT, "%s must be a whole number from 0, not '%.40s'", key->name, text);
        return SK_OK;
    case SK_KEY_TEXT: *(const char **)at = *text ? text : NULL; return SK_OK;
    }
    return SK_OK;
}

sk_status sk_train_options_set(sk_train_options *options, const char *name, const char *text, sk_error *err) {
    const sk_train_key *key = sk_train_key_find(name);
    if (key) {
        sk_train_options changed = *options; /* a bad value leaves no trace */
        const sk_status status = set_value(key, place(&changed, key), text, err);
        if (status == SK_OK) *options = changed;
        return status;
    }
    const char *near = sk_nearest(name, name_at, NULL);
    return near ? sk_fail(err, SK_ERR_ARGUMENT, "unknown key '%.60s'; did you mean %s?", name, near)
                : sk_fail(err, SK_ERR_ARGUMENT, "unknown key '%.60s'; docs/recipes.md lists all keys", name);
}

/* ---- value to text ------------------------------------------------------------------------------------------ */
const char *sk_key_float_text(float value, char out[32]) {
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(out, 32, "%.*g", digits, (double)value);
        if (strtof(out, NULL) == value) break;
    }
    return out;
}

const char *sk_train_options_get(const sk_train_options *options, const sk_train_key *key, char out[32]) {
    const void *at = place_of(options, key);
    const char *choice = key->choices;
    int index = 0;
    switch (key->type) {
    case SK_KEY_INT: snprintf(out, 32, "%d", *(const int *)at); break;
    case SK_KEY_FLOAT: return sk_key_float_text(*(const float *)at, out);
    case SK_KEY_FLAG: return *(const int *)at ? "yes" : "no";
    case SK_KEY_CHOICE:
        memcpy(&index, at, sizeof index);
        for (; index > 0 && *choice; index--) choice += strcspn(choice, "|") + (choice[strcspn(choice, "|")] == '|');
        snprintf(out, 32, "%.*s", (int)strcspn(choice, "|"), choice);
        break;
    case SK_KEY_MODEL: return sk_arch_name(*(const sk_arch *)at);
    case SK_KEY_SEED: snprintf(out, 32, "%llu", (unsigned long long)*(const uint64_t *)at); break;
    case SK_KEY_TEXT: return *(const char *const *)at ? *(const char *const *)at : "";
    }
    return out;
}

/* ---- values that a caller put in by hand -------------------------------------------------------------------- */
static sk_status check_number(const sk_train_key *key, const void *at, sk_error *err) {
    char text[32];
    double value = 0;
    /* Bounds as floats: .99f is a little more than .99. */
    double least = key->least, most = key->most;
    if (key->type == SK_KEY_INT) {
        value = *(const int *)at;
        snprintf(text, sizeof text, "%.10g", value);
    } else {
        value = (double)*(const float *)at;
        least = (double)(float)least;
        most = (double)(float)most;
        sk_key_float_text((float)value, text);
    }
    if (value >= least && value <= most) return SK_OK;
    return sk_fail(err, SK_ERR_ARGUMENT, "--%s is %s; it has to be from %.10g to %.10g", key->option, text, key->least,
                   key->most);
}

sk_status sk_train_options_check(const sk_train_options *o, sk_error *err) {
    for (size_t i = 0; i < entry_count; i++) {
        const sk_train_key *key = &entries[i].key;
        if (key->type != SK_KEY_INT && key->type != SK_KEY_FLOAT) continue;
        const sk_status status = check_number(key, place_of(o, key), err);
        if (status != SK_OK) return status;
    }
    if (o->augment.scale_min > o->augment.scale_max)
        return sk_fail(err, SK_ERR_ARGUMENT, "--augment-scale-min is %g, more than --augment-scale-max %g",
                       (double)o->augment.scale_min, (double)o->augment.scale_max);
    if (o->optimizer == SK_OPTIMIZER_ADAM && o->weight_decay > 0)
        return sk_fail(err, SK_ERR_ARGUMENT, "--weight-decay is %g, but Adam has none; give --optimizer adamw",
                       (double)o->weight_decay);
    const sk_adjust_options adjust = {.method = o->adjust, .k = o->adjust_k};
    const sk_status status = sk_adjust_check(&adjust, err);
    if (status != SK_OK) return sk_error_prefix(err, status, "--adjust-k");
    if ((o->adjust || o->range_penalty > 0 || o->equalise > 0) && !o->pretrained)
        return sk_fail(err, SK_ERR_ARGUMENT, "--%s is about pretrained weights; give --pretrained FILE",
                       o->adjust ? "adjust" : o->equalise > 0 ? "equalise" : "range-penalty");
    if (o->adjust_keep && !o->adjust)
        return sk_fail(err, SK_ERR_ARGUMENT, "--adjust-keep needs --adjust sigma, percentile or tukey");
    if (o->range_penalty * o->lr > 1)
        return sk_fail(err, SK_ERR_ARGUMENT, "--range-penalty %g times --lr %g is above 1: a step would overshoot",
                       (double)o->range_penalty, (double)o->lr);
    if (o->qat != SK_QAT_OFF && !o->freeze_bn)
        return sk_fail(err, SK_ERR_ARGUMENT, "--qat needs --freeze-bn: batch norm is folded into the weights that are "
                       "rounded");
    if (o->qat != SK_QAT_OFF && (o->freeze_features || o->head_epochs))
        return sk_fail(err, SK_ERR_ARGUMENT, "--qat trains all layers; leave out --freeze-features and --head-epochs");
    if (o->warmup > (float)o->epochs)
        return sk_fail(err, SK_ERR_ARGUMENT, "--warmup of %g epochs is longer than the run of --epochs %d",
                       (double)o->warmup, o->epochs);
    if (o->card.classes != SK_CLASS_COUNT)
        return sk_fail(err, SK_ERR_ARGUMENT, "the model has %d classes, the dataset has %d: nobird and bird",
                       o->card.classes, SK_CLASS_COUNT);
    return SK_OK;
}
