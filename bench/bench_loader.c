/* SPDX-License-Identifier: Apache-2.0 */
/* Speed of the training loader, from the decoded cache to normalised pictures. bench/loader runs it:
 *   bench_loader make DIR N           a dataset of N painted pictures, where there is no other
 *   bench_loader dump DIR N FILE      N pictures of its train part for the peer: count; width, height, RGB of each
 *   bench_loader run DIR RECIPE THREADS SECONDS
 * RECIPE: a built-in one, or "colour": the seed's with brightness, contrast and saturation at .4. The last prints
 * pictures/s as bytes, which the training step takes, and normalised to floats in a batch as frameworks want. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/net.h"
#include "siskin/train.h"
#include "train/loader.h"

enum { BATCH = 128, SIZE = 224, VALUES = SIZE * SIZE * 3, NAME = 4096 };

static int say(const sk_error *err) {
    fprintf(stderr, "bench_loader: %s\n", err->message);
    return 1;
}

/* ---- a dataset of painted pictures ------------------------------------------------------------------------------ */
/* A soft ground, a disc on it, grain: about as hard to compress and to cut out as a photograph. */
static void paint(sk_image *image, unsigned number) {
    sk_rng rng = sk_rng_make(1, 0x9a1, number);
    const int x0 = (int)sk_rng_below(&rng, 200) + 60, y0 = (int)sk_rng_below(&rng, 150) + 50;
    const int radius = 20 + (int)sk_rng_below(&rng, 60), shade = (int)sk_rng_below(&rng, 120);
    uint8_t *p = image->data;
    for (int y = 0; y < image->height; y++)
        for (int x = 0; x < image->width; x++, p += 3) {
            const int inside = (x - x0) * (x - x0) + (y - y0) * (y - y0) < radius * radius;
            const int grain = (int)sk_rng_below(&rng, 24);
            p[0] = (uint8_t)(inside ? 200 - shade / 2 + grain : shade + x / 4 + grain);
            p[1] = (uint8_t)(inside ? 90 + grain : shade / 2 + y / 3 + grain);
            p[2] = (uint8_t)(inside ? shade + grain : 60 + (x + y) / 8 + grain);
        }
}

static sk_status make(const char *dir, unsigned count, sk_error *err) {
    char path[NAME];
    sk_status status = sk_make_dirs(dir, err);
    if (status != SK_OK) return status;
    snprintf(path, sizeof path, "%s/pictures.tsv", dir);
    FILE *table = fopen(path, "w");
    if (!table) return sk_fail(err, SK_ERR_IO, "cannot write %s: %s", path, strerror(errno));
    fprintf(table, "path\tlabel\tsource\tgroup\trole\tsplit\n");
    for (unsigned i = 0; status == SK_OK && i < count; i++) {
        static const int widths[4] = {341, 455, 256, 384};
        sk_image image = {0};
        status = sk_image_create(widths[i % 4], SK_CACHE_SIDE, &image, err);
        if (status != SK_OK) break;
        paint(&image, i);
        snprintf(path, sizeof path, "%s/p%04u.jpg", dir, i);
        status = sk_image_write(path, &image, 90, err);
        sk_image_free(&image);
        fprintf(table, "p%04u.jpg\t%s\tpaint\tg%u\tclip\ttrain\n", i, i % 2 ? "bird" : "nobird", i);
    }
    const int closed = fclose(table);
    if (status == SK_OK && closed) return sk_fail(err, SK_ERR_IO, "cannot write the table of %s", dir);
    snprintf(path, sizeof path, "%s/pictures.tsv", dir);
    const char *inputs[] = {path};
    sk_import_options options = sk_import_defaults();
    options.birds_per_clip = options.empties_per_clip = 0;
    sk_import_report report;
    return status == SK_OK ? sk_dataset_import(inputs, 1, dir, &options, NULL, &report, err) : status;
}

/* ---- pictures for the peer -------------------------------------------------------------------------------------- */
static int usable(const sk_dataset *set, const sk_cache *cache, size_t index, sk_image *image) {
    sk_cache_image(cache, index, image);
    return image->data && sk_dataset_sample(set, index)->split == SK_SPLIT_TRAIN;
}

/* Evenly spread over the train part. */
static sk_status dump(const sk_dataset *set, const sk_cache *cache, size_t most, const char *path, sk_error *err) {
    size_t there = 0, seen = 0;
    sk_image image;
    for (size_t i = 0; i < sk_dataset_size(set); i++) there += (size_t)usable(set, cache, i, &image);
    const uint32_t count = (uint32_t)(most < there ? most : there);
    FILE *file = fopen(path, "wb");
    if (!file) return sk_fail(err, SK_ERR_IO, "cannot write %s: %s", path, strerror(errno));
    int ok = fwrite(&count, sizeof count, 1, file) == 1;
    for (size_t i = 0, next = 0; i < sk_dataset_size(set) && next < count; i++) {
        if (!usable(set, cache, i, &image) || seen++ != next * there / count) continue;
        const uint32_t head[2] = {(uint32_t)image.width, (uint32_t)image.height};
        ok &= fwrite(head, sizeof head, 1, file) == 1;
        ok &= fwrite(image.data, 3 * (size_t)head[0] * head[1], 1, file) == 1;
        next++;
    }
    ok &= fclose(file) == 0;
    return ok ? SK_OK : sk_fail(err, SK_ERR_IO, "cannot write %s", path);
}

/* ---- the loader ------------------------------------------------------------------------------------------------- */
static void normalise(const uint8_t *in, const float *mean, const float *gain, float *out) {
    float m[48], g[48]; /* 16 pixels, so that the compiler may take vectors */
    for (int i = 0; i < 48; i++) m[i] = mean[i % 3], g[i] = gain[i % 3];
    for (int i = 0; i < VALUES; i += 48)
        for (int k = 0; k < 48; k++) out[i + k] = ((float)in[i + k] - m[k]) * g[k];
}

static sk_status loader_options(const char *recipe, int threads, sk_loader_options *out, sk_error *err) {
    sk_train_options train = sk_train_defaults(SK_ARCH_V3_SMALL);
    const int colour = !strcmp(recipe, "colour");
    const sk_status status = sk_recipe_read(colour ? "seed" : recipe, &train, err);
    if (colour) train.augment.brightness = train.augment.contrast = train.augment.saturation = 0.4f;
    *out = (sk_loader_options){.split = SK_SPLIT_TRAIN, .train = 1, .batch = BATCH, .size = SIZE, .threads = threads,
                               .augment = train.augment, .clip_repeat = 1, .seed = 1};
    return status;
}

/* Pictures/s over at least `seconds`; floats NULL: bytes only. */
static sk_status measure(sk_loader *loader, int threads, double seconds, float *floats, double *speed, sk_error *err) {
    const sk_card card = sk_card_default(SK_ARCH_V3_SMALL);
    float mean[3], gain[3];
    double start = 0;
    size_t pictures = 0;
    sk_net_normalisation(&card, mean, gain);
    for (int epoch = 1, warm = 1; warm || sk_now() - start < seconds; epoch++) {
        sk_batch batch = {0};
        sk_loader_start(loader, epoch);
        while (warm || sk_now() - start < seconds) {
            const sk_status status = sk_loader_next(loader, &batch, err);
            if (status != SK_OK) return status;
            if (batch.n == 0) break;
#pragma omp parallel for num_threads(threads) schedule(static) if (floats)
            for (int i = 0; i < batch.n; i++)
                if (floats) normalise(batch.images + (size_t)i * VALUES, mean, gain, floats + (size_t)i * VALUES);
            if (warm) start = sk_now(); /* the first batch warms up */
            else pictures += (size_t)batch.n;
            warm = 0;
        }
    }
    *speed = (double)pictures / (sk_now() - start);
    return SK_OK;
}

static sk_status run(const sk_dataset *set, const sk_cache *cache, const char *recipe, int threads, double seconds,
                     sk_error *err) {
    sk_loader_options options;
    sk_loader *loader = NULL;
    double bytes = 0, normalised = 0;
    float *floats = sk_alloc((size_t)BATCH * VALUES, sizeof *floats);
    sk_status status = floats ? loader_options(recipe, threads, &options, err) : sk_fail_memory(err, "a batch");
    if (status == SK_OK) status = sk_loader_create(set, cache, &options, &loader, err);
    if (status == SK_OK && sk_loader_size(loader) < BATCH)
        status = sk_fail(err, SK_ERR_DATA, "%s has less than %d pictures in its train part", sk_dataset_dir(set),
                         BATCH);
    if (status == SK_OK) status = measure(loader, threads, seconds, NULL, &bytes, err);
    if (status == SK_OK) status = measure(loader, threads, seconds, floats, &normalised, err);
    if (status == SK_OK) printf("%.0f %.0f\n", bytes, normalised);
    sk_loader_free(loader);
    sk_free(floats);
    return status;
}

int main(int argc, char **argv) {
    const char *verb = argc > 1 ? argv[1] : "", *dir = argc > 2 ? argv[2] : "";
    sk_dataset *set = NULL;
    sk_cache *cache = NULL;
    sk_error err = {0};
    size_t bad = 0;
    if (argc == 4 && !strcmp(verb, "make"))
        return make(dir, (unsigned)atoi(argv[3]), &err) == SK_OK ? 0 : say(&err);
    const int dumps = argc == 5 && !strcmp(verb, "dump"), runs = argc == 6 && !strcmp(verb, "run");
    if (!dumps && !runs) {
        fprintf(stderr, "usage: bench_loader make DIR N | dump DIR N FILE | run DIR RECIPE THREADS SECONDS\n");
        return 2;
    }
    sk_status status = sk_dataset_open(dir, &set, &err);
    if (status == SK_OK) status = sk_cache_open(set, 100, 0, NULL, &cache, &bad, &err);
    if (status == SK_OK && dumps) status = dump(set, cache, (size_t)atoi(argv[3]), argv[4], &err);
    if (status == SK_OK && runs) status = run(set, cache, argv[3], atoi(argv[4]), atof(argv[5]), &err);
    sk_cache_close(cache);
    sk_dataset_close(set);
    return status == SK_OK ? 0 : say(&err);
}
