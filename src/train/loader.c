/* SPDX-License-Identifier: Apache-2.0 */
/* The loader prepares a batch with all threads just before it is needed. Measured: a picture takes 0.08 ms of a core
 * with the recipe seed and 0.6 ms with feeder, its training step about 6 ms, and the step uses every core itself, so a
 * thread that prepares ahead could only take turns with the step: there is no idle core to hide the time on. Nothing is
 * carried from batch to batch but the position, and masks, which are functions of their pictures: that is what makes a
 * resumed run equal to an unbroken one. */
#include "train/loader.h"

#include <stdatomic.h>
#include <string.h>

#include "image/augment.h"
#include "image/paste.h"

enum { STREAM_AUGMENT = 0xa06, STREAM_PASTE = 0x9a57e };

typedef struct entry {
    uint32_t sample, repeat;
} entry;

struct sk_loader {
    const sk_dataset *dataset;
    const sk_cache *cache;
    sk_loader_options options;
    entry *entries;      /* in dataset order */
    size_t entry_count, class_size[SK_CLASS_COUNT];
    sk_sampler *sampler; /* of training */
    sk_draw *draws;      /* of this epoch */
    uint32_t *grounds;   /* training: samples without a bird, clip frames first */
    size_t ground_count, clip_ground_count;
    _Atomic(sk_mask *) *masks; /* training: of each sample that was pasted before, else NULL */
    size_t count, position;
    int epoch;
    uint8_t *images;
    int *labels;
};

static uint32_t repeats(const sk_loader *loader, size_t index) {
    const sk_sample *sample = sk_dataset_sample(loader->dataset, index);
    if (sample->split != loader->options.split || sample->label == SK_LABEL_UNKNOWN) return 0;
    sk_image image = {0};
    sk_cache_image(loader->cache, index, &image);
    if (!image.data) return 0;
    if (loader->options.train && sample->role == SK_ROLE_CLIP && loader->options.clip_repeat > 1)
        return (uint32_t)loader->options.clip_repeat;
    return 1;
}

static sk_status list_entries(sk_loader *loader, sk_error *err) {
    const size_t samples = sk_dataset_size(loader->dataset);
    size_t count = 0;
    for (size_t i = 0; i < samples; i++) count += repeats(loader, i);
    if (count > INT32_MAX || samples > INT32_MAX)
        return sk_fail(err, SK_ERR_UNSUPPORTED, "%zu pictures per epoch are too many; lower --clip-repeat", count);
    loader->entries = sk_calloc(count ? count : 1, sizeof *loader->entries);
    if (!loader->entries) return sk_fail_memory(err, "the list of pictures");
    for (size_t i = 0; i < samples; i++) {
        const uint32_t times = repeats(loader, i);
        for (uint32_t r = 0; r < times; r++)
            loader->entries[loader->entry_count++] = (entry){.sample = (uint32_t)i, .repeat = r};
        if (times) loader->class_size[sk_dataset_sample(loader->dataset, i)->label] += times;
    }
    return SK_OK;
}

/* What pictures may be pasted on: every picture of the part that is labelled nobird, once each. */
static sk_status list_grounds(sk_loader *loader, sk_error *err) {
    loader->masks = sk_calloc(sk_dataset_size(loader->dataset) + 1, sizeof *loader->masks);
    if (!loader->masks) return sk_fail_memory(err, "the list of masks");
    loader->grounds = sk_calloc(loader->entry_count ? loader->entry_count : 1, sizeof *loader->grounds);
    if (!loader->grounds) return sk_fail_memory(err, "the list of empty frames");
    for (int clips = 1; clips >= 0; clips--) {
        for (size_t i = 0; i < loader->entry_count; i++) {
            const entry *e = &loader->entries[i];
            const sk_sample *sample = sk_dataset_sample(loader->dataset, e->sample);
            if (e->repeat == 0 && sample->label == SK_LABEL_NOBIRD && (sample->role == SK_ROLE_CLIP) == clips)
                loader->grounds[loader->ground_count++] = e->sample;
        }
        if (clips) loader->clip_ground_count = loader->ground_count;
    }
    return SK_OK;
}

/* The number of the source of each entry, in the order in which the sources come. */
static void number_sources(const sk_loader *loader, sk_sampler_item *items, const char **names) {
    int sources = 0, at = 0;
    for (size_t i = 0; i < loader->entry_count; i++) {
        const sk_sample *sample = sk_dataset_sample(loader->dataset, loader->entries[i].sample);
        /* Pictures of a source mostly follow each other. */
        if (at >= sources || strcmp(names[at], sample->source) != 0)
            for (at = 0; at < sources && strcmp(names[at], sample->source) != 0; at++) {}
        if (at == sources) names[sources++] = sample->source;
        items[i] = (sk_sampler_item){(int)sample->label, at};
    }
}

static sk_status create_sampler(sk_loader *loader, sk_error *err) {
    const size_t room = loader->entry_count ? loader->entry_count : 1;
    const sk_loader_options *o = &loader->options;
    const sk_sampler_options options = {.balanced = o->balanced, .source_mix = o->source_mix,
                                        .epoch_size = (size_t)o->epoch_size, .seed = o->seed};
    sk_sampler_item *items = sk_calloc(room, sizeof *items);
    const char **names = sk_calloc(room, sizeof *names);
    sk_status status = items && names ? SK_OK : sk_fail_memory(err, "the list of pictures");
    if (status == SK_OK) number_sources(loader, items, names);
    if (status == SK_OK) status = sk_sampler_create(items, loader->entry_count, &options, &loader->sampler, err);
    sk_free(items);
    sk_free(names);
    return status;
}

sk_status sk_loader_create(const sk_dataset *dataset, const sk_cache *cache, const sk_loader_options *options,
                           sk_loader **out, sk_error *err) {
    *out = NULL;
    sk_loader *loader = sk_calloc(1, sizeof *loader);
    if (!loader) return sk_fail_memory(err, "the loader");
    loader->dataset = dataset;
    loader->cache = cache;
    loader->options = *options;
    const size_t picture = (size_t)options->size * (size_t)options->size * 3;
    sk_status status = list_entries(loader, err);
    if (status == SK_OK && options->train) status = create_sampler(loader, err);
    if (status == SK_OK && options->train && options->augment.paste > 0) status = list_grounds(loader, err);
    if (status == SK_OK) {
        loader->count = options->train ? sk_sampler_size(loader->sampler) : loader->entry_count;
        loader->draws = sk_calloc(loader->count ? loader->count : 1, sizeof *loader->draws);
        loader->images = sk_alloc((size_t)options->batch, picture);
        loader->labels = sk_calloc((size_t)options->batch, sizeof *loader->labels);
        if (!loader->draws || !loader->images || !loader->labels) status = sk_fail_memory(err, "a batch of pictures");
    }
    if (status != SK_OK) {
        sk_loader_free(loader);
        return status;
    }
    sk_loader_start(loader, 0);
    *out = loader;
    return SK_OK;
}

void sk_loader_free(sk_loader *loader) {
    if (!loader) return;
    sk_free(loader->entries);
    sk_free(loader->draws);
    sk_free(loader->grounds);
    for (size_t i = 0; loader->masks && i < sk_dataset_size(loader->dataset); i++) sk_free(loader->masks[i]);
    sk_free(loader->masks);
    sk_sampler_free(loader->sampler);
    sk_free(loader->images);
    sk_free(loader->labels);
    sk_free(loader);
}

size_t sk_loader_size(const sk_loader *loader) { return loader->count; }
uint64_t sk_loader_steps(const sk_loader *loader) {
    const size_t batch = (size_t)loader->options.batch, rest = loader->count % batch;
    return loader->count / batch + (rest > (loader->options.train ? 1 : 0));
}
size_t sk_loader_class_size(const sk_loader *loader, int label) { return loader->class_size[label]; }
double sk_loader_share(const sk_loader *loader, int label) { return sk_sampler_share(loader->sampler, label); }

void sk_loader_start(sk_loader *loader, int epoch) {
    loader->epoch = epoch;
    loader->position = 0;
    if (loader->sampler) sk_sampler_draw(loader->sampler, epoch, loader->draws);
    else
        for (size_t i = 0; i < loader->count; i++) loader->draws[i] = (sk_draw){(uint32_t)i, 0};
}

/* The ground of a pasted picture: a clip's frame half the time, since that is what the camera will see; else any other,
 * since one camera's frames alone would be learnt by heart. */
static uint32_t draw_ground(const sk_loader *loader, sk_rng *rng) {
    const size_t clips = loader->clip_ground_count, others = loader->ground_count - clips;
    const int clip = sk_rng_uniform(rng) < 0.5;
    if ((clip && clips > 0) || others == 0) return loader->grounds[sk_rng_below(rng, (uint32_t)clips)];
    return loader->grounds[clips + sk_rng_below(rng, (uint32_t)others)];
}

/* The mask of a sample is found once in a run: it takes longer than all else that pasting does. When two threads want
 * the same one at a time, both find the same. */
static sk_status find_mask(const sk_loader *loader, uint32_t sample, const sk_image *image, const sk_mask **out,
                           sk_error *err) {
    sk_mask *there = NULL, *mask;
    *out = atomic_load(&loader->masks[sample]);
    if (*out) return SK_OK;
    *out = mask = sk_alloc(1, sizeof *mask);
    if (!mask) return sk_fail_memory(err, "the mask of a picture");
    const sk_status status = sk_mask_find(image, mask, err);
    if (status == SK_OK && atomic_compare_exchange_strong(&loader->masks[sample], &there, mask)) return SK_OK;
    sk_free(mask);
    *out = there;
    return status;
}

static sk_status prepare(const sk_loader *loader, const entry *item, uint8_t *out, sk_error *err) {
    sk_image image = {0};
    sk_cache_image(loader->cache, item->sample, &image);
    if (!loader->options.train) return sk_transform_eval(&image, loader->options.size, out, err);
    const sk_augment *augment = &loader->options.augment;
    const uint64_t epoch = (uint32_t)loader->epoch, index = (uint64_t)item->repeat << 32 | item->sample;
    const int size = loader->options.size;
    sk_rng rng = sk_rng_make(loader->options.seed, (uint64_t)STREAM_AUGMENT << 32 | epoch, index);
    sk_rng paste = sk_rng_make(loader->options.seed, (uint64_t)STREAM_PASTE << 32 | epoch, index);
    /* Whatever the label: a pasted squirrel is as frequent as a pasted bird. */
    if (loader->ground_count == 0 || sk_rng_uniform(&paste) >= (double)augment->paste)
        return sk_transform_train(&image, augment, &rng, size, out, err);
    sk_image ground = {0};
    sk_cache_image(loader->cache, draw_ground(loader, &paste), &ground);
    const sk_mask *mask;
    sk_status status = find_mask(loader, item->sample, &image, &mask, err);
    if (status == SK_OK) status = sk_paste_train(&image, mask, &ground, augment, &paste, size, out, err);
    return status == SK_OK ? sk_transform_camera(augment, &rng, size, out, err) : status;
}

/* A picture that comes again in an epoch is another repetition: it looks different. */
static entry drawn_entry(const sk_loader *loader, size_t position) {
    const sk_draw draw = loader->draws[position];
    entry item = loader->entries[draw.item];
    item.repeat += draw.copy * (uint32_t)loader->options.clip_repeat;
    return item;
}

/* The i-th picture of the batch. */
static sk_status prepare_drawn(void *user, int i, sk_error *err) {
    const sk_loader *loader = user;
    const size_t picture = (size_t)loader->options.size * (size_t)loader->options.size * 3;
    const entry item = drawn_entry(loader, loader->position + (size_t)i);
    return prepare(loader, &item, loader->images + (size_t)i * picture, err);
}

sk_status sk_loader_next(sk_loader *loader, sk_batch *out, sk_error *err) {
    const size_t left = loader->count - loader->position, batch = (size_t)loader->options.batch;
    const int n = (int)(left < batch ? left : batch);
    *out = (sk_batch){.images = loader->images, .labels = loader->labels};
    /* Batch norm has no variance of a single picture. */
    if (n == 0 || (loader->options.train && n < 2)) return SK_OK;
    int begin, end;
    for (int i = 0; i < n; i++) {
        const entry item = drawn_entry(loader, loader->position + (size_t)i);
        loader->labels[i] = (int)sk_dataset_sample(loader->dataset, item.sample)->label;
    }
    sk_sync_share(loader->options.sync, n, &begin, &end);
    const sk_status status = sk_parallel(begin, end, loader->options.threads, prepare_drawn, loader, err);
    if (status != SK_OK) return status;
    loader->position += (size_t)n;
    out->n = n;
    return SK_OK;
}

sk_status sk_loader_show(sk_loader *loader, size_t sample, int epoch, uint8_t *out, sk_error *err) {
    const entry item = {.sample = (uint32_t)sample};
    loader->epoch = epoch;
    return prepare(loader, &item, out, err);
}
