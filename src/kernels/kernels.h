/* SPDX-License-Identifier: Apache-2.0 */
/* The table of numeric kernels. c/ holds the complete reference; x86/ overwrites entries at run time. Every entry is
 * single-threaded and works on the range the caller gives, so that the net decides what runs in parallel and in which
 * order partial sums are added: results are then the same bytes for any thread count.
 *
 * Conventions. Values are sk_real: float, or double in the build that proves the formulas (SK_DOUBLE, C only).
 * Activations are NHWC; "rows" are pixels, so a picture of h x w pixels and c channels is h*w rows of c values, always
 * dense. Channel counts of the network are multiples of 8 but for the picture (3), the im2col row (27) and the logits;
 * entries must take any count >= 1. Base pointers come from sk_alloc (64-byte aligned) or are offsets of whole rows
 * into such, so use unaligned loads. Outputs may be inputs only where
 * "in place" is said. "+=" accumulates, "=" overwrites. No entry fails or allocates. */
#ifndef SK_KERNELS_H
#define SK_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "siskin/model.h"

#ifdef SK_DOUBLE
typedef double sk_real;
#else
typedef float sk_real;
#endif

/* Arguments of one matrix product over `m` rows:
 *   c[i][j] = act( sum_p a[i][p] * b(j,p) + bias[j] + add[i][j] ),   i < m, j < n, p < k
 * b was packed by gemm_pack. It may be cut at columns that are multiples of SK_GEMM_CUT: those from n0 on begin at
 * packed + n0*k. A value does not depend on how m and n are cut. bias and add may be NULL. add may be c itself
 * (accumulation), row stride ldc.
 * Row i of a starts at a + i*lda, of c (and add) at c + i*ldc. */
enum { SK_GEMM_CUT = 48 };
typedef struct sk_gemm {
    int m, n, k;
    const sk_real *a;
    int lda;
    const sk_real *packed;
    const sk_real *bias;
    const sk_real *add;
    sk_act act;
    sk_real *c;
    int ldc;
} sk_gemm;


/* First convolution: picture [h][w][3] of bytes to [oh][ow][c], 3x3 kernel, stride 2, pad 1, so
 * ow = (w-1)/2+1. A byte v of colour ch is worth (v - mean[ch]) * gain[ch], and 0 outside the picture.
 * weight [3][3][3][c]: row and column of the kernel, colour. */
typedef struct sk_stem {
    int h, w, c;
    const sk_real *mean, *gain; /* 3 each */
    const sk_real *weight, *bias;
    sk_act act;
} sk_stem;
/* Values of scratch that both entries need: four rows, each with a pixel more at either end. */
#define SK_STEM_ROW(w) (((w) + 2) * 3)
#define SK_STEM_SCRATCH(w) (4 * SK_STEM_ROW(w))

/* Per-channel values of a batch norm, c each. z = y*scale + shift = gamma*(y-mean)*invstd + beta. */
typedef struct sk_bn {
    const sk_real *scale, *shift, *mean;
} sk_bn;

/* One depthwise convolution: picture [h][w][c] to [oh][ow][c], square kernel, zero padding. weight [kernel][kernel][c].
 * With bn it is the convolution of act(x*scale + shift), which is made as x is read; without, of x itself. */
typedef struct sk_dw {
    int h, w, c, oh, ow, kernel, stride, pad;
    const sk_bn *bn;
    sk_act act;
} sk_dw;

/* What a row of logits is held against, as torch.nn.CrossEntropyLoss has it:
 *   t[j] = class_weight[j] * ((1 - smoothing) * (j == label) + smoothing / classes); class_weight NULL: 1 each. */
typedef struct sk_loss_target {
    const sk_real *class_weight;
    sk_real smoothing;
} sk_loss_target;

typedef struct sk_kernels {
    const char *name; /* "c", "avx2", "avx512": for reports */

    /* ---- matrix products ---- */
    /* sk_real values that gemm_pack writes for an n x k matrix. */
    size_t (*gemm_pack_size)(int n, int k);
    /* b(j,p) = src[j*stride_n + p*stride_k]. With W[out][in]: forward is (n=out, k=in, stride_n=in, stride_k=1); the
     * gradient of the input is (n=in, k=out, stride_n=1, stride_k=in). dst is 64-byte aligned. */
    void (*gemm_pack)(sk_real *dst, int n, int k, const sk_real *src, ptrdiff_t stride_n, ptrdiff_t stride_k);
    void (*gemm)(const sk_gemm *g);
    /* dw[j][p] += sum_i dy[i][j] * x[i][p], i < m: weight gradient, dw has row stride k, x row stride ldx, dy row
     * stride ldy. m may be 10^4 and more: add in blocks so that fp32 error does not grow with m. */
    void (*gemm_tn)(int m, int n, int k, const sk_real *dy, int ldy, const sk_real *x, int ldx, sk_real *dw);
    /* out[j][p] += sum_i x[i][j] * x[i][p] for p >= j, as gemm_tn would, [n][n]; what is below the diagonal may be
     * written too, and means nothing. */
    void (*gram)(int m, int n, const sk_real *x, int ldx, sk_real *out);

    /* ---- first convolution: bytes to im2col rows, or to its output ---- */
    /* out[((oy-oy0)*ow + ox)*ld + (ky*3+kx)*3 + ch] = the worth of image[iy][ix][ch] for output rows oy0 <= oy < oy1;
     * ld >= 27, values beyond 27 are left alone. Of s, only h, w, mean and gain matter. */
    void (*im2col_u8)(const sk_stem *s, const uint8_t *image, int oy0, int oy1, sk_real *scratch, sk_real *out, int ld);
    /* Output rows oy0..oy1-1 of act(conv(x) + bias), written at y (which points at row oy0). */
    void (*stem_u8)(const sk_stem *s, const uint8_t *image, int oy0, int oy1, sk_real *scratch, sk_real *y);

    /* ---- depthwise, one picture ---- */
    /* Output rows oy0..oy1-1 written at y (which points at row oy0): y = act(conv(x) + bias). bias may be NULL. x
     * points at input row x_row0 of the picture (0 for a whole picture) and holds every row that is needed and exists.
     */
    void (*dw_forward)(const sk_dw *d, const sk_real *x, int x_row0, const sk_real *weight, const sk_real *bias,
                       sk_act act, int oy0, int oy1, sk_real *y);
    /* dx = gradient of the whole input picture [h][w][c] from dy [oh][ow][c]; with bn that of x*scale + shift, and the
     * sums grow as those of bn_backward_sums do. Without bn, x and the sums are not looked at. */
    void (*dw_backward_data)(const sk_dw *d, const sk_real *dy, const sk_real *weight, const sk_real *x, sk_real *dx,
                             double *sum, double *sum_y);
    /* dweight[kernel][kernel][c] += over the whole picture. */
    void (*dw_backward_weight)(const sk_dw *d, const sk_real *dy, const sk_real *x, sk_real *dweight);

    /* ---- batch norm ---- */
    /* sum[c] += column sums, sumsq[c] += column sums of squares of y - origin[c]. With a row of the data as origin the
     * variance does not drown where the mean is large. Short fp32 partial sums are fine (64 rows), then double. */
    void (*bn_sums)(const sk_real *y, int rows, int c, const sk_real *origin, double *sum, double *sumsq);
    /* out = act(y*scale + shift) + add. add (may be NULL) is [rows][c], added after the activation. In place. */
    void (*bn_forward)(const sk_real *y, int rows, int c, const sk_bn *bn, sk_act act, const sk_real *add,
                       sk_real *out);
    /* dz = da * act'(y*scale + shift); sum[c] += dz; sum_y[c] += dz*(y - mean). In place (dz = da). dz may be NULL when
     * act is SK_ACT_NONE: then only the sums are wanted. */
    void (*bn_backward_sums)(const sk_real *da, const sk_real *y, int rows, int c, const sk_bn *bn, sk_act act,
                             sk_real *dz, double *sum, double *sum_y);
    /* dy = ka[c]*dz + kb[c]*(y - mean[c]) + kc[c]: gradient before the batch norm. In place (dy = dz). */
    void (*bn_backward)(const sk_real *dz, const sk_real *y, int rows, int c, const sk_real *ka, const sk_real *kb,
                        const sk_real *kc, const sk_real *mean, sk_real *dy);

    /* ---- squeeze-excitation and pooling, one picture ---- */
    void (*pool)(const sk_real *x, int rows, int c, sk_real *out);                     /* out[c] = mean of rows */
    void (*scale)(const sk_real *x, int rows, int c, const sk_real *gate, sk_real *y); /* y = x*gate[c]; in place */
    void (*scale_sums)(const sk_real *dy, const sk_real *x, int rows, int c, sk_real *dgate); /* dgate[c] = sum dy*x */
    /* dx = dy*gate[c] + plus[c]; gate NULL: 1; dy NULL: 0 (then dx = plus[c]). In place. */
    void (*scale_backward)(const sk_real *dy, int rows, int c, const sk_real *gate, const sk_real *plus, sk_real *dx);

    /* ---- elementwise over count values ---- */
    void (*add)(size_t count, const sk_real *a, const sk_real *b, sk_real *out);                      /* in place */
    void (*act)(size_t count, const sk_real *x, sk_act act, sk_real *y);                              /* in place */
    void (*act_backward)(size_t count, const sk_real *dy, const sk_real *x, sk_act act, sk_real *dx); /* x: before the
                                                                                                act; in place dx = dy */
    void (*column_sums)(const sk_real *y, int rows, int c, sk_real *out); /* out[c] += (bias gradients) */

    /* ---- loss and optimiser ---- */
    /* Cross-entropy of each row against the target t: loss[i] (double) = -sum_j t[j] log softmax[j], dlogits =
     * (softmax * sum t - t) * weight (NULL: skip). Returns the number of rows whose largest logit (first of equals) is
     * the label. */
    int (*cross_entropy)(const sk_real *logits, const int *labels, int rows, int classes, const sk_loss_target *target,
                         sk_real weight, double *loss, sk_real *dlogits);
    /* torch.optim.Adam without weight decay: m = b1*m + (1-b1)*g; v = b2*v + (1-b2)*g*g;
     * w -= step_size * m / (sqrt(v)*inv_sqrt_bc2 + eps), step_size = lr/(1-b1^t), inv_sqrt_bc2 = 1/sqrt(1-b2^t). */
    void (*adam)(size_t count, sk_real *w, const sk_real *g, sk_real *m, sk_real *v, sk_real b1, sk_real b2,
                 sk_real step_size, sk_real inv_sqrt_bc2, sk_real eps);
} sk_kernels;

/* The reference, complete. */
const sk_kernels *sk_kernels_c(void);
/* What this machine runs best. SISKIN_CPU in the environment, "c", "avx2", "avxvnni" (here the same as "avx2") or
 * "avx512", names the widest path that may be taken: where the CPU lacks it, the next one that it has is taken, and
 * another word changes nothing; `name` of the table says what was chosen. Decided once, thread-safe, never NULL. */
const sk_kernels *sk_kernels_get(void);
/* The table of one path by its name; 0 if the CPU or this build has no such path. */
int sk_kernels_path(const char *name, sk_kernels *table);
/* Overwrite the entries of a copy of the reference if the CPU offers the path; say whether they did. x86/, fp32 only.
 */
int sk_kernels_avx2(sk_kernels *table);
int sk_kernels_avx512(sk_kernels *table);
#endif
