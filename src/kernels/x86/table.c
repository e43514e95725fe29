/* SPDX-License-Identifier: Apache-2.0 */
/* Puts the vector entries into a table of kernels if the CPU and the operating system offer them. Built without vector
 * flags, so that it runs on any x86. */
#include "kernels/x86/x86.h"

int sk_kernels_avx2(sk_kernels *table) {
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return 0;
    table->name = "avx2";
    sk_avx2_gemm_entries(table);
    sk_avx2_depthwise_entries(table);
    sk_avx2_bn_entries(table);
    sk_avx2_elementwise_entries(table);
    sk_avx2_stem_entries(table);
    return 1;
}

int sk_kernels_avx512(sk_kernels *table) {
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl") || !sk_kernels_avx2(table))
        return 0;
    table->name = "avx512";
    sk_avx512_gemm_entries(table);
    sk_avx512_depthwise_entries(table);
    sk_avx512_bn_entries(table);
    sk_avx512_elementwise_entries(table);
    sk_avx512_stem_entries(table);
    return 1;
}
