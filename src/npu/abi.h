/* SPDX-License-Identifier: Apache-2.0 */
/* The binary interface of librknnmrt as the vendor's manual documents it (RKNN Runtime API, V2.3.2): the calls that an
 * RV1103 supports, and the structures they exchange. Declared here because the vendor's header may not be passed on.
 * Internal. */
#ifndef SK_NPU_ABI_H
#define SK_NPU_ABI_H

#include <stdint.h>

/* 32 bits wide on 32-bit ARM, 64 elsewhere. */
#if UINTPTR_MAX == 0xffffffffu
typedef uint32_t sk_rknn_context;
#else
typedef uint64_t sk_rknn_context;
#endif

enum { /* queries */
    SK_RKNN_IN_OUT_NUM = 0,
    SK_RKNN_SDK_VERSION = 5,
    SK_RKNN_MEM_SIZE = 6,
    SK_RKNN_CUSTOM_STRING = 7,
    SK_RKNN_NATIVE_INPUT_ATTR = 8,
    SK_RKNN_NATIVE_OUTPUT_ATTR = 9,
    SK_RKNN_NATIVE_NHWC_OUTPUT_ATTR = 11
};
enum { SK_RKNN_NCHW = 0, SK_RKNN_NHWC = 1, SK_RKNN_NC1HWC2 = 2 };                      /* layouts */
enum { SK_RKNN_FLOAT32 = 0, SK_RKNN_FLOAT16 = 1, SK_RKNN_INT8 = 2, SK_RKNN_UINT8 = 3 }; /* types */
enum { SK_RKNN_AFFINE = 2 };                                                            /* quantisation */
enum { SK_RKNN_TO_DEVICE = 1, SK_RKNN_FROM_DEVICE = 2 };                                /* directions of a sync */
#define SK_RKNN_DIMS 16

typedef struct sk_rknn_counts {
    uint32_t inputs, outputs;
} sk_rknn_counts;

typedef struct sk_rknn_version {
    char api[256], driver[256];
} sk_rknn_version;

typedef struct sk_rknn_custom {
    char text[1024];
} sk_rknn_custom;

typedef struct sk_rknn_sizes {
    uint32_t weight, internal;
    uint64_t dma;
    uint32_t sram, free_sram, reserved[10];
} sk_rknn_sizes;

typedef struct sk_rknn_attr {
    uint32_t index, dim_count, dims[SK_RKNN_DIMS];
    char name[256];
    uint32_t elements, size;
    int32_t layout, type, quantisation;
    int8_t fraction;
    int32_t zero_point;
    float scale;
    uint32_t row_pixels, size_with_stride; /* row_pixels 0: the width */
    uint8_t pass_through;
    uint32_t column_pixels; /* not in releases before 1.3, whose structure ends here */
} sk_rknn_attr;
#define SK_RKNN_OLD_ATTR_BYTES 372
_Static_assert(sizeof(sk_rknn_attr) == 376, "the structure must have the vendor's size");
_Static_assert(sizeof(sk_rknn_sizes) == 64, "the structure must have the vendor's size");

typedef struct sk_rknn_memory {
    void *address;
    uint64_t physical;
    int32_t fd, offset;
    uint32_t size, flags;
    void *private_data;
} sk_rknn_memory;

/* The calls, in the order of sk_rknn_names in library.c. All but sync must be there. */
typedef struct sk_rknn_calls {
    int (*init)(sk_rknn_context *context, void *model, uint32_t size, uint32_t flags, void *extend);
    int (*destroy)(sk_rknn_context context);
    int (*query)(sk_rknn_context context, int what, void *info, uint32_t size);
    int (*run)(sk_rknn_context context, void *extend);
    sk_rknn_memory *(*create_memory)(sk_rknn_context context, uint32_t size);
    int (*destroy_memory)(sk_rknn_context context, sk_rknn_memory *memory);
    int (*set_memory)(sk_rknn_context context, sk_rknn_memory *memory, sk_rknn_attr *attr);
    int (*sync)(sk_rknn_context context, sk_rknn_memory *memory, int direction); /* NULL in old releases */
} sk_rknn_calls;

#endif
