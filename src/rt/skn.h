/* SPDX-License-Identifier: Apache-2.0 */
/* The .skn file as structs: little endian, fixed offsets, every section aligned to 64 (docs/formats.md). Internal. */
#ifndef SK_RT_SKN_H
#define SK_RT_SKN_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "siskin's files are little endian and are mapped as they are"
#endif

#define SK_SKN_MAGIC "\x89SKN\r\n\x1a\n" /* survives no text conversion, like PNG's */
#define SK_SKN_VERSION 4       /* older ones requantised with other arithmetic */
#define SK_SKN_VERSION_INT16 5 /* the same with layers whose output has int16 codes */
#define SK_SKN_ALIGN 64
#define SK_SKN_MAX_LAYERS 512
#define SK_SKN_MAX_K 16384          /* terms of one sum: 128 * 127 * K + 2^30 stays below 2^31 */
#define SK_INT16_MAX_PIXELS 4096    /* that a mean of int16 codes is over: their sum fits int32 */
#define SK_SKN_MAX_ARENA (64u << 20)
#define SK_SKN_CRC_AT 24            /* offset of the checksum, taken as zero while summing */

typedef struct sk_skn_header {
    char magic[8];
    uint32_t version, header_bytes;
    uint64_t file_bytes;
    uint32_t crc32, reserved0;
    uint32_t layer_offset, layer_count, layer_bytes, lut_offset;
    uint32_t arena_bytes, input_offset; /* of the quantised image in the arena */
    int32_t feature_layer, colour_order; /* 0: RGB */
    char arch[32], class_names[128], run_id[64];
    int32_t size, classes, features, crops;
    float mean[3], std[3];
    float threshold, penalty;
    float input_scale;
    int32_t input_zero;
    int32_t method, pictures; /* how it was quantised (docs/formats.md), calibration pictures */
    uint64_t seed;
    float temperature;
    uint8_t reserved[148];
} sk_skn_header;
static_assert(sizeof(sk_skn_header) == 512, "the header is 512 bytes");

/* ops and activations are sk_op and sk_act of siskin/model.h */
typedef struct sk_skn_layer {
    char name[64];
    uint8_t op, act, kernel, stride;
    uint8_t pad, shift, int16, reserved1; /* int16: 1 if the output has int16 codes */
    int32_t in_c, in_h, in_w, out_c, out_h, out_w;
    int32_t input, input2; /* earlier layers, -1: the image or none */
    uint32_t weight_offset, weight_row, bias_offset, mult_offset;
    int32_t mult2;
    float factor; /* SCALE; ADD: of the first */
    float out_scale;
    int32_t out_zero;
    uint32_t arena_offset;
    int8_t low, high; /* clamp of the output code; of int16 codes -128 and 127, ReLU clamps at the zero point */
    uint8_t reserved0[2];
    uint32_t curve_offset; /* HSWISH, HSIGMOID */
    float factor2;         /* ADD: of the second */
    uint8_t reserved[8];
} sk_skn_layer;
static_assert(sizeof(sk_skn_layer) == 160, "a layer record is 160 bytes");

/* Steps between the lowest and the highest code of a tensor. */
static inline int sk_skn_steps(int int16) {
    return int16 ? 65535 : 255;
}

/* CRC-32 (IEEE 802.3) of a whole file with its checksum field taken as zero; size >= 32. */
uint32_t sk_skn_crc(const uint8_t *bytes, size_t size);
#endif
