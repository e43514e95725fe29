/* SPDX-License-Identifier: Apache-2.0 */
/* Status codes and the error text that every fallible call of siskin reports. */
#ifndef SISKIN_STATUS_H
#define SISKIN_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

/* SK_OK is 0; every other value is a failure. */
typedef enum sk_status {
    SK_OK = 0,
    SK_ERR_ARGUMENT,    /* the caller passed a value outside the documented range */
    SK_ERR_IO,          /* open, read, write, sync or rename failed */
    SK_ERR_MEMORY,      /* an allocation failed */
    SK_ERR_FORMAT,      /* a file is broken, truncated or of another format */
    SK_ERR_UNSUPPORTED, /* a valid file or option that this build does not handle */
    SK_ERR_MISMATCH,    /* two things do not fit together (shapes, classes, networks) */
    SK_ERR_DATA,        /* the data is unusable (leak, empty class, too many bad files) */
    SK_ERR_CANCELLED    /* the caller asked to stop through sk_hooks */
} sk_status;

/* Receives one sentence that names the thing and the way out. Owned by the caller,
 * initialise with {0}. Every function that takes one accepts NULL. */
typedef struct sk_error {
    sk_status code;
    char message[512];
} sk_error;

/* Short constant name of a status, never NULL. */
const char *sk_status_name(sk_status status);

#ifdef __cplusplus
}
#endif
#endif
