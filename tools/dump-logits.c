/* SPDX-License-Identifier: Apache-2.0 */
/* For tools/check-onnx.py and bench/forward: writes PREFIX.onnx and PREFIX.safetensors of a model and PREFIX.bin with
 * pictures and the logits of siskin for them. MODEL is a file, or random:small[:SIZE[:CLASSES]] for a network whose
 * every tensor, batch norm statistics too, is random, since a freshly initialised one would hide a wrong fold. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "siskin/classifier.h"
#include "siskin/image.h"
#include "siskin/model.h"
#include "siskin/quant.h"

static uint64_t state = 88172645463325252u;

static double uniform(double low, double high) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return low + (high - low) * (double)(state >> 11) / 9007199254740992.0;
}

static int ends_with(const char *text, const char *end) {
    const size_t a = strlen(text), b = strlen(end);
    return a >= b && strcmp(text + a - b, end) == 0;
}

static sk_status random_model(const char *text, sk_model **out, sk_error *err) {
    char arch[16] = "small";
    int size = 224, classes = 2;
    sk_arch which = SK_ARCH_V3_SMALL;
    sscanf(text, "%15[^:]:%d:%d", arch, &size, &classes);
    sk_status status = sk_arch_parse(arch, &which, err);
    sk_card card = sk_card_default(which);
    card.size = size;
    card.classes = classes;
    if (classes != 2) snprintf(card.class_names, sizeof card.class_names, "many");
    if (status == SK_OK) status = sk_model_create(&card, 1, out, err);
    for (size_t i = 0; status == SK_OK && i < sk_model_tensor_count(*out); i++) {
        sk_tensor tensor;
        if ((status = sk_model_tensor(*out, i, &tensor, err)) != SK_OK) break;
        for (size_t k = 0; k < tensor.count; k++) {
            if (ends_with(tensor.name, "running_var")) tensor.data[k] = (float)uniform(.1, .5);
            else if (ends_with(tensor.name, "running_mean") || ends_with(tensor.name, "bias"))
                tensor.data[k] = (float)uniform(-.05, .05);
            else if (tensor.rank == 1) tensor.data[k] = (float)uniform(.5, 1.5);
            else if (strncmp(tensor.name, "classifier", 10) == 0) tensor.data[k] = (float)uniform(-.2, .2);
        }
    }
    return status;
}

static sk_status read_picture(const char *path, int size, uint8_t *out, sk_error *err) {
    sk_image image = {0};
    sk_status status = sk_image_read(path, &image, err);
    if (status == SK_OK) status = sk_crops_prepare(&image, SK_CROPS_ONE, size, out, err);
    sk_image_free(&image);
    return status;
}

int main(int argc, char **argv) {
    sk_error err = {0};
    sk_model *model = NULL;
    char path[4096];
    if (argc < 3) {
        fprintf(stderr, "usage: dump-logits MODEL|random:ARCH[:SIZE[:CLASSES]] PREFIX [PICTURE...]\n");
        return 2;
    }
    sk_status status = strncmp(argv[1], "random:", 7) == 0 ? random_model(argv[1] + 7, &model, &err)
                                                           : sk_model_read(argv[1], &model, &err);
    snprintf(path, sizeof path, "%s.onnx", argv[2]);
    if (status == SK_OK) status = sk_export_onnx(model, path, &err);
    snprintf(path, sizeof path, "%s.safetensors", argv[2]);
    if (status == SK_OK) status = sk_model_write(model, path, &err);
    if (status != SK_OK) {
        fprintf(stderr, "dump-logits: %s\n", err.message);
        return 1;
    }
    const sk_card *card = sk_model_card(model);
    const int noise = 4, count = noise + argc - 3;
    const size_t bytes = (size_t)card->size * (size_t)card->size * 3,
                 logits_count = (size_t)count * (size_t)card->classes;
    uint8_t *images = malloc((size_t)count * bytes);
    float *logits = malloc(logits_count * sizeof *logits);
    if (!images || !logits) return 1;
    for (int n = 0; n < noise; n++) {
        /* From even grey to full noise. */
        const double spread = 255.0 * n / (noise - 1);
        for (size_t i = 0; i < bytes; i++)
            images[(size_t)n * bytes + i] = (uint8_t)uniform(127 - spread / 2, 127 + spread / 2);
    }
    for (int i = 3; i < argc && status == SK_OK; i++)
        status = read_picture(argv[i], card->size, images + (size_t)(noise + i - 3) * bytes, &err);
    if (status == SK_OK) status = sk_model_forward(model, images, count, 0, logits, NULL, NULL, NULL, &err);
    if (status != SK_OK) {
        fprintf(stderr, "dump-logits: %s\n", err.message);
        return 1;
    }
    snprintf(path, sizeof path, "%s.bin", argv[2]);
    FILE *file = fopen(path, "wb");
    const int32_t head[3] = {count, card->size, card->classes};
    const int written = file && fwrite(head, sizeof head, 1, file) == 1 &&
                        fwrite(images, bytes, (size_t)count, file) == (size_t)count &&
                        fwrite(logits, sizeof *logits, logits_count, file) == logits_count;
    if (!file || fclose(file) != 0 || !written) {
        fprintf(stderr, "dump-logits: cannot write %s\n", path);
        return 1;
    }
    free(images);
    free(logits);
    sk_model_free(model);
    return 0;
}
