/* SPDX-License-Identifier: Apache-2.0 */
/* Perceptual hash. Only the 8x8 lowest frequencies of a 32x32 DCT are wanted, so two small matrix products do. */
#include "image/phash.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "image/codec.h"

#define SIDE 32
#define LOW 8

static int compare_floats(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

sk_status sk_phash(const sk_image *image, uint64_t *out)
{
    uint8_t small[SIDE * SIDE * 3];
    const sk_status status = sk_image_resize(image, NULL, SIDE, SIDE, small, NULL);
    if (status != SK_OK)
        return status;
    float basis[LOW][SIDE], rows[SIDE][LOW], low[LOW * LOW], sorted[LOW * LOW];
    for (int k = 0; k < LOW; k++)
        for (int x = 0; x < SIDE; x++)
            basis[k][x] = (float)cos(k * (2 * x + 1) * 3.14159265358979323846 / (2 * SIDE));
    for (int y = 0; y < SIDE; y++) {
        for (int k = 0; k < LOW; k++) {
            float sum = 0;
            for (int x = 0; x < SIDE; x++) {
                const uint8_t *p = small + (y * SIDE + x) * 3;
                sum += basis[k][x] * (float)(299 * p[0] + 587 * p[1] + 114 * p[2]);
            }
            rows[y][k] = sum;
        }
    }
    for (int v = 0; v < LOW; v++) {
        for (int u = 0; u < LOW; u++) {
            float sum = 0;
            for (int y = 0; y < SIDE; y++)
                sum += basis[v][y] * rows[y][u];
            low[v * LOW + u] = sum;
        }
    }
    /* The mean brightness, first of all, says nothing about the picture. */
    memcpy(sorted, low + 1, sizeof low - sizeof *low);
    qsort(sorted, LOW * LOW - 1, sizeof *sorted, compare_floats);
    const float median = sorted[(LOW * LOW - 1) / 2];
    uint64_t hash = 0;
    for (int i = 1; i < LOW * LOW; i++)
        hash |= (uint64_t)(low[i] > median) << i;
    *out = hash;
    return SK_OK;
}

int sk_phash_distance(uint64_t a, uint64_t b)
{
    return __builtin_popcountll(a ^ b);
}
