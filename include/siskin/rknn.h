/* SPDX-License-Identifier: Apache-2.0 */
/* Rockchip's RKNN: the vendor's toolkit (converter and simulator, Python, run as a child in a venv of its own). */
#ifndef SISKIN_RKNN_H
#define SISKIN_RKNN_H

#include <stddef.h>
#include <stdint.h>

#include "siskin/classifier.h"
#include "siskin/dataset.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- the toolkit ----------------------------------------------------------------------------------------------- */
/* Where a `dir` is NULL below, it is $SISKIN_RKNN, else siskin/rknn in $XDG_DATA_HOME or ~/.local/share. */
#define SK_RKNN_ITEMS 24
typedef struct sk_rknn_item {
    char name[48];    /* "python3", "rknn-toolkit2", ... */
    char found[96];   /* version, "" if it is missing */
    char wanted[16];  /* version, "" if any will do */
    char remedy[160]; /* what to do, "" if all is well */
    int ok;
} sk_rknn_item;
typedef struct sk_rknn_health {
    char dir[1024];
    int ready; /* models can be converted */
    size_t count;
    sk_rknn_item items[SK_RKNN_ITEMS];
} sk_rknn_health;
/* Looks at everything that conversion needs; what is missing is no error. Errors: MEMORY, IO, CANCELLED. */
sk_status sk_rknn_doctor(const char *dir, const sk_hooks *hooks, sk_rknn_health *out, sk_error *err);
/* Makes the venv: aside, then renamed, so that `dir` is whole or not there. One that is there and well is left alone
 * unless `again`. Downloads 0.3 GB from PyPI, fills 0.6 GB. Errors: IO (Debian's python3-torch is missing, no network,
 * disk full, `dir` is something else), CANCELLED, MEMORY. */
sk_status sk_rknn_setup(const char *dir, int again, const sk_hooks *hooks, int *was_there, sk_error *err);

/* ---- conversion ------------------------------------------------------------------------------------------------ */
typedef enum sk_rknn_algorithm { SK_RKNN_NORMAL = 0, SK_RKNN_MMSE, SK_RKNN_KL } sk_rknn_algorithm;
sk_status sk_rknn_algorithm_parse(const char *text, sk_rknn_algorithm *out, sk_error *err);
const char *sk_rknn_algorithm_name(sk_rknn_algorithm algorithm); /* "normal", "mmse", "kl_divergence" */

typedef struct sk_rknn_options {
    const char *toolkit; /* folder of the toolkit or NULL */
    const char *target;  /* "rv1103", "rv1103b", "rv1106" or "rv1106b" */
    sk_rknn_algorithm algorithm;
    int by_layer;        /* one scale per weight tensor instead of one per output channel */
    int equalise;        /* channels of the first layers in units of their own (sk_vendor_form_make) */
    int refine;          /* weights moved to where `normal` rounds them best (sk_vendor_form_refine) */
    int threads;         /* for both, 0: all; the result does not depend on it */
    int pictures;        /* for calibration, drawn as sk_quantize draws them */
    uint64_t seed;
    int despite_lint;    /* convert what the lint calls an error too */
    const char *board;   /* serial number of the connected board that runs the model, "": the only one; NULL: none */
    const char *keep;    /* folder that gets the ONNX, the list and the pictures; NULL: they are removed */
} sk_rknn_options;
sk_rknn_options sk_rknn_defaults(void); /* rv1103, mmse, by channel, 100 pictures, seed 1 */

/* A row of the compiler's table of layers. Cycles of 0 are not known, so that sums are lower bounds. */
typedef struct sk_rknn_layer {
    char type[32], data_type[16], input[64], output[64], name[128];
    int on_cpu; /* 1 for input, output and for everything that will fail on the board */
    uint64_t ddr_cycles, npu_cycles, cycles, kilobytes;
} sk_rknn_layer;
typedef struct sk_rknn_outlier {
    char name[128];
    double mean, std, value; /* of |w| without the largest; the largest with its sign */
} sk_rknn_outlier;
typedef struct sk_rknn_message {
    int error; /* else a warning */
    char text[256];
} sk_rknn_message;
typedef struct sk_rknn_report {
    sk_rknn_layer *layers;
    sk_rknn_outlier *outliers;
    sk_rknn_message *messages; /* without those that come with every model */
    size_t layer_count, outlier_count, message_count, cpu_layers; /* cpu_layers: without input and output */
    uint64_t ddr_cycles, npu_cycles, cycles, kilobytes;
    double internal_kb, weight_kb; /* memory on the board */
    size_t file_bytes;
    uint64_t body;   /* hash of the commands and weights, which conversions of the same input share */
    double seconds;
    int pictures;
} sk_rknn_report;
/* Reads what the toolkit printed. Errors: MEMORY. */
sk_status sk_rknn_log_read(const char *log, sk_rknn_report *out, sk_error *err);
void sk_rknn_report_free(sk_rknn_report *report);

/* Converts `model` to `path` (.rknn, the model's card in its custom string) and writes the toolkit's whole log to
 * PATH.log, after a failure too. The lint sees the network first; its warnings go to the hooks. Errors: UNSUPPORTED (no
 * toolkit, an error of the lint, or what the toolkit says), DATA, IO, CANCELLED,
 * MEMORY; `path` is then as it was. */
sk_status sk_rknn_convert(sk_model *model, const sk_dataset *calibration, const sk_cache *cache, const char *path,
                          const sk_rknn_options *options, const sk_hooks *hooks, sk_rknn_report *report, sk_error *err);

/* The vendor's simulator as a classifier: converts `model` likewise and answers pictures with its int8 arithmetic, some
 * 30 ms each. `hooks` must outlive it. With options->board the connected board answers instead; it is looked at first
 * (sk_rknn_board_trouble), and one that stops answering ends with a sentence. Errors: as sk_rknn_convert,
 * sk_rknn_board_find. */
sk_status sk_rknn_simulate(sk_model *model, const sk_dataset *calibration, const sk_cache *cache,
                           const sk_rknn_options *options, const sk_hooks *hooks, sk_classifier **out, sk_error *err);

/* ---- comparison: our forecast beside the vendor's int8, layer by layer ------------------------------------------- */
#define SK_RKNN_ALIKE 0.99 /* cosine below which two tensors are said to differ */
typedef struct sk_rknn_pair {
    char name[64];     /* of the layer */
    int found;         /* the simulator has this tensor */
    double cosine;     /* ours and theirs, over the compared pictures; NaN where one is missing or 0, as the next */
    double error;      /* |ours - theirs| / |theirs| */
    double own_float, theirs_float; /* cosines to float */
} sk_rknn_pair;
typedef struct sk_rknn_comparison {
    sk_rknn_pair *layers;
    size_t count, found;
    int first;         /* layer with a cosine below SK_RKNN_ALIKE, -1: none */
    int pictures, own_theirs, own_float, theirs_float; /* verdicts that are the same, of so many pictures */
} sk_rknn_comparison;
/* Has the toolkit quantise `model` and forecasts it by ourselves (sk_vendor): `normal` from the same pictures alone,
 * mmse and kl_divergence with the ranges that the toolkit found. Sets the tensors of the first `pictures` calibration
 * pictures side by side (some ten seconds each), and the verdicts of all pictures of `part`, of SK_SPLIT_TRAIN the
 * calibration pictures alone. Errors: as sk_rknn_convert; MISMATCH, UNSUPPORTED: the toolkit is of another version. */
sk_status sk_rknn_compare(sk_model *model, const sk_dataset *calibration, const sk_cache *cache,
                          const sk_rknn_options *options, int pictures, sk_split part, const sk_hooks *hooks,
                          sk_rknn_comparison *out, sk_error *err);
void sk_rknn_comparison_free(sk_rknn_comparison *comparison);

/* ---- a board that is connected by USB, reached through adb ------------------------------------------------------- */
typedef struct sk_rknn_board {
    char serial[64], machine[32], chip[128]; /* machine: "armv7l"; chip: the device tree's names */
    char library[32], server[32];            /* versions of librknnmrt.so and rknn_server, "" if they are not there */
    int second_library;                      /* one in /usr/lib beside the one in /oem/usr/lib */
    int server_runs, rkipc_runs;             /* rkipc: the camera's own program */
    long free_kb, cma_kb;                    /* memory, 0 if it does not say */
} sk_rknn_board;
/* The board of this serial number, or the only one if NULL; within seconds. Errors: UNSUPPORTED (no adb, no board,
 * several, one that adb may not use), IO (adb fails or does not come to an end), CANCELLED, MEMORY. */
sk_status sk_rknn_board_find(const char *serial, const sk_hooks *hooks, sk_rknn_board *out, sk_error *err);
/* What keeps models from running there, with the way out; NULL if nothing does. */
const char *sk_rknn_board_trouble(const sk_rknn_board *board);

typedef struct sk_rknn_step {
    char what[96];
    char from[512]; /* a file to be pushed; "": `to` is a command of the board's shell */
    char to[320];
} sk_rknn_step;
typedef struct sk_rknn_plan {
    int count;
    sk_rknn_step steps[8];
} sk_rknn_plan;
/* What it takes to make the board ready with librknnmrt.so and rknn_server of the folder `files` (the vendor's, for
 * armhf-uclibc). Nothing is done yet. Errors: IO, FORMAT (not for this machine), UNSUPPORTED (another machine). */
sk_status sk_rknn_board_plan(const sk_rknn_board *board, const char *files, sk_rknn_plan *plan, sk_error *err);
/* Carries it out and looks again. Errors: as sk_rknn_board_find, with the step that failed. */
sk_status sk_rknn_board_setup(const sk_rknn_board *board, const sk_rknn_plan *plan, const sk_hooks *hooks,
                              sk_rknn_board *after, sk_error *err);

/* ---- lint: what an ONNX file will meet on its way to the NPU of RV1103 and RV1106 ------------------------------- */
typedef enum sk_rknn_severity {
    SK_RKNN_NOTE = 0, /* a known cost */
    SK_RKNN_WARNING,  /* works, but outside of what the vendor documents, or slowly */
    SK_RKNN_ERROR     /* conversion fails, or the board will */
} sk_rknn_severity;
typedef struct sk_rknn_finding {
    sk_rknn_severity severity;
    const char *rule, *source, *remedy; /* constant */
    char node[128];                     /* or the name of an input; "" for the file as a whole */
    char what[160];
} sk_rknn_finding;
typedef struct sk_rknn_lint {
    sk_rknn_finding *findings;
    size_t count, nodes;
    int errors, warnings;
    const char *predicts; /* "npu": all layers on it; "cpu": some are left to the CPU; "fail": no model */
} sk_rknn_lint;
/* Any ONNX file, for the chip `target`. Errors: ARGUMENT (an unknown chip), IO, FORMAT, MEMORY; findings are none. */
sk_status sk_rknn_lint_file(const char *path, const char *target, sk_rknn_lint *out, sk_error *err);
void sk_rknn_lint_free(sk_rknn_lint *lint);

/* ---- .rknn files, read without the vendor ---------------------------------------------------------------------- */
typedef struct sk_rknn_info {
    uint64_t file_bytes, body; /* body as in sk_rknn_report */
    char version[32];          /* of the toolkit */
    char compiler[96];
    char target[32], framework[16];
    char input_name[64];
    int input_shape[4];        /* N, C, H, W */
    int inputs, outputs;
    uint32_t internal_bytes, weight_bytes;
    char custom[1025];         /* "" if there is none */
    int has_card;              /* the custom string is a card of siskin: */
    sk_card card;
    char algorithm[24];
} sk_rknn_info;
/* Errors: IO, FORMAT. */
sk_status sk_rknn_info_read(const char *path, sk_rknn_info *out, sk_error *err);

#ifdef __cplusplus
}
#endif
#endif
