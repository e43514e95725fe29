/* SPDX-License-Identifier: Apache-2.0 */
/* Layers whose output has int16 codes: named by patterns, never the features and the logits, whose codes callers
 * get. */
#include "net/model.h"
#include "quant/quant.h"

static int may(const sk_quant_net *net, size_t layer) {
    return layer + 1 < net->count && (int)layer != sk_quant_features(net->layers, net->count);
}

sk_status sk_quant_mark_int16(sk_quant_job *j) {
    const char *patterns = j->options->act16;
    char pattern[128];
    while (sk_layer_next_pattern(&patterns, pattern)) {
        int found = 0;
        for (size_t i = 0; i < j->net->count; i++) {
            if (may(j->net, i) && sk_layer_fits_pattern(&j->net->layers[i], pattern)) {
                j->int16[i] = 1;
                found = 1;
            }
        }
        if (!found) {
            return sk_fail(j->err, SK_ERR_ARGUMENT, "no layer that may have 16-bit activations fits '%.80s'; "
                           "`siskin net` lists the layers, the features and the logits keep 8 bits", pattern);
        }
    }
    return *patterns ? sk_fail(j->err, SK_ERR_ARGUMENT, "no layer fits '%.80s'; `siskin net` lists them", patterns)
                     : SK_OK;
}
