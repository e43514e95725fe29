/* SPDX-License-Identifier: Apache-2.0 */
/* The int8 path: requantisation against exact arithmetic, every vector kernel against the reference, whole networks
 * against float, and .skn files that are damaged by accident or on purpose. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "int8_layer.h"
#include "int8_net.h"
#include "rt/check.h"
#include "siskin/classifier.h"
#include "siskin/rt.h"

/* floor(n / d) without shifts, d > 0 */
static __int128 floor_div(__int128 n, __int128 d) {
    const __int128 q = n / d;
    return n % d != 0 && n < 0 ? q - 1 : q;
}

static void test_requant_exact(void **state) {
    (void)state;
    sk_rng rng = sk_rng_make(1, 0, 0);
    int ties = 0;
    for (int i = 0; i < 200000; i++) {
        const int shift = 1 + (int)sk_rng_below(&rng, 62);
        int32_t value = (int32_t)sk_rng_next(&rng), mult = (int32_t)(sk_rng_next(&rng) & INT32_MAX);
        if (i % 4 == 0) { /* many exact halves */
            mult = 1 << sk_rng_below(&rng, 30);
            value >>= sk_rng_below(&rng, 31);
        }
        const __int128 product = (__int128)value * mult, unit = (__int128)1 << shift;
        const __int128 expected = floor_div(2 * product + unit, 2 * unit);
        if (expected > INT32_MAX || expected < INT32_MIN) {
            continue; /* excluded by the check at open */
        }
        ties += floor_div(2 * product, unit) * unit == 2 * product && floor_div(product, unit) * unit != product;
        assert_int_equal(sk_requant(value, mult, shift), (int32_t)expected);
    }
    assert_true(ties > 100);
}

/* What one sum becomes, against real numbers: the activations as they are defined, in double precision. */
static void test_finish_is_close(void **state) {
    (void)state;
    sk_rng rng = sk_rng_make(2, 0, 0);
    double worst = 0;
    for (int i = 0; i < 300000; i++) {
        const double unit = exp(-14 + 6 * sk_rng_uniform(&rng)), low = -.1 - 3 * sk_rng_uniform(&rng);
        const double scale = (12 * sk_rng_uniform(&rng) + 1.1 - low) / 255;
        sk_q_layer l = {.act = (sk_act)sk_rng_below(&rng, 4), .low = -128, .high = 127};
        const double step = l.act == SK_ACT_HSIGMOID ? 1 / 255. : scale;
        const int from_zero = l.act == SK_ACT_RELU || l.act == SK_ACT_HSIGMOID;
        const int32_t zero = from_zero ? -128 : (int32_t)lround(-128 - low / step);
        const int32_t sum = (int32_t)((sk_rng_uniform(&rng) - .5) * fmin(30 / unit, 1 << 25));
        const float mult = (float)(l.act == SK_ACT_HSIGMOID ? 1 / step : unit / step), curve = (float)(unit / 6);
        l.mult = &mult;
        l.curve = &curve;
        l.zero_out = zero > 127 ? 127 : zero;
        l.low = l.act == SK_ACT_RELU ? l.zero_out : -128;
        const double x = sum * unit, gate = fmin(fmax(x + 3, 0), 6) / 6;
        const double curved = l.act == SK_ACT_HSWISH ? x * gate : gate;
        const double y = l.act == SK_ACT_RELU ? fmax(x, 0) : l.act == SK_ACT_NONE ? x : curved;
        const double code = fmin(fmax(y / step + l.zero_out, -128), 127);
        worst = fmax(worst, fabs(sk_finish(&l, sum, 0) - code));
    }
    print_message("code of a sum, worst: %.4f off\n", worst);
    assert_true(worst < .501);
}

/* A place for one buffer between two pages that may not be touched; the buffer lies against the one or the other. */
#define ROOM ((size_t)4 << 20)
typedef struct guarded {
    char *room;
    long page;
} guarded;

static guarded guard_make(void) {
    guarded g = {NULL, sysconf(_SC_PAGESIZE)};
    g.room = mmap(NULL, ROOM + 2 * (size_t)g.page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(g.room != MAP_FAILED && mprotect(g.room + g.page, ROOM, PROT_READ | PROT_WRITE) == 0);
    return g;
}

static void *guard_place(const guarded *g, size_t bytes, int at_end) {
    assert_true(bytes <= ROOM);
    return g->room + g->page + (at_end ? ROOM - bytes : 0);
}

enum { IN, IN2, WEIGHT, BIAS, MULT, CURVE, PACKED, SCRATCH, OUT, OUT2, BUFFERS };

/* Fills a layer of some shape with random numbers, runs it with the reference and with each of the fast tables, every
 * buffer between guard pages, and compares all bytes. */
static void compare(const guarded *g, const sk_int8_kernels *const *tables, sk_rng *rng, sk_q_layer *l) {
    const int at_end = (int)sk_rng_below(rng, 4) != 0;
    const size_t depth = (size_t)sk_gemm_depth(l), taps = (size_t)(l->kernel * l->kernel), out_c = (size_t)l->out_c;
    const size_t rows = l->op == SK_OP_DEPTHWISE ? taps : out_c, count = (size_t)(l->in_c * l->in_h * l->in_w);
    const size_t size = out_c * (size_t)(l->out_h * l->out_w);
    const int weights = l->op != SK_OP_POOL && l->op != SK_OP_SCALE && l->op != SK_OP_ADD;
    l->row = (l->op == SK_OP_DEPTHWISE ? (size_t)l->in_c : depth) + sk_rng_below(rng, 4);
    int8_t *in = guard_place(&g[IN], count, at_end), *in2 = guard_place(&g[IN2], count, at_end);
    random_codes(rng, in, count, -128);
    random_codes(rng, in2, count, -128);
    if (weights) {
        int8_t *weight = guard_place(&g[WEIGHT], l->row * rows, at_end);
        int32_t *bias = guard_place(&g[BIAS], 4 * out_c, at_end);
        float *mult = guard_place(&g[MULT], 4 * out_c, at_end), *curve = guard_place(&g[CURVE], 4 * out_c, at_end);
        random_codes(rng, weight, l->row * rows, -127);
        for (size_t c = 0; c < out_c; c++) {
            bias[c] = between(rng, -(1 << 20), 1 << 20);
            mult[c] = (float)exp(-14 + 10 * sk_rng_uniform(rng));
            curve[c] = (float)exp(-16 + 10 * sk_rng_uniform(rng));
        }
        l->weight = weight;
        l->bias = bias;
        l->mult = mult;
        l->curve = l->act == SK_ACT_HSWISH || l->act == SK_ACT_HSIGMOID ? curve : NULL;
    }
    int8_t *expected = guard_place(&g[OUT], size, at_end), *out = guard_place(&g[OUT2], size, at_end);
    void *scratch = sk_alloc(sk_int8_c.scratch_bytes(l) + 1, 1);
    sk_int8_run(&sk_int8_c, l, in, in2, expected, scratch);
    sk_free(scratch);
    for (; *tables; tables++) {
        const sk_int8_kernels *t = *tables;
        void *packed = guard_place(&g[PACKED], t->packed_bytes(l), at_end);
        t->pack(l, packed);
        l->packed = packed;
        memset(out, 0x5a, size);
        sk_int8_run(t, l, in, in2, out, guard_place(&g[SCRATCH], t->scratch_bytes(l), at_end));
        assert_memory_equal(expected, out, size);
    }
}

static const char *const path_names[] = {"c", "avx2", "avxvnni", "avx512"}; /* narrow to wide */
enum { PATHS = sizeof path_names / sizeof *path_names };

/* The tables that this machine has beside the reference, NULL behind the last. */
static int fast_tables(const sk_int8_kernels *tables[PATHS]) {
    int count = 0;
    for (int i = 1; i < PATHS; i++) {
        const sk_int8_kernels *table = sk_int8_path(path_names[i]);
        print_message(table ? "%s against c\n" : "no %s on this machine: its kernels are not tested\n", path_names[i]);
        if (table) {
            tables[count++] = table;
        }
    }
    tables[count] = NULL;
    return count;
}

/* SISKIN_CPU is the widest that may be taken; another word changes nothing. */
static void test_choice(void **state) {
    (void)state;
    const char *before = getenv("SISKIN_CPU");
    char *kept = before ? sk_strdup(before) : NULL;
    const char *expected = NULL;
    for (int i = 0; i < PATHS; i++) {
        const sk_int8_kernels *table = sk_int8_path(path_names[i]);
        if (table) {
            assert_string_equal(table->name, path_names[i]);
            expected = path_names[i];
        }
        setenv("SISKIN_CPU", path_names[i], 1);
        assert_string_equal(sk_int8_choose()->name, expected);
    }
    setenv("SISKIN_CPU", "avx1024", 1);
    assert_null(sk_int8_path("avx1024"));
    assert_string_equal(sk_int8_choose()->name, expected);
    unsetenv("SISKIN_CPU");
    assert_string_equal(sk_int8_choose()->name, expected);
    if (kept) {
        setenv("SISKIN_CPU", kept, 1);
    }
    sk_free(kept);
}

/* What a comparison needs; skips the test where there is nothing to compare. */
static void begin(const sk_int8_kernels *tables[PATHS], guarded g[BUFFERS]) {
    if (!fast_tables(tables)) {
        print_message("skipped: no vector kernels here\n");
        skip();
    }
    for (int i = 0; i < BUFFERS; i++) {
        g[i] = guard_make();
    }
}

static void test_random_shapes_equal_c(void **state) {
    (void)state;
    const sk_int8_kernels *tables[PATHS];
    guarded g[BUFFERS];
    begin(tables, g);
    sk_rng rng = sk_rng_make(7, 0, 0);
    int seen[7] = {0};
    for (int i = 0; i < 14000; i++) {
        sk_q_layer l;
        random_layer(&rng, &l);
        seen[l.op]++;
        compare(g, tables, &rng, &l);
    }
    for (int op = 0; op < 7; op++) {
        assert_true(seen[op] > 1000);
    }
}

static void test_input_equals_c(void **state) {
    (void)state;
    const sk_int8_kernels *tables[PATHS];
    fast_tables(tables);
    guarded g[2] = {guard_make(), guard_make()};
    sk_rng rng = sk_rng_make(9, 0, 0);
    int8_t table[3 * 256], expected[3 * 300];
    for (int i = 0; i < 600; i++) {
        const size_t pixels = (size_t)i / 2;
        uint8_t *image = guard_place(&g[0], 3 * pixels, i % 2);
        int8_t *out = guard_place(&g[1], 3 * pixels, i % 2);
        random_codes(&rng, table, sizeof table, -128);
        random_codes(&rng, (int8_t *)image, 3 * pixels, -128);
        for (size_t k = 0; k < 3 * pixels; k++) {
            expected[k] = table[256 * (k % 3) + image[k]];
        }
        sk_int8_c.input(table, image, pixels, out);
        assert_memory_equal(out, expected, 3 * pixels);
        for (int k = 0; tables[k]; k++) {
            memset(out, 0x5a, 3 * pixels);
            tables[k]->input(table, image, pixels, out);
            assert_memory_equal(out, expected, 3 * pixels);
        }
    }
}

static void test_network_shapes_equal_c(void **state) {
    (void)state;
    const sk_int8_kernels *tables[PATHS];
    guarded g[BUFFERS];
    begin(tables, g);
    sk_rng rng = sk_rng_make(8, 0, 0);
    for (int arch = SK_ARCH_V3_SMALL; arch <= SK_ARCH_V3_LARGE; arch++) {
        const sk_card card = sk_card_default((sk_arch)arch);
        sk_model *model = NULL;
        assert_int_equal(sk_model_create(&card, 1, &model, NULL), SK_OK);
        for (size_t i = 0; i < sk_model_layer_count(model); i++) {
            const sk_layer *from = sk_model_layer(model, i);
            sk_q_layer l;
            random_layer(&rng, &l); /* zero points, clamps, multipliers */
            l.op = from->op;
            l.act = from->act;
            l.kernel = from->kernel > 0 ? from->kernel : 1;
            l.stride = from->stride > 0 ? from->stride : 1;
            l.pad = from->pad;
            l.in_c = from->in_c;
            l.in_h = from->in_h;
            l.in_w = from->in_w;
            l.out_c = from->out_c;
            l.out_h = from->out_h;
            l.out_w = from->out_w;
            l.shift = 40;
            l.mult2 = 1 << 30;
            compare(g, tables, &rng, &l);
        }
        sk_model_free(model);
    }
}

static void open_bytes(const uint8_t *bytes, size_t size, sk_rt **rt) {
    sk_error err = {0};
    if (sk_rt_open_memory(bytes, size, rt, &err) != SK_OK) {
        fail_msg("%s", err.message);
    }
}

static void test_net_close_to_float(void **state) {
    (void)state;
    double cosine[2] = {0, 0}, worst = 0;
    for (int steps = 0; steps < 2; steps++) {
        test_net net;
        net_make(&net, 48, 16, 3);
        uint8_t *picture = malloc(48 * 48 * 3), *bytes = NULL;
        size_t size = 0;
        sk_error err = {0};
        for (uint64_t i = 0; i < 80; i++) {
            net_picture(48, i, picture);
            net_run(&net, picture);
        }
        assert_int_equal(net_build(&net, steps, &bytes, &size, &err), SK_OK);
        sk_rt *rt = NULL;
        open_bytes(bytes, size, &rt);
        const sk_rt_info *info = sk_rt_get_info(rt);
        assert_int_equal(info->features, 64);
        assert_string_equal(info->class_names, "nobird,bird");
        for (uint64_t i = 100; i < 120; i++) {
            int8_t logits[2], features[64];
            net_picture(48, i, picture);
            net_run(&net, picture);
            sk_rt_run(rt, picture, logits, features);
            double ab = 0, aa = 0, bb = 0;
            for (int k = 0; k < 64; k++) {
                const double a = net.out[net.count - 3][k], b = sk_rt_feature_value(rt, features[k]);
                ab += a * b;
                aa += a * a;
                bb += b * b;
            }
            cosine[steps] += ab / sqrt(aa * bb) / 20;
            assert_true(ab / sqrt(aa * bb) > .99);
            for (int k = 0; k < 2; k++) {
                const double real = (logits[k] - info->logit_zero_point) * (double)info->logit_scale;
                const float *range = net.range[net.count - 1]; /* a code cannot leave what calibration saw */
                const double wanted = fmin(fmax(net.out[net.count - 1][k], range[0]), range[1]);
                worst = fmax(worst, fabs(real - wanted) / (range[1] - range[0]));
                assert_true(fabs(real - wanted) < .06 * (range[1] - range[0]));
            }
            float p[2];
            sk_rt_probabilities(rt, logits, p);
            assert_true(fabsf(p[0] + p[1] - 1) < 1e-5f && (p[1] > p[0]) == (logits[1] > logits[0]));
        }
        sk_rt_close(rt);
        sk_free(bytes);
        free(picture);
        net_free(&net);
    }
    print_message("cosine of features, int8 against float: plain %.5f, equalised %.5f; worst logit %.4f of the range\n",
                  cosine[0], cosine[1], worst);
    assert_true(cosine[1] > .998 && cosine[1] > cosine[0]); /* equalised channels pay */
}

static uint8_t *small_model(size_t *size, int int16) {
    test_net net;
    uint8_t *bytes = NULL, picture[24 * 24 * 3];
    net_make(&net, 24, 8, 5);
    memset(net.int16, int16, net.count - 3); /* all but features, hidden layer, logits */
    net_picture(24, 1, picture);
    net_run(&net, picture);
    sk_error err = {0};
    if (net_build(&net, 1, &bytes, size, &err) != SK_OK) {
        fail_msg("%s", err.message);
    }
    net_free(&net);
    return bytes;
}

static void test_nothing_allocated_after_open(void **state) {
    (void)state;
    size_t size = 0;
    uint8_t *bytes = small_model(&size, 0), picture[24 * 24 * 3];
    sk_rt *rt = NULL;
    open_bytes(bytes, size, &rt);
    const long before = sk_memory_count();
    int8_t logits[2], again[2];
    float p[2];
    for (uint64_t i = 0; i < 10; i++) {
        net_picture(24, i, picture);
        sk_rt_run(rt, picture, logits, NULL);
        sk_rt_probabilities(rt, logits, p);
    }
    assert_int_equal(sk_memory_count(), before);
    setenv("SISKIN_CPU", "c", 1); /* the reference gives the same bytes */
    sk_rt *plain = NULL;
    open_bytes(bytes, size, &plain);
    unsetenv("SISKIN_CPU");
    for (uint64_t i = 0; i < 200; i++) {
        net_picture(24, i, picture);
        sk_rt_run(rt, picture, logits, NULL);
        sk_rt_run(plain, picture, again, NULL);
        assert_memory_equal(logits, again, 2);
    }
    sk_rt_close(plain);
    sk_rt_close(rt);
    sk_free(bytes);
}

static void test_open_survives_lack_of_memory(void **state) {
    (void)state;
    size_t size = 0;
    uint8_t *bytes = small_model(&size, 0);
    const long live = sk_memory_live();
    int failures = 0;
    for (long n = 0; n < 20; n++) {
        sk_rt *rt = NULL;
        sk_error err = {0};
        sk_memory_fail_at(n, 0);
        const sk_status status = sk_rt_open_memory(bytes, size, &rt, &err);
        sk_memory_fail_at(-1, 0);
        failures += status == SK_ERR_MEMORY;
        assert_true(status == SK_OK || status == SK_ERR_MEMORY);
        sk_rt_close(rt);
        assert_int_equal(sk_memory_live(), live);
    }
    assert_true(failures >= 4);
    sk_free(bytes);
}

static void test_writer_survives_lack_of_memory(void **state) {
    (void)state;
    test_net net;
    uint8_t picture[24 * 24 * 3];
    net_make(&net, 24, 8, 5);
    net_picture(24, 1, picture);
    net_run(&net, picture);
    const long live = sk_memory_live();
    int failures = 0;
    for (long n = 0; n < 40; n++) {
        uint8_t *bytes = NULL;
        size_t size = 0;
        sk_error err = {0};
        sk_memory_fail_at(n, 0);
        const sk_status status = net_build(&net, 0, &bytes, &size, &err);
        sk_memory_fail_at(-1, 0);
        failures += status == SK_ERR_MEMORY;
        assert_true(status == SK_OK ? bytes != NULL : status == SK_ERR_MEMORY && !bytes && err.message[0]);
        sk_free(bytes);
        assert_int_equal(sk_memory_live(), live);
    }
    assert_true(failures > 5);
    net.range[3][1] = INFINITY; /* a broken model is told, not written */
    uint8_t *bytes = NULL;
    size_t size = 0;
    assert_int_equal(net_build(&net, 0, &bytes, &size, NULL), SK_ERR_DATA);
    net_free(&net);
}

/* The face that evaluation and classify use: same answers as the runtime, for any number of threads. */
static void test_classifier_over_skn(void **state) {
    (void)state;
    enum { PICTURES = 17, SIDE = 24 * 24 * 3, FEATURES = 32 };
    size_t size = 0;
    uint8_t *bytes = small_model(&size, 0), *pictures = malloc(PICTURES * SIDE);
    char path[64], missing[80];
    snprintf(path, sizeof path, "/tmp/siskin-test-%ld.skn", (long)getpid());
    snprintf(missing, sizeof missing, "%s.none", path);
    sk_error err = {0};
    assert_int_equal(sk_file_write(path, bytes, size, &err), SK_OK);
    sk_classifier *c = NULL;
    assert_int_equal(sk_classifier_open(path, &c, &err), SK_OK);
    assert_true(sk_classifier_is_int8(c));
    assert_int_equal(sk_classifier_feature_count(c), FEATURES);
    assert_int_equal(sk_classifier_card(c)->size, 24);
    assert_string_equal(sk_classifier_card(c)->run_id, "test");
    float p[2][PICTURES * 2], features[2][PICTURES * FEATURES];
    for (int i = 0; i < PICTURES; i++) {
        net_picture(24, (uint64_t)i, pictures + i * SIDE);
    }
    for (int k = 0; k < 2; k++) {
        assert_int_equal(sk_classifier_run(c, pictures, PICTURES, k ? 3 : 1, p[k], features[k], &err), SK_OK);
    }
    assert_memory_equal(p[0], p[1], sizeof p[0]);
    assert_memory_equal(features[0], features[1], sizeof features[0]);
    sk_rt *rt = NULL;
    open_bytes(bytes, size, &rt);
    for (int i = 0; i < PICTURES; i++) {
        int8_t logits[2], codes[FEATURES];
        float q[2];
        sk_rt_run(rt, pictures + i * SIDE, logits, codes);
        sk_rt_probabilities(rt, logits, q);
        assert_true(q[0] == p[0][2 * i] && q[1] == p[0][2 * i + 1]);
        assert_true(sk_rt_feature_value(rt, codes[5]) == features[0][i * FEATURES + 5]);
    }
    sk_rt_close(rt);
    sk_classifier_close(c);
    assert_int_equal(sk_file_write(path, bytes, size - 1, &err), SK_OK);
    assert_int_equal(sk_classifier_open(path, &c, &err), SK_ERR_FORMAT);
    assert_non_null(strstr(err.message, path));
    assert_int_not_equal(sk_classifier_open(missing, &c, &err), SK_OK);
    assert_non_null(strstr(err.message, missing));
    unlink(path);
    free(pictures);
    sk_free(bytes);
}

static void refused(const uint8_t *bytes, size_t size) {
    sk_rt *rt = NULL;
    sk_error err = {0};
    assert_int_not_equal(sk_rt_open_memory(bytes, size, &rt, &err), SK_OK);
    assert_null(rt);
    assert_true(err.message[0] != 0);
}

static void test_damage_is_found(void **state) {
    (void)state;
    size_t size = 0;
    uint8_t *bytes = small_model(&size, 0), *copy = sk_alloc(size, 1);
    sk_rng rng = sk_rng_make(11, 0, 0);
    for (size_t cut = 0; cut < size; cut += 1 + cut / 50) {
        memcpy(copy, bytes, cut);
        refused(copy, cut);
    }
    for (int i = 0; i < 3000; i++) {
        memcpy(copy, bytes, size);
        copy[sk_rng_below(&rng, (uint32_t)size)] ^= (uint8_t)(1 << sk_rng_below(&rng, 8));
        refused(copy, size);
    }
    sk_free(copy);
    sk_free(bytes);
}

/* Mutations under a fresh checksum: refused, or run without leaving its memory (the sanitizers watch). */
static void mutate(int int16) {
    size_t size = 0;
    uint8_t *bytes = small_model(&size, int16), *copy = sk_alloc(size, 1), picture[1024 * 3];
    memset(picture, 77, sizeof picture);
    sk_rng rng = sk_rng_make(13, 0, 0);
    sk_skn_header header;
    memcpy(&header, bytes, sizeof header);
    const uint32_t table = header.layer_offset, table_end = table + header.layer_count * header.layer_bytes;
    static const uint32_t odd[] = {0, 1, 2, 127, 128, 255, 0x7fffffff, 0x80000000, 0xffffffff, 0xffffffc0, 64, 4096};
    int ran = 0, turned_down = 0;
    for (int i = 0; i < 10000; i++) {
        memcpy(copy, bytes, size);
        for (int k = 0; k < between(&rng, 1, 3); k++) {
            const uint32_t at = sk_rng_below(&rng, 3) ? (uint32_t)between(&rng, (int)table, (int)table_end - 4)
                                                      : sk_rng_below(&rng, (uint32_t)size - 4);
            const uint32_t value = sk_rng_below(&rng, 2) ? odd[sk_rng_below(&rng, 12)] : (uint32_t)sk_rng_next(&rng);
            if (sk_rng_below(&rng, 2)) {
                memcpy(copy + at / 4 * 4, &value, 4);
            } else {
                copy[at] = (uint8_t)value;
            }
        }
        const uint32_t crc = sk_skn_crc(copy, size);
        memcpy(copy + SK_SKN_CRC_AT, &crc, 4);
        sk_rt *rt = NULL;
        if (sk_rt_open_memory(copy, size, &rt, NULL) != SK_OK) {
            turned_down++;
            continue;
        }
        const sk_rt_info *info = sk_rt_get_info(rt);
        if ((size_t)info->size * (size_t)info->size * 3 <= sizeof picture) {
            int8_t *logits = malloc((size_t)info->classes), *features = malloc((size_t)info->features);
            sk_rt_run(rt, picture, logits, features);
            free(logits);
            free(features);
            ran++;
        }
        sk_rt_close(rt);
    }
    assert_true(ran > 500 && turned_down > 500);
    sk_free(copy);
    sk_free(bytes);
}

static void test_hostile_files(void **state) {
    (void)state;
    mutate(0);
    mutate(1);
}

static void test_decision(void **state) {
    (void)state;
    const float p[3] = {.4f, .7f, .85f};
    assert_int_equal(sk_decide(p, 1, .5f, .8f).bird, 0);
    assert_int_equal(sk_decide(p, 3, .5f, .8f).bird, 1);
    assert_int_equal(sk_decide(p, 3, .5f, .8f).deciding, 2);
    assert_int_equal(sk_decide(p, 3, .5f, .5f).deciding, 1);
    assert_int_equal(sk_decide(p, 3, .5f, .9f).bird, 0);
    assert_int_equal(sk_decide(p, 3, .4f, .9f).bird, 1);
    assert_int_equal(sk_decide(p, 3, .4f, .5f).deciding, 0);
}

static void test_weight_scale(void **state) {
    (void)state;
    float w[64];
    sk_rng rng = sk_rng_make(17, 0, 0);
    for (int i = 0; i < 64; i++) {
        w[i] = (float)sk_rng_normal(&rng);
    }
    double error[2] = {0, 0}, most = 0;
    for (int i = 0; i < 64; i++) {
        most = fmax(most, fabs((double)w[i]));
    }
    const double scales[2] = {most / 127, sk_weight_scale_best(w, 64)};
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < 64; i++) {
            const double code = fmin(fmax(floor(w[i] / scales[k] + .5), -127), 127);
            error[k] += pow(w[i] - code * scales[k], 2);
        }
    }
    assert_true(error[1] <= error[0] && scales[1] <= scales[0]);
}

/* One outlier among very many small values: mmse gives it up, as plain min and max cannot. */
static void test_range_drops_outlier(void **state) {
    (void)state;
    const size_t count = 2000000;
    float *data = malloc(count * sizeof *data);
    sk_rng rng = sk_rng_make(19, 0, 0);
    for (size_t i = 0; i < count; i++) {
        data[i] = (float)sk_rng_normal(&rng);
    }
    data[7] = 60;
    sk_range range = {0};
    range.bins = sk_calloc(SK_RANGE_BINS, sizeof *range.bins);
    sk_range_widen(&range, data, count);
    sk_range_count(&range, NULL, data, count, 1);
    assert_true(range.high == 60 && range.low < -3 && range.low > -7);
    float out[2] = {0, 0};
    assert_int_equal(sk_range_choose(&range, SK_QUANT_MMSE, 100, out, NULL), SK_OK);
    assert_true(out[1] < 25 && out[1] > 2 && out[0] < -2);
    sk_free(range.bins);
    free(data);
}

static void test_crops(void **state) {
    (void)state;
    sk_crops crops;
    assert_int_equal(sk_crops_parse("squeeze", &crops, NULL), SK_OK);
    assert_int_equal(crops, SK_CROPS_SQUEEZE);
    assert_int_not_equal(sk_crops_parse("2", &crops, NULL), SK_OK);
    /* a wide frame, already 256 high: left third red, right third blue, else green */
    sk_image image = {0};
    assert_int_equal(sk_image_create(768, 256, &image, NULL), SK_OK);
    for (int i = 0; i < 768 * 256; i++) {
        for (int c = 0; c < 3; c++) {
            image.data[3 * i + c] = c == (i % 768 < 256 ? 0 : i % 768 < 512 ? 1 : 2) ? 200 : 0;
        }
    }
    uint8_t *out = malloc(3 * 224 * 224 * 3);
    assert_int_equal(sk_crops_prepare(&image, SK_CROPS_THREE, 224, out, NULL), SK_OK);
    static const int channel[3] = {1, 0, 2}; /* centre, left, right */
    for (int k = 0; k < 3; k++) {
        for (int i = 0; i < 224 * 224; i++) {
            if (i % 224 < 2 || i % 224 > 221) {
                continue; /* the filter may look over the crop's edge, as Pillow's box does */
            }
            for (int c = 0; c < 3; c++) {
                assert_int_equal(out[(k * 224 * 224 + i) * 3 + c], c == channel[k] ? 200 : 0);
            }
        }
    }
    assert_int_equal(sk_crops_prepare(&image, SK_CROPS_SQUEEZE, 224, out, NULL), SK_OK);
    assert_int_equal(out[0], 200);
    assert_int_equal(out[3 * 112 + 1], 200);
    assert_int_equal(out[3 * 223 + 2], 200);
    free(out);
    sk_image_free(&image);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requant_exact),
        cmocka_unit_test(test_finish_is_close),
        cmocka_unit_test(test_choice),
        cmocka_unit_test(test_random_shapes_equal_c),
        cmocka_unit_test(test_input_equals_c),
        cmocka_unit_test(test_network_shapes_equal_c),
        cmocka_unit_test(test_net_close_to_float),
        cmocka_unit_test(test_nothing_allocated_after_open),
        cmocka_unit_test(test_open_survives_lack_of_memory),
        cmocka_unit_test(test_writer_survives_lack_of_memory),
        cmocka_unit_test(test_classifier_over_skn),
        cmocka_unit_test(test_damage_is_found),
        cmocka_unit_test(test_hostile_files),
        cmocka_unit_test(test_decision),
        cmocka_unit_test(test_weight_scale),
        cmocka_unit_test(test_range_drops_outlier),
        cmocka_unit_test(test_crops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
