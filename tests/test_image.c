/* SPDX-License-Identifier: Apache-2.0 */
/* Pictures from outside: against Pillow (tests/peer_pillow.py), against properties that hold for any right
 * implementation, with damaged files and with memory that runs out. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/base.h"
#include "image/augment.h"
#include "image/codec.h"
#include "image/phash.h"
#include "image/simd.h"

#ifndef SK_SOURCE_DIR
#define SK_SOURCE_DIR "."
#endif

static char work[64];
static int have_peer;

static char *in_work(const char *name)
{
    char *path = sk_path_join(work, name);
    assert_non_null(path);
    return path;
}

/* Smooth, with edges and a little noise. */
static sk_image make_picture(int width, int height)
{
    sk_image image;
    assert_int_equal(sk_image_create(width, height, &image, NULL), SK_OK);
    sk_rng rng = sk_rng_make(5, 6, 7);
    for (int y = 0; y < height; y++) {
        for (int x = 0; x < width; x++) {
            uint8_t *p = image.data + ((size_t)y * (size_t)width + (size_t)x) * 3;
            p[0] = (uint8_t)(x * 255 / width);
            p[1] = (uint8_t)(y * 255 / height);
            p[2] = (uint8_t)((x / 9 + y / 7) % 2 * 150 + (int)sk_rng_below(&rng, 30));
        }
    }
    return image;
}

/* Rectangles in random places: structure at every scale, as in a photograph. */
static sk_image make_scene(int width, int height)
{
    sk_image image = make_picture(width, height);
    sk_rng rng = sk_rng_make(8, 8, 8);
    for (int i = 0; i < 60; i++) {
        const int w = 8 + (int)sk_rng_below(&rng, (uint32_t)width / 3);
        const int h = 8 + (int)sk_rng_below(&rng, (uint32_t)height / 3);
        const int x0 = (int)sk_rng_below(&rng, (uint32_t)(width - w));
        const int y0 = (int)sk_rng_below(&rng, (uint32_t)(height - h));
        const uint8_t color[3] = {(uint8_t)sk_rng_next(&rng), (uint8_t)sk_rng_next(&rng), (uint8_t)sk_rng_next(&rng)};
        for (int y = y0; y < y0 + h; y++)
            for (int x = x0; x < x0 + w; x++)
                memcpy(image.data + ((size_t)y * (size_t)width + (size_t)x) * 3, color, 3);
    }
    return image;
}

static void compare(const char *what, const uint8_t *got, const char *raw, size_t size, int most, double mean_most)
{
    char *path = in_work(raw);
    uint8_t *want = NULL;
    size_t want_size = 0;
    assert_int_equal(sk_file_read(path, &want, &want_size, NULL), SK_OK);
    if (want_size != size)
        fail_msg("%s: %zu bytes, Pillow has %zu", what, size, want_size);
    int worst = 0;
    double sum = 0;
    for (size_t i = 0; i < size; i++) {
        const int d = abs(got[i] - want[i]);
        worst = d > worst ? d : worst;
        sum += d;
    }
    if (worst > most || sum / (double)size > mean_most)
        fail_msg("%s: differs from Pillow by %d at most, %.4f on the mean", what, worst, sum / (double)size);
    sk_free(want);
    sk_free(path);
}

static void peer_decode(char **field)
{
    char *path = in_work(field[1]);
    sk_image image;
    sk_error err = {0};
    if (sk_image_read(path, &image, &err) != SK_OK)
        fail_msg("%s: %s", field[1], err.message);
    assert_int_equal(image.width, atoi(field[2]));
    assert_int_equal(image.height, atoi(field[3]));
    const int most = atoi(field[5]);
    compare(field[1], image.data, field[4], (size_t)image.width * (size_t)image.height * 3, most, most ? 0.05 : 0);
    sk_image_free(&image);
    sk_free(path);
}

static void peer_resize(char **field, int is_eval)
{
    char *path = in_work(field[1]);
    sk_image image;
    assert_int_equal(sk_image_read(path, &image, NULL), SK_OK);
    sk_error err = {0};
    const int width = atoi(field[is_eval ? 2 : 6]), height = is_eval ? width : atoi(field[7]);
    const size_t size = (size_t)width * (size_t)height * 3;
    uint8_t *out = malloc(size + 1);
    assert_non_null(out);
    out[size] = 0xA5; /* nothing may be written behind the end */
    sk_status status;
    if (is_eval) {
        status = sk_transform_eval(&image, width, out, &err);
    } else {
        const sk_box box = {strtof(field[2], NULL), strtof(field[3], NULL), strtof(field[4], NULL),
                            strtof(field[5], NULL)};
        status = sk_image_resize(&image, &box, width, height, out, &err);
    }
    if (status != SK_OK)
        fail_msg("%s: %s", field[1], err.message);
    assert_int_equal(out[size], 0xA5);
    char what[200];
    snprintf(what, sizeof what, "%s %s %s %s %s to %dx%d", field[0], field[1], field[2], field[3],
             is_eval ? "" : field[4], width, height);
    compare(what, out, field[is_eval ? 3 : 8], size, 1, size > 3000 ? 0.1 : 1); /* rounding of a weight, no more */
    free(out);
    sk_image_free(&image);
    sk_free(path);
}

static void run_peer(const char *kind, int least)
{
    if (!have_peer) {
        print_message("left out: python3 with PIL (Debian's python3-pil) is missing\n");
        skip();
    }
    char *path = in_work("cases.tsv"), line[400];
    FILE *cases = fopen(path, "r");
    assert_non_null(cases);
    int count = 0;
    while (fgets(line, sizeof line, cases)) {
        char *field[10] = {0}, *rest = NULL;
        int n = 0;
        for (char *t = strtok_r(line, "\t\n", &rest); t && n < 10; t = strtok_r(NULL, "\t\n", &rest))
            field[n++] = t;
        if (strcmp(field[0], kind) != 0)
            continue;
        if (strcmp(kind, "decode") == 0)
            peer_decode(field);
        else
            peer_resize(field, strcmp(kind, "eval") == 0);
        count++;
    }
    fclose(cases);
    sk_free(path);
    assert_true(count >= least);
}

static void test_pillow_decode(void **state)
{
    (void)state;
    run_peer("decode", 50);
}

static void test_pillow_resize(void **state)
{
    (void)state;
    run_peer("resize", 100);
}

static void test_pillow_eval(void **state)
{
    (void)state;
    run_peer("eval", 10);
}

/* A flat picture stays flat and the whole range survives, whatever the sizes. */
static void test_resize_flat(void **state)
{
    (void)state;
    static const int sides[][4] = {{1, 1, 9, 7}, {300, 200, 7, 5}, {17, 900, 224, 224}, {5, 5, 640, 480},
                                   {3000, 2, 3, 50}};
    for (size_t i = 0; i < sizeof sides / sizeof *sides; i++) {
        for (int value = 0; value < 256; value += 51) {
            sk_image image;
            assert_int_equal(sk_image_create(sides[i][0], sides[i][1], &image, NULL), SK_OK);
            memset(image.data, value, (size_t)image.width * (size_t)image.height * 3);
            const size_t size = (size_t)sides[i][2] * (size_t)sides[i][3] * 3;
            uint8_t *out = malloc(size);
            assert_int_equal(sk_image_resize(&image, NULL, sides[i][2], sides[i][3], out, NULL), SK_OK);
            for (size_t k = 0; k < size; k++)
                assert_int_equal(out[k], value);
            free(out);
            sk_image_free(&image);
        }
    }
}

/* Plain C defines every byte; the vector code must give the same, and so must a mirrored result, mirrored back. */
static void test_resize_same_bytes(void **state)
{
    (void)state;
    sk_rng rng = sk_rng_make(3, 1, 4);
    for (int i = 0; i < 150; i++) {
        const int width = 1 + (int)sk_rng_below(&rng, 300), height = 1 + (int)sk_rng_below(&rng, 200);
        const int to_width = 1 + (int)sk_rng_below(&rng, 260), to_height = 1 + (int)sk_rng_below(&rng, 260);
        sk_image image = make_picture(width, height);
        for (int k = 0; k < width * height * 3; k += 2) /* extremes, where sums could overflow */
            image.data[k] = sk_rng_below(&rng, 2) ? 255 : 0;
        const sk_box box = {(float)(sk_rng_uniform(&rng) * 0.4 * width), (float)(sk_rng_uniform(&rng) * 0.4 * height),
                            (float)((0.5 + sk_rng_uniform(&rng) * 0.5) * width),
                            (float)((0.5 + sk_rng_uniform(&rng) * 0.5) * height)};
        const size_t size = (size_t)to_width * (size_t)to_height * 3;
        uint8_t *a = malloc(size), *b = malloc(size);
        sk_simd_limit(SK_SIMD_NONE);
        assert_int_equal(sk_image_resize(&image, i % 2 ? &box : NULL, to_width, to_height, a, NULL), SK_OK);
        for (int level = SK_SIMD_SSE2; level <= SK_SIMD_AVX2; level++) {
            sk_simd_limit((sk_simd)level);
            assert_int_equal(sk_image_resize(&image, i % 2 ? &box : NULL, to_width, to_height, b, NULL), SK_OK);
            assert_memory_equal(a, b, size);
        }
        assert_int_equal(sk_resize_view(image.data, (size_t)width * 3, width, height, i % 2 ? &box : NULL, 1, to_width,
                                        to_height, b, NULL), SK_OK);
        for (int k = 0; k < to_width * to_height; k++) {
            const int y = k / to_width, x = k % to_width;
            assert_memory_equal(a + k * 3, b + (y * to_width + to_width - 1 - x) * 3, 3);
        }
        free(a);
        free(b);
        sk_image_free(&image);
    }
}

static void test_resize_arguments(void **state)
{
    (void)state;
    sk_image image = make_picture(20, 10);
    uint8_t out[64 * 3];
    static const sk_box bad[] = {{-1, 0, 5, 5}, {0, 0, 21, 10}, {0, 0, 20, 10.5f}, {5, 5, 5, 6}, {6, 5, 5, 6}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(sk_image_resize(&image, &bad[i], 8, 8, out, NULL), SK_ERR_ARGUMENT);
    const sk_box nan_box = {0, 0, strtof("nan", NULL), 5};
    assert_int_equal(sk_image_resize(&image, &nan_box, 8, 8, out, NULL), SK_ERR_ARGUMENT);
    assert_int_equal(sk_image_resize(&image, NULL, 0, 8, out, NULL), SK_ERR_ARGUMENT);
    assert_int_equal(sk_image_resize(&image, NULL, 8, -1, out, NULL), SK_ERR_ARGUMENT);
    assert_int_equal(sk_image_resize(&image, NULL, 70000, 1, out, NULL), SK_ERR_ARGUMENT);
    const sk_image empty = {0};
    assert_int_equal(sk_image_resize(&empty, NULL, 8, 8, out, NULL), SK_ERR_ARGUMENT);
    assert_int_equal(sk_transform_eval(&empty, 8, out, NULL), SK_ERR_ARGUMENT);
    sk_image none;
    assert_int_equal(sk_image_create(0, 5, &none, NULL), SK_ERR_ARGUMENT);
    assert_int_equal(sk_image_create(100000, 100000, &none, NULL), SK_ERR_ARGUMENT);
    assert_null(none.data);
    sk_image_free(&image);
}

/* NV12 as ITU-R BT.601 defines its colours, in double precision, against the frame converted whole. */
static void test_nv12(void **state)
{
    (void)state;
    enum { W = 640, H = 362, Y_STRIDE = 650, UV_STRIDE = 644 };
    static uint8_t y[H * Y_STRIDE], uv[H / 2 * UV_STRIDE];
    sk_rng rng = sk_rng_make(3, 1, 4);
    for (size_t i = 0; i < sizeof y; i++)
        y[i] = (uint8_t)(128 + 100 * sin((double)i / 700) + sk_rng_below(&rng, 20));
    for (size_t i = 0; i < sizeof uv; i++)
        uv[i] = (uint8_t)(sk_rng_below(&rng, 4) ? 90 + i % 70 : sk_rng_below(&rng, 256));
    for (int limited = 0; limited < 2; limited++) {
        sk_image whole, expected, out;
        assert_int_equal(sk_image_create(W, H, &whole, NULL), SK_OK);
        for (int r = 0; r < H; r++)
            for (int c = 0; c < W; c++) {
                const double luma = limited ? (y[r * Y_STRIDE + c] - 16) * 255. / 219 : y[r * Y_STRIDE + c];
                const double gain = limited ? 255. / 224 : 1;
                const double cb = (uv[r / 2 * UV_STRIDE + c / 2 * 2] - 128) * gain;
                const double cr = (uv[r / 2 * UV_STRIDE + c / 2 * 2 + 1] - 128) * gain;
                const double rgb[3] = {luma + 1.402 * cr, luma - .344136 * cb - .714136 * cr, luma + 1.772 * cb};
                for (int k = 0; k < 3; k++)
                    whole.data[(r * W + c) * 3 + k] = (uint8_t)fmin(255, fmax(0, floor(rgb[k] + .5)));
            }
        assert_int_equal(sk_image_resize_shorter(&whole, 256, &expected, NULL), SK_OK);
        assert_int_equal(sk_image_from_nv12(y, Y_STRIDE, uv, UV_STRIDE, W, H, limited, 256, &out, NULL), SK_OK);
        assert_int_equal(out.width, expected.width);
        assert_int_equal(out.height, expected.height);
        int worst = 0;
        for (int i = 0; i < out.width * out.height * 3; i++) {
            const int difference = abs(out.data[i] - expected.data[i]);
            worst = difference > worst ? difference : worst;
        }
        assert_in_range(worst, 0, 1);
        sk_image_free(&whole);
        sk_image_free(&expected);
        sk_image_free(&out);
    }
    sk_image out;
    sk_error err = {0};
    assert_int_equal(sk_image_from_nv12(y, Y_STRIDE, uv, UV_STRIDE, W + 1, H, 0, 256, &out, &err), SK_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "641 x 362"));
    for (long n = 0, status = SK_ERR_MEMORY; status != SK_OK; n++) {
        sk_memory_fail_at(n, 1);
        status = sk_image_from_nv12(y, Y_STRIDE, uv, UV_STRIDE, W, H, 0, 256, &out, &err);
        sk_memory_fail_at(-1, 0);
        assert_true(status == SK_OK || (status == SK_ERR_MEMORY && !out.data));
    }
    sk_image_free(&out);
}

static void test_resize_shorter(void **state)
{
    (void)state;
    static const int cases[][5] = {{640, 480, 256, 341, 256}, {480, 641, 256, 256, 341}, {300, 300, 50, 50, 50},
                                   {7, 3, 20, 46, 20},        {256, 999, 256, 256, 999}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sk_image image = make_picture(cases[i][0], cases[i][1]), out;
        assert_int_equal(sk_image_resize_shorter(&image, cases[i][2], &out, NULL), SK_OK);
        assert_int_equal(out.width, cases[i][3]);
        assert_int_equal(out.height, cases[i][4]);
        if (out.width == image.width)
            assert_memory_equal(out.data, image.data, (size_t)out.width * (size_t)out.height * 3);
        sk_image_free(&out);
        sk_image_free(&image);
    }
}

/* The crop and the flip must be the drawn ones, and the scale and ratio must keep torchvision's limits. Seen from
 * outside through a picture whose red and green tell the position. */
static void test_transform_train(void **state)
{
    (void)state;
    enum { SIDE = 400, SIZE = 64 };
    sk_image image;
    assert_int_equal(sk_image_create(SIDE, SIDE, &image, NULL), SK_OK);
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++) {
            uint8_t *p = image.data + (y * SIDE + x) * 3;
            p[0] = (uint8_t)(x * 255 / SIDE);
            p[1] = (uint8_t)(y * 255 / SIDE);
            p[2] = 77;
        }
    uint8_t out[SIZE * SIZE * 3], again[SIZE * SIZE * 3];
    const sk_augment augment = sk_augment_seed();
    int flips = 0, small = 0, large = 0;
    for (uint64_t i = 0; i < 600; i++) {
        sk_rng rng = sk_rng_make(1, 2, i), same = rng;
        assert_int_equal(sk_transform_train(&image, &augment, &rng, SIZE, out, NULL), SK_OK);
        assert_int_equal(sk_transform_train(&image, &augment, &same, SIZE, again, NULL), SK_OK);
        assert_memory_equal(out, again, sizeof out);
        assert_true(rng.state == same.state);
        const uint8_t *first = out + (SIZE / 2) * SIZE * 3, *last = first + (SIZE - 1) * 3;
        const int flipped = first[0] > last[0];
        const double width = abs(last[0] - first[0]) * SIZE / (SIZE - 1.0) / 255;
        const double height = (out[(SIZE * SIZE - 1) * 3 + 1] - out[1]) * SIZE / (SIZE - 1.0) / 255;
        flips += flipped;
        assert_int_equal(out[2], 77);
        assert_true(width * height > 0.07 && width * height < 1.03);
        assert_true(width / height > 0.70 && width / height < 1.42);
        small += width * height < 0.31;
        large += width * height > 0.77;
    }
    assert_in_range(flips, 240, 360);  /* 5 sigma around 300 */
    assert_in_range(small, 90, 220);   /* a quarter of the areas; the largest are tried in vain more often */
    assert_in_range(large, 60, 200);
    sk_image_free(&image);
    /* Too long for any draw: the middle with the widest ratio. */
    image = make_picture(900, 30);
    sk_rng rng = sk_rng_make(1, 2, 3);
    for (int i = 0; i < 50; i++)
        assert_int_equal(sk_transform_train(&image, &augment, &rng, SIZE, out, NULL), SK_OK);
    sk_image_free(&image);
    image = make_picture(1, 1);
    assert_int_equal(sk_transform_train(&image, &augment, &rng, SIZE, out, NULL), SK_OK);
    sk_image_free(&image);
}

static void test_round_trip(void **state)
{
    (void)state;
    sk_image image = make_picture(123, 77), back;
    char *png = in_work("trip.png"), *jpg = in_work("trip.JPG"), *gif = in_work("trip.gif");
    const size_t size = (size_t)image.width * (size_t)image.height * 3;
    assert_int_equal(sk_image_write(png, &image, 0, NULL), SK_OK);
    assert_int_equal(sk_image_read(png, &back, NULL), SK_OK);
    assert_int_equal(back.width, 123);
    assert_memory_equal(back.data, image.data, size);
    sk_image_free(&back);
    assert_int_equal(sk_image_write(jpg, &image, 97, NULL), SK_OK);
    assert_int_equal(sk_image_read(jpg, &back, NULL), SK_OK);
    double sum = 0;
    for (size_t i = 0; i < size; i++)
        sum += abs(back.data[i] - image.data[i]);
    assert_true(sum / (double)size < 4);
    sk_image_free(&back);
    assert_int_equal(sk_image_write(gif, &image, 90, NULL), SK_ERR_ARGUMENT);
    assert_int_equal(sk_image_write(jpg, &image, 0, NULL), SK_ERR_ARGUMENT);
    char *full = in_work("full.png"), *part = in_work("full.png.part");
    sk_file_fail_at(0);
    assert_int_equal(sk_image_write(full, &image, 0, NULL), SK_ERR_IO);
    sk_file_fail_at(-1);
    assert_false(sk_path_exists(full) || sk_path_exists(part));
    sk_free(full);
    sk_free(part);
    assert_int_equal(sk_image_write("/nowhere/at/all.png", &image, 0, NULL), SK_ERR_IO);
    sk_image_free(&image);
    sk_free(png);
    sk_free(jpg);
    sk_free(gif);
}

/* Every cut of a JPEG or PNG, and every kind of nonsense, is a FORMAT error and leaves nothing behind. */
static void test_damaged(void **state)
{
    (void)state;
    sk_image image = make_picture(60, 40), back;
    for (int quality = 0; quality <= 80; quality += 80) {
        uint8_t *bytes = NULL;
        size_t size = 0;
        assert_int_equal(sk_image_encode(&image, quality, &bytes, &size, NULL), SK_OK);
        for (size_t cut = 0; cut < size - 12; cut += cut < 200 ? 1 : 37) {
            sk_error err = {0};
            if (sk_image_decode(bytes, cut, "cut.jpg", &back, &err) != SK_ERR_FORMAT)
                fail_msg("quality %d cut at %zu of %zu: status %d", quality, cut, size, err.code);
            assert_non_null(strstr(err.message, "cut.jpg"));
            assert_null(back.data);
        }
        /* Damage in the middle: any status but no crash, and no picture beside an error. */
        sk_rng rng = sk_rng_make(9, 9, (uint64_t)quality);
        for (int i = 0; i < 300; i++) {
            uint8_t *copy = malloc(size);
            memcpy(copy, bytes, size);
            for (int k = 0; k < 3; k++)
                copy[sk_rng_below(&rng, (uint32_t)size)] = (uint8_t)sk_rng_next(&rng);
            if (sk_image_decode(copy, size, "x", &back, NULL) != SK_OK)
                assert_null(back.data);
            sk_image_free(&back);
            free(copy);
        }
        sk_free_bytes(bytes);
    }
    sk_image_free(&image);
    assert_int_equal(sk_image_decode("GIF89a nonsense", 15, "x", &back, NULL), SK_ERR_FORMAT);
    assert_int_equal(sk_image_decode("\xFF\xD8\xFF", 3, "x", &back, NULL), SK_ERR_FORMAT);
    assert_int_equal(sk_image_read("/no/such/picture.jpg", &back, NULL), SK_ERR_IO);
    assert_int_equal(sk_image_read(work, &back, NULL), SK_ERR_IO);
    char *empty = in_work("empty.jpg");
    fclose(fopen(empty, "w"));
    assert_int_equal(sk_image_read(empty, &back, NULL), SK_ERR_FORMAT);
    sk_free(empty);
}

/* A header that promises more than 100 million pixels must be refused before memory is asked for. */
static void test_bombs(void **state)
{
    (void)state;
    sk_image small = make_picture(16, 16), back;
    uint8_t *bytes = NULL;
    size_t size = 0;
    sk_error err = {0};
    assert_int_equal(sk_image_encode(&small, 80, &bytes, &size, NULL), SK_OK);
    size_t at = 0;
    while (at + 9 < size && !(bytes[at] == 0xFF && bytes[at + 1] == 0xC0))
        at++;
    memset(bytes + at + 5, 0xF0, 4);
    assert_int_equal(sk_image_decode(bytes, size, "bomb.jpg", &back, &err), SK_ERR_FORMAT);
    assert_non_null(strstr(err.message, "100 million"));
    sk_free_bytes(bytes);
    sk_image_free(&small);
}

static void test_exif_bounds(void **state)
{
    (void)state;
    static const uint8_t exif[] = {0xFF, 0xD8, 0xFF, 0xE1, 0,    34,   'E', 'x', 'i', 'f', 0, 0, 'M',
                                   'M',  0,    '*',  0,    0,    0,    8,   0,   1,   1,   18, 0, 3,
                                   0,    0,    0,    1,    0,    6,    0,   0,   0,   0,   0, 0};
    assert_int_equal(sk_exif_orientation(exif, sizeof exif), 6);
    for (size_t cut = 0; cut < sizeof exif; cut++) {
        uint8_t *copy = malloc(cut ? cut : 1); /* exact, so that the sanitizer sees any step outside */
        memcpy(copy, exif, cut);
        assert_in_range(sk_exif_orientation(copy, cut), 1, 8);
        free(copy);
    }
    for (size_t i = 0; i < sizeof exif; i++) {
        static const uint8_t values[] = {0, 1, 0x7F, 0x80, 0xFF};
        for (size_t v = 0; v < sizeof values; v++) {
            uint8_t *copy = malloc(sizeof exif);
            memcpy(copy, exif, sizeof exif);
            copy[i] = values[v];
            assert_in_range(sk_exif_orientation(copy, sizeof exif), 1, 8);
            free(copy);
        }
    }
}

static void test_cutout(void **state)
{
    (void)state;
    if (!have_peer) {
        print_message("left out: python3 with PIL (Debian's python3-pil) is missing\n");
        skip();
    }
    char *path = in_work("c6d8i1.png"), *opaque = in_work("RGB.png"), *jpeg = in_work("444.jpg");
    sk_image rgb, alpha, plain;
    assert_int_equal(sk_image_read_cutout(path, &rgb, &alpha, NULL), SK_OK);
    assert_int_equal(sk_image_read(path, &plain, NULL), SK_OK);
    const size_t size = (size_t)rgb.width * (size_t)rgb.height * 3;
    assert_memory_equal(rgb.data, plain.data, size);
    int least = 255, most = 0;
    for (size_t i = 0; i < size; i++) {
        least = alpha.data[i] < least ? alpha.data[i] : least;
        most = alpha.data[i] > most ? alpha.data[i] : most;
    }
    assert_true(least < 20 && most > 235); /* random opacities in that file */
    sk_image_free(&rgb);
    sk_image_free(&alpha);
    sk_image_free(&plain);
    assert_int_equal(sk_image_read_cutout(opaque, &rgb, &alpha, NULL), SK_OK);
    for (size_t i = 0; i < (size_t)rgb.width * (size_t)rgb.height * 3; i++)
        assert_int_equal(alpha.data[i], 255);
    sk_image_free(&rgb);
    sk_image_free(&alpha);
    assert_int_equal(sk_image_read_cutout(jpeg, &rgb, &alpha, NULL), SK_ERR_FORMAT);
    sk_free(path);
    sk_free(opaque);
    sk_free(jpeg);
}

static int hash_distance(const sk_image *a, const sk_image *b)
{
    uint64_t x = 0, y = 0;
    assert_int_equal(sk_phash(a, &x), SK_OK);
    assert_int_equal(sk_phash(b, &y), SK_OK);
    return sk_phash_distance(x, y);
}

static void test_phash(void **state)
{
    (void)state;
    sk_image image = make_scene(320, 240), half, recoded, mirrored;
    sk_image_create(161, 119, &half, NULL);
    assert_int_equal(sk_image_resize(&image, NULL, 161, 119, half.data, NULL), SK_OK);
    uint8_t *bytes = NULL;
    size_t size = 0;
    assert_int_equal(sk_image_encode(&image, 40, &bytes, &size, NULL), SK_OK);
    assert_int_equal(sk_image_decode(bytes, size, "x", &recoded, NULL), SK_OK);
    assert_true(hash_distance(&image, &image) == 0);
    assert_true(hash_distance(&image, &half) <= 6);
    assert_true(hash_distance(&image, &recoded) <= 6);
    sk_image_create(320, 240, &mirrored, NULL);
    memcpy(mirrored.data, image.data, 320 * 240 * 3);
    assert_int_equal(sk_image_orient(&mirrored, 2, NULL), SK_OK);
    assert_true(hash_distance(&image, &mirrored) > 10);
    assert_int_equal(sk_phash_distance(0, UINT64_MAX), 64);
    sk_image_free(&image);
    sk_image_free(&half);
    sk_image_free(&recoded);
    sk_image_free(&mirrored);
    sk_free_bytes(bytes);
}

/* One pass through everything that allocates; returns the first failure. */
static sk_status everything(const uint8_t *png, size_t png_size, const uint8_t *jpg, size_t jpg_size)
{
    sk_image a = {0}, b = {0}, c = {0};
    uint8_t *bytes = NULL, out[32 * 32 * 3];
    size_t size = 0;
    uint64_t hash = 0;
    /* Every effect, at every picture. */
    const sk_augment augment = {.scale_min = 0.5f, .scale_max = 1, .flip = 1, .shrink = 1, .shrink_min = 0.3f, .cut = 1,
                                .cut_max = 0.5f, .brightness = 0.4f, .contrast = 0.4f, .saturation = 0.4f,
                                .gamma = 0.5f, .cast = 0.2f, .grey = 1, .infrared = 1, .blur = 1, .noise = 1,
                                .overlay = 1, .jpeg = 1};
    sk_rng rng = sk_rng_make(1, 1, 1);
    sk_status s = sk_image_decode(png, png_size, "a", &a, NULL);
    s = s ? s : sk_image_decode(jpg, jpg_size, "b", &b, NULL);
    s = s ? s : sk_image_orient(&b, 6, NULL);
    s = s ? s : sk_image_resize_shorter(&a, 100, &c, NULL);
    s = s ? s : sk_transform_train(&a, &augment, &rng, 32, out, NULL);
    s = s ? s : sk_transform_eval(&a, 32, out, NULL);
    s = s ? s : sk_phash(&a, &hash);
    s = s ? s : sk_image_encode(&a, 0, &bytes, &size, NULL);
    sk_free_bytes(bytes);
    bytes = NULL;
    s = s ? s : sk_image_encode(&a, 50, &bytes, &size, NULL);
    sk_free_bytes(bytes);
    sk_image_free(&a);
    sk_image_free(&b);
    sk_image_free(&c);
    return s;
}

static void test_memory(void **state)
{
    (void)state;
    sk_image image = make_picture(40, 30);
    uint8_t *png = NULL, *jpg = NULL;
    size_t png_size = 0, jpg_size = 0;
    assert_int_equal(sk_image_encode(&image, 0, &png, &png_size, NULL), SK_OK);
    assert_int_equal(sk_image_encode(&image, 90, &jpg, &jpg_size, NULL), SK_OK);
    sk_image_free(&image);
    const long live = sk_memory_live();
    for (int persist = 0; persist < 2; persist++) {
        int failures = 0;
        sk_status s = SK_ERR_MEMORY;
        for (long n = 0; s != SK_OK && n < 1000; n++) {
            sk_memory_fail_at(n, persist);
            s = everything(png, png_size, jpg, jpg_size);
            sk_memory_fail_at(-1, 0);
            if (s != SK_OK && s != SK_ERR_MEMORY)
                fail_msg("allocation %ld: status %d", n, s);
            assert_int_equal(sk_memory_live(), live);
            failures += s != SK_OK;
        }
        assert_int_equal(s, SK_OK);
        assert_true(failures > 15);
    }
    sk_free_bytes(png);
    sk_free_bytes(jpg);
}

/* Every photograph beside the project decodes (a sample unless SISKIN_FULL=1). */
static void test_photographs(void **state)
{
    (void)state;
    const char *shared = getenv("SISKIN_SHARED");
    char *dir = sk_path_join(shared ? shared : SK_SOURCE_DIR "/../shared", "data");
    char *table = sk_path_join(dir, "photos.tsv");
    FILE *rows = fopen(table, "r");
    if (!rows) {
        print_message("left out: %s is not there\n", table);
        sk_free(table);
        sk_free(dir);
        skip();
    }
    const char *full = getenv("SISKIN_FULL");
    const int step = full && strcmp(full, "1") == 0 ? 1 : 23;
    char line[1000];
    int row = 0, read = 0;
    assert_non_null(fgets(line, sizeof line, rows));
    while (fgets(line, sizeof line, rows)) {
        if (row++ % step)
            continue;
        line[strcspn(line, "\t")] = 0;
        char *path = sk_path_join(dir, line);
        sk_image image;
        sk_error err = {0};
        if (sk_image_read(path, &image, &err) != SK_OK)
            fail_msg("%s", err.message);
        assert_true(image.width > 0 && image.width < 2000);
        sk_image_free(&image);
        sk_free(path);
        read++;
    }
    fclose(rows);
    print_message("%d of %d photographs decoded\n", read, row);
    assert_true(read > 100);
    sk_free(table);
    sk_free(dir);
}

static int set_up(void **state)
{
    (void)state;
    snprintf(work, sizeof work, "/tmp/siskin-image-%d", (int)getpid());
    if (sk_make_dirs(work, NULL) != SK_OK)
        return -1;
    static const char *const pythons[] = {"/usr/bin/python3", "python3"};
    for (int i = 0; i < 2 && !have_peer; i++) {
        char command[1000];
        snprintf(command, sizeof command, "%s -c 'import PIL' 2>/dev/null", pythons[i]);
        if (system(command) != 0)
            continue;
        snprintf(command, sizeof command, "%s '%s/tests/peer_pillow.py' '%s'", pythons[i], SK_SOURCE_DIR, work);
        if (system(command) != 0)
            return -1;
        have_peer = 1;
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    char command[200];
    snprintf(command, sizeof command, "rm -rf '%s'", work);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pillow_decode),   cmocka_unit_test(test_pillow_resize),
        cmocka_unit_test(test_pillow_eval),     cmocka_unit_test(test_resize_flat),
        cmocka_unit_test(test_resize_same_bytes),
        cmocka_unit_test(test_resize_arguments), cmocka_unit_test(test_resize_shorter),
        cmocka_unit_test(test_nv12),
        cmocka_unit_test(test_transform_train), cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_damaged),         cmocka_unit_test(test_bombs),
        cmocka_unit_test(test_exif_bounds),     cmocka_unit_test(test_cutout),
        cmocka_unit_test(test_phash),           cmocka_unit_test(test_memory),
        cmocka_unit_test(test_photographs),
    };
    return cmocka_run_group_tests_name("image", tests, set_up, tear_down);
}
