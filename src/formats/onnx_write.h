/* SPDX-License-Identifier: Apache-2.0 */
/* What the float ONNX is written with, besides the model: factors of channels. Internal. */
#ifndef SK_FORMATS_ONNX_WRITE_H
#define SK_FORMATS_ONNX_WRITE_H

#include "siskin/quant.h"

/* Layer i is written with channel c divided by factor[i][c], and whoever reads it multiplies by the same. */
typedef struct sk_onnx_equal {
    float **factor; /* per layer, NULL: as it is */
    size_t layers;
} sk_onnx_equal;

/* Factors by what the layers show on the pictures. Errors: MEMORY. */
sk_status sk_onnx_equal_find(sk_model *model, const sk_quant_pictures *pictures, int threads, sk_onnx_equal *out,
                             sk_error *err);
void sk_onnx_equal_free(sk_onnx_equal *equal);
#endif
