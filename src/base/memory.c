/* SPDX-License-Identifier: Apache-2.0 */
/* Memory: every allocation of the library passes here, 64-byte aligned for vector loads, counted, and able to fail
 * on demand so that tests walk every out-of-memory path. Part of the board runtime: libc only. */
#include "base/base.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define ALIGNMENT 64u

static atomic_long allocations, live, fail_from = -1, fail_to = -1;

void sk_memory_fail_at(long n, int persist) {
    long now = atomic_load(&allocations);
    atomic_store(&fail_to, -1);
    if (n < 0) return;
    atomic_store(&fail_from, now + n);
    atomic_store(&fail_to, persist ? INT32_MAX : now + n);
}

long sk_memory_count(void) { return atomic_load(&allocations); }
long sk_memory_live(void) { return atomic_load(&live); }

/* NULL on overflow, on demand or when the system has no more. */
static void *take(size_t count, size_t size, size_t *bytes) {
    long number = atomic_fetch_add(&allocations, 1);
    if (number <= atomic_load(&fail_to) && number >= atomic_load(&fail_from)) return NULL;
    if (size && count > (SIZE_MAX - ALIGNMENT) / size) return NULL;
    *bytes = count * size;
    size_t rounded = (*bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    void *pointer = NULL; /* posix_memalign: uClibc has no aligned_alloc */
    if (posix_memalign(&pointer, ALIGNMENT, rounded ? rounded : ALIGNMENT) != 0) return NULL;
    atomic_fetch_add(&live, 1);
    return pointer;
}

void *sk_alloc(size_t count, size_t size) {
    size_t bytes;
    return take(count, size, &bytes);
}

void *sk_calloc(size_t count, size_t size) {
    size_t bytes;
    void *pointer = take(count, size, &bytes);
    if (pointer) memset(pointer, 0, bytes);
    return pointer;
}

/* The old block stays valid on failure, as realloc's does. */
void *sk_realloc(void *pointer, size_t old_count, size_t new_count, size_t size) {
    size_t bytes;
    void *fresh = take(new_count, size, &bytes);
    if (!fresh) return NULL;
    if (pointer) {
        size_t keep = (old_count < new_count ? old_count : new_count) * size;
        if (keep) memcpy(fresh, pointer, keep);
        sk_free(pointer);
    }
    return fresh;
}

void sk_free(void *pointer) {
    if (!pointer) return;
    atomic_fetch_sub(&live, 1);
    free(pointer);
}
