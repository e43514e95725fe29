/* SPDX-License-Identifier: Apache-2.0 */
/* Memory of the training step: one walk over all arrays, first to measure, then to hand out. */
#include "net/step.h"

typedef struct arena {
    char *base; /* NULL while measuring */
    size_t used;
} arena;

static void *take(arena *a, size_t count, size_t size) {
    void *at = a->base ? a->base + a->used : NULL;

    a->used += (count * size + 63) / 64 * 64;
    return at;
}

static sk_real *reals(arena *a, size_t count) { return take(a, count, sizeof(sk_real)); }

static size_t weight_count(const sk_step *s, int unit) { return s->net->params[s->net->units[unit].param].count; }

/* Is the output of the unit kept, before batch norm? With frozen statistics a projection writes its block's, unless
 * rounding comes between them. To make a
 * shallow wide unit again costs less than to write and read it; where a block adds the stem's output to its own, that
 * is kept too. */
static int keeps(const sk_step *s, int unit) {
    const sk_unit *u = &s->net->units[unit];

    if (s->options.freeze_bn) return s->options.fake || sk_step_is_wide(u) || u->op == SK_OP_DEPTHWISE;
    if (!sk_step_is_wide(u)) return 1;
    return unit ? u->in_c > SK_KEEP_DEPTH : s->net->blocks[0].residual;
}

static void lay_wide(sk_step *s, arena *a, int unit) {
    const sk_unit *u = &s->net->units[unit];
    sk_unit_state *us = &s->units[unit];
    const size_t weights = weight_count(s, unit);

    if (unit) us->backward = reals(a, s->k->gemm_pack_size(u->in_c, u->out_c));
    if (s->options.freeze_bn) return;
    if (!keeps(s, unit)) us->folded = reals(a, s->k->gemm_pack_size(u->out_c, sk_step_depth(u)));
    us->spread = reals(a, weights);
    us->center = reals(a, (size_t)sk_step_depth(u));
    if (!unit) return;
    us->inner = reals(a, s->k->gemm_pack_size(u->in_c, u->in_c));
    us->offset = reals(a, (size_t)u->in_c);
}

static void lay_unit(sk_step *s, arena *a, int unit) {
    const sk_unit *u = &s->net->units[unit];
    sk_unit_state *us = &s->units[unit];
    sk_real **const vectors[] = {&us->scale, &us->shift, &us->mean, &us->invstd, &us->ka, &us->kb, &us->kc};

    if (keeps(s, unit)) us->y = reals(a, (size_t)s->slots * sk_unit_size(u));
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) *vectors[i] = reals(a, (size_t)u->out_c);
    if (s->options.freeze_bn) us->bias = reals(a, (size_t)u->out_c);
    if (u->op == SK_OP_DEPTHWISE) {
        us->forward = us->backward = reals(a, weight_count(s, unit));
        return;
    }
    us->forward = reals(a, s->k->gemm_pack_size(u->out_c, sk_step_depth(u)));
    if (sk_step_is_wide(u)) lay_wide(s, a, unit);
    else us->backward = reals(a, s->k->gemm_pack_size(u->in_c, u->out_c));
}

static void lay_block(sk_step *s, arena *a, int index) {
    const sk_block *b = &s->net->blocks[index];
    sk_block_state *bs = &s->blocks[index];
    const int c = s->net->units[b->dw].out_c, q = b->squeeze;
    const size_t batch = (size_t)s->options.batch, nc = batch * (size_t)c, nq = batch * (size_t)q;

    bs->out = reals(a, (size_t)s->slots * sk_unit_size(&s->net->units[b->project]));
    if (s->options.fake && b->residual) bs->sum = reals(a, (size_t)s->slots * sk_unit_size(&s->net->units[b->project]));
    s->units[sk_step_wide(s, index + 1)].x = bs->out;
    if (!q) return;
    bs->pooled = reals(a, nc);
    if (s->options.fake) bs->exact = reals(a, nc);
    bs->gate_in = reals(a, nc);
    bs->gate = reals(a, nc);
    bs->d_gate = reals(a, nc);
    bs->squeezed = reals(a, nq);
    bs->relu = reals(a, nq);
    bs->d_squeezed = reals(a, nq);
    bs->fc1 = reals(a, s->k->gemm_pack_size(q, c));
    bs->fc2 = reals(a, s->k->gemm_pack_size(c, q));
    bs->fc1_back = reals(a, s->k->gemm_pack_size(c, q));
    bs->fc2_back = reals(a, s->k->gemm_pack_size(q, c));
}

static int ranks(const sk_step *s) { return sk_sync_ranks(s->options.sync); }

static void lay_features(sk_step *s, arena *a) {
    for (int i = 0; i < s->net->unit_count; i++) lay_unit(s, a, i);
    for (int i = 0; i < s->net->block_count; i++) lay_block(s, a, i);
    s->slot = take(a, (size_t)s->options.batch, sizeof *s->slot);
    s->joined = take(a, (size_t)ranks(s) * 2 * s->channels, sizeof *s->joined);
    s->grad_narrow = reals(a, (size_t)s->slots * s->narrow_size);
    s->grad_deep = reals(a, (size_t)s->slots * s->deep_size);
    if (s->options.fake) s->grad_branch = reals(a, (size_t)s->slots * s->narrow_size);
    s->scratch = reals(a, (size_t)s->threads * SK_SCRATCHES * s->scratch_size);
    s->sums = take(a, SK_CHUNKS / (size_t)ranks(s) * s->sums_size, sizeof *s->sums);
    s->partial = reals(a, SK_CHUNKS / (size_t)ranks(s) * s->partial_size);
    s->matrix = reals(a, s->matrix_size);
    s->inner = reals(a, SK_MAX_DEPTH * SK_MAX_DEPTH);
    s->stem = reals(a, weight_count(s, 0));
    s->linear1_back = reals(a, s->k->gemm_pack_size(s->net->features, s->net->hidden));
}

static void lay_all(sk_step *s, arena *a) {
    const sk_net *net = s->net;
    const size_t batch = (size_t)s->options.batch, classes = (size_t)net->classes, hidden = (size_t)net->hidden;

    if (!s->options.freeze_features) lay_features(s, a);
    s->features = reals(a, batch * (size_t)net->features);
    s->d_features = reals(a, batch * (size_t)net->features);
    s->hidden = reals(a, batch * hidden);
    s->hidden_act = reals(a, batch * hidden);
    s->d_hidden = reals(a, batch * hidden);
    s->dropout = reals(a, batch * hidden);
    s->logits = reals(a, batch * classes);
    s->d_logits = reals(a, batch * classes);
    s->losses = take(a, batch, sizeof *s->losses);
    s->class_weight = s->options.class_weight ? reals(a, classes) : NULL;
    s->linear1 = reals(a, s->k->gemm_pack_size(net->hidden, net->features));
    s->linear2 = reals(a, s->k->gemm_pack_size(net->classes, net->hidden));
    s->linear2_back = reals(a, s->k->gemm_pack_size(net->hidden, net->classes));
    s->gradients = reals(a, net->value_count);
    if (!s->options.fake) return;
    s->exact_features = reals(a, batch * (size_t)net->features);
    s->exact_logits = reals(a, batch * classes);
    s->rounded = reals(a, (size_t)s->threads * s->rounded_size);
}

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

/* Where a unit's sums and weight gradient lie in a chunk's: one after the other if all are made at once, else at the
 * start; a wide unit's weight gradient is made together with that of the depthwise convolution it feeds. */
static void place_sums(sk_step *s) {
    const sk_net *net = s->net;
    size_t sums = 0, partial = 0;

    for (int i = 0; i < net->unit_count; i++) {
        const size_t d = (size_t)sk_step_depth(&net->units[i]), c = 2 * (size_t)net->units[i].out_c;
        const size_t weights = (weight_count(s, i) + 15) / 16 * 16;
        sk_unit_state *us = &s->units[i];

        if (s->options.freeze_bn) {
            us->sums_at = sums;
            us->partial_at = partial;
            s->sums_size = sums += c;
            s->partial_size = partial += weights;
            continue;
        }
        if (sk_step_is_wide(&net->units[i]) && i != net->head) /* the depthwise convolution is the next unit */
            us->partial_at = (weight_count(s, i + 1) + 15) / 16 * 16;
        s->sums_size = larger(s->sums_size, sk_step_is_wide(&net->units[i]) ? larger(c, d * (d + 1)) : c);
        s->partial_size = larger(s->partial_size, us->partial_at + weights);
    }
}

/* The most pictures that are this process's, of a batch of any size: its chunks of one picture each, or its part. */
static int share(const sk_step *s) {
    const int batch = s->options.batch, chunks = SK_CHUNKS / ranks(s), part = (batch + ranks(s) - 1) / ranks(s);

    return chunks > part ? (chunks < batch ? chunks : batch) : part;
}

static void measure(sk_step *s) {
    const sk_net *net = s->net;

    s->slots = s->options.freeze_bn ? s->threads * SK_FROZEN_PICTURES : share(s);
    s->scratch_size = larger(SK_GROUP_VALUES, (size_t)net->units[0].out_side * SK_STEM_ROWS * SK_STEM_LD +
                                                  SK_STEM_SCRATCH((size_t)net->card.size));
    for (int i = 0; i < net->unit_count; i++) {
        const size_t size = sk_unit_size(&net->units[i]);

        s->channels = larger(s->channels, (size_t)net->units[i].out_c);
        s->scratch_size = larger(s->scratch_size, (size + 15) / 16 * 16);
        s->deep_size = larger(s->deep_size, net->units[i].op == SK_OP_DEPTHWISE ? size : 0);
        s->matrix_size = larger(s->matrix_size, sk_step_is_wide(&net->units[i]) ? weight_count(s, i) : 0);
    }
    for (int i = 0; i < net->block_count; i++)
        s->narrow_size = larger(s->narrow_size, sk_unit_size(&net->units[net->blocks[i].project]));
    place_sums(s);
    s->ends_at = s->sums_size;
    if (s->options.fake) s->sums_size += 2 * (size_t)net->layer_count;
    for (int i = 0; i < net->layer_count; i++)
        if (net->layers[i].op == SK_OP_LINEAR) s->rounded_size = larger(s->rounded_size, (size_t)net->layers[i].params);
    if (s->options.freeze_bn) s->matrix_size = s->partial_size;
}

sk_status sk_step_allocate(sk_step *s, sk_error *err) {
    arena a = {0};

    measure(s);
    lay_all(s, &a);
    s->pool = sk_alloc(a.used, 1);
    if (!s->pool)
        return sk_fail(err, SK_ERR_MEMORY,
                       "out of memory: a training step of %d pictures needs %zu MB: use a smaller batch",
                       s->options.batch, a.used >> 20);
    a = (arena){s->pool, 0};
    lay_all(s, &a);
    return SK_OK;
}
