/* SPDX-License-Identifier: Apache-2.0 */
/* Builds MobileNetV3-Small and -Large exactly as torchvision does: names, order and shapes of the parameters, symmetric
 * padding (k-1)/2, squeeze to make_divisible(expanded/4, 8), classifier Linear-HSwish-Dropout-Linear. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "net/net.h"

typedef struct block_row {
    int kernel, expanded, out, se, hswish, stride;
} block_row;

static const block_row small_rows[] = {
    {3, 16, 16, 1, 0, 2},  {3, 72, 24, 0, 0, 2},  {3, 88, 24, 0, 0, 1},  {5, 96, 40, 1, 1, 2},
    {5, 240, 40, 1, 1, 1}, {5, 240, 40, 1, 1, 1}, {5, 120, 48, 1, 1, 1}, {5, 144, 48, 1, 1, 1},
    {5, 288, 96, 1, 1, 2}, {5, 576, 96, 1, 1, 1}, {5, 576, 96, 1, 1, 1},
};
static const block_row large_rows[] = {
    {3, 16, 16, 0, 0, 1},   {3, 64, 24, 0, 0, 2},   {3, 72, 24, 0, 0, 1},   {5, 72, 40, 1, 0, 2},
    {5, 120, 40, 1, 0, 1},  {5, 120, 40, 1, 0, 1},  {3, 240, 80, 0, 1, 2},  {3, 200, 80, 0, 1, 1},
    {3, 184, 80, 0, 1, 1},  {3, 184, 80, 0, 1, 1},  {3, 480, 112, 1, 1, 1}, {3, 672, 112, 1, 1, 1},
    {5, 672, 160, 1, 1, 2}, {5, 960, 160, 1, 1, 1}, {5, 960, 160, 1, 1, 1},
};

static int make_divisible(int value) {
    int rounded = (value + 4) / 8 * 8;

    if (rounded < 8) rounded = 8;
    return rounded * 10 < value * 9 ? rounded + 8 : rounded;
}

static void add_param(sk_net *net, const char *module, const char *suffix, const int *shape, int rank, int trainable) {
    sk_param *p = &net->params[net->param_count++];

    snprintf(p->name, sizeof p->name, "%.48s.%s", module, suffix);
    p->rank = rank;
    p->count = 1;
    for (int i = 0; i < 4; i++) {
        p->shape[i] = i < rank ? shape[i] : 1;
        p->count *= (size_t)p->shape[i];
    }
    p->trainable = trainable;
    net->value_count += p->count;
}

static sk_layer *add_layer(sk_net *net, const char *name, sk_op op, sk_act act, int input) {
    sk_layer *layer = &net->layers[net->layer_count++];

    snprintf(layer->name, sizeof layer->name, "%s", name);
    layer->op = op;
    layer->act = act;
    layer->kernel = layer->stride = 1;
    layer->input = input;
    layer->input2 = -1;
    if (input >= 0) {
        const sk_layer *from = &net->layers[input];

        layer->in_c = layer->out_c = from->out_c;
        layer->in_h = layer->out_h = from->out_h;
        layer->in_w = layer->out_w = from->out_w;
    }
    return layer;
}

/* `module` holds .0 (convolution) and .1 (batch norm). */
static int add_unit(sk_net *net, const char *module, sk_op op, sk_act act, int in_c, int out_c, int kernel,
                    int stride) {
    const int input = net->layer_count - 1;
    sk_unit *u = &net->units[net->unit_count];
    sk_layer *layer;
    char name[64];
    const int shape[4] = {out_c, op == SK_OP_DEPTHWISE ? 1 : in_c, kernel, kernel};

    u->op = op;
    u->act = act;
    u->kernel = kernel;
    u->stride = stride;
    u->pad = (kernel - 1) / 2;
    u->in_c = in_c;
    u->out_c = out_c;
    u->in_side = input < 0 ? net->card.size : net->layers[input].out_h;
    u->out_side = (u->in_side - 1) / stride + 1;
    u->param = net->param_count;
    u->layer = net->layer_count;
    snprintf(name, sizeof name, "%.48s.0", module);
    add_param(net, name, "weight", shape, 4, 1);
    snprintf(name, sizeof name, "%.48s.1", module);
    add_param(net, name, "weight", &out_c, 1, 1);
    add_param(net, name, "bias", &out_c, 1, 1);
    add_param(net, name, "running_mean", &out_c, 1, 0);
    add_param(net, name, "running_var", &out_c, 1, 0);
    layer = add_layer(net, module, op, act, input);
    layer->kernel = kernel;
    layer->stride = stride;
    layer->pad = u->pad;
    layer->in_c = in_c;
    layer->out_c = out_c;
    layer->in_h = layer->in_w = u->in_side;
    layer->out_h = layer->out_w = u->out_side;
    layer->has_bn = 1;
    layer->params = net->params[u->param].count + 2 * (size_t)out_c;
    layer->macs = net->params[u->param].count * sk_unit_rows(u);
    return net->unit_count++;
}

static void add_linear(sk_net *net, const char *module, sk_act act, int in, int out, int rank) {
    const int shape[4] = {out, in, 1, 1};
    sk_layer *layer = add_layer(net, module, SK_OP_LINEAR, act, net->layer_count - 1);

    layer->out_c = out;
    layer->macs = (uint64_t)in * (uint64_t)out;
    layer->params = layer->macs + (uint64_t)out;
    add_param(net, module, "weight", shape, rank, 1);
    add_param(net, module, "bias", shape, 1, 1);
}

static void add_pool(sk_net *net, const char *name) {
    sk_layer *layer = add_layer(net, name, SK_OP_POOL, SK_ACT_NONE, net->layer_count - 1);

    layer->out_h = layer->out_w = 1;
}

static void add_squeeze(sk_net *net, sk_block *b, const char *module, int channels) {
    const int source = net->layer_count - 1;
    char name[64];

    b->squeeze = make_divisible(channels / 4);
    b->se_param = net->param_count;
    b->se_layer = net->layer_count;
    snprintf(name, sizeof name, "%.48s.avgpool", module);
    add_pool(net, name);
    snprintf(name, sizeof name, "%.48s.fc1", module);
    add_linear(net, name, SK_ACT_RELU, channels, b->squeeze, 4);
    snprintf(name, sizeof name, "%.48s.fc2", module);
    add_linear(net, name, SK_ACT_HSIGMOID, b->squeeze, channels, 4);
    add_layer(net, module, SK_OP_SCALE, SK_ACT_NONE, source)->input2 = b->se_layer + 2;
}

static void add_block(sk_net *net, int index, const block_row *row) {
    sk_block *b = &net->blocks[net->block_count++];
    const int block_input = net->layer_count - 1, in_c = net->layers[block_input].out_c;
    const sk_act act = row->hswish ? SK_ACT_HSWISH : SK_ACT_RELU;
    int part = 0;
    char name[64];

    b->expand = -1;
    if (row->expanded != in_c) {
        snprintf(name, sizeof name, "features.%d.block.%d", index, part++);
        b->expand = add_unit(net, name, SK_OP_POINTWISE, act, in_c, row->expanded, 1, 1);
    }
    snprintf(name, sizeof name, "features.%d.block.%d", index, part++);
    b->dw = add_unit(net, name, SK_OP_DEPTHWISE, act, row->expanded, row->expanded, row->kernel, row->stride);
    if (row->se) {
        snprintf(name, sizeof name, "features.%d.block.%d", index, part++);
        add_squeeze(net, b, name, row->expanded);
    }
    snprintf(name, sizeof name, "features.%d.block.%d", index, part);
    b->project = add_unit(net, name, SK_OP_POINTWISE, SK_ACT_NONE, row->expanded, row->out, 1, 1);
    b->residual = row->stride == 1 && in_c == row->out;
    b->add_layer = -1;
    if (b->residual) {
        snprintf(name, sizeof name, "features.%d", index);
        b->add_layer = net->layer_count;
        add_layer(net, name, SK_OP_ADD, SK_ACT_NONE, net->layer_count - 1)->input2 = block_input;
    }
}

static void build(sk_net *net) {
    const int large = net->card.arch == SK_ARCH_V3_LARGE;
    const block_row *rows = large ? large_rows : small_rows;
    const int count = large ? (int)(sizeof large_rows / sizeof *rows) : (int)(sizeof small_rows / sizeof *rows);
    char name[64];

    add_unit(net, "features.0", SK_OP_CONV, SK_ACT_HSWISH, 3, 16, 3, 2);
    for (int i = 0; i < count; i++) add_block(net, i + 1, &rows[i]);
    net->features = 6 * rows[count - 1].out;
    net->hidden = large ? 1280 : 1024;
    net->classes = net->card.classes;
    snprintf(name, sizeof name, "features.%d", count + 1);
    net->head = add_unit(net, name, SK_OP_POINTWISE, SK_ACT_HSWISH, rows[count - 1].out, net->features, 1, 1);
    net->pool_layer = net->layer_count;
    add_pool(net, "avgpool");
    net->classifier = net->param_count;
    add_linear(net, "classifier.0", SK_ACT_HSWISH, net->features, net->hidden, 2);
    add_linear(net, "classifier.3", SK_ACT_NONE, net->hidden, net->classes, 2);
}

sk_status sk_net_create(const sk_card *card, sk_net **out, sk_error *err) {
    const sk_status status = sk_card_check(card, err);
    sk_net *net;
    sk_real *at;

    *out = NULL;
    if (status != SK_OK) return status;
    net = sk_calloc(1, sizeof *net);
    if (!net) return sk_fail_memory(err, "the network");
    net->card = *card;
    build(net);
    net->values = sk_calloc(net->value_count, sizeof *net->values);
    if (!net->values) {
        sk_net_free(net);
        return sk_fail_memory(err, "the network's parameters");
    }
    at = net->values;
    for (int i = 0; i < net->param_count; i++) {
        net->params[i].data = at;
        at += net->params[i].count;
    }
    *out = net;
    return SK_OK;
}

void sk_net_free(sk_net *net) {
    if (net) sk_free(net->values);
    sk_free(net);
}

/* Convolutions (squeeze-excitation too): normal, Kaiming fan-out; linear: normal, 0.01; batch norms 1 and 0. Each
 * tensor draws from its own stream, so that a change of one layer leaves the others' numbers alone. */
void sk_net_init(sk_net *net, uint64_t seed) {
    for (int i = 0; i < net->param_count; i++) {
        sk_param *p = &net->params[i];
        sk_rng rng = sk_rng_make(seed, sk_hash_bytes(p->name, strlen(p->name)), 0);
        const double fan_out = (double)p->shape[0] * p->shape[2] * p->shape[3];
        const double std = p->rank == 4 ? sqrt(2 / fan_out) : 0.01;
        const int ones = p->rank == 1 && (sk_has_suffix(p->name, ".weight") || sk_has_suffix(p->name, ".running_var"));

        for (size_t j = 0; j < p->count; j++)
            p->data[j] = p->rank > 1 ? (sk_real)(std * sk_rng_normal(&rng)) : (sk_real)ones;
    }
}
