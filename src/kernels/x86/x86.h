/* SPDX-License-Identifier: Apache-2.0 */
/* The AVX2 and FMA entries of the kernel table; kernels/kernels.h says what each does. fp32 only. act_avx2.h
 * holds what must be inlined. */
#ifndef SK_KERNELS_X86_H
#define SK_KERNELS_X86_H

#include "kernels/kernels.h"

size_t sk_avx2_gemm_pack_size(int n, int k);
void sk_avx2_gemm_pack(float *dst, int n, int k, const float *src, ptrdiff_t stride_n, ptrdiff_t stride_k);
void sk_avx2_gemm(const sk_gemm *g);
void sk_avx2_gemm_tn(int m, int n, int k, const float *dy, int ldy, const float *x, int ldx, float *dw);

/* Any channel count that is a multiple of 8. */
void sk_avx2_dw_forward(const sk_dw *d, const float *x, int x_row0, const float *weight, const float *bias, sk_act act,
                        int oy0, int oy1, float *y);
void sk_avx2_dw_backward_data(const sk_dw *d, const float *dy, const float *weight, float *dx);
void sk_avx2_dw_backward_weight(const sk_dw *d, const float *dy, const float *x, float *dweight);

/* bn_avx2.c and elementwise_avx2.c: channel counts that are multiples of 8, others go to the reference. */
void sk_avx2_bn_entries(sk_kernels *table);
void sk_avx2_elementwise_entries(sk_kernels *table);

#endif
