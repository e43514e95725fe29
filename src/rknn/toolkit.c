/* SPDX-License-Identifier: Apache-2.0 */
/* The venv of the vendor's toolkit: where it is, what is in it, how it is made. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "rknn/rknn.h"

#define NEEDED_BYTES 1.2e9 /* 0.6 GB stay; while pip works it holds the archives too */

sk_status sk_rknn_dir(const char *dir, char **out, sk_error *err) {
    const char *own = getenv("SISKIN_RKNN"), *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    char *path = NULL;
    *out = NULL;
    if (dir || (own && own[0])) path = sk_path_absolute(dir ? dir : own);
    else if (data && data[0] == '/') path = sk_path_join(data, "siskin/rknn");
    else if (home && home[0]) path = sk_path_join(home, ".local/share/siskin/rknn");
    else return sk_fail(err, SK_ERR_ARGUMENT, "HOME is not set: name the toolkit's folder with SISKIN_RKNN");
    if (!path) return sk_fail_memory(err, "a path");
    for (size_t n = strlen(path); n > 1 && path[n - 1] == '/'; n--) path[n - 1] = 0;
    *out = path;
    return SK_OK;
}

int sk_rknn_package(int index, char name[48], char version[16]) {
    for (const char *line = sk_rknn_requirements; *line; line += strcspn(line, "\n") + 1)
        if (line[0] != '#' && index-- == 0) return sscanf(line, "%47[^=\n]==%15s", name, version) == 2;
    return 0;
}

/* ---- what is there ---------------------------------------------------------------------------------------------- */

static sk_rknn_item *add_item(sk_rknn_health *h, const char *name, const char *found, const char *wanted, int ok,
                              const char *remedy) {
    sk_rknn_item *item = &h->items[h->count < SK_RKNN_ITEMS ? h->count++ : SK_RKNN_ITEMS - 1];
    memset(item, 0, sizeof *item);
    snprintf(item->name, sizeof item->name, "%s", name);
    snprintf(item->found, sizeof item->found, "%.*s", (int)sizeof item->found - 1, found ? found : "");
    snprintf(item->wanted, sizeof item->wanted, "%s", wanted);
    snprintf(item->remedy, sizeof item->remedy, "%s", ok ? "" : remedy);
    item->ok = ok;
    if (!ok) h->ready = 0;
    return item;
}

/* Runs a program to its end; what it printed in *log if that is not NULL. */
static sk_status run(const char *const *arguments, const char *name, const sk_hooks *hooks,
                     void (*line)(void *, const char *), void *user, int *code, char **log, sk_error *err) {
    const sk_child_options options = {.arguments = arguments, .name = name, .hooks = hooks, .line = line,
                                      .user = user};
    sk_child *child = NULL;
    if (log) *log = NULL;
    sk_status status = sk_child_start(&options, &child, err);
    if (status == SK_OK) status = sk_child_wait(child, code, err);
    if (status == SK_OK && log && !(*log = sk_strdup(sk_child_log(child)))) status = sk_fail_memory(err, name);
    sk_child_end(child);
    return status;
}

/* Debian's part: its python3 and the packages that the venv looks through to. */
static sk_status look_at_debian(sk_rknn_health *h, const sk_hooks *hooks, sk_error *err) {
    static const char script[] =
        "import sys, importlib.util as u, importlib.metadata as m\n"
        "def v(n):\n"
        "    try: return m.version(n)\n"
        "    except m.PackageNotFoundError: return '?' if u.find_spec(n) else ''\n"
        "print(';'.join(['%d.%d.%d' % sys.version_info[:3], v('torch'), v('psutil'), "
        "'yes' if u.find_spec('ensurepip') else '']))\n";
    const char *const arguments[] = {SK_DEBIAN_PYTHON, "-I", "-c", script, NULL};
    static const char *const names[] = {"python3", "torch", "psutil", "venv"};
    static const char *const packages[] = {"python3", "python3-torch", "python3-psutil", "python3-venv"};
    char *log = NULL, remedy[120];
    int code = 1;
    if (access(SK_DEBIAN_PYTHON, X_OK) == 0) {
        const sk_status status = run(arguments, SK_DEBIAN_PYTHON, hooks, NULL, NULL, &code, &log, err);
        if (status != SK_OK) return status;
    }
    char *at = log && code == 0 ? log : NULL;
    for (int i = 0; i < 4; i++) {
        char found[64] = "";
        if (at) {
            const int n = (int)strcspn(at, ";\n");
            snprintf(found, sizeof found, "%.*s", n, at);
            at += n + (at[n] == ';');
        }
        snprintf(remedy, sizeof remedy, "apt-get install --no-install-recommends %s", packages[i]);
        add_item(h, names[i], found, "", found[0] != 0, remedy);
    }
    sk_free(log);
    return SK_OK;
}

static char *versions_request(void) {
    sk_text text = {0};
    char name[48], version[16];
    sk_text_add(&text, "{\"do\":\"versions\",\"names\":[");
    for (int i = 0; sk_rknn_package(i, name, version); i++) sk_text_add(&text, "%s\"%s\"", i ? "," : "", name);
    sk_text_add(&text, "]}");
    if (text.failed) sk_text_free(&text);
    return text.data;
}

static void judge_versions(sk_rknn_health *h, const cJSON *answer) {
    const cJSON *versions = cJSON_GetObjectItemCaseSensitive(answer, "versions");
    const cJSON *problem = cJSON_GetObjectItemCaseSensitive(answer, "problem");
    const char *text = cJSON_IsString(problem) ? problem->valuestring : "";
    char name[48], version[16];
    for (int i = 0; sk_rknn_package(i, name, version); i++) {
        const cJSON *item = cJSON_GetObjectItemCaseSensitive(versions, name);
        const char *found = cJSON_IsString(item) ? item->valuestring : "";
        add_item(h, name, found, version, strcmp(found, version) == 0, "siskin rknn setup --again");
    }
    add_item(h, "toolkit starts", text[0] ? text : "yes", "", !text[0], "siskin rknn setup --again");
}

static sk_status look_at_venv(sk_rknn_health *h, const char *dir, const sk_hooks *hooks, sk_error *err) {
    char *folder = NULL, *python = sk_path_join(dir, "bin/python"), *request = NULL;
    sk_bridge *bridge = NULL;
    cJSON *answer = NULL;
    sk_error inner = {0};
    if (!python) return sk_fail_memory(err, "a path");
    const int there = access(python, X_OK) == 0;
    add_item(h, "toolkit folder", there ? dir : "", "", there, "siskin rknn setup");
    sk_free(python);
    if (!there) return SK_OK;
    sk_status status = sk_folder_temporary(&folder, err);
    if (status != SK_OK) return status;
    status = (request = versions_request()) ? sk_bridge_open(dir, folder, hooks, &bridge, &inner)
                                            : sk_fail_memory(&inner, "a request");
    if (status == SK_OK) status = sk_bridge_ask(bridge, request, NULL, 0, &answer, &inner);
    if (status == SK_OK) judge_versions(h, answer);
    else if (status == SK_ERR_CANCELLED || status == SK_ERR_MEMORY) sk_fail(err, status, "%s", inner.message);
    else add_item(h, "toolkit starts", inner.message, "", 0, "siskin rknn setup --again");
    cJSON_Delete(answer);
    sk_bridge_close(bridge);
    sk_folder_remove(folder, NULL);
    sk_free(folder);
    sk_free(request);
    return status == SK_ERR_CANCELLED || status == SK_ERR_MEMORY ? status : SK_OK;
}

sk_status sk_rknn_doctor(const char *dir, const sk_hooks *hooks, sk_rknn_health *out, sk_error *err) {
    char *path = NULL;
    memset(out, 0, sizeof *out);
    out->ready = 1;
    sk_status status = sk_rknn_dir(dir, &path, err);
    if (status == SK_OK) snprintf(out->dir, sizeof out->dir, "%s", path);
    if (status == SK_OK) status = look_at_debian(out, hooks, err);
    if (status == SK_OK) status = look_at_venv(out, path, hooks, err);
    sk_free(path);
    return status;
}

/* ---- making it --------------------------------------------------------------------------------------------------- */

typedef struct installing {
    const sk_hooks *hooks;
    uint64_t seen, packages;
    char last[200]; /* line of pip that begins with ERROR */
} installing;

static void tell_pip(void *user, const char *line) {
    installing *i = user;
    if (strncmp(line, "Collecting ", 11) == 0 && i->seen < i->packages)
        sk_progress(i->hooks, "download", "packages", i->seen++, i->packages + 1);
    else if (strncmp(line, "Installing collected", 20) == 0)
        sk_progress(i->hooks, "install", "packages", 0, i->packages);
    else if (strncmp(line, "ERROR: ", 7) == 0) snprintf(i->last, sizeof i->last, "%s", line + 7);
}

static sk_status install(const char *dir, const sk_hooks *hooks, sk_error *err) {
    char *python = sk_path_join(dir, "bin/python"), *list = sk_path_join(dir, "rknn-requirements.txt");
    const char *const make[] = {SK_DEBIAN_PYTHON, "-I", "-m", "venv", "--system-site-packages", dir, NULL};
    const char *const pip[] = {python, "-I", "-m", "pip", "install", "--no-deps", "--no-input", "--progress-bar", "off",
                               "--disable-pip-version-check", "--no-cache-dir", "-r", list, NULL};
    installing state = {.hooks = hooks};
    char name[48], version[16], *log = NULL;
    int code = 0;
    sk_status status = python && list ? SK_OK : sk_fail_memory(err, "a path");
    while (sk_rknn_package((int)state.packages, name, version)) state.packages++;
    if (status == SK_OK) status = run(make, "python3 -m venv", hooks, NULL, NULL, &code, &log, err);
    if (status == SK_OK && code)
        status = sk_fail(err, SK_ERR_IO, "cannot make the venv %s: %.300s", dir, log[0] ? log : "python3 says nothing");
    if (status == SK_OK)
        status = sk_file_write(list, sk_rknn_requirements, strlen(sk_rknn_requirements), err);
    if (status == SK_OK) status = run(pip, "pip", hooks, tell_pip, &state, &code, NULL, err);
    if (status == SK_OK && code)
        status = sk_fail(err, SK_ERR_IO, "cannot install the toolkit: pip says: %s",
                         state.last[0] ? state.last : "nothing");
    sk_free(log);
    sk_free(python);
    sk_free(list);
    return status;
}

static sk_status check_place(const char *dir, sk_error *err) {
    char *mark = sk_path_join(dir, "pyvenv.cfg"), *parent = sk_strdup(dir);
    struct statvfs disk;
    sk_status status = mark && parent ? SK_OK : sk_fail_memory(err, "a path");
    if (status == SK_OK && sk_path_exists(dir) && !sk_path_exists(mark) && rmdir(dir) != 0)
        status = sk_fail(err, SK_ERR_IO, "%s is there and is no Python venv: choose another with --dir", dir);
    if (status == SK_OK && strrchr(parent, '/') > parent) {
        *strrchr(parent, '/') = 0;
        status = sk_make_dirs(parent, err);
        const int known = status == SK_OK && statvfs(parent, &disk) == 0;
        const double left = known ? (double)disk.f_bavail * (double)disk.f_frsize : NEEDED_BYTES;
        if (left < NEEDED_BYTES)
            status = sk_fail(err, SK_ERR_IO, "%s has %.0f MB left, the toolkit needs %.0f: choose another disk with "
                             "--dir", parent, left / 1e6, NEEDED_BYTES / 1e6);
    }
    sk_free(mark);
    sk_free(parent);
    return status;
}

/* The first thing of Debian's that is missing. */
static sk_status check_debian(const sk_hooks *hooks, sk_error *err) {
    sk_rknn_health health = {.ready = 1};
    const sk_status status = look_at_debian(&health, hooks, err);
    for (size_t i = 0; status == SK_OK && i < health.count; i++)
        if (!health.items[i].ok)
            return sk_fail(err, SK_ERR_IO, "Debian's %s is missing: as root, %s", health.items[i].name,
                           health.items[i].remedy);
    return status;
}

/* Puts the finished venv where it belongs; the old one goes last. */
static sk_status place(const char *part, const char *dir, sk_error *err) {
    char *old = sk_format("%s.old", dir);
    sk_status status = old ? sk_folder_remove(old, err) : sk_fail_memory(err, "a path");
    if (status == SK_OK && ((sk_path_exists(dir) && rename(dir, old) != 0) || rename(part, dir) != 0))
        status = sk_fail(err, SK_ERR_IO, "cannot rename %s to %s: %s", part, dir, strerror(errno));
    if (status == SK_OK) status = sk_folder_remove(old, err);
    sk_free(old);
    return status;
}

sk_status sk_rknn_setup(const char *dir, int again, const sk_hooks *hooks, int *was_there, sk_error *err) {
    char *path = NULL, *part = NULL;
    sk_rknn_health health;
    *was_there = 0;
    sk_status status = sk_rknn_dir(dir, &path, err);
    if (status != SK_OK) return status;
    if (!again) {
        status = sk_rknn_doctor(path, hooks, &health, err);
        *was_there = status == SK_OK && health.ready;
        if (status != SK_OK || *was_there) goto done;
    }
    status = check_debian(hooks, err);
    if (status == SK_OK) status = check_place(path, err);
    if (status == SK_OK && !(part = sk_format("%s.part", path))) status = sk_fail_memory(err, "a path");
    if (status != SK_OK) goto done;
    status = sk_folder_remove(part, err);
    if (status == SK_OK) status = install(part, hooks, err);
    if (status == SK_OK) status = sk_rknn_doctor(part, hooks, &health, err);
    for (size_t i = 0; status == SK_OK && i < health.count; i++)
        if (!health.items[i].ok)
            status = sk_fail(err, SK_ERR_IO, "the toolkit is installed but %s is \"%s\"", health.items[i].name,
                             health.items[i].found);
    if (status == SK_OK) status = place(part, path, err);
    if (status != SK_OK) sk_folder_remove(part, NULL);
done:
    sk_free(part);
    sk_free(path);
    return status;
}
