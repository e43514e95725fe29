/* SPDX-License-Identifier: Apache-2.0 */
/* Work on many things at once, of which any may fail. */
#include "base/base.h"

sk_status sk_parallel(int first, int end, int threads, sk_status (*work)(void *user, int index, sk_error *err),
                      void *user, sk_error *err) {
    sk_error lowest = {0};
    int failed = end;
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (int i = first; i < end; i++) {
        sk_error own = {0};
        const sk_status status = work(user, i, &own);
        if (status == SK_OK) continue;
#pragma omp critical(sk_parallel)
        if (i < failed) {
            failed = i;
            lowest = own;
            lowest.code = status;
        }
    }
    if (failed == end) return SK_OK;
    if (err) *err = lowest;
    return lowest.code;
}
