/* SPDX-License-Identifier: Apache-2.0 */
/* The paste: the mask of a drawn thing against the thing as it was drawn, the place against the place that was asked
 * for, and that nothing outside the mask is touched. */
#include "data_help.h"

#include "image/paste.h"
#include "image/simd.h"

/* A reddish ellipse with a dark stripe before a noisy green ground; `inside` gets 1 where the ellipse is. */
static sk_image thing(int width, int height, double cx, double cy, double rx, double ry, uint8_t *inside)
{
    sk_image image;
    assert_int_equal(sk_image_create(width, height, &image, NULL), SK_OK);
    sk_rng rng = sk_rng_make(7, 7, 7);
    for (int i = 0; i < width * height; i++) {
        const double x = (i % width + 0.5 - cx * width) / (rx * width);
        const double y = (i / width + 0.5 - cy * height) / (ry * height);
        const int in = x * x + y * y < 1, stripe = in && fabs(y) < 0.2, noise = (int)sk_rng_below(&rng, 24);
        inside[i] = (uint8_t)in;
        image.data[i * 3] = (uint8_t)((in ? stripe ? 60 : 190 : 70) + noise);
        image.data[i * 3 + 1] = (uint8_t)((in ? stripe ? 40 : 80 : 130) + noise);
        image.data[i * 3 + 2] = (uint8_t)((in ? 50 : 60) + noise);
    }
    return image;
}

static sk_image flat(int width, int height, int level)
{
    sk_image image;
    assert_int_equal(sk_image_create(width, height, &image, NULL), SK_OK);
    memset(image.data, level, (size_t)width * (size_t)height * 3);
    return image;
}

/* Share of the union of mask and thing that both cover. */
static double overlap(const sk_mask *mask, const uint8_t *inside, int width, int height)
{
    int both = 0, any = 0;
    for (int y = 0; y < mask->height; y++)
        for (int x = 0; x < mask->width; x++) {
            const int u = (int)((x + 0.5) * width / mask->width), v = (int)((y + 0.5) * height / mask->height);
            const int a = mask->alpha[y * mask->width + x] >= 128, b = inside[v * width + u];
            both += a && b;
            any += a || b;
        }
    return any ? (double)both / any : 0;
}

static void mask_finds_the_thing(void **state)
{
    (void)state;
    static const double cases[][4] = {{.5, .5, .3, .25}, {.45, .55, .2, .3}, {.6, .5, .25, .2}};
    uint8_t *inside = sk_alloc(200 * 150, 1);
    for (size_t i = 0; i < 3; i++) {
        sk_image image = thing(200, 150, cases[i][0], cases[i][1], cases[i][2], cases[i][3], inside);
        sk_mask mask;
        assert_int_equal(sk_mask_guess(&image, 1, &mask, NULL), SK_OK);
        assert_int_equal(mask.width, SK_MASK_SIDE);
        assert_int_equal(mask.height, 36);
        assert_true(mask.separated);
        assert_true(overlap(&mask, inside, 200, 150) > 0.85);
        sk_image_free(&image);
    }
    sk_free(inside);
}

/* Whatever the picture, the mask shows something and fades to nothing at the picture's edge. */
static void mask_never_shows_the_frame(void **state)
{
    (void)state;
    static const int sizes[][2] = {{256, 256}, {1, 1}, {3, 400}, {300, 5}, {60, 90}, {341, 256}};
    for (size_t i = 0; i < 6; i++)
        for (uint64_t seed = 0; seed < 3; seed++) {
            sk_image image = seed == 0 ? flat(sizes[i][0], sizes[i][1], 90)
                             : sizes[i][0] < 30 || sizes[i][1] < 30
                                 ? flat(sizes[i][0], sizes[i][1], (int)seed * 50)
                                 : scene(seed, sizes[i][0], sizes[i][1]);
            sk_mask mask, again, other;
            assert_int_equal(sk_mask_guess(&image, seed, &mask, NULL), SK_OK);
            assert_int_equal(sk_mask_guess(&image, seed, &again, NULL), SK_OK);
            assert_memory_equal(&mask, &again, sizeof mask);
            long sum = 0;
            for (int y = 0; y < mask.height; y++)
                for (int x = 0; x < mask.width; x++) {
                    const int a = mask.alpha[y * mask.width + x];
                    if (x == 0 || y == 0 || x == mask.width - 1 || y == mask.height - 1)
                        assert_int_equal(a, 0);
                    sum += a;
                }
            assert_true(sum > 0);
            assert_true(mask.width <= SK_MASK_SIDE && mask.height <= SK_MASK_SIDE);
            if (seed == 0 && sizes[i][0] > 30 && sizes[i][1] > 30) { /* nothing to tell apart: ovals, each its own */
                assert_false(mask.separated);
                assert_int_equal(sk_mask_guess(&image, 99, &other, NULL), SK_OK);
                assert_memory_not_equal(mask.alpha, other.alpha, sizeof mask.alpha);
            }
            sk_image_free(&image);
        }
    sk_error err = {0};
    sk_mask mask;
    assert_int_equal(sk_mask_guess(&(sk_image){0}, 1, &mask, &err), SK_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "empty picture"));
}

static double mass(const uint8_t *alpha, int count)
{
    double sum = 0;
    for (int i = 0; i < count; i++)
        sum += alpha[i];
    return sum;
}

/* The box of what differs clearly from a flat ground. */
static void changed_box(const sk_image *image, int level, int box[4])
{
    box[0] = box[1] = 1 << 20;
    box[2] = box[3] = -1;
    for (int i = 0; i < image->width * image->height; i++) {
        const int x = i % image->width, y = i / image->width;
        if (abs(image->data[i * 3] - level) + abs(image->data[i * 3 + 1] - level) < 30)
            continue;
        box[0] = x < box[0] ? x : box[0];
        box[1] = y < box[1] ? y : box[1];
        box[2] = x > box[2] ? x : box[2];
        box[3] = y > box[3] ? y : box[3];
    }
}

static void place_is_as_asked(void **state)
{
    (void)state;
    uint8_t *inside = sk_alloc(200 * 150, 1), *alpha = sk_alloc(600 * 600, 1);
    sk_image image = thing(200, 150, .5, .5, .3, .25, inside), large = flat(600, 600, 128);
    sk_mask mask;
    assert_int_equal(sk_mask_guess(&image, 1, &mask, NULL), SK_OK);
    int seen_left = 0, seen_right = 0, seen_mirrored = 0;
    for (uint64_t i = 0; i < 60; i++) {
        sk_rng rng = sk_rng_make(3, 4, i);
        const float side = 0.2f + 0.01f * (float)i;
        const sk_place_range range = {.side_min = side, .side_max = side};
        const sk_place place = sk_place_draw(&mask, &image, 224, 224, &range, &rng);
        sk_image ground = flat(224, 224, 128);
        assert_int_equal(sk_paste(&ground, &image, &mask, &place, alpha, NULL), SK_OK);
        int box[4];
        changed_box(&ground, 128, box);
        const int longer = box[2] - box[0] > box[3] - box[1] ? box[2] - box[0] + 1 : box[3] - box[1] + 1;
        assert_true(fabs(longer - (double)side * 224) < 5 + 0.06 * longer);
                seen_left |= box[2] < 112;
        seen_right |= box[0] > 112;
        seen_mirrored |= place.mirrored;
        for (int k = 0; k < 224 * 224 * 3; k++)
            if (!alpha[k / 3])
                assert_int_equal(ground.data[k], 128);
        /* Nothing of it is lost: so much is shown in the middle of a large ground too. */
        const double shown = mass(alpha, 224 * 224);
        sk_place middle = place;
        middle.x = middle.y = 100;
        assert_int_equal(sk_paste(&large, &image, &mask, &middle, alpha, NULL), SK_OK);
        assert_true(shown > 0.97 * mass(alpha, 600 * 600));
        sk_image_free(&ground);
    }
    assert_true(seen_left && seen_right && seen_mirrored);
    sk_image_free(&large);
    sk_image_free(&image);
    sk_free(inside);
    sk_free(alpha);
}

/* The cut is measured: the same place on a ground so large that nothing is lost, against the ground that cuts. */
static void cut_loses_its_share(void **state)
{
    (void)state;
    uint8_t *inside = sk_alloc(200 * 150, 1), *alpha = sk_alloc(900 * 900, 1);
    sk_image image = thing(200, 150, .55, .5, .3, .25, inside);
    sk_mask mask;
    int borders = 0;
    assert_int_equal(sk_mask_guess(&image, 1, &mask, NULL), SK_OK);
    for (uint64_t i = 0; i < 60; i++) {
        sk_rng rng = sk_rng_make(5, 4, i);
        const sk_place_range range = {.side_min = .5f, .side_max = .8f, .cut_min = .3f, .cut_max = .6f};
        sk_place place = sk_place_draw(&mask, &image, 300, 200, &range, &rng);
        sk_image ground = flat(300, 200, 128), large = flat(900, 900, 128);
        assert_int_equal(sk_paste(&ground, &image, &mask, &place, alpha, NULL), SK_OK);
        const double shown = mass(alpha, 300 * 200);
        borders |= (place.x < 0) | (place.x + place.width > 300) << 1 | (place.y < 0) << 2 |
                   (place.y + place.height > 200) << 3;
        place.x = place.y = 300;
        assert_int_equal(sk_paste(&large, &image, &mask, &place, alpha, NULL), SK_OK);
        const double lost = 1 - shown / mass(alpha, 900 * 900);
        assert_true(lost > 0.27 && lost < 0.63);
        sk_image_free(&ground);
        sk_image_free(&large);
    }
    assert_int_equal(borders, 15);
    sk_image_free(&image);
    sk_free(inside);
    sk_free(alpha);
}

static void outside_changes_nothing(void **state)
{
    (void)state;
    uint8_t *inside = sk_alloc(200 * 150, 1), alpha[64 * 64];
    sk_image image = thing(200, 150, .5, .5, .3, .25, inside), ground = flat(64, 64, 77), same = flat(64, 64, 77);
    sk_mask mask;
    sk_error err = {0};
    assert_int_equal(sk_mask_guess(&image, 1, &mask, NULL), SK_OK);
    static const int at[][2] = {{64, 0}, {-40, 5}, {0, 64}, {3, -30}, {100000, -100000}};
    for (int i = 0; i < 5; i++) {
        const sk_place place = {.x = at[i][0], .y = at[i][1], .width = 40, .height = 30, .light = 1, .shade = 1};
        assert_int_equal(sk_paste(&ground, &image, &mask, &place, alpha, NULL), SK_OK);
        assert_memory_equal(ground.data, same.data, 64 * 64 * 3);
        assert_true(mass(alpha, 64 * 64) == 0);
    }
    const sk_place none = {.width = 0, .height = 30}, huge = {.width = 9000, .height = 10};
    assert_int_equal(sk_paste(&ground, &image, &mask, &none, NULL, &err), SK_ERR_ARGUMENT);
    assert_int_equal(sk_paste(&ground, &image, &mask, &huge, NULL, &err), SK_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "9000 x 10"));
    assert_int_equal(sk_paste(&(sk_image){0}, &image, &mask, &none, NULL, &err), SK_ERR_ARGUMENT);
    sk_image_free(&image);
    sk_image_free(&ground);
    sk_image_free(&same);
    sk_free(inside);
}

/* In a grey ground nothing coloured stands out; on a dark one the object is darker than on a light one. */
static void light_follows_the_ground(void **state)
{
    (void)state;
    uint8_t *inside = sk_alloc(200 * 150, 1), *alpha = sk_alloc(128 * 128, 1);
    sk_image image = thing(200, 150, .5, .5, .3, .25, inside);
    sk_mask mask;
    double lightness[2] = {0};
    assert_int_equal(sk_mask_guess(&image, 1, &mask, NULL), SK_OK);
    for (int dark = 0; dark < 2; dark++) {
        sk_image ground = flat(128, 128, dark ? 25 : 200);
        const sk_place place = {.width = 120, .height = 90, .light = .5f, .shade = 1};
        assert_int_equal(sk_paste(&ground, &image, &mask, &place, alpha, NULL), SK_OK);
        int n = 0;
        for (int i = 0; i < 128 * 128; i++) {
            const uint8_t *p = ground.data + i * 3;
            assert_true(abs(p[0] - p[1]) <= 1 && abs(p[1] - p[2]) <= 1);
            if (alpha[i] == 255) {
                lightness[dark] += p[1];
                n++;
            }
        }
        lightness[dark] /= n;
        sk_image_free(&ground);
    }
    assert_true(lightness[1] < 0.6 * lightness[0]);
    sk_image_free(&image);
    sk_free(inside);
    sk_free(alpha);
}

static void training_picture(void **state)
{
    (void)state;
    enum { SIZE = 96 };
    uint8_t *inside = sk_alloc(200 * 150, 1), *a = sk_alloc(SIZE * SIZE, 3), *b = sk_alloc(SIZE * SIZE, 3);
    sk_image image = thing(200, 150, .5, .5, .3, .25, inside), ground = flat(300, 200, 150);
    const sk_augment options = {.paste = 1, .paste_min = .1f, .cut = .5f, .cut_max = .5f};
    double least = 1, most = 0;
    sk_mask mask;
    assert_int_equal(sk_mask_find(&image, &mask, NULL), SK_OK);
    for (uint64_t i = 0; i < 100; i++) {
        sk_rng one = sk_rng_make(1, 2, i), two = one;
        assert_int_equal(sk_paste_train(&image, &mask, &ground, &options, &one, SIZE, a, NULL), SK_OK);
        sk_simd_limit(SK_SIMD_NONE); /* one pixel at a time gives the same bytes */
        assert_int_equal(sk_paste_train(&image, &mask, &ground, &options, &two, SIZE, b, NULL), SK_OK);
        sk_simd_limit(SK_SIMD_AVX2);
        assert_memory_equal(a, b, SIZE * SIZE * 3);
        int box[4];
        changed_box(&(sk_image){SIZE, SIZE, a}, 150, box);
        const int wide = box[2] - box[0] + 1, high = box[3] - box[1] + 1;
        const double side = (wide > high ? wide : high) / (double)SIZE;
        least = fmin(least, side);
        most = fmax(most, side);
    }
    assert_true(least > 0.03 && least < 0.2);
    assert_true(most > 0.6 && most <= 0.85);
    for (long n = 0; n < 12; n++) { /* out of memory at any point is told and leaks nothing */
        const long before = sk_memory_live();
        sk_rng rng = sk_rng_make(1, 2, 3);
        sk_memory_fail_at(n, 1);
        const sk_status status = sk_paste_train(&image, &mask, &ground, &options, &rng, SIZE, a, NULL);
        sk_memory_fail_at(-1, 0);
        assert_true(status == SK_ERR_MEMORY || (status == SK_OK && n > 3));
        assert_int_equal(sk_memory_live(), before);
    }
    sk_image_free(&image);
    sk_image_free(&ground);
    sk_free(inside);
    sk_free(a);
    sk_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mask_finds_the_thing),    cmocka_unit_test(mask_never_shows_the_frame),
        cmocka_unit_test(place_is_as_asked),       cmocka_unit_test(cut_loses_its_share),
        cmocka_unit_test(outside_changes_nothing), cmocka_unit_test(light_follows_the_ground),
        cmocka_unit_test(training_picture),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
