/* SPDX-License-Identifier: Apache-2.0 */
/* Is p what it says: reliability per bin, expected calibration error, likelihood and Brier score; and the temperature
 * that is fitted to a part of the data, with the threshold under a share of false alarms. */
#include <math.h>

#include "base/base.h"
#include "eval/evaluation.h"

/* p with its log-odds times `factor`; what float rounded to 0 or 1 is taken for the last number before. */
static double stretched(double p, double factor) {
    const double edge = ldexp(1, -24), kept = fmin(fmax(p, edge), 1 - edge);
    return factor > 1 || factor < 1 ? 1 / (1 + exp(-factor * log(kept / (1 - kept)))) : p;
}

static void count_one(sk_calibration *c, double p, int bird) {
    const double edge = ldexp(1, -24), place = p * SK_CALIBRATION_BINS;
    const size_t bin = place >= SK_CALIBRATION_BINS ? SK_CALIBRATION_BINS - 1 : place > 0 ? (size_t)place : 0;
    c->count[bin]++;
    c->mean_p[bin] += p;
    c->share[bin] += bird;
    c->nll -= log(fmin(fmax(bird ? p : 1 - p, edge), 1 - edge));
    c->brier += (p - bird) * (p - bird);
}

sk_calibration sk_evaluation_calibration(const sk_evaluation *e, double factor) {
    sk_calibration c = {.n = e->n};
    for (size_t i = 0; i < e->n; i++)
        count_one(&c, stretched((double)e->outcomes[i].verdict.p[0], factor), e->samples[i].label == SK_LABEL_BIRD);
    for (int b = 0; b < SK_CALIBRATION_BINS; b++) {
        c.ece += fabs(c.mean_p[b] - c.share[b]);
        c.mean_p[b] = c.count[b] ? c.mean_p[b] / (double)c.count[b] : NAN;
        c.share[b] = c.count[b] ? c.share[b] / (double)c.count[b] : NAN;
    }
    const double n = e->n ? (double)e->n : NAN;
    c.ece /= n;
    c.nll /= n;
    c.brier /= n;
    return c;
}

static sk_status fit(const sk_evaluation *e, float *temperature, sk_error *err) {
    int *labels = sk_alloc(e->n ? e->n : 1, sizeof *labels);
    if (!labels) return sk_fail_memory(err, "the labels");
    for (size_t i = 0; i < e->n; i++) labels[i] = e->samples[i].label;
    const sk_status status = sk_fit_temperature(e->logits, labels, e->n, SK_CLASS_COUNT, temperature, err);
    sk_free(labels);
    return status;
}

/* The rule at the temperature that was fitted, and what it and the old one say. */
static sk_status choose_rule(const sk_evaluation *e, const sk_calibrate_options *o, sk_calibrate_report *r,
                             sk_error *err) {
    if (o->with_threshold) {
        const sk_status status = sk_evaluation_threshold(e, r->temperature, o->false_alarms, &r->threshold, err);
        if (status) return status;
        r->penalty = fmaxf(r->old_penalty, r->threshold); /* a side crop never alarms more easily than the centre */
    }
    for (size_t i = 0; i < e->n; i++) r->pictures[e->samples[i].label == SK_LABEL_BIRD]++;
    sk_evaluation_called(e, r->old_temperature, r->old_threshold, r->called_before);
    sk_evaluation_called(e, r->temperature, r->threshold, r->called_after);
    r->before = sk_evaluation_calibration(e, 1);
    r->after = sk_evaluation_calibration(e, (double)r->old_temperature / (double)r->temperature);
    return SK_OK;
}

/* Without a share the thresholds are not set anew: those of an old file need not be what sk_thresholds_check takes. */
static sk_status set_rule(sk_classifier *c, const sk_calibrate_options *o, const sk_calibrate_report *r,
                          sk_error *err) {
    return o->with_threshold ? sk_classifier_set_thresholds(c, r->temperature, r->threshold, r->penalty, err)
                             : sk_classifier_set_temperature(c, r->temperature, err);
}

sk_status sk_calibrate(sk_classifier *classifier, const sk_dataset *dataset, const sk_cache *cache,
                       const sk_calibrate_options *options, const sk_hooks *hooks, sk_calibrate_report *report,
                       sk_error *err) {
    const sk_card *card = sk_classifier_card(classifier);
    const sk_eval_options judged = {.split = options->split,
                                    .crops = card->crops == 0 ? SK_CROPS_SQUEEZE : SK_CROPS_ONE,
                                    .threshold = .5f,
                                    .penalty = .5f,
                                    .threads = options->threads,
                                    .with_logits = 1};
    sk_calibrate_report r = {.old_temperature = card->temperature,
                             .old_threshold = card->threshold,
                             .threshold = card->threshold,
                             .old_penalty = card->penalty,
                             .penalty = card->penalty};
    sk_evaluation *e = NULL;
    sk_status status = options->with_threshold ? sk_false_alarms_check(options->false_alarms, err) : SK_OK;
    if (!status) status = sk_evaluate(classifier, dataset, cache, &judged, hooks, &e, err);
    if (!status) status = fit(e, &r.temperature, err);
    if (!status) {
        status = choose_rule(e, options, &r, err);
        if (status) sk_error_prefix(err, status, "%s", sk_dataset_dir(dataset));
    }
    if (!status) status = set_rule(classifier, options, &r, err);
    if (!status) {
        if (r.temperature <= SK_FIT_LEAST || r.temperature >= SK_FIT_MOST)
            sk_log(hooks, SK_LOG_NOTE,
                   "the temperature stopped at %g, the end of its range: %zu pictures do not bound it; calibrate on "
                   "more",
                   (double)r.temperature, e->n);
        if (report) *report = r;
    }
    sk_evaluation_free(e);
    return status;
}
