/* SPDX-License-Identifier: Apache-2.0 */
/* Tab-separated tables with a header line, read strictly and within bounds, so that a broken table is told with its
 * line number instead of being half understood. */
#ifndef SK_DATA_TABLE_H
#define SK_DATA_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include "siskin/status.h"

typedef struct sk_table {
    char *path; /* for messages */
    char *text; /* the file, cut into cells */
    size_t columns, rows;
    const char **cells; /* (1 + rows) * columns, the header first */
    size_t *lines;      /* 1-based line of each row */
} sk_table;

sk_status sk_table_read(const char *path, sk_table *out, sk_error *err);
/* Takes over `text` (sk_alloc'ed, NUL after `size` bytes), also on failure. */
sk_status sk_table_parse(char *text, size_t size, const char *path, sk_table *out, sk_error *err);
void sk_table_free(sk_table *table);
int sk_table_column(const sk_table *table, const char *name); /* -1: none */
/* "" for column -1. */
const char *sk_table_cell(const sk_table *table, size_t row, int column);

/* Whole-text numbers, no spaces, no signs beyond a leading '-'; 0 if not one. */
int sk_parse_index(const char *text, int64_t *out);
int sk_parse_seconds(const char *text, double *out);
#endif
