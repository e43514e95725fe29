/* SPDX-License-Identifier: Apache-2.0 */
/* Float MobileNetV3 models: building, reading, writing, running. */
#ifndef SISKIN_MODEL_H
#define SISKIN_MODEL_H

#include <stddef.h>
#include <stdint.h>

#include "siskin/hooks.h"
#include "siskin/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum sk_arch { SK_ARCH_V3_SMALL = 0, SK_ARCH_V3_LARGE } sk_arch;
const char *sk_arch_name(sk_arch arch); /* "mobilenet_v3_small", "mobilenet_v3_large" */
sk_status sk_arch_parse(const char *text, sk_arch *out, sk_error *err); /* also "small", "large" */

/* What has to be known to feed a model and read its answer; travels inside every model file. */
typedef struct sk_card {
    sk_arch arch;
    int size;            /* network input is size x size */
    int classes;         /* number of logits */
    float mean[3];       /* of RGB / 255 */
    float std[3];
    char class_names[128]; /* comma-separated, in the order of the logits: "nobird,bird" */
    int crops;           /* crop rule it was tuned for, a value of sk_crops: 1, 3, or 0 for squeeze */
    float threshold;     /* p of the centre crop that says bird */
    float penalty;       /* p that the side crops must reach */
    float temperature;   /* p = softmax(logits / temperature); 1: not calibrated. Threshold and penalty are compared
                          * with this p */
    char run_id[64];     /* of the training run, "" if none */
} sk_card;
/* Size 224, 2 classes, ImageNet mean and std, one crop, threshold .5, penalty .8, temperature 1. */
sk_card sk_card_default(sk_arch arch);
/* What a card's temperature may be. */
#define SK_TEMPERATURE_LEAST 0.01f
#define SK_TEMPERATURE_MOST 100.0f

typedef struct sk_model sk_model;

/* Freshly initialised as torchvision does (Kaiming fan-out, zero bias), from the seed alone. */
sk_status sk_model_create(const sk_card *card, uint64_t seed, sk_model **out, sk_error *err);
/* Reads a run folder (its best weights), .safetensors, .pth (torchvision state_dict) or .onnx written by siskin. */
sk_status sk_model_read(const char *path, sk_model **out, sk_error *err);
/* Copies all tensors of `path` that fit in name and shape; a classifier of another size is skipped. *note (may be
 * NULL, `note_size` bytes) says in one sentence what was left out. MISMATCH if the backbone does not fit. */
sk_status sk_model_load_pretrained(sk_model *model, const char *path, char *note, size_t note_size, sk_error *err);
void sk_model_free(sk_model *model);
const sk_card *sk_model_card(const sk_model *model);
void sk_model_set_card(sk_model *model, const sk_card *card); /* arch, classes must not change */
/* safetensors with torchvision's names, the card in its metadata; written aside and renamed. */
sk_status sk_model_write(const sk_model *model, const char *path, sk_error *err);

/* ---- tensors, in torchvision's order, names and layouts (OIHW) ------------------------------------------ */
typedef struct sk_tensor {
    const char *name;
    int rank;
    int shape[4];
    size_t count;
    float *data;   /* owned by the model */
    int trainable; /* 0 for running_mean and running_var */
} sk_tensor;
size_t sk_model_tensor_count(const sk_model *model);
sk_status sk_model_tensor(const sk_model *model, size_t index, sk_tensor *out, sk_error *err);
/* NULL-safe search by name; SK_ERR_MISMATCH if there is none. */
sk_status sk_model_find_tensor(const sk_model *model, const char *name, sk_tensor *out, sk_error *err);

/* ---- layers: the network after batch-norm folding, in execution order ----------------------------------- */
typedef enum sk_op {
    SK_OP_CONV = 0,
    SK_OP_DEPTHWISE,
    SK_OP_POINTWISE,
    SK_OP_POOL,
    SK_OP_SCALE,
    SK_OP_ADD,
    SK_OP_LINEAR
} sk_op;
const char *sk_op_name(sk_op op); /* "conv", "depthwise", "pointwise", "pool", "scale", "add", "linear" */
typedef enum sk_act { SK_ACT_NONE = 0, SK_ACT_RELU, SK_ACT_HSWISH, SK_ACT_HSIGMOID } sk_act;
typedef struct sk_layer {
    char name[64];     /* torchvision module, e.g. "features.4.block.0" */
    sk_op op;
    sk_act act;        /* applied to the output */
    int kernel, stride, pad;
    int in_c, in_h, in_w, out_c, out_h, out_w; /* at the card's size */
    int input;         /* index of the layer whose output is read, -1: the image */
    int input2;        /* SCALE: layer of the gate [C]; ADD: the other summand; else -1 */
    int has_bn;        /* conv.bias absent, batch norm follows */
    uint64_t macs, params;
} sk_layer;
/* Places, and values, of a layer's output. */
static inline size_t sk_layer_pixels(const sk_layer *layer) {
    return (size_t)layer->out_h * (size_t)layer->out_w;
}
static inline size_t sk_layer_values(const sk_layer *layer) {
    return sk_layer_pixels(layer) * (size_t)layer->out_c;
}
size_t sk_model_layer_count(const sk_model *model);
const sk_layer *sk_model_layer(const sk_model *model, size_t index);
/* Folded weights of a CONV, DEPTHWISE, POINTWISE or LINEAR layer: weight[out_c][kernel][kernel][in_c per group]
 * (O,H,W,I; depthwise [C][k][k]) and bias[out_c], written to the caller's buffers (NULL: skip). eps 1e-3. */
sk_status sk_model_folded(const sk_model *model, size_t layer, float *weight, float *bias, sk_error *err);
size_t sk_model_weight_count(const sk_model *model, size_t layer);

/* ---- running --------------------------------------------------------------------------------------------- */
/* Called after each layer with its output, NHWC float [n][h][w][c] (POOL and LINEAR: [n][c]). The pictures of a call
 * come one after the other, each through all layers: n is 1. */
typedef void (*sk_tap)(void *user, size_t layer, const float *data, int n, int h, int w, int c);
/* images: n x size x size x 3 RGB bytes. logits: n x classes. features: n x (576 or 960) pooled features or NULL.
 * Running statistics, dropout off. Uses up to `threads` threads (0: all). tap may be NULL. Not re-entrant for one
 * model. Same bytes for any number of threads. */
sk_status sk_model_forward(sk_model *model, const uint8_t *images, int n, int threads, float *logits, float *features,
                           sk_tap tap, void *tap_user, sk_error *err);
int sk_model_feature_count(const sk_model *model);
/* Peak bytes of activations of one picture in inference with buffer reuse. */
size_t sk_model_activation_bytes(const sk_model *model, int bytes_per_value);

/* ---- calibration ----------------------------------------------------------------------------------------- */
/* What sk_fit_temperature keeps to; a result at one of these is a fit that the pictures did not bound. */
#define SK_FIT_LEAST 0.25f
#define SK_FIT_MOST 8.0f
/* The temperature for which softmax(logits / temperature) has the least negative log-likelihood (Guo et al. 2017, On
 * Calibration of Modern Neural Networks) against labels that are as certain as their number allows: N pictures of a
 * class give it (N + 1) / (N + classes) and every other 1 / (N + classes) (Platt 1999, Probabilistic Outputs for
 * Support Vector Machines). Against hard labels, pictures that are all judged rightly would ask for temperature 0.
 * logits: n x classes, undivided, as the pictures of a validation part give them; labels: n class indices. The same
 * bytes for the same input. Errors: ARGUMENT (no pictures, a label out of range), DATA (a logit is not finite). */
sk_status sk_fit_temperature(const float *logits, const int *labels, size_t n, int classes, float *temperature,
                             sk_error *err);

#ifdef __cplusplus
}
#endif
#endif
