/* SPDX-License-Identifier: Apache-2.0 */
/* The network against figures that PyTorch computed in float64 (tests/golden): logits, block outputs, loss, every
 * gradient, running statistics, five Adam steps, of both networks, with one and two threads. Built twice: in float with
 * the kernels of this machine (1e-3), and in double with the reference kernels (1e-9), which proves the formulas apart
 * from rounding. All tensors are made by formula: splitmix64 of FNV-1a of the name; see tests/golden/README.md. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "net/step.h"

/* FLIPS: of the 3.2 million values before the first wide ReLU of V3-Large, which lie within about one of zero, rounding
 * (some 3e-7) turns about one to the other side, and the gradient of its bias gains or loses all that passes there: as
 * much as 1e-3 of the norm. Sums over a tensor, where all channels meet, are allowed two of those. */
#ifdef SK_DOUBLE
#define TOLERANCE 1e-9
#define FLIPS 1
#else
#define TOLERANCE 1e-3
#define FLIPS 2
#endif

static cJSON *golden;
static double worst; /* largest error seen, in units of the tolerance */
static char worst_name[128];

static uint64_t draw(const char *name, uint64_t i) {
    return sk_hash64(sk_hash_bytes(name, strlen(name)) + (i + 1) * 0x9E3779B97F4A7C15u);
}

static void fill(sk_net *net) {
    for (int i = 0; i < net->param_count; i++) {
        sk_param *p = &net->params[i];
        const size_t fan_in = p->count / (size_t)p->shape[0];

        for (size_t j = 0; j < p->count; j++) {
            double u = (double)(draw(p->name, j) >> 40) / 8388608.0 - 1;

            if (p->rank > 1) u *= sqrt(3.0 / (double)fan_in);
            else if (sk_has_suffix(p->name, ".running_mean") || sk_has_suffix(p->name, ".bias")) u *= 0.1;
            else if (sk_has_suffix(p->name, ".running_var")) u = 1 + 0.5 * fabs(u);
            else u = 1 + 0.1 * u;
            p->data[j] = (sk_real)(float)u;
        }
    }
}

static uint8_t *make_images(int n, int size) {
    uint8_t *images = sk_alloc((size_t)n * (size_t)size * (size_t)size, 3);

    for (int k = 0; k < n; k++)
        for (int ch = 0; ch < 3; ch++)
            for (int i = 0; i < size * size; i++)
                images[((size_t)k * (size_t)(size * size) + (size_t)i) * 3 + (size_t)ch] =
                    (uint8_t)(draw("image", (uint64_t)(k * 3 + ch) * (uint64_t)(size * size) + (uint64_t)i) >> 56);
    return images;
}

static const cJSON *member(const cJSON *object, const char *key) {
    const cJSON *found = cJSON_GetObjectItemCaseSensitive(object, key);

    if (!found) fail_msg("no golden figure %s", key);
    return found;
}

/* |value - expected| <= TOLERANCE * norm. */
static void near(const char *what, const char *part, double value, double expected, double norm) {
    const double error = fabs(value - expected) / (TOLERANCE * norm);

    if (error > worst) {
        worst = error;
        snprintf(worst_name, sizeof worst_name, "%s %s", what, part);
    }
    if (!(error <= 1)) fail_msg("%s %s: %.17g, expected %.17g (norm %g)", what, part, value, expected, norm);
}

/* Values as the golden file lists them: torch's order. `floor`: norm below which a tensor is zero but for rounding. */
static void near_tensor(const char *what, const double *values, size_t n, const cJSON *expected, double floor) {
    const double l2 = member(expected, "l2")->valuedouble, norm = l2 > floor ? l2 : floor;
    double squares = 0, sum = 0;
    int i = 0;
    const cJSON *first;

    assert_int_equal(n, member(expected, "n")->valueint);
    for (size_t j = 0; j < n; j++) {
        squares += values[j] * values[j];
        sum += values[j];
    }
    near(what, "l2", sqrt(squares), l2, norm);
    near(what, "sum", sum, member(expected, "sum")->valuedouble, FLIPS * norm);
    cJSON_ArrayForEach(first, member(expected, "first")) {
        near(what, "value", values[i], first->valuedouble, norm);
        i++;
    }
}

static void near_real(const char *what, const sk_real *values, size_t n, const cJSON *expected, double floor) {
    double *copy = sk_alloc(n, sizeof *copy);

    for (size_t i = 0; i < n; i++) copy[i] = (double)values[i];
    near_tensor(what, copy, n, expected, floor);
    sk_free(copy);
}

static void near_logits(const char *what, const sk_real *logits, const cJSON *expected) {
    double norm = 0;
    const cJSON *row, *value;
    int i = 0;

    cJSON_ArrayForEach(row, expected) cJSON_ArrayForEach(value, row) norm += value->valuedouble * value->valuedouble;
    cJSON_ArrayForEach(row, expected) cJSON_ArrayForEach(value, row)
        near(what, "logit", (double)logits[i++], value->valuedouble, sqrt(norm));
}

static sk_net *make_net(int large, int size) {
    sk_card card = sk_card_default(large ? SK_ARCH_V3_LARGE : SK_ARCH_V3_SMALL);
    sk_net *net;

    card.size = size;
    assert_int_equal(sk_net_create(&card, &net, NULL), SK_OK);
    fill(net);
    return net;
}

static const cJSON *figures(int large) { return member(golden, large ? "large" : "small"); }

/* ---- evaluation ------------------------------------------------------------------------------------------- */
typedef struct block_check {
    const sk_net *net;
    const cJSON *blocks;
    double *values[SK_MAX_LAYERS]; /* of both pictures, in torch's order */
} block_check;

/* Name of the block that ends with this layer, or NULL. */
static const char *block_end(const sk_net *net, size_t layer, char name[64]) {
    int block, next;

    if (sscanf(net->layers[layer].name, "features.%d", &block) != 1) return NULL;
    if (sscanf(net->layers[layer + 1].name, "features.%d", &next) == 1 && next == block) return NULL;
    snprintf(name, 64, "features.%d", block);
    return name;
}

static void collect(void *user, size_t layer, const sk_real *data, int n, int h, int w, int c) {
    block_check *check = user;
    const size_t rows = (size_t)h * (size_t)w, size = rows * (size_t)c;
    double *to;
    char name[64];

    assert_int_equal(n, 1);
    if (!block_end(check->net, layer, name)) return;
    if (!check->values[layer]) {
        to = check->values[layer] = sk_alloc(2 * size, sizeof *to);
    } else {
        to = check->values[layer] + size;
    }
    for (size_t i = 0; i < rows; i++)
        for (int j = 0; j < c; j++) to[(size_t)j * rows + i] = (double)data[i * (size_t)c + (size_t)j];
}

static void evaluation(int large, int size) {
    sk_net *net = make_net(large, size);
    uint8_t *images = make_images(2, size);
    const cJSON *expected = member(figures(large), size == 224 ? "eval224" : "eval256");
    block_check check = {.net = net};
    sk_runner *runner;
    sk_real logits[4], tapped[4];
    int blocks = 0;

    assert_int_equal(sk_runner_create(net, 3, &runner, NULL), SK_OK);
    for (int threads = 1; threads <= 2; threads++) {
        sk_runner_run(runner, images, 2, threads, logits, NULL, NULL, NULL);
        near_logits("evaluation", logits, member(expected, "logits"));
    }
    for (int threads = 1; threads <= 3; threads++) { /* one picture, all threads its team */
        sk_real alone[2];

        sk_runner_run(runner, images + (size_t)size * (size_t)size * 3, 1, threads, alone, NULL, NULL, NULL);
        assert_memory_equal(alone, logits + 2, sizeof alone);
    }
    sk_runner_run(runner, images, 2, 2, tapped, NULL, collect, &check);
    near_logits("with a tap", tapped, member(expected, "logits"));
    for (int i = 0; i < net->layer_count; i++) {
        const sk_layer *l = &net->layers[i];
        char name[64];

        if (!check.values[i]) continue;
        near_tensor(l->name, check.values[i], 2 * (size_t)l->out_h * (size_t)l->out_w * (size_t)l->out_c,
                    member(member(expected, "blocks"), block_end(net, (size_t)i, name)), 0);
        sk_free(check.values[i]);
        blocks++;
    }
    assert_int_equal(blocks, cJSON_GetArraySize(member(expected, "blocks")));
    sk_runner_free(runner);
    sk_free(images);
    sk_net_free(net);
}

/* ---- training --------------------------------------------------------------------------------------------- */
static const int labels[4] = {0, 1, 0, 1};

static double gradient_norm(const cJSON *grads) {
    double squares = 0;
    const cJSON *g;

    cJSON_ArrayForEach(g, grads) squares += pow(member(g, "l2")->valuedouble, 2);
    return sqrt(squares);
}

static void check_step(const sk_step *step, const sk_net *net, double loss, const cJSON *expected) {
    const cJSON *grads = member(expected, "grads"), *running = member(expected, "running");
    /* A shift before another batch norm has no effect, so its gradient is zero but for rounding. */
    const double floor = 1e-3 * gradient_norm(grads);
    int trained = 0, stats = 0;

    near("training", "loss", loss, member(expected, "loss")->valuedouble, member(expected, "loss")->valuedouble);
    near_logits("training", step->logits, member(expected, "logits"));
    for (int i = 0; i < net->param_count; i++) {
        const sk_param *p = &net->params[i];
        const cJSON *stat = cJSON_GetObjectItemCaseSensitive(running, p->name);

        assert_int_equal(sk_step_gradient(step, i) != NULL, p->trainable);
        if (p->trainable) {
            near_real(p->name, sk_step_gradient(step, i), p->count, member(grads, p->name), floor);
            trained++;
        } else if (stat) {
            near_real(p->name, p->data, p->count, stat, 0);
            stats++;
        }
    }
    assert_int_equal(trained, cJSON_GetArraySize(grads));
    assert_int_equal(stats, cJSON_GetArraySize(running));
}

static void training(int large) {
    const cJSON *expected = member(figures(large), "train224");
    uint8_t *images = make_images(4, 224);
    sk_net *net[2];
    sk_step *step[2];
    double loss;
    int correct;
    size_t trained = 0;

    for (int t = 0; t < 2; t++) {
        const sk_step_options options = {.batch = 4, .threads = t + 1};

        net[t] = make_net(large, 224);
        assert_int_equal(sk_step_create(net[t], &options, &step[t], NULL), SK_OK);
        assert_int_equal(sk_step_run(step[t], images, labels, 4, 0, &loss, &correct, NULL), SK_OK);
        check_step(step[t], net[t], loss, expected);
    }
    for (int i = 0; i < net[0]->param_count; i++)
        if (net[0]->params[i].trainable) trained += net[0]->params[i].count;
    assert_int_equal(trained, member(figures(large), "params")->valueint);
    assert_memory_equal(step[0]->gradients, step[1]->gradients, net[0]->value_count * sizeof(sk_real));
    assert_memory_equal(net[0]->values, net[1]->values, net[0]->value_count * sizeof(sk_real));
    for (int t = 0; t < 2; t++) {
        sk_step_free(step[t]);
        sk_net_free(net[t]);
    }
    sk_free(images);
}

static void adam(int large) {
    const cJSON *expected = member(figures(large), "adam1e-3_loss"), *value;
    const sk_step_options options = {.batch = 4, .threads = 2};
    const double first = cJSON_GetArrayItem(expected, 0)->valuedouble;
    sk_net *net = make_net(large, 224);
    uint8_t *images = make_images(4, 224);
    sk_real *m = sk_calloc(net->value_count, sizeof *m), *v = sk_calloc(net->value_count, sizeof *v);
    sk_step *step;
    int t = 0;

    assert_int_equal(sk_step_create(net, &options, &step, NULL), SK_OK);
    cJSON_ArrayForEach(value, expected) {
        double loss;

        assert_int_equal(sk_step_run(step, images, labels, 4, 0, &loss, NULL, NULL), SK_OK);
        near("adam", "loss", loss, value->valuedouble, first);
        t++;
        for (int i = 0; i < net->param_count; i++) {
            const sk_param *p = &net->params[i];
            const ptrdiff_t at = p->data - net->values;

            if (p->trainable)
                sk_kernels_get()->adam(p->count, p->data, sk_step_gradient(step, i), m + at, v + at, (sk_real)0.9,
                                       (sk_real)0.999, (sk_real)(1e-3 / (1 - pow(0.9, t))),
                                       (sk_real)(1 / sqrt(1 - pow(0.999, t))), (sk_real)1e-8);
        }
    }
    sk_step_free(step);
    sk_free(m);
    sk_free(v);
    sk_free(images);
    sk_net_free(net);
}

#define CASES(kind, large)                                                                                             \
    static void kind##_eval224(void **state) {                                                                         \
        (void)state;                                                                                                   \
        evaluation(large, 224);                                                                                        \
    }                                                                                                                  \
    static void kind##_eval256(void **state) {                                                                         \
        (void)state;                                                                                                   \
        evaluation(large, 256);                                                                                        \
    }                                                                                                                  \
    static void kind##_training(void **state) {                                                                        \
        (void)state;                                                                                                   \
        training(large);                                                                                               \
    }                                                                                                                  \
    static void kind##_adam(void **state) {                                                                            \
        (void)state;                                                                                                   \
        adam(large);                                                                                                   \
    }
CASES(small, 0)
CASES(large, 1)

static int load(void **state) {
    uint8_t *bytes;
    size_t size;

    (void)state;
    if (sk_file_read(SK_SOURCE_DIR "/tests/golden/mobilenet_v3.json", &bytes, &size, NULL) != SK_OK) return -1;
    golden = cJSON_ParseWithLength((const char *)bytes, size);
    sk_free(bytes);
    return golden ? 0 : -1;
}

static int tell_worst(void **state) {
    (void)state;
    printf("# kernels %s: largest error %.3g of the tolerance %g (%s)\n", sk_kernels_get()->name, worst, TOLERANCE,
           worst_name);
    worst = 0;
    return 0;
}

static int unload(void **state) {
    (void)state;
    cJSON_Delete(golden);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(small_eval224, tell_worst),  cmocka_unit_test_teardown(small_eval256, tell_worst),
        cmocka_unit_test_teardown(small_training, tell_worst), cmocka_unit_test_teardown(small_adam, tell_worst),
        cmocka_unit_test_teardown(large_eval224, tell_worst),  cmocka_unit_test_teardown(large_eval256, tell_worst),
        cmocka_unit_test_teardown(large_training, tell_worst), cmocka_unit_test_teardown(large_adam, tell_worst),
    };

    return cmocka_run_group_tests(tests, load, unload);
}
