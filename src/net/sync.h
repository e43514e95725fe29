/* SPDX-License-Identifier: Apache-2.0 */
/* Processes ("ranks") that take a training step together. Each works on its share of the batch's chunks; sums over the
 * batch go on over the ranks where the tree over the chunks left off, so that the result has the bytes of one process.
 * Two calls carry everything, so that a test can stand in for a network. Internal. */
#ifndef SK_NET_SYNC_H
#define SK_NET_SYNC_H

#include <stddef.h>

#include "siskin/status.h"

enum { SK_CHUNKS = 16 }; /* groups of pictures that a batch is cut into; the number of ranks divides it */

typedef struct sk_sync {
    int rank, ranks;
    void *user;
    /* Both return when the bytes are there, or fail for good: a rank is lost, or the process was told to stop. */
    sk_status (*send)(void *user, int to, const void *bytes, size_t size, sk_error *err);
    sk_status (*receive)(void *user, int from, void *bytes, size_t size, sk_error *err);
} sk_sync;

/* The functions below are collective: all ranks make the same calls in the same order. A NULL sync is one process. */

int sk_sync_ranks(const sk_sync *sync);
/* Chunks of a batch of n pictures, and which of them are a rank's: first..last-1, none if first = last. */
int sk_sync_chunks(int n);
void sk_sync_own_chunks(const sk_sync *sync, int n, int *first, int *last);
/* Ranks that have a chunk of such a batch; they are the first ones. */
int sk_sync_active(const sk_sync *sync, int n);
/* First picture of a chunk (of chunk = sk_sync_chunks(n): n). */
int sk_sync_first(int n, int chunk);
/* Pictures of a batch that are a rank's: first..last-1. */
void sk_sync_share(const sk_sync *sync, int n, int *first, int *last);

/* `count` floats or doubles (size says which) of the first `active` ranks become their sum, as a binary tree over the
 * ranks, on every rank. */
sk_status sk_sync_sum(const sk_sync *sync, void *values, size_t count, size_t size, int active, sk_error *err);
/* Rank r has bytes starts[r]..starts[r + 1]-1 of data; afterwards every rank has all. starts: ranks + 1 values. */
sk_status sk_sync_gather(const sk_sync *sync, void *data, const size_t *starts, sk_error *err);
/* The same with `size` bytes of every rank. */
sk_status sk_sync_gather_even(const sk_sync *sync, void *data, size_t size, sk_error *err);
/* data: `size` bytes for each picture of a batch of n; every rank has those of its share, afterwards all. */
sk_status sk_sync_gather_pictures(const sk_sync *sync, void *data, int n, size_t size, sk_error *err);
/* own: how this rank fared, *err its sentence. Returns on every rank the status and the sentence of the lowest rank
 * that failed, SK_OK if none did. */
sk_status sk_sync_agree(const sk_sync *sync, sk_status own, sk_error *err);
#endif
