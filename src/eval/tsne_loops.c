/* SPDX-License-Identifier: Apache-2.0 */
/* The loops of t-SNE, from one source for each instruction set, chosen when they are needed. */
#include <stdlib.h>
#include <string.h>

#include "eval/tsne.h"

#define NAME(x) x##_plain
#define TARGET
#define LOOPS_NAME "c"
#define LANES 4
#define TALL 4
#define WIDE 2
#include "eval/tsne_loops.h"

#ifdef __x86_64__
#undef NAME
#undef TARGET
#undef LOOPS_NAME
#undef LANES
#define NAME(x) x##_avx2
#define TARGET __attribute__((target("avx2")))
#define LOOPS_NAME "avx2"
#define LANES 8
#include "eval/tsne_loops.h"

#undef NAME
#undef TARGET
#undef LOOPS_NAME
#undef LANES
#undef TALL
#undef WIDE
#define NAME(x) x##_avx512
#define TARGET __attribute__((target("avx512f,avx512dq,avx512vl")))
#define LOOPS_NAME "avx512"
#define LANES 16
#define TALL 8
#define WIDE 4
#include "eval/tsne_loops.h"
#endif

const sk_tsne_loops *sk_tsne_loops_here(void) {
#ifdef __x86_64__
    const char *wanted = getenv("SISKIN_CPU");
    if (wanted && !strcmp(wanted, "c")) return &loops_plain;
    const int narrow = wanted && (!strcmp(wanted, "avx2") || !strcmp(wanted, "avxvnni"));
    if (!narrow && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        return &loops_avx512;
    if (__builtin_cpu_supports("avx2")) return &loops_avx2;
#endif
    return &loops_plain;
}
