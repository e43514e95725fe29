/* SPDX-License-Identifier: Apache-2.0 */
/* The recipes of recipes/ inside the program. Internal. */
#ifndef SK_TRAIN_BUILTIN_H
#define SK_TRAIN_BUILTIN_H

enum { SK_BUILTIN_COUNT = 3 };
typedef struct sk_builtin_recipe {
    const char *name, *text;
} sk_builtin_recipe;
extern const sk_builtin_recipe sk_builtin_recipes[SK_BUILTIN_COUNT];
#endif
