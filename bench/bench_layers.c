/* SPDX-License-Identifier: Apache-2.0 */
/* Where a training step's time goes: each pass of the step with its milliseconds, share, GFLOP/s and GB/s, beside what
 * the machine can do. bench/layers runs it.
 *
 * FLOPs are those that the pass does, what it makes again included (2 per multiplication and addition of a matrix
 * product or depthwise convolution; batch norm and activations are not counted). Bytes are those that have to come
 * from memory or go there when the batch does not fit into the caches. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_peak.h"
#include "net/model.h"
#include "net/step.h"

enum { MAX_ROWS = 2 * SK_MAX_PASSES, MAX_STEPS = 64 };

typedef struct row {
    const sk_pass *pass;
    double work[MAX_STEPS], finish[MAX_STEPS]; /* seconds */
    int count;
} row;

typedef struct table {
    row rows[MAX_ROWS];
    int count, measuring;
} table;

static void on_pass(void *user, const sk_pass *pass, double work, double finish) {
    table *t = user;
    row *r = t->rows;
    if (!t->measuring) return;
    while (r < t->rows + t->count && r->pass != pass) r++;
    if (r == t->rows + t->count) *r = (row){.pass = pass}, t->count++;
    r->work[r->count] = work;
    r->finish[r->count++] = finish;
}

static int compare(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int count) {
    qsort(values, (size_t)count, sizeof *values, compare);
    return values[count / 2];
}

/* ---- work of a pass, per picture ----------------------------------------------------------------------------- */
typedef struct cost {
    double flops, values; /* values: that go through memory */
} cost;

static double weights(const sk_step *s, int unit) { return (double)s->net->params[s->net->units[unit].param].count; }

static double product(const sk_step *s, int unit) { /* FLOPs of one pass of a unit's convolution */
    return 2 * weights(s, unit) * (double)sk_unit_rows(&s->net->units[unit]);
}

static double size(const sk_step *s, int unit) { return (double)sk_unit_size(&s->net->units[unit]); }

static double input(const sk_step *s, int wide) { /* values of a wide unit's input; pictures are bytes */
    const sk_unit *u = &s->net->units[wide];
    const double side = (double)u->in_side;
    return wide ? side * side * u->in_c : side * side * 3 / (double)sizeof(sk_real);
}

static double scatter(const sk_step *s, int wide) { /* FLOPs of a product of a wide unit's input with itself */
    const sk_unit *u = &s->net->units[wide];
    const double depth = sk_step_depth(u);
    return 2 * depth * depth * (double)sk_unit_rows(u);
}

static cost forward_cost(const sk_step *s, const sk_pass *p) {
    const sk_net *net = s->net;
    const int wide = p->index <= net->block_count ? sk_step_wide(s, p->index) : 0;
    const sk_block *b = &net->blocks[p->index], *below = b - 1;
    const double kept = sk_step_keeps(s, wide) ? size(s, wide) : 0;
    if (!strcmp(p->what, "statistics")) {
        if (!p->index) return (cost){scatter(s, wide), input(s, wide)};
        return (cost){scatter(s, wide), size(s, below->project) * (below->residual ? 3 : 2)};
    }
    if (!strcmp(p->what, "depthwise"))
        return (cost){product(s, wide) + product(s, b->dw), input(s, wide) + kept + size(s, b->dw)};
    if (!strcmp(p->what, "project")) return (cost){product(s, b->project), size(s, b->dw) + size(s, b->project)};
    return (cost){product(s, wide), input(s, wide) + kept}; /* pool */
}

static cost backward_cost(const sk_step *s, const sk_pass *p) {
    const sk_net *net = s->net;
    const int wide = sk_step_wide(s, p->index), again = !sk_step_keeps(s, wide);
    const sk_block *b = &net->blocks[p->index], *below = b - 1;
    const double y = again ? 0 : size(s, wide), x = input(s, wide);
    if (!strcmp(p->what, "head")) {
        const double classifier = 6.0 * net->hidden * (net->features + net->classes);
        return (cost){2 * product(s, wide) + classifier, y + 2 * x};
    }
    if (!strcmp(p->what, "input")) return (cost){scatter(s, wide), 3 * x + size(s, below->project)};
    if (!strcmp(p->what, "project"))
        return (cost){2 * product(s, b->project), 2 * size(s, b->project) + 2 * size(s, b->dw)};
    return (cost){2 * product(s, b->dw) + (wide ? 2 + again : 1 + again) * product(s, wide),
                  2 * size(s, b->dw) + y + x + (wide ? x : 0) + (b->residual ? x : 0)};
}

/* ---- the table ----------------------------------------------------------------------------------------------- */
typedef struct setting {
    int batch, threads;
    double gflops, stream, step; /* step: median seconds */
} setting;

static int is_forward(const sk_step *s, const sk_pass *p) {
    return p >= s->forward && p < s->forward + s->forward_count;
}

static void print_row(const sk_step *s, row *r, const setting *set, int last) {
    const int forward = is_forward(s, r->pass);
    const cost c = forward ? forward_cost(s, r->pass) : backward_cost(s, r->pass);
    const double work = median(r->work, r->count), finish = median(r->finish, r->count);
    const double gflops = c.flops * set->batch / work / 1e9;
    const double bytes = c.values * sizeof(sk_real) * set->batch / work / 1e9;
    const char *layer = s->net->layers[s->net->units[r->pass->unit].layer].name;
    if (last >= 0) {
        printf("%s{\"layer\": \"%s\", \"pass\": \"%s\", \"direction\": \"%s\", \"ms\": %.3f, \"finish_ms\": %.3f, "
               "\"gflops\": %.1f, \"gbytes\": %.2f, \"share\": %.4f, \"of_fma\": %.3f, \"of_stream\": %.3f}",
               last ? ", " : "", layer, r->pass->what, forward ? "forward" : "backward", work * 1e3, finish * 1e3,
               gflops, bytes, (work + finish) / set->step, gflops / set->gflops, bytes / set->stream);
        return;
    }
    printf("%-22s %-8s %-10s %8.3f %7.3f %6.1f%% %8.1f %5.0f%% %8.2f %5.0f%%\n", layer,
           forward ? "forward" : "backward", r->pass->what, work * 1e3, finish * 1e3, 100 * (work + finish) / set->step,
           gflops, 100 * gflops / set->gflops, bytes, 100 * bytes / set->stream);
}

static void report(const sk_step *s, table *t, const setting *set) {
    double forward = 0, backward = 0, finish = 0, flops = 0, values = 0;
    printf("%-22s %-8s %-10s %8s %7s %7s %8s %6s %8s %6s\n", "layer", "", "pass", "ms", "+ends", "share", "GFLOP/s",
           "ofFMA", "GB/s", "ofMem");
    for (int i = 0; i < t->count; i++) {
        row *r = &t->rows[i];
        const cost c = is_forward(s, r->pass) ? forward_cost(s, r->pass) : backward_cost(s, r->pass);
        print_row(s, r, set, -1);
        *(is_forward(s, r->pass) ? &forward : &backward) += median(r->work, r->count);
        finish += median(r->finish, r->count);
        flops += c.flops * set->batch;
        values += c.values * set->batch;
    }
    printf("step %.1f ms: forward %.1f, backward %.1f, ends of passes %.1f, rest (packing, classifier's sums) %.1f\n",
           set->step * 1e3, forward * 1e3, backward * 1e3, finish * 1e3,
           (set->step - forward - backward - finish) * 1e3);
    printf("%s kernels, %d threads, batch %d: %.0f images/s, %.1f GFLOP/s of %.1f (FMA), %.1f GB/s of %.1f (stream)\n",
           s->k->name, set->threads, set->batch, set->batch / set->step, flops / set->step / 1e9, set->gflops,
           values * sizeof(sk_real) / set->step / 1e9, set->stream);
    printf("{\"bench\": \"layers\", \"model\": \"%s\", \"kernels\": \"%s\", \"batch\": %d, \"threads\": %d, "
           "\"step_ms\": %.2f, \"fma_gflops\": %.1f, \"stream_gbytes\": %.2f, \"ends_share\": %.4f, "
           "\"fma_ratio\": %.3f, \"stream_ratio\": %.3f, \"layers\": [",
           sk_arch_name(s->net->card.arch), s->k->name, set->batch, set->threads, set->step * 1e3, set->gflops,
           set->stream, finish / set->step, flops / set->step / 1e9 / set->gflops,
           values * sizeof(sk_real) / set->step / 1e9 / set->stream);
    for (int i = 0; i < t->count; i++) print_row(s, &t->rows[i], set, i);
    printf("]}\n");
}

static int say(const sk_error *err) {
    fprintf(stderr, "bench_layers: %s\n", err->message);
    return 1;
}

int main(int argc, char **argv) {
    setting set = {.batch = 128, .threads = 0};
    int steps = 9;
    sk_arch arch = SK_ARCH_V3_SMALL;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--batch")) set.batch = atoi(argv[i + 1]);
        if (!strcmp(argv[i], "--threads")) set.threads = atoi(argv[i + 1]);
        if (!strcmp(argv[i], "--steps")) steps = atoi(argv[i + 1]);
        if (!strcmp(argv[i], "--model") && !strcmp(argv[i + 1], "large")) arch = SK_ARCH_V3_LARGE;
    }
    if (set.batch < 1 || steps < 1 || steps > MAX_STEPS) {
        fprintf(stderr, "usage: bench_layers [--batch N] [--threads N] [--steps 1..%d] [--model small|large]\n",
                MAX_STEPS);
        return 2;
    }
    set.threads = sk_thread_count(set.threads);
    static table t;
    const sk_card card = sk_card_default(arch);
    const sk_step_options options = {.batch = set.batch, .threads = set.threads, .dropout = 0.2};
    const size_t bytes = (size_t)set.batch * (size_t)card.size * (size_t)card.size * 3;
    uint8_t *images = sk_alloc(bytes, 1);
    int *labels = sk_calloc((size_t)set.batch, sizeof *labels);
    double times[MAX_STEPS];
    sk_model *model = NULL;
    sk_step *s = NULL;
    sk_error err = {0};
    if (!images || !labels) return say(&err);
    for (size_t i = 0; i < bytes; i++) images[i] = (uint8_t)sk_hash64(i);
    for (int i = 0; i < set.batch; i++) labels[i] = i % 2;
    if (sk_model_create(&card, 1, &model, &err) != SK_OK) return say(&err);
    if (sk_step_create(sk_model_net(model), &options, &s, &err) != SK_OK) return say(&err);
    s->on_pass = on_pass;
    s->on_pass_user = &t;
    set.gflops = bench_peak_gflops(s->k->name, set.threads);
    set.stream = bench_peak_stream(set.threads);
    for (int i = -1; i < steps; i++) {
        const double start = sk_now();
        double loss;
        t.measuring = i >= 0;
        if (sk_step_run(s, images, labels, set.batch, (uint64_t)(i + 1), &loss, NULL, &err) != SK_OK) return say(&err);
        if (i >= 0) times[i] = sk_now() - start;
    }
    set.step = median(times, steps);
    report(s, &t, &set);
    sk_step_free(s);
    sk_model_free(model);
    sk_free(images);
    sk_free(labels);
    return 0;
}
