/* SPDX-License-Identifier: Apache-2.0 */
/* The arguments of siskin-board. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "board.h"

void board_usage(void) {
    fputs("usage: siskin-board classify [OPTION...] MODEL.skn FILE...   bird or no bird, a line per file\n"
          "       siskin-board bench    [OPTION...] MODEL.skn           milliseconds per picture\n"
          "       siskin-board info     [OPTION...] MODEL.skn           what model and NPU say of themselves\n"
          "       siskin-board version | help\n\n"
          "A FILE is a PPM (P6), a raw frame, or a raw RGB picture of the network's size.\n\n"
          "  --npu FILE.rknn      run on the NPU; the CPU answers when it does not\n"
          "  --library FILE       the vendor's runtime (librknnmrt.so)\n"
          "  --deadline MS        of one picture, tries of the NPU included (2000)\n"
          "  --frame WxH          size of raw frames\n"
          "  --format rgb|nv12    of raw frames (rgb)\n"
          "  --range full|limited of NV12 (full; BT.601)\n"
          "  --crops 1|3|squeeze  how a frame is looked at (the model's)\n"
          "  --threshold P        probability of the centre that says bird (the model's)\n"
          "  --penalty P          probability that a side crop must reach (the model's)\n"
          "  --runs N             of bench (20)\n"
          "  --logits             classify: real logits of each crop instead of a verdict\n"
          "  --json               one JSON object per line\n", stdout);
}

static int bad(const char *what, const char *value) {
    fprintf(stderr, "siskin-board: %s '%s'; try 'siskin-board help'\n", what, value);
    return 2;
}

static int number(const char *text, int low, int high, int *out) {
    char *end = NULL;
    const long value = strtol(text, &end, 10);
    *out = (int)value;
    return end != text && *end == '\0' && value >= low && value <= high;
}

static int probability(const char *text, float *out) {
    char *end = NULL;
    *out = strtof(text, &end);
    return end != text && *end == '\0' && *out >= 0 && *out <= 1;
}

static int frame_size(const char *text, int *width, int *height) {
    char *end = NULL;
    const long w = strtol(text, &end, 10);
    if (end == text || *end != 'x' || w < 1 || w > 8192) {
        return 0;
    }
    *width = (int)w;
    return number(end + 1, 1, 8192, height);
}

static int format(const char *text, frame_format *out) {
    *out = strcmp(text, "nv12") == 0 ? FRAME_NV12 : FRAME_RGB;
    return *out == FRAME_NV12 || strcmp(text, "rgb") == 0;
}

static int range(const char *text, int *limited) {
    *limited = strcmp(text, "limited") == 0;
    return *limited || strcmp(text, "full") == 0;
}

static int crops(const char *text, int *out) {
    sk_crops parsed = SK_CROPS_ONE;
    const int ok = sk_crops_parse(text, &parsed, NULL) == SK_OK;
    *out = (int)parsed;
    return ok;
}

/* An option with a value: 1 taken, 0 not known, -1 a bad value. */
static int take(const char *name, const char *value, board_options *o) {
    int ok;
    if (strcmp(name, "--npu") == 0) {
        o->npu = value;
        ok = 1;
    } else if (strcmp(name, "--library") == 0) {
        o->library = value;
        ok = 1;
    } else if (strcmp(name, "--deadline") == 0) {
        ok = number(value, 1, 60000, &o->deadline_ms);
    } else if (strcmp(name, "--frame") == 0) {
        ok = frame_size(value, &o->width, &o->height);
    } else if (strcmp(name, "--format") == 0) {
        ok = format(value, &o->format);
    } else if (strcmp(name, "--range") == 0) {
        ok = range(value, &o->limited_range);
    } else if (strcmp(name, "--crops") == 0) {
        ok = crops(value, &o->crops);
    } else if (strcmp(name, "--threshold") == 0) {
        ok = probability(value, &o->threshold);
    } else if (strcmp(name, "--penalty") == 0) {
        ok = probability(value, &o->penalty);
    } else if (strcmp(name, "--runs") == 0) {
        ok = number(value, 1, 1000000, &o->runs);
    } else {
        return 0;
    }
    return ok ? 1 : -1;
}

int board_parse(int argc, char **argv, board_options *out) {
    *out = (board_options){.crops = -1, .threshold = -1, .penalty = -1, .runs = 20};
    int i = 0;
    for (; i < argc && strncmp(argv[i], "--", 2) == 0; i++) {
        if (strcmp(argv[i], "--json") == 0) {
            out->json = 1;
        } else if (strcmp(argv[i], "--logits") == 0) {
            out->logits = 1;
        } else {
            const int taken = i + 1 < argc ? take(argv[i], argv[i + 1], out) : 0;
            if (taken == 0) {
                return bad("unknown option, or one without its value:", argv[i]);
            }
            if (taken < 0) {
                return bad("bad value:", argv[i + 1]);
            }
            i++;
        }
    }
    if (i == argc) {
        return bad("no model is named", "");
    }
    if (out->format != FRAME_AUTO && !out->width) {
        return bad("--format needs", "--frame");
    }
    out->model = argv[i];
    out->files = argv + i + 1;
    out->file_count = argc - i - 1;
    return 0;
}
