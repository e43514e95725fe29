/* SPDX-License-Identifier: Apache-2.0 */
/* Every backward entry of the reference against central differences of its forward entry, in double precision: with
 * L = <r, forward(x)> for random r, dL/dx by the backward entry must be what L does when one value moves. And the whole
 * step: the loss against one parameter of some tensors of both networks at a small size. Built in double only. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "net/step.h"

#define H 1e-5

static sk_rng rng;

static sk_real *randoms(size_t count) {
    sk_real *values = sk_alloc(count ? count : 1, sizeof *values);

    for (size_t i = 0; i < count; i++) values[i] = 4 * sk_rng_uniform(&rng) - 2;
    return values;
}

static sk_real *zeros(size_t count) { return sk_calloc(count ? count : 1, sizeof(sk_real)); }

static sk_real dot(const sk_real *a, const sk_real *b, size_t count) {
    sk_real sum = 0;

    for (size_t i = 0; i < count; i++) sum += a[i] * b[i];
    return sum;
}

/* One experiment: loss(user) reads `x`; dx is what backward claims. */
typedef sk_real (*loss_function)(void *user);
static void check(const char *what, loss_function loss, void *user, sk_real *x, const sk_real *dx, size_t count,
                  double tolerance) {
    for (int trial = 0; trial < 12; trial++) {
        const size_t i = sk_rng_below(&rng, (uint32_t)count);
        const sk_real old = x[i];
        sk_real up, down, slope;

        x[i] = old + H;
        up = loss(user);
        x[i] = old - H;
        down = loss(user);
        x[i] = old;
        slope = (up - down) / (2 * H);
        if (!(fabs(slope - dx[i]) <= tolerance * (1 + fabs(slope))))
            fail_msg("%s [%zu]: gradient %.12g, difference quotient %.12g", what, i, dx[i], slope);
    }
}

/* ---- matrix products --------------------------------------------------------------------------------------- */
typedef struct product {
    int m, n, k;
    sk_real *x, *w, *y, *r, *packed;
} product;

static sk_real product_loss(void *user) {
    product *p = user;
    const sk_gemm g = {
        .m = p->m, .n = p->n, .k = p->k, .a = p->x, .lda = p->k, .packed = p->packed, .c = p->y, .ldc = p->n};

    sk_kernels_get()->gemm_pack(p->packed, p->n, p->k, p->w, p->k, 1);
    sk_kernels_get()->gemm(&g);
    return dot(p->y, p->r, (size_t)(p->m * p->n));
}

static void products(void **state) {
    const sk_kernels *k = sk_kernels_get();

    (void)state;
    for (int trial = 0; trial < 8; trial++) {
        product p = {.m = 1 + (int)sk_rng_below(&rng, 40),
                     .n = 1 + (int)sk_rng_below(&rng, 40),
                     .k = 1 + (int)sk_rng_below(&rng, 40)};
        const size_t mk = (size_t)(p.m * p.k), nk = (size_t)(p.n * p.k), mn = (size_t)(p.m * p.n);
        sk_real *dx = zeros(mk), *dw = zeros(nk), *packed;

        p.x = randoms(mk);
        p.w = randoms(nk);
        p.r = randoms(mn);
        p.y = zeros(mn);
        p.packed = zeros(k->gemm_pack_size(p.n, p.k));
        packed = zeros(k->gemm_pack_size(p.k, p.n));
        k->gemm_pack(packed, p.k, p.n, p.w, 1, p.k);
        k->gemm(&(sk_gemm){.m = p.m, .n = p.k, .k = p.n, .a = p.r, .lda = p.n, .packed = packed, .c = dx, .ldc = p.k});
        k->gemm_tn(p.m, p.n, p.k, p.r, p.n, p.x, p.k, dw);
        check("gemm dx", product_loss, &p, p.x, dx, mk, 1e-7);
        check("gemm_tn dw", product_loss, &p, p.w, dw, nk, 1e-7);
        for (int i = 0; i < 6; i++) sk_free((sk_real *[]){dx, dw, p.x, p.w, p.r, p.packed}[i]);
        sk_free(p.y);
        sk_free(packed);
    }
}

/* ---- depthwise --------------------------------------------------------------------------------------------- */
typedef struct depthwise {
    sk_dw d;
    sk_real *x, *w, *y, *r;
} depthwise;

static sk_real depthwise_loss(void *user) {
    depthwise *p = user;

    sk_kernels_get()->dw_forward(&p->d, p->x, 0, p->w, NULL, SK_ACT_NONE, 0, p->d.oh, p->y);
    return dot(p->y, p->r, (size_t)(p->d.oh * p->d.ow * p->d.c));
}

static void depthwises(void **state) {
    const sk_kernels *k = sk_kernels_get();

    (void)state;
    for (int trial = 0; trial < 8; trial++) {
        const int kernel = trial & 1 ? 5 : 3, stride = trial & 2 ? 2 : 1;
        const int h = 3 + (int)sk_rng_below(&rng, 9), w = 3 + (int)sk_rng_below(&rng, 9),
                  c = 1 + (int)sk_rng_below(&rng, 9);
        depthwise p = {.d = {.h = h, .w = w, .c = c, .oh = (h - 1) / stride + 1, .ow = (w - 1) / stride + 1,
                             .kernel = kernel, .stride = stride, .pad = kernel / 2}};
        const size_t in = (size_t)(h * w * c), out = (size_t)(p.d.oh * p.d.ow * c),
                     taps = (size_t)(kernel * kernel * c);
        sk_real *dx = zeros(in), *dw = zeros(taps);

        p.x = randoms(in);
        p.w = randoms(taps);
        p.y = zeros(out);
        p.r = randoms(out);
        k->dw_backward_data(&p.d, p.r, p.w, NULL, dx, NULL, NULL);
        k->dw_backward_weight(&p.d, p.r, p.x, dw);
        check("depthwise dx", depthwise_loss, &p, p.x, dx, in, 1e-7);
        check("depthwise dw", depthwise_loss, &p, p.w, dw, taps, 1e-7);
        for (int i = 0; i < 6; i++) sk_free((sk_real *[]){dx, dw, p.x, p.w, p.y, p.r}[i]);
    }
}

/* ---- activations, loss ---------------------------------------------------------------------------------------- */
typedef struct elementwise {
    sk_act act;
    size_t count;
    sk_real *x, *y, *r;
} elementwise;

static sk_real act_loss(void *user) {
    elementwise *p = user;

    sk_kernels_get()->act(p->count, p->x, p->act, p->y);
    return dot(p->y, p->r, p->count);
}

static void activations(void **state) {
    const sk_act acts[] = {SK_ACT_NONE, SK_ACT_RELU, SK_ACT_HSWISH, SK_ACT_HSIGMOID};

    (void)state;
    for (int i = 0; i < 4; i++) {
        elementwise p = {acts[i], 200, randoms(200), zeros(200), randoms(200)};
        sk_real *dx = zeros(200);

        for (size_t j = 0; j < p.count; j++) p.x[j] *= 2.6; /* also beyond the kinks at 3 */
        sk_kernels_get()->act_backward(p.count, p.r, p.x, p.act, dx);
        for (int again = 0; again < 5; again++) check("activation", act_loss, &p, p.x, dx, p.count, 1e-6);
        sk_free(p.x);
        sk_free(p.y);
        sk_free(p.r);
        sk_free(dx);
    }
}

typedef struct entropy {
    sk_real *logits;
    const int *labels;
    const sk_loss_target *target;
} entropy;

static sk_real entropy_loss(void *user) {
    entropy *p = user;
    double loss[5], sum = 0;

    sk_kernels_get()->cross_entropy(p->logits, p->labels, 5, 3, p->target, 1, loss, NULL);
    for (int i = 0; i < 5; i++) sum += loss[i];
    return sum / 5;
}

static void cross_entropy(void **state) {
    const int labels[5] = {0, 2, 1, 1, 2};
    const sk_real weights[3] = {(sk_real)0.5, 2, (sk_real)1.25};
    const sk_loss_target targets[3] = {{NULL, 0}, {NULL, (sk_real)0.1}, {weights, (sk_real)0.3}};
    entropy p = {randoms(15), labels, NULL};
    double loss[5];
    sk_real d[15];

    (void)state;
    for (int i = 0; i < 3; i++) {
        p.target = &targets[i];
        sk_kernels_get()->cross_entropy(p.logits, labels, 5, 3, p.target, (sk_real)0.2, loss, d);
        check("cross-entropy", entropy_loss, &p, p.logits, d, 15, 1e-8);
    }
    p.logits[0] = 900; /* must not overflow */
    assert_true(isfinite(entropy_loss(&p)));
    sk_free(p.logits);
}

/* ---- the whole step, which joins batch norm, squeeze-excitation, pooling and residuals ------------------------ */
typedef struct whole {
    sk_step *step;
    const uint8_t *images;
} whole;

static const int labels[3] = {0, 1, 1};

static sk_real step_loss(void *user) {
    whole *w = user;
    double loss;

    assert_int_equal(sk_step_run(w->step, w->images, labels, 3, 7, &loss, NULL, NULL), SK_OK);
    return loss;
}

/* Statistics, gamma and beta that are not those of a fresh network, as a trained one has them. */
static void random_norms(sk_net *net) {
    for (int i = 0; i < net->unit_count; i++) {
        sk_param *p = &net->params[net->units[i].param];

        for (int c = 0; c < net->units[i].out_c; c++) {
            p[SK_GAMMA].data[c] = 0.7 + 0.6 * sk_rng_uniform(&rng);
            p[SK_BETA].data[c] = 0.4 * sk_rng_uniform(&rng) - 0.2;
            p[SK_MEAN].data[c] = 0.4 * sk_rng_uniform(&rng) - 0.2;
            p[SK_VAR].data[c] = 0.5 + sk_rng_uniform(&rng);
        }
    }
}

static void whole_step(void **state) {
    enum { SIZE = 64 };
    uint8_t *images = sk_alloc(3 * SIZE * SIZE, 3);

    (void)state;
    for (size_t i = 0; i < 3 * SIZE * SIZE * 3; i++) images[i] = (uint8_t)(sk_rng_next(&rng) >> 56);
    for (int trial = 0; trial < 4; trial++) { /* both networks, batch statistics live and frozen */
        const int arch = trial & 1;
        sk_card card = sk_card_default((sk_arch)arch);
        const sk_step_options options = {.batch = 3, .threads = 1, .dropout = 0.2, .freeze_bn = trial > 1};
        whole w = {.images = images};
        sk_real *gradients;
        int checked = 0, tried = 0;
        sk_net *net;

        card.size = SIZE;
        assert_int_equal(sk_net_create(&card, &net, NULL), SK_OK);
        sk_net_init(net, 11);
        if (options.freeze_bn) random_norms(net);
        assert_int_equal(sk_step_create(net, &options, &w.step, NULL), SK_OK);
        step_loss(&w);
        gradients = sk_alloc(net->value_count, sizeof *gradients);
        memcpy(gradients, w.step->gradients, net->value_count * sizeof *gradients);
        for (int i = 0; i < net->param_count; i++) {
            const sk_param *p = &net->params[i];
            const size_t j = sk_rng_below(&rng, (uint32_t)p->count);
            const double claimed = gradients[p->data - net->values + (ptrdiff_t)j], old = p->data[j];
            const double step = 1e-6;
            double up, down, slope;

            if (!p->trainable || (i + arch) % (arch ? 18 : 6)) continue;
            tried++;
            p->data[j] = old + step;
            up = step_loss(&w);
            p->data[j] = old - step;
            down = step_loss(&w);
            p->data[j] = old;
            slope = (up - down) / (2 * step);
            /* A kink may lie between the two points: few of the many tensors may be off, by little. */
            checked += fabs(slope - claimed) <= 1e-6 + 1e-4 * fabs(slope);
            if (!(fabs(slope - claimed) <= 1e-4 + 0.05 * fabs(slope)))
                fail_msg("%s: gradient %.9g, difference quotient %.9g", p->name, claimed, slope);
        }
        printf("# %s%s: %d of %d tensors agree to 1e-4\n", sk_arch_name(card.arch),
               options.freeze_bn ? ", frozen statistics" : "", checked, tried);
        assert_true(tried >= 10 && checked * 10 >= tried * 9);
        sk_free(gradients);
        sk_step_free(w.step);
        sk_net_free(net);
    }
    sk_free(images);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products),      cmocka_unit_test(depthwises), cmocka_unit_test(activations),
        cmocka_unit_test(cross_entropy), cmocka_unit_test(whole_step),
    };

    rng = sk_rng_make(1, 2, 3);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
