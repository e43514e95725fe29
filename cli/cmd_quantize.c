/* SPDX-License-Identifier: Apache-2.0 */
/* siskin quantize: float model to int8 .skn. */
#include <string.h>

#include "cli.h"
#include "siskin/report.h"

static const cli_option options[] = {
    {'o', "output", CLI_STRING, "FILE", NULL, "int8 model to write (.skn)", .required = 1},
    {'c', "calibration", CLI_STRING, "DATASET", NULL, "dataset whose training part shows typical pictures",
     .required = 1},
    {'n', "pictures", CLI_INT, "N", "100", "calibration pictures drawn", .least = 1, .most = 100000},
    {'r', "recipe", CLI_CHOICE, "NAME", NULL,
     "all steps below at once, each can still be chosen alone; learned after --qat training, else best",
     .choices = "best|learned|seed"},
    {0, "observer", CLI_CHOICE, "NAME", NULL, "range of activations", .choices = "normal|percentile|mmse|kl"},
    {0, "percentile", CLI_DOUBLE, "P", "99.99", "of the observer percentile, at either end of the values",
     .least = 50.01, .most = 100},
    {0, "per", CLI_CHOICE, "PART", NULL, "what has a scale of its own among the weights", .choices = "channel|tensor"},
    {0, "weights", CLI_CHOICE, "NAME", NULL, "scale of the weights: of the largest one, or of least squared error",
     .choices = "max|mmse"},
    {0, "equalise", CLI_CHOICE, "SCOPE", NULL, "channels with factors of their own, by who reads them",
     .choices = "none|depthwise|all"},
    {0, "correct-bias", CLI_CHOICE, "YESNO", NULL, "take away the mean error of every channel", .choices = "yes|no"},
    {0, "adaround", CLI_CHOICE, "YESNO", NULL, "learn which way each weight is rounded", .choices = "yes|no"},
    {0, "reconstruct", CLI_CHOICE, "PART", NULL, "then learn rounding and biases of whole blocks together",
     .choices = "none|block"},
    {0, "act16", CLI_STRING, "GLOB,...", NULL, "layers with 16-bit activations, for siskin's own engine alone"},
    {0, "explain", CLI_STRING, "DIR", NULL, "say what every layer loses: a table here, layers.tsv and a figure in DIR"},
    {0, "explain-pictures", CLI_INT, "N", "32", "pictures for --explain", .least = 1, .most = 100000},
    {0, "seed", CLI_INT, "N", "1", "seed of the draw", .least = 0, .most = 9007199254740992.0},
    CLI_THREADS,
    CLI_MAX_BAD("pictures"),
    {0}};

static int is(cli *c, const char *option, const char *value) {
    return strcmp(cli_string(c, option), value) == 0;
}

/* The recipe, then what is named beside it. */
static sk_status choose(cli *c, const sk_model *model, sk_quant_options *o, sk_error *err) {
    const char *recipe = cli_given(c, "recipe") ? cli_string(c, "recipe") : sk_quant_recipe_of(model);
    sk_status status = sk_quant_recipe(recipe, o, err);
    o->pictures = (int)cli_int(c, "pictures");
    o->seed = (uint64_t)cli_int(c, "seed");
    o->threads = (int)cli_int(c, "threads");
    o->percentile = cli_double(c, "percentile");
    o->act16 = cli_given(c, "act16") ? cli_string(c, "act16") : NULL;
    o->explain = cli_given(c, "explain") ? (int)cli_int(c, "explain-pictures") : 0;
    if (status == SK_OK && cli_given(c, "observer")) {
        status = sk_quant_observer_parse(cli_string(c, "observer"), &o->observer, err);
    }
    if (status == SK_OK && cli_given(c, "equalise")) {
        status = sk_quant_equalise_parse(cli_string(c, "equalise"), &o->equalise, err);
    }
    if (cli_given(c, "per")) {
        o->per = is(c, "per", "tensor") ? SK_QUANT_PER_TENSOR : SK_QUANT_PER_CHANNEL;
    }
    if (cli_given(c, "weights")) {
        o->weights = is(c, "weights", "mmse") ? SK_QUANT_WEIGHTS_MMSE : SK_QUANT_WEIGHTS_MAX;
    }
    if (cli_given(c, "correct-bias")) {
        o->correct_bias = is(c, "correct-bias", "yes");
    }
    if (cli_given(c, "adaround")) {
        o->adaround = is(c, "adaround", "yes");
    }
    if (cli_given(c, "reconstruct")) {
        o->reconstruct = is(c, "reconstruct", "block");
    }
    return status;
}

static void print_layers(const sk_quant_layer *rows, size_t count) {
    printf("\n%-26s %-10s %8s %8s %9s %9s %11s %7s %9s\n", "layer, worst first", "op", "SNR dB", "alone", "cosine",
           "clipped", "divergence", "flips", "accuracy");
    for (size_t i = 0; i < count; i++) {
        const sk_quant_layer *r = &rows[i];
        printf("%-26s %-10s %8.1f %8.1f %9.5f %9.2g %11.3g %5.1f %% %+9.2f\n", r->name, sk_op_name(r->op), r->snr,
               r->own_snr, r->cosine, r->clipped, r->divergence, 100 * r->flips, -100 * r->accuracy_loss);
    }
    printf("SNR, cosine: of the output with all layers in int8; alone, divergence of p, flips, accuracy: with this "
           "layer alone in int8\n");
}

static void print_layers_json(const sk_quant_layer *rows, size_t count) {
    printf(",\"explained\":[");
    for (size_t i = 0; i < count; i++) {
        const sk_quant_layer *r = &rows[i];
        printf("%s{\"layer\":%d,\"name\":", i ? "," : "", r->index);
        cli_json_string(stdout, r->name);
        printf(",\"op\":\"%s\",\"low\":%.6g,\"high\":%.6g,\"equalised\":%s,\"snr_db\":%.2f,\"own_snr_db\":%.2f,"
               "\"cosine\":%.6f,\"clipped\":%.3g,\"divergence\":%.4g,\"flips\":%.4f,\"accuracy_loss\":%.4f}",
               sk_op_name(r->op), (double)r->low, (double)r->high, r->equalised ? "true" : "false", r->snr, r->own_snr,
               r->cosine, r->clipped, r->divergence, r->flips, r->accuracy_loss);
    }
    printf("]");
}

/* The table and the figure of --explain. */
static sk_status keep(cli *c, const sk_quant_report *report, sk_error *err) {
    const char *dir = cli_string(c, "explain");
    char path[4200];
    if (!report->explained) {
        return SK_OK;
    }
    sk_quant_layers_sort(report->explained, report->layers);
    const sk_status status = sk_quant_layers_write(dir, report->explained, report->layers, err);
    snprintf(path, sizeof path, "%s/layers", dir);
    if (status != SK_OK) {
        return status;
    }
    return sk_plot_layers(path, "What int8 loses, layer by layer", report->explained, report->layers, err);
}

static int tell(cli *c, const char *path, const sk_quant_options *o, const sk_quant_report *report) {
    const char *observer = sk_quant_observer_name(o->observer), *equalise = sk_quant_equalise_name(o->equalise);
    const char *per = o->per == SK_QUANT_PER_TENSOR ? "tensor" : "channel";
    const char *weights = o->weights == SK_QUANT_WEIGHTS_MMSE ? "mmse" : "max";
    if (cli_json(c)) {
        printf("{\"model\":");
        cli_json_string(stdout, path);
        printf(",\"observer\":\"%s\",\"per\":\"%s\",\"weights\":\"%s\",\"equalise\":\"%s\",\"correct_bias\":%s,"
               "\"adaround\":%s,\"reconstruct\":\"%s\",\"pictures\":%d,\"layers\":%zu,\"weight_count\":%zu,"
               "\"bytes\":%zu,\"seconds\":%.3f,\"agreement\":%.4f,\"int16_layers\":%zu",
               observer, per, weights, equalise, o->correct_bias ? "true" : "false", o->adaround ? "true" : "false",
               o->reconstruct ? "block" : "none", report->pictures, report->layers, report->weights,
               report->file_bytes, report->seconds, report->agreement, report->int16_layers);
        if (report->explained) {
            print_layers_json(report->explained, report->layers);
        }
        printf("}\n");
    } else if (!cli_quiet(c)) {
        printf("%s: %.2f MB, %zu layers, %zu weights, over %d pictures in %.1f s\n", path,
               (double)report->file_bytes / 1e6, report->layers, report->weights, report->pictures, report->seconds);
        printf("ranges %s, weights %s per %s, equalised %s%s%s%s\n", observer, weights, per, equalise,
               o->correct_bias ? ", biases corrected" : "", o->adaround ? ", rounding learned" : "",
               o->reconstruct ? ", blocks reconstructed" : "");
        printf("same verdict as float on %.1f %% of these pictures\n", 100 * report->agreement);
        if (report->explained) {
            print_layers(report->explained, report->layers);
        }
    }
    return CLI_OK;
}

static int run(cli *c) {
    sk_error err = {0};
    sk_quant_options o;
    sk_model *model = NULL;
    sk_dataset *dataset = NULL;
    sk_cache *cache = NULL;
    sk_quant_report report = {0};
    size_t bad = 0;
    sk_status status = sk_model_read(cli_arg(c, 0), &model, &err);
    if (status == SK_OK) {
        status = choose(c, model, &o, &err);
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
    if (status == SK_OK) {
        status = keep(c, &report, &err);
    }
    const int code = status == SK_OK ? tell(c, cli_string(c, "output"), &o, &report) : cli_fail(c, &err);
    sk_quant_layers_free(report.explained);
    sk_cache_close(cache);
    sk_dataset_close(dataset);
    sk_model_free(model);
    return code;
}

const cli_verb verb_quantize = {
    "quantize", "makes an int8 model of a float one", "MODEL", 1, 1, options, run,
    .description = "Folds batch norm, quantises weights and activations, writes a .skn file that siskin and the board "
                   "runtime run with integers alone. Calibration pictures are drawn from the training part of the "
                   "dataset.\n\n"
                   "Steps: the range of every activation tensor is all that the pictures showed (normal), the values "
                   "at a percentile, or the one of least squared error (mmse) or divergence (kl). Weights have one "
                   "scale per output channel or per tensor. Equalised channels have units of their own inside a "
                   "tensor: at no cost where depthwise layers alone read it, as a compromise where dense layers do "
                   "(all). Bias correction and AdaRound go through the network layer by layer on the int8 engine; "
                   "--reconstruct block then learns rounding and biases of whole blocks together, which pays where "
                   "weights have one scale per tensor. The recipe best takes the steps that lose least, seed what a "
                   "converter does by itself: normal, nothing else. --act16 gives single layers 65536 codes instead "
                   "of 256: siskin runs them, in plain C, the NPU does not.\n\n"
                   "--explain compares every layer with the float network's on other pictures of the training part: "
                   "signal-to-noise and cosine of its output, values that its codes clip, and what happens to the "
                   "verdicts if this layer alone is int8, worst first.",
    .examples = "siskin quantize run --calibration birds -o bird.skn\n"
                "siskin quantize run -c birds -n 50 --recipe seed -o bird-seed.skn\n"
                "siskin quantize run -c birds --observer kl --adaround no -o bird-kl.skn\n"
                "siskin quantize run -c birds --per tensor --reconstruct block -o bird-tensor.skn\n"
                "siskin quantize run -c birds -o bird.skn --explain why\n"};
