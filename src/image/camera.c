/* SPDX-License-Identifier: Apache-2.0 */
/* The camera in front of a training picture: draws which effects of light, lens, sensor and recorder a picture gets and
 * how strong they are, and applies them in the order in which light passes a camera. Lengths in pixels are those of an
 * input of 224 and grow with it. */
#include <math.h>
#include <stdio.h>

#include "image/augment.h"
#include "image/codec.h"
#include "image/effects.h"

/* Each effect draws from a stream of its own, so that a chance that is changed changes no other effect. */
enum { DRAW_JITTER = 1, DRAW_EXPOSURE, DRAW_GREY, DRAW_INFRARED, DRAW_BLUR, DRAW_NOISE, DRAW_STAMP, DRAW_JPEG };

/* Evenly in the logarithm: half of the draws are below the geometric mean. */
static double scaled(sk_rng *rng, double low, double high)
{
    return low * pow(high / low, sk_rng_uniform(rng));
}

/* True with the chance; *rng is then the effect's stream. */
static int drawn(uint64_t key, int effect, double chance, sk_rng *rng)
{
    if (!(chance > 0))
        return 0;
    *rng = sk_rng_make(key, (uint64_t)effect, 0);
    return sk_rng_uniform(rng) < chance;
}

/* torchvision's ColorJitter: three factors, applied in one of the six orders. */
static void jitter(const sk_augment *augment, sk_rng *rng, uint8_t *pixels, size_t count)
{
    static const uint8_t orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    static void (*const effects[3])(uint8_t *, size_t, double) = {sk_light_brightness, sk_light_contrast,
                                                                  sk_light_saturation};
    const double strength[3] = {(double)augment->brightness, (double)augment->contrast, (double)augment->saturation};
    const uint8_t *order = orders[sk_rng_below(rng, 6)];
    double factor[3];
    for (int i = 0; i < 3; i++)
        factor[i] = sk_rng_between(rng, fmax(1 - strength[i], 0), 1 + strength[i]);
    for (int i = 0; i < 3; i++)
        if (strength[order[i]] > 0)
            effects[order[i]](pixels, count, factor[order[i]]);
}

static void expose(const sk_augment *augment, sk_rng *rng, uint8_t *pixels, size_t count)
{
    const double s = (double)augment->gamma, cast = (double)augment->cast;
    const double exponent = exp(sk_rng_between(rng, -s, s));
    double gain[3];
    for (int c = 0; c < 3; c++)
        gain[c] = sk_rng_between(rng, 1 - cast, 1 + cast);
    sk_light_expose(pixels, count, exponent, gain);
}

/* Silicon without its infrared filter sees mostly near infrared, of which the red of a picture tells most, and leaves
 * shine in it as they do in green. The lamp sits beside the lens, so it is centred up to the way it was screwed on. */
static void infrared(sk_rng *rng, uint8_t *pixels, int size)
{
    const double green = sk_rng_between(rng, 0.1, 0.6), blue = sk_rng_between(rng, 0, 0.2);
    const double one[3] = {1, 1, 1};
    const sk_lamp lamp = {.weight = {1 - green - blue, green, blue},
                          .x = sk_rng_between(rng, 0.25, 0.75), .y = sk_rng_between(rng, 0.3, 0.9),
                          .reach = sk_rng_between(rng, 0.35, 0.9), .gain = scaled(rng, 0.5, 4)};
    sk_light_expose(pixels, (size_t)size * (size_t)size, sk_rng_between(rng, 1, 1.6), one);
    sk_light_infrared(pixels, size, &lamp);
}

static sk_status blur(sk_rng *rng, uint8_t *pixels, int size, sk_error *err)
{
    const double unit = size / 224.0;
    sk_blur shape;
    if (sk_rng_uniform(rng) < 0.5) {
        sk_blur_disc(sk_rng_between(rng, 0.8, 3) * unit, &shape);
    } else {
        const double length = sk_rng_between(rng, 2.5, 11) * unit;
        sk_blur_line(length, sk_rng_between(rng, 0, 3.14159265358979), &shape);
    }
    return sk_blur_apply(pixels, size, &shape, err);
}

/* Daylight fills the sensor's wells, a night lamp does not: signal-to-noise ratio at white 14 to 55 or 10 to 32. */
static sk_status noise(sk_rng *rng, int night, uint8_t *pixels, int size, sk_error *err)
{
    const sk_noise n = {.electrons = night ? scaled(rng, 100, 1000) : scaled(rng, 200, 3000),
                        .read = night ? scaled(rng, 0.0007, 0.004) : scaled(rng, 0.0005, 0.004),
                        .colour = night ? 0 : sk_rng_between(rng, 0.1, 0.9), .coarse = sk_rng_uniform(rng) < 0.5};
    return sk_noise_apply(pixels, size, &n, rng, err);
}

static void date(sk_rng *rng, char *out, size_t size)
{
    static const char *const forms[4] = {"%1$04d-%2$02d-%3$02d", "%2$02d/%3$02d/%1$04d", "%3$02d.%2$02d.%1$04d",
                                         "%2$02d-%3$02d-%1$04d"};
    const int year = 2010 + (int)sk_rng_below(rng, 20), month = 1 + (int)sk_rng_below(rng, 12);
    snprintf(out, size, forms[sk_rng_below(rng, 4)], year, month, 1 + (int)sk_rng_below(rng, 28));
}

static void time_of_day(sk_rng *rng, char *out, size_t size)
{
    const int hour = (int)sk_rng_below(rng, 24), minute = (int)sk_rng_below(rng, 60);
    if (sk_rng_below(rng, 3) == 0)
        snprintf(out, size, "%02d:%02d %s", hour % 12 ? hour % 12 : 12, minute, hour < 12 ? "AM" : "PM");
    else
        snprintf(out, size, "%02d:%02d:%02d", hour, minute, (int)sk_rng_below(rng, 60));
}

static void words(sk_rng *rng, char *out, size_t size)
{
    char day[16], hour[16];
    date(rng, day, sizeof day);
    time_of_day(rng, hour, sizeof hour);
    const int number = (int)sk_rng_below(rng, 100);
    switch (sk_rng_below(rng, 8)) {
    case 0: snprintf(out, size, "FPS: %d", 5 + number % 56); break;
    case 1: snprintf(out, size, "FPS %d.%d", 5 + number % 56, number % 10); break;
    case 2: snprintf(out, size, "%s", hour); break;
    case 3: snprintf(out, size, "%s %d*C", hour, number % 50 - 12); break;
    case 4: snprintf(out, size, "%s %s %d*F", day, hour, 10 + number % 90); break;
    case 5: snprintf(out, size, "CAM%02d %s", number, hour); break;
    default: snprintf(out, size, "%s %s", day, hour); break;
    }
}

/* In a corner, or in the middle of the upper or lower edge. */
static sk_status stamp(sk_rng *rng, uint8_t *pixels, int size, sk_error *err)
{
    static const uint8_t colours[3][3] = {{255, 255, 255}, {255, 235, 40}, {0, 0, 0}};
    sk_stamp s = {.height = scaled(rng, 6.5, 15) * size / 224, .ground = SK_TEXT_OUTLINE};
    words(rng, s.text, sizeof s.text);
    const uint32_t colour = sk_rng_below(rng, 3), ground = sk_rng_below(rng, 4);
    const double margin = sk_rng_between(rng, 0, 0.04), free = sk_rng_below(rng, 5) == 0 ? 0.5 : margin;
    s.ground = ground == 2 ? SK_TEXT_BOX : ground == 3 ? SK_TEXT_STRIP : SK_TEXT_OUTLINE;
    for (int c = 0; c < 3; c++) {
        s.ink[c] = colours[colour][c];
        s.back[c] = colour == 2 ? 255 : 0;
    }
    s.x = sk_rng_below(rng, 2) ? 1 - free : free;
    s.y = s.ground == SK_TEXT_STRIP ? 0 : margin;
    if (sk_rng_below(rng, 2))
        s.y = 1 - s.y;
    return sk_stamp_draw(pixels, size, &s, err);
}

static sk_status recode(sk_rng *rng, uint8_t *pixels, int size, sk_error *err)
{
    const int quality = 20 + (int)sk_rng_below(rng, 61);
    /* Most cameras halve the colour in both directions, some across only, few keep it. */
    const uint32_t draw = sk_rng_below(rng, 6);
    const sk_jpeg_colour colour = draw < 3 ? SK_JPEG_420 : draw < 5 ? SK_JPEG_422 : SK_JPEG_444;
    return sk_jpeg_recode(pixels, size, size, quality, colour, err);
}

sk_status sk_transform_camera(const sk_augment *augment, sk_rng *rng, int size, uint8_t *pixels, sk_error *err)
{
    const uint64_t key = sk_rng_next(rng);
    const size_t count = (size_t)size * (size_t)size;
    const int jitters = augment->brightness > 0 || augment->contrast > 0 || augment->saturation > 0;
    const int exposes = augment->gamma > 0 || augment->cast > 0;
    sk_status status = SK_OK;
    sk_rng own, of_noise = sk_rng_make(key, DRAW_NOISE, 0);
    if (drawn(key, DRAW_EXPOSURE, exposes, &own))
        expose(augment, &own, pixels, count);
    if (drawn(key, DRAW_JITTER, jitters, &own))
        jitter(augment, &own, pixels, count);
    if (drawn(key, DRAW_GREY, (double)augment->grey, &own))
        sk_light_saturation(pixels, count, 0);
    const int night = drawn(key, DRAW_INFRARED, (double)augment->infrared, &own);
    if (night)
        infrared(&own, pixels, size);
    if (drawn(key, DRAW_BLUR, (double)augment->blur, &own))
        status = blur(&own, pixels, size, err);
    if (status == SK_OK && (drawn(key, DRAW_NOISE, (double)augment->noise, &of_noise) || night))
        status = noise(&of_noise, night, pixels, size, err);
    if (status == SK_OK && drawn(key, DRAW_STAMP, (double)augment->overlay, &own))
        status = stamp(&own, pixels, size, err);
    if (status == SK_OK && drawn(key, DRAW_JPEG, (double)augment->jpeg, &own))
        status = recode(&own, pixels, size, err);
    return status;
}
