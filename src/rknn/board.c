/* SPDX-License-Identifier: Apache-2.0 */
/* Making a board ready: the vendor's server and library onto it, the camera's own program out of the way. A plan
 * first, which can be read, then the same plan carried out. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "rknn/board.h"

#define PUSH_SECONDS 60.0
#define STEP_SECONDS 20.0
#define LEAST_FREE_KB 6000

const char *sk_rknn_board_trouble(const sk_rknn_board *b) {
    if (!b->library[0]) return "the board has no librknnmrt.so: siskin rknn board setup";
    if (!b->server[0] && !b->server_runs) return "the board has no rknn_server: siskin rknn board setup";
    if (!b->server_runs) return "rknn_server does not run on the board: siskin rknn board setup";
    if (b->rkipc_runs) return "rkipc runs on the board and holds its memory: RkLunch-stop.sh, or siskin rknn board "
        "setup";
    if (b->server[0] && strcmp(b->server, b->library) != 0)
        return "rknn_server and librknnmrt.so on the board are of different versions: siskin rknn board setup";
    if (b->second_library)
        return "there are two librknnmrt.so on the board, in /oem/usr/lib and /usr/lib: siskin rknn board setup";
    if (b->free_kb && b->free_kb < LEAST_FREE_KB) return "the board has less than 6 MB of memory free: restart it";
    return NULL;
}

/* A 32-bit ARM program or library, by its first bytes. */
static sk_status check_file(const char *folder, const char *name, sk_error *err) {
    char *path = sk_path_join(folder, name);
    sk_map map = {0};
    if (!path) return sk_fail_memory(err, "a path");
    sk_status status = sk_file_map(path, &map, err);
    if (status == SK_OK && (map.size < 52 || memcmp(map.bytes, "\177ELF\1\1", 6) != 0 || map.bytes[18] != 40))
        status = sk_fail(err, SK_ERR_FORMAT, "%s is no program for a 32-bit ARM: take the vendor's armhf-uclibc "
                         "files", path);
    sk_file_unmap(&map);
    sk_free(path);
    return status;
}

static void add(sk_rknn_plan *plan, const char *what, const char *from, const char *to) {
    sk_rknn_step *step = &plan->steps[plan->count++];
    snprintf(step->what, sizeof step->what, "%s", what);
    snprintf(step->from, sizeof step->from, "%s", from ? from : "");
    snprintf(step->to, sizeof step->to, "%s", to);
}

sk_status sk_rknn_board_plan(const sk_rknn_board *board, const char *files, sk_rknn_plan *plan, sk_error *err) {
    static const char *const names[] = {"librknnmrt.so", "rknn_server"};
    static const char *const places[] = {"/oem/usr/lib/librknnmrt.so", "/oem/usr/bin/rknn_server"};
    *plan = (sk_rknn_plan){0};
    if (strcmp(board->machine, "armv7l") != 0)
        return sk_fail(err, SK_ERR_UNSUPPORTED, "the board %s is a %s, not the 32-bit ARM of RV1103 and RV1106",
                       board->serial,
                       board->machine[0] ? board->machine : "machine without a name");
    sk_status status = SK_OK;
    for (int i = 0; status == SK_OK && i < 2; i++) status = check_file(files, names[i], err);
    if (status != SK_OK) return status;
    add(plan, "stop the camera's program, which holds camera and memory", NULL,
        "RkLunch-stop.sh >/dev/null 2>&1 || killall rkipc 2>/dev/null; true");
    add(plan, "stop the server that runs", NULL, "killall rknn_server 2>/dev/null; true");
    for (int i = 0; i < 2; i++) {
        char *path = sk_path_join(files, names[i]);
        if (!path || strlen(path) >= sizeof plan->steps[0].from) {
            sk_free(path);
            return path ? sk_fail(err, SK_ERR_ARGUMENT, "the path of %s is too long", names[i])
                        : sk_fail_memory(err, "a path");
        }
        add(plan, i ? "the server" : "the library", path, places[i]);
        sk_free(path);
    }
    add(plan, "a second copy of the library would be found first", NULL, "rm -f /usr/lib/librknnmrt.so");
    add(plan, "start the server", NULL,
        "chmod 755 /oem/usr/bin/rknn_server && cd / && (LD_LIBRARY_PATH=/oem/usr/lib nohup /oem/usr/bin/rknn_server "
        ">/dev/null 2>&1 &) && sleep 2 && pidof rknn_server");
    return SK_OK;
}

sk_status sk_rknn_board_setup(const sk_rknn_board *board, const sk_rknn_plan *plan, const sk_hooks *hooks,
                              sk_rknn_board *after, sk_error *err) {
    sk_status status = SK_OK;
    for (int i = 0; status == SK_OK && i < plan->count; i++) {
        const sk_rknn_step *step = &plan->steps[i];
        const char *const push[] = {"-s", board->serial, "push", step->from, step->to, NULL};
        const char *const shell[] = {"-s", board->serial, "shell", step->to, NULL};
        char *answer = NULL;
        sk_progress(hooks, "board", "steps", (uint64_t)i, (uint64_t)plan->count);
        status = step->from[0] ? sk_adb(push, PUSH_SECONDS, hooks, &answer, err)
                               : sk_adb(shell, STEP_SECONDS, hooks, &answer, err);
        if (status != SK_OK) sk_error_prefix(err, status, "the board is not ready, step %d (%s)", i + 1, step->what);
        sk_free(answer);
    }
    if (status == SK_OK) status = sk_rknn_board_find(board->serial, hooks, after, err);
    if (status == SK_OK && sk_rknn_board_trouble(after))
        status = sk_fail(err, SK_ERR_UNSUPPORTED, "the board is not ready after all steps: %s",
                         sk_rknn_board_trouble(after));
    if (status == SK_OK) sk_progress(hooks, "board", "steps", (uint64_t)plan->count, (uint64_t)plan->count);
    return status;
}
