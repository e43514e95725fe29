/* SPDX-License-Identifier: Apache-2.0 */
/* Learns the rounding and the biases of a block's layers together: Adam over small batches of pictures on the soft
 * rounding of adaround.c. Every fifth picture is held back and judges the result. What enters is at first a mixture,
 * value by value, of what int8 and float give, so that less is fitted to the one rounding error of these pictures (Wei
 * et al. 2022, QDrop: Randomly Dropping Quantization for Extremely Low-bit Post-training Quantization). */
#include <math.h>
#include <string.h>

#include "kernels/kernels.h"
#include "quant/block.h"

enum { STEPS = 200, WARM = 40, MIXED = 100, STAGES = 5, BATCH = 16, CHUNKS = 4, HELD = 5, LEAST = 10 };
static const float STRETCH = 1.2f;                    /* as in adaround.c */
static const float RATE = 0.05f, REGULARISER = 0.05f;
static const float BIAS_RATE = 0.05f; /* in steps of the layer's output; falls to 0 */
static const float BLEND = 0.8f; /* share of the rounding at hand in the one that learning begins with; the rest is the
                                  * weight's own */
static const float DECIDED = 1e6f;

typedef struct parameters { /* of a layer */
    size_t depth, count;
    float *real, *unit;    /* the weight in codes; real value of a code per weight */
    float *v, *h, *slope;
    float *m1, *m2, *bias1, *bias2;
    int8_t *code;
    float *bias;
    float rate, size; /* of the biases; mean size of the weights' first gradient */
} parameters;

typedef struct learner {
    sk_quant_job *job;
    const sk_qblock_data *data;
    sk_qblock block;
    size_t layers;
    parameters *p;
    sk_qblock_run run[CHUNKS];
    float *mixed[CHUNKS], *d[CHUNKS];
    float **dweight[CHUNKS], **dbias[CHUNKS];
    double error[CHUNKS];
    int *order, learned; /* pictures to learn from; they come first, those held back follow */
    int step, batch;
} learner;

static float lower(float real) {
    return fminf(fmaxf(floorf(real), -127), 126);
}

static int is_fixed(float real) {
    return real >= 127 || real <= -127;
}

/* ---- opening ------------------------------------------------------------------------------------------------- */

static void set_output(const sk_quant_job *j, size_t layer, sk_quantizer *q) {
    const sk_act act = j->net->layers[layer].act;
    q->on = !j->int16[layer]; /* 65536 codes are as good as none */
    q->low = act == SK_ACT_RELU || act == SK_ACT_HSIGMOID ? 0 : (double)j->range[layer][0];
    q->high = act == SK_ACT_HSIGMOID ? 1 : (double)j->range[layer][1];
    q->equal = j->equal[layer];
    sk_quantizer_ready(q);
}

static void start(const sk_quant_job *j, size_t layer, const sk_quantizer *q, parameters *p) {
    const sk_layer *l = &j->net->layers[layer];
    const float *factor = l->input >= 0 ? j->equal[l->input] : NULL;
    for (size_t i = 0; i < p->count; i++) {
        const size_t o = i / p->depth, k = i % p->depth;
        const float by = !factor ? 1 : factor[l->op == SK_OP_DEPTHWISE ? o : k % (size_t)l->in_c];
        p->unit[i] = j->scale[layer][o] / by;
        p->real[i] = j->net->weight[layer][i] / p->unit[i];
        p->code[i] = j->code[layer][i];
        const float low = lower(p->real[i]), own = fminf(fmaxf(p->real[i] - low, 0), 1);
        const float h = BLEND * fminf(fmaxf((float)p->code[i] - low, 0), 1) + (1 - BLEND) * own;
        const float side = (2 * fminf(fmaxf(h, 0.01f), 0.99f) - 1) / STRETCH;
        p->v[i] = side / (1 - fabsf(side));
    }
    memcpy(p->bias, j->bias[layer], (size_t)l->out_c * sizeof *p->bias);
    p->rate = BIAS_RATE * (float)q->scale;
}

static sk_status open_layer(learner *l, size_t i) {
    const sk_quant_job *j = l->job;
    const size_t layer = l->block.first + i;
    const sk_layer *shape = &j->net->layers[layer];
    parameters *p = &l->p[i];
    set_output(j, layer, &l->block.output[i]);
    if (!sk_layer_has_weights(shape)) {
        return SK_OK;
    }
    const size_t c = (size_t)shape->out_c;
    p->depth = (size_t)sk_layer_depth(shape);
    p->count = c * p->depth;
    float **const arrays[] = {&p->real, &p->unit, &p->v, &p->h, &p->slope, &p->m1, &p->m2};
    int complete = 1;
    for (size_t a = 0; a < sizeof arrays / sizeof *arrays; a++) {
        complete = (*arrays[a] = sk_calloc(p->count, sizeof **arrays[a])) && complete;
    }
    p->code = sk_alloc(p->count, 1);
    p->bias = sk_calloc(3 * c, sizeof *p->bias);
    for (int t = 0; t < CHUNKS; t++) {
        l->dweight[t][i] = sk_calloc(p->count, sizeof ***l->dweight);
        l->dbias[t][i] = sk_calloc(c, sizeof ***l->dbias);
        complete = complete && l->dweight[t][i] && l->dbias[t][i];
    }
    if (!complete || !p->code || !p->bias) {
        return sk_fail_memory(j->err, "a block's rounding");
    }
    p->bias1 = p->bias + c;
    p->bias2 = p->bias1 + c;
    start(j, layer, &l->block.output[i], p);
    return SK_OK;
}

static sk_status open_chunk(learner *l, int t) {
    l->mixed[t] = sk_alloc(l->data->values_in, sizeof **l->mixed);
    l->d[t] = sk_alloc(l->data->values_out, sizeof **l->d);
    l->dweight[t] = sk_calloc(l->layers, sizeof **l->dweight);
    l->dbias[t] = sk_calloc(l->layers, sizeof **l->dbias);
    if (!l->mixed[t] || !l->d[t] || !l->dweight[t] || !l->dbias[t]) {
        return sk_fail_memory(l->job->err, "a block's gradients");
    }
    return sk_qblock_run_create(&l->block, &l->run[t], l->job->err);
}

static sk_status open_learner(learner *l, size_t first, size_t last) {
    const int count = l->data->count;
    sk_status status = sk_qblock_create(l->job->net, first, last, &l->block, l->job->err);
    if (status != SK_OK) {
        return status;
    }
    l->layers = last - first + 1;
    l->p = sk_calloc(l->layers, sizeof *l->p);
    l->order = sk_alloc((size_t)count, sizeof *l->order);
    status = l->p && l->order ? SK_OK : sk_fail_memory(l->job->err, "a block's rounding");
    for (int t = 0; status == SK_OK && t < CHUNKS; t++) {
        status = open_chunk(l, t);
    }
    for (size_t i = 0; status == SK_OK && i < l->layers; i++) {
        status = open_layer(l, i);
    }
    for (int p = 0, held = 0; status == SK_OK && p < count; p++) {
        if (p % HELD == HELD - 1) {
            l->order[count - 1 - held++] = p;
        } else {
            l->order[l->learned++] = p;
        }
    }
    return status;
}

static void close_learner(learner *l) {
    for (size_t i = 0; l->p && i < l->layers; i++) {
        parameters *p = &l->p[i];
        float *const arrays[] = {p->real, p->unit, p->v, p->h, p->slope, p->m1, p->m2, p->bias};
        for (size_t a = 0; a < sizeof arrays / sizeof *arrays; a++) {
            sk_free(arrays[a]);
        }
        sk_free(p->code);
    }
    for (int t = 0; t < CHUNKS; t++) {
        for (size_t i = 0; i < l->layers; i++) {
            sk_free(l->dweight[t] ? l->dweight[t][i] : NULL);
            sk_free(l->dbias[t] ? l->dbias[t][i] : NULL);
        }
        sk_free(l->dweight[t]);
        sk_free(l->dbias[t]);
        sk_free(l->mixed[t]);
        sk_free(l->d[t]);
        sk_qblock_run_free(&l->run[t]);
    }
    sk_free(l->p);
    sk_free(l->order);
    sk_qblock_free(&l->block);
}

/* ---- weights ------------------------------------------------------------------------------------------------- */

/* Codes as they are now into the block. Those that have all but decided are fixed, the less decided ones the later, so
 * that the rest can make up for what that costs; after the last step all are. */
static sk_status soften(void *user, int index, sk_error *err) {
    learner *l = user;
    parameters *p = &l->p[index];
    const size_t layer = l->block.first + (size_t)index;
    (void)err;
    if (!p->count) {
        return SK_OK;
    }
    const float open = 1 - (float)(l->step - WARM) / (STEPS - WARM);
    for (size_t i = 0; i < p->count; i++) {
        if (l->step >= WARM && fabsf(2 * p->h[i] - 1) >= open) {
            p->v[i] = p->h[i] < 0.5f ? -DECIDED : DECIDED;
        }
        const float wide = 1 + fabsf(p->v[i]), h = 0.5f + STRETCH / 2 * p->v[i] / wide, real = p->real[i];
        const int fixed = is_fixed(real);
        p->h[i] = h < 0 ? 0 : h > 1 ? 1 : h;
        p->slope[i] = h > 0 && h < 1 && !fixed ? STRETCH / 2 / (wide * wide) : 0;
        l->block.weight[index][i] = p->unit[i] * (fixed ? (real > 0 ? 127 : -127) : lower(real) + p->h[i]);
    }
    memcpy(l->block.bias[index], p->bias, p->count / p->depth * sizeof *p->bias);
    sk_qblock_pack(&l->block, layer);
    return SK_OK;
}

static void harden(learner *l) {
    for (size_t k = 0; k < l->layers; k++) {
        parameters *p = &l->p[k];
        for (size_t i = 0; i < p->count; i++) {
            const float real = p->real[i];
            p->code[i] = (int8_t)(is_fixed(real) ? (real > 0 ? 127 : -127) : lower(real) + (p->h[i] < 0.5f ? 0 : 1));
        }
    }
}

/* Given codes and biases into the block: those at hand, or what was learned. */
static void show(learner *l, int learned) {
    for (size_t k = 0; k < l->layers; k++) {
        const parameters *p = &l->p[k];
        const size_t layer = l->block.first + k;
        if (!p->count) {
            continue;
        }
        const int8_t *code = learned ? p->code : l->job->code[layer];
        for (size_t i = 0; i < p->count; i++) {
            l->block.weight[k][i] = p->unit[i] * code[i];
        }
        memcpy(l->block.bias[k], learned ? p->bias : l->job->bias[layer], p->count / p->depth * sizeof *p->bias);
        sk_qblock_pack(&l->block, layer);
    }
}

/* ---- passes over pictures ------------------------------------------------------------------------------------ */

static const float *mix(learner *l, int t, int picture) {
    const size_t count = l->data->values_in, at = (size_t)picture * count;
    if (l->step >= MIXED) {
        return l->data->input + at;
    }
    sk_rng rng = sk_rng_make(l->job->options->seed, 0x626c6f63 + l->block.first,
                             (uint64_t)l->step * (uint64_t)l->data->count + (uint64_t)picture);
    for (size_t i = 0; i < count; i += 64) {
        uint64_t bits = sk_rng_next(&rng);
        for (size_t k = i; k < count && k < i + 64; k++, bits >>= 1) {
            l->mixed[t][k] = bits & 1 ? l->data->exact[at + k] : l->data->input[at + k];
        }
    }
    return l->mixed[t];
}

static double difference(const learner *l, const float *out, int picture, float *d) {
    const size_t count = l->data->values_out;
    const float *target = l->data->target + (size_t)picture * count;
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        const float e = out[i] - target[i];
        sum += (double)e * (double)e;
        if (d) {
            d[i] = e;
        }
    }
    return sum;
}

static sk_status learn_chunk(void *user, int t, sk_error *err) {
    learner *l = user;
    (void)err;
    for (size_t i = 0; i < l->layers; i++) {
        if (l->p[i].count) {
            memset(l->dweight[t][i], 0, l->p[i].count * sizeof ***l->dweight);
            memset(l->dbias[t][i], 0, l->p[i].count / l->p[i].depth * sizeof ***l->dbias);
        }
    }
    for (int b = t; b < l->batch; b += CHUNKS) {
        const int picture = l->order[b];
        const float *in = mix(l, t, picture);
        difference(l, sk_qblock_forward(&l->block, &l->run[t], in), picture, l->d[t]);
        sk_qblock_backward(&l->block, &l->run[t], in, l->d[t], l->dweight[t], l->dbias[t]);
    }
    return SK_OK;
}

static sk_status judge_chunk(void *user, int t, sk_error *err) {
    learner *l = user;
    (void)err;
    l->error[t] = 0;
    for (int b = l->learned + t; b < l->data->count; b += CHUNKS) {
        const float *in = l->data->input + (size_t)l->order[b] * l->data->values_in;
        l->error[t] += difference(l, sk_qblock_forward(&l->block, &l->run[t], in), l->order[b], NULL);
    }
    return SK_OK;
}

static double judge(learner *l) {
    double sum = 0;
    sk_parallel(0, CHUNKS, l->job->threads, judge_chunk, l, NULL);
    for (int t = 0; t < CHUNKS; t++) {
        sum += l->error[t];
    }
    return sum;
}

/* ---- steps --------------------------------------------------------------------------------------------------- */

static void adam(float *x, float *m1, float *m2, float gradient, float rate, float bias1, float bias2) {
    *m1 = 0.9f * *m1 + 0.1f * gradient;
    *m2 = 0.999f * *m2 + 0.001f * gradient * gradient;
    *x -= rate * (*m1 / bias1) / (sqrtf(*m2 / bias2) + 1e-8f);
}

/* Adam on the error, whose gradient was of mean size 1 in the first step, and on 1 - |2h - 1|^beta (adaround.c). The
 * chunks' gradients are added in their order: any number of threads learns the same. */
static sk_status turn(void *user, int index, sk_error *err) {
    learner *l = user;
    parameters *p = &l->p[index];
    const int squarings = STAGES - 1 - (l->step < WARM ? 0 : (l->step - WARM) * STAGES / (STEPS - WARM));
    const float strength = l->step < WARM ? 0 : REGULARISER * 2 * (float)((1 << squarings) + 1);
    const float fall = 1 - (float)l->step / STEPS;
    const float one = 1 - powf(0.9f, (float)l->step + 1), two = 1 - powf(0.999f, (float)l->step + 1);
    float *d = l->dweight[0][index], *db = l->dbias[0][index];
    double size = 0;
    (void)err;
    for (size_t i = 0; i < p->count; i++) {
        for (int t = 1; t < CHUNKS; t++) {
            d[i] += l->dweight[t][index][i];
        }
        d[i] *= p->unit[i];
        size += (double)d[i] * (double)d[i];
    }
    if (l->step == 0 && p->count) {
        p->size = (float)fmax(sqrt(size / (double)p->count), 1e-30);
    }
    for (size_t i = 0; i < p->count; i++) {
        const float side = 2 * p->h[i] - 1;
        float power = fabsf(side);
        for (int k = 0; k < squarings; k++) {
            power *= power;
        }
        const float pull = side < 0 ? strength * power : -strength * power;
        adam(&p->v[i], &p->m1[i], &p->m2[i], (d[i] / p->size + pull) * p->slope[i], RATE, one, two);
    }
    for (size_t o = 0; p->count && o < p->count / p->depth; o++) {
        const float *equal = l->block.output[index].equal, rate = fall * p->rate * (equal ? equal[o] : 1);
        for (int t = 1; t < CHUNKS; t++) {
            db[o] += l->dbias[t][index][o];
        }
        adam(&p->bias[o], &p->bias1[o], &p->bias2[o], db[o], rate, one, two);
    }
    return SK_OK;
}

static sk_status learn(learner *l) {
    const sk_quant_job *j = l->job;
    l->batch = l->learned < BATCH ? l->learned : BATCH;
    for (l->step = 0; l->step < STEPS; l->step++) {
        if (sk_cancelled(j->hooks)) {
            return sk_fail(j->err, SK_ERR_CANCELLED, "quantisation was stopped");
        }
        sk_rng rng = sk_rng_make(j->options->seed, 0x6f726465 + l->block.first, (uint64_t)l->step);
        sk_rng_shuffle(&rng, l->order, (size_t)l->learned, sizeof *l->order);
        sk_parallel(0, (int)l->layers, j->threads, soften, l, NULL);
        sk_parallel(0, CHUNKS, j->threads, learn_chunk, l, NULL);
        sk_parallel(0, (int)l->layers, j->threads, turn, l, NULL);
    }
    sk_parallel(0, (int)l->layers, j->threads, soften, l, NULL);
    harden(l);
    return SK_OK;
}

static void keep(learner *l) {
    for (size_t i = 0; i < l->layers; i++) {
        const parameters *p = &l->p[i];
        const size_t layer = l->block.first + i;
        if (p->count) {
            memcpy(l->job->code[layer], p->code, p->count);
            memcpy(l->job->bias[layer], p->bias, p->count / p->depth * sizeof *p->bias);
        }
    }
}

sk_status sk_qblock_learn(sk_quant_job *job, size_t first, size_t last, const sk_qblock_data *data) {
    learner l = {.job = job, .data = data};
    if (data->count < LEAST) {
        return SK_OK; /* nothing to judge by */
    }
    sk_status status = open_learner(&l, first, last);
    if (status == SK_OK) {
        show(&l, 0);
        const double before = judge(&l);
        status = learn(&l);
        if (status == SK_OK) {
            show(&l, 1);
            if (judge(&l) < before) {
                keep(&l);
            }
        }
    }
    close_learner(&l);
    return status;
}
