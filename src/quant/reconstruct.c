/* SPDX-License-Identifier: Apache-2.0 */
/* The network block after block: what enters is what the int8 blocks before really give, what should leave is what the
 * float network gives (block_learn.c). */
#include <string.h>

#include "quant/block.h"

typedef struct reconstruction {
    sk_quant_job *job;
    sk_walk *walk;
    sk_float_run *runs;   /* per thread */
    float **tensor;       /* of all pictures: [0] the normalised ones, [i + 1] what leaves a block that ends with i */
    float *input;         /* what enters, in real units */
    size_t first, last;
} reconstruction;

static size_t values_of(const sk_quant_net *net, int layer) {
    return layer < 0 ? 3 * (size_t)net->card->size * (size_t)net->card->size : sk_layer_values(&net->layers[layer]);
}

/* ---- the float network --------------------------------------------------------------------------------------- */

static sk_status aim(void *user, int index, sk_error *err) {
    reconstruction *r = user;
    const sk_quant_job *j = r->job;
    sk_float_run *run = &r->runs[index];
    (void)err;
    for (int p = index; p < j->pictures->count; p += j->threads) {
        sk_float_run_picture(j->floats, run, j->pictures->bytes + j->pictures->picture_bytes * (size_t)p);
        for (size_t i = 0; i <= j->net->count; i++) {
            const size_t values = values_of(j->net, (int)i - 1);
            if (i > 0) {
                sk_float_run_layer(j->floats, run, i - 1);
            }
            if (r->tensor[i]) {
                memcpy(r->tensor[i] + values * (size_t)p, run->tensor[i], values * sizeof *run->tensor[i]);
            }
        }
    }
    return SK_OK;
}

static sk_status open_tensor(reconstruction *r, int layer) {
    const size_t values = values_of(r->job->net, layer) * (size_t)r->job->pictures->count;
    r->tensor[layer + 1] = sk_alloc(values, sizeof **r->tensor);
    return r->tensor[layer + 1] ? SK_OK : sk_fail_memory(r->job->err, "the float network's blocks");
}

static sk_status open_all(reconstruction *r) {
    const sk_quant_job *j = r->job;
    r->tensor = sk_calloc(j->net->count + 1, sizeof *r->tensor);
    r->runs = sk_calloc((size_t)j->threads, sizeof *r->runs);
    sk_status status = r->tensor && r->runs ? open_tensor(r, -1) : sk_fail_memory(j->err, "the float network's blocks");
    for (size_t i = 0; status == SK_OK && i < j->net->count; i++) {
        i = sk_qblock_end(j->net, i);
        status = open_tensor(r, (int)i);
    }
    for (int t = 0; status == SK_OK && t < j->threads; t++) {
        status = sk_float_run_create(j->floats, &r->runs[t], j->err);
    }
    if (status == SK_OK) {
        status = sk_parallel(0, j->threads, j->threads, aim, r, j->err);
    }
    if (status == SK_OK) {
        status = sk_walk_create(j->bytes, j->pictures->bytes, j->pictures->count, j->threads, &r->walk, j->err);
    }
    return status;
}

static void close_all(reconstruction *r) {
    const sk_quant_job *j = r->job;
    for (int t = 0; r->runs && t < j->threads; t++) {
        sk_float_run_free(&r->runs[t]);
    }
    for (size_t i = 0; r->tensor && i <= j->net->count; i++) {
        sk_free(r->tensor[i]);
    }
    sk_free(r->runs);
    sk_free(r->tensor);
    sk_walk_free(r->walk);
}

/* ---- a block ------------------------------------------------------------------------------------------------- */

static void decode(reconstruction *r, int layer) {
    const sk_quant_job *j = r->job;
    const size_t values = values_of(j->net, layer), channels = layer < 0 ? 3 : (size_t)j->net->layers[layer].out_c;
    const float *factor = layer < 0 ? NULL : j->equal[layer];
    const double scale = sk_walk_scale(r->walk, layer);
    const int zero = sk_walk_zero(r->walk, layer), int16 = sk_walk_int16(r->walk, layer);
    for (int p = 0; p < j->pictures->count; p++) {
        const int8_t *codes = sk_walk_tensor(r->walk, layer, p);
        float *out = r->input + values * (size_t)p;
        for (size_t i = 0; i < values; i++) {
            const double unit = factor ? scale * (double)factor[i % channels] : scale;
            out[i] = (float)((sk_code_at(codes, int16, i) - zero) * unit);
        }
    }
}

static sk_status learn(reconstruction *r) {
    sk_quant_job *j = r->job;
    const int from = j->net->layers[r->first].input;
    const size_t values = values_of(j->net, from);
    r->input = sk_alloc(values * (size_t)j->pictures->count, sizeof *r->input);
    if (!r->input) {
        return sk_fail_memory(j->err, "what enters a block");
    }
    decode(r, from);
    const sk_qblock_data data = {.count = j->pictures->count, .values_in = values,
                                .values_out = values_of(j->net, (int)r->last), .input = r->input,
                                .exact = r->tensor[from + 1], .target = r->tensor[r->last + 1]};
    sk_status status = sk_qblock_learn(j, r->first, r->last, &data);
    sk_free(r->input);
    if (status == SK_OK) {
        status = sk_quant_build(j);
    }
    if (status == SK_OK) {
        sk_walk_set(r->walk, j->bytes);
    }
    return status;
}

sk_status sk_quant_reconstruct(sk_quant_job *j) {
    reconstruction r = {.job = j};
    sk_status status = open_all(&r);
    for (; status == SK_OK && r.first < j->net->count; r.first = r.last + 1) {
        r.last = sk_qblock_end(j->net, r.first);
        status = learn(&r);
        for (size_t i = r.first; status == SK_OK && i <= r.last; i++) {
            status = sk_walk_layer(r.walk, i, j->err);
        }
        sk_progress(j->hooks, "blocks", "layers", (uint64_t)r.last + 1, (uint64_t)j->net->count);
    }
    close_all(&r);
    return status;
}
