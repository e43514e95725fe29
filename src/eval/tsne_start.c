/* SPDX-License-Identifier: Apache-2.0 */
/* Where t-SNE starts: the first two principal components, so that the layout of the clusters means something. */
#include "eval/tsne.h"

#include <math.h>
#include <string.h>

#include "base/base.h"

enum { ROUNDS = 40, COLUMNS = 64 };

/* Makes the two vectors orthogonal, each of length 1, or zero. */
static void orthonormal(double *v, size_t dims) {
    for (int c = 0; c < 2; c++) {
        double *w = v + (size_t)c * dims, dot = 0, norm = 0;
        for (size_t d = 0; c && d < dims; d++) dot += v[d] * w[d];
        for (size_t d = 0; c && d < dims; d++) w[d] -= dot * v[d];
        for (size_t d = 0; d < dims; d++) norm += w[d] * w[d];
        norm = sqrt(norm);
        for (size_t d = 0; d < dims; d++) w[d] = norm > 1e-150 ? w[d] / norm : 0;
    }
}

/* u (n x 2) = (data - mean) v: each row is summed by one thread. */
static void project(const float *data, size_t n, size_t dims, const double *mean, const double *v, int threads,
                    double *u) {
    const long rows = (long)n;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (long i = 0; i < rows; i++) {
        const float *point = data + (size_t)i * dims;
        double a = 0, b = 0;
#pragma omp simd reduction(+ : a, b)
        for (size_t d = 0; d < dims; d++) {
            const double x = (double)point[d] - mean[d];
            a += x * v[d];
            b += x * v[dims + d];
        }
        u[2 * i] = a;
        u[2 * i + 1] = b;
    }
}

/* v (2 x dims) = u^T (data - mean): each column is summed by one thread, in the order of the rows. */
static void gather(const float *data, size_t n, size_t dims, const double *mean, const double *u, int threads,
                   double *v) {
    const long columns = (long)dims;
    memset(v, 0, 2 * dims * sizeof *v);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (long first = 0; first < columns; first += COLUMNS) {
        const size_t end = (size_t)(first + COLUMNS < columns ? first + COLUMNS : columns);
        for (size_t i = 0; i < n; i++)
            for (size_t d = (size_t)first; d < end; d++) {
                const double x = (double)data[i * dims + d] - mean[d];
                v[d] += x * u[2 * i];
                v[dims + d] += x * u[2 * i + 1];
            }
    }
}

/* Orthogonal iteration with the covariance, which is never formed. */
sk_status sk_tsne_start(const float *data, size_t n, size_t dims, uint64_t seed, int threads, double *y,
                        sk_error *err) {
    double *mean = sk_calloc(dims, sizeof *mean), *v = sk_alloc(dims, 2 * sizeof *v), *u = sk_alloc(n, 2 * sizeof *u);
    sk_status status = mean && v && u ? SK_OK : sk_fail_memory(err, "t-SNE");
    if (status) goto done;
    sk_rng rng = sk_rng_make(seed, 0x7453, 0);
    for (size_t d = 0; d < 2 * dims; d++) v[d] = sk_rng_normal(&rng);
    for (size_t i = 0; i < n; i++)
        for (size_t d = 0; d < dims; d++) mean[d] += (double)data[i * dims + d] / (double)n;
    for (int round = 0; round < ROUNDS; round++) {
        orthonormal(v, dims);
        project(data, n, dims, mean, v, threads, u);
        gather(data, n, dims, mean, u, threads, v);
    }
    orthonormal(v, dims);
    project(data, n, dims, mean, v, threads, u);
    double spread = 0;
    for (size_t i = 0; i < n; i++) spread += u[2 * i] * u[2 * i] / (double)n;
    spread = sqrt(spread);
    for (size_t i = 0; i < 2 * n; i++) y[i] = (spread > 1e-150 ? u[i] / spread * 1e-4 : 0) + sk_rng_normal(&rng) * 1e-6;
done:
    sk_free(mean);
    sk_free(v);
    sk_free(u);
    return status;
}
