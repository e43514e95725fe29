/* SPDX-License-Identifier: Apache-2.0 */
/* stub */
#include "formats/readers.h"
sk_status sk_onnx_parse(const uint8_t *bytes, size_t size, const char *what, sk_tensor_file *out, sk_error *err)
{
    (void)bytes, (void)size, (void)out;
    return sk_fail(err, SK_ERR_UNSUPPORTED, "cannot read %s: onnx comes soon", what);
}
