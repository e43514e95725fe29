/* SPDX-License-Identifier: Apache-2.0 */
/* A few places per picture stand for a layer: what its weights see there, in float or in codes. */
#include <string.h>

#include "quant/quant.h"

int sk_place_count(const sk_layer *l) {
    const size_t pixels = sk_layer_pixels(l);
    return pixels < SK_PLACES ? (int)pixels : SK_PLACES;
}

size_t sk_place(const sk_layer *l, size_t number, int picture, int index, uint64_t seed) {
    const size_t pixels = sk_layer_pixels(l);
    const int count = sk_place_count(l);
    if (pixels <= SK_PLACES) {
        return (size_t)index;
    }
    /* one in each of `count` equal parts of the tensor */
    sk_rng rng = sk_rng_make(seed, 0x706c6163 + number, (uint64_t)picture * SK_PLACES + (uint64_t)index);
    return (size_t)(((double)index + sk_rng_uniform(&rng)) * (double)pixels / count);
}

/* Input pixel of a tap, or -1. */
static ptrdiff_t pixel_of(const sk_layer *l, size_t pixel, int tap) {
    if (sk_layer_taps(l) == 1 && l->stride <= 1) {
        return (ptrdiff_t)pixel;
    }
    const int oy = (int)(pixel / (size_t)l->out_w), ox = (int)(pixel % (size_t)l->out_w);
    const int y = oy * l->stride - l->pad + tap / l->kernel, x = ox * l->stride - l->pad + tap % l->kernel;
    return y >= 0 && y < l->in_h && x >= 0 && x < l->in_w ? (ptrdiff_t)y * l->in_w + x : -1;
}

void sk_patch_float(const sk_layer *l, const float *in, size_t pixel, float *out) {
    const size_t c = (size_t)l->in_c;
    for (int t = 0; t < sk_layer_taps(l); t++, out += c) {
        const ptrdiff_t at = pixel_of(l, pixel, t);
        if (at >= 0) {
            memcpy(out, in + (size_t)at * c, c * sizeof *out);
        } else {
            memset(out, 0, c * sizeof *out);
        }
    }
}

void sk_patch_codes(const sk_layer *l, const int8_t *in, int int16, int zero, size_t pixel, float *out) {
    const size_t c = (size_t)l->in_c;
    for (int t = 0; t < sk_layer_taps(l); t++, out += c) {
        const ptrdiff_t at = pixel_of(l, pixel, t);
        for (size_t k = 0; k < c; k++) {
            out[k] = at >= 0 ? (float)(sk_code_at(in, int16, (size_t)at * c + k) - zero) : 0;
        }
    }
}
