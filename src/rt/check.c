/* SPDX-License-Identifier: Apache-2.0 */
/* Checks a .skn file whole, once, so that a broken or hostile file is refused with a reason instead of being run. */
#include "rt/check.h"

#include <math.h>
#include <string.h>

#define BAD(...) sk_fail(err, SK_ERR_FORMAT, __VA_ARGS__)

/* Eight bytes at a time: table[k][b] is what byte b does to the sum when k bytes come after it. */
typedef struct crc_tables {
    uint32_t table[8][256];
} crc_tables;

static void make_tables(crc_tables *t) {
    for (uint32_t b = 0; b < 256; b++) {
        uint32_t crc = b;
        for (int i = 0; i < 8; i++) {
            crc = (crc >> 1) ^ (crc & 1 ? 0xedb88320u : 0);
        }
        t->table[0][b] = crc;
    }
    for (int k = 1; k < 8; k++) {
        for (int b = 0; b < 256; b++) {
            t->table[k][b] = (t->table[k - 1][b] >> 8) ^ t->table[0][t->table[k - 1][b] & 255];
        }
    }
}

static uint32_t crc_go_on(const crc_tables *t, uint32_t crc, const uint8_t *bytes, size_t size) {
    for (; size >= 8; bytes += 8, size -= 8) {
        uint32_t low, high;
        memcpy(&low, bytes, 4);
        memcpy(&high, bytes + 4, 4);
        low ^= crc;
        crc = t->table[7][low & 255] ^ t->table[6][low >> 8 & 255] ^ t->table[5][low >> 16 & 255] ^
              t->table[4][low >> 24] ^ t->table[3][high & 255] ^ t->table[2][high >> 8 & 255] ^
              t->table[1][high >> 16 & 255] ^ t->table[0][high >> 24];
    }
    for (; size > 0; bytes++, size--) {
        crc = (crc >> 8) ^ t->table[0][(crc ^ *bytes) & 255];
    }
    return crc;
}

uint32_t sk_skn_crc(const uint8_t *bytes, size_t size) {
    static const uint8_t none[4] = {0};
    crc_tables tables; /* 8 KB for as long as a file is opened */
    make_tables(&tables);
    uint32_t crc = crc_go_on(&tables, 0xffffffffu, bytes, SK_SKN_CRC_AT);
    crc = crc_go_on(&tables, crc, none, sizeof none);
    return ~crc_go_on(&tables, crc, bytes + SK_SKN_CRC_AT + 4, size - SK_SKN_CRC_AT - 4);
}

typedef struct checker {
    const uint8_t *bytes;
    size_t size;
    const sk_skn_header *header;
    const sk_skn_layer *layers;
    sk_error *err;
} checker;

static int section_fits(const checker *c, uint64_t offset, uint64_t bytes) {
    return offset % SK_SKN_ALIGN == 0 && offset >= sizeof(sk_skn_header) && bytes <= c->size &&
           offset <= c->size - bytes;
}

static int is_scale(float value) {
    return isfinite(value) && value > 0 && value < 1e30f;
}

static int is_code(int32_t value, int int16) {
    return int16 ? value >= INT16_MIN && value <= INT16_MAX : value >= -128 && value <= 127;
}

static int all_zero(const uint8_t *bytes, size_t size) {
    for (size_t i = 0; i < size; i++) {
        if (bytes[i]) {
            return 0;
        }
    }
    return 1;
}

static sk_status check_header(const checker *c) {
    const sk_skn_header *h = c->header;
    sk_error *err = c->err;
    if (!memchr(h->arch, 0, sizeof h->arch) || !memchr(h->class_names, 0, sizeof h->class_names) ||
        !memchr(h->run_id, 0, sizeof h->run_id)) {
        return BAD("the .skn card has a text without end");
    }
    if (h->colour_order != 0 || h->reserved0 != 0 || !all_zero(h->reserved, sizeof h->reserved)) {
        return sk_fail(err, SK_ERR_UNSUPPORTED, "the .skn file uses a feature that this build does not know");
    }
    if (h->size < 1 || h->size > 1024 || h->classes < 1 || h->classes > 4096 || h->features < 1 ||
        (h->crops != 0 && h->crops != 1 && h->crops != 3)) {
        return BAD("the .skn card has an impossible size, number of classes or crop rule");
    }
    for (int i = 0; i < 3; i++) {
        if (!isfinite(h->mean[i]) || !is_scale(h->std[i])) {
            return BAD("the .skn card has an impossible mean or std");
        }
    }
    if (!isfinite(h->threshold) || !isfinite(h->penalty) || !is_scale(h->input_scale) || !is_code(h->input_zero, 0)) {
        return BAD("the .skn card has an impossible threshold or input scale");
    }
    if (!(h->temperature >= SK_TEMPERATURE_LEAST && h->temperature <= SK_TEMPERATURE_MOST)) {
        return BAD("the .skn card has an impossible temperature");
    }
    if (h->layer_bytes != sizeof(sk_skn_layer) || h->layer_count < 1 || h->layer_count > SK_SKN_MAX_LAYERS ||
        !section_fits(c, h->layer_offset, (uint64_t)h->layer_count * sizeof(sk_skn_layer))) {
        return BAD("the .skn layer table lies outside of the file");
    }
    if (!section_fits(c, h->lut_offset, 3 * 256)) {
        return BAD("the .skn input table lies outside of the file");
    }
    if (h->arena_bytes > SK_SKN_MAX_ARENA || h->input_offset % SK_SKN_ALIGN != 0 ||
        (uint64_t)h->input_offset + (uint64_t)h->size * (uint64_t)h->size * 3 > h->arena_bytes) {
        return BAD("the .skn arena is too large or too small for the picture");
    }
    return SK_OK;
}

static uint64_t tensor_values(const sk_skn_layer *l) {
    return (uint64_t)l->out_c * (uint64_t)l->out_h * (uint64_t)l->out_w;
}

static uint64_t tensor_bytes(const sk_skn_layer *l) {
    return tensor_values(l) * (l->int16 ? 2 : 1);
}

/* Has the output of layer `index` (-1: the picture) int16 codes? */
static int is_int16(const checker *c, int32_t index) {
    return index >= 0 && c->layers[index].int16;
}

static int has_weights(const sk_skn_layer *l) {
    return l->op == SK_OP_CONV || l->op == SK_OP_DEPTHWISE || l->op == SK_OP_POINTWISE || l->op == SK_OP_LINEAR;
}

/* Shape of the tensor of layer `index`, -1: the picture. */
static void shape_of(const checker *c, int32_t index, int32_t shape[3]) {
    const sk_skn_layer *l = index < 0 ? NULL : c->layers + index;
    shape[0] = l ? l->out_c : 3;
    shape[1] = l ? l->out_h : c->header->size;
    shape[2] = l ? l->out_w : c->header->size;
}

static sk_status check_shape(const checker *c, uint32_t index) {
    const sk_skn_layer *l = c->layers + index;
    sk_error *err = c->err;
    const int32_t dims[6] = {l->in_c, l->in_h, l->in_w, l->out_c, l->out_h, l->out_w};
    for (int i = 0; i < 6; i++) {
        if (dims[i] < 1 || dims[i] > 4096) {
            return BAD(".skn layer %u: impossible shape", index);
        }
    }
    if (l->input < -1 || l->input >= (int32_t)index || l->input2 < -1 || l->input2 >= (int32_t)index) {
        return BAD(".skn layer %u: reads a layer that is not before it", index);
    }
    int32_t in[3], in2[3];
    shape_of(c, l->input, in);
    shape_of(c, l->input2, in2);
    int fits = in[0] == l->in_c && in[1] == l->in_h && in[2] == l->in_w;
    const int same = l->out_c == l->in_c && l->out_h == l->in_h && l->out_w == l->in_w;
    if (has_weights(l)) {
        fits = fits && l->kernel >= 1 && l->kernel <= 7 && l->stride >= 1 && l->stride <= 8 && l->pad < l->kernel &&
               l->in_h + 2 * l->pad >= l->kernel && l->in_w + 2 * l->pad >= l->kernel &&
               l->out_h == (l->in_h + 2 * l->pad - l->kernel) / l->stride + 1 &&
               l->out_w == (l->in_w + 2 * l->pad - l->kernel) / l->stride + 1;
        fits = fits && (l->op != SK_OP_DEPTHWISE || l->in_c == l->out_c);
        fits = fits && (uint64_t)l->kernel * l->kernel * (uint64_t)l->in_c <= SK_SKN_MAX_K;
        fits = fits && l->act <= SK_ACT_HSIGMOID && l->input2 == -1;
    } else if (l->op == SK_OP_POOL) {
        fits = fits && l->out_c == l->in_c && l->out_h == 1 && l->out_w == 1 && l->in_h * l->in_w <= 1 << 20;
    } else if (l->op == SK_OP_SCALE) {
        fits = fits && same && l->input2 >= 0 && in2[0] == l->in_c && in2[1] == 1 && in2[2] == 1;
    } else if (l->op == SK_OP_ADD) {
        fits = fits && same && in2[0] == l->in_c && in2[1] == l->in_h && in2[2] == l->in_w;
    } else {
        return sk_fail(err, SK_ERR_UNSUPPORTED, ".skn layer %u: operation %d is not known to this build", index, l->op);
    }
    if (!fits || (!has_weights(l) && l->act != SK_ACT_NONE)) {
        return BAD(".skn layer %u: its shape does not fit its inputs", index);
    }
    if (!memchr(l->name, 0, sizeof l->name) || !all_zero(l->reserved, sizeof l->reserved) ||
        !all_zero(l->reserved0, sizeof l->reserved0) || l->reserved1 || !is_scale(l->out_scale) ||
        !is_code(l->out_zero, l->int16) || l->low > l->high) {
        return BAD(".skn layer %u: impossible name, scale or zero point", index);
    }
    if (l->int16 > (c->header->version == SK_SKN_VERSION_INT16) || (l->int16 && (l->low != -128 || l->high != 127)) ||
        (l->op == SK_OP_POOL && is_int16(c, l->input) && l->in_h * l->in_w > SK_INT16_MAX_PIXELS)) {
        return BAD(".skn layer %u: impossible width or clamp of its codes", index);
    }
    if (l->arena_offset % SK_SKN_ALIGN != 0 || l->arena_offset + tensor_bytes(l) > c->header->arena_bytes) {
        return BAD(".skn layer %u: its output lies outside of the arena", index);
    }
    return SK_OK;
}

/* Largest |sk_requant| of |value| <= bound. */
static int64_t requant_bound(int64_t bound, int32_t mult, int shift) {
    return ((bound * mult) >> shift) + 1;
}

/* The sums fit int32, and a code before it is clamped fits in its conversion from float. */
static sk_status check_sums(const checker *c, uint32_t index) {
    const sk_skn_layer *l = c->layers + index;
    sk_error *err = c->err;
    const int32_t *bias = (const int32_t *)(const void *)(c->bytes + l->bias_offset);
    const float *mult = (const float *)(const void *)(c->bytes + l->mult_offset);
    const float *curve = (const float *)(const void *)(c->bytes + l->curve_offset);
    const int int16 = is_int16(c, l->input); /* their zero point is not in the bias, their sums have 64 bits */
    const int64_t terms = (int64_t)l->kernel * l->kernel * (l->op == SK_OP_DEPTHWISE ? 1 : l->in_c);
    const int64_t products = terms * (int16 ? sk_skn_steps(1) : 128) * 127;
    const int curved = l->act == SK_ACT_HSWISH || l->act == SK_ACT_HSIGMOID;
    if (curved && !section_fits(c, l->curve_offset, (uint64_t)l->out_c * 4)) {
        return BAD(".skn layer %u: its weights lie outside of the file", index);
    }
    for (int i = 0; i < l->out_c; i++) {
        if (!is_scale(mult[i]) || (curved && !is_scale(curve[i])) || bias[i] > 1 << 30 || bias[i] < -(1 << 30)) {
            return BAD(".skn layer %u: impossible multiplier or bias", index);
        }
        const int64_t most = (bias[i] < 0 ? -(int64_t)bias[i] : bias[i]) + products;
        const double value = (double)mult[i] * (l->act == SK_ACT_HSIGMOID ? 1 : (double)most);
        if ((!int16 && most > INT32_MAX) || value >= 1 << 29) {
            return BAD(".skn layer %u: a sum can overflow", index);
        }
    }
    return SK_OK;
}

static sk_status check_arithmetic(const checker *c, uint32_t index) {
    const sk_skn_layer *l = c->layers + index;
    sk_error *err = c->err;
    if (has_weights(l)) {
        const uint64_t depth = l->op == SK_OP_DEPTHWISE ? (uint64_t)l->in_c
                                                        : (uint64_t)l->kernel * l->kernel * (uint64_t)l->in_c;
        const uint64_t rows = l->op == SK_OP_DEPTHWISE ? (uint64_t)l->kernel * l->kernel : (uint64_t)l->out_c;
        if (l->weight_row < depth || !section_fits(c, l->weight_offset, rows * l->weight_row) ||
            !section_fits(c, l->bias_offset, (uint64_t)l->out_c * 4) ||
            !section_fits(c, l->mult_offset, (uint64_t)l->out_c * 4)) {
            return BAD(".skn layer %u: its weights lie outside of the file", index);
        }
        if (memchr(c->bytes + l->weight_offset, 0x80, (size_t)(rows * l->weight_row))) {
            return BAD(".skn layer %u: a weight is -128", index);
        }
        return check_sums(c, index);
    }
    const int64_t first = sk_skn_steps(is_int16(c, l->input)), second = sk_skn_steps(is_int16(c, l->input2));
    int fits = 0;
    if (l->op == SK_OP_POOL) {
        fits = l->mult2 >= 1 && l->shift >= 1 && l->shift <= 62 &&
               requant_bound(first * l->in_h * l->in_w, l->mult2, l->shift) < 1 << 30;
    } else if (l->op == SK_OP_SCALE) {
        fits = is_scale(l->factor) && (double)l->factor * (double)(first * second) < 1 << 29;
    } else {
        fits = is_scale(l->factor) && is_scale(l->factor2) &&
               (double)l->factor * (double)first + (double)l->factor2 * (double)second < 1 << 29;
    }
    return fits ? SK_OK : BAD(".skn layer %u: impossible multiplier or shift", index);
}

/* No output may lie over a tensor that is still to be read. */
static sk_status check_plan(const checker *c) {
    const sk_skn_header *h = c->header;
    sk_error *err = c->err;
    const int32_t count = (int32_t)h->layer_count;
    for (int32_t t = -1; t < count; t++) {
        int32_t last = t == h->feature_layer ? count : t;
        for (int32_t i = t + 1; i < count; i++) {
            const sk_skn_layer *l = c->layers + i;
            if (l->input == t || (l->input2 == t && (l->op == SK_OP_SCALE || l->op == SK_OP_ADD))) {
                last = i > last ? i : last;
            }
        }
        const uint64_t a = t < 0 ? h->input_offset : c->layers[t].arena_offset;
        const uint64_t a_end = a + (t < 0 ? (uint64_t)h->size * (uint64_t)h->size * 3 : tensor_bytes(c->layers + t));
        for (int32_t i = t + 1; i <= last && i < count; i++) {
            const uint64_t b = c->layers[i].arena_offset, b_end = b + tensor_bytes(c->layers + i);
            if (a < b_end && b < a_end) {
                return BAD(".skn layer %d: its output lies over a tensor that is still needed", (int)i);
            }
        }
    }
    return SK_OK;
}

sk_status sk_skn_check(const uint8_t *bytes, size_t size, sk_error *err) {
    if (!bytes || (uintptr_t)bytes % 16 != 0) {
        return sk_fail(err, SK_ERR_ARGUMENT, "a .skn file in memory has to be aligned to 16 bytes");
    }
    const sk_skn_header *h = (const sk_skn_header *)(const void *)bytes;
    if (size < sizeof *h || memcmp(h->magic, SK_SKN_MAGIC, sizeof h->magic) != 0) {
        return BAD("not a .skn model");
    }
    if ((h->version != SK_SKN_VERSION && h->version != SK_SKN_VERSION_INT16) || h->header_bytes != sizeof *h) {
        return sk_fail(err, SK_ERR_UNSUPPORTED, ".skn version %u is not known to this build: quantise the model again",
                       (unsigned)h->version);
    }
    if (h->file_bytes != size || size > INT32_MAX) {
        return BAD("the .skn file is truncated or has bytes too many");
    }
    if (sk_skn_crc(bytes, size) != h->crc32) {
        return BAD("the .skn file is damaged: its checksum does not fit");
    }
    checker c = {bytes, size, h, NULL, err};
    sk_status status = check_header(&c);
    if (status != SK_OK) {
        return status;
    }
    c.layers = (const sk_skn_layer *)(const void *)(bytes + h->layer_offset);
    for (uint32_t i = 0; status == SK_OK && i < h->layer_count; i++) {
        status = check_shape(&c, i);
        if (status == SK_OK) {
            status = check_arithmetic(&c, i);
        }
    }
    if (status != SK_OK) {
        return status;
    }
    const sk_skn_layer *final = c.layers + h->layer_count - 1;
    if (tensor_bytes(final) != (uint64_t)h->classes || h->feature_layer < 0 ||
        h->feature_layer >= (int32_t)h->layer_count ||
        tensor_bytes(c.layers + h->feature_layer) != (uint64_t)h->features || final->int16 ||
        c.layers[h->feature_layer].int16) {
        return BAD("the .skn card's classes or features do not fit its layers");
    }
    return check_plan(&c);
}

sk_q_layer sk_skn_kernel_layer(const uint8_t *bytes, int32_t index) {
    const sk_skn_header *h = (const sk_skn_header *)(const void *)bytes;
    const sk_skn_layer *layers = (const sk_skn_layer *)(const void *)(bytes + h->layer_offset);
    const sk_skn_layer *record = layers + index;
    const sk_skn_layer *in = record->input < 0 ? NULL : layers + record->input;
    const sk_skn_layer *in2 = record->input2 < 0 ? NULL : layers + record->input2;
    sk_q_layer l = {0};
    l.op = (sk_op)record->op;
    l.act = (sk_act)record->act;
    l.kernel = record->kernel;
    l.stride = record->stride;
    l.pad = record->pad;
    l.in_c = record->in_c;
    l.in_h = record->in_h;
    l.in_w = record->in_w;
    l.out_c = record->out_c;
    l.out_h = record->out_h;
    l.out_w = record->out_w;
    l.zero_in = in ? in->out_zero : h->input_zero;
    l.zero_in2 = in2 ? in2->out_zero : 0;
    l.zero_out = record->out_zero;
    l.int16_in = in && in->int16;
    l.int16_in2 = in2 && in2->int16;
    l.int16_out = record->int16;
    l.low = !record->int16 ? record->low : record->act == SK_ACT_RELU ? record->out_zero : INT16_MIN;
    l.high = record->int16 ? INT16_MAX : record->high;
    l.shift = record->shift;
    l.mult2 = record->mult2;
    l.factor = record->factor;
    l.factor2 = record->factor2;
    if (has_weights(record)) {
        l.weight = (const int8_t *)bytes + record->weight_offset;
        l.row = record->weight_row;
        l.bias = (const int32_t *)(const void *)(bytes + record->bias_offset);
        l.mult = (const float *)(const void *)(bytes + record->mult_offset);
        if (record->act == SK_ACT_HSWISH || record->act == SK_ACT_HSIGMOID) {
            l.curve = (const float *)(const void *)(bytes + record->curve_offset);
        }
    }
    return l;
}
