/* SPDX-License-Identifier: Apache-2.0 */
/* Any model file as one thing that answers pictures, and the decision rule over crops. */
#ifndef SISKIN_CLASSIFIER_H
#define SISKIN_CLASSIFIER_H

#include "siskin/image.h"
#include "siskin/model.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sk_classifier sk_classifier;

/* A run folder, .safetensors, .pth, .onnx written by siskin (float), or .skn (int8). */
sk_status sk_classifier_open(const char *path, sk_classifier **out, sk_error *err);
/* A model that answers elsewhere, e.g. in a vendor's simulator, as a classifier like any other. */
typedef struct sk_backend {
    sk_card card;
    int features; /* pooled features per picture */
    /* images: n x size x size x 3 RGB bytes; logits: n x classes; features: n x `features` or NULL. */
    sk_status (*run)(void *user, const uint8_t *images, int n, float *logits, float *features, sk_error *err);
    void (*close)(void *user);
    void *user;
} sk_backend;
/* The backend is closed with the classifier, and at once if this fails. Errors: MEMORY. */
sk_status sk_classifier_wrap(const sk_backend *backend, sk_classifier **out, sk_error *err);
void sk_classifier_close(sk_classifier *classifier);
const sk_card *sk_classifier_card(const sk_classifier *classifier);
/* A backend counts as int8. */
int sk_classifier_is_int8(const sk_classifier *classifier);
int sk_classifier_feature_count(const sk_classifier *classifier);
/* The float network inside, which stays the classifier's; NULL if it is int8. */
sk_model *sk_classifier_model(sk_classifier *classifier);
/* images: n x size x size x 3 RGB bytes; probabilities: n x classes (softmax of the logits divided by the card's
 * temperature, 0..1); features: n x feature_count or NULL. threads 0: all. */
sk_status sk_classifier_run(sk_classifier *classifier, const uint8_t *images, int n, int threads, float *probabilities,
                            float *features, sk_error *err);
/* The same with the logits, n x classes or NULL, before the temperature; of int8 their real values. */
sk_status sk_classifier_run_logits(sk_classifier *classifier, const uint8_t *images, int n, int threads,
                                   float *probabilities, float *logits, float *features, sk_error *err);
/* Another temperature, SK_TEMPERATURE_LEAST to SK_TEMPERATURE_MOST, for this handle and what it writes. Errors:
 * ARGUMENT, MEMORY; the old one then stays. */
sk_status sk_classifier_set_temperature(sk_classifier *classifier, float temperature, sk_error *err);
/* The same with the card's threshold and penalty (sk_thresholds_check), which mean p at that temperature: all three or,
 * after an error, none. */
sk_status sk_classifier_set_thresholds(sk_classifier *classifier, float temperature, float threshold, float penalty,
                                       sk_error *err);
/* Writes the model with its card: a .skn as .skn, a float model as safetensors; aside and renamed, so that `path` may
 * be the file that was opened. UNSUPPORTED for a backend. */
sk_status sk_classifier_write(const sk_classifier *classifier, const char *path, sk_error *err);

/* ---- crops and the decision ------------------------------------------------------------------------------ */
typedef enum sk_crops { SK_CROPS_SQUEEZE = 0, SK_CROPS_ONE = 1, SK_CROPS_THREE = 3 } sk_crops;
sk_status sk_crops_parse(const char *text, sk_crops *out, sk_error *err); /* "1", "3", "squeeze" */
int sk_crops_count(sk_crops crops);                                       /* pictures per frame: 1 or 3 */
/* The one preprocessing: shorter side to 256, then full-height squares at the centre, left and right (upright
 * pictures: middle, top, bottom), or the whole frame squeezed, resized to size x size. Writes
 * sk_crops_count(crops) x size x size x 3 bytes. A picture whose shorter side is already 256 is not resized twice. */
sk_status sk_crops_prepare(const sk_image *image, sk_crops crops, int size, uint8_t *out, sk_error *err);

typedef struct sk_verdict {
    int bird;       /* decision */
    int crops;      /* number of valid p */
    float p[3];     /* probability of bird per crop: centre, left, right */
    int deciding;   /* crop that decided: the centre, or the first side crop that reached the penalty */
} sk_verdict;
/* ARGUMENT unless the threshold lies between 0 and 1 and the penalty above 0, to 1. */
sk_status sk_thresholds_check(float threshold, float penalty, sk_error *err);
/* p[0] >= threshold says bird; otherwise a side crop must reach `penalty`, which asks more of it than of the
 * centre where it is above the threshold. */
sk_verdict sk_decide(const float *p, int crops, float threshold, float penalty);

#ifdef __cplusplus
}
#endif
#endif
