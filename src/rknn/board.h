/* SPDX-License-Identifier: Apache-2.0 */
/* What the files about the connected board share. Internal. */
#ifndef SK_RKNN_BOARD_H
#define SK_RKNN_BOARD_H

#include "rknn/rknn.h"

#define SK_ADB_WORDS 8

/* Runs adb with `words` (ends with NULL, the first two may be -s SERIAL); what it printed in *out, released with
 * sk_free. Errors: UNSUPPORTED (no adb), IO (it fails, or is not done in `seconds`), CANCELLED, MEMORY. */
sk_status sk_adb(const char *const *words, double seconds, const sk_hooks *hooks, char **out, sk_error *err);

#endif
