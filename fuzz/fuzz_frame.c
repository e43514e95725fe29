/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a camera's frame: PPM by content, raw RGB and NV12 of a stated size. Either crops of the network's
 * size or a named error. */
/* sources: src/base/error.c src/base/memory.c src/image/picture.c src/image/resize.c src/image/simd.c src/image/nv12.c
 *          src/predict/crops.c board/frame.c
 * libs: -lm -lpthread */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../board/board.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    static const board_options ways[] = {{.format = FRAME_AUTO},
                                         {.format = FRAME_RGB, .width = 7, .height = 5},
                                         {.format = FRAME_NV12, .width = 6, .height = 4},
                                         {.format = FRAME_NV12, .width = 6, .height = 4, .limited_range = 1}};
    char path[64];
    const int fd = memfd_create("frame", 0);
    if (fd < 0 || write(fd, bytes, size) != (ssize_t)size) {
        abort();
    }
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        uint8_t *out = NULL;
        int count = 0;
        sk_error err = {0};
        const sk_crops crops = (sk_crops)(size % 3 == 2 ? 3 : size % 3);
        const sk_status status = board_read_frame(path, &ways[i], crops, 32, &out, &count, &err);
        if ((status == SK_OK) != (out != NULL) || (status != SK_OK && !err.message[0])) {
            abort();
        }
        free(out);
    }
    close(fd);
    return 0;
}
