/* SPDX-License-Identifier: Apache-2.0 */
/* Batches of pictures for training and validation, straight from the decoded cache. Internal. */
#ifndef SK_TRAIN_LOADER_H
#define SK_TRAIN_LOADER_H

#include "base/base.h"
#include "net/sync.h"
#include "siskin/augment.h"
#include "siskin/dataset.h"
#include "train/sampler.h"

typedef struct sk_loader_options {
    sk_split split;
    int train;       /* shuffle and augment; otherwise dataset order and the evaluation crop */
    int batch, size, threads;
    /* Of training: */
    sk_augment augment;
    int clip_repeat; /* how often a clip's frame comes per epoch */
    int balanced, epoch_size; /* as sk_sampler_options has them */
    double source_mix;
    uint64_t seed;
    const sk_sync *sync; /* other processes: only this one's share of each batch is prepared; NULL: none */
} sk_loader_options;

typedef struct sk_batch {
    const uint8_t *images; /* n x size x size x 3, valid until the next call; with other processes only the own share */
    const int *labels;     /* of all */
    int n;                 /* 0: the epoch is over */
} sk_batch;

typedef struct sk_loader sk_loader;

/* Takes the samples of the split whose label is known and whose picture could be read. */
sk_status sk_loader_create(const sk_dataset *dataset, const sk_cache *cache, const sk_loader_options *options,
                           sk_loader **out, sk_error *err);
void sk_loader_free(sk_loader *loader);
size_t sk_loader_size(const sk_loader *loader); /* pictures per epoch */
uint64_t sk_loader_steps(const sk_loader *loader); /* batches per epoch */
/* Pictures of one class that there are, repetitions of clip frames counted. */
size_t sk_loader_class_size(const sk_loader *loader, int label);
/* Training: share of a class among the pictures that are drawn. */
double sk_loader_share(const sk_loader *loader, int label);
/* The order of an epoch and each picture's augmentation are functions of (seed, epoch, sample) alone. */
void sk_loader_start(sk_loader *loader, int epoch);
sk_status sk_loader_next(sk_loader *loader, sk_batch *out, sk_error *err);
/* The picture of a sample as an epoch would give it, size x size x 3 bytes. sk_loader_start has to follow. */
sk_status sk_loader_show(sk_loader *loader, size_t sample, int epoch, uint8_t *out, sk_error *err);
#endif
