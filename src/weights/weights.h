/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of the weights room: weight tensors beside their batch norms, and the limits that weights are held to. */
#ifndef SK_WEIGHTS_WEIGHTS_H
#define SK_WEIGHTS_WEIGHTS_H

#include "base/base.h"
#include "net/model.h"
#include "siskin/weights.h"

/* ---- one weight tensor and the batch norm behind it ------------------------------------------------------------ */
typedef struct sk_site {
    const sk_layer *layer; /* the model's */
    size_t index;          /* of the layer */
    sk_tensor weight;
    float *gamma, *beta;   /* NULL: no batch norm */
    const float *variance;
    size_t channels, size; /* size: values of a channel */
} sk_site;
/* The sites of the layers that fit the patterns (NULL: all), in the order of execution; released with sk_free, alive as
 * long as the model. ARGUMENT: a pattern fits none. */
sk_status sk_sites_make(const sk_model *model, const char *layers, sk_site **out, size_t *count, sk_error *err);
/* A folded weight of channel c is the raw one times this. */
double sk_site_scale(const sk_site *site, size_t c);
/* DATA, naming the tensor, if a value is not finite. */
sk_status sk_site_check(const sk_site *site, sk_error *err);

/* ---- limits (limits.c) ------------------------------------------------------------------------------------------ */
typedef struct sk_limits {
    sk_adjust_options options; /* k filled in, layers not kept */
    sk_site *sites;
    size_t count;
    float (**bounds)[2]; /* per site: low and high of each group (one, or one per channel) */
} sk_limits;
/* From the weights that the model has now. Alive as long as the model. */
sk_status sk_limits_create(sk_model *model, const sk_adjust_options *options, sk_limits **out, sk_error *err);
void sk_limits_free(sk_limits *limits);
size_t sk_limits_groups(const sk_limits *limits, size_t site);
/* Clamps one site. row may be NULL. */
void sk_limits_clamp(const sk_limits *limits, size_t site, sk_adjust_row *row);
/* Projection during training. Raw, and layers without batch norm: clamps. Folded: a channel that has left its limits
 * gets a smaller gamma; clamping would not hold, since batch norm divides by the deviation that the weights make. */
void sk_limits_keep(const sk_limits *limits);

#define SK_RANGE_SPREAD 4.0 /* deviations that count as the range of what batch norm gives */
#define SK_RANGE_WANTED 6.0 /* range that costs nothing: where hard-swish and ReLU6 become straight */
/* The penalty on ranges,
 *     1/2 sum over weights of (distance to the limits)^2, in raw units,
 *   + 1/2 sum over channels of max(0, |beta| + 4 |gamma| - 6)^2 / 17,
 * and, with rate > 0, one step of steepest descent on it: parameters less rate times gradient, so that a step takes the
 * share `rate` of every excess away. The limits of folded weights are mapped to raw ones by the batch norm of the
 * moment, which counts as constant. Returns the penalty before the step. */
double sk_limits_pull(const sk_limits *limits, double rate);
/* The k that an option of 0 stands for. */
float sk_adjust_default_k(sk_adjust method);

#endif
