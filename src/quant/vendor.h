/* SPDX-License-Identifier: Apache-2.0 */
/* The int8 network of the vendor's converter: which tensors it rounds, and how (docs/rknn.md). Float arithmetic on
 * rounded numbers, as its simulator does it. Internal. */
#ifndef SK_QUANT_VENDOR_H
#define SK_QUANT_VENDOR_H

#include "quant/quant.h"

#define SK_VENDOR_STAGES 6 /* 7^6: wider than any picture */

/* Whole numbers least..most times scale. */
typedef struct sk_vendor_codes {
    float scale, least, most;
} sk_vendor_codes;

/* The tensors that are rounded around one layer. */
typedef struct sk_vendor_layer {
    int before; /* what goes into the activation is a tensor of its own */
    int after;  /* the output is rounded: not that of a convolution which an addition alone reads */
    sk_act act; /* of a layer with `before`; the network's layer then has none */
    sk_vendor_codes in, out, gate;
    int stages; /* of a POOL: windows of 7, the last of what is left */
    sk_vendor_codes stage[SK_VENDOR_STAGES]; /* without the last, which is `out` */
    float gain[SK_VENDOR_STAGES];            /* what each window's sum is multiplied by, rounded */
} sk_vendor_layer;

/* Weights of a network, and that network. */
typedef struct sk_vendor_weights {
    float **weight, **bias;
    sk_quant_net net;
    sk_float_net *floats;
} sk_vendor_weights;

/* One way through the network: with the weights of floats and gate, on tensors of its own. */
typedef struct sk_vendor_pass {
    const sk_float_net *floats, *gate;
    int rounded;
    sk_float_run run;
    float *gates, *stages; /* of the split layer; of one pool */
} sk_vendor_pass;

struct sk_vendor {
    sk_card card;
    sk_quant_folded folded;   /* activations that follow a rounding are taken out of its layers */
    sk_vendor_weights coded;  /* folded's layers with rounded weights */
    sk_float_net *real;
    int split;                /* the layer whose hard-swish is a product of two convolutions (sk_vendor_form), or -1 */
    sk_layer gate_layer;      /* the second of them, a network of its own */
    sk_vendor_weights gate, gate_coded;
    sk_vendor_pass pass;
    sk_vendor_layer *layers;
    sk_vendor_codes input;
};

/* The 256 codes of a range, which is widened to hold 0; an empty one becomes -1..1. */
sk_vendor_codes sk_vendor_codes_of(double low, double high);
void sk_vendor_round(const sk_vendor_codes *codes, float *data, size_t count);
/* Takes the form, NULL: folds, and finds out what is rounded; ranges and weights are still to be chosen. Can run
 * unrounded. */
sk_status sk_vendor_begin(const sk_model *model, const sk_vendor_form *form, sk_vendor **out, sk_error *err);
/* Copies of a layer's weights and biases on the grid of these codes: one per output channel, or one for all (count 1);
 * `in`: scale of what the layer reads. */
void sk_vendor_round_weights(const sk_layer *layer, float in, const sk_vendor_codes *codes, size_t count,
                             const float *weight, const float *bias, float *out_weight, float *out_bias);
/* The codes that `normal` gives weights: per output channel, or one for all. */
void sk_vendor_weight_codes(const sk_layer *layer, const float *weight, int by_layer, sk_vendor_codes *codes);
/* Scale of what layer `index` reads. */
float sk_vendor_in_scale(const sk_vendor *net, size_t index);
/* What a window of the float network's pool multiplies its sum by: the same in every stage. */
float sk_vendor_pool_gain(const sk_layer *layer, int stages);
/* Makes the rounded network ready; or frees it if `status` is a failure. */
sk_status sk_vendor_end(sk_vendor *net, sk_status status, sk_vendor **out, sk_error *err);

enum { SK_VENDOR_IN = -1, SK_VENDOR_OUT = SK_VENDOR_STAGES, SK_VENDOR_GATE, SK_VENDOR_PLACES = SK_VENDOR_GATE + 2 };
/* Smallest and largest value of every tensor of a layer, by place + 1. */
typedef struct sk_vendor_seen {
    float low[SK_VENDOR_PLACES], high[SK_VENDOR_PLACES];
} sk_vendor_seen;
/* What a layer's tensors show becomes their codes, as `normal` chooses them. */
void sk_vendor_choose(sk_vendor *net, size_t layer, const sk_vendor_seen *seen);

/* A pass with room of its own, unrounded on the real weights; for sk_vendor_pass_close, whatever becomes of it. */
sk_status sk_vendor_pass_open(const sk_vendor *net, sk_vendor_pass *pass, sk_error *err);
void sk_vendor_pass_close(sk_vendor_pass *pass);
/* One layer of a pass with its activation; what is or would be rounded widens `seen` (NULL: none) before that. */
void sk_vendor_step(const sk_vendor *net, const sk_vendor_pass *pass, size_t layer, sk_vendor_seen *seen);
#endif
