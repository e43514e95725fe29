/* SPDX-License-Identifier: Apache-2.0 */
/* Inference with folded batch norm. A picture goes through the whole network in one thread's buffers, so that what a
 * layer writes is still in cache when the next one reads it; pictures are what runs in parallel. */
#include <omp.h>
#include <string.h>

#include "net/net.h"

enum { BUFFERS = 5, STEM_ROWS = 8, STEM_LD = 28 };

typedef struct packed_layer {
    sk_real *weight, *bias; /* into runner->packs */
} packed_layer;

struct sk_runner {
    const sk_net *net;
    const sk_kernels *k;
    int threads;
    sk_real lut[3 * 256];
    packed_layer layers[SK_MAX_LAYERS];
    sk_real *packs;
    double *fold; /* one layer's folded weights */
    sk_real *fold_real;
    size_t buffer_size; /* values of one buffer */
    sk_real *buffers;   /* [threads][BUFFERS][buffer_size] */
};

static size_t round_up(size_t count) { return (count + 15) / 16 * 16; }

static size_t pack_size(const sk_runner *r, int index) {
    const sk_layer *layer = &r->net->layers[index];
    const size_t count = sk_net_weight_count(r->net, index);

    if (!count) return 0;
    if (layer->op == SK_OP_DEPTHWISE) return round_up(count);
    return round_up(r->k->gemm_pack_size(layer->out_c, (int)(count / (size_t)layer->out_c)));
}

static size_t largest_buffer(const sk_net *net) {
    size_t most = (size_t)net->units[0].out_side * STEM_ROWS * STEM_LD;

    for (int i = 0; i < net->layer_count; i++) {
        const size_t size = (size_t)net->layers[i].out_h * (size_t)net->layers[i].out_w * (size_t)net->layers[i].out_c;

        most = size > most ? size : most;
    }
    return round_up(most);
}

sk_status sk_runner_create(const sk_net *net, int threads, sk_runner **out, sk_error *err) {
    sk_runner *r = sk_calloc(1, sizeof *r);
    size_t total = 0, most = 0;

    *out = NULL;
    if (!r) return sk_fail_memory(err, "inference");
    r->net = net;
    r->k = sk_kernels_get();
    r->threads = sk_thread_count(threads);
    for (int i = 0; i < net->layer_count; i++) {
        const size_t count = sk_net_weight_count(net, i);

        most = count > most ? count : most;
        total += pack_size(r, i) + round_up((size_t)net->layers[i].out_c);
    }
    r->buffer_size = largest_buffer(net);
    r->packs = sk_alloc(total, sizeof *r->packs);
    r->fold = sk_alloc(most, sizeof *r->fold);
    r->fold_real = sk_alloc(most, sizeof *r->fold_real);
    r->buffers = sk_alloc((size_t)r->threads * BUFFERS * r->buffer_size, sizeof *r->buffers);
    if (!r->packs || !r->fold || !r->fold_real || !r->buffers) {
        sk_runner_free(r);
        return sk_fail_memory(err, "inference");
    }
    for (size_t at = 0, i = 0; i < (size_t)net->layer_count; i++) {
        r->layers[i].weight = r->packs + at;
        at += pack_size(r, (int)i);
        r->layers[i].bias = r->packs + at;
        at += round_up((size_t)net->layers[i].out_c);
    }
    *out = r;
    return sk_runner_update(r, err);
}

void sk_runner_free(sk_runner *r) {
    if (!r) return;
    sk_free(r->packs);
    sk_free(r->fold);
    sk_free(r->fold_real);
    sk_free(r->buffers);
    sk_free(r);
}

int sk_runner_threads(const sk_runner *r) { return r->threads; }

sk_status sk_runner_update(sk_runner *r, sk_error *err) {
    (void)err;
    sk_net_lut(&r->net->card, r->lut);
    for (int i = 0; i < r->net->layer_count; i++) {
        const sk_layer *layer = &r->net->layers[i];
        const size_t count = sk_net_weight_count(r->net, i);
        const int k = (int)(count / (size_t)layer->out_c);

        if (!count) continue;
        sk_net_folded(r->net, i, r->fold, NULL);
        for (size_t j = 0; j < count; j++) r->fold_real[j] = (sk_real)r->fold[j];
        if (layer->op == SK_OP_DEPTHWISE) sk_net_pack_dw(r->fold_real, layer->out_c, k, r->layers[i].weight);
        else r->k->gemm_pack(r->layers[i].weight, layer->out_c, k, r->fold_real, k, 1);
        sk_net_folded(r->net, i, NULL, r->fold); /* a weight has at least as many values as its bias */
        for (int j = 0; j < layer->out_c; j++) r->layers[i].bias[j] = (sk_real)r->fold[j];
    }
    return SK_OK;
}

/* ---- one picture ---------------------------------------------------------------------------------------- */
typedef struct picture {
    sk_runner *r;
    sk_real *buffer[BUFFERS];
    sk_net_tap tap;
    void *user;
} picture;

static void tell(const picture *p, int layer, const sk_real *data) {
    const sk_layer *l = &p->r->net->layers[layer];

    if (p->tap) p->tap(p->user, (size_t)layer, data, 1, l->out_h, l->out_w, l->out_c);
}

static void matrix(const picture *p, int layer, const sk_real *x, const sk_real *add, sk_real *y) {
    const sk_layer *l = &p->r->net->layers[layer];
    const sk_gemm g = {.m = l->out_h * l->out_w,
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

    p->r->k->gemm(&g);
    if (!add) tell(p, layer, y);
}

static void stem(const picture *p, const uint8_t *image, sk_real *scratch, sk_real *y) {
    const sk_runner *r = p->r;
    const sk_layer *l = &r->net->layers[0];

    for (int row = 0; row < l->out_h; row += STEM_ROWS) {
        const int end = row + STEM_ROWS < l->out_h ? row + STEM_ROWS : l->out_h;
        const sk_gemm g = {.m = (end - row) * l->out_w,
                           .n = l->out_c,
                           .k = 27,
                           .a = scratch,
                           .lda = STEM_LD,
                           .packed = r->layers[0].weight,
                           .bias = r->layers[0].bias,
                           .act = l->act,
                           .c = y + (size_t)row * (size_t)(l->out_w * l->out_c),
                           .ldc = l->out_c};

        r->k->im2col_u8(image, l->in_h, l->in_w, r->lut, row, end, scratch, STEM_LD);
        r->k->gemm(&g);
    }
    tell(p, 0, y);
}

/* Reads buffer 0, leaves the block's output there. */
static void block(picture *p, const sk_block *b) {
    const sk_kernels *k = p->r->k;
    const sk_net *net = p->r->net;
    const sk_unit *dw = &net->units[b->dw], *project = &net->units[b->project];
    const sk_dw d = sk_unit_dw(dw);
    sk_real *x = p->buffer[0], *wide = x, *deep = p->buffer[2], *out = p->buffer[3], *gate = p->buffer[4];
    const int rows = (int)sk_unit_rows(dw), fused = b->residual && !p->tap;

    if (b->expand >= 0) {
        wide = p->buffer[1];
        matrix(p, net->units[b->expand].layer, x, NULL, wide);
    }
    k->dw_forward(&d, wide, 0, p->r->layers[dw->layer].weight, p->r->layers[dw->layer].bias, dw->act, 0, d.oh, deep);
    tell(p, dw->layer, deep);
    if (b->squeeze) {
        sk_real *pooled = gate + round_up((size_t)d.c), *squeezed = pooled + round_up((size_t)d.c);

        k->pool(deep, rows, d.c, pooled);
        tell(p, b->se_layer, pooled);
        matrix(p, b->se_layer + 1, pooled, NULL, squeezed);
        matrix(p, b->se_layer + 2, squeezed, NULL, gate);
        k->scale(deep, rows, d.c, gate, deep);
        tell(p, b->se_layer + 3, deep);
    }
    matrix(p, project->layer, deep, fused ? x : NULL, out);
    if (b->residual && !fused) {
        k->add(sk_unit_size(project), out, x, out);
        tell(p, b->add_layer, out);
    }
    p->buffer[0] = out;
    p->buffer[3] = x;
}

static void run_picture(sk_runner *r, const uint8_t *image, sk_real *buffers, sk_real *logits, sk_real *features,
                        sk_net_tap tap, void *user) {
    const sk_net *net = r->net;
    const sk_unit *head = &net->units[net->head];
    picture p = {.r = r, .tap = tap, .user = user};

    for (int i = 0; i < BUFFERS; i++) p.buffer[i] = buffers + (size_t)i * r->buffer_size;
    stem(&p, image, p.buffer[1], p.buffer[0]);
    for (int i = 0; i < net->block_count; i++) block(&p, &net->blocks[i]);
    matrix(&p, head->layer, p.buffer[0], NULL, p.buffer[1]);
    r->k->pool(p.buffer[1], (int)sk_unit_rows(head), net->features, p.buffer[4]);
    tell(&p, net->pool_layer, p.buffer[4]);
    if (features) memcpy(features, p.buffer[4], (size_t)net->features * sizeof *features);
    if (!logits) return;
    matrix(&p, net->pool_layer + 1, p.buffer[4], NULL, p.buffer[2]);
    matrix(&p, net->pool_layer + 2, p.buffer[2], NULL, logits);
}

void sk_runner_run(sk_runner *r, const uint8_t *images, int n, int threads, sk_real *logits, sk_real *features,
                   sk_net_tap tap, void *tap_user) {
    const sk_net *net = r->net;
    const size_t image_size = (size_t)net->card.size * (size_t)net->card.size * 3;
    const int limit = tap ? 1 : threads < r->threads ? threads : r->threads, used = limit < n ? limit : n > 0 ? n : 1;

#pragma omp parallel for num_threads(used) schedule(dynamic, 1)
    for (int i = 0; i < n; i++)
        run_picture(r, images + (size_t)i * image_size,
                    r->buffers + (size_t)omp_get_thread_num() * BUFFERS * r->buffer_size,
                    logits ? logits + (size_t)i * (size_t)net->classes : NULL,
                    features ? features + (size_t)i * (size_t)net->features : NULL, tap, tap_user);
}
