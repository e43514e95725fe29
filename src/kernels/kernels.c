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
    .gram = sk_c_gram,
    .im2col_u8 = sk_c_im2col_u8,
    .stem_u8 = sk_c_stem_u8,
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

/* Widest first. */
static const struct path {
    const char *name;
    int (*overwrite)(sk_kernels *table); /* NULL: the reference as it is */
} paths[] = {
#if defined(SK_HAVE_AVX2) && !defined(SK_DOUBLE)
    {"avx512", sk_kernels_avx512},
    {"avxvnni", sk_kernels_avx2}, /* what it adds multiplies integers only */
    {"avx2", sk_kernels_avx2},
#endif
    {"c", NULL},
};
enum { PATHS = sizeof paths / sizeof *paths };

static int find(const char *name) {
    for (int i = 0; i < PATHS; i++)
        if (!strcmp(paths[i].name, name)) return i;
    return -1;
}

static int fill(int path, sk_kernels *table) {
    *table = reference;
    return !paths[path].overwrite || paths[path].overwrite(table);
}

int sk_kernels_path(const char *name, sk_kernels *table) {
    const int path = find(name);

    return path >= 0 && fill(path, table);
}

static sk_kernels chosen;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void choose(void) {
    const char *wanted = getenv("SISKIN_CPU");
    int path = wanted ? find(wanted) : 0;

    if (path < 0) path = 0;
    while (!fill(path, &chosen)) path++;
}

const sk_kernels *sk_kernels_c(void) { return &reference; }

const sk_kernels *sk_kernels_get(void) {
    pthread_once(&once, choose);
    return &chosen;
}
