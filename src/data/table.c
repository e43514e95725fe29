/* SPDX-License-Identifier: Apache-2.0 */
/* Reader of tab-separated tables. The text is cut in place; every bound is checked before memory is asked for, and
 * every message names the file and the line. */
#include "data/table.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"

#define MAX_COLUMNS 64
#define MAX_CELL 4096
#define MAX_ROWS 20000000

void sk_table_free(sk_table *table)
{
    sk_free(table->path);
    sk_free(table->text);
    sk_free((void *)table->cells);
    sk_free(table->lines);
    memset(table, 0, sizeof *table);
}

/* Ends the line at `line`, drops a CR before it and returns the start of the next one. */
static char *cut_line(char *line, char *end)
{
    char *stop = memchr(line, '\n', (size_t)(end - line));
    char *next = stop ? stop + 1 : end;
    if (!stop)
        stop = end;
    if (stop > line && stop[-1] == '\r')
        stop--;
    *stop = 0;
    return next;
}

static sk_status check_text(const char *text, size_t size, const char *path, sk_error *err)
{
    size_t line = 1;
    for (size_t i = 0; i < size; i++) {
        const unsigned char c = (unsigned char)text[i];
        if (c == '\n')
            line++;
        else if ((c < 0x20 && c != '\t' && !(c == '\r' && i + 1 < size && text[i + 1] == '\n')) || c == 0x7f)
            return sk_fail(err, SK_ERR_FORMAT,
                           "%s:%zu: holds the control character 0x%02x: not a tab-separated text table", path, line, c);
    }
    return SK_OK;
}

/* Cuts one line into exactly `columns` cells. */
static sk_status cut_cells(char *line, size_t columns, const char **cells, const char *path, size_t number,
                           sk_error *err)
{
    size_t count = 0;
    for (char *at = line; at;) {
        char *tab = strchr(at, '\t');
        if (tab)
            *tab = 0;
        if (strlen(at) > MAX_CELL)
            return sk_fail(err, SK_ERR_FORMAT, "%s:%zu: a cell is longer than %d bytes", path, number, MAX_CELL);
        if (count < columns)
            cells[count] = at;
        count++;
        at = tab ? tab + 1 : NULL;
    }
    if (count != columns)
        return sk_fail(err, SK_ERR_FORMAT, "%s:%zu: has %zu cells, but the header names %zu columns", path, number,
                       count, columns);
    return SK_OK;
}

static sk_status check_header(const sk_table *t, sk_error *err)
{
    for (size_t i = 0; i < t->columns; i++) {
        if (!t->cells[i][0])
            return sk_fail(err, SK_ERR_FORMAT, "%s:1: column %zu of the header has no name", t->path, i + 1);
        for (size_t k = 0; k < i; k++)
            if (strcmp(t->cells[i], t->cells[k]) == 0)
                return sk_fail(err, SK_ERR_FORMAT, "%s:1: the header names the column `%s` twice", t->path,
                               t->cells[i]);
    }
    return SK_OK;
}

static sk_status parse(sk_table *t, char *text, size_t size, sk_error *err)
{
    char *const end = text + size;
    if (size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
        text += 3;
    size_t lines = 1;
    for (const char *p = text; p < end; p++)
        lines += *p == '\n';
    char *next = cut_line(text, end);
    if (!*text)
        return sk_fail(err, SK_ERR_FORMAT, "%s: is empty: its first line must name the columns", t->path);
    t->columns = 1;
    for (const char *p = text; *p; p++)
        t->columns += *p == '\t';
    if (t->columns > MAX_COLUMNS || lines > MAX_ROWS)
        return sk_fail(err, SK_ERR_FORMAT, "%s: has more than %d columns or %d lines", t->path, MAX_COLUMNS, MAX_ROWS);
    t->cells = sk_alloc(lines * t->columns, sizeof *t->cells);
    t->lines = sk_alloc(lines, sizeof *t->lines);
    if (!t->cells || !t->lines)
        return sk_fail_memory(err, t->path);
    sk_status status = cut_cells(text, t->columns, t->cells, t->path, 1, err);
    if (status == SK_OK)
        status = check_header(t, err);
    for (size_t number = 2; status == SK_OK && next < end; number++) {
        char *line = next;
        next = cut_line(line, end);
        if (!*line)
            continue; /* blank lines say nothing */
        status = cut_cells(line, t->columns, t->cells + (t->rows + 1) * t->columns, t->path, number, err);
        t->lines[t->rows++] = number;
    }
    return status;
}

sk_status sk_table_parse(char *text, size_t size, const char *path, sk_table *out, sk_error *err)
{
    memset(out, 0, sizeof *out);
    out->text = text;
    out->path = sk_strdup(path);
    sk_status status = out->path ? check_text(text, size, path, err) : sk_fail_memory(err, path);
    if (status == SK_OK)
        status = parse(out, text, size, err);
    if (status != SK_OK)
        sk_table_free(out);
    return status;
}

sk_status sk_table_read(const char *path, sk_table *out, sk_error *err)
{
    uint8_t *bytes = NULL;
    size_t size = 0;
    memset(out, 0, sizeof *out);
    const sk_status status = sk_file_read(path, &bytes, &size, err);
    return status == SK_OK ? sk_table_parse((char *)bytes, size, path, out, err) : status;
}

int sk_table_column(const sk_table *table, const char *name)
{
    for (size_t i = 0; i < table->columns; i++)
        if (strcmp(table->cells[i], name) == 0)
            return (int)i;
    return -1;
}

const char *sk_table_cell(const sk_table *table, size_t row, int column)
{
    return column < 0 ? "" : table->cells[(row + 1) * table->columns + (size_t)column];
}

int sk_parse_index(const char *text, int64_t *out)
{
    int64_t value = 0;
    if (!*text)
        return 0;
    for (const char *p = text; *p; p++) {
        if (*p < '0' || *p > '9' || p - text >= 15)
            return 0;
        value = value * 10 + (*p - '0');
    }
    *out = value;
    return 1;
}

int sk_parse_seconds(const char *text, double *out)
{
    if (!*text || strlen(text) > 32 || text[strspn(text, "0123456789.eE+-")])
        return 0;
    char *end = NULL;
    const double value = strtod(text, &end);
    if (*end || !isfinite(value) || value < 0 || value > 1e9)
        return 0;
    *out = value;
    return 1;
}
