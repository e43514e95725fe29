/* SPDX-License-Identifier: Apache-2.0 */
/* Work folders: made under a name of their own, removed with all that the toolkit left in them. */
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rknn/rknn.h"

sk_status sk_folder_temporary(char **out, sk_error *err) {
    const char *base = getenv("TMPDIR");
    char *path = sk_format("%s/siskin-rknn-XXXXXX", base && base[0] ? base : "/tmp");
    *out = NULL;
    if (!path) return sk_fail_memory(err, "a work folder");
    if (!mkdtemp(path)) {
        const sk_status status = sk_fail(err, SK_ERR_IO, "cannot create the work folder %s: %s; set TMPDIR", path,
                                         strerror(errno));
        sk_free(path);
        return status;
    }
    *out = path;
    return SK_OK;
}

static int remove_one(const char *path, const struct stat *info, int flag, struct FTW *where) {
    (void)info;
    (void)flag;
    (void)where;
    return remove(path) == 0 || errno == ENOENT ? 0 : errno;
}

sk_status sk_folder_remove(const char *path, sk_error *err) {
    const int code = nftw(path, remove_one, 32, FTW_DEPTH | FTW_PHYS);
    if (code == 0 || (code < 0 && errno == ENOENT)) return SK_OK;
    return sk_fail(err, SK_ERR_IO, "cannot remove %s: %s", path, strerror(code > 0 ? code : errno));
}
