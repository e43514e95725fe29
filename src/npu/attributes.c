/* SPDX-License-Identifier: Apache-2.0 */
/* What the runtime says of the model's input and output is believed only as far as it fits together: a release of
 * another age answers with other structures, and two classes may come padded to 16 or 32. */
#include <math.h>
#include <string.h>

#include "npu/npu.h"

#define MOST_OUTPUT_BYTES (1u << 20)

/* The newer structure first; an old library refuses the four bytes that it does not know. */
static int ask(sk_npu *npu, int what, sk_rknn_attr *attr) {
    *attr = (sk_rknn_attr){0};
    if (npu->info.attr_bytes == 0) {
        npu->info.attr_bytes = (int)sizeof *attr;
        if (npu->calls.query(npu->context, what, attr, sizeof *attr) == 0) {
            return 0;
        }
        *attr = (sk_rknn_attr){0};
        npu->info.attr_bytes = SK_RKNN_OLD_ATTR_BYTES;
    }
    return npu->calls.query(npu->context, what, attr, (uint32_t)npu->info.attr_bytes);
}

static sk_status input(sk_npu *npu, sk_rknn_attr *in, sk_error *err) {
    const int code = ask(npu, SK_RKNN_NATIVE_INPUT_ATTR, in);
    if (code) {
        return sk_fail(err, SK_ERR_FORMAT, "the NPU does not describe its input: it says %s", sk_npu_code_text(code));
    }
    const uint32_t size = (uint32_t)npu->size, row = in->row_pixels ? in->row_pixels : size;
    if (in->dim_count != 4 || in->dims[0] != 1 || in->dims[1] != size || in->dims[2] != size || in->dims[3] != 3) {
        return sk_fail(err, SK_ERR_MISMATCH, "the NPU's model takes %u x %u x %u (NHWC), the network on the CPU %d x "
                       "%d x 3: export both from one run", in->dims[1], in->dims[2], in->dims[3], npu->size, npu->size);
    }
    if (row < size || row > 16 * size || in->size_with_stride < row * size * 3 ||
        in->size_with_stride > 64 * size * size) {
        return sk_fail(err, SK_ERR_MISMATCH, "the NPU describes rows of %u pixels in %u bytes, which cannot be: "
                       "library and model are of different releases", row, in->size_with_stride);
    }
    npu->info.row_bytes = (int)row * 3;
    /* uint8 NHWC: the NPU itself subtracts the mean, divides by the deviation and quantises. */
    in->type = SK_RKNN_UINT8;
    in->layout = SK_RKNN_NHWC;
    in->pass_through = 0;
    return SK_OK;
}

/* The byte of class c, or UINT32_MAX if the layout has no room for it. */
static uint32_t offset_of(const sk_rknn_attr *out, uint32_t c) {
    const uint32_t n = out->dim_count, *d = out->dims;
    if (out->layout == SK_RKNN_NC1HWC2 && n == 5) {
        return d[4] && c < d[1] * d[4] ? c / d[4] * d[2] * d[3] * d[4] + c % d[4] : UINT32_MAX;
    }
    const uint32_t channels = n == 0 ? 0 : out->layout == SK_RKNN_NCHW && n == 4 ? d[1] : d[n - 1];
    return c < channels ? c : UINT32_MAX;
}

/* One value per class: whatever is neither batch nor channel must be 1. */
static int is_vector(const sk_rknn_attr *out) {
    const uint32_t n = out->dim_count, *d = out->dims;
    if (n < 2 || n > 5 || d[0] != 1) {
        return 0;
    }
    if (out->layout == SK_RKNN_NC1HWC2) {
        return n == 5 && d[2] == 1 && d[3] == 1;
    }
    if (n == 4) {
        return out->layout == SK_RKNN_NCHW ? d[2] == 1 && d[3] == 1 : d[1] == 1 && d[2] == 1;
    }
    return n == 2;
}

static sk_status output_offsets(sk_npu *npu, const sk_rknn_attr *out, sk_error *err) {
    npu->offsets = sk_calloc((size_t)npu->classes, sizeof *npu->offsets);
    if (!npu->offsets) {
        return sk_fail_memory(err, "the NPU's output");
    }
    for (int c = 0; c < npu->classes; c++) {
        npu->offsets[c] = offset_of(out, (uint32_t)c);
        if (npu->offsets[c] >= out->size_with_stride) {
            return sk_fail(err, SK_ERR_MISMATCH, "the NPU's model has no room for %d classes in an output of %u "
                           "bytes: export it "
                           "and the network on the CPU from one run", npu->classes, out->size_with_stride);
        }
    }
    return SK_OK;
}

static sk_status output(sk_npu *npu, sk_rknn_attr *out, sk_error *err) {
    static const char *const layouts[] = {"NCHW", "NHWC", "NC1HWC2"};
    int code = ask(npu, SK_RKNN_NATIVE_NHWC_OUTPUT_ATTR, out);
    if (code) { /* releases that know only the NPU's own layout */
        code = ask(npu, SK_RKNN_NATIVE_OUTPUT_ATTR, out);
    }
    if (code) {
        return sk_fail(err, SK_ERR_FORMAT, "the NPU does not describe its output: it says %s", sk_npu_code_text(code));
    }
    if (out->type != SK_RKNN_INT8 || out->quantisation != SK_RKNN_AFFINE) {
        return sk_fail(err, SK_ERR_UNSUPPORTED, "the NPU's model answers in type %d, quantisation %d: convert it to "
                       "int8 (w8a8), asymmetric", out->type, out->quantisation);
    }
    if (out->layout < SK_RKNN_NCHW || out->layout > SK_RKNN_NC1HWC2 || !is_vector(out)) {
        return sk_fail(err, SK_ERR_MISMATCH, "the NPU's model answers with %u dimensions in layout %d, not with one "
                       "value per class: export it from a siskin run", out->dim_count, out->layout);
    }
    if (!(out->scale > 0) || !isfinite(out->scale) || out->zero_point < -128 || out->zero_point > 127 ||
        out->size_with_stride == 0 || out->size_with_stride > MOST_OUTPUT_BYTES) {
        return sk_fail(err, SK_ERR_MISMATCH, "the NPU describes an output of scale %g, zero point %d and %u bytes, "
                       "which cannot "
                       "be: library and model are of different releases", (double)out->scale, out->zero_point,
                       out->size_with_stride);
    }
    npu->info.output_count = (int)out->size_with_stride;
    npu->info.output_layout = layouts[out->layout];
    npu->info.scale = out->scale;
    npu->info.zero_point = out->zero_point;
    return output_offsets(npu, out, err);
}

sk_status sk_npu_attributes(sk_npu *npu, sk_rknn_attr *in, sk_rknn_attr *out, sk_error *err) {
    sk_rknn_counts counts = {0};
    const int code = npu->calls.query(npu->context, SK_RKNN_IN_OUT_NUM, &counts, sizeof counts);
    if (code) {
        return sk_fail(err, SK_ERR_FORMAT, "the NPU does not count its inputs: it says %s", sk_npu_code_text(code));
    }
    if (counts.inputs != 1 || counts.outputs != 1) {
        return sk_fail(err, SK_ERR_MISMATCH, "the NPU's model has %u inputs and %u outputs instead of one each: "
                       "export it from a siskin run", counts.inputs, counts.outputs);
    }
    const sk_status status = input(npu, in, err);
    return status == SK_OK ? output(npu, out, err) : status;
}
