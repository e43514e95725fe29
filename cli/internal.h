/* SPDX-License-Identifier: Apache-2.0 */
/* What cli.c, help.c, progress.c and main.c share. */
#ifndef SISKIN_CLI_INTERNAL_H
#define SISKIN_CLI_INTERNAL_H

#include "cli.h"

#define CLI_MOST_OPTIONS 80

typedef struct cli_bar {
    char stage[64];
    uint64_t first;          /* `done` when the stage was first seen, e.g. in a resumed run */
    double start, last_shown;
    int shown;               /* characters on the terminal's line now */
    int complete;            /* the stage's last line is out */
} cli_bar;

/* A value of an option that may be given several times. */
typedef struct cli_value {
    int index; /* of the option */
    const char *text;
} cli_value;

struct cli {
    const cli_verb *verb;
    const char *values[CLI_MOST_OPTIONS]; /* NULL: not given; own options, then the common ones */
    const char **args;
    int arg_count;
    cli_value *many; /* in the order of the command line */
    int many_count;
    sk_hooks hooks;
    cli_bar bar;
};

extern const cli_option cli_common[]; /* --json, --quiet, --help */
extern const cli_verb *const cli_verbs[]; /* ends with NULL */

/* Index over own and common options together; NULL past the end. */
const cli_option *cli_option_at(const cli_verb *verb, int index);
/* -1: go on; else the exit code. `args` and `many` have room for argc words. */
int cli_parse(cli *c, const cli_verb *verb, int argc, char **argv, const char **args, cli_value *many);

void cli_help(FILE *file, const cli_verb *verb);
void cli_help_all(FILE *file);
int cli_man(const char *verb);              /* NULL: siskin.1 */
int cli_completion(const char *shell);      /* "bash", "zsh" */

void cli_hooks_init(cli *c);
void cli_bar_clear(cli *c);

#endif
