/* SPDX-License-Identifier: Apache-2.0 */
/* Pooling, squeeze-excitation scaling, activations, sums and Adam: plain loops over vectors, the rest of a row or array
 * under a mask. Sums run in four chains, which hides the latency and keeps the rounding error small. */
#include "kernels/x86/vector.h"
#include "kernels/x86/x86.h"

enum { CHAINS = 4 };

/* Sum over the rows of one vector of columns of x, or of x*by. */
SK_INLINE sk_vec column(const int product, const float *x, const float *by, int rows, ptrdiff_t c, sk_mask mask) {
    sk_vec part[CHAINS];
    int r = 0;

    for (int i = 0; i < CHAINS; i++) part[i] = vec_zero();
    for (; r + CHAINS <= rows; r += CHAINS, x += CHAINS * c, by += product ? CHAINS * c : 0)
#pragma GCC unroll 4
        for (int i = 0; i < CHAINS; i++) {
            const sk_vec value = vec_load_first(x + i * c, mask);
            part[i] = product ? vec_fma(value, vec_load_first(by + i * c, mask), part[i]) : vec_add(part[i], value);
        }
    for (; r < rows; r++, x += c, by += product ? c : 0) {
        const sk_vec value = vec_load_first(x, mask);
        part[0] = product ? vec_fma(value, vec_load_first(by, mask), part[0]) : vec_add(part[0], value);
    }
    return vec_add(vec_add(part[0], part[1]), vec_add(part[2], part[3]));
}

static void pool(const float *x, int rows, int c, float *out) {
    for (int j = 0; j < c; j += SK_LANES) {
        const sk_mask mask = vec_first(c - j);
        sk_vec total = vec_zero();
        for (int r = 0; r < rows; r += 256) /* short partial sums keep the rounding error small */
            total = vec_add(total, column(0, x + (ptrdiff_t)r * c + j, x, rows - r < 256 ? rows - r : 256, c, mask));
        vec_store_first(out + j, mask, vec_div(total, vec_set((float)rows)));
    }
}

static void column_sums(const float *y, int rows, int c, float *out) {
    for (int j = 0; j < c; j += SK_LANES) {
        const sk_mask mask = vec_first(c - j);
        vec_store_first(out + j, mask, vec_add(vec_load_first(out + j, mask), column(0, y + j, y, rows, c, mask)));
    }
}

static void scale_sums(const float *dy, const float *x, int rows, int c, float *dgate) {
    for (int j = 0; j < c; j += SK_LANES) {
        const sk_mask mask = vec_first(c - j);
        vec_store_first(dgate + j, mask, column(1, dy + j, x + j, rows, c, mask));
    }
}

static void scale(const float *x, int rows, int c, const float *gate, float *y) {
    const int whole = c - c % SK_LANES;
    const sk_mask rest = vec_first(c - whole);

    for (int r = 0; r < rows; r++, x += c, y += c) {
        for (int j = 0; j < whole; j += SK_LANES) vec_store(y + j, vec_mul(vec_load(x + j), vec_load(gate + j)));
        if (whole < c)
            vec_store_first(y + whole, rest,
                            vec_mul(vec_load_first(x + whole, rest), vec_load_first(gate + whole, rest)));
    }
}

SK_INLINE void scale_backward_vector(const int masked, sk_mask mask, const float *dy, const float *gate,
                                     const float *plus, float *dx) {
    const sk_vec gradient = dy ? vec_load_part(dy, masked, mask) : vec_zero();
    const sk_vec factor = gate ? vec_load_part(gate, masked, mask) : vec_set(1.0f);

    vec_store_part(dx, masked, mask, vec_fma(gradient, factor, vec_load_part(plus, masked, mask)));
}

static void scale_backward(const float *dy, int rows, int c, const float *gate, const float *plus, float *dx) {
    const int whole = c - c % SK_LANES;
    const sk_mask rest = vec_first(c - whole);

    for (int r = 0; r < rows; r++, dx += c) {
        for (int j = 0; j < whole; j += SK_LANES)
            scale_backward_vector(0, rest, dy ? dy + j : NULL, gate ? gate + j : NULL, plus + j, dx + j);
        if (whole < c)
            scale_backward_vector(1, rest, dy ? dy + whole : NULL, gate ? gate + whole : NULL, plus + whole,
                                  dx + whole);
        if (dy) dy += c;
    }
}

/* ---- over all values ---- */
static void add(size_t count, const float *a, const float *b, float *out) {
    const size_t whole = count - count % SK_LANES;
    const sk_mask rest = vec_first((int)(count - whole));

    for (size_t i = 0; i < whole; i += SK_LANES) vec_store(out + i, vec_add(vec_load(a + i), vec_load(b + i)));
    if (whole < count)
        vec_store_first(out + whole, rest, vec_add(vec_load_first(a + whole, rest), vec_load_first(b + whole, rest)));
}

void SK_WIDE(act)(size_t count, const float *x, sk_act kind, float *y) {
    const size_t whole = count - count % SK_LANES;
    const sk_mask rest = vec_first((int)(count - whole));

    for (size_t i = 0; i < whole; i += SK_LANES) vec_store(y + i, vec_act(vec_load(x + i), kind));
    if (whole < count) vec_store_first(y + whole, rest, vec_act(vec_load_first(x + whole, rest), kind));
}

static void act_backward(size_t count, const float *dy, const float *x, sk_act kind, float *dx) {
    const size_t whole = count - count % SK_LANES;
    const sk_mask rest = vec_first((int)(count - whole));

    for (size_t i = 0; i < whole; i += SK_LANES)
        vec_store(dx + i, vec_mul(vec_load(dy + i), vec_act_slope(vec_load(x + i), kind)));
    if (whole < count)
        vec_store_first(
            dx + whole, rest,
            vec_mul(vec_load_first(dy + whole, rest), vec_act_slope(vec_load_first(x + whole, rest), kind)));
}

typedef struct adam_values {
    sk_vec b1, b2, rest1, rest2, step, root, eps;
} adam_values;

SK_INLINE void adam_vector(const int masked, sk_mask mask, const adam_values *of, float *w, const float *g, float *m,
                           float *v) {
    const sk_vec gradient = vec_load_part(g, masked, mask);
    const sk_vec first = vec_fma(of->rest1, gradient, vec_mul(of->b1, vec_load_part(m, masked, mask)));
    const sk_vec second =
        vec_fma(vec_mul(of->rest2, gradient), gradient, vec_mul(of->b2, vec_load_part(v, masked, mask)));
    const sk_vec size = vec_fma(vec_sqrt(second), of->root, of->eps);
    const sk_vec weight = vec_load_part(w, masked, mask);

    vec_store_part(m, masked, mask, first);
    vec_store_part(v, masked, mask, second);
    vec_store_part(w, masked, mask, vec_sub(weight, vec_div(vec_mul(of->step, first), size)));
}

static void adam(size_t count, float *w, const float *g, float *m, float *v, float b1, float b2, float step_size,
                 float inv_sqrt_bc2, float eps) {
    const adam_values of = {vec_set(b1),        vec_set(b2),           vec_set(1.0f - b1), vec_set(1.0f - b2),
                            vec_set(step_size), vec_set(inv_sqrt_bc2), vec_set(eps)};
    const size_t whole = count - count % SK_LANES;
    const sk_mask rest = vec_first((int)(count - whole));

    for (size_t i = 0; i < whole; i += SK_LANES) adam_vector(0, rest, &of, w + i, g + i, m + i, v + i);
    if (whole < count) adam_vector(1, rest, &of, w + whole, g + whole, m + whole, v + whole);
}

void SK_WIDE(elementwise_entries)(sk_kernels *table) {
    table->pool = pool;
    table->column_sums = column_sums;
    table->scale = scale;
    table->scale_sums = scale_sums;
    table->scale_backward = scale_backward;
    table->add = add;
    table->act = SK_WIDE(act);
    table->act_backward = act_backward;
    table->adam = adam;
}
