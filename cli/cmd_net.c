/* SPDX-License-Identifier: Apache-2.0 */
/* siskin net: what the networks are made of: layers, shapes, parameters, work, memory and file sizes. */
#include <inttypes.h>
#include <string.h>

#include "cli.h"
#include "siskin/model.h"

static const cli_option options[] = {
    {'m', "model", CLI_CHOICE, "NET", "both", "network", .choices = "small|large|both"},
    {'s', "size", CLI_INT, "N", "224", "side of the square input in pixels", .least = 32, .most = 1024},
    {'c', "classes", CLI_INT, "N", "2", "number of classes", .least = 2, .most = 1000},
    {0}};

typedef struct totals {
    uint64_t params, macs, float_bytes, int8_bytes;
    size_t float_memory, int8_memory;
} totals;

static const char *act_name(sk_act act) {
    static const char *const names[] = {"-", "relu", "hswish", "hsigmoid"};

    return names[act];
}

static totals sum_up(const sk_model *model) {
    totals t = {.float_memory = sk_model_activation_bytes(model, 4),
                .int8_memory = sk_model_activation_bytes(model, 1)};

    for (size_t i = 0; i < sk_model_tensor_count(model); i++) {
        sk_tensor tensor;

        if (sk_model_tensor(model, i, &tensor, NULL) != SK_OK) continue;
        t.params += tensor.trainable ? tensor.count : 0;
        t.float_bytes += tensor.count * 4 + strlen(tensor.name) + 64; /* its line in the header */
    }
    for (size_t i = 0; i < sk_model_layer_count(model); i++) {
        const sk_layer *l = sk_model_layer(model, i);
        const size_t weights = sk_model_weight_count(model, i);

        t.macs += l->macs;
        if (weights) /* int8 weights; 32-bit bias, multiplier and shift of each channel */
            t.int8_bytes += weights + 12 * (uint64_t)l->out_c;
    }
    return t;
}

static void print_text(const sk_model *model, const totals *t) {
    const sk_card *card = sk_model_card(model);

    printf("%s%s%s, input %dx%dx3, %d classes\n\n", cli_color(stdout, "bold"), sk_arch_name(card->arch),
           cli_color(stdout, "reset"), card->size, card->size, card->classes);
    printf("%-29s %-9s %-8s %2s %2s  %-13s %-13s %9s %11s\n", "layer", "kind", "act", "k", "s", "input", "output",
           "params", "MACs");
    for (size_t i = 0; i < sk_model_layer_count(model); i++) {
        const sk_layer *l = sk_model_layer(model, i);
        char in[32], out[32];

        snprintf(in, sizeof in, "%dx%dx%d", l->in_h, l->in_w, l->in_c);
        snprintf(out, sizeof out, "%dx%dx%d", l->out_h, l->out_w, l->out_c);
        printf("%-29s %-9s %-8s %2d %2d  %-13s %-13s %9" PRIu64 " %11" PRIu64 "\n", l->name, sk_op_name(l->op),
               act_name(l->act), l->kernel, l->stride, in, out, l->params, l->macs);
    }
    printf("\nparameters          %12" PRIu64 "\n", t->params);
    printf("multiply-adds       %12" PRIu64 "\n", t->macs);
    printf("activation memory   %9zu KiB float32, %zu KiB int8 (one picture, buffers reused)\n", t->float_memory / 1024,
           t->int8_memory / 1024);
    printf("file, about         %9.2f MB float32 (.safetensors), %.2f MB int8 (.skn)\n", (double)t->float_bytes / 1e6,
           (double)t->int8_bytes / 1e6);
}

static void print_json(const sk_model *model, const totals *t) {
    const sk_card *card = sk_model_card(model);

    printf("{\"network\":\"%s\",\"size\":%d,\"classes\":%d,\"params\":%" PRIu64 ",\"macs\":%" PRIu64
           ",\"activation_bytes\":{\"float32\":%zu,\"int8\":%zu},\"file_bytes_about\":{\"float32\":%" PRIu64
           ",\"int8\":%" PRIu64 "},\"layers\":[",
           sk_arch_name(card->arch), card->size, card->classes, t->params, t->macs, t->float_memory, t->int8_memory,
           t->float_bytes, t->int8_bytes);
    for (size_t i = 0; i < sk_model_layer_count(model); i++) {
        const sk_layer *l = sk_model_layer(model, i);

        printf("%s{\"name\":\"%s\",\"kind\":\"%s\",\"act\":\"%s\",\"kernel\":%d,\"stride\":%d,\"input\":[%d,%d,%d],"
               "\"output\":[%d,%d,%d],\"params\":%" PRIu64 ",\"macs\":%" PRIu64 "}",
               i ? "," : "", l->name, sk_op_name(l->op), act_name(l->act), l->kernel, l->stride, l->in_h, l->in_w,
               l->in_c, l->out_h, l->out_w, l->out_c, l->params, l->macs);
    }
    printf("]}");
}

static sk_status show(cli *c, sk_arch arch, int follows, sk_error *err) {
    sk_card card = sk_card_default(arch);
    sk_model *model;
    sk_status status;
    totals t;

    card.size = (int)cli_int(c, "size");
    card.classes = (int)cli_int(c, "classes");
    status = sk_model_create(&card, 0, &model, err);
    if (status != SK_OK) return status;
    t = sum_up(model);
    if (follows) printf(cli_json(c) ? "," : "\n");
    if (cli_json(c)) print_json(model, &t);
    else if (!cli_quiet(c)) print_text(model, &t);
    sk_model_free(model);
    return SK_OK;
}

static int run(cli *c) {
    const char *which = cli_string(c, "model");
    const int small = strcmp(which, "large") != 0, large = strcmp(which, "small") != 0;
    sk_error err = {0};
    sk_status status = SK_OK;

    if (cli_json(c)) printf("[");
    if (small) status = show(c, SK_ARCH_V3_SMALL, 0, &err);
    if (status == SK_OK && large) status = show(c, SK_ARCH_V3_LARGE, small && (cli_json(c) || !cli_quiet(c)), &err);
    if (status != SK_OK) return cli_fail(c, &err);
    if (cli_json(c)) printf("]\n");
    return CLI_OK;
}

const cli_verb verb_net = {
    "net",
    "prints layers, shapes, parameters, work and memory of the networks",
    "",
    0,
    0,
    options,
    run,
    .description =
        "MobileNetV3-Small and -Large as torchvision builds them: each layer with kernel, stride, shapes, parameters "
        "and "
        "multiply-adds at the given input size; then totals, the least memory that the activations of one picture take "
        "when buffers are reused, and about how large the files are.\n\n"
        "With --json an array with one object per network.",
    .examples = "siskin net\nsiskin net --model small --size 256\nsiskin net --json\n"};
