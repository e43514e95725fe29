/* SPDX-License-Identifier: Apache-2.0 */
/* Ground for a picture that does not fill the square: its own edge, stretched, and out of focus with the distance. */
#include <math.h>
#include <string.h>

#include "image/effects.h"

#define STRETCH 6 /* the ground reaches a sixth of the picture deep */

/* Where in the picture, `low` to `high`, a place beside it is taken from: a mirror image just outside the edge that is
 * stretched more and more, and so never comes to the picture's middle, where a second bird would be seen. */
static int stretched(int at, int low, int high)
{
    const int beyond = at < low ? low - 1 - at : at - high, most = high - low;
    const int depth = beyond * most / (most + STRETCH * beyond);
    return at < low ? low + depth : high - 1 - depth;
}

static void continue_edge(uint8_t *pixels, int size, int x0, int y0, int x1, int y1)
{
    const size_t row = (size_t)size * 3;
    for (int y = y0; y < y1; y++) {
        uint8_t *p = pixels + (size_t)y * row;
        for (int x = 0; x < size; x++)
            if (x < x0 || x >= x1)
                memcpy(p + x * 3, p + stretched(x, x0, x1) * 3, 3);
    }
    for (int y = 0; y < size; y++)
        if (y < y0 || y >= y1)
            memcpy(pixels + (size_t)y * row, pixels + (size_t)stretched(y, y0, y1) * row, row);
}

/* From the picture itself beside its edge to the first blur and on to the second; 8 bits of fraction. */
static void mix(uint8_t *p, const uint8_t *near, const uint8_t *far, double distance, double first, double second)
{
    const int a = (int)lrint(256 * fmin(distance / first, 1));
    const int b = (int)lrint(256 * fmin(fmax((distance - first) / (second - first), 0), 1));
    for (int c = 0; c < 3; c++) {
        const int one = p[c] + (((near[c] - p[c]) * a + 128) >> 8);
        p[c] = (uint8_t)(one + (((far[c] - one) * b + 128) >> 8));
    }
}

sk_status sk_surround(uint8_t *pixels, int size, int x0, int y0, int x1, int y1, sk_error *err)
{
    const size_t bytes = (size_t)size * (size_t)size * 3;
    if (x0 < 0 || y0 < 0 || x1 > size || y1 > size || x0 >= x1 || y0 >= y1)
        return sk_fail(err, SK_ERR_ARGUMENT, "the picture on its ground is empty or leaves the square of %d", size);
    if (x1 - x0 == size && y1 - y0 == size)
        return SK_OK;
    uint8_t *near = sk_alloc(bytes, 1), *far = sk_alloc(bytes, 1);
    sk_status status = near && far ? SK_OK : sk_fail_memory(err, "the ground of a picture");
    continue_edge(pixels, size, x0, y0, x1, y1);
    if (status == SK_OK)
        status = sk_blur_coarse(pixels, size, size > 12 ? size / 4 : 3, near, err);
    if (status == SK_OK)
        status = sk_blur_coarse(pixels, size, size > 48 ? size / 16 : 3, far, err);
    for (int y = 0; status == SK_OK && y < size; y++) {
        const int dy = y < y0 ? y0 - y : y >= y1 ? y - y1 + 1 : 0;
        for (int x = 0; x < size; x++) {
            const int dx = x < x0 ? x0 - x : x >= x1 ? x - x1 + 1 : 0;
            const size_t at = ((size_t)y * (size_t)size + (size_t)x) * 3;
            if (dx || dy)
                mix(pixels + at, near + at, far + at, sqrt(dx * dx + dy * dy), size / 28.0, size / 6.0);
        }
    }
    sk_free(near);
    sk_free(far);
    return status;
}
