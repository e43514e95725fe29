/* SPDX-License-Identifier: Apache-2.0 */
/* How the library, which never prints, tells its caller what it does. */
#ifndef SISKIN_HOOKS_H
#define SISKIN_HOOKS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum sk_log_level { SK_LOG_NOTE, SK_LOG_WARNING } sk_log_level;

/* All members may be NULL. Called from the thread that entered the library, never
 * from a worker. The texts are valid during the call only. */
typedef struct sk_hooks {
    void *user;
    /* `done` of `total` `unit`s (e.g. "images") of `stage`; total 0: unknown. */
    void (*progress)(void *user, const char *stage, const char *unit, uint64_t done, uint64_t total);
    void (*log)(void *user, sk_log_level level, const char *text);
    /* Non-zero asks the running call to stop soon with SK_ERR_CANCELLED. */
    int (*cancelled)(void *user);
} sk_hooks;

#ifdef __cplusplus
}
#endif
#endif
