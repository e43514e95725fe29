/* SPDX-License-Identifier: Apache-2.0 */
/* Board runtime: opens a .skn model and answers pictures in int8. Needs libc and libm only. */
#ifndef SISKIN_RT_H
#define SISKIN_RT_H

#include <stddef.h>
#include <stdint.h>

#include "siskin/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sk_rt sk_rt;

typedef struct sk_rt_info {
    char arch[32], class_names[128], run_id[64];
    int size, classes, features, crops;
    float mean[3], std[3];
    float threshold, penalty;
    float temperature; /* 1 if the file has none */
    float logit_scale;
    int logit_zero_point;
} sk_rt_info;

/* Maps and checks the whole file (magic, version, bounds, checksum) and allocates all that running needs:
 * nothing is allocated after this. Errors: IO, FORMAT, UNSUPPORTED, MEMORY. */
sk_status sk_rt_open(const char *path, sk_rt **out, sk_error *err);
/* The same from memory, which must outlive the handle; `bytes` aligned to 16. */
sk_status sk_rt_open_memory(const void *bytes, size_t size, sk_rt **out, sk_error *err);
void sk_rt_close(sk_rt *rt);
const sk_rt_info *sk_rt_get_info(const sk_rt *rt);
/* image: size x size x 3 RGB bytes. logits: `classes` int8 codes; features: `features` int8 codes or NULL.
 * real = (code - zero_point) * scale. */
void sk_rt_run(sk_rt *rt, const uint8_t *image, int8_t *logits, int8_t *features);
/* The same, with every layer's codes shown as they are made: `codes` int8 or, with `bits` 16, int16, in the layout of
 * the network (NHWC), valid during the call. In a file with equalised channels such a tensor has a unit per channel,
 * which `scale` leaves out. tap may be NULL. */
typedef void (*sk_rt_tap)(void *user, int layer, const void *codes, int bits, float scale, int zero_point);
void sk_rt_run_tapped(sk_rt *rt, const uint8_t *image, int8_t *logits, sk_rt_tap tap, void *user);
/* Softmax of dequantised logits divided by the temperature. */
void sk_rt_probabilities(const sk_rt *rt, const int8_t *logits, float *probabilities);
/* Real logits of their codes. */
void sk_rt_logits(const sk_rt *rt, const int8_t *codes, float *logits);
/* Probabilities of real logits that another engine computed for this network. */
void sk_rt_softmax(const sk_rt *rt, const float *logits, float *probabilities);
float sk_rt_feature_value(const sk_rt *rt, int8_t code);
/* Bytes of working memory that the handle holds. */
size_t sk_rt_memory(const sk_rt *rt);

#ifdef __cplusplus
}
#endif
#endif
