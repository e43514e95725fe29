/* SPDX-License-Identifier: Apache-2.0 */
/* Siskin's half of bench/forward: `bench_forward PREFIX BATCH THREADS` reads PREFIX.safetensors and the pictures of
 * PREFIX.bin (tools/dump-logits), repeats them to a batch, and answers on standard output as forward_peer.py does: one
 * JSON line with the kernels' name and the logits of the pictures, then, for each line with a number of seconds on
 * standard input, the median milliseconds of a forward pass over that time. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "kernels/kernels.h"

enum { MOST_CALLS = 100000 };

static int compare(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int say(const char *message) {
    fprintf(stderr, "bench_forward: %s\n", message);
    return 1;
}

typedef struct setting {
    sk_model *model;
    uint8_t *images;
    float *logits;
    int batch, threads, count, classes; /* count: pictures that differ */
} setting;

static sk_status open_setting(const char *prefix, setting *s, sk_error *err) {
    char path[4096];
    uint8_t *bytes;
    size_t size, picture;
    int32_t head[3];

    snprintf(path, sizeof path, "%s.safetensors", prefix);
    sk_status status = sk_model_read(path, &s->model, err);
    if (status != SK_OK) return status;
    snprintf(path, sizeof path, "%s.bin", prefix);
    if ((status = sk_file_read(path, &bytes, &size, err)) != SK_OK) return status;
    memcpy(head, bytes, sizeof head);
    picture = (size_t)head[1] * (size_t)head[1] * 3;
    s->count = head[0] < s->batch ? head[0] : s->batch;
    s->classes = head[2];
    s->images = sk_alloc((size_t)s->batch * picture, 1);
    s->logits = sk_alloc((size_t)s->batch * (size_t)s->classes, sizeof *s->logits);
    if (!s->images || !s->logits) return sk_fail_memory(err, "a batch");
    for (int i = 0; i < s->batch; i++)
        memcpy(s->images + (size_t)i * picture, bytes + sizeof head + (size_t)(i % head[0]) * picture, picture);
    sk_free(bytes);
    return SK_OK;
}

static sk_status run(setting *s, sk_error *err) {
    return sk_model_forward(s->model, s->images, s->batch, s->threads, s->logits, NULL, NULL, NULL, err);
}

static void introduce(const setting *s) {
    printf("{\"version\": \"%s kernels\", \"logits\": [", sk_kernels_get()->name);
    for (int i = 0; i < s->count * s->classes; i++)
        printf("%s%.9g", !i ? "[" : i % s->classes ? ", " : "], [", (double)s->logits[i]);
    printf("]]}\n");
    fflush(stdout);
}

int main(int argc, char **argv) {
    static double times[MOST_CALLS];
    setting s = {0};
    sk_error err = {0};
    char line[64];

    if (argc != 4) return say("usage: bench_forward PREFIX BATCH THREADS");
    s.batch = atoi(argv[2]);
    s.threads = atoi(argv[3]);
    if (s.batch < 1 || s.threads < 1) return say("BATCH and THREADS are at least 1");
    if (open_setting(argv[1], &s, &err) != SK_OK || run(&s, &err) != SK_OK) return say(err.message);
    introduce(&s);
    while (fgets(line, sizeof line, stdin)) {
        const double end = sk_now() + atof(line);
        int calls = 0;

        while (calls < MOST_CALLS && (!calls || sk_now() < end)) {
            const double start = sk_now();
            if (run(&s, &err) != SK_OK) return say(err.message);
            times[calls++] = sk_now() - start;
        }
        qsort(times, (size_t)calls, sizeof *times, compare);
        printf("%.6f\n", times[calls / 2] * 1000);
        fflush(stdout);
    }
    sk_model_free(s.model);
    sk_free(s.images);
    sk_free(s.logits);
    return 0;
}
