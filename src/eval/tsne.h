/* SPDX-License-Identifier: Apache-2.0 */
/* Repulsive forces of t-SNE; tsne.c holds the rest. */
#ifndef SK_TSNE_H
#define SK_TSNE_H

#include "siskin/status.h"

#include <stddef.h>

typedef struct sk_tree sk_tree;
/* Workspace for n points. */
sk_status sk_tree_create(size_t n, sk_tree **out, sk_error *err);
void sk_tree_free(sk_tree *tree);
/* Builds the quadtree over y (n x 2); the same bytes for the same input. */
void sk_tree_build(sk_tree *tree, const double *y);
/* force[2] = sum of q^2 (y_i - y_j), returns sum of q, over all j but i; cells narrower than `theta` times their
 * distance count as one point. Thread-safe. */
double sk_tree_repulsion(const sk_tree *tree, const double *y, size_t i, double theta, double force[2]);
#endif
