/* SPDX-License-Identifier: Apache-2.0 */
/* The quadtree of Barnes-Hut t-SNE (van der Maaten 2014, after Barnes and Hut 1986), built by dividing an index list so
 * that each cell is a range of it. A cell is not divided below a depth, which is how points that coincide end. */
#include "eval/tsne.h"

#include <math.h>

#include "base/base.h"

enum { LEAF = 4, DEPTH = 40 };

typedef struct cell {
    double x, y, width; /* centre of mass, side */
    size_t begin, end;  /* range of order[] */
    size_t next;        /* cell after this one's whole subtree */
    int leaf;
} cell;

struct sk_tree {
    size_t n, count, capacity, *order, *buffer;
    cell *cells;
};

sk_status sk_tree_create(size_t n, sk_tree **out, sk_error *err) {
    sk_tree *tree = sk_calloc(1, sizeof *tree);
    if (!tree) return sk_fail_memory(err, "t-SNE");
    tree->n = n;
    /* A divided cell has at least two non-empty children, except in a chain: chains are skipped while dividing. */
    tree->capacity = 2 * n + 2;
    tree->order = sk_alloc(n ? n : 1, sizeof *tree->order);
    tree->buffer = sk_alloc(n ? n : 1, sizeof *tree->buffer);
    tree->cells = sk_alloc(tree->capacity, sizeof *tree->cells);
    if (!tree->order || !tree->buffer || !tree->cells) {
        sk_tree_free(tree);
        return sk_fail_memory(err, "t-SNE");
    }
    *out = tree;
    return SK_OK;
}

void sk_tree_free(sk_tree *tree) {
    if (!tree) return;
    sk_free(tree->order);
    sk_free(tree->buffer);
    sk_free(tree->cells);
    sk_free(tree);
}

static int quadrant(const double *y, size_t i, double cx, double cy) {
    return (y[2 * i] >= cx) + 2 * (y[2 * i + 1] >= cy);
}

/* Stable division of the range by quadrant; ends[q] is where quadrant q ends. */
static void divide(sk_tree *t, const double *y, size_t begin, size_t end, double cx, double cy, size_t ends[4]) {
    size_t at = begin;
    for (int q = 0; q < 4; q++) {
        for (size_t k = begin; k < end; k++)
            if (quadrant(y, t->order[k], cx, cy) == q) t->buffer[at++] = t->order[k];
        ends[q] = at;
    }
    for (size_t k = begin; k < end; k++) t->order[k] = t->buffer[k];
}

static void build(sk_tree *t, const double *y, size_t begin, size_t end, double x0, double y0, double width,
                  int depth) {
    size_t ends[4] = {0};
    const size_t index = t->count++;
    cell *c = &t->cells[index];
    *c = (cell){.begin = begin, .end = end};
    for (size_t k = begin; k < end; k++) {
        c->x += y[2 * t->order[k]];
        c->y += y[2 * t->order[k] + 1];
    }
    c->x /= (double)(end - begin);
    c->y /= (double)(end - begin);
    c->leaf = end - begin <= LEAF;
    while (!c->leaf) {
        if (depth++ >= DEPTH) {
            c->leaf = 1;
            break;
        }
        divide(t, y, begin, end, x0 + width / 2, y0 + width / 2, ends);
        int only = -1;
        for (int q = 0; q < 4; q++)
            if (ends[q] - (q ? ends[q - 1] : begin) == end - begin) only = q;
        if (only < 0) break;
        width /= 2;
        x0 += only & 1 ? width : 0;
        y0 += only & 2 ? width : 0;
    }
    c->width = width;
    for (int q = 0; !c->leaf && q < 4; q++) {
        const size_t from = q ? ends[q - 1] : begin;
        if (from < ends[q])
            build(t, y, from, ends[q], x0 + (q & 1 ? width / 2 : 0), y0 + (q & 2 ? width / 2 : 0), width / 2, depth);
    }
    t->cells[index].next = t->count;
}

void sk_tree_build(sk_tree *t, const double *y) {
    double low[2] = {HUGE_VAL, HUGE_VAL}, high[2] = {-HUGE_VAL, -HUGE_VAL};
    for (size_t i = 0; i < t->n; i++) {
        t->order[i] = i;
        for (int k = 0; k < 2; k++) {
            low[k] = fmin(low[k], y[2 * i + (size_t)k]);
            high[k] = fmax(high[k], y[2 * i + (size_t)k]);
        }
    }
    t->count = 0;
    if (t->n) build(t, y, 0, t->n, low[0], low[1], fmax(high[0] - low[0], high[1] - low[1]) * (1 + 1e-9) + 1e-12, 0);
}

double sk_tree_repulsion(const sk_tree *t, const double *y, size_t i, double theta, double force[2]) {
    const double px = y[2 * i], py = y[2 * i + 1];
    double sum = 0, fx = 0, fy = 0;
    for (size_t at = 0; at < t->count;) {
        const cell *c = &t->cells[at];
        const double dx = px - c->x, dy = py - c->y, d2 = dx * dx + dy * dy;
        if (c->width * c->width < theta * theta * d2) {
            const double q = 1 / (1 + d2), many = (double)(c->end - c->begin);
            sum += many * q;
            fx += many * q * q * dx;
            fy += many * q * q * dy;
            at = c->next;
        } else if (c->leaf) {
            for (size_t k = c->begin; k < c->end; k++) {
                const size_t j = t->order[k];
                if (j == i) continue;
                const double ex = px - y[2 * j], ey = py - y[2 * j + 1], q = 1 / (1 + ex * ex + ey * ey);
                sum += q;
                fx += q * q * ex;
                fy += q * q * ey;
            }
            at = c->next;
        } else {
            at++;
        }
    }
    force[0] = fx;
    force[1] = fy;
    return sum;
}
