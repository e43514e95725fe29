/* SPDX-License-Identifier: Apache-2.0 */
/* A step with frozen batch norm statistics. No pass waits for sums of another, so a few pictures go through all of
 * them, forward and backward, before the next ones begin: their values stay in cache, and memory for them does not grow
 * with the batch. Weight gradients and sums are added per chunk as ever. */
#include <omp.h>
#include <string.h>

#include "net/step.h"

static void through(sk_step *s, const sk_pass *passes, int count, int chunk, int first, int last,
                    sk_real *const *scratch) {
    for (int p = 0; p < count; p++) passes[p].work(s, passes[p].index, chunk, first, last, scratch);
}

void sk_step_run_frozen(sk_step *s) {
    const int count = s->last - s->first, threads = s->threads < count ? s->threads : count > 1 ? count : 1;

#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (int chunk = s->first; chunk < s->last; chunk++) {
        const sk_scratch scratch = sk_step_scratch(s);
        const int end = sk_step_first(s, chunk + 1), slot = omp_get_thread_num() * SK_FROZEN_PICTURES;

        memset(s->sums + (size_t)(chunk - s->first) * s->sums_size, 0, s->sums_size * sizeof *s->sums);
        memset(s->partial + (size_t)(chunk - s->first) * s->partial_size, 0, s->partial_size * sizeof *s->partial);
        for (int i = sk_step_first(s, chunk); i < end; i += SK_FROZEN_PICTURES) {
            const int last = i + SK_FROZEN_PICTURES < end ? i + SK_FROZEN_PICTURES : end;

            for (int j = i; j < last; j++) s->slot[j] = slot + j - i;
            through(s, s->forward, s->forward_count, chunk, i, last, scratch.at);
            through(s, s->backward, s->backward_count, chunk, i, last, scratch.at);
        }
    }
    for (int p = 0; p < s->backward_count; p++) s->backward[p].finish(s, s->backward[p].index);
}
