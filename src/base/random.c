/* SPDX-License-Identifier: Apache-2.0 */
/* Random numbers without state to share: splitmix64 (Steele, Lea, Flood 2014), keyed by seed, stream and index, so
 * that a draw does not depend on the number of threads or on the order of work. */
#include "base/base.h"

#include <math.h>
#include <string.h>

#define GOLDEN 0x9e3779b97f4a7c15u

static inline uint64_t hash64(uint64_t value) {
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
    return value ^ (value >> 31);
}

uint64_t sk_hash64(uint64_t value) { return hash64(value); }

uint64_t sk_hash_bytes(const void *bytes, size_t size) {
    const uint8_t *p = bytes;
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < size; i++) hash = (hash ^ p[i]) * 0x100000001b3u;
    return hash;
}

sk_rng sk_rng_make(uint64_t seed, uint64_t stream, uint64_t index) {
    uint64_t state = sk_hash64(seed + GOLDEN);
    state = sk_hash64(state ^ (stream + 2 * GOLDEN));
    state = sk_hash64(state ^ (index + 3 * GOLDEN));
    return (sk_rng){state};
}

uint64_t sk_rng_next(sk_rng *rng) { return hash64(rng->state += GOLDEN); }

void sk_rng_fill(sk_rng *rng, uint64_t *values, size_t count) {
    for (size_t i = 0; i < count; i++) values[i] = hash64(rng->state += GOLDEN);
}

double sk_rng_uniform(sk_rng *rng) { return (double)(sk_rng_next(rng) >> 11) * 0x1p-53; }

double sk_rng_between(sk_rng *rng, double low, double high) { return low + (high - low) * sk_rng_uniform(rng); }

uint32_t sk_rng_below(sk_rng *rng, uint32_t bound) {
    /* Lemire 2019: multiply, reject the few values that would make small results more likely. */
    uint64_t product = (sk_rng_next(rng) >> 32) * bound;
    if ((uint32_t)product < bound) {
        uint32_t reject = (0u - bound) % bound;
        while ((uint32_t)product < reject) product = (sk_rng_next(rng) >> 32) * bound;
    }
    return (uint32_t)(product >> 32);
}

double sk_rng_normal(sk_rng *rng) {
    double u = 1.0 - sk_rng_uniform(rng); /* (0,1]: log stays finite */
    double v = sk_rng_uniform(rng);
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

void sk_rng_shuffle(sk_rng *rng, void *items, size_t n, size_t size) {
    uint8_t *at = items, kept[64];
    for (; n > 1; n--) {
        uint8_t *other = at + sk_rng_below(rng, (uint32_t)n) * size, *last = at + (n - 1) * size;
        memcpy(kept, other, size);
        memmove(other, last, size); /* they may be the same */
        memcpy(last, kept, size);
    }
}
