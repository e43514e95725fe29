/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of quantisation: a folded network that runs in float, ranges of activations, scales and codes of weights, a
 * walk over the int8 network layer by layer, the .skn writer. sk_quant_run chains them as stages that share one
 * sk_quant_job. Internal. */
#ifndef SK_QUANT_QUANT_H
#define SK_QUANT_QUANT_H

#include "base/base.h"
#include "kernels/int8/int8.h"
#include "siskin/quant.h"

/* ---- a folded network (float_net.c) ------------------------------------------------------------------------ */
/* Layers in the order of execution and, of those with weights, what sk_model_folded gives; NULL for the others. */
typedef struct sk_quant_net {
    const sk_card *card;
    const sk_layer *layers;
    size_t count;
    float *const *weight;
    float *const *bias;
    const struct sk_ranges *learned; /* what the model brings along, NULL: nothing */
} sk_quant_net;
static inline int sk_layer_has_weights(const sk_layer *l) {
    return l->op == SK_OP_CONV || l->op == SK_OP_DEPTHWISE || l->op == SK_OP_POINTWISE || l->op == SK_OP_LINEAR;
}
static inline int sk_layer_reads_two(const sk_layer *l) {
    return l->op == SK_OP_SCALE || l->op == SK_OP_ADD;
}
/* Kernel positions, and weights of one output channel. */
static inline int sk_layer_taps(const sk_layer *l) {
    return l->op == SK_OP_CONV || l->op == SK_OP_DEPTHWISE ? l->kernel * l->kernel : 1;
}
static inline int sk_layer_depth(const sk_layer *l) {
    return sk_layer_taps(l) * (l->op == SK_OP_DEPTHWISE ? 1 : l->in_c);
}

/* A model's network, folded. */
typedef struct sk_quant_folded {
    sk_quant_net net; /* points at what follows and at the model's card */
    sk_layer *layers;
    float **weight, **bias;
    size_t weights;
} sk_quant_folded;
sk_status sk_quant_fold(const sk_model *model, sk_quant_folded *out, sk_error *err);
void sk_quant_unfold(sk_quant_folded *folded);

/* Packed weights; any number of runs may share it. The network outlives it. */
typedef struct sk_float_net sk_float_net;
sk_status sk_float_net_create(const sk_quant_net *net, sk_float_net **out, sk_error *err);
void sk_float_net_free(sk_float_net *floats);
/* After a change of that layer's weights. */
void sk_float_net_renew(sk_float_net *floats, size_t layer);
/* All tensors of one picture, NHWC: tensor[0] is the normalised picture, tensor[i + 1] the output of layer i. */
typedef struct sk_float_run {
    float **tensor;
    float *values, *patches;
} sk_float_run;
sk_status sk_float_run_create(const sk_float_net *floats, sk_float_run *out, sk_error *err);
void sk_float_run_free(sk_float_run *run);
void sk_float_run_picture(const sk_float_net *floats, sk_float_run *run, const uint8_t *image);
void sk_float_run_layer(const sk_float_net *floats, sk_float_run *run, size_t layer);
/* `rows` patches (sk_patch_float) through a layer's weights, to [rows][out_c] before the activation. */
void sk_float_patches(const sk_float_net *floats, size_t layer, const float *patches, int rows, float *out);

/* ---- places of a tensor that stand for all (patch.c) --------------------------------------------------------- */
#define SK_PLACES 96
/* Output pixels of a layer that are looked at in each picture, and the `index`-th of picture `picture`. */
int sk_place_count(const sk_layer *layer);
size_t sk_place(const sk_layer *layer, size_t number, int picture, int index, uint64_t seed);
/* What the weights of one output pixel see: [taps][in_c]; 0 outside of the picture. */
void sk_patch_float(const sk_layer *layer, const float *in, size_t pixel, float *out);
/* The same of codes less their zero point. */
void sk_patch_codes(const sk_layer *layer, const int8_t *in, int int16, int zero, size_t pixel, float *out);

/* ---- ranges (range.c) -------------------------------------------------------------------------------------- */
#define SK_RANGE_BINS 4096
typedef struct sk_range {
    float low, high;
    uint64_t seen;
    uint64_t *bins; /* SK_RANGE_BINS over [low, high], NULL for min and max alone */
} sk_range;
void sk_range_widen(sk_range *range, const float *data, size_t count);
/* Counts values divided by factor[channel]; factor NULL: 1. */
void sk_range_count(sk_range *range, const float *factor, const float *data, size_t pixels, int channels);
/* The range that the observer chooses of what was counted; contains 0. mmse: least squared error of 256 codes; kl:
 * least divergence of the coded distribution from the real one (after Migacz 2017, 8-bit inference with TensorRT),
 * here with both ends free; percentile: the values at 100 - percentile and at percentile. */
sk_status sk_range_choose(const sk_range *range, sk_quant_observer observer, double percentile, float out[2],
                          sk_error *err);
/* The scale s of codes -127..127 for which sum (w - s*code)^2 is least, at most max|w| / 127. */
double sk_weight_scale_best(const float *weights, size_t count);

/* ---- channels with units of their own (equalise.c) ------------------------------------------------------------ */
/* Low and high per channel of one pixel. */
void sk_channels_widen(float *low, float *high, const float *data, int channels);
/* Replaces `low` by a factor per channel such that every channel divided by its factor fills the same range, which goes
 * into *range. The lower side gets 1, 1/2, 1/4 ... of the upper one, whichever makes finer codes on the whole. */
void sk_channels_equalize(float *low, const float *high, int channels, sk_range *range);

/* ---- the job ------------------------------------------------------------------------------------------------- */
typedef struct sk_quant_job {
    const sk_quant_net *net;
    const sk_quant_options *options;
    const sk_quant_pictures *pictures;
    const sk_hooks *hooks;
    sk_error *err;
    sk_float_net *floats;
    int threads;
    int *classes;    /* float's verdict per picture */
    sk_range *ranges; /* of each layer's output, divided by `equal` where that is */
    float (*range)[2]; /* what the codes cover */
    int8_t *int16;   /* per layer 1: its output has int16 codes */
    float **equal;   /* per layer NULL or a factor per output channel; before sk_quant_equalise: low, then high */
    float **scale;   /* per layer with weights: real value of one code per output channel, times `equal` of the input */
    int8_t **code;   /* [out_c][depth] */
    float **bias;    /* as the network's, or corrected */
    uint8_t *bytes;  /* the .skn */
    size_t size;
} sk_quant_job;
/* All stages over pictures in memory; *bytes is released with sk_free. With `shown` (else NULL), report->explained is
 * about these pictures; of the rest of the report, only the agreement is set. */
sk_status sk_quant_run(const sk_quant_net *net, const sk_quant_pictures *pictures, const sk_quant_options *options,
                       const sk_quant_pictures *shown, const sk_hooks *hooks, uint8_t **bytes, size_t *size,
                       sk_quant_report *report, sk_error *err);

/* The stages. observe.c: smallest and largest values, then, with `bins`, histograms. */
sk_status sk_quant_observe(sk_quant_job *job, int bins);
/* May the layer's output have a unit per channel at no cost: do depthwise layers alone read it? Of net, only layers and
 * count matter. */
int sk_quant_may_equalise(const sk_quant_net *net, size_t layer);
/* equalise.c: marks the tensors whose channels may have units of their own; turns what was observed into factors. */
sk_status sk_quant_mark(sk_quant_job *job);
sk_status sk_quant_equalise(sk_quant_job *job);
/* Once ranges are chosen: means and gated products take the factors of what they read. */
void sk_quant_settle_factors(sk_quant_job *job);
/* act16.c: marks the layers that options->act16 (not NULL) names. */
sk_status sk_quant_mark_int16(sk_quant_job *job);
/* weights.c: scales, and codes rounded to nearest. */
sk_status sk_quant_weights(sk_quant_job *job);
/* Weights of one output channel times the factors of the channels they read: depth values. */
void sk_quant_effective(const sk_quant_net *net, float *const *equal, size_t layer, int channel, float *out);
/* build.c: the file as decided so far. */
sk_status sk_quant_build(sk_quant_job *job);
/* refine.c: layer after layer, with the int8 output of the layers before as input: rounding, then biases. */
sk_status sk_quant_refine(sk_quant_job *job);
/* reconstruct.c: block after block, likewise. */
sk_status sk_quant_reconstruct(sk_quant_job *job);

/* ---- rounding that is learned (adaround.c) --------------------------------------------------------------------- */
/* Of `channels` output channels that see the same input: real codes, input moments gram[depth][depth] = mean x x' and
 * cross[channels][depth] = mean x t, where t is what the sum of codes times x should be. */
typedef struct sk_rounding {
    int depth, channels;
    int least, most;   /* codes; a weight at or beyond an end has no choice */
    const float *real; /* [channels][depth] */
    const float *gram, *cross;
} sk_rounding;
/* codes: nearest ones in, better ones out, each one of the two whole numbers around `real`. Nagel et al. 2020, Up or
 * Down? Adaptive Rounding for Post-Training Quantization: a soft rounding is learned and driven to whole numbers; then
 * single codes are turned while that lowers the squared error. Never worse than what came in. */
sk_status sk_adaround(const sk_rounding *problem, int8_t *codes, sk_error *err);
/* codes' G codes - 2 codes' cross of one channel: the mean squared error but for a constant. */
double sk_rounding_error(const sk_rounding *problem, int channel, const int8_t *codes);

/* ---- what one layer's weights see, and what should come of it (moments.c) --------------------------------------- */
typedef struct sk_moments {
    int rows, depth, channels, depthwise;
    int centred;         /* a bias takes the mean error away */
    int least, most;     /* codes of the weights */
    const float *zero;   /* per channel the code of 0, NULL: 0 */
    float *x;            /* codes less zero point: [rows][depth], depthwise [rows][taps][channels] */
    float *target;       /* [rows][channels], not owned: what the sum of codes (less zero) times x should be */
    float *real;         /* [channels][depth]: codes before rounding */
    double *mean_x, *mean_t; /* of x over the rows, of the target per output channel */
    float *gram, *cross; /* as in sk_rounding, but depthwise: [taps][taps][channels], [taps][channels] */
    double hold;         /* see settle_gram */
} sk_moments;
/* Room for so many rows; x, target and real are the caller's to fill. Errors: MEMORY. */
sk_status sk_moments_open(const sk_layer *layer, int rows, sk_moments *out, sk_error *err);
/* The means of x and target once they are filled. */
void sk_moments_settle(sk_moments *moments);
/* codes: nearest ones in, those that come closest to the target out (sk_adaround). Takes x and target as they are. */
sk_status sk_moments_round(sk_moments *moments, int8_t *codes, int threads, sk_error *err);
/* By how much the sum of the codes times x falls short of the target in the mean. */
double sk_moments_missing(const sk_moments *moments, const int8_t *codes, int channel);
void sk_moments_close(sk_moments *moments);

/* explain.c: the finished job on pictures with labels, one row per layer in their order; *out is released with
 * sk_quant_layers_free. */
sk_status sk_quant_explain(const sk_quant_job *job, const sk_quant_pictures *pictures, sk_quant_layer **out);

/* ---- the int8 network layer by layer (walk.c) ------------------------------------------------------------------ */
typedef struct sk_walk sk_walk;
/* Of the first `count` pictures; bytes and pictures outlive it. The pictures are codes from here on. */
sk_status sk_walk_create(const uint8_t *bytes, const uint8_t *pictures, int count, int threads, sk_walk **out,
                         sk_error *err);
void sk_walk_free(sk_walk *walk);
/* The same network with other weights from here on. */
void sk_walk_set(sk_walk *walk, const uint8_t *bytes);
sk_status sk_walk_layer(sk_walk *walk, size_t layer, sk_error *err);
/* Output of a layer (-1: the picture) until a later layer takes its place, int16 codes or int8; its scale and zero
 * point. */
int8_t *sk_walk_tensor(const sk_walk *walk, int layer, int picture);
int sk_walk_int16(const sk_walk *walk, int layer);
double sk_walk_scale(const sk_walk *walk, int layer);
int sk_walk_zero(const sk_walk *walk, int layer);

/* ---- the writer (build.c) ---------------------------------------------------------------------------------- */
typedef struct sk_skn_recipe {
    const sk_card *card;
    const sk_layer *layers;
    size_t count;
    float *const *weight; /* per layer as sk_model_folded gives them, NULL where there are none */
    float *const *bias;
    const float (*range)[2]; /* of each layer's output, divided by `equal` */
    float *const *equal;     /* NULL, or per layer NULL or a factor per output channel (every reader has weights, or is
                              * a mean or gated product with the same factors) */
    float *const *scale;     /* NULL, or per layer NULL or per output channel: value of one code of the weights times
                              * `equal` of the input; NULL: max / 127 */
    int8_t *const *code;     /* NULL, or per layer NULL or [out_c][depth]; NULL: nearest */
    const int8_t *int16;     /* NULL, or per layer 1: its output has int16 codes. Not of logits and features */
    int method;              /* of the header: sk_quant_method */
    int pictures;
    uint64_t seed;
} sk_skn_recipe;
/* recipe.c: ARGUMENT, DATA or UNSUPPORTED, naming the layer, if it cannot be written. */
sk_status sk_skn_check_recipe(const sk_skn_recipe *recipe, sk_error *err);
/* The layer whose output are the features: the last mean, else the last layer. */
int sk_quant_features(const sk_layer *layers, size_t count);
/* *bytes is released with sk_free. The result has passed the runtime's own check. */
sk_status sk_skn_build(const sk_skn_recipe *recipe, uint8_t **bytes, size_t *size, sk_error *err);
/* The options as the header's word (docs/formats.md). */
int sk_quant_method(const sk_quant_options *options);
#endif
