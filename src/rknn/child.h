/* SPDX-License-Identifier: Apache-2.0 */
/* A program run as a child: what it prints is kept, a socket at its descriptor 3 carries requests and answers, and its
 * whole process group ends with the handle. Internal. */
#ifndef SK_RKNN_CHILD_H
#define SK_RKNN_CHILD_H

#include "base/base.h"

typedef struct sk_child sk_child;

typedef struct sk_child_options {
    const char *const *arguments;                /* the first is the program's path; ends with NULL */
    const char *folder;                          /* where it starts; NULL: here */
    const char *name;                            /* in messages, e.g. "the toolkit" */
    void (*line)(void *user, const char *line);  /* each line that it prints, '\r' ends one too; or NULL */
    void *user;
    const sk_hooks *hooks;                       /* asked whether to stop while it works */
} sk_child_options;

/* Texts of `options` must outlive the child. Errors: IO (it cannot be started), MEMORY. */
sk_status sk_child_start(const sk_child_options *options, sk_child **out, sk_error *err);
/* Errors of the next four: CANCELLED, IO (it ended), MEMORY. */
sk_status sk_child_send(sk_child *child, const void *bytes, size_t size, sk_error *err);
/* The next line of its answer without the newline; the child's until the next call. */
sk_status sk_child_answer(sk_child *child, const char **line, sk_error *err);
/* Raw bytes behind an answer. */
sk_status sk_child_read(sk_child *child, void *bytes, size_t size, sk_error *err);
/* Waits for its end; IO if that was a signal, else its exit code in *code. */
sk_status sk_child_wait(sk_child *child, int *code, sk_error *err);
/* All that it has printed so far, "" if nothing; the child's. */
const char *sk_child_log(const sk_child *child);
/* Kills the group if it still runs. */
void sk_child_end(sk_child *child);
#endif
