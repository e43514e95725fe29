/* SPDX-License-Identifier: Apache-2.0 */
/* One composite: ground, object, and what the camera makes of both. The effects are those of training, but every
 * strength here is the test's own, so that a recipe's options do not move what it is measured with. */
#include <math.h>
#include <string.h>

#include "base/base.h"
#include "data/compose.h"
#include "image/effects.h"

enum { SIDE = SK_CACHE_SIDE, STREAM_PLACE = 0xc0a, STREAM_CAMERA = 0xc0b, OPAQUE = 128 };

typedef struct kind {
    const char *name;
    sk_place_range range;
    float shade_min, shade_max;       /* the object against its surroundings: backlit */
    float exposure_min, exposure_max; /* of the whole picture, factor on its values */
    float electrons;                  /* at white, for the noise; 0: none */
    int night, blur;
} kind;

static const kind kinds[SK_COMPOSE_KINDS] = {
    {"small", {0.12f, 0.35f, 0, 0}, 0.85f, 1, 1, 1, 0, 0, 0},
    {"dark", {0.25f, 0.6f, 0, 0}, 0.3f, 0.6f, 0.4f, 0.75f, 400, 0, 0},
    {"cut", {0.45f, 0.9f, 0.3f, 0.6f}, 0.85f, 1, 1, 1, 0, 0, 0},
    {"night", {0.25f, 0.6f, 0, 0}, 0.9f, 1.1f, 1, 1, 150, 1, 0},
    {"blur", {0.25f, 0.6f, 0, 0}, 0.85f, 1, 1, 1, 2000, 0, 1},
};

const char *sk_compose_kind(int k)
{
    return k >= 0 && k < SK_COMPOSE_KINDS ? kinds[k].name : NULL;
}

/* ---- camera ------------------------------------------------------------------------------------- */
static sk_status out_of_focus_or_moving(const double u[6], uint8_t *pixels, sk_error *err)
{
    sk_blur shape;
    if (u[0] < 0.6)
        sk_blur_line(5 + 12 * u[2], 3.14159265358979 * u[1], &shape);
    else
        sk_blur_disc(1.5 + 3 * u[2], &shape);
    return sk_blur_apply(pixels, SIDE, &shape, err);
}

/* Grey, lit from beside the lens. */
static void at_night(const double u[6], uint8_t *pixels)
{
    const sk_lamp lamp = {.weight = {0.45, 0.45, 0.1}, .x = 0.25 + 0.5 * u[1], .y = 0.25 + 0.5 * u[2],
                          .reach = 0.5 + 0.5 * u[3], .gain = 0.35 + 0.65 * u[4]};
    sk_light_infrared(pixels, SIDE, &lamp);
}

static sk_status photograph(const kind *k, uint8_t *pixels, sk_rng rng, sk_error *err)
{
    double u[6];
    for (int i = 0; i < 6; i++)
        u[i] = sk_rng_uniform(&rng);
    sk_status status = k->blur ? out_of_focus_or_moving(u, pixels, err) : SK_OK;
    if (k->night)
        at_night(u, pixels);
    if (k->exposure_max < 1) {
        const double exposure = k->exposure_min + (double)(k->exposure_max - k->exposure_min) * u[4];
        sk_light_expose(pixels, SIDE * SIDE, 1, (const double[3]){exposure, exposure, exposure});
    }
    const sk_noise noise = {.electrons = (double)k->electrons * (0.5 + u[5]), .read = 0.003,
                            .colour = k->night ? 0 : 0.5};
    return status == SK_OK && k->electrons > 0 ? sk_noise_apply(pixels, SIDE, &noise, &rng, err) : status;
}

/* ---- ground and object -------------------------------------------------------------------------- */
/* A square of the whole height (or width), so that every crop rule sees the same; not mirrored, since a camera's
 * overlay would tell. */
static sk_status take_ground(const sk_image *ground, double u, sk_image *out, sk_error *err)
{
    const int side = ground->width < ground->height ? ground->width : ground->height;
    const float x = (float)(int)(u * (ground->width - side + 1)), y = (float)(int)(u * (ground->height - side + 1));
    const sk_box box = {x, y, x + (float)side, y + (float)side};
    const sk_status status = sk_image_create(SIDE, SIDE, out, err);
    return status == SK_OK ? sk_image_resize(ground, &box, SIDE, SIDE, out->data, err) : status;
}

/* What `alpha` shows of the object against all that its mask would show. */
static double visible_share(const uint8_t *alpha, const sk_mask *mask, const sk_place *place)
{
    double shown = 0, whole = 0;
    for (int i = 0; i < SIDE * SIDE; i++)
        shown += alpha[i];
    for (int i = 0; i < mask->width * mask->height; i++)
        whole += mask->alpha[i];
    whole *= (double)place->width * place->height / (mask->width * mask->height);
    return whole > 0 ? fmin(1, shown / whole) : 0;
}

static double contrast_to(const sk_image *image, const sk_image *bare, const uint8_t *alpha)
{
    double sum = 0;
    size_t n = 0;
    for (int i = 0; i < SIDE * SIDE; i++)
        for (int c = 0; c < 3 && alpha[i] >= OPAQUE; c++, n++)
            sum += fabs((double)image->data[i * 3 + c] - bare->data[i * 3 + c]);
    return n ? sum / (double)n : 0;
}

sk_status sk_composite_make(int which, const sk_image *patch, const sk_image *ground, uint64_t seed, uint64_t number,
                            sk_composite *out, sk_error *err)
{
    const kind *k = &kinds[which];
    sk_rng rng = sk_rng_make(seed, (uint64_t)STREAM_PLACE << 8 | (unsigned)which, number);
    const sk_rng camera = sk_rng_make(seed, (uint64_t)STREAM_CAMERA << 8 | (unsigned)which, number);
    sk_image bare = {0};
    sk_mask mask;
    *out = (sk_composite){.image = {0}};
    uint8_t *alpha = sk_alloc(SIDE * SIDE, 1);
    sk_status status = alpha ? take_ground(ground, sk_rng_uniform(&rng), &bare, err) : sk_fail_memory(err, "a mask");
    if (status == SK_OK)
        status = sk_image_create(SIDE, SIDE, &out->image, err);
    if (status == SK_OK)
        status = sk_mask_guess(patch, sk_rng_next(&rng), &mask, err);
    if (status == SK_OK) {
        memcpy(out->image.data, bare.data, SIDE * SIDE * 3);
        const float shade = (float)sk_rng_between(&rng, (double)k->shade_min, (double)k->shade_max);
        out->place = sk_place_draw(&mask, patch, SIDE, SIDE, &k->range, &rng);
        out->place.shade = shade;
        out->separated = mask.separated;
        status = sk_paste(&out->image, patch, &mask, &out->place, alpha, err);
    }
    if (status == SK_OK)
        status = photograph(k, out->image.data, camera, err);
    if (status == SK_OK)
        status = photograph(k, bare.data, camera, err);
    if (status == SK_OK) {
        out->visible = visible_share(alpha, &mask, &out->place);
        out->contrast = contrast_to(&out->image, &bare, alpha);
    } else {
        sk_image_free(&out->image);
    }
    sk_image_free(&bare);
    sk_free(alpha);
    return status;
}
