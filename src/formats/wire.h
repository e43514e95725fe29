/* SPDX-License-Identifier: Apache-2.0 */
/* Walks protobuf's wire format by hand: no recursion, no copies. protobuf-c descends as deep as a file tells it to,
 * and a hostile file ends on its stack. Internal. */
#ifndef SK_FORMATS_WIRE_H
#define SK_FORMATS_WIRE_H

#include <stdint.h>

typedef struct sk_wire {
    const uint8_t *at, *end;
} sk_wire;

typedef struct sk_wire_field {
    uint32_t number, type; /* type 0: value; 2: bytes; 1 and 5: bytes of 8 and 4 */
    uint64_t value;
    sk_wire bytes;
} sk_wire_field;

/* 0 if it is cut off. */
int sk_wire_varint(sk_wire *in, uint64_t *out);
/* 1: a field, 0: the end, -1: broken. */
int sk_wire_next(sk_wire *in, sk_wire_field *field);
#endif
