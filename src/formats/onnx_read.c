/* SPDX-License-Identifier: Apache-2.0 */
/* Initialisers and metadata of an ONNX file that siskin wrote. Batch norm is folded in such a file; it comes back as
 * batch norms that change nothing. */
#include <string.h>

#include "formats/readers.h"
#include "formats/wire.h"

static sk_status broken(const char *what, sk_error *err) {
    return sk_fail(err, SK_ERR_FORMAT, "cannot read %s: damaged ONNX file", what);
}

static sk_status copy_text(sk_wire bytes, const char *what, char **out, sk_error *err) {
    const size_t length = (size_t)(bytes.end - bytes.at);
    if (length > 65536 || memchr(bytes.at, 0, length)) return broken(what, err);
    sk_free(*out);
    *out = sk_format("%.*s", (int)length, (const char *)bytes.at);
    return *out ? SK_OK : sk_fail_memory(err, what);
}

static sk_status read_metadata(sk_wire in, const char *what, sk_tensor_file *out, sk_error *err) {
    char *key = NULL, *value = NULL;
    sk_wire_field field;
    sk_status status = SK_OK;
    int more = 0;
    while (status == SK_OK && (more = sk_wire_next(&in, &field)) > 0)
        if (field.type == 2 && (field.number == 1 || field.number == 2))
            status = copy_text(field.bytes, what, field.number == 1 ? &key : &value, err);
    if (status == SK_OK && (more < 0 || !key)) status = broken(what, err);
    if (status == SK_OK) status = sk_tensors_set_meta(out, key, value ? value : "", err);
    sk_free(key);
    sk_free(value);
    return status;
}

typedef struct onnx_tensor {
    char *name;
    int rank, small[4];
    int64_t shape[4];
    uint64_t type;
    sk_wire raw;
} onnx_tensor;

static int add_dimension(onnx_tensor *tensor, uint64_t value) {
    if (tensor->rank == 4 || value > SK_TENSOR_COUNT_MAX) return 0;
    tensor->small[tensor->rank] = (int)value;
    tensor->shape[tensor->rank++] = (int64_t)value;
    return 1;
}

static sk_status read_tensor_fields(sk_wire in, const char *what, onnx_tensor *tensor, sk_error *err) {
    sk_wire_field field;
    sk_status status = SK_OK;
    int more = 0;
    while (status == SK_OK && (more = sk_wire_next(&in, &field)) > 0) {
        uint64_t dimension = 0;
        if (field.number == 1 && field.type == 0)
            status = add_dimension(tensor, field.value) ? SK_OK : broken(what, err);
        else if (field.number == 1 && field.type == 2) /* packed */
            while (status == SK_OK && field.bytes.at < field.bytes.end)
                status = sk_wire_varint(&field.bytes, &dimension) && add_dimension(tensor, dimension) ? SK_OK
                                                                                                   : broken(what, err);
        else if (field.number == 2 && field.type == 0) tensor->type = field.value;
        else if (field.number == 8 && field.type == 2) status = copy_text(field.bytes, what, &tensor->name, err);
        else if (field.number == 9 && field.type == 2) tensor->raw = field.bytes;
    }
    if (status == SK_OK && (more < 0 || !tensor->name || !tensor->name[0] || tensor->type != 1 || !tensor->raw.at))
        return broken(what, err);
    return status;
}

/* The batch norm behind convolution X.0, whose bias it was: the file's bias as beta, and a variance to which adding the
 * epsilon of 1e-3 gives 1. Takes the bias out of the list. */
static sk_status unfold_bias(sk_tensor_file *out, const char *module, const float *bias, int count, sk_error *err) {
    static const char *const parts[] = {"weight", "bias", "running_mean", "running_var"};
    static const float values[] = {1.f, 0.f, 0.f, 1.f - 1e-3f};
    for (int i = 0; i < 4; i++) {
        char *name = sk_format("%s.1.%s", module, parts[i]);
        if (!name) return sk_fail_memory(err, "a tensor");
        const sk_status status = sk_tensors_add(out, name, 1, &count, i == 1 ? bias : NULL, err);
        sk_free(name);
        if (status != SK_OK) return status;
        for (int k = 0; i != 1 && k < count; k++) out->items[out->count - 1].data[k] = values[i];
    }
    return SK_OK;
}

static sk_status add_initializer(sk_wire in, const char *what, sk_tensor_file *out, sk_error *err) {
    static const char suffix[] = ".0.bias";
    onnx_tensor tensor = {0};
    size_t count = 0;
    float *data = NULL;
    sk_status status = read_tensor_fields(in, what, &tensor, err);
    if (status == SK_OK) status = sk_shape_count(tensor.name, tensor.rank, tensor.shape, &count, err);
    if (status == SK_OK && (uint64_t)count * 4 != (uint64_t)(tensor.raw.end - tensor.raw.at))
        status = sk_fail(err, SK_ERR_FORMAT, "cannot read %s: tensor %.80s is cut off", what, tensor.name);
    if (status == SK_OK && !(data = sk_alloc(count, sizeof *data))) status = sk_fail_memory(err, what);
    if (status != SK_OK) goto done;
    sk_numbers_to_float(SK_NUMBER_F32, tensor.raw.at, count, 1, data);
    if (strncmp(tensor.name, "features.", 9) == 0 && sk_has_suffix(tensor.name, suffix) && tensor.rank == 1) {
        tensor.name[strlen(tensor.name) - (sizeof suffix - 1)] = '\0';
        status = unfold_bias(out, tensor.name, data, tensor.small[0], err);
    } else {
        status = sk_tensors_add(out, tensor.name, tensor.rank, tensor.small, data, err);
    }
    if (status != SK_OK) sk_error_prefix(err, status, "cannot read %s", what);
done:
    sk_free(data);
    sk_free(tensor.name);
    return status;
}

static sk_status read_graph(sk_wire in, const char *what, sk_tensor_file *out, sk_error *err) {
    sk_wire_field field;
    sk_status status = SK_OK;
    int more = 0;
    while (status == SK_OK && (more = sk_wire_next(&in, &field)) > 0)
        if (field.number == 5 && field.type == 2) status = add_initializer(field.bytes, what, out, err);
    return status == SK_OK && more < 0 ? broken(what, err) : status;
}

sk_status sk_onnx_parse(const uint8_t *bytes, size_t size, const char *what, sk_tensor_file *out, sk_error *err) {
    static const char producer[] = "siskin";
    sk_wire in = {bytes, bytes + size};
    sk_wire graph = {0};
    sk_wire_field field;
    sk_status status = SK_OK;
    int more = 0, ours = 0;
    while (status == SK_OK && (more = sk_wire_next(&in, &field)) > 0) {
        if (field.type != 2) continue;
        if (field.number == 2)
            ours = field.bytes.end - field.bytes.at == sizeof producer - 1 &&
                   memcmp(field.bytes.at, producer, sizeof producer - 1) == 0;
        else if (field.number == 7) graph = field.bytes;
        else if (field.number == 14) status = read_metadata(field.bytes, what, out, err);
    }
    if (status != SK_OK) return status;
    if (more < 0) return broken(what, err);
    if (!ours) return sk_fail(err, SK_ERR_UNSUPPORTED, "cannot read %s: not an ONNX file written by siskin", what);
    if (!graph.at) return broken(what, err);
    return read_graph(graph, what, out, err);
}
