/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers as model files store them, turned into float32. Half precision by shifting and one exact multiplication,
 * since not every target has a conversion instruction. */
#include <string.h>

#include "formats/readers.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "model files are little-endian and are read without swapping"
#endif

static float half_to_float(uint16_t half) {
    const uint32_t sign = (uint32_t)(half & 0x8000u) << 16, magnitude = (uint32_t)(half & 0x7fffu) << 13;
    uint32_t bits;
    float value;
    if ((half & 0x7c00u) == 0x7c00u) {
        bits = sign | 0x7f800000u | (magnitude & 0x007fffffu);
        memcpy(&value, &bits, 4);
        return value;
    }
    /* The exponent bias differs by 112; scaling by 2^112 moves it and normalises subnormal halves on the way. */
    memcpy(&value, &magnitude, 4);
    value *= 0x1p112f;
    return sign ? -value : value;
}

size_t sk_number_size(sk_number type) {
    return type == SK_NUMBER_F32 ? 4 : type == SK_NUMBER_F16 || type == SK_NUMBER_BF16 ? 2 : 8;
}

int64_t sk_number_i64(const uint8_t *bytes) {
    int64_t value;
    memcpy(&value, bytes, 8);
    return value;
}

void sk_numbers_to_float(sk_number type, const uint8_t *bytes, size_t count, size_t stride, float *out) {
    const size_t step = stride * sk_number_size(type);
    if (type == SK_NUMBER_F32 && stride == 1) {
        memcpy(out, bytes, count * 4);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        const uint8_t *at = bytes + i * step;
        uint16_t half;
        double wide;
        switch (type) {
        case SK_NUMBER_F32: memcpy(&out[i], at, 4); break;
        case SK_NUMBER_F16:
            memcpy(&half, at, 2);
            out[i] = half_to_float(half);
            break;
        case SK_NUMBER_BF16: {
            memcpy(&half, at, 2);
            const uint32_t bits = (uint32_t)half << 16;
            memcpy(&out[i], &bits, 4);
            break;
        }
        case SK_NUMBER_F64:
            memcpy(&wide, at, 8);
            out[i] = (float)wide;
            break;
        case SK_NUMBER_I64: out[i] = (float)sk_number_i64(at); break;
        }
    }
}
