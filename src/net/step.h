/* SPDX-License-Identifier: Apache-2.0 */
/* One training step in sk_real: forward with batch statistics, loss, backward.
 *
 * Only the outputs of convolutions (before batch norm) and the outputs of whole blocks are kept. An activation is made
 * again from them, one picture at a time, where it is read, forward and backward: that costs a few instructions per
 * value on data in cache and saves writing and reading it in memory. The batch is cut into at most SK_CHUNKS groups of
 * pictures, whatever the number of threads; sums over the batch are added per chunk, then over the chunks in order, so
 * that results are the same bytes for any number of threads. Internal. */
#ifndef SK_NET_STEP_H
#define SK_NET_STEP_H

#include "net/net.h"

enum { SK_CHUNKS = 16, SK_SCRATCHES = 4, SK_STEM_ROWS = 8, SK_STEM_LD = 28 };

typedef struct sk_step_options {
    int batch, threads, freeze_features, freeze_bn;
    double dropout, label_smoothing;
    const float *class_weight; /* of the loss, one per class; NULL: 1 each; copied */
} sk_step_options;

/* Training state of a unit. */
typedef struct sk_unit_state {
    sk_real *y;                                            /* [batch][rows][c], before batch norm */
    sk_real *scale, *shift, *mean, *invstd, *ka, *kb, *kc; /* c each */
    sk_real *forward, *backward;                           /* packed weights */
} sk_unit_state;

typedef struct sk_block_state {
    sk_real *out;                             /* [batch][rows][c], the block's output */
    sk_real *pooled, *squeezed, *gate_in;     /* [batch][C], [batch][S], [batch][C]: before the activations */
    sk_real *gate;                            /* [batch][C] */
    sk_real *relu;                            /* [batch][S] */
    sk_real *d_squeezed, *d_gate;             /* gradients of squeezed and gate_in */
    sk_real *fc1, *fc2, *fc1_back, *fc2_back; /* packed weights */
} sk_block_state;

typedef struct sk_step {
    sk_net *net;
    const sk_kernels *k;
    sk_step_options options;
    int threads, n, chunks;
    sk_real lut[3 * 256];
    const uint8_t *images;
    sk_unit_state units[SK_MAX_UNITS];
    sk_block_state blocks[SK_MAX_BLOCKS];
    sk_real *grad_narrow, *grad_wide, *grad_deep; /* gradients of block outputs, expanded and depthwise outputs */
    size_t narrow_size, wide_size, deep_size;     /* values of one picture */
    sk_real *scratch;                             /* [threads][SK_SCRATCHES][scratch_size] */
    size_t scratch_size;
    double *sums; /* [SK_CHUNKS][2*most channels] */
    size_t sums_size;
    sk_real *partial; /* [SK_CHUNKS][most weights of a layer] */
    size_t partial_size;
    sk_real *features, *hidden, *hidden_act, *logits; /* of the batch */
    sk_real *d_logits, *d_hidden, *d_features, *dropout;
    sk_real *linear1, *linear2, *linear1_back, *linear2_back; /* packed */
    double *losses;
    sk_real *class_weight; /* NULL: 1 each */
    sk_real *gradients; /* all parameters, as net->values */
    sk_runner *frozen;  /* features in evaluation mode */
    void *pool;         /* everything above in one allocation */
} sk_step;

sk_status sk_step_create(sk_net *net, const sk_step_options *options, sk_step **out, sk_error *err);
void sk_step_free(sk_step *step);
sk_status sk_step_run(sk_step *step, const uint8_t *images, const int *labels, int n, uint64_t seed, double *loss,
                      int *correct, sk_error *err);
const sk_real *sk_step_gradient(const sk_step *step, int param); /* NULL if it is not trained */

/* ---- shared by the files of the step ---- */
void sk_step_forward(sk_step *s);  /* images to features */
void sk_step_backward(sk_step *s); /* d_features to gradients of all features.* */
/* Input of block b (activation of the stem, or output of the block before) of picture i; buf is used for the stem's. */
const sk_real *sk_step_block_input(const sk_step *s, int b, int i, sk_real *buf);
void sk_step_activate(const sk_step *s, int unit, int i, sk_real *out); /* activation of a unit, picture i */
void sk_step_stem_rows(const sk_step *s, int i, int row, int end, sk_real *out);

typedef void (*sk_step_work)(sk_step *s, int index, int chunk, int first, int last, sk_real *const *scratch);
/* Calls work(index, chunk, pictures first..last-1) for every chunk, in parallel. */
void sk_step_parallel(sk_step *s, int index, sk_step_work work);

static inline int sk_step_first(const sk_step *s, int chunk) /* first picture of a chunk */
{
    return (int)((long)s->n * chunk / s->chunks);
}
static inline sk_bn sk_step_bn(const sk_step *s, int unit) {
    const sk_unit_state *u = &s->units[unit];

    return (sk_bn){u->scale, u->shift, u->mean};
}
static inline sk_real *sk_step_y(const sk_step *s, int unit, int i) {
    return s->units[unit].y + (size_t)i * sk_unit_size(&s->net->units[unit]);
}
static inline double *sk_step_sums(const sk_step *s, int chunk) { return s->sums + (size_t)chunk * s->sums_size; }
static inline sk_real *sk_step_partial(const sk_step *s, int chunk) {
    return s->partial + (size_t)chunk * s->partial_size;
}
static inline sk_real *sk_step_grad(const sk_step *s, int param) {
    return s->gradients + (s->net->params[param].data - s->net->values);
}
#endif
