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
/* The record as the kernels see it; `zero_in` are the zero points of its inputs. */
sk_q_layer sk_skn_kernel_layer(const uint8_t *bytes, const sk_skn_layer *record, int zero_in, int zero_in2);
#endif
