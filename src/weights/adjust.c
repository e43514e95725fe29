/* SPDX-License-Identifier: Apache-2.0 */
/* Pulls the weights of a model in, once. */
#include "weights/weights.h"

sk_status sk_weights_adjust(sk_model *model, const sk_adjust_options *options, sk_adjust_row **rows, size_t *count,
                            sk_error *err) {
    sk_limits *limits = NULL;
    if (rows) *rows = NULL;
    if (count) *count = 0;
    sk_status status = sk_limits_create(model, options, &limits, err);
    if (status == SK_OK && rows && !(*rows = sk_calloc(limits->count, sizeof **rows)))
        status = sk_fail_memory(err, "the list of tensors");
    for (size_t i = 0; status == SK_OK && i < limits->count; i++) sk_limits_clamp(limits, i, rows ? *rows + i : NULL);
    if (status == SK_OK && count) *count = limits->count;
    sk_limits_free(limits);
    return status;
}

void sk_adjust_rows_free(sk_adjust_row *rows) { sk_free(rows); }
