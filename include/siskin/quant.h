/* SPDX-License-Identifier: Apache-2.0 */
/* Post-training int8: calibration and the .skn file; and ONNX export. */
#ifndef SISKIN_QUANT_H
#define SISKIN_QUANT_H

#include "siskin/dataset.h"
#include "siskin/model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Range of an activation tensor: all that was seen, the one of least squared error, the values at 100 - percentile and
 * at percentile, or the one of least Kullback-Leibler divergence. */
typedef enum sk_quant_observer {
    SK_QUANT_NORMAL = 0,
    SK_QUANT_MMSE,
    SK_QUANT_PERCENTILE,
    SK_QUANT_KL,
    SK_QUANT_LEARNED /* what quantisation-aware training left in the model (siskin train --qat) */
} sk_quant_observer;
sk_status sk_quant_observer_parse(const char *text, sk_quant_observer *out, sk_error *err);
const char *sk_quant_observer_name(sk_quant_observer observer); /* "normal", "mmse", "percentile", "kl",
                                                                     * "learned" */
/* What has a scale of its own among the weights of a layer, and which one it gets: the largest weight's, or that of
 * least squared error. */
typedef enum sk_quant_per { SK_QUANT_PER_CHANNEL = 0, SK_QUANT_PER_TENSOR } sk_quant_per;
typedef enum sk_quant_weights_rule { SK_QUANT_WEIGHTS_MAX = 0, SK_QUANT_WEIGHTS_MMSE } sk_quant_weights_rule;
/* Tensors whose channels are divided by factors of their own, so that all fill the codes: none, those that depthwise
 * layers alone read (they lose nothing), or also those that dense layers read (cross-layer equalisation). */
typedef enum sk_quant_equalise_scope {
    SK_QUANT_EQUALISE_NONE = 0,
    SK_QUANT_EQUALISE_DEPTHWISE,
    SK_QUANT_EQUALISE_ALL
} sk_quant_equalise_scope;
sk_status sk_quant_equalise_parse(const char *text, sk_quant_equalise_scope *out, sk_error *err);
const char *sk_quant_equalise_name(sk_quant_equalise_scope scope); /* "none", "depthwise", "all" */

typedef struct sk_quant_options {
    sk_quant_observer observer;
    double percentile; /* of SK_QUANT_PERCENTILE, above 50 to 100 */
    sk_quant_per per;
    sk_quant_weights_rule weights;
    sk_quant_equalise_scope equalise;
    int correct_bias; /* take away each channel's mean error, layer after layer */
    int adaround;     /* learn which way each weight is rounded */
    int reconstruct;  /* then learn rounding and biases of whole blocks, against what leaves the float block */
    const char *act16; /* NULL, or globs with commas between: the outputs of these layers have int16 codes. Siskin's own
                        * engine alone runs such a file; the features and the logits keep 8 bits */
    int pictures;     /* calibration pictures drawn from the training part, 1 to 100000 */
    uint64_t seed;    /* of the draw */
    int threads;      /* 0: all; the result does not depend on it */
    int explain;      /* 0, or so many other pictures of the training part on which every layer is explained */
} sk_quant_options;
sk_quant_options sk_quant_defaults(void); /* the recipe best, 100 pictures, seed 1 */
/* "best": the steps that docs/quantization.md found best; "seed": normal ranges, weights by their largest, nothing
 * else, as a converter does without being asked; "learned": what quantisation-aware training rounded by, and nothing
 * that it has not seen. Pictures, seed and threads are the defaults. */
sk_status sk_quant_recipe(const char *name, sk_quant_options *out, sk_error *err);
/* The recipe for a model of which nothing is said: learned if it brings ranges along, else best. */
const char *sk_quant_recipe_of(const sk_model *model);

/* Calibration pictures: count x size x size x 3 RGB bytes as the network gets them. */
typedef struct sk_quant_pictures {
    uint8_t *bytes;
    size_t picture_bytes;
    int count;
    int *labels; /* sk_label of each */
} sk_quant_pictures;
/* Draws up to `pictures` (1..100000) of the readable pictures of the training part, in an order of the seed alone, and
 * prepares them as the card's crop rule says (squeezed, else the centre crop). Errors: ARGUMENT, DATA (there is none),
 * MEMORY. */
sk_status sk_quant_draw(const sk_card *card, const sk_dataset *dataset, const sk_cache *cache, int pictures,
                        uint64_t seed, const sk_hooks *hooks, sk_quant_pictures *out, sk_error *err);
/* All readable pictures of a part, in the dataset's order, prepared likewise. Errors: DATA (there is none), MEMORY. */
sk_status sk_quant_gather(const sk_card *card, const sk_dataset *dataset, const sk_cache *cache, sk_split part,
                          sk_quant_pictures *out, sk_error *err);
void sk_quant_pictures_free(sk_quant_pictures *pictures);

/* One layer of an int8 model against the float one's. */
typedef struct sk_quant_layer {
    char name[64];
    int index;             /* in the order of execution */
    sk_op op;
    sk_act act;
    float low, high;       /* what its output's codes cover; of an equalised tensor: in the channels' own units */
    int equalised;
    double snr, own_snr;   /* signal-to-noise of the output in dB: with all layers in int8, with this one alone */
    double cosine;         /* of the output with all layers in int8, mean over the pictures */
    double clipped;        /* share of float's values beyond what the codes cover */
    double divergence;     /* if it alone is int8: mean Kullback-Leibler divergence of p from float's, nats */
    double flips;          /* share of verdicts that change then */
    double accuracy_loss;  /* share of right verdicts lost then, negative: gained */
} sk_quant_layer;
void sk_quant_layers_sort(sk_quant_layer *layers, size_t count); /* largest divergence first */
/* `dir`/layers.tsv: tab-separated with a header line (docs/formats.md), in the order given. Creates `dir`. */
sk_status sk_quant_layers_write(const char *dir, const sk_quant_layer *layers, size_t count, sk_error *err);
void sk_quant_layers_free(sk_quant_layer *layers);

typedef struct sk_quant_report {
    size_t layers, weights, file_bytes;
    size_t int16_layers; /* that have 16-bit activations */
    int pictures;
    double seconds;
    double agreement; /* share of the calibration pictures that int8 and float put into the same class */
    sk_quant_layer *explained; /* `layers` rows if options->explain, the caller's (sk_quant_layers_free) */
} sk_quant_report;
/* Folds batch norm, quantises weights (symmetric) and activations per tensor (asymmetric), writes `path` (.skn,
 * docs/formats.md) aside and renames it. Arithmetic: docs/int8.md; steps: docs/quantization.md. */
sk_status sk_quantize(sk_model *model, const sk_dataset *calibration, const sk_cache *cache, const char *path,
                      const sk_quant_options *options, const sk_hooks *hooks, sk_quant_report *report, sk_error *err);

/* ---- the vendor's int8, forecast ------------------------------------------------------------------------------- */
/* The network as the simulator of rknn-toolkit2 2.5.0 computes it for its NPU (docs/rknn.md): asymmetric weights per
 * channel or per layer, pools in windows of 7, a rounding ahead of some activations. */
typedef struct sk_vendor sk_vendor;
/* What the converter gets in place of the model's own weights: folded ones, [out_c][kernel][kernel][in_c] per layer,
 * NULL where there are none. */
typedef struct sk_vendor_form {
    size_t layers;
    float **factor; /* per layer NULL, or what each channel is divided by; its readers' weights are multiplied by it */
    float **weight, **bias;
    float **gate, **shift; /* of a hard-swish with factors: weights and biases of x / 6 + 1/2, else NULL */
} sk_vendor_form;
/* With `pictures`, channels that depthwise layers alone read get units of their own, found on them (docs/rknn.md), so
 * that one scale per tensor treats them alike; behind the first layer's hard-swish that takes a second convolution.
 * NULL: the weights as they are. The function of the network is the same. Runs the model. *out is released with
 * sk_vendor_form_free. Errors: MEMORY. */
sk_status sk_vendor_form_make(sk_model *model, const sk_quant_pictures *pictures, int threads, sk_vendor_form *out,
                              sk_error *err);
/* Moves the weights, by one code at most, to places where the converter's rounding to nearest leaves them, chosen so
 * that its int8 comes close to float layer after layer (AdaRound, Nagel et al. 2020, and bias correction, 2019), and
 * the biases by what is then still missing in the mean. For `normal`, pictures, by_layer and all else as the
 * conversion has them. The same bytes for any number of threads. Errors: as sk_vendor_observe; `form` is then to be
 * freed. */
sk_status sk_vendor_form_refine(const sk_model *model, const sk_quant_pictures *pictures, int by_layer, int threads,
                                uint64_t seed, const sk_hooks *hooks, sk_vendor_form *form, sk_error *err);
void sk_vendor_form_free(sk_vendor_form *form);
/* Scale and zero point of the codes -128..127 of one tensor under the toolkit's name; count 1, or one pair per output
 * channel. */
typedef struct sk_vendor_range {
    const char *name;
    size_t count;
    const float *scale, *zero;
} sk_vendor_range;
/* Of the model in this form, NULL: its own, with all that the pictures show as ranges, as the toolkit's algorithm
 * `normal` chooses them; by_layer: one scale per weight tensor. *out is released with sk_vendor_free. Errors:
 * UNSUPPORTED (a network with other pools), CANCELLED, MEMORY. */
sk_status sk_vendor_observe(const sk_model *model, const sk_vendor_form *form, const sk_quant_pictures *pictures,
                            int by_layer, const sk_hooks *hooks, sk_vendor **out, sk_error *err);
/* With the ranges that the toolkit itself chose, whatever its algorithm. Errors: as sk_vendor_observe, and MISMATCH
 * (a tensor is missing in `ranges`, or has another number of channels). */
sk_status sk_vendor_take(const sk_model *model, const sk_vendor_form *form, const sk_vendor_range *ranges,
                         size_t count, sk_vendor **out, sk_error *err);
void sk_vendor_free(sk_vendor *net);
/* Called after each layer with its output, NHWC real values. */
typedef void (*sk_vendor_tap)(void *user, size_t layer, const float *data);
/* image: size x size x 3 RGB bytes; logits: classes real values; features: pooled ones, or NULL; tap may be NULL. One
 * thread at a time. */
void sk_vendor_run(sk_vendor *net, const uint8_t *image, float *logits, float *features, sk_vendor_tap tap,
                   void *user);

/* Float ONNX, opset 13, IR 8, input "input" [1,3,S,S] normalised RGB, output "logits" [1,classes], batch norm folded,
 * hard-swish as HardSigmoid(alpha 1/6, beta 1/2) * x; metadata_props carry the card. */
sk_status sk_export_onnx(const sk_model *model, const char *path, sk_error *err);
/* The same in another form: not read back by sk_model_read if that has factors; NULL: the model's own. Errors: MEMORY,
 * IO. */
sk_status sk_export_onnx_form(const sk_model *model, const sk_vendor_form *form, const char *path, sk_error *err);
/* The int8 model in the file `skn` as ONNX in the QDQ form, opset 13, IR 8, input and output as above: weights int8,
 * biases int32, QuantizeLinear and DequantizeLinear (int8) around every layer, values within the graph in steps of 1
 * and multipliers as nodes, so that IEEE float32 gives the runtime's logits bit for bit (docs/int8.md). Errors: FORMAT
 * and UNSUPPORTED of the .skn, IO, MEMORY. */
sk_status sk_export_onnx_qdq(const char *skn, const char *path, sk_error *err);

#ifdef __cplusplus
}
#endif
#endif
