/* SPDX-License-Identifier: Apache-2.0 */
/* Quantisation inside a float network: every value that the int8 network would keep as a code is rounded to that code
 * and goes on as a float (fake quantisation, Jacob et al. 2018, Quantization and Training of Neural Networks for
 * Efficient Integer-Arithmetic-Only Inference). Activations are asymmetric per tensor with an exact zero, weights
 * symmetric per output channel or per tensor; docs/int8.md and src/quant/build.c decide the same codes.
 *
 * The gradient passes the rounding as if it were not there and stops at values outside the range. The ends of the range
 * have a gradient of their own (Esser et al. 2020, Learned Step Size Quantization; for two ends Bhalgat et al. 2020,
 * LSQ+): with s = (high - low) / 255 and v = x / s, d(out)/ds = round(v) - v inside of the range, d(out)/d(end) = 1
 * beyond that end. Internal. */
#ifndef SK_NET_FAKE_H
#define SK_NET_FAKE_H

#include "net/net.h"

/* One tensor that is kept as codes. Its channel c is worth equal[c] times what the codes of [low, high] say. */
typedef struct sk_quantizer {
    int on;             /* 0: the tensor goes on as it is */
    double low, high;   /* low <= 0 <= high */
    double pull_low, pull_high; /* values beyond these are drawn back with the strength `pull` of sk_fake */
    const float *equal; /* one factor per channel, NULL: 1 each; not owned */
    /* Of the step, by sk_quantizer_ready: the ends and the pulling ends in units of the scale. */
    double scale;
    sk_real least, most, pull_least, pull_most;
} sk_quantizer;

typedef struct sk_fake {
    sk_quantizer output[SK_MAX_LAYERS]; /* what the layer writes, after its activation */
    sk_quantizer before[SK_MAX_LAYERS]; /* a LINEAR layer before its activation, where that is a layer of its own */
    sk_quantizer input;     /* the normalised picture */
    int per_tensor;         /* weights of a layer share one scale; 0: each output channel has its own */
    double pull;            /* gradient per code of excess of values beyond pull_low and pull_high; 0: none */
    double d_low[SK_MAX_LAYERS], d_high[SK_MAX_LAYERS]; /* gradients of the ends of output[], set by every step */
} sk_fake;

/* Scale and codes from low and high, as the .skn writer has them. */
void sk_quantizer_ready(sk_quantizer *q);
/* The picture's own range: all that a byte can be worth. */
void sk_fake_ready(sk_fake *fake, const sk_card *card);
/* to = the values of the codes of act(x); rows x c values; in place. A quantizer that is off only activates. */
void sk_quantize_values(const sk_quantizer *q, int rows, int c, const sk_real *x, sk_act act, sk_real *to);
/* Gradient d of the rounded values becomes that of act(x), in place; sums [2] += the gradients of low and high. pull:
 * of sk_fake, 0 for none. A quantizer that is off changes nothing. */
void sk_quantize_backward(const sk_quantizer *q, int rows, int c, const sk_real *x, sk_act act, sk_real pull,
                          sk_real *d, double *sums);
/* Weights [rows][c] in place: the output channels are the rows or, with by_column, the columns. Each has a scale of its
 * own (max|w| / 127), with per_tensor all have the largest. factor (NULL: 1) belongs to the channels: codes are those
 * of w * factor. */
void sk_quantize_weights(sk_real *w, int rows, int c, int by_column, int per_tensor, const float *factor);
#endif
