/* SPDX-License-Identifier: Apache-2.0 */
/* For tools/check-onnx.py and the benches: writes PREFIX.onnx and PREFIX.safetensors of a model, of a .skn PREFIX.onnx
 * in the QDQ form, and PREFIX.bin with pictures and the logits of siskin for them. MODEL is a file, or
 * random:small[:SIZE[:CLASSES]] for a network whose every tensor, batch norm statistics too, is random, since a freshly
 * initialised one would hide a wrong fold. PICTURE is a picture, or a dataset, which stands for its test part. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "siskin/classifier.h"
#include "siskin/dataset.h"
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

typedef struct pictures {
    int size, count, room;
    uint8_t *data;
} pictures;

static size_t picture_bytes(const pictures *p) { return (size_t)p->size * (size_t)p->size * 3; }

/* Room for one more; NULL if there is no memory. */
static uint8_t *add(pictures *p) {
    if (p->count == p->room) {
        p->room = p->room ? 2 * p->room : 16;
        uint8_t *data = realloc(p->data, (size_t)p->room * picture_bytes(p));
        if (!data) return NULL;
        p->data = data;
    }
    return p->data + picture_bytes(p) * (size_t)p->count++;
}

static sk_status add_picture(pictures *p, const sk_image *image, sk_error *err) {
    uint8_t *to = add(p);
    return to ? sk_crops_prepare(image, SK_CROPS_ONE, p->size, to, err) : SK_ERR_MEMORY;
}

static sk_status add_dataset(pictures *p, const char *dir, sk_error *err) {
    sk_dataset *dataset = NULL;
    sk_cache *cache = NULL;
    size_t bad = 0;
    sk_status status = sk_dataset_open(dir, &dataset, err);
    if (status == SK_OK) status = sk_cache_open(dataset, 100, 0, NULL, &cache, &bad, err);
    for (size_t i = 0; status == SK_OK && i < sk_dataset_size(dataset); i++) {
        const sk_sample *sample = sk_dataset_sample(dataset, i);
        sk_image image = {0};
        if (sample->split != SK_SPLIT_TEST || sample->label == SK_LABEL_UNKNOWN) continue;
        sk_cache_image(cache, i, &image);
        if (image.data) status = add_picture(p, &image, err);
    }
    sk_cache_close(cache);
    sk_dataset_close(dataset);
    return status;
}

static sk_status add_path(pictures *p, const char *path, sk_error *err) {
    struct stat info;
    sk_image image = {0};
    if (stat(path, &info) == 0 && S_ISDIR(info.st_mode)) return add_dataset(p, path, err);
    sk_status status = sk_image_read(path, &image, err);
    if (status == SK_OK) status = add_picture(p, &image, err);
    sk_image_free(&image);
    return status;
}

/* From even grey to full noise. */
static sk_status add_noise(pictures *p) {
    for (int n = 0; n < 4; n++) {
        const double spread = 255.0 * n / 3;
        uint8_t *to = add(p);
        if (!to) return SK_ERR_MEMORY;
        for (size_t i = 0; i < picture_bytes(p); i++) to[i] = (uint8_t)uniform(127 - spread / 2, 127 + spread / 2);
    }
    return SK_OK;
}

/* Writes the model's files and opens it as what answers pictures. */
static sk_status open_model(const char *model, const char *prefix, sk_classifier **out, sk_error *err) {
    char onnx[4096], tensors[4096];
    sk_model *made = NULL;
    const int is_random = strncmp(model, "random:", 7) == 0;
    snprintf(onnx, sizeof onnx, "%s.onnx", prefix);
    snprintf(tensors, sizeof tensors, "%s.safetensors", prefix);
    if (ends_with(model, ".skn")) {
        const sk_status status = sk_export_onnx_qdq(model, onnx, err);
        return status == SK_OK ? sk_classifier_open(model, out, err) : status;
    }
    sk_status status = is_random ? random_model(model + 7, &made, err) : sk_model_read(model, &made, err);
    if (status == SK_OK) status = sk_export_onnx(made, onnx, err);
    if (status == SK_OK) status = sk_model_write(made, tensors, err);
    sk_model_free(made);
    return status == SK_OK ? sk_classifier_open(tensors, out, err) : status;
}

static int write_answers(const char *prefix, const pictures *p, const float *logits, int classes) {
    char path[4096];
    const int32_t head[3] = {p->count, p->size, classes};
    const size_t count = (size_t)p->count * (size_t)classes, bytes = picture_bytes(p) * (size_t)p->count;
    snprintf(path, sizeof path, "%s.bin", prefix);
    FILE *file = fopen(path, "wb");
    const int written = file && fwrite(head, sizeof head, 1, file) == 1 && fwrite(p->data, 1, bytes, file) == bytes &&
                        fwrite(logits, sizeof *logits, count, file) == count;
    return file && fclose(file) == 0 && written;
}

int main(int argc, char **argv) {
    sk_error err = {0};
    sk_classifier *c = NULL;
    pictures p = {0};
    if (argc < 3) {
        fprintf(stderr, "usage: dump-logits MODEL|random:ARCH[:SIZE[:CLASSES]] PREFIX [PICTURE|DATASET...]\n");
        return 2;
    }
    sk_status status = open_model(argv[1], argv[2], &c, &err);
    if (status == SK_OK) {
        p.size = sk_classifier_card(c)->size;
        status = add_noise(&p);
    }
    for (int i = 3; i < argc && status == SK_OK; i++) status = add_path(&p, argv[i], &err);
    const int classes = status == SK_OK ? sk_classifier_card(c)->classes : 1;
    float *values = malloc(2 * (size_t)(p.count + 1) * (size_t)classes * sizeof *values), *logits = values;
    if (!values) return 1;
    if (status == SK_OK)
        status = sk_classifier_run_logits(c, p.data, p.count, 0, values + p.count * classes, logits, NULL, &err);
    const int done = status == SK_OK && write_answers(argv[2], &p, logits, classes);
    if (!done)
        fprintf(stderr, "dump-logits: %s\n", err.message[0] ? err.message : "out of memory, or the disk is full");
    free(values);
    free(p.data);
    sk_classifier_close(c);
    return done ? 0 : 1;
}
