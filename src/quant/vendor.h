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
    sk_vendor_codes in, out;
    int stages; /* of a POOL: windows of 7, the last of what is left */
    sk_vendor_codes stage[SK_VENDOR_STAGES]; /* without the last, which is `out` */
    float gain[SK_VENDOR_STAGES];            /* what each window's sum is multiplied by, rounded */
} sk_vendor_layer;

struct sk_vendor {
    sk_card card;
    sk_quant_folded folded;   /* activations that follow a rounding are taken out of its layers */
    float **weight, **bias;   /* the rounded ones */
    sk_quant_net rounded;     /* folded's layers with these */
    sk_float_net *real, *coded;
    sk_float_run run;
    float *stages;            /* of one pool */
    sk_vendor_layer *layers;
    sk_vendor_codes input;
};

/* The 256 codes of a range, which is widened to hold 0; an empty one becomes -1..1. */
sk_vendor_codes sk_vendor_codes_of(double low, double high);
void sk_vendor_round(const sk_vendor_codes *codes, float *data, size_t count);
/* Folds and finds out what is rounded; ranges and weights are still to be chosen. */
sk_status sk_vendor_begin(const sk_model *model, sk_vendor **out, sk_error *err);
/* Weights and biases of a layer once its scales are chosen: one per output channel, or one for all (count 1). */
void sk_vendor_round_weights(sk_vendor *net, size_t layer, const sk_vendor_codes *codes, size_t count);
/* What a window of the float network's pool multiplies its sum by: the same in every stage. */
float sk_vendor_pool_gain(const sk_layer *layer, int stages);
/* Makes the rounded network ready, or frees it if `status` is a failure. */
sk_status sk_vendor_end(sk_vendor *net, sk_status status, sk_vendor **out, sk_error *err);

enum { SK_VENDOR_IN = -1, SK_VENDOR_OUT = SK_VENDOR_STAGES };
/* One layer of net->run with its activation; not rounded: of the float network, each tensor shown to `watch` (NULL:
 * none): `place` SK_VENDOR_IN, a stage of a pool, or SK_VENDOR_OUT. */
typedef void (*sk_vendor_watch)(void *user, size_t layer, int place, const float *data, size_t count);
void sk_vendor_step(sk_vendor *net, size_t layer, int rounded, sk_vendor_watch watch, void *user);
#endif
