/* SPDX-License-Identifier: Apache-2.0 */
/* log.tsv: one row per epoch. */
#include <stdio.h>
#include <string.h>

#include "train/run.h"

static const char log_head[] =
    "epoch\ttrain_loss\ttrain_accuracy\tval_loss\tval_accuracy\tlr\tbest\tseconds\timages_per_second\n";
/* Of runs before there were schedules. */
static const char log_head_1[] =
    "epoch\ttrain_loss\ttrain_accuracy\tval_loss\tval_accuracy\tbest\tseconds\timages_per_second\n";

void sk_run_log_text(const sk_epoch_log *log, size_t rows, sk_text *out) {
    sk_text_add(out, "%s", log_head);
    for (size_t i = 0; i < rows; i++)
        sk_text_add(out, "%d\t%.9g\t%.9g\t%.9g\t%.9g\t%.9g\t%d\t%.3f\t%.2f\n", log[i].epoch, log[i].train_loss,
                    log[i].train_accuracy, log[i].val_loss, log[i].val_accuracy, log[i].lr, log[i].is_best,
                    log[i].seconds, log[i].images_per_second);
}

static int parse_row(const char *text, int old, sk_epoch_log *row) {
    int at = 0;
    if (sscanf(text, "%d\t%lf\t%lf\t%lf\t%lf\t%n", &row->epoch, &row->train_loss, &row->train_accuracy, &row->val_loss,
               &row->val_accuracy, &at) != 5)
        return 0;
    text += at;
    if (!old && sscanf(text, "%lf\t%n", &row->lr, &at) != 1) return 0;
    if (!old) text += at;
    return sscanf(text, "%d\t%lf\t%lf", &row->is_best, &row->seconds, &row->images_per_second) == 3;
}

sk_status sk_run_log_parse(const char *text, const char *name, sk_epoch_log **log, size_t *rows, sk_error *err) {
    *log = NULL;
    *rows = 0;
    const int old = strncmp(text, log_head_1, sizeof log_head_1 - 1) == 0;
    if (!old && strncmp(text, log_head, sizeof log_head - 1) != 0)
        return sk_fail(err, SK_ERR_FORMAT, "%s is not the log of a training run", name);
    text += strcspn(text, "\n") + 1;
    while (*text) {
        sk_epoch_log row = {0};
        if (!parse_row(text, old, &row) || row.epoch != (int)*rows + 1) {
            sk_free(*log);
            *log = NULL;
            return sk_fail(err, SK_ERR_FORMAT, "%s is broken in row %zu", name, *rows + 1);
        }
        sk_epoch_log *grown = sk_realloc(*log, *rows, *rows + 1, sizeof **log);
        if (!grown) {
            sk_free(*log);
            *log = NULL;
            return sk_fail_memory(err, "the log");
        }
        *log = grown;
        grown[(*rows)++] = row;
        text += strcspn(text, "\n");
        text += *text == '\n';
    }
    return SK_OK;
}

sk_status sk_train_log_read(const char *run_dir, sk_epoch_log **log, size_t *epochs, sk_error *err) {
    uint8_t *bytes = NULL;
    size_t size = 0;
    *log = NULL;
    *epochs = 0;
    char *path = sk_path_join(run_dir, SK_RUN_LOG);
    if (!path) return sk_fail_memory(err, "a path");
    sk_status status = sk_file_read(path, &bytes, &size, err);
    if (status == SK_OK) status = sk_run_log_parse((const char *)bytes, path, log, epochs, err);
    sk_free(bytes);
    sk_free(path);
    return status;
}

void sk_train_log_free(sk_epoch_log *log) { sk_free(log); }
