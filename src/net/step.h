/* SPDX-License-Identifier: Apache-2.0 */
/* One training step in sk_real: forward with batch statistics or frozen ones, loss, backward.
 *
 * The step is a list of passes. Batch norm cuts it: a pass takes every picture from one batch norm whose sums are known
 * to the next one whose sums it makes, while the picture's values are in cache; then all threads meet and the sums are
 * finished. With frozen statistics nothing has to be met for, and each picture goes through all passes at once
 * (step_frozen.c).
 *
 * Wide units. A unit that widens its input (the stem, an expansion, the head) has far more values than its input, so
 * they are not sent through memory for the sake of batch norm: since y = W x, its mean and variance follow from the
 * mean and the scatter of x, and the parts of its gradient that batch norm adds follow from the same scatter. Where x
 * is narrow y itself is not kept either, but made again (sk_step_keeps).
 *
 * The batch is cut into at most SK_CHUNKS groups of pictures, whatever the number of threads. Sums over the batch are
 * added per chunk, then over the chunks as a fixed tree (step_sums.c), so that results are the same bytes for any
 * number of threads, and of processes: each of these works on its own chunks (net/sync.h). Internal. */
#ifndef SK_NET_STEP_H
#define SK_NET_STEP_H

#include "net/fake.h"
#include "net/net.h"
#include "net/sync.h"

enum {
    SK_SCRATCHES = 4,
    SK_STEM_ROWS = 8,        /* output rows of the stem that are made at a time */
    SK_STEM_DEPTH = 27,      /* values of its input per output value: 3x3 pixels */
    SK_STEM_LD = 28,         /* and their row stride */
    SK_MAX_DEPTH = 160,      /* channels of the input of any wide unit */
    SK_KEEP_DEPTH = 24,      /* a wide unit of a deeper input keeps its output: to make it again costs more */
    SK_SCATTER_ROWS = 1024,  /* rows whose products are added in sk_real before they go on in double */
    SK_GROUP_VALUES = 65536, /* small pictures go together through a layer up to so many values */
    SK_FROZEN_PICTURES = 2   /* pictures that a thread takes through the whole network with frozen statistics */
};

typedef struct sk_step_options {
    int batch, threads, freeze_features, freeze_bn;
    double dropout, label_smoothing;
    const float *class_weight; /* of the loss, one per class; NULL: 1 each; copied */
    const sk_sync *sync; /* other processes that take the step, NULL: none */
    sk_fake *fake;       /* with freeze_bn: values are rounded as int8 does, NULL: not; outlives the step */
    double distill;      /* share of the loss that is the divergence from the teacher's answers */
} sk_step_options;

/* Training state of a unit. With frozen statistics batch norm is folded into its weights and bias, a ReLU too, and
 * scale, shift and mean are those of no batch norm at all. */
typedef struct sk_unit_state {
    sk_real *y; /* [slots][rows][c], before batch norm; NULL: a wide unit that is made again where it is read */
    sk_real *scale, *shift, *mean, *invstd, *ka, *kb, *kc; /* c each */
    sk_real *bias;                                         /* frozen: what is added when y is written, else NULL */
    sk_act fused;                                          /* frozen: what is applied when y is written */
    const sk_real *x;           /* wide but the stem: its input, the output of the block below */
    sk_real *forward;           /* packed weights; depthwise: [k][k][c] */
    sk_real *backward;          /* the same transposed; those of a wide unit hold batch norm's scale */
    sk_real *folded;            /* wide and not kept: forward weights that hold batch norm's scale */
    sk_real *spread;            /* wide: [c][depth], W times the scatter of its input */
    sk_real *center;            /* wide: [depth], mean of its input */
    sk_real *inner, *offset;    /* wide but the stem: batch norm adds x inner + offset to dx; inner is packed */
    size_t sums_at, partial_at; /* where its sums and weight gradient are in a chunk's */
} sk_unit_state;

typedef struct sk_block_state {
    sk_real *out;                             /* [slots][rows][c], the block's output */
    sk_real *sum;                             /* fake, residual: the output before it is rounded */
    sk_real *pooled, *squeezed, *gate_in;     /* [batch][C], [batch][S], [batch][C]: before the activations */
    sk_real *gate;                            /* [batch][C] */
    sk_real *exact;                           /* fake: [batch][C], pooled before it is rounded */
    sk_real *relu;                            /* [batch][S] */
    sk_real *d_squeezed, *d_gate;             /* gradients of squeezed and gate_in */
    sk_real *fc1, *fc2, *fc1_back, *fc2_back; /* packed weights */
} sk_block_state;

typedef struct sk_step sk_step;
/* Takes pictures first..last-1 of a chunk through a pass. index: the block, or block_count for what follows the last.
 */
typedef void (*sk_step_work)(sk_step *s, int index, int chunk, int first, int last, sk_real *const *scratch);

typedef struct sk_pass {
    const char *what; /* for reports */
    int index, unit;  /* unit: whose layer the pass belongs to */
    sk_step_work work;
    void (*finish)(sk_step *s, int index); /* when all pictures are through; may be NULL */
    size_t sums, partial;                  /* values of a chunk that start at zero */
} sk_pass;

enum { SK_MAX_PASSES = 3 * SK_MAX_BLOCKS + 4 };

struct sk_step {
    sk_net *net;
    const sk_kernels *k;
    sk_step_options options;
    int threads, n, chunks, slots;
    int first, last; /* chunks of this process: first..last-1; all, if it is alone */
    uint64_t seed;
    sk_real mean[3], gain[3]; /* of the bytes of a picture */
    const uint8_t *images;
    const int *labels;
    sk_pass forward[SK_MAX_PASSES], backward[SK_MAX_PASSES];
    int forward_count, backward_count, turn;
    /* NULL but for measurements: seconds in the pictures and in what finishes the pass. */
    void (*on_pass)(void *user, const sk_pass *pass, double work, double finish);
    void *on_pass_user;

    sk_unit_state units[SK_MAX_UNITS];
    sk_block_state blocks[SK_MAX_BLOCKS];
    int *slot;                        /* [batch]: where the values of a picture are */
    sk_real *grad_narrow, *grad_deep; /* [slots], gradients of block outputs and depthwise outputs */
    sk_real *grad_branch;             /* fake: [slots], of a residual block's projection */
    size_t narrow_size, deep_size;    /* values of one picture */
    sk_real *scratch;                 /* [threads][SK_SCRATCHES][scratch_size] */
    size_t scratch_size;
    double *sums; /* [last - first][sums_size], the first becomes the sum */
    size_t sums_size;
    size_t ends_at; /* fake: where in a chunk's sums the gradients of the ends are, two per layer */
    sk_real *partial; /* [last - first][partial_size], weight gradients, the first becomes the sum */
    size_t partial_size;
    double *joined;  /* [ranks][2 * channels], moments */
    size_t channels; /* most of a unit */
    sk_real *matrix; /* [c][depth], a unit's weights times a factor per channel; frozen: all units', at partial_at */
    size_t matrix_size;
    sk_real *inner; /* [depth][depth], what is packed as a wide unit's */
    sk_real *stem;  /* the stem's weights as [c][27] */

    sk_real *features, *hidden, *hidden_act, *logits; /* of the batch */
    sk_real *exact_features, *exact_logits;           /* fake: before they are rounded */
    const sk_real *teacher;                           /* [batch][classes], logits to come near to; NULL: none */
    sk_real *rounded;                                 /* fake: one linear layer's weights as codes, per thread */
    size_t rounded_size;
    sk_real *d_logits, *d_hidden, *d_features, *dropout;
    sk_real *linear1, *linear2, *linear1_back, *linear2_back; /* packed */
    double *losses;                                           /* [batch] */
    double weights;                                           /* of the batch in the loss */
    sk_real *class_weight;                                    /* NULL: 1 each */
    int hits[SK_CHUNKS];                                      /* pictures whose largest logit is the label */
    sk_error lost;                                            /* another process is lost: what follows means nothing */
    sk_real *gradients;                                       /* all parameters, as net->values */
    sk_runner *frozen;                                        /* features in evaluation mode */
    void *pool;                                               /* everything above in one allocation */
};

sk_status sk_step_create(sk_net *net, const sk_step_options *options, sk_step **out, sk_error *err);
void sk_step_free(sk_step *step);
sk_status sk_step_run(sk_step *step, const uint8_t *images, const int *labels, int n, uint64_t seed, double *loss,
                      int *correct, sk_error *err);
const sk_real *sk_step_gradient(const sk_step *step, int param); /* NULL if it is not trained */
/* Logits [n][classes] of the network that a step with frozen statistics trains, without dropout. */
sk_status sk_step_predict(sk_step *step, const uint8_t *images, int n, sk_real *logits, sk_error *err);

/* ---- shared by the files of the step ---- */
/* step_memory.c: measures all arrays, allocates them in one piece, hands them out. */
sk_status sk_step_allocate(sk_step *s, sk_error *err);
/* step_forward.c, step_backward.c: append their passes. */
void sk_step_list_forward(sk_step *s);
void sk_step_list_backward(sk_step *s);
/* step_classify.c: features to losses and d_features of pictures; gradients when all pictures are through. */
void sk_step_pack_classifier(sk_step *s);
void sk_step_classify(sk_step *s, int chunk, int first, int last);
void sk_step_answer(sk_step *s, int first, int last, int drop); /* features to logits alone */
void sk_step_classifier_gradients(sk_step *s);
/* dw [out][in] = sum of dy x', dbias [out] = sum of dy, over the batch. */
void sk_step_linear_gradients(sk_step *s, sk_real *dy, int out, sk_real *x, int in, sk_real *dw, sk_real *dbias);
/* step_frozen.c: forward and backward with frozen statistics; from the raw weight gradient of a unit (its chunks added
 * up) to the gradients of gamma and of the weights. */
void sk_step_run_frozen(sk_step *s);
void sk_step_forward_frozen(sk_step *s);
void sk_step_unfold(sk_step *s, int unit, sk_real *raw);

/* step_sums.c: what happens between two passes. */
void sk_step_finish_statistics(sk_step *s, int unit); /* ... of the sums of the chunks */
void sk_step_finish_wide(sk_step *s, int unit);       /* ... of the sums of a wide unit's input */
void sk_step_finish_norm(sk_step *s, int unit);       /* gradients of gamma and beta; ka, kb, kc */
void sk_step_finish_weight(sk_step *s, int unit);     /* gradient of the weights */
void sk_step_finish_inner(sk_step *s, int unit);      /* inner and offset of a wide unit */
void sk_step_finish_ends(sk_step *s);                 /* gradients of the ends of the ranges */
double sk_step_sum_losses(sk_step *s);                /* of the batch */
int sk_step_sum_hits(sk_step *s);
/* data: `size` bytes per picture of the batch; receives those of the other processes. */
void sk_step_gather(sk_step *s, void *data, size_t size);

/* step_forward.c: what backward makes again. */
/* Before batch norm, of the pictures first..last-1: what is kept, or made in buf (the stem also needs rows). */
const sk_real *sk_step_wide_y(const sk_step *s, int unit, int first, int last, sk_real *buf, sk_real *rows);
/* The activation of a unit whose y is at hand: in buf, or y if it is activated already. */
const sk_real *sk_step_activate(const sk_step *s, int unit, const sk_real *y, int pictures, sk_real *buf);
/* im2col of SK_STEM_ROWS output rows (or what is left) of picture i from `row` on; returns how many values per channel.
 */
int sk_step_stem_rows(const sk_step *s, int i, int row, sk_real *out);

/* gate_in of pictures first..last-1 of block b as the gate's activation reads it: rounded, if it is a tensor then. */
void sk_step_gate_in(const sk_step *s, int b, int first, int last, sk_real *out);
/* out = a * gate for pictures first..last-1 of block b; in place. */
void sk_step_gate(const sk_step *s, int b, int first, int last, const sk_real *a, sk_real *out);

/* step.c: the weight [out][in] of a linear layer as int8 has it, or as it is; valid until the thread's next call. */
const sk_real *sk_step_rounded(const sk_step *s, const sk_real *weight, int out, int in);

/* y[rows][out] = x[rows][in] W' + bias; bias may be NULL. */
void sk_step_linear(const sk_step *s, int rows, const sk_real *x, int in, const sk_real *packed, const sk_real *bias,
                    int out, sk_real *y);

/* step.c: the buffers of the calling thread, which begins a chunk: its first `sums` and `partial` values are 0. */
typedef struct sk_scratch {
    sk_real *at[SK_SCRATCHES];
} sk_scratch;
sk_scratch sk_step_begin(const sk_step *s, int chunk, size_t sums, size_t partial);
int sk_step_chunk_threads(const sk_step *s); /* threads that the chunks of this process keep busy */

static inline int sk_step_first(const sk_step *s, int chunk) /* first picture of a chunk */
{
    return sk_sync_first(s->n, chunk);
}
/* The unit that widens the input of block `index` (0: the stem) or of the pooling (block_count: the head). */
static inline int sk_step_wide(const sk_step *s, int index) {
    if (index == s->net->block_count) return s->net->head;
    return index ? s->net->blocks[index].expand : 0;
}
static inline int sk_step_is_wide(const sk_unit *u) { return u->op != SK_OP_DEPTHWISE && u->act != SK_ACT_NONE; }
static inline int sk_step_depth(const sk_unit *u) { return u->op == SK_OP_CONV ? SK_STEM_DEPTH : u->in_c; }
static inline const sk_real *sk_step_matrix(const sk_step *s, int unit) /* weights of a wide unit as [c][depth] */
{
    return unit ? s->net->params[s->net->units[unit].param].data : s->stem;
}
static inline int sk_step_keeps(const sk_step *s, int unit) { return s->units[unit].y != NULL; }
/* End of the group of pictures that begins with i: those whose `size` values each are worked on together. */
static inline int sk_step_group(int i, int last, size_t size) {
    const int pictures = size < SK_GROUP_VALUES ? (int)(SK_GROUP_VALUES / size) : 1;

    return i + pictures < last ? i + pictures : last;
}
static inline sk_bn sk_step_bn(const sk_step *s, int unit) {
    const sk_unit_state *u = &s->units[unit];

    return (sk_bn){u->scale, u->shift, u->mean};
}
static inline sk_real *sk_step_y(const sk_step *s, int unit, int i) {
    return s->units[unit].y + (size_t)s->slot[i] * sk_unit_size(&s->net->units[unit]);
}
static inline const sk_real *sk_step_x(const sk_step *s, int unit, int i) /* input of a wide unit but the stem */
{
    const sk_unit *u = &s->net->units[unit];

    return s->units[unit].x + (size_t)s->slot[i] * sk_unit_rows(u) * (size_t)u->in_c;
}
static inline sk_real *sk_step_sum(const sk_step *s, int block, int i) {
    const sk_real *sum = s->blocks[block].sum;

    if (!sum) return NULL;
    return s->blocks[block].sum + (size_t)s->slot[i] * sk_unit_size(&s->net->units[s->net->blocks[block].project]);
}
static inline sk_real *sk_step_out(const sk_step *s, int block, int i) {
    return s->blocks[block].out + (size_t)s->slot[i] * sk_unit_size(&s->net->units[s->net->blocks[block].project]);
}
/* Rounding of what a layer writes; the gradient of a value, in place. Without fake nothing happens. */
static inline void sk_step_round(const sk_step *s, int layer, int rows, sk_real *x) {
    const sk_fake *f = s->options.fake;

    if (f) sk_quantize_values(&f->output[layer], rows, s->net->layers[layer].out_c, x, SK_ACT_NONE, x);
}
/* The activation of a layer and the rounding of what it gives, in place. */
static inline void sk_step_act(const sk_step *s, int layer, int rows, sk_real *x, sk_act act) {
    const sk_fake *f = s->options.fake;
    const int c = s->net->layers[layer].out_c;

    if (f) sk_quantize_values(&f->output[layer], rows, c, x, act, x);
    else s->k->act((size_t)(rows * c), x, act, x);
}
static inline void sk_step_round_backward(const sk_step *s, int layer, int chunk, int rows, const sk_real *x,
                                          sk_act act, sk_real *d) {
    const sk_fake *f = s->options.fake;

    if (f)
        sk_quantize_backward(&f->output[layer], rows, s->net->layers[layer].out_c, x, act,
                             (sk_real)(f->pull / s->weights), d,
                             s->sums + (size_t)(chunk - s->first) * s->sums_size + s->ends_at + 2 * (size_t)layer);
}
static inline double *sk_step_sums(const sk_step *s, int chunk, int unit) {
    return s->sums + (size_t)(chunk - s->first) * s->sums_size + s->units[unit].sums_at;
}
static inline sk_real *sk_step_partial(const sk_step *s, int chunk, int unit) {
    return s->partial + (size_t)(chunk - s->first) * s->partial_size + s->units[unit].partial_at;
}
static inline size_t sk_step_partial_end(const sk_step *s, int unit) {
    return s->units[unit].partial_at + s->net->params[s->net->units[unit].param].count;
}
static inline sk_real *sk_step_grad(const sk_step *s, int param) {
    return s->gradients + (s->net->params[param].data - s->net->values);
}
#endif
