/* SPDX-License-Identifier: Apache-2.0 */
/* The threshold under a stated share of false alarms. Scores are log-odds of bird, made of the logits: where float has
 * rounded p to 1 they still tell which picture is the more certain. */
#include <math.h>

#include "base/base.h"
#include "eval/evaluation.h"

static double score_of(const sk_evaluation *e, size_t i, float temperature) {
    const float *z = e->logits + SK_CLASS_COUNT * i;
    return ((double)z[SK_LABEL_BIRD] - (double)z[SK_LABEL_NOBIRD]) / (double)temperature;
}

static double p_of(double score) {
    return 1 / (1 + exp(-score));
}

/* Runtimes may differ in the last bits of p (another expf, codes made real ahead of the softmax): equal codes then give
 * scores that are not quite equal. What lies nearer than this is one score. */
static int apart(double low, double high) {
    return high - low > ldexp(1, -16) && p_of(high) - p_of(low) > ldexp(p_of(high), -21);
}

void sk_evaluation_called(const sk_evaluation *e, float temperature, float threshold, size_t called[SK_CLASS_COUNT]) {
    called[SK_LABEL_NOBIRD] = called[SK_LABEL_BIRD] = 0;
    for (size_t i = 0; i < e->n; i++)
        called[e->samples[i].label == SK_LABEL_BIRD] += (float)p_of(score_of(e, i, temperature)) >= threshold;
}

/* The largest count that is at most `share` of n. A product alone would make 28 of .29 of 100. */
static size_t allowed_of(double share, size_t n) {
    const double count = round(share * (double)n);
    return (size_t)(count / (double)n > share ? count - 1 : count);
}

sk_status sk_false_alarms_check(double share, sk_error *err) {
    if (share >= 0 && share < 1) return SK_OK;
    return sk_fail(err, SK_ERR_ARGUMENT, "a share of %g false alarms is out of range: use 0 to below 1", share);
}

/* The middle of the gap above the last score of which `allowed` + 1 pictures without a bird would alarm; NaN if there
 * is no gap below the edge. The list rises and has more than `allowed` of them. */
static double middle_above(const sk_scored *list, size_t n, size_t allowed, double edge) {
    const double step = .125; /* above the last picture nothing bounds the threshold: only past what rounding moves */
    size_t at = n;
    for (size_t alarms = 0; alarms <= allowed;) alarms += !list[--at].bird;
    while (at + 1 < n && !apart(list[at].score, list[at + 1].score)) at++;
    const double low = list[at].score, high = at + 1 < n ? list[at + 1].score : fmin(low + step, edge);
    return apart(low, high) ? (low + high) / 2 : NAN;
}

sk_status sk_evaluation_threshold(const sk_evaluation *e, float temperature, double share, float *threshold,
                                  sk_error *err) {
    const double edge = log(ldexp(1, 24) - 1); /* p of 1 - 2^-24, the last float before 1 */
    size_t nobirds = 0;
    const sk_status status = sk_false_alarms_check(share, err);
    if (status) return status;
    if (!e->logits || !(temperature > 0))
        return sk_fail(err, SK_ERR_ARGUMENT, "a threshold needs an evaluation with logits and a temperature above 0");
    for (size_t i = 0; i < e->n; i++) {
        const int bird = e->samples[i].label == SK_LABEL_BIRD;
        e->scratch[i] = (sk_scored){fmin(fmax(score_of(e, i, temperature), -edge), edge), bird};
        nobirds += !bird;
    }
    if (!nobirds)
        return sk_fail(err, SK_ERR_DATA,
                       "no picture of the split \"%s\" is without a bird, so its false alarms cannot be counted: "
                       "import such pictures or choose another with --split",
                       sk_split_name(e->options.split));
    const size_t allowed = allowed_of(share, nobirds);
    sk_scored_sort(e->scratch, e->n);
    const double middle = middle_above(e->scratch, e->n, allowed, edge);
    if (isnan(middle))
        return sk_fail(err, SK_ERR_DATA,
                       "no threshold keeps false alarms to a share of %g: more than %zu of %zu pictures without a bird "
                       "have p 1 as far as float tells; look at their labels, train with such pictures or allow more",
                       share, allowed, nobirds);
    *threshold = (float)p_of(middle);
    return SK_OK;
}
