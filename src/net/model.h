/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of a model, for the rooms that work on the network itself. Internal, float only. */
#ifndef SK_NET_MODEL_H
#define SK_NET_MODEL_H

#include "net/net.h"

sk_net *sk_model_net(sk_model *model);
/* Parameters may change behind the model's back from now on: every forward folds them again. */
void sk_model_share(sk_model *model);
/* They have changed once: the next forward folds them again. */
void sk_model_changed(sk_model *model);
/* Looks for the first layer, in the order of execution, whose weights, statistics or output for the pictures (n x size
 * x size x 3; n 0: outputs are not looked at, and NaN behind a ReLU is found all the same) are not finite; where =
 * "layer NAME, whose ... are not finite", or "" if there is none. */
sk_status sk_model_find_bad(sk_model *model, const uint8_t *images, int n, int threads, char *where, size_t size,
                            sk_error *err);
const sk_param *sk_model_param(const sk_model *model, size_t index);
#endif
