/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a PyTorch checkpoint, zip or stream; and as a pickle alone, which the zip's checksums would shield. */
/* sources: src/base/error.c src/base/memory.c src/base/file.c src/base/output.c src/base/path.c src/base/text.c
 *          src/base/random.c src/base/hooks.c src/formats/json.c src/formats/numbers.c src/formats/safetensors.c
 *          src/formats/tensors.c src/formats/pth.c src/formats/pickle.c src/formats/onnx_read.c src/formats/wire.c
 * libs: -lcjson -lzip -lm -lpthread */
#include <stdlib.h>

#include "formats/pickle.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    sk_tensor_file file;
    sk_pickle pickle = {0};
    sk_error err = {0};
    size_t values = 0;
    const sk_status status = sk_tensors_read_memory(bytes, size, "input", &file, &err);
    if (status != SK_OK && (!err.message[0] || file.count)) abort();
    for (size_t i = 0; i < file.count; i++) values += file.items[i].count;
    if (values > size) abort();
    sk_tensors_free(&file);
    (void)sk_pickle_run(&pickle, bytes, size, "input", NULL);
    sk_pickle_free(&pickle);
    return 0;
}
