/* SPDX-License-Identifier: Apache-2.0 */
/* What the training room needs of the table of keys beyond siskin/train.h. Internal. */
#ifndef SK_TRAIN_KEYS_H
#define SK_TRAIN_KEYS_H

#include "base/base.h"
#include "siskin/train.h"

const sk_train_key *sk_train_key_find(const char *name); /* NULL: unknown */
/* ARGUMENT with the option and its range, or the two options that do not go together. */
sk_status sk_train_options_check(const sk_train_options *options, sk_error *err);
/* The fewest digits that still name this very float: 1e-4 and not 9.99999975e-05. */
const char *sk_key_float_text(float value, char out[32]);
#endif
