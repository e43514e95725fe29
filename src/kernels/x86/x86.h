/* SPDX-License-Identifier: Apache-2.0 */
/* The vector entries of the kernel table; kernels/kernels.h says what each does. fp32 only, any channel count. Each
 * function below puts the entries of one file into a table. */
#ifndef SK_KERNELS_X86_H
#define SK_KERNELS_X86_H

#include "kernels/kernels.h"

/* AVX2 and FMA, 8 lanes. */
void sk_avx2_gemm_entries(sk_kernels *table);
void sk_avx2_depthwise_entries(sk_kernels *table);
void sk_avx2_bn_entries(sk_kernels *table);
void sk_avx2_elementwise_entries(sk_kernels *table);
void sk_avx2_stem_entries(sk_kernels *table);
void sk_avx2_act(size_t count, const float *x, sk_act kind, float *y);
/* bn_backward_sums in place for the first `lanes` of the channels at da, of which there are c in a row. */
void sk_avx2_bn_backward_column(float *da, const float *y, int rows, int c, int lanes, const sk_bn *bn, sk_act act,
                                double *sum, double *sum_y);

/* AVX-512 F, BW, DQ and VL, 16 lanes. */
void sk_avx512_gemm_entries(sk_kernels *table);
void sk_avx512_depthwise_entries(sk_kernels *table);
void sk_avx512_bn_entries(sk_kernels *table);
void sk_avx512_elementwise_entries(sk_kernels *table);
void sk_avx512_stem_entries(sk_kernels *table);
void sk_avx512_act(size_t count, const float *x, sk_act kind, float *y);
void sk_avx512_bn_backward_column(float *da, const float *y, int rows, int c, int lanes, const sk_bn *bn, sk_act act,
                                  double *sum, double *sum_y);
#endif
