/* SPDX-License-Identifier: Apache-2.0 */
/* The figures of siskin as sk_figure descriptions, so that files and the HTML report draw the same thing. */
#ifndef SK_FIGURES_H
#define SK_FIGURES_H

#include "report/plot.h"
#include "siskin/report.h"

/* Five rows of n numbers: epoch, loss of training and validation, accuracy of training and validation. */
typedef struct sk_curves {
    double *numbers;
    size_t n, best; /* best == n: no epoch is marked */
} sk_curves;
sk_status sk_curves_make(const sk_epoch_log *log, size_t epochs, sk_curves *out, sk_error *err);
sk_figure sk_curves_figure(const sk_curves *curves);

#endif
