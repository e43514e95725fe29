/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as safetensors: a named error, or tensors that are written and read back the same. */
/* sources: src/base/error.c src/base/memory.c src/base/file.c src/base/output.c src/base/path.c src/base/text.c
 *          src/base/random.c src/base/hooks.c src/formats/json.c src/formats/numbers.c src/formats/safetensors.c
 *          src/formats/tensors.c src/formats/pth.c src/formats/pickle.c src/formats/onnx_read.c src/formats/wire.c
 *          src/formats/card.c src/net/card.c
 * libs: -lcjson -lzip -lm -lpthread */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "formats/readers.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void write_and_compare(const sk_tensor_file *file) {
    char path[64];
    sk_tensor_file back;
    snprintf(path, sizeof path, "/tmp/siskin-fuzz-%ld.safetensors", (long)getpid());
    if (sk_tensors_write_safetensors(path, file, NULL) != SK_OK || sk_tensors_read(path, &back, NULL) != SK_OK ||
        back.count != file->count || back.meta_count != file->meta_count)
        abort();
    for (size_t i = 0; i < back.count; i++) {
        const sk_tensor_entry *a = &back.items[i], *b = sk_tensors_find(file, a->name);
        if (!b || a->count != b->count || a->i64 != b->i64 || memcmp(a->data, b->data, a->count * sizeof *a->data) != 0)
            abort();
    }
    sk_tensors_free(&back);
    remove(path);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    sk_tensor_file file = {0};
    sk_error err = {0};
    sk_card card = {0};
    const sk_status status = sk_safetensors_parse(bytes, size, "input", &file, &err);
    if (status != SK_OK && !err.message[0]) abort();
    if (status == SK_OK) {
        (void)sk_tensors_get_card(&file, &card, NULL, NULL);
        int plain = 1; /* the writer replaces what is not UTF-8, so such names may change or collide */
        for (size_t i = 0; i < file.count; i++)
            for (const char *c = file.items[i].name; *c; c++) plain = plain && *c > 0;
        for (size_t i = 0; i < file.meta_count; i++)
            for (const char *c = file.meta[i].key; *c; c++) plain = plain && *c > 0;
        if (plain) write_and_compare(&file);
    }
    sk_tensors_free(&file);
    return 0;
}
