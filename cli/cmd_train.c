/* SPDX-License-Identifier: Apache-2.0 */
/* siskin train: options to sk_train, one line per epoch, and the curves redrawn whenever an epoch is safe on disk. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "siskin/report.h"
#include "siskin/train.h"

static const cli_option options[] = {
    {'o', "output", CLI_STRING, "RUN", NULL, "run folder to create, or to go on in with --resume", .required = 1},
    {0, "model", CLI_CHOICE, "NAME", "small", "MobileNetV3 of this size", .choices = "small|large"},
    {0, "size", CLI_INT, "PIXELS", "224", "side of the network's input", .least = 32, .most = 256},
    {0, "pretrained", CLI_STRING, "FILE", NULL, "first weights: safetensors, .pth or a run; random without"},
    {'e', "epochs", CLI_INT, "N", "100", "passes over the train part", .least = 1, .most = 1000000},
    {'b', "batch", CLI_INT, "N", "128", "pictures per step", .least = 2, .most = 65536},
    {0, "lr", CLI_DOUBLE, "RATE", "1e-4", "learning rate of Adam", .least = 1e-12, .most = 1000},
    {0, "dropout", CLI_DOUBLE, "P", "0.2", "dropout before the last layer", .least = 0, .most = 0.99},
    {0, "seed", CLI_STRING, "N", "1", "seed of weights, order, augmentation and dropout"},
    {0, "threads", CLI_INT, "N", "0", "threads, 0 for all cores; the result is the same", .least = 0, .most = 1024},
    {0, "freeze-features", CLI_FLAG, NULL, NULL, "train the classifier only"},
    {0, "clip-repeat", CLI_INT, "N", "1", "how often a clip's frame comes per epoch", .least = 1, .most = 1000},
    {0, "max-bad", CLI_INT, "N", "100", "more unreadable pictures end the run", .least = 0, .most = 1000000000},
    {0, "resume", CLI_FLAG, NULL, NULL, "go on in the run folder, with its options"},
    {0}};

typedef struct show {
    cli *c;
    const char *run;
    int epochs, done, warned; /* done: in this call */
    double seconds;
    sk_epoch_log last, best;
} show;

static void span(double seconds, char *out, size_t size) {
    const long s = lround(seconds);
    if (s >= 3600)
        snprintf(out, size, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(out, size, "%ld:%02ld", s / 60, s % 60);
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
    cli_note(s->c, "epoch %d/%d  train loss %.4f accuracy %.4f  val loss %.4f accuracy %.4f  %.0f images/s  %s left"
             "%s%s%s", row->epoch, s->epochs, row->train_loss, row->train_accuracy, row->val_loss, row->val_accuracy,
             row->images_per_second, left, cli_color(stderr, "green"), row->is_best ? "  best" : "",
             cli_color(stderr, "reset"));
    draw_curves(s);
}

/* What was said on the command line; with `all` also the defaults. */
static int take_options(cli *c, int all, sk_train_options *o) {
    if (cli_given(c, "size") || all) o->card.size = (int)cli_int(c, "size");
    if (cli_given(c, "pretrained") || all) o->pretrained = cli_string(c, "pretrained");
    if (cli_given(c, "epochs") || all) o->epochs = (int)cli_int(c, "epochs");
    if (cli_given(c, "batch") || all) o->batch = (int)cli_int(c, "batch");
    if (cli_given(c, "lr") || all) o->lr = (float)cli_double(c, "lr");
    if (cli_given(c, "dropout") || all) o->dropout = (float)cli_double(c, "dropout");
    if (cli_given(c, "clip-repeat") || all) o->clip_repeat = (int)cli_int(c, "clip-repeat");
    if (cli_given(c, "max-bad") || all) o->max_bad = (int)cli_int(c, "max-bad");
    if (cli_flag(c, "freeze-features")) o->freeze_features = 1;
    o->threads = (int)cli_int(c, "threads");
    o->resume = cli_flag(c, "resume");
    if (cli_given(c, "seed") || all) {
        const char *text = cli_string(c, "seed");
        char *end = NULL;
        o->seed = strtoull(text, &end, 10);
        if (end == text || *end || *text == '-') return cli_usage(c, "--seed %s is not a whole number from 0", text);
    }
    return CLI_OK;
}

static void print_result(cli *c, const show *s) {
    if (cli_json(c)) {
        printf("{\"run\": ");
        cli_json_string(stdout, s->run);
        printf(", \"epochs\": %d, \"best_epoch\": %d, \"val_accuracy\": %.9g, \"val_loss\": %.9g, "
               "\"last_train_loss\": %.9g, \"last_train_accuracy\": %.9g, \"images_per_second\": %.2f}\n",
               s->last.epoch,
               s->best.epoch, s->best.val_accuracy, s->best.val_loss, s->last.train_loss, s->last.train_accuracy,
               s->last.images_per_second);
    } else if (!cli_quiet(c)) {
        printf("%s: %d epochs, best is epoch %d with validation accuracy %.4f, loss %.4f\n", s->run, s->last.epoch,
               s->best.epoch, s->best.val_accuracy, s->best.val_loss);
    }
}

static int run(cli *c) {
    sk_error err = {0};
    sk_arch arch = SK_ARCH_V3_SMALL;
    char pretrained[4096];
    show s = {.c = c, .run = cli_string(c, "output")};
    if (sk_arch_parse(cli_string(c, "model"), &arch, &err) != SK_OK) return cli_fail(c, &err);
    sk_train_options o = sk_train_defaults(arch);
    const int resume = cli_flag(c, "resume");
    if (resume) {
        if (sk_train_options_read(s.run, &o, pretrained, sizeof pretrained, &err) != SK_OK) return cli_fail(c, &err);
        if (cli_given(c, "model") && o.card.arch != arch)
            return cli_usage(c, "%s is a run of %s; leave out --model", s.run, sk_arch_name(o.card.arch));
    }
    const int wrong = take_options(c, !resume, &o);
    if (wrong) return wrong;
    s.epochs = o.epochs;
    sk_dataset *dataset = NULL;
    sk_status status = sk_dataset_open(cli_arg(c, 0), &dataset, &err);
    if (status == SK_OK) status = sk_train(dataset, s.run, &o, cli_hooks(c), on_epoch, &s, &err);
    sk_dataset_close(dataset);
    if (status != SK_OK) return cli_fail(c, &err);
    draw_curves(&s);
    print_result(c, &s);
    return CLI_OK;
}

const cli_verb verb_train = {
    "train", "trains a model on a dataset", "DATASET", 1, 1, options, run,
    .description =
        "Trains MobileNetV3 on the train part of DATASET with Adam, random resized crops and flips, and validates on "
        "its val part after every epoch. The run folder gets run.json (everything needed to repeat the run), log.tsv, "
        "curves.png and curves.svg, best.safetensors (best validation accuracy, ties broken by the loss), "
        "last.safetensors, and state.safetensors, from which --resume goes on.\n\n"
        "Ctrl-C and even kill -9 lose at most the running epoch; a resumed run ends with the same bytes as one "
        "that was left alone. --resume takes its options from the run; only --epochs, --threads and --max-bad may "
        "differ.",
    .examples = "siskin train birds -o run --pretrained mobilenet_v3_small.safetensors\n"
                "siskin train birds -o run --resume\n"};
