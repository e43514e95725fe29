/* SPDX-License-Identifier: Apache-2.0 */
/* The ranges that the toolkit chose for every tensor, and a forecast of its int8 made of them. */
#include <string.h>

#include "rknn/rknn.h"

#define MOST_TENSORS 4096
#define MOST_CHANNELS 65536

typedef struct table {
    sk_vendor_range *ranges;
    float *numbers;
    size_t count;
} table;

/* Names and sizes from the answer; *numbers: how many floats follow it. */
static sk_status read_names(const cJSON *tensors, table *t, size_t *numbers, sk_error *err) {
    const cJSON *item = NULL;
    const int count = cJSON_GetArraySize(tensors);
    *numbers = 0;
    if (count < 1 || count > MOST_TENSORS)
        return sk_fail(err, SK_ERR_UNSUPPORTED, "the toolkit tells no ranges: is it of another version?");
    t->ranges = sk_calloc((size_t)count, sizeof *t->ranges);
    if (!t->ranges) return sk_fail_memory(err, "the toolkit's ranges");
    cJSON_ArrayForEach(item, tensors) {
        const cJSON *name = cJSON_GetObjectItemCaseSensitive(item, "name");
        const cJSON *channels = cJSON_GetObjectItemCaseSensitive(item, "count");
        if (!cJSON_IsString(name) || !cJSON_IsNumber(channels) || channels->valueint < 1 ||
            channels->valueint > MOST_CHANNELS)
            return sk_fail(err, SK_ERR_UNSUPPORTED, "the toolkit's ranges are not those of version 2.5.0");
        t->ranges[t->count++] = (sk_vendor_range){name->valuestring, (size_t)channels->valueint, NULL, NULL};
        *numbers += 2 * (size_t)channels->valueint;
    }
    return SK_OK;
}

static sk_status read_numbers(sk_bridge *bridge, table *t, size_t numbers, sk_error *err) {
    t->numbers = sk_alloc(numbers, sizeof *t->numbers);
    if (!t->numbers) return sk_fail_memory(err, "the toolkit's ranges");
    const float *at = t->numbers;
    for (size_t i = 0; i < t->count; i++, at += 2 * t->ranges[i - 1].count) {
        t->ranges[i].scale = at;
        t->ranges[i].zero = at + t->ranges[i].count;
    }
    return sk_bridge_read(bridge, t->numbers, numbers * sizeof *t->numbers, err);
}

sk_status sk_rknn_forecast(sk_bridge *bridge, const sk_model *model, const sk_vendor_form *form, sk_vendor **out,
                           sk_error *err) {
    table t = {0};
    cJSON *answer = NULL;
    size_t numbers = 0;
    *out = NULL;
    sk_status status = sk_bridge_ask(bridge, "{\"do\":\"ranges\"}", NULL, 0, &answer, err);
    if (status == SK_OK)
        status = read_names(cJSON_GetObjectItemCaseSensitive(answer, "tensors"), &t, &numbers, err);
    if (status == SK_OK) status = read_numbers(bridge, &t, numbers, err);
    if (status == SK_OK) status = sk_vendor_take(model, form, t.ranges, t.count, out, err);
    sk_free(t.ranges);
    sk_free(t.numbers);
    cJSON_Delete(answer);
    return status;
}
