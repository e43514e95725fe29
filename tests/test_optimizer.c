/* SPDX-License-Identifier: Apache-2.0 */
/* What moves the weights, held against PyTorch 2.15 (torch.optim, torch.nn.functional.cross_entropy) and against what
 * the definitions say: optimisers, schedule, average, loss, and which pictures an epoch draws. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/c/reference.h"
#include "train/optimizer.h"
#include "train/sampler.h"

static void near(const char *what, double seen, double expected, double bound) {
    if (!(fabs(seen - expected) <= bound)) fail_msg("%s: %.9g instead of %.9g", what, seen, expected);
}

/* ---- optimisers ---------------------------------------------------------------------------------------------- */
/* Gradient of value i in step s of the derivation: w = [[.5, -1.25, 2, .125]] decays, b = [.75, -.5] does not; learning
 * rate .005 in the first step, then .01; five steps. */
static float gradient(int step, int i) { return (float)((step * 7 + i * 3) % 11 - 5) / 4.0f; }

static void optimisers(void **state) {
    (void)state;
    /* torch.optim.Adam(lr), AdamW(weight_decay=.1), SGD(weight_decay=.1, momentum=.9, nesterov=True) on float32, with
     * weight_decay=0 in the second parameter group; betas and eps are torch's defaults. */
    static const struct {
        sk_update_options options;
        double expected[6];
    } cases[] = {
        {{.kind = SK_OPTIMIZER_ADAM}, {0.510825813, -1.2576791, 1.99706197, 0.111140631, 0.76578337, -0.477929741}},
        {{.kind = SK_OPTIMIZER_ADAMW, .weight_decay = 0.1},
         {0.508540928, -1.25206137, 1.98809063, 0.110619567, 0.76578337, -0.477929741}},
        {{.kind = SK_OPTIMIZER_SGD, .weight_decay = 0.1, .momentum = 0.9},
         {0.49669081, -1.26986444, 1.97434533, 0.104631588, 0.789615214, -0.466867268}}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        float w[6] = {0.5f, -1.25f, 2, 0.125f, 0.75f, -0.5f}, g[6], first[6] = {0}, second[6] = {0};
        for (int step = 0; step < 5; step++) {
            const double lr = step ? 0.01 : 0.005;
            for (int i = 0; i < 6; i++) g[i] = gradient(step, i);
            sk_update_values(&cases[c].options, 1, (uint64_t)step + 1, lr, 4, w, g, first, second);
            sk_update_values(&cases[c].options, 0, (uint64_t)step + 1, lr, 2, w + 4, g + 4, first + 4, second + 4);
        }
        for (int i = 0; i < 6; i++) near("weight", (double)w[i], cases[c].expected[i], 2.5e-7);
    }
}

/* ---- learning rate ------------------------------------------------------------------------------------------- */
static void schedule(void **state) {
    (void)state;
    sk_train_options o = sk_train_defaults(SK_ARCH_V3_SMALL);
    o.lr = 0.5f;
    o.epochs = 4;
    near("constant", sk_learning_rate(&o, 10, 0), 0.5, 0);
    near("constant", sk_learning_rate(&o, 10, 39), 0.5, 0);
    o.warmup = 0.5f; /* five steps */
    near("first step", sk_learning_rate(&o, 10, 0), 0.1, 1e-15);
    near("last of the warm-up", sk_learning_rate(&o, 10, 4), 0.5, 1e-15);
    near("after it", sk_learning_rate(&o, 10, 5), 0.5, 1e-15);
    o.schedule = SK_SCHEDULE_COSINE; /* over the 35 steps that are left */
    near("begin of the cosine", sk_learning_rate(&o, 10, 5), 0.5, 1e-15);
    near("a seventh", sk_learning_rate(&o, 10, 10), 0.25 * (1 + 0.90096886790241915), 1e-12); /* cos(pi/7) */
    near("three sevenths", sk_learning_rate(&o, 10, 20), 0.25 * (1 + 0.22252093395631434), 1e-12);
    for (uint64_t step = 6; step < 40; step++)
        assert_true(sk_learning_rate(&o, 10, step) < sk_learning_rate(&o, 10, step - 1));
    assert_true(sk_learning_rate(&o, 10, 39) > 0);
}

/* ---- average ------------------------------------------------------------------------------------------------- */
static void average(void **state) {
    (void)state;
    enum { SIZE = 32, STEPS = 6 };
    sk_card card = sk_card_default(SK_ARCH_V3_SMALL);
    sk_model *model = NULL;
    sk_engine *engine = NULL;
    sk_update *update = NULL;
    sk_tensor tensor, statistic;
    const sk_engine_options options = {.batch = 2, .threads = 1};
    const sk_update_options how = {.kind = SK_OPTIMIZER_ADAM, .ema = 0.3, .threads = 2};
    static uint8_t images[2 * SIZE * SIZE * 3];
    const int labels[2] = {0, 1};
    double expected[2] = {0};
    card.size = SIZE;
    for (size_t i = 0; i < sizeof images; i++) images[i] = (uint8_t)sk_hash64(i);
    assert_int_equal(sk_model_create(&card, 1, &model, NULL), SK_OK);
    assert_int_equal(sk_engine_create(model, &options, &engine, NULL), SK_OK);
    assert_int_equal(sk_update_create(model, &how, &update, NULL), SK_OK);
    assert_int_equal(sk_model_find_tensor(model, "classifier.0.weight", &tensor, NULL), SK_OK);
    assert_int_equal(sk_model_find_tensor(model, "features.0.1.running_mean", &statistic, NULL), SK_OK);
    const size_t last = tensor.count - 1; /* in another piece of the tensor than the first value */
    expected[0] = (double)tensor.data[last];
    expected[1] = (double)statistic.data[3];
    for (int t = 1; t <= STEPS; t++) {
        const double keep = fmin(0.3, (1.0 + t) / (10.0 + t));
        assert_int_equal(sk_engine_step(engine, images, labels, 2, 1, NULL, NULL, NULL), SK_OK);
        assert_int_equal(sk_update_step(update, engine, 1e-3, NULL), SK_OK);
        expected[0] = keep * expected[0] + (1 - keep) * (double)tensor.data[last];
        expected[1] = keep * expected[1] + (1 - keep) * (double)statistic.data[3];
    }
    const float live = tensor.data[last];
    assert_int_equal(sk_update_swap(update, NULL), SK_OK);
    near("averaged weight", (double)tensor.data[last], expected[0], 1e-7);
    near("averaged statistic", (double)statistic.data[3], expected[1], 1e-6);
    assert_true(tensor.data[last] != live);
    assert_int_equal(sk_update_swap(update, NULL), SK_OK);
    assert_true(tensor.data[last] == live);
    sk_update_free(update);
    sk_engine_free(engine);
    sk_model_free(model);
}

/* ---- loss ---------------------------------------------------------------------------------------------------- */
static void loss(void **state) {
    (void)state;
    /* torch.nn.functional.cross_entropy(logits, labels, weight, label_smoothing=...) in float64: the loss and its
     * gradient. */
    static const float weights[3] = {0.5f, 2, 1.25f};
    static const struct {
        const float *weights;
        float smoothing;
        double loss, gradient[12];
    } cases[] = {{NULL,
                  0,
                  1.10431689078,
                  {-0.0878364407, 0.0281798012, 0.0596566396, 0.0285487998, 0.210948684, -0.239497483, 0.00689989185,
                   0.0146070712, -0.021506963, 0.121128265, -0.128871735, 0.00774347088}},
                 {NULL,
                  0.1f,
                  1.16890022412,
                  {-0.0711697741, 0.0198464678, 0.0513233062, 0.0202154665, 0.20261535, -0.222830817, -0.00143344149,
                   0.00627373782, -0.00484029634, 0.112794931, -0.112205069, -0.000589862448}},
                 {weights,
                  0,
                  1.14808020516,
                  {-0.0351345763, 0.0112719205, 0.0238626558, 0.0285487998, 0.210948684, -0.239497483, 0.00689989185,
                   0.0146070712, -0.021506963, 0.193805223, -0.206194777, 0.0123895534}},
                 {weights,
                  0.3f,
                  1.31370121085,
                  {0.0140548644, -0.0236557153, 0.00960085094, 0.0185487998, 0.170948684, -0.189497483, -0.00310010815,
                   -0.0253929288, 0.028493037, 0.162002136, -0.147997864, -0.0140042713}}};
    const float logits[12] = {1.5f, -0.25f, 0.5f, 0, 2, -1, -0.5f, 0.25f, 3, 0.75f, 0.75f, -2};
    const int labels[4] = {0, 2, 2, 1};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        const sk_loss_target target = {cases[c].weights, cases[c].smoothing};
        for (int fast = 0; fast < 2; fast++) {
            const sk_kernels *k = fast ? sk_kernels_get() : sk_kernels_c();
            double losses[4], sum = 0, weight = 0;
            float d[12];
            for (int i = 0; i < 4; i++) weight += cases[c].weights ? (double)cases[c].weights[labels[i]] : 1;
            /* Of the equal logits of the last row the first counts, so it is wrong. */
            assert_int_equal(k->cross_entropy(logits, labels, 4, 3, &target, (float)(1 / weight), losses, d), 2);
            for (int i = 0; i < 4; i++) sum += losses[i];
            near("loss", sum / weight, cases[c].loss, 1e-7);
            for (int i = 0; i < 12; i++) near("gradient", (double)d[i], cases[c].gradient[i], 5e-8);
        }
    }
}

/* The engine divides by the weights of the labels' classes. */
static void engine_loss(void **state) {
    (void)state;
    enum { SIZE = 32 };
    static uint8_t images[3 * SIZE * SIZE * 3];
    const int labels[3] = {0, 1, 1};
    const float weights[2] = {0.25f, 3};
    sk_card card = sk_card_default(SK_ARCH_V3_SMALL);
    double seen[2] = {0}, one[2] = {0};
    card.size = SIZE;
    for (size_t i = 0; i < sizeof images; i++) images[i] = (uint8_t)(sk_hash64(i) >> 40);
    for (int weighted = 0; weighted < 2; weighted++) {
        sk_model *model = NULL;
        sk_engine *engine = NULL;
        const sk_engine_options options = {
            .batch = 3, .threads = 1, .freeze_features = 1, .class_weights = weighted ? weights : NULL};
        assert_int_equal(sk_model_create(&card, 1, &model, NULL), SK_OK);
        assert_int_equal(sk_engine_create(model, &options, &engine, NULL), SK_OK);
        assert_int_equal(sk_engine_step(engine, images, labels, 3, 1, &seen[weighted], NULL, NULL), SK_OK);
        for (int i = 0; i < 2 && !weighted; i++) /* frozen features: a picture does not see the others */
            assert_int_equal(sk_engine_step(engine, images, labels, i + 1, 1, &one[i], NULL, NULL), SK_OK);
        sk_engine_free(engine);
        sk_model_free(model);
    }
    const double first = one[0], rest = 3 * seen[0] - first;
    near("weighted loss", seen[1], (0.25 * first + 3 * rest) / 6.25, 1e-6);
}

/* ---- which pictures ------------------------------------------------------------------------------------------ */
/* Two sources: 0 with 60 empties and 30 birds, 1 with 10 birds. */
enum { ITEMS = 100 };
static void make_items(sk_sampler_item *items) {
    for (int i = 0; i < ITEMS; i++) items[i] = (sk_sampler_item){i >= 60, i >= 90};
}

/* Draws per item over `epochs`; checks that copies count up from 0 in every epoch. */
static void count_draws(const sk_sampler_options *options, int epochs, int *counts, double shares[2]) {
    sk_sampler_item items[ITEMS];
    static sk_draw draws[1000];
    sk_sampler *s = NULL;
    make_items(items);
    assert_int_equal(sk_sampler_create(items, ITEMS, options, &s, NULL), SK_OK);
    assert_true(sk_sampler_size(s) <= 1000);
    memset(counts, 0, ITEMS * sizeof *counts);
    for (int epoch = 1; epoch <= epochs; epoch++) {
        int seen[ITEMS] = {0};
        uint32_t copies[ITEMS] = {0};
        sk_sampler_draw(s, epoch, draws);
        for (size_t i = 0; i < sk_sampler_size(s); i++) {
            assert_true(draws[i].item < ITEMS);
            seen[draws[i].item]++;
            copies[draws[i].item] += draws[i].copy;
            counts[draws[i].item]++;
        }
        for (uint32_t i = 0; i < ITEMS; i++) assert_int_equal(copies[i], seen[i] ? seen[i] * (seen[i] - 1) / 2 : 0);
    }
    for (int label = 0; label < 2; label++) shares[label] = sk_sampler_share(s, label);
    sk_sampler_free(s);
}

static int total(const int *counts, int from, int to) {
    int sum = 0;
    for (int i = from; i < to; i++) sum += counts[i];
    return sum;
}

static void sampling(void **state) {
    (void)state;
    int counts[ITEMS];
    double shares[2];
    count_draws(&(sk_sampler_options){.seed = 3}, 2, counts, shares);
    for (int i = 0; i < ITEMS; i++) assert_int_equal(counts[i], 2);
    near("share of birds", shares[1], 0.4, 1e-12);
    /* A part of the pictures, anew each epoch: 25 of 100, so each comes in about a quarter of the epochs. */
    count_draws(&(sk_sampler_options){.epoch_size = 25, .seed = 3}, 400, counts, shares);
    assert_int_equal(total(counts, 0, ITEMS), 400 * 25);
    for (int i = 0; i < ITEMS; i++) assert_in_range(counts[i], 60, 140); /* 100, deviation 8.7 */
    assert_int_equal(total(counts, 0, 60), 400 * 15);
    /* Classes equally often: exactly half of each epoch; the size of an epoch stays. */
    count_draws(&(sk_sampler_options){.balanced = 1, .seed = 3}, 60, counts, shares);
    assert_int_equal(total(counts, 0, 60), 60 * 50);
    assert_int_equal(total(counts, 60, 100), 60 * 50);
    near("share of birds", shares[1], 0.5, 1e-12);
    /* Sources equally often: the 10 pictures of source 1 five times per epoch, the 90 of source 0 half as often as
     * there are epochs. */
    count_draws(&(sk_sampler_options){.source_mix = 1, .seed = 3}, 30, counts, shares);
    for (int i = 90; i < ITEMS; i++) assert_int_equal(counts[i], 150);
    assert_int_equal(total(counts, 0, 90), 1500);
    /* Half way: 90 and 10 pictures count as sqrt(90) and sqrt(10), three to one. */
    count_draws(&(sk_sampler_options){.source_mix = 0.5, .epoch_size = 400, .seed = 3}, 1, counts, shares);
    assert_int_equal(total(counts, 0, 90), 300);
}

static void same_draws(void **state) {
    (void)state;
    const sk_sampler_options options = {.balanced = 1, .source_mix = 0.5, .epoch_size = 37, .seed = 9};
    sk_sampler_item items[ITEMS];
    sk_draw a[37], b[37], c[37];
    sk_sampler *s = NULL;
    make_items(items);
    assert_int_equal(sk_sampler_create(items, ITEMS, &options, &s, NULL), SK_OK);
    sk_sampler_draw(s, 5, a);
    sk_sampler_draw(s, 6, c); /* whatever was drawn before */
    sk_sampler_draw(s, 5, b);
    assert_memory_equal(a, b, sizeof a);
    assert_memory_not_equal(a, c, sizeof a);
    sk_sampler_free(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(optimisers),  cmocka_unit_test(schedule), cmocka_unit_test(average),    cmocka_unit_test(loss),
        cmocka_unit_test(engine_loss), cmocka_unit_test(sampling), cmocka_unit_test(same_draws),
    };
    return cmocka_run_group_tests_name("optimizer", tests, NULL, NULL);
}
