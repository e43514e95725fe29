/* SPDX-License-Identifier: Apache-2.0 */
/* The processes of an mpirun: what ranks.c, mpi.c (in a build with MPI) and the training loop share. Internal. */
#ifndef SK_TRAIN_RANKS_H
#define SK_TRAIN_RANKS_H

#include "net/sync.h"
#include "siskin/ranks.h"

struct sk_ranks {
    sk_sync sync;
    sk_hooks hooks;
    int lost;              /* another rank is gone, or this one was told to stop while it waited */
    long lower[SK_CHUNKS]; /* process numbers of the lower ranks on this host */
    int lower_count;
};

/* NULL if there is one process alone. */
const sk_sync *sk_ranks_sync(const sk_ranks *ranks);

int sk_ranks_lost(const sk_ranks *ranks);

/* mpi.c: joins, fills sync, lower; leaves. */
sk_status sk_mpi_open(sk_ranks *ranks, sk_error *err);
void sk_mpi_close(sk_ranks *ranks);
#endif
