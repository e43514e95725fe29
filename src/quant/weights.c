/* SPDX-License-Identifier: Apache-2.0 */
/* Scales of the weights, per output channel or per tensor, and codes rounded to nearest. */
#include <math.h>

#include "quant/quant.h"

void sk_quant_effective(const sk_quant_net *net, float *const *equal, size_t layer, int channel, float *out) {
    const sk_layer *l = &net->layers[layer];
    const size_t depth = (size_t)sk_layer_depth(l);
    const float *weight = net->weight[layer] + depth * (size_t)channel;
    const float *factor = l->input >= 0 && equal ? equal[l->input] : NULL;
    for (size_t k = 0; k < depth; k++) {
        out[k] = weight[k] * (!factor ? 1 : l->op == SK_OP_DEPTHWISE ? factor[channel] : factor[k % (size_t)l->in_c]);
    }
}

static double scale_of(const float *weights, size_t count, sk_quant_weights_rule rule) {
    if (rule == SK_QUANT_WEIGHTS_MMSE) {
        return fmax(sk_weight_scale_best(weights, count), 1e-12);
    }
    float most = 0;
    for (size_t k = 0; k < count; k++) {
        most = fmaxf(most, fabsf(weights[k]));
    }
    return fmax((double)most / 127, 1e-12);
}

static sk_status choose(void *user, int index, sk_error *err) {
    sk_quant_job *j = user;
    const size_t i = (size_t)index;
    const sk_layer *l = &j->net->layers[i];
    if (!sk_layer_has_weights(l)) {
        return SK_OK;
    }
    const size_t depth = (size_t)sk_layer_depth(l), channels = (size_t)l->out_c;
    float *effective = sk_alloc(channels * depth, sizeof *effective);
    j->scale[i] = sk_alloc(channels, sizeof **j->scale);
    j->code[i] = sk_alloc(channels * depth, sizeof **j->code);
    if (!effective || !j->scale[i] || !j->code[i]) {
        sk_free(effective);
        return sk_fail_memory(err, "the weights' codes");
    }
    for (size_t c = 0; c < channels; c++) {
        sk_quant_effective(j->net, j->equal, i, (int)c, effective + c * depth);
    }
    const double common = j->options->per == SK_QUANT_PER_TENSOR
                              ? scale_of(effective, channels * depth, j->options->weights) : 0;
    for (size_t c = 0; c < channels; c++) {
        const float *row = effective + c * depth;
        const double scale = common > 0 ? common : scale_of(row, depth, j->options->weights);
        j->scale[i][c] = (float)scale;
        for (size_t k = 0; k < depth; k++) {
            const double code = floor((double)row[k] / (double)j->scale[i][c] + 0.5);
            j->code[i][c * depth + k] = (int8_t)fmin(fmax(code, -127), 127);
        }
    }
    sk_free(effective);
    return SK_OK;
}

sk_status sk_quant_weights(sk_quant_job *j) {
    return sk_parallel(0, (int)j->net->count, j->threads, choose, j, j->err);
}
