/* SPDX-License-Identifier: Apache-2.0 */
/* siskin export: a model for other programs. An ONNX file is read back before all is said to be well, since a converter
 * two steps later would tell much less clearly; a .rknn is made by that converter, whose log is told in short. */
#include <stdio.h>
#include <sys/stat.h>

#include "cli.h"
#include "siskin/model.h"
#include "siskin/quant.h"
#include "siskin/rknn.h"

static const cli_option options[] = {
    {'x', "onnx", CLI_STRING, "FILE", NULL, "float ONNX to write: opset 13, batch norm folded"},
    {0, "onnx-qdq", CLI_FLAG, NULL, NULL, "int8 ONNX (QDQ) of a .skn instead, to the file of -o"},
    {0, "rknn", CLI_CHOICE, "CHIP", NULL, "convert for the NPU of this chip instead",
     .choices = "rv1103|rv1103b|rv1106|rv1106b"},
    {'o', "output", CLI_STRING, "FILE", NULL, "file of --onnx-qdq or --rknn; the toolkit's log goes to FILE.log"},
    {'c', "calibration", CLI_STRING, "DATASET", NULL, "dataset whose training part shows typical pictures"},
    {'n', "pictures", CLI_INT, "N", "100", "calibration pictures drawn", .least = 1, .most = 9999},
    {'a', "algorithm", CLI_CHOICE, "NAME", "mmse", "of the toolkit, for the range of activations",
     .choices = "normal|mmse|kl_divergence"},
    {0, "method", CLI_CHOICE, "NAME", "channel", "scale of weights per channel or per layer",
     .choices = "channel|layer"},
    {0, "despite-lint", CLI_FLAG, NULL, NULL, "convert a network that the lint finds an error in all the same"},
    {0, "equalise", CLI_FLAG, NULL, NULL, "write channels of the first layers in units of their own"},
    {0, "refine", CLI_FLAG, NULL, NULL, "move weights to where the converter's normal rounds them best"},
    {0, "seed", CLI_INT, "N", "1", "seed of the draw", .least = 0, .most = 9007199254740992.0},
    {0, "keep", CLI_STRING, "DIR", NULL, "folder to keep the ONNX, the calibration list and its pictures in"},
    {0, "toolkit", CLI_STRING, "DIR", NULL, "folder of `siskin rknn setup`"},
    CLI_THREADS,
    CLI_MAX_BAD("pictures"),
    {0}};

static int onnx(cli *c, const sk_model *model) {
    sk_error err = {0};
    sk_model *back = NULL;
    struct stat info = {0};
    const char *path = cli_string(c, "onnx");
    if (sk_export_onnx(model, path, &err) != SK_OK || sk_model_read(path, &back, &err) != SK_OK)
        return cli_fail(c, &err);
    sk_model_free(back);
    const sk_card *card = sk_model_card(model);
    stat(path, &info);
    if (cli_json(c)) {
        printf("{\"onnx\":");
        cli_json_string(stdout, path);
        printf(",\"bytes\":%lld,\"arch\":\"%s\",\"size\":%d,\"classes\":%d,\"opset\":13}\n", (long long)info.st_size,
               sk_arch_name(card->arch), card->size, card->classes);
    } else if (!cli_quiet(c)) {
        printf("%s: %s, input [1,3,%d,%d], %d classes, %.2f MB\n", path, sk_arch_name(card->arch), card->size,
               card->size, card->classes, (double)info.st_size / 1e6);
    }
    return CLI_OK;
}

static int onnx_qdq(cli *c) {
    sk_error err = {0};
    struct stat info = {0};
    const char *path = cli_string(c, "output");
    if (sk_export_onnx_qdq(cli_arg(c, 0), path, &err) != SK_OK) return cli_fail(c, &err);
    stat(path, &info);
    if (cli_json(c)) {
        printf("{\"onnx\":");
        cli_json_string(stdout, path);
        printf(",\"bytes\":%lld,\"opset\":13}\n", (long long)info.st_size);
    } else if (!cli_quiet(c)) {
        printf("%s: int8 as QDQ, %.2f MB\n", path, (double)info.st_size / 1e6);
    }
    return CLI_OK;
}

/* ---- .rknn ------------------------------------------------------------------------------------------------------- */

static int is_end(const sk_rknn_layer *layer) {
    return layer->name[0] && (layer->input[0] == '\\' || layer->output[0] == '\\');
}

static void rknn_json(cli *c, const sk_rknn_report *r) {
    printf("{\"rknn\":");
    cli_json_string(stdout, cli_string(c, "output"));
    printf(",\"target\":\"%s\",\"algorithm\":\"%s\",\"method\":\"%s\",\"pictures\":%d,\"bytes\":%zu,"
           "\"body\":\"%016llx\","
           "\"seconds\":%.2f,\"internal_kb\":%.2f,\"weight_kb\":%.2f,\"cycles\":{\"ddr\":%llu,\"npu\":%llu,"
           "\"total\":%llu},"
           "\"outliers\":[",
           cli_string(c, "rknn"), cli_string(c, "algorithm"), cli_string(c, "method"), r->pictures, r->file_bytes,
           (unsigned long long)r->body, r->seconds, r->internal_kb, r->weight_kb, (unsigned long long)r->ddr_cycles,
           (unsigned long long)r->npu_cycles, (unsigned long long)r->cycles);
    for (size_t i = 0; i < r->outlier_count; i++) {
        printf("%s{\"name\":", i ? "," : "");
        cli_json_string(stdout, r->outliers[i].name);
        printf(",\"mean\":%.2f,\"std\":%.2f,\"value\":%.3f}", r->outliers[i].mean, r->outliers[i].std,
               r->outliers[i].value);
    }
    printf("],\"messages\":[");
    for (size_t i = 0; i < r->message_count; i++) {
        printf("%s{\"error\":%s,\"text\":", i ? "," : "", r->messages[i].error ? "true" : "false");
        cli_json_string(stdout, r->messages[i].text);
        printf("}");
    }
    printf("],\"layers\":[");
    for (size_t i = 0; i < r->layer_count; i++) {
        const sk_rknn_layer *l = &r->layers[i];
        printf("%s{\"type\":\"%s\",\"name\":", i ? "," : "", l->type);
        cli_json_string(stdout, l->name);
        printf(",\"on\":\"%s\",\"output\":", l->on_cpu ? "cpu" : "npu");
        cli_json_string(stdout, l->output);
        printf(",\"cycles\":%llu,\"kb\":%llu}", (unsigned long long)l->cycles, (unsigned long long)l->kilobytes);
    }
    printf("],\"cpu_layers\":%zu}\n", r->cpu_layers);
}

static void rknn_text(cli *c, const sk_rknn_report *r) {
    printf("%s: %s, %s by %s over %d pictures, %.2f MB in %.1f s; log %s.log\n", cli_string(c, "output"),
           cli_string(c, "rknn"), cli_string(c, "algorithm"), cli_string(c, "method"), r->pictures,
           (double)r->file_bytes / 1e6, r->seconds, cli_string(c, "output"));
    printf("%zu layers, %zu of them on the CPU; at least %.0f thousand cycles, %llu KB moved; memory %.0f KB of "
           "activations, "
           "%.0f KB of weights\n",
           r->layer_count, r->cpu_layers, (double)r->cycles / 1e3, (unsigned long long)r->kilobytes, r->internal_kb,
           r->weight_kb);
    printf("body %016llx: the same for every conversion of the same input\n", (unsigned long long)r->body);
    if (r->outlier_count) printf("\n%-36s %8s %8s %10s\n", "outliers that cost accuracy", "mean |w|", "std", "value");
    for (size_t i = 0; i < r->outlier_count; i++)
        printf("%-36s %8.2f %8.2f %10.3f\n", r->outliers[i].name, r->outliers[i].mean, r->outliers[i].std,
               r->outliers[i].value);
    if (r->message_count) printf("\nthe toolkit says:\n");
    for (size_t i = 0; i < r->message_count; i++)
        printf("  %s: %s\n", r->messages[i].error ? "error" : "warning", r->messages[i].text);
}

static int rknn(cli *c, sk_model *model) {
    sk_error err = {0};
    sk_rknn_options o = sk_rknn_defaults();
    sk_rknn_report report = {0};
    sk_dataset *dataset = NULL;
    sk_cache *cache = NULL;
    size_t bad = 0;
    o.toolkit = cli_string(c, "toolkit");
    o.target = cli_string(c, "rknn");
    o.by_layer = cli_string(c, "method")[0] == 'l';
    o.equalise = cli_flag(c, "equalise");
    o.refine = cli_flag(c, "refine");
    o.threads = (int)cli_int(c, "threads");
    o.pictures = (int)cli_int(c, "pictures");
    o.seed = (uint64_t)cli_int(c, "seed");
    o.despite_lint = cli_flag(c, "despite-lint");
    o.keep = cli_string(c, "keep");
    sk_status status = sk_rknn_algorithm_parse(cli_string(c, "algorithm"), &o.algorithm, &err);
    if (!status) status = sk_dataset_open(cli_string(c, "calibration"), &dataset, &err);
    if (!status)
        status = sk_cache_open(dataset, (int)cli_int(c, "max-bad"), (int)cli_int(c, "threads"), cli_hooks(c), &cache,
                               &bad, &err);
    if (!status)
        status = sk_rknn_convert(model, dataset, cache, cli_string(c, "output"), &o, cli_hooks(c), &report, &err);
    sk_cache_close(cache);
    sk_dataset_close(dataset);
    if (status) return cli_fail(c, &err);
    if (cli_json(c)) rknn_json(c, &report);
    else if (!cli_quiet(c)) rknn_text(c, &report);
    for (size_t i = 0; i < report.layer_count; i++)
        if (report.layers[i].on_cpu && !is_end(&report.layers[i]))
            cli_note(c, "%s (%s) was left to the CPU: it will most probably fail on the board",
                     report.layers[i].name, report.layers[i].type);
    const int finding = report.cpu_layers > 0;
    sk_rknn_report_free(&report);
    return finding ? CLI_FINDING : CLI_OK;
}

static int run(cli *c) {
    sk_error err = {0};
    sk_model *model = NULL;
    const int to_rknn = cli_given(c, "rknn"), qdq = cli_flag(c, "onnx-qdq");
    if (to_rknn + cli_given(c, "onnx") + qdq != 1)
        return cli_usage(c, "choose what to write: --onnx FILE, --onnx-qdq with -o FILE, or --rknn CHIP with -o FILE "
                            "and --calibration DATASET");
    if (qdq && !cli_given(c, "output")) return cli_usage(c, "--onnx-qdq needs -o FILE");
    if (qdq) return onnx_qdq(c);
    if (to_rknn && (!cli_given(c, "output") || !cli_given(c, "calibration")))
        return cli_usage(c, "--rknn needs -o FILE and --calibration DATASET");
    if (sk_model_read(cli_arg(c, 0), &model, &err) != SK_OK) return cli_fail(c, &err);
    const int code = to_rknn ? rknn(c, model) : onnx(c, model);
    sk_model_free(model);
    return code;
}

const cli_verb verb_export = {
    "export",
    "writes a model for other programs",
    "MODEL",
    1,
    1,
    options,
    run,
    .description =
        "MODEL is a run folder, a safetensors file, a PyTorch checkpoint or an ONNX file written by siskin; for "
        "--onnx-qdq a .skn.\n\n"
        "The ONNX file has one input \"input\" [1,3,S,S] (RGB / 255, less the mean, divided by the standard deviation; "
        "both in its metadata) and one output \"logits\". Every value and initialiser bears the name of the layer. "
        "siskin reads such a file like any other model.\n\n"
        "With --onnx-qdq MODEL is a .skn, and the int8 model becomes standard ONNX for other runtimes: opset 13, "
        "QuantizeLinear and DequantizeLinear around every layer, weights and values in steps of 1, multipliers in "
        "nodes of their own. onnxruntime gives siskin's logits bit for bit.\n\n"
        "With --rknn the network is looked at by siskin rknn lint, whose errors end it (--despite-lint goes on), and "
        "Rockchip's toolkit (siskin rknn setup) makes a model for the NPU: int8, calibrated with "
        "pictures of DATASET's training part, the model's card inside. Told are size, time, memory, cycles where "
        "the compiler knows them, the constants with outliers, the toolkit's warnings, and every layer that it left "
        "to the CPU, the only sign of one that fails on the board; exit status 3 if there is one.\n\n"
        "The NPU has one scale per tensor: a channel that towers over the others takes their codes. With --equalise "
        "the toolkit gets the same function with such channels in units of their own, as the first depthwise layers "
        "can read them. That costs the first convolution twice, and rescues a model that --algorithm normal destroys "
        "(docs/rknn.md). With --refine weights are moved, by one code at most, to where --algorithm normal rounds them "
        "so that its int8 comes close to float, and biases by what is then missing; that costs the board nothing.",
    .examples = "siskin export run --onnx bird.onnx\nsiskin export models/bird-small.safetensors --onnx bird.onnx\n"
                "siskin export bird.skn --onnx-qdq -o bird-int8.onnx\n"
                "siskin export run --rknn rv1103 --algorithm normal --equalise --refine -c birds -o bird.rknn\n"};
