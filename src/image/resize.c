/* SPDX-License-Identifier: Apache-2.0 */
/* The one resizer: antialiased bilinear in two passes, horizontal then vertical, with an 8-bit picture between, as
 * Pillow does it. The weights are 16-bit fixed point, so that two taps fit one multiply-add of the machine; plain C,
 * SSE2 and AVX2 compute the same integers, hence the same bytes. */
#include <math.h>
#include <string.h>

#include "image/codec.h"
#include "image/simd.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define MOST_SIDE 65536
#define ROWS 4 /* that the first pass takes together */

/* For every output position along one axis: the first source position and `count` weights, count even. Unused
 * weights are 0, and they may reach beyond the source: the passes keep readable bytes there. */
typedef struct taps {
    int count, bits, out;
    int *first;
    int16_t *weights;
} taps;

static void taps_free(taps *t)
{
    sk_free(t->first);
    sk_free(t->weights);
    *t = (taps){0};
}

static double triangle(double x)
{
    x = x < 0 ? -x : x;
    return x < 1 ? 1 - x : 0;
}

/* The real weights of one output position into `w`, normalised; returns the first source position. */
static int tap_weights(double center, double support, double shrink, int in, double *w, int *used)
{
    int first = (int)(center - support + 0.5), end = (int)(center + support + 0.5);
    first = first < 0 ? 0 : first;
    end = end > in ? in : end;
    double sum = 0;
    for (int i = first; i < end; i++)
        sum += w[i - first] = triangle((i - center + 0.5) / shrink);
    for (int i = first; i < end; i++)
        w[i - first] = sum != 0 ? w[i - first] / sum : 0;
    *used = end - first;
    return first;
}

/* Rounds so that the weights sum to exactly one: a flat area keeps its value. */
static void tap_fixed(const double *w, int used, int bits, int16_t *fixed)
{
    const int one = 1 << bits;
    int sum = 0, largest = 0;
    for (int i = 0; i < used; i++) {
        fixed[i] = (int16_t)lrint(w[i] * one);
        sum += fixed[i];
        if (w[i] > w[largest])
            largest = i;
    }
    if (used > 0 && sum != one && sum != 0)
        fixed[largest] = (int16_t)(fixed[largest] + one - sum);
}

static sk_status taps_make(int in, double from, double to, int out, taps *t, sk_error *err)
{
    const double scale = (to - from) / out, shrink = scale < 1 ? 1 : scale, support = shrink;
    sk_status status = SK_OK;
    *t = (taps){.count = (int)ceil(support) * 2 + 2, .out = out, .bits = 14};
    t->first = sk_alloc((size_t)out, sizeof *t->first);
    t->weights = sk_calloc((size_t)out * (size_t)t->count, sizeof *t->weights);
    double *w = sk_calloc((size_t)t->count, sizeof *w);
    if (!t->first || !t->weights || !w) {
        status = sk_fail_memory(err, "resizing a picture");
        goto done;
    }
    /* Shrinking makes all weights small: give the spare bits to precision, keeping 255 * 2^bits within 31 bits. */
    while (t->bits < 20 && ldexp(1.5 / shrink, t->bits + 1) < 32000)
        t->bits++;
    int most = 0;
    for (int i = 0; i < out; i++) {
        int used = 0;
        t->first[i] = tap_weights(from + (i + 0.5) * scale, support, shrink, in, w, &used);
        tap_fixed(w, used, t->bits, t->weights + (size_t)i * (size_t)t->count);
        while (used > 0 && t->weights[(size_t)i * (size_t)t->count + (size_t)used - 1] == 0)
            used--;
        most = used > most ? used : most;
    }
    /* Close the ranks to the count really needed. */
    const int tight = (most + 1) & ~1;
    for (int i = 0; i < out; i++)
        memmove(t->weights + (size_t)i * (size_t)tight, t->weights + (size_t)i * (size_t)t->count,
                (size_t)tight * sizeof *t->weights);
    t->count = tight;
done:
    sk_free(w);
    if (status != SK_OK)
        taps_free(t);
    return status;
}

static inline uint8_t to_byte(int sum, int bits)
{
    const int value = sum >> bits;
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

/* ---- passes ----
 * A pass reads bytes of unused taps, and up to 8 beyond the last pixel. */

static void pixel_plain(const uint8_t *p, const int16_t *w, int count, int bits, uint8_t *out)
{
    int r = 1 << (bits - 1), g = r, b = r;
    for (int i = 0; i < count; i++, p += 3) {
        r += w[i] * p[0];
        g += w[i] * p[1];
        b += w[i] * p[2];
    }
    out[0] = to_byte(r, bits);
    out[1] = to_byte(g, bits);
    out[2] = to_byte(b, bits);
}

static void row_plain(const uint8_t *in, const taps *t, uint8_t *out)
{
    for (int x = 0; x < t->out; x++)
        pixel_plain(in + (size_t)t->first[x] * 3, t->weights + (size_t)x * (size_t)t->count, t->count, t->bits,
                    out + x * 3);
}

/* Bytes `from` to `bytes` of an output row from `count` rows, `stride` bytes apart. */
static void column_plain(const uint8_t *in, size_t stride, const int16_t *w, int count, int bits, size_t from,
                         size_t bytes, uint8_t *out)
{
    for (size_t x = from; x < bytes; x++) {
        int sum = 1 << (bits - 1);
        for (int i = 0; i < count; i++)
            sum += w[i] * in[(size_t)i * stride + x];
        out[x] = to_byte(sum, bits);
    }
}

#if defined(__x86_64__)
static inline int two_weights(const int16_t *w)
{
    int pair;
    memcpy(&pair, w, sizeof pair);
    return pair;
}

/* Writes a byte beyond each pixel. */
static void row_sse2(const uint8_t *in, const taps *t, uint8_t *out)
{
    const __m128i zero = _mm_setzero_si128(), shift = _mm_cvtsi32_si128(t->bits);
    for (int x = 0; x < t->out; x++, out += 3) {
        const int16_t *w = t->weights + (size_t)x * (size_t)t->count;
        const uint8_t *p = in + (size_t)t->first[x] * 3;
        __m128i sum = _mm_set1_epi32(1 << (t->bits - 1));
        for (int i = 0; i < t->count; i += 2, p += 6) {
            int a, b;
            memcpy(&a, p, 4);
            memcpy(&b, p + 3, 4);
            const __m128i both = _mm_unpacklo_epi8(_mm_cvtsi32_si128(a), _mm_cvtsi32_si128(b));
            sum = _mm_add_epi32(sum, _mm_madd_epi16(_mm_unpacklo_epi8(both, zero), _mm_set1_epi32(two_weights(w + i))));
        }
        sum = _mm_sra_epi32(sum, shift);
        sum = _mm_packs_epi32(sum, sum);
        const int rgb = _mm_cvtsi128_si32(_mm_packus_epi16(sum, sum));
        memcpy(out, &rgb, 4);
    }
}

/* Returns how many bytes are done. */
static size_t column_sse2(const uint8_t *in, size_t stride, const int16_t *w, int count, int bits, size_t bytes,
                          uint8_t *out)
{
    const __m128i zero = _mm_setzero_si128(), shift = _mm_cvtsi32_si128(bits);
    size_t x = 0;
    for (; x + 16 <= bytes; x += 16) {
        __m128i s0 = _mm_set1_epi32(1 << (bits - 1)), s1 = s0, s2 = s0, s3 = s0;
        for (int i = 0; i < count; i += 2) {
            const __m128i weights = _mm_set1_epi32(two_weights(w + i));
            const __m128i a = _mm_loadu_si128((const __m128i *)(in + (size_t)i * stride + x));
            const __m128i b = _mm_loadu_si128((const __m128i *)(in + (size_t)(i + 1) * stride + x));
            const __m128i low = _mm_unpacklo_epi8(a, b), high = _mm_unpackhi_epi8(a, b);
            s0 = _mm_add_epi32(s0, _mm_madd_epi16(_mm_unpacklo_epi8(low, zero), weights));
            s1 = _mm_add_epi32(s1, _mm_madd_epi16(_mm_unpackhi_epi8(low, zero), weights));
            s2 = _mm_add_epi32(s2, _mm_madd_epi16(_mm_unpacklo_epi8(high, zero), weights));
            s3 = _mm_add_epi32(s3, _mm_madd_epi16(_mm_unpackhi_epi8(high, zero), weights));
        }
        const __m128i low = _mm_packs_epi32(_mm_sra_epi32(s0, shift), _mm_sra_epi32(s1, shift));
        const __m128i high = _mm_packs_epi32(_mm_sra_epi32(s2, shift), _mm_sra_epi32(s3, shift));
        _mm_storeu_si128((__m128i *)(out + x), _mm_packus_epi16(low, high));
    }
    return x;
}

/* Six bytes of two rows, one in each half of a register, as pairs of values that a pair of weights is for. */
SK_AVX2 static inline __m256i two_pixels(const uint8_t *a, const uint8_t *b)
{
    const __m256i pairs = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1));
    const __m128i low = _mm_loadl_epi64((const __m128i *)a), high = _mm_loadl_epi64((const __m128i *)b);
    return _mm256_shuffle_epi8(_mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1), pairs);
}

/* Four rows share weights and positions. Writes a byte beyond each pixel. */
SK_AVX2 static void rows_avx2(const uint8_t *const in[ROWS], const taps *t, uint8_t *out, size_t out_stride)
{
    const __m256i half = _mm256_set1_epi32(1 << (t->bits - 1));
    const __m128i shift = _mm_cvtsi32_si128(t->bits);
    const int count = t->count;
    const int16_t *w = t->weights;
    for (int x = 0; x < t->out; x++, out += 3) {
        size_t at = (size_t)t->first[x] * 3;
        __m256i one = half, two = half;
        for (int i = 0; i < count; i += 2, at += 6, w += 2) {
            const __m256i weights = _mm256_set1_epi32(two_weights(w));
            one = _mm256_add_epi32(one, _mm256_madd_epi16(two_pixels(in[0] + at, in[1] + at), weights));
            two = _mm256_add_epi32(two, _mm256_madd_epi16(two_pixels(in[2] + at, in[3] + at), weights));
        }
        one = _mm256_packs_epi32(_mm256_sra_epi32(one, shift), _mm256_sra_epi32(two, shift));
        one = _mm256_packus_epi16(one, one);
        const uint64_t even = (uint64_t)_mm256_extract_epi64(one, 0), odd = (uint64_t)_mm256_extract_epi64(one, 2);
        const uint32_t pixel[ROWS] = {(uint32_t)even, (uint32_t)odd, (uint32_t)(even >> 32), (uint32_t)(odd >> 32)};
        for (size_t r = 0; r < ROWS; r++)
            memcpy(out + r * out_stride, &pixel[r], 4);
    }
}

SK_AVX2 static size_t column_avx2(const uint8_t *in, size_t stride, const int16_t *w, int count, int bits,
                                  size_t bytes, uint8_t *out)
{
    const __m256i zero = _mm256_setzero_si256();
    const __m128i shift = _mm_cvtsi32_si128(bits);
    size_t x = 0;
    for (; x + 32 <= bytes; x += 32) {
        __m256i s0 = _mm256_set1_epi32(1 << (bits - 1)), s1 = s0, s2 = s0, s3 = s0;
        for (int i = 0; i < count; i += 2) {
            const __m256i weights = _mm256_set1_epi32(two_weights(w + i));
            const __m256i a = _mm256_loadu_si256((const __m256i *)(in + (size_t)i * stride + x));
            const __m256i b = _mm256_loadu_si256((const __m256i *)(in + (size_t)(i + 1) * stride + x));
            const __m256i low = _mm256_unpacklo_epi8(a, b), high = _mm256_unpackhi_epi8(a, b);
            s0 = _mm256_add_epi32(s0, _mm256_madd_epi16(_mm256_unpacklo_epi8(low, zero), weights));
            s1 = _mm256_add_epi32(s1, _mm256_madd_epi16(_mm256_unpackhi_epi8(low, zero), weights));
            s2 = _mm256_add_epi32(s2, _mm256_madd_epi16(_mm256_unpacklo_epi8(high, zero), weights));
            s3 = _mm256_add_epi32(s3, _mm256_madd_epi16(_mm256_unpackhi_epi8(high, zero), weights));
        }
        const __m256i low = _mm256_packs_epi32(_mm256_sra_epi32(s0, shift), _mm256_sra_epi32(s1, shift));
        const __m256i high = _mm256_packs_epi32(_mm256_sra_epi32(s2, shift), _mm256_sra_epi32(s3, shift));
        _mm256_storeu_si256((__m256i *)(out + x), _mm256_packus_epi16(low, high));
    }
    return x;
}
#endif

/* One pass over four rows; writes rows `out_stride` apart, and a byte beyond each. */
static void four_rows(const uint8_t *const in[ROWS], const taps *t, uint8_t *out, size_t out_stride)
{
    sk_simd level = SK_SIMD_NONE;
#if defined(__x86_64__)
    level = sk_simd_level();
    if (level == SK_SIMD_AVX2) {
        rows_avx2(in, t, out, out_stride);
        return;
    }
#endif
    for (int r = 0; r < ROWS; r++, out += out_stride) {
#if defined(__x86_64__)
        if (level == SK_SIMD_SSE2) {
            row_sse2(in[r], t, out);
            continue;
        }
#endif
        row_plain(in[r], t, out);
    }
}

/* One output row of `bytes` bytes from `count` rows, `stride` bytes apart. */
static void column(const uint8_t *in, size_t stride, const int16_t *w, int count, int bits, size_t bytes, uint8_t *out)
{
    size_t done = 0;
#if defined(__x86_64__)
    const sk_simd level = sk_simd_level();
    if (level == SK_SIMD_AVX2)
        done = column_avx2(in, stride, w, count, bits, bytes, out);
    else if (level == SK_SIMD_SSE2)
        done = column_sse2(in, stride, w, count, bits, bytes, out);
#endif
    column_plain(in, stride, w, count, bits, done, bytes, out);
}

static void copy_rows(const uint8_t *data, size_t stride, int mirror, int width, int rows, uint8_t *out)
{
    const size_t bytes = (size_t)width * 3;
    for (int y = 0; y < rows; y++, data += stride, out += bytes) {
        if (!mirror)
            memcpy(out, data, bytes);
        for (int x = 0; mirror && x < width; x++)
            memcpy(out + x * 3, data + (width - 1 - x) * 3, 3);
    }
}

/* The same taps, the last position first. */
static void taps_mirror(taps *t)
{
    for (int l = 0, r = t->out - 1; l < r; l++, r--) {
        const int first = t->first[l];
        t->first[l] = t->first[r];
        t->first[r] = first;
        int16_t *a = t->weights + (size_t)l * (size_t)t->count, *b = t->weights + (size_t)r * (size_t)t->count;
        for (int i = 0; i < t->count; i++) {
            const int16_t weight = a[i];
            a[i] = b[i];
            b[i] = weight;
        }
    }
}

/* Bytes of a row that the first pass reads. */
static size_t row_reach(const taps *across)
{
    int reach = 0;
    for (int x = 0; x < across->out; x++)
        reach = across->first[x] + across->count > reach ? across->first[x] + across->count : reach;
    return (size_t)reach * 3 + 2;
}

/* Where the rows of a picture come from: memory, or a function that makes row y when it is needed. */
typedef struct source {
    const uint8_t *data;
    size_t stride;
    sk_row_maker make; /* NULL: memory */
    const void *user;
    int width, height;
} source;

/* The first pass over `rows` rows from `top`. What it reads beyond a row is the next one's, or, where the picture ends,
 * that of a copy in `pad`, which has room for ROWS rows. */
static void pass_across(const source *from, int top, int rows, const taps *across, uint8_t *pad, size_t pad_row,
                        uint8_t *middle, size_t middle_row)
{
    const size_t bytes = (size_t)from->width * 3, reach = row_reach(across);
    const size_t end = (size_t)(from->height - 1) * from->stride + bytes;
    for (int y = 0; y < rows; y += ROWS, middle += ROWS * middle_row) {
        const uint8_t *in[ROWS];
        for (int r = 0; r < ROWS; r++) {
            const int row = top + (y + r < rows ? y + r : rows - 1);
            const size_t at = (size_t)row * from->stride;
            if (from->make) {
                in[r] = pad + (size_t)r * pad_row;
                from->make(from->user, row, pad + (size_t)r * pad_row);
            } else if (at + reach > end) {
                in[r] = memcpy(pad + (size_t)r * pad_row, from->data + at, bytes);
            } else {
                in[r] = from->data + at;
            }
        }
        four_rows(in, across, middle, middle_row);
    }
}

static sk_status resize_passes(const source *from, const taps *across, const taps *down, uint8_t *out, sk_error *err)
{
    const int top = down->first[0];
    int bottom = top;
    for (int y = 0; y < down->out; y++)
        bottom = down->first[y] + down->count > bottom ? down->first[y] + down->count : bottom;
    const int rows = (bottom < from->height ? bottom : from->height) - top;
    const size_t out_row = (size_t)across->out * 3, middle_row = out_row + 1;
    const size_t pad_row = (size_t)(from->width + across->count) * 3 + 16;
    sk_status status = SK_OK;
    uint8_t *pad = sk_calloc(ROWS, pad_row);
    /* Rows below the picture belong to unused taps: present, weight 0. Some more take what the last four lack. */
    uint8_t *middle = sk_alloc((size_t)(bottom - top) + ROWS, middle_row);
    if (!pad || !middle) {
        status = sk_fail_memory(err, "resizing a picture");
        goto done;
    }
    pass_across(from, top, rows, across, pad, pad_row, middle, middle_row);
    memset(middle + (size_t)rows * middle_row, 0, (size_t)(bottom - top - rows) * middle_row);
    for (int y = 0; y < down->out; y++)
        column(middle + (size_t)(down->first[y] - top) * middle_row, middle_row,
               down->weights + (size_t)y * (size_t)down->count, down->count, down->bits, out_row,
               out + (size_t)y * out_row);
done:
    sk_free(pad);
    sk_free(middle);
    return status;
}

static sk_status resize_from(const source *from, const sk_box *b, int mirror, int out_width, int out_height,
                             uint8_t *out, sk_error *err)
{
    taps across = {0}, down = {0};
    sk_status status = taps_make(from->width, b->x0, b->x1, out_width, &across, err);
    if (status == SK_OK)
        status = taps_make(from->height, b->y0, b->y1, out_height, &down, err);
    if (status == SK_OK && mirror)
        taps_mirror(&across);
    if (status == SK_OK)
        status = resize_passes(from, &across, &down, out, err);
    taps_free(&across);
    taps_free(&down);
    return status;
}

sk_status sk_resize_view(const uint8_t *data, size_t stride, int width, int height, const sk_box *box, int mirror,
                         int out_width, int out_height, uint8_t *out, sk_error *err)
{
    const sk_box all = {0, 0, (float)width, (float)height};
    const sk_box b = box ? *box : all;
    if (out_width < 1 || out_height < 1 || out_width > MOST_SIDE || out_height > MOST_SIDE ||
        (int64_t)out_width * out_height > SK_IMAGE_MAX_PIXELS)
        return sk_fail(err, SK_ERR_ARGUMENT, "cannot resize to %d x %d pixels: 1 to 65536 per side, 100 million in all",
                       out_width, out_height);
    if (!(b.x0 >= 0 && b.y0 >= 0 && b.x1 <= (float)width && b.y1 <= (float)height && b.x0 < b.x1 && b.y0 < b.y1))
        return sk_fail(err, SK_ERR_ARGUMENT, "box (%g, %g, %g, %g) is empty or leaves the picture of %d x %d pixels",
                       (double)b.x0, (double)b.y0, (double)b.x1, (double)b.y1, width, height);
    const int x0 = (int)b.x0, y0 = (int)b.y0;
    if ((float)x0 == b.x0 && (float)y0 == b.y0 && b.x1 - b.x0 == (float)out_width && b.y1 - b.y0 == (float)out_height) {
        copy_rows(data + (size_t)y0 * stride + (size_t)x0 * 3, stride, mirror, out_width, out_height, out);
        return SK_OK;
    }
    const source from = {.data = data, .stride = stride, .width = width, .height = height};
    return resize_from(&from, &b, mirror, out_width, out_height, out, err);
}

sk_status sk_resize_rows(sk_row_maker make, const void *user, int width, int height, int out_width, int out_height,
                         uint8_t *out, sk_error *err)
{
    const source from = {.make = make, .user = user, .width = width, .height = height};
    const sk_box all = {0, 0, (float)width, (float)height};
    return resize_from(&from, &all, 0, out_width, out_height, out, err);
}

sk_status sk_image_resize(const sk_image *image, const sk_box *box, int out_width, int out_height, uint8_t *out,
                          sk_error *err)
{
    if (!image->data || image->width < 1 || image->height < 1)
        return sk_fail(err, SK_ERR_ARGUMENT, "cannot resize an empty picture");
    return sk_resize_view(image->data, (size_t)image->width * 3, image->width, image->height, box, 0, out_width,
                          out_height, out, err);
}

sk_status sk_shorter_size(int width, int height, int side, int *out_width, int *out_height, sk_error *err)
{
    const int wide = width > height;
    const int64_t shorter = wide ? height : width, longer = wide ? width : height;
    const int64_t other = shorter > 0 ? (int64_t)side * longer / shorter : 0;
    if (side < 1 || shorter < 1 || other > MOST_SIDE)
        return sk_fail(err, SK_ERR_ARGUMENT, "cannot resize %d x %d pixels to a shorter side of %d", width, height,
                       side);
    *out_width = wide ? (int)other : side;
    *out_height = wide ? side : (int)other;
    return SK_OK;
}

sk_status sk_image_resize_shorter(const sk_image *image, int side, sk_image *out, sk_error *err)
{
    int width = 0, height = 0;
    *out = (sk_image){0};
    if (!image->data || image->width < 1 || image->height < 1)
        return sk_fail(err, SK_ERR_ARGUMENT, "cannot resize an empty picture");
    sk_status status = sk_shorter_size(image->width, image->height, side, &width, &height, err);
    if (status == SK_OK)
        status = sk_image_create(width, height, out, err);
    if (status == SK_OK)
        status = sk_image_resize(image, NULL, out->width, out->height, out->data, err);
    if (status != SK_OK)
        sk_image_free(out);
    return status;
}
