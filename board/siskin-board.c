/* SPDX-License-Identifier: Apache-2.0 */
/* siskin-board: the runtime alone, on raw pictures of the network's size (size x size x 3 RGB bytes). Links
 * libsiskin-rt and libc only; the smallest program that can answer on a board, and what the cross test compares bit for
 * bit. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "siskin/rt.h"

static double milliseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static int read_picture(const char *path, unsigned char *out, size_t size) {
    FILE *file = fopen(path, "rb");
    if (!file) {
        fprintf(stderr, "siskin-board: cannot open %s\n", path);
        return 0;
    }
    const int ok = fread(out, 1, size, file) == size && fgetc(file) == EOF;
    fclose(file);
    if (!ok) {
        fprintf(stderr, "siskin-board: %s is not a raw picture of %zu bytes\n", path, size);
    }
    return ok;
}

static void tell(const sk_rt *rt, const char *path, const int8_t *logits, float *p, double ms, int quiet) {
    const sk_rt_info *info = sk_rt_get_info(rt);
    sk_rt_probabilities(rt, logits, p);
    printf("%s logits", path);
    for (int i = 0; i < info->classes; i++) {
        printf(" %d", logits[i]);
    }
    if (!quiet) { /* what may differ in the last digit, or from run to run */
        printf(" p");
        for (int i = 0; i < info->classes; i++) {
            printf(" %.4f", (double)p[i]);
        }
        printf(" %.2f ms", ms);
    }
    printf("\n");
}

int main(int argc, char **argv) {
    const int quiet = argc > 1 && strcmp(argv[1], "-q") == 0;
    if (argc < 2 + quiet) {
        fprintf(stderr, "usage: siskin-board [-q] MODEL.skn RAWIMAGE...   (-q: logits only)\n");
        return 2;
    }
    sk_error err = {0};
    sk_rt *rt = NULL;
    if (sk_rt_open(argv[1 + quiet], &rt, &err) != SK_OK) {
        fprintf(stderr, "siskin-board: %s\n", err.message);
        return 1;
    }
    const sk_rt_info *info = sk_rt_get_info(rt);
    const size_t bytes = (size_t)info->size * (size_t)info->size * 3;
    unsigned char *picture = malloc(bytes);
    int8_t *logits = malloc((size_t)info->classes);
    float *p = malloc((size_t)info->classes * sizeof *p);
    int bad = !picture || !logits || !p;
    for (int i = 2 + quiet; !bad && i < argc; i++) {
        if (!read_picture(argv[i], picture, bytes)) {
            bad = 1;
            break;
        }
        const double start = milliseconds();
        sk_rt_run(rt, picture, logits, NULL);
        tell(rt, argv[i], logits, p, milliseconds() - start, quiet);
    }
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    fprintf(stderr, "working memory %zu KiB, peak RSS %ld KiB\n", sk_rt_memory(rt) / 1024, usage.ru_maxrss);
    free(picture);
    free(logits);
    free(p);
    sk_rt_close(rt);
    return bad;
}
