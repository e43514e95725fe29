/* SPDX-License-Identifier: Apache-2.0 */
/* Thin helpers over cJSON: parsing with limits, members with sentences for errors, output into sk_text. Internal. */
#ifndef SK_FORMATS_JSON_H
#define SK_FORMATS_JSON_H

#include <cjson/cJSON.h>

#include "base/base.h"

#define SK_JSON_SIZE_MAX ((size_t)64 << 20)
#define SK_JSON_DEPTH_MAX 64

/* `size` bytes with nothing but white space after the value; `what` names it in messages. Free with cJSON_Delete. */
sk_status sk_json_parse(const char *bytes, size_t size, const char *what, cJSON **out, sk_error *err);
sk_status sk_json_read(const char *path, cJSON **out, sk_error *err);

/* Members of an object; FORMAT with a sentence naming `what` and the key if missing, of another type, out of range. */
sk_status sk_json_number(const cJSON *object, const char *key, double min, double max, const char *what, double *out,
                         sk_error *err);
sk_status sk_json_integer(const cJSON *object, const char *key, int64_t min, int64_t max, const char *what,
                          int64_t *out, sk_error *err);
sk_status sk_json_string(const cJSON *object, const char *key, const char *what, const char **out, sk_error *err);

/* Length of the valid UTF-8 sequence at `s`, 0 if it is broken, overlong, a surrogate or beyond U+10FFFF. */
size_t sk_utf8_length(const unsigned char *s);
/* Quoted and escaped; bytes that are not UTF-8 become U+FFFD. NULL is written as null. */
void sk_json_put_string(sk_text *text, const char *value);
/* Shortest decimal that reads back the same, '.' in every locale; null if not finite. */
void sk_json_put_number(sk_text *text, double value);
/* The same with what stands before it, e.g. ", \"mean\": ". */
void sk_json_put_text(sk_text *text, const char *before, const char *value);
void sk_json_put_value(sk_text *text, const char *before, double value);
#endif
