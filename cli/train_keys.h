/* SPDX-License-Identifier: Apache-2.0 */
/* The options of a training run, out of the library's list of keys, for the verbs that train. */
#ifndef SISKIN_CLI_TRAIN_KEYS_H
#define SISKIN_CLI_TRAIN_KEYS_H

#include "cli.h"
#include "siskin/keys.h"

/* SK_TRAIN_KEYS(CLI_KEY) are rows of a table of options; what a recipe can switch on has a row to switch it off. */
#define CLI_KEY(key, option, letter, type, member, argument, least, most, choices, help)                              \
    CLI_KEY_##type(letter, option, argument, least, most, choices, help)
#define CLI_KEY_ROW(type, letter, option, argument, least, most, choices, help)                                       \
    {letter, option, type, argument, NULL, help, choices, least, most, 0, 0, 0},
#define CLI_KEY_INT(...) CLI_KEY_ROW(CLI_INT, __VA_ARGS__)
#define CLI_KEY_FLOAT(...) CLI_KEY_ROW(CLI_DOUBLE, __VA_ARGS__)
#define CLI_KEY_CHOICE(...) CLI_KEY_ROW(CLI_CHOICE, __VA_ARGS__)
#define CLI_KEY_MODEL(...) CLI_KEY_ROW(CLI_CHOICE, __VA_ARGS__)
#define CLI_KEY_SEED(...) CLI_KEY_ROW(CLI_STRING, __VA_ARGS__)
#define CLI_KEY_TEXT(...) CLI_KEY_ROW(CLI_STRING, __VA_ARGS__)
#define CLI_KEY_FLAG(letter, option, argument, least, most, choices, help)                                            \
    CLI_KEY_ROW(CLI_FLAG, letter, option, argument, least, most, choices, help)                                       \
    CLI_KEY_ROW(CLI_FLAG, 0, "no-" option, argument, least, most, choices, "no --" option ", whatever the recipe says")

/* Calls set for every key that is named on the command line, in the order of the table, until one fails. */
sk_status cli_each_key(const cli *c,
                       sk_status (*set)(void *user, const char *name, const char *text, sk_error *err), void *user,
                       sk_error *err);

#endif
