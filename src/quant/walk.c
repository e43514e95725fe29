/* SPDX-License-Identifier: Apache-2.0 */
/* The int8 network one layer at a time over many pictures, with the kernels and the arena that the runtime uses, so
 * that what calibration sees of int8 is what the board computes. */
#include <string.h>

#include "quant/quant.h"
#include "rt/check.h"

struct sk_walk {
    const uint8_t *bytes;
    const sk_skn_header *header;
    const sk_skn_layer *layers;
    const sk_int8_kernels *kernels;
    int8_t *arenas;
    int count, threads;
    sk_q_layer now; /* the layer of a step */
    size_t index;
    void **scratch; /* per thread */
};

void sk_walk_set(sk_walk *w, const uint8_t *bytes) {
    w->bytes = bytes;
    w->header = (const sk_skn_header *)(const void *)bytes;
    w->layers = (const sk_skn_layer *)(const void *)(bytes + w->header->layer_offset);
}

int sk_walk_int16(const sk_walk *w, int layer) {
    return layer >= 0 && w->layers[layer].int16;
}

int8_t *sk_walk_tensor(const sk_walk *w, int layer, int picture) {
    const uint32_t offset = layer < 0 ? w->header->input_offset : w->layers[layer].arena_offset;
    return w->arenas + (size_t)w->header->arena_bytes * (size_t)picture + offset;
}

double sk_walk_scale(const sk_walk *w, int layer) {
    return (double)(layer < 0 ? w->header->input_scale : w->layers[layer].out_scale);
}

int sk_walk_zero(const sk_walk *w, int layer) {
    return layer < 0 ? w->header->input_zero : w->layers[layer].out_zero;
}

sk_status sk_walk_create(const uint8_t *bytes, const uint8_t *pictures, int count, int threads, sk_walk **out,
                         sk_error *err) {
    sk_walk *w = sk_calloc(1, sizeof *w);
    *out = NULL;
    if (!w) {
        return sk_fail_memory(err, "the int8 network");
    }
    sk_walk_set(w, bytes);
    w->kernels = sk_int8_choose();
    w->count = count;
    w->threads = threads;
    w->arenas = sk_calloc((size_t)count, w->header->arena_bytes);
    w->scratch = sk_calloc((size_t)threads, sizeof *w->scratch);
    if (!w->arenas || !w->scratch) {
        sk_walk_free(w);
        return sk_fail_memory(err, "the int8 activations");
    }
    const size_t pixels = (size_t)w->header->size * (size_t)w->header->size;
    const int8_t *lut = (const int8_t *)bytes + w->header->lut_offset;
    for (int p = 0; p < count; p++) {
        w->kernels->input(lut, pictures + 3 * pixels * (size_t)p, pixels, sk_walk_tensor(w, -1, p));
    }
    *out = w;
    return SK_OK;
}

void sk_walk_free(sk_walk *w) {
    if (!w) {
        return;
    }
    sk_free(w->arenas);
    sk_free(w->scratch);
    sk_free(w);
}

static sk_status step(void *user, int index, sk_error *err) {
    const sk_walk *w = user;
    const sk_skn_layer *record = &w->layers[w->index];
    (void)err;
    for (int p = index; p < w->count; p += w->threads) {
        const int8_t *in = sk_walk_tensor(w, record->input, p);
        int8_t *out = sk_walk_tensor(w, (int)w->index, p);
        sk_int8_run(w->kernels, &w->now, in, sk_walk_tensor(w, record->input2, p), out, w->scratch[index]);
    }
    return SK_OK;
}

sk_status sk_walk_layer(sk_walk *w, size_t layer, sk_error *err) {
    w->index = layer;
    w->now = sk_skn_kernel_layer(w->bytes, (int32_t)layer);
    const size_t packed_bytes = sk_int8_packed_bytes(w->kernels, &w->now);
    const size_t scratch = sk_int8_scratch_bytes(w->kernels, &w->now) + 64;
    void *packed = packed_bytes ? sk_alloc(packed_bytes, 1) : NULL;
    int complete = packed || !packed_bytes;
    for (int i = 0; i < w->threads; i++) {
        w->scratch[i] = sk_calloc(scratch, 1);
        complete = complete && w->scratch[i];
    }
    sk_status status = SK_OK;
    if (complete) {
        if (packed) {
            w->kernels->pack(&w->now, packed);
        }
        w->now.packed = packed;
        status = sk_parallel(0, w->threads, w->threads, step, w, err);
    } else {
        status = sk_fail_memory(err, "a step of the int8 network");
    }
    for (int i = 0; i < w->threads; i++) {
        sk_free(w->scratch[i]);
        w->scratch[i] = NULL;
    }
    sk_free(packed);
    return status;
}
