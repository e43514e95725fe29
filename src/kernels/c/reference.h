/* SPDX-License-Identifier: Apache-2.0 */
/* The reference entries, shared by the files of this folder and by tests. What each one does: kernels/kernels.h. */
#ifndef SK_KERNELS_C_REFERENCE_H
#define SK_KERNELS_C_REFERENCE_H

#include "kernels/kernels.h"

size_t sk_c_gemm_pack_size(int n, int k);
void sk_c_gemm_pack(sk_real *dst, int n, int k, const sk_real *src, ptrdiff_t stride_n, ptrdiff_t stride_k);
void sk_c_gemm(const sk_gemm *g);
void sk_c_gemm_tn(int m, int n, int k, const sk_real *dy, int ldy, const sk_real *x, int ldx, sk_real *dw);
void sk_c_gram(int m, int n, const sk_real *x, int ldx, sk_real *out);
void sk_c_im2col_u8(const sk_stem *s, const uint8_t *image, int oy0, int oy1, sk_real *scratch, sk_real *out, int ld);
void sk_c_stem_u8(const sk_stem *s, const uint8_t *image, int oy0, int oy1, sk_real *scratch, sk_real *y);
void sk_c_dw_forward(const sk_dw *d, const sk_real *x, int x_row0, const sk_real *weight, const sk_real *bias,
                     sk_act act, int oy0, int oy1, sk_real *y);
void sk_c_dw_backward_data(const sk_dw *d, const sk_real *dy, const sk_real *weight, const sk_real *x, sk_real *dx,
                           double *sum, double *sum_y);
void sk_c_dw_backward_weight(const sk_dw *d, const sk_real *dy, const sk_real *x, sk_real *dweight);
void sk_c_bn_sums(const sk_real *y, int rows, int c, const sk_real *origin, double *sum, double *sumsq);
void sk_c_bn_forward(const sk_real *y, int rows, int c, const sk_bn *bn, sk_act act, const sk_real *add, sk_real *out);
void sk_c_bn_backward_sums(const sk_real *da, const sk_real *y, int rows, int c, const sk_bn *bn, sk_act act,
                           sk_real *dz, double *sum, double *sum_y);
void sk_c_bn_backward(const sk_real *dz, const sk_real *y, int rows, int c, const sk_real *ka, const sk_real *kb,
                      const sk_real *kc, const sk_real *mean, sk_real *dy);
void sk_c_pool(const sk_real *x, int rows, int c, sk_real *out);
void sk_c_scale(const sk_real *x, int rows, int c, const sk_real *gate, sk_real *y);
void sk_c_scale_sums(const sk_real *dy, const sk_real *x, int rows, int c, sk_real *dgate);
void sk_c_scale_backward(const sk_real *dy, int rows, int c, const sk_real *gate, const sk_real *plus, sk_real *dx);
void sk_c_add(size_t count, const sk_real *a, const sk_real *b, sk_real *out);
void sk_c_act(size_t count, const sk_real *x, sk_act act, sk_real *y);
void sk_c_act_backward(size_t count, const sk_real *dy, const sk_real *x, sk_act act, sk_real *dx);
void sk_c_column_sums(const sk_real *y, int rows, int c, sk_real *out);
int sk_c_cross_entropy(const sk_real *logits, const int *labels, int rows, int classes, const sk_loss_target *target,
                       sk_real weight, double *loss, sk_real *dlogits);
void sk_c_adam(size_t count, sk_real *w, const sk_real *g, sk_real *m, sk_real *v, sk_real b1, sk_real b2,
               sk_real step_size, sk_real inv_sqrt_bc2, sk_real eps);

/* One value through an activation, and the activation's slope there (torch's choice at the kinks). */
static inline sk_real sk_c_act1(sk_real x, sk_act act) {
    sk_real gate;

    switch (act) {
    case SK_ACT_RELU: return x > 0 ? x : 0;
    case SK_ACT_HSWISH:
    case SK_ACT_HSIGMOID:
        gate = x + 3;
        gate = gate < 0 ? 0 : gate > 6 ? 6 : gate;
        return act == SK_ACT_HSWISH ? x * gate * ((sk_real)1 / 6) : gate * ((sk_real)1 / 6);
    case SK_ACT_NONE:
    default: return x;
    }
}

static inline sk_real sk_c_slope(sk_real x, sk_act act) {
    switch (act) {
    case SK_ACT_RELU: return x > 0 ? 1 : 0;
    case SK_ACT_HSWISH: return x <= -3 ? 0 : x >= 3 ? 1 : x * ((sk_real)1 / 3) + (sk_real)0.5;
    case SK_ACT_HSIGMOID: /* the float next to 1/6, in double too: so does torch, and its figures are held to 1e-9 */
        return x > -3 && x < 3 ? (sk_real)(1.0f / 6.0f) : 0;
    case SK_ACT_NONE:
    default: return 1;
    }
}
#endif
