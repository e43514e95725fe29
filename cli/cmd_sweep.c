/* SPDX-License-Identifier: Apache-2.0 */
/* siskin sweep: a grid of training options, every configuration with several seeds, tabled with intervals. */
#include <math.h>
#include <string.h>

#include "cli.h"
#include "siskin/ranks.h"
#include "siskin/sweep.h"
#include "train_keys.h"

static const cli_option options[] = {
    {'o', "output", CLI_STRING, "OUT", NULL, "folder of the runs and the tables; a sweep that is there is gone on with",
     .required = 1},
    {'g', "grid", CLI_STRING, "KEY=VALUE,...", NULL, "values that are combined with those of the other --grid",
     .many = 1},
    {0, "grid-file", CLI_STRING, "FILE", NULL, "the same from a file, one KEY=VALUE,... per line"},
    {0, "seeds", CLI_INT, "N", "3", "runs per configuration, from --seed on", .least = 1, .most = 1000},
    {0, "jobs", CLI_INT, "N", "1", "runs trained at the same time, which share the threads", .least = 1, .most = 256},
    {0, "eval", CLI_STRING, "DATASET", NULL, "its test part judges every run too", .many = 1},
    {0, "recipe", CLI_STRING, "NAME", NULL, "of all runs: feeder, which is the default, seed, or a recipe file"},
    SK_TRAIN_KEYS(CLI_KEY){0}};

static sk_status fix_key(void *user, const char *name, const char *text, sk_error *err) {
    return sk_sweep_fix(user, name, text, err);
}

static sk_status describe(cli *c, sk_sweep *sweep, sk_error *err) {
    sk_status status = cli_given(c, "recipe") ? sk_sweep_fix(sweep, "recipe", cli_string(c, "recipe"), err) : SK_OK;
    if (status == SK_OK) status = cli_each_key(c, fix_key, sweep, err);
    if (status == SK_OK && cli_given(c, "grid-file"))
        status = sk_sweep_vary_file(sweep, cli_string(c, "grid-file"), err);
    for (int i = 0; status == SK_OK && cli_nth(c, "grid", i); i++)
        status = sk_sweep_vary(sweep, cli_nth(c, "grid", i), err);
    for (int i = 0; status == SK_OK && cli_nth(c, "eval", i); i++)
        status = sk_sweep_judge(sweep, cli_nth(c, "eval", i), err);
    return status == SK_OK ? sk_sweep_seeds(sweep, (int)cli_int(c, "seeds"), err) : status;
}

/* ---- the table --------------------------------------------------------------------------------------------------- */

static const char *value(char text[32], sk_measure_kind kind, double number) {
    if (!isfinite(number)) snprintf(text, 32, "-");
    else if (kind == SK_MEASURE_SHARE) snprintf(text, 32, "%.2f %%", number * 100);
    else snprintf(text, 32, kind == SK_MEASURE_SECONDS ? "%.1f" : "%.4f", number);
    return text;
}

/* Loss and time are better when small. */
static size_t best_config(const sk_sweep *sweep, size_t measure) {
    const sk_measure_kind kind = sk_sweep_measure(sweep, measure)->kind;
    const double sign = kind == SK_MEASURE_LOSS || kind == SK_MEASURE_SECONDS ? -1 : 1;
    double most = -HUGE_VAL;
    size_t best = 0;
    for (size_t i = 0; sk_sweep_config(sweep, i); i++) {
        const double mean = sign * sk_sweep_summary(sweep, i, measure).mean;
        if (!(mean > most)) continue;
        most = mean;
        best = i;
    }
    return best;
}

static void print_measure(const sk_sweep *sweep, size_t measure, int width) {
    const sk_measure *m = sk_sweep_measure(sweep, measure);
    const size_t best = best_config(sweep, measure);
    printf("\n%-*s %10s %10s   %-22s %5s\n", width, m->name, "mean", "sd", "95 % interval", "runs");
    for (size_t i = 0; sk_sweep_config(sweep, i); i++) {
        const sk_summary s = sk_sweep_summary(sweep, i, measure);
        char mean[32], sd[32], low[32], high[32], interval[72] = "-";
        if (isfinite(s.low))
            snprintf(interval, sizeof interval, "%s - %s", value(low, m->kind, s.low), value(high, m->kind, s.high));
        printf("%s%-*s %10s %10s   %-22s %5zu%s\n", i == best ? cli_color(stdout, "bold") : "", width,
               sk_sweep_config(sweep, i), value(mean, m->kind, s.mean), value(sd, m->kind, s.sd), interval, s.n,
               i == best ? cli_color(stdout, "reset") : "");
    }
}

static void print_table(const sk_sweep *sweep, const char *dir) {
    int width = 24;
    size_t done, failed, total;
    for (size_t i = 0; sk_sweep_config(sweep, i); i++) {
        const int length = (int)strlen(sk_sweep_config(sweep, i));
        if (length > width) width = length < 60 ? length : 60;
    }
    sk_sweep_counts(sweep, &done, &failed, &total);
    printf("%s: %zu of %zu runs are done", dir, done, total);
    if (failed) printf(", %zu failed", failed);
    printf("\n");
    for (size_t i = 0; sk_sweep_measure(sweep, i); i++) print_measure(sweep, i, width);
    printf("\ntables and figures: %s/sweep.html, sweep.tsv, sweep.json\n", dir);
}

static int print_json(cli *c, const sk_sweep *sweep, sk_error *err) {
    uint8_t *bytes = NULL;
    size_t size = 0;
    if (sk_sweep_json(sweep, &bytes, &size, err) != SK_OK) return cli_fail(c, err);
    fwrite(bytes, 1, size, stdout);
    sk_free_bytes(bytes);
    return CLI_OK;
}

/* Each process of an mpirun would write the same folders. */
static sk_status be_alone(cli *c, sk_error *err) {
    sk_ranks *ranks = NULL;
    const sk_status status = sk_ranks_open(cli_hooks(c), &ranks, err);
    const int count = sk_ranks_count(ranks);
    sk_ranks_close(ranks);
    if (status != SK_OK || count == 1) return status;
    snprintf(err->message, sizeof err->message, "a sweep runs in one process; leave out mpirun and give --jobs %d",
             count);
    return err->code = SK_ERR_ARGUMENT;
}

static int run(cli *c) {
    const char *dir = cli_string(c, "output");
    sk_sweep *sweep = NULL;
    sk_error err = {0};
    int code = CLI_OK;
    sk_status status = be_alone(c, &err);
    if (status == SK_OK) status = sk_sweep_create(&sweep, &err);
    if (status == SK_OK) status = describe(c, sweep, &err);
    if (status == SK_OK)
        status = sk_sweep_run(sweep, cli_arg(c, 0), dir, (int)cli_int(c, "jobs"), cli_hooks(c), &err);
    if (status == SK_OK) status = sk_sweep_write(sweep, dir, &err);
    if (status != SK_OK) code = cli_fail(c, &err);
    else if (cli_json(c)) code = print_json(c, sweep, &err);
    else if (!cli_quiet(c)) print_table(sweep, dir);
    sk_sweep_free(sweep);
    return code;
}

const cli_verb verb_sweep = {
    "sweep",
    "trains a grid of options and tables the outcome",
    "DATASET",
    1,
    1,
    options,
    run,
    .description =
        "Trains every combination of the values of the grid, each with several seeds, and tables mean, deviation and "
        "Student's 95 % interval over the seeds: validation accuracy and loss, time, and accuracy, ROC area, loss and "
        "accuracy per source on the test part of DATASET and of every --eval. A KEY is a key of a recipe (lr, "
        "augment.paste), its option's name, model, size, pretrained, or recipe itself, whose values the other keys go "
        "over. Options outside the grid hold for all runs.\n\n"
        "Each run is a folder OUT/NAME-seedN as siskin train writes it, with the same bytes. OUT also gets sweep.tsv, "
        "one row per run, renewed after each of them; sweep.json; dot plots, sweep.png and sweep_sources.png, and as "
        "SVG; and sweep.html with all of it. --json prints sweep.json.\n\n"
        "Ctrl-C and even kill -9 lose at most the running epochs: the same call goes on. What is whole is not trained "
        "again; more seeds or values only add runs. A run whose loss diverges is told and counts as failed; the others "
        "go on.\n\n"
        "All seeds see the same pictures: an interval says how much a training varies, not how other pictures would "
        "be judged.",
    .examples = "siskin sweep birds -o sweep --grid lr=1e-4,5e-4 --grid recipe=seed,feeder\n"
                "siskin sweep birds -o paste --grid augment.paste=0,0.5 --seeds 5 --epochs 10 --jobs 2\n"
                "siskin sweep birds -o all --grid-file grid.txt --eval stress --json\n"};
