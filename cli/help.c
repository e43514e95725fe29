/* SPDX-License-Identifier: Apache-2.0 */
/* Help, man pages and shell completion, all from the verbs' tables. */
#include "internal.h"

#include <ctype.h>
#include <string.h>

#define WIDTH 96

/* Words of `text` wrapped at WIDTH, every line indented; the first line begins at column `at`. */
static void wrap(FILE *file, const char *text, int indent, int at) {
    while (*text) {
        if (text[0] == '\n' && text[1] == '\n') {
            fprintf(file, "\n\n%*s", indent, "");
            at = indent;
            text += 2;
            continue;
        }
        if (isspace((unsigned char)*text)) {
            text++;
            continue;
        }
        int n = (int)strcspn(text, " \n");
        if (at > indent && at + 1 + n > WIDTH) {
            fprintf(file, "\n%*s", indent, "");
            at = indent;
        } else if (at > indent) {
            fputc(' ', file);
            at++;
        }
        fprintf(file, "%.*s", n, text);
        at += n;
        text += n;
    }
    fputc('\n', file);
}

static void option_help(char *out, size_t size, const cli_option *option) {
    int n = snprintf(out, size, "%s", option->help);
    const char *sign = " (";
    if (option->choices && (size_t)n < size) {
        n += snprintf(out + n, size - (size_t)n, "%s%s", sign, option->choices);
        sign = "; ";
    }
    if (option->fallback && (size_t)n < size) {
        n += snprintf(out + n, size - (size_t)n, "%sdefault %s", sign, option->fallback);
        sign = "; ";
    }
    if (option->many && (size_t)n < size) {
        n += snprintf(out + n, size - (size_t)n, "%smay be given several times", sign);
        sign = "; ";
    }
    if (option->required && (size_t)n < size) {
        n += snprintf(out + n, size - (size_t)n, "%snecessary", sign);
        sign = "; ";
    }
    if (sign[0] == ';' && (size_t)n < size) snprintf(out + n, size - (size_t)n, ")");
}

static void usage_line(char *out, size_t size, const cli_verb *verb) {
    size_t n = (size_t)snprintf(out, size, "siskin %s %s", verb->name, verb->arguments);
    for (const cli_option *o = verb->options; o->name && n < size; o++) {
        if (!o->required) continue;
        if (o->letter) n += (size_t)snprintf(out + n, size - n, " -%c %s", o->letter, o->argument);
        else n += (size_t)snprintf(out + n, size - n, " --%s %s", o->name, o->argument);
    }
}

void cli_help(FILE *file, const cli_verb *verb) {
    char text[512];
    usage_line(text, sizeof text, verb);
    fprintf(file, "Usage: %s [options]\n\n", text);
    snprintf(text, sizeof text, "siskin %s %s.", verb->name, verb->summary);
    wrap(file, text, 0, 0);
    if (verb->description) {
        fputc('\n', file);
        wrap(file, verb->description, 0, 0);
    }
    fprintf(file, "\nOptions:\n");
    for (int i = 0; cli_option_at(verb, i); i++) {
        const cli_option *o = cli_option_at(verb, i);
        int n = o->letter ? fprintf(file, "  -%c, --%s", o->letter, o->name) : fprintf(file, "      --%s", o->name);
        if (o->argument) n += fprintf(file, " %s", o->argument);
        if (n > 30) fprintf(file, "\n%*s", 32, "");
        else fprintf(file, "%*s", 32 - n, "");
        option_help(text, sizeof text, o);
        wrap(file, text, 32, 32);
    }
    if (!verb->examples) return;
    fprintf(file, "\nExamples:\n");
    for (const char *p = verb->examples; *p;) {
        int n = (int)strcspn(p, "\n");
        fprintf(file, "  %.*s\n", n, p);
        p += n + (p[n] == '\n');
    }
}

void cli_help_all(FILE *file) {
    fprintf(file, "Usage: siskin VERB [arguments] [options]\n\n"
                  "From the videos of a bird feeder to a bird / no-bird model on a camera board.\n\nVerbs:\n");
    for (int i = 0; cli_verbs[i]; i++) {
        int n = fprintf(file, "  %s", cli_verbs[i]->name);
        fprintf(file, "%*s", 14 - n, "");
        wrap(file, cli_verbs[i]->summary, 14, 14);
    }
    fprintf(file,
            "\n'siskin VERB --help' explains a verb, 'siskin --version' tells the version.\n"
            "Exit status: 0 done, 1 failure, 2 wrong call, 3 the data has a finding (a leak, too many bad files),\n"
            "130 stopped.\n");
}

/* ---- man pages ------------------------------------------------------------------------------------------ */

/* roff: backslashes, and dots or quotes at the beginning of a line, must not act. */
static void roff(const char *text) {
    int line_start = 1;
    for (; *text; text++) {
        if (text[0] == '\n' && text[1] == '\n') {
            printf("\n.PP\n");
            text++;
            line_start = 1;
            continue;
        }
        if (line_start && (*text == '.' || *text == '\'')) printf("\\&");
        if (*text == '\\') printf("\\e");
        else if (*text == '-') printf("\\-");
        else putchar(*text);
        line_start = *text == '\n';
    }
}

static void man_examples(const char *examples) {
    printf(".SH EXAMPLES\n.nf\n");
    roff(examples);
    if (!*examples || examples[strlen(examples) - 1] != '\n') putchar('\n');
    printf(".fi\n");
}

static void man_exit_status(void) {
    printf(".SH EXIT STATUS\n0 done; 1 failure; 2 wrong call; 3 the data has a finding (a leak, too many bad files);\n"
           "130 stopped by Ctrl\\-C.\n");
}

static void man_head(const char *name, const char *summary) {
    printf(".TH \"");
    for (const char *p = name; *p; p++) putchar(toupper((unsigned char)*p));
    printf("\" \"1\" \"\" \"siskin " SK_VERSION "\" \"siskin\"\n.SH NAME\n");
    roff(name);
    printf(" \\- ");
    roff(summary);
    printf("\n.SH SYNOPSIS\n");
}

static void man_verb(const cli_verb *verb) {
    char text[512];
    snprintf(text, sizeof text, "siskin-%s", verb->name);
    man_head(text, verb->summary);
    usage_line(text, sizeof text, verb);
    printf(".B ");
    roff(text);
    printf("\n[options]\n.SH DESCRIPTION\n");
    snprintf(text, sizeof text, "siskin %s %s.", verb->name, verb->summary);
    roff(text);
    putchar('\n');
    if (verb->description) {
        printf(".PP\n");
        roff(verb->description);
        putchar('\n');
    }
    printf(".SH OPTIONS\n");
    for (int i = 0; cli_option_at(verb, i); i++) {
        const cli_option *o = cli_option_at(verb, i);
        printf(".TP\n");
        if (o->letter) printf("\\fB\\-%c\\fR, ", o->letter);
        printf("\\fB\\-\\-");
        roff(o->name);
        printf("\\fR");
        if (o->argument) printf(" \\fI%s\\fR", o->argument);
        putchar('\n');
        option_help(text, sizeof text, o);
        roff(text);
        putchar('\n');
    }
    if (verb->examples) man_examples(verb->examples);
    man_exit_status();
    printf(".SH SEE ALSO\n.BR siskin (1)\n");
}

static void man_all(void) {
    man_head("siskin", "bird or no bird: trains, evaluates and quantises models for camera boards");
    printf(
        ".B siskin\n.I VERB\n[arguments] [options]\n.SH DESCRIPTION\n"
        "From the videos of a bird feeder to a bird / no\\-bird model on a camera board. Each step is one verb, each "
        "thing between two steps is one documented file or folder.\n.SH VERBS\n");
    for (int i = 0; cli_verbs[i]; i++) {
        printf(".TP\n.BR siskin\\-%s (1)\n", cli_verbs[i]->name);
        roff(cli_verbs[i]->summary);
        putchar('\n');
    }
    man_exit_status();
    printf(".SH ENVIRONMENT\n.TP\n.B SISKIN_CPU\n\\fBc\\fR, \\fBavx2\\fR, \\fBavxvnni\\fR (avx2 but for int8) or "
           "\\fBavx512\\fR: the widest kernels to use, \\fBc\\fR being the reference; unset, or where the CPU "
           "lacks them, the fastest that it has are used.\n.TP\n.B NO_COLOR\nset to anything: no colours.\n");
    man_examples("siskin import frames.tsv photos.tsv -o birds\nsiskin split birds --ratio 6:2:2 --seed 1\n"
                 "siskin check birds\nsiskin train birds -o run --pretrained bird-small.safetensors\n"
                 "siskin eval run birds --split test -o report\n"
                 "siskin quantize run --calibration birds -o bird.skn\n"
                 "siskin classify bird.skn clip.mp4\n");
}

int cli_man(const char *name) {
    if (!name) {
        man_all();
        return CLI_OK;
    }
    for (int i = 0; cli_verbs[i]; i++) {
        if (strcmp(cli_verbs[i]->name, name) != 0) continue;
        man_verb(cli_verbs[i]);
        return CLI_OK;
    }
    fprintf(stderr, "siskin man: unknown verb '%s'; try 'siskin --help'\n", name);
    return CLI_USAGE;
}

/* ---- completion --------------------------------------------------------------------------------------------- */

static void bash_words(const cli_verb *verb) {
    for (int i = 0; cli_option_at(verb, i); i++) {
        const cli_option *o = cli_option_at(verb, i);
        if (o->letter) printf(" -%c", o->letter);
        printf(" --%s", o->name);
    }
}

static void bash(void) {
    printf("# bash completion of siskin\n_siskin() {\n"
           "    local word=${COMP_WORDS[COMP_CWORD]} last=${COMP_WORDS[COMP_CWORD-1]} words=\n"
           "    COMPREPLY=()\n    if [ \"$COMP_CWORD\" -eq 1 ]; then\n        words='");
    for (int i = 0; cli_verbs[i]; i++) printf("%s ", cli_verbs[i]->name);
    printf("--help --version'\n    else\n        case \"${COMP_WORDS[1]} $last\" in\n");
    for (int i = 0; cli_verbs[i]; i++) {
        for (const cli_option *o = cli_verbs[i]->options; o->name; o++) {
            if (!o->choices) continue;
            printf("        '%s --%s') words='", cli_verbs[i]->name, o->name);
            for (const char *p = o->choices; *p; p++) putchar(*p == '|' ? ' ' : *p);
            printf("' ;;\n");
        }
    }
    printf("        *) case \"${COMP_WORDS[1]}\" in\n");
    for (int i = 0; cli_verbs[i]; i++) {
        printf("            %s) words='", cli_verbs[i]->name);
        bash_words(cli_verbs[i]);
        printf("' ;;\n");
    }
    printf("            esac\n            case \"$word\" in -*) ;; *) words= ;; esac ;;\n        esac\n    fi\n"
           "    [ -z \"$words\" ] || COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n}\n"
           "complete -o default -F _siskin siskin\n");
}

/* Inside single quotes and _arguments' brackets. */
static void zsh_text(const char *text) {
    for (; *text; text++) {
        if (*text == '\'') printf("'\\''");
        else if (strchr("[]:\\", *text)) printf("\\%c", *text);
        else putchar(*text);
    }
}

static void zsh(void) {
    printf("#compdef siskin\n# zsh completion of siskin\n_siskin() {\n    local -a verbs\n    verbs=(\n");
    for (int i = 0; cli_verbs[i]; i++) {
        printf("        '%s:", cli_verbs[i]->name);
        zsh_text(cli_verbs[i]->summary);
        printf("'\n");
    }
    printf("    )\n    if (( CURRENT == 2 )); then\n        _describe verb verbs\n        return\n    fi\n"
           "    local verb=$words[2]\n    shift words\n    (( CURRENT-- ))\n    case $verb in\n");
    for (int i = 0; cli_verbs[i]; i++) {
        printf("    %s) _arguments", cli_verbs[i]->name);
        for (int j = 0; cli_option_at(cli_verbs[i], j); j++) {
            const cli_option *o = cli_option_at(cli_verbs[i], j);
            printf(" \\\n        '--%s[", o->name);
            zsh_text(o->help);
            putchar(']');
            if (o->choices) {
                printf(":%s:(", o->argument);
                for (const char *p = o->choices; *p; p++) putchar(*p == '|' ? ' ' : *p);
                putchar(')');
            } else if (o->type == CLI_STRING) {
                printf(":%s:_files", o->argument);
            } else if (o->argument) {
                printf(":%s: ", o->argument);
            }
            putchar('\'');
            if (!o->letter) continue;
            printf(" \\\n        '-%c[", o->letter);
            zsh_text(o->help);
            putchar(']');
            if (o->argument) printf(":%s:%s", o->argument, o->type == CLI_STRING ? "_files" : " ");
            putchar('\'');
        }
        printf(" \\\n        '*:file:_files' ;;\n");
    }
    printf("    esac\n}\n_siskin \"$@\"\n");
}

int cli_completion(const char *shell) {
    if (shell && strcmp(shell, "bash") == 0) bash();
    else if (shell && strcmp(shell, "zsh") == 0) zsh();
    else {
        fprintf(stderr, "siskin completion: the shell must be bash or zsh; try 'siskin --help'\n");
        return CLI_USAGE;
    }
    return CLI_OK;
}
