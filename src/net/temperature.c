/* SPDX-License-Identifier: Apache-2.0 */
/* Temperature scaling. The loss is convex in 1 / temperature, so halving an interval until its ends meet finds the one
 * minimum, whatever the logits are, and always in the same number of steps. */
#include <math.h>
#include <string.h>

#include "base/base.h"
#include "siskin/model.h"

enum { HALVINGS = 60 };

typedef struct labelled {
    const float *logits;
    const int *labels;
    size_t n;
    int classes;
    const size_t *per_class;
} labelled;

/* Slope of one picture's loss against 1 / temperature: the mean logit under p less the mean logit under the target. */
static double slope_of(const labelled *all, size_t i, double inverse) {
    const float *z = all->logits + i * (size_t)all->classes;
    const int label = all->labels[i];
    double most = z[0], sum = 0, mean = 0, target = 0;
    for (int c = 1; c < all->classes; c++) most = fmax(most, z[c]);
    for (int c = 0; c < all->classes; c++) {
        const double weight = exp(((double)z[c] - most) * inverse);
        sum += weight;
        mean += weight * (double)z[c];
        target += (double)z[c];
    }
    const double seen = (double)all->per_class[label];
    target = (target + seen * (double)z[label]) / (seen + all->classes);
    return mean / sum - target;
}

static double slope(const labelled *all, double inverse) {
    double sum = 0;
    for (size_t i = 0; i < all->n; i++) sum += slope_of(all, i, inverse);
    return sum;
}

static sk_status count_classes(const labelled *all, size_t *per_class, sk_error *err) {
    for (size_t i = 0; i < all->n; i++) {
        if (all->labels[i] < 0 || all->labels[i] >= all->classes)
            return sk_fail(err, SK_ERR_ARGUMENT, "label %d of picture %zu is not one of %d classes", all->labels[i], i,
                           all->classes);
        for (int c = 0; c < all->classes; c++)
            if (!isfinite(all->logits[i * (size_t)all->classes + (size_t)c]))
                return sk_fail(err, SK_ERR_DATA, "the logits of picture %zu are not finite: the model is broken", i);
        per_class[all->labels[i]]++;
    }
    return SK_OK;
}

sk_status sk_fit_temperature(const float *logits, const int *labels, size_t n, int classes, float *temperature,
                             sk_error *err) {
    if (n == 0 || classes < 2)
        return sk_fail(err, SK_ERR_ARGUMENT, "a temperature cannot be fitted to %zu pictures of %d classes", n,
                       classes);
    size_t *per_class = sk_calloc((size_t)classes, sizeof *per_class);
    if (!per_class) return sk_fail_memory(err, "the temperature");
    const labelled all = {logits, labels, n, classes, per_class};
    const sk_status status = count_classes(&all, per_class, err);
    if (status == SK_OK) {
        double low = 1 / (double)SK_FIT_MOST, high = 1 / (double)SK_FIT_LEAST;
        for (int i = 0; i < HALVINGS; i++) {
            const double middle = (low + high) / 2;
            if (slope(&all, middle) < 0) low = middle;
            else high = middle;
        }
        *temperature = (float)(2 / (low + high));
    }
    sk_free(per_class);
    return status;
}
