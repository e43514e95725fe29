/* SPDX-License-Identifier: Apache-2.0 */
/* Text: copies, formatted text, text that grows, the nearest known word. */
#include "base/base.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "siskin/text.h"

char *sk_strdup(const char *text) {
    size_t size = strlen(text) + 1;
    char *copy = sk_alloc(size, 1);
    if (copy) memcpy(copy, text, size);
    return copy;
}

static char *format_list(const char *format, va_list args, size_t *size) {
    va_list again;
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, again);
    va_end(again);
    if (length < 0) return NULL;
    char *text = sk_alloc((size_t)length + 1, 1);
    if (!text) return NULL;
    vsnprintf(text, (size_t)length + 1, format, args);
    *size = (size_t)length;
    return text;
}

char *sk_format(const char *format, ...) {
    size_t size;
    va_list args;
    va_start(args, format);
    char *text = format_list(format, args, &size);
    va_end(args);
    return text;
}

void sk_text_add_bytes(sk_text *text, const void *bytes, size_t size) {
    if (text->failed) return;
    if (size >= SIZE_MAX / 4 - text->size) {
        text->failed = 1;
        return;
    }
    size_t need = text->size + size + 1;
    if (need > text->capacity) {
        size_t capacity = text->capacity ? text->capacity : 64;
        while (capacity < need) capacity *= 2;
        char *data = sk_realloc(text->data, text->data ? text->size + 1 : 0, capacity, 1);
        if (!data) {
            text->failed = 1;
            return;
        }
        text->data = data;
        text->capacity = capacity;
    }
    if (size) memcpy(text->data + text->size, bytes, size);
    text->size += size;
    text->data[text->size] = 0;
}

void sk_text_add(sk_text *text, const char *format, ...) {
    if (text->failed) return;
    char small[256];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(small, sizeof small, format, args);
    va_end(args);
    if (length >= 0 && (size_t)length < sizeof small) {
        sk_text_add_bytes(text, small, (size_t)length);
        return;
    }
    size_t size = 0;
    va_start(args, format);
    char *large = format_list(format, args, &size);
    va_end(args);
    if (large) sk_text_add_bytes(text, large, size);
    else text->failed = 1;
    sk_free(large);
}

void sk_text_free(sk_text *text) {
    sk_free(text->data);
    memset(text, 0, sizeof *text);
}

int sk_has_suffix(const char *text, const char *suffix) {
    size_t n = strlen(text), m = strlen(suffix);
    return n >= m && strcasecmp(text + n - m, suffix) == 0;
}

/* ---- the nearest word ---------------------------------------------------------------------------------- */

static int distance(const char *a, const char *b) {
    int row[64];
    int n = (int)strlen(a), m = (int)strlen(b);
    if (n > 60 || m > 60) return 100;
    for (int j = 0; j <= m; j++) row[j] = j;
    for (int i = 1; i <= n; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= m; j++) {
            int best = diagonal + (a[i - 1] != b[j - 1]);
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[m];
}

const char *sk_nearest(const char *word, const char *(*name)(const void *user, int index), const void *user) {
    const char *best = NULL;
    int least = 3;
    for (int i = 0; name(user, i); i++) {
        int d = distance(word, name(user, i));
        if (d < least && d < (int)strlen(word)) {
            least = d;
            best = name(user, i);
        }
    }
    return best;
}
