/* SPDX-License-Identifier: Apache-2.0 */
/* One picture through the NPU. With the camera streaming, four of five runs of an RV1106 were seen to fail, each after
 * more than six seconds (airockchip/rknn-toolkit2 issue 544): the return code counts, trying again is the rule, and the
 * CPU is the way out. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "npu/npu.h"

#define REST_FIRST 8
#define REST_MOST 64

double sk_npu_clock(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static void put_picture(sk_npu *npu, const uint8_t *image) {
    const size_t row = (size_t)npu->size * 3;
    uint8_t *at = npu->input->address;
    for (int y = 0; y < npu->size; y++, at += npu->info.row_bytes, image += row) {
        memcpy(at, image, row);
    }
}

/* A mark in the output tells a run that claims success and writes nothing. It must not linger in the CPU's cache,
 * from where it could be written over the answer, so without rknn_mem_sync there is none. The mark alternates: an
 * answer that happens to equal it is another one's mark next time. */
static int mark_output(sk_npu *npu, int mark) {
    if (!npu->calls.sync) {
        return 0;
    }
    memset(npu->output->address, mark, (size_t)npu->info.output_count);
    return npu->calls.sync(npu->context, npu->output, SK_RKNN_TO_DEVICE) == 0;
}

static int is_unwritten(const sk_npu *npu, int mark) {
    const uint8_t *codes = npu->output->address;
    for (int c = 0; c < npu->classes; c++) {
        if (codes[npu->offsets[c]] != mark) {
            return 0;
        }
    }
    return 1;
}

/* One run; NULL if it answered, else why not. */
static const char *run_once(sk_npu *npu, int number) {
    const int mark = number % 2 ? 0xa5 : 0x5a;
    const int marked = mark_output(npu, mark);
    const int code = npu->calls.run(npu->context, NULL);
    if (code) {
        return sk_npu_code_text(code);
    }
    return marked && is_unwritten(npu, mark) ? "success and writes no answer" : NULL;
}

static void take_answer(const sk_npu *npu, float *logits) {
    const int8_t *codes = npu->output->address;
    for (int c = 0; c < npu->classes; c++) {
        logits[c] = (float)(codes[npu->offsets[c]] - npu->info.zero_point) * npu->info.scale;
    }
}

/* Tries until an answer or the deadline; NULL or the last reason. */
static const char *run_tries(sk_npu *npu, double start, int *tries) {
    const struct timespec pause = {0, 2000000};
    const char *why;
    do {
        if (*tries) {
            nanosleep(&pause, NULL);
        }
        why = run_once(npu, *tries);
        ++*tries;
    } while (why && sk_npu_clock() - start < npu->deadline_ms);
    return why;
}

static void run_cpu(sk_npu *npu, const uint8_t *image, float *logits) {
    sk_rt_run(npu->cpu, image, npu->codes, NULL);
    sk_rt_logits(npu->cpu, npu->codes, logits);
}

void sk_npu_run(sk_npu *npu, const uint8_t *image, float *logits, sk_npu_outcome *outcome) {
    const double start = sk_npu_clock();
    *outcome = (sk_npu_outcome){0};
    const char *why = NULL;
    if (npu->rest > 0) {
        npu->rest--;
        outcome->on_cpu = 1;
        snprintf(outcome->note, sizeof outcome->note, "on the CPU: the NPU rests after failures, %d more pictures",
                 npu->rest);
    } else {
        put_picture(npu, image);
        why = run_tries(npu, start, &outcome->tries);
        outcome->on_cpu = why != NULL;
    }
    if (why) {
        npu->next_rest = npu->next_rest == 0 ? REST_FIRST : npu->next_rest < REST_MOST ? 2 * npu->next_rest : REST_MOST;
        npu->rest = npu->next_rest;
        snprintf(outcome->note, sizeof outcome->note, "on the CPU: after %d tries of the NPU it says %.90s",
                 outcome->tries, why);
    }
    if (outcome->on_cpu) {
        run_cpu(npu, image, logits);
    } else {
        npu->next_rest = 0;
        take_answer(npu, logits);
    }
    outcome->ms = sk_npu_clock() - start;
    if (!outcome->on_cpu && outcome->ms > npu->deadline_ms) {
        snprintf(outcome->note, sizeof outcome->note, "late: %.0f ms in %d tries of the NPU", outcome->ms,
                 outcome->tries);
    }
}
