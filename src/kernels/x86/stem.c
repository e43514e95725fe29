/* SPDX-License-Identifier: Apache-2.0 */
/* First convolution straight from the bytes of a picture, and the rows that a product with its weights reads. The three
 * rows of pixels below an output row are normalised once into a ring of four, with a pixel of zeros at either end; then
 * 16 channels of several neighbouring outputs are summed in registers, or the nine values of each kernel row, which lie
 * next to each other, are copied. */
#include <string.h>

#include "kernels/x86/vector.h"
#include "kernels/x86/x86.h"

#ifdef __AVX512F__
enum { OUTPUTS = 14 };
SK_INLINE sk_vec load_bytes(const uint8_t *from) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)from)));
}
#else
enum { OUTPUTS = 6 };
SK_INLINE sk_vec load_bytes(const uint8_t *from) {
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)from)));
}
#endif
enum { CHANNELS = 16, VECTORS = CHANNELS / SK_LANES };

/* Row iy of the picture, or zeros above and below it, to its place in the ring. */
static void normalise(const sk_stem *s, const uint8_t *image, int iy, float *ring) {
    const int count = 3 * s->w, whole = count - count % (3 * SK_LANES);
    float *to = ring + (iy & 3) * SK_STEM_ROW(s->w);
    const uint8_t *from = image + (ptrdiff_t)iy * count;
    float pattern[2][3 * SK_LANES]; /* mean and gain of 3 vectors of bytes */

    if (iy < 0 || iy >= s->h) {
        memset(to, 0, (size_t)SK_STEM_ROW(s->w) * sizeof *to);
        return;
    }
    memset(to, 0, 3 * sizeof *to);
    to += 3;
    memset(to + count, 0, 3 * sizeof *to);
    for (int i = 0; i < 3 * SK_LANES; i++) {
        pattern[0][i] = s->mean[i % 3];
        pattern[1][i] = s->gain[i % 3];
    }
    for (int i = 0; i < whole; i += 3 * SK_LANES)
#pragma GCC unroll 3
        for (int v = 0; v < 3 * SK_LANES; v += SK_LANES)
            vec_store(to + i + v,
                      vec_mul(vec_sub(load_bytes(from + i + v), vec_load(pattern[0] + v)), vec_load(pattern[1] + v)));
    for (int i = whole; i < count; i++) to[i] = ((float)from[i] - s->mean[i % 3]) * s->gain[i % 3];
}

/* `count` neighbouring outputs of 16 channels; rows[ky] points at the first one's first tap. */
SK_INLINE void outputs(const int count, const sk_stem *s, const float *const rows[3], const float *weight,
                       const float *bias, float *y) {
    sk_vec sum[OUTPUTS][VECTORS];

#pragma GCC unroll 14
    for (int i = 0; i < count; i++)
#pragma GCC unroll 2
        for (int v = 0; v < VECTORS; v++) sum[i][v] = vec_load(bias + v * SK_LANES);
    for (int ky = 0; ky < 3; ky++) {
        const float *row = rows[ky];

#pragma GCC unroll 9
        for (int t = 0; t < 9; t++, weight += s->c) {
            sk_vec tap[VECTORS];
#pragma GCC unroll 2
            for (int v = 0; v < VECTORS; v++) tap[v] = vec_load(weight + v * SK_LANES);
#pragma GCC unroll 14
            for (int i = 0; i < count; i++) {
                const sk_vec value = vec_set(row[6 * i + t]);
#pragma GCC unroll 2
                for (int v = 0; v < VECTORS; v++) sum[i][v] = vec_fma(value, tap[v], sum[i][v]);
            }
        }
    }
#pragma GCC unroll 14
    for (int i = 0; i < count; i++)
#pragma GCC unroll 2
        for (int v = 0; v < VECTORS; v++) vec_store(y + i * s->c + v * SK_LANES, vec_act(sum[i][v], s->act));
}

/* The last group of a row begins early enough to be whole: some outputs are then computed twice, to the same value. */
static void stem_row(const sk_stem *s, const float *ring, int oy, float *y) {
    const int ow = (s->w - 1) / 2 + 1, step = ow < OUTPUTS ? 1 : OUTPUTS;

    for (int next = 0; next < ow; next += step) {
        const int ox = next + step > ow ? ow - step : next;
        const float *rows[3];

        for (int ky = 0; ky < 3; ky++) rows[ky] = ring + ((2 * oy - 1 + ky) & 3) * SK_STEM_ROW(s->w) + 6 * ox;
        for (int c = 0; c < s->c; c += CHANNELS)
            if (step == 1) outputs(1, s, rows, s->weight + c, s->bias + c, y + (ptrdiff_t)ox * s->c + c);
            else outputs(OUTPUTS, s, rows, s->weight + c, s->bias + c, y + (ptrdiff_t)ox * s->c + c);
    }
}

/* Picture rows that output row oy sees and the one before it (from oy0 on) did not. */
static void normalise_next(const sk_stem *s, const uint8_t *image, int oy, int oy0, float *ring) {
    for (int iy = oy == oy0 ? 2 * oy - 1 : 2 * oy; iy <= 2 * oy + 1; iy++) normalise(s, image, iy, ring);
}

static void stem_u8(const sk_stem *s, const uint8_t *image, int oy0, int oy1, float *ring, float *y) {
    const ptrdiff_t size = (ptrdiff_t)((s->w - 1) / 2 + 1) * s->c;

    if (s->c % CHANNELS) {
        sk_kernels_c()->stem_u8(s, image, oy0, oy1, ring, y);
        return;
    }
    for (int oy = oy0; oy < oy1; oy++, y += size) {
        normalise_next(s, image, oy, oy0, ring);
        stem_row(s, ring, oy, y);
    }
}

static void im2col_u8(const sk_stem *s, const uint8_t *image, int oy0, int oy1, float *ring, float *out, int ld) {
    const int ow = (s->w - 1) / 2 + 1;

    for (int oy = oy0; oy < oy1; oy++) {
        const float *rows[3];

        normalise_next(s, image, oy, oy0, ring);
        for (int ky = 0; ky < 3; ky++) rows[ky] = ring + ((2 * oy - 1 + ky) & 3) * SK_STEM_ROW(s->w);
        for (int ox = 0; ox < ow; ox++, out += ld)
#pragma GCC unroll 3
            for (int ky = 0; ky < 3; ky++) {
                const float *from = rows[ky] + 6 * ox;
                _mm256_storeu_ps(out + 9 * ky, _mm256_loadu_ps(from));
                out[9 * ky + 8] = from[8];
            }
    }
}

void SK_WIDE(stem_entries)(sk_kernels *table) {
    table->stem_u8 = stem_u8;
    table->im2col_u8 = im2col_u8;
}
