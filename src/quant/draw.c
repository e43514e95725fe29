/* SPDX-License-Identifier: Apache-2.0 */
/* Calibration pictures: drawn from the training part by a seed, prepared like every picture that is judged. */
#include <string.h>

#include "base/base.h"
#include "siskin/classifier.h"
#include "siskin/quant.h"

#define DRAW_STREAM 0x71756e74 /* keeps this draw apart from every other one of the same seed */

/* The readable pictures of a part. */
static sk_status find(const sk_dataset *dataset, const sk_cache *cache, sk_split part, size_t **out, size_t *found,
                      sk_error *err) {
    const size_t total = sk_dataset_size(dataset);
    size_t *list = sk_alloc(total ? total : 1, sizeof *list);
    *found = 0;
    if (!(*out = list)) return sk_fail_memory(err, "the list of pictures");
    for (size_t i = 0; i < total; i++) {
        sk_image image = {0};
        if (sk_dataset_sample(dataset, i)->split == part) sk_cache_image(cache, i, &image);
        if (image.data) list[(*found)++] = i;
    }
    if (*found) return SK_OK;
    return sk_fail(err, SK_ERR_DATA, "%s has no readable picture in its %s part: run siskin split first",
                   sk_dataset_dir(dataset), part == SK_SPLIT_TRAIN ? "training" : sk_split_name(part));
}

static sk_status prepare(const sk_card *card, const sk_dataset *dataset, const sk_cache *cache, const size_t *list,
                         sk_quant_pictures *out, sk_error *err) {
    out->picture_bytes = (size_t)card->size * (size_t)card->size * 3;
    out->bytes = sk_alloc((size_t)out->count, out->picture_bytes);
    out->labels = sk_alloc((size_t)out->count, sizeof *out->labels);
    if (!out->bytes || !out->labels) return sk_fail_memory(err, "the calibration pictures");
    sk_status status = SK_OK;
    for (int i = 0; status == SK_OK && i < out->count; i++) {
        sk_image image;
        sk_cache_image(cache, list[i], &image);
        out->labels[i] = (int)sk_dataset_sample(dataset, list[i])->label;
        status = sk_crops_prepare(&image, card->crops == 0 ? SK_CROPS_SQUEEZE : SK_CROPS_ONE, card->size,
                                  out->bytes + out->picture_bytes * (size_t)i, err);
    }
    return status;
}

sk_status sk_quant_draw(const sk_card *card, const sk_dataset *dataset, const sk_cache *cache, int pictures,
                        uint64_t seed, const sk_hooks *hooks, sk_quant_pictures *out, sk_error *err) {
    size_t *list = NULL, found = 0;
    memset(out, 0, sizeof *out);
    if (pictures < 1 || pictures > 100000)
        return sk_fail(err, SK_ERR_ARGUMENT, "calibration needs 1 to 100000 pictures");
    sk_status status = find(dataset, cache, SK_SPLIT_TRAIN, &list, &found, err);
    if (status == SK_OK) {
        out->count = found < (size_t)pictures ? (int)found : pictures;
        if (out->count < pictures)
            sk_log(hooks, SK_LOG_NOTE, "the training part has %d pictures only: all are used", out->count);
        sk_rng rng = sk_rng_make(seed, DRAW_STREAM, 0);
        for (size_t i = 0; i < (size_t)out->count; i++) {
            const size_t k = i + sk_rng_below(&rng, (uint32_t)(found - i)), swap = list[i];
            list[i] = list[k];
            list[k] = swap;
        }
        status = prepare(card, dataset, cache, list, out, err);
    }
    sk_free(list);
    if (status != SK_OK) sk_quant_pictures_free(out);
    return status;
}

sk_status sk_quant_gather(const sk_card *card, const sk_dataset *dataset, const sk_cache *cache, sk_split part,
                          sk_quant_pictures *out, sk_error *err) {
    size_t *list = NULL, found = 0;
    memset(out, 0, sizeof *out);
    sk_status status = find(dataset, cache, part, &list, &found, err);
    out->count = (int)found;
    if (status == SK_OK) status = prepare(card, dataset, cache, list, out, err);
    sk_free(list);
    if (status != SK_OK) sk_quant_pictures_free(out);
    return status;
}

void sk_quant_pictures_free(sk_quant_pictures *pictures) {
    sk_free(pictures->bytes);
    sk_free(pictures->labels);
    memset(pictures, 0, sizeof *pictures);
}
