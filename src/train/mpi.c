/* SPDX-License-Identifier: Apache-2.0 */
/* Messages between processes through MPI. Nothing here waits inside MPI: mpirun answers the loss of a process with
 * SIGTERM to all others, and a process that only MPI could wake would end without a word. */
#include <mpi.h>
#include <sched.h>
#include <unistd.h>

#include "base/base.h"
#include "train/ranks.h"

enum { TAG = 7, MOST_BYTES = 1 << 30 };
/* Seconds in which ranks that are all told to stop can still meet; mpirun kills a second after it has asked. */
static const double grace = .4;

static sk_status gone(sk_ranks *ranks, int other, sk_error *err) {
    ranks->lost = 1;
    if (sk_cancelled(&ranks->hooks))
        return sk_fail(err, SK_ERR_CANCELLED,
                       "rank %d of %d was told to stop while it waited for rank %d, as mpirun does at Ctrl-C and "
                       "when a rank is lost",
                       ranks->sync.rank, ranks->sync.ranks, other);
    return sk_fail(err, SK_ERR_IO, "rank %d of %d has lost its connection to rank %d", ranks->sync.rank,
                   ranks->sync.ranks, other);
}

static sk_status wait_for(sk_ranks *ranks, int other, int started, MPI_Request *request, sk_error *err) {
    int done = 0, failed = started != MPI_SUCCESS;
    double asked = 0;
    while (!failed) {
        failed = MPI_Test(request, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS;
        if (done && !failed) return SK_OK;
        if (sk_cancelled(&ranks->hooks)) {
            asked = asked > 0 ? asked : sk_now();
            if (sk_now() - asked > grace) break;
        }
        sched_yield();
    }
    return gone(ranks, other, err);
}

static sk_status send_bytes(void *user, int to, const void *bytes, size_t size, sk_error *err) {
    for (size_t at = 0; at < size; at += MOST_BYTES) {
        const int count = (int)(size - at < MOST_BYTES ? size - at : MOST_BYTES);
        MPI_Request request;
        const int started = MPI_Isend((const char *)bytes + at, count, MPI_BYTE, to, TAG, MPI_COMM_WORLD, &request);
        const sk_status status = wait_for(user, to, started, &request, err);
        if (status != SK_OK) return status;
    }
    return SK_OK;
}

static sk_status receive_bytes(void *user, int from, void *bytes, size_t size, sk_error *err) {
    for (size_t at = 0; at < size; at += MOST_BYTES) {
        const int count = (int)(size - at < MOST_BYTES ? size - at : MOST_BYTES);
        MPI_Request request;
        const int started = MPI_Irecv((char *)bytes + at, count, MPI_BYTE, from, TAG, MPI_COMM_WORLD, &request);
        const sk_status status = wait_for(user, from, started, &request, err);
        if (status != SK_OK) return status;
    }
    return SK_OK;
}

/* Process numbers of the ranks of this host that are lower than this one. */
static int list_lower(sk_ranks *ranks) {
    MPI_Comm host;
    long own = (long)getpid(), all[SK_CHUNKS];
    int rank = 0, count = 0;
    int code = MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, ranks->sync.rank, MPI_INFO_NULL, &host);
    if (code != MPI_SUCCESS) return code;
    MPI_Comm_rank(host, &rank);
    MPI_Comm_size(host, &count);
    if (count <= SK_CHUNKS) code = MPI_Allgather(&own, 1, MPI_LONG, all, 1, MPI_LONG, host);
    for (int i = 0; i < rank && count <= SK_CHUNKS && code == MPI_SUCCESS; i++)
        ranks->lower[ranks->lower_count++] = all[i];
    MPI_Comm_free(&host);
    return code;
}

sk_status sk_mpi_open(sk_ranks *ranks, sk_error *err) {
    int level = 0;
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level) != MPI_SUCCESS)
        return sk_fail(err, SK_ERR_IO, "MPI cannot be started; is siskin built with the MPI whose mpirun is used?");
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    ranks->sync = (sk_sync){.user = ranks, .send = send_bytes, .receive = receive_bytes};
    if (MPI_Comm_rank(MPI_COMM_WORLD, &ranks->sync.rank) != MPI_SUCCESS ||
        MPI_Comm_size(MPI_COMM_WORLD, &ranks->sync.ranks) != MPI_SUCCESS || list_lower(ranks) != MPI_SUCCESS) {
        ranks->lost = 1;
        return sk_fail(err, SK_ERR_IO, "the processes that mpirun has started do not find each other");
    }
    return SK_OK;
}

/* With a rank lost the others would wait for it in vain. */
void sk_mpi_close(sk_ranks *ranks) {
    if (!ranks->lost) MPI_Finalize();
}
