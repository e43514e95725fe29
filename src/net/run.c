/* SPDX-License-Identifier: Apache-2.0 */
/* Inference with folded batch norm. A picture goes through the whole network in one set of buffers, and the expanded
 * rows of a block exist a band at a time, so that what a layer writes is still in cache when the next one reads it.
 * Threads take whole pictures; with fewer pictures than threads all of them form the team of one picture and share its
 * rows out. Every value is computed alike in any band and by any thread, and every sum has one order. */
#include <omp.h>
#include <string.h>

#include "net/runner.h"

/* What one thread of a team needs. Buffers are the team's but for those of `own`. */
typedef struct picture {
    sk_runner *r;
    int team, rank;
    sk_real *x, *out, *wide, *deep;              /* input and output of a block, expanded rows, depthwise rows */
    sk_real *row_means;                          /* [height][channels] */
    sk_real *scratch, *pooled, *squeezed, *gate; /* own; scratch is used before row_means, and may be the same */
    sk_net_tap tap;
    void *user;
} picture;

static picture open_picture(sk_runner *r, int slot, int team, int rank) {
    sk_real *shared = r->buffers + (size_t)slot * sk_run_slot(r);
    sk_real *own = r->buffers + (size_t)(slot + rank) * sk_run_slot(r) + SK_RUN_LARGE * r->large;

    return (picture){.r = r,
                     .team = team,
                     .rank = rank,
                     .x = shared,
                     .out = shared + r->large,
                     .wide = shared + 2 * r->large,
                     .deep = shared + 3 * r->large,
                     .row_means = shared + SK_RUN_LARGE * r->large,
                     .scratch = own,
                     .pooled = own + r->small - r->width,
                     .squeezed = own + r->small - 2 * r->width,
                     .gate = own + r->small - 3 * r->width};
}

/* All of the team have done their part of what came before. */
static void meet(const picture *p) {
    if (p->team == 1) return;
#pragma omp barrier
}

/* This thread's part of 0..count-1. */
static void share(const picture *p, int count, int *from, int *to) {
    *from = (int)((long)count * p->rank / p->team);
    *to = (int)((long)count * (p->rank + 1) / p->team);
}

static void tell(const picture *p, int layer, const sk_real *data) {
    const sk_layer *l = &p->r->net->layers[layer];

    if (p->tap) p->tap(p->user, (size_t)layer, data, 1, l->out_h, l->out_w, l->out_c);
}

/* `rows` pixels through a matrix layer. */
static void matrix(const picture *p, int layer, int rows, const sk_real *x, const sk_real *add, sk_real *y) {
    const sk_layer *l = &p->r->net->layers[layer];
    const sk_gemm g = {.m = rows,
                       .n = l->out_c,
                       .k = l->in_c,
                       .a = x,
                       .lda = l->in_c,
                       .packed = p->r->layers[layer].weight,
                       .bias = p->r->layers[layer].bias,
                       .add = add,
                       .act = l->act,
                       .c = y,
                       .ldc = l->out_c};

    if (rows) p->r->k->gemm(&g);
}

static void stem(const picture *p, const uint8_t *image) {
    const sk_layer *l = &p->r->net->layers[0];
    const sk_stem s = {.h = l->in_h,
                       .w = l->in_w,
                       .c = l->out_c,
                       .mean = p->r->mean,
                       .gain = p->r->gain,
                       .weight = p->r->layers[0].weight,
                       .bias = p->r->layers[0].bias,
                       .act = l->act};
    int from, to;

    share(p, l->out_h, &from, &to);
    p->r->k->stem_u8(&s, image, from, to, p->scratch, p->x + (ptrdiff_t)from * (l->out_w * l->out_c));
    meet(p);
    tell(p, 0, p->x);
}

/* ---- one block ---------------------------------------------------------------------------------------------- */
/* The expanded rows that exist: first..end-1, at `rows`. */
typedef struct band {
    const sk_real *rows;
    int first, end;
} band;

/* How many output rows of the depthwise layer a band serves: all of them if the expanded picture fits the cache, if
 * someone wants to see it, or if a team shares it. */
static int band_rows(const picture *p, const sk_block *b, const sk_dw *d) {
    const int fit = SK_RUN_BAND / (d->w * d->c), rows = (fit - d->kernel) / d->stride + 1;

    if (b->expand < 0 || p->tap || p->team > 1 || fit >= d->h) return d->oh;
    return rows < 2 ? 2 : rows;
}

/* Brings the band to what output rows oy..end-1 read: rows that stay move to the front, new ones are expanded. */
static void expand(const picture *p, const sk_block *b, const sk_dw *d, int oy, int end, band *have) {
    const int layer = p->r->net->units[b->expand].layer, in_c = p->r->net->layers[layer].in_c;
    const int first = oy * d->stride - d->pad > 0 ? oy * d->stride - d->pad : 0;
    const int want = (end - 1) * d->stride - d->pad + d->kernel, stop = want < d->h ? want : d->h;
    const size_t row = (size_t)d->w * (size_t)d->c;
    int from, to;

    if (have->end > first)
        memmove(p->wide, p->wide + (size_t)(first - have->first) * row,
                (size_t)(have->end - first) * row * sizeof *p->wide);
    else have->end = first;
    share(p, (stop - have->end) * d->w, &from, &to);
    matrix(p, layer, to - from, p->x + (size_t)(have->end * d->w + from) * (size_t)in_c, NULL,
           p->wide + (size_t)((have->end - first) * d->w + from) * (size_t)d->c);
    have->first = first;
    have->end = stop;
    meet(p);
    tell(p, layer, p->wide);
}

/* Pixels from..to-1 of the block's output from the depthwise rows at `deep`, which points at pixel `from`. */
static void project(const picture *p, const sk_block *b, int from, int to, const sk_real *deep) {
    const int layer = p->r->net->units[b->project].layer, c = p->r->net->layers[layer].out_c;
    const size_t at = (size_t)from * (size_t)c, size = (size_t)(to - from) * (size_t)c;
    const int fused = b->residual && !p->tap;

    matrix(p, layer, to - from, deep, fused ? p->x + at : NULL, p->out + at);
    tell(p, layer, p->out);
    if (b->residual && !fused) {
        p->r->k->add(size, p->out + at, p->x + at, p->out + at);
        tell(p, b->add_layer, p->out);
    }
}

/* Every thread of the team computes the gate, each scales and projects its pixels. */
static void squeeze(const picture *p, const sk_block *b, const sk_dw *d) {
    int from, to;

    p->r->k->pool(p->row_means, d->oh, d->c, p->pooled);
    tell(p, b->se_layer, p->pooled);
    matrix(p, b->se_layer + 1, 1, p->pooled, NULL, p->squeezed);
    tell(p, b->se_layer + 1, p->squeezed);
    matrix(p, b->se_layer + 2, 1, p->squeezed, NULL, p->gate);
    tell(p, b->se_layer + 2, p->gate);
    share(p, d->oh * d->ow, &from, &to);
    sk_real *deep = p->deep + (size_t)from * (size_t)d->c;
    p->r->k->scale(deep, to - from, d->c, p->gate, deep);
    tell(p, b->se_layer + 3, deep);
    project(p, b, from, to, deep);
}

/* Reads p->x, leaves the block's output there. */
static void block(picture *p, const sk_block *b) {
    const sk_kernels *k = p->r->k;
    const int layer = p->r->net->units[b->dw].layer;
    const sk_dw d = sk_unit_dw(&p->r->net->units[b->dw]);
    const size_t row = (size_t)d.ow * (size_t)d.c;
    const int step = band_rows(p, b, &d), whole = b->squeeze || step == d.oh;
    band have = {b->expand < 0 ? p->x : p->wide, 0, b->expand < 0 ? d.h : 0};

    for (int oy = 0; oy < d.oh; oy += step) {
        const int count = oy + step < d.oh ? step : d.oh - oy;
        int from, to;

        if (b->expand >= 0) expand(p, b, &d, oy, oy + count, &have);
        share(p, count, &from, &to);
        sk_real *deep = p->deep + (whole ? (size_t)(oy + from) * row : 0);
        k->dw_forward(&d, have.rows, have.first, p->r->layers[layer].weight, p->r->layers[layer].bias,
                      p->r->net->layers[layer].act, oy + from, oy + to, deep);
        tell(p, layer, deep);
        for (int y = from; b->squeeze && y < to; y++)
            k->pool(deep + (size_t)(y - from) * row, d.ow, d.c, p->row_means + (size_t)(oy + y) * (size_t)d.c);
        if (!b->squeeze) project(p, b, (oy + from) * d.ow, (oy + to) * d.ow, deep);
    }
    meet(p);
    if (b->squeeze) {
        squeeze(p, b, &d);
        meet(p);
    }
    sk_real *x = p->x;
    p->x = p->out;
    p->out = x;
}

/* ---- pictures ------------------------------------------------------------------------------------------------ */
/* One picture to its pooled features. */
static void run_picture(picture p, const uint8_t *image, sk_real *features) {
    const sk_net *net = p.r->net;
    const sk_unit *head = &net->units[net->head];
    const int rows = (int)sk_unit_rows(head);
    int from, to;

    stem(&p, image);
    for (int i = 0; i < net->block_count; i++) block(&p, &net->blocks[i]);
    share(&p, rows, &from, &to);
    matrix(&p, head->layer, to - from, p.x + (size_t)from * (size_t)head->in_c, NULL,
           p.wide + (size_t)from * (size_t)head->out_c);
    meet(&p);
    tell(&p, head->layer, p.wide);
    if (p.rank == 0) p.r->k->pool(p.wide, rows, net->features, features);
    tell(&p, net->pool_layer, features);
    meet(&p);
}

/* This thread's columns of a linear layer of the classifier, for `rows` pictures. */
static void linear(const picture *p, int layer, int rows, const sk_real *x, sk_real *y) {
    const sk_layer *l = &p->r->net->layers[layer];
    int from, to;

    share(p, (l->out_c + SK_GEMM_CUT - 1) / SK_GEMM_CUT, &from, &to);
    from *= SK_GEMM_CUT;
    to = to * SK_GEMM_CUT < l->out_c ? to * SK_GEMM_CUT : l->out_c;
    const sk_gemm g = {.m = rows,
                       .n = to - from,
                       .k = l->in_c,
                       .a = x,
                       .lda = l->in_c,
                       .packed = p->r->layers[layer].weight + (size_t)from * (size_t)l->in_c,
                       .bias = p->r->layers[layer].bias + from,
                       .act = l->act,
                       .c = y + from,
                       .ldc = l->out_c};

    if (from < to) p->r->k->gemm(&g);
    meet(p);
    tell(p, layer, y);
}

/* Up to SK_RUN_GROUP pictures; only their features are in r->features, or their logits are written too. */
static void run_group(sk_runner *r, const uint8_t *images, int n, int threads, sk_real *logits, sk_net_tap tap,
                      void *user) {
    const sk_net *net = r->net;
    const size_t size = (size_t)net->card.size * (size_t)net->card.size * 3, width = (size_t)net->features;

#pragma omp parallel num_threads(threads)
    {
        const int team = omp_get_num_threads(), rank = omp_get_thread_num();
        picture all = open_picture(r, 0, team, rank), alone = open_picture(r, rank, 1, 0);

        all.tap = alone.tap = tap;
        all.user = alone.user = user;
        if (n < team) {
            for (int i = 0; i < n; i++) run_picture(all, images + (size_t)i * size, r->features + (size_t)i * width);
        } else {
#pragma omp for schedule(dynamic, 1)
            for (int i = 0; i < n; i++) run_picture(alone, images + (size_t)i * size, r->features + (size_t)i * width);
        }
        if (logits) {
            linear(&all, net->pool_layer + 1, n, r->features, r->hidden);
            linear(&all, net->pool_layer + 2, n, r->hidden, logits);
        }
    }
}

int sk_run_threads(int n, int threads) {
    const int most = n > SK_RUN_TEAM ? n : SK_RUN_TEAM;

    return threads < most ? threads : most;
}

void sk_runner_run(sk_runner *r, const uint8_t *images, int n, int threads, sk_real *logits, sk_real *features,
                   sk_net_tap tap, void *tap_user) {
    const sk_net *net = r->net;
    const size_t image_size = (size_t)net->card.size * (size_t)net->card.size * 3, width = (size_t)net->features;
    const int used = tap ? 1 : sk_run_threads(n, threads < r->threads ? threads : r->threads);
    const int most = tap ? 1 : SK_RUN_GROUP;

    for (int i = 0; i < n; i += most) {
        const int count = n - i < most ? n - i : most;

        run_group(r, images + (size_t)i * image_size, count, used,
                  logits ? logits + (size_t)i * (size_t)net->classes : NULL, tap, tap_user);
        if (features) memcpy(features + (size_t)i * width, r->features, (size_t)count * width * sizeof *features);
    }
}
