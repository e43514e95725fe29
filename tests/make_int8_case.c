/* SPDX-License-Identifier: Apache-2.0 */
/* make_int8_case DIR N [MODEL.skn]: what the cross test compares. Writes N raw pictures (half smooth, half noise) and,
 * unless a model is given, DIR/random.skn, a MobileNetV3-Small with random weights; tells the model's path. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "int8_net.h"
#include "siskin/rt.h"

#define CLASSES 100 /* many codes to compare */

typedef struct ranges {
    float (*range)[2];
} ranges;

static void watch(void *user, size_t layer, const float *data, int n, int h, int w, int c) {
    float(*range)[2] = ((ranges *)user)->range;
    for (long i = 0; i < (long)n * h * w * c; i++) {
        range[layer][0] = fminf(range[layer][0], data[i]);
        range[layer][1] = fmaxf(range[layer][1], data[i]);
    }
}

/* Freshly initialised networks let the picture fade away layer by layer: stronger and shifted batch norms keep it. */
static void liven(sk_model *model) {
    sk_rng rng = sk_rng_make(9, 0, 0);
    for (size_t i = 0; i < sk_model_tensor_count(model); i++) {
        sk_tensor t;
        if (sk_model_tensor(model, i, &t, NULL) != SK_OK) {
            continue;
        }
        const int gain = strstr(t.name, ".1.weight") != NULL, shift = strstr(t.name, ".1.bias") != NULL;
        for (size_t k = 0; t.rank == 1 && (gain || shift) && k < t.count; k++) {
            t.data[k] = gain ? (float)(2.5 + sk_rng_uniform(&rng)) : (float)(.5 * sk_rng_normal(&rng));
        }
    }
}

/* Random weights, real shapes: the answers mean nothing, every layer of the network is run. */
static int random_model(const char *path) {
    sk_card card = sk_card_default(SK_ARCH_V3_SMALL);
    card.classes = CLASSES;
    sk_model *model = NULL;
    sk_error err = {0};
    if (sk_model_create(&card, 5, &model, &err) != SK_OK) {
        return 1;
    }
    liven(model);
    const size_t count = sk_model_layer_count(model), pixels = (size_t)card.size * (size_t)card.size * 3;
    sk_layer *layers = calloc(count, sizeof *layers);
    float **weight = calloc(count, sizeof *weight), **bias = calloc(count, sizeof *bias);
    float(*range)[2] = calloc(count, sizeof *range), logits[CLASSES];
    uint8_t *picture = malloc(pixels), *bytes = NULL;
    sk_status status = SK_OK;
    for (size_t i = 0; i < count && status == SK_OK; i++) {
        layers[i] = *sk_model_layer(model, i);
        const size_t n = sk_model_weight_count(model, i);
        if (n) {
            weight[i] = malloc(n * sizeof(float));
            bias[i] = malloc((size_t)layers[i].out_c * sizeof(float));
            status = sk_model_folded(model, i, weight[i], bias[i], &err);
        }
    }
    ranges r = {range};
    for (uint64_t i = 0; i < 4 && status == SK_OK; i++) {
        net_picture(card.size, 1000 + i, picture);
        status = sk_model_forward(model, picture, 1, 1, logits, NULL, watch, &r, &err);
    }
    const sk_skn_recipe recipe = {.card = &card, .layers = layers, .count = count, .weight = weight, .bias = bias,
                                  .range = (const float(*)[2])range, .pictures = 4};
    size_t size = 0;
    if (status == SK_OK) {
        status = sk_skn_build(&recipe, &bytes, &size, &err);
    }
    if (status == SK_OK) {
        status = sk_file_write(path, bytes, size, &err);
    }
    if (status != SK_OK) {
        fprintf(stderr, "%s\n", err.message);
    }
    for (size_t i = 0; i < count; i++) {
        free(weight[i]);
        free(bias[i]);
    }
    free(layers);
    free(weight);
    free(bias);
    free(range);
    free(picture);
    sk_free(bytes);
    sk_model_free(model);
    return status != SK_OK;
}

int main(int argc, char **argv) {
    char path[4096], random[4096];
    sk_error err = {0};
    if (argc < 3) {
        return 2;
    }
    snprintf(random, sizeof random, "%s/random.skn", argv[1]);
    const char *model = argc > 3 ? argv[3] : random;
    sk_rt *rt = NULL;
    if ((argc <= 3 && random_model(random)) || sk_rt_open(model, &rt, &err) != SK_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    const int size = sk_rt_get_info(rt)->size;
    const size_t bytes = (size_t)size * (size_t)size * 3;
    uint8_t *picture = malloc(bytes);
    sk_rng rng = sk_rng_make(3, 0, 0);
    for (int i = 0; i < atoi(argv[2]); i++) {
        net_picture(size, (uint64_t)i, picture);
        for (size_t k = 0; i % 2 && k < bytes; k++) {
            picture[k] = (uint8_t)sk_rng_next(&rng);
        }
        snprintf(path, sizeof path, "%s/%03d.raw", argv[1], i);
        if (sk_file_write(path, picture, bytes, &err) != SK_OK) {
            return 1;
        }
    }
    printf("%s\n", model);
    free(picture);
    sk_rt_close(rt);
    return 0;
}
