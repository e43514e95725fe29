/* SPDX-License-Identifier: Apache-2.0 */
/* What a network has to be like to be written as a .skn file. */
#include <math.h>

#include "quant/quant.h"
#include "rt/skn.h"

int sk_quant_features(const sk_layer *layers, size_t count) {
    int found = (int)count - 1;
    for (size_t i = 0; i < count; i++) {
        found = layers[i].op == SK_OP_POOL ? (int)i : found;
    }
    return found;
}

sk_status sk_skn_check_recipe(const sk_skn_recipe *r, sk_error *err) {
    if (r->count < 1 || r->count > SK_SKN_MAX_LAYERS) {
        return sk_fail(err, SK_ERR_UNSUPPORTED, "cannot quantise a network of %zu layers", r->count);
    }
    for (size_t i = 0; i < r->count; i++) {
        const sk_layer *l = &r->layers[i];
        if (l->input < -1 || l->input >= (int)i || (sk_layer_reads_two(l) && (l->input2 < 0 || l->input2 >= (int)i))) {
            return sk_fail(err, SK_ERR_ARGUMENT, "layer %s reads a layer that is not before it", l->name);
        }
        if (!isfinite(r->range[i][0]) || !isfinite(r->range[i][1])) {
            return sk_fail(err, SK_ERR_DATA, "layer %s has values that are not finite: the model is broken", l->name);
        }
        if (sk_layer_has_weights(l) && (!r->weight[i] || !r->bias[i])) {
            return sk_fail(err, SK_ERR_ARGUMENT, "layer %s has no weights", l->name);
        }
        if (r->int16 && r->int16[i] && ((int)i == sk_quant_features(r->layers, r->count) || i + 1 == r->count)) {
            return sk_fail(err, SK_ERR_ARGUMENT, "the output of layer %s has to stay 8 bits: features and logits are",
                           l->name);
        }
        if (l->op == SK_OP_POOL && r->int16 && l->input >= 0 && r->int16[l->input] &&
            l->in_h * l->in_w > SK_INT16_MAX_PIXELS) {
            return sk_fail(err, SK_ERR_UNSUPPORTED, "layer %s takes the mean of more than %d pixels: its input has to "
                           "stay 8 bits", l->name, SK_INT16_MAX_PIXELS);
        }
    }
    return SK_OK;
}
