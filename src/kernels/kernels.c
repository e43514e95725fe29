/* SPDX-License-Identifier: Apache-2.0 */
/* Chooses the table of kernels once: the reference, overwritten by vector entries where the CPU has them. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/c/reference.h"
#include "kernels/kernels.h"

static const sk_kernels reference = {
    .name = "c",
    .gemm_pack_size = sk_c_gemm_pack_size,
    .gemm_pack = sk_c_gemm_pack,
    .gemm = sk_c_gemm,
    .gemm_tn = sk_c_gemm_tn,
    .im2col_u8 = sk_c_im2col_u8,
    .dw_forward = sk_c_dw_forward,
    .dw_backward_data = sk_c_dw_backward_data,
    .dw_backward_weight = sk_c_dw_backward_weight,
    .bn_sums = sk_c_bn_sums,
    .bn_forward = sk_c_bn_forward,
    .bn_backward_sums = sk_c_bn_backward_sums,
    .bn_backward = sk_c_bn_backward,
    .pool = sk_c_pool,
    .scale = sk_c_scale,
    .scale_sums = sk_c_scale_sums,
    .scale_backward = sk_c_scale_backward,
    .add = sk_c_add,
    .act = sk_c_act,
    .act_backward = sk_c_act_backward,
    .column_sums = sk_c_column_sums,
    .cross_entropy = sk_c_cross_entropy,
    .adam = sk_c_adam,
};

static sk_kernels chosen;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void choose(void) {
    const char *cpu = getenv("SISKIN_CPU");

    chosen = reference;
#if defined(SK_HAVE_AVX2) && !defined(SK_DOUBLE)
    if (!cpu || strcmp(cpu, "c") != 0) sk_kernels_x86(&chosen);
#else
    (void)cpu;
#endif
}

const sk_kernels *sk_kernels_c(void) { return &reference; }

const sk_kernels *sk_kernels_get(void) {
    pthread_once(&once, choose);
    return &chosen;
}
