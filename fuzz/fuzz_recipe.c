/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a recipe: either every value is in range, or one sentence names the file and the line and nothing was
 * set. */
/* sources: src/base/error.c src/base/memory.c src/base/file.c src/base/output.c src/base/path.c src/base/text.c
 *          src/base/random.c src/base/hooks.c src/net/card.c src/train/keys.c src/train/recipe.c
 *          src/weights/options.c
 * libs: -lm -lpthread */
#include <stdlib.h>
#include <string.h>

#include "train/builtin.h"
#include "train/keys.h"

const sk_builtin_recipe sk_builtin_recipes[SK_BUILTIN_COUNT] = {{"feeder", ""}, {"seed", ""}};

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    sk_train_options options, before;
    sk_error err = {0};
    memset(&options, 0, sizeof options);
    options.batch = 2;
    before = options;
    /* A copy without a NUL behind it: the reader may not look past the end. */
    char *text = malloc(size ? size : 1), value[32];
    if (!text) return 0;
    memcpy(text, bytes, size);
    const sk_status status = sk_recipe_parse(text, size, "input", &options, &err);
    free(text);
    if (status != SK_OK) {
        if (!strstr(err.message, "input:") || memcmp(&options, &before, sizeof before) != 0) abort();
        return 0;
    }
    for (size_t i = 0; sk_train_key_at(i); i++) {
        const sk_train_key *key = sk_train_key_at(i);
        const char *got = sk_train_options_get(&options, key, value);
        sk_train_options again = options;
        if (key->section != SK_SECTION_RUN && strcmp(got, "0") != 0 &&
            sk_train_options_set(&again, key->name, got, &err) != SK_OK)
            abort();
    }
    return 0;
}
