/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this folder offer each other, once per width. */
#ifndef SK_INT8_X86_TABLE_H
#define SK_INT8_X86_TABLE_H

#include "kernels/int8/int8.h"
#include "kernels/int8/x86/vector.h"

size_t SK_WIDE(gemm_packed)(const sk_q_layer *layer);
void SK_WIDE(gemm_pack)(const sk_q_layer *layer, void *packed);
size_t SK_WIDE(gemm_scratch)(const sk_q_layer *layer);
void SK_WIDE(gemm)(const sk_q_layer *layer, const int8_t *in, int8_t *out, void *scratch);
size_t SK_WIDE(depthwise_packed)(const sk_q_layer *layer);
void SK_WIDE(depthwise_pack)(const sk_q_layer *layer, void *packed);
size_t SK_WIDE(depthwise_scratch)(const sk_q_layer *layer);
void SK_WIDE(depthwise)(const sk_q_layer *layer, const int8_t *in, int8_t *out, void *scratch);
void SK_WIDE(pool)(const sk_q_layer *layer, const int8_t *in, int8_t *out);
void SK_WIDE(scale)(const sk_q_layer *layer, const int8_t *in, const int8_t *gate, int8_t *out);
void SK_WIDE(add)(const sk_q_layer *layer, const int8_t *in, const int8_t *in2, int8_t *out);
#endif
