/* SPDX-License-Identifier: Apache-2.0 */
/* siskin train: options to sk_train, one line per epoch, and the curves redrawn whenever an epoch is safe on disk. */
#include <math.h>
#include <string.h>

#include "siskin/ranks.h"
#include "siskin/report.h"
#include "siskin/train.h"
#include "train_keys.h"

static const cli_option options[] = {
    {'o', "output", CLI_STRING, "RUN", NULL, "run folder to create, or to go on in with --resume", .required = 1},
    {0, "resume", CLI_FLAG, NULL, NULL, "go on in the run folder, with its options"},
    {0, "recipe", CLI_STRING, "NAME", "feeder", "where the options below begin: feeder, seed, qat, or a recipe file"},
    {0, "print-recipe", CLI_STRING, "NAME", NULL, "print a built-in recipe, to make one's own of it, and end",
     .alone = 1},
    {0, "show-augment", CLI_STRING, "FILE", NULL, "draw training pictures as the network gets them, and end",
     .alone = 1},
    SK_TRAIN_KEYS(CLI_KEY){0}};

typedef struct show {
    cli *c;
    const char *run;
    int epochs, done, warned; /* done: in this call */
    double seconds;
    sk_epoch_log last, best;
} show;

static void span(double seconds, char *out, size_t size) {
    const long s = lround(seconds);
    if (s >= 3600) snprintf(out, size, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    else snprintf(out, size, "%ld:%02ld", s / 60, s % 60);
}

static void draw_curves(show *s) {
    char path[4096];
    sk_epoch_log *log = NULL;
    size_t rows = 0;
    sk_error err = {0};
    snprintf(path, sizeof path, "%s/curves", s->run);
    sk_status status = sk_train_log_read(s->run, &log, &rows, &err);
    if (status == SK_OK) status = sk_plot_curves(path, log, rows, &err);
    for (size_t i = 0; status == SK_OK && i < rows; i++)
        if (log[i].is_best) s->best = log[i];
    if (rows) s->last = log[rows - 1];
    sk_train_log_free(log);
    /* Figures are no reason to lose a night of training. */
    if (status != SK_OK && !s->warned++) cli_note(s->c, "the curves are not drawn: %s", err.message);
}

static void on_epoch(void *user, const sk_epoch_log *row) {
    show *s = user;
    char left[32];
    s->done++;
    s->seconds += row->seconds;
    span(s->seconds / s->done * (s->epochs - row->epoch), left, sizeof left);
    cli_note(s->c,
             "epoch %d/%d  train loss %.4f accuracy %.4f  val loss %.4f accuracy %.4f  %.0f images/s  %s left"
             "%s%s%s",
             row->epoch, s->epochs, row->train_loss, row->train_accuracy, row->val_loss, row->val_accuracy,
             row->images_per_second, left, cli_color(stderr, "green"), row->is_best ? "  best" : "",
             cli_color(stderr, "reset"));
    draw_curves(s);
}

static sk_status set_key(void *user, const char *name, const char *text, sk_error *err) {
    return sk_train_options_set(user, name, text, err);
}

/* What was said on the command line goes over the recipe and over what a run was begun with. */
static sk_status take_options(cli *c, sk_train_options *o, sk_error *err) {
    o->resume = cli_flag(c, "resume");
    return cli_each_key(c, set_key, o, err);
}

static int print_recipe(cli *c, const char *name) {
    const char *text = sk_recipe_builtin(name);
    if (!text) return cli_usage(c, "there is no built-in recipe %s, only feeder, seed and qat", name);
    fputs(text, stdout);
    return CLI_OK;
}

static void print_result(cli *c, const show *s) {
    if (cli_json(c)) {
        printf("{\"run\": ");
        cli_json_string(stdout, s->run);
        printf(", \"epochs\": %d, \"best_epoch\": %d, \"val_accuracy\": %.9g, \"val_loss\": %.9g, "
               "\"last_train_loss\": %.9g, \"last_train_accuracy\": %.9g, \"images_per_second\": %.2f}\n",
               s->last.epoch, s->best.epoch, s->best.val_accuracy, s->best.val_loss, s->last.train_loss,
               s->last.train_accuracy, s->last.images_per_second);
    } else if (!cli_quiet(c)) {
        printf("%s: %d epochs, best is epoch %d with validation accuracy %.4f, loss %.4f\n", s->run, s->last.epoch,
               s->best.epoch, s->best.val_accuracy, s->best.val_loss);
    }
}

/* Recipe or run folder, then the command line. */
static sk_status read_options(cli *c, sk_train_options *o, char *pretrained, size_t size, sk_error *err) {
    const int resume = cli_flag(c, "resume");
    sk_status status = resume ? sk_train_options_read(cli_string(c, "output"), o, pretrained, size, err)
                              : sk_recipe_read(cli_string(c, "recipe"), o, err);
    if (status == SK_OK) status = take_options(c, o, err);
    if (status == SK_OK && !resume &&
        sk_recipe_settle(o, cli_given(c, "freeze-bn"), cli_given(c, "head-epochs"), cli_given(c, "equalise")))
        cli_note(c, "without --pretrained there is nothing to keep: the recipe's freeze_bn, head_epochs, equalise are "
                    "left out");
    return status;
}

/* A picture to look at before a night is spent. */
static int show_augment(cli *c, const sk_train_options *o) {
    sk_error err = {0};
    sk_dataset *dataset = NULL;
    const char *path = cli_string(c, "show-augment");
    if (cli_count(c) != 1) return cli_usage(c, "--show-augment draws pictures of one DATASET");
    sk_status status = sk_dataset_open(cli_arg(c, 0), &dataset, &err);
    if (status == SK_OK) status = sk_train_show(dataset, o, path, cli_hooks(c), &err);
    sk_dataset_close(dataset);
    if (status != SK_OK) return cli_fail(c, &err);
    cli_note(c, "%s: a row per picture, a column per epoch", path);
    return CLI_OK;
}

static int run(cli *c) {
    sk_error err = {0};
    char pretrained[4096];
    show s = {.c = c, .run = cli_string(c, "output")};
    sk_hooks hooks = *cli_hooks(c);
    sk_train_options o = sk_train_defaults(SK_ARCH_V3_SMALL);
    if (cli_given(c, "print-recipe")) return print_recipe(c, cli_string(c, "print-recipe"));
    if (cli_flag(c, "resume") && cli_given(c, "recipe"))
        return cli_usage(c, "%s goes on with the options it was begun with; leave out --recipe", s.run);
    if (cli_given(c, "show-augment")) {
        if (read_options(c, &o, pretrained, sizeof pretrained, &err) != SK_OK) return cli_fail(c, &err);
        return show_augment(c, &o);
    }
    sk_ranks *ranks = NULL;
    sk_dataset *dataset = NULL;
    sk_status status = sk_ranks_open(&hooks, &ranks, &err);
    if (status != SK_OK) return cli_fail(c, &err);
    const int first = sk_ranks_rank(ranks) == 0;
    if (!first) hooks.progress = NULL, hooks.log = NULL;
    status = read_options(c, &o, pretrained, sizeof pretrained, &err);
    if (status == SK_OK) status = sk_dataset_open(cli_arg(c, 0), &dataset, &err);
    status = sk_ranks_agree(ranks, status, &err);
    s.epochs = o.epochs;
    o.ranks = ranks;
    if (status == SK_OK) status = sk_train(dataset, s.run, &o, &hooks, first ? on_epoch : NULL, &s, &err);
    sk_dataset_close(dataset);
    const int speaks = sk_ranks_speaks(ranks);
    sk_ranks_close(ranks);
    if (status != SK_OK) return speaks ? cli_fail(c, &err) : CLI_FAILURE;
    if (!first) return CLI_OK;
    draw_curves(&s);
    print_result(c, &s);
    return CLI_OK;
}

const cli_verb verb_train = {
    "train",
    "trains a model on a dataset",
    "DATASET",
    1,
    1,
    options,
    run,
    .description =
        "Trains MobileNetV3 on the train part of DATASET and validates on its val part after every epoch. The run "
        "folder "
        "gets run.json (everything needed to repeat the run), log.tsv, curves.png and curves.svg, best.safetensors "
        "(best "
        "validation accuracy, ties broken by the loss), last.safetensors, and state.safetensors, from which --resume "
        "goes on.\n\n"
        "A recipe says how: optimiser, schedule, augmentation. `feeder` is made for pictures of a bird feeder, `seed` "
        "is "
        "Adam with random crops and mirror images; docs/recipes.md explains every key, and each one is also an option "
        "here that goes over the recipe's value.\n\n"
        "Ctrl-C and even kill -9 lose at most the running epoch; a resumed run ends with the same bytes as one "
        "that was left alone. --resume takes its options from the run; only --threads, --max-bad, --patience and, "
        "while "
        "the learning rate is constant, --epochs may differ.\n\n"
        "`mpirun -np N siskin train ...` trains in N processes (2, 4, 8 or 16; a build with -Dmpi=enabled), each with "
        "its share of every batch, on one or more machines that all see DATASET and RUN. The result has the bytes of "
        "one process. When a process is lost the others end with a sentence, and --resume goes on after the last "
        "whole epoch, with any number of processes. By default mpirun gives each process one core; --threads counts "
        "per process. At Ctrl-C mpirun kills its processes one second after it has asked them to stop: where a step "
        "takes longer, nothing is said, though nothing but the running epoch is lost either; `mpirun --mca "
        "odls_base_sigkill_timeout 30` gives them the time.",
    .examples = "siskin train birds --show-augment sheet.png\n"
                "siskin train birds -o run --pretrained mobilenet_v3_small.safetensors\n"
                "siskin train birds -o run --resume\n"
                "siskin train birds -o seed --recipe seed --epochs 20\n"
                "siskin train --print-recipe feeder >mine.ini\n"
                "mpirun -np 4 siskin train birds -o run\n"};
