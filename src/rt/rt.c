/* SPDX-License-Identifier: Apache-2.0 */
/* The int8 executor: everything is planned in the file and proven at open, so running is a walk over the layer
 * table. */
#include "siskin/rt.h"

#include <math.h>
#include <string.h>

#include "rt/check.h"

struct sk_rt {
    sk_map map; /* empty if the bytes are the caller's */
    const uint8_t *bytes;
    const sk_skn_header *header;
    const sk_skn_layer *layers;
    const sk_int8_kernels *kernels;
    sk_q_layer *plan;
    int8_t *arena;
    void *scratch;
    void *packed;
    size_t memory;
    sk_rt_info info;
};

static void fill_info(sk_rt *rt) {
    const sk_skn_header *h = rt->header;
    const sk_skn_layer *last = rt->layers + h->layer_count - 1;
    sk_rt_info *info = &rt->info;
    memcpy(info->arch, h->arch, sizeof info->arch);
    memcpy(info->class_names, h->class_names, sizeof info->class_names);
    memcpy(info->run_id, h->run_id, sizeof info->run_id);
    info->size = h->size;
    info->classes = h->classes;
    info->features = h->features;
    info->crops = h->crops;
    memcpy(info->mean, h->mean, sizeof info->mean);
    memcpy(info->std, h->std, sizeof info->std);
    info->threshold = h->threshold;
    info->penalty = h->penalty;
    info->temperature = h->temperature;
    info->logit_scale = last->out_scale;
    info->logit_zero_point = last->out_zero;
}

static size_t aligned(size_t bytes) {
    return (bytes + 63) / 64 * 64;
}

static sk_status plan(sk_rt *rt, sk_error *err) {
    const size_t count = rt->header->layer_count;
    size_t scratch = 64, packed = 0;
    rt->plan = sk_calloc(count, sizeof *rt->plan);
    if (!rt->plan) {
        return sk_fail_memory(err, "the layers");
    }
    for (size_t i = 0; i < count; i++) {
        rt->plan[i] = sk_skn_kernel_layer(rt->bytes, (int32_t)i);
        const size_t need = sk_int8_scratch_bytes(rt->kernels, &rt->plan[i]);
        scratch = need > scratch ? need : scratch;
        packed += aligned(sk_int8_packed_bytes(rt->kernels, &rt->plan[i]));
    }
    rt->arena = sk_calloc(rt->header->arena_bytes, 1);
    rt->scratch = sk_calloc(scratch, 1);
    rt->packed = packed ? sk_alloc(packed, 1) : NULL;
    if (!rt->arena || !rt->scratch || (packed && !rt->packed)) {
        return sk_fail_memory(err, "the activations");
    }
    char *at = rt->packed;
    for (size_t i = 0; i < count; i++) {
        const size_t bytes = sk_int8_packed_bytes(rt->kernels, &rt->plan[i]);
        if (bytes) {
            rt->kernels->pack(&rt->plan[i], at);
            rt->plan[i].packed = at;
            at += aligned(bytes);
        }
    }
    rt->memory = sizeof *rt + count * sizeof *rt->plan + rt->header->arena_bytes + scratch + packed;
    return SK_OK;
}

static sk_status open_with(sk_rt *rt, sk_error *err) {
    const sk_status status = sk_skn_check(rt->bytes, rt->map.bytes ? rt->map.size : rt->memory, err);
    if (status != SK_OK) {
        return status;
    }
    rt->header = (const sk_skn_header *)(const void *)rt->bytes;
    rt->layers = (const sk_skn_layer *)(const void *)(rt->bytes + rt->header->layer_offset);
    rt->kernels = sk_int8_choose();
    fill_info(rt);
    return plan(rt, err);
}

sk_status sk_rt_open_memory(const void *bytes, size_t size, sk_rt **out, sk_error *err) {
    *out = NULL;
    sk_rt *rt = sk_calloc(1, sizeof *rt);
    if (!rt) {
        return sk_fail_memory(err, "the model");
    }
    rt->bytes = bytes;
    rt->memory = size;
    const sk_status status = open_with(rt, err);
    if (status != SK_OK) {
        sk_rt_close(rt);
        return status;
    }
    *out = rt;
    return SK_OK;
}

sk_status sk_rt_open(const char *path, sk_rt **out, sk_error *err) {
    *out = NULL;
    sk_rt *rt = sk_calloc(1, sizeof *rt);
    if (!rt) {
        return sk_fail_memory(err, "the model");
    }
    sk_status status = sk_file_map(path, &rt->map, err);
    if (status == SK_OK) {
        rt->bytes = rt->map.bytes;
        status = open_with(rt, err);
        if (status != SK_OK) {
            status = sk_error_prefix(err, status, "cannot read %s", path);
        }
    }
    if (status != SK_OK) {
        sk_rt_close(rt);
        return status;
    }
    *out = rt;
    return SK_OK;
}

void sk_rt_close(sk_rt *rt) {
    if (!rt) {
        return;
    }
    sk_free(rt->plan);
    sk_free(rt->arena);
    sk_free(rt->scratch);
    sk_free(rt->packed);
    if (rt->map.bytes) {
        sk_file_unmap(&rt->map);
    }
    sk_free(rt);
}

const sk_rt_info *sk_rt_get_info(const sk_rt *rt) {
    return &rt->info;
}

size_t sk_rt_memory(const sk_rt *rt) {
    return rt->memory;
}

static int8_t *tensor(const sk_rt *rt, int32_t index) {
    return rt->arena + (index < 0 ? rt->header->input_offset : rt->layers[index].arena_offset);
}

void sk_rt_run_tapped(sk_rt *rt, const uint8_t *image, int8_t *logits, sk_rt_tap tap, void *user) {
    const sk_skn_header *h = rt->header;
    const int8_t *lut = (const int8_t *)rt->bytes + h->lut_offset;
    int8_t *input = tensor(rt, -1);
    const size_t pixels = (size_t)h->size * (size_t)h->size;
    rt->kernels->input(lut, image, pixels, input);
    for (uint32_t i = 0; i < h->layer_count; i++) {
        const sk_q_layer *l = &rt->plan[i];
        const int8_t *in = tensor(rt, rt->layers[i].input);
        int8_t *out = tensor(rt, (int32_t)i);
        sk_int8_run(rt->kernels, l, in, tensor(rt, rt->layers[i].input2), out, rt->scratch);
        if (tap) {
            tap(user, (int)i, out, l->int16_out ? 16 : 8, rt->layers[i].out_scale, rt->layers[i].out_zero);
        }
    }
    memcpy(logits, tensor(rt, (int32_t)h->layer_count - 1), (size_t)h->classes);
}

void sk_rt_run(sk_rt *rt, const uint8_t *image, int8_t *logits, int8_t *features) {
    const sk_skn_header *h = rt->header;
    sk_rt_run_tapped(rt, image, logits, NULL, NULL);
    if (features) {
        memcpy(features, tensor(rt, h->feature_layer), (size_t)h->features);
    }
}

/* p: logits less the largest of them; becomes their softmax at the card's temperature. */
static void softmax(const sk_rt *rt, float *p) {
    float sum = 0;
    for (int i = 0; i < rt->info.classes; i++) {
        p[i] = expf(p[i] / rt->info.temperature);
        sum += p[i];
    }
    for (int i = 0; i < rt->info.classes; i++) {
        p[i] /= sum;
    }
}

void sk_rt_probabilities(const sk_rt *rt, const int8_t *logits, float *probabilities) {
    int most = logits[0];
    for (int i = 1; i < rt->info.classes; i++) {
        most = logits[i] > most ? logits[i] : most;
    }
    for (int i = 0; i < rt->info.classes; i++) {
        probabilities[i] = (float)(logits[i] - most) * rt->info.logit_scale;
    }
    softmax(rt, probabilities);
}

void sk_rt_logits(const sk_rt *rt, const int8_t *codes, float *logits) {
    for (int i = 0; i < rt->info.classes; i++) {
        logits[i] = (float)(codes[i] - rt->info.logit_zero_point) * rt->info.logit_scale;
    }
}

void sk_rt_softmax(const sk_rt *rt, const float *logits, float *probabilities) {
    float most = logits[0];
    for (int i = 1; i < rt->info.classes; i++) {
        most = logits[i] > most ? logits[i] : most;
    }
    for (int i = 0; i < rt->info.classes; i++) {
        probabilities[i] = logits[i] - most;
    }
    softmax(rt, probabilities);
}

float sk_rt_feature_value(const sk_rt *rt, int8_t code) {
    const sk_skn_layer *l = rt->layers + rt->header->feature_layer;
    return (float)(code - l->out_zero) * l->out_scale;
}
