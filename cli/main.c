/* SPDX-License-Identifier: Apache-2.0 */
/* The program: finds the verb, parses its options and runs it. */
#include "internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "siskin/text.h"

#define VERB(name) extern const cli_verb verb_##name;
#include "verbs.inc"
#undef VERB

#define VERB(name) &verb_##name,
const cli_verb *const cli_verbs[] = {
#include "verbs.inc"
    NULL};

static const char *verb_name(const void *user, int index) {
    (void)user;
    return cli_verbs[index] ? cli_verbs[index]->name : NULL;
}

static int run_verb(const cli_verb *verb, int argc, char **argv) {
    const char **args = calloc((size_t)argc + 1, sizeof *args);
    cli_value *many = calloc((size_t)argc + 1, sizeof *many);
    if (!args || !many) {
        fprintf(stderr, "siskin: out of memory\n");
        free(args);
        free(many);
        return CLI_FAILURE;
    }
    cli c;
    int code = cli_parse(&c, verb, argc, argv, args, many);
    if (code < 0) {
        code = verb->run(&c);
        cli_bar_clear(&c);
    }
    free(args);
    free(many);
    return code;
}

static int dispatch(int argc, char **argv) {
    if (argc < 2) {
        cli_help_all(stderr);
        return CLI_USAGE;
    }
    const char *word = argv[1];
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0) {
        for (int i = 0; argc > 2 && cli_verbs[i]; i++) {
            if (strcmp(cli_verbs[i]->name, argv[2]) != 0) continue;
            cli_help(stdout, cli_verbs[i]);
            return CLI_OK;
        }
        cli_help_all(stdout);
        return CLI_OK;
    }
    if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0) {
        printf("siskin " SK_VERSION "\n");
        return CLI_OK;
    }
    /* Not in the list of verbs: the build and the shell's own files use them. */
    if (strcmp(word, "man") == 0) return cli_man(argv[2]);
    if (strcmp(word, "completion") == 0) return cli_completion(argv[2]);
    for (int i = 0; cli_verbs[i]; i++)
        if (strcmp(cli_verbs[i]->name, word) == 0) return run_verb(cli_verbs[i], argc - 2, argv + 2);
    const char *near = word[0] == '-' ? NULL : sk_nearest(word, verb_name, NULL);
    fprintf(stderr, "siskin: unknown %s '%s'", word[0] == '-' ? "option" : "verb", word);
    if (near) fprintf(stderr, " (did you mean '%s'?)", near);
    fprintf(stderr, "; try 'siskin --help'\n");
    return CLI_USAGE;
}

int main(int argc, char **argv) {
    int code = dispatch(argc, argv);
    /* A result that did not reach its reader is a failure, whatever the verb thinks. */
    errno = 0;
    if ((fflush(stdout) != 0 || ferror(stdout)) && code == CLI_OK) {
        fprintf(stderr, "siskin: cannot write the result to standard output: %s\n",
                errno ? strerror(errno) : "an earlier write failed");
        code = CLI_FAILURE;
    }
    return code;
}
