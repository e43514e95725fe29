/* SPDX-License-Identifier: Apache-2.0 */
/* Repulsive forces of t-SNE by a quadtree (van der Maaten 2014, after Barnes and Hut 1986). The points are sorted along
 * a curve that visits each cell of the tree in one piece; neighbours on the curve walk the tree together, as in Barnes
 * 1990, so that the list of cells they meet serves 64 points at once, in vectors. */
#include "eval/tsne.h"

#include <math.h>
#include <string.h>

#include "base/base.h"

enum { LEAF = 16, LEVELS = 16, DIGIT = 11, LIST = 256 };

typedef struct cell {
    float x, y, mass, width2; /* centre of mass, points, square of the side */
    uint32_t next;            /* cell after this one's whole subtree */
    uint32_t begin, end;      /* a leaf: its range of the sorted points; else begin = end */
} cell;

typedef struct key {
    uint32_t code, index;
} key;

struct sk_tree {
    size_t n, count;
    float width;       /* of the root */
    key *keys, *spare; /* n */
    float *x, *y;      /* n: places in the order of the curve */
    cell *cells;
};

sk_status sk_tree_create(size_t n, sk_tree **out, sk_error *err) {
    sk_tree *tree = sk_calloc(1, sizeof *tree);
    if (!tree) return sk_fail_memory(err, "t-SNE");
    tree->n = n;
    tree->keys = sk_alloc(n, sizeof *tree->keys);
    tree->spare = sk_alloc(n, sizeof *tree->spare);
    tree->x = sk_alloc(n, sizeof *tree->x);
    tree->y = sk_alloc(n, sizeof *tree->y);
    tree->cells = sk_alloc(2 * n, sizeof *tree->cells); /* a divided cell has at least two children */
    if (!tree->keys || !tree->spare || !tree->x || !tree->y || !tree->cells) {
        sk_tree_free(tree);
        return sk_fail_memory(err, "t-SNE");
    }
    *out = tree;
    return SK_OK;
}

void sk_tree_free(sk_tree *tree) {
    if (!tree) return;
    sk_free(tree->keys);
    sk_free(tree->spare);
    sk_free(tree->x);
    sk_free(tree->y);
    sk_free(tree->cells);
    sk_free(tree);
}

/* ---- order ------------------------------------------------------------------------------------------------------- */

/* Bits of a 16-bit number, one apart. */
static uint32_t spread(uint32_t v) {
    v = (v | v << 8) & 0x00ff00ff;
    v = (v | v << 4) & 0x0f0f0f0f;
    v = (v | v << 2) & 0x33333333;
    return (v | v << 1) & 0x55555555;
}

/* Sorts by code, points of one code by index, as they come. */
static void sort_keys(sk_tree *t) {
    for (int shift = 0; shift < 2 * LEVELS; shift += DIGIT) {
        uint32_t counts[(1 << DIGIT) + 1] = {0};
        const uint32_t mask = (1 << DIGIT) - 1;
        for (size_t i = 0; i < t->n; i++) counts[(t->keys[i].code >> shift & mask) + 1]++;
        for (uint32_t d = 0; d < mask; d++) counts[d + 1] += counts[d];
        for (size_t i = 0; i < t->n; i++) t->spare[counts[t->keys[i].code >> shift & mask]++] = t->keys[i];
        key *sorted = t->spare;
        t->spare = t->keys;
        t->keys = sorted;
    }
}

static void order(sk_tree *t, const float *y) {
    float low[2] = {HUGE_VALF, HUGE_VALF}, high[2] = {-HUGE_VALF, -HUGE_VALF};
    for (size_t i = 0; i < t->n; i++)
        for (size_t k = 0; k < 2; k++) {
            low[k] = y[2 * i + k] < low[k] ? y[2 * i + k] : low[k];
            high[k] = y[2 * i + k] > high[k] ? y[2 * i + k] : high[k];
        }
    t->width = fmaxf(high[0] - low[0], high[1] - low[1]) * 1.000001f + 1e-30f;
    const float scale = (float)(1 << LEVELS) / t->width;
    const uint32_t most = (1 << LEVELS) - 1;
    for (size_t i = 0; i < t->n; i++) {
        const uint32_t a = (uint32_t)((y[2 * i] - low[0]) * scale), b = (uint32_t)((y[2 * i + 1] - low[1]) * scale);
        t->keys[i] = (key){spread(a < most ? a : most) | spread(b < most ? b : most) << 1, (uint32_t)i};
    }
    sort_keys(t);
    for (size_t i = 0; i < t->n; i++) {
        t->x[i] = y[2 * (size_t)t->keys[i].index];
        t->y[i] = y[2 * (size_t)t->keys[i].index + 1];
    }
}

/* ---- cells ------------------------------------------------------------------------------------------------------- */

static size_t end_of_quadrant(const sk_tree *t, size_t begin, size_t end, int shift, uint32_t quadrant) {
    while (begin < end) {
        const size_t middle = begin + (end - begin) / 2;
        if ((t->keys[middle].code >> shift & 3) <= quadrant) begin = middle + 1;
        else end = middle;
    }
    return begin;
}

/* The cell of points begin to end, which share the first `level` digits of their codes; adds its points up in `sum`. */
static void build(sk_tree *t, size_t begin, size_t end, int level, double sum[2]) {
    const size_t index = t->count++;
    const uint32_t differ = t->keys[begin].code ^ t->keys[end - 1].code;
    /* Down to where the points part, or to the smallest cell, where they need not. */
    while (level < LEVELS && !(differ >> 2 * (LEVELS - 1 - level))) level++;
    const int leaf = end - begin <= LEAF || level == LEVELS, shift = 2 * (LEVELS - 1 - level);
    double own[2] = {0, 0};
    if (leaf)
        for (size_t i = begin; i < end; i++) {
            own[0] += t->x[i];
            own[1] += t->y[i];
        }
    size_t from = begin;
    for (uint32_t q = 0; q < 4 && !leaf; q++) {
        const size_t to = end_of_quadrant(t, from, end, shift, q);
        if (to > from) build(t, from, to, level + 1, own);
        from = to;
    }
    const double many = (double)(end - begin);
    const float width = ldexpf(t->width, -level);
    t->cells[index] =
        (cell){(float)(own[0] / many),       (float)(own[1] / many),    (float)many, width * width, (uint32_t)t->count,
               (uint32_t)(leaf ? begin : 0), (uint32_t)(leaf ? end : 0)};
    sum[0] += own[0];
    sum[1] += own[1];
}

void sk_tree_build(sk_tree *t, const float *y) {
    double sum[2] = {0, 0};
    order(t, y);
    t->count = 0;
    if (t->n) build(t, 0, t->n, 0, sum);
}

/* ---- forces ------------------------------------------------------------------------------------------------------ */

/* Sources that a group met; short, so that the sums over it keep their digits. */
typedef struct list {
    float x[LIST], y[LIST], mass[LIST];
    size_t used;
} list;

static void flush(list *met, const sk_tsne_loops *loops, sk_tsne_targets *group) {
    const sk_tsne_sources sources = {met->x, met->y, met->mass, met->used};
    loops->repel(&sources, group);
    met->used = 0;
}

static void meet(list *met, float x, float y, float mass, const sk_tsne_loops *loops, sk_tsne_targets *group) {
    if (met->used == LIST) flush(met, loops, group);
    met->x[met->used] = x;
    met->y[met->used] = y;
    met->mass[met->used++] = mass;
}

/* Distance of v from the range low to high. */
static float outside(float v, float low, float high) { return v < low ? low - v : v > high ? v - high : 0; }

static void walk(const sk_tree *t, float theta2, const float box[4], const sk_tsne_loops *loops, list *met,
                 sk_tsne_targets *group) {
    for (size_t at = 0; at < t->count;) {
        const cell *c = &t->cells[at];
        const float dx = outside(c->x, box[0], box[1]), dy = outside(c->y, box[2], box[3]);
        if (c->width2 < theta2 * (dx * dx + dy * dy)) {
            meet(met, c->x, c->y, c->mass, loops, group);
            at = c->next;
        } else {
            for (size_t j = c->begin; j < c->end; j++) meet(met, t->x[j], t->y[j], 1, loops, group);
            at++; /* after a leaf, the cell that follows it */
        }
    }
    flush(met, loops, group);
}

void sk_tree_repulsion(const sk_tree *t, double theta, int threads, float *force, float *normaliser) {
    const sk_tsne_loops *loops = sk_tsne_loops_here();
    const long n = (long)t->n;
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (long first = 0; first < n; first += SK_TSNE_GROUP) {
        const size_t many = (size_t)(n - first < SK_TSNE_GROUP ? n - first : SK_TSNE_GROUP);
        sk_tsne_targets group = {0};
        list met = {.used = 0};
        float box[4] = {HUGE_VALF, -HUGE_VALF, HUGE_VALF, -HUGE_VALF};
        memcpy(group.x, t->x + first, many * sizeof *group.x);
        memcpy(group.y, t->y + first, many * sizeof *group.y);
        for (size_t k = 0; k < many; k++) {
            box[0] = group.x[k] < box[0] ? group.x[k] : box[0];
            box[1] = group.x[k] > box[1] ? group.x[k] : box[1];
            box[2] = group.y[k] < box[2] ? group.y[k] : box[2];
            box[3] = group.y[k] > box[3] ? group.y[k] : box[3];
        }
        walk(t, (float)(theta * theta), box, loops, &met, &group);
        for (size_t k = 0; k < many; k++) {
            const size_t i = t->keys[(size_t)first + k].index;
            force[2 * i] = group.fx[k];
            force[2 * i + 1] = group.fy[k];
            normaliser[i] = group.q[k] - 1; /* the point met itself */
        }
    }
}
