/* SPDX-License-Identifier: Apache-2.0 */
/* Batch norm: one pass over the rows for sums, one for normalise and activate, two for the gradient. Passes without
 * sums take four rows at a time, so that a channel's constants are loaded once for four values. Sums take 64 rows of a
 * vector of channels in four chains of single precision, then join the double sums. Most of y is in memory when a pass
 * begins: each vector that is read calls for one that lies some kilobytes ahead, since neither order of reading is one
 * that the CPU would foresee. */
#include "kernels/x86/vector.h"
#include "kernels/x86/x86.h"

enum { ROWS = 4, SUM_ROWS = 64, AHEAD = 2048 /* values */ };

/* to[lanes of the vector that exist] += v */
SK_INLINE void add_double(double *to, int masked, int count, sk_vec v) {
    float lanes[SK_LANES];

    if (!masked) {
        vec_add_double(to, v);
        return;
    }
    vec_store(lanes, v);
    for (int i = 0; i < count; i++) to[i] += (double)lanes[i];
}

SK_INLINE sk_vec sum_of(const sk_vec *part) { return vec_add(vec_add(part[0], part[1]), vec_add(part[2], part[3])); }

/* Distance in values from a block of SUM_ROWS to what is called for meanwhile. */
static ptrdiff_t ahead_of(int c) { return SUM_ROWS * c > AHEAD ? SUM_ROWS * (ptrdiff_t)c : AHEAD; }

/* ---- sums of y ---- */
SK_INLINE void sums_vector(const int masked, sk_mask mask, const float *y, const float *later, int rows, ptrdiff_t c,
                           sk_vec origin, sk_vec *sum, sk_vec *sumsq) {
    sk_vec first[ROWS], second[ROWS];
    int r = 0;

    for (int i = 0; i < ROWS; i++) first[i] = second[i] = vec_zero();
    for (; r + ROWS <= rows; r += ROWS, y += ROWS * c) {
        vec_call(later + r * SK_LANES, ROWS);
#pragma GCC unroll 4
        for (int i = 0; i < ROWS; i++) {
            const sk_vec value = vec_sub(vec_load_part(y + i * c, masked, mask), origin);
            first[i] = vec_add(first[i], value);
            second[i] = vec_fma(value, value, second[i]);
        }
    }
    for (; r < rows; r++, y += c) {
        const sk_vec value = vec_sub(vec_load_part(y, masked, mask), origin);
        first[0] = vec_add(first[0], value);
        second[0] = vec_fma(value, value, second[0]);
    }
    *sum = sum_of(first);
    *sumsq = sum_of(second);
}

static void bn_sums(const float *y, int rows, int c, const float *origin, double *sum, double *sumsq) {
    const int whole = c - c % SK_LANES, rest = c - whole;
    const sk_mask mask = vec_first(rest);
    const ptrdiff_t ahead = ahead_of(c);
    sk_vec first, second;

    for (int r0 = 0; r0 < rows; r0 += SUM_ROWS, y += SUM_ROWS * (ptrdiff_t)c) {
        const int count = rows - r0 < SUM_ROWS ? rows - r0 : SUM_ROWS;
        for (int j = 0; j < whole; j += SK_LANES) {
            sums_vector(0, mask, y + j, y + ahead + count * j, count, c, vec_load(origin + j), &first, &second);
            vec_add_double(sum + j, first);
            vec_add_double(sumsq + j, second);
        }
        if (!rest) continue;
        sums_vector(1, mask, y + whole, y + ahead + count * whole, count, c, vec_load_first(origin + whole, mask),
                    &first, &second);
        add_double(sum + whole, 1, rest, first);
        add_double(sumsq + whole, 1, rest, second);
    }
}

/* ---- normalise, activate, add ---- */
SK_INLINE void forward_vector(const int rows, const int masked, sk_mask mask, const sk_act act, const float *y,
                              ptrdiff_t c, const sk_bn *bn, int j, const float *add, float *out) {
    const sk_vec scale = vec_load_part(bn->scale + j, masked, mask), shift = vec_load_part(bn->shift + j, masked, mask);

    if (rows == ROWS) vec_call(y + AHEAD + ROWS * j, ROWS);
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++) {
        sk_vec z = vec_act(vec_fma(vec_load_part(y + i * c + j, masked, mask), scale, shift), act);
        if (add) z = vec_add(z, vec_load_part(add + i * c + j, masked, mask));
        vec_store_part(out + i * c + j, masked, mask, z);
    }
}

SK_INLINE void forward_rows(const int rows, const sk_act act, const float *y, int c, const sk_bn *bn, const float *add,
                            float *out) {
    int j = 0;

    for (; j + SK_LANES <= c; j += SK_LANES) forward_vector(rows, 0, vec_first(0), act, y, c, bn, j, add, out);
    if (j < c) forward_vector(rows, 1, vec_first(c - j), act, y, c, bn, j, add, out);
}

SK_INLINE void forward_act(const sk_act act, const float *y, int rows, int c, const sk_bn *bn, const float *add,
                           float *out) {
    const ptrdiff_t step = ROWS * (ptrdiff_t)c;

    for (; rows >= ROWS; rows -= ROWS, y += step, out += step, add = add ? add + step : NULL)
        forward_rows(ROWS, act, y, c, bn, add, out);
    for (; rows > 0; rows--, y += c, out += c, add = add ? add + c : NULL) forward_rows(1, act, y, c, bn, add, out);
}

static void bn_forward(const float *y, int rows, int c, const sk_bn *bn, sk_act act, const float *add, float *out) {
    if (act == SK_ACT_NONE) forward_act(SK_ACT_NONE, y, rows, c, bn, add, out);
    else if (act == SK_ACT_RELU) forward_act(SK_ACT_RELU, y, rows, c, bn, add, out);
    else if (act == SK_ACT_HSWISH) forward_act(SK_ACT_HSWISH, y, rows, c, bn, add, out);
    else forward_act(SK_ACT_HSIGMOID, y, rows, c, bn, add, out);
}

/* ---- gradient of the activation, and its sums ---- */
typedef struct channel_values {
    sk_vec scale, shift, mean;
} channel_values;

SK_INLINE void backward_value(const int masked, sk_mask mask, const sk_act act, const float *da, const float *y,
                              const channel_values *of, float *dz, sk_vec *first, sk_vec *second) {
    const sk_vec value = vec_load_part(y, masked, mask);
    sk_vec gradient = vec_load_part(da, masked, mask);

    if (act != SK_ACT_NONE) gradient = vec_mul(gradient, vec_act_slope(vec_fma(value, of->scale, of->shift), act));
    if (dz) vec_store_part(dz, masked, mask, gradient);
    *first = vec_add(*first, gradient);
    *second = vec_fma(gradient, vec_sub(value, of->mean), *second);
}

SK_INLINE void backward_vector(const int masked, int lanes, const sk_act act, const float *da, const float *y,
                               const float *later, int rows, ptrdiff_t c, const sk_bn *bn, float *dz, double *sum,
                               double *sum_y) {
    const sk_mask mask = vec_first(lanes);
    const channel_values of = {vec_load_part(bn->scale, masked, mask), vec_load_part(bn->shift, masked, mask),
                               vec_load_part(bn->mean, masked, mask)};
    sk_vec first[ROWS], second[ROWS];
    ptrdiff_t at = 0;
    int r = 0;

    for (int i = 0; i < ROWS; i++) first[i] = second[i] = vec_zero();
    for (; r + ROWS <= rows; r += ROWS, at += ROWS * c) {
        if (later) vec_call(later + r * SK_LANES, ROWS);
#pragma GCC unroll 4
        for (int i = 0; i < ROWS; i++)
            backward_value(masked, mask, act, da + at + i * c, y + at + i * c, &of, dz ? dz + at + i * c : NULL,
                           &first[i], &second[i]);
    }
    for (; r < rows; r++, at += c)
        backward_value(masked, mask, act, da + at, y + at, &of, dz ? dz + at : NULL, &first[0], &second[0]);
    add_double(sum, masked, lanes, sum_of(first));
    add_double(sum_y, masked, lanes, sum_of(second));
}

SK_INLINE void backward_sums_act(const sk_act act, const float *da, const float *y, int rows, int c, const sk_bn *bn,
                                 float *dz, double *sum, double *sum_y) {
    for (int r0 = 0; r0 < rows; r0 += SUM_ROWS) {
        const int count = rows - r0 < SUM_ROWS ? rows - r0 : SUM_ROWS;
        for (int j = 0; j < c; j += SK_LANES) {
            const sk_bn of = {bn->scale + j, bn->shift + j, bn->mean + j};
            const ptrdiff_t at = (ptrdiff_t)r0 * c + j;
            const float *later = y + (ptrdiff_t)r0 * c + ahead_of(c) + count * j;
            float *const to = dz ? dz + at : NULL;
            if (c - j >= SK_LANES)
                backward_vector(0, SK_LANES, act, da + at, y + at, later, count, c, &of, to, sum + j, sum_y + j);
            else backward_vector(1, c - j, act, da + at, y + at, later, count, c, &of, to, sum + j, sum_y + j);
        }
    }
}

static void bn_backward_sums(const float *da, const float *y, int rows, int c, const sk_bn *bn, sk_act act, float *dz,
                             double *sum, double *sum_y) {
    if (act == SK_ACT_NONE) backward_sums_act(SK_ACT_NONE, da, y, rows, c, bn, dz, sum, sum_y);
    else if (act == SK_ACT_RELU) backward_sums_act(SK_ACT_RELU, da, y, rows, c, bn, dz, sum, sum_y);
    else if (act == SK_ACT_HSWISH) backward_sums_act(SK_ACT_HSWISH, da, y, rows, c, bn, dz, sum, sum_y);
    else backward_sums_act(SK_ACT_HSIGMOID, da, y, rows, c, bn, dz, sum, sum_y);
}

SK_INLINE void column_act(const sk_act act, float *da, const float *y, int rows, int c, int lanes, const sk_bn *bn,
                          double *sum, double *sum_y) {
    if (lanes == SK_LANES) backward_vector(0, SK_LANES, act, da, y, NULL, rows, c, bn, da, sum, sum_y);
    else backward_vector(1, lanes, act, da, y, NULL, rows, c, bn, da, sum, sum_y);
}

void SK_WIDE(bn_backward_column)(float *da, const float *y, int rows, int c, int lanes, const sk_bn *bn, sk_act act,
                                 double *sum, double *sum_y) {
    if (act == SK_ACT_RELU) column_act(SK_ACT_RELU, da, y, rows, c, lanes, bn, sum, sum_y);
    else if (act == SK_ACT_HSWISH) column_act(SK_ACT_HSWISH, da, y, rows, c, lanes, bn, sum, sum_y);
    else column_act(act, da, y, rows, c, lanes, bn, sum, sum_y);
}

/* ---- gradient before the batch norm ---- */
SK_INLINE void backward_rows(const int rows, const int masked, sk_mask mask, const float *dz, const float *y,
                             ptrdiff_t c, sk_vec ka, sk_vec kb, sk_vec kc, sk_vec mean, float *dy) {
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++) {
        const sk_vec centred = vec_sub(vec_load_part(y + i * c, masked, mask), mean);
        const sk_vec part = vec_fma(kb, centred, kc);
        vec_store_part(dy + i * c, masked, mask, vec_fma(ka, vec_load_part(dz + i * c, masked, mask), part));
    }
}

static void bn_backward(const float *dz, const float *y, int rows, int c, const float *ka, const float *kb,
                        const float *kc, const float *mean, float *dy) {
    while (rows > 0) {
        const int count = rows >= ROWS ? ROWS : 1;
        int j = 0;
        for (; j + SK_LANES <= c; j += SK_LANES) {
            const sk_vec a = vec_load(ka + j), b = vec_load(kb + j), k = vec_load(kc + j), m = vec_load(mean + j);
            if (count == ROWS) vec_call(y + AHEAD + ROWS * j, ROWS), vec_call(dz + AHEAD + ROWS * j, ROWS);
            if (count == ROWS) backward_rows(ROWS, 0, vec_first(0), dz + j, y + j, c, a, b, k, m, dy + j);
            else backward_rows(1, 0, vec_first(0), dz + j, y + j, c, a, b, k, m, dy + j);
        }
        if (j < c) {
            const sk_mask mask = vec_first(c - j);
            const sk_vec a = vec_load_first(ka + j, mask), b = vec_load_first(kb + j, mask);
            const sk_vec k = vec_load_first(kc + j, mask), m = vec_load_first(mean + j, mask);
            backward_rows(count, 1, mask, dz + j, y + j, c, a, b, k, m, dy + j);
        }
        rows -= count;
        dz += count * (ptrdiff_t)c;
        y += count * (ptrdiff_t)c;
        dy += count * (ptrdiff_t)c;
    }
}

void SK_WIDE(bn_entries)(sk_kernels *table) {
    table->bn_sums = bn_sums;
    table->bn_forward = bn_forward;
    table->bn_backward_sums = bn_backward_sums;
    table->bn_backward = bn_backward;
}
