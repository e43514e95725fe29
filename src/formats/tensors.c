/* SPDX-License-Identifier: Apache-2.0 */
/* The list of named tensors that all model formats are read into and written from, and the choice of the reader by
 * the first bytes of a file: names lie, contents do not. */
#include "formats/tensors.h"

#include <string.h>

#include "formats/readers.h"

sk_status sk_shape_count(const char *name, int rank, const int64_t *shape, size_t *count, sk_error *err) {
    size_t product = 1;
    if (rank < 0 || rank > 4)
        return sk_fail(err, SK_ERR_UNSUPPORTED, "tensor %.80s has %d dimensions: at most 4 are read", name, rank);
    for (int i = 0; i < rank; i++) {
        if (shape[i] <= 0)
            return sk_fail(err, SK_ERR_FORMAT, "tensor %.80s has a dimension of %lld", name, (long long)shape[i]);
        if ((uint64_t)shape[i] > SK_TENSOR_COUNT_MAX / product)
            return sk_fail(err, SK_ERR_FORMAT, "tensor %.80s is larger than the %u values that are read", name,
                           SK_TENSOR_COUNT_MAX);
        product *= (size_t)shape[i];
    }
    *count = product;
    return SK_OK;
}

sk_status sk_tensors_add(sk_tensor_file *file, const char *name, int rank, const int *shape, const float *data,
                         sk_error *err) {
    int64_t wide[4] = {0};
    sk_tensor_entry entry = {0};
    if (rank >= 0 && rank <= 4)
        for (int i = 0; i < rank; i++) wide[i] = entry.shape[i] = shape[i];
    const sk_status status = sk_shape_count(name, rank, wide, &entry.count, err);
    if (status != SK_OK) return status;
    if (sk_tensors_find(file, name)) return sk_fail(err, SK_ERR_FORMAT, "tensor %.80s is there twice", name);
    if (file->count >= SK_TENSORS_MAX)
        return sk_fail(err, SK_ERR_FORMAT, "more than %d tensors in one file", SK_TENSORS_MAX);
    if (file->count == file->capacity) {
        const size_t capacity = file->capacity ? file->capacity * 2 : 64;
        sk_tensor_entry *items = sk_realloc(file->items, file->capacity, capacity, sizeof *items);
        if (!items) return sk_fail_memory(err, "the list of tensors");
        file->items = items;
        file->capacity = capacity;
    }
    entry.rank = rank;
    entry.name = sk_strdup(name);
    entry.data = data ? sk_alloc(entry.count, sizeof(float)) : sk_calloc(entry.count, sizeof(float));
    if (!entry.name || !entry.data) {
        sk_free(entry.name);
        sk_free(entry.data);
        return sk_fail_memory(err, "a tensor");
    }
    if (data) memcpy(entry.data, data, entry.count * sizeof(float));
    file->items[file->count++] = entry;
    return SK_OK;
}

sk_status sk_tensors_add_i64(sk_tensor_file *file, const char *name, int64_t value, sk_error *err) {
    const float rounded = (float)value;
    const sk_status status = sk_tensors_add(file, name, 0, NULL, &rounded, err);
    if (status != SK_OK) return status;
    file->items[file->count - 1].is_i64 = 1;
    file->items[file->count - 1].i64 = value;
    return SK_OK;
}

const sk_tensor_entry *sk_tensors_find(const sk_tensor_file *file, const char *name) {
    for (size_t i = 0; i < file->count; i++)
        if (strcmp(file->items[i].name, name) == 0) return &file->items[i];
    return NULL;
}

sk_status sk_tensors_set_meta(sk_tensor_file *file, const char *key, const char *value, sk_error *err) {
    char *copy = sk_strdup(value), *name = NULL;
    if (!copy) return sk_fail_memory(err, "metadata");
    for (size_t i = 0; i < file->meta_count; i++)
        if (strcmp(file->meta[i].key, key) == 0) {
            sk_free(file->meta[i].value);
            file->meta[i].value = copy;
            return SK_OK;
        }
    if (file->meta_count == file->meta_capacity) {
        const size_t capacity = file->meta_capacity ? file->meta_capacity * 2 : 16;
        sk_tensor_meta *meta = NULL;
        if (capacity > SK_TENSORS_MAX) {
            sk_free(copy);
            return sk_fail(err, SK_ERR_FORMAT, "more than %d metadata pairs", SK_TENSORS_MAX);
        }
        meta = sk_realloc(file->meta, file->meta_capacity, capacity, sizeof *meta);
        if (!meta) {
            sk_free(copy);
            return sk_fail_memory(err, "metadata");
        }
        file->meta = meta;
        file->meta_capacity = capacity;
    }
    name = sk_strdup(key);
    if (!name) {
        sk_free(copy);
        return sk_fail_memory(err, "metadata");
    }
    file->meta[file->meta_count].key = name;
    file->meta[file->meta_count++].value = copy;
    return SK_OK;
}

const char *sk_tensors_meta(const sk_tensor_file *file, const char *key) {
    for (size_t i = 0; i < file->meta_count; i++)
        if (strcmp(file->meta[i].key, key) == 0) return file->meta[i].value;
    return NULL;
}

void sk_tensors_free(sk_tensor_file *file) {
    for (size_t i = 0; i < file->count; i++) {
        sk_free(file->items[i].name);
        sk_free(file->items[i].data);
    }
    for (size_t i = 0; i < file->meta_count; i++) {
        sk_free(file->meta[i].key);
        sk_free(file->meta[i].value);
    }
    sk_free(file->items);
    sk_free(file->meta);
    memset(file, 0, sizeof *file);
}

/* torch.nn.DataParallel saves every name behind "module."; only a prefix of all names is one. */
static void strip_module_prefix(sk_tensor_file *file) {
    static const char prefix[] = "module.";
    const size_t length = sizeof prefix - 1;
    for (size_t i = 0; i < file->count; i++)
        if (strncmp(file->items[i].name, prefix, length) != 0 || !file->items[i].name[length]) return;
    for (size_t i = 0; i < file->count; i++)
        memmove(file->items[i].name, file->items[i].name + length, strlen(file->items[i].name + length) + 1);
}

sk_status sk_tensors_read_memory(const uint8_t *bytes, size_t size, const char *what, sk_tensor_file *out,
                                 sk_error *err) {
    sk_status status;
    memset(out, 0, sizeof *out);
    if (size >= 10 && bytes[8] == '{') status = sk_safetensors_parse(bytes, size, what, out, err);
    else if (size >= 4 && memcmp(bytes, "PK\3\4", 4) == 0) status = sk_pth_parse_zip(bytes, size, what, out, err);
    else if (size >= 2 && bytes[0] == 0x80 && bytes[1] >= 2 && bytes[1] <= 5)
        status = sk_pth_parse_stream(bytes, size, what, out, err);
    else if (size >= 2 && bytes[0] == 0x08) /* field 1 of ONNX's ModelProto, ir_version */
        status = sk_onnx_parse(bytes, size, what, out, err);
    else if (size >= 4 && memcmp(bytes, "\x89SKN", 4) == 0)
        status =
            sk_fail(err, SK_ERR_UNSUPPORTED, "cannot read %s: an int8 model (.skn); a float model is wanted", what);
    else
        status =
            sk_fail(err, SK_ERR_FORMAT,
                    "cannot read %s: not a model file (safetensors, PyTorch .pth or ONNX written by siskin)", what);
    if (status != SK_OK) sk_tensors_free(out);
    else strip_module_prefix(out);
    return status;
}

sk_status sk_tensors_read(const char *path, sk_tensor_file *out, sk_error *err) {
    sk_map map = {0};
    memset(out, 0, sizeof *out);
    sk_status status = sk_file_map(path, &map, err);
    if (status != SK_OK) return status;
    status = sk_tensors_read_memory(map.bytes, map.size, path, out, err);
    sk_file_unmap(&map);
    return status;
}
