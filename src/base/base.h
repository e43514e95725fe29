/* SPDX-License-Identifier: Apache-2.0 */
/* What every room of the house stands on: errors, memory, files, random numbers, text, hooks. Internal. */
#ifndef SK_BASE_H
#define SK_BASE_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "siskin/hooks.h"
#include "siskin/status.h"

#if defined(__GNUC__)
#define SK_PRINTF(fmt_index, arg_index) __attribute__((format(printf, fmt_index, arg_index)))
#else
#define SK_PRINTF(fmt_index, arg_index)
#endif

/* ---- errors: `return sk_fail(err, SK_ERR_FORMAT, "...: %s", name);` --------------------------------------- */
sk_status sk_fail(sk_error *err, sk_status code, const char *format, ...) SK_PRINTF(3, 4);
/* Out of memory, with the usual sentence. */
sk_status sk_fail_memory(sk_error *err, const char *what);
/* Puts "PREFIX: " before the message that is already there; returns err->code (or `code` if err is NULL). */
sk_status sk_error_prefix(sk_error *err, sk_status code, const char *format, ...) SK_PRINTF(3, 4);

/* ---- memory: 64-byte aligned; NULL on failure or overflow of count*size; sk_free(NULL) is fine -------------- */
void *sk_alloc(size_t count, size_t size);
void *sk_calloc(size_t count, size_t size);
void *sk_realloc(void *pointer, size_t old_count, size_t new_count, size_t size);
void sk_free(void *pointer);
char *sk_strdup(const char *text);
char *sk_format(const char *format, ...) SK_PRINTF(1, 2); /* allocated text or NULL */
/* Tests: let the n-th allocation from now fail (0-based; -1: never); with `persist` all later ones too. */
void sk_memory_fail_at(long n, int persist);
long sk_memory_count(void); /* allocations so far */
long sk_memory_live(void);  /* allocations not yet freed */

/* ---- growing text -------------------------------------------------------------------------------------- */
typedef struct sk_text {
    char *data; /* NUL-terminated, NULL while empty */
    size_t size, capacity;
    int failed; /* an allocation failed; all later calls do nothing */
} sk_text;
void sk_text_add(sk_text *text, const char *format, ...) SK_PRINTF(2, 3);
void sk_text_add_bytes(sk_text *text, const void *bytes, size_t size);
void sk_text_free(sk_text *text);

/* ---- files ---------------------------------------------------------------------------------------------- */
/* Whole file, plus a NUL that is not counted; released with sk_free. */
sk_status sk_file_read(const char *path, uint8_t **bytes, size_t *size, sk_error *err);
/* Read-only map of the whole file. */
typedef struct sk_map {
    const uint8_t *bytes;
    size_t size;
} sk_map;
sk_status sk_file_map(const char *path, sk_map *out, sk_error *err);
void sk_file_unmap(sk_map *map);
/* An output written aside (PATH.part), synced, then renamed over PATH. A failed write is remembered and told by
 * commit. After commit or abort the handle is gone. */
typedef struct sk_output sk_output;
sk_status sk_output_open(const char *path, sk_output **out, sk_error *err);
void sk_output_write(sk_output *output, const void *bytes, size_t size);
const char *sk_output_part_path(const sk_output *output); /* for libraries that write by name */
sk_status sk_output_commit(sk_output *output, sk_error *err);
void sk_output_abort(sk_output *output);
/* All of the above in one. */
sk_status sk_file_write(const char *path, const void *bytes, size_t size, sk_error *err);
/* Tests: let the n-th write from now fail as if the disk were full (-1: never). */
void sk_file_fail_at(long n);

int sk_path_exists(const char *path);
int sk_path_is_dir(const char *path);
/* Creates the folder and its parents. */
sk_status sk_make_dirs(const char *path, sk_error *err);
char *sk_path_join(const char *dir, const char *name); /* allocated; an absolute name stands alone; NULL: memory */
char *sk_path_absolute(const char *path);              /* allocated, relative to the current folder, not resolved */
const char *sk_path_name(const char *path);            /* after the last slash */
int sk_has_suffix(const char *text, const char *suffix); /* ignores case */

/* ---- random numbers: every draw is a function of (seed, stream, index) or of a small state ----------------- */
uint64_t sk_hash64(uint64_t value);                    /* splitmix64 finaliser */
uint64_t sk_hash_bytes(const void *bytes, size_t size); /* FNV-1a 64 */
typedef struct sk_rng {
    uint64_t state;
} sk_rng;
sk_rng sk_rng_make(uint64_t seed, uint64_t stream, uint64_t index);
uint64_t sk_rng_next(sk_rng *rng);                     /* splitmix64 */
void sk_rng_fill(sk_rng *rng, uint64_t *values, size_t count); /* the same as so many of the above */
double sk_rng_uniform(sk_rng *rng);                    /* [0,1) */
double sk_rng_between(sk_rng *rng, double low, double high); /* [low,high) */
uint32_t sk_rng_below(sk_rng *rng, uint32_t bound);    /* [0,bound), unbiased; bound > 0 */
double sk_rng_normal(sk_rng *rng);
/* Fisher and Yates: n items of `size` bytes, at most 64, in one of all their orders; n below 2^32. */
void sk_rng_shuffle(sk_rng *rng, void *items, size_t n, size_t size);

/* ---- hooks ------------------------------------------------------------------------------------------------ */
void sk_log(const sk_hooks *hooks, sk_log_level level, const char *format, ...) SK_PRINTF(3, 4);
void sk_progress(const sk_hooks *hooks, const char *stage, const char *unit, uint64_t done, uint64_t total);
int sk_cancelled(const sk_hooks *hooks);

/* ---- threads ---------------------------------------------------------------------------------------------- */
/* Calls work(user, i, ...) for every i from `first` up to but not `end`, on `threads` threads, in no fixed order, and
 * goes on after a failure; the error that is returned is that of the lowest i. */
sk_status sk_parallel(int first, int end, int threads, sk_status (*work)(void *user, int index, sk_error *err),
                      void *user, sk_error *err);
double sk_now(void); /* seconds, monotonic */
/* `requested` if positive, else the number of cores. */
int sk_thread_count(int requested);
#endif
