/* SPDX-License-Identifier: Apache-2.0 */
/* Talks with share/rknn-bridge.py, which drives the toolkit: requests and answers are lines of JSON. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "rknn/rknn.h"

struct sk_bridge {
    sk_child *child;
    const sk_hooks *hooks;
    char *python, *script;
    char parent[16];
    const char *arguments[5];
};

/* A progress bar of the toolkit: "I Quantizating :  16%|###   | 21/132 [00:00<...", "I MmseQuant2 (w 2%):  1%|...". */
static void tell_progress(void *user, const char *line) {
    const sk_bridge *b = user;
    const char *name = strncmp(line, "I ", 2) == 0 ? line + 2 : line, *colon = strchr(name, ':');
    const char *bar = strrchr(line, '|');
    unsigned long long done, total;
    if (!colon || !bar || sscanf(bar, "| %llu/%llu [", &done, &total) != 2 || total < 2) return;
    if (strncmp(name, "Quant", 5) == 0) sk_progress(b->hooks, "quantise", "steps", done, total);
    else if (strncmp(name, "MmseQuant", 9) == 0) sk_progress(b->hooks, "mmse", "tensors", done, total);
    else if (strncmp(name, "Accuracy", 8) == 0) sk_progress(b->hooks, "analyse", "tensors", done, total);
}

static sk_status start(sk_bridge *b, const char *folder, sk_error *err) {
    if (access(b->python, X_OK) != 0)
        return sk_fail(err, SK_ERR_UNSUPPORTED, "Rockchip's toolkit is not installed (no %s): run `siskin rknn setup`",
                       b->python);
    const sk_status status = sk_file_write(b->script, sk_rknn_bridge_script, strlen(sk_rknn_bridge_script), err);
    if (status != SK_OK) return status;
    snprintf(b->parent, sizeof b->parent, "%d", (int)getpid());
    const char *arguments[] = {b->python, "-I", b->script, b->parent, NULL};
    memcpy(b->arguments, arguments, sizeof arguments);
    const sk_child_options options = {.arguments = b->arguments, .folder = folder, .name = "Rockchip's toolkit",
                                      .line = tell_progress, .user = b, .hooks = b->hooks};
    return sk_child_start(&options, &b->child, err);
}

sk_status sk_bridge_open(const char *dir, const char *folder, const sk_hooks *hooks, sk_bridge **out, sk_error *err) {
    *out = NULL;
    sk_bridge *b = sk_calloc(1, sizeof *b);
    if (!b) return sk_fail_memory(err, "the toolkit");
    b->hooks = hooks;
    b->python = sk_path_join(dir, "bin/python");
    b->script = sk_path_join(folder, "rknn-bridge.py");
    const sk_status status = b->python && b->script ? start(b, folder, err) : sk_fail_memory(err, "the toolkit");
    if (status == SK_OK) *out = b;
    else sk_bridge_close(b);
    return status;
}

/* The last line "E function: sentence" of the log: more telling than the exception, which may be all of a traceback. */
static int last_error(const char *log, char *out, size_t size) {
    char line[400];
    out[0] = 0;
    while (sk_rknn_log_line(&log, line, sizeof line)) {
        const char *text = strncmp(line, "E ", 2) == 0 ? strstr(line, ": ") : NULL;
        if (!text || strstr(text, "Traceback") || text[2] == ' ' || !text[2]) continue;
        if (memchr(line + 2, ' ', (size_t)(text - line - 2))) continue; /* no name of a function */
        snprintf(out, size, "%.*s", (int)size - 1, text + 2);
    }
    return out[0] != 0;
}

static sk_status fail_full(const sk_bridge *b, sk_error *err) {
    const int folder = (int)(strrchr(b->script, '/') - b->script);
    return sk_fail(err, SK_ERR_IO, "the disk is full where Rockchip's toolkit works (%.*s): make room there, or set "
                   "TMPDIR to a folder on another disk", folder, b->script);
}

static sk_status told_failure(const sk_bridge *b, const cJSON *answer, sk_error *err) {
    const cJSON *error = cJSON_GetObjectItemCaseSensitive(answer, "error");
    const char *text = cJSON_IsString(error) ? error->valuestring : "no reason given";
    char line[300];
    if (strncmp(text, "No module named", 15) == 0)
        return sk_fail(err, SK_ERR_UNSUPPORTED,
                       "Rockchip's toolkit is not whole (%s): `siskin rknn doctor` says what is missing, `siskin rknn "
                       "setup --again` installs it anew",
                       text);
    if (strstr(text, "No space left") || strstr(text, "File too large")) return fail_full(b, err);
    if (!last_error(sk_child_log(b->child), line, sizeof line)) snprintf(line, sizeof line, "%s", text);
    return sk_fail(err, SK_ERR_UNSUPPORTED, "Rockchip's toolkit says: %s", line);
}

sk_status sk_bridge_ask(sk_bridge *b, const char *json, const void *bytes, size_t size, cJSON **answer,
                        sk_error *err) {
    const char *line = NULL;
    cJSON *root = NULL;
    if (answer) *answer = NULL;
    if (!json) return sk_fail_memory(err, "a request");
    sk_status status = sk_child_send(b->child, json, strlen(json), err);
    if (status == SK_OK) status = sk_child_send(b->child, "\n", 1, err);
    if (status == SK_OK && size) status = sk_child_send(b->child, bytes, size, err);
    if (status == SK_OK) status = sk_child_answer(b->child, &line, err);
    if (status == SK_OK) status = sk_json_parse(line, strlen(line), "the toolkit's answer", &root, err);
    if (status == SK_OK && !cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(root, "ok")))
        status = told_failure(b, root, err);
    if (status == SK_OK && answer) *answer = root;
    else cJSON_Delete(root);
    return status;
}

sk_status sk_bridge_read(sk_bridge *b, void *bytes, size_t size, sk_error *err) {
    return sk_child_read(b->child, bytes, size, err);
}

const char *sk_bridge_log(const sk_bridge *b) { return b->child ? sk_child_log(b->child) : ""; }

void sk_bridge_close(sk_bridge *b) {
    if (!b) return;
    sk_child_end(b->child);
    sk_free(b->python);
    sk_free(b->script);
    sk_free(b);
}
