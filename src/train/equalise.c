/* SPDX-License-Identifier: Apache-2.0 */
/* Channels that reach far beyond their neighbours are made smaller in the weights of the model that a run begins with,
 * and what reads them larger (cross-layer equalisation, Nagel et al. 2019, Data-Free Quantization Through Weight
 * Equalization and Bias Correction, section 4.1): an int8 tensor has one scale for all of them. Only tensors that
 * depthwise layers alone read are concerned, since these give every channel a scale of its own again. Behind a ReLU the
 * function stays; a hard-swish is all but linear beyond 3, and its knee becomes rounder, which the run has to learn. */
#include <math.h>

#include "train/qat.h"

static const sk_unit *unit_of(const sk_net *net, int layer) {
    for (int i = 0; i < net->unit_count; i++)
        if (net->units[i].layer == layer) return &net->units[i];
    return NULL;
}

/* Makes channel c of `unit` smaller and what the depthwise unit `reader` makes of it larger. */
static void shift(sk_net *net, const sk_unit *unit, const sk_unit *reader, int c, float by) {
    sk_param *p = &net->params[unit->param], *w = &net->params[reader->param];
    const int taps = reader->kernel * reader->kernel;
    p[SK_GAMMA].data[c] /= by;
    p[SK_BETA].data[c] /= by;
    for (int t = 0; t < taps; t++) w->data[c * taps + t] *= by;
}

sk_status sk_equalise_channels(sk_model *model, const sk_quant_pictures *pictures, float highest, int threads,
                               size_t *channels, sk_error *err) {
    sk_net *net = sk_model_net(model);
    sk_observed seen;
    *channels = 0;
    const sk_status status = sk_observe(model, pictures, threads, SK_OBSERVE_ENDS, &seen, err);
    if (status != SK_OK) return status;
    for (int i = 0; i < net->layer_count; i++)
        for (int k = i + 1; seen.highest[i] && k < net->layer_count; k++) {
            const sk_unit *unit = unit_of(net, i), *reader = unit_of(net, k);
            if (net->layers[k].input != i || !unit || !reader) continue;
            for (int c = 0; c < unit->out_c; c++) {
                if (!(seen.highest[i][c] > highest)) continue;
                shift(net, unit, reader, c, seen.highest[i][c] / highest);
                ++*channels;
            }
        }
    sk_observed_free(&seen);
    sk_model_changed(model);
    return SK_OK;
}
