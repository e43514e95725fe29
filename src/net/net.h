/* SPDX-License-Identifier: Apache-2.0 */
/* The network as data: units (convolution + batch norm + activation), inverted residual blocks made of them, parameters
 * in torch's order and layouts, and the list of layers that the public header promises. Values are sk_real, so that the
 * same sources also build in double precision; model.c and engine.c put the public float interface on top. Internal. */
#ifndef SK_NET_NET_H
#define SK_NET_NET_H

#include "base/base.h"
#include "kernels/kernels.h"
#include "siskin/model.h"

#define SK_BN_EPS 1e-3
#define SK_BN_MOMENTUM 0.01
#define SK_NET_MAX_CLASSES 1000
#define SK_NET_MAX_SIZE 1024

enum { SK_MAX_UNITS = 48, SK_MAX_BLOCKS = 16, SK_MAX_LAYERS = 128, SK_MAX_PARAMS = 288 };

typedef struct sk_param {
    char name[64];
    int rank, shape[4];
    size_t count;
    sk_real *data; /* into sk_net.values */
    int trainable;
} sk_param;

/* Convolution without bias, batch norm, activation. Its five parameters follow each other in torch's order. */
enum { SK_WEIGHT = 0, SK_GAMMA, SK_BETA, SK_MEAN, SK_VAR };
typedef struct sk_unit {
    sk_op op; /* CONV, DEPTHWISE or POINTWISE */
    sk_act act;
    int kernel, stride, pad, in_c, out_c, in_side, out_side;
    int param; /* index of the weight; SK_GAMMA... are added to it */
    int layer;
} sk_unit;

/* Inverted residual: [expand,] depthwise, [squeeze-excitation,] project, [add]. */
typedef struct sk_block {
    int expand; /* unit or -1 */
    int dw, project;
    int squeeze;  /* channels of the squeeze, 0: none */
    int se_param; /* fc1.weight, fc1.bias, fc2.weight, fc2.bias */
    int se_layer; /* POOL, LINEAR, LINEAR, SCALE */
    int residual;
    int add_layer;
} sk_block;

typedef struct sk_net {
    sk_card card;
    sk_unit units[SK_MAX_UNITS]; /* units[0] is the stem */
    int unit_count;
    sk_block blocks[SK_MAX_BLOCKS];
    int block_count;
    int head;                      /* unit of the last convolution */
    int features, hidden, classes; /* pooled features, width of the classifier's first layer, logits */
    int classifier;                /* parameter index: 0.weight, 0.bias, 3.weight, 3.bias */
    int pool_layer;                /* then the two linear layers */
    sk_param params[SK_MAX_PARAMS];
    int param_count;
    sk_real *values; /* all parameters */
    size_t value_count;
    sk_layer layers[SK_MAX_LAYERS];
    int layer_count;
} sk_net;

/* Graph and zeroed parameters; then initialised as torchvision does. */
sk_status sk_net_create(const sk_card *card, sk_net **out, sk_error *err);
void sk_net_free(sk_net *net);
void sk_net_init(sk_net *net, uint64_t seed);
sk_status sk_card_check(const sk_card *card, sk_error *err);

static inline size_t sk_unit_rows(const sk_unit *u) { return (size_t)u->out_side * (size_t)u->out_side; }
static inline size_t sk_unit_size(const sk_unit *u) /* values of one picture's output */
{
    return sk_unit_rows(u) * (size_t)u->out_c;
}
static inline sk_dw sk_unit_dw(const sk_unit *u) {
    return (sk_dw){.h = u->in_side,
                   .w = u->in_side,
                   .c = u->out_c,
                   .oh = u->out_side,
                   .ow = u->out_side,
                   .kernel = u->kernel,
                   .stride = u->stride,
                   .pad = u->pad};
}

/* Folded weight (O,H,W,I; depthwise [C][k][k]) and bias of any layer with weights, in double. NULL: skip. */
void sk_net_folded(const sk_net *net, int layer, double *weight, double *bias);
size_t sk_net_weight_count(const sk_net *net, int layer);
/* A byte v of colour ch is worth (v - mean[ch]) * gain[ch]. */
void sk_net_normalisation(const sk_card *card, sk_real mean[3], sk_real gain[3]);
/* Depthwise [C][k][k] to [k][k][C], and OIHW to OHWI. */
void sk_net_pack_dw(const sk_real *weight, int c, int taps, sk_real *packed);
void sk_net_pack_ohwi(const sk_real *weight, int out_c, int in_c, int taps, sk_real *packed);

/* ---- inference ---- */
typedef void (*sk_net_tap)(void *user, size_t layer, const sk_real *data, int n, int h, int w, int c);
/* Folded and packed weights plus working memory of `threads` threads. */
typedef struct sk_runner sk_runner;
sk_status sk_runner_create(const sk_net *net, int threads, sk_runner **out, sk_error *err);
void sk_runner_free(sk_runner *runner);
int sk_runner_threads(const sk_runner *runner);
/* Folds again: after the parameters or the card's normalisation have changed. */
sk_status sk_runner_update(sk_runner *runner, sk_error *err);
/* How many of `threads` threads serve n pictures: no more than pictures, but a few for one picture too. */
int sk_run_threads(int n, int threads);
/* logits [n][classes] or NULL, features [n][features] or NULL. Threads share the pictures out, or the rows of one
 * picture if there are fewer pictures than threads. With a tap all runs in one thread, one picture after the other. */
void sk_runner_run(sk_runner *runner, const uint8_t *images, int n, int threads, sk_real *logits, sk_real *features,
                   sk_net_tap tap, void *tap_user);
#endif
