/* SPDX-License-Identifier: Apache-2.0 */
/* Layers with int16 codes: with codes that int8 could hold, they are the int8 reference bit for bit, for every mix of
 * widths; with all codes, the definition in real numbers; a network of them comes nearer to float; and what must
 * keep 8 bits is refused by writer, reader and `siskin quantize`. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "int8_layer.h"
#include "int8_net.h"
#include "rt/check.h"
#include "siskin/rt.h"

enum { SIDE = 48 };

typedef struct buffers {
    int8_t *in, *in2, *out, *weight; /* tensors have room for int16 codes */
    int32_t *bias;
    float *mult, *curve;
    size_t in_count, out_count, weight_count;
} buffers;

static int has_weights(const sk_q_layer *l) {
    return l->op != SK_OP_POOL && l->op != SK_OP_SCALE && l->op != SK_OP_ADD;
}

static buffers make_buffers(sk_rng *rng, sk_q_layer *l) {
    buffers b = {.in_count = (size_t)(l->in_c * l->in_h * l->in_w),
                 .out_count = (size_t)(l->out_c * l->out_h * l->out_w)};
    const size_t taps = (size_t)(l->kernel * l->kernel);
    l->row = l->op == SK_OP_DEPTHWISE ? (size_t)l->in_c : (size_t)sk_gemm_depth(l);
    b.weight_count = l->row * (l->op == SK_OP_DEPTHWISE ? taps : (size_t)l->out_c);
    b.in = malloc(2 * b.in_count);
    b.in2 = malloc(2 * b.in_count);
    b.out = malloc(2 * b.out_count);
    b.weight = malloc(b.weight_count);
    b.bias = malloc(4 * (size_t)l->out_c);
    b.mult = malloc(4 * (size_t)l->out_c);
    b.curve = malloc(4 * (size_t)l->out_c);
    random_codes(rng, b.weight, b.weight_count, -127);
    for (int c = 0; c < l->out_c; c++) {
        b.bias[c] = between(rng, -(1 << 20), 1 << 20);
        b.mult[c] = (float)exp(-14 + 10 * sk_rng_uniform(rng));
        b.curve[c] = (float)exp(-16 + 10 * sk_rng_uniform(rng));
    }
    l->weight = b.weight;
    l->bias = b.bias;
    l->mult = b.mult;
    l->curve = b.curve;
    return b;
}

static void free_buffers(buffers *b) {
    free(b->in);
    free(b->in2);
    free(b->out);
    free(b->weight);
    free(b->bias);
    free(b->mult);
    free(b->curve);
}

static void run16(const sk_q_layer *l, const buffers *b, int8_t *out) {
    void *scratch = malloc(sk_int16_scratch_bytes(l) + 1);
    sk_int16_run(l, b->in, b->in2, out, scratch);
    free(scratch);
}

static void widen(const int8_t *from, int8_t *to, size_t count) {
    for (size_t i = 0; i < count; i++) {
        ((int16_t *)(void *)to)[i] = from[i];
    }
}

/* The zero point that int8 layers have in their bias, taken out again. */
static void unfold(const sk_q_layer *l, buffers *b) {
    const size_t depthwise = l->op == SK_OP_DEPTHWISE;
    for (size_t i = 0; i < b->weight_count; i++) {
        b->bias[depthwise ? i % l->row : i / l->row] += l->zero_in * b->weight[i];
    }
}

static void test_small_codes_equal_int8(void **state) {
    (void)state;
    sk_rng rng = sk_rng_make(21, 0, 0);
    int seen[7][8] = {{0}};
    for (int i = 0; i < 6000; i++) {
        sk_q_layer l;
        random_layer(&rng, &l);
        const int mix = (int)sk_rng_below(&rng, 8);
        buffers b = make_buffers(&rng, &l);
        int8_t *in = malloc(b.in_count), *in2 = malloc(b.in_count), *expected = malloc(b.out_count);
        random_codes(&rng, in, b.in_count, -128);
        random_codes(&rng, in2, b.in_count, -128);
        void *scratch = malloc(sk_int8_c.scratch_bytes(&l) + 1);
        sk_int8_run(&sk_int8_c, &l, in, in2, expected, scratch);
        free(scratch);
        l.int16_in = mix & 1;
        l.int16_in2 = mix >> 1 & 1;
        l.int16_out = mix >> 2;
        memcpy(b.in, in, b.in_count);
        memcpy(b.in2, in2, b.in_count);
        if (l.int16_in) {
            widen(in, b.in, b.in_count);
            unfold(&l, &b);
        }
        if (l.int16_in2) {
            widen(in2, b.in2, b.in_count);
        }
        run16(&l, &b, b.out);
        for (size_t k = 0; k < b.out_count; k++) {
            assert_int_equal(sk_code_at(b.out, l.int16_out, k), expected[k]);
        }
        seen[l.op][mix]++;
        free(in);
        free(in2);
        free(expected);
        free_buffers(&b);
    }
    for (int op = 0; op < 7; op++) {
        for (int mix = 0; mix < 8; mix++) {
            assert_true(seen[op][mix] > 40);
        }
    }
}

/* What output value `i` is in real numbers, in codes and not yet rounded or clamped. */
static double real_code(const sk_q_layer *l, const buffers *b, size_t i) {
    const int c = (int)(i % (size_t)l->out_c), x = (int)(i / (size_t)l->out_c) % l->out_w;
    const int y = (int)(i / (size_t)l->out_c) / l->out_w, depthwise = l->op == SK_OP_DEPTHWISE;
    if (l->op == SK_OP_POOL) {
        double sum = 0;
        for (int p = 0; p < l->in_h * l->in_w; p++) {
            sum += sk_code_at(b->in, 1, (size_t)(p * l->in_c + c)) - l->zero_in;
        }
        return sum * ldexp(l->mult2, -l->shift) + l->zero_out;
    }
    if (!has_weights(l)) {
        const double a = sk_code_at(b->in, 1, i) - l->zero_in;
        const double other = sk_code_at(b->in2, 1, l->op == SK_OP_SCALE ? (size_t)c : i) - l->zero_in2;
        return (l->op == SK_OP_SCALE ? a * other * (double)l->factor
                                     : a * (double)l->factor + other * (double)l->factor2) + l->zero_out;
    }
    double sum = b->bias[c];
    for (int t = 0; t < l->kernel * l->kernel; t++) {
        const int iy = y * l->stride - l->pad + t / l->kernel, ix = x * l->stride - l->pad + t % l->kernel;
        for (int k = depthwise ? c : 0; iy >= 0 && iy < l->in_h && ix >= 0 && ix < l->in_w &&
                                        k < (depthwise ? c + 1 : l->in_c); k++) {
            const size_t at = depthwise ? l->row * (size_t)t + (size_t)c
                                        : l->row * (size_t)c + (size_t)(t * l->in_c + k);
            sum += (double)(sk_code_at(b->in, 1, (size_t)((iy * l->in_w + ix) * l->in_c + k)) - l->zero_in) *
                   b->weight[at];
        }
    }
    const double gate = fmin(fmax(sum * (double)l->curve[c] + .5, 0), 1), mult = (double)l->mult[c];
    return (l->act == SK_ACT_HSIGMOID ? mult * gate : l->act == SK_ACT_HSWISH ? sum * mult * gate : sum * mult) +
           l->zero_out;
}

static void test_all_codes_are_as_defined(void **state) {
    (void)state;
    sk_rng rng = sk_rng_make(22, 0, 0);
    double worst = 0;
    int inside = 0;
    for (int i = 0; i < 3000; i++) {
        sk_q_layer l;
        random_layer(&rng, &l);
        buffers b = make_buffers(&rng, &l);
        l.int16_in = l.int16_in2 = l.int16_out = 1;
        l.zero_in = between(&rng, INT16_MIN, INT16_MAX);
        l.zero_in2 = between(&rng, INT16_MIN, INT16_MAX);
        l.zero_out = between(&rng, INT16_MIN, INT16_MAX);
        l.low = INT16_MIN;
        l.high = INT16_MAX;
        l.factor = (float)exp(l.op == SK_OP_SCALE ? -12 : -1);
        for (size_t k = 0; k < b.in_count; k++) {
            ((int16_t *)(void *)b.in)[k] = (int16_t)between(&rng, INT16_MIN, INT16_MAX);
            ((int16_t *)(void *)b.in2)[k] = (int16_t)between(&rng, INT16_MIN, INT16_MAX);
        }
        for (int c = 0; c < l.out_c; c++) {
            b.mult[c] = (float)exp(l.act == SK_ACT_HSIGMOID ? 10 : -10 + 2 * sk_rng_uniform(&rng));
            b.curve[c] = (float)exp(-18 + 4 * sk_rng_uniform(&rng));
        }
        l.mult2 = between(&rng, 1 << 28, 1 << 30);
        l.shift = 29 + (int)log2(l.in_h * l.in_w);
        run16(&l, &b, b.out);
        for (size_t k = 0; k < b.out_count; k++) {
            const double code = real_code(&l, &b, k), clamped = fmin(fmax(code, INT16_MIN), INT16_MAX);
            worst = fmax(worst, fabs(sk_code_at(b.out, 1, k) - clamped));
            inside += code == clamped;
        }
        free_buffers(&b);
    }
    print_message("int16 codes, worst: %.4f off; %d within the clamp\n", worst, inside);
    assert_true(worst < .55 && inside > 100000);
}

/* ---- networks -------------------------------------------------------------------------------------------------- */

typedef struct shown {
    const test_net *net;
    int layer;
    double error; /* sum of squares */
} shown;

static void show(void *user, int layer, const void *codes, int bits, float scale, int zero) {
    shown *s = user;
    if (layer != s->layer) {
        return;
    }
    const sk_layer *l = &s->net->layers[layer];
    assert_int_equal(bits, s->net->int16[layer] ? 16 : 8);
    for (size_t i = 0; i < sk_layer_values(l); i++) {
        const double real = (sk_code_at(codes, bits == 16, i) - zero) * (double)scale;
        s->error += pow(real - (double)s->net->out[layer][i], 2);
    }
}

/* Of what is pooled for the features. */
static double head_error(test_net *net, const uint8_t *bytes, size_t size) {
    uint8_t *picture = malloc(SIDE * SIDE * 3);
    sk_rt *rt = NULL;
    shown s = {net, (int)net->count - 4, 0};
    assert_int_equal(sk_rt_open_memory(bytes, size, &rt, NULL), SK_OK);
    for (uint64_t i = 0; i < 20; i++) {
        int8_t logits[2];
        net_picture(SIDE, i, picture);
        net_run(net, picture);
        sk_rt_run_tapped(rt, picture, logits, show, &s);
    }
    sk_rt_close(rt);
    free(picture);
    return s.error;
}

static void test_network_comes_nearer(void **state) {
    (void)state;
    test_net net;
    uint8_t *picture = malloc(SIDE * SIDE * 3), *bytes = NULL;
    size_t size = 0;
    double error[2];
    net_make(&net, SIDE, 16, 3);
    for (int c = 0; c < 3; c++) {
        net.card.mean[c] = 128 / 255.f; /* every byte is a code, exactly, and so is 0 */
        net.card.std[c] = .5f;
    }
    for (size_t i = 0; i < net.count; i++) { /* weights that are codes: activations alone lose */
        for (size_t k = 0; net.weight[i] && k < net_depth(&net.layers[i]) * (size_t)net.layers[i].out_c; k++) {
            const int first = k % net_depth(&net.layers[i]) == 0;
            net.weight[i][k] = first ? 127.f / 256 : roundf(fminf(fmaxf(net.weight[i][k], -.49f), .49f) * 256) / 256;
        }
    }
    for (uint64_t i = 0; i < 80; i++) {
        net_picture(SIDE, i, picture);
        net_run(&net, picture);
    }
    for (int int16 = 0; int16 < 2; int16++) {
        memset(net.int16, int16, net.count - 3);
        assert_int_equal(net_build(&net, 0, &bytes, &size, NULL), SK_OK);
        error[int16] = head_error(&net, bytes, size);
        sk_free(bytes);
    }
    print_message("squared error of the last layer: 8 bits %.4g, 16 bits %.4g\n", error[0], error[1]);
    assert_true(error[1] < .001 * error[0]);
    free(picture);
    net_free(&net);
}

static void test_what_keeps_8_bits(void **state) {
    (void)state;
    test_net net;
    uint8_t picture[24 * 24 * 3], *bytes = NULL;
    size_t size = 0;
    sk_error err = {0};
    net_make(&net, 24, 8, 5);
    net_picture(24, 1, picture);
    net_run(&net, picture);
    for (size_t i = 1; i <= 3; i += 2) { /* logits, features */
        memset(net.int16, 0, sizeof net.int16);
        net.int16[net.count - i] = 1;
        assert_int_equal(net_build(&net, 0, &bytes, &size, &err), SK_ERR_ARGUMENT);
        assert_non_null(strstr(err.message, "8 bits"));
    }
    memset(net.int16, 0, sizeof net.int16);
    net.int16[0] = 1;
    assert_int_equal(net_build(&net, 0, &bytes, &size, &err), SK_OK);
    sk_skn_header *h = (sk_skn_header *)(void *)bytes;
    assert_int_equal(h->version, SK_SKN_VERSION_INT16);
    sk_rt *rt = NULL;
    h->version = SK_SKN_VERSION; /* to whose readers such codes are unknown */
    h->crc32 = sk_skn_crc(bytes, size);
    assert_int_equal(sk_rt_open_memory(bytes, size, &rt, &err), SK_ERR_FORMAT);
    sk_free(bytes);
    net_free(&net);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_codes_equal_int8), cmocka_unit_test(test_all_codes_are_as_defined),
        cmocka_unit_test(test_network_comes_nearer),   cmocka_unit_test(test_what_keeps_8_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
