/* SPDX-License-Identifier: Apache-2.0 */
/* Reference batch norm: sums in double, one pass each for normalise + activation, for the two sums of its gradient, and
 * for the gradient itself. */
#include "kernels/c/reference.h"

void sk_c_bn_sums(const sk_real *y, int rows, int c, const sk_real *origin, double *sum, double *sumsq) {
    for (int i = 0; i < rows; i++, y += c)
        for (int j = 0; j < c; j++) {
            const double value = (double)y[j] - (double)origin[j];

            sum[j] += value;
            sumsq[j] += value * value;
        }
}

void sk_c_bn_forward(const sk_real *y, int rows, int c, const sk_bn *bn, sk_act act, const sk_real *add, sk_real *out) {
    for (int i = 0; i < rows; i++, y += c, out += c) {
        for (int j = 0; j < c; j++) out[j] = sk_c_act1(y[j] * bn->scale[j] + bn->shift[j], act) + (add ? add[j] : 0);
        if (add) add += c;
    }
}

void sk_c_bn_backward_sums(const sk_real *da, const sk_real *y, int rows, int c, const sk_bn *bn, sk_act act,
                           sk_real *dz, double *sum, double *sum_y) {
    for (int i = 0; i < rows; i++, y += c, da += c) {
        for (int j = 0; j < c; j++) {
            const sk_real value = da[j] * sk_c_slope(y[j] * bn->scale[j] + bn->shift[j], act);

            if (dz) dz[j] = value;
            sum[j] += (double)value;
            sum_y[j] += (double)(value * (y[j] - bn->mean[j]));
        }
        if (dz) dz += c;
    }
}

void sk_c_bn_backward(const sk_real *dz, const sk_real *y, int rows, int c, const sk_real *ka, const sk_real *kb,
                      const sk_real *kc, const sk_real *mean, sk_real *dy) {
    for (int i = 0; i < rows; i++, dz += c, y += c, dy += c)
        for (int j = 0; j < c; j++) dy[j] = ka[j] * dz[j] + kb[j] * (y[j] - mean[j]) + kc[j];
}
