/* SPDX-License-Identifier: Apache-2.0 */
/* Siskin's part of bench/int8: `bench_int8 PREFIX MODEL.skn` opens the model, runs the first pictures of PREFIX.bin
 * (tools/dump-logits) through the runtime, one at a time on one thread, and answers on standard output as
 * forward_peer.py does: one JSON line with the kernels' name, the time that opening took and the logits, then, for each
 * line with a number of seconds on standard input, the median milliseconds of a picture over that time. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "kernels/int8/int8.h"
#include "siskin/rt.h"

enum { MOST_CALLS = 100000, OPENINGS = 50 };

static int compare(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *times, int count) {
    qsort(times, (size_t)count, sizeof *times, compare);
    return count % 2 ? times[count / 2] : (times[count / 2 - 1] + times[count / 2]) / 2;
}

static int say(const char *message) {
    fprintf(stderr, "bench_int8: %s\n", message);
    return 1;
}

/* Median milliseconds of sk_rt_open; the last handle stays open. */
static sk_status open_often(const char *path, double *ms, sk_rt **rt, sk_error *err) {
    double times[OPENINGS];
    for (int i = 0; i < OPENINGS; i++) {
        sk_rt_close(*rt);
        const double start = sk_now();
        const sk_status status = sk_rt_open(path, rt, err);
        if (status != SK_OK) return status;
        times[i] = (sk_now() - start) * 1000;
    }
    *ms = median(times, OPENINGS);
    return SK_OK;
}

static void introduce(sk_rt *rt, double open_ms, const uint8_t *images, int count, size_t picture) {
    const sk_rt_info *info = sk_rt_get_info(rt);
    int8_t *logits = sk_alloc((size_t)info->classes, 1);
    printf("{\"version\": \"%s kernels\", \"open_ms\": %.3f, \"step\": %.9g, \"logits\": [", sk_int8_choose()->name,
           open_ms, (double)info->logit_scale);
    for (int i = 0; logits && i < count; i++) {
        sk_rt_run(rt, images + picture * (size_t)i, logits, NULL);
        printf("%s[", i ? ", " : "");
        for (int c = 0; c < info->classes; c++)
            printf("%s%.9g", c ? ", " : "", (double)((float)(logits[c] - info->logit_zero_point) * info->logit_scale));
        printf("]");
    }
    printf("]}\n");
    fflush(stdout);
    sk_free(logits);
}

int main(int argc, char **argv) {
    static double times[MOST_CALLS];
    static int8_t logits[4096];
    char path[4096], line[64];
    uint8_t *bytes = NULL;
    size_t size = 0;
    int32_t head[3];
    double open_ms = 0;
    sk_rt *rt = NULL;
    sk_error err = {0};

    if (argc != 3) return say("usage: bench_int8 PREFIX MODEL.skn");
    snprintf(path, sizeof path, "%s.bin", argv[1]);
    if (sk_file_read(path, &bytes, &size, &err) != SK_OK || open_often(argv[2], &open_ms, &rt, &err) != SK_OK)
        return say(err.message);
    memcpy(head, bytes, sizeof head);
    const size_t picture = (size_t)head[1] * (size_t)head[1] * 3;
    if (head[1] != sk_rt_get_info(rt)->size) return say("the pictures are of another size than the model's");
    introduce(rt, open_ms, bytes + sizeof head, head[0], picture);
    while (fgets(line, sizeof line, stdin)) {
        const double end = sk_now() + atof(line);
        int count = 0;
        while (!count || (sk_now() < end && count < MOST_CALLS)) {
            const double start = sk_now();
            sk_rt_run(rt, bytes + sizeof head + picture * (size_t)(count % head[0]), logits, NULL);
            times[count++] = (sk_now() - start) * 1000;
        }
        printf("%.6f\n", median(times, count));
        fflush(stdout);
    }
    sk_rt_close(rt);
    sk_free(bytes);
    return 0;
}
