/* SPDX-License-Identifier: Apache-2.0 */
/* Where a network stopped being a network: the first layer with a value that is not a finite number. Asked after a loss
 * that is none, and of the weights alone before they are kept: a ReLU takes NaN for 0, so the loss need not tell. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "net/model.h"

static int all_finite(const float *data, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (!isfinite(data[i])) return 0;
    return 1;
}

/* "weights" or "running statistics" if one of the layer's is not finite, else NULL. */
static const char *bad_tensor(const sk_model *model, const sk_layer *layer) {
    const size_t length = strlen(layer->name);
    for (size_t i = 0; i < sk_model_tensor_count(model); i++) {
        sk_tensor tensor;
        if (sk_model_tensor(model, i, &tensor, NULL) != SK_OK) continue;
        if (strncmp(tensor.name, layer->name, length) != 0 || tensor.name[length] != '.') continue;
        if (!all_finite(tensor.data, tensor.count)) return tensor.trainable ? "weights" : "running statistics";
    }
    return NULL;
}

typedef struct outputs {
    size_t first; /* layer with an output that is not finite */
} outputs;

static void look(void *user, size_t layer, const float *data, int n, int h, int w, int c) {
    outputs *o = user;
    if (layer < o->first && !all_finite(data, (size_t)n * (size_t)h * (size_t)w * (size_t)c)) o->first = layer;
}

sk_status sk_model_find_bad(sk_model *model, const uint8_t *images, int n, int threads, char *where, size_t size,
                            sk_error *err) {
    const size_t layers = sk_model_layer_count(model), classes = (size_t)sk_model_card(model)->classes;
    outputs seen = {.first = layers};
    where[0] = '\0';
    if (n > 0) {
        float *logits = sk_calloc((size_t)n * classes, sizeof *logits);
        if (!logits) return sk_fail_memory(err, "the logits");
        const sk_status status = sk_model_forward(model, images, n, threads, logits, NULL, look, &seen, err);
        sk_free(logits);
        if (status != SK_OK) return status;
    }
    for (size_t i = 0; i < layers; i++) {
        const sk_layer *layer = sk_model_layer(model, i);
        const char *what = bad_tensor(model, layer);
        if (!what && i == seen.first) what = "outputs";
        if (!what) continue;
        snprintf(where, size, "layer %s, whose %s are not finite", layer->name, what);
        break;
    }
    return SK_OK;
}
