/* SPDX-License-Identifier: Apache-2.0 */
/* The vendor's simulator, or a connected board, as a classifier: one child process quantises the model and then
 * answers pictures, which travel as bytes behind the requests. */
#include <stdio.h>
#include <string.h>

#include "rknn/rknn.h"

typedef struct simulator {
    sk_rknn_job job;
    int size, classes, features, on_board;
} simulator;

static void close_simulator(void *user) {
    simulator *s = user;
    sk_rknn_job_close(&s->job);
    sk_free(s);
}

static sk_status check_widths(const cJSON *answer, int classes, int features, sk_error *err) {
    const cJSON *widths = cJSON_GetObjectItemCaseSensitive(answer, "widths");
    const cJSON *first = cJSON_GetArrayItem(widths, 0), *second = cJSON_GetArrayItem(widths, 1);
    if (cJSON_IsNumber(first) && first->valueint == classes && cJSON_IsNumber(second) && second->valueint == features)
        return SK_OK;
    return sk_fail(err, SK_ERR_MISMATCH, "the simulator does not answer with %d logits and %d features", classes,
                   features);
}

/* Rows of the second output are skipped if nobody wants them. */
static sk_status read_rows(sk_bridge *bridge, float *out, size_t count, sk_error *err) {
    float *scratch = out ? out : sk_alloc(count, sizeof *scratch);
    if (!scratch) return sk_fail_memory(err, "the simulator's answer");
    const sk_status status = sk_bridge_read(bridge, scratch, count * sizeof *scratch, err);
    if (!out) sk_free(scratch);
    return status;
}

sk_status sk_rknn_run(sk_bridge *bridge, const uint8_t *images, int n, int size, int classes, int features,
                      float *logits, float *out_features, sk_error *err) {
    char request[64];
    cJSON *answer = NULL;
    const size_t count = (size_t)n;
    snprintf(request, sizeof request, "{\"do\":\"run\",\"n\":%d,\"size\":%d}", n, size);
    sk_status status = sk_bridge_ask(bridge, request, images, count * (size_t)size * (size_t)size * 3, &answer, err);
    if (status == SK_OK) status = check_widths(answer, classes, features, err);
    if (status == SK_OK) status = read_rows(bridge, logits, count * (size_t)classes, err);
    if (status == SK_OK) status = read_rows(bridge, out_features, count * (size_t)features, err);
    cJSON_Delete(answer);
    return status;
}

/* The toolkit's own words for what goes wrong between it and the board help nobody. */
static sk_status explain(sk_status status, sk_error *err) {
    static const char *const signs[][2] = {
        {"signal 14", "its rknn_server does not answer in time: restart the board, then siskin rknn board setup"},
        {"errno 12", "it is out of memory: stop rkipc (siskin rknn board setup), or restart it"},
        {"allocate", "it is out of memory: stop rkipc (siskin rknn board setup), or restart it"},
        {"ERROR_PIPE", "its rknn_server is of another version than the toolkit: siskin rknn board setup"},
        {"-9", "its rknn_server is of another version than the toolkit: siskin rknn board setup"},
    };
    for (size_t i = 0; err && i < sizeof signs / sizeof *signs; i++)
        if (strstr(err->message, signs[i][0]))
            return sk_fail(err, SK_ERR_UNSUPPORTED, "the board does not run the model: %s", signs[i][1]);
    return status;
}

static sk_status run(void *user, const uint8_t *images, int n, float *logits, float *features, sk_error *err) {
    simulator *s = user;
    const sk_status status =
        sk_rknn_run(s->job.bridge, images, n, s->size, s->classes, s->features, logits, features, err);
    return s->on_board && status != SK_OK && status != SK_ERR_CANCELLED ? explain(status, err) : status;
}

static sk_status start(simulator *s, const sk_rknn_options *options, const char *serial, sk_error *err) {
    if (!s->on_board) return sk_bridge_ask(s->job.bridge, "{\"do\":\"simulate\"}", NULL, 0, NULL, err);
    char request[160];
    snprintf(request, sizeof request, "{\"do\":\"connect\",\"target\":\"%.16s\",\"device\":\"%.63s\"}", options->target,
             serial);
    return explain(sk_bridge_ask(s->job.bridge, request, NULL, 0, NULL, err), err);
}

/* A board with a known fault is not worth the minutes of a conversion. */
static sk_status find_board(const char *serial, const sk_hooks *hooks, sk_rknn_board *board, sk_error *err) {
    const sk_status status = sk_rknn_board_find(serial[0] ? serial : NULL, hooks, board, err);
    const char *trouble = status == SK_OK ? sk_rknn_board_trouble(board) : NULL;
    return trouble ? sk_fail(err, SK_ERR_UNSUPPORTED, "%s", trouble) : status;
}

sk_status sk_rknn_simulate(sk_model *model, const sk_dataset *calibration, const sk_cache *cache,
                           const sk_rknn_options *options, const sk_hooks *hooks, sk_classifier **out, sk_error *err) {
    const sk_card *card = sk_model_card(model);
    simulator *s = sk_calloc(1, sizeof *s);
    *out = NULL;
    if (!s) return sk_fail_memory(err, "the simulator");
    s->size = card->size;
    s->classes = card->classes;
    s->features = sk_model_feature_count(model);
    s->on_board = options->board != NULL;
    sk_rknn_board board = {0};
    sk_status status = s->on_board ? find_board(options->board, hooks, &board, err) : SK_OK;
    if (status == SK_OK) status = sk_rknn_job_open(model, calibration, cache, options, hooks, &s->job, err);
    if (status == SK_OK) status = sk_rknn_job_build(&s->job, model, options, "logits,avgpool", err);
    if (status == SK_OK) status = start(s, options, board.serial, err);
    if (status != SK_OK) {
        close_simulator(s);
        return status;
    }
    const sk_backend backend = {.card = *card, .features = s->features, .run = run,
                                .close = close_simulator, .user = s};
    return sk_classifier_wrap(&backend, out, err);
}
