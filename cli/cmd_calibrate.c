/* SPDX-License-Identifier: Apache-2.0 */
/* siskin calibrate: the temperature that makes a model's probabilities mean what they say. */
#include <stdio.h>

#include "cli.h"
#include "siskin/eval.h"

static const cli_option options[] = {
    {'o', "output", CLI_STRING, "FILE", NULL, "model to write; may be MODEL itself", .required = 1},
    {'s', "split", CLI_CHOICE, "PART", "val", "part of the dataset that is fitted to", .choices = "train|val|test"},
    CLI_MAX_BAD("pictures"),
    CLI_THREADS,
    {0}};

static void tell_text(const char *path, const sk_calibrate_report *r) {
    printf("%s: temperature %.4g (was %.4g), fitted to %zu pictures\n", path, (double)r->temperature,
           (double)r->old_temperature, r->after.n);
    printf("%-10s %10s %10s %10s\n", "", "ECE", "NLL", "Brier");
    printf("%-10s %10.4f %10.4f %10.4f\n", "before", r->before.ece, r->before.nll, r->before.brier);
    printf("%-10s %10.4f %10.4f %10.4f\n", "after", r->after.ece, r->after.nll, r->after.brier);
}

static void tell_json(const char *path, const sk_calibrate_report *r) {
    const sk_calibration *states[2] = {&r->before, &r->after};
    printf("{\"model\":");
    cli_json_string(stdout, path);
    printf(",\"temperature\":%.9g,\"old_temperature\":%.9g,\"pictures\":%zu", (double)r->temperature,
           (double)r->old_temperature, r->after.n);
    for (int i = 0; i < 2; i++)
        printf(",\"%s\":{\"ece\":%.9g,\"nll\":%.9g,\"brier\":%.9g}", i ? "after" : "before", states[i]->ece,
               states[i]->nll, states[i]->brier);
    printf("}\n");
}

static int run(cli *c) {
    sk_error err = {0};
    sk_classifier *classifier = NULL;
    sk_dataset *dataset = NULL;
    sk_cache *cache = NULL;
    sk_calibrate_report report = {0};
    sk_split split = SK_SPLIT_VAL;
    size_t bad = 0;
    const int threads = (int)cli_int(c, "threads");
    sk_status status = sk_split_parse(cli_string(c, "split"), &split, &err);
    if (!status) status = sk_classifier_open(cli_arg(c, 0), &classifier, &err);
    if (!status) status = sk_dataset_open(cli_arg(c, 1), &dataset, &err);
    if (!status) status = sk_cache_open(dataset, (int)cli_int(c, "max-bad"), threads, cli_hooks(c), &cache, &bad, &err);
    if (!status) status = sk_calibrate(classifier, dataset, cache, split, threads, cli_hooks(c), &report, &err);
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
        "MODEL is a run folder, safetensors, .pth, ONNX written by siskin or .skn. A .skn is written as .skn, whatever "
        "else as safetensors. siskin train does this after every epoch; use calibrate for a model that was "
        "quantised (int8 shifts the logits) or with pictures of another camera.\n\n"
        "Labels count as certain as their number allows (Platt 1999), so that a small part that is judged without an "
        "error does not ask for endless certainty. ECE: expected calibration error, 15 bins of p of equal width; NLL: "
        "negative log-likelihood; all for p of the centre crop.",
    .examples = "siskin calibrate bird.skn birds -o bird.skn\n"
                "siskin calibrate run birds -o calibrated.safetensors\n"};
