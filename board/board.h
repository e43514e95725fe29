/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of siskin-board share. */
#ifndef SISKIN_BOARD_H
#define SISKIN_BOARD_H

#include "siskin/classifier.h"
#include "siskin/npu.h"

typedef enum frame_format { FRAME_AUTO, FRAME_RGB, FRAME_NV12 } frame_format;

typedef struct board_options {
    const char *model, *npu, *library;
    char **files;
    int file_count;
    frame_format format;
    int width, height; /* of raw frames; 0: not given */
    int limited_range; /* of NV12 */
    int crops;         /* sk_crops, or -1: the card's */
    float threshold, penalty; /* negative: the card's */
    int deadline_ms, runs, json, logits;
} board_options;

/* options.c: reads the arguments behind the verb. 0, or 2 after a sentence on stderr. */
int board_parse(int argc, char **argv, board_options *out);
void board_usage(void);

/* frame.c: the network's input for each crop of a file (caller frees *out): a PPM (P6), a raw RGB or NV12 frame, or a
 * raw picture of exactly size x size, which is one crop. *count: crops. Errors as sk_status says. */
sk_status board_read_frame(const char *path, const board_options *o, sk_crops crops, int size, uint8_t **out,
                           int *count, sk_error *err);

#endif
