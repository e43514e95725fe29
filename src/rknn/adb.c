/* SPDX-License-Identifier: Apache-2.0 */
/* The board at the end of a USB cable, asked through adb. Every call has an end: adb waits for ever for a board that
 * was unplugged in the middle. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rknn/board.h"

#define ASK_SECONDS 10.0

/* The caller's wish to stop, and a clock. */
typedef struct limit {
    const sk_hooks *outer;
    double end;
    int late;
} limit;

static int is_over(void *user) {
    limit *l = user;
    l->late = sk_now() > l->end;
    return l->late || sk_cancelled(l->outer);
}

/* adb on PATH; *out is released with sk_free. */
static sk_status find_adb(char **out, sk_error *err) {
    const char *path = getenv("PATH");
    *out = NULL;
    while (path && *path) {
        const size_t n = strcspn(path, ":");
        char *candidate = sk_format("%.*s/adb", (int)n, path);
        if (!candidate) return sk_fail_memory(err, "a path");
        if (access(candidate, X_OK) == 0) {
            *out = candidate;
            return SK_OK;
        }
        sk_free(candidate);
        path += n + (path[n] == ':');
    }
    return sk_fail(err, SK_ERR_UNSUPPORTED, "there is no adb on PATH: apt-get install adb");
}

sk_status sk_adb(const char *const *words, double seconds, const sk_hooks *hooks, char **out, sk_error *err) {
    char *adb = NULL;
    *out = NULL;
    sk_status status = find_adb(&adb, err);
    if (status != SK_OK) return status;
    const char *arguments[SK_ADB_WORDS + 2] = {adb};
    for (int i = 0; i < SK_ADB_WORDS && words[i]; i++) arguments[i + 1] = words[i];
    limit l = {.outer = hooks, .end = sk_now() + seconds};
    const sk_hooks timed = {.user = &l, .cancelled = is_over};
    const sk_child_options options = {.arguments = arguments, .name = "adb", .hooks = &timed};
    sk_child *child = NULL;
    int code = 0;
    status = sk_child_start(&options, &child, err);
    if (status == SK_OK) status = sk_child_wait(child, &code, err);
    if (status == SK_ERR_CANCELLED && l.late)
        status = sk_fail(err, SK_ERR_IO, "the board does not answer adb within %g seconds: plug it in anew, or `adb "
                         "kill-server`",
                         seconds);
    if (status == SK_OK && !(*out = sk_strdup(sk_child_log(child)))) status = sk_fail_memory(err, "what adb says");
    if (status == SK_OK && code) {
        const char *text = strncmp(*out, "adb: ", 5) == 0 ? *out + 5 : *out;
        status = sk_fail(err, SK_ERR_IO, "adb %s fails: %.*s", words[0][0] == '-' ? words[2] : words[0],
                         (int)strcspn(text, "\n"), text);
        sk_free(*out);
        *out = NULL;
    }
    sk_child_end(child);
    sk_free(adb);
    return status;
}

/* ---- which board ---------------------------------------- */

/* The state behind a serial number, as words. */
static sk_status judge_state(const char *serial, const char *state, sk_error *err) {
    if (strcmp(state, "device") == 0) return SK_OK;
    if (strcmp(state, "unauthorized") == 0)
        return sk_fail(err, SK_ERR_UNSUPPORTED, "the board %s does not trust this computer: adb kill-server, plug it "
                       "in anew",
                       serial);
    if (strncmp(state, "no permissions", 14) == 0)
        return sk_fail(err, SK_ERR_UNSUPPORTED, "adb may not use the board %s: add a udev rule for 2207:*, or run "
                       "adb as root",
                       serial);
    return sk_fail(err, SK_ERR_UNSUPPORTED, "the board %s is %s: restart it, then `adb kill-server`", serial, state);
}

/* Lines "SERIAL\tSTATE" of `adb devices`. */
static sk_status choose(char *lines, const char *wanted, char serial[64], sk_error *err) {
    sk_text others = {0};
    char state[64] = "", *rest = lines;
    int count = 0, found = 0;
    for (char *line; (line = strtok_r(rest, "\n", &rest));) {
        char *tab = strchr(line, '\t');
        if (!tab || line[0] == '*') continue;
        *tab = 0;
        count++;
        sk_text_add(&others, "%s%s", count > 1 ? ", " : "", line);
        if (wanted ? strcmp(line, wanted) == 0 : count == 1) {
            found = 1;
            snprintf(serial, 64, "%s", line);
            snprintf(state, sizeof state, "%s", tab + 1);
        }
    }
    sk_status status;
    if (others.failed) status = sk_fail_memory(err, "the boards");
    else if (count == 0)
        status = sk_fail(err, SK_ERR_UNSUPPORTED, "no board is connected: plug it into USB (the port with adb) and "
                         "see `adb devices`");
    else if (!found) status = sk_fail(err, SK_ERR_UNSUPPORTED, "there is no board %s, only %.300s", wanted,
                                      others.data);
    else if (!wanted && count > 1)
        status = sk_fail(err, SK_ERR_UNSUPPORTED, "%d boards are connected (%.300s): choose one with --device", count,
                         others.data);
    else status = judge_state(serial, state, err);
    sk_text_free(&others);
    return status;
}

/* ---- what is on it ---------------------------------------- */

/* One script for all questions, since each call of adb costs a tenth of a second. Versions are read out of the
 * binaries: the board's tools know no other way. */
static const char questions[] =
    "echo machine=$(uname -m); echo chip=$(tr '\\0' ' ' </proc/device-tree/compatible 2>/dev/null); "
    "lib=/oem/usr/lib/librknnmrt.so; [ -e $lib ] || lib=/usr/lib/librknnmrt.so; "
    "echo library=$(grep -ao 'librknnmrt version: [0-9.]*' $lib 2>/dev/null | head -n 1); "
    "echo second=$([ -e /oem/usr/lib/librknnmrt.so ] && [ -e /usr/lib/librknnmrt.so ] && echo yes); "
    "srv=/oem/usr/bin/rknn_server; [ -e $srv ] || srv=/usr/bin/rknn_server; "
    "echo server=$(grep -ao 'rknn_server version: [0-9.]*' $srv 2>/dev/null | head -n 1); "
    "echo server_pid=$(pidof rknn_server); echo rkipc_pid=$(pidof rkipc); "
    "echo free=$(sed -n 's/^MemAvailable: *//p' /proc/meminfo); echo cma=$(sed -n 's/^CmaFree: *//p' /proc/meminfo); "
    "echo end=yes";

static const char *value_of(const char *answer, const char *key) {
    static const char nothing[] = "";
    const size_t n = strlen(key);
    for (const char *line = answer; *line; line += strcspn(line, "\n"), line += *line == '\n')
        if (strncmp(line, key, n) == 0 && line[n] == '=') return line + n + 1;
    return nothing;
}

static void copy_value(const char *answer, const char *key, char *out, size_t size) {
    const char *value = value_of(answer, key);
    snprintf(out, size, "%.*s", (int)strcspn(value, "\r\n"), value);
}

/* The number behind the colon of "librknnmrt version: 2.3.2". */
static void copy_version(const char *answer, const char *key, char out[32]) {
    char value[96];
    copy_value(answer, key, value, sizeof value);
    const char *colon = strstr(value, ": ");
    snprintf(out, 32, "%.31s", colon ? colon + 2 : "");
}

sk_status sk_rknn_board_find(const char *serial, const sk_hooks *hooks, sk_rknn_board *out, sk_error *err) {
    const char *const list[] = {"devices", NULL};
    char *answer = NULL;
    *out = (sk_rknn_board){0};
    sk_status status = sk_adb(list, ASK_SECONDS, hooks, &answer, err);
    if (status == SK_OK) status = choose(answer, serial, out->serial, err);
    sk_free(answer);
    if (status != SK_OK) return status;
    const char *const ask[] = {"-s", out->serial, "shell", questions, NULL};
    status = sk_adb(ask, ASK_SECONDS, hooks, &answer, err);
    if (status != SK_OK) return status;
    if (!*value_of(answer, "end"))
        status = sk_fail(err, SK_ERR_IO, "the shell of the board %s does not run the questions of siskin: %.*s",
                         out->serial, (int)strcspn(answer, "\r\n"), answer);
    copy_value(answer, "machine", out->machine, sizeof out->machine);
    copy_value(answer, "chip", out->chip, sizeof out->chip);
    copy_version(answer, "library", out->library);
    copy_version(answer, "server", out->server);
    out->second_library = *value_of(answer, "second") == 'y';
    out->server_runs = atoi(value_of(answer, "server_pid")) > 0;
    out->rkipc_runs = atoi(value_of(answer, "rkipc_pid")) > 0;
    out->free_kb = atol(value_of(answer, "free"));
    out->cma_kb = atol(value_of(answer, "cma"));
    sk_free(answer);
    return status;
}
