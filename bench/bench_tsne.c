/* SPDX-License-Identifier: Apache-2.0 */
/* Speed of t-SNE: lays out a file of features, raw float32, row by row, writes the places as raw float32 pairs and
 * prints the seconds that it took; bench/tsne sets them beside those of openTSNE and scikit-learn. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "siskin/eval.h"

int main(int argc, char **argv) {
    const char *in = NULL, *out = NULL;
    int dims = 576;
    sk_tsne_options options = sk_tsne_defaults();
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--in")) in = argv[i + 1];
        if (!strcmp(argv[i], "--out")) out = argv[i + 1];
        if (!strcmp(argv[i], "--dims")) dims = atoi(argv[i + 1]);
        if (!strcmp(argv[i], "--perplexity")) options.perplexity = atof(argv[i + 1]);
        if (!strcmp(argv[i], "--iterations")) options.iterations = atoi(argv[i + 1]);
        if (!strcmp(argv[i], "--threads")) options.threads = atoi(argv[i + 1]);
        if (!strcmp(argv[i], "--seed")) options.seed = (uint64_t)atoll(argv[i + 1]);
    }
    if (!in || !out || dims < 1) {
        fprintf(stderr, "usage: bench_tsne --in FILE --out FILE [--dims N] [--perplexity P] [--iterations N] "
                        "[--threads N] [--seed N]\n");
        return 2;
    }
    sk_error err = {0};
    uint8_t *bytes = NULL;
    size_t size = 0;
    double kl = 0;
    if (sk_file_read(in, &bytes, &size, &err) != SK_OK) goto failed;
    const size_t n = size / ((size_t)dims * sizeof(float));
    float *places = sk_calloc(n ? n : 1, 2 * sizeof *places);
    if (!places) return 1;
    const double start = sk_now();
    if (sk_tsne((const float *)bytes, n, dims, &options, NULL, places, &kl, &err) != SK_OK) goto failed;
    const double seconds = sk_now() - start;
    if (sk_file_write(out, places, n * 2 * sizeof *places, &err) != SK_OK) goto failed;
    printf("%.3f\n", seconds);
    sk_free(bytes);
    sk_free(places);
    return 0;
failed:
    fprintf(stderr, "bench_tsne: %s\n", err.message);
    return 1;
}
