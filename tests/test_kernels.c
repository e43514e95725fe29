/* SPDX-License-Identifier: Apache-2.0 */
/* Every path of kernels that this CPU offers against the C reference: random shapes, values at the kinks of the
 * activations, strides, accumulation, and a guard behind each output. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/base.h"
#include "kernels/kernels.h"

enum { ROUNDS = 300, GUARD = 16 };

static sk_rng rng;
static sk_kernels path; /* under test */

static int draw(int low, int high) { return low + (int)sk_rng_below(&rng, (uint32_t)(high - low + 1)); }

static int draw_channels(void) { return draw(0, 3) ? 8 * draw(1, 20) : draw(1, 40); }

/* `count` values in [-4, 4], some exactly at the kinks, and a guard. */
static float *values(size_t count) {
    float *v = sk_alloc(count + GUARD, sizeof(float));

    assert_non_null(v);
    for (size_t i = 0; i < count + GUARD; i++) {
        v[i] = (float)(sk_rng_uniform(&rng) * 8.0 - 4.0);
        if (draw(0, 30) == 0) v[i] = (float)(3 * draw(-1, 1));
    }
    return v;
}

static float *copy_of(const float *from, size_t count) {
    float *v = sk_alloc(count + GUARD, sizeof(float));

    assert_non_null(v);
    memcpy(v, from, (count + GUARD) * sizeof(float));
    return v;
}

/* got within `bound` of want, relative to the size of the sums; the guard untouched. Frees both. */
static void compare(const char *what, float *want, float *got, size_t count, double bound) {
    double size = 1.0;

    for (size_t i = 0; i < count; i++) size = fmax(size, fabs((double)want[i]));
    for (size_t i = 0; i < count; i++)
        if (!(fabs((double)want[i] - (double)got[i]) <= bound * size))
            fail_msg("%s: value %zu of %zu: reference %g, kernel %g", what, i, count, (double)want[i], (double)got[i]);
    assert_memory_equal(want + count, got + count, GUARD * sizeof(float));
    sk_free(want);
    sk_free(got);
}

static void compare_sums(const char *what, const double *want, const double *got, int c, double scale) {
    for (int j = 0; j < c; j++)
        if (!(fabs(want[j] - got[j]) <= 4e-6 * scale))
            fail_msg("%s: channel %d: %g, kernel %g", what, j, want[j], got[j]);
}

/* The product again from two parts of the columns and one row at a time: the same bytes. */
static void cut_gemm(const sk_gemm *whole, float *expected) {
    float *again = values((size_t)whole->m * (size_t)whole->ldc);
    const int cut = whole->n > SK_GEMM_CUT ? SK_GEMM_CUT * draw(1, (whole->n - 1) / SK_GEMM_CUT) : 0;

    for (int i = 0; i < whole->m; i++) {
        const size_t at = (size_t)i * (size_t)whole->ldc;

        for (int part = 0; part < 2; part++) {
            const int n0 = part ? cut : 0;
            sk_gemm g = *whole;

            g.m = 1;
            g.n = (part ? whole->n : cut) - n0;
            g.a += (size_t)i * (size_t)whole->lda;
            g.packed += (size_t)n0 * (size_t)whole->k;
            if (g.bias) g.bias += n0;
            if (g.add) g.add += at + (size_t)n0;
            g.c = again + at + n0;
            if (g.n) path.gemm(&g);
        }
        assert_memory_equal(again + at, expected + at, (size_t)whole->n * sizeof *again);
    }
    sk_free(again);
}

static void test_gemm(void **state) {
    const sk_kernels *c = sk_kernels_c(), *fast = &path;
    (void)state;

    for (int round = 0; round < ROUNDS; round++) {
        const int m = draw(1, 90), n = draw(0, 2) ? draw_channels() : draw(1, 130),
                  k = draw(0, 9) ? draw(1, 200) : draw(300, 1100);
        const int lda = k + draw(0, 5), ldc = n + draw(0, 5), turned = draw(0, 1);
        const ptrdiff_t sn = turned ? 1 : k, sp = turned ? n : 1;
        float *a = values((size_t)m * lda), *b = values((size_t)n * k), *bias = values((size_t)n);
        float *want = values((size_t)m * ldc), *got = copy_of(want, (size_t)m * ldc), *other = values((size_t)m * ldc);
        float *packed_c = values(c->gemm_pack_size(n, k)), *packed = values(fast->gemm_pack_size(n, k));
        const int add = draw(0, 2);
        sk_gemm g = {.m = m,
                     .n = n,
                     .k = k,
                     .a = a,
                     .lda = lda,
                     .packed = packed_c,
                     .bias = draw(0, 1) ? bias : NULL,
                     .act = (sk_act)draw(0, 3),
                     .c = want,
                     .ldc = ldc};

        c->gemm_pack(packed_c, n, k, b, sn, sp);
        fast->gemm_pack(packed, n, k, b, sn, sp);
        g.add = add == 0 ? NULL : add == 1 ? other : want;
        c->gemm(&g);
        if (add == 2) g.add = got;
        g.packed = packed;
        g.c = got;
        fast->gemm(&g);
        if (add != 2) cut_gemm(&g, got);
        compare("gemm", want, got, (size_t)m * ldc, 2e-6 * sqrt(k)); /* of sums whose size the activation may hide */
        sk_free(a);
        sk_free(b);
        sk_free(bias);
        sk_free(other);
        sk_free(packed);
        sk_free(packed_c);
    }
}

static void test_gemm_tn(void **state) {
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        const int m = draw(1, 400), n = draw(1, 60), k = draw(1, 60), ldy = n + draw(0, 3), ldx = k + draw(0, 3);
        float *dy = values((size_t)m * ldy), *x = values((size_t)m * ldx);
        float *want = values((size_t)n * k), *got = copy_of(want, (size_t)n * k);

        sk_kernels_c()->gemm_tn(m, n, k, dy, ldy, x, ldx, want);
        path.gemm_tn(m, n, k, dy, ldy, x, ldx, got);
        compare("gemm_tn", want, got, (size_t)n * k, 4e-6);
        sk_free(dy);
        sk_free(x);
    }
}

static void test_gram(void **state) {
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        const int m = draw(1, 400), n = draw(1, 110), ldx = n + draw(0, 3);
        float *x = values((size_t)m * ldx), *want = values((size_t)n * n), *got = copy_of(want, (size_t)n * n);

        path.gemm_tn(m, n, n, x, ldx, x, ldx, want);
        path.gram(m, n, x, ldx, got);
        for (int j = 0; j < n; j++) /* bit for bit: a value does not depend on the tile that made it */
            assert_memory_equal(want + j * n + j, got + j * n + j, (size_t)(n - j) * sizeof *got);
        sk_free(x);
        sk_free(got);
        sk_free(want);
    }
}

/* A convolution of what batch norm and activation make of x, beside the three entries one after the other. */
static void activated_depthwise(const sk_dw *plain, const float *x, const float *dy, const float *w) {
    const sk_kernels *c = sk_kernels_c(), *fast = &path;
    const size_t n = (size_t)plain->c, in = (size_t)plain->h * plain->w * n, out = (size_t)plain->oh * plain->ow * n,
                 taps = (size_t)plain->kernel * plain->kernel * n;
    float *scale = values(n), *shift = values(n), *mean = values(n);
    const sk_bn bn = {scale, shift, mean};
    const sk_act act = draw(0, 1) ? SK_ACT_RELU : SK_ACT_HSWISH;
    float *want = values(out), *got = copy_of(want, out), *a = values(in);
    double sums[4][160] = {{0}};
    sk_dw d = *plain;

    d.bn = &bn;
    d.act = act;
    c->bn_forward(x, d.h * d.w, d.c, &bn, act, NULL, a);
    c->dw_forward(plain, a, 0, w, NULL, SK_ACT_NONE, 0, d.oh, want);
    fast->dw_forward(&d, x, 0, w, NULL, SK_ACT_NONE, 0, d.oh, got);
    compare("activated dw_forward", want, got, out, 4e-6);
    want = values(taps), got = copy_of(want, taps);
    c->dw_backward_weight(plain, dy, a, want);
    fast->dw_backward_weight(&d, dy, x, got);
    compare("activated dw_backward_weight", want, got, taps, 8e-6);
    for (size_t i = 0; i < n; i++) scale[i] = 1, shift[i] = 0; /* rounding must not choose another slope */
    want = values(in), got = copy_of(want, in);
    c->dw_backward_data(plain, dy, w, NULL, want, NULL, NULL);
    c->bn_backward_sums(want, x, d.h * d.w, d.c, &bn, act, want, sums[0], sums[1]);
    fast->dw_backward_data(&d, dy, w, x, got, sums[2], sums[3]);
    compare_sums("activated dw_backward_data", sums[0], sums[2], (int)n, d.h * d.w * 8.0 * d.kernel * d.kernel);
    compare_sums("activated dw_backward_data of products", sums[1], sums[3], (int)n,
                 d.h * d.w * 64.0 * d.kernel * d.kernel);
    compare("activated dw_backward_data dz", want, got, in, 4e-6);
    sk_free(scale);
    sk_free(shift);
    sk_free(mean);
    sk_free(a);
}

static void test_depthwise(void **state) {
    const sk_kernels *c = sk_kernels_c(), *fast = &path;
    (void)state;

    for (int round = 0; round < ROUNDS; round++) {
        sk_dw d = {.h = draw(1, 20),
                   .w = draw(0, 3) ? draw(1, 20) : draw(29, 70), /* in one strip, or in several */
                   .c = draw_channels(),
                   .kernel = 1 + 2 * draw(0, 3),
                   .stride = draw(1, 2)};
        d.pad = (d.kernel - 1) / 2;
        d.oh = (d.h + 2 * d.pad - d.kernel) / d.stride + 1;
        d.ow = (d.w + 2 * d.pad - d.kernel) / d.stride + 1;
        const size_t in = (size_t)d.h * d.w * d.c, out = (size_t)d.oh * d.ow * d.c,
                     taps = (size_t)d.kernel * d.kernel * d.c;
        float *x = values(in), *dy = values(out), *w = values(taps), *bias = values((size_t)d.c);
        float *want = values(out), *got = copy_of(want, out);
        const int first = draw(0, d.oh - 1), end = draw(first + 1, d.oh), act = draw(0, 3);
        int row0 = first * d.stride - d.pad;
        const ptrdiff_t at = (ptrdiff_t)first * d.ow * d.c;

        if (row0 < 0) row0 = 0;
        if (row0 > d.h - 1) row0 = d.h - 1;
        c->dw_forward(&d, x + (ptrdiff_t)row0 * d.w * d.c, row0, w, round % 2 ? bias : NULL, (sk_act)act, first, end,
                      want + at);
        fast->dw_forward(&d, x + (ptrdiff_t)row0 * d.w * d.c, row0, w, round % 2 ? bias : NULL, (sk_act)act, first, end,
                         got + at);
        compare("dw_forward", want, got, out, 2e-6);
        want = values(in), got = copy_of(want, in);
        c->dw_backward_data(&d, dy, w, NULL, want, NULL, NULL);
        fast->dw_backward_data(&d, dy, w, NULL, got, NULL, NULL);
        compare("dw_backward_data", want, got, in, 2e-6);
        want = values(taps), got = copy_of(want, taps);
        c->dw_backward_weight(&d, dy, x, want);
        fast->dw_backward_weight(&d, dy, x, got);
        compare("dw_backward_weight", want, got, taps, 4e-6);
        activated_depthwise(&d, x, dy, w);
        sk_free(x);
        sk_free(dy);
        sk_free(w);
        sk_free(bias);
    }
}

/* Pictures from a pixel on, any range of rows; the inner values of the reference are im2col's times the weights. */
static void test_stem(void **state) {
    (void)state;

    for (int round = 0; round < ROUNDS; round++) {
        const int h = draw(1, 40), w = draw(1, 70), c = round % 2 ? 16 * draw(1, 2) : draw_channels();
        const int oh = (h - 1) / 2 + 1, ow = (w - 1) / 2 + 1, first = draw(0, oh - 1), end = draw(first + 1, oh);
        const float mean[3] = {123.7f, 116.3f, 103.5f}, gain[3] = {0.0171f, 0.0175f, 0.0174f};
        const size_t size = (size_t)h * w * 3, out = (size_t)oh * ow * c, at = (size_t)first * ow * c;
        uint8_t *image = sk_alloc(size, 1);
        float *weight = values((size_t)27 * c), *bias = values((size_t)c), *want = values(out),
              *got = copy_of(want, out);
        float *scratch = sk_alloc(SK_STEM_SCRATCH((size_t)w), sizeof *scratch), *columns = values((size_t)ow * 27);
        const sk_stem s = {h, w, c, mean, gain, weight, bias, (sk_act)draw(0, 3)};

        for (size_t i = 0; i < size; i++) image[i] = (uint8_t)draw(0, 255);
        sk_kernels_c()->stem_u8(&s, image, first, end, scratch, want + at);
        path.stem_u8(&s, image, first, end, scratch, got + at);
        sk_kernels_c()->im2col_u8(&s, image, first, first + 1, scratch, columns, 27);
        for (int ox = 0; ox < ow; ox++)
            for (int j = 0; j < c; j++) {
                float sum = bias[j];

                for (int t = 0; t < 27; t++) sum += columns[ox * 27 + t] * weight[t * c + j];
                sk_kernels_c()->act(1, &sum, s.act, &sum);
                assert_float_equal(want[at + (size_t)ox * c + j], sum, 1e-4);
            }
        compare("stem_u8", want, got, out, 4e-6);
        sk_free(image);
        sk_free(weight);
        sk_free(bias);
        sk_free(scratch);
        sk_free(columns);
    }
}

/* The worth of each byte in the reference's bytes; what lies beyond the 27 of a row stays. */
static void test_im2col(void **state) {
    (void)state;

    for (int round = 0; round < ROUNDS; round++) {
        const int h = draw(1, 40), w = draw(0, 3) ? draw(1, 70) : draw(120, 300), ld = draw(27, 30);
        const int oh = (h - 1) / 2 + 1, ow = (w - 1) / 2 + 1, first = draw(0, oh - 1), end = draw(first + 1, oh);
        const size_t size = (size_t)h * w * 3, out = (size_t)(end - first) * ow * ld;
        const float mean[3] = {123.7f, 116.3f, 103.5f}, gain[3] = {0.0171f, 0.0175f, 0.0174f};
        const sk_stem s = {.h = h, .w = w, .mean = mean, .gain = gain};
        const int oy = draw(0, end - first - 1), ox = draw(0, ow - 1), t = draw(0, 26);
        const int y = 2 * (first + oy) - 1 + t / 9, x = 2 * ox - 1 + t / 3 % 3;
        uint8_t *image = sk_alloc(size, 1);
        float *scratch = sk_alloc(SK_STEM_SCRATCH((size_t)w), sizeof *scratch), *want = values(out),
              *got = copy_of(want, out);

        for (size_t i = 0; i < size; i++) image[i] = (uint8_t)draw(0, 255);
        sk_kernels_c()->im2col_u8(&s, image, first, end, scratch, want, ld);
        path.im2col_u8(&s, image, first, end, scratch, got, ld);
        if (y < 0 || y >= h || x < 0 || x >= w) assert_float_equal(want[((size_t)oy * ow + ox) * ld + t], 0, 0);
        else
            assert_float_equal(want[((size_t)oy * ow + ox) * ld + t],
                               ((double)image[((size_t)y * w + x) * 3 + t % 3] - mean[t % 3]) * gain[t % 3], 1e-6);
        compare("im2col_u8", want, got, out, 0);
        sk_free(image);
        sk_free(scratch);
    }
}

static void test_batch_norm(void **state) {
    const sk_kernels *c = sk_kernels_c(), *fast = &path;
    (void)state;

    for (int round = 0; round < ROUNDS; round++) {
        const int rows = draw(1, 200), n = draw_channels();
        const size_t count = (size_t)rows * n;
        const sk_act act = (sk_act)draw(0, 3);
        float *y = values(count), *da = values(count), *scale = values((size_t)n), *shift = values((size_t)n),
              *mean = values((size_t)n);
        float *want = values(count), *got = copy_of(want, count);
        const sk_bn bn = {scale, shift, mean};
        double sums[4][160] = {{0}};

        c->bn_sums(y, rows, n, mean, sums[0], sums[1]);
        fast->bn_sums(y, rows, n, mean, sums[2], sums[3]);
        compare_sums("bn_sums", sums[0], sums[2], n, rows * 8.0);
        compare_sums("bn_sums of squares", sums[1], sums[3], n, rows * 64.0);
        c->bn_forward(y, rows, n, &bn, act, round % 2 ? da : NULL, want);
        fast->bn_forward(y, rows, n, &bn, act, round % 2 ? da : NULL, got);
        compare("bn_forward", want, got, count, 2e-6);
        memset(sums, 0, sizeof(sums));
        /* scale 1, shift 0 puts values exactly on the kinks, where rounding must not choose another side */
        for (int j = 0; j < n; j++) scale[j] = 1.0f, shift[j] = 0.0f;
        want = values(count), got = copy_of(want, count);
        c->bn_backward_sums(da, y, rows, n, &bn, act, want, sums[0], sums[1]);
        fast->bn_backward_sums(da, y, rows, n, &bn, act, got, sums[2], sums[3]);
        compare_sums("bn_backward_sums", sums[0], sums[2], n, rows * 8.0);
        compare_sums("bn_backward_sums of products", sums[1], sums[3], n, rows * 64.0);
        compare("bn_backward_sums dz", want, got, count, 2e-6);
        want = values(count), got = copy_of(want, count);
        c->bn_backward(da, y, rows, n, scale, shift, mean, mean, want);
        fast->bn_backward(da, y, rows, n, scale, shift, mean, mean, got);
        compare("bn_backward", want, got, count, 2e-6);
        sk_free(y);
        sk_free(da);
        sk_free(scale);
        sk_free(shift);
        sk_free(mean);
    }
}

static void test_elementwise(void **state) {
    const sk_kernels *c = sk_kernels_c(), *fast = &path;
    (void)state;

    for (int round = 0; round < ROUNDS; round++) {
        const int rows = draw(1, 200), n = draw_channels();
        const size_t count = (size_t)rows * n;
        const sk_act act = (sk_act)draw(0, 3);
        float *x = values(count), *dy = values(count), *gate = values((size_t)n), *plus = values((size_t)n), *want,
              *got;
#define SK_BOTH(size, bound, call)                                                                                     \
    want = values(size), got = copy_of(want, size);                                                                    \
    {                                                                                                                  \
        const sk_kernels *table = c;                                                                                   \
        float *out = want;                                                                                             \
        call;                                                                                                          \
    }                                                                                                                  \
    {                                                                                                                  \
        const sk_kernels *table = fast;                                                                                \
        float *out = got;                                                                                              \
        call;                                                                                                          \
    }                                                                                                                  \
    compare(#call, want, got, size, bound)
        SK_BOTH((size_t)n, 2e-6, table->pool(x, rows, n, out));
        SK_BOTH(count, 2e-6, table->scale(x, rows, n, gate, out));
        SK_BOTH((size_t)n, 2e-6 * sqrt(rows), table->scale_sums(dy, x, rows, n, out)); /* terms that cancel */
        SK_BOTH(count, 2e-6, table->scale_backward(dy, rows, n, gate, plus, out));
        SK_BOTH(count, 2e-6, table->scale_backward(NULL, rows, n, gate, plus, out));
        SK_BOTH(count, 2e-6, table->scale_backward(dy, rows, n, NULL, plus, out));
        SK_BOTH(count, 2e-6, table->add(count, x, dy, out));
        SK_BOTH(count, 2e-6, table->act(count, x, act, out));
        SK_BOTH(count, 2e-6, table->act_backward(count, dy, x, act, out));
#undef SK_BOTH
        sk_free(x);
        sk_free(dy);
        sk_free(gate);
        sk_free(plus);
    }
}

static void test_adam(void **state) {
    (void)state;
    for (int round = 0; round < 50; round++) {
        const size_t count = (size_t)draw(1, 500);
        float *g = values(count), *w[2], *m[2], *v[2];

        w[0] = values(count), w[1] = copy_of(w[0], count);
        m[0] = values(count), m[1] = copy_of(m[0], count);
        v[0] = values(count);
        for (size_t i = 0; i < count; i++) v[0][i] = fabsf(v[0][i]);
        v[1] = copy_of(v[0], count);
        for (int i = 0; i < 2; i++)
            (i ? &path : sk_kernels_c())->adam(count, w[i], g, m[i], v[i], 0.9f, 0.999f, 0.01f, 2.0f, 1e-8f);
        compare("adam w", w[0], w[1], count, 2e-6);
        compare("adam m", m[0], m[1], count, 2e-6);
        compare("adam v", v[0], v[1], count, 2e-6);
        sk_free(g);
    }
}

/* The environment names the widest path; what the CPU lacks falls back to the next one that it has. */
static void test_choice(void **state) {
    sk_kernels table;
    (void)state;

    assert_false(sk_kernels_path("avx1024", &table));
    assert_false(sk_kernels_path("", &table));
    assert_true(sk_kernels_path("c", &table));
    assert_string_equal(table.name, "c");
    assert_ptr_equal(table.gemm, sk_kernels_c()->gemm);
    assert_int_equal(sk_kernels_path("avxvnni", &table), sk_kernels_path("avx2", &table));
    setenv("SISKIN_CPU", "avxvnni", 1); /* an integer path: of float kernels it names AVX2 */
    assert_string_equal(sk_kernels_get()->name, sk_kernels_path("avx2", &table) ? "avx2" : "c");
}

int main(void) {
    static const char *const names[] = {"c", "avx2", "avx512"};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gemm),       cmocka_unit_test(test_gemm_tn),     cmocka_unit_test(test_gram),
        cmocka_unit_test(test_depthwise),
        cmocka_unit_test(test_batch_norm), cmocka_unit_test(test_elementwise), cmocka_unit_test(test_adam),
        cmocka_unit_test(test_stem),       cmocka_unit_test(test_im2col),
    };
    const struct CMUnitTest choice[] = {cmocka_unit_test(test_choice)};
    int failed = cmocka_run_group_tests(choice, NULL, NULL);

    for (int i = 0; i < 3; i++) {
        if (!sk_kernels_path(names[i], &path)) {
            printf("# no %s on this machine: its kernels are not tested\n", names[i]);
            continue;
        }
        rng = sk_rng_make(1, 2, 3);
        printf("# kernels %s against c\n", path.name);
        failed += cmocka_run_group_tests(tests, NULL, NULL);
    }
    return failed;
}
