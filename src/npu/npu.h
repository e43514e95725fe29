/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this room share. Internal. */
#ifndef SK_NPU_NPU_H
#define SK_NPU_NPU_H

#include "base/base.h"
#include "npu/abi.h"
#include "siskin/npu.h"

struct sk_npu {
    void *library;
    sk_rknn_calls calls;
    sk_rknn_context context;
    int initialised; /* the context is to be destroyed */
    sk_rt *cpu;
    int8_t *codes; /* logits of the CPU */
    sk_rknn_memory *input, *output;
    uint32_t *offsets; /* byte of the output where each class stands */
    int size, classes, deadline_ms;
    int rest, next_rest; /* pictures left without the NPU, and how many after its next failure */
    sk_npu_info info;
};

/* library.c: opens `path` (NULL: librknnmrt.so) and finds the calls. Errors: IO, UNSUPPORTED. */
sk_status sk_npu_library_open(const char *path, void **library, sk_rknn_calls *calls, sk_error *err);
void sk_npu_library_close(void *library);
/* What the vendor's return code means, as words that fit behind "it says "; never NULL. */
const char *sk_npu_code_text(int code);

/* attributes.c: asks for the attributes of input and output, proves that they fit the network on the CPU, fills info
 * and offsets, and leaves `in` and `out` as set_memory wants them. Errors: FORMAT, MISMATCH, UNSUPPORTED, MEMORY. */
sk_status sk_npu_attributes(sk_npu *npu, sk_rknn_attr *in, sk_rknn_attr *out, sk_error *err);

#endif
