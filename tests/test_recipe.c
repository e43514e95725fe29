/* SPDX-License-Identifier: Apache-2.0 */
/* Recipe files and the table of keys: what is read, what is refused with which line, and that the built-in recipes, the
 * documentation and the table tell the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/base.h"
#include "siskin/train.h"

static sk_status parse(const char *text, sk_train_options *o, sk_error *err) {
    *err = (sk_error){0};
    return sk_recipe_parse(text, strlen(text), "my.ini", o, err);
}

static void reads(void **state) {
    (void)state;
    sk_train_options o = sk_train_defaults(SK_ARCH_V3_LARGE);
    sk_error err;
    const char *text =
        "\n# a comment\n  [train]  \r\nlr=0.25 ; of mine\n\tbatch \t= 7\noptimizer = sgd\nfreeze_bn = yes\n"
        "; another\n[augment]\nflip = 0\n[train]\nbalance = sampling\nepochs = 3";
    if (parse(text, &o, &err) != SK_OK) fail_msg("%s", err.message);
    assert_true(o.lr == 0.25f && o.batch == 7 && o.optimizer == SK_OPTIMIZER_SGD && o.freeze_bn == 1);
    assert_true(o.augment.flip == 0 && o.balance == SK_BALANCE_SAMPLING && o.epochs == 3);
    assert_true(o.augment.scale_min == 0.08f && o.momentum == 0.9f && o.card.arch == SK_ARCH_V3_LARGE);
    assert_int_equal(parse("", &o, &err), SK_OK);
}

static void refuses(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"[train]\nlrr = 1\n", "my.ini:2: unknown key 'lrr'; did you mean lr?"},
        {"[augment]\n\nblurr = 1\n", "my.ini:3: unknown key 'blurr'; did you mean blur?"},
        {"[train]\nabracadabra = 1\n", "my.ini:2: unknown key 'abracadabra'; docs/recipes.md"},
        {"[train]\npaste = .5\n", "my.ini:2: paste belongs to [augment]"},
        {"[train]\nseed = 5\n", "my.ini:2: seed belongs to the command line"},
        {"[train]\npretrained = x\n", "my.ini:2: pretrained belongs to the command line"},
        {"lr = 1\n", "my.ini:1: the first line must be [train]"},
        {"[trains]\n", "my.ini:1: '[trains]' is no section"},
        {"[train\n", "my.ini:1: '[train' is no section"},
        {"[train]\nlr\n", "my.ini:2: a line is key = value"},
        {"[train]\nlr =\n", "my.ini:2: a line is key = value"},
        {"[train]\n= 4\n", "my.ini:2: a line is key = value"},
        {"[train]\nlr = 1\n\nlr = 1\n", "my.ini:4: lr is already set in line 2"},
        {"[train]\nlr = -1\n", "my.ini:2: lr must be a number from 1e-12 to 1000, not '-1'"},
        {"[train]\nlr = nan\n", "my.ini:2: lr must be a number"},
        {"[train]\nlr = 0x1p-3\n", "my.ini:2: lr must be a number"},
        {"[train]\nlr = 1e999\n", "my.ini:2: lr must be a number"},
        {"[train]\nlr = 1 2\n", "my.ini:2: lr must be a number"},
        {"[train]\nbatch = 3.5\n", "my.ini:2: batch must be a whole number"},
        {"[train]\nbatch = 1\n", "my.ini:2: batch must be a whole number from 2"},
        {"[train]\noptimizer = adamww\n", "my.ini:2: optimizer must be one of adam|adamw|sgd, not 'adamww'"},
        {"[train]\nfreeze_bn = maybe\n", "my.ini:2: freeze_bn must be yes or no"},
        {"[train]\nlabel_smoothing = 1\n", "my.ini:2: label_smoothing must be"},
        {"[train]\nlr = 1\001\n", "my.ini:2: not text"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sk_train_options o = sk_train_defaults(SK_ARCH_V3_SMALL), before = o;
        sk_error err;
        assert_int_equal(parse(cases[i][0], &o, &err), SK_ERR_FORMAT);
        assert_int_equal(err.code, SK_ERR_FORMAT);
        if (!strstr(err.message, cases[i][1])) fail_msg("\"%s\" does not say \"%s\"", err.message, cases[i][1]);
        assert_memory_equal(&o, &before, sizeof o);
    }
}

static void by_name(void **state) {
    (void)state;
    char path[] = "/tmp/siskin-recipe-XX"
                  "XX"
                  "XX";
    sk_train_options o = sk_train_defaults(SK_ARCH_V3_SMALL);
    sk_error err = {0};
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "[train]\nlr = 0.5\n", 17), 17);
    close(fd);
    assert_int_equal(sk_recipe_read(path, &o, &err), SK_OK);
    assert_true(o.lr == 0.5f);
    assert_string_equal(o.recipe, sk_path_name(path));
    unlink(path);
    assert_int_equal(sk_recipe_read(path, &o, &err), SK_ERR_IO);
    assert_non_null(strstr(err.message, "neither a file nor one of seed, feeder"));
}

/* `seed` is what sk_train_defaults says, and both set nothing that a run would refuse. */
static void built_in(void **state) {
    (void)state;
    size_t count = 0;
    for (; sk_recipe_name(count); count++) {
        sk_train_options o = sk_train_defaults(SK_ARCH_V3_SMALL);
        sk_error err = {0};
        char path[512], value[2][32];
        uint8_t *bytes = NULL;
        size_t size = 0;
        if (sk_recipe_read(sk_recipe_name(count), &o, &err) != SK_OK) fail_msg("%s", err.message);
        assert_string_equal(o.recipe, sk_recipe_name(count));
        snprintf(path, sizeof path, "%s/recipes/%s.ini", SK_SOURCE_DIR, sk_recipe_name(count));
        assert_int_equal(sk_file_read(path, &bytes, &size, &err), SK_OK);
        assert_string_equal((const char *)bytes, sk_recipe_builtin(sk_recipe_name(count)));
        sk_free(bytes);
        if (strcmp(sk_recipe_name(count), "seed") != 0) continue;
        const sk_train_options plain = sk_train_defaults(SK_ARCH_V3_SMALL);
        for (size_t i = 0; sk_train_key_at(i); i++)
            assert_string_equal(sk_train_options_get(&o, sk_train_key_at(i), value[0]),
                                sk_train_options_get(&plain, sk_train_key_at(i), value[1]));
    }
    assert_int_equal(count, 3); /* feeder, qat, seed */
    assert_null(sk_recipe_builtin("nix"));
}

/* Every key takes a value other than its default and gives it back. */
static void set_and_get(void **state) {
    (void)state;
    sk_train_options o = sk_train_defaults(SK_ARCH_V3_SMALL);
    sk_error err = {0};
    char value[32], text[32];
    for (size_t i = 0; sk_train_key_at(i); i++) {
        const sk_train_key *key = sk_train_key_at(i);
        const char *last = key->choices ? strrchr(key->choices, '|') : NULL, *wanted = text;
        switch (key->type) {
        case SK_KEY_INT: snprintf(text, sizeof text, "%.0f", key->most); break;
        case SK_KEY_FLOAT: snprintf(text, sizeof text, "%.6g", key->most / 4 + 0.0625 * key->least); break;
        case SK_KEY_FLAG: wanted = "yes"; break;
        case SK_KEY_CHOICE: wanted = last + 1; break;
        case SK_KEY_MODEL: wanted = "mobilenet_v3_large"; break;
        case SK_KEY_SEED: wanted = "18446744073709551615"; break;
        case SK_KEY_TEXT: wanted = "a/b.pth"; break;
        }
        if (sk_train_options_set(&o, key->name, wanted, &err) != SK_OK) fail_msg("%s", err.message);
        const char *got = sk_train_options_get(&o, key, value);
        if (key->type == SK_KEY_FLOAT) assert_true(strtof(got, NULL) == strtof(wanted, NULL));
        else assert_string_equal(got, wanted);
        assert_non_null(key->help);
        assert_true(key->type == SK_KEY_FLAG || key->argument);
    }
    assert_int_equal(o.epoch_size, 1000000000);
    assert_true(o.augment.paste == 0.25f);
    assert_int_equal(sk_train_options_set(&o, "augment.past", "1", &err), SK_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "did you mean augment.paste?"));
    for (const char *const *bad = (const char *const[]){"", "-1", "1x", "99999999999999999999", NULL}; *bad; bad++)
        assert_int_equal(sk_train_options_set(&o, "seed", *bad, &err), SK_ERR_ARGUMENT);
}

static void nothing_to_keep(void **unused) {
    (void)unused;
    char weights[] = "first.safetensors";
    sk_train_options o = sk_train_defaults(SK_ARCH_V3_SMALL);
    assert_int_equal(sk_recipe_settle(&o, 0, 0, 0), 0);
    for (int keep = 0; keep < 8; keep++) {
        o.freeze_bn = 1;
        o.head_epochs = 2;
        o.equalise = 4;
        assert_int_equal(sk_recipe_settle(&o, keep & 1, keep & 2, keep & 4), keep != 7);
        assert_int_equal(o.freeze_bn, keep & 1);
        assert_int_equal(o.head_epochs, keep & 2);
        assert_true(o.equalise == (float)(keep & 4));
    }
    o.pretrained = weights;
    assert_int_equal(sk_recipe_settle(&o, 0, 0, 0), 0);
    assert_true(o.freeze_bn == 1 && o.head_epochs == 2 && o.equalise == 4);
}

/* docs/recipes.md has a row for every key. */
static void documented(void **state) {
    (void)state;
    uint8_t *bytes = NULL;
    size_t size = 0;
    assert_int_equal(sk_file_read(SK_SOURCE_DIR "/docs/recipes.md", &bytes, &size, NULL), SK_OK);
    for (size_t i = 0; sk_train_key_at(i); i++) {
        const sk_train_key *key = sk_train_key_at(i);
        char row[80];
        snprintf(row, sizeof row, "\n| `%s` |", strchr(key->name, '.') ? strchr(key->name, '.') + 1 : key->name);
        if (!strstr((const char *)bytes, row)) fail_msg("docs/recipes.md has no row for %s", key->name);
    }
    sk_free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads),    cmocka_unit_test(refuses),     cmocka_unit_test(by_name),
        cmocka_unit_test(built_in), cmocka_unit_test(set_and_get), cmocka_unit_test(documented),
        cmocka_unit_test(nothing_to_keep),
    };
    return cmocka_run_group_tests_name("recipe", tests, NULL, NULL);
}
