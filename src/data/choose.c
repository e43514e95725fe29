/* SPDX-License-Identifier: Apache-2.0 */
/* Thumbnails and the choice of frames. Neighbouring frames of a clip show nearly the same picture and teach nothing
 * new, so frames are chosen one after the other, each the farthest from those chosen before, where distance is half
 * how unlike the thumbnails are and half how far apart in time. */
#include <math.h>
#include <stdlib.h>

#include "data/data.h"
#include "image/phash.h"

/* Thumbnails that differ by this much count as wholly unlike: beyond it only time decides. */
#define UNLIKE 24.0
/* Below this the difference is sensor noise and compression, not another picture. */
#define SAME 2.0

sk_status sk_thumb_make(const sk_image *image, sk_thumb *out, uint64_t *hash, sk_error *err)
{
    uint8_t rgb[SK_THUMB * SK_THUMB * 3];
    sk_status status = sk_image_resize(image, NULL, SK_THUMB, SK_THUMB, rgb, err);
    if (status != SK_OK)
        return status;
    for (int i = 0; i < SK_THUMB * SK_THUMB; i++)
        out->grey[i] = (uint8_t)((299 * rgb[i * 3] + 587 * rgb[i * 3 + 1] + 114 * rgb[i * 3 + 2] + 500) / 1000);
    const sk_image small = {SK_THUMB, SK_THUMB, rgb};
    return hash ? sk_phash(&small, hash) : SK_OK;
}

double sk_thumb_difference(const sk_thumb *a, const sk_thumb *b)
{
    int sum = 0;
    for (int i = 0; i < SK_THUMB * SK_THUMB; i++)
        sum += abs(a->grey[i] - b->grey[i]);
    return (double)sum / (SK_THUMB * SK_THUMB);
}

/* Distance of `c` to the nearest chosen one, -1 if too near in time; *look: least thumbnail difference. */
static double distance(const sk_candidate *candidates, size_t count, const sk_candidate *c, double gap_s, double span,
                       double *look)
{
    double least = INFINITY;
    *look = INFINITY;
    for (size_t i = 0; i < count; i++) {
        if (!candidates[i].chosen)
            continue;
        const double apart = fabs(candidates[i].time_s - c->time_s);
        if (apart < gap_s - 1e-9)
            return -1;
        const double unlike = sk_thumb_difference(&candidates[i].thumb, &c->thumb);
        const double far = fmin(unlike / UNLIKE, 1) + (span > 0 ? fmin(apart / span, 1) : 0);
        least = fmin(least, far);
        *look = fmin(*look, unlike);
    }
    return least;
}

size_t sk_choose(sk_candidate *candidates, size_t count, size_t most, double gap_s)
{
    for (size_t i = 0; i < count; i++)
        candidates[i].chosen = 0;
    if (!count || !most)
        return 0;
    /* Evenly spread choices would be this far apart: being farther is no further merit. */
    const double span = (candidates[count - 1].time_s - candidates[0].time_s) / (double)most;
    candidates[count / 2].chosen = 1;
    size_t chosen = 1;
    while (chosen < most) {
        sk_candidate *best = NULL;
        double best_far = -1, best_look = 0;
        for (size_t i = 0; i < count; i++) {
            double look = 0;
            const double far =
                candidates[i].chosen ? -1 : distance(candidates, count, &candidates[i], gap_s, span, &look);
            if (far > best_far) {
                best = &candidates[i];
                best_far = far;
                best_look = look;
            }
        }
        if (!best || (chosen + 1 == most && best_look < SAME))
            break;
        best->chosen = 1;
        chosen++;
    }
    return chosen;
}
