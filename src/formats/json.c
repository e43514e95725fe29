/* SPDX-License-Identifier: Apache-2.0 */
/* cJSON with what it lacks: limits on size and depth, a refusal of trailing bytes, and messages that name the file and
 * the member. Output goes through sk_text, since cJSON's printer would need the whole tree in memory. */
#include "formats/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* cJSON descends recursively up to 1000 levels; a limit checked beforehand keeps small stacks safe. */
static int too_deep(const char *bytes, size_t size) {
    int depth = 0, in_string = 0;
    for (size_t i = 0; i < size; i++) {
        if (in_string) {
            if (bytes[i] == '\\') i++;
            else if (bytes[i] == '"') in_string = 0;
        } else if (bytes[i] == '"') {
            in_string = 1;
        } else if (bytes[i] == '[' || bytes[i] == '{') {
            if (++depth > SK_JSON_DEPTH_MAX) return 1;
        } else if (bytes[i] == ']' || bytes[i] == '}') {
            depth--;
        }
    }
    return 0;
}

sk_status sk_json_parse(const char *bytes, size_t size, const char *what, cJSON **out, sk_error *err) {
    const char *end = NULL;
    *out = NULL;
    if (size > SK_JSON_SIZE_MAX)
        return sk_fail(err, SK_ERR_FORMAT, "cannot read %s: JSON of more than %zu MB", what, SK_JSON_SIZE_MAX >> 20);
    if (too_deep(bytes, size))
        return sk_fail(err, SK_ERR_FORMAT, "cannot read %s: JSON nested deeper than %d", what, SK_JSON_DEPTH_MAX);
    cJSON *root = cJSON_ParseWithLengthOpts(bytes, size, &end, 0);
    if (!root) {
        const size_t at = end && end >= bytes ? (size_t)(end - bytes) : 0;
        return sk_fail(err, SK_ERR_FORMAT, "cannot read %s: not valid JSON at byte %zu", what, at);
    }
    for (size_t i = (size_t)(end - bytes); i < size; i++)
        if (!strchr(" \t\r\n", bytes[i]) || !bytes[i]) {
            cJSON_Delete(root);
            return sk_fail(err, SK_ERR_FORMAT, "cannot read %s: bytes after the JSON at byte %zu", what, i);
        }
    *out = root;
    return SK_OK;
}

sk_status sk_json_read(const char *path, cJSON **out, sk_error *err) {
    uint8_t *bytes = NULL;
    size_t size = 0;
    *out = NULL;
    sk_status status = sk_file_read(path, &bytes, &size, err);
    if (status == SK_OK) status = sk_json_parse((const char *)bytes, size, path, out, err);
    sk_free(bytes);
    return status;
}

sk_status sk_json_number(const cJSON *object, const char *key, double min, double max, const char *what, double *out,
                         sk_error *err) {
    const cJSON *member = cJSON_GetObjectItemCaseSensitive(object, key);
    if (!cJSON_IsNumber(member))
        return sk_fail(err, SK_ERR_FORMAT, "%s: %s is %s", what, key, member ? "not a number" : "missing");
    if (!(member->valuedouble >= min && member->valuedouble <= max))
        return sk_fail(err, SK_ERR_FORMAT, "%s: %s is %g, not within %g to %g", what, key, member->valuedouble, min,
                       max);
    *out = member->valuedouble;
    return SK_OK;
}

sk_status sk_json_integer(const cJSON *object, const char *key, int64_t min, int64_t max, const char *what,
                          int64_t *out, sk_error *err) {
    double value = 0;
    const double limit = 9007199254740992.0; /* 2^53: beyond it a JSON number is no longer exact */
    const sk_status status = sk_json_number(object, key, min < -(int64_t)limit ? -limit : (double)min,
                                            max > (int64_t)limit ? limit : (double)max, what, &value, err);
    if (status != SK_OK) return status;
    if (value != floor(value)) return sk_fail(err, SK_ERR_FORMAT, "%s: %s is %g, not a whole number", what, key, value);
    *out = (int64_t)value;
    return SK_OK;
}

sk_status sk_json_string(const cJSON *object, const char *key, const char *what, const char **out, sk_error *err) {
    const cJSON *member = cJSON_GetObjectItemCaseSensitive(object, key);
    if (!cJSON_IsString(member))
        return sk_fail(err, SK_ERR_FORMAT, "%s: %s is %s", what, key, member ? "not a text" : "missing");
    *out = member->valuestring;
    return SK_OK;
}

size_t sk_utf8_length(const unsigned char *s) {
    if (s[0] < 0x80) return 1;
    if (s[0] >= 0xc2 && s[0] <= 0xdf) return (s[1] & 0xc0) == 0x80 ? 2 : 0;
    if (s[0] >= 0xe0 && s[0] <= 0xef) {
        if ((s[1] & 0xc0) != 0x80 || (s[2] & 0xc0) != 0x80) return 0;
        return (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ? 0 : 3;
    }
    if (s[0] >= 0xf0 && s[0] <= 0xf4) {
        if ((s[1] & 0xc0) != 0x80 || (s[2] & 0xc0) != 0x80 || (s[3] & 0xc0) != 0x80) return 0;
        return (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f) ? 0 : 4;
    }
    return 0;
}

void sk_json_put_string(sk_text *text, const char *value) {
    if (!value) {
        sk_text_add(text, "null");
        return;
    }
    sk_text_add_bytes(text, "\"", 1);
    for (const unsigned char *s = (const unsigned char *)value; *s;) {
        const size_t length = sk_utf8_length(s);
        if (length == 0) sk_text_add(text, "\\ufffd");
        else if (*s == '"' || *s == '\\') sk_text_add(text, "\\%c", *s);
        else if (*s < 0x20 || *s == 0x7f) sk_text_add(text, "\\u%04x", *s);
        else sk_text_add_bytes(text, s, length);
        s += length ? length : 1;
    }
    sk_text_add_bytes(text, "\"", 1);
}

void sk_json_put_number(sk_text *text, double value) {
    char digits[40];
    if (!isfinite(value)) {
        sk_text_add(text, "null");
        return;
    }
    for (int precision = 1; precision <= 17; precision++) {
        snprintf(digits, sizeof digits, "%.*g", precision, value);
        if (strtod(digits, NULL) == value) break;
    }
    for (char *c = digits; *c; c++)
        if (*c == ',') *c = '.';
    sk_text_add(text, "%s", digits);
}

void sk_json_put_text(sk_text *text, const char *before, const char *value) {
    sk_text_add(text, "%s", before);
    sk_json_put_string(text, value);
}

void sk_json_put_value(sk_text *text, const char *before, double value) {
    sk_text_add(text, "%s", before);
    sk_json_put_number(text, value);
}
