/* SPDX-License-Identifier: Apache-2.0 */
/* Two models over the same pictures, e.g. float and int8: what changed, on the whole and per source. */
#include <math.h>
#include <string.h>

#include "base/base.h"
#include "eval/evaluation.h"

static double ratio(double a, double b) {
    return b > 0 ? a / b : NAN;
}

/* Half widths of the two accuracies' intervals, added as correlated errors are. */
static double reach(double first, double second, double phi) {
    return sqrt(fmax(first * first - 2 * phi * first * second + second * second, 0));
}

void sk_paired_interval(size_t both, size_t only_first, size_t only_second, size_t neither, double *low,
                        double *high) {
    const size_t first = both + only_first, second = both + only_second, n = first + only_second + neither;
    const double a = (double)both, b = (double)only_first, c = (double)only_second, d = (double)neither;
    *low = *high = NAN;
    if (!n) return;
    double low1, high1, low2, high2;
    sk_wilson(first, n, &low1, &high1);
    sk_wilson(second, n, &low2, &high2);
    const double product = (a + b) * (c + d) * (a + c) * (b + d);
    double excess = a * d - b * c;
    if (excess > 0) excess = fmax(excess - (double)n / 2, 0); /* continuity correction */
    const double phi = product > 0 ? excess / sqrt(product) : 0;
    const double p1 = (a + b) / (double)n, p2 = (a + c) / (double)n;
    *low = p2 - p1 - reach(p2 - low2, high1 - p1, phi);
    *high = p2 - p1 + reach(high2 - p2, p1 - low1, phi);
}

static int same_pictures(const sk_evaluation *a, const sk_evaluation *b) {
    if (a->n != b->n) return 0;
    for (size_t i = 0; i < a->n; i++)
        if (a->outcomes[i].sample != b->outcomes[i].sample) return 0;
    return 1;
}

/* Cosine of two rows; rows of zeros are alike. */
static double cosine(const float *a, const float *b, int count) {
    double ab = 0, aa = 0, bb = 0;
    for (int i = 0; i < count; i++) {
        ab += (double)a[i] * (double)b[i];
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
    }
    return aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : aa > 0 || bb > 0 ? 0 : 1;
}

static void add_picture(const sk_evaluation *a, const sk_evaluation *b, size_t i, sk_comparison *out) {
    const sk_verdict *v = &a->outcomes[i].verdict, *w = &b->outcomes[i].verdict;
    const int bird = a->samples[i].label == SK_LABEL_BIRD, first = (v->bird != 0) == bird;
    const int second = (w->bird != 0) == bird;
    out->n++;
    if (first && second) out->both_right++;
    else if (first) out->only_first++;
    else if (second) out->only_second++;
    else out->both_wrong++;
    const double change = fabs((double)v->p[0] - (double)w->p[0]);
    out->mean_dp += change;
    out->max_dp = fmax(out->max_dp, change);
    if (a->features && b->features && a->feature_count == b->feature_count) {
        const size_t at = i * (size_t)a->feature_count;
        const double now = cosine(a->features + at, b->features + at, a->feature_count);
        out->mean_cosine += now;
        out->least_cosine = fmin(out->least_cosine, now);
    }
}

/* Of the pictures of one source, or of all (NULL). */
static sk_comparison compare(const sk_evaluation *a, const sk_evaluation *b, const char *source) {
    sk_comparison out = {.least_cosine = 1};
    for (size_t i = 0; i < a->n; i++)
        if (!source || !strcmp(a->samples[i].source, source)) add_picture(a, b, i, &out);
    const double n = (double)out.n;
    const int with_features = a->features && b->features && a->feature_count == b->feature_count && out.n > 0;
    out.flips = out.only_first + out.only_second;
    out.flip_rate = ratio((double)out.flips, n);
    out.accuracy_difference = ratio((double)out.only_second - (double)out.only_first, n);
    sk_paired_interval(out.both_right, out.only_first, out.only_second, out.both_wrong, &out.difference_low,
                       &out.difference_high);
    out.mean_dp = ratio(out.mean_dp, n);
    out.mcnemar_p = sk_mcnemar(out.only_first, out.only_second);
    out.mean_cosine = with_features ? out.mean_cosine / n : NAN;
    out.least_cosine = with_features ? out.least_cosine : NAN;
    return out;
}

static sk_status check(const sk_evaluation *a, const sk_evaluation *b, sk_error *err) {
    if (same_pictures(a, b)) return SK_OK;
    return sk_fail(err, SK_ERR_MISMATCH, "cannot compare the two evaluations: they are not over the same pictures");
}

sk_status sk_evaluation_compare(const sk_evaluation *a, const sk_evaluation *b, sk_comparison *out, sk_error *err) {
    *out = (sk_comparison){.n = a->n};
    const sk_status status = check(a, b, err);
    if (!status) *out = compare(a, b, NULL);
    return status;
}

sk_status sk_evaluation_compare_sources(const sk_evaluation *a, const sk_evaluation *b, sk_compared_source **out,
                                        size_t *count, sk_error *err) {
    sk_slice *slices = NULL;
    *out = NULL;
    sk_status status = check(a, b, err);
    if (!status) status = sk_evaluation_slices(a, 0, &slices, count, err);
    if (!status && !(*out = sk_alloc(*count ? *count : 1, sizeof **out)))
        status = sk_fail_memory(err, "the comparison per source");
    for (size_t i = 0; !status && i < *count; i++)
        (*out)[i] = (sk_compared_source){slices[i].name, compare(a, b, slices[i].name)};
    sk_slices_free(slices);
    return status;
}

void sk_compared_free(sk_compared_source *sources) {
    sk_free(sources);
}
