/* SPDX-License-Identifier: Apache-2.0 */
/* The explanation as a table: order, names and the file. */
#include <stdlib.h>

#include "quant/quant.h"

static int by_divergence(const void *a, const void *b) {
    const sk_quant_layer *x = a, *y = b;
    if (x->divergence > y->divergence || x->divergence < y->divergence) {
        return x->divergence > y->divergence ? -1 : 1;
    }
    return x->index - y->index;
}

void sk_quant_layers_sort(sk_quant_layer *rows, size_t count) {
    qsort(rows, count, sizeof *rows, by_divergence);
}

void sk_quant_layers_free(sk_quant_layer *rows) {
    sk_free(rows);
}

sk_status sk_quant_layers_write(const char *dir, const sk_quant_layer *rows, size_t count, sk_error *err) {
    sk_text text = {0};
    sk_text_add(&text, "layer\tname\top\tlow\thigh\tequalised\tsnr_db\town_snr_db\tcosine\tclipped\tdivergence\tflips\t"
                       "accuracy_loss\n");
    for (size_t i = 0; i < count; i++) {
        const sk_quant_layer *r = &rows[i];
        sk_text_add(&text, "%d\t%s\t%s\t%.6g\t%.6g\t%d\t%.2f\t%.2f\t%.6f\t%.3g\t%.4g\t%.4f\t%.4f\n", r->index, r->name,
                    sk_op_name(r->op), (double)r->low, (double)r->high, r->equalised, r->snr, r->own_snr, r->cosine,
                    r->clipped, r->divergence, r->flips, r->accuracy_loss);
    }
    char *path = sk_path_join(dir, "layers.tsv");
    sk_status status = text.failed || !path ? sk_fail_memory(err, "the table of layers") : sk_make_dirs(dir, err);
    if (status == SK_OK) {
        status = sk_file_write(path, text.data, text.size, err);
    }
    sk_free(path);
    sk_text_free(&text);
    return status;
}
