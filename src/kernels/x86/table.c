/* SPDX-License-Identifier: Apache-2.0 */
/* Puts the vector entries into a table of kernels if the CPU and the operating system offer them. Built without vector
 * flags, so that it runs on any x86. Depthwise needs a channel count that is a multiple of 8 and hands others to the
 * reference. */
#include "kernels/x86/x86.h"

static void dw_forward(const sk_dw *d, const float *x, int x_row0, const float *weight, const float *bias, sk_act act,
                       int oy0, int oy1, float *y) {
    (d->c % 8 ? sk_kernels_c()->dw_forward : sk_avx2_dw_forward)(d, x, x_row0, weight, bias, act, oy0, oy1, y);
}

static void dw_backward_data(const sk_dw *d, const float *dy, const float *weight, float *dx) {
    (d->c % 8 ? sk_kernels_c()->dw_backward_data : sk_avx2_dw_backward_data)(d, dy, weight, dx);
}

static void dw_backward_weight(const sk_dw *d, const float *dy, const float *x, float *dweight) {
    (d->c % 8 ? sk_kernels_c()->dw_backward_weight : sk_avx2_dw_backward_weight)(d, dy, x, dweight);
}

int sk_kernels_avx2(sk_kernels *table) {
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return 0;
    table->name = "avx2";
    table->dw_forward = dw_forward;
    table->dw_backward_data = dw_backward_data;
    table->dw_backward_weight = dw_backward_weight;
    sk_avx2_gemm_entries(table);
    sk_avx2_bn_entries(table);
    sk_avx2_elementwise_entries(table);
    return 1;
}

int sk_kernels_avx512(sk_kernels *table) {
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl") || !sk_kernels_avx2(table))
        return 0;
    table->name = "avx512";
    sk_avx512_gemm_entries(table);
    sk_avx512_bn_entries(table);
    sk_avx512_elementwise_entries(table);
    return 1;
}
