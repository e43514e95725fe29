/* SPDX-License-Identifier: Apache-2.0 */
/* Frame of the command line: one table per verb gives parsing, --help, the man page and shell completion.
 *
 * How a verb is written (cmd_VERB.c; public headers, cli.h and libc only; its name is in the list of cli/meson.build):
 *
 *     static const cli_option options[] = {
 *         {'o', "output", CLI_STRING, "RUN", NULL, "run folder to create", .required = 1},
 *         {'e', "epochs", CLI_INT, "N", "100", "passes over the training part", .least = 1, .most = 100000},
 *         {0, "lr", CLI_DOUBLE, "RATE", "1e-4", "learning rate of Adam", .least = 0, .most = 10},
 *         {0, "crops", CLI_CHOICE, "RULE", "1", "crops per frame", .choices = "1|3|squeeze"},
 *         {0, "resume", CLI_FLAG, NULL, NULL, "go on in the run folder"},
 *         {0}};
 *     static int run(cli *c) {
 *         sk_error err = {0};
 *         if (do_it(cli_arg(c, 0), cli_string(c, "output"), (int)cli_int(c, "epochs"), cli_hooks(c), &err) != SK_OK)
 *             return cli_fail(c, &err);              // one sentence on stderr, exit code from the status
 *         if (cli_json(c)) printf("{...}\n");        // results go to stdout, nothing else does
 *         else if (!cli_quiet(c)) printf("...\n");
 *         return CLI_OK;                             // or CLI_FINDING: the data has a finding, e.g. a leak
 *     }
 *     const cli_verb verb_train = {"train", "trains a model on a dataset", "DATASET", 1, 1, options, run,
 *         .description = "Paragraph.\n\nParagraph.", .examples = "siskin train birds -o run\n"};
 *
 * -h/--help, --json and -q/--quiet are there for every verb. A default text is parsed like a given value; an option
 * without one answers NULL, 0 or NaN, see cli_given. Positionals: text for the usage line, least, most (-1: any). */
#ifndef SISKIN_CLI_H
#define SISKIN_CLI_H

#include <stdio.h>

#include "siskin/hooks.h"
#include "siskin/status.h"

enum { CLI_OK = 0, CLI_FAILURE = 1, CLI_USAGE = 2, CLI_FINDING = 3, CLI_CANCELLED = 130 };

typedef struct cli cli;
typedef enum cli_type { CLI_FLAG, CLI_INT, CLI_DOUBLE, CLI_STRING, CLI_CHOICE } cli_type;

typedef struct cli_option {
    char letter;          /* 0: none */
    const char *name;     /* without dashes; NULL ends the table */
    cli_type type;
    const char *argument; /* "N", "FILE"; NULL for flags */
    const char *fallback; /* default text, NULL: none */
    const char *help;     /* one line, no full stop */
    const char *choices;  /* "a|b|c" of CLI_CHOICE */
    double least, most;   /* of CLI_INT and CLI_DOUBLE; both 0: any number */
    int required;
    int many;             /* may be given several times: cli_nth */
    int alone;            /* with it no argument and no required option is asked for, e.g. to print something */
} cli_option;

typedef struct cli_verb {
    const char *name, *summary;  /* summary: third person, no capital, no full stop */
    const char *arguments;       /* "DATASET", "MODEL FILE..." */
    int least_arguments, most_arguments;
    const cli_option *options;
    int (*run)(cli *c);
    const char *description;     /* paragraphs parted by an empty line */
    const char *examples;        /* one command per line */
} cli_verb;

/* Options that several verbs have. */
#define CLI_THREADS                                                                                                   \
    {0, "threads", CLI_INT, "N", "0", "threads, 0 for all cores; the result does not depend on it", .least = 0,       \
     .most = 1024}
#define CLI_MAX_BAD(things)                                                                                           \
    {0, "max-bad", CLI_INT, "N", "100", "give up at more unreadable " things " than this", .least = 0,                \
     .most = 1000000000}

int cli_given(const cli *c, const char *name); /* named on the command line */
const char *cli_nth(const cli *c, const char *name, int index); /* index-th value of an option that may be given
                                                                * several times, NULL past the last */
int cli_flag(const cli *c, const char *name);
long long cli_int(const cli *c, const char *name);
double cli_double(const cli *c, const char *name);
const char *cli_string(const cli *c, const char *name); /* also of a choice */
int cli_count(const cli *c);                            /* positionals */
const char *cli_arg(const cli *c, int index);           /* NULL past the end */
const char *const *cli_args(const cli *c);
int cli_json(const cli *c);
int cli_quiet(const cli *c);
const sk_hooks *cli_hooks(cli *c); /* progress and log on stderr, Ctrl-C as cancelled */

/* One sentence on stderr; the exit code that belongs to err->code. */
int cli_fail(cli *c, const sk_error *err);
/* A mistake in the call: the sentence, `try siskin VERB --help`; CLI_USAGE. */
int cli_usage(cli *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A note on stderr, between the redraws of the progress bar; not with --quiet. */
void cli_note(cli *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A sentence about one of many inputs, on stderr, whatever else goes on. */
void cli_complain(cli *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Text as a JSON string with its quotes. */
void cli_json_string(FILE *file, const char *text);
/* Escape sequence for "bold", "red", "green", "yellow" or "reset"; "" if `file` is no terminal or NO_COLOR is set. */
const char *cli_color(FILE *file, const char *name);

#endif
