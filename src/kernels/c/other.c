/* SPDX-License-Identifier: Apache-2.0 */
/* Reference pooling, squeeze-excitation, elementwise steps, loss and optimiser. */
#include <math.h>
#include <string.h>

#include "kernels/c/reference.h"

void sk_c_pool(const sk_real *x, int rows, int c, sk_real *out) {
    memset(out, 0, (size_t)c * sizeof *out);
    sk_c_column_sums(x, rows, c, out);
    for (int j = 0; j < c; j++) out[j] /= (sk_real)rows;
}

void sk_c_scale(const sk_real *x, int rows, int c, const sk_real *gate, sk_real *y) {
    for (int i = 0; i < rows; i++, x += c, y += c)
        for (int j = 0; j < c; j++) y[j] = x[j] * gate[j];
}

void sk_c_scale_sums(const sk_real *dy, const sk_real *x, int rows, int c, sk_real *dgate) {
    memset(dgate, 0, (size_t)c * sizeof *dgate);
    for (int i = 0; i < rows; i++, dy += c, x += c)
        for (int j = 0; j < c; j++) dgate[j] += dy[j] * x[j];
}

void sk_c_scale_backward(const sk_real *dy, int rows, int c, const sk_real *gate, const sk_real *plus, sk_real *dx) {
    for (int i = 0; i < rows; i++, dx += c) {
        for (int j = 0; j < c; j++) dx[j] = (dy ? dy[j] * (gate ? gate[j] : 1) : 0) + plus[j];
        if (dy) dy += c;
    }
}

void sk_c_add(size_t count, const sk_real *a, const sk_real *b, sk_real *out) {
    for (size_t i = 0; i < count; i++) out[i] = a[i] + b[i];
}

void sk_c_act(size_t count, const sk_real *x, sk_act act, sk_real *y) {
    for (size_t i = 0; i < count; i++) y[i] = sk_c_act1(x[i], act);
}

void sk_c_act_backward(size_t count, const sk_real *dy, const sk_real *x, sk_act act, sk_real *dx) {
    for (size_t i = 0; i < count; i++) dx[i] = dy[i] * sk_c_slope(x[i], act);
}

void sk_c_column_sums(const sk_real *y, int rows, int c, sk_real *out) {
    for (int i = 0; i < rows; i++, y += c)
        for (int j = 0; j < c; j++) out[j] += y[j];
}

/* t[j] of kernels.h. */
static double target_of(const sk_loss_target *target, int classes, int label, int j) {
    const double smoothing = (double)target->smoothing, even = smoothing / classes;

    return (target->class_weight ? (double)target->class_weight[j] : 1) * (j == label ? 1 - smoothing + even : even);
}

int sk_c_cross_entropy(const sk_real *logits, const int *labels, int rows, int classes, const sk_loss_target *target,
                       sk_real weight, double *loss, sk_real *dlogits) {
    int correct = 0;

    for (int i = 0; i < rows; i++, logits += classes) {
        double total = 0, mass = 0;
        int best = 0;

        for (int j = 1; j < classes; j++)
            if (logits[j] > logits[best]) best = j;
        for (int j = 0; j < classes; j++) total += exp((double)logits[j] - (double)logits[best]);
        loss[i] = 0;
        for (int j = 0; j < classes; j++) {
            const double t = target_of(target, classes, labels[i], j);

            mass += t;
            loss[i] += t * (log(total) + (double)logits[best] - (double)logits[j]);
        }
        correct += best == labels[i];
        for (int j = 0; dlogits && j < classes; j++) {
            const double p = exp((double)logits[j] - (double)logits[best]) / total;
            const double t = target_of(target, classes, labels[i], j);

            dlogits[(size_t)i * (size_t)classes + (size_t)j] = (sk_real)((p * mass - t) * (double)weight);
        }
    }
    return correct;
}

void sk_c_adam(size_t count, sk_real *w, const sk_real *g, sk_real *m, sk_real *v, sk_real b1, sk_real b2,
               sk_real step_size, sk_real inv_sqrt_bc2, sk_real eps) {
    for (size_t i = 0; i < count; i++) {
        m[i] = b1 * m[i] + (1 - b1) * g[i];
        v[i] = b2 * v[i] + (1 - b2) * g[i] * g[i];
        w[i] -= step_size * m[i] / ((sk_real)sqrt((double)v[i]) * inv_sqrt_bc2 + eps);
    }
}
