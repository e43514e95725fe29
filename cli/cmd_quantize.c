/* SPDX-License-Identifier: Apache-2.0 */
/* siskin quantize: float model to int8 .skn. */
#include <string.h>

#include "cli.h"
#include "siskin/quant.h"

static const cli_option options[] = {
    {'o', "output", CLI_STRING, "FILE", NULL, "int8 model to write (.skn)", .required = 1},
    {'c', "calibration", CLI_STRING, "DATASET", NULL, "dataset whose training part shows typical pictures",
     .required = 1},
    {'n', "pictures", CLI_INT, "N", "100", "calibration pictures drawn", .least = 1, .most = 100000},
    {'a', "algorithm", CLI_CHOICE, "NAME", "mmse", "range of activations: all that was seen, or least squared error",
     .choices = "normal|mmse"},
    {0, "seed", CLI_INT, "N", "1", "seed of the draw", .least = 0, .most = 9007199254740992.0},
    CLI_THREADS,
    CLI_MAX_BAD("pictures"),
    {0}};

static int tell(cli *c, const char *path, const sk_quant_options *o, const sk_quant_report *report) {
    const char *algorithm = o->algorithm == SK_QUANT_MMSE ? "mmse" : "normal";
    if (cli_json(c)) {
        printf("{\"model\":");
        cli_json_string(stdout, path);
        printf(",\"algorithm\":\"%s\",\"pictures\":%d,\"layers\":%zu,\"weights\":%zu,\"bytes\":%zu,\"seconds\":%.3f,"
               "\"agreement\":%.4f}\n",
               algorithm, report->pictures, report->layers, report->weights, report->file_bytes, report->seconds,
               report->agreement);
    } else if (!cli_quiet(c)) {
        printf("%s: %.2f MB, %zu layers, %zu weights; %s over %d pictures in %.1f s\n"
               "same verdict as float on %.1f %% of these pictures\n", path,
               (double)report->file_bytes / 1e6, report->layers, report->weights, algorithm, report->pictures,
               report->seconds, 100 * report->agreement);
    }
    return CLI_OK;
}

static int run(cli *c) {
    sk_error err = {0};
    sk_quant_options o = sk_quant_defaults();
    o.pictures = (int)cli_int(c, "pictures");
    o.seed = (uint64_t)cli_int(c, "seed");
    o.threads = (int)cli_int(c, "threads");
    sk_model *model = NULL;
    sk_dataset *dataset = NULL;
    sk_cache *cache = NULL;
    sk_quant_report report = {0};
    size_t bad = 0;
    sk_status status = sk_quant_algorithm_parse(cli_string(c, "algorithm"), &o.algorithm, &err);
    if (status == SK_OK) {
        status = sk_model_read(cli_arg(c, 0), &model, &err);
    }
    if (status == SK_OK) {
        status = sk_dataset_open(cli_string(c, "calibration"), &dataset, &err);
    }
    if (status == SK_OK) {
        status = sk_cache_open(dataset, (int)cli_int(c, "max-bad"), o.threads, cli_hooks(c), &cache, &bad, &err);
    }
    if (status == SK_OK) {
        status = sk_quantize(model, dataset, cache, cli_string(c, "output"), &o, cli_hooks(c), &report, &err);
    }
    sk_cache_close(cache);
    sk_dataset_close(dataset);
    sk_model_free(model);
    return status == SK_OK ? tell(c, cli_string(c, "output"), &o, &report) : cli_fail(c, &err);
}

const cli_verb verb_quantize = {
    "quantize", "makes an int8 model of a float one", "MODEL", 1, 1, options, run,
    .description = "Folds batch norm, quantises weights per output channel and activations per tensor, writes a .skn "
                   "file that siskin and the board runtime run with integers alone. Pictures are drawn from the "
                   "training part of the dataset; the range of every tensor is what they showed (normal) or the one of "
                   "least squared error (mmse).",
    .examples = "siskin quantize run --calibration birds -o bird.skn\n"
                "siskin quantize run -c birds -n 50 --algorithm normal -o bird-normal.skn\n"};
