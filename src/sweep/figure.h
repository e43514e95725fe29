/* SPDX-License-Identifier: Apache-2.0 */
/* The dot plot of a sweep, for files and for sweep.html. Internal. */
#ifndef SK_SWEEP_FIGURE_H
#define SK_SWEEP_FIGURE_H

#include "report/plot.h"
#include "sweep/sweep.h"

typedef struct sk_sweep_figure {
    const sk_sweep *sweep;
    int sources; /* accuracy per source instead of the measures over all */
} sk_sweep_figure;
/* 0: there is nothing to draw, or more than a figure can hold. `f` must outlive the figure. */
int sk_sweep_figure_make(const sk_sweep_figure *f, sk_figure *out);

#endif
