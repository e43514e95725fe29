/* SPDX-License-Identifier: Apache-2.0 */
/* Where a picture's object goes in another picture, and the blending: light, contrast, colourfulness and sharpness lean
 * towards the ground's, since a colour bird in a night picture, or a crisp one in a soft frame, would be told by that
 * alone. */
#include "image/paste.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "image/codec.h"
#include "image/simd.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define SIDE_MAX_TRAIN 0.8f
#define SHADE_MIN_TRAIN 0.15f

/* ---- place -------------------------------------------------------------------------------------- */
/* Column and row sums of the mask, in the mirrored order if need be. */
typedef struct profile {
    double across[SK_MASK_SIDE], down[SK_MASK_SIDE], total;
    double x0, x1, y0, y1; /* the object's box, in shares of the picture */
} profile;

#define VISIBLE 64 /* opacity from which a point counts for the box */

static profile measure(const sk_mask *mask, int mirrored)
{
    profile p = {.x0 = 1, .y0 = 1};
    for (int y = 0; y < mask->height; y++)
        for (int x = 0; x < mask->width; x++) {
            const uint8_t a = mask->alpha[y * mask->width + (mirrored ? mask->width - 1 - x : x)];
            p.across[x] += a;
            p.down[y] += a;
            p.total += a;
            if (a < VISIBLE)
                continue;
            p.x0 = fmin(p.x0, (double)x / mask->width);
            p.x1 = fmax(p.x1, (double)(x + 1) / mask->width);
            p.y0 = fmin(p.y0, (double)y / mask->height);
            p.y1 = fmax(p.y1, (double)(y + 1) / mask->height);
        }
    if (p.x0 >= p.x1 || p.y0 >= p.y1) {
        p.x0 = p.y0 = 0;
        p.x1 = p.y1 = 1;
    }
    return p;
}

/* Where along the axis (share of the picture) the given share of the mask lies before. */
static double quantile(const double *sums, int count, double total, double share)
{
    double before = 0;
    for (int i = 0; i < count; i++) {
        if (before + sums[i] >= share * total && sums[i] > 0)
            return (i + (share * total - before) / sums[i]) / count;
        before += sums[i];
    }
    return 1;
}

static double between(double low, double high, double u)
{
    return low + (high - low) * u;
}

sk_place sk_place_draw(const sk_mask *mask, const sk_image *picture, int ground_width, int ground_height,
                       const sk_place_range *range, sk_rng *rng)
{
    double u[7];
    for (int i = 0; i < 7; i++)
        u[i] = sk_rng_uniform(rng);
    sk_place place = {.mirrored = u[0] < 0.5, .light = 0.5f, .shade = 1};
    const profile p = measure(mask, place.mirrored);
    const int shorter = ground_width < ground_height ? ground_width : ground_height;
    const double side = shorter * exp(between(log(range->side_min), log(range->side_max), u[1]));
    const double box_width = (p.x1 - p.x0) * picture->width, box_height = (p.y1 - p.y0) * picture->height;
    const double scale = side / fmax(box_width, box_height);
    place.width = (int)fmax(2, lrint(picture->width * scale));
    place.height = (int)fmax(2, lrint(picture->height * scale));
    /* The object's box anywhere inside; beyond the side, centred. */
    const double room_x = ground_width - box_width * scale, room_y = ground_height - box_height * scale;
    double x = (room_x > 0 ? room_x * u[2] : room_x / 2) - p.x0 * place.width;
    double y = (room_y > 0 ? room_y * u[3] : room_y / 2) - p.y0 * place.height;
    if (range->cut_max > 0) {
        const double cut = between(range->cut_min, range->cut_max, u[4]);
        const double far = u[5] < 0.5 ? cut : 1 - cut; /* over the left or upper border, or the other */
        if (u[6] < 0.6)
            x = (far == cut ? 0 : ground_width) - quantile(p.across, mask->width, p.total, far) * place.width;
        else
            y = (far == cut ? 0 : ground_height) - quantile(p.down, mask->height, p.total, far) * place.height;
    }
    place.x = (int)lrint(x);
    place.y = (int)lrint(y);
    return place;
}

/* ---- light -------------------------------------------------------------------------------------- */
typedef struct tone {
    float mean[3], lightness, contrast, chroma, sharpness;
} tone;

/* Of every `step`-th pixel. Sharpness is second differences against first ones: it tells an edge's width, whatever its
 * height. */
static tone tone_of(const uint8_t *pixels, int width, int height, int step)
{
    tone t = {.mean = {0}};
    double sum[3] = {0}, square = 0, chroma = 0, first = 0, second = 0;
    int n = 0;
    for (int y = 0; y < height; y += step)
        for (int x = 0; x < width; x += step) {
            const uint8_t *p = pixels + ((size_t)y * (size_t)width + (size_t)x) * 3;
            const double light = (p[0] + 2 * p[1] + p[2]) * 0.25;
            const int most = p[0] > p[1] ? (p[0] > p[2] ? p[0] : p[2]) : (p[1] > p[2] ? p[1] : p[2]);
            const int least = p[0] < p[1] ? (p[0] < p[2] ? p[0] : p[2]) : (p[1] < p[2] ? p[1] : p[2]);
            for (int c = 0; c < 3; c++)
                sum[c] += p[c];
            square += light * light;
            chroma += most - least;
            n++;
            if (x < 1 || x + 1 >= width)
                continue;
            first += abs(p[4] - p[-2]) * 0.5;
            second += abs(p[4] - 2 * p[1] + p[-2]);
        }
    for (int c = 0; c < 3; c++)
        t.mean[c] = (float)(sum[c] / n);
    t.lightness = (t.mean[0] + 2 * t.mean[1] + t.mean[2]) * 0.25f;
    t.contrast = (float)sqrt(fmax(1, square / n - (double)t.lightness * (double)t.lightness));
    t.chroma = (float)(chroma / n);
    t.sharpness = (float)(second / fmax(1, first));
    return t;
}

static float clamp(float value, float low, float high)
{
    return value < low ? low : value > high ? high : value;
}

/* The way from the picture's tone to one nearer to the ground's. */
typedef struct move {
    float lightness, contrast, gain, color, cast[3];
} move;

/* Lightness in full measure of `light`, the cast by half of it (a green meadow does not make a bird green), contrast by
 * half; colour never grows, and vanishes in a grey picture. */
static move move_between(const tone *from, const tone *to, const sk_place *place)
{
    const float half = place->light * 0.5f;
    const float lighter = powf((to->lightness + 4) / (from->lightness + 4), place->light);
    const float rest = to->chroma < 6 ? to->chroma / 6 : 1;
    move m = {.lightness = from->lightness, .gain = clamp(lighter, 0.35f, 1.6f) * place->shade};
    m.contrast = clamp(powf(to->contrast / from->contrast, half), 0.6f, 1.15f);
    m.color = rest * clamp(powf((to->chroma + 4) / (from->chroma + 4), half), 0.4f, 1);
    for (int c = 0; c < 3; c++) {
        const float own = (from->mean[c] + 8) / (from->lightness + 8), other = (to->mean[c] + 8) / (to->lightness + 8);
        m.cast[c] = 1 + (clamp(powf(other / own, half), 0.75f, 1.33f) - 1) * rest;
    }
    return m;
}

static void relight(const uint8_t p[3], const move *m, uint8_t out[3])
{
    const float light = (float)(p[0] + 2 * p[1] + p[2]) * 0.25f;
    const float moved = (m->lightness + (light - m->lightness) * m->contrast) * m->gain;
    for (int c = 0; c < 3; c++) {
        const float value = (moved + ((float)p[c] - light) * m->color * m->gain) * m->cast[c];
        out[c] = (uint8_t)(clamp(value, 0, 255) + 0.5f);
    }
}

/* [1 2 1]/4 across and down, in place. */
static void soften(uint8_t *pixels, int width, int height)
{
    const size_t row = (size_t)width * 3;
    for (int y = 0; y < height; y++) {
        uint8_t *p = pixels + (size_t)y * row, before[3];
        memcpy(before, p, 3);
        for (size_t i = 0; i + 3 < row; i++) {
            const uint8_t kept = p[i];
            p[i] = (uint8_t)((before[i % 3] + 2 * kept + p[i + 3] + 2) >> 2);
            before[i % 3] = kept;
        }
    }
    for (size_t i = 0; i < row; i++) {
        uint8_t before = pixels[i];
        for (int y = 0; y + 1 < height; y++) {
            uint8_t *p = pixels + (size_t)y * row + i;
            const uint8_t kept = *p;
            *p = (uint8_t)((before + 2 * kept + p[row] + 2) >> 2);
            before = kept;
        }
    }
}

/* ---- blending ----------------------------------------------------------------------------------- */
/* Opacities of the mask's grid at the middle of line y of the place: bilinear, the first half; one more than the grid
 * is wide, so that the second half needs no end. */
static void opacity_line(const sk_mask *mask, const sk_place *place, int y, float line[SK_MASK_SIDE + 1])
{
    const float v = ((float)y + 0.5f) * (float)mask->height / (float)place->height - 0.5f;
    const float cv = clamp(v, 0, (float)(mask->height - 1));
    const int y0 = (int)cv, y1 = y0 + 1 < mask->height ? y0 + 1 : y0;
    for (int x = 0; x < mask->width; x++) {
        const float a = mask->alpha[y0 * mask->width + x], b = mask->alpha[y1 * mask->width + x];
        line[x] = a + (b - a) * (cv - (float)y0);
    }
    line[mask->width] = line[mask->width - 1];
}

/* What is seen of one line of the place, from its first pixel on. */
typedef struct strip {
    const float *opacity;
    float step, end;     /* points of the mask per pixel, the last point */
    int own, forward;    /* the first one's column in the picture, and 1, or -1 if it is mirrored */
    const uint8_t *from; /* the picture's line */
    uint8_t *to, *alpha; /* the ground's; alpha may be NULL */
    const move *light;
} strip;

/* Most of the pixels that are pasted are transparent: only the others are given the ground's light. */
static void blend_pixel(const strip *s, int x)
{
    const int own = s->own + x * s->forward;
    const float u = clamp(((float)own + 0.5f) * s->step - 0.5f, 0, s->end);
    const int left = (int)u;
    const int a = (int)(s->opacity[left] + (s->opacity[left + 1] - s->opacity[left]) * (u - (float)left) + 0.5f);
    uint8_t *to = s->to + (ptrdiff_t)x * 3, from[3];
    if (!a)
        return;
    relight(s->from + (ptrdiff_t)own * 3, s->light, from);
    for (int c = 0; c < 3; c++)
        to[c] = (uint8_t)((to[c] * (255 - a) + from[c] * a + 127) / 255);
    if (s->alpha)
        s->alpha[x] = (uint8_t)a;
}

#if defined(SK_AVX2)
/* The first 8 bits of eight pixels of which each has 32, as they come from a gather. */
SK_AVX2 static inline __m256i first_byte(__m256i pixels)
{
    return _mm256_and_si256(pixels, _mm256_set1_epi32(255));
}

SK_AVX2 static inline __m256 clamped(__m256 value, float high)
{
    return _mm256_min_ps(_mm256_max_ps(value, _mm256_setzero_ps()), _mm256_set1_ps(high));
}

/* One channel of eight pixels: relit, then mixed with the ground's by a; the quotient by 255 is exact below 2^16. */
SK_AVX2 static inline __m256i blend_channel(__m256i from, __m256i to, __m256i a, __m256 light, __m256 moved,
                                            const move *m, int c)
{
    const __m256 off = _mm256_mul_ps(_mm256_sub_ps(_mm256_cvtepi32_ps(from), light), _mm256_set1_ps(m->color));
    const __m256 value = _mm256_mul_ps(_mm256_add_ps(moved, _mm256_mul_ps(off, _mm256_set1_ps(m->gain))),
                                       _mm256_set1_ps(m->cast[c]));
    const __m256i lit = _mm256_cvttps_epi32(_mm256_add_ps(clamped(value, 255), _mm256_set1_ps(0.5f)));
    const __m256i rest = _mm256_sub_epi32(_mm256_set1_epi32(255), a);
    const __m256i sum = _mm256_add_epi32(_mm256_add_epi32(_mm256_mullo_epi32(to, rest), _mm256_mullo_epi32(lit, a)),
                                         _mm256_set1_epi32(127));
    return _mm256_srli_epi32(_mm256_mullo_epi32(sum, _mm256_set1_epi32(0x8081)), 23);
}

/* Eight pixels from x on, to the same bytes as one by one. Reads a byte beyond the pixels. */
SK_AVX2 static void blend_eight(const strip *s, int x)
{
    const move *m = s->light;
    const __m256i count = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), three = _mm256_set1_epi32(3);
    const __m256i own = _mm256_add_epi32(_mm256_set1_epi32(s->own + x * s->forward),
                                         _mm256_mullo_epi32(count, _mm256_set1_epi32(s->forward)));
    const __m256 half = _mm256_set1_ps(0.5f), at = _mm256_add_ps(_mm256_cvtepi32_ps(own), half);
    const __m256 u = clamped(_mm256_sub_ps(_mm256_mul_ps(at, _mm256_set1_ps(s->step)), half), s->end);
    const __m256i left = _mm256_cvttps_epi32(u);
    const __m256 before = _mm256_i32gather_ps(s->opacity, left, 4);
    const __m256 after = _mm256_i32gather_ps(s->opacity + 1, left, 4);
    const __m256 share = _mm256_mul_ps(_mm256_sub_ps(after, before), _mm256_sub_ps(u, _mm256_cvtepi32_ps(left)));
    const __m256i a = _mm256_cvttps_epi32(_mm256_add_ps(_mm256_add_ps(before, share), half));
    if (_mm256_testz_si256(a, a))
        return;
    uint8_t *out = s->to + (ptrdiff_t)x * 3;
    const __m256i from = _mm256_i32gather_epi32((const int *)(const void *)s->from, _mm256_mullo_epi32(own, three), 1);
    const __m256i to = _mm256_i32gather_epi32((const int *)(const void *)out, _mm256_mullo_epi32(count, three), 1);
    const __m256i r = first_byte(from), g = first_byte(_mm256_srli_epi32(from, 8));
    const __m256i b = first_byte(_mm256_srli_epi32(from, 16));
    const __m256i sum = _mm256_add_epi32(_mm256_add_epi32(r, b), _mm256_slli_epi32(g, 1));
    const __m256 light = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), _mm256_set1_ps(0.25f));
    const __m256 base = _mm256_set1_ps(m->lightness);
    const __m256 contrast = _mm256_mul_ps(_mm256_sub_ps(light, base), _mm256_set1_ps(m->contrast));
    const __m256 moved = _mm256_mul_ps(_mm256_add_ps(base, contrast), _mm256_set1_ps(m->gain));
    const __m256i red = blend_channel(r, first_byte(to), a, light, moved, m, 0);
    const __m256i green = blend_channel(g, first_byte(_mm256_srli_epi32(to, 8)), a, light, moved, m, 1);
    const __m256i blue = blend_channel(b, first_byte(_mm256_srli_epi32(to, 16)), a, light, moved, m, 2);
    uint32_t mixed[8], opaque[8];
    const __m256i upper = _mm256_or_si256(_mm256_slli_epi32(green, 8), _mm256_slli_epi32(blue, 16));
    _mm256_storeu_si256((__m256i *)(void *)mixed, _mm256_or_si256(red, upper));
    _mm256_storeu_si256((__m256i *)(void *)opaque, a);
    for (int i = 0; i < 8; i++) {
        memcpy(out + 3 * i, &mixed[i], 3);
        if (s->alpha)
            s->alpha[x + i] = (uint8_t)opaque[i];
    }
}
#endif

/* Eight at a time as long as a ninth pixel follows, whose first byte may be read. */
static void blend_strip(const strip *s, int end)
{
    int x = 0;
#if defined(SK_AVX2)
    if (sk_simd_level() == SK_SIMD_AVX2)
        for (; x + 8 < end; x += 8)
            blend_eight(s, x);
#endif
    for (; x < end; x++)
        blend_pixel(s, x);
}

static void blend(sk_image *ground, const uint8_t *pixels, const sk_mask *mask, const sk_place *place,
                  const move *light, uint8_t *alpha)
{
    const int x_from = place->x < 0 ? -place->x : 0, y_from = place->y < 0 ? -place->y : 0;
    const int x_to = place->x + place->width < ground->width ? place->width : ground->width - place->x;
    const int y_to = place->y + place->height < ground->height ? place->height : ground->height - place->y;
    float line[SK_MASK_SIDE + 1];
    strip s = {.opacity = line, .light = light, .step = (float)mask->width / (float)place->width,
               .end = (float)(mask->width - 1), .own = place->mirrored ? place->width - 1 - x_from : x_from,
               .forward = place->mirrored ? -1 : 1};
    for (int y = y_from; y < y_to; y++) {
        const ptrdiff_t at = (ptrdiff_t)(place->y + y) * ground->width + place->x + x_from;
        opacity_line(mask, place, y, line);
        s.from = pixels + (size_t)y * (size_t)place->width * 3;
        s.to = ground->data + at * 3;
        s.alpha = alpha ? alpha + at : NULL;
        blend_strip(&s, x_to - x_from);
    }
}

sk_status sk_paste(sk_image *ground, const sk_image *picture, const sk_mask *mask, const sk_place *place,
                   uint8_t *alpha, sk_error *err)
{
    if (!ground->data || !picture->data || mask->width < 1 || mask->height < 1)
        return sk_fail(err, SK_ERR_ARGUMENT, "cannot paste: the picture, its mask or the ground is empty");
    if (place->width < 1 || place->height < 1 || place->width > 8192 || place->height > 8192)
        return sk_fail(err, SK_ERR_ARGUMENT, "cannot paste a picture at %d x %d pixels: 1 to 8192 are possible",
                       place->width, place->height);
    if (alpha)
        memset(alpha, 0, (size_t)ground->width * (size_t)ground->height);
    if (place->x >= ground->width || place->y >= ground->height || place->x <= -place->width ||
        place->y <= -place->height)
        return SK_OK;
    uint8_t *pixels = sk_alloc((size_t)place->width * (size_t)place->height + 1, 3);
    if (!pixels)
        return sk_fail_memory(err, "a picture to paste");
    const sk_status status = sk_image_resize(picture, NULL, place->width, place->height, pixels, err);
    if (status == SK_OK) {
        const int step = 1 + (place->width > 64) + (place->width > 128); /* some thousand pixels tell the tone */
        tone own = tone_of(pixels, place->width, place->height, step);
        const tone other = tone_of(ground->data, ground->width, ground->height, 3);
        for (int i = 0; i < 2 && own.sharpness > other.sharpness * 1.2f; i++) {
            soften(pixels, place->width, place->height);
            own.sharpness = tone_of(pixels, place->width, place->height, step).sharpness;
        }
        const move light = move_between(&own, &other, place);
        blend(ground, pixels, mask, place, &light, alpha);
    }
    sk_free(pixels);
    return status;
}

/* ---- training ----------------------------------------------------------------------------------- */
sk_status sk_ground_crop(const sk_image *ground, sk_rng *rng, int size, uint8_t *out, sk_error *err)
{
    const int shorter = ground->width < ground->height ? ground->width : ground->height;
    const int side = (int)fmax(1, shorter * sk_rng_between(rng, 0.6, 1));
    const int x = (int)sk_rng_below(rng, (uint32_t)(ground->width - side + 1));
    const int y = (int)sk_rng_below(rng, (uint32_t)(ground->height - side + 1));
    const size_t stride = (size_t)ground->width * 3;
    const int mirrored = sk_rng_uniform(rng) < 0.5;
    return sk_resize_view(ground->data + (size_t)y * stride + (size_t)x * 3, stride, side, side, NULL, mirrored, size,
                          size, out, err);
}

sk_status sk_paste_train(const sk_image *picture, const sk_mask *found, const sk_image *ground,
                         const sk_augment *options, sk_rng *rng, int size, uint8_t *out, sk_error *err)
{
    sk_image canvas = {size, size, out};
    sk_mask mask = *found;
    const float least = clamp(options->paste_min, 0.02f, SIDE_MAX_TRAIN);
    sk_place_range range = {.side_min = least, .side_max = SIDE_MAX_TRAIN};
    const sk_status status = sk_ground_crop(ground, rng, size, out, err);
    if (status != SK_OK)
        return status;
    const uint64_t seed = sk_rng_next(rng);
    if (!mask.separated)
        sk_mask_oval(seed, &mask);
    if (sk_rng_uniform(rng) < (double)options->cut)
        range.cut_max = options->cut_max;
    sk_place place = sk_place_draw(&mask, picture, size, size, &range, rng);
    /* Half of the objects stand against the light, as at a feeder before a window: darker than their ground. */
    if (sk_rng_uniform(rng) < 0.5)
        place.shade = SHADE_MIN_TRAIN + (1 - SHADE_MIN_TRAIN) * (float)sk_rng_uniform(rng);
    return sk_paste(&canvas, picture, &mask, &place, NULL, err);
}
