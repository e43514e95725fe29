/* SPDX-License-Identifier: Apache-2.0 */
/* Which range of real values the 256 codes of a tensor should cover: all that was seen, or the one of least squared
 * error. */
#include <math.h>

#include "quant/quant.h"

void sk_range_widen(sk_range *range, const float *data, size_t count) {
    float low = range->seen ? range->low : 0, high = range->seen ? range->high : 0;
    for (size_t i = 0; i < count; i++) {
        low = data[i] < low ? data[i] : low;
        high = data[i] > high ? data[i] : high;
    }
    range->low = low;
    range->high = high;
    range->seen += count;
}

void sk_range_count(sk_range *range, const float *data, size_t count) {
    const float width = range->high - range->low;
    if (!(width > 0)) {
        return;
    }
    const float scale = (float)SK_RANGE_BINS / width;
    for (size_t i = 0; i < count; i++) {
        const float at = (data[i] - range->low) * scale;
        const int bin = at < 0 ? 0 : at >= SK_RANGE_BINS ? SK_RANGE_BINS - 1 : (int)at;
        range->bins[bin]++;
    }
}

void sk_channels_widen(float *low, float *high, const float *data, int channels) {
    for (int c = 0; c < channels; c++) {
        low[c] = data[c] < low[c] ? data[c] : low[c];
        high[c] = data[c] > high[c] ? data[c] : high[c];
    }
}

static double factor_of(double low, double high, double below, double largest) {
    const double factor = fmax(high, low < 0 && below > 0 ? -low / below : 0);
    return fmax(factor, largest / 1000); /* dead channels: no code of theirs matters */
}

void sk_channels_equalize(float *low, const float *high, int channels, sk_range *range) {
    double largest = 1e-6, least = 0, best = INFINITY, below = 0;
    for (int c = 0; c < channels; c++) {
        largest = fmax(largest, fmax(high[c], -low[c]));
        least = fmin(least, low[c]);
    }
    for (int i = 0; i < 8; i++) { /* the range [-side, 1]: which side makes the steps finest on geometric average? */
        const double side = least < 0 ? ldexp(1, -i) : 0;
        double sum = channels * log(1 + side);
        for (int c = 0; c < channels; c++) {
            sum += log(factor_of(low[c], high[c], side, largest));
        }
        if (sum < best) {
            best = sum;
            below = side;
        }
    }
    for (int c = 0; c < channels; c++) {
        low[c] = (float)factor_of(low[c], high[c], below, largest);
    }
    range->low = (float)-below;
    range->high = 1;
}

void sk_range_count_equal(sk_range *range, const float *factor, const float *data, size_t pixels, int channels) {
    float scaled[64];
    for (size_t i = 0; i < pixels; i++) {
        for (int c = 0; c < channels; c += 64) {
            const int now = channels - c < 64 ? channels - c : 64;
            for (int k = 0; k < now; k++) {
                scaled[k] = data[i * (size_t)channels + (size_t)(c + k)] / factor[c + k];
            }
            sk_range_count(range, scaled, (size_t)now);
        }
    }
}

/* Squared error of the histogram under codes that cover [low, high]. */
static double range_error(const sk_range *range, double low, double high) {
    const double width = ((double)range->high - range->low) / SK_RANGE_BINS;
    const double scale = (high - low) / 255;
    const double zero = floor(-low / scale + 0.5); /* code of real 0, codes 0..255 */
    double error = 0;
    for (int b = 0; b < SK_RANGE_BINS; b++) {
        if (!range->bins[b]) {
            continue;
        }
        const double x = range->low + (b + 0.5) * width;
        double code = floor(x / scale + 0.5) + zero;
        code = code < 0 ? 0 : code > 255 ? 255 : code;
        const double e = x - (code - zero) * scale;
        /* the values of a bin are spread over its width */
        error += (double)range->bins[b] * (e * e + width * width / 12);
    }
    return error;
}

#define STEPS 100

void sk_range_best(const sk_range *range, float *low, float *high) {
    double best_low = range->low, best_high = range->high;
    *low = range->low;
    *high = range->high;
    if (!range->bins || !(best_high > best_low)) {
        return;
    }
    double best = range_error(range, best_low, best_high);
    for (int round = 0; round < 3; round++) {
        const double before = best;
        for (int side = 0; side < 2; side++) {
            for (int i = 1; i <= STEPS; i++) {
                const double part = (double)i / STEPS;
                const double l = side == 1 ? range->low * part : best_low;
                const double h = side == 0 ? range->high * part : best_high;
                const double error = h > l ? range_error(range, l, h) : INFINITY;
                if (error < best) {
                    best = error;
                    best_low = l;
                    best_high = h;
                }
            }
        }
        if (!(best < before)) {
            break;
        }
    }
    *low = (float)best_low;
    *high = (float)best_high;
}

double sk_weight_scale_best(const float *weights, size_t count, size_t step) {
    double most = 0;
    for (size_t i = 0; i < count; i++) {
        most = fmax(most, fabs((double)weights[i * step]));
    }
    double best = INFINITY, best_scale = most / 127;
    for (int part = 100; part >= 40 && most > 0; part -= 2) {
        const double scale = most * part / 100 / 127;
        double error = 0;
        for (size_t i = 0; i < count; i++) {
            const double w = weights[i * step], code = fmin(fmax(floor(w / scale + 0.5), -127), 127);
            error += (w - code * scale) * (w - code * scale);
        }
        if (error < best) {
            best = error;
            best_scale = scale;
        }
    }
    return best_scale;
}
