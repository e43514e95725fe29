/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the data room share: the table in memory, thumbnails, the choice of unlike frames, and the inner
 * side of the cache. Internal. */
#ifndef SK_DATA_DATA_H
#define SK_DATA_DATA_H

#include "base/base.h"
#include "siskin/dataset.h"

/* ---- strings that live as long as the dataset --------------------------------------------------- */
typedef struct sk_pool_block sk_pool_block;
typedef struct sk_pool {
    sk_pool_block *head;
} sk_pool;
const char *sk_pool_add(sk_pool *pool, const char *text); /* NULL: memory */
void sk_pool_free(sk_pool *pool);

/* ---- the dataset in memory ---------------------------------------------------------------------- */
struct sk_dataset {
    char *dir; /* absolute */
    sk_sample *samples;
    size_t size, capacity;
    sk_pool strings;
};
sk_status sk_dataset_new(const char *dir, sk_dataset **out, sk_error *err);
/* Copies the strings of `sample`. */
sk_status sk_dataset_add(sk_dataset *dataset, const sk_sample *sample, sk_error *err);
sk_status sk_dataset_save(const sk_dataset *dataset, sk_error *err);
/* Removes the samples whose flag is set. */
void sk_dataset_drop(sk_dataset *dataset, const uint8_t *flags);
/* The path as dataset.tsv writes it: relative when below the folder. */
const char *sk_dataset_short_path(const sk_dataset *dataset, const char *path);
/* Sample indices sorted by path and frame; NULL: memory. */
size_t *sk_dataset_order(const sk_dataset *dataset);
sk_status sk_label_parse(const char *text, sk_label *out);
const char *sk_role_name(sk_role role);
/* The absolute path without "//" and "/./"; NULL: memory. */
char *sk_path_clean(const char *path);

/* ---- thumbnails --------------------------------------------------------------------------------- */
#define SK_THUMB 32
typedef struct sk_thumb {
    uint8_t grey[SK_THUMB * SK_THUMB];
} sk_thumb;
/* `hash` may be NULL. */
sk_status sk_thumb_make(const sk_image *image, sk_thumb *out, uint64_t *hash, sk_error *err);
double sk_thumb_difference(const sk_thumb *a, const sk_thumb *b); /* mean absolute, 0..255 */

/* ---- choice of frames spread in time and unlike each other -------------------------------------- */
typedef struct sk_candidate {
    int64_t frame;
    double time_s;
    sk_thumb thumb;
    int chosen;
} sk_candidate;
/* Sets `chosen` for at most `most` of the candidates (in order of time), no two nearer than `gap_s`; the last place
 * is given only to a frame that looks different from all others chosen. Returns how many. */
size_t sk_choose(sk_candidate *candidates, size_t count, size_t most, double gap_s);

/* ---- cache, inner side -------------------------------------------------------------------------- */
/* One entry of the index, as it stands in the file (little-endian). */
typedef struct sk_cache_entry {
    uint64_t key; /* of path and frame */
    uint64_t file_size;
    int64_t mtime_ns;
    uint64_t offset; /* of the pixels */
    uint32_t width, height;
    uint64_t phash;
} sk_cache_entry;
typedef struct sk_cache_file {
    sk_map map;
    const sk_cache_entry *entries; /* sorted by key */
    const sk_thumb *thumbs;        /* in the same order */
    size_t count;
} sk_cache_file;
#define SK_CACHE_NAME "cache.skc"
#define SK_CACHE_ALIGN 64
typedef struct sk_cache_footer {
    char magic[8];
    uint32_t version, endian, side, reserved;
    uint64_t thumbs_offset, index_offset, count, index_hash;
    uint64_t padding;
} sk_cache_footer;
extern const char sk_cache_magic[8];
#define SK_CACHE_VERSION 1
#define SK_CACHE_ENDIAN 0x01020304u

struct sk_cache {
    sk_cache_file file;
    const sk_cache_entry **by_sample;
    size_t size;
};
/* Maps and checks a cache file; one that is absent, of another version or damaged gives an empty `out` and SK_OK. */
void sk_cache_file_open(const char *path, sk_cache_file *out, const sk_hooks *hooks);
void sk_cache_file_close(sk_cache_file *file);
const sk_cache_entry *sk_cache_find(const sk_cache_file *file, uint64_t key);
uint64_t sk_cache_key(const sk_dataset *dataset, const sk_sample *sample);
/* As sk_cache_open; `unreadable` (may be NULL) gets a flag per sample. */
sk_status sk_cache_open_flags(const sk_dataset *dataset, int max_bad, int threads, const sk_hooks *hooks,
                              uint8_t *unreadable, sk_cache **out, size_t *bad, sk_error *err);
/* Thumbnail and hash of a sample; NULL if it is not in the cache. */
const sk_thumb *sk_cache_thumb(const sk_cache *cache, size_t index, uint64_t *hash);

/* ---- import, the reading half ------------------------------------------------------------------- */
/* Adds the rows of a table or of a folder per class to `dataset`. */
sk_status sk_import_table(sk_dataset *dataset, const char *path, const char *root, const sk_hooks *hooks,
                          sk_error *err);
sk_status sk_import_folder(sk_dataset *dataset, const char *path, const sk_hooks *hooks, sk_error *err);
#endif
