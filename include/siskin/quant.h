/* SPDX-License-Identifier: Apache-2.0 */
/* Post-training int8: calibration and the .skn file; and ONNX export. */
#ifndef SISKIN_QUANT_H
#define SISKIN_QUANT_H

#include "siskin/dataset.h"
#include "siskin/model.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum sk_quant_algorithm { SK_QUANT_NORMAL = 0, SK_QUANT_MMSE } sk_quant_algorithm;
sk_status sk_quant_algorithm_parse(const char *text, sk_quant_algorithm *out, sk_error *err);

typedef struct sk_quant_options {
    sk_quant_algorithm algorithm; /* normal: min and max seen; mmse: range of least squared error */
    int pictures;                 /* calibration pictures drawn from the training part, 100 */
    uint64_t seed;                /* of the draw */
    int threads;
} sk_quant_options;
sk_quant_options sk_quant_defaults(void);

/* Calibration pictures: count x size x size x 3 RGB bytes as the network gets them. */
typedef struct sk_quant_pictures {
    uint8_t *bytes;
    size_t picture_bytes;
    int count;
} sk_quant_pictures;
/* Draws up to `pictures` (1..100000) of the readable pictures of the training part, in an order of the seed alone, and
 * prepares them as the card's crop rule says (squeezed, else the centre crop). Errors: ARGUMENT, DATA (there is none),
 * MEMORY. */
sk_status sk_quant_draw(const sk_card *card, const sk_dataset *dataset, const sk_cache *cache, int pictures,
                        uint64_t seed, const sk_hooks *hooks, sk_quant_pictures *out, sk_error *err);
void sk_quant_pictures_free(sk_quant_pictures *pictures);

typedef struct sk_quant_report {
    size_t layers, weights, file_bytes;
    int pictures;
    double seconds;
    double agreement; /* share of the calibration pictures that int8 and float put into the same class */
} sk_quant_report;
/* Folds batch norm, quantises weights per output channel (symmetric) and activations per tensor (asymmetric), writes
 * `path` (.skn, docs/formats.md) aside and renames it. Arithmetic: docs/int8.md. */
sk_status sk_quantize(sk_model *model, const sk_dataset *calibration, const sk_cache *cache, const char *path,
                      const sk_quant_options *options, const sk_hooks *hooks, sk_quant_report *report, sk_error *err);

/* Float ONNX, opset 13, IR 8, input "input" [1,3,S,S] normalised RGB, output "logits" [1,classes], batch norm folded,
 * hard-swish as HardSigmoid(alpha 1/6, beta 1/2) * x; metadata_props carry the card. */
sk_status sk_export_onnx(const sk_model *model, const char *path, sk_error *err);

#ifdef __cplusplus
}
#endif
#endif
