/* SPDX-License-Identifier: Apache-2.0 */
/* Processes of an `mpirun` that train one model together. */
#ifndef SISKIN_RANKS_H
#define SISKIN_RANKS_H

#include "siskin/hooks.h"
#include "siskin/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sk_ranks sk_ranks;

/* Joins the processes that mpirun has started; a process that was started alone is rank 0 of 1. UNSUPPORTED: several
 * were started, but this build is without MPI (meson -Dmpi=enabled); ARGUMENT: their number is not 1, 2, 4, 8 or 16.
 * Once per process, before its other threads. hooks->cancelled is asked while waiting for other ranks. */
sk_status sk_ranks_open(const sk_hooks *hooks, sk_ranks **out, sk_error *err);
/* Leaves; NULL is fine. */
void sk_ranks_close(sk_ranks *ranks);
int sk_ranks_rank(const sk_ranks *ranks);  /* from 0; NULL: 0 */
int sk_ranks_count(const sk_ranks *ranks); /* NULL: 1 */

/* own: how this rank fared, *err its sentence. Returns on every rank the status and the sentence of the lowest rank
 * that failed, SK_OK if none did. Collective: each rank calls it once. */
sk_status sk_ranks_agree(sk_ranks *ranks, sk_status own, sk_error *err);
/* Whether this rank is the one to tell the user: rank 0; when a rank is lost, the lowest that is left on this host. */
int sk_ranks_speaks(const sk_ranks *ranks);

#ifdef __cplusplus
}
#endif
#endif
