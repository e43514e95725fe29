/* SPDX-License-Identifier: Apache-2.0 */
/* siskin export: a model for other programs. Reads the file back before it says that all is well, since a converter
 * two steps later would tell much less clearly. */
#include <stdio.h>
#include <sys/stat.h>

#include "cli.h"
#include "siskin/model.h"
#include "siskin/quant.h"

static const cli_option options[] = {
    {'x', "onnx", CLI_STRING, "FILE", NULL, "float ONNX to write: opset 13, batch norm folded", .required = 1}, {0}};

static int run(cli *c) {
    sk_error err = {0};
    sk_model *model = NULL, *back = NULL;
    struct stat info = {0};
    const char *path = cli_string(c, "onnx");
    int code = CLI_OK;

    if (sk_model_read(cli_arg(c, 0), &model, &err) != SK_OK || sk_export_onnx(model, path, &err) != SK_OK ||
        sk_model_read(path, &back, &err) != SK_OK) {
        code = cli_fail(c, &err);
        goto done;
    }
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
done:
    sk_model_free(back);
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
        "MODEL is a run folder, a safetensors file, a PyTorch checkpoint or an ONNX file written by siskin.\n\n"
        "The ONNX file has one input \"input\" [1,3,S,S] (RGB / 255, less the mean, divided by the standard deviation; "
        "both in its metadata) and one output \"logits\". Every value and initialiser bears the name of the layer. "
        "siskin reads such a file like any other model.",
    .examples = "siskin export run --onnx bird.onnx\nsiskin export models/bird-small.safetensors --onnx bird.onnx\n"};
