/* SPDX-License-Identifier: Apache-2.0 */
/* Channels with units of their own. A layer may write each channel divided by a factor, if whoever reads it multiplies
 * by the factor again; all channels can then fill the codes of their one scale. A depthwise layer reads at no cost, as
 * its weights have one scale per channel anyway. A dense layer takes the factors into the columns of its weights, where
 * they share a scale with others: there the factor is a compromise between activation and weight (cross-layer
 * equalisation, Nagel et al. 2019, Data-Free Quantization Through Weight Equalization and Bias Correction; with data as
 * here, Xiao et al. 2022, SmoothQuant). Means and gated products keep a channel's factor. Both work behind a hard-swish
 * too, since the activation is computed before the channel is divided. */
#include <math.h>
#include <string.h>

#include "quant/quant.h"
#include "rt/skn.h"

void sk_channels_widen(float *low, float *high, const float *data, int channels) {
    for (int c = 0; c < channels; c++) {
        low[c] = data[c] < low[c] ? data[c] : low[c];
        high[c] = data[c] > high[c] ? data[c] : high[c];
    }
}

static double factor_of(double low, double high, double below, double largest) {
    const double factor = fmax(high, low < 0 && below > 0 ? -low / below : 0);
    return fmax(factor, largest / 1000); /* dead channels: no code of theirs matters */
}

void sk_channels_equalize(float *low, const float *high, int channels, sk_range *range) {
    double largest = 1e-6, least = 0, best = INFINITY, below = 0;
    for (int c = 0; c < channels; c++) {
        largest = fmax(largest, fmax(high[c], -low[c]));
        least = fmin(least, low[c]);
    }
    for (int i = 0; i < 8; i++) { /* the range [-side, 1]: which side makes the steps finest on geometric average? */
        const double side = least < 0 ? ldexp(1, -i) : 0;
        double sum = channels * log(1 + side);
        for (int c = 0; c < channels; c++) {
            sum += log(factor_of(low[c], high[c], side, largest));
        }
        if (sum < best) {
            best = sum;
            below = side;
        }
    }
    for (int c = 0; c < channels; c++) {
        low[c] = (float)factor_of(low[c], high[c], below, largest);
    }
    range->low = (float)-below;
    range->high = 1;
}

/* ---- which tensors ------------------------------------------------------------------------------------------- */

/* Tensors that share factors with tensor `root` into member[], 1 each; 0 if one of their readers cannot take them. */
static int spread(const sk_quant_net *net, size_t root, int dense_too, char *member) {
    const int features = sk_quant_features(net->layers, net->count); /* are told to callers with one scale */
    int readers = 0;
    memset(member, 0, net->count);
    member[root] = 1;
    for (size_t k = root + 1; k < net->count; k++) {
        const sk_layer *l = &net->layers[k];
        const int reads = l->input >= 0 && member[l->input];
        const int reads_second = sk_layer_reads_two(l) && l->input2 >= 0 && member[l->input2];
        if (!reads && !reads_second) {
            continue;
        }
        readers++;
        const int weights = l->op == SK_OP_DEPTHWISE || (dense_too && sk_layer_has_weights(l));
        const int keeps = dense_too && !reads_second && (l->op == SK_OP_POOL || l->op == SK_OP_SCALE);
        if (reads_second || (!weights && (!keeps || (int)k == features))) {
            return 0;
        }
        member[k] = (char)keeps;
    }
    return readers > 0;
}

static int may_be_root(const sk_quant_net *net, size_t i) {
    return sk_layer_has_weights(&net->layers[i]) && net->layers[i].act != SK_ACT_HSIGMOID;
}

int sk_quant_may_equalise(const sk_quant_net *net, size_t layer) {
    char member[SK_SKN_MAX_LAYERS];
    return net->count <= SK_SKN_MAX_LAYERS && may_be_root(net, layer) && spread(net, layer, 0, member);
}

static sk_status for_groups(sk_quant_job *j, sk_status (*work)(sk_quant_job *, size_t root, const char *member)) {
    const sk_quant_net *net = j->net;
    sk_status status = SK_OK;
    char *member = sk_alloc(net->count, 1);
    if (!member) {
        return sk_fail_memory(j->err, "the groups of tensors");
    }
    for (size_t i = 0; status == SK_OK && i < net->count; i++) {
        if (may_be_root(net, i) && (spread(net, i, 0, member) || (j->options->equalise == SK_QUANT_EQUALISE_ALL &&
                                                                  spread(net, i, 1, member)))) {
            status = work(j, i, member);
        }
    }
    sk_free(member);
    return status;
}

static sk_status mark_group(sk_quant_job *j, size_t root, const char *member) {
    (void)root;
    for (size_t i = 0; i < j->net->count; i++) {
        if (member[i]) {
            j->equal[i] = sk_calloc(2 * (size_t)j->net->layers[i].out_c, sizeof **j->equal);
            if (!j->equal[i]) {
                return sk_fail_memory(j->err, "the channels' ranges");
            }
        }
    }
    return SK_OK;
}

sk_status sk_quant_mark(sk_quant_job *j) {
    return j->options->equalise == SK_QUANT_EQUALISE_NONE ? SK_OK : for_groups(j, mark_group);
}

/* ---- factors ------------------------------------------------------------------------------------------------- */

/* Largest share of its row's maximum that a weight of input channel c has. */
static double column(const sk_quant_net *net, size_t layer, int c) {
    const sk_layer *l = &net->layers[layer];
    const int depth = sk_layer_depth(l);
    double most = 0;
    for (int o = 0; o < l->out_c; o++) {
        const float *row = net->weight[layer] + (size_t)o * (size_t)depth;
        double all = 1e-12, mine = 0;
        for (int k = 0; k < depth; k++) {
            all = fmax(all, fabs((double)row[k]));
            mine = k % l->in_c == c ? fmax(mine, fabs((double)row[k])) : mine;
        }
        most = fmax(most, mine / all);
    }
    return most;
}

/* Reader with dense weights of a tensor of the group that has most pixels; -1: all are depthwise. */
static int dense_reader(const sk_quant_net *net, const char *member) {
    int found = -1;
    for (size_t k = 0; k < net->count; k++) {
        const sk_layer *l = &net->layers[k];
        if (l->input >= 0 && member[l->input] && sk_layer_has_weights(l) && l->op != SK_OP_DEPTHWISE &&
            (found < 0 || l->in_h > net->layers[found].in_h)) {
            found = (int)k;
        }
    }
    return found;
}

static sk_status equalise_group(sk_quant_job *j, size_t root, const char *member) {
    const int reader = dense_reader(j->net, member), channels = j->net->layers[root].out_c;
    if (reader < 0) {
        sk_channels_equalize(j->equal[root], j->equal[root] + channels, channels, &j->ranges[root]);
        return SK_OK;
    }
    float *factor = sk_alloc((size_t)channels, sizeof *factor);
    if (!factor) {
        return sk_fail_memory(j->err, "the channels' factors");
    }
    const float *low = j->equal[j->net->layers[reader].input], *high = low + channels;
    double largest = 1e-6;
    for (int c = 0; c < channels; c++) {
        largest = fmax(largest, fmax(high[c], -low[c]));
    }
    for (int c = 0; c < channels; c++) {
        const double range = fmax(fmax(high[c], -low[c]), largest / 1000);
        factor[c] = (float)sqrt(range / fmax(column(j->net, (size_t)reader, c), 1e-3));
    }
    for (size_t i = 0; i < j->net->count; i++) {
        if (!member[i]) {
            continue;
        }
        sk_range *r = &j->ranges[i];
        r->low = r->high = 0;
        for (int c = 0; c < channels; c++) {
            r->low = fminf(r->low, j->equal[i][c] / factor[c]);
            r->high = fmaxf(r->high, j->equal[i][c + channels] / factor[c]);
        }
        memcpy(j->equal[i], factor, (size_t)channels * sizeof *factor);
    }
    sk_free(factor);
    return SK_OK;
}

sk_status sk_quant_equalise(sk_quant_job *j) {
    return j->options->equalise == SK_QUANT_EQUALISE_NONE ? SK_OK : for_groups(j, equalise_group);
}

void sk_quant_settle_factors(sk_quant_job *j) {
    for (size_t i = 0; i < j->net->count; i++) {
        const sk_layer *l = &j->net->layers[i];
        if (!j->equal[i]) {
            continue;
        }
        if (!sk_layer_has_weights(l)) { /* a mean or gated product keeps what it reads */
            memcpy(j->equal[i], j->equal[l->input], (size_t)l->out_c * sizeof **j->equal);
        }
    }
}
