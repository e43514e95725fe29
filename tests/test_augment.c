/* SPDX-License-Identifier: Apache-2.0 */
/* The effects of training from outside: what the seed's transform gave before there were others, torchvision's formulas
 * in double precision, the statistics that a documented effect must show, and the same bytes on every machine. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/base.h"
#include "image/augment.h"
#include "image/codec.h"
#include "image/effects.h"
#include "image/simd.h"

enum { SIZE = 224, BYTES = SIZE * SIZE * 3 };

static uint8_t pixels[BYTES], kept[BYTES], other[BYTES];

static sk_image hashed(int width, int height)
{
    sk_image image;
    assert_int_equal(sk_image_create(width, height, &image, NULL), SK_OK);
    for (size_t i = 0; i < (size_t)width * (size_t)height * 3; i++)
        image.data[i] = (uint8_t)((sk_hash64(i / 48) >> 8) ^ (sk_hash64(i) & 31));
    return image;
}

static void fill(uint8_t *p, uint8_t r, uint8_t g, uint8_t b)
{
    for (int i = 0; i < SIZE * SIZE; i++, p += 3) {
        p[0] = r;
        p[1] = g;
        p[2] = b;
    }
}

/* Colours of every kind, extremes too. */
static void paint(void)
{
    for (int i = 0; i < BYTES; i++)
        pixels[i] = (uint8_t)(i % 7 == 0 ? i / 7 % 2 * 255u : (unsigned)sk_hash64((uint64_t)i));
    memcpy(kept, pixels, BYTES);
}

static double mean(const uint8_t *p, int channel)
{
    double sum = 0;
    for (int i = channel; i < BYTES; i += 3)
        sum += p[i];
    return sum / (SIZE * SIZE);
}

static double deviation(const uint8_t *p, int channel)
{
    const double m = mean(p, channel);
    double sum = 0;
    for (int i = channel; i < BYTES; i += 3)
        sum += (p[i] - m) * (p[i] - m);
    return sqrt(sum / (SIZE * SIZE));
}

/* FNV-1a of 64 pictures per shape, taken when the transform knew crop and flip only. */
static void test_seed(void **state)
{
    (void)state;
    static const struct {
        int width, height;
        uint64_t hash;
    } cases[] = {{341, 256, 0x1281eecde829db28}, {256, 400, 0x90d29c96b9c67a7d}, {256, 256, 0xbd703a8c4a3831af},
                 {900, 30, 0x6b4c628edfbf2021}};
    const sk_augment augment = sk_augment_seed();
    uint8_t *all = malloc((size_t)64 * BYTES);
    assert_non_null(all);
    for (uint64_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        sk_image image = hashed(cases[k].width, cases[k].height);
        for (uint64_t i = 0; i < 64; i++) {
            sk_rng rng = sk_rng_make(3, k, i);
            assert_int_equal(sk_transform_train(&image, &augment, &rng, SIZE, all + i * BYTES, NULL), SK_OK);
        }
        assert_true(sk_hash_bytes(all, (size_t)64 * BYTES) == cases[k].hash);
        sk_image_free(&image);
    }
    free(all);
}

/* torchvision.transforms.functional on uint8: blends, cut to 0 to 255, then to a whole number downward. */
static double blend(double a, double b, double factor)
{
    const double v = factor * a + (1 - factor) * b;
    return floor(v < 0 ? 0 : v > 255 ? 255 : v);
}

static double grey(const uint8_t *p)
{
    return floor(0.2989 * p[0] + 0.587 * p[1] + 0.114 * p[2]);
}

static void test_jitter(void **state)
{
    (void)state;
    static const double factors[] = {0, 0.3, 0.77, 1, 1.4, 2};
    for (size_t k = 0; k < sizeof factors / sizeof *factors; k++) {
        const double f = factors[k];
        double all = 0;
        paint();
        for (int i = 0; i < BYTES; i += 3)
            all += grey(kept + i) / (SIZE * SIZE);
        for (int effect = 0; effect < 3; effect++) {
            memcpy(pixels, kept, BYTES);
            if (effect == 0)
                sk_light_brightness(pixels, SIZE * SIZE, f);
            else if (effect == 1)
                sk_light_contrast(pixels, SIZE * SIZE, f);
            else
                sk_light_saturation(pixels, SIZE * SIZE, f);
            for (int i = 0; i < BYTES; i++) {
                const double with = effect == 0 ? 0 : effect == 1 ? all : grey(kept + i / 3 * 3);
                const double want = blend(kept[i], with, f);
                if (fabs(pixels[i] - want) > 1)
                    fail_msg("effect %d, factor %g, byte %d: %d becomes %d, not %g", effect, f, i, kept[i], pixels[i],
                             want);
                if (f == 1)
                    assert_int_equal(pixels[i], kept[i]);
            }
        }
    }
}

static void everything(int variant, uint8_t *out)
{
    static const double gain[3] = {0.9, 1.05, 1.1};
    sk_blur shape;
    sk_rng rng = sk_rng_make(1, 2, (uint64_t)variant);
    memcpy(out, kept, BYTES);
    sk_light_brightness(out, SIZE * SIZE - 5, 1.3);
    sk_light_contrast(out, SIZE * SIZE - 5, 0.7);
    sk_light_saturation(out, SIZE * SIZE - 5, 1.8);
    sk_light_expose(out, SIZE * SIZE, 1.2, gain);
    if (variant)
        sk_blur_disc(2.3, &shape);
    else
        sk_blur_line(9, 1, &shape);
    assert_int_equal(sk_blur_apply(out, SIZE, &shape, NULL), SK_OK);
    const sk_noise n = {.electrons = 500, .read = 0.002, .colour = 0.5, .coarse = variant};
    assert_int_equal(sk_noise_apply(out, SIZE, &n, &rng, NULL), SK_OK);
}

/* The blends over all factors, at sizes that leave every kind of rest behind a path's blocks. */
static void same_blends(double factor, size_t count)
{
    static void (*const effects[3])(uint8_t *, size_t, double) = {sk_light_brightness, sk_light_contrast,
                                                                  sk_light_saturation};
    for (int effect = 0; effect < 3; effect++) {
        memcpy(pixels, kept, BYTES);
        memcpy(other, kept, BYTES);
        sk_simd_limit(SK_SIMD_NONE);
        effects[effect](pixels, count, factor);
        sk_simd_limit(SK_SIMD_AVX2);
        effects[effect](other, count, factor);
        assert_memory_equal(pixels, other, BYTES);
        assert_memory_equal(pixels + count * 3, kept + count * 3, BYTES - count * 3);
    }
}

static void test_same_bytes(void **state)
{
    (void)state;
    paint();
    for (int k = 0; k <= 40; k++)
        same_blends(k / 10.0, k % 2 ? (size_t)(SIZE * SIZE - k) : (size_t)(k * 5 + 1));
    for (int variant = 0; variant < 2; variant++) {
        sk_simd_limit(SK_SIMD_NONE);
        everything(variant, pixels);
        sk_simd_limit(SK_SIMD_AVX2);
        everything(variant, other);
        assert_memory_equal(pixels, other, BYTES);
    }
}

/* A point becomes the documented shape; a flat picture stays; nothing leaves the reach. */
static void test_blur(void **state)
{
    (void)state;
    for (int k = 0; k < 40; k++) {
        sk_blur shape;
        const double amount = 0.5 + k % 20 * 0.3, angle = k * 0.37;
        if (k < 20)
            sk_blur_disc(amount, &shape);
        else
            sk_blur_line(2 * amount - 1, angle, &shape);
        int sum = 0;
        double x = 0, y = 0, xx = 0, yy = 0, xy = 0;
        for (int t = 0; t < shape.taps; t++) {
            const double w = shape.tap[t].weight / 256.0;
            sum += shape.tap[t].weight;
            x += w * shape.tap[t].x;
            y += w * shape.tap[t].y;
            xx += w * shape.tap[t].x * shape.tap[t].x;
            yy += w * shape.tap[t].y * shape.tap[t].y;
            xy += w * shape.tap[t].x * shape.tap[t].y;
        }
        assert_int_equal(sum, 256);
        assert_true(fabs(x) < 0.1 && fabs(y) < 0.1);
        /* Second moments of a disc, r^2/4 per axis, and of a line, l^2/12 along it, each plus the pixel's own. */
        if (k < 20) {
            assert_true(fabs(xx - amount * amount / 4) < 0.3 && fabs(yy - amount * amount / 4) < 0.3);
        } else {
            const double l = 2 * amount - 1, along = xx * cos(angle) * cos(angle) + yy * sin(angle) * sin(angle) +
                                                     2 * xy * cos(angle) * sin(angle);
            assert_true(fabs(along - l * l / 12) < 0.35 + 0.06 * l);
            assert_true(xx + yy - along < 0.5);
        }
        fill(pixels, 10, 255, 90);
        memcpy(kept, pixels, BYTES);
        assert_int_equal(sk_blur_apply(pixels, SIZE, &shape, NULL), SK_OK);
        assert_memory_equal(pixels, kept, BYTES);
    }
}

/* The deviation at a level is the one of the model: variance y / electrons + read^2 in linear light, times the slope of
 * the sRGB curve; the mean stays; the colour share is the part that the channels do not have in common. */
static void test_noise(void **state)
{
    (void)state;
    static const int levels[] = {60, 120, 200};
    for (int k = 0; k < 12; k++) {
        const int v = levels[k % 3];
        const sk_noise n = {.electrons = k < 6 ? 300 : 2000, .read = 0.003, .colour = 0.25, .coarse = k % 2};
        sk_rng rng = sk_rng_make(7, 7, (uint64_t)k);
        fill(pixels, (uint8_t)v, (uint8_t)v, (uint8_t)v);
        assert_int_equal(sk_noise_apply(pixels, SIZE, &n, &rng, NULL), SK_OK);
        const double y = pow((v / 255.0 + 0.055) / 1.055, 2.4), slope = 1.055 / 2.4 * pow(y, 1 / 2.4 - 1);
        const double want = 255 * slope * sqrt(y / n.electrons + n.read * n.read);
        const double got = sqrt(deviation(pixels, 0) * deviation(pixels, 0) - 1 / 12.0);
        if (fabs(got / want - 1) > 0.06 || fabs(mean(pixels, 1) - v) > 0.3)
            fail_msg("level %d: deviation %.3f, not %.3f; mean %.3f", v, got, want, mean(pixels, 1));
        double common = 0;
        for (int i = 0; i < BYTES; i += 3)
            common += (pixels[i] - mean(pixels, 0)) * (pixels[i + 2] - mean(pixels, 2));
        const double share = common / (SIZE * SIZE) / (deviation(pixels, 0) * deviation(pixels, 2));
        assert_true(fabs(share - 0.75) < 0.06);
    }
}

static void test_infrared(void **state)
{
    (void)state;
    fill(pixels, 100, 140, 60);
    const sk_lamp lamp = {.weight = {0.5, 0.4, 0.1}, .x = 0.5, .y = 0.5, .reach = 0.5, .gain = 1};
    sk_light_infrared(pixels, SIZE, &lamp);
    for (int i = 0; i < BYTES; i += 3)
        assert_true(pixels[i] == pixels[i + 1] && pixels[i] == pixels[i + 2]);
    const int centre = pixels[(112 * SIZE + 112) * 3], edge = pixels[112 * SIZE * 3], corner = pixels[0];
    assert_in_range(centre, 110, 113);              /* .5 * 100 + .4 * 140 + .1 * 60 */
    assert_in_range(edge, 112 * 0.53 - 1.5, 112 * 0.53 + 1.5); /* a quarter of the light, to the power 1/2.2 */
    assert_true(corner < edge);
}

/* Text touches only its own rows, is written in its colour, fits, and is readable: another text, other pixels. */
static void test_stamp(void **state)
{
    (void)state;
    for (int k = 0; k < 6; k++) {
        sk_stamp s = {.text = "FPS 23.9", .height = 12, .x = k % 2, .y = k / 2 % 2, .ink = {255, 255, 255},
                      .ground = (sk_text_ground)(k % 3)};
        fill(pixels, 90, 120, 60);
        memcpy(kept, pixels, BYTES);
        assert_int_equal(sk_stamp_draw(pixels, SIZE, &s, NULL), SK_OK);
        int changed = 0, white = 0, dark = 0;
        for (int i = 0; i < BYTES; i += 3) {
            const int y = i / 3 / SIZE, far = s.y < 0.5 ? y > 20 : y < SIZE - 20;
            changed += memcmp(pixels + i, kept + i, 3) != 0;
            white += pixels[i] > 240 && pixels[i + 2] > 240;
            dark += pixels[i] < 15 && pixels[i + 2] < 15;
            assert_true(!far || memcmp(pixels + i, kept + i, 3) == 0);
        }
        if (changed < 500 || white < 100 || dark < 100)
            fail_msg("ground %d: %d pixels changed, %d white, %d dark", k % 3, changed, white, dark);
        memcpy(other, kept, BYTES);
        s.text[4] = '7';
        assert_int_equal(sk_stamp_draw(other, SIZE, &s, NULL), SK_OK);
        assert_memory_not_equal(other, pixels, BYTES);
        strcpy(s.text, "00/00/0000 00:00:00 MMMMMMMMMMMMMMMMMMMMMMMMMM");
        s.height = 60;
        assert_int_equal(sk_stamp_draw(pixels, SIZE, &s, NULL), SK_OK);
    }
}

/* Beside the picture the ground is its own edge: no line, and colours within what the edge had. */
static void test_surround(void **state)
{
    (void)state;
    for (int k = 0; k < 4; k++) {
        const int x0 = k % 2 ? 0 : 60, y0 = k < 2 ? 40 : 0, x1 = k == 3 ? 30 : 150, y1 = 160;
        fill(pixels, 0, 0, 0);
        for (int y = y0; y < y1; y++)
            for (int x = x0; x < x1; x++) {
                uint8_t *p = pixels + (y * SIZE + x) * 3;
                p[0] = 100;
                p[1] = (uint8_t)(50 + (x - x0) / 2);
                p[2] = (uint8_t)(80 + (y - y0) / 2);
            }
        memcpy(kept, pixels, BYTES);
        assert_int_equal(sk_surround(pixels, SIZE, x0, y0, x1, y1, NULL), SK_OK);
        for (int y = 0; y < SIZE; y++)
            for (int x = 0; x < SIZE; x++) {
                const int i = (y * SIZE + x) * 3, inside = x >= x0 && x < x1 && y >= y0 && y < y1;
                assert_true(!inside || memcmp(pixels + i, kept + i, 3) == 0);
                assert_in_range(pixels[i], 99, 101);
                assert_in_range(pixels[i + 1], 49, 50 + (x1 - x0) / 2);
                assert_in_range(pixels[i + 2], 79, 80 + (y1 - y0) / 2);
                if (x > 0)
                    assert_true(abs(pixels[i + 1] - pixels[i - 2]) <= 3);
            }
    }
    assert_int_equal(sk_surround(pixels, SIZE, 5, 5, 5, 9, NULL), SK_ERR_ARGUMENT);
}

/* Red and green tell the place in the source, as in a map: shrink shows all of the picture at the drawn size, which
 * shows in the steepness of the map, and cut loses at most the share. The crop is the whole picture. */
static void test_place(void **state)
{
    (void)state;
    enum { SIDE = 256 };
    sk_image image;
    assert_int_equal(sk_image_create(SIDE, SIDE, &image, NULL), SK_OK);
    for (int i = 0; i < SIDE * SIDE; i++) {
        image.data[i * 3] = (uint8_t)(i % SIDE);
        image.data[i * 3 + 1] = (uint8_t)(i / SIDE);
        image.data[i * 3 + 2] = 200;
    }
    int small = 0, mirrored = 0, lost = 0;
    for (uint64_t k = 0; k < 300; k++) {
        const sk_augment shrink = {.scale_min = 1, .scale_max = 1, .flip = 0.5f, .shrink = 1,
                                   .shrink_min = 0.3f};
        const sk_augment cut = {.scale_min = 1, .scale_max = 1, .cut = 1, .cut_max = 0.4f};
        sk_rng rng = sk_rng_make(1, 1, k);
        assert_int_equal(sk_transform_train(&image, &shrink, &rng, SIZE, pixels, NULL), SK_OK);
        int low = 255, high = 0, low_y = 255, high_y = 0;
        for (int i = 0; i < BYTES; i += 3) {
            low = pixels[i] < low ? pixels[i] : low;
            high = pixels[i] > high ? pixels[i] : high;
            low_y = pixels[i + 1] < low_y ? pixels[i + 1] : low_y;
            high_y = pixels[i + 1] > high_y ? pixels[i + 1] : high_y;
            assert_in_range(pixels[i + 2], 199, 201);
        }
        assert_true(low <= 5 && low_y <= 5 && high >= 250 && high_y >= 250); /* nothing of the picture is lost */
        int steep = 0; /* levels per pixel of the steepest run of eight pixels */
        for (int i = 24; i < BYTES; i += 3)
            if (i % (SIZE * 3) >= 24 && abs(pixels[i] - pixels[i - 24]) > steep)
                steep = abs(pixels[i] - pixels[i - 24]);
        const double side = 8.0 * SIDE / steep / SIZE;
        assert_true(side > 0.28 && side < 1.1);
        small += side < 0.65;
        mirrored += pixels[0] > pixels[(SIZE - 1) * 3]; /* red grows from left to right */
        rng = sk_rng_make(1, 2, k);
        assert_int_equal(sk_transform_train(&image, &cut, &rng, SIZE, pixels, NULL), SK_OK);
        low = low_y = 255;
        high = high_y = 0;
        for (int i = 0; i < BYTES; i += 3) {
            low = pixels[i] < low ? pixels[i] : low;
            high = pixels[i] > high ? pixels[i] : high;
            low_y = pixels[i + 1] < low_y ? pixels[i + 1] : low_y;
            high_y = pixels[i + 1] > high_y ? pixels[i + 1] : high_y;
        }
        const int gone = 255 - (high - low), gone_y = 255 - (high_y - low_y);
        assert_true((gone < 5) + (gone_y < 5) >= 1); /* one border */
        assert_true(gone <= 0.4 * 255 + 4 && gone_y <= 0.4 * 255 + 4);
        lost += gone > 50 || gone_y > 50;
    }
    assert_in_range(mirrored, 100, 200); /* the chance is a half */
    assert_in_range(small, 110, 190);
    assert_in_range(lost, 110, 190);
    sk_image_free(&image);
}

/* Changing one effect leaves the draws of the others alone. */
static void test_streams(void **state)
{
    (void)state;
    sk_image image = hashed(300, 256);
    sk_augment augment = sk_augment_seed();
    for (uint64_t k = 0; k < 20; k++) {
        sk_rng rng = sk_rng_make(5, 5, k), same = rng;
        augment.cast = 0.2f;
        augment.blur = 0;
        assert_int_equal(sk_transform_train(&image, &augment, &rng, SIZE, pixels, NULL), SK_OK);
        sk_augment more = augment;
        more.overlay = more.noise = 1e-9f;
        more.brightness = 1e-9f;
        assert_int_equal(sk_transform_train(&image, &more, &same, SIZE, other, NULL), SK_OK);
        int worst = 0;
        for (int i = 0; i < BYTES; i++)
            worst = abs(pixels[i] - other[i]) > worst ? abs(pixels[i] - other[i]) : worst;
        assert_true(worst <= 1);
        assert_true(rng.state == same.state);
    }
    sk_image_free(&image);
}

/* A chance is a chance: each switch alone changes about that share of the pictures. */
static void test_chances(void **state)
{
    (void)state;
    sk_image image = hashed(64, 64);
    for (size_t field = 0; field < 6; field++) {
        sk_augment with = {.scale_min = 1, .scale_max = 1}, without = with;
        float *const chances[] = {&with.grey, &with.infrared, &with.blur, &with.noise, &with.overlay, &with.jpeg};
        *chances[field] = 0.3f;
        int changed = 0;
        for (uint64_t k = 0; k < 400; k++) {
            sk_rng rng = sk_rng_make(9, field, k), same = rng;
            assert_int_equal(sk_transform_train(&image, &with, &rng, 64, pixels, NULL), SK_OK);
            assert_int_equal(sk_transform_train(&image, &without, &same, 64, other, NULL), SK_OK);
            changed += memcmp(pixels, other, 64 * 64 * 3) != 0;
        }
        assert_in_range(changed, 75, 165); /* 5 sigma around 120 */
    }
    sk_image_free(&image);
}

/* Sizes and shapes at the limits, every effect on. */
static void test_extremes(void **state)
{
    (void)state;
    static const int shapes[][3] = {{1, 1, 1}, {1, 1, 32}, {2, 300, 8}, {300, 2, 33}, {40, 30, 256}};
    sk_augment augment = {.scale_min = 0.01f, .scale_max = 1, .flip = 0.5f, .shrink = 0.9f, .shrink_min = 0.05f,
                          .cut = 0.9f, .cut_max = 0.9f, .brightness = 1, .contrast = 1, .saturation = 1, .gamma = 2,
                          .cast = 1, .grey = 0.2f, .infrared = 0.3f, .blur = 0.5f, .noise = 0.5f, .overlay = 0.7f,
                          .jpeg = 0.5f};
    for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++) {
        sk_image image = hashed(shapes[k][0], shapes[k][1]);
        const size_t size = (size_t)shapes[k][2] * (size_t)shapes[k][2] * 3;
        uint8_t *out = malloc(size + 1);
        for (uint64_t i = 0; i < 200; i++) {
            sk_rng rng = sk_rng_make(4, k, i);
            sk_error err = {0};
            out[size] = 0xA5;
            if (sk_transform_train(&image, &augment, &rng, shapes[k][2], out, &err) != SK_OK)
                fail_msg("shape %zu, draw %d: %s", k, (int)i, err.message);
            assert_int_equal(out[size], 0xA5);
        }
        free(out);
        sk_image_free(&image);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_seed),     cmocka_unit_test(test_jitter),   cmocka_unit_test(test_same_bytes),
        cmocka_unit_test(test_blur),     cmocka_unit_test(test_noise),    cmocka_unit_test(test_infrared),
        cmocka_unit_test(test_stamp),    cmocka_unit_test(test_surround), cmocka_unit_test(test_place),
        cmocka_unit_test(test_streams),  cmocka_unit_test(test_chances),  cmocka_unit_test(test_extremes),
    };
    return cmocka_run_group_tests_name("augment", tests, NULL, NULL);
}
