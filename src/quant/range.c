/* SPDX-License-Identifier: Apache-2.0 */
/* Which range of real values the 256 codes of a tensor should cover: all that was seen, or less of it, so that what
 * remains gets finer codes. */
#include <math.h>

#include "quant/quant.h"

#define LANES 16

void sk_range_widen(sk_range *range, const float *data, size_t count) {
    float low[LANES] = {0}, high[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        for (int k = 0; k < LANES; k++) {
            low[k] = data[i + (size_t)k] < low[k] ? data[i + (size_t)k] : low[k];
            high[k] = data[i + (size_t)k] > high[k] ? data[i + (size_t)k] : high[k];
        }
    }
    for (int k = 0; i < count; i++, k++) {
        low[k] = data[i] < low[k] ? data[i] : low[k];
        high[k] = data[i] > high[k] ? data[i] : high[k];
    }
    for (int k = 0; k < LANES; k++) {
        range->low = low[k] < range->low ? low[k] : range->low;
        range->high = high[k] > range->high ? high[k] : range->high;
    }
    range->seen += count;
}

void sk_range_count(sk_range *range, const float *factor, const float *data, size_t pixels, int channels) {
    const float width = range->high - range->low, scale = (float)SK_RANGE_BINS / width;
    if (!(width > 0)) {
        return;
    }
    for (size_t i = 0; i < pixels; i++, data += channels) {
        for (int c = 0; c < channels; c++) {
            const float at = ((factor ? data[c] / factor[c] : data[c]) - range->low) * scale;
            range->bins[at >= 0 ? at < SK_RANGE_BINS ? (int)at : SK_RANGE_BINS - 1 : 0]++;
        }
    }
}

/* Sums over the bins below each one, so that the error of a range costs a step per code, not per bin. */
typedef struct sums {
    double low, width;               /* of the histogram, of a bin */
    double n[SK_RANGE_BINS + 1];     /* values */
    double x[SK_RANGE_BINS + 1];     /* their sum, each taken as its bin's middle */
    double square[SK_RANGE_BINS + 1];
    double used[SK_RANGE_BINS + 1];  /* bins that are not empty */
    double log[SK_RANGE_BINS + 1];   /* sum of n log n */
} sums;

static void fill(sums *s, const sk_range *range) {
    s->low = range->low;
    s->width = ((double)range->high - range->low) / SK_RANGE_BINS;
    s->n[0] = s->x[0] = s->square[0] = s->used[0] = s->log[0] = 0;
    for (int b = 0; b < SK_RANGE_BINS; b++) {
        const double n = (double)range->bins[b], x = s->low + (b + 0.5) * s->width;
        s->n[b + 1] = s->n[b] + n;
        s->x[b + 1] = s->x[b] + n * x;
        s->square[b + 1] = s->square[b] + n * x * x;
        s->used[b + 1] = s->used[b] + (n > 0);
        s->log[b + 1] = s->log[b] + (n > 0 ? n * log(n) : 0);
    }
}

/* First bin whose middle is not below x. */
static int bin_from(const sums *s, double x) {
    const double at = ceil((x - s->low) / s->width - 0.5);
    return at < 0 ? 0 : at > SK_RANGE_BINS ? SK_RANGE_BINS : (int)at;
}

/* Squared error of the histogram under codes that cover [low, high]. */
static double square_error(const sums *s, double low, double high) {
    const double scale = (high - low) / 255, zero = floor(-low / scale + 0.5); /* code of real 0, codes 0..255 */
    double error = 0;
    int from = 0;
    for (int code = 0; code < 256; code++) {
        const double value = (code - zero) * scale;
        const int to = code == 255 ? SK_RANGE_BINS : bin_from(s, value + scale / 2);
        const double n = s->n[to] - s->n[from];
        if (n > 0) {
            error += s->square[to] - s->square[from] - 2 * value * (s->x[to] - s->x[from]) + value * value * n;
        }
        from = to;
    }
    return error;
}

/* Divergence of the distribution that is clipped to [low, high] from the one that codes make of what lies inside, each
 * code's values spread over its bins that were not empty. The two differ by the clipped values and by the spreading. */
static double divergence(const sums *s, double low, double high) {
    const double scale = (high - low) / 255, zero = floor(-low / scale + 0.5);
    const int first = bin_from(s, low), last = bin_from(s, high);
    const double inside = s->n[last] - s->n[first], all = s->n[SK_RANGE_BINS];
    if (!(inside > 0)) {
        return INFINITY;
    }
    /* sum of p log p - p log q, p = n / all (+ the clipped ones at both ends), q = (share of a code / its bins) /
     * inside */
    const double below = s->n[first], above = all - s->n[last];
    const double head = s->n[first + 1] - s->n[first], tail = s->n[last] - s->n[last - 1];
    double sum = s->log[last] - s->log[first];
    sum += head + below > 0 ? (head + below) * log(head + below) - (head > 0 ? head * log(head) : 0) : 0;
    sum += tail + above > 0 ? (tail + above) * log(tail + above) - (tail > 0 ? tail * log(tail) : 0) : 0;
    int from = first;
    for (int code = 0; code < 256 && from < last; code++) {
        int to = code == 255 ? last : bin_from(s, (code - zero + 0.5) * scale);
        to = to > last ? last : to;
        const double q = s->n[to] - s->n[from], bins = s->used[to] - s->used[from];
        if (to > from) {
            const double p = q + (from == first ? below : 0) + (to == last ? above : 0);
            sum -= p > 0 ? p * log(fmax(q, 0.5) / fmax(bins, 1)) : 0;
            from = to;
        }
    }
    return sum / all + log(inside / all);
}

#define STEPS 100

/* Both ends are drawn in, in turn, in hundredths, while the error falls. */
static void search(const sums *s, const sk_range *range, double (*error)(const sums *, double, double), double least,
                   float out[2]) {
    double low = range->low, high = range->high, best = error(s, low, high);
    for (int round = 0; round < 3; round++) {
        const double before = best;
        for (int side = 0; side < 2; side++) {
            for (int i = 1; i <= STEPS; i++) {
                const double part = (double)i / STEPS;
                const double l = side == 1 ? range->low * part : low, h = side == 0 ? range->high * part : high;
                const double now = h - l > least ? error(s, l, h) : INFINITY;
                if (now < best) {
                    best = now;
                    low = l;
                    high = h;
                }
            }
        }
        if (!(best < before)) {
            break;
        }
    }
    out[0] = (float)low;
    out[1] = (float)high;
}

/* The value below which `share` of the counted ones lie; within a bin they are taken as evenly spread. */
static double quantile(const sums *s, double share) {
    const double wanted = share * s->n[SK_RANGE_BINS];
    int b = 0;
    while (b < SK_RANGE_BINS - 1 && s->n[b + 1] < wanted) {
        b++;
    }
    const double in = s->n[b + 1] - s->n[b];
    return s->low + s->width * (b + (in > 0 ? fmin(fmax((wanted - s->n[b]) / in, 0), 1) : 0));
}

sk_status sk_range_choose(const sk_range *range, sk_quant_observer observer, double percentile, float out[2],
                          sk_error *err) {
    out[0] = range->low;
    out[1] = range->high;
    if (observer == SK_QUANT_NORMAL || !range->bins || !(range->high > range->low)) {
        return SK_OK;
    }
    sums *s = sk_alloc(1, sizeof *s);
    if (!s) {
        return sk_fail_memory(err, "the sums of a histogram");
    }
    fill(s, range);
    if (observer == SK_QUANT_PERCENTILE) {
        out[0] = (float)fmin(quantile(s, 1 - percentile / 100), 0);
        out[1] = (float)fmax(quantile(s, percentile / 100), 0);
    } else if (observer == SK_QUANT_KL) {
        search(s, range, divergence, 256 * s->width, out); /* fewer bins than codes: nothing to tell them apart by */
    } else {
        search(s, range, square_error, 0, out);
    }
    sk_free(s);
    return SK_OK;
}

double sk_weight_scale_best(const float *weights, size_t count) {
    float most = 0;
    for (size_t i = 0; i < count; i++) {
        most = fmaxf(most, fabsf(weights[i]));
    }
    double best = INFINITY, best_scale = (double)most / 127;
    for (int part = 100; part >= 40 && most > 0; part -= 2) {
        const double scale = (double)most * part / 100 / 127;
        const float inverse = (float)(1 / scale), magic = 12582912; /* 1.5 * 2^23: adding it rounds to whole numbers */
        double error = 0;
        for (size_t i = 0; i < count; i++) {
            const float real = weights[i] * inverse, near = (real + magic) - magic;
            const float code = near < -127 ? -127 : near > 127 ? 127 : near, off = real - code;
            error += (double)(off * off);
        }
        if (error * scale * scale < best) {
            best = error * scale * scale;
            best_scale = scale;
        }
    }
    return best_scale;
}
