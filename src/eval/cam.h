/* SPDX-License-Identifier: Apache-2.0 */
/* Class activation map of a float model; saliency.c holds the rest. */
#ifndef SK_CAM_H
#define SK_CAM_H

#include "siskin/dataset.h"
#include "siskin/model.h"

typedef struct sk_cam sk_cam;
/* Copies the classifier's two linear layers; the model outlives the handle and keeps its weights meanwhile. */
sk_status sk_cam_create(sk_model *model, sk_cam **out, sk_error *err);
void sk_cam_free(sk_cam *cam);
/* map: size x size as sk_saliency_map. */
sk_status sk_cam_map(sk_cam *cam, const uint8_t *image, sk_label label, float *map, sk_error *err);
/* gradient[features] of logit[label] less logit[other] at the pooled features. */
void sk_cam_gradient(sk_cam *cam, const float *features, sk_label label, float *gradient);

#endif
