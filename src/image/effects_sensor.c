/* SPDX-License-Identifier: Apache-2.0 */
/* Effects of lens and sensor: blur by a small point image, noise that grows with the light. */
#include <math.h>
#include <string.h>

#include "image/codec.h"
#include "image/effects.h"
#include "image/simd.h"

/* ---- point images ------------------------------------------------------------------------------------- */
#define SIDE (2 * SK_BLUR_REACH + 1)
#define FINE 5 /* sub-points per pixel and axis */

/* Weights of any sum to taps that sum to exactly 256: what rounding takes from one, its neighbour gets. */
static void blur_from(const double *weight, sk_blur *out)
{
    double sum = 0, run = 0;
    int given = 0;
    *out = (sk_blur){0};
    for (int i = 0; i < SIDE * SIDE; i++)
        sum += weight[i];
    for (int i = 0; i < SIDE * SIDE; i++) {
        run += weight[i];
        const int upto = (int)lrint(256 * run / sum), w = upto - given;
        if (w == 0)
            continue;
        const int x = i % SIDE - SK_BLUR_REACH, y = i / SIDE - SK_BLUR_REACH;
        const int far = x * x > y * y ? (x < 0 ? -x : x) : (y < 0 ? -y : y);
        out->reach = far > out->reach ? far : out->reach;
        out->tap[out->taps].x = (int8_t)x;
        out->tap[out->taps].y = (int8_t)y;
        out->tap[out->taps++].weight = (uint16_t)w;
        given = upto;
    }
}

void sk_blur_disc(double radius, sk_blur *out)
{
    double weight[SIDE * SIDE] = {0};
    radius = fmin(fmax(radius, 0.3), SK_BLUR_REACH);
    for (int i = 0; i < SIDE * FINE; i++) {
        for (int k = 0; k < SIDE * FINE; k++) {
            const double y = (i + 0.5) / FINE - SIDE / 2.0, x = (k + 0.5) / FINE - SIDE / 2.0;
            weight[i / FINE * SIDE + k / FINE] += x * x + y * y <= radius * radius;
        }
    }
    blur_from(weight, out);
}

void sk_blur_line(double length, double angle, sk_blur *out)
{
    double weight[SIDE * SIDE] = {0};
    length = fmin(fmax(length, 0), 2 * SK_BLUR_REACH - 1);
    const int points = 4 * (int)ceil(length) + 1;
    for (int i = 0; i < points; i++) {
        const double at = points > 1 ? (i / (points - 1.0) - 0.5) * length : 0;
        const double x = at * cos(angle) + SK_BLUR_REACH, y = at * sin(angle) + SK_BLUR_REACH;
        const int left = (int)x, top = (int)y;
        /* Each point is shared by the four pixels around it. */
        for (int k = 0; k < 4; k++) {
            const int px = left + k % 2, py = top + k / 2;
            weight[py * SIDE + px] += (1 - fabs(x - px)) * (1 - fabs(y - py));
        }
    }
    blur_from(weight, out);
}

SK_BODY blur_row(const uint8_t *centre, size_t stride, const sk_blur *blur, int bytes, uint16_t *sum, uint8_t *out)
{
    for (int i = 0; i < bytes; i++)
        sum[i] = 128;
    for (int t = 0; t < blur->taps; t++) {
        const uint8_t *in = centre + blur->tap[t].y * (ptrdiff_t)stride + blur->tap[t].x * 3;
        const uint16_t w = blur->tap[t].weight;
        for (int i = 0; i < bytes; i++)
            sum[i] = (uint16_t)(sum[i] + in[i] * w); /* at most 255 * 256 + 128 */
    }
    for (int i = 0; i < bytes; i++)
        out[i] = (uint8_t)(sum[i] >> 8);
}

#if defined(SK_AVX2)
SK_AVX2 static void blur_row_avx2(const uint8_t *centre, size_t stride, const sk_blur *blur, int bytes, uint16_t *sum,
                                  uint8_t *out)
{
    blur_row(centre, stride, blur, bytes, sum, out);
}
#endif

/* The picture with its edge continued by `reach` pixels on every side. */
static void pad_picture(const uint8_t *pixels, int size, int reach, uint8_t *out)
{
    const size_t row = (size_t)size * 3, wide = (size_t)(size + 2 * reach) * 3;
    for (int y = -reach; y < size + reach; y++, out += wide) {
        const uint8_t *in = pixels + (size_t)(y < 0 ? 0 : y >= size ? size - 1 : y) * row;
        for (int x = 0; x < reach; x++) {
            memcpy(out + x * 3, in, 3);
            memcpy(out + (size_t)(reach + size + x) * 3, in + row - 3, 3);
        }
        memcpy(out + reach * 3, in, row);
    }
}

sk_status sk_blur_apply(uint8_t *pixels, int size, const sk_blur *blur, sk_error *err)
{
    const int reach = blur->reach, bytes = size * 3;
    const size_t wide = (size_t)(size + 2 * reach) * 3;
    uint8_t *padded = sk_alloc((size_t)(size + 2 * reach), wide);
    uint16_t *sum = sk_alloc((size_t)bytes, sizeof *sum);
    sk_status status = SK_OK;
    if (!padded || !sum) {
        status = sk_fail_memory(err, "blurring a picture");
        goto done;
    }
    pad_picture(pixels, size, reach, padded);
    for (int y = 0; y < size; y++) {
        const uint8_t *centre = padded + (size_t)(y + reach) * wide + (size_t)reach * 3;
        uint8_t *out = pixels + (size_t)y * (size_t)bytes;
#if defined(SK_AVX2)
        if (sk_simd_level() == SK_SIMD_AVX2) {
            blur_row_avx2(centre, wide, blur, bytes, sum, out);
            continue;
        }
#endif
        blur_row(centre, wide, blur, bytes, sum, out);
    }
done:
    sk_free(padded);
    sk_free(sum);
    return status;
}

sk_status sk_blur_coarse(const uint8_t *pixels, int size, int small, uint8_t *out, sk_error *err)
{
    uint8_t *little = sk_alloc((size_t)small * (size_t)small, 3);
    if (!little)
        return sk_fail_memory(err, "a blurred picture");
    sk_status status = sk_resize_view(pixels, (size_t)size * 3, size, size, NULL, 0, small, small, little, err);
    if (status == SK_OK)
        status = sk_resize_view(little, (size_t)small * 3, small, small, NULL, 0, size, size, out, err);
    sk_free(little);
    return status;
}

/* ---- noise ----------------------------------------------------------------------------------------- */
/* IEC 61966-2-1. */
static double srgb_decode(double v)
{
    return v <= 0.04045 ? v / 12.92 : pow((v + 0.055) / 1.055, 2.4);
}

/* Levels of deviation per level of the picture, 1/256 level. */
static void noise_table(const sk_noise *noise, double scale, int32_t table[256])
{
    for (int v = 0; v < 256; v++) {
        const double y = srgb_decode(v / 255.0);
        const double slope = y <= 0.0031308 ? 12.92 : 1.055 / 2.4 * pow(y, 1 / 2.4 - 1);
        const double deviation = sqrt(y / noise->electrons + noise->read * noise->read) * slope * 255;
        table[v] = (int32_t)lrint(fmin(deviation, 127) * 256 * scale);
    }
}

/* Four bytes summed: near enough to a normal, mean 0, deviation DEVIATION. */
#define DEVIATION 147.801
static int32_t bell(uint32_t bits)
{
    return (int32_t)((bits & 255) + (bits >> 8 & 255) + (bits >> 16 & 255) + (bits >> 24)) - 510;
}

#define STRETCH 256 /* pixels whose bits are drawn at a time */

/* `field`: 3 values of deviation DEVIATION per pixel, a part of them common to the channels; from 2 draws per pixel. */
SK_BODY field_values(int16_t *field, int count, const uint64_t *bits, int32_t own, int32_t common)
{
    for (int i = 0; i < count; i++, bits += 2) {
        const int32_t all = bell((uint32_t)bits[0]) * common;
        field[3 * i] = (int16_t)((bell((uint32_t)(bits[0] >> 32)) * own + all) >> 8);
        field[3 * i + 1] = (int16_t)((bell((uint32_t)bits[1]) * own + all) >> 8);
        field[3 * i + 2] = (int16_t)((bell((uint32_t)(bits[1] >> 32)) * own + all) >> 8);
    }
}

/* 1 2 1 across and down; rows and columns are taken as a ring, which noise does not mind. */
SK_BODY smooth_values(const int16_t *in, int size, int16_t *sums, int16_t *out)
{
    const int row = size * 3;
    for (int y = 0; y < size; y++, out += row) {
        const int16_t *up = in + (y ? y - 1 : size - 1) * (ptrdiff_t)row, *at = in + y * (ptrdiff_t)row;
        const int16_t *down = in + (y + 1 < size ? y + 1 : 0) * (ptrdiff_t)row;
        for (int i = 0; i < row; i++) /* at most 4 * 721 */
            sums[i + 3] = (int16_t)(up[i] + 2 * at[i] + down[i]);
        memcpy(sums, sums + row, 3 * sizeof *sums);
        memcpy(sums + row + 3, sums + 3, 3 * sizeof *sums);
        for (int i = 0; i < row; i++)
            out[i] = (int16_t)((int16_t)(sums[i] + 2 * sums[i + 3] + sums[i + 6]) >> 4);
    }
}

#if defined(SK_AVX2)
SK_AVX2 static void field_avx2(int16_t *field, int count, const uint64_t *bits, int32_t own, int32_t common)
{
    field_values(field, count, bits, own, common);
}

SK_AVX2 static void smooth_avx2(const int16_t *in, int size, int16_t *sums, int16_t *out)
{
    smooth_values(in, size, sums, out);
}
#endif

static void noise_field(int16_t *field, size_t count, double colour, sk_rng *rng)
{
    const int32_t own = (int32_t)lrint(256 * sqrt(colour)), common = (int32_t)lrint(256 * sqrt(1 - colour));
    uint64_t bits[2 * STRETCH];
    for (size_t done = 0; done < count; done += STRETCH, field += 3 * STRETCH) {
        const int n = count - done < STRETCH ? (int)(count - done) : STRETCH;
        sk_rng_fill(rng, bits, 2 * (size_t)n);
#if defined(SK_AVX2)
        if (sk_simd_level() == SK_SIMD_AVX2) {
            field_avx2(field, n, bits, own, common);
            continue;
        }
#endif
        field_values(field, n, bits, own, common);
    }
}

/* `sums`: room for a row and two pixels. */
static void smooth_field(const int16_t *in, int size, int16_t *sums, int16_t *out)
{
#if defined(SK_AVX2)
    if (sk_simd_level() == SK_SIMD_AVX2) {
        smooth_avx2(in, size, sums, out);
        return;
    }
#endif
    smooth_values(in, size, sums, out);
}

sk_status sk_noise_apply(uint8_t *pixels, int size, const sk_noise *noise, sk_rng *rng, sk_error *err)
{
    const size_t count = (size_t)size * (size_t)size, bytes = count * 3;
    int16_t *field = sk_alloc(bytes, sizeof *field), *smooth = NULL, *sums = NULL;
    if (noise->coarse) {
        smooth = sk_alloc(bytes, sizeof *smooth);
        sums = sk_alloc(3 * (size_t)size + 6, sizeof *sums);
    }
    sk_status status = SK_OK;
    if (!field || (noise->coarse && (!smooth || !sums))) {
        status = sk_fail_memory(err, "the noise of a picture");
        goto done;
    }
    noise_field(field, count, noise->colour, rng);
    if (smooth)
        smooth_field(field, size, sums, smooth);
    int32_t table[256];
    /* Smoothing leaves (1 + 4 + 1) / 16 of the deviation. */
    noise_table(noise, (smooth ? 16.0 / 6 : 1) / DEVIATION * 256, table);
    const int16_t *n = smooth ? smooth : field;
    for (size_t i = 0; i < bytes; i++) {
        const int32_t v = pixels[i] + ((table[pixels[i]] * n[i] + (1 << 15)) >> 16);
        pixels[i] = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
    }
done:
    sk_free(field);
    sk_free(smooth);
    sk_free(sums);
    return status;
}
