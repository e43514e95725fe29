/* SPDX-License-Identifier: Apache-2.0 */
/* What light, lens, sensor and recorder do to a picture: the single effects, each with its strengths given. They work
 * in place on RGB bytes, rows tightly packed; `count` is a number of pixels, `size` the side of a square. What is drawn
 * at random, and in which order the effects come, is camera.c's. Internal. */
#ifndef SK_IMAGE_EFFECTS_H
#define SK_IMAGE_EFFECTS_H

#include "base/base.h"

/* ---- light and colour ---------------------------------------------------------------------------- */
/* Brightness, contrast and saturation as torchvision's functions of the same names define them on bytes: a blend with
 * black, with the mean of the greyscale, with the greyscale of each pixel; factor 1 changes nothing, 0 leaves nothing.
 * Factors 0 to 4. Within one level of torchvision, since they are computed in fixed point. */
void sk_light_brightness(uint8_t *pixels, size_t count, double factor);
void sk_light_contrast(uint8_t *pixels, size_t count, double factor);
void sk_light_saturation(uint8_t *pixels, size_t count, double factor);
/* Exposure and colour cast: value v in 0 to 1 becomes gain[channel] * v^exponent. */
void sk_light_expose(uint8_t *pixels, size_t count, double exponent, const double gain[3]);

/* A night picture: no colour filter and a lamp beside the lens. */
typedef struct sk_lamp {
    double weight[3]; /* of red, green, blue in what the sensor sees */
    double x, y;      /* where the lamp points, share of the side */
    double reach;     /* distance from there, as a share of the side, at which a quarter of the light is left */
    double gain;      /* exposure at that point, linear light */
} sk_lamp;
void sk_light_infrared(uint8_t *pixels, int size, const sk_lamp *lamp);

/* ---- optics -------------------------------------------------------------------------------------- */
#define SK_BLUR_REACH 12
/* A point's image: weights in 1/256 that sum to exactly 256, at most SK_BLUR_REACH pixels from the point. */
typedef struct sk_blur {
    int taps, reach;
    struct {
        int8_t x, y;
        uint16_t weight;
    } tap[(2 * SK_BLUR_REACH + 1) * (2 * SK_BLUR_REACH + 1)];
} sk_blur;
/* Defocus: a disc of this radius, pixels. */
void sk_blur_disc(double radius, sk_blur *out);
/* Steady motion while the shutter is open: a line of this length, pixels, at `angle` radians. */
void sk_blur_line(double length, double angle, sk_blur *out);
/* The picture's edge is continued outward. */
sk_status sk_blur_apply(uint8_t *pixels, int size, const sk_blur *blur, sk_error *err);

/* The whole picture made `small` x `small` and large again, in `out`: the cheapest wide blur there is. */
sk_status sk_blur_coarse(const uint8_t *pixels, int size, int small, uint8_t *out, sk_error *err);

/* ---- sensor -------------------------------------------------------------------------------------- */
/* Shot and read noise (Foi, Trimeche, Katkovnik, Egiazarian 2008): in linear light, white = 1, the variance at value y
 * is y / electrons + read^2; pictures are taken as sRGB, whose curve makes the noise strongest in the dark. */
typedef struct sk_noise {
    double electrons; /* photo-electrons at white: few in a dim light */
    double read;      /* standard deviation of the read noise */
    double colour;    /* share of the variance that is each channel's own, 0 to 1 */
    int coarse;       /* smoothed over neighbours as interpolation and compression do, same deviation */
} sk_noise;
sk_status sk_noise_apply(uint8_t *pixels, int size, const sk_noise *noise, sk_rng *rng, sk_error *err);

/* ---- recorder ------------------------------------------------------------------------------------ */
typedef enum sk_text_ground { SK_TEXT_OUTLINE, SK_TEXT_BOX, SK_TEXT_STRIP } sk_text_ground;
/* Text as cameras draw it, capitals, digits and " :-/.%" only; '*' is the degree sign. */
typedef struct sk_stamp {
    char text[48];
    double height;         /* of a capital, pixels; lowered until the text fits */
    double x, y;           /* 0 to 1: left to right and top to bottom of the free room */
    uint8_t ink[3], back[3]; /* back: of the outline, the box or the strip across the picture */
    sk_text_ground ground;
} sk_stamp;
sk_status sk_stamp_draw(uint8_t *pixels, int size, const sk_stamp *stamp, sk_error *err);

/* ---- surroundings -------------------------------------------------------------------------------- */
/* The rectangle x0 <= x < x1, y0 <= y < y1 holds a picture: continues it over the rest of the square from its edge,
 * the more stretched and blurred the farther away, so that no line shows where it ended. */
sk_status sk_surround(uint8_t *pixels, int size, int x0, int y0, int x1, int y1, sk_error *err);

#endif
