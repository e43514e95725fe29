/* SPDX-License-Identifier: Apache-2.0 */
/* The weights of a float model, looked at and pulled in: what an int8 converter will meet, before it is run; and the
 * mean of several models.
 *
 * A tensor here is the weight of one convolution or linear layer, in torchvision's order, name and layout (OIHW); a
 * channel is an output channel, its first dimension. Raw is the tensor as the file holds it; folded is what int8 code
 * is made of: every channel times gamma / sqrt(running_var + 1e-3) of the batch norm behind it, if there is one. */
#ifndef SISKIN_WEIGHTS_H
#define SISKIN_WEIGHTS_H

#include "siskin/dataset.h"
#include "siskin/model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Reads what sk_model_read reads, and a backbone file that has no classifier: *whole is then 0 and the classifier's
 * weights are random. Errors: those of sk_model_read. */
sk_status sk_weights_read(const char *path, sk_model **out, int *whole, sk_error *err);
/* Writes the tensors that the file at `source` has, with the values of `model`: a backbone stays one. Safetensors,
 * aside and renamed. For a whole model use sk_model_write. */
sk_status sk_weights_write_backbone(const sk_model *model, const char *source, const char *path, sk_error *err);

/* ---- inspect ------------------------------------------------------------------------------------------------- */
typedef struct sk_weight_stats {
    double min, max;
    double abs_mean, abs_std; /* of the magnitudes; population deviation */
    double kurtosis;          /* fourth central moment over the squared variance: normal 3, uniform 1.8; 0: all equal */
    double channel_ratio;     /* largest magnitude of the tensor over the median channel's; 0: half of them are zero */
    double snr_channel, snr_tensor; /* dB that rounding to codes -127..127 leaves, with one scale per channel and with
                                     * one for all; infinite if nothing is lost */
} sk_weight_stats;

/* The warning "found outlier value" of Rockchip's rknn-toolkit2 (2.5.0) on one constant. With a the magnitudes, n their
 * number and M the largest: found if 1 / sum exp(a - M), M's share in softmax(a), is above 0.5^log10(n / 200). */
typedef struct sk_outlier {
    int found;
    double share, limit;
    double abs_mean, abs_std; /* of a without the largest one; population deviation */
    double value;             /* the largest one with its sign */
} sk_outlier;
/* {0} for count 0. */
sk_outlier sk_weight_outlier(const float *values, size_t count);

#define SK_WEIGHT_BINS 121
typedef struct sk_weight_row {
    char name[64];     /* of the tensor, "features.4.block.1.0.weight": also that of the constant in exported ONNX */
    char layer[64];    /* of the layer, "features.4.block.1" */
    sk_op op;
    size_t count, channels;
    sk_weight_stats raw, folded;
    sk_outlier outlier;                 /* of the folded tensor, which is what a converter sees */
    float *raw_peaks, *folded_peaks;    /* largest magnitude of each channel */
    double histogram_end;               /* histograms cover [-end, end] in SK_WEIGHT_BINS equal bins */
    uint32_t histogram[2][SK_WEIGHT_BINS]; /* raw, folded */
} sk_weight_row;
typedef struct sk_weights {
    sk_weight_row *rows; /* in the order of execution */
    size_t count, outliers;
} sk_weights;
/* layers: shell patterns of layer or tensor names parted by commas, "features.0,features.*.block.1"; NULL: all. Errors:
 * ARGUMENT (a pattern that no layer fits), DATA (a weight is not finite), MEMORY. */
sk_status sk_weights_inspect(const sk_model *model, const char *layers, sk_weights **out, sk_error *err);
void sk_weights_free(sk_weights *weights);

/* ---- activations over calibration pictures -------------------------------------------------------------------- */
enum { SK_ACT_MIN = 0, SK_ACT_P01, SK_ACT_P1, SK_ACT_P50, SK_ACT_P99, SK_ACT_P999, SK_ACT_MAX, SK_ACT_POINTS };
/* "min", "p0.1", "p1", "p50", "p99", "p99.9", "max" */
const char *sk_act_point_name(int point);
typedef struct sk_activation_row {
    sk_layer layer;                  /* whose output it is */
    float low, high;                 /* smallest and largest value, widened to contain 0: the range of `normal` int8 */
    double step;                     /* one of its 255 steps */
    double lobe;                     /* hard-swish: steps between 0 and its least value -3/8; else 0 */
    double channel_ratio;            /* largest magnitude over that of the median channel; 0: half of them are silent */
    float (*channel)[SK_ACT_POINTS]; /* per channel; percentiles to 1/512 of the channel's own range */
} sk_activation_row;
typedef struct sk_activations {
    sk_activation_row *rows; /* in the order of execution */
    size_t count;
    int pictures;
} sk_activations;
/* Over the pictures that sk_quant_draw gives for this number and seed.
 * layers: as of sk_weights_inspect. Errors: ARGUMENT, DATA (no picture, or values that are not finite), MEMORY,
 * CANCELLED. */
sk_status sk_weights_activations(sk_model *model, const char *layers, const sk_dataset *dataset, const sk_cache *cache,
                                 int pictures, uint64_t seed, const sk_hooks *hooks, sk_activations **out,
                                 sk_error *err);
void sk_activations_free(sk_activations *activations);

/* ---- adjust --------------------------------------------------------------------------------------------------- */
/* Limits of a group of weights: sigma: mean -+ k deviations; percentile: the (100 - k)-th and the k-th, interpolated
 * linearly; tukey: k interquartile ranges below the first and above the third quartile (Tukey 1977). */
typedef enum sk_adjust { SK_ADJUST_NONE = 0, SK_ADJUST_SIGMA, SK_ADJUST_PERCENTILE, SK_ADJUST_TUKEY } sk_adjust;
typedef enum sk_adjust_on { SK_ADJUST_FOLDED = 0, SK_ADJUST_RAW } sk_adjust_on;
typedef enum sk_adjust_per { SK_ADJUST_TENSOR = 0, SK_ADJUST_CHANNEL } sk_adjust_per;
typedef struct sk_adjust_options {
    sk_adjust method;
    float k;            /* sigma .1 to 100, percentile above 50 to 100, tukey up to 100; 0: 3, 99.9, 3 */
    sk_adjust_on on;    /* folded: the folded weight is clamped and mapped back through batch norm */
    sk_adjust_per per;  /* what a group is */
    const char *layers; /* as of sk_weights_inspect */
} sk_adjust_options;
/* ARGUMENT with the range of k. */
sk_status sk_adjust_check(const sk_adjust_options *options, sk_error *err);

/* What became of a tensor; numbers are of the weights that were clamped, raw or folded. */
typedef struct sk_adjust_row {
    char name[64];
    size_t count, moved;
    double largest_move;          /* 0 if none was moved */
    double min, max;              /* before */
    double new_min, new_max;      /* after */
} sk_adjust_row;
/* Clamps in place. *rows (one per tensor, *count of them) are released with sk_adjust_rows_free; rows may be NULL.
 * Errors: ARGUMENT, DATA (a weight is not finite), MEMORY; the model is then as it was. */
sk_status sk_weights_adjust(sk_model *model, const sk_adjust_options *options, sk_adjust_row **rows, size_t *count,
                            sk_error *err);
void sk_adjust_rows_free(sk_adjust_row *rows);

/* ---- average ---------------------------------------------------------------------------------------------------- */
/* Gives `model` the mean of its tensors and those of `count` others (Wortsman et al. 2022, Model soups), all trained
 * from the same first weights with frozen batch norm. The temperature of its card becomes 1, since none was fitted to
 * the mean, and its run nameless. Errors: MISMATCH (network, classes or size differ, or running statistics do), DATA (a
 * value is not finite), MEMORY (tensors may then be averaged in part). */
sk_status sk_weights_average(sk_model *model, sk_model *const *others, size_t count, sk_error *err);

#ifdef __cplusplus
}
#endif
#endif
