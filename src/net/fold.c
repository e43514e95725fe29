/* SPDX-License-Identifier: Apache-2.0 */
/* Batch norm folded into the weights before it, and the layouts that the kernels read. */
#include <math.h>

#include "net/net.h"

void sk_net_normalisation(const sk_card *card, sk_real mean[3], sk_real gain[3]) {
    static const double imagenet[2][3] = {{0.485, 0.456, 0.406}, {0.229, 0.224, 0.225}};

    /* The usual constants are meant as decimals, not as the floats next to them. */
    for (int ch = 0; ch < 3; ch++) {
        const double std = card->std[ch] == (float)imagenet[1][ch] ? imagenet[1][ch] : (double)card->std[ch];

        mean[ch] =
            (sk_real)(255 * (card->mean[ch] == (float)imagenet[0][ch] ? imagenet[0][ch] : (double)card->mean[ch]));
        gain[ch] = (sk_real)(1 / (255 * std));
    }
}

void sk_net_pack_dw(const sk_real *weight, int c, int taps, sk_real *packed) {
    for (int t = 0; t < taps; t++)
        for (int j = 0; j < c; j++)
            packed[(size_t)t * (size_t)c + (size_t)j] = weight[(size_t)j * (size_t)taps + (size_t)t];
}

void sk_net_pack_ohwi(const sk_real *weight, int out_c, int in_c, int taps, sk_real *packed) {
    for (int o = 0; o < out_c; o++)
        sk_net_pack_dw(weight + (size_t)o * (size_t)(in_c * taps), in_c, taps,
                       packed + (size_t)o * (size_t)(in_c * taps));
}

static const sk_unit *unit_of_layer(const sk_net *net, int layer) {
    for (int i = 0; i < net->unit_count; i++)
        if (net->units[i].layer == layer) return &net->units[i];
    return NULL;
}

/* Index of the weight tensor of a LINEAR layer, -1 for any other. */
static int linear_param(const sk_net *net, int layer) {
    if (layer == net->pool_layer + 1 || layer == net->pool_layer + 2)
        return net->classifier + 2 * (layer - net->pool_layer - 1);
    for (int i = 0; i < net->block_count; i++)
        if (net->blocks[i].squeeze && (layer == net->blocks[i].se_layer + 1 || layer == net->blocks[i].se_layer + 2))
            return net->blocks[i].se_param + 2 * (layer - net->blocks[i].se_layer - 1);
    return -1;
}

size_t sk_net_weight_count(const sk_net *net, int layer) {
    const sk_unit *u = unit_of_layer(net, layer);
    const int p = u ? u->param : linear_param(net, layer);

    return p < 0 ? 0 : net->params[p].count;
}

static void fold_unit(const sk_net *net, const sk_unit *u, double *weight, double *bias) {
    const sk_param *p = &net->params[u->param];
    const int taps = u->kernel * u->kernel, in = (int)(p->count / (size_t)(u->out_c * taps));

    for (int o = 0; o < u->out_c; o++) {
        const double scale = (double)p[SK_GAMMA].data[o] / sqrt((double)p[SK_VAR].data[o] + SK_BN_EPS);
        const size_t at = (size_t)o * (size_t)(in * taps);

        if (bias) bias[o] = (double)p[SK_BETA].data[o] - (double)p[SK_MEAN].data[o] * scale;
        for (int t = 0; weight && t < taps; t++)
            for (int i = 0; i < in; i++)
                weight[at + (size_t)(t * in + i)] = scale * (double)p->data[at + (size_t)(i * taps + t)];
    }
}

void sk_net_folded(const sk_net *net, int layer, double *weight, double *bias) {
    const sk_unit *u = unit_of_layer(net, layer);
    const int index = u ? -1 : linear_param(net, layer);

    if (u) {
        fold_unit(net, u, weight, bias);
    } else if (index >= 0) {
        const sk_param *p = &net->params[index];

        for (size_t i = 0; weight && i < p[0].count; i++) weight[i] = (double)p[0].data[i];
        for (size_t i = 0; bias && i < p[1].count; i++) bias[i] = (double)p[1].data[i];
    }
}
