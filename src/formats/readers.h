/* SPDX-License-Identifier: Apache-2.0 */
/* The single readers behind sk_tensors_read, and the number formats they share. Internal to src/formats. */
#ifndef SK_FORMATS_READERS_H
#define SK_FORMATS_READERS_H

#include "formats/tensors.h"

sk_status sk_safetensors_parse(const uint8_t *bytes, size_t size, const char *what, sk_tensor_file *out, sk_error *err);
sk_status sk_pth_parse_zip(const uint8_t *bytes, size_t size, const char *what, sk_tensor_file *out, sk_error *err);
sk_status sk_pth_parse_stream(const uint8_t *bytes, size_t size, const char *what, sk_tensor_file *out, sk_error *err);
sk_status sk_onnx_parse(const uint8_t *bytes, size_t size, const char *what, sk_tensor_file *out, sk_error *err);

typedef enum sk_number { SK_NUMBER_F32 = 0, SK_NUMBER_F16, SK_NUMBER_BF16, SK_NUMBER_F64, SK_NUMBER_I64 } sk_number;
size_t sk_number_size(sk_number type);
/* `bytes` little-endian, not aligned; `stride` in elements. */
void sk_numbers_to_float(sk_number type, const uint8_t *bytes, size_t count, size_t stride, float *out);
int64_t sk_number_i64(const uint8_t *bytes);
/* Product of the dimensions in *count; FORMAT if rank, a dimension or the product is out of the limits. */
sk_status sk_shape_count(const char *name, int rank, const int64_t *shape, size_t *count, sk_error *err);
#endif
