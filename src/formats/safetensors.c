/* SPDX-License-Identifier: Apache-2.0 */
/* safetensors: eight bytes of header length, a JSON header, then the tensors. The reader believes nothing: every
 * offset, shape and gap is checked before a byte of data is touched. The writer sorts, so that bytes are repeatable. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/json.h"
#include "formats/readers.h"

#define HEADER_MAX ((uint64_t)16 << 20)

typedef struct st_extent {
    uint64_t begin, end;
    const cJSON *member;
} st_extent;

static int by_begin(const void *left, const void *right) {
    const st_extent *a = left, *b = right;
    if (a->begin != b->begin) return a->begin < b->begin ? -1 : 1;
    return a->end < b->end ? -1 : a->end > b->end;
}

static int parse_type(const char *text, sk_number *type) {
    static const char *const names[] = {"F32", "F16", "BF16", "F64", "I64"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(text, names[i]) == 0) {
            *type = (sk_number)i;
            return 1;
        }
    return 0;
}

/* A whole number of a JSON array in 0..limit; -1 otherwise. */
static int64_t whole(const cJSON *item, double limit) {
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0 && item->valuedouble <= limit)) return -1;
    const int64_t value = (int64_t)item->valuedouble;
    return (double)value == item->valuedouble ? value : -1;
}

static sk_status read_extent(const cJSON *member, uint64_t data_size, const char *what, st_extent *out, sk_error *err) {
    const cJSON *offsets = cJSON_GetObjectItemCaseSensitive(member, "data_offsets");
    const int64_t begin = whole(cJSON_GetArrayItem(offsets, 0), 9007199254740992.0);
    const int64_t end = whole(cJSON_GetArrayItem(offsets, 1), 9007199254740992.0);
    if (!cJSON_IsArray(offsets) || cJSON_GetArraySize(offsets) != 2 || begin < 0 || end < begin)
        return sk_fail(err, SK_ERR_FORMAT, "cannot read %s: tensor %.80s has no valid data_offsets", what,
                       member->string);
    if ((uint64_t)end > data_size)
        return sk_fail(err, SK_ERR_FORMAT, "cannot read %s: tensor %.80s ends after the file (truncated?)", what,
                       member->string);
    *out = (st_extent){(uint64_t)begin, (uint64_t)end, member};
    return SK_OK;
}

static sk_status read_tensor(const st_extent *extent, const uint8_t *data, const char *what, sk_tensor_file *out,
                             sk_error *err) {
    const char *name = extent->member->string, *dtype = NULL;
    const cJSON *dims = cJSON_GetObjectItemCaseSensitive(extent->member, "shape"), *dim;
    int64_t shape[4] = {0};
    int small[4] = {0}, rank = 0;
    size_t count = 0;
    sk_number type = SK_NUMBER_F32;

    sk_status status = sk_json_string(extent->member, "dtype", what, &dtype, err);
    if (status != SK_OK) return status;
    if (!parse_type(dtype, &type))
        return sk_fail(err, SK_ERR_UNSUPPORTED, "cannot read %s: tensor %.80s is of type %.20s", what, name, dtype);
    if (!cJSON_IsArray(dims) || cJSON_GetArraySize(dims) > 4)
        return sk_fail(err, SK_ERR_FORMAT, "cannot read %s: tensor %.80s has no shape of up to 4 dimensions", what,
                       name);
    cJSON_ArrayForEach(dim, dims) {
        shape[rank] = whole(dim, (double)SK_TENSOR_COUNT_MAX);
        small[rank] = (int)shape[rank];
        rank++;
    }
    status = sk_shape_count(name, rank, shape, &count, err);
    if (status != SK_OK) return sk_error_prefix(err, status, "cannot read %s", what);
    if ((uint64_t)count * sk_number_size(type) != extent->end - extent->begin)
        return sk_fail(err, SK_ERR_FORMAT, "cannot read %s: tensor %.80s has %zu values of %s but %llu bytes", what,
                       name, count, dtype, (unsigned long long)(extent->end - extent->begin));
    if (type == SK_NUMBER_I64 && count == 1)
        status = sk_tensors_add_i64(out, name, sk_number_i64(data + extent->begin), err);
    else if ((status = sk_tensors_add(out, name, rank, small, NULL, err)) == SK_OK)
        sk_numbers_to_float(type, data + extent->begin, count, 1, out->items[out->count - 1].data);
    return status == SK_OK ? SK_OK : sk_error_prefix(err, status, "cannot read %s", what);
}

static sk_status read_metadata(const cJSON *object, const char *what, sk_tensor_file *out, sk_error *err) {
    const cJSON *pair;
    if (!cJSON_IsObject(object))
        return sk_fail(err, SK_ERR_FORMAT, "cannot read %s: __metadata__ is not an object", what);
    cJSON_ArrayForEach(pair, object) {
        if (!cJSON_IsString(pair))
            return sk_fail(err, SK_ERR_FORMAT, "cannot read %s: metadata %.80s is not a text", what, pair->string);
        const sk_status status = sk_tensors_set_meta(out, pair->string, pair->valuestring, err);
        if (status != SK_OK) return status;
    }
    return SK_OK;
}

sk_status sk_safetensors_parse(const uint8_t *bytes, size_t size, const char *what, sk_tensor_file *out,
                               sk_error *err) {
    uint64_t header_size = 0, position = 0;
    cJSON *root = NULL;
    const cJSON *member;
    st_extent *extents = NULL;
    size_t count = 0, listed = 0;
    sk_status status;

    if (size >= 8) memcpy(&header_size, bytes, 8);
    if (size < 10 || header_size < 2 || header_size > HEADER_MAX || header_size > size - 8)
        return sk_fail(err, SK_ERR_FORMAT, "cannot read %s: not a safetensors file, or its header is cut off", what);
    status = sk_json_parse((const char *)bytes + 8, (size_t)header_size, what, &root, err);
    if (status != SK_OK) return status;
    cJSON_ArrayForEach(member, root) listed++;
    if (!cJSON_IsObject(root) || listed > SK_TENSORS_MAX + 1) {
        status = sk_fail(err, SK_ERR_FORMAT, "cannot read %s: the header is not an object of up to %d tensors", what,
                         SK_TENSORS_MAX);
        goto done;
    }
    extents = sk_alloc(listed + 1, sizeof *extents);
    if (!extents) {
        status = sk_fail_memory(err, what);
        goto done;
    }
    cJSON_ArrayForEach(member, root) {
        if (strcmp(member->string, "__metadata__") == 0) status = read_metadata(member, what, out, err);
        else status = read_extent(member, size - 8 - header_size, what, &extents[count++], err);
        if (status != SK_OK) goto done;
    }
    qsort(extents, count, sizeof *extents, by_begin);
    for (size_t i = 0; i < count; position = extents[i++].end)
        if (extents[i].begin != position) {
            status = sk_fail(err, SK_ERR_FORMAT, "cannot read %s: tensor %.80s %s", what, extents[i].member->string,
                             extents[i].begin < position ? "overlaps another" : "leaves a hole before it");
            goto done;
        }
    if (position != size - 8 - header_size) {
        status = sk_fail(err, SK_ERR_FORMAT, "cannot read %s: %llu bytes after the last tensor", what,
                         (unsigned long long)(size - 8 - header_size - position));
        goto done;
    }
    for (size_t i = 0; i < count && status == SK_OK; i++)
        status = read_tensor(&extents[i], bytes + 8 + header_size, what, out, err);
done:
    sk_free(extents);
    cJSON_Delete(root);
    return status;
}

/* ---- writing ---------------------------------------------------------------------------------------------- */

/* int64 first, so that both types lie aligned; then by name. */
static int by_type_and_name(const void *left, const void *right) {
    const sk_tensor_entry *a = *(const sk_tensor_entry *const *)left, *b = *(const sk_tensor_entry *const *)right;
    if (a->is_i64 != b->is_i64) return b->is_i64 - a->is_i64;
    return strcmp(a->name, b->name);
}

static int by_key(const void *left, const void *right) {
    return strcmp((*(const sk_tensor_meta *const *)left)->key, (*(const sk_tensor_meta *const *)right)->key);
}

static void put_metadata(sk_text *header, const sk_tensor_meta **order, size_t count) {
    if (count == 0) return;
    sk_text_add(header, "\"__metadata__\":{");
    for (size_t i = 0; i < count; i++) {
        sk_text_add(header, "%s", i ? "," : "");
        sk_json_put_string(header, order[i]->key);
        sk_text_add(header, ":");
        sk_json_put_string(header, order[i]->value);
    }
    sk_text_add(header, "}");
}

static void put_tensors(sk_text *header, const sk_tensor_entry **order, size_t count, int comma) {
    uint64_t position = 0;
    for (size_t i = 0; i < count; i++) {
        const sk_tensor_entry *tensor = order[i];
        const uint64_t bytes = tensor->is_i64 ? 8 : (uint64_t)tensor->count * 4;
        sk_text_add(header, "%s", i || comma ? "," : "");
        sk_json_put_string(header, tensor->name);
        sk_text_add(header, ":{\"dtype\":\"%s\",\"shape\":[", tensor->is_i64 ? "I64" : "F32");
        for (int d = 0; d < tensor->rank; d++) sk_text_add(header, "%s%d", d ? "," : "", tensor->shape[d]);
        sk_text_add(header, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)position,
                    (unsigned long long)(position + bytes));
        position += bytes;
    }
}

sk_status sk_tensors_write_safetensors(const char *path, const sk_tensor_file *file, sk_error *err) {
    sk_text header = {0};
    sk_output *output = NULL;
    sk_status status = SK_OK;
    const sk_tensor_entry **order = sk_alloc(file->count + 1, sizeof *order);
    const sk_tensor_meta **meta = sk_alloc(file->meta_count + 1, sizeof *meta);
    if (!order || !meta) {
        status = sk_fail_memory(err, path);
        goto done;
    }
    for (size_t i = 0; i < file->count; i++) order[i] = &file->items[i];
    for (size_t i = 0; i < file->meta_count; i++) meta[i] = &file->meta[i];
    qsort(order, file->count, sizeof *order, by_type_and_name);
    qsort(meta, file->meta_count, sizeof *meta, by_key);

    sk_text_add(&header, "{");
    put_metadata(&header, meta, file->meta_count);
    put_tensors(&header, order, file->count, file->meta_count > 0);
    sk_text_add(&header, "}");
    while (!header.failed && header.size % 8) sk_text_add(&header, " ");
    if (header.failed) {
        status = sk_fail_memory(err, path);
        goto done;
    }
    status = sk_output_open(path, &output, err);
    if (status != SK_OK) goto done;
    const uint64_t header_size = header.size;
    sk_output_write(output, &header_size, 8);
    sk_output_write(output, header.data, header.size);
    for (size_t i = 0; i < file->count; i++) {
        if (order[i]->is_i64) sk_output_write(output, &order[i]->i64, 8);
        else sk_output_write(output, order[i]->data, order[i]->count * sizeof(float));
    }
    status = sk_output_commit(output, err);
done:
    sk_text_free(&header);
    sk_free(order);
    sk_free(meta);
    return status;
}
