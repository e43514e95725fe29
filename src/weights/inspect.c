/* SPDX-License-Identifier: Apache-2.0 */
/* Figures of each weight tensor, raw and folded. Sums are in double and in the order of the tensor. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "weights/weights.h"

enum { CODES = 127 };

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

sk_outlier sk_weight_outlier(const float *values, size_t count) {
    sk_outlier out = {0};
    double most = -1, shares = 0, sum = 0, squares = 0;
    size_t at = 0;
    if (count == 0) return out;
    for (size_t i = 0; i < count; i++)
        if (fabs((double)values[i]) > most) most = fabs((double)values[at = i]);
    for (size_t i = 0; i < count; i++) {
        const double a = fabs((double)values[i]);
        shares += exp(a - most);
        sum += i == at ? 0 : a;
    }
    const double rest = count > 1 ? (double)(count - 1) : 1;
    out.abs_mean = sum / rest;
    for (size_t i = 0; i < count; i++) {
        const double d = fabs((double)values[i]) - out.abs_mean;
        squares += i == at ? 0 : d * d;
    }
    out.abs_std = sqrt(squares / rest);
    out.value = (double)values[at];
    out.share = 1 / shares;
    out.limit = pow(.5, log10((double)count / 200));
    out.found = out.share > out.limit;
    return out;
}

/* Squared error of rounding to `scale` times -127..127. */
static double rounding_error(const float *w, size_t count, double scale) {
    double error = 0;
    for (size_t i = 0; scale > 0 && i < count; i++) {
        const double d = (double)w[i] - scale * floor((double)w[i] / scale + .5);
        error += d * d;
    }
    return error;
}

static double decibels(double power, double error) { return error > 0 ? 10 * log10(power / error) : INFINITY; }

static void find_moments(const float *w, size_t count, sk_weight_stats *s) {
    double sum = 0, abs_sum = 0, m2 = 0, m4 = 0, abs_m2 = 0;
    s->min = s->max = (double)w[0];
    for (size_t i = 0; i < count; i++) {
        sum += (double)w[i];
        abs_sum += fabs((double)w[i]);
        s->min = fmin(s->min, (double)w[i]);
        s->max = fmax(s->max, (double)w[i]);
    }
    const double n = (double)count, mean = sum / n;
    s->abs_mean = abs_sum / n;
    for (size_t i = 0; i < count; i++) {
        const double d = (double)w[i] - mean, a = fabs((double)w[i]) - s->abs_mean;
        m2 += d * d;
        m4 += d * d * d * d;
        abs_m2 += a * a;
    }
    s->abs_std = sqrt(abs_m2 / n);
    s->kurtosis = m2 > 0 ? n * m4 / (m2 * m2) : 0;
}

/* `peaks` receives the largest magnitude of each channel; `room` has as many places. */
static sk_weight_stats find_stats(const float *w, size_t channels, size_t size, float *peaks, double *room) {
    sk_weight_stats s = {0};
    double power = 0, most = 0, by_channel = 0;
    find_moments(w, channels * size, &s);
    for (size_t c = 0; c < channels; c++) {
        double peak = 0;
        for (size_t i = c * size; i < (c + 1) * size; i++) {
            peak = fmax(peak, fabs((double)w[i]));
            power += (double)w[i] * (double)w[i];
        }
        peaks[c] = (float)peak;
        room[c] = peak;
        most = fmax(most, peak);
        by_channel += rounding_error(w + c * size, size, peak / CODES);
    }
    qsort(room, channels, sizeof *room, ascending);
    const double median = (room[(channels - 1) / 2] + room[channels / 2]) / 2;
    s.channel_ratio = median > 0 ? most / median : 0;
    s.snr_channel = decibels(power, by_channel);
    s.snr_tensor = decibels(power, rounding_error(w, channels * size, most / CODES));
    return s;
}

static void fill_histogram(const float *w, size_t count, double end, uint32_t *bins) {
    for (size_t i = 0; i < count; i++) {
        const double at = end > 0 ? ((double)w[i] / end + 1) / 2 * SK_WEIGHT_BINS : SK_WEIGHT_BINS / 2;
        const int bin = (int)at;
        bins[bin < 0 ? 0 : bin >= SK_WEIGHT_BINS ? SK_WEIGHT_BINS - 1 : bin]++;
    }
}

static sk_status fill_row(const sk_site *site, sk_weight_row *row, sk_error *err) {
    const size_t count = site->weight.count, channels = site->channels;
    sk_status status = sk_site_check(site, err);
    if (status != SK_OK) return status;
    memcpy(row->name, site->weight.name, strlen(site->weight.name) + 1);
    memcpy(row->layer, site->layer->name, sizeof row->layer);
    row->op = site->layer->op;
    row->count = count;
    row->channels = channels;
    row->raw_peaks = sk_alloc(channels, sizeof *row->raw_peaks);
    row->folded_peaks = sk_alloc(channels, sizeof *row->folded_peaks);
    float *folded = sk_alloc(count, sizeof *folded);
    double *room = sk_alloc(channels, sizeof *room);
    if (row->raw_peaks && row->folded_peaks && folded && room) {
        for (size_t i = 0; i < count; i++)
            folded[i] = (float)((double)site->weight.data[i] * sk_site_scale(site, i / site->size));
        row->raw = find_stats(site->weight.data, channels, site->size, row->raw_peaks, room);
        row->folded = find_stats(folded, channels, site->size, row->folded_peaks, room);
        row->outlier = sk_weight_outlier(folded, count);
        row->histogram_end =
            fmax(fmax(-row->raw.min, row->raw.max), fmax(-row->folded.min, row->folded.max));
        fill_histogram(site->weight.data, count, row->histogram_end, row->histogram[0]);
        fill_histogram(folded, count, row->histogram_end, row->histogram[1]);
    } else {
        status = sk_fail_memory(err, "the figures of weights");
    }
    sk_free(folded);
    sk_free(room);
    return status;
}

sk_status sk_weights_inspect(const sk_model *model, const char *layers, sk_weights **out, sk_error *err) {
    sk_site *sites = NULL;
    size_t count = 0;
    *out = NULL;
    sk_status status = sk_sites_make(model, layers, &sites, &count, err);
    if (status != SK_OK) return status;
    sk_weights *w = sk_calloc(1, sizeof *w);
    if (!w || !(w->rows = sk_calloc(count, sizeof *w->rows))) status = sk_fail_memory(err, "the figures of weights");
    for (size_t i = 0; status == SK_OK && i < count; i++) {
        w->count = i + 1;
        status = fill_row(&sites[i], &w->rows[i], err);
        w->outliers += (size_t)w->rows[i].outlier.found;
    }
    sk_free(sites);
    if (status == SK_OK) *out = w;
    else sk_weights_free(w);
    return status;
}

void sk_weights_free(sk_weights *w) {
    if (!w) return;
    for (size_t i = 0; w->rows && i < w->count; i++) {
        sk_free(w->rows[i].raw_peaks);
        sk_free(w->rows[i].folded_peaks);
    }
    sk_free(w->rows);
    sk_free(w);
}
