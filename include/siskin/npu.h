/* SPDX-License-Identifier: Apache-2.0 */
/* The board's NPU through the vendor's runtime library (librknnmrt.so), which is opened when it is asked for and of
 * which nothing is needed to build. A picture that the NPU does not answer is answered by the int8 network on the
 * CPU. */
#ifndef SISKIN_NPU_H
#define SISKIN_NPU_H

#include <stdint.h>

#include "siskin/rt.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sk_npu sk_npu;

typedef struct sk_npu_options {
    const char *library; /* path of librknnmrt.so; NULL: where the system looks for libraries */
    int deadline_ms;     /* of one picture: no further try begins after it; 0: 2000. Most 60000 */
} sk_npu_options;

/* What the vendor's runtime says of itself and of the model. */
typedef struct sk_npu_info {
    char api[256], driver[256];          /* versions */
    char custom[1024];                   /* text that the conversion put into the .rknn; siskin puts the card there */
    uint32_t weight_bytes, working_bytes; /* 0 if it does not say */
    int attr_bytes;                      /* sizeof(rknn_tensor_attr) it accepts: 376, or 372 of old releases */
    int row_bytes;                       /* of one row of the input, padding included */
    int output_count;                    /* elements of the output, padding included; at least the classes */
    const char *output_layout;           /* "NHWC", "NCHW" or "NC1HWC2" */
    float scale;                         /* logit = (code - zero_point) * scale */
    int zero_point;
    int other_run; /* 1: the card in `custom` is of another run than the network on the CPU */
} sk_npu_info;

/* How one picture was answered. */
typedef struct sk_npu_outcome {
    int on_cpu;     /* 1: the logits are the CPU's */
    int tries;      /* runs of the NPU, 0 while it rests after failures */
    double ms;      /* from the call to the answer */
    char note[160]; /* why it was the CPU, or that the NPU was late; "" if all went well */
} sk_npu_outcome;

/* Opens the library and the model, and makes the memory of input and output once. `cpu` is the same network as .skn:
 * it names size and classes, answers when the NPU does not, stays the caller's and must outlive the handle. Errors:
 * ARGUMENT (options), IO (no library, no model file), UNSUPPORTED (a runtime that is too old or lacks a call, a build
 * without the NPU, an output type other than int8), FORMAT (the runtime refuses the model), MISMATCH (another size or
 * fewer classes than `cpu`, attributes that contradict each other), MEMORY. */
sk_status sk_npu_open(const char *model_path, sk_rt *cpu, const sk_npu_options *options, sk_npu **out, sk_error *err);
void sk_npu_close(sk_npu *npu);
const sk_npu_info *sk_npu_get_info(const sk_npu *npu);

/* image: size x size x 3 RGB bytes; logits: `classes` real values. Never fails: a run that fails or writes nothing is
 * tried again until the deadline, then the CPU answers. After a picture without an answer the NPU rests for 8 pictures,
 * twice as many each further time up to 64, because a failed run blocks the board for seconds. */
void sk_npu_run(sk_npu *npu, const uint8_t *image, float *logits, sk_npu_outcome *outcome);
double sk_npu_clock(void); /* milliseconds, monotonic: what `ms` is measured with */

#ifdef __cplusplus
}
#endif
#endif
