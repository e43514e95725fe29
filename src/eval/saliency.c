/* SPDX-License-Identifier: Apache-2.0 */
/* What the model looked at. Occlusion: the picture is blurred away in one place after the other; the fall of the margin
 * stands at the place's middle and is interpolated between them. A blur and not a grey patch, and with soft edges,
 * since a rectangle in a picture is itself something that a model has an opinion of. */
#include <math.h>
#include <string.h>

#include "base/base.h"
#include "eval/cam.h"
#include "image/effects.h"
#include "siskin/eval.h"

enum { STEPS = 8, PLACES = (STEPS + 1) * (STEPS + 1), BATCH = 27, BLUR_SIDE = 8 };

struct sk_saliency {
    sk_classifier *classifier;
    sk_saliency_method method;
    int size, threads;
    sk_cam *cam;
    uint8_t *blurred, *batch; /* one picture, BATCH pictures */
    float *reach;             /* [STEPS + 1][size]: how much of a column each place covers */
    float *nearness;          /* [STEPS + 1][size]: what each place counts there, sums to 1 over places */
    float logits[(PLACES + 1) * SK_CLASS_COUNT], p[BATCH * SK_CLASS_COUNT];
};

static const char *const names[] = {"auto", "cam", "occlusion"};

sk_status sk_saliency_method_parse(const char *text, sk_saliency_method *out, sk_error *err) {
    for (int i = 0; i < 3; i++) {
        if (!text || strcmp(text, names[i])) continue;
        *out = (sk_saliency_method)i;
        return SK_OK;
    }
    return sk_fail(err, SK_ERR_ARGUMENT, "unknown saliency method '%s': use auto, cam or occlusion", text ? text : "");
}

const char *sk_saliency_method_name(sk_saliency_method method) { return names[method]; }

/* Covered in full within three quarters of half the patch, not at all from five quarters on. */
static void set_places(sk_saliency *s) {
    const double half = s->size / 8.;
    for (int k = 0; k <= STEPS; k++)
        for (int x = 0; x < s->size; x++) {
            const double away = fabs(x + .5 - (double)k * s->size / STEPS);
            s->reach[k * s->size + x] = (float)fmin(fmax((1.25 * half - away) / (.5 * half), 0), 1);
            s->nearness[k * s->size + x] = (float)fmax(1 - away * STEPS / s->size, 0);
        }
}

sk_status sk_saliency_create(sk_classifier *classifier, sk_saliency_method method, int threads, sk_saliency **out,
                             sk_error *err) {
    const sk_card *card = sk_classifier_card(classifier);
    sk_model *model = sk_classifier_model(classifier);
    *out = NULL;
    if (method == SK_SALIENCY_AUTO) method = model ? SK_SALIENCY_CAM : SK_SALIENCY_OCCLUSION;
    if (card->classes != SK_CLASS_COUNT)
        return sk_fail(err, SK_ERR_MISMATCH, "saliency needs a model of %d classes, this one has %d", SK_CLASS_COUNT,
                       card->classes);
    if (method == SK_SALIENCY_CAM && !model)
        return sk_fail(err, SK_ERR_MISMATCH, "an int8 model has no class activation map: use occlusion");
    sk_saliency *s = sk_calloc(1, sizeof *s);
    if (!s) return sk_fail_memory(err, "saliency");
    const size_t side = (size_t)card->size, bytes = side * side * 3;
    s->classifier = classifier;
    s->method = method;
    s->size = card->size;
    s->threads = threads;
    sk_status status = SK_OK;
    if (method == SK_SALIENCY_CAM) {
        status = sk_cam_create(model, &s->cam, err);
    } else {
        s->blurred = sk_alloc(bytes, 1);
        s->batch = sk_alloc(BATCH, bytes);
        s->reach = sk_alloc((STEPS + 1) * side, sizeof *s->reach);
        s->nearness = sk_alloc((STEPS + 1) * side, sizeof *s->nearness);
        if (s->blurred && s->batch && s->reach && s->nearness) set_places(s);
        else status = sk_fail_memory(err, "saliency");
    }
    if (status) sk_saliency_free(s);
    else *out = s;
    return status;
}

void sk_saliency_free(sk_saliency *s) {
    if (!s) return;
    sk_cam_free(s->cam);
    sk_free(s->blurred);
    sk_free(s->batch);
    sk_free(s->reach);
    sk_free(s->nearness);
    sk_free(s);
}

sk_saliency_method sk_saliency_method_of(const sk_saliency *saliency) { return saliency->method; }

/* Place PLACES is nowhere: the picture itself. */
static void occlude(const sk_saliency *s, const uint8_t *image, int place, uint8_t *out) {
    const int size = s->size;
    memcpy(out, image, (size_t)size * (size_t)size * 3);
    if (place == PLACES) return;
    const float *down = s->reach + (place / (STEPS + 1)) * size, *across = s->reach + (place % (STEPS + 1)) * size;
    for (int y = 0; y < size; y++)
        for (int x = 0; x < size && down[y] > 0; x++) {
            const float w = down[y] * across[x];
            const size_t at = ((size_t)y * (size_t)size + (size_t)x) * 3;
            for (size_t c = at; c < at + 3 && w > 0; c++)
                out[c] = (uint8_t)((float)image[c] + w * ((float)s->blurred[c] - (float)image[c]) + .5f);
        }
}

static sk_status run_places(sk_saliency *s, const uint8_t *image, sk_error *err) {
    const size_t bytes = (size_t)s->size * (size_t)s->size * 3;
    for (int first = 0; first <= PLACES; first += BATCH) {
        const int n = PLACES + 1 - first < BATCH ? PLACES + 1 - first : BATCH;
        for (int i = 0; i < n; i++) occlude(s, image, first + i, s->batch + bytes * (size_t)i);
        const sk_status status = sk_classifier_run_logits(s->classifier, s->batch, n, s->threads, s->p,
                                                          s->logits + first * SK_CLASS_COUNT, NULL, err);
        if (status) return status;
    }
    return SK_OK;
}

static double margin(const sk_saliency *s, int place, sk_label label) {
    const float *logits = s->logits + place * SK_CLASS_COUNT;
    return (double)logits[label] - (double)logits[1 - label];
}

static sk_status occlusion_map(sk_saliency *s, const uint8_t *image, sk_label label, float *map, sk_error *err) {
    const int size = s->size;
    sk_status status = sk_blur_coarse(image, s->size, BLUR_SIDE, s->blurred, err);
    if (!status) status = run_places(s, image, err);
    if (status) return status;
    double fall[PLACES];
    for (int place = 0; place < PLACES; place++) fall[place] = margin(s, PLACES, label) - margin(s, place, label);
    for (int y = 0; y < size; y++)
        for (int x = 0; x < size; x++) {
            double sum = 0;
            for (int place = 0; place < PLACES; place++)
                sum += fall[place] * (double)s->nearness[(place / (STEPS + 1)) * size + y] *
                       (double)s->nearness[(place % (STEPS + 1)) * size + x];
            map[y * size + x] = (float)fmax(sum, 0);
        }
    return SK_OK;
}

sk_status sk_saliency_map(sk_saliency *s, const uint8_t *image, sk_label label, float *map, sk_error *err) {
    if (label != SK_LABEL_BIRD && label != SK_LABEL_NOBIRD)
        return sk_fail(err, SK_ERR_ARGUMENT, "saliency is for bird or no bird, not for label %d", (int)label);
    return s->cam ? sk_cam_map(s->cam, image, label, map, err) : occlusion_map(s, image, label, map, err);
}

/* Of pixels by their centres. */
double sk_saliency_border(const float *map, int size) {
    double outer = 0, all = 0;
    for (int y = 0; y < size; y++)
        for (int x = 0; x < size; x++) {
            const double u = (x + .5) / size, v = (y + .5) / size;
            const double edge = fmin(fmin(u, 1 - u), fmin(v, 1 - v));
            all += (double)map[y * size + x];
            outer += edge < SK_BORDER ? (double)map[y * size + x] : 0;
        }
    return all > 0 ? outer / all : NAN;
}
