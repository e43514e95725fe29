/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of a model, for the rooms that work on the network itself. Internal, float only. */
#ifndef SK_NET_MODEL_H
#define SK_NET_MODEL_H

#include "net/net.h"

sk_net *sk_model_net(sk_model *model);
/* Parameters may change behind the model's back from now on: every forward folds them again. */
void sk_model_share(sk_model *model);
/* They have changed once: the next forward folds them again. */
void sk_model_changed(sk_model *model);
/* Looks for the first layer, in the order of execution, whose weights, statistics or output for the pictures (n x size
 * x size x 3; n 0: outputs are not looked at, and NaN behind a ReLU is found all the same) are not finite; where =
 * "layer NAME, whose ... are not finite", or "" if there is none. */
sk_status sk_model_find_bad(sk_model *model, const uint8_t *images, int n, int threads, char *where, size_t size,
                            sk_error *err);
const sk_param *sk_model_param(const sk_model *model, size_t index);

/* ---- patterns.c: globs over the names of layers, comma between ------------------------------------------------ */
/* Copies the first pattern of *at and steps past it; 0: there is none, or it is longer than any name. */
int sk_layer_next_pattern(const char **at, char out[128]);
/* Whether the pattern fits the name of the layer or of its weight tensor; one of the patterns (NULL: yes). */
int sk_layer_fits_pattern(const sk_layer *layer, const char *pattern);
int sk_layer_fits(const sk_layer *layer, const char *layers);

/* ---- ranges.c: what quantisation-aware training has learned besides the weights ------------------------------ */
/* Per layer of the model what the 256 codes of its output cover. They travel in the model file, and siskin quantize
 * takes them instead of looking for its own. */
typedef struct sk_ranges {
    int layers;                     /* 0: there are none */
    float end[SK_MAX_LAYERS][2];    /* low <= 0 <= high, after division by equal */
    float *equal[SK_MAX_LAYERS];    /* NULL, or a factor per output channel: codes are those of value / factor */
} sk_ranges;
void sk_ranges_free(sk_ranges *ranges);
/* Copies; a layer's factors are as many as its output channels. */
sk_status sk_model_set_ranges(sk_model *model, const sk_ranges *ranges, sk_error *err);
const sk_ranges *sk_model_ranges(const sk_model *model); /* NULL: there are none */
sk_ranges *sk_model_own_ranges(sk_model *model);
/* As text, one line per layer: name, low, high, factors; released with sk_free. NULL: no memory. */
char *sk_model_ranges_text(const sk_model *model);
#define SK_RANGES_KEY "siskin.ranges" /* of a file's metadata */
struct sk_tensor_file;
/* Puts them among the metadata, if there are any. */
sk_status sk_model_save_ranges(const sk_model *model, struct sk_tensor_file *file, sk_error *err);
/* FORMAT if the text is not of this network. */
sk_status sk_model_parse_ranges(sk_model *model, const char *text, sk_error *err);
#endif
