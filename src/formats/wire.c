/* SPDX-License-Identifier: Apache-2.0 */
/* Protobuf's wire format, field by field. */
#include "formats/wire.h"

#include <string.h>

int sk_wire_varint(sk_wire *in, uint64_t *out) {
    *out = 0;
    for (unsigned shift = 0; shift < 64 && in->at < in->end; shift += 7) {
        const uint8_t byte = *in->at++;
        *out |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) return 1;
    }
    return 0;
}

int sk_wire_next(sk_wire *in, sk_wire_field *field) {
    uint64_t tag = 0, length = 0;
    if (in->at == in->end) return 0;
    if (!sk_wire_varint(in, &tag) || tag >> 3 == 0 || tag >> 32) return -1;
    memset(field, 0, sizeof *field);
    field->number = (uint32_t)(tag >> 3);
    field->type = (uint32_t)(tag & 7);
    switch (field->type) {
    case 0: return sk_wire_varint(in, &field->value) ? 1 : -1;
    case 1: length = 8; break;
    case 2:
        if (!sk_wire_varint(in, &length)) return -1;
        break;
    case 5: length = 4; break;
    default: return -1; /* groups do not occur */
    }
    if (length > (uint64_t)(in->end - in->at)) return -1;
    field->bytes = (sk_wire){in->at, in->at + length};
    in->at += length;
    return 1;
}
