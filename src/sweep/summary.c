/* SPDX-License-Identifier: Apache-2.0 */
/* Mean, deviation and interval over the seeds of a configuration. */
#include <math.h>

#include "sweep/sweep.h"

/* Share of Student's distribution within -t .. t: a finite sum for whole degrees (Abramowitz and Stegun 1964, 26.7.3
 * and 26.7.4). */
static double within(double t, size_t degrees) {
    const double angle = atan(t / sqrt((double)degrees)), c = cos(angle), s = sin(angle);
    const size_t odd = degrees % 2;
    double term = odd ? c : 1, sum = 0;
    for (size_t k = odd ? 3 : 2; k <= degrees; k += 2) {
        sum += term;
        term *= c * c * (double)(k - 1) / (double)k;
    }
    return odd ? (angle + s * sum) * 2 / M_PI : s * sum;
}

double sk_student_t(size_t degrees) {
    double low = 0, high = 13; /* one degree has 12.7 */
    if (degrees < 1) return NAN;
    for (int i = 0; i < 60; i++) {
        const double middle = (low + high) / 2;
        if (within(middle, degrees) < .95) low = middle;
        else high = middle;
    }
    return (low + high) / 2;
}

sk_summary sk_summarise(const double *values, size_t n) {
    sk_summary s = {0, NAN, NAN, NAN, NAN};
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(values[i])) continue;
        s.n++;
        sum += values[i];
    }
    if (!s.n) return s;
    s.mean = sum / (double)s.n;
    if (s.n < 2) return s;
    for (size_t i = 0; i < n; i++)
        if (isfinite(values[i])) squares += (values[i] - s.mean) * (values[i] - s.mean);
    s.sd = sqrt(squares / (double)(s.n - 1));
    const double half = sk_student_t(s.n - 1) * s.sd / sqrt((double)s.n);
    s.low = s.mean - half;
    s.high = s.mean + half;
    return s;
}

sk_summary sk_summarise_measure(const double *values, size_t n, sk_measure_kind kind) {
    sk_summary s = sk_summarise(values, n);
    const int share = kind == SK_MEASURE_SHARE || kind == SK_MEASURE_AREA;
    if (s.low < 0) s.low = 0; /* not of a NaN */
    if (share && s.high > 1) s.high = 1;
    return s;
}

sk_summary sk_sweep_summary(const sk_sweep *sweep, size_t config, size_t measure) {
    double values[1000];
    size_t n = 0;
    for (size_t i = 0; i < sweep->run_count && n < 1000; i++)
        if (sweep->runs[i].config == config && sweep->runs[i].values) values[n++] = sweep->runs[i].values[measure];
    return sk_summarise_measure(values, n, sweep->measures[measure].kind);
}

const char *sk_sweep_config(const sk_sweep *sweep, size_t config) {
    return config < sweep->config_count ? sweep->configs[config].name : NULL;
}

const sk_measure *sk_sweep_measure(const sk_sweep *sweep, size_t measure) {
    return measure < sweep->measure_count ? &sweep->measures[measure] : NULL;
}

void sk_sweep_counts(const sk_sweep *sweep, size_t *done, size_t *failed, size_t *total) {
    *done = *failed = 0;
    *total = sweep->run_count;
    for (size_t i = 0; i < sweep->run_count; i++) {
        *done += sweep->runs[i].state == SK_RUN_DONE;
        *failed += sweep->runs[i].state == SK_RUN_FAILED;
    }
}
