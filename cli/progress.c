/* SPDX-License-Identifier: Apache-2.0 */
/* Hooks of the program: a progress bar on a terminal, a line every few seconds elsewhere, Ctrl-C as a wish to stop. */
#include "internal.h"

#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define REDRAW_SECONDS 0.1
#define LINE_SECONDS 5.0

static volatile sig_atomic_t stop_asked;

static void on_signal(int number) {
    (void)number;
    static const char text[] = "\nstopping; once more ends at once\n";
    if (!stop_asked && isatty(STDERR_FILENO) && write(STDERR_FILENO, text, sizeof text - 1) < 0) stop_asked = 1;
    stop_asked = 1;
}

static int cancelled(void *user) {
    (void)user;
    return stop_asked;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int width(void) {
    struct winsize size;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20 ? size.ws_col : 80;
}

void cli_bar_clear(cli *c) {
    if (c->bar.shown) fprintf(stderr, "\r\033[K");
    c->bar.shown = 0;
}

static void span_text(char *out, size_t size, double seconds) {
    long s = (long)(seconds + 0.5);
    if (s >= 3600) snprintf(out, size, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    else snprintf(out, size, "%ld:%02ld", s / 60, s % 60);
}

/* "450/1000 images  123/s  0:05 left" */
static void figures(const cli_bar *bar, const char *unit, uint64_t done, uint64_t total, double t, char *out,
                    size_t size) {
    double passed = t - bar->start, rate = passed > 0.2 ? (double)(done - bar->first) / passed : 0;
    int n;
    if (total) n = snprintf(out, size, "%llu/%llu %s", (unsigned long long)done, (unsigned long long)total, unit);
    else n = snprintf(out, size, "%llu %s", (unsigned long long)done, unit);
    if (rate > 0 && n > 0 && (size_t)n < size) {
        char left[32];
        n += snprintf(out + n, size - (size_t)n, rate < 10 ? "  %.1f/s" : "  %.0f/s", rate);
        span_text(left, sizeof left, done < total ? (double)(total - done) / rate : passed);
        if ((size_t)n < size) snprintf(out + n, size - (size_t)n, "  %s%s", left, done < total ? " left" : "");
    }
}

static void draw(cli *c, const char *stage, const char *text, uint64_t done, uint64_t total) {
    cli_bar *bar = &c->bar;
    int room = width() - 1 - (int)strlen(stage) - (int)strlen(text) - 10;
    if (room > 30) room = 30;
    if (!total || room < 5) {
        bar->shown = fprintf(stderr, "\r\033[K%.*s  %s", 24, stage, text);
    } else {
        int full = (int)((double)done / (double)total * room);
        static const char hashes[] = "##############################", dots[] = "..............................";
        bar->shown = fprintf(stderr, "\r\033[K%s [%s%.*s%s%.*s] %3d%%  %s", stage, cli_color(stderr, "green"), full,
                             hashes, cli_color(stderr, "reset"), room - full, dots,
                             (int)(100.0 * (double)done / (double)total), text);
    }
    fflush(stderr);
}

static void progress(void *user, const char *stage, const char *unit, uint64_t done, uint64_t total) {
    cli *c = user;
    cli_bar *bar = &c->bar;
    double t = now();
    int terminal = isatty(STDERR_FILENO);
    if (total && done > total) done = total;
    /* A stage that begins anew (the next epoch) counts from there. */
    if (strncmp(bar->stage, stage, sizeof bar->stage - 1) != 0 || done < bar->first ||
        (bar->complete && done < total)) {
        cli_bar_clear(c);
        memset(bar, 0, sizeof *bar);
        snprintf(bar->stage, sizeof bar->stage, "%s", stage);
        bar->first = done;
        bar->start = bar->last_shown = t;
        if (terminal) bar->last_shown = 0;
    }
    int complete = total && done == total;
    if (bar->complete || (!complete && t - bar->last_shown < (terminal ? REDRAW_SECONDS : LINE_SECONDS))) return;
    bar->last_shown = t;
    bar->complete = complete;
    char text[160];
    figures(bar, unit, done, total, t, text, sizeof text);
    if (terminal) {
        draw(c, stage, text, done, total);
        if (complete) {
            fputc('\n', stderr);
            bar->shown = 0;
        }
    } else if (!complete || t - bar->start > LINE_SECONDS) {
        fprintf(stderr, "%s: %s\n", stage, text);
    }
}

static void log_line(void *user, sk_log_level level, const char *text) {
    cli *c = user;
    cli_bar_clear(c);
    if (level == SK_LOG_WARNING)
        fprintf(stderr, "%swarning:%s %s\n", cli_color(stderr, "yellow"), cli_color(stderr, "reset"), text);
    else fprintf(stderr, "%s\n", text);
}

void cli_hooks_init(cli *c) {
    c->hooks = (sk_hooks){c, progress, log_line, cancelled};
}

const sk_hooks *cli_hooks(cli *c) {
    if (cli_quiet(c)) {
        c->hooks.progress = NULL;
        c->hooks.log = NULL;
    }
    /* The second Ctrl-C has the system's own effect. */
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    return &c->hooks;
}
