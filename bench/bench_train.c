/* SPDX-License-Identifier: Apache-2.0 */
/* Speed of training: engine steps and Adam on random pictures. Prints the median of images/s over the steps and the
 * peak of resident memory in MB; bench/train sets both beside PyTorch's. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "train/optimizer.h"

static int compare(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int say(const sk_error *err) {
    fprintf(stderr, "bench_train: %s\n", err->message);
    return 1;
}

int main(int argc, char **argv) {
    int batch = 128, threads = 0, steps = 5, warm = 1, freeze_bn = 0;
    sk_arch arch = SK_ARCH_V3_SMALL;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--batch")) batch = atoi(argv[i + 1]);
        if (!strcmp(argv[i], "--threads")) threads = atoi(argv[i + 1]);
        if (!strcmp(argv[i], "--steps")) steps = atoi(argv[i + 1]);
        if (!strcmp(argv[i], "--warm")) warm = atoi(argv[i + 1]);
        if (!strcmp(argv[i], "--freeze-bn")) freeze_bn = atoi(argv[i + 1]);
        if (!strcmp(argv[i], "--model") && !strcmp(argv[i + 1], "large")) arch = SK_ARCH_V3_LARGE;
    }
    if (batch < 2 || steps < 1 || warm < 0) {
        fprintf(stderr, "usage: bench_train [--batch N] [--threads N] [--steps N] [--warm N] [--model small|large] "
                        "[--freeze-bn 0|1]\n");
        return 2;
    }
    const sk_card card = sk_card_default(arch);
    const sk_engine_options options = {.batch = batch, .threads = sk_thread_count(threads), .dropout = 0.2f,
                                       .freeze_bn = freeze_bn};
    const sk_update_options update = {.kind = SK_OPTIMIZER_ADAM, .threads = options.threads};
    sk_model *model = NULL;
    sk_engine *engine = NULL;
    sk_update *adam = NULL;
    sk_error err = {0};
    const size_t bytes = (size_t)batch * (size_t)card.size * (size_t)card.size * 3;
    uint8_t *images = sk_alloc(bytes, 1);
    int *labels = sk_calloc((size_t)batch, sizeof *labels);
    double *speed = sk_calloc((size_t)steps, sizeof *speed);
    if (!images || !labels || !speed) return 1;
    for (size_t i = 0; i < bytes; i++) images[i] = (uint8_t)sk_hash64(i);
    for (int i = 0; i < batch; i++) labels[i] = i % 2;
    if (sk_model_create(&card, 1, &model, &err) != SK_OK) return say(&err);
    if (sk_engine_create(model, &options, &engine, &err) != SK_OK) return say(&err);
    if (sk_update_create(model, &update, &adam, &err) != SK_OK) return say(&err);
    for (int s = -warm; s < steps; s++) {
        double loss = 0;
        int correct = 0;
        const double start = sk_now();
        if (sk_engine_step(engine, images, labels, batch, (uint64_t)(s + warm), &loss, &correct, &err) != SK_OK ||
            sk_update_step(adam, engine, 1e-4, &err) != SK_OK)
            return say(&err);
        if (s >= 0) speed[s] = batch / (sk_now() - start);
    }
    qsort(speed, (size_t)steps, sizeof *speed, compare);
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    printf("%.2f %.1f\n", speed[steps / 2], (double)used.ru_maxrss / 1024);
    sk_update_free(adam);
    sk_engine_free(engine);
    sk_model_free(model);
    sk_free(images);
    sk_free(labels);
    sk_free(speed);
    return 0;
}
