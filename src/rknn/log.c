/* SPDX-License-Identifier: Apache-2.0 */
/* Reads what the toolkit prints: the warning about outliers (with its table), the compiler's table of layers, memory,
 * warnings and errors. The shapes of these lines are those of rknn-toolkit2 2.5.0. */
#include <stdio.h>
#include <string.h>

#include "rknn/rknn.h"

#define MOST 100000 /* rows of anything */

/* Appends a zeroed element to a list that doubles; NULL: out of memory or too many. */
static void *append(void **list, size_t *count, size_t size) {
    if (*count >= MOST) return NULL;
    if ((*count & (*count - 1)) == 0) { /* 0, 1, 2, 4, ...: full */
        void *larger = sk_realloc(*list, *count, *count ? *count * 2 : 1, size);
        if (!larger) return NULL;
        *list = larger;
    }
    void *item = (char *)*list + *count * size;
    memset(item, 0, size);
    (*count)++;
    return item;
}

int sk_rknn_log_line(const char **log, char *out, size_t size) {
    const char *at = *log;
    size_t n = 0;
    if (!*at) return 0;
    for (; *at && *at != '\n' && *at != '\r'; at++) {
        if (*at == '\033' && at[1] == '[') {
            const size_t digits = strspn(at + 2, "0123456789;");
            if (at[2 + digits] == 'm') {
                at += 2 + digits;
                continue;
            }
        }
        if (n + 1 < size) out[n++] = *at;
    }
    out[n] = 0;
    *log = *at ? at + 1 : at;
    return 1;
}

/* Told of every model, and of no use to anybody. */
static int is_usual(const char *text) {
    static const char *const usual[] = {
        "only support mini rknn model",   "The default input dtype of",  "The default output dtype of",
        "Please take care of this change", "temperate env",              "need parameter qtype",
        "found outlier value",            "The MMSE will consume",       "If you don't need to crop the model",
        "The mapping of layer_name"};
    for (size_t i = 0; i < sizeof usual / sizeof *usual; i++)
        if (strstr(text, usual[i])) return 1;
    return 0;
}

/* "D RKNN: [13:42:14.311] text": the text, else the line itself. */
static const char *native(const char *line) {
    const char *at = strstr(line, "RKNN: [");
    if (!at || at - line > 4) return line;
    at = strchr(at, ']');
    return at && at[1] == ' ' ? at + 2 : line;
}

static int add_message(sk_rknn_report *r, const char *line) {
    const int error = strncmp(line, "E ", 2) == 0;
    if (!error && strncmp(line, "W ", 2) != 0) return 1;
    const char *text = native(line);
    if (text == line) text += 2;
    if (is_usual(text) || !text[0]) return 1;
    for (size_t i = 0; i < r->message_count; i++)
        if (strncmp(r->messages[i].text, text, sizeof r->messages[i].text - 1) == 0) return 1;
    sk_rknn_message *message = append((void **)&r->messages, &r->message_count, sizeof *message);
    if (!message) return 0;
    message->error = error;
    snprintf(message->text, sizeof message->text, "%.*s", (int)sizeof message->text - 1, text);
    return 1;
}

/* 1: a row, 0: none, -1: out of memory. */
static int add_outlier(sk_rknn_report *r, const char *line) {
    sk_rknn_outlier row = {0};
    char rest[2];
    if (sscanf(line, " %127s %lf %lf %lf %1s", row.name, &row.mean, &row.std, &row.value, rest) != 4) return 0;
    sk_rknn_outlier *item = append((void **)&r->outliers, &r->outlier_count, sizeof *item);
    if (item) *item = row;
    return item ? 1 : -1;
}

static int add_layer(sk_rknn_report *r, const char *line) {
    sk_rknn_layer row = {0};
    unsigned long long ddr, npu, total, kilobytes;
    char target[8];
    int id;
    if (sscanf(line, "%d %31s %15s %7s %63s %63s %llu/%llu/%llu %llu %127[^\n]", &id, row.type, row.data_type, target,
               row.input, row.output, &ddr, &npu, &total, &kilobytes, row.name) != 11)
        return 0;
    row.on_cpu = strcmp(target, "CPU") == 0;
    row.ddr_cycles = ddr;
    row.npu_cycles = npu;
    row.cycles = total;
    row.kilobytes = kilobytes;
    for (size_t n = strlen(row.name); n && row.name[n - 1] == ' '; n--) row.name[n - 1] = 0;
    sk_rknn_layer *item = append((void **)&r->layers, &r->layer_count, sizeof *item);
    if (!item) return -1;
    *item = row;
    r->ddr_cycles += ddr;
    r->npu_cycles += npu;
    r->cycles += total;
    r->kilobytes += kilobytes;
    r->cpu_layers += row.on_cpu && strcmp(row.type, "InputOperator") && strcmp(row.type, "OutputOperator");
    return 1;
}

sk_status sk_rknn_log_read(const char *log, sk_rknn_report *out, sk_error *err) {
    enum { NOTHING, OUTLIERS, LAYERS } part = NOTHING;
    char line[1024];
    int ok = 1;
    memset(out, 0, sizeof *out);
    while (ok > 0 && sk_rknn_log_line(&log, line, sizeof line)) {
        const char *text = native(line);
        if (strstr(line, "it/s]")) continue;
        if (part == OUTLIERS && !strstr(line, "const name")) {
            const int got = add_outlier(out, line);
            if (got < 0) ok = 0;
            if (got) continue;
            part = NOTHING;
        }
        if (strstr(line, "found outlier value")) part = OUTLIERS;
        else if (strstr(text, "Network Layer Information Table")) part = LAYERS;
        else if (strstr(text, "Export Mini RKNN") || strstr(text, "Feature Tensor Information Table")) part = NOTHING;
        else if (part == LAYERS && add_layer(out, text) < 0) ok = 0;
        sscanf(text, "Total Internal Memory Size: %lfKB", &out->internal_kb);
        sscanf(text, "Total Weight Memory Size: %lfKB", &out->weight_kb);
        if (ok) ok = add_message(out, line);
    }
    if (ok > 0) return SK_OK;
    sk_rknn_report_free(out);
    return sk_fail_memory(err, "the toolkit's log");
}

void sk_rknn_report_free(sk_rknn_report *report) {
    sk_free(report->layers);
    sk_free(report->outliers);
    sk_free(report->messages);
    memset(report, 0, sizeof *report);
}
