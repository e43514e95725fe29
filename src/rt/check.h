/* SPDX-License-Identifier: Apache-2.0 */
/* What the two halves of the runtime (checking a file, running it) share. Internal. */
#ifndef SK_RT_CHECK_H
#define SK_RT_CHECK_H

#include "base/base.h"
#include "kernels/int8/int8.h"
#include "rt/skn.h"

/* Proves that running the file can neither read nor write outside of it, of the arena and of int32: afterwards the
 * executor checks nothing. */
sk_status sk_skn_check(const uint8_t *bytes, size_t size, sk_error *err);
/* Layer `index` of a file that was checked as the kernels see it. */
sk_q_layer sk_skn_kernel_layer(const uint8_t *bytes, int32_t index);
#endif
