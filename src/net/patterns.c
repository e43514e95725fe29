/* SPDX-License-Identifier: Apache-2.0 */
/* Which layers a user's patterns mean. */
#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

#include "net/model.h"

int sk_layer_next_pattern(const char **at, char out[128]) {
    const size_t length = strcspn(*at, ",");
    if (!**at || length >= 128) return 0;
    memcpy(out, *at, length);
    out[length] = '\0';
    *at += length;
    *at += **at == ',';
    return 1;
}

int sk_layer_fits_pattern(const sk_layer *layer, const char *pattern) {
    char tensor[96];
    snprintf(tensor, sizeof tensor, "%s%s", layer->name, layer->has_bn ? ".0.weight" : ".weight");
    return fnmatch(pattern, layer->name, 0) == 0 || fnmatch(pattern, tensor, 0) == 0;
}

int sk_layer_fits(const sk_layer *layer, const char *layers) {
    char pattern[128];
    int found = !layers;
    while (!found && sk_layer_next_pattern(&layers, pattern)) found = sk_layer_fits_pattern(layer, pattern);
    return found;
}
