/* SPDX-License-Identifier: Apache-2.0 */
/* The transforms of training and evaluation, number for number as torchvision draws and rounds them (the draws
 * themselves come from our generator), so that a model trained here and one trained there see the same world. */
#include "image/augment.h"

#include <math.h>
#include <string.h>

#include "image/codec.h"
#include "image/effects.h"

#define TRIES 10

sk_augment sk_augment_seed(void)
{
    return (sk_augment){.scale_min = 0.08f, .scale_max = 1, .flip = 0.5f};
}

typedef struct crop {
    int x, y, width, height;
} crop;

/* The number that was meant by a float of seven digits: .08f is a little less than .08. */
static double decimal(float value)
{
    return nearbyint((double)value * 1e7) / 1e7;
}

static crop random_crop(int width, int height, const sk_augment *augment, sk_rng *rng)
{
    const double area = (double)width * height, least = 3.0 / 4.0, most = 4.0 / 3.0;
    const double small = decimal(augment->scale_min), large = decimal(augment->scale_max);
    for (int i = 0; i < TRIES; i++) {
        const double target = area * sk_rng_between(rng, small, large);
        const double ratio = exp(sk_rng_between(rng, log(least), log(most)));
        const int w = (int)nearbyint(sqrt(target * ratio)), h = (int)nearbyint(sqrt(target / ratio));
        if (w < 1 || w > width || h < 1 || h > height)
            continue;
        const int y = (int)sk_rng_below(rng, (uint32_t)(height - h + 1));
        const int x = (int)sk_rng_below(rng, (uint32_t)(width - w + 1));
        return (crop){x, y, w, h};
    }
    /* Very long pictures: the largest allowed middle piece. */
    int w = width, h = height;
    const double ratio = (double)width / height;
    if (ratio < least)
        h = (int)nearbyint(w / least);
    else if (ratio > most)
        w = (int)nearbyint(h * most);
    return (crop){(width - w) / 2, (height - h) / 2, w, h};
}

/* Where the crop comes to lie in the input, in its pixels: a square that may leave it. */
typedef struct window {
    double x, y, side;
    int moved; /* not the whole input */
} window;

/* Options have ranges of their own; these keep something of the picture to see. */
#define LEAST_SIDE 0.05
#define MOST_CUT 0.9

static window draw_window(const sk_augment *augment, int size, sk_rng *rng)
{
    window w = {0, 0, size, 0};
    if (augment->shrink > 0 && sk_rng_uniform(rng) < (double)augment->shrink) {
        w.side = size * sk_rng_between(rng, fmax((double)augment->shrink_min, LEAST_SIDE), 1);
        w.x = sk_rng_between(rng, 0, size - w.side);
        w.y = sk_rng_between(rng, 0, size - w.side);
        w.moved = 1;
    }
    if (augment->cut > 0 && sk_rng_uniform(rng) < (double)augment->cut) {
        const double lost = w.side * sk_rng_between(rng, 0, fmin((double)augment->cut_max, MOST_CUT));
        const uint32_t border = sk_rng_below(rng, 4);
        double *axis = border < 2 ? &w.x : &w.y;
        *axis = border % 2 ? size - w.side + lost : -lost;
        w.moved = 1;
    }
    return w;
}

/* Along one axis: `length` pixels of picture, of which `extent` from `from` on fill the window at `place`. Gives the
 * input's pixels that the picture covers, and where in the picture they lie. */
typedef struct span {
    int low, high;
    double from, to;
} span;

static span cover(double place, double side, int size, int from, int extent, int length)
{
    const double scale = side / extent, start = place - from * scale, end = start + length * scale;
    span s = {.low = (int)ceil(fmax(start, 0) - 1e-6), .high = (int)floor(fmin(end, size) + 1e-6)};
    if (s.high <= s.low) { /* less than a pixel wide */
        s.low = s.low < size ? s.low : size - 1;
        s.high = s.low + 1;
    }
    s.from = fmin(fmax((s.low - start) / scale, 0), length);
    s.to = fmin(fmax((s.high - start) / scale, 0), length);
    if (s.to - s.from < 1e-3) {
        s.from = fmin(s.from, length - 1e-3);
        s.to = s.from + 1e-3;
    }
    return s;
}

/* What the picture has around the crop fills the room around the window; beyond the picture its surroundings are made
 * up. */
static sk_status place(const sk_image *image, const crop *c, const window *w, int mirror, int size, uint8_t *out,
                       sk_error *err)
{
    const int left = mirror ? image->width - c->x - c->width : c->x;
    const span x = cover(w->x, w->side, size, left, c->width, image->width);
    const span y = cover(w->y, w->side, size, c->y, c->height, image->height);
    sk_box box = {(float)x.from, (float)y.from, (float)x.to, (float)y.to};
    if (mirror) {
        box.x0 = (float)(image->width - x.to);
        box.x1 = (float)(image->width - x.from);
    }
    const int wide = x.high - x.low, high = y.high - y.low;
    uint8_t *piece = sk_alloc((size_t)wide * (size_t)high, 3);
    if (!piece)
        return sk_fail_memory(err, "placing a picture");
    sk_status status = sk_resize_view(image->data, (size_t)image->width * 3, image->width, image->height, &box, mirror,
                                      wide, high, piece, err);
    for (int i = 0; status == SK_OK && i < high; i++)
        memcpy(out + ((size_t)(y.low + i) * (size_t)size + (size_t)x.low) * 3, piece + (size_t)i * (size_t)wide * 3,
               (size_t)wide * 3);
    sk_free(piece);
    return status == SK_OK ? sk_surround(out, size, x.low, y.low, x.high, y.high, err) : status;
}

static sk_status check(const sk_image *image, int size, sk_error *err)
{
    if (!image->data || image->width < 1 || image->height < 1)
        return sk_fail(err, SK_ERR_ARGUMENT, "cannot transform an empty picture");
    if (size < 1 || size > 4096)
        return sk_fail(err, SK_ERR_ARGUMENT, "input size %d is outside 1 to 4096", size);
    return SK_OK;
}

sk_status sk_transform_place(const sk_image *image, const sk_augment *augment, sk_rng *rng, int size, uint8_t *out,
                             sk_error *err)
{
    sk_status status = check(image, size, err);
    if (status != SK_OK)
        return status;
    const crop c = random_crop(image->width, image->height, augment, rng);
    const int mirror = sk_rng_uniform(rng) < (double)augment->flip;
    const window w = draw_window(augment, size, rng);
    if (w.moved)
        return place(image, &c, &w, mirror, size, out, err);
    const size_t stride = (size_t)image->width * 3;
    return sk_resize_view(image->data + (size_t)c.y * stride + (size_t)c.x * 3, stride, c.width, c.height, NULL, mirror,
                          size, size, out, err);
}

sk_status sk_transform_train(const sk_image *image, const sk_augment *augment, sk_rng *rng, int size, uint8_t *out,
                             sk_error *err)
{
    const sk_status status = sk_transform_place(image, augment, rng, size, out, err);
    return status == SK_OK ? sk_transform_camera(augment, rng, size, out, err) : status;
}

/* Python rounds halves to the even neighbour, and torchvision's CenterCrop relies on it. */
static int half_to_even(int extent)
{
    const int down = extent / 2;
    return extent % 2 && down % 2 ? down + 1 : down;
}

sk_status sk_transform_eval(const sk_image *image, int size, uint8_t *out, sk_error *err)
{
    sk_status status = check(image, size, err);
    if (status != SK_OK)
        return status;
    const int side = size > 256 ? size : 256;
    const int shorter = image->width < image->height ? image->width : image->height;
    sk_image resized = {0};
    if (shorter != side) {
        status = sk_image_resize_shorter(image, side, &resized, err);
        if (status != SK_OK)
            return status;
        image = &resized;
    }
    const size_t row = (size_t)size * 3;
    const int x = half_to_even(image->width - size), y = half_to_even(image->height - size);
    for (int i = 0; i < size; i++)
        memcpy(out + (size_t)i * row, image->data + ((size_t)(y + i) * (size_t)image->width + (size_t)x) * 3, row);
    sk_image_free(&resized);
    return SK_OK;
}
