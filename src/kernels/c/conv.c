/* SPDX-License-Identifier: Apache-2.0 */
/* Reference first convolution and its im2col, and depthwise convolutions, forward and backward, straight from their
 * definitions: channels innermost, taps outside the picture skipped. */
#include <string.h>

#include "kernels/c/reference.h"

/* What value t = (ky*3+kx)*3 + colour of an output's window is worth: 0 outside the picture. */
static inline sk_real worth(const sk_stem *s, const uint8_t *image, int oy, int ox, int t) {
    const int iy = oy * 2 - 1 + t / 9, ix = ox * 2 - 1 + t / 3 % 3, ch = t % 3;

    if (iy < 0 || iy >= s->h || ix < 0 || ix >= s->w) return 0;
    return ((sk_real)image[((size_t)iy * (size_t)s->w + (size_t)ix) * 3 + (size_t)ch] - s->mean[ch]) * s->gain[ch];
}

/* A window inside the picture: nine bytes next to each other in each of three rows. */
static inline void inner_window(const sk_stem *s, const uint8_t *pixels, sk_real *out) {
    for (int ky = 0; ky < 3; ky++, pixels += (size_t)s->w * 3)
        for (int i = 0; i < 9; i += 3, out += 3)
            for (int ch = 0; ch < 3; ch++) out[ch] = ((sk_real)pixels[i + ch] - s->mean[ch]) * s->gain[ch];
}

void sk_c_im2col_u8(const sk_stem *s, const uint8_t *image, int oy0, int oy1, sk_real *scratch, sk_real *out, int ld) {
    const int ow = (s->w - 1) / 2 + 1;

    (void)scratch;
    for (int oy = oy0; oy < oy1; oy++)
        for (int ox = 0; ox < ow; ox++, out += ld)
            if (oy > 0 && oy * 2 + 1 < s->h && ox > 0 && ox * 2 + 1 < s->w)
                inner_window(s, image + ((size_t)(oy * 2 - 1) * (size_t)s->w + (size_t)(ox * 2 - 1)) * 3, out);
            else
                for (int t = 0; t < 27; t++) out[t] = worth(s, image, oy, ox, t);
}

void sk_c_stem_u8(const sk_stem *s, const uint8_t *image, int oy0, int oy1, sk_real *scratch, sk_real *y) {
    const int ow = (s->w - 1) / 2 + 1;

    (void)scratch;
    for (int oy = oy0; oy < oy1; oy++)
        for (int ox = 0; ox < ow; ox++, y += s->c) {
            memcpy(y, s->bias, (size_t)s->c * sizeof *y);
            for (int t = 0; t < 27; t++) {
                const sk_real *tap = s->weight + (size_t)t * (size_t)s->c, value = worth(s, image, oy, ox, t);

                for (int j = 0; j < s->c; j++) y[j] += value * tap[j];
            }
            sk_c_act((size_t)s->c, y, s->act, y);
        }
}

/* Value ch of the input, whose worth at hand is v. */
static sk_real input(const sk_dw *d, size_t ch, sk_real v) {
    return d->bn ? sk_c_act1(v * d->bn->scale[ch] + d->bn->shift[ch], d->act) : v;
}

void sk_c_dw_forward(const sk_dw *d, const sk_real *x, int x_row0, const sk_real *weight, const sk_real *bias,
                     sk_act act, int oy0, int oy1, sk_real *y) {
    const size_t c = (size_t)d->c;

    for (int oy = oy0; oy < oy1; oy++)
        for (int ox = 0; ox < d->ow; ox++, y += c) {
            for (size_t ch = 0; ch < c; ch++) y[ch] = bias ? bias[ch] : 0;
            for (int ky = 0; ky < d->kernel; ky++)
                for (int kx = 0; kx < d->kernel; kx++) {
                    const int iy = oy * d->stride - d->pad + ky, ix = ox * d->stride - d->pad + kx;
                    const sk_real *from, *tap;

                    if (iy < 0 || iy >= d->h || ix < 0 || ix >= d->w) continue;
                    from = x + ((size_t)(iy - x_row0) * (size_t)d->w + (size_t)ix) * c;
                    tap = weight + (size_t)(ky * d->kernel + kx) * c;
                    for (size_t ch = 0; ch < c; ch++) y[ch] += input(d, ch, from[ch]) * tap[ch];
                }
            if (act != SK_ACT_NONE) sk_c_act(c, y, act, y);
        }
}

void sk_c_dw_backward_data(const sk_dw *d, const sk_real *dy, const sk_real *weight, const sk_real *x, sk_real *dx,
                           double *sum, double *sum_y) {
    const size_t c = (size_t)d->c;

    memset(dx, 0, (size_t)d->h * (size_t)d->w * c * sizeof *dx);
    for (int oy = 0; oy < d->oh; oy++)
        for (int ox = 0; ox < d->ow; ox++, dy += c)
            for (int ky = 0; ky < d->kernel; ky++)
                for (int kx = 0; kx < d->kernel; kx++) {
                    const int iy = oy * d->stride - d->pad + ky, ix = ox * d->stride - d->pad + kx;
                    const sk_real *tap;
                    sk_real *to;

                    if (iy < 0 || iy >= d->h || ix < 0 || ix >= d->w) continue;
                    to = dx + ((size_t)iy * (size_t)d->w + (size_t)ix) * c;
                    tap = weight + (size_t)(ky * d->kernel + kx) * c;
                    for (size_t ch = 0; ch < c; ch++) to[ch] += dy[ch] * tap[ch];
                }
    if (d->bn) sk_c_bn_backward_sums(dx, x, d->h * d->w, d->c, d->bn, d->act, dx, sum, sum_y);
}

void sk_c_dw_backward_weight(const sk_dw *d, const sk_real *dy, const sk_real *x, sk_real *dweight) {
    const size_t c = (size_t)d->c;

    for (int oy = 0; oy < d->oh; oy++)
        for (int ox = 0; ox < d->ow; ox++, dy += c)
            for (int ky = 0; ky < d->kernel; ky++)
                for (int kx = 0; kx < d->kernel; kx++) {
                    const int iy = oy * d->stride - d->pad + ky, ix = ox * d->stride - d->pad + kx;
                    const sk_real *from;
                    sk_real *to;

                    if (iy < 0 || iy >= d->h || ix < 0 || ix >= d->w) continue;
                    from = x + ((size_t)iy * (size_t)d->w + (size_t)ix) * c;
                    to = dweight + (size_t)(ky * d->kernel + kx) * c;
                    for (size_t ch = 0; ch < c; ch++) to[ch] += dy[ch] * input(d, ch, from[ch]);
                }
}
