/* SPDX-License-Identifier: Apache-2.0 */
/* Parsing by table and the values it gave. Options and positionals may be mixed; `--` ends the options. */
#include "internal.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "siskin/text.h"

const cli_option cli_common[] = {{0, "json", CLI_FLAG, NULL, NULL, "print the result as JSON"},
                                 {'q', "quiet", CLI_FLAG, NULL, NULL, "print errors alone, and with --json the JSON"},
                                 {'h', "help", CLI_FLAG, NULL, NULL, "print this help and end"},
                                 {0}};

const cli_option *cli_option_at(const cli_verb *verb, int index) {
    int own = 0;
    while (verb->options[own].name) own++;
    const cli_option *option = index < own ? &verb->options[index] : &cli_common[index - own];
    return option->name ? option : NULL;
}

/* ---- messages ----------------------------------------------------------------------------------------- */

const char *cli_color(FILE *file, const char *name) {
    static const char *const codes[][2] = {
        {"bold", "\033[1m"}, {"red", "\033[31m"}, {"green", "\033[32m"}, {"yellow", "\033[33m"}, {"reset", "\033[0m"}};
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
    if ((no && *no) || !term || strcmp(term, "dumb") == 0 || !isatty(fileno(file))) return "";
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (strcmp(codes[i][0], name) == 0) return codes[i][1];
    return "";
}

static void head(const cli *c) {
    fprintf(stderr, "%ssiskin %s:%s ", cli_color(stderr, "bold"), c->verb->name, cli_color(stderr, "reset"));
}

int cli_fail(cli *c, const sk_error *err) {
    cli_bar_clear(c);
    head(c);
    fprintf(stderr, "%s\n", err->message[0] ? err->message : sk_status_name(err->code));
    switch (err->code) {
    case SK_ERR_ARGUMENT: return CLI_USAGE;
    case SK_ERR_DATA: return CLI_FINDING;
    case SK_ERR_CANCELLED: return CLI_CANCELLED;
    default: return CLI_FAILURE;
    }
}

int cli_usage(cli *c, const char *format, ...) {
    cli_bar_clear(c);
    head(c);
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "; try 'siskin %s --help'\n", c->verb->name);
    return CLI_USAGE;
}

static void line(cli *c, const char *format, va_list args) {
    cli_bar_clear(c);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
}

void cli_note(cli *c, const char *format, ...) {
    va_list args;
    if (cli_quiet(c)) return;
    va_start(args, format);
    line(c, format, args);
    va_end(args);
}

void cli_complain(cli *c, const char *format, ...) {
    va_list args;
    va_start(args, format);
    line(c, format, args);
    va_end(args);
}

void cli_json_string(FILE *file, const char *text) {
    fputc('"', file);
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (*p == '"' || *p == '\\') fprintf(file, "\\%c", *p);
        else if (*p == '\n') fputs("\\n", file);
        else if (*p == '\t') fputs("\\t", file);
        else if (*p < 32 || *p == 127) fprintf(file, "\\u%04x", *p);
        else fputc(*p, file);
    }
    fputc('"', file);
}

static const char *option_name(const void *user, int index) {
    const cli_option *option = cli_option_at(user, index);
    return option ? option->name : NULL;
}

/* ---- parsing -------------------------------------------------------------------------------------------- */

static int number(const cli_option *option, const char *text, double *value) {
    char *end;
    errno = 0;
    if (option->type == CLI_INT) {
        long long whole = strtoll(text, &end, 10);
        *value = (double)whole;
    } else {
        *value = strtod(text, &end);
    }
    if (end == text || *end || errno == ERANGE || !isfinite(*value)) return 0;
    return (option->least == 0 && option->most == 0) || (*value >= option->least && *value <= option->most);
}

static int is_choice(const char *choices, const char *text) {
    size_t length = strlen(text);
    for (const char *p = choices; length; p++) {
        size_t n = strcspn(p, "|");
        if (n == length && memcmp(p, text, n) == 0) return 1;
        p += n;
        if (!*p) break;
    }
    return 0;
}

static int set(cli *c, int index, const char *text) {
    const cli_option *option = cli_option_at(c->verb, index);
    double value;
    if (option->type == CLI_CHOICE && !is_choice(option->choices, text)) {
        return cli_usage(c, "--%s must be one of %s, not '%s'", option->name, option->choices, text);
    }
    if ((option->type == CLI_INT || option->type == CLI_DOUBLE) && !number(option, text, &value)) {
        const char *kind = option->type == CLI_INT ? "a whole number" : "a number";
        if (option->least == 0 && option->most == 0)
            return cli_usage(c, "--%s must be %s, not '%s'", option->name, kind, text);
        return cli_usage(c, "--%s must be %s from %.10g to %.10g, not '%s'", option->name, kind, option->least,
                         option->most, text);
    }
    if (option->type == CLI_STRING && !*text) return cli_usage(c, "--%s must not be empty", option->name);
    c->values[index] = text;
    if (option->many) c->many[c->many_count++] = (cli_value){index, text};
    return -1;
}

static int parse_long(cli *c, int argc, char **argv, int *at) {
    const char *word = argv[*at] + 2;
    size_t length = strcspn(word, "=");
    for (int i = 0; cli_option_at(c->verb, i); i++) {
        const cli_option *option = cli_option_at(c->verb, i);
        if (strlen(option->name) != length || memcmp(option->name, word, length) != 0) continue;
        if (option->type == CLI_FLAG) {
            if (word[length]) return cli_usage(c, "--%s takes no value", option->name);
            return set(c, i, "1");
        }
        if (word[length]) return set(c, i, word + length + 1);
        if (*at + 1 >= argc) return cli_usage(c, "--%s needs a value: %s", option->name, option->argument);
        return set(c, i, argv[++*at]);
    }
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)length, word);
    const char *near = sk_nearest(name, option_name, c->verb);
    if (near) return cli_usage(c, "unknown option --%s (did you mean --%s?)", name, near);
    return cli_usage(c, "unknown option --%s", name);
}

static int parse_letters(cli *c, int argc, char **argv, int *at) {
    for (const char *p = argv[*at] + 1; *p; p++) {
        int i = 0;
        const cli_option *option;
        while ((option = cli_option_at(c->verb, i)) && option->letter != *p) i++;
        if (!option) return cli_usage(c, "unknown option -%c", *p);
        int code;
        if (option->type == CLI_FLAG) {
            code = set(c, i, "1");
            if (code >= 0) return code;
            continue;
        }
        if (p[1]) return set(c, i, p + 1);
        if (*at + 1 >= argc) return cli_usage(c, "-%c needs a value: %s", *p, option->argument);
        return set(c, i, argv[++*at]);
    }
    return -1;
}

static int check_complete(cli *c) {
    const cli_verb *verb = c->verb;
    for (int i = 0; cli_option_at(verb, i); i++)
        if (cli_option_at(verb, i)->alone && c->values[i]) return -1;
    if (c->arg_count < verb->least_arguments)
        return cli_usage(c, "%s expected: siskin %s %s", c->arg_count ? "more arguments" : "arguments", verb->name,
                         verb->arguments);
    if (verb->most_arguments >= 0 && c->arg_count > verb->most_arguments)
        return cli_usage(c, "unexpected argument '%s'", c->args[verb->most_arguments]);
    for (int i = 0; i < c->arg_count; i++)
        if (!*c->args[i]) return cli_usage(c, "argument %d is empty", i + 1);
    for (int i = 0; cli_option_at(verb, i); i++) {
        const cli_option *option = cli_option_at(verb, i);
        if (option->required && !c->values[i]) {
            if (option->letter)
                return cli_usage(c, "-%c %s (--%s) is missing", option->letter, option->argument, option->name);
            return cli_usage(c, "--%s %s is missing", option->name, option->argument);
        }
    }
    return -1;
}

int cli_parse(cli *c, const cli_verb *verb, int argc, char **argv, const char **args, cli_value *many) {
    memset(c, 0, sizeof *c);
    c->verb = verb;
    c->args = args;
    c->many = many;
    cli_hooks_init(c);
    int only_arguments = 0;
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i];
        int code = -1;
        if (only_arguments || word[0] != '-' || !word[1]) args[c->arg_count++] = word;
        else if (strcmp(word, "--") == 0) only_arguments = 1;
        else if (word[1] == '-') code = parse_long(c, argc, argv, &i);
        else code = parse_letters(c, argc, argv, &i);
        if (code >= 0) return code;
        if (cli_flag(c, "help")) {
            cli_help(stdout, verb);
            return CLI_OK;
        }
    }
    return check_complete(c);
}

/* ---- values ------------------------------------------------------------------------------------------------ */

static int find(const cli *c, const char *name) {
    for (int i = 0; cli_option_at(c->verb, i); i++)
        if (strcmp(cli_option_at(c->verb, i)->name, name) == 0) return i;
    fprintf(stderr, "siskin %s: the program asks for its unknown option '%s'\n", c->verb->name, name);
    abort();
}

static const char *value_text(const cli *c, const char *name) {
    int index = find(c, name);
    return c->values[index] ? c->values[index] : cli_option_at(c->verb, index)->fallback;
}

int cli_given(const cli *c, const char *name) { return c->values[find(c, name)] != NULL; }
int cli_flag(const cli *c, const char *name) { return cli_given(c, name); }

const char *cli_nth(const cli *c, const char *name, int index) {
    const int option = find(c, name);
    for (int i = 0; i < c->many_count; i++)
        if (c->many[i].index == option && index-- == 0) return c->many[i].text;
    return NULL;
}

long long cli_int(const cli *c, const char *name) {
    const char *text = value_text(c, name);
    return text ? strtoll(text, NULL, 10) : 0;
}

double cli_double(const cli *c, const char *name) {
    const char *text = value_text(c, name);
    return text ? strtod(text, NULL) : NAN;
}

const char *cli_string(const cli *c, const char *name) { return value_text(c, name); }
int cli_count(const cli *c) { return c->arg_count; }
const char *cli_arg(const cli *c, int index) { return index < c->arg_count ? c->args[index] : NULL; }
const char *const *cli_args(const cli *c) { return c->args; }
int cli_json(const cli *c) { return cli_flag(c, "json"); }
int cli_quiet(const cli *c) { return cli_flag(c, "quiet"); }
