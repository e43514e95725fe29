/* SPDX-License-Identifier: Apache-2.0 */
/* Statistics over outcomes: intervals, confusion, ROC, slices by source and group. Nothing here runs a network. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "eval/evaluation.h"

void sk_wilson(size_t k, size_t n, double *low, double *high) {
    if (!n) {
        *low = 0;
        *high = 1;
        return;
    }
    const double z = 1.959963984540054, total = (double)n, p = (double)k / total, z2 = z * z;
    const double centre = p + z2 / (2 * total), half = z * sqrt((p * (1 - p) + z2 / (4 * total)) / total);
    *low = k == 0 ? 0 : (centre - half) / (1 + z2 / total);
    *high = k == n ? 1 : (centre + half) / (1 + z2 / total);
}

double sk_score(const sk_verdict *verdict, float threshold, float penalty) {
    double score = verdict->p[0];
    for (int i = 1; i < verdict->crops && i < 3; i++) {
        const double p = verdict->p[i], t = threshold, q = penalty;
        const double moved = p >= q ? (q < 1 ? t + (p - q) * (1 - t) / (1 - q) : 1) : p * t / q;
        score = fmax(score, moved);
    }
    return score;
}

static int by_score(const void *a, const void *b) {
    const double x = ((const sk_scored *)a)->score, y = ((const sk_scored *)b)->score;
    return (x > y) - (x < y);
}

void sk_scored_sort(sk_scored *list, size_t n) {
    qsort(list, n, sizeof *list, by_score);
}

/* Mann-Whitney by ranks; sorts the list. */
static double area_of(sk_scored *list, size_t n) {
    double positives = 0, rank_sum = 0;
    sk_scored_sort(list, n);
    for (size_t i = 0; i < n;) {
        size_t end = i;
        double birds = 0;
        for (; end < n && !(list[end].score > list[i].score); end++) birds += list[end].bird;
        rank_sum += birds * ((double)(i + end) + 1) / 2; /* ranks i+1 .. end share their mean */
        positives += birds;
        i = end;
    }
    const double negatives = (double)n - positives;
    if (positives < 1 || negatives < 1) return NAN;
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives);
}

sk_status sk_roc_area(const double *scores, const int *birds, size_t n, double *area, sk_error *err) {
    sk_scored *list = sk_alloc(n ? n : 1, sizeof *list);
    if (!list) return sk_fail_memory(err, "the ROC area");
    for (size_t i = 0; i < n; i++) list[i] = (sk_scored){scores[i], birds[i] != 0};
    *area = area_of(list, n);
    sk_free(list);
    return SK_OK;
}

double sk_mcnemar(size_t only_first, size_t only_second) {
    const size_t n = only_first + only_second, k = only_first < only_second ? only_first : only_second;
    double log_choose = 0, sum = 0;
    for (size_t i = 0; i <= k; i++) {
        if (i) log_choose += log((double)(n - i + 1)) - log((double)i);
        sum += exp(log_choose - (double)n * M_LN2);
    }
    return fmin(1, 2 * sum);
}

typedef int (*keep_fn)(void *user, const sk_sample *sample);

static double ratio(double a, double b) {
    return b > 0 ? a / b : NAN;
}

sk_metrics sk_evaluation_metrics_where(const sk_evaluation *e, keep_fn keep, void *user) {
    sk_metrics m = {0};
    for (size_t i = 0; i < e->n; i++) {
        if (keep && !keep(user, &e->samples[i])) continue;
        const int bird = e->samples[i].label == SK_LABEL_BIRD;
        m.confusion[bird][e->outcomes[i].verdict.bird != 0]++;
        e->scratch[m.n++] =
            (sk_scored){sk_score(&e->outcomes[i].verdict, e->options.threshold, e->options.penalty), bird};
    }
    const size_t right = m.confusion[0][0] + m.confusion[1][1];
    const double hit = (double)m.confusion[1][1], alarm = (double)m.confusion[0][1], miss = (double)m.confusion[1][0];
    m.accuracy = ratio((double)right, (double)m.n);
    sk_wilson(right, m.n, &m.accuracy_low, &m.accuracy_high);
    m.precision = ratio(hit, hit + alarm);
    m.recall = ratio(hit, hit + miss);
    m.f1 = ratio(2 * hit, 2 * hit + alarm + miss);
    m.roc_area = area_of(e->scratch, m.n);
    return m;
}

sk_metrics sk_evaluation_metrics(const sk_evaluation *evaluation) {
    return sk_evaluation_metrics_where(evaluation, NULL, NULL);
}

/* ---- slices ------------------------------------------------------------------------------------------------------ */

typedef struct slice_key {
    int by_group;
    const char *name;
} slice_key;

static const char *key_of(const sk_sample *sample, int by_group) {
    const char *name = by_group ? sample->group : sample->source;
    return name ? name : "";
}

static int in_slice(void *user, const sk_sample *sample) {
    const slice_key *key = user;
    return !strcmp(key_of(sample, key->by_group), key->name);
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

sk_status sk_evaluation_slices(const sk_evaluation *e, int by_group, sk_slice **out, size_t *count, sk_error *err) {
    *out = NULL;
    *count = 0;
    const char **names = sk_alloc(e->n ? e->n : 1, sizeof *names);
    sk_slice *slices = NULL;
    if (!names) goto memory;
    for (size_t i = 0; i < e->n; i++) names[i] = key_of(&e->samples[i], by_group);
    qsort(names, e->n, sizeof *names, by_name);
    size_t distinct = 0;
    for (size_t i = 0; i < e->n; i++)
        if (!distinct || strcmp(names[distinct - 1], names[i])) names[distinct++] = names[i];
    slices = sk_alloc(distinct ? distinct : 1, sizeof *slices);
    if (!slices) goto memory;
    for (size_t i = 0; i < distinct; i++) {
        slice_key key = {by_group, names[i]};
        slices[i] = (sk_slice){names[i], sk_evaluation_metrics_where(e, in_slice, &key)};
    }
    sk_free(names);
    *out = slices;
    *count = distinct;
    return SK_OK;
memory:
    sk_free(names);
    return sk_fail_memory(err, "the table per source");
}

void sk_slices_free(sk_slice *slices) {
    sk_free(slices);
}

/* ---- wrong verdicts ---------------------------------------------------------------------------------------------- */

int sk_evaluation_is_wrong(const sk_evaluation *e, size_t index) {
    return (e->outcomes[index].verdict.bird != 0) != (e->samples[index].label == SK_LABEL_BIRD);
}

double sk_evaluation_margin(const sk_evaluation *e, size_t index) {
    const sk_eval_options *o = &e->options;
    return fabs(sk_score(&e->outcomes[index].verdict, o->threshold, o->penalty) - (double)o->threshold);
}

typedef struct wrongness {
    double margin;
    size_t index;
} wrongness;

static int most_certain(const void *a, const void *b) {
    const wrongness *x = a, *y = b;
    if (x->margin > y->margin || x->margin < y->margin) return x->margin > y->margin ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

sk_status sk_evaluation_wrong(const sk_evaluation *e, size_t **out, size_t *count, sk_error *err) {
    wrongness *list = sk_alloc(e->n ? e->n : 1, sizeof *list);
    *out = sk_alloc(e->n ? e->n : 1, sizeof **out);
    *count = 0;
    if (!list || !*out) {
        sk_free(list);
        sk_free(*out);
        *out = NULL;
        return sk_fail_memory(err, "the list of wrong pictures");
    }
    for (size_t i = 0; i < e->n; i++)
        if (sk_evaluation_is_wrong(e, i)) list[(*count)++] = (wrongness){sk_evaluation_margin(e, i), i};
    qsort(list, *count, sizeof *list, most_certain);
    for (size_t i = 0; i < *count; i++) (*out)[i] = list[i].index;
    sk_free(list);
    return SK_OK;
}

void sk_wrong_free(size_t *list) { sk_free(list); }
