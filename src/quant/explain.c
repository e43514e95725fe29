/* SPDX-License-Identifier: Apache-2.0 */
/* Which layer is to blame: every layer's output against the float network's, with all layers before it in int8, with it
 * alone in int8, and what it alone does to the verdicts. Pictures are taken a few at a time; each has its tensors of
 * the float network, and a second set for what follows a single int8 layer. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "quant/quant.h"

enum { CHUNK = 8 };

/* Of one layer and picture. */
typedef struct cell {
    double signal, noise, own_noise, product, coded; /* sums of squares, of float times int8, of int8 squared */
    double clipped, divergence;
    int flip, right;
} cell;

typedef struct explainer {
    const sk_quant_job *job;
    const sk_quant_pictures *pictures;
    sk_walk *together, *alone;
    sk_float_run base[CHUNK], after[CHUNK];
    float **own[CHUNK];   /* the second set's own tensors: `after` borrows those of `base` that a layer leaves alone */
    int first, count;     /* pictures of this chunk */
    size_t layer;
    cell *cells;          /* [layers][pictures] */
    int *float_right;     /* per picture */
} explainer;

static float factor_of(const sk_quant_job *j, int layer, size_t value) {
    if (layer < 0 || !j->equal[layer]) {
        return 1;
    }
    return j->equal[layer][value % (size_t)j->net->layers[layer].out_c];
}

static size_t values_of(const sk_quant_job *j, int layer) {
    return layer < 0 ? (size_t)j->net->card->size * (size_t)j->net->card->size * 3
                     : sk_layer_values(&j->net->layers[layer]);
}

/* Codes of a float tensor where the walk expects those of layer `layer`. */
static void encode(const explainer *e, int layer, int p) {
    const double scale = sk_walk_scale(e->alone, layer);
    const int zero = sk_walk_zero(e->alone, layer);
    const float *from = e->base[p].tensor[layer + 1];
    int8_t *to = sk_walk_tensor(e->alone, layer, p);
    const int int16 = sk_walk_int16(e->alone, layer);
    for (size_t i = 0; i < values_of(e->job, layer); i++) {
        const double code = floor((double)from[i] / ((double)factor_of(e->job, layer, i) * scale) + 0.5) + zero;
        if (int16) {
            ((int16_t *)(void *)to)[i] = (int16_t)fmin(fmax(code, INT16_MIN), INT16_MAX);
        } else {
            to[i] = (int8_t)fmin(fmax(code, -128), 127);
        }
    }
}

/* Differences of a walk's tensor from the float one; `decoded` (may be NULL) gets its real values. */
static void measure(const explainer *e, const sk_walk *walk, int p, cell *out, int own, float *decoded) {
    const int layer = (int)e->layer, zero = sk_walk_zero(walk, layer);
    const int int16 = sk_walk_int16(walk, layer);
    const double scale = sk_walk_scale(walk, layer), low = ((int16 ? INT16_MIN : -128) - zero) * scale;
    const double high = ((int16 ? INT16_MAX : 127) - zero) * scale;
    const float *wanted = e->base[p].tensor[layer + 1];
    const int8_t *codes = sk_walk_tensor(walk, layer, p);
    const size_t values = values_of(e->job, layer);
    for (size_t i = 0; i < values; i++) {
        const double factor = (double)factor_of(e->job, layer, i);
        const double real = (sk_code_at(codes, int16, i) - zero) * scale * factor;
        const double x = (double)wanted[i], off = real - x;
        if (own) {
            out->own_noise += off * off;
        } else {
            out->signal += x * x;
            out->noise += off * off;
            out->product += real * x;
            out->coded += real * real;
            out->clipped += x < (low - scale / 2) * factor || x > (high + scale / 2) * factor;
        }
        if (decoded) {
            decoded[i] = (float)real;
        }
    }
    out->clipped = own ? out->clipped : out->clipped / (double)values;
}

static sk_status run_float(void *user, int p, sk_error *err) {
    explainer *e = user;
    (void)err;
    sk_float_run_picture(e->job->floats, &e->base[p],
                         e->pictures->bytes + e->pictures->picture_bytes * (size_t)(e->first + p));
    for (size_t i = 0; i < e->job->net->count; i++) {
        sk_float_run_layer(e->job->floats, &e->base[p], i);
    }
    return SK_OK;
}

static int largest(const float *logits, int classes) {
    int best = 0;
    for (int c = 1; c < classes; c++) {
        best = logits[c] > logits[best] ? c : best;
    }
    return best;
}

/* Kullback-Leibler divergence of softmax(b / t) from softmax(a / t). */
static double divergence(const float *a, const float *b, int classes, double t) {
    double sum_a = 0, sum_b = 0, sum = 0;
    const double most_a = (double)a[largest(a, classes)], most_b = (double)b[largest(b, classes)];
    for (int c = 0; c < classes; c++) {
        sum_a += exp(((double)a[c] - most_a) / t);
        sum_b += exp(((double)b[c] - most_b) / t);
    }
    for (int c = 0; c < classes; c++) {
        const double log_a = ((double)a[c] - most_a) / t - log(sum_a), log_b = ((double)b[c] - most_b) / t - log(sum_b);
        sum += exp(log_a) * (log_a - log_b);
    }
    return fmax(sum, 0);
}

/* The float network behind the one int8 layer. */
static sk_status follow(void *user, int p, sk_error *err) {
    explainer *e = user;
    const sk_quant_net *net = e->job->net;
    cell *out = &e->cells[e->layer * (size_t)e->pictures->count + (size_t)(e->first + p)];
    sk_float_run *run = &e->after[p];
    char changed[512] = {0};
    (void)err;
    for (size_t i = 0; i <= net->count; i++) {
        run->tensor[i] = e->base[p].tensor[i];
    }
    run->tensor[e->layer + 1] = e->own[p][e->layer + 1];
    changed[e->layer] = 1;
    measure(e, e->alone, p, out, 1, run->tensor[e->layer + 1]);
    for (size_t i = e->layer + 1; i < net->count; i++) {
        const sk_layer *l = &net->layers[i];
        changed[i] = (l->input >= 0 && changed[l->input]) || (sk_layer_reads_two(l) && changed[l->input2]);
        if (changed[i]) {
            run->tensor[i + 1] = e->own[p][i + 1];
            sk_float_run_layer(e->job->floats, run, i);
        }
    }
    const int classes = net->card->classes;
    const float *a = e->base[p].tensor[net->count], *b = run->tensor[net->count];
    const int label = e->pictures->labels[e->first + p];
    out->divergence = divergence(a, b, classes, (double)net->card->temperature);
    out->flip = largest(a, classes) != largest(b, classes);
    out->right = largest(b, classes) == label;
    e->float_right[e->first + p] = largest(a, classes) == label;
    return SK_OK;
}

static sk_status explain_layer(explainer *e) {
    const sk_quant_job *j = e->job;
    const sk_layer *l = &j->net->layers[e->layer];
    const int threads = j->threads;
    for (int p = 0; p < e->count; p++) {
        encode(e, l->input, p);
        if (sk_layer_reads_two(l)) {
            encode(e, l->input2, p);
        }
    }
    sk_status status = sk_walk_layer(e->together, e->layer, j->err);
    if (status == SK_OK) {
        status = sk_walk_layer(e->alone, e->layer, j->err);
    }
    for (int p = 0; status == SK_OK && p < e->count; p++) {
        measure(e, e->together, p, &e->cells[e->layer * (size_t)e->pictures->count + (size_t)(e->first + p)], 0, NULL);
    }
    return status == SK_OK ? sk_parallel(0, e->count, threads, follow, e, j->err) : status;
}

static sk_status explain_chunk(explainer *e) {
    const sk_quant_job *j = e->job;
    const uint8_t *pictures = e->pictures->bytes + e->pictures->picture_bytes * (size_t)e->first;
    sk_status status = sk_parallel(0, e->count, j->threads, run_float, e, j->err);
    if (status == SK_OK) {
        status = sk_walk_create(j->bytes, pictures, e->count, j->threads, &e->together, j->err);
    }
    if (status == SK_OK) {
        status = sk_walk_create(j->bytes, pictures, e->count, j->threads, &e->alone, j->err);
    }
    for (e->layer = 0; status == SK_OK && e->layer < j->net->count; e->layer++) {
        status = sk_cancelled(j->hooks) ? sk_fail(j->err, SK_ERR_CANCELLED, "quantisation was stopped")
                                        : explain_layer(e);
        sk_progress(j->hooks, "explanation", "layers", (uint64_t)e->first / CHUNK * j->net->count + e->layer + 1,
                    (uint64_t)((e->pictures->count + CHUNK - 1) / CHUNK) * j->net->count);
    }
    sk_walk_free(e->together);
    sk_walk_free(e->alone);
    e->together = e->alone = NULL;
    return status;
}

static void summarise(const explainer *e, sk_quant_layer *rows) {
    const sk_quant_job *j = e->job;
    const int n = e->pictures->count;
    for (size_t i = 0; i < j->net->count; i++) {
        const sk_layer *l = &j->net->layers[i];
        sk_quant_layer *row = &rows[i];
        double signal = 0, noise = 0, own_noise = 0;
        *row = (sk_quant_layer){.index = (int)i, .op = l->op, .act = l->act, .low = j->range[i][0],
                                .high = j->range[i][1], .equalised = j->equal[i] != NULL};
        snprintf(row->name, sizeof row->name, "%s", l->name);
        for (int p = 0; p < n; p++) {
            const cell *c = &e->cells[i * (size_t)n + (size_t)p];
            signal += c->signal;
            noise += c->noise;
            own_noise += c->own_noise;
            row->cosine += (c->signal > 0 && c->coded > 0 ? c->product / sqrt(c->signal * c->coded)
                                                          : !(c->signal > 0) && !(c->coded > 0)) / n;
            row->clipped += c->clipped / n;
            row->divergence += c->divergence / n;
            row->flips += (double)c->flip / n;
            row->accuracy_loss += (double)(e->float_right[p] - c->right) / n;
        }
        row->snr = 10 * log10(fmax(signal, 1e-30) / fmax(noise, 1e-30));
        row->own_snr = 10 * log10(fmax(signal, 1e-30) / fmax(own_noise, 1e-30));
    }
}

static sk_status open_runs(explainer *e) {
    const sk_quant_job *j = e->job;
    sk_status status = SK_OK;
    for (int p = 0; status == SK_OK && p < CHUNK && p < e->pictures->count; p++) {
        status = sk_float_run_create(j->floats, &e->base[p], j->err);
        if (status == SK_OK) {
            status = sk_float_run_create(j->floats, &e->after[p], j->err);
        }
        if (status == SK_OK && !(e->own[p] = sk_alloc(j->net->count + 1, sizeof **e->own))) {
            status = sk_fail_memory(j->err, "the explanation");
        }
        if (status == SK_OK) {
            memcpy(e->own[p], e->after[p].tensor, (j->net->count + 1) * sizeof **e->own);
        }
    }
    return status;
}

sk_status sk_quant_explain(const sk_quant_job *j, const sk_quant_pictures *pictures, sk_quant_layer **out) {
    const size_t n = j->net->count, count = (size_t)pictures->count;
    explainer e = {.job = j, .pictures = pictures, .cells = sk_calloc(n * count, sizeof *e.cells),
                   .float_right = sk_calloc(count, sizeof *e.float_right)};
    sk_quant_layer *rows = sk_calloc(n, sizeof *rows);
    sk_status status = e.cells && e.float_right && rows ? open_runs(&e) : sk_fail_memory(j->err, "the explanation");
    for (e.first = 0; status == SK_OK && e.first < pictures->count; e.first += CHUNK) {
        e.count = pictures->count - e.first < CHUNK ? pictures->count - e.first : CHUNK;
        status = explain_chunk(&e);
    }
    if (status == SK_OK) {
        summarise(&e, rows);
        *out = rows;
    } else {
        sk_free(rows);
    }
    for (int p = 0; p < CHUNK; p++) {
        sk_float_run_free(&e.base[p]);
        sk_float_run_free(&e.after[p]);
        sk_free(e.own[p]);
    }
    sk_free(e.cells);
    sk_free(e.float_right);
    return status;
}
