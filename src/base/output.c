/* SPDX-License-Identifier: Apache-2.0 */
/* Writing files: aside as PATH.part, synced, then renamed, so that a reader never sees half a file and a full disk
 * or a kill never costs the old one. A device or pipe as PATH is written directly: it must not be replaced. */
#include "base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct sk_output {
    char *path, *part; /* part == path for a device or pipe */
    int fd, failure;   /* errno of the first failed write */
    size_t used;
    uint8_t buffer[1 << 16];
};

static atomic_long writes, fail_write = -1;

void sk_file_fail_at(long n) { atomic_store(&fail_write, n < 0 ? -1 : atomic_load(&writes) + n); }

static int write_fails_on_demand(void) { return atomic_fetch_add(&writes, 1) == atomic_load(&fail_write); }

static sk_status fail_write_message(sk_error *err, const char *path, int code) {
    return sk_fail(err, SK_ERR_IO, "cannot write %s: %s", path, strerror(code));
}

static void release(sk_output *output) {
    if (output->fd >= 0) close(output->fd);
    if (output->part != output->path) sk_free(output->part);
    sk_free(output->path);
    sk_free(output);
}

sk_status sk_output_open(const char *path, sk_output **out, sk_error *err) {
    *out = NULL;
    struct stat info;
    int direct = 0;
    if (stat(path, &info) == 0) {
        if (S_ISDIR(info.st_mode)) return fail_write_message(err, path, EISDIR);
        direct = !S_ISREG(info.st_mode);
    }
    sk_output *output = sk_calloc(1, sizeof *output);
    if (!output) return sk_fail_memory(err, path);
    output->fd = -1;
    output->path = sk_strdup(path);
    output->part = direct ? output->path : sk_format("%s.part", path);
    if (!output->path || !output->part) {
        release(output);
        return sk_fail_memory(err, path);
    }
    output->fd = open(output->part, O_WRONLY | O_CREAT | O_CLOEXEC | (direct ? 0 : O_TRUNC), 0666);
    if (output->fd < 0) {
        sk_status status = fail_write_message(err, path, errno);
        release(output);
        return status;
    }
    *out = output;
    return SK_OK;
}

static void write_all(sk_output *output, const uint8_t *bytes, size_t size) {
    while (size && !output->failure) {
        ssize_t n = write(output->fd, bytes, size);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            output->failure = errno;
            return;
        }
        bytes += n;
        size -= (size_t)n;
    }
}

static void flush(sk_output *output) {
    write_all(output, output->buffer, output->used);
    output->used = 0;
}

void sk_output_write(sk_output *output, const void *bytes, size_t size) {
    if (write_fails_on_demand() && !output->failure) output->failure = ENOSPC;
    if (output->failure || !size) return;
    if (size > sizeof output->buffer - output->used) flush(output);
    if (size >= sizeof output->buffer) {
        write_all(output, bytes, size);
    } else {
        memcpy(output->buffer + output->used, bytes, size);
        output->used += size;
    }
}

const char *sk_output_part_path(const sk_output *output) { return output->part; }

/* Syncs by name: a library that wrote the part itself may have replaced the file behind our handle. */
static int sync_path(const char *path, int flags) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | flags);
    if (fd < 0) return errno;
    int code = fsync(fd) == 0 || errno == EINVAL || errno == EROFS ? 0 : errno;
    close(fd);
    return code;
}

/* The rename itself has to reach the disk. Some file systems cannot sync a folder; that is no reason to fail. */
static void sync_folder(sk_output *output) {
    char *slash = strrchr(output->path, '/');
    if (!slash) {
        (void)sync_path(".", O_DIRECTORY);
    } else {
        slash[slash == output->path] = 0;
        (void)sync_path(output->path, O_DIRECTORY);
    }
}

sk_status sk_output_commit(sk_output *output, sk_error *err) {
    flush(output);
    if (write_fails_on_demand() && !output->failure) output->failure = ENOSPC;
    if (close(output->fd) != 0 && !output->failure) output->failure = errno;
    output->fd = -1;
    int aside = output->part != output->path;
    if (!output->failure && aside) output->failure = sync_path(output->part, 0);
    if (!output->failure && aside && rename(output->part, output->path) != 0) output->failure = errno;
    if (output->failure) {
        sk_status status = fail_write_message(err, output->path, output->failure);
        sk_output_abort(output);
        return status;
    }
    if (aside) sync_folder(output);
    release(output);
    return SK_OK;
}

void sk_output_abort(sk_output *output) {
    if (!output) return;
    if (output->part != output->path) unlink(output->part);
    release(output);
}

sk_status sk_file_write(const char *path, const void *bytes, size_t size, sk_error *err) {
    sk_output *output;
    sk_status status = sk_output_open(path, &output, err);
    if (status != SK_OK) return status;
    sk_output_write(output, bytes, size);
    return sk_output_commit(output, err);
}
