/* SPDX-License-Identifier: Apache-2.0 */
/* Recipe files: sections, `key = value`, comments. Read strictly, so that a slip of the pen is told with its line and
 * does not train for a night with something else; nothing is set unless the whole file is right. */
#include "base/base.h"

#include <string.h>

#include "siskin/text.h"
#include "train/builtin.h"
#include "train/keys.h"

enum { SIZE_MAX_RECIPE = 1 << 20, KEYS_MAX = 128, WORD_MAX = 63, VALUE_MAX = 255 };

typedef struct reader {
    const char *name;     /* of the file, for messages */
    int line, section;    /* section: sk_key_section, -1: none yet */
    int set_in[KEYS_MAX]; /* line in which a key of the table was set, 0: not yet */
    sk_train_options options;
} reader;

/* A part of a line without the blanks around it. */
typedef struct piece {
    const char *at;
    size_t size;
} piece;

static int is_blank(char c) { return c == ' ' || c == '\t'; }

static piece trim(const char *at, size_t size) {
    while (size && is_blank(*at)) at++, size--;
    while (size && is_blank(at[size - 1])) size--;
    return (piece){at, size};
}

static const char *section_name(int section) {
    return section == SK_SECTION_TRAIN ? "[train]" : section == SK_SECTION_AUGMENT ? "[augment]" : "the command line";
}

/* Names of the keys of a section as a recipe has them: without "augment.". */
static const char *short_name(const sk_train_key *key) {
    const char *dot = strchr(key->name, '.');
    return dot ? dot + 1 : key->name;
}

static const char *nth_name(const void *user, int index) {
    const reader *r = user;
    for (size_t i = 0;; i++) {
        const sk_train_key *key = sk_train_key_at(i);
        if (!key) return NULL;
        if ((int)key->section == r->section && index-- == 0) return short_name(key);
    }
}

static sk_status unknown_key(const reader *r, const char *word, sk_error *err) {
    for (size_t i = 0; sk_train_key_at(i); i++) {
        const sk_train_key *key = sk_train_key_at(i);
        if (strcmp(short_name(key), word) == 0)
            return sk_fail(err, SK_ERR_FORMAT, "%s:%d: %s belongs to %s, not to %s", r->name, r->line, word,
                           section_name((int)key->section), section_name(r->section));
    }
    const char *near = sk_nearest(word, nth_name, r);
    if (near)
        return sk_fail(err, SK_ERR_FORMAT, "%s:%d: unknown key '%s'; did you mean %s?", r->name, r->line, word, near);
    return sk_fail(err, SK_ERR_FORMAT, "%s:%d: unknown key '%s'; docs/recipes.md lists the keys of %s", r->name,
                   r->line, word, section_name(r->section));
}

static sk_status set_key(reader *r, const char *word, const char *value, sk_error *err) {
    for (size_t i = 0; sk_train_key_at(i) && i < KEYS_MAX; i++) {
        const sk_train_key *key = sk_train_key_at(i);
        if ((int)key->section != r->section || strcmp(short_name(key), word) != 0) continue;
        if (r->set_in[i])
            return sk_fail(err, SK_ERR_FORMAT, "%s:%d: %s is already set in line %d", r->name, r->line, word,
                           r->set_in[i]);
        r->set_in[i] = r->line;
        if (sk_train_options_set(&r->options, key->name, value, err) == SK_OK) return SK_OK;
        if (err) err->code = SK_ERR_FORMAT;
        return sk_error_prefix(err, SK_ERR_FORMAT, "%s:%d", r->name, r->line);
    }
    return unknown_key(r, word, err);
}

static sk_status read_section(reader *r, piece p, sk_error *err) {
    if (p.size == 7 && memcmp(p.at, "[train]", 7) == 0) {
        r->section = SK_SECTION_TRAIN;
    } else if (p.size == 9 && memcmp(p.at, "[augment]", 9) == 0) {
        r->section = SK_SECTION_AUGMENT;
    } else {
        return sk_fail(err, SK_ERR_FORMAT, "%s:%d: '%.*s' is no section; there are [train] and [augment]", r->name,
                       r->line, (int)(p.size < 40 ? p.size : 40), p.at);
    }
    return SK_OK;
}

static sk_status read_line(reader *r, const char *line, size_t size, sk_error *err) {
    char word[WORD_MAX + 1], value[VALUE_MAX + 1];
    for (size_t i = 0; i < size; i++) {
        if (((unsigned char)line[i] < 32 && line[i] != '\t') || line[i] == 127)
            return sk_fail(err, SK_ERR_FORMAT, "%s:%d: not text; a recipe is lines of key = value", r->name, r->line);
        /* A comment begins a line or follows a blank. */
        if ((line[i] == '#' || line[i] == ';') && (i == 0 || is_blank(line[i - 1]))) size = i;
    }
    const piece all = trim(line, size);
    if (all.size == 0) return SK_OK;
    if (all.at[0] == '[') return read_section(r, all, err);
    const char *sign = memchr(all.at, '=', all.size);
    if (!sign) return sk_fail(err, SK_ERR_FORMAT, "%s:%d: a line is key = value", r->name, r->line);
    if (r->section < 0)
        return sk_fail(err, SK_ERR_FORMAT, "%s:%d: the first line must be [train] or [augment]", r->name, r->line);
    const size_t before = (size_t)(sign - all.at);
    const piece left = trim(all.at, before), right = trim(sign + 1, all.size - before - 1);
    if (left.size == 0 || left.size > WORD_MAX || right.size == 0 || right.size > VALUE_MAX)
        return sk_fail(err, SK_ERR_FORMAT, "%s:%d: a line is key = value", r->name, r->line);
    memcpy(word, left.at, left.size);
    word[left.size] = '\0';
    memcpy(value, right.at, right.size);
    value[right.size] = '\0';
    return set_key(r, word, value, err);
}

sk_status sk_recipe_parse(const char *text, size_t size, const char *name, sk_train_options *options, sk_error *err) {
    reader r = {.name = name, .section = -1, .options = *options};
    if (size > SIZE_MAX_RECIPE) return sk_fail(err, SK_ERR_FORMAT, "%s is too large to be a recipe", name);
    for (size_t at = 0; at < size; at++) {
        const char *end = memchr(text + at, '\n', size - at);
        size_t length = end ? (size_t)(end - text) - at : size - at;
        r.line++;
        const size_t shown = length && text[at + length - 1] == '\r' ? length - 1 : length;
        const sk_status status = read_line(&r, text + at, shown, err);
        if (status != SK_OK) return status;
        at += length;
    }
    *options = r.options;
    return SK_OK;
}

int sk_recipe_settle(sk_train_options *options, int keep_bn, int keep_head, int keep_equalise) {
    if (options->pretrained) return 0;
    const int bn = options->freeze_bn && !keep_bn, head = options->head_epochs > 0 && !keep_head;
    const int equalise = options->equalise > 0 && !keep_equalise;
    if (bn) options->freeze_bn = 0;
    if (head) options->head_epochs = 0;
    if (equalise) options->equalise = 0;
    return bn || head || equalise;
}

/* ---- by name ------------------------------------------------------------------------------------------------ */
const char *sk_recipe_name(size_t index) { return index < SK_BUILTIN_COUNT ? sk_builtin_recipes[index].name : NULL; }

const char *sk_recipe_builtin(const char *name) {
    for (size_t i = 0; i < SK_BUILTIN_COUNT; i++)
        if (strcmp(sk_builtin_recipes[i].name, name) == 0) return sk_builtin_recipes[i].text;
    return NULL;
}

sk_status sk_recipe_read(const char *name, sk_train_options *options, sk_error *err) {
    const char *text = sk_recipe_builtin(name), *shown = text ? name : sk_path_name(name);
    uint8_t *bytes = NULL;
    size_t size = 0;
    sk_status status = SK_OK;
    if (!text) {
        if (!sk_path_exists(name))
            return sk_fail(err, SK_ERR_IO, "there is no recipe %s: neither a file nor one of seed, feeder, qat", name);
        status = sk_file_read(name, &bytes, &size, err);
    }
    if (status == SK_OK)
        status = sk_recipe_parse(text ? text : (const char *)bytes, text ? strlen(text) : size, name, options, err);
    sk_free(bytes);
    if (status != SK_OK) return status;
    const size_t room = sizeof options->recipe - 1, length = strlen(shown) < room ? strlen(shown) : room;
    memcpy(options->recipe, shown, length);
    options->recipe[length] = '\0';
    return SK_OK;
}
