/* SPDX-License-Identifier: Apache-2.0 */
/* The kinds of composites and the making of one picture. Internal. */
#ifndef SK_DATA_COMPOSE_H
#define SK_DATA_COMPOSE_H

#include "image/paste.h"
#include "siskin/dataset.h"

#define SK_COMPOSE_KINDS 5
/* "small", "dark", "cut", "night", "blur"; NULL past the last. */
const char *sk_compose_kind(int kind);

typedef struct sk_composite {
    sk_image image;  /* SK_CACHE_SIDE square; sk_image_free */
    sk_place place;
    double visible;  /* share of the object's mask inside the picture, 0 to 1 */
    double contrast; /* mean difference to the bare ground where the object is, in levels of 255 */
    int separated;   /* the mask is the object's, not the oval */
} sk_composite;

/* A composite of `kind`. Everything drawn is a function of (seed, kind, number): the ground's piece, place, light, what
 * the camera does. With another patch the same numbers come, whatever its label. */
sk_status sk_composite_make(int kind, const sk_image *patch, const sk_image *ground, uint64_t seed, uint64_t number,
                            sk_composite *out, sk_error *err);
#endif
