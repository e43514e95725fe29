/* SPDX-License-Identifier: Apache-2.0 */
/* Learned ranges of a model and their text. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "net/model.h"

void sk_ranges_free(sk_ranges *ranges) {
    for (int i = 0; i < ranges->layers; i++) sk_free(ranges->equal[i]);
    *ranges = (sk_ranges){0};
}

sk_status sk_model_set_ranges(sk_model *model, const sk_ranges *ranges, sk_error *err) {
    sk_ranges copy = *ranges, *own = sk_model_own_ranges(model);
    int failed = 0;

    for (int i = 0; i < copy.layers; i++) {
        const size_t count = (size_t)sk_model_layer(model, (size_t)i)->out_c;

        copy.equal[i] = NULL;
        if (!ranges->equal[i]) continue;
        copy.equal[i] = sk_alloc(count, sizeof(float));
        if (copy.equal[i]) memcpy(copy.equal[i], ranges->equal[i], count * sizeof(float));
        else failed = 1;
    }
    if (failed) {
        sk_ranges_free(&copy);
        return sk_fail_memory(err, "the ranges");
    }
    sk_ranges_free(own);
    *own = copy;
    return SK_OK;
}

char *sk_model_ranges_text(const sk_model *model) {
    const sk_ranges *ranges = sk_model_ranges(model);
    sk_text text = {0};

    for (int i = 0; ranges && i < ranges->layers; i++) {
        const sk_layer *layer = sk_model_layer(model, (size_t)i);

        sk_text_add(&text, "%s\t%.9g\t%.9g", layer->name, (double)ranges->end[i][0], (double)ranges->end[i][1]);
        for (int c = 0; ranges->equal[i] && c < layer->out_c; c++)
            sk_text_add(&text, "\t%.9g", (double)ranges->equal[i][c]);
        sk_text_add(&text, "\n");
    }
    if (!text.failed) return text.data;
    sk_text_free(&text);
    return NULL;
}

/* The next number of the line, which a tab is before; 0: there is none, or it is no range's. */
static int next_number(const char **at, float *out) {
    char *end;

    if (**at != '\t') return 0;
    *out = strtof(*at + 1, &end);
    if (end == *at + 1 || !isfinite(*out)) return 0;
    *at = end;
    return 1;
}

/* The line of layer i; 0: it is not. */
static int parse_line(const sk_layer *layer, int i, const char **at, sk_ranges *out) {
    const size_t length = strlen(layer->name);

    if (strncmp(*at, layer->name, length) != 0) return 0;
    *at += length;
    if (!next_number(at, &out->end[i][0]) || !next_number(at, &out->end[i][1])) return 0;
    if (out->end[i][0] > 0 || out->end[i][1] < 0) return 0;
    if (**at == '\t') {
        out->equal[i] = sk_alloc((size_t)layer->out_c, sizeof(float));
        for (int c = 0; c < layer->out_c; c++)
            if (!out->equal[i] || !next_number(at, &out->equal[i][c]) || !(out->equal[i][c] > 0)) return 0;
    }
    if (**at != '\n') return 0;
    ++*at;
    return 1;
}

sk_status sk_model_parse_ranges(sk_model *model, const char *text, sk_error *err) {
    sk_ranges read = {.layers = (int)sk_model_layer_count(model)}, *own = sk_model_own_ranges(model);

    for (int i = 0; i < read.layers; i++)
        if (!parse_line(sk_model_layer(model, (size_t)i), i, &text, &read)) {
            sk_ranges_free(&read);
            return sk_fail(err, SK_ERR_FORMAT, "siskin.ranges is not of this network from layer %s on",
                           sk_model_layer(model, (size_t)i)->name);
        }
    sk_ranges_free(own);
    *own = read;
    return SK_OK;
}
