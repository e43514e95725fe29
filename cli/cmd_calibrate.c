/* SPDX-License-Identifier: Apache-2.0 */
/* siskin calibrate: the temperature that makes a model's probabilities mean what they say, and the threshold that a
 * stated share of false alarms asks for. */
#include <stdio.h>

#include "cli.h"
#include "siskin/eval.h"

static const cli_option options[] = {
    {'o', "output", CLI_STRING, "FILE", NULL, "model to write; may be MODEL itself", .required = 1},
    {'s', "split", CLI_CHOICE, "PART", "val", "part of the dataset that is fitted to", .choices = "train|val|test"},
    {0, "false-alarms", CLI_DOUBLE, "SHARE", NULL,
     "set the threshold so that at most this share of the pictures without a bird is called bird, 0 to below 1",
     .least = 0, .most = 1},
    CLI_MAX_BAD("pictures"),
    CLI_THREADS,
    {0}};

/* What the model said before (after = 0) and says after. */
typedef struct state {
    const char *name;
    const sk_calibration *c;
    double threshold, penalty;
    const size_t *called; /* pictures of each label */
} state;

static state state_of(const sk_calibrate_report *r, int after) {
    return after ? (state){"after", &r->after, (double)r->threshold, (double)r->penalty, r->called_after}
                 : (state){"before", &r->before, (double)r->old_threshold, (double)r->old_penalty, r->called_before};
}

static void tell_text(const char *path, const sk_calibrate_report *r) {
    printf("%s: temperature %.4g (was %.4g), fitted to %zu pictures\n", path, (double)r->temperature,
           (double)r->old_temperature, r->after.n);
    printf("%-6s %8s %8s %8s %10s %10s %14s %14s\n", "", "ECE", "NLL", "Brier", "threshold", "penalty", "false alarms",
           "birds found");
    for (int i = 0; i < 2; i++) {
        const state s = state_of(r, i);
        printf("%-6s %8.4f %8.4f %8.4f %10.6g %10.6g", s.name, s.c->ece, s.c->nll, s.c->brier, s.threshold, s.penalty);
        for (int label = 0; label < SK_CLASS_COUNT; label++) {
            char text[64];
            snprintf(text, sizeof text, "%zu of %zu", s.called[label], r->pictures[label]);
            printf(" %14s", text);
        }
        printf("\n");
    }
}

static void tell_json(const char *path, const sk_calibrate_report *r) {
    printf("{\"model\":");
    cli_json_string(stdout, path);
    printf(",\"temperature\":%.9g,\"old_temperature\":%.9g,\"pictures\":%zu", (double)r->temperature,
           (double)r->old_temperature, r->after.n);
    printf(",\"nobird\":%zu,\"bird\":%zu", r->pictures[0], r->pictures[1]);
    for (int i = 0; i < 2; i++) {
        const state s = state_of(r, i);
        printf(",\"%s\":{\"ece\":%.9g,\"nll\":%.9g,\"brier\":%.9g", s.name, s.c->ece, s.c->nll, s.c->brier);
        printf(",\"threshold\":%.9g,\"penalty\":%.9g,\"false_alarms\":%zu,\"birds_found\":%zu}", s.threshold,
               s.penalty, s.called[0], s.called[1]);
    }
    printf("}\n");
}

static int run(cli *c) {
    sk_error err = {0};
    sk_classifier *classifier = NULL;
    sk_dataset *dataset = NULL;
    sk_cache *cache = NULL;
    sk_calibrate_report report = {0};
    sk_calibrate_options how = {.threads = (int)cli_int(c, "threads"), .with_threshold = cli_given(c, "false-alarms")};
    size_t bad = 0;
    if (how.with_threshold) how.false_alarms = cli_double(c, "false-alarms");
    sk_status status = sk_split_parse(cli_string(c, "split"), &how.split, &err);
    if (!status) status = sk_classifier_open(cli_arg(c, 0), &classifier, &err);
    if (!status) status = sk_dataset_open(cli_arg(c, 1), &dataset, &err);
    if (!status)
        status = sk_cache_open(dataset, (int)cli_int(c, "max-bad"), how.threads, cli_hooks(c), &cache, &bad, &err);
    if (!status) status = sk_calibrate(classifier, dataset, cache, &how, cli_hooks(c), &report, &err);
    if (!status) status = sk_classifier_write(classifier, cli_string(c, "output"), &err);
    sk_cache_close(cache);
    sk_dataset_close(dataset);
    sk_classifier_close(classifier);
    if (status) return cli_fail(c, &err);
    if (cli_json(c)) tell_json(cli_string(c, "output"), &report);
    else if (!cli_quiet(c)) tell_text(cli_string(c, "output"), &report);
    return CLI_OK;
}

const cli_verb verb_calibrate = {
    "calibrate",
    "makes a model's probabilities mean what they say",
    "MODEL DATASET",
    2,
    2,
    options,
    run,
    .description =
        "Finds the temperature by which MODEL's logits are divided ahead of the softmax (temperature scaling, Guo et "
        "al. 2017), on the validation part of DATASET, and writes the model with it. The verdict at threshold 0.5 with "
        "one crop stays what it was; p becomes less certain (temperature above 1) or more. Thresholds and penalties "
        "are compared with this p, here and on the board.\n\n"
        "With --false-alarms the threshold in the model is set as well: the least p at which at most SHARE of the "
        "part's pictures without a bird are called bird, by the centre crop or the squeezed frame. The penalty of side "
        "crops is raised to it if it is lower; side crops may add false alarms of their own. This is how a stated rate "
        "of false alarms is had: the threshold lies in the middle of the gap between two pictures, travels in the file "
        "and holds on the board, in classify and in eval unless --threshold is given there. The part should be of "
        "pictures like those the camera will see, and the rate is no better known than their number allows: of 50 "
        "without a bird, .02 is one. Models that are quantised later should have it set again.\n\n"
        "MODEL is a run folder, safetensors, .pth, ONNX written by siskin or .skn. A .skn is written as .skn, whatever "
        "else as safetensors. siskin train does this after every epoch; use calibrate for a model that was "
        "quantised (int8 shifts the logits) or with pictures of another camera.\n\n"
        "Labels count as certain as their number allows (Platt 1999), so that a small part that is judged without an "
        "error does not ask for endless certainty. ECE: expected calibration error, 15 bins of p of equal width; NLL: "
        "negative log-likelihood; all for p of the centre crop.",
    .examples = "siskin calibrate bird.skn birds -o bird.skn\n"
                "siskin calibrate run birds -o calibrated.safetensors\n"
                "siskin calibrate bird.skn birds --false-alarms .02 -o bird.skn\n"};
