/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a tab-separated table: every cell lies within the text, or the error is named. */
/* sources: src/base/error.c src/base/memory.c src/base/file.c src/base/output.c src/base/path.c src/base/text.c
 *          src/base/random.c src/base/hooks.c src/data/table.c
 * libs: -lm -lpthread */
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "data/table.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    char *text = sk_alloc(size + 1, 1);
    if (!text)
        return 0;
    memcpy(text, bytes, size);
    text[size] = 0;
    sk_table table;
    sk_error err = {0};
    const sk_status status = sk_table_parse(text, size, "input", &table, &err);
    if (status != SK_OK) {
        if (!err.message[0])
            abort();
        return 0;
    }
    size_t sum = 0;
    int64_t index;
    double seconds;
    for (size_t r = 0; r < table.rows; r++) {
        for (size_t c = 0; c < table.columns; c++) {
            const char *cell = sk_table_cell(&table, r, (int)c);
            sum += strlen(cell);
            if ((sk_parse_index(cell, &index) && index < 0) || (sk_parse_seconds(cell, &seconds) && !(seconds >= 0)))
                abort();
        }
    }
    if (sum > size || sk_table_column(&table, table.cells[0]) != 0)
        abort();
    sk_table_free(&table);
    return 0;
}
