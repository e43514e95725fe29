/* SPDX-License-Identifier: Apache-2.0 */
/* stub */
#include "formats/readers.h"
sk_status sk_pth_parse_zip(const uint8_t *bytes, size_t size, const char *what, sk_tensor_file *out, sk_error *err)
{
    (void)bytes, (void)size, (void)out;
    return sk_fail(err, SK_ERR_UNSUPPORTED, "cannot read %s: .pth comes soon", what);
}
sk_status sk_pth_parse_stream(const uint8_t *bytes, size_t size, const char *what, sk_tensor_file *out, sk_error *err)
{
    return sk_pth_parse_zip(bytes, size, what, out, err);
}
sk_status sk_onnx_parse(const uint8_t *bytes, size_t size, const char *what, sk_tensor_file *out, sk_error *err)
{
    return sk_pth_parse_zip(bytes, size, what, out, err);
}
