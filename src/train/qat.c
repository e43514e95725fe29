/* SPDX-License-Identifier: Apache-2.0 */
/* Quantisation-aware training beside the loop: ranges, their optimiser, the teacher. */
#include "train/qat.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "train/optimizer.h"

/* Beyond these a hard-sigmoid does not change. */
static const double GATE_ENDS = 4;

sk_status sk_qat_open(sk_train_options *options, sk_qat **out, sk_error *err) {
    *out = NULL;
    if (!options->pretrained)
        return sk_fail(err, SK_ERR_ARGUMENT, "--qat goes on from a trained model; name it with --pretrained");
    sk_qat *q = sk_calloc(1, sizeof *q);
    if (!q) return sk_fail_memory(err, "the ranges");
    q->scheme = options->qat;
    q->fake.pull = (double)options->qat_pull;
    q->fake.per_tensor = options->qat_per == SK_QUANT_PER_TENSOR;
    sk_status status = sk_model_read(options->pretrained, &q->teacher, err);
    if (status == SK_OK) {
        options->card = *sk_model_card(q->teacher);
        q->layers = sk_model_layer_count(q->teacher);
        q->ranges.layers = (int)q->layers;
        q->answers = sk_alloc((size_t)options->batch * (size_t)options->card.classes, sizeof *q->answers);
        if (!q->answers) status = sk_fail_memory(err, "the teacher's answers");
    }
    if (status == SK_OK) *out = q;
    else sk_qat_close(q);
    return status;
}

void sk_qat_close(sk_qat *q) {
    if (!q) return;
    sk_model_free(q->teacher);
    sk_ranges_free(&q->ranges);
    sk_free(q->answers);
    sk_quant_pictures_free(&q->pictures);
    sk_free(q);
}

sk_status sk_qat_draw(sk_qat *q, const sk_dataset *dataset, const sk_cache *cache, const sk_train_options *options,
                      const sk_hooks *hooks, sk_error *err) {
    return sk_quant_draw(&options->card, dataset, cache, SK_QAT_PICTURES, options->seed, hooks, &q->pictures, err);
}

/* ---- ranges -------------------------------------------------------------------------------------------------- */
static void set_ranges(sk_qat *q) {
    for (size_t i = 0; i < q->layers; i++) {
        sk_quantizer *f = &q->fake.output[i];
        for (int e = 0; e < 2; e++) q->ranges.end[i][e] = q->base[i][e] * q->part[i][e];
        f->on = 1;
        f->low = (double)q->ranges.end[i][0];
        f->high = (double)q->ranges.end[i][1];
        f->equal = q->ranges.equal[i];
        if (q->fake.pull == 0 || q->scheme != SK_QAT_NPU) f->pull_low = -HUGE_VAL, f->pull_high = HUGE_VAL;
    }
}

/* The integer engine: ranges of least squared error, channels equalised as siskin quantize has them. The logits keep
 * their full range, gates are 0 to 1 whatever they show. */
static void take_best(sk_qat *q, const sk_model *model, sk_observed *seen) {
    for (size_t i = 0; i < q->layers; i++) {
        const sk_act act = sk_model_layer(model, i)->act;
        const float *from = i + 1 < q->layers ? seen->best[i] : seen->all[i];
        q->base[i][0] = act == SK_ACT_RELU || act == SK_ACT_HSIGMOID ? 0 : from[0];
        q->base[i][1] = act == SK_ACT_HSIGMOID ? 1 : from[1];
        q->ranges.equal[i] = seen->equal[i];
        seen->equal[i] = NULL;
    }
}

/* The converter's plain way: all that was seen. A gate's input is a tensor of its own there, and so is that of the
 * classifier's hard-swish. */
static void take_all(sk_qat *q, const sk_model *model, const sk_observed *seen) {
    for (size_t i = 0; i < q->layers; i++) {
        const sk_act act = sk_model_layer(model, i)->act;
        sk_quantizer *before = &q->fake.before[i], *f = &q->fake.output[i];
        memcpy(q->base[i], seen->all[i], sizeof q->base[i]);
        f->pull_low = (double)seen->best[i][0];
        f->pull_high = (double)seen->best[i][1];
        if (!(seen->before[i][1] > seen->before[i][0])) continue;
        *before = (sk_quantizer){.on = 1, .low = (double)seen->before[i][0], .high = (double)seen->before[i][1]};
        before->pull_low = act == SK_ACT_HSIGMOID ? -GATE_ENDS : before->low;
        before->pull_high = act == SK_ACT_HSIGMOID ? GATE_ENDS : before->high;
    }
}

sk_status sk_qat_renew(sk_qat *q, sk_model *model, int threads, sk_error *err) {
    sk_observed seen;
    if (q->scheme != SK_QAT_NPU) return SK_OK;
    const sk_status status = sk_observe(model, &q->pictures, threads, SK_OBSERVE_BEST, &seen, err);
    if (status != SK_OK) return status;
    take_all(q, model, &seen);
    set_ranges(q);
    sk_observed_free(&seen);
    return SK_OK;
}

sk_status sk_qat_begin(sk_qat *q, sk_model *model, int threads, sk_error *err) {
    sk_observed seen;
    for (size_t i = 0; i < q->layers; i++) q->part[i][0] = q->part[i][1] = 1;
    if (q->scheme != SK_QAT_ENGINE) return SK_OK;
    const sk_status status = sk_observe(model, &q->pictures, threads, SK_OBSERVE_EQUAL, &seen, err);
    if (status != SK_OK) return status;
    take_best(q, model, &seen);
    set_ranges(q);
    sk_observed_free(&seen);
    return SK_OK;
}

/* ---- steps --------------------------------------------------------------------------------------------------- */
sk_status sk_qat_teach(sk_qat *q, sk_engine *engine, const uint8_t *images, int first, int last, int threads,
                       sk_error *err) {
    float *to = q->answers + (size_t)first * (size_t)sk_model_card(q->teacher)->classes;
    const sk_status status = last > first ? sk_model_forward(q->teacher, images, last - first, threads, to, NULL, NULL,
                                                             NULL, err)
                                          : SK_OK;
    sk_engine_teach(engine, status == SK_OK ? q->answers : NULL);
    return status;
}

void sk_qat_move(sk_qat *q, double lr) {
    const sk_update_options adam = {.kind = SK_OPTIMIZER_ADAM};
    float gradient[SK_MAX_LAYERS][2];
    if (q->scheme != SK_QAT_ENGINE) return;
    q->step++;
    for (size_t i = 0; i < q->layers; i++) {
        const int fixed = sk_model_layer(q->teacher, i)->act == SK_ACT_HSIGMOID;
        gradient[i][0] = fixed ? 0 : (float)(q->fake.d_low[i] * (double)q->base[i][0]);
        gradient[i][1] = fixed ? 0 : (float)(q->fake.d_high[i] * (double)q->base[i][1]);
    }
    sk_update_values(&adam, 0, q->step, lr, 2 * q->layers, q->part[0], gradient[0], q->first[0], q->second[0]);
    for (size_t i = 0; i < q->layers; i++)
        for (int e = 0; e < 2; e++) q->part[i][e] = fmaxf(q->part[i][e], 0.05f);
    set_ranges(q);
}

sk_status sk_qat_publish(const sk_qat *q, sk_model *model, sk_error *err) {
    return sk_model_set_ranges(model, &q->ranges, err);
}

/* ---- the state of a run --------------------------------------------------------------------------------------- */
static const char *const names[] = {"qat.base", "qat.part", "qat.m", "qat.v"};

sk_status sk_qat_save(const sk_qat *q, sk_tensor_file *file, sk_error *err) {
    const float *const arrays[] = {q->base[0], q->part[0], q->first[0], q->second[0]};
    const int shape[] = {(int)q->layers, 2};
    char step[32];
    snprintf(step, sizeof step, "%llu", (unsigned long long)q->step);
    sk_status status = sk_tensors_set_meta(file, "siskin.qat.step", step, err);
    for (int i = 0; status == SK_OK && i < 4; i++) status = sk_tensors_add(file, names[i], 2, shape, arrays[i], err);
    return status;
}

sk_status sk_qat_load(sk_qat *q, const sk_tensor_file *file, const char *path, sk_error *err) {
    float *const arrays[] = {q->base[0], q->part[0], q->first[0], q->second[0]};
    const char *step = sk_tensors_meta(file, "siskin.qat.step"), *text = sk_tensors_meta(file, SK_RANGES_KEY);
    for (int i = 0; i < 4; i++) {
        const sk_tensor_entry *entry = sk_tensors_find(file, names[i]);
        if (!entry || entry->count != 2 * q->layers || !step || !text)
            return sk_fail(err, SK_ERR_FORMAT, "%s lacks the ranges of a run with --qat; it cannot be resumed", path);
        memcpy(arrays[i], entry->data, entry->count * sizeof(float));
    }
    unsigned long long steps = 0;
    sscanf(step, "%llu", &steps);
    q->step = steps;
    /* The factors of the channels are in the text of the ranges; the teacher is of the same shape. */
    sk_status status = sk_model_parse_ranges(q->teacher, text, err);
    if (status != SK_OK) return sk_error_prefix(err, status, "%s", path);
    sk_ranges *read = sk_model_own_ranges(q->teacher);
    sk_ranges_free(&q->ranges);
    q->ranges = *read;
    *read = (sk_ranges){0};
    set_ranges(q);
    return SK_OK;
}
