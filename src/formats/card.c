/* SPDX-License-Identifier: Apache-2.0 */
/* The card of a model (what must be known to feed it) as metadata text, the same keys in safetensors and in ONNX. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/json.h"
#include "formats/tensors.h"

static sk_status set_number(sk_tensor_file *file, const char *key, const double *values, int count, sk_error *err) {
    sk_text text = {0};
    for (int i = 0; i < count; i++) {
        sk_text_add(&text, "%s", i ? "," : "");
        sk_json_put_number(&text, values[i]);
    }
    const sk_status status =
        text.failed ? sk_fail_memory(err, "metadata") : sk_tensors_set_meta(file, key, text.data, err);
    sk_text_free(&text);
    return status;
}

/* A float printed through double shows digits that nobody wrote; nine digits at most bring it back exactly. */
static double shortest(float value) {
    char digits[32];
    for (int precision = 1; precision <= 9; precision++) {
        snprintf(digits, sizeof digits, "%.*g", precision, (double)value);
        if (strtof(digits, NULL) == value) break;
    }
    return strtod(digits, NULL);
}

sk_status sk_tensors_set_card(sk_tensor_file *file, const sk_card *card, sk_error *err) {
    const double size = card->size, classes = card->classes, crops = card->crops;
    const double threshold = shortest(card->threshold), penalty = shortest(card->penalty);
    const double temperature = shortest(card->temperature);
    const double mean[3] = {shortest(card->mean[0]), shortest(card->mean[1]), shortest(card->mean[2])};
    const double std[3] = {shortest(card->std[0]), shortest(card->std[1]), shortest(card->std[2])};
    const struct {
        const char *key;
        const double *values;
        int count;
    } numbers[] = {{"siskin.size", &size, 1},      {"siskin.classes", &classes, 1}, {"siskin.mean", mean, 3},
                   {"siskin.std", std, 3},         {"siskin.crops", &crops, 1},     {"siskin.threshold", &threshold, 1},
                   {"siskin.penalty", &penalty, 1}, {"siskin.temperature", &temperature, 1}};
    sk_status status = sk_tensors_set_meta(file, "siskin.arch", sk_arch_name(card->arch), err);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers && status == SK_OK; i++)
        status = set_number(file, numbers[i].key, numbers[i].values, numbers[i].count, err);
    if (status == SK_OK) status = sk_tensors_set_meta(file, "siskin.class_names", card->class_names, err);
    if (status == SK_OK) status = sk_tensors_set_meta(file, "siskin.run_id", card->run_id, err);
    return status;
}

/* Reads `count` numbers parted by commas within min..max; leaves *out alone where the key is missing. */
static sk_status get_numbers(const sk_tensor_file *file, const char *key, int count, double min, double max, float *out,
                             int *found, sk_error *err) {
    const char *text = sk_tensors_meta(file, key);
    char *end = NULL;
    if (!text) return SK_OK;
    *found = 1;
    for (int i = 0; i < count; i++, text = *end == ',' ? end + 1 : end) {
        const double value = strtod(text, &end);
        if (end == text || !(value >= min && value <= max) || *end != (i + 1 < count ? ',' : '\0'))
            return sk_fail(err, SK_ERR_FORMAT, "metadata %s is \"%.60s\", not %d number(s) within %g to %g", key,
                           sk_tensors_meta(file, key), count, min, max);
        out[i] = (float)value;
    }
    return SK_OK;
}

static sk_status get_int(const sk_tensor_file *file, const char *key, int min, int max, int *out, int *found,
                         sk_error *err) {
    float value = (float)*out;
    const sk_status status = get_numbers(file, key, 1, min, max, &value, found, err);
    if (status != SK_OK) return status;
    if (value != floorf(value)) return sk_fail(err, SK_ERR_FORMAT, "metadata %s is not a whole number", key);
    *out = (int)value;
    return SK_OK;
}

static sk_status get_text(const sk_tensor_file *file, const char *key, char *out, size_t size, int *found,
                          sk_error *err) {
    const char *text = sk_tensors_meta(file, key);
    if (!text) return SK_OK;
    *found = 1;
    if (strlen(text) >= size) return sk_fail(err, SK_ERR_FORMAT, "metadata %s is longer than %zu bytes", key, size - 1);
    memcpy(out, text, strlen(text) + 1);
    return SK_OK;
}

sk_status sk_tensors_get_card(const sk_tensor_file *file, sk_card *card, int *found, sk_error *err) {
    sk_card read = *card;
    int any = 0;
    sk_status status = SK_OK;
    const char *arch = sk_tensors_meta(file, "siskin.arch");
    if (arch) {
        any = 1;
        status = sk_arch_parse(arch, &read.arch, err);
    }
    if (status == SK_OK) status = get_int(file, "siskin.size", 32, 4096, &read.size, &any, err);
    if (status == SK_OK) status = get_int(file, "siskin.classes", 1, 65536, &read.classes, &any, err);
    if (status == SK_OK) status = get_numbers(file, "siskin.mean", 3, -1e6, 1e6, read.mean, &any, err);
    if (status == SK_OK) status = get_numbers(file, "siskin.std", 3, 1e-6, 1e6, read.std, &any, err);
    if (status == SK_OK) status = get_int(file, "siskin.crops", 0, 3, &read.crops, &any, err);
    if (status == SK_OK && read.crops == 2)
        status = sk_fail(err, SK_ERR_FORMAT, "metadata siskin.crops is 2: only 1, 3 and 0 (squeeze) are known");
    if (status == SK_OK) status = get_numbers(file, "siskin.threshold", 1, 0, 1, &read.threshold, &any, err);
    if (status == SK_OK) status = get_numbers(file, "siskin.penalty", 1, 0, 1, &read.penalty, &any, err);
    if (status == SK_OK)
        status = get_numbers(file, "siskin.temperature", 1, (double)SK_TEMPERATURE_LEAST, (double)SK_TEMPERATURE_MOST,
                             &read.temperature, &any, err);
    if (status == SK_OK)
        status = get_text(file, "siskin.class_names", read.class_names, sizeof read.class_names, &any, err);
    if (status == SK_OK) status = get_text(file, "siskin.run_id", read.run_id, sizeof read.run_id, &any, err);
    if (status != SK_OK) return status;
    *card = read;
    if (found) *found = any;
    return SK_OK;
}
