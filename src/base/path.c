/* SPDX-License-Identifier: Apache-2.0 */
/* Paths and folders. */
#include "base/base.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int sk_path_exists(const char *path) {
    struct stat info;
    return stat(path, &info) == 0;
}

int sk_path_is_dir(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

sk_status sk_make_dirs(const char *path, sk_error *err) {
    char *copy = sk_strdup(path);
    if (!copy) return sk_fail_memory(err, path);
    sk_status status = SK_OK;
    size_t length = strlen(copy);
    for (size_t i = 1; i <= length && status == SK_OK; i++) {
        if (copy[i] != '/' && copy[i] != 0) continue;
        char kept = copy[i];
        copy[i] = 0;
        if (mkdir(copy, 0777) != 0) {
            /* Read-only parents answer EROFS or EACCES before EEXIST on some file systems. */
            int code = errno;
            if (!sk_path_is_dir(copy))
                status = sk_fail(err, SK_ERR_IO, "cannot create folder %s: %s", path,
                                 code == EEXIST ? "a file of this name is in the way" : strerror(code));
        }
        copy[i] = kept;
    }
    sk_free(copy);
    return status;
}

char *sk_path_join(const char *dir, const char *name) {
    if (name[0] == '/' || dir[0] == 0) return sk_strdup(name);
    size_t length = strlen(dir);
    return sk_format("%s%s%s", dir, dir[length - 1] == '/' ? "" : "/", name);
}

char *sk_path_absolute(const char *path) {
    if (path[0] == '/') return sk_strdup(path);
    for (size_t size = 256; size <= (1u << 20); size *= 2) {
        char *folder = sk_alloc(size, 1);
        if (!folder) return NULL;
        char *joined = NULL;
        int too_small = !getcwd(folder, size) && errno == ERANGE;
        if (!too_small) joined = folder[0] == '/' ? sk_path_join(folder, path) : sk_strdup(path);
        sk_free(folder);
        if (!too_small) return joined;
    }
    return NULL;
}

const char *sk_path_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}
