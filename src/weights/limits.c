/* SPDX-License-Identifier: Apache-2.0 */
/* Limits of weights: found once, then clamped to, held during training, or pulled towards. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "weights/weights.h"

/* ---- from weights to limits -------------------------------------------------------------------------------------- */
static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The q-th part of sorted values, 0 to 1, interpolated between the two next ones. */
static double quantile(const double *sorted, size_t n, double q) {
    const double at = q * (double)(n - 1), whole = floor(at);
    const size_t i = (size_t)whole;
    return i + 1 < n ? sorted[i] + (at - whole) * (sorted[i + 1] - sorted[i]) : sorted[n - 1];
}

static void sigma_limits(const double *values, size_t n, double k, double *low, double *high) {
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++) sum += values[i];
    const double mean = sum / (double)n;
    for (size_t i = 0; i < n; i++) squares += (values[i] - mean) * (values[i] - mean);
    const double reach = k * sqrt(squares / (double)n);
    *low = mean - reach;
    *high = mean + reach;
}

/* Sorts `values`. */
static void group_limits(const sk_adjust_options *o, double *values, size_t n, float bounds[2]) {
    const double k = (double)o->k;
    double low, high;
    if (o->method == SK_ADJUST_SIGMA) {
        sigma_limits(values, n, k, &low, &high);
    } else {
        qsort(values, n, sizeof *values, ascending);
        const double part = o->method == SK_ADJUST_TUKEY ? .75 : k / 100;
        low = quantile(values, n, 1 - part);
        high = quantile(values, n, part);
        const double reach = o->method == SK_ADJUST_TUKEY ? k * (high - low) : 0;
        low -= reach;
        high += reach;
    }
    bounds[0] = (float)low;
    bounds[1] = (float)high;
}

static double scale_of(const sk_limits *l, const sk_site *site, size_t c) {
    return l->options.on == SK_ADJUST_FOLDED ? sk_site_scale(site, c) : 1;
}

size_t sk_limits_groups(const sk_limits *l, size_t site) {
    return l->options.per == SK_ADJUST_CHANNEL ? l->sites[site].channels : 1;
}

static const float *bounds_of(const sk_limits *l, size_t site, size_t c) {
    return l->bounds[site][l->options.per == SK_ADJUST_CHANNEL ? c : 0];
}

static sk_status find_limits(sk_limits *l, size_t index, sk_error *err) {
    const sk_site *site = &l->sites[index];
    const size_t groups = sk_limits_groups(l, index), n = site->weight.count / groups;
    sk_status status = sk_site_check(site, err);
    if (status != SK_OK) return status;
    double *values = sk_alloc(site->weight.count, sizeof *values);
    l->bounds[index] = sk_alloc(groups, sizeof *l->bounds[index]);
    if (values && l->bounds[index]) {
        for (size_t i = 0; i < site->weight.count; i++)
            values[i] = (double)site->weight.data[i] * scale_of(l, site, i / site->size);
        for (size_t g = 0; g < groups; g++) group_limits(&l->options, values + g * n, n, l->bounds[index][g]);
    } else {
        status = sk_fail_memory(err, "the limits of weights");
    }
    sk_free(values);
    return status;
}

/* ---- making ------------------------------------------------------------------------------------------------------ */
sk_status sk_limits_create(sk_model *model, const sk_adjust_options *options, sk_limits **out, sk_error *err) {
    *out = NULL;
    sk_status status = sk_adjust_check(options, err);
    if (status != SK_OK) return status;
    if (options->method == SK_ADJUST_NONE) return sk_fail(err, SK_ERR_ARGUMENT, "limits of weights need a method");
    sk_limits *l = sk_calloc(1, sizeof *l);
    if (!l) return sk_fail_memory(err, "the limits of weights");
    l->options = *options;
    if (!(l->options.k > 0)) l->options.k = sk_adjust_default_k(options->method);
    status = sk_sites_make(model, options->layers, &l->sites, &l->count, err);
    l->options.layers = NULL;
    if (status == SK_OK && !(l->bounds = sk_calloc(l->count, sizeof *l->bounds)))
        status = sk_fail_memory(err, "the limits of weights");
    for (size_t i = 0; status == SK_OK && i < l->count; i++) status = find_limits(l, i, err);
    if (status == SK_OK) *out = l;
    else sk_limits_free(l);
    return status;
}

void sk_limits_free(sk_limits *l) {
    if (!l) return;
    for (size_t i = 0; l->bounds && i < l->count; i++) sk_free(l->bounds[i]);
    sk_free(l->bounds);
    sk_free(l->sites);
    sk_free(l);
}

/* ---- clamping ---------------------------------------------------------------------------------------------------- */
static float clamp(float w, double scale, const float bounds[2]) {
    const double value = (double)w * scale;
    if (value >= (double)bounds[0] && value <= (double)bounds[1]) return w;
    if (scale == 0) return w; /* folded it is 0 whatever it is */
    return (float)((double)(value < (double)bounds[0] ? bounds[0] : bounds[1]) / scale);
}

void sk_limits_clamp(const sk_limits *l, size_t index, sk_adjust_row *row) {
    const sk_site *site = &l->sites[index];
    sk_adjust_row told = {.count = site->weight.count, .min = INFINITY, .max = -INFINITY, .new_min = INFINITY,
                          .new_max = -INFINITY};
    for (size_t i = 0; i < site->weight.count; i++) {
        float *w = &site->weight.data[i];
        const double scale = scale_of(l, site, i / site->size), before = (double)*w * scale;
        const float now = clamp(*w, scale, bounds_of(l, index, i / site->size));
        const double after = (double)now * scale;
        told.moved += memcmp(&now, w, sizeof now) != 0;
        told.largest_move = fmax(told.largest_move, fabs(after - before));
        told.min = fmin(told.min, before);
        told.max = fmax(told.max, before);
        told.new_min = fmin(told.new_min, after);
        told.new_max = fmax(told.new_max, after);
        *w = now;
    }
    if (!row) return;
    memcpy(told.name, site->weight.name, strlen(site->weight.name) + 1);
    *row = told;
}

/* How many times a channel's folded weights are outside their limits, 1: not. */
static double excess_factor(const sk_limits *l, size_t index, size_t c) {
    const sk_site *site = &l->sites[index];
    const float *bounds = bounds_of(l, index, c), *w = site->weight.data + c * site->size;
    const double scale = sk_site_scale(site, c);
    double factor = 1;
    for (size_t i = 0; i < site->size; i++) {
        const double value = (double)w[i] * scale, bound = (double)bounds[value > 0];
        if (value * bound > 0) factor = fmax(factor, value / bound);
    }
    return factor;
}

void sk_limits_keep(const sk_limits *l) {
    for (size_t s = 0; s < l->count; s++) {
        const sk_site *site = &l->sites[s];
        if (l->options.on == SK_ADJUST_RAW || !site->gamma) {
            sk_limits_clamp(l, s, NULL);
            continue;
        }
        for (size_t c = 0; c < site->channels; c++) {
            const double factor = excess_factor(l, s, c);
            if (factor > 1) site->gamma[c] = (float)((double)site->gamma[c] / factor);
        }
    }
}

/* ---- the penalty ------------------------------------------------------------------------------------------------- */
static double pull_weights(const sk_limits *l, size_t index, double rate) {
    const sk_site *site = &l->sites[index];
    double sum = 0;
    for (size_t i = 0; i < site->weight.count; i++) {
        float *w = &site->weight.data[i];
        const double excess =
            (double)*w - (double)clamp(*w, scale_of(l, site, i / site->size), bounds_of(l, index, i / site->size));
        sum += excess * excess / 2;
        if (rate > 0) *w = (float)((double)*w - rate * excess);
    }
    return sum;
}

static double pull_norm(const sk_site *site, double rate) {
    const double length = 1 + SK_RANGE_SPREAD * SK_RANGE_SPREAD;
    double sum = 0;
    for (size_t c = 0; site->gamma && c < site->channels; c++) {
        const double gamma = (double)site->gamma[c], beta = (double)site->beta[c];
        const double excess = fabs(beta) + SK_RANGE_SPREAD * fabs(gamma) - SK_RANGE_WANTED;
        if (!(excess > 0)) continue;
        sum += excess * excess / 2 / length;
        if (!(rate > 0)) continue;
        site->gamma[c] = (float)(gamma - rate * copysign(SK_RANGE_SPREAD * excess / length, gamma));
        site->beta[c] = (float)(beta - rate * copysign(excess / length, beta));
    }
    return sum;
}

double sk_limits_pull(const sk_limits *l, double rate) {
    double sum = 0;
    for (size_t s = 0; s < l->count; s++) sum += pull_weights(l, s, rate) + pull_norm(&l->sites[s], rate);
    return sum;
}
