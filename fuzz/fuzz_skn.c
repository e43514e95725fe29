/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a .skn model, under a checksum that fits: refused, or run without leaving its memory. The seed is a
 * model that the first call builds, so that mutations start from something that runs. */
/* sources: src/base/error.c src/base/memory.c src/base/file.c src/base/random.c src/rt/rt.c src/rt/check.c
 *          src/kernels/int8/int8_c.c src/kernels/int8/int16_c.c src/quant/build.c src/quant/recipe.c
 *          src/quant/equalise.c src/quant/range.c
 * libs: -lm -lpthread */
#include <stdlib.h>
#include <string.h>

#include "../tests/int8_net.h"
#include "rt/check.h"
#include "siskin/rt.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* The only part of the network's library that the writer calls. */
const char *sk_arch_name(sk_arch arch) {
    return arch == SK_ARCH_V3_LARGE ? "mobilenet_v3_large" : "mobilenet_v3_small";
}

static uint8_t *model(size_t *size) {
    static uint8_t *bytes;
    static size_t bytes_size;
    if (!bytes) {
        test_net net;
        uint8_t picture[16 * 16 * 3];
        net_make(&net, 16, 8, 5);
        net.int16[0] = net.int16[6] = net.int16[8] = 1; /* stem, gated product, sum */
        net_picture(16, 1, picture);
        net_run(&net, picture);
        if (net_build(&net, 0, &bytes, &bytes_size, NULL) != SK_OK) {
            abort();
        }
        net_free(&net);
    }
    *size = bytes_size;
    return bytes;
}

/* Input: triples (16-bit place, 32-bit value) written over the header and the layer table, or whole files. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    size_t whole = 0;
    const uint8_t *seed = model(&whole);
    const int raw = size > SK_SKN_CRC_AT + 4 && memcmp(bytes, SK_SKN_MAGIC, 8) == 0;
    const size_t total = raw ? size : whole;
    uint8_t *copy = sk_alloc(total, 1);
    memcpy(copy, raw ? bytes : seed, total);
    for (size_t i = 0; !raw && i + 6 <= size && i < 60; i += 6) {
        uint16_t at;
        memcpy(&at, bytes + i, 2);
        memcpy(copy + at % (sizeof(sk_skn_header) + 14 * sizeof(sk_skn_layer) + 768), bytes + i + 2, 4);
    }
    const uint32_t crc = sk_skn_crc(copy, total);
    memcpy(copy + SK_SKN_CRC_AT, &crc, 4);
    sk_rt *rt = NULL;
    sk_error err = {0};
    if (sk_rt_open_memory(copy, total, &rt, &err) == SK_OK) {
        const sk_rt_info *info = sk_rt_get_info(rt);
        const size_t pixels = (size_t)info->size * (size_t)info->size * 3;
        uint8_t *picture = calloc(pixels, 1);
        int8_t *logits = malloc((size_t)info->classes), *features = malloc((size_t)info->features);
        sk_rt_run(rt, picture, logits, features);
        free(picture);
        free(logits);
        free(features);
    } else if (!err.message[0] || rt) {
        abort();
    }
    sk_rt_close(rt);
    sk_free(copy);
    return 0;
}
