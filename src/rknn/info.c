/* SPDX-License-Identifier: Apache-2.0 */
/* What can be read of a .rknn without the vendor. The file has a header of 128 bytes, tables, commands and weights,
 * then metadata (a FlatBuffer, of which only the strings are looked at) and a JSON text at the end. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "rknn/rknn.h"

#define HEADER 128
#define BODY_FROM 64 /* lengths in the header count from here */

static uint32_t u32(const uint8_t *at) {
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static uint64_t u64(const uint8_t *at) { return (uint64_t)u32(at) | (uint64_t)u32(at + 4) << 32; }

static void copy(char *out, size_t size, const void *text, size_t length) {
    snprintf(out, size, "%.*s", (int)(length < size ? length : size - 1), (const char *)text);
    for (unsigned char *at = (unsigned char *)out; *at;) {
        const size_t n = sk_utf8_length(at);
        if (!n || *at < 0x20 || *at == 0x7f) *at = '?'; /* whoever prints it should not suffer */
        at += n ? n : 1;
    }
}

/* A string of the metadata by what it looks like. */
static void sort_string(sk_rknn_info *info, const char *text, size_t length) {
    static const char *const frameworks[] = {"ONNX", "TFLITE", "TENSORFLOW", "CAFFE", "PYTORCH", "DARKNET"};
    for (size_t i = 0; i < sizeof frameworks / sizeof *frameworks; i++)
        if (length == strlen(frameworks[i]) && memcmp(text, frameworks[i], length) == 0) {
            copy(info->framework, sizeof info->framework, text, length);
            return;
        }
    char *mark = memchr(text, '(', length);
    if (mark && strncmp(mark, "(compiler version:", 18) == 0) {
        copy(info->compiler, sizeof info->compiler, text, length);
    } else if (strncmp(text, "{'attrs'", 8) != 0 && !info->framework[0] && length > 1 && length <= 1024 &&
               !info->custom[0]) {
        copy(info->custom, sizeof info->custom, text, length); /* it stands before the framework's name */
    }
}

/* Strings of a FlatBuffer: length, characters, NUL, aligned to 4. */
static void read_metadata(sk_rknn_info *info, const uint8_t *at, size_t size) {
    for (size_t i = 8; i + 5 <= size; i += 4) {
        const size_t length = u32(at + i);
        size_t k = 0;
        if (length < 2 || length > size - i - 5 || at[i + 4 + length]) continue;
        while (k < length && (isprint(at[i + 4 + k]) || isspace(at[i + 4 + k]) || at[i + 4 + k] >= 0x80)) k++;
        if (k < length) continue;
        sort_string(info, (const char *)at + i + 4, length);
        i += length / 4 * 4;
    }
}

static void read_text(const cJSON *item, char *out, size_t size) {
    if (cJSON_IsString(item)) copy(out, size, item->valuestring, strlen(item->valuestring));
}

static sk_status read_json(sk_rknn_info *info, const char *path, const char *text, size_t size, sk_error *err) {
    cJSON *root = NULL;
    sk_status status = sk_json_parse(text, size, path, &root, err);
    if (status != SK_OK) return status;
    read_text(cJSON_GetObjectItemCaseSensitive(root, "version"), info->version, sizeof info->version);
    const cJSON *target = cJSON_GetObjectItemCaseSensitive(root, "target_platform");
    read_text(cJSON_IsArray(target) ? cJSON_GetArrayItem(target, 0) : target, info->target, sizeof info->target);
    const cJSON *input = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(root, "norm_tensor"), 0);
    read_text(cJSON_GetObjectItemCaseSensitive(input, "url"), info->input_name, sizeof info->input_name);
    const cJSON *shape = cJSON_GetObjectItemCaseSensitive(input, "size");
    for (int i = 0; i < 4; i++) {
        const cJSON *number = cJSON_GetArrayItem(shape, i);
        info->input_shape[i] = cJSON_IsNumber(number) ? number->valueint : 0;
    }
    const cJSON *inputs = cJSON_GetObjectItemCaseSensitive(root, "input_num");
    const cJSON *outputs = cJSON_GetObjectItemCaseSensitive(root, "output_num");
    info->inputs = cJSON_IsNumber(inputs) ? inputs->valueint : 0;
    info->outputs = cJSON_IsNumber(outputs) ? outputs->valueint : 0;
    cJSON_Delete(root);
    return SK_OK;
}

static sk_status read_all(sk_rknn_info *info, const char *path, const uint8_t *bytes, size_t size, sk_error *err) {
    if (size < HEADER || memcmp(bytes, "RKNN\0\0\0\0", 8) != 0)
        return sk_fail(err, SK_ERR_FORMAT, "cannot read %s: not a .rknn file", path);
    const uint64_t length = u64(bytes + 16), metadata = u32(bytes + 64);
    if (length > size - BODY_FROM || metadata > length || length - metadata < HEADER - BODY_FROM ||
        size - BODY_FROM - length < 8)
        return sk_fail(err, SK_ERR_FORMAT, "cannot read %s: the .rknn file is cut off or damaged", path);
    const uint8_t *end = bytes + BODY_FROM + length;
    const uint64_t json = u64(end);
    if (json > size - BODY_FROM - length - 8)
        return sk_fail(err, SK_ERR_FORMAT, "cannot read %s: the .rknn file is cut off or damaged", path);
    info->file_bytes = size;
    info->internal_bytes = u32(bytes + 80);
    info->weight_bytes = u32(bytes + 84);
    info->body = sk_hash_bytes(bytes + HEADER, (size_t)(end - bytes - HEADER - metadata));
    read_metadata(info, end - metadata, (size_t)metadata);
    const sk_status status = read_json(info, path, (const char *)end + 8, (size_t)json, err);
    if (status == SK_OK) info->has_card = sk_rknn_card_parse(info->custom, &info->card, info->algorithm);
    return status;
}

sk_status sk_rknn_info_read(const char *path, sk_rknn_info *out, sk_error *err) {
    sk_map map;
    memset(out, 0, sizeof *out);
    sk_status status = sk_file_map(path, &map, err);
    if (status != SK_OK) return status;
    status = read_all(out, path, map.bytes, map.size, err);
    sk_file_unmap(&map);
    return status;
}
