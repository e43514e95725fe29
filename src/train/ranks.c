/* SPDX-License-Identifier: Apache-2.0 */
/* Who trains along. A process that no mpirun has started never touches MPI: its start costs half a second. */
#include "train/ranks.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include "base/base.h"

enum { PATIENCE = 50 }; /* hundredths of a second; mpirun gives a second between its two signals */

/* Processes that this one was started with, as the launchers tell it: Open MPI, MPICH and those that follow it. */
static int started(void) {
    static const char *const names[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (getenv(names[i])) return atoi(getenv(names[i]));
    return 1;
}

sk_status sk_ranks_open(const sk_hooks *hooks, sk_ranks **out, sk_error *err) {
    const int count = started();
    sk_status status = SK_OK;
    *out = NULL;
    sk_ranks *ranks = sk_calloc(1, sizeof *ranks);
    if (!ranks) return sk_fail_memory(err, "the processes");
    ranks->sync.ranks = 1;
    if (hooks) ranks->hooks = *hooks;
    if (count > 1) {
#ifdef SK_HAVE_MPI
        status = sk_mpi_open(ranks, err);
#else
        status = sk_fail(err, SK_ERR_UNSUPPORTED,
                         "mpirun has started %d processes, but this siskin is built without MPI; build it with "
                         "`meson setup -Dmpi=enabled`, or start it alone",
                         count);
#endif
    }
    const int joined = ranks->sync.ranks;
    if (status == SK_OK && (joined > SK_CHUNKS || SK_CHUNKS % joined))
        status = sk_fail(err, SK_ERR_ARGUMENT, "%d processes cannot share a batch evenly; start 2, 4, 8 or 16", joined);
    if (status == SK_OK) *out = ranks;
    else sk_ranks_close(ranks);
    return status;
}

void sk_ranks_close(sk_ranks *ranks) {
#ifdef SK_HAVE_MPI
    if (ranks && ranks->sync.user) sk_mpi_close(ranks);
#endif
    sk_free(ranks);
}

int sk_ranks_rank(const sk_ranks *ranks) { return ranks ? ranks->sync.rank : 0; }
int sk_ranks_count(const sk_ranks *ranks) { return ranks ? ranks->sync.ranks : 1; }

const sk_sync *sk_ranks_sync(const sk_ranks *ranks) { return sk_ranks_count(ranks) > 1 ? &ranks->sync : NULL; }

int sk_ranks_lost(const sk_ranks *ranks) { return ranks && ranks->lost; }

sk_status sk_ranks_agree(sk_ranks *ranks, sk_status own, sk_error *err) {
    return sk_sync_agree(sk_ranks_sync(ranks), own, err);
}

int sk_ranks_speaks(const sk_ranks *ranks) {
    if (sk_ranks_rank(ranks) == 0) return 1;
    if (!ranks->lost) return 0;
    /* A process that was killed keeps its number until its parent has noticed. */
    for (int t = 0; t < PATIENCE; t++) {
        int gone = 0;
        for (int i = 0; i < ranks->lower_count; i++) gone += kill((pid_t)ranks->lower[i], 0) != 0 && errno == ESRCH;
        if (gone == ranks->lower_count) return 1;
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    return 0;
}
