/* SPDX-License-Identifier: Apache-2.0 */
/* Statuses and the one sentence that explains a failure. Part of the board runtime: libc only. */
#include "base/base.h"

#include <stdio.h>
#include <string.h>

const char *sk_status_name(sk_status status) {
    switch (status) {
    case SK_OK: return "ok";
    case SK_ERR_ARGUMENT: return "argument";
    case SK_ERR_IO: return "input/output";
    case SK_ERR_MEMORY: return "memory";
    case SK_ERR_FORMAT: return "format";
    case SK_ERR_UNSUPPORTED: return "unsupported";
    case SK_ERR_MISMATCH: return "mismatch";
    case SK_ERR_DATA: return "data";
    case SK_ERR_CANCELLED: return "cancelled";
    }
    return "unknown status";
}

sk_status sk_fail(sk_error *err, sk_status code, const char *format, ...) {
    if (!err) return code;
    /* Arguments may point into the message that is being replaced. */
    char message[sizeof err->message];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    memcpy(err->message, message, sizeof message);
    err->code = code;
    return code;
}

sk_status sk_fail_memory(sk_error *err, const char *what) {
    return sk_fail(err, SK_ERR_MEMORY, "out of memory for %s", what);
}

sk_status sk_error_prefix(sk_error *err, sk_status code, const char *format, ...) {
    if (!err) return code;
    char message[sizeof err->message];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(message, sizeof message, format, args);
    va_end(args);
    size_t used = length < 0 ? 0 : (size_t)length;
    if (used > sizeof message - 1) used = sizeof message - 1;
    const char *parts[2] = {": ", err->message};
    for (int i = 0; i < 2; i++) {
        size_t room = sizeof message - 1 - used, n = strlen(parts[i]);
        if (n > room) n = room;
        memcpy(message + used, parts[i], n);
        used += n;
    }
    message[used] = 0;
    memcpy(err->message, message, used + 1);
    if (err->code == SK_OK) err->code = code;
    return err->code;
}
