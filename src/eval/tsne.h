/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of t-SNE: similarities of the points, the tree of the repulsive forces, the loops in vectors. tsne.c puts
 * them together. */
#ifndef SK_TSNE_H
#define SK_TSNE_H

#include "siskin/status.h"

#include <stddef.h>
#include <stdint.h>

/* ---- loops in vectors: one source, compiled for several instruction sets; all give the same bytes ---------------- */
enum {
    SK_TSNE_ROWS = 8,     /* points of a tile of distances, in rows */
    SK_TSNE_COLUMNS = 32, /* and in columns */
    SK_TSNE_GROUP = 64,   /* points that walk the tree together */
    SK_TSNE_EDGES = 16    /* rows of P are filled up to a multiple of this with zeros */
};
/* Sources of repulsion: places, and how many points stand at each. */
typedef struct sk_tsne_sources {
    const float *x, *y, *mass;
    size_t count;
} sk_tsne_sources;

/* Points that are pushed: places; force and normaliser are added to. */
typedef struct sk_tsne_targets {
    float x[SK_TSNE_GROUP], y[SK_TSNE_GROUP], fx[SK_TSNE_GROUP], fy[SK_TSNE_GROUP], q[SK_TSNE_GROUP];
} sk_tsne_targets;

typedef struct sk_tsne_loops {
    const char *name;
    /* out[ROWS][COLUMNS]: squared distances of points[ROWS], of `dims` each, from the columns of
     * panel[dims][COLUMNS]. */
    void (*distances)(const float *const points[SK_TSNE_ROWS], const float *panel, size_t dims, float *out);
    /* Adds the sum of mass q to q and of mass q^2 (target - source) to the force, q = 1 / (1 + d^2). */
    void (*repel)(const sk_tsne_sources *sources, sk_tsne_targets *targets);
    /* out[2] = sum of p q (y_i - y_j) over `count` edges, a multiple of EDGES; y holds pairs. */
    void (*attract)(const float *y, size_t i, const float *p, const uint32_t *j, size_t count, float out[2]);
} sk_tsne_loops;

/* The fastest for this CPU; SISKIN_CPU=c, avx2 or avxvnni in the environment holds it back. */
const sk_tsne_loops *sk_tsne_loops_here(void);

/* ---- similarities ------------------------------------------------------------------------------------------------ */
/* Joint probabilities p_ij as sparse rows: entries start[i] to start[i+1] are of point i, in the order of j; each row
 * is filled up with edges from i to itself of p = 0, to a multiple of SK_TSNE_EDGES. */
typedef struct sk_tsne_similarity {
    size_t n, *start;
    float *p;
    uint32_t *j;
} sk_tsne_similarity;
/* From the exact nearest neighbours, 3 * perplexity of them; n >= 2. The same bytes for any number of threads. */
sk_status sk_tsne_similar(const float *data, size_t n, size_t dims, double perplexity, int threads,
                          sk_tsne_similarity *out, sk_error *err);
void sk_tsne_similarity_free(sk_tsne_similarity *similarity);

/* First two principal components of data (n x dims), the first with a standard deviation of 1e-4, and a hundredth of
 * noise that parts points that coincide. y: n x 2. */
sk_status sk_tsne_start(const float *data, size_t n, size_t dims, uint64_t seed, int threads, double *y, sk_error *err);

/* ---- repulsion --------------------------------------------------------------------------------------------------- */
typedef struct sk_tree sk_tree;
/* Workspace for n points. */
sk_status sk_tree_create(size_t n, sk_tree **out, sk_error *err);
void sk_tree_free(sk_tree *tree);
/* Builds the tree over y (n x 2); the same bytes for the same input. */
void sk_tree_build(sk_tree *tree, const float *y);
/* force (n x 2) = sum of q^2 (y_i - y_j) over all j, normaliser[i] = sum of q over all j but i. A cell that is narrower
 * than `theta` times its distance counts as one point; theta 0 gives the plain sum. */
void sk_tree_repulsion(const sk_tree *tree, double theta, int threads, float *force, float *normaliser);
#endif
