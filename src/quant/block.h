/* SPDX-License-Identifier: Apache-2.0 */
/* Block-wise reconstruction: the rounding of all layers between two narrow places of the network is learned together,
 * so that what leaves the block comes closest to what leaves the float block (Li et al. 2021, BRECQ: Pushing the Limit
 * of Post-Training Quantization by Block Reconstruction). Internal. */
#ifndef SK_QUANT_BLOCK_H
#define SK_QUANT_BLOCK_H

#include "net/fake.h"
#include "quant/quant.h"

/* ---- a block in float (block_net.c) -------------------------------------------------------------------------- */
/* Layers first..last, which one tensor enters and one leaves. Weights and tensors are in real units; outputs are
 * rounded to their codes, with the gradients of net/fake.h. */
typedef struct sk_qblock {
    const sk_quant_net *net;
    const sk_kernels *k;
    size_t first, last;
    int input;              /* the layer whose output enters; -1: the picture */
    sk_quantizer *output;   /* per layer of the block, all that follow likewise */
    float **weight, **bias; /* [out_c][depth] and [out_c], NULL where there are none: the caller's to fill */
    float **forward, **backward; /* packed */
    size_t patches, widest; /* values of the largest layer's patches, and of the largest tensor or kernel */
} sk_qblock;
/* The last layer of the block that begins with `first`: the next one behind which a single tensor goes on that no
 * activation has bent, as after an inverted residual or the mean over the picture; else the network's last. */
size_t sk_qblock_end(const sk_quant_net *net, size_t first);
/* All quantizers are off, all weights 0. Errors: MEMORY. */
sk_status sk_qblock_create(const sk_quant_net *net, size_t first, size_t last, sk_qblock *out, sk_error *err);
void sk_qblock_free(sk_qblock *block);
/* To be called when a layer's weights have changed (layer: of the network). */
void sk_qblock_pack(sk_qblock *block, size_t layer);

/* One picture's tensors; per thread. */
typedef struct sk_qblock_run {
    float **sum, **out, **grad; /* per layer of the block: before the activation, after rounding, its gradient */
    char *reached;              /* has the gradient been written? */
    float *patches, *spare, *values;
} sk_qblock_run;
sk_status sk_qblock_run_create(const sk_qblock *block, sk_qblock_run *out, sk_error *err);
void sk_qblock_run_free(sk_qblock_run *run);
/* input: the tensor that enters, in real units. Returns the one that leaves. */
const float *sk_qblock_forward(const sk_qblock *block, sk_qblock_run *run, const float *input);
/* After forward with the same input; d: gradient of what left. dweight and dbias grow, laid out as weight and bias. */
void sk_qblock_backward(const sk_qblock *block, sk_qblock_run *run, const float *input, const float *d,
                       float *const *dweight, float *const *dbias);

/* ---- learning (block_learn.c) -------------------------------------------------------------------------------- */
/* What a block is learned from: `values_in` and `values_out` per picture. */
typedef struct sk_qblock_data {
    int count;           /* pictures */
    size_t values_in, values_out;
    const float *input;  /* what the int8 network before gives, in real units */
    const float *exact;  /* the float network's instead */
    const float *target; /* what leaves the float block */
} sk_qblock_data;
/* Codes and biases of the job's layers first..last become what was learned if that lowers the squared error on the
 * pictures held back, every fifth; with fewer than 10 pictures nothing happens. Errors: CANCELLED, MEMORY. */
sk_status sk_qblock_learn(sk_quant_job *job, size_t first, size_t last, const sk_qblock_data *data);
#endif
