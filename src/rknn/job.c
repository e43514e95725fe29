/* SPDX-License-Identifier: Apache-2.0 */
/* What every use of the toolkit begins with: a work folder with the float ONNX and the calibration pictures, the
 * toolkit started in it, the model loaded and quantised. The pictures are PNGs of exactly the network's size: the
 * toolkit would stretch any other without a word. Their names have no blank, which the list could not hold. */
#include <stdio.h>
#include <string.h>

#include "rknn/rknn.h"
#include "siskin/image.h"
#include "siskin/quant.h"

sk_status sk_rknn_algorithm_parse(const char *text, sk_rknn_algorithm *out, sk_error *err) {
    for (int i = 0; i <= (int)SK_RKNN_KL; i++)
        if (text && strcmp(text, sk_rknn_algorithm_name((sk_rknn_algorithm)i)) == 0) {
            *out = (sk_rknn_algorithm)i;
            return SK_OK;
        }
    return sk_fail(err, SK_ERR_ARGUMENT, "algorithm '%s' is not known: choose normal, mmse or kl_divergence",
                   text ? text : "");
}

const char *sk_rknn_algorithm_name(sk_rknn_algorithm algorithm) {
    static const char *const names[] = {"normal", "mmse", "kl_divergence"};
    return names[algorithm];
}

sk_rknn_options sk_rknn_defaults(void) {
    return (sk_rknn_options){.target = "rv1103", .algorithm = SK_RKNN_MMSE, .pictures = 100, .seed = 1};
}

sk_status sk_rknn_check_target(const char *target, sk_error *err) {
    static const char *const targets[] = {"rv1103", "rv1103b", "rv1106", "rv1106b"};
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++)
        if (target && strcmp(target, targets[i]) == 0) return SK_OK;
    return sk_fail(err, SK_ERR_ARGUMENT, "target '%s' is not known: choose rv1103, rv1103b, rv1106 or rv1106b",
                   target ? target : "");
}

static sk_status write_pictures(const char *folder, const sk_quant_pictures *pictures, int size, const sk_hooks *hooks,
                                sk_error *err) {
    char *path = sk_path_join(folder, "calibration");
    sk_text list = {0};
    sk_status status = path ? sk_make_dirs(path, err) : sk_fail_memory(err, "a path");
    sk_free(path);
    for (int i = 0; status == SK_OK && i < pictures->count; i++) {
        const sk_image image = {size, size, pictures->bytes + pictures->picture_bytes * (size_t)i};
        if (sk_cancelled(hooks)) return sk_fail(err, SK_ERR_CANCELLED, "the conversion was stopped");
        path = sk_format("%s/calibration/%04d.png", folder, i);
        status = path ? sk_image_write(path, &image, 0, err) : sk_fail_memory(err, "a path");
        sk_free(path);
        sk_text_add(&list, "calibration/%04d.png\n", i);
        sk_progress(hooks, "calibration", "pictures", (uint64_t)i + 1, (uint64_t)pictures->count);
    }
    path = sk_path_join(folder, "calibration.txt");
    if (status == SK_OK && (!path || list.failed)) status = sk_fail_memory(err, "the calibration list");
    if (status == SK_OK) status = sk_file_write(path, list.data, list.size, err);
    sk_free(path);
    sk_text_free(&list);
    return status;
}

static sk_status fill_folder(sk_rknn_job *job, sk_model *model, const sk_dataset *dataset, const sk_cache *cache,
                             const sk_rknn_options *options, const sk_hooks *hooks, sk_error *err) {
    const sk_card *card = sk_model_card(model);
    sk_quant_pictures pictures = {0};
    char *onnx = sk_path_join(job->folder, "model.onnx");
    sk_status status = onnx ? SK_OK : sk_fail_memory(err, "a path");
    if (status == SK_OK)
        status = sk_quant_draw(card, dataset, cache, options->pictures, options->seed, hooks, &pictures, err);
    if (status == SK_OK)
        status = sk_vendor_form_make(model, options->equalise ? &pictures : NULL, options->threads, &job->form, err);
    if (status == SK_OK && options->refine)
        status = sk_vendor_form_refine(model, &pictures, options->by_layer, options->threads, options->seed, hooks,
                                       &job->form, err);
    if (status == SK_OK) status = sk_export_onnx_form(model, &job->form, onnx, err);
    sk_free(onnx);
    if (status == SK_OK) status = write_pictures(job->folder, &pictures, card->size, hooks, err);
    job->pictures = pictures.count;
    sk_quant_pictures_free(&pictures);
    return status;
}

sk_status sk_rknn_job_open(sk_model *model, const sk_dataset *dataset, const sk_cache *cache,
                           const sk_rknn_options *options, const sk_hooks *hooks, sk_rknn_job *job, sk_error *err) {
    memset(job, 0, sizeof *job);
    sk_status status = sk_rknn_check_target(options->target, err);
    if (status == SK_OK) status = sk_rknn_dir(options->toolkit, &job->dir, err);
    if (status == SK_OK && options->keep) {
        job->keep = 1;
        status = sk_make_dirs(options->keep, err);
        if (status == SK_OK && !(job->folder = sk_path_absolute(options->keep))) status = sk_fail_memory(err, "a path");
    } else if (status == SK_OK) {
        status = sk_folder_temporary(&job->folder, err);
    }
    /* The toolkit first: that it is missing should not be told after the work. */
    if (status == SK_OK) status = sk_bridge_open(job->dir, job->folder, hooks, &job->bridge, err);
    if (status == SK_OK) status = fill_folder(job, model, dataset, cache, options, hooks, err);
    return status;
}

static void put_numbers(sk_text *text, const char *key, const float values[3]) {
    sk_text_add(text, ",\"%s\":[", key);
    for (int i = 0; i < 3; i++) {
        sk_text_add(text, i ? "," : "");
        sk_json_put_number(text, 255.0 * (double)values[i]); /* the toolkit's bytes are 0..255 */
    }
    sk_text_add(text, "]");
}

static void put_outputs(sk_text *text, const char *outputs) {
    sk_text_add(text, ",\"outputs\":[");
    for (const char *at = outputs; *at; at += at[0] == ',') {
        const int n = (int)strcspn(at, ",");
        sk_text_add(text, "%s\"%.*s\"", at > outputs ? "," : "", n, at);
        at += n;
    }
    sk_text_add(text, "]");
}

sk_status sk_rknn_job_build(sk_rknn_job *job, const sk_model *model, const sk_rknn_options *options,
                            const char *outputs, sk_error *err) {
    const sk_card *card = sk_model_card(model);
    sk_rknn_options used = *options;
    used.pictures = job->pictures;
    char *custom = sk_rknn_card_text(card, &used);
    sk_text text = {0};
    if (!custom) return sk_fail_memory(err, "the model's card");
    sk_text_add(&text, "{\"do\":\"load\",\"onnx\":\"model.onnx\",\"target\":\"%s\",\"algorithm\":\"%s\","
                       "\"method\":\"%s\"",
                options->target, sk_rknn_algorithm_name(options->algorithm), options->by_layer ? "layer" : "channel");
    put_numbers(&text, "mean", card->mean);
    put_numbers(&text, "std", card->std);
    sk_text_add(&text, ",\"custom\":");
    sk_json_put_string(&text, custom);
    if (outputs) put_outputs(&text, outputs);
    sk_text_add(&text, "}");
    sk_status status = strlen(custom) > 1024 ? sk_fail(err, SK_ERR_UNSUPPORTED,
                                                       "the model's card takes %zu bytes, a .rknn has room for 1024: "
                                                       "shorten the names of the classes", strlen(custom))
                       : text.failed         ? sk_fail_memory(err, "a request")
                                             : sk_bridge_ask(job->bridge, text.data, NULL, 0, NULL, err);
    if (status == SK_OK)
        status = sk_bridge_ask(job->bridge, "{\"do\":\"build\",\"dataset\":\"calibration.txt\"}", NULL, 0, NULL, err);
    sk_text_free(&text);
    sk_free(custom);
    return status;
}

void sk_rknn_job_close(sk_rknn_job *job) {
    sk_bridge_close(job->bridge);
    sk_vendor_form_free(&job->form);
    char *temporary = job->folder ? sk_path_join(job->folder, "temporary") : NULL; /* the toolkit's own */
    if (temporary) sk_folder_remove(temporary, NULL);
    if (job->folder && !job->keep) sk_folder_remove(job->folder, NULL);
    sk_free(temporary);
    sk_free(job->folder);
    sk_free(job->dir);
    memset(job, 0, sizeof *job);
}
