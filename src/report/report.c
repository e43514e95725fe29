/* SPDX-License-Identifier: Apache-2.0 */
/* Gathers what an evaluation says and writes its folder. Figures come first and report.html last, so that a report that
 * is there is whole. */
#include <math.h>
#include <string.h>

#include "report/page.h"

enum { SHEET_PICTURES = 200 };

sk_status sk_page_make(const sk_page_input *input, sk_page *page, sk_error *err) {
    *page = (sk_page){.in = input, .kl = NAN};
    page->metrics = sk_evaluation_metrics(input->evaluation);
    page->reliability.temperature = (double)input->card.temperature;
    page->reliability.calibration = sk_evaluation_calibration(input->evaluation, 1);
    page->reliability.uncalibrated = sk_evaluation_calibration(input->evaluation, page->reliability.temperature);
    sk_status status = sk_evaluation_slices(input->evaluation, 0, &page->sources, &page->source_count, err);
    if (!status) status = sk_evaluation_slices(input->evaluation, 1, &page->groups, &page->group_count, err);
    if (!status) status = sk_evaluation_wrong(input->evaluation, &page->wrong, &page->wrong_count, err);
    if (!status) status = sk_roc_make(input->evaluation, &page->roc, err);
    if (!status && input->other) {
        page->other_metrics = sk_evaluation_metrics(input->other);
        status = sk_evaluation_compare(input->evaluation, input->other, &page->comparison, err);
        if (!status)
            status = sk_evaluation_compare_sources(input->evaluation, input->other, &page->compared,
                                                   &page->compared_count, err);
    }
    return status;
}

void sk_page_free(sk_page *page) {
    sk_slices_free(page->sources);
    sk_slices_free(page->groups);
    sk_compared_free(page->compared);
    sk_wrong_free(page->wrong);
    sk_roc_free(&page->roc);
    sk_free(page->curves.numbers);
    sk_free(page->points);
    *page = (sk_page){0};
}

static sk_status add_curves(sk_page *page, sk_error *err) {
    sk_epoch_log *log = NULL;
    size_t epochs = 0;
    sk_status status = sk_train_log_read(page->in->run_dir, &log, &epochs, err);
    if (!status) status = sk_curves_make(log, epochs, &page->curves, err);
    sk_train_log_free(log);
    return status;
}

static sk_status add_tsne(sk_page *page, const sk_hooks *hooks, sk_error *err) {
    const sk_evaluation *e = page->in->evaluation;
    page->points = sk_alloc(e->n ? e->n : 1, 2 * sizeof(float));
    if (!page->points) return sk_fail_memory(err, "the t-SNE map");
    return sk_tsne(e->features, e->n, e->feature_count, &page->in->tsne, hooks, page->points, &page->kl, err);
}

static sk_status write_figure(const char *dir, const char *name, const sk_figure *figure, sk_error *err) {
    char *path = sk_path_join(dir, name);
    const sk_status status = path ? sk_figure_write(path, figure, err) : sk_fail_memory(err, "a file name");
    sk_free(path);
    return status;
}

static sk_status write_text(const char *dir, const char *name, const sk_text *text, sk_error *err) {
    if (text->failed) return sk_fail_memory(err, name);
    char *path = sk_path_join(dir, name);
    const sk_status status =
        path ? sk_file_write(path, text->data, text->size, err) : sk_fail_memory(err, "a file name");
    sk_free(path);
    return status;
}

static sk_status write_confusion(const char *dir, const char *name, const char *title, const sk_metrics *metrics,
                                 sk_error *err) {
    sk_confusion confusion = {.title = title};
    memcpy(confusion.counts, metrics->confusion, sizeof confusion.counts);
    const sk_figure figure = sk_confusion_figure(&confusion);
    return write_figure(dir, name, &figure, err);
}

static sk_status write_figures(const char *dir, const sk_page *page, sk_error *err) {
    const sk_page_input *in = page->in;
    const sk_figure roc = sk_roc_figure(&page->roc), histogram = sk_histogram_figure(&page->roc);
    const sk_figure reliability = sk_reliability_figure(&page->reliability);
    sk_status status = write_confusion(dir, "confusion", "Confusion matrix", &page->metrics, err);
    if (!status && in->other)
        status =
            write_confusion(dir, "confusion_other", "Confusion matrix of the second model", &page->other_metrics, err);
    if (!status) status = write_figure(dir, "roc", &roc, err);
    if (!status) status = write_figure(dir, "histogram", &histogram, err);
    if (!status) status = write_figure(dir, "reliability", &reliability, err);
    if (!status && page->curves.n) {
        const sk_figure curves = sk_curves_figure(&page->curves);
        status = write_figure(dir, "curves", &curves, err);
    }
    if (!status && page->points) {
        const sk_tsne_map map = {"t-SNE of the pooled features", page->points, in->evaluation, in->pictures};
        const sk_figure figure = sk_tsne_figure(&map);
        status = write_figure(dir, "tsne", &figure, err);
    }
    return status;
}

static sk_status write_looks(const char *dir, const sk_page *page, sk_error *err) {
    static const char *const names[SK_LOOK_LISTS] = {"saliency_certain", "saliency_uncertain", "saliency_wrong"};
    static const char *const titles[SK_LOOK_LISTS] = {"What the model looked at: certain and right",
                                                      "What the model looked at: uncertain and right",
                                                      "What the model looked at: wrong"};
    sk_status status = SK_OK;
    for (int i = 0; i < SK_LOOK_LISTS && !status; i++) {
        sk_saliency_picture *pictures = NULL;
        size_t count = 0;
        status = sk_looks_pictures(page->in->evaluation, page->in->looks, (sk_look_list)i, &pictures, &count, err);
        const sk_saliency_sheet sheet = {titles[i], pictures, count < SK_SHEET_MOST ? count : SK_SHEET_MOST};
        const sk_figure figure = sk_saliency_figure(&sheet);
        if (!status) status = write_figure(dir, names[i], &figure, err);
        sk_free(pictures);
    }
    return status;
}

static sk_status write_sheet(const char *dir, const sk_page *page, sk_error *err) {
    const sk_wrong_sheet sheet = {.evaluation = page->in->evaluation,
                                  .list = page->wrong,
                                  .count = page->wrong_count,
                                  .shown = page->wrong_count < SHEET_PICTURES ? page->wrong_count : SHEET_PICTURES,
                                  .pictures = page->in->pictures};
    char *path = sk_path_join(dir, "wrong");
    const sk_status status = path ? sk_wrong_write(path, &sheet, err) : sk_fail_memory(err, "a file name");
    sk_free(path);
    return status;
}

static sk_status write_documents(const char *dir, const sk_page *page, sk_error *err) {
    sk_text text = {0};
    sk_page_json(page, &text);
    sk_status status = write_text(dir, "evaluation.json", &text, err);
    sk_text_free(&text);
    if (status) return status;
    text = (sk_text){0};
    status = sk_page_html(page, &text, err);
    if (!status) status = write_text(dir, "report.html", &text, err);
    sk_text_free(&text);
    return status;
}

sk_status sk_page_write(const char *dir, const sk_page_input *input, const sk_hooks *hooks, sk_error *err) {
    sk_page page;
    sk_status status = sk_page_make(input, &page, err);
    if (!status) status = sk_make_dirs(dir, err); /* before the long work, which would be lost */
    if (!status && input->run_dir) status = add_curves(&page, err);
    if (!status && input->evaluation->features) status = add_tsne(&page, hooks, err);
    if (!status) status = write_figures(dir, &page, err);
    if (!status) status = write_sheet(dir, &page, err);
    if (!status && input->looks) status = write_looks(dir, &page, err);
    if (!status) status = write_documents(dir, &page, err);
    sk_page_free(&page);
    return status;
}

/* ---- public ------------------------------------------------------------------------------------------------------ */

static void gather(const sk_evaluation *evaluation, const sk_classifier *classifier, const sk_dataset *dataset,
                   const sk_cache *cache, const sk_report_options *options, sk_page_input *in) {
    *in = (sk_page_input){.evaluation = evaluation,
                          .other = options->other,
                          .looks = options->looks,
                          .shortcuts = options->shortcuts,
                          .other_name = options->other_name,
                          .model_path = options->model_path ? options->model_path : "model",
                          .card = *sk_classifier_card(classifier),
                          .is_int8 = sk_classifier_is_int8(classifier),
                          .feature_count = sk_classifier_feature_count(classifier),
                          .dataset_dir = sk_dataset_dir(dataset),
                          .pictures = sk_pictures_of_cache(cache),
                          .run_dir = options->run_dir,
                          .tsne = options->tsne};
    for (size_t i = 0; i < sk_dataset_size(dataset); i++) {
        const sk_sample *sample = sk_dataset_sample(dataset, i);
        in->dataset_counts[sample->split][sample->label + 1]++;
    }
}

sk_status sk_report_write(const char *dir, const sk_evaluation *evaluation, sk_classifier *classifier,
                          const sk_dataset *dataset, const sk_cache *cache, const sk_report_options *options,
                          const sk_hooks *hooks, sk_error *err) {
    sk_page_input input;
    gather(evaluation, classifier, dataset, cache, options, &input);
    return sk_page_write(dir, &input, hooks, err);
}

sk_status sk_report_json(const sk_evaluation *evaluation, sk_classifier *classifier, const sk_dataset *dataset,
                         const sk_report_options *options, uint8_t **bytes, size_t *size, sk_error *err) {
    sk_page_input input;
    sk_page page;
    sk_text text = {0};
    *bytes = NULL;
    *size = 0;
    gather(evaluation, classifier, dataset, NULL, options, &input);
    sk_status status = sk_page_make(&input, &page, err);
    if (!status) {
        sk_page_json(&page, &text);
        if (text.failed) status = sk_fail_memory(err, "the JSON document");
    }
    sk_page_free(&page);
    if (status) {
        sk_text_free(&text);
        return status;
    }
    *bytes = (uint8_t *)text.data;
    *size = text.size;
    return SK_OK;
}
