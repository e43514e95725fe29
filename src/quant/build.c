/* SPDX-License-Identifier: Apache-2.0 */
/* Turns layers, folded float weights and ranges into the bytes of a .skn file. The only place where float arithmetic
 * decides what the integers of the runtime are (docs/int8.md). */
#include <math.h>
#include <string.h>

#include "quant/quant.h"
#include "rt/check.h"

typedef struct tensor {
    double scale;
    int zero;
    int int16;
    uint64_t bytes;
    uint32_t offset;
    int last; /* index of the last layer that reads it */
} tensor;

typedef struct builder {
    const sk_skn_recipe *recipe;
    tensor *tensors; /* [0]: the picture, [i + 1]: layer i's output */
    sk_skn_layer *records;
    sk_skn_header header;
    uint8_t *bytes;
    size_t size;
    sk_error *err;
} builder;

static size_t aligned(size_t bytes) {
    return (bytes + SK_SKN_ALIGN - 1) / SK_SKN_ALIGN * SK_SKN_ALIGN;
}

static int steps(const tensor *t) {
    return sk_skn_steps(t->int16);
}

static int lowest(const tensor *t) {
    return t->int16 ? INT16_MIN : -128;
}

/* The scale is rounded to float first, since that is what the file tells its reader. */
static void set_scale(tensor *t, double low, double high) {
    low = fmin(low, 0);
    high = fmax(high, 0);
    if (!(high - low > 1e-6)) {
        high = low + 1e-6; /* a dead tensor: any range does, but the multipliers have to stay finite */
    }
    t->scale = (float)((high - low) / steps(t));
    const double zero = floor(lowest(t) - low / t->scale + 0.5);
    t->zero = (int)fmin(fmax(zero, lowest(t)), lowest(t) + steps(t));
}

static void set_scales(builder *b) {
    const sk_skn_recipe *r = b->recipe;
    double low = 0, high = 0;
    for (int c = 0; c < 3; c++) {
        low = fmin(low, (0 - (double)r->card->mean[c]) / r->card->std[c]);
        high = fmax(high, (1 - (double)r->card->mean[c]) / r->card->std[c]);
    }
    set_scale(&b->tensors[0], low, high);
    for (size_t i = 0; i < r->count; i++) {
        const sk_act act = r->layers[i].act;
        const double l = act == SK_ACT_RELU || act == SK_ACT_HSIGMOID ? 0 : r->range[i][0];
        b->tensors[i + 1].int16 = r->int16 && r->int16[i];
        set_scale(&b->tensors[i + 1], l, act == SK_ACT_HSIGMOID ? 1 : r->range[i][1]);
    }
}

/* Places every tensor at the lowest offset where it covers none that is still to be read. */
static void plan_arena(builder *b, int feature_layer) {
    const sk_skn_recipe *r = b->recipe;
    const int count = (int)r->count;
    tensor *t = b->tensors;
    for (int i = 0; i <= count; i++) {
        const sk_layer *l = i ? &r->layers[i - 1] : NULL;
        t[i].last = i - 1;
        t[i].bytes = l ? (uint64_t)sk_layer_values(l) * (t[i].int16 ? 2 : 1)
                       : 3 * (uint64_t)r->card->size * (uint64_t)r->card->size;
    }
    for (int i = 0; i < count; i++) {
        t[r->layers[i].input + 1].last = i;
        if (sk_layer_reads_two(&r->layers[i])) {
            t[r->layers[i].input2 + 1].last = i;
        }
    }
    t[feature_layer + 1].last = count;
    uint64_t arena = 0;
    for (int i = 0; i <= count; i++) {
        uint64_t at = 0;
        for (int moved = 1; moved;) {
            moved = 0;
            for (int k = 0; k < i; k++) {
                if (t[k].last >= i - 1 && at < t[k].offset + t[k].bytes && t[k].offset < at + t[i].bytes) {
                    at = aligned(t[k].offset + t[k].bytes);
                    moved = 1;
                }
            }
        }
        t[i].offset = (uint32_t)at;
        arena = at + t[i].bytes > arena ? at + t[i].bytes : arena;
    }
    b->header.arena_bytes = (uint32_t)aligned(arena);
    b->header.input_offset = t[0].offset;
}

static uint32_t reserve(builder *b, size_t bytes) {
    const size_t at = b->size;
    b->size = aligned(at + bytes);
    return (uint32_t)at;
}

/* ReLU is the clamp at the zero point; of int16 codes the runtime knows that by itself. */
static int8_t low_code(const tensor *t, sk_act act) {
    return (int8_t)(act == SK_ACT_RELU && !t->int16 ? t->zero : -128);
}

/* Everything of the records that does not depend on the weights' values. */
static void lay_out(builder *b) {
    const sk_skn_recipe *r = b->recipe;
    b->size = sizeof b->header;
    b->header.lut_offset = reserve(b, 3 * 256);
    b->header.layer_offset = reserve(b, r->count * sizeof *b->records);
    for (size_t i = 0; i < r->count; i++) {
        const sk_layer *l = &r->layers[i];
        sk_skn_layer *o = &b->records[i];
        memcpy(o->name, l->name, sizeof o->name - 1);
        o->op = (uint8_t)l->op;
        o->act = (uint8_t)l->act;
        o->kernel = (uint8_t)(sk_layer_has_weights(l) && l->kernel > 0 ? l->kernel : 1);
        o->stride = (uint8_t)(sk_layer_has_weights(l) && l->stride > 0 ? l->stride : 1);
        o->pad = (uint8_t)(sk_layer_has_weights(l) ? l->pad : 0);
        o->in_c = l->in_c;
        o->in_h = l->in_h;
        o->in_w = l->in_w;
        o->out_c = l->out_c;
        o->out_h = l->out_h;
        o->out_w = l->out_w;
        o->input = l->input;
        o->input2 = sk_layer_reads_two(l) ? l->input2 : -1;
        o->out_scale = (float)b->tensors[i + 1].scale;
        o->out_zero = b->tensors[i + 1].zero;
        o->arena_offset = b->tensors[i + 1].offset;
        o->int16 = (uint8_t)b->tensors[i + 1].int16;
        o->low = low_code(&b->tensors[i + 1], l->act);
        o->high = 127;
        if (sk_layer_has_weights(l)) {
            const int depthwise = l->op == SK_OP_DEPTHWISE;
            const size_t taps = (size_t)o->kernel * o->kernel, channels = (size_t)l->in_c;
            o->weight_row = (uint32_t)(((depthwise ? channels : taps * channels) + 15) / 16 * 16);
            o->weight_offset = reserve(b, o->weight_row * (depthwise ? taps : (size_t)l->out_c));
            o->bias_offset = reserve(b, (size_t)l->out_c * 4);
            o->mult_offset = reserve(b, (size_t)l->out_c * 4);
            if (l->act == SK_ACT_HSWISH || l->act == SK_ACT_HSIGMOID) {
                o->curve_offset = reserve(b, (size_t)l->out_c * 4);
            }
        }
    }
}

/* The largest shift at which the factor still fits `most`; the multiplier is round(factor * 2^shift). */
static int pick_shift(double factor, double most, int limit) {
    int shift = limit;
    while (shift > 1 && floor(factor * ldexp(1, shift) + 0.5) > most) {
        shift--;
    }
    return shift;
}

static int32_t multiplier(double factor, int shift) {
    const double m = floor(factor * ldexp(1, shift) + 0.5);
    return (int32_t)fmin(fmax(m, 1), INT32_MAX);
}

/* Factor of a channel of the tensor that layer `index` (-1: the picture) writes. */
static double equal_of(const builder *b, int index, int c) {
    const sk_skn_recipe *r = b->recipe;
    return index >= 0 && r->equal && r->equal[index] ? (double)r->equal[index][c] : 1;
}

/* Weights of an output channel times the factors of the channels that they read. */
static void effective_weights(const builder *b, size_t index, int channel, double *out) {
    const sk_layer *l = &b->recipe->layers[index];
    const size_t depth = (size_t)sk_layer_depth(l);
    for (size_t k = 0; k < depth; k++) {
        const int in = l->op == SK_OP_DEPTHWISE ? channel : (int)(k % (size_t)l->in_c);
        out[k] = (double)b->recipe->weight[index][depth * (size_t)channel + k] * equal_of(b, l->input, in);
    }
}

/* Value of one code. Weights whose bias is too large for its 30 bits get a coarser one than asked for. */
static double channel_scale(const builder *b, size_t index, int channel, const double *weights, int *as_asked) {
    const sk_skn_recipe *r = b->recipe;
    const double in_scale = b->tensors[r->layers[index].input + 1].scale;
    const double least = fmax(fabs((double)r->bias[index][channel]) / (in_scale * (1 << 29)), 1e-12);
    double most = 0;
    for (int k = 0; k < sk_layer_depth(&r->layers[index]); k++) {
        most = fmax(most, fabs(weights[k]));
    }
    const double scale = r->scale && r->scale[index] ? (double)r->scale[index][channel] : most / 127;
    *as_asked = scale >= least;
    return fmax(scale, least);
}

/* Coarser codes for an output whose range is so small against what its sums could reach that the runtime's integers
 * would overflow (nearly dead tensors). Later layers read the scale after this. */
static void ensure_scale(builder *b, size_t index, double least) {
    tensor *t = &b->tensors[index + 1];
    sk_skn_layer *o = &b->records[index];
    if (t->scale >= least) {
        return;
    }
    const double low = (lowest(t) - t->zero) * t->scale;
    set_scale(t, low, low + (steps(t) + 0.01) * least);
    o->out_scale = (float)t->scale;
    o->out_zero = t->zero;
    o->low = low_code(t, b->recipe->layers[index].act);
}

/* Fills in what brings sums of the given units (real value of 1, per channel) to the output's codes. */
static void set_multipliers(builder *b, size_t index, const double *unit, const int32_t *bias, size_t depth) {
    const sk_layer *l = &b->recipe->layers[index];
    const tensor *in = &b->tensors[l->input + 1];
    sk_skn_layer *o = &b->records[index];
    float *mult = (float *)(void *)(b->bytes + o->mult_offset), *curve = (float *)(void *)(b->bytes + o->curve_offset);
    double least = 0;
    for (int c = 0; c < l->out_c; c++) {
        const double most = fabs((double)bias[c]) + (double)depth * (in->int16 ? steps(in) : 128) * 127;
        least = fmax(least, unit[c] * most / equal_of(b, (int)index, c) / (1 << 28));
    }
    if (l->act != SK_ACT_HSIGMOID) {
        ensure_scale(b, index, least);
    }
    for (int c = 0; c < l->out_c; c++) {
        const double step = o->out_scale * equal_of(b, (int)index, c);
        mult[c] = (float)(l->act == SK_ACT_HSIGMOID ? 1 / step : unit[c] / step);
        if (l->act == SK_ACT_HSWISH || l->act == SK_ACT_HSIGMOID) {
            curve[c] = (float)(unit[c] / 6);
        }
    }
}

/* Codes of one output channel into the file; returns their sum. */
static int32_t put_codes(builder *b, size_t index, int channel, const double *weights, double scale, int as_asked) {
    const sk_skn_recipe *r = b->recipe;
    const sk_skn_layer *o = &b->records[index];
    const size_t depth = (size_t)sk_layer_depth(&r->layers[index]), c = (size_t)channel;
    const int8_t *given = as_asked && r->code && r->code[index] ? r->code[index] + depth * c : NULL;
    int8_t *out = (int8_t *)b->bytes + o->weight_offset;
    int32_t sum = 0;
    for (size_t k = 0; k < depth; k++) {
        const double nearest = given ? given[k] : floor(weights[k] / scale + 0.5);
        const int8_t code = (int8_t)fmin(fmax(nearest, -127), 127);
        out[r->layers[index].op == SK_OP_DEPTHWISE ? o->weight_row * k + c : o->weight_row * c + k] = code;
        sum += code;
    }
    return sum;
}

static sk_status quantize_weights(builder *b, size_t index) {
    const sk_skn_recipe *r = b->recipe;
    const sk_layer *l = &r->layers[index];
    const sk_skn_layer *o = &b->records[index];
    const tensor *in = &b->tensors[l->input + 1];
    const size_t depth = (size_t)sk_layer_depth(l);
    int32_t *bias = (int32_t *)(void *)(b->bytes + o->bias_offset);
    double *unit = sk_alloc((size_t)l->out_c, sizeof *unit), *weights = sk_alloc(depth, sizeof *weights);
    if (!unit || !weights) {
        sk_free(unit);
        sk_free(weights);
        return sk_fail_memory(b->err, "the scales");
    }
    for (int c = 0; c < l->out_c; c++) {
        int as_asked = 0;
        effective_weights(b, index, c, weights);
        const double scale = channel_scale(b, index, c, weights, &as_asked);
        const int32_t sum = put_codes(b, index, c, weights, scale, as_asked);
        unit[c] = in->scale * scale;
        const double zero = in->int16 ? 0 : (double)in->zero * sum; /* the runtime takes it off int16 codes */
        const double folded = floor((double)r->bias[index][c] / unit[c] + 0.5) - zero;
        bias[c] = (int32_t)fmin(fmax(folded, -(1 << 30)), 1 << 30);
    }
    sk_free(weights);
    set_multipliers(b, index, unit, bias, depth);
    sk_free(unit);
    return SK_OK;
}

static void set_joint(builder *b, size_t index) {
    const sk_layer *l = &b->recipe->layers[index];
    sk_skn_layer *o = &b->records[index];
    const tensor *first = &b->tensors[l->input + 1];
    const tensor *second = sk_layer_reads_two(l) ? &b->tensors[l->input2 + 1] : first;
    const double in = first->scale, in2 = second->scale, range = in * steps(first), range2 = in2 * steps(second);
    if (l->op == SK_OP_POOL) {
        ensure_scale(b, index, range / (1 << 29));
        const double factor = in / o->out_scale / ((double)l->in_h * l->in_w);
        o->shift = (uint8_t)pick_shift(factor, INT32_MAX, 62);
        o->mult2 = multiplier(factor, o->shift);
        return;
    }
    ensure_scale(b, index, (l->op == SK_OP_SCALE ? range * range2 : fmax(range, range2)) / (1 << 28));
    o->factor = (float)((l->op == SK_OP_SCALE ? in * in2 : in) / o->out_scale);
    o->factor2 = l->op == SK_OP_ADD ? (float)(in2 / o->out_scale) : 0;
}

static void fill_header(builder *b, int feature_layer) {
    const sk_skn_recipe *r = b->recipe;
    const sk_card *card = r->card;
    sk_skn_header *h = &b->header;
    memcpy(h->magic, SK_SKN_MAGIC, sizeof h->magic);
    h->version = SK_SKN_VERSION;
    for (size_t i = 0; i < r->count; i++) {
        h->version = b->tensors[i + 1].int16 ? SK_SKN_VERSION_INT16 : h->version;
    }
    h->header_bytes = sizeof *h;
    h->layer_count = (uint32_t)r->count;
    h->layer_bytes = sizeof(sk_skn_layer);
    h->feature_layer = feature_layer;
    strncpy(h->arch, sk_arch_name(card->arch), sizeof h->arch - 1);
    memcpy(h->class_names, card->class_names, sizeof h->class_names - 1);
    memcpy(h->run_id, card->run_id, sizeof h->run_id - 1);
    h->size = card->size;
    h->classes = card->classes;
    h->features = (int32_t)b->tensors[feature_layer + 1].bytes;
    h->crops = card->crops;
    memcpy(h->mean, card->mean, sizeof h->mean);
    memcpy(h->std, card->std, sizeof h->std);
    h->threshold = card->threshold;
    h->penalty = card->penalty;
    h->temperature = card->temperature;
    h->input_scale = (float)b->tensors[0].scale;
    h->input_zero = b->tensors[0].zero;
    h->method = r->method;
    h->pictures = r->pictures;
    h->seed = r->seed;
}

static void fill_lut(builder *b) {
    const sk_card *card = b->recipe->card;
    const tensor *t = &b->tensors[0];
    int8_t *lut = (int8_t *)b->bytes + b->header.lut_offset;
    for (int c = 0; c < 3; c++) {
        for (int v = 0; v < 256; v++) {
            const double real = (v / 255.0 - card->mean[c]) / card->std[c];
            lut[256 * c + v] = (int8_t)fmin(fmax(floor(real / t->scale + 0.5) + t->zero, -128), 127);
        }
    }
}

static sk_status build(builder *b) {
    const sk_skn_recipe *r = b->recipe;
    const int feature_layer = sk_quant_features(r->layers, r->count);
    b->tensors = sk_calloc(r->count + 1, sizeof *b->tensors);
    b->records = sk_calloc(r->count, sizeof *b->records);
    if (!b->tensors || !b->records) {
        return sk_fail_memory(b->err, "the layers");
    }
    set_scales(b);
    plan_arena(b, feature_layer);
    fill_header(b, feature_layer);
    lay_out(b);
    b->bytes = sk_calloc(b->size, 1);
    if (!b->bytes) {
        return sk_fail_memory(b->err, "the int8 model");
    }
    fill_lut(b);
    for (size_t i = 0; i < r->count; i++) {
        if (sk_layer_has_weights(&r->layers[i])) {
            const sk_status status = quantize_weights(b, i);
            if (status != SK_OK) {
                return status;
            }
        } else {
            set_joint(b, i);
        }
    }
    b->header.file_bytes = b->size;
    memcpy(b->bytes, &b->header, sizeof b->header);
    memcpy(b->bytes + b->header.layer_offset, b->records, r->count * sizeof *b->records);
    const uint32_t crc = sk_skn_crc(b->bytes, b->size);
    memcpy(b->bytes + SK_SKN_CRC_AT, &crc, sizeof crc);
    const sk_status status = sk_skn_check(b->bytes, b->size, b->err);
    return status == SK_OK ? SK_OK : sk_error_prefix(b->err, status, "the quantised model would not run");
}

sk_status sk_skn_build(const sk_skn_recipe *recipe, uint8_t **bytes, size_t *size, sk_error *err) {
    builder b = {.recipe = recipe, .err = err};
    sk_status status = sk_skn_check_recipe(recipe, err);
    if (status == SK_OK) {
        status = build(&b);
    }
    sk_free(b.tensors);
    sk_free(b.records);
    if (status != SK_OK) {
        sk_free(b.bytes);
        return status;
    }
    *bytes = b.bytes;
    *size = b.size;
    return SK_OK;
}
