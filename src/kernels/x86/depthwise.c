/* SPDX-License-Identifier: Apache-2.0 */
/* Depthwise convolution on NHWC, one vector of channels at a time. The rows that the kernel sees are copied to a ring
 * in the first-level cache, with zeros where the picture ends and in the lanes that do not exist, so that what computes
 * knows no borders. Kernels of 3 and 5 at strides 1 and 2; others go to the reference. */
#include <string.h>

#include "kernels/x86/vector.h"
#include "kernels/x86/x86.h"

#ifdef __AVX512F__
enum { COUNT = 14, WEIGHT_ROWS = 5 }; /* neighbouring outputs in registers; kernel rows whose gradient is */
#define SK_EACH_COUNT(make, ...)                                                                                       \
    make(1, __VA_ARGS__) make(2, __VA_ARGS__) make(3, __VA_ARGS__) make(4, __VA_ARGS__) make(5, __VA_ARGS__)           \
        make(6, __VA_ARGS__) make(7, __VA_ARGS__) make(8, __VA_ARGS__) make(9, __VA_ARGS__) make(10, __VA_ARGS__)      \
            make(11, __VA_ARGS__) make(12, __VA_ARGS__) make(13, __VA_ARGS__) make(14, __VA_ARGS__)
#else
enum { COUNT = 8, WEIGHT_ROWS = 3 };
#define SK_EACH_COUNT(make, ...)                                                                                       \
    make(1, __VA_ARGS__) make(2, __VA_ARGS__) make(3, __VA_ARGS__) make(4, __VA_ARGS__) make(5, __VA_ARGS__)           \
        make(6, __VA_ARGS__) make(7, __VA_ARGS__) make(8, __VA_ARGS__)
#endif
enum { MAX_KERNEL = 5, STRIP = 28, RING_COLUMNS = (STRIP - 1) * 2 + MAX_KERNEL };

static int max_int(int a, int b) { return a > b ? a : b; }
static int min_int(int a, int b) { return a < b ? a : b; }

static int served(const sk_dw *d) {
    return (d->kernel == 3 || d->kernel == 5) && (d->stride == 1 || d->stride == 2) && d->pad >= 0 &&
           d->pad < d->kernel;
}

/* ---- the ring ---- */
/* Some columns of the last rows of a picture, one vector of channels, any of them outside the picture. */
typedef struct sk_ring {
    float rows[MAX_KERNEL][RING_COLUMNS][SK_LANES] __attribute__((aligned(64)));
    const float *from; /* row `row0` of the picture, first channel */
    int row0, height, width;
    ptrdiff_t c;
    int first, columns; /* columns kept: picture columns first..first+columns-1 */
    int next;           /* first row that is not in the ring yet */
    int whole;          /* all lanes exist */
    sk_mask mask;
    int activates;      /* what is copied becomes act(x*scale + shift) */
    sk_act act;
    sk_vec scale, shift;
} sk_ring;

/* Channels from c on of a picture [height][width][channels] whose row `row0` x points at. bn may be NULL. */
static void open_ring(sk_ring *r, const float *x, int row0, int height, int width, int channels, int c, const sk_bn *bn,
                      sk_act act) {
    r->from = x + c;
    r->row0 = row0;
    r->height = height;
    r->width = width;
    r->c = channels;
    r->whole = channels - c >= SK_LANES;
    r->mask = vec_first(channels - c);
    r->activates = bn != NULL;
    r->act = act;
    if (!bn) return;
    r->scale = vec_load_first(bn->scale + c, r->mask);
    r->shift = vec_load_first(bn->shift + c, r->mask);
}

static void start_ring(sk_ring *r, int first, int columns, int next) {
    r->first = first;
    r->columns = columns;
    r->next = next;
}

/* Rows are numbered from -MAX_KERNEL. */
SK_INLINE float *ring_row(sk_ring *r, int y) { return r->rows[(y + 2 * MAX_KERNEL) % MAX_KERNEL][0]; }

SK_INLINE void copy_pixels(const float *from, ptrdiff_t c, int count, const int masked, sk_mask mask, float *to) {
    for (; count >= 4; count -= 4, from += 4 * c, to += 4 * SK_LANES)
#pragma GCC unroll 4
        for (int x = 0; x < 4; x++) vec_store(to + x * SK_LANES, vec_load_part(from + x * c, masked, mask));
    for (; count > 0; count--, from += c, to += SK_LANES) vec_store(to, vec_load_part(from, masked, mask));
}

/* The same through batch norm and activation. These pictures come from memory: the row below is called for. */
SK_INLINE void activate_pixels(const sk_act act, const sk_ring *r, const float *from, int count, const int masked,
                               float *to) {
    const ptrdiff_t c = r->c, row = r->width * c;
    const sk_vec scale = r->scale, shift = r->shift;

#pragma GCC unroll 4
    for (int x = 0; x < count; x++, from += c, to += SK_LANES) {
        vec_call(from + row, 1);
        vec_store(to, vec_act(vec_fma(vec_load_part(from, masked, r->mask), scale, shift), act));
    }
}

static void copy_activated(const sk_ring *r, const float *from, int count, float *to) {
    if (r->act == SK_ACT_RELU && r->whole) activate_pixels(SK_ACT_RELU, r, from, count, 0, to);
    else if (r->act == SK_ACT_HSWISH && r->whole) activate_pixels(SK_ACT_HSWISH, r, from, count, 0, to);
    else activate_pixels(r->act, r, from, count, 1, to);
}

static void clear_pixels(float *to, int count) {
    for (; count > 0; count--, to += SK_LANES) vec_store(to, vec_zero());
}

static void copy_row(const sk_ring *r, int y, float *to) {
    const int before = min_int(max_int(-r->first, 0), r->columns);
    const int count = max_int(min_int(r->width - r->first, r->columns) - before, 0);
    const float *from = r->from + ((ptrdiff_t)(y - r->row0) * r->width + r->first + before) * r->c;

    if (y < 0 || y >= r->height) {
        clear_pixels(to, r->columns);
        return;
    }
    clear_pixels(to, before);
    to += before * SK_LANES;
    if (r->activates) copy_activated(r, from, count, to);
    else if (r->whole) copy_pixels(from, r->c, count, 0, r->mask, to);
    else copy_pixels(from, r->c, count, 1, r->mask, to);
    clear_pixels(to + count * SK_LANES, r->columns - before - count);
}

/* Makes rows y..y+count-1 be there (y never falls) and points at them. */
SK_INLINE void want_rows(sk_ring *r, int y, int count, const float **rows) {
    for (r->next = max_int(r->next, y); r->next < y + count; r->next++) copy_row(r, r->next, ring_row(r, r->next));
    for (int i = 0; i < count; i++) rows[i] = ring_row(r, y + i);
}

/* ---- outputs ---- */
typedef struct sk_outputs {
    const float *rows[MAX_KERNEL]; /* ring rows */
    ptrdiff_t at;                  /* where in them the first tap of the first output is */
    const float *taps;             /* [rows][columns of the kernel][SK_LANES] */
    int row_count;
    sk_vec start;
    sk_act act;
    float *y;
    ptrdiff_t step; /* from output to output */
    int whole;
    sk_mask mask;
} sk_outputs;

/* `count` neighbouring outputs of a kernel `width` taps wide whose window moves by `stride`: constants after inlining.
 * Each value of a row is loaded once and given to every output that it feeds. */
SK_INLINE void outputs(const int count, const int width, const int stride, const sk_outputs *o) {
    sk_vec sum[COUNT];
    const float *taps = o->taps;

#pragma GCC unroll 14
    for (int i = 0; i < count; i++) sum[i] = o->start;
    for (int ky = 0; ky < o->row_count; ky++, taps += width * SK_LANES) {
        const float *row = o->rows[ky] + o->at;
        sk_vec tap[MAX_KERNEL];
#pragma GCC unroll 5
        for (int kx = 0; kx < width; kx++) tap[kx] = vec_load(taps + kx * SK_LANES);
#pragma GCC unroll 32
        for (int x = 0; x < (count - 1) * stride + width; x++) {
            const sk_vec value = vec_load(row + x * SK_LANES);
#pragma GCC unroll 5
            for (int kx = 0; kx < width; kx++)
                if (x >= kx && (x - kx) % stride == 0 && (x - kx) / stride < count)
                    sum[(x - kx) / stride] = vec_fma(value, tap[kx], sum[(x - kx) / stride]);
        }
    }
#pragma GCC unroll 14
    for (int i = 0; i < count; i++) {
        const sk_vec value = o->act ? vec_act(sum[i], o->act) : sum[i];
        if (o->whole) vec_store(o->y + i * o->step, value);
        else vec_store_first(o->y + i * o->step, o->mask, value);
    }
}

typedef void (*sk_output_shape)(const sk_outputs *o);
#define SK_DEFINE_OUTPUTS(count, width, stride)                                                                        \
    static void outputs_##count##_##width##_##stride(const sk_outputs *o) { outputs((count), (width), (stride), o); }
#define SK_OUTPUTS_ENTRY(count, width, stride) outputs_##count##_##width##_##stride,
SK_EACH_COUNT(SK_DEFINE_OUTPUTS, 1, 1)
SK_EACH_COUNT(SK_DEFINE_OUTPUTS, 2, 1)
SK_EACH_COUNT(SK_DEFINE_OUTPUTS, 3, 1)
SK_EACH_COUNT(SK_DEFINE_OUTPUTS, 5, 1)
SK_EACH_COUNT(SK_DEFINE_OUTPUTS, 3, 2)
SK_EACH_COUNT(SK_DEFINE_OUTPUTS, 5, 2)
static const sk_output_shape shapes[6][COUNT] = {
    {SK_EACH_COUNT(SK_OUTPUTS_ENTRY, 1, 1)}, {SK_EACH_COUNT(SK_OUTPUTS_ENTRY, 2, 1)},
    {SK_EACH_COUNT(SK_OUTPUTS_ENTRY, 3, 1)}, {SK_EACH_COUNT(SK_OUTPUTS_ENTRY, 5, 1)},
    {SK_EACH_COUNT(SK_OUTPUTS_ENTRY, 3, 2)}, {SK_EACH_COUNT(SK_OUTPUTS_ENTRY, 5, 2)}};

/* `columns` outputs in groups of nearly equal size; moves o->at and o->y along. */
SK_INLINE void output_row(sk_outputs *o, int width, int stride, int columns) {
    const sk_output_shape *shape = shapes[stride == 2 ? 3 + width / 2 : width == 5 ? 3 : width - 1];

    for (int left = (columns + COUNT - 1) / COUNT; left > 0; left--) {
        const int count = columns / left;
        shape[count - 1](o);
        columns -= count;
        o->y += count * o->step;
        o->at += count * stride * SK_LANES;
    }
}

/* One vector of channels of a kernel, or of every second row and column of one (step -2, -1: from its end). */
static void pick_taps(const float *weight, ptrdiff_t c, int kernel, int ky, int rows, int kx, int columns, int step,
                      const sk_outputs *o, float *to) {
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++, to += SK_LANES) {
            const float *from = weight + ((ky + i * step) * kernel + kx + j * step) * c;
            vec_store(to, vec_load_part(from, !o->whole, o->mask));
        }
}

/* A gradient that goes on through batch norm and activation as soon as some rows of it are made. */
enum { ONWARD = 64 }; /* values of a channel that are worth a call, where rows follow each other without a gap */
typedef struct sk_onward {
    const sk_dw *d;
    const float *x;
    float *dx;
    double *sum, *sum_y;
} sk_onward;

/* Channels from c on of `columns` columns, up to the row before `end`; `row` is the first that is still to be taken,
 * and moves on. Short rows wait for each other. */
static void go_on(const sk_onward *o, int c, int *row, int end, int column, int columns) {
    const sk_dw *d = o->d;
    const sk_bn bn = {d->bn->scale + c, d->bn->shift + c, d->bn->mean + c};
    const int dense = columns == d->w, rows = dense ? end - *row : 1;

    if (dense && rows * columns < ONWARD && end < d->h) return;
    for (; *row < end; *row += rows) {
        const ptrdiff_t at = ((ptrdiff_t)*row * d->w + column) * d->c + c;

        SK_WIDE(bn_backward_column)(o->dx + at, o->x + at, rows * columns, d->c, min_int(d->c - c, SK_LANES), &bn,
                                    d->act, o->sum + c, o->sum_y + c);
    }
}

/* The convolution of `s` with kernel rows and columns from their end if `turned`; x points at picture row x_row0.
 * onward: where its rows go on to, or NULL. */
static void convolve(const int turned, const sk_dw *s, const float *x, int x_row0, const float *weight,
                     const float *bias, sk_act act, int oy0, int oy1, float *y, const sk_onward *onward) {
    const int k = s->kernel, from = turned ? k - 1 : 0;
    float taps[MAX_KERNEL * MAX_KERNEL * SK_LANES] __attribute__((aligned(64)));
    sk_ring ring;

    for (int c = 0; c < s->c; c += SK_LANES) {
        sk_outputs o = {.taps = taps, .row_count = k, .act = act, .step = s->c, .whole = s->c - c >= SK_LANES};
        open_ring(&ring, x, x_row0, s->h, s->w, s->c, c, s->bn, s->act);
        o.mask = ring.mask;
        o.start = bias ? vec_load_first(bias + c, o.mask) : vec_zero();
        pick_taps(weight + c, s->c, k, from, k, from, k, turned ? -1 : 1, &o, taps);
        for (int ox = 0; ox < s->ow; ox += STRIP) {
            const int columns = min_int(STRIP, s->ow - ox);
            int waiting = oy0;
            start_ring(&ring, ox * s->stride - s->pad, (columns - 1) * s->stride + k, oy0 * s->stride - s->pad);
            for (int oy = oy0; oy < oy1; oy++) {
                o.y = y + ((ptrdiff_t)(oy - oy0) * s->ow + ox) * s->c + c;
                o.at = 0;
                want_rows(&ring, oy * s->stride - s->pad, k, o.rows);
                output_row(&o, k, s->stride, columns);
                if (onward) go_on(onward, c, &waiting, oy + 1, ox, columns);
            }
        }
    }
}

static void dw_forward(const sk_dw *s, const float *x, int x_row0, const float *weight, const float *bias, sk_act act,
                       int oy0, int oy1, float *y) {
    if (served(s)) convolve(0, s, x, x_row0, weight, bias, act, oy0, oy1, y, NULL);
    else sk_kernels_c()->dw_forward(s, x, x_row0, weight, bias, act, oy0, oy1, y);
}

/* ---- gradient of the input ---- */
/* At stride 2 input row 2q+parity meets every second kernel row: the last of them, how many, and the output row that
 * the last meets, counted from q; output rows rise as kernel rows fall. Columns alike. */
typedef struct sk_parity {
    int last, count, first;
} sk_parity;

static sk_parity parity_of(const sk_dw *s, int parity) {
    const int odd = (parity + s->pad) % 2, last = s->kernel - 1 - (s->kernel - 1 - odd) % 2;

    return (sk_parity){last, last / 2 + 1, (parity + s->pad - last) / 2};
}

typedef struct sk_spread { /* what stays the same for one vector of channels */
    const sk_dw *s;
    sk_parity parity[2];
    float taps[2][2][9 * SK_LANES] __attribute__((aligned(64)));
    sk_outputs o;
} sk_spread;

/* Input rows 2q and 2q+1, columns 2*q0.. of which `columns` are even. */
static void spread_rows(sk_spread *d, sk_ring *ring, int q, int q0, int columns, float *dx) {
    const sk_dw *s = d->s;

    for (int py = 0; py < 2 && 2 * q + py < s->h; py++) {
        const sk_parity *rows = &d->parity[py];
        d->o.row_count = rows->count;
        want_rows(ring, q + rows->first, rows->count, d->o.rows);
        for (int px = 0; px < 2; px++) {
            const sk_parity *cols = &d->parity[px];
            d->o.at = (ptrdiff_t)(q0 + cols->first - ring->first) * SK_LANES;
            d->o.taps = d->taps[py][px];
            d->o.y = dx + ((ptrdiff_t)(2 * q + py) * s->w + 2 * q0 + px) * s->c;
            output_row(&d->o, cols->count, 1, min_int(columns, (s->w - px + 1) / 2 - q0));
        }
    }
}

static void backward_data_2(const sk_dw *s, const float *dy, const float *weight, float *dx, const sk_onward *onward) {
    sk_spread d = {.s = s, .parity = {parity_of(s, 0), parity_of(s, 1)}};
    const int low = min_int(d.parity[0].first, d.parity[1].first);
    const int high = max_int(d.parity[0].first + d.parity[0].count, d.parity[1].first + d.parity[1].count);
    sk_ring ring;

    for (int c = 0; c < s->c; c += SK_LANES) {
        d.o = (sk_outputs){.start = vec_zero(), .step = 2 * (ptrdiff_t)s->c, .whole = s->c - c >= SK_LANES};
        open_ring(&ring, dy, 0, s->oh, s->ow, s->c, c, NULL, SK_ACT_NONE);
        d.o.mask = ring.mask;
        for (int i = 0; i < 4; i++) {
            const sk_parity *rows = &d.parity[i / 2], *cols = &d.parity[i % 2];
            pick_taps(weight + c, s->c, s->kernel, rows->last, rows->count, cols->last, cols->count, -2, &d.o,
                      d.taps[i / 2][i % 2]);
        }
        for (int q0 = 0; 2 * q0 < s->w; q0 += STRIP) {
            const int columns = min_int(STRIP, (s->w + 1) / 2 - q0);
            int waiting = 0;
            start_ring(&ring, q0 + low, columns - 1 + high - low, low);
            for (int q = 0; 2 * q < s->h; q++) {
                const float *rows[MAX_KERNEL];
                want_rows(&ring, q + low, high - low, rows);
                spread_rows(&d, &ring, q, q0, columns, dx + c);
                if (onward)
                    go_on(onward, c, &waiting, min_int(2 * q + 2, s->h), 2 * q0, min_int(2 * columns, s->w - 2 * q0));
            }
        }
    }
}

static void dw_backward_data(const sk_dw *s, const float *dy, const float *weight, const float *x, float *dx,
                             double *sum, double *sum_y) {
    const sk_onward norm = {s, x, dx, sum, sum_y}, *onward = s->bn ? &norm : NULL;

    if (!served(s)) {
        sk_kernels_c()->dw_backward_data(s, dy, weight, x, dx, sum, sum_y);
    } else if (s->stride == 2) {
        backward_data_2(s, dy, weight, dx, onward);
    } else { /* a convolution with the turned kernel */
        const sk_dw back = {.h = s->oh, .w = s->ow, .c = s->c, .oh = s->h, .ow = s->w, .kernel = s->kernel,
                            .stride = 1, .pad = s->kernel - 1 - s->pad};
        convolve(1, &back, dy, 0, weight, NULL, SK_ACT_NONE, 0, s->h, dx, onward);
    }
}

/* ---- gradient of the weights ---- */
/* `columns` outputs of one row: sums of `height` kernel rows of `width` taps stay in registers. */
SK_INLINE void weights(const int height, const int width, const int stride, const float *const *rows, const float *dy,
                       ptrdiff_t c, int columns, int whole, sk_mask mask, float *sums) {
    sk_vec sum[MAX_KERNEL][MAX_KERNEL];
    const float *row[MAX_KERNEL];

#pragma GCC unroll 5
    for (int ky = 0; ky < height; ky++) {
        row[ky] = rows[ky];
#pragma GCC unroll 5
        for (int kx = 0; kx < width; kx++) sum[ky][kx] = vec_load(sums + (ky * width + kx) * SK_LANES);
    }
    for (int x = 0; x < columns; x++, dy += c) {
        const sk_vec gradient = whole ? vec_load(dy) : vec_load_first(dy, mask);
#pragma GCC unroll 5
        for (int ky = 0; ky < height; ky++) {
#pragma GCC unroll 5
            for (int kx = 0; kx < width; kx++)
                sum[ky][kx] = vec_fma(vec_load(row[ky] + kx * SK_LANES), gradient, sum[ky][kx]);
            row[ky] += stride * SK_LANES;
        }
    }
#pragma GCC unroll 5
    for (int ky = 0; ky < height; ky++)
#pragma GCC unroll 5
        for (int kx = 0; kx < width; kx++) vec_store(sums + (ky * width + kx) * SK_LANES, sum[ky][kx]);
}

SK_INLINE void weight_row(const int kernel, const int stride, const float *const *rows, const float *dy, ptrdiff_t c,
                          int columns, int whole, sk_mask mask, float *sums) {
    const int height = kernel < WEIGHT_ROWS ? kernel : WEIGHT_ROWS;

    weights(height, kernel, stride, rows, dy, c, columns, whole, mask, sums);
    if (height < kernel)
        weights(kernel - height, kernel, stride, rows + height, dy, c, columns, whole, mask,
                sums + height * kernel * SK_LANES);
}

static void dw_backward_weight(const sk_dw *s, const float *dy, const float *x, float *dweight) {
    float sums[MAX_KERNEL * MAX_KERNEL * SK_LANES] __attribute__((aligned(64)));
    const int k = s->kernel;
    sk_ring ring;

    if (!served(s)) {
        sk_kernels_c()->dw_backward_weight(s, dy, x, dweight);
        return;
    }
    for (int c = 0; c < s->c; c += SK_LANES) {
        open_ring(&ring, x, 0, s->h, s->w, s->c, c, s->bn, s->act);
        memset(sums, 0, sizeof sums);
        for (int ox = 0; ox < s->ow; ox += STRIP) {
            const int columns = min_int(STRIP, s->ow - ox);
            start_ring(&ring, ox * s->stride - s->pad, (columns - 1) * s->stride + k, -s->pad);
            for (int oy = 0; oy < s->oh; oy++) {
                const float *rows[MAX_KERNEL], *from = dy + ((ptrdiff_t)oy * s->ow + ox) * s->c + c;
                want_rows(&ring, oy * s->stride - s->pad, k, rows);
                if (k == 3 && s->stride == 1) weight_row(3, 1, rows, from, s->c, columns, ring.whole, ring.mask, sums);
                else if (k == 3) weight_row(3, 2, rows, from, s->c, columns, ring.whole, ring.mask, sums);
                else if (s->stride == 1) weight_row(5, 1, rows, from, s->c, columns, ring.whole, ring.mask, sums);
                else weight_row(5, 2, rows, from, s->c, columns, ring.whole, ring.mask, sums);
            }
        }
        for (int i = 0; i < k * k; i++) {
            float *to = dweight + (ptrdiff_t)i * s->c + c;
            vec_store_first(to, ring.mask, vec_add(vec_load_first(to, ring.mask), vec_load(sums + i * SK_LANES)));
        }
    }
}

void SK_WIDE(depthwise_entries)(sk_kernels *table) {
    table->dw_forward = dw_forward;
    table->dw_backward_data = dw_backward_data;
    table->dw_backward_weight = dw_backward_weight;
}
