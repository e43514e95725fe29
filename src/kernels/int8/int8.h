/* SPDX-License-Identifier: Apache-2.0 */
/* Integer kernels of the int8 executor: one table per instruction set, all equal to the C reference bit for bit.
 * docs/int8.md defines the arithmetic. Needs libc only. Internal. */
#ifndef SK_INT8_H
#define SK_INT8_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "siskin/model.h"

/* One layer as the kernels see it; activations are NHWC of one picture, tightly packed, and int8 unless a flag says
 * that their codes are int16: int16_c.c alone runs such layers. */
typedef struct sk_q_layer {
    sk_op op;
    sk_act act;
    int kernel, stride, pad;
    int in_c, in_h, in_w, out_c, out_h, out_w;
    int zero_in, zero_in2, zero_out; /* in2: gate or other summand */
    int int16_in, int16_in2, int16_out;
    int low, high;                   /* clamp of the output code */
    int shift;                       /* POOL */
    int32_t mult2;                   /* POOL */
    float factor, factor2;           /* SCALE, ADD */
    /* CONV, POINTWISE, LINEAR: [out_c] rows of `row` bytes in (kernel y, kernel x, in_c) order; DEPTHWISE: [k*k] rows
     * of channels. Never -128. */
    const int8_t *weight;
    size_t row;
    const int32_t *bias; /* [out_c], input zero point folded in, but of int16 inputs */
    const float *mult;   /* [out_c]: codes per unit of the sum; of HSIGMOID codes per 1 */
    const float *curve;  /* [out_c], HSWISH and HSIGMOID: a sixth of the real value of a unit of the sum; else NULL */
    const void *packed;   /* what `pack` wrote, NULL if packed_bytes is 0 */
} sk_q_layer;

typedef struct sk_int8_kernels {
    const char *name;
    size_t (*packed_bytes)(const sk_q_layer *layer);
    void (*pack)(const sk_q_layer *layer, void *packed);
    size_t (*scratch_bytes)(const sk_q_layer *layer);
    /* Scratch is 64-byte aligned. */
    void (*gemm)(const sk_q_layer *layer, const int8_t *in, int8_t *out, void *scratch);
    void (*depthwise)(const sk_q_layer *layer, const int8_t *in, int8_t *out, void *scratch);
    void (*pool)(const sk_q_layer *layer, const int8_t *in, int8_t *out);
    void (*scale)(const sk_q_layer *layer, const int8_t *in, const int8_t *gate, int8_t *out);
    void (*add)(const sk_q_layer *layer, const int8_t *in, const int8_t *in2, int8_t *out);
    /* Codes of a picture: out[3 * i + c] = table[256 * c + image[3 * i + c]], i < pixels. */
    void (*input)(const int8_t *table, const uint8_t *image, size_t pixels, int8_t *out);
} sk_int8_kernels;

/* ---- layers with int16 codes (int16_c.c): plain C for every CPU, sums of 64 bits ------------------------------ */
static inline int sk_has_int16(const sk_q_layer *layer) {
    return layer->int16_in || layer->int16_in2 || layer->int16_out;
}
size_t sk_int16_scratch_bytes(const sk_q_layer *layer);
void sk_int16_run(const sk_q_layer *layer, const int8_t *in, const int8_t *in2, int8_t *out, void *scratch);
static inline int32_t sk_code_at(const int8_t *codes, int int16, size_t i) {
    return int16 ? ((const int16_t *)(const void *)codes)[i] : codes[i];
}

/* ---- any layer ------------------------------------------------------------------------------------------------- */
static inline size_t sk_int8_packed_bytes(const sk_int8_kernels *kernels, const sk_q_layer *layer) {
    return sk_has_int16(layer) ? 0 : kernels->packed_bytes(layer);
}

static inline size_t sk_int8_scratch_bytes(const sk_int8_kernels *kernels, const sk_q_layer *layer) {
    return sk_has_int16(layer) ? sk_int16_scratch_bytes(layer) : kernels->scratch_bytes(layer);
}

/* A layer that is packed. in2: gate or other summand, of SCALE and ADD alone. */
static inline void sk_int8_run(const sk_int8_kernels *kernels, const sk_q_layer *layer, const int8_t *in,
                               const int8_t *in2, int8_t *out, void *scratch) {
    if (sk_has_int16(layer)) {
        sk_int16_run(layer, in, in2, out, scratch);
    } else if (layer->op == SK_OP_DEPTHWISE) {
        kernels->depthwise(layer, in, out, scratch);
    } else if (layer->op == SK_OP_POOL) {
        kernels->pool(layer, in, out);
    } else if (layer->op == SK_OP_SCALE) {
        kernels->scale(layer, in, in2, out);
    } else if (layer->op == SK_OP_ADD) {
        kernels->add(layer, in, in2, out);
    } else {
        kernels->gemm(layer, in, out, scratch);
    }
}

extern const sk_int8_kernels sk_int8_c;
void sk_int8_c_input(const int8_t *table, const uint8_t *image, size_t pixels, int8_t *out);
/* x86/: NULL if this CPU has it not. sk_int8_avx512 needs VNNI too. */
const sk_int8_kernels *sk_int8_avx2(void);
const sk_int8_kernels *sk_int8_avxvnni(void);
const sk_int8_kernels *sk_int8_avx512(void);
/* One of c, avx2, avxvnni, avx512; NULL if this CPU or this build (the board's has c alone) has it not. */
const sk_int8_kernels *sk_int8_path(const char *name);
/* The last of these that this CPU has, none behind the one that SISKIN_CPU in the environment names. */
const sk_int8_kernels *sk_int8_choose(void);

/* ---- the arithmetic ---------------------------------------------------------------------------------------- */
/* floor(value * mult / 2^shift + 1/2): ties go up. The quotient fits int32 by what was checked at open. */
static inline int32_t sk_requant(int32_t value, int32_t mult, int shift) {
    return (int32_t)(((int64_t)value * mult + ((int64_t)1 << (shift - 1))) >> shift);
}

static inline int8_t sk_clamp8(int32_t value, int low, int high) {
    return (int8_t)(value < low ? low : value > high ? high : value);
}

/* The nearest whole number, ties to even, of |value| < 2^30, clamped to +-most, at most 2^22. */
static inline int32_t sk_round(float value, float most) {
    const float magic = 12582912; /* 1.5 * 2^23: adding it leaves no bits after the point */
    const float near = value < -most ? -most : value > most ? most : value, sum = near + magic;
    int32_t bits;
    memcpy(&bits, &sum, sizeof bits);
    return bits - 0x4b400000;
}

static inline int8_t sk_code(const sk_q_layer *layer, float value) {
    return sk_clamp8(sk_round(value, 1023) + layer->zero_out, layer->low, layer->high);
}

/* From a sum of products to the output's value in steps. Every operation is rounded by itself, none is fused. */
static inline float sk_activate(const sk_q_layer *layer, float sum, int channel) {
    float value = layer->mult[channel];
    if (layer->act != SK_ACT_HSIGMOID) {
        value = sum * value;
    }
    if (layer->act >= SK_ACT_HSWISH) {
        const float gate = sum * layer->curve[channel] + 0.5f;
        value = value * (gate < 0 ? 0 : gate > 1 ? 1 : gate);
    }
    return value;
}

static inline int8_t sk_finish(const sk_q_layer *layer, int32_t sum, int channel) {
    return sk_code(layer, sk_activate(layer, (float)sum, channel));
}

/* Writes the taps of output pixel (oy, ox): pointers to in_c channels, `outside` where the kernel leaves the
 * picture. */
static inline void sk_taps(const sk_q_layer *layer, const int8_t *in, const int8_t *outside, int oy, int ox,
                           const int8_t **taps) {
    for (int ky = 0; ky < layer->kernel; ky++) {
        const int y = oy * layer->stride - layer->pad + ky;
        for (int kx = 0; kx < layer->kernel; kx++) {
            const int x = ox * layer->stride - layer->pad + kx;
            const int inside = y >= 0 && y < layer->in_h && x >= 0 && x < layer->in_w;
            *taps++ = inside ? in + ((size_t)y * (size_t)layer->in_w + (size_t)x) * (size_t)layer->in_c : outside;
        }
    }
}
#define SK_MAX_TAPS 49

/* Terms of one sum of a CONV, POINTWISE or LINEAR layer. */
static inline int sk_gemm_depth(const sk_q_layer *layer) {
    return layer->kernel * layer->kernel * layer->in_c;
}
#endif
