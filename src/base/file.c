/* SPDX-License-Identifier: Apache-2.0 */
/* Reading files: whole into memory, or mapped. Part of the board runtime: libc only. */
#include "base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST_BYTES ((size_t)1 << (sizeof(size_t) > 4 ? 36 : 30))

static sk_status fail_read(sk_error *err, const char *path) {
    return sk_fail(err, errno == ENOMEM ? SK_ERR_MEMORY : SK_ERR_IO, "cannot read %s: %s", path, strerror(errno));
}

static int open_input(const char *path, struct stat *info) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    if (fstat(fd, info) == 0 && !S_ISDIR(info->st_mode)) return fd;
    int code = S_ISDIR(info->st_mode) ? EISDIR : errno;
    close(fd);
    errno = code;
    return -1;
}

sk_status sk_file_read(const char *path, uint8_t **bytes, size_t *size, sk_error *err) {
    *bytes = NULL;
    *size = 0;
    struct stat info = {0};
    int fd = open_input(path, &info);
    if (fd < 0) return fail_read(err, path);
    sk_status status = SK_OK;
    /* The size is a hint only: files grow while they are read, and pipes and devices have none. */
    size_t capacity = info.st_size > 0 && (uint64_t)info.st_size < MOST_BYTES ? (size_t)info.st_size + 1 : 4096;
    size_t used = 0;
    uint8_t *data = sk_alloc(capacity, 1);
    if (!data) {
        status = sk_fail_memory(err, path);
        goto done;
    }
    for (;;) {
        ssize_t n = read(fd, data + used, capacity - used);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            status = fail_read(err, path);
            goto done;
        }
        if (n == 0) break;
        used += (size_t)n;
        if (used < capacity) continue;
        if (capacity > MOST_BYTES / 2) {
            status = sk_fail(err, SK_ERR_IO, "cannot read %s: it is too large", path);
            goto done;
        }
        uint8_t *larger = sk_realloc(data, capacity, capacity * 2, 1);
        if (!larger) {
            status = sk_fail_memory(err, path);
            goto done;
        }
        data = larger;
        capacity *= 2;
    }
    data[used] = 0;
    *bytes = data;
    *size = used;
    data = NULL;
done:
    sk_free(data);
    close(fd);
    return status;
}

sk_status sk_file_map(const char *path, sk_map *out, sk_error *err) {
    out->bytes = NULL;
    out->size = 0;
    struct stat info = {0};
    int fd = open_input(path, &info);
    if (fd < 0) return fail_read(err, path);
    sk_status status = SK_OK;
    if (!S_ISREG(info.st_mode)) {
        status = sk_fail(err, SK_ERR_IO, "cannot map %s: not a regular file", path);
    } else if ((uint64_t)info.st_size > SIZE_MAX / 2) {
        status = sk_fail(err, SK_ERR_IO, "cannot map %s: it is too large", path);
    } else if (info.st_size == 0) {
        out->bytes = (const uint8_t *)""; /* mmap refuses length 0; nothing may be read anyway */
    } else {
        void *map = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (map == MAP_FAILED) {
            status = fail_read(err, path);
        } else {
            out->bytes = map;
            out->size = (size_t)info.st_size;
        }
    }
    close(fd);
    return status;
}

void sk_file_unmap(sk_map *map) {
    if (map->size) munmap((void *)(uintptr_t)map->bytes, map->size);
    map->bytes = NULL;
    map->size = 0;
}
