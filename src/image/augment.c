/* SPDX-License-Identifier: Apache-2.0 */
/* The transforms of training and evaluation, number for number as torchvision draws and rounds them (the draws
 * themselves come from our generator), so that a model trained here and one trained there see the same world. */
#include "image/augment.h"

#include <math.h>
#include <string.h>

#include "image/codec.h"

#define TRIES 10

sk_augment sk_augment_seed(void)
{
    return (sk_augment){.scale_min = 0.08f, .scale_max = 1, .flip = 0.5f};
}

typedef struct crop {
    int x, y, width, height;
} crop;

static double draw_between(sk_rng *rng, double low, double high)
{
    return low + (high - low) * sk_rng_uniform(rng);
}

static crop random_crop(int width, int height, sk_rng *rng)
{
    const double area = (double)width * height, least = 3.0 / 4.0, most = 4.0 / 3.0;
    for (int i = 0; i < TRIES; i++) {
        const double target = area * draw_between(rng, 0.08, 1.0);
        const double ratio = exp(draw_between(rng, log(least), log(most)));
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

static void flip_rows(uint8_t *pixels, int size)
{
    for (int y = 0; y < size; y++) {
        uint8_t *left = pixels + (size_t)y * (size_t)size * 3, *right = left + ((size_t)size - 1) * 3;
        for (; left < right; left += 3, right -= 3) {
            for (int c = 0; c < 3; c++) {
                const uint8_t kept = left[c];
                left[c] = right[c];
                right[c] = kept;
            }
        }
    }
}

static sk_status check(const sk_image *image, int size, sk_error *err)
{
    if (!image->data || image->width < 1 || image->height < 1)
        return sk_fail(err, SK_ERR_ARGUMENT, "cannot transform an empty picture");
    if (size < 1 || size > 4096)
        return sk_fail(err, SK_ERR_ARGUMENT, "input size %d is outside 1 to 4096", size);
    return SK_OK;
}

sk_status sk_transform_train(const sk_image *image, sk_rng *rng, int size, uint8_t *out, sk_error *err)
{
    sk_status status = check(image, size, err);
    if (status != SK_OK)
        return status;
    const crop c = random_crop(image->width, image->height, rng);
    const int flip = sk_rng_uniform(rng) < 0.5;
    const size_t stride = (size_t)image->width * 3;
    status = sk_resize_view(image->data + (size_t)c.y * stride + (size_t)c.x * 3, stride, c.width, c.height, NULL, size,
                            size, out, err);
    if (status == SK_OK && flip)
        flip_rows(out, size);
    return status;
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
