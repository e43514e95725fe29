/* SPDX-License-Identifier: Apache-2.0 */
/* Class activation map. The classifier on top of the pooled features is linear, hard-swish, linear, so the gradient of
 * the margin with respect to a channel has a closed form, and weighting the map before pooling by it (Grad-CAM) needs
 * neither a backward pass nor anything but the weights. */
#include <math.h>
#include <string.h>

#include "base/base.h"
#include "eval/cam.h"

struct sk_cam {
    sk_model *model;
    size_t head;                /* layer that is pooled */
    int side, features, hidden; /* cells of the map per side */
    float *first, *first_bias;  /* [hidden][features], [hidden] */
    float *second;              /* [2][hidden] */
    float *cells, *pooled;      /* [side * side][features], [features] */
    float *slope, *gradient;    /* [hidden], [features] */
    float *coarse;              /* [side][side] */
};

static sk_status take_weights(sk_cam *cam, sk_error *err) {
    const size_t count = sk_model_layer_count(cam->model);
    sk_status status = sk_model_folded(cam->model, count - 2, cam->first, cam->first_bias, err);
    return status ? status : sk_model_folded(cam->model, count - 1, cam->second, NULL, err);
}

sk_status sk_cam_create(sk_model *model, sk_cam **out, sk_error *err) {
    const size_t count = sk_model_layer_count(model);
    const sk_layer *pool = sk_model_layer(model, count - 3), *hidden = sk_model_layer(model, count - 2);
    sk_cam *cam = sk_calloc(1, sizeof *cam);
    *out = NULL;
    if (!cam) return sk_fail_memory(err, "the class activation map");
    cam->model = model;
    cam->head = (size_t)pool->input;
    cam->side = pool->in_h;
    cam->features = pool->out_c;
    cam->hidden = hidden->out_c;
    const size_t f = (size_t)cam->features, h = (size_t)cam->hidden, cells = (size_t)cam->side * (size_t)cam->side;
    cam->first = sk_alloc(h * f, sizeof(float));
    cam->first_bias = sk_alloc(h, sizeof(float));
    cam->second = sk_alloc(SK_CLASS_COUNT * h, sizeof(float));
    cam->cells = sk_alloc(cells * f, sizeof(float));
    cam->pooled = sk_alloc(f, sizeof(float));
    cam->slope = sk_alloc(h, sizeof(float));
    cam->gradient = sk_alloc(f, sizeof(float));
    cam->coarse = sk_alloc(cells, sizeof(float));
    const int whole = cam->first && cam->first_bias && cam->second && cam->cells && cam->pooled && cam->slope &&
                      cam->gradient && cam->coarse;
    const sk_status status = whole ? take_weights(cam, err) : sk_fail_memory(err, "the class activation map");
    if (status) sk_cam_free(cam);
    else *out = cam;
    return status;
}

void sk_cam_free(sk_cam *cam) {
    if (!cam) return;
    sk_free(cam->first);
    sk_free(cam->first_bias);
    sk_free(cam->second);
    sk_free(cam->cells);
    sk_free(cam->pooled);
    sk_free(cam->slope);
    sk_free(cam->gradient);
    sk_free(cam->coarse);
    sk_free(cam);
}

/* Derivative of x * min(max(x + 3, 0), 6) / 6. */
static double hard_swish_slope(double x) { return x <= -3 ? 0 : x >= 3 ? 1 : (2 * x + 3) / 6; }

void sk_cam_gradient(sk_cam *cam, const float *features, sk_label label, float *gradient) {
    const size_t f = (size_t)cam->features, h = (size_t)cam->hidden;
    const float *for_it = cam->second + (size_t)label * h, *other = cam->second + (size_t)(1 - label) * h;
    for (size_t j = 0; j < h; j++) {
        double sum = cam->first_bias[j];
        for (size_t c = 0; c < f; c++) sum += (double)cam->first[j * f + c] * (double)features[c];
        cam->slope[j] = (float)(((double)for_it[j] - (double)other[j]) * hard_swish_slope(sum));
    }
    memset(gradient, 0, f * sizeof *gradient);
    for (size_t j = 0; j < h; j++)
        for (size_t c = 0; c < f; c++) gradient[c] += cam->slope[j] * cam->first[j * f + c];
}

static void keep_cells(void *user, size_t layer, const float *data, int n, int h, int w, int c) {
    const sk_cam *cam = user;
    if (layer == cam->head) memcpy(cam->cells, data, sizeof(float) * (size_t)n * (size_t)(h * w) * (size_t)c);
}

/* Bilinear between the cells' centres, the outermost cells reaching to the edge. */
static void enlarge(const float *coarse, int side, int size, float *map) {
    for (int y = 0; y < size; y++) {
        const double v = fmin(fmax((y + .5) * side / size - .5, 0), side - 1.), fy = v - floor(v);
        const int y0 = (int)v, y1 = y0 + (y0 + 1 < side);
        for (int x = 0; x < size; x++) {
            const double u = fmin(fmax((x + .5) * side / size - .5, 0), side - 1.), fx = u - floor(u);
            const int x0 = (int)u, x1 = x0 + (x0 + 1 < side);
            const double top = (double)coarse[y0 * side + x0] * (1 - fx) + (double)coarse[y0 * side + x1] * fx;
            const double low = (double)coarse[y1 * side + x0] * (1 - fx) + (double)coarse[y1 * side + x1] * fx;
            map[y * size + x] = (float)(top * (1 - fy) + low * fy);
        }
    }
}

sk_status sk_cam_map(sk_cam *cam, const uint8_t *image, sk_label label, float *map, sk_error *err) {
    const size_t f = (size_t)cam->features;
    float logits[SK_CLASS_COUNT];
    const sk_status status = sk_model_forward(cam->model, image, 1, 1, logits, cam->pooled, keep_cells, cam, err);
    if (status) return status;
    sk_cam_gradient(cam, cam->pooled, label, cam->gradient);
    for (int k = 0; k < cam->side * cam->side; k++) {
        double sum = 0;
        for (size_t c = 0; c < f; c++) sum += (double)cam->gradient[c] * (double)cam->cells[(size_t)k * f + c];
        cam->coarse[k] = (float)fmax(sum, 0);
    }
    enlarge(cam->coarse, cam->side, sk_model_card(cam->model)->size, map);
    return SK_OK;
}
