/* SPDX-License-Identifier: Apache-2.0 */
/* The identity of a run: the options, first weights and data that decide its bytes, as lines `name TAB value`, and the
 * id made out of them. A run is only resumed with the same ones; whoever tries others is told the first that differs.
 */
#include <stdio.h>
#include <string.h>

#include "train/keys.h"
#include "train/run.h"

/* Keys that do not change the weights after a given epoch. With a cosine the number of epochs does. */
static int decides(const sk_train_options *o, const sk_train_key *key) {
    if (strcmp(key->name, "epochs") == 0) return o->schedule != SK_SCHEDULE_CONSTANT;
    return key->type != SK_KEY_TEXT && strcmp(key->name, "threads") != 0 && strcmp(key->name, "max_bad") != 0 &&
           strcmp(key->name, "patience") != 0;
}

char *sk_run_config(const sk_train_options *o, const char *pretrained_hash, const char *fingerprint) {
    const sk_card *card = &o->card;
    char value[32];
    sk_text text = {0};
    for (size_t i = 0; sk_train_key_at(i); i++) {
        const sk_train_key *key = sk_train_key_at(i);
        if (decides(o, key)) sk_text_add(&text, "--%s\t%s\n", key->option, sk_train_options_get(o, key, value));
    }
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

/* The value of `name` in a config as text of at most 63 bytes; 0: there is no such line. */
static int find_line(const char *config, const char *name, size_t name_length, char out[64]) {
    for (const char *at = config; *at; at += strcspn(at, "\n"), at += *at == '\n') {
        if (strncmp(at, name, name_length) != 0 || at[name_length] != '\t') continue;
        const char *value = at + name_length + 1;
        snprintf(out, 64, "%.*s", (int)strcspn(value, "\n"), value);
        return 1;
    }
    return 0;
}

void sk_run_pretrained(const char *config, char out[17]) {
    char value[64] = "";
    out[0] = '\0';
    if (find_line(config, "pretrained", 10, value) && strlen(value) == 16) memcpy(out, value, 17);
}

/* What a run had that was begun before this option existed: the option was off. */
static void value_before(const char *option, char out[64]) {
    const sk_train_options none = sk_train_defaults(SK_ARCH_V3_SMALL);
    char buffer[32];
    out[0] = '\0';
    for (size_t i = 0; sk_train_key_at(i); i++)
        if (strcmp(sk_train_key_at(i)->option, option) == 0)
            snprintf(out, 64, "%s", sk_train_options_get(&none, sk_train_key_at(i), buffer));
}

/* Equal as text or as the very same float: older runs wrote more digits, and 0 and 1 for no and yes. */
static int same_value(const char *was, const char *is) {
    float a = 0, b = 0;
    char rest;
    if (strcmp(was, is) == 0 || (strcmp(is, "no") == 0 && strcmp(was, "0") == 0)) return 1;
    if (strcmp(is, "yes") == 0 && strcmp(was, "1") == 0) return 1;
    if (!strpbrk(was, ".e") && !strpbrk(is, ".e")) return 0; /* whole numbers may be longer than a float */
    return sscanf(was, "%f%c", &a, &rest) == 1 && sscanf(is, "%f%c", &b, &rest) == 1 && a == b;
}

static sk_status differs(const char *run_dir, const char *name, const char *was, sk_error *err) {
    if (strcmp(name, "data") == 0)
        return sk_fail(err, SK_ERR_MISMATCH,
                       "cannot resume %s: the dataset is not the one it was begun with; train "
                       "into another folder",
                       run_dir);
    if (strcmp(name, "pretrained") == 0)
        return sk_fail(err, SK_ERR_MISMATCH, "cannot resume %s: it was begun from other pretrained weights", run_dir);
    return sk_fail(err, SK_ERR_MISMATCH,
                   "cannot resume %s: it was begun with %s %s; give the same options or another "
                   "folder",
                   run_dir, name, was);
}

sk_status sk_run_compare(const char *run_dir, const char *old_config, const char *new_config, sk_error *err) {
    for (const char *at = new_config; *at; at += strcspn(at, "\n"), at += *at == '\n') {
        char name[64], is[64], was[64];
        const size_t length = strcspn(at, "\t\n");
        memcpy(name, at, length < sizeof name ? length : sizeof name - 1);
        name[length < sizeof name ? length : sizeof name - 1] = 0;
        find_line(at, name, length, is);
        if (strcmp(name, "pretrained") == 0 && strcmp(is, SK_RUN_ANY) == 0) continue;
        if (!find_line(old_config, name, length, was)) value_before(name + 2, was);
        /* A run that had no schedule could be made longer, but not with a schedule that begins in the middle. */
        if (strcmp(name, "--epochs") == 0 && !strstr(old_config, "--epochs\t")) continue;
        if (!same_value(was, is)) return differs(run_dir, name, was, err);
    }
    for (const char *at = old_config; *at; at += strcspn(at, "\n"), at += *at == '\n') {
        char name[64], value[64];
        const size_t length = strcspn(at, "\t\n");
        memcpy(name, at, length < sizeof name ? length : sizeof name - 1);
        name[length < sizeof name ? length : sizeof name - 1] = 0;
        if (!find_line(new_config, name, length, value) && strcmp(name, "--epochs") != 0)
            return sk_fail(err, SK_ERR_MISMATCH,
                           "cannot resume %s: it was begun with %s, which this version does not "
                           "know",
                           run_dir, name);
    }
    return SK_OK;
}
