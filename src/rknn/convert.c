/* SPDX-License-Identifier: Apache-2.0 */
/* Float model to .rknn: the toolkit as a child, its log kept and read, its file checked and only then put in place. */
#include <string.h>

#include "rknn/rknn.h"

/* Kept whatever happened: it is what a question to the vendor needs. */
static sk_status write_log(const sk_rknn_job *job, const char *path, sk_error *err) {
    char *name = sk_format("%s.log", path);
    const char *log = job->bridge ? sk_bridge_log(job->bridge) : "";
    const sk_status status = !name    ? sk_fail_memory(err, "a path")
                             : log[0] ? sk_file_write(name, log, strlen(log), err)
                                      : SK_OK;
    sk_free(name);
    return status;
}

/* Checks what the toolkit wrote and copies it to where it was asked for. */
static sk_status deliver(const char *from, const char *path, const sk_rknn_options *options, sk_rknn_info *info,
                         sk_error *err) {
    uint8_t *bytes = NULL;
    size_t size = 0;
    sk_status status = sk_rknn_info_read(from, info, err);
    if (status == SK_OK && (!info->has_card || strcmp(info->target, options->target) != 0))
        status = sk_fail(err, SK_ERR_MISMATCH, "the toolkit wrote a model for %s %s card: is it of another version?",
                         info->target, info->has_card ? "with its" : "without our");
    if (status == SK_OK) status = sk_file_read(from, &bytes, &size, err);
    if (status == SK_OK) status = sk_file_write(path, bytes, size, err);
    sk_free(bytes);
    return status;
}

static sk_status convert(sk_rknn_job *job, const sk_model *model, const char *path, const sk_rknn_options *options,
                         const sk_hooks *hooks, sk_rknn_report *report, sk_error *err) {
    sk_rknn_info info = {0};
    char *made = sk_path_join(job->folder, "model.rknn"), *onnx = sk_path_join(job->folder, "model.onnx");
    sk_status status = made && onnx
                           ? sk_rknn_lint_gate(onnx, options->target, options->despite_lint, hooks, err)
                           : sk_fail_memory(err, "a path");
    if (status == SK_OK) status = sk_rknn_job_build(job, model, options, NULL, err);
    if (status == SK_OK)
        status = sk_bridge_ask(job->bridge, "{\"do\":\"export\",\"path\":\"model.rknn\"}", NULL, 0, NULL, err);
    if (status == SK_OK) status = sk_rknn_log_read(sk_bridge_log(job->bridge), report, err);
    if (status == SK_OK && report->layer_count == 0)
        status = sk_fail(err, SK_ERR_UNSUPPORTED, "the toolkit's log has no table of layers, so that nobody knows what "
                         "would run on the NPU: is it of another version? `siskin rknn doctor` says");
    if (status == SK_OK) status = deliver(made, path, options, &info, err);
    report->file_bytes = (size_t)info.file_bytes;
    report->body = info.body;
    report->pictures = job->pictures;
    sk_free(made);
    sk_free(onnx);
    return status;
}

sk_status sk_rknn_convert(sk_model *model, const sk_dataset *calibration, const sk_cache *cache, const char *path,
                          const sk_rknn_options *options, const sk_hooks *hooks, sk_rknn_report *report,
                          sk_error *err) {
    const double start = sk_now();
    sk_rknn_job job;
    memset(report, 0, sizeof *report);
    sk_status status = sk_rknn_job_open(model, calibration, cache, options, hooks, &job, err);
    if (status == SK_OK) status = convert(&job, model, path, options, hooks, report, err);
    if (status == SK_OK) status = write_log(&job, path, err);
    else if (status != SK_ERR_CANCELLED) write_log(&job, path, NULL);
    sk_rknn_job_close(&job);
    report->seconds = sk_now() - start;
    if (status != SK_OK) sk_rknn_report_free(report);
    return status;
}
