/* SPDX-License-Identifier: Apache-2.0 */
/* Hooks of the caller, the clock and the number of cores. */
#include "base/base.h"

#include <sched.h>
#include <stdio.h>
#include <time.h>

void sk_log(const sk_hooks *hooks, sk_log_level level, const char *format, ...) {
    if (!hooks || !hooks->log) return;
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    hooks->log(hooks->user, level, text);
}

void sk_progress(const sk_hooks *hooks, const char *stage, const char *unit, uint64_t done, uint64_t total) {
    if (hooks && hooks->progress) hooks->progress(hooks->user, stage, unit, done, total);
}

int sk_cancelled(const sk_hooks *hooks) { return hooks && hooks->cancelled && hooks->cancelled(hooks->user); }

double sk_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

int sk_thread_count(int requested) {
    if (requested > 0) return requested;
    cpu_set_t cores;
    CPU_ZERO(&cores);
    if (sched_getaffinity(0, sizeof cores, &cores) != 0) return 1;
    int count = CPU_COUNT(&cores);
    return count > 0 ? count : 1;
}
