/* SPDX-License-Identifier: Apache-2.0 */
/* Reading side of the decoded cache: maps cache.skc, checks everything that is used as an address before it is used,
 * and hands out pictures. A cache that fails a check is as good as absent, since it can be built again. */
#include <string.h>

#include "data/data.h"

const char sk_cache_magic[8] = {'S', 'K', 'C', 'A', 'C', 'H', 'E', '\n'};

uint64_t sk_cache_key(const sk_dataset *dataset, const sk_sample *sample)
{
    /* By the path as the table writes it, so that a dataset that is moved with its pictures keeps its cache. */
    const char *path = sk_dataset_short_path(dataset, sample->path);
    return sk_hash64(sk_hash_bytes(path, strlen(path)) + sk_hash64((uint64_t)(sample->frame + 1)));
}

static int file_is_sound(const sk_cache_file *f, const sk_cache_footer *end)
{
    const size_t size = f->map.size;
    if (memcmp(end->magic, sk_cache_magic, 8) || end->version != SK_CACHE_VERSION || end->endian != SK_CACHE_ENDIAN ||
        end->side != SK_CACHE_SIDE || memcmp(f->map.bytes, sk_cache_magic, 8))
        return 0;
    const size_t body = size - sizeof *end;
    if (end->count > body / (sizeof(sk_cache_entry) + sizeof(sk_thumb)) || end->index_offset > body ||
        end->thumbs_offset > end->index_offset || end->thumbs_offset % SK_CACHE_ALIGN ||
        body - end->index_offset != end->count * sizeof(sk_cache_entry) ||
        end->index_offset - end->thumbs_offset != end->count * sizeof(sk_thumb) ||
        sk_hash_bytes(f->map.bytes + end->index_offset, body - end->index_offset) != end->index_hash)
        return 0;
    const sk_cache_entry *entries = (const sk_cache_entry *)(const void *)(f->map.bytes + end->index_offset);
    for (size_t i = 0; i < end->count; i++) {
        const sk_cache_entry *e = &entries[i];
        if (!e->width || !e->height || e->width > 65535 || e->height > 65535 || e->offset > end->thumbs_offset ||
            (uint64_t)e->width * e->height * 3 > end->thumbs_offset - e->offset || (i && entries[i - 1].key >= e->key))
            return 0;
    }
    return 1;
}

void sk_cache_file_open(const char *path, sk_cache_file *out, const sk_hooks *hooks)
{
    memset(out, 0, sizeof *out);
    if (!sk_path_exists(path) || sk_file_map(path, &out->map, NULL) != SK_OK)
        return;
    sk_cache_footer end = {.count = 0};
    if (out->map.size >= SK_CACHE_ALIGN + sizeof end)
        memcpy(&end, out->map.bytes + out->map.size - sizeof end, sizeof end);
    if (out->map.size < SK_CACHE_ALIGN + sizeof end || !file_is_sound(out, &end)) {
        sk_log(hooks, SK_LOG_WARNING, "%s is damaged or of another version: it is built anew", path);
        sk_cache_file_close(out);
        return;
    }
    out->entries = (const sk_cache_entry *)(const void *)(out->map.bytes + end.index_offset);
    out->thumbs = (const sk_thumb *)(const void *)(out->map.bytes + end.thumbs_offset);
    out->count = end.count;
}

void sk_cache_file_close(sk_cache_file *file)
{
    if (file->map.bytes)
        sk_file_unmap(&file->map);
    memset(file, 0, sizeof *file);
}

const sk_cache_entry *sk_cache_find(const sk_cache_file *file, uint64_t key)
{
    size_t low = 0, high = file->count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (file->entries[middle].key < key)
            low = middle + 1;
        else
            high = middle;
    }
    return low < file->count && file->entries[low].key == key ? &file->entries[low] : NULL;
}

sk_status sk_cache_open(const sk_dataset *dataset, int max_bad, int threads, const sk_hooks *hooks, sk_cache **out,
                        size_t *bad, sk_error *err)
{
    return sk_cache_open_flags(dataset, max_bad, threads, hooks, NULL, out, bad, err);
}

void sk_cache_close(sk_cache *cache)
{
    if (!cache)
        return;
    sk_cache_file_close(&cache->file);
    sk_free((void *)cache->by_sample);
    sk_free(cache);
}

void sk_cache_image(const sk_cache *cache, size_t index, sk_image *image)
{
    const sk_cache_entry *e = index < cache->size ? cache->by_sample[index] : NULL;
    memset(image, 0, sizeof *image);
    if (!e)
        return;
    image->width = (int)e->width;
    image->height = (int)e->height;
    image->data = (uint8_t *)(uintptr_t)(cache->file.map.bytes + e->offset);
}

const sk_thumb *sk_cache_thumb(const sk_cache *cache, size_t index, uint64_t *hash)
{
    const sk_cache_entry *e = index < cache->size ? cache->by_sample[index] : NULL;
    if (!e)
        return NULL;
    if (hash)
        *hash = e->phash;
    return &cache->file.thumbs[e - cache->file.entries];
}
