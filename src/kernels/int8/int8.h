/* SPDX-License-Identifier: Apache-2.0 */
/* Integer kernels of the int8 executor: one table per instruction set, all equal to the C reference bit for bit.
 * docs/int8.md defines the arithmetic. Needs libc only. Internal. */
#ifndef SK_INT8_H
#define SK_INT8_H

#include <stddef.h>
#include <stdint.h>

#include "siskin/model.h"

/* One layer as the kernels see it; activations are NHWC of one picture, tightly packed. */
typedef struct sk_q_layer {
    sk_op op;
    sk_act act;
    int kernel, stride, pad;
    int in_c, in_h, in_w, out_c, out_h, out_w;
    int zero_in, zero_in2, zero_out; /* in2: gate or other summand */
    int low, high;                   /* clamp of the output code */
    int shift;                       /* POOL, SCALE */
    int32_t mult2, mult3;
    int fraction; /* bits after the point of a code before it is rounded, 1..6 */
    int left;     /* shift of the sums to the left, ahead of their channel's to the right */
    /* CONV, POINTWISE, LINEAR: [out_c] rows of `row` bytes in (kernel y, kernel x, in_c) order; DEPTHWISE: [k*k] rows
     * of channels. Never -128. */
    const int8_t *weight;
    size_t row;
    const int32_t *bias;  /* [out_c], input zero point and half a unit of the shift folded in */
    const int32_t *mult;  /* [out_c], multiplier (bits 0-14) and shift (bits 16-20) */
    const int32_t *curve; /* [out_c], the same for the gate of HSWISH and HSIGMOID, else NULL */
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
    void (*scale)(const sk_q_layer *layer, const int8_t *in, const int8_t *gate, int8_t *out, void *scratch);
    void (*add)(const sk_q_layer *layer, const int8_t *in, const int8_t *in2, int8_t *out);
    /* Codes of a picture: out[3 * i + c] = table[256 * c + image[3 * i + c]], i < pixels. */
    void (*input)(const int8_t *table, const uint8_t *image, size_t pixels, int8_t *out);
} sk_int8_kernels;

extern const sk_int8_kernels sk_int8_c;
void sk_int8_c_input(const int8_t *table, const uint8_t *image, size_t pixels, int8_t *out);
/* NULL if this CPU or this build (the board's) has none. sk_int8_avx512 needs VNNI too. */
const sk_int8_kernels *sk_int8_avx2(void);
const sk_int8_kernels *sk_int8_avx512(void);
/* The widest for this CPU, no wider than SISKIN_CPU in the environment names: c, avx2 or avx512. */
const sk_int8_kernels *sk_int8_choose(void);

/* ---- the arithmetic ---------------------------------------------------------------------------------------- */
/* floor(value * mult / 2^shift + 1/2): ties go up. The quotient fits int32 by what was checked at open. */
static inline int32_t sk_requant(int32_t value, int32_t mult, int shift) {
    return (int32_t)(((int64_t)value * mult + ((int64_t)1 << (shift - 1))) >> shift);
}

static inline int8_t sk_clamp8(int32_t value, int low, int high) {
    return (int8_t)(value < low ? low : value > high ? high : value);
}

static inline int32_t sk_clamp16(int32_t value) {
    return value < INT16_MIN ? INT16_MIN : value > INT16_MAX ? INT16_MAX : value;
}

/* Product of fractions of 15 bits, ties up; one instruction of SSE (pmulhrsw) and NEON (vqrdmulh). Not both -2^15. */
static inline int32_t sk_mulhrs(int32_t a, int32_t b) {
    return (a * b + (1 << 14)) >> 15;
}

static inline int sk_word_mult(int32_t word) {
    return word & 0x7fff;
}

static inline int sk_word_shift(int32_t word) {
    return word >> 16;
}

/* A sum that was shifted to the left, as 16 bits in the channel's own unit. */
static inline int32_t sk_narrow(int32_t sum, int32_t word) {
    return sk_clamp16(sum >> sk_word_shift(word));
}

/* From a sum of products to the output's code. */
static inline int8_t sk_finish(const sk_q_layer *layer, int32_t sum, int channel) {
    const int32_t word = layer->mult[channel], wide = (int32_t)((uint32_t)sum << layer->left);
    int32_t u = sk_word_mult(word);
    if (layer->act != SK_ACT_HSIGMOID) {
        u = sk_mulhrs(sk_narrow(wide, word), u);
    }
    if (layer->act >= SK_ACT_HSWISH) {
        /* minus hard-sigmoid: -2^15 is exactly -1, which +1 has no counterpart of */
        const int32_t six = sk_mulhrs(sk_narrow(wide, layer->curve[channel]), sk_word_mult(layer->curve[channel]));
        const int32_t gate = sk_clamp16(-(1 << 14) - six);
        u = -sk_mulhrs(u, gate > 0 ? 0 : gate);
    }
    u = sk_clamp16(u + layer->zero_out * (1 << layer->fraction) + (1 << (layer->fraction - 1)));
    return sk_clamp8(u >> layer->fraction, layer->low, layer->high);
}

/* SCALE and ADD: codes times 2^8 times a factor of 15 bits, plus a rest that holds what the zero points come to. */
static inline int32_t sk_rest_of_zeros(const sk_q_layer *layer, int32_t factor, int32_t factor2) {
    return sk_clamp16(layer->zero_out * (1 << layer->fraction) + (1 << (layer->fraction - 1)) -
                      sk_mulhrs(layer->zero_in * 256, factor) - sk_mulhrs(layer->zero_in2 * 256, factor2));
}

/* Of one channel of SCALE. */
static inline int32_t sk_gate_factor(const sk_q_layer *layer, int8_t gate) {
    const int32_t factor = ((gate - layer->zero_in2) * layer->mult2 + (1 << (layer->shift - 1))) >> layer->shift;
    return factor < -INT16_MAX ? -INT16_MAX : sk_clamp16(factor);
}

static inline int8_t sk_finish_joint(const sk_q_layer *layer, int32_t u, int32_t rest) {
    return sk_clamp8(sk_clamp16(u + rest) >> layer->fraction, layer->low, layer->high);
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
