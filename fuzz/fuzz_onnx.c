/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as ONNX: a named error, or tensors no larger than the file, but for the batch norms that are put back. */
/* sources: src/base/error.c src/base/memory.c src/base/file.c src/base/output.c src/base/path.c src/base/text.c
 *          src/base/random.c src/base/hooks.c src/formats/json.c src/formats/numbers.c src/formats/safetensors.c
 *          src/formats/tensors.c src/formats/pth.c src/formats/pickle.c src/formats/onnx_read.c src/formats/wire.c
 *          src/formats/card.c src/net/card.c
 * libs: -lcjson -lzip -lm -lpthread */
#include <stdlib.h>

#include "formats/readers.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    sk_tensor_file file = {0};
    sk_error err = {0};
    sk_card card = {0};
    size_t values = 0;
    const sk_status status = sk_onnx_parse(bytes, size, "input", &file, &err);
    if (status != SK_OK && !err.message[0]) abort();
    for (size_t i = 0; i < file.count; i++) values += file.items[i].count;
    if (values > size) abort();
    if (status == SK_OK) (void)sk_tensors_get_card(&file, &card, NULL, NULL);
    sk_tensors_free(&file);
    return 0;
}
