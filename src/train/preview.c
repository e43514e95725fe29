/* SPDX-License-Identifier: Apache-2.0 */
/* A sheet of training pictures as the network gets them, so that a recipe can be looked at before a night is spent. */
#include <string.h>

#include "siskin/train.h"
#include "train/keys.h"
#include "train/loader.h"

enum { ROWS = 8, COLUMNS = 10, GAP = 4 };

/* The sample of each row: evenly spread over those of the train part, so that every source comes. Returns how many. */
static int choose(const sk_dataset *dataset, const sk_cache *cache, size_t rows[ROWS]) {
    size_t usable = 0, seen = 0;
    int chosen = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < sk_dataset_size(dataset) && chosen < ROWS; i++) {
            sk_image image = {0};
            sk_cache_image(cache, i, &image);
            if (!image.data || sk_dataset_sample(dataset, i)->split != SK_SPLIT_TRAIN) continue;
            if (pass == 0) usable++;
            else if (seen++ == ((size_t)chosen * 2 + 1) * usable / (2 * ROWS)) rows[chosen++] = i;
        }
    }
    return chosen;
}

static sk_status draw_cell(sk_loader *loader, size_t sample, int row, int column, int size, uint8_t *cell,
                           sk_image *sheet, sk_error *err) {
    const sk_status status = sk_loader_show(loader, sample, column, cell, err);
    for (int y = 0; status == SK_OK && y < size; y++) {
        const size_t x = (size_t)column * (size_t)(size + GAP), down = (size_t)(row * (size + GAP) + y);
        memcpy(sheet->data + (down * (size_t)sheet->width + x) * 3, cell + (size_t)y * (size_t)size * 3,
               (size_t)size * 3);
    }
    return status;
}

static sk_status draw_sheet(const sk_dataset *dataset, const sk_cache *cache, sk_loader *loader, int size,
                            sk_image *sheet, sk_error *err) {
    size_t samples[ROWS];
    const int rows = choose(dataset, cache, samples);
    if (rows == 0)
        return sk_fail(err, SK_ERR_DATA, "%s has no labelled picture in its train part; divide it with "
                       "`siskin split %s --ratio 6:2:2`", sk_dataset_dir(dataset), sk_dataset_dir(dataset));
    sk_status status = sk_image_create(COLUMNS * (size + GAP) - GAP, rows * (size + GAP) - GAP, sheet, err);
    if (status != SK_OK) return status;
    memset(sheet->data, 255, (size_t)sheet->width * (size_t)sheet->height * 3);
    uint8_t *cell = sk_alloc((size_t)size * (size_t)size, 3);
    if (!cell) return sk_fail_memory(err, "a picture of the sheet");
    for (int i = 0; status == SK_OK && i < rows * COLUMNS; i++)
        status = draw_cell(loader, samples[i / COLUMNS], i / COLUMNS, i % COLUMNS, size, cell, sheet, err);
    sk_free(cell);
    return status;
}

sk_status sk_train_show(const sk_dataset *dataset, const sk_train_options *options, const char *path,
                        const sk_hooks *hooks, sk_error *err) {
    size_t bad = 0;
    sk_cache *cache = NULL;
    sk_loader *loader = NULL;
    sk_image sheet = {0};
    sk_status status = sk_train_options_check(options, err);
    if (status == SK_OK) status = sk_cache_open(dataset, options->max_bad, options->threads, hooks, &cache, &bad, err);
    if (status == SK_OK) {
        const sk_loader_options o = {.split = SK_SPLIT_TRAIN, .train = 1, .batch = 1, .size = options->card.size,
                                     .threads = 1, .clip_repeat = 1, .augment = options->augment,
                                     .seed = options->seed};
        status = sk_loader_create(dataset, cache, &o, &loader, err);
    }
    if (status == SK_OK) status = draw_sheet(dataset, cache, loader, options->card.size, &sheet, err);
    if (status == SK_OK) status = sk_image_write(path, &sheet, 95, err);
    sk_image_free(&sheet);
    sk_loader_free(loader);
    sk_cache_close(cache);
    return status;
}
