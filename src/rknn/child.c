/* SPDX-License-Identifier: Apache-2.0 */
/* A child process. One loop serves all of its pipes, so that neither side ever waits for the other with a full pipe,
 * and asks ten times a second whether the caller wants to stop. The child leads a process group of its own: Ctrl-C of
 * a terminal reaches siskin alone, which then ends the whole group. */
#include "rknn/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define POLL_MS 100
#define LOW_FD 10 /* ours lie above 0..3, which become the child's */

extern char **environ;

struct sk_child {
    sk_child_options options;
    pid_t pid;
    int channel, log; /* -1: closed */
    sk_text text;     /* the log */
    size_t told;      /* bytes of it that options.line has seen */
    sk_text in;       /* answers not yet taken */
    size_t taken;
};

static void close_fd(int *fd) {
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

/* The same descriptor above LOW_FD; the old one is closed. */
static int lift(int fd) {
    const int high = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, LOW_FD);
    if (fd >= 0) close(fd);
    return high;
}

static int spawn(sk_child *c, int null, int log, int channel) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, all;
    int code = posix_spawn_file_actions_init(&actions);
    if (code) return code;
    if ((code = posix_spawnattr_init(&attributes)) != 0) {
        posix_spawn_file_actions_destroy(&actions);
        return code;
    }
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setflags(&attributes,
                             POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    code = posix_spawn_file_actions_adddup2(&actions, null, 0);
    if (!code) code = posix_spawn_file_actions_adddup2(&actions, log, 1);
    if (!code) code = posix_spawn_file_actions_adddup2(&actions, log, 2);
    if (!code) code = posix_spawn_file_actions_adddup2(&actions, channel, 3);
    if (!code && c->options.folder) code = posix_spawn_file_actions_addchdir_np(&actions, c->options.folder);
    if (!code)
        code = posix_spawn(&c->pid, c->options.arguments[0], &actions, &attributes,
                           (char *const *)(uintptr_t)c->options.arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    return code;
}

sk_status sk_child_start(const sk_child_options *options, sk_child **out, sk_error *err) {
    int pipes[2] = {-1, -1}, sockets[2] = {-1, -1}, null = -1, code = 0;
    *out = NULL;
    sk_child *c = sk_calloc(1, sizeof *c);
    if (!c) return sk_fail_memory(err, options->name);
    c->options = *options;
    c->pid = -1;
    if (pipe2(pipes, O_CLOEXEC) != 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) != 0) code = errno;
    for (int i = 0; i < 2; i++) {
        pipes[i] = lift(pipes[i]);
        sockets[i] = lift(sockets[i]);
    }
    null = lift(open("/dev/null", O_RDONLY | O_CLOEXEC));
    if (!code && (null < 0 || pipes[0] < 0 || pipes[1] < 0 || sockets[0] < 0 || sockets[1] < 0)) code = EMFILE;
    if (!code) code = spawn(c, null, pipes[1], sockets[1]);
    close_fd(&null);
    close_fd(&pipes[1]);
    close_fd(&sockets[1]);
    c->log = pipes[0];
    c->channel = sockets[0];
    if (code) {
        c->pid = -1;
        sk_child_end(c);
        return sk_fail(err, SK_ERR_IO, "cannot start %s: %s", options->arguments[0], strerror(code));
    }
    fcntl(c->log, F_SETFL, O_NONBLOCK);
    fcntl(c->channel, F_SETFL, O_NONBLOCK);
    *out = c;
    return SK_OK;
}

/* Whole lines that are new go to the caller. */
static void tell_lines(sk_child *c) {
    size_t at = c->told;
    for (size_t i = at; i < c->text.size; i++) {
        if (c->text.data[i] != '\n' && c->text.data[i] != '\r') continue;
        const char end = c->text.data[i];
        c->text.data[i] = 0;
        if (c->options.line && i > at) c->options.line(c->options.user, c->text.data + at);
        c->text.data[i] = end;
        at = i + 1;
    }
    c->told = at;
}

/* Takes what `fd` has; 0 at its end. */
static int take(int *fd, sk_text *into) {
    char buffer[1 << 14];
    for (;;) {
        const ssize_t n = read(*fd, buffer, sizeof buffer);
        if (n > 0) sk_text_add_bytes(into, buffer, (size_t)n);
        else if (n < 0 && errno == EINTR) continue;
        else if (n < 0 && errno == EAGAIN) return 1;
        else break;
    }
    close_fd(fd);
    return 0;
}

/* One round of the loop; `*left` bytes at `*out` are to be sent. */
static sk_status pump(sk_child *c, const uint8_t **out, size_t *left, sk_error *err) {
    if (sk_cancelled(c->options.hooks))
        return sk_fail(err, SK_ERR_CANCELLED, "%s was stopped", c->options.name);
    struct pollfd polls[2] = {{c->log, POLLIN, 0}, {c->channel, (short)(POLLIN | (*left ? POLLOUT : 0)), 0}};
    if (poll(polls, 2, POLL_MS) < 0 && errno != EINTR)
        return sk_fail(err, SK_ERR_IO, "cannot wait for %s: %s", c->options.name, strerror(errno));
    if (c->channel >= 0 && (polls[1].revents & POLLOUT) && *left) {
        const ssize_t n = send(c->channel, *out, *left, MSG_NOSIGNAL);
        if (n > 0) {
            *out += n;
            *left -= (size_t)n;
        }
    }
    if (c->channel >= 0 && polls[1].revents) take(&c->channel, &c->in);
    if (c->log >= 0) {
        take(&c->log, &c->text);
        tell_lines(c);
    }
    return c->in.failed || c->text.failed ? sk_fail_memory(err, c->options.name) : SK_OK;
}

/* Looks without taking the process away, whose number stays that of the group until sk_child_end. */
static int has_ended(const sk_child *c, siginfo_t *info) {
    memset(info, 0, sizeof *info);
    return waitid(P_PID, (id_t)c->pid, info, WEXITED | WNOHANG | WNOWAIT) == 0 && info->si_pid == c->pid;
}

static sk_status fail_signal(const sk_child *c, const siginfo_t *info, sk_error *err) {
    return sk_fail(err, SK_ERR_IO, "%s was ended by signal %d (%s)%s", c->options.name, info->si_status,
                   strsignal(info->si_status), info->si_status == SIGKILL ? ": was there too little memory?" : "");
}

static sk_status fail_closed(sk_child *c, sk_error *err) {
    siginfo_t info;
    const uint8_t *nothing = NULL;
    size_t none = 0;
    for (int i = 0; i < 20 && !has_ended(c, &info); i++) {
        const sk_status status = pump(c, &nothing, &none, err);
        if (status != SK_OK) return status;
    }
    if (!has_ended(c, &info)) return sk_fail(err, SK_ERR_IO, "%s answers no longer", c->options.name);
    if (info.si_code != CLD_EXITED) return fail_signal(c, &info, err);
    return sk_fail(err, SK_ERR_IO, "%s ended with exit code %d", c->options.name, info.si_status);
}

sk_status sk_child_send(sk_child *child, const void *bytes, size_t size, sk_error *err) {
    const uint8_t *at = bytes;
    while (size) {
        if (child->channel < 0) return fail_closed(child, err);
        const sk_status status = pump(child, &at, &size, err);
        if (status != SK_OK) return status;
    }
    return SK_OK;
}

/* Until `size` bytes, or a whole line if 0, lie ready. */
static sk_status await(sk_child *c, size_t size, sk_error *err) {
    const uint8_t *nothing = NULL;
    size_t none = 0;
    for (;;) {
        const size_t ready = c->in.size - c->taken;
        if (size ? ready >= size : ready && memchr(c->in.data + c->taken, '\n', ready)) return SK_OK;
        if (c->channel < 0) return fail_closed(c, err);
        const sk_status status = pump(c, &nothing, &none, err);
        if (status != SK_OK) return status;
    }
}

/* Forgets what was taken before. */
static void compact(sk_child *c) {
    if (!c->taken) return;
    memmove(c->in.data, c->in.data + c->taken, c->in.size - c->taken);
    c->in.size -= c->taken;
    c->taken = 0;
}

sk_status sk_child_answer(sk_child *child, const char **line, sk_error *err) {
    compact(child);
    const sk_status status = await(child, 0, err);
    if (status != SK_OK) return status;
    char *end = memchr(child->in.data, '\n', child->in.size);
    *end = 0;
    *line = child->in.data;
    child->taken = (size_t)(end + 1 - child->in.data);
    if (child->log >= 0) {
        take(&child->log, &child->text); /* the child flushed before it answered */
        tell_lines(child);
    }
    return child->text.failed ? sk_fail_memory(err, child->options.name) : SK_OK;
}

sk_status sk_child_read(sk_child *child, void *bytes, size_t size, sk_error *err) {
    const sk_status status = size ? await(child, size, err) : SK_OK;
    if (status != SK_OK) return status;
    if (size) memcpy(bytes, child->in.data + child->taken, size);
    child->taken += size;
    return SK_OK;
}

sk_status sk_child_wait(sk_child *child, int *code, sk_error *err) {
    siginfo_t info;
    const uint8_t *nothing = NULL;
    size_t none = 0;
    for (int last = 0;;) {
        const sk_status status = pump(child, &nothing, &none, err);
        if (status != SK_OK) return status;
        if (last) break; /* what it printed last is in */
        last = has_ended(child, &info);
    }
    if (info.si_code != CLD_EXITED) return fail_signal(child, &info, err);
    *code = info.si_status;
    return SK_OK;
}

const char *sk_child_log(const sk_child *child) { return child->text.data ? child->text.data : ""; }

void sk_child_end(sk_child *child) {
    if (!child) return;
    if (child->pid > 0) {
        kill(-child->pid, SIGKILL);
        while (waitpid(child->pid, NULL, 0) < 0 && errno == EINTR) {}
    }
    close_fd(&child->channel);
    close_fd(&child->log);
    sk_text_free(&child->text);
    sk_text_free(&child->in);
    sk_free(child);
}
