/* SPDX-License-Identifier: Apache-2.0 */
/* Effects of light and colour. The bodies work on 48 bytes, which are 16 whole pixels, so that a coefficient per byte
 * repeats from block to block and the compiler can vectorise over interleaved channels. */
#include <math.h>
#include <string.h>

#include "image/effects.h"
#include "image/simd.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define BLOCK 48

static uint8_t to_byte(double value)
{
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

/* ---- blends: out = factor * in + offset, 1/16 level ------------------------------------------------- */
SK_BODY blend_block(uint8_t *p, uint16_t factor, int16_t offset)
{
    for (int i = 0; i < BLOCK; i++) {
        int16_t v = (int16_t)((((uint32_t)(uint16_t)(p[i] << 7) * factor) >> 16) + (uint32_t)offset);
        v = (int16_t)(v >> 4);
        p[i] = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
    }
}

/* Whole blocks in place, the rest through a block of its own. */
SK_BODY blend_body(uint8_t *pixels, size_t bytes, uint16_t factor, int16_t offset)
{
    size_t i = 0;
    for (; i + BLOCK <= bytes; i += BLOCK)
        blend_block(pixels + i, factor, offset);
    uint8_t rest[BLOCK] = {0};
    memcpy(rest, pixels + i, bytes - i);
    blend_block(rest, factor, offset);
    memcpy(pixels + i, rest, bytes - i);
}

#if defined(SK_AVX2)
SK_AVX2 static void blend_avx2(uint8_t *pixels, size_t bytes, uint16_t factor, int16_t offset)
{
    const __m256i zero = _mm256_setzero_si256(), f = _mm256_set1_epi16((int16_t)factor);
    const __m256i o = _mm256_set1_epi16(offset);
    size_t i = 0;
    for (; i + 32 <= bytes; i += 32) {
        const __m256i in = _mm256_loadu_si256((const __m256i *)(pixels + i));
        __m256i half[2] = {_mm256_unpacklo_epi8(in, zero), _mm256_unpackhi_epi8(in, zero)};
        for (int k = 0; k < 2; k++)
            half[k] = _mm256_srai_epi16(_mm256_add_epi16(_mm256_mulhi_epu16(_mm256_slli_epi16(half[k], 7), f), o), 4);
        _mm256_storeu_si256((__m256i *)(pixels + i), _mm256_packus_epi16(half[0], half[1]));
    }
    blend_body(pixels + i, bytes - i, factor, offset);
}
#endif

static void blend(uint8_t *pixels, size_t count, double factor, double offset)
{
    const uint16_t f = (uint16_t)fmin(lrint(factor * 8192), 65535);
    const int16_t o = (int16_t)lrint(offset * 16);
#if defined(SK_AVX2)
    if (sk_simd_level() == SK_SIMD_AVX2) {
        blend_avx2(pixels, count * 3, f, o);
        return;
    }
#endif
    blend_body(pixels, count * 3, f, o);
}

void sk_light_brightness(uint8_t *pixels, size_t count, double factor)
{
    blend(pixels, count, factor, 0);
}

/* ---- greyscale, ITU-R BT.601 -------------------------------------------------------------------------- */
static const double GREY[3] = {0.2989, 0.587, 0.114};

SK_BODY sums_body(const uint8_t *pixels, size_t bytes, uint64_t sum[3])
{
    uint32_t lane[BLOCK] = {0};
    size_t i = 0;
    for (; i + BLOCK <= bytes; i += BLOCK)
        for (int k = 0; k < BLOCK; k++)
            lane[k] += pixels[i + (size_t)k];
    for (; i < bytes; i++)
        lane[i % 3] += pixels[i]; /* a block is whole pixels: the phase stays */
    for (int k = 0; k < BLOCK; k++)
        sum[k % 3] += lane[k];
}

#if defined(SK_AVX2)
SK_AVX2 static void sums_avx2(const uint8_t *pixels, size_t bytes, uint64_t sum[3])
{
    sums_body(pixels, bytes, sum);
}
#endif

void sk_light_contrast(uint8_t *pixels, size_t count, double factor)
{
    uint64_t sum[3] = {0};
#if defined(SK_AVX2)
    if (sk_simd_level() == SK_SIMD_AVX2)
        sums_avx2(pixels, count * 3, sum);
    else
#endif
        sums_body(pixels, count * 3, sum);
    double mean = 0;
    for (int c = 0; c < 3; c++)
        mean += GREY[c] * (double)sum[c];
    /* torchvision cuts each pixel's grey to a whole number before it takes the mean. */
    blend(pixels, count, factor, (1 - factor) * fmax(mean / (double)count - 0.5, 0));
}

/* grey = sum over the five bytes around a byte of weight * byte; the weights of bytes of other pixels are 0. */
typedef struct grey_taps {
    uint16_t weight[5][BLOCK];
} grey_taps;

static grey_taps make_taps(void)
{
    grey_taps t = {{{0}}};
    for (int i = 0; i < BLOCK; i++)
        for (int c = 0; c < 3; c++)
            t.weight[c - i % 3 + 2][i] = (uint16_t)lrint(GREY[c] * 65536);
    return t;
}

SK_BODY saturate_block(uint8_t *p, const grey_taps *t, uint16_t own, int16_t share)
{
    uint8_t in[BLOCK + 4] = {0};
    memcpy(in + 2, p, BLOCK);
    for (int i = 0; i < BLOCK; i++) {
        uint16_t grey = 0; /* 1/256 level */
        for (int k = 0; k < 5; k++)
            grey = (uint16_t)(grey + (((uint32_t)(uint16_t)(in[i + k] << 8) * t->weight[k][i]) >> 16));
        const int16_t kept = (int16_t)(((uint32_t)(uint16_t)(p[i] << 7) * own) >> 16);
        const int16_t added = (int16_t)(((int32_t)(int16_t)((grey >> 8) << 7) * share) >> 16);
        const int16_t v = (int16_t)((int16_t)(kept + added) >> 4);
        p[i] = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
    }
}

SK_BODY saturate_body(uint8_t *pixels, size_t bytes, const grey_taps *t, uint16_t own, int16_t share)
{
    size_t i = 0;
    for (; i + BLOCK <= bytes; i += BLOCK)
        saturate_block(pixels + i, t, own, share);
    uint8_t rest[BLOCK] = {0};
    memcpy(rest, pixels + i, bytes - i);
    saturate_block(rest, t, own, share);
    memcpy(pixels + i, rest, bytes - i);
}

#if defined(SK_AVX2)
/* Where the bytes of a channel in 16 pixels are: in the vector of that number (of three), or nowhere. */
SK_AVX2 static __m256i from_pixels(int vector, int channel)
{
    int8_t at[16];
    for (int i = 0; i < 16; i++)
        at[i] = (int8_t)((3 * i + channel) / 16 == vector ? (3 * i + channel) % 16 : -1);
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)at));
}

/* The way back: which of a channel's 16 bytes the vector of that number takes, and where. */
SK_AVX2 static __m256i to_pixels(int vector, int channel)
{
    int8_t at[16];
    for (int i = 0; i < 16; i++)
        at[i] = (int8_t)((16 * vector + i) % 3 == channel ? (16 * vector + i) / 3 : -1);
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)at));
}

SK_AVX2 static inline __m256i shuffle_three(const __m256i in[3], const __m256i by[3])
{
    return _mm256_or_si256(_mm256_or_si256(_mm256_shuffle_epi8(in[0], by[0]), _mm256_shuffle_epi8(in[1], by[1])),
                           _mm256_shuffle_epi8(in[2], by[2]));
}

/* The channels apart, as numbers of 16 bits: 16 of the 32 pixels that `plane` holds, in 1/256 level. */
SK_AVX2 static inline void saturate_half(__m256i c[3], const __m256i weight[3], __m256i own, __m256i share)
{
    __m256i grey = _mm256_setzero_si256();
    for (int k = 0; k < 3; k++)
        grey = _mm256_add_epi16(grey, _mm256_mulhi_epu16(c[k], weight[k]));
    const __m256i added = _mm256_mulhi_epi16(_mm256_slli_epi16(_mm256_srli_epi16(grey, 8), 7), share);
    for (int k = 0; k < 3; k++)
        c[k] = _mm256_srai_epi16(_mm256_add_epi16(_mm256_mulhi_epu16(_mm256_srli_epi16(c[k], 1), own), added), 4);
}

/* Grey once per pixel instead of once per byte. Each half of a register holds 16 pixels of its own. */
SK_AVX2 static void saturate_avx2(uint8_t *pixels, size_t bytes, const grey_taps *t, uint16_t own, int16_t share)
{
    const __m256i zero = _mm256_setzero_si256();
    __m256i apart[3][3], back[3][3], weight[3];
    for (int i = 0; i < 3; i++) {
        weight[i] = _mm256_set1_epi16((int16_t)lrint(GREY[i] * 65536));
        for (int k = 0; k < 3; k++) {
            apart[i][k] = from_pixels(k, i);
            back[i][k] = to_pixels(i, k);
        }
    }
    size_t at = 0;
    for (; at + 2 * BLOCK <= bytes; at += 2 * BLOCK) {
        uint8_t *p = pixels + at;
        __m256i in[3], low[3], high[3];
        for (int k = 0; k < 3; k++)
            in[k] = _mm256_inserti128_si256(
                _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(p + 16 * k))),
                _mm_loadu_si128((const __m128i *)(p + BLOCK + 16 * k)), 1);
        for (int c = 0; c < 3; c++) {
            const __m256i plane = shuffle_three(in, apart[c]);
            low[c] = _mm256_unpacklo_epi8(zero, plane);
            high[c] = _mm256_unpackhi_epi8(zero, plane);
        }
        saturate_half(low, weight, _mm256_set1_epi16((int16_t)own), _mm256_set1_epi16(share));
        saturate_half(high, weight, _mm256_set1_epi16((int16_t)own), _mm256_set1_epi16(share));
        for (int c = 0; c < 3; c++)
            in[c] = _mm256_packus_epi16(low[c], high[c]);
        for (int k = 0; k < 3; k++) {
            const __m256i mixed = shuffle_three(in, back[k]);
            _mm_storeu_si128((__m128i *)(p + 16 * k), _mm256_castsi256_si128(mixed));
            _mm_storeu_si128((__m128i *)(p + BLOCK + 16 * k), _mm256_extracti128_si256(mixed, 1));
        }
    }
    saturate_body(pixels + at, bytes - at, t, own, share);
}
#endif

void sk_light_saturation(uint8_t *pixels, size_t count, double factor)
{
    const grey_taps taps = make_taps();
    const uint16_t own = (uint16_t)lrint(fmin(factor, 4) * 8192);
    const int16_t share = (int16_t)(8192 - own);
#if defined(SK_AVX2)
    if (sk_simd_level() == SK_SIMD_AVX2) {
        saturate_avx2(pixels, count * 3, &taps, own, share);
        return;
    }
#endif
    saturate_body(pixels, count * 3, &taps, own, share);
}

/* ---- curves and lamps ----------------------------------------------------------------------------------- */
void sk_light_expose(uint8_t *pixels, size_t count, double exponent, const double gain[3])
{
    uint8_t table[3][256];
    for (int v = 0; v < 256; v++) {
        const double bent = exponent == 1 ? v : 255 * pow(v / 255.0, exponent);
        for (int c = 0; c < 3; c++)
            table[c][v] = to_byte(bent * gain[c] + 0.5);
    }
    for (size_t i = 0; i < count; i++, pixels += 3)
        for (int c = 0; c < 3; c++)
            pixels[c] = table[c][pixels[c]];
}

#define LAMP_STEPS 256

/* Encoded (power 1/2.2) factor of the lamp's light, 8 bits of fraction, by the square of the distance in steps. The
 * light falls as 1 / (1 + (d / reach)^2)^2: inverse square in both the distance from the axis and the angle. */
static void lamp_table(const sk_lamp *lamp, double farthest, uint16_t table[LAMP_STEPS])
{
    for (int i = 0; i < LAMP_STEPS; i++) {
        const double d2 = (i + 0.5) / LAMP_STEPS * farthest, fall = 1 + d2 / (lamp->reach * lamp->reach);
        table[i] = (uint16_t)fmin(lrint(256 * pow(lamp->gain / (fall * fall), 1 / 2.2)), 65535);
    }
}

void sk_light_infrared(uint8_t *pixels, int size, const sk_lamp *lamp)
{
    uint16_t table[LAMP_STEPS];
    /* The farthest corner from a lamp that may point a little outside. */
    const double far_x = fmax(fabs(lamp->x), fabs(1 - lamp->x)), far_y = fmax(fabs(lamp->y), fabs(1 - lamp->y));
    const double farthest = far_x * far_x + far_y * far_y;
    lamp_table(lamp, farthest, table);
    uint32_t weight[3];
    for (int c = 0; c < 3; c++)
        weight[c] = (uint32_t)lrint(lamp->weight[c] * 256);
    const float step = (float)(LAMP_STEPS / farthest / ((double)size * size));
    const float cx = (float)(lamp->x * size - 0.5), cy = (float)(lamp->y * size - 0.5);
    for (int y = 0; y < size; y++) {
        for (int x = 0; x < size; x++, pixels += 3) {
            const float dx = (float)x - cx, dy = (float)y - cy;
            const int at = (int)((dx * dx + dy * dy) * step);
            const uint32_t grey = weight[0] * pixels[0] + weight[1] * pixels[1] + weight[2] * pixels[2];
            const uint32_t lit = (grey * table[at < LAMP_STEPS ? at : LAMP_STEPS - 1] + (1u << 15)) >> 16;
            pixels[0] = pixels[1] = pixels[2] = (uint8_t)(lit > 255 ? 255 : lit);
        }
    }
}
