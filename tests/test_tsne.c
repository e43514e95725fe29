/* SPDX-License-Identifier: Apache-2.0 */
/* t-SNE on made clusters, and its parts against the formulas in double precision: similarities, start, repulsion. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/base.h"
#include "eval/tsne.h"
#include "siskin/eval.h"

static void close_to(double value, double wanted, double tolerance) {
    if (!(fabs(value - wanted) <= tolerance)) fail_msg("%.12g is not %.12g", value, wanted);
}

enum { DIMS = 20, CLUSTERS = 4 };

/* `clusters` well apart balls of `each` points. */
static void make_clusters(float *data, size_t each, int clusters) {
    sk_rng rng = sk_rng_make(11, 0, 0);
    for (size_t i = 0; i < each * (size_t)clusters; i++)
        for (size_t d = 0; d < DIMS; d++) data[i * DIMS + d] = (float)(sk_rng_normal(&rng) + (d == i / each ? 25 : 0));
}

/* Share of points whose nearest neighbour in the map is of their own cluster. */
static double purity(const float *y, size_t each, int clusters) {
    const size_t n = each * (size_t)clusters;
    size_t same = 0;
    for (size_t i = 0; i < n; i++) {
        double best = HUGE_VAL;
        size_t who = i;
        for (size_t j = 0; j < n; j++) {
            const double d = hypot((double)y[2 * i] - (double)y[2 * j], (double)y[2 * i + 1] - (double)y[2 * j + 1]);
            if (j != i && d < best) best = d, who = j;
        }
        same += who / each == i / each;
    }
    return (double)same / (double)n;
}

static void check_clusters(size_t each, int iterations, double kl_bound) {
    const size_t n = each * CLUSTERS;
    float *data = sk_alloc(n * DIMS, sizeof *data), *y = sk_alloc(n, 2 * sizeof *y), *z = sk_alloc(n, 2 * sizeof *z);
    make_clusters(data, each, CLUSTERS);
    sk_tsne_options o = sk_tsne_defaults();
    o.iterations = iterations;
    o.threads = 1;
    double kl = -1, kl2 = -1;
    assert_int_equal(sk_tsne(data, n, DIMS, &o, NULL, y, &kl, NULL), SK_OK);
    print_message("t-SNE of %zu points: KL %.4f, purity %.4f\n", n, kl, purity(y, each, CLUSTERS));
    assert_true(purity(y, each, CLUSTERS) > .995);
    assert_true(kl > 0 && kl < kl_bound);
    o.threads = 2;
    assert_int_equal(sk_tsne(data, n, DIMS, &o, NULL, z, &kl2, NULL), SK_OK);
    assert_memory_equal(y, z, n * 2 * sizeof *y);
    assert_true(kl == kl2);
    o.seed = 5;
    o.iterations = 5;
    assert_int_equal(sk_tsne(data, n, DIMS, &o, NULL, z, NULL, NULL), SK_OK);
    assert_int_not_equal(memcmp(y, z, n * 2 * sizeof *y), 0);
    sk_free(data);
    sk_free(y);
    sk_free(z);
}

static void tsne_exact(void **state) {
    (void)state;
    check_clusters(60, 600, 1.0);
}

static void tsne_barnes_hut(void **state) {
    (void)state;
    check_clusters(320, 400, 2.2);
}

/* ---- parts ------------------------------------------------------------------------------------------------------- */

/* Conditional probabilities of all pairs, by bisection in double precision on the `k` nearest (van der Maaten and
 * Hinton 2008, equations 1 and 4). */
static void conditional(const float *data, size_t n, size_t dims, size_t k, double perplexity, double *p) {
    for (size_t i = 0; i < n; i++) {
        double *row = p + i * n, low = 0, high = 1e6;
        for (size_t j = 0; j < n; j++) {
            row[j] = 0;
            for (size_t d = 0; d < dims; d++) row[j] += pow((double)data[i * dims + d] - (double)data[j * dims + d], 2);
        }
        row[i] = HUGE_VAL;
        for (size_t j = 0; j < n; j++) {
            size_t closer = 0;
            for (size_t l = 0; l < n; l++) closer += fabs(row[l]) < fabs(row[j]);
            if (closer >= k) row[j] = -row[j]; /* not among the nearest */
        }
        for (int round = 0; round < 200; round++) {
            const double beta = (low + high) / 2;
            double sum = 0, entropy = 0;
            for (size_t j = 0; j < n; j++) sum += j != i && row[j] >= 0 ? exp(-beta * row[j]) : 0;
            for (size_t j = 0; j < n; j++) {
                const double q = j != i && row[j] >= 0 ? exp(-beta * row[j]) / sum : 0;
                entropy -= q > 0 ? q * log(q) : 0;
            }
            if (entropy > log(perplexity)) low = beta;
            else high = beta;
        }
        double sum = 0;
        for (size_t j = 0; j < n; j++) sum += row[j] = j != i && row[j] >= 0 ? exp(-low * row[j]) : 0;
        for (size_t j = 0; j < n; j++) row[j] /= sum;
    }
}

/* p holds the conditional probabilities; the joint ones are their mean over both ways, over n. */
static double joint(const double *p, size_t n, size_t i, size_t j) {
    return (p[i * n + j] + p[j * n + i]) / (2 * (double)n);
}

static void similarities_against_formula(void **state) {
    (void)state;
    enum { N = 150, D = 7 };
    float *data = sk_alloc(N * D, sizeof *data);
    double *p = sk_alloc((size_t)N * N, sizeof *p);
    sk_rng rng = sk_rng_make(3, 0, 0);
    for (size_t i = 0; i < (size_t)N * D; i++) data[i] = (float)(sk_rng_normal(&rng) * (i / D % 2 ? 3 : 1));
    static const double perplexities[] = {5, 12.7, 49.6}; /* 15, 38 and all of the 149 neighbours */
    for (size_t t = 0; t < 3; t++) {
        sk_tsne_similarity s;
        double total = 0;
        size_t entries = 0, wanted = 0;
        const double perplexity = perplexities[t], k = fmin(floor(3 * perplexity), N - 1);
        conditional(data, N, D, (size_t)k, perplexity, p);
        assert_int_equal(sk_tsne_similar(data, N, D, perplexity, 2, &s, NULL), SK_OK);
        assert_int_equal(s.n, N);
        for (size_t i = 0; i < N; i++) {
            assert_int_equal((s.start[i + 1] - s.start[i]) % SK_TSNE_EDGES, 0);
            for (size_t e = s.start[i]; e < s.start[i + 1]; e++) {
                if (s.j[e] == i) {
                    assert_true(s.p[e] == 0);
                    continue;
                }
                assert_true(e == s.start[i] || s.j[e] > s.j[e - 1]);
                close_to(s.p[e], joint(p, N, i, s.j[e]), 1e-8 + 1e-4 * joint(p, N, i, s.j[e]));
                total += s.p[e];
                entries++;
            }
            for (size_t j = 0; j < N; j++) wanted += joint(p, N, i, j) > 0;
        }
        close_to(total, 1, 1e-5);
        assert_int_equal(entries, wanted);
        sk_tsne_similarity_free(&s);
    }
    sk_free(data);
    sk_free(p);
}

/* Independent columns of standard deviation 9, 4 and 1: the components are the first two. */
static void start_is_principal(void **state) {
    (void)state;
    enum { N = 4000, D = 3 };
    static const double width[D] = {4, 1, 9};
    float *data = sk_alloc(N * D, sizeof *data);
    double *y = sk_alloc(N, 2 * sizeof *y), *again = sk_alloc(N, 2 * sizeof *again);
    sk_rng rng = sk_rng_make(4, 0, 0);
    for (size_t i = 0; i < (size_t)N * D; i++) data[i] = (float)(100 + sk_rng_normal(&rng) * width[i % D]);
    assert_int_equal(sk_tsne_start(data, N, D, 1, 1, y, NULL), SK_OK);
    assert_int_equal(sk_tsne_start(data, N, D, 1, 2, again, NULL), SK_OK);
    assert_memory_equal(y, again, N * 2 * sizeof *y);
    static const size_t column[2] = {2, 0};
    for (size_t c = 0; c < 2; c++) {
        double xy = 0, xx = 0, yy = 0;
        for (size_t i = 0; i < N; i++) {
            const double x = (double)data[i * D + column[c]] - 100;
            xy += x * y[2 * i + c];
            xx += x * x;
            yy += y[2 * i + c] * y[2 * i + c];
        }
        assert_true(fabs(xy) / sqrt(xx * yy) > .99);
        close_to(sqrt(yy / N), c ? 4e-4 / 9 : 1e-4, 3e-6);
    }
    sk_free(data);
    sk_free(y);
    sk_free(again);
}

/* theta 0 is the plain sum; theta .5 stays near it. Some points coincide, and the last group is not full. */
static void tree_against_sum(void **state) {
    (void)state;
    enum { N = 1700 };
    static float y[2 * N], plain[2 * N], near[2 * N], normaliser[N], rough[N];
    double largest = 0, off = 0;
    sk_rng rng = sk_rng_make(8, 0, 0);
    for (size_t i = 0; i < N; i++)
        for (size_t k = 0; k < 2; k++)
            y[2 * i + k] = i % 7 == 3 && i > 7 ? y[2 * (i - 7) + k] : (float)(sk_rng_normal(&rng) * 20);
    sk_tree *tree = NULL;
    assert_int_equal(sk_tree_create(N, &tree, NULL), SK_OK);
    sk_tree_build(tree, y);
    sk_tree_repulsion(tree, 0, 2, plain, normaliser);
    sk_tree_repulsion(tree, .5, 2, near, rough);
    for (size_t i = 0; i < N; i++) {
        double sum = 0, fx = 0, fy = 0;
        for (size_t j = 0; j < N; j++) {
            const double dx = (double)y[2 * i] - y[2 * j], dy = (double)y[2 * i + 1] - y[2 * j + 1];
            const double q = 1 / (1 + dx * dx + dy * dy);
            if (j == i) continue;
            sum += q;
            fx += q * q * dx;
            fy += q * q * dy;
        }
        close_to(normaliser[i], sum, 1e-5 * (1 + sum));
        close_to(plain[2 * i], fx, 1e-5 * (1 + sum));
        close_to(plain[2 * i + 1], fy, 1e-5 * (1 + sum));
        close_to(rough[i], sum, .05 * sum);
        largest = fmax(largest, hypot(fx, fy));
        off = fmax(off, hypot((double)near[2 * i] - fx, (double)near[2 * i + 1] - fy));
    }
    assert_true(off > 1e-4 && off < .05 * largest);
    sk_tree_free(tree);
}

/* The divergence that is told is that of the places that are returned. */
static void divergence_is_of_the_map(void **state) {
    (void)state;
    const size_t n = 30 * CLUSTERS;
    float *data = sk_alloc(n * DIMS, sizeof *data), *y = sk_alloc(n, 2 * sizeof *y);
    double *p = sk_alloc(n * n, sizeof *p), z = 0, wanted = 0, kl = 0;
    make_clusters(data, 30, CLUSTERS);
    sk_tsne_options o = sk_tsne_defaults();
    o.iterations = 300;
    o.perplexity = 20;
    assert_int_equal(sk_tsne(data, n, DIMS, &o, NULL, y, &kl, NULL), SK_OK);
    conditional(data, n, DIMS, 60, 20, p);
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++) {
                const double dx = (double)y[2 * i] - y[2 * j], dy = (double)y[2 * i + 1] - y[2 * j + 1];
                const double q = 1 / (1 + dx * dx + dy * dy), both = joint(p, n, i, j);
                if (i == j) continue;
                if (!pass) z += q;
                else if (both > 0) wanted += both * log(both / (q / z));
            }
    close_to(kl, wanted, 1e-4 * wanted);
    sk_free(data);
    sk_free(y);
    sk_free(p);
}

/* Every instruction set that the machine has gives the bytes of the plain one. */
static void same_bytes_on_every_cpu(void **state) {
    (void)state;
    static const char *const names[] = {"c", "avx2", "avxvnni", "avx512"};
    const size_t n = 330 * CLUSTERS;
    float *data = sk_alloc(n * DIMS, sizeof *data), *y = sk_alloc(n, 2 * sizeof *y), *z = sk_alloc(n, 2 * sizeof *z);
    const char *before = getenv("SISKIN_CPU");
    char *kept = before ? sk_strdup(before) : NULL;
    make_clusters(data, 330, CLUSTERS);
    sk_tsne_options o = sk_tsne_defaults();
    o.iterations = 40;
    for (size_t t = 0; t < 4; t++) {
        setenv("SISKIN_CPU", names[t], 1);
        if (!strcmp(names[t], "avxvnni")) assert_string_not_equal(sk_tsne_loops_here()->name, "avx512");
        print_message("%s: loops of %s\n", names[t], sk_tsne_loops_here()->name);
        assert_int_equal(sk_tsne(data, n, DIMS, &o, NULL, t ? z : y, NULL, NULL), SK_OK);
        if (t) assert_memory_equal(y, z, n * 2 * sizeof *y);
    }
    if (kept) setenv("SISKIN_CPU", kept, 1);
    else unsetenv("SISKIN_CPU");
    sk_free(kept);
    sk_free(data);
    sk_free(y);
    sk_free(z);
}

/* ---- hard cases -------------------------------------------------------------------------------------------------- */

static void tsne_few_points(void **state) {
    (void)state;
    const sk_tsne_options usual = sk_tsne_defaults();
    close_to(sk_tsne_perplexity(&usual, 1000), 30, 0);
    close_to(sk_tsne_perplexity(&usual, 31), 10, 1e-12);
    close_to(sk_tsne_perplexity(&usual, 2), 1, 0);
    const float data[12] = {0, 0, 1, 0, 5, 5, 5, 6, -3, 2, 8, 8};
    for (size_t n = 0; n <= 6; n++) {
        float y[12] = {0};
        double kl = -1;
        const sk_tsne_options o = sk_tsne_defaults();
        assert_int_equal(sk_tsne(data, n, 2, &o, NULL, y, &kl, NULL), SK_OK);
        for (size_t i = 0; i < 2 * n; i++) assert_true(isfinite(y[i]) && fabsf(y[i]) < 1e5f);
        assert_true(kl >= 0 && isfinite(kl));
        for (size_t i = 1; i < n; i++) assert_true(y[2 * i] != y[0] || y[2 * i + 1] != y[1]);
    }
}

static void tsne_duplicates(void **state) {
    (void)state;
    enum { N = 1500 }; /* above the limit of the exact method, too */
    float *data = sk_calloc(N * 3, sizeof *data), *y = sk_calloc(N * 2, sizeof *y);
    for (size_t n = 40; n <= N; n += N - 40) {
        sk_tsne_options o = sk_tsne_defaults();
        o.iterations = 60;
        for (size_t i = 0; i < n; i++) data[3 * i] = i % 2 ? 4.f : 0.f;
        assert_int_equal(sk_tsne(data, n, 3, &o, NULL, y, NULL, NULL), SK_OK);
        for (size_t i = 0; i < 2 * n; i++) assert_true(isfinite(y[i]));
        memset(data, 0, sizeof *data * 3 * n); /* all the same */
        assert_int_equal(sk_tsne(data, n, 3, &o, NULL, y, NULL, NULL), SK_OK);
        for (size_t i = 0; i < 2 * n; i++) assert_true(isfinite(y[i]));
    }
    data[7] = NAN;
    const sk_tsne_options o = sk_tsne_defaults();
    assert_int_equal(sk_tsne(data, N, 3, &o, NULL, y, NULL, NULL), SK_ERR_DATA);
    sk_free(data);
    sk_free(y);
}

static void tsne_memory_faults(void **state) {
    (void)state;
    enum { N = 1300 };
    float *data = sk_calloc(N * 2, sizeof *data), *y = sk_calloc(N * 2, sizeof *y);
    for (size_t i = 0; i < N * 2; i++) data[i] = (float)sk_rng_normal(&(sk_rng){i});
    sk_tsne_options o = sk_tsne_defaults();
    o.iterations = 1;
    const long live = sk_memory_live();
    sk_status status = SK_ERR_MEMORY;
    for (long at = 0; at < 40 && status; at++) {
        sk_memory_fail_at(at, 0);
        status = sk_tsne(data, N, 2, &o, NULL, y, NULL, NULL);
        sk_memory_fail_at(-1, 0);
        assert_true(status == SK_OK || status == SK_ERR_MEMORY);
        assert_int_equal(sk_memory_live(), live);
    }
    assert_int_equal(status, SK_OK);
    sk_free(data);
    sk_free(y);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(similarities_against_formula),
        cmocka_unit_test(start_is_principal),
        cmocka_unit_test(tree_against_sum),
        cmocka_unit_test(divergence_is_of_the_map),
        cmocka_unit_test(same_bytes_on_every_cpu),
        cmocka_unit_test(tsne_exact),
        cmocka_unit_test(tsne_barnes_hut),
        cmocka_unit_test(tsne_few_points),
        cmocka_unit_test(tsne_duplicates),
        cmocka_unit_test(tsne_memory_faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
