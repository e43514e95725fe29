/* SPDX-License-Identifier: Apache-2.0 */
/* Sums, gathering and agreement of several processes, made of messages from one to one. All go up a binary tree over
 * the ranks to rank 0 and down again: ranks r and r + 1 meet first, then r and r + 2, as the chunks of one process do.
 */
#include "net/sync.h"

#include <string.h>

#include "base/base.h"

enum { PIECE = 65536 }; /* bytes that are sent before the next are added */

int sk_sync_ranks(const sk_sync *sync) { return sync ? sync->ranks : 1; }

int sk_sync_chunks(int n) { return n < SK_CHUNKS ? n : SK_CHUNKS; }

int sk_sync_first(int n, int chunk) { return (int)((long)n * chunk / sk_sync_chunks(n)); }

void sk_sync_own_chunks(const sk_sync *sync, int n, int *first, int *last) {
    const int chunks = sk_sync_chunks(n), each = sync ? SK_CHUNKS / sync->ranks : chunks;
    const int from = sync ? sync->rank * each : 0;

    *first = from < chunks ? from : chunks;
    *last = from + each < chunks ? from + each : chunks;
}

int sk_sync_active(const sk_sync *sync, int n) {
    const int each = SK_CHUNKS / sk_sync_ranks(sync);

    return (sk_sync_chunks(n) + each - 1) / each;
}

void sk_sync_share(const sk_sync *sync, int n, int *first, int *last) {
    sk_sync_own_chunks(sync, n, first, last);
    *first = sk_sync_first(n, *first);
    *last = sk_sync_first(n, *last);
}

static void add(void *to, const void *from, size_t bytes, size_t size) {
    if (size == sizeof(double)) {
        double *a = to;
        const double *b = from;

        for (size_t i = 0; i < bytes / size; i++) a[i] += b[i];
    } else {
        float *a = to;
        const float *b = from;

        for (size_t i = 0; i < bytes / size; i++) a[i] += b[i];
    }
}

/* Rank 0's bytes go to every rank. */
static sk_status spread(const sk_sync *sync, void *bytes, size_t size, sk_error *err) {
    for (int step = SK_CHUNKS / 2; step > 0; step /= 2) {
        sk_status status = SK_OK;

        if (sync->rank % (2 * step) == step) status = sync->receive(sync->user, sync->rank - step, bytes, size, err);
        else if (sync->rank % (2 * step) == 0 && sync->rank + step < sync->ranks)
            status = sync->send(sync->user, sync->rank + step, bytes, size, err);
        if (status != SK_OK) return status;
    }
    return SK_OK;
}

static sk_status sum_piece(const sk_sync *sync, char *values, size_t bytes, size_t size, int active, sk_error *err) {
    union {
        float floats[PIECE / sizeof(float)];
        double doubles[PIECE / sizeof(double)];
    } other;

    if (sync->rank >= active) return SK_OK;
    for (int step = 1; step < active; step *= 2) {
        sk_status status = SK_OK;

        if (sync->rank % (2 * step)) return sync->send(sync->user, sync->rank - step, values, bytes, err);
        if (sync->rank + step >= active) continue;
        status = sync->receive(sync->user, sync->rank + step, &other, bytes, err);
        if (status != SK_OK) return status;
        add(values, &other, bytes, size);
    }
    return SK_OK;
}

sk_status sk_sync_sum(const sk_sync *sync, void *values, size_t count, size_t size, int active, sk_error *err) {
    if (!sync) return SK_OK;
    for (size_t at = 0; at < count * size; at += PIECE) {
        const size_t bytes = count * size - at < PIECE ? count * size - at : PIECE;
        const sk_status status = sum_piece(sync, (char *)values + at, bytes, size, active, err);

        if (status != SK_OK) return status;
    }
    return spread(sync, values, count * size, err);
}

/* Going up, rank r holds the parts of ranks r to r + step - 1, which lie side by side. */
sk_status sk_sync_gather(const sk_sync *sync, void *data, const size_t *starts, sk_error *err) {
    char *bytes = data;

    if (!sync) return SK_OK;
    for (int step = 1; step < sync->ranks; step *= 2) {
        const int other = sync->rank % (2 * step) ? sync->rank : sync->rank + step;
        const size_t size = starts[other + step < sync->ranks ? other + step : sync->ranks] - starts[other];
        sk_status status;

        if (other == sync->rank) {
            status = sync->send(sync->user, sync->rank - step, bytes + starts[other], size, err);
            if (status != SK_OK) return status;
            break;
        }
        status = sync->receive(sync->user, other, bytes + starts[other], size, err);
        if (status != SK_OK) return status;
    }
    return spread(sync, bytes + starts[0], starts[sync->ranks] - starts[0], err);
}

sk_status sk_sync_gather_even(const sk_sync *sync, void *data, size_t size, sk_error *err) {
    size_t starts[SK_CHUNKS + 1];

    for (int r = 0; r <= sk_sync_ranks(sync); r++) starts[r] = (size_t)r * size;
    return sk_sync_gather(sync, data, starts, err);
}

sk_status sk_sync_gather_pictures(const sk_sync *sync, void *data, int n, size_t size, sk_error *err) {
    size_t starts[SK_CHUNKS + 1];

    if (!sync) return SK_OK;
    for (int r = 0; r <= sync->ranks; r++) {
        const int chunk = r * (SK_CHUNKS / sync->ranks), chunks = sk_sync_chunks(n);

        starts[r] = (size_t)sk_sync_first(n, chunk < chunks ? chunk : chunks) * size;
    }
    return sk_sync_gather(sync, data, starts, err);
}

sk_status sk_sync_agree(const sk_sync *sync, sk_status own, sk_error *err) {
    sk_error all[SK_CHUNKS] = {{0}}, lost = {0};

    if (!sync) return own;
    if (own != SK_OK && err) all[sync->rank] = *err;
    all[sync->rank].code = own;
    if (sk_sync_gather_even(sync, all, sizeof *all, &lost) != SK_OK) {
        /* A wish to stop is often how the loss shows. */
        if (own != SK_OK && own != SK_ERR_CANCELLED) return own;
        if (err) *err = lost;
        return lost.code;
    }
    for (int r = 0; r < sync->ranks; r++) {
        if (all[r].code == SK_OK) continue;
        if (err) *err = all[r];
        return all[r].code;
    }
    return SK_OK;
}
