/* SPDX-License-Identifier: Apache-2.0 */
/* Quantisation-aware training: rounding and its gradient against PyTorch's figures, the rounded float network against
 * the integer engine, and runs that must end with the same bytes. */
#include <math.h>

#include "train/qat.h"
#include "siskin/rt.h"
#include "train_help.h"

static char *first; /* the float run that the others begin with */

/* ---- rounding ------------------------------------------------------------------------------------------------ */
enum { VALUES = 12 };

/* Figures of torch.autograd (double): codes of [-0.6, 2.95], (round(v) - v).detach() + v inside, the end's own gradient
 * beyond it. */
static void test_against_torch(void **unused) {
    static const float x[VALUES] = {-2, -0.61f, -0.5f, -0.07f, 0, 0.013f, 0.49f, 1.27f, 2.96f, 3.01f, 3.2f, 9};
    static const double y[VALUES] = {-0.598627431, -0.598627431, -0.501176454, -0.069607841, 0, 0.013921568,
                                     0.487254886,  1.266862703,  2.951372452,  2.951372452,  2.951372452, 2.951372452};
    static const float d[VALUES] = {0.5f, -1, 2, 0.25f, -0.75f, 1, 1.5f, -2, 0.125f, 3, -0.5f, 0.875f};
    static const double dx[VALUES] = {0, 0, 2, 0.25, -0.75, 1, 1.5, -2, 0, 0, 0, 0};
    static const double d_low = -0.50023199128, d_high = 3.50023199128;
    sk_quantizer q = {.on = 1, .low = -0.6, .high = 2.95, .pull_low = -HUGE_VAL, .pull_high = HUGE_VAL};
    float rounded[VALUES], gradient[VALUES];
    double ends[2] = {0};
    (void)unused;
    sk_quantizer_ready(&q);
    sk_quantize_values(&q, VALUES / 4, 4, x, SK_ACT_NONE, rounded);
    memcpy(gradient, d, sizeof d);
    sk_quantize_backward(&q, VALUES / 4, 4, x, SK_ACT_NONE, 0, gradient, ends);
    for (int i = 0; i < VALUES; i++) {
        assert_float_equal(rounded[i], y[i], 1e-6);
        assert_float_equal(gradient[i], dx[i], 1e-6);
    }
    assert_float_equal(ends[0], d_low, 1e-6);
    assert_float_equal(ends[1], d_high, 1e-6);
}

/* A channel with a factor is rounded as if it were divided by it, and its values beyond an end count that many times.
 */
static void test_factors(void **unused) {
    const float factor[2] = {1, 8}, x[4] = {1.26f, 8 * 1.26f, 9, 72};
    float rounded[4], gradient[4] = {1, 1, 1, 1};
    double ends[2] = {0}, plain[2] = {0};
    sk_quantizer q = {.on = 1, .low = -1, .high = 4, .equal = factor, .pull_low = -HUGE_VAL, .pull_high = HUGE_VAL};
    (void)unused;
    sk_quantizer_ready(&q);
    sk_quantize_values(&q, 2, 2, x, SK_ACT_NONE, rounded);
    assert_float_equal(rounded[1], 8 * rounded[0], 1e-5);
    assert_float_equal(rounded[3], 8 * rounded[2], 1e-5);
    sk_quantize_backward(&q, 2, 2, x, SK_ACT_NONE, 0, gradient, ends);
    q.equal = NULL;
    gradient[0] = gradient[1] = 1;
    sk_quantize_backward(&q, 2, 1, (const float[]){1.26f, 9}, SK_ACT_NONE, 0, gradient, plain);
    assert_float_equal(ends[1], 9 * plain[1], 1e-5);
    assert_float_equal(gradient[1], 0, 0);
}

/* Values beyond the pulling ends get a gradient towards them, whatever the loss says. */
static void test_pull(void **unused) {
    const float x[3] = {0.5f, 3, -2};
    float gradient[3] = {0};
    double ends[2] = {0};
    sk_quantizer q = {.on = 1, .low = -2, .high = 4, .pull_low = -1, .pull_high = 2};
    (void)unused;
    sk_quantizer_ready(&q);
    sk_quantize_backward(&q, 1, 3, x, SK_ACT_NONE, 0.25f, gradient, ends);
    assert_float_equal(gradient[0], 0, 0);
    assert_float_equal(gradient[1], 0.25 / q.scale, 1e-4);
    assert_float_equal(gradient[2], -0.25 / q.scale, 1e-4);
}

/* ---- channels that reach too far ------------------------------------------------------------------------------ */
static void observe_highest(sk_model *model, const sk_quant_pictures *pictures, int layer, float *highest) {
    sk_observed seen;
    assert_int_equal(sk_observe(model, pictures, 1, SK_OBSERVE_ENDS, &seen, NULL), SK_OK);
    *highest = 0;
    for (int c = 0; c < sk_model_layer(model, (size_t)layer)->out_c; c++)
        *highest = fmaxf(*highest, seen.highest[layer][c]);
    sk_observed_free(&seen);
}

static int layer_named(const sk_model *model, const char *name) {
    for (size_t i = 0; i < sk_model_layer_count(model); i++)
        if (strcmp(sk_model_layer(model, i)->name, name) == 0) return (int)i;
    fail_msg("no layer %s", name);
    return -1;
}

/* A channel made a hundred times too large comes down to the limit. Behind a ReLU the logits stay but for rounding;
 * behind a hard-swish its knee moves, which shifts a channel by at most 3/8 of what it was divided by. */
static void equalise_one(const char *layer, double tolerance) {
    const sk_train_options options = small_options();
    const size_t bytes = (size_t)options.card.size * (size_t)options.card.size * 3;
    float before[8], after[8], highest;
    char name[96];
    sk_model *model = NULL;
    sk_tensor t;
    sk_rng rng = sk_rng_make(5, 0, 0);
    size_t channels = 0;
    sk_quant_pictures pictures = {.picture_bytes = bytes, .count = 4, .bytes = sk_alloc(4, bytes)};
    for (size_t i = 0; i < 4 * bytes; i++) pictures.bytes[i] = (uint8_t)sk_rng_below(&rng, 256);
    assert_int_equal(sk_model_create(&options.card, 3, &model, NULL), SK_OK);
    for (int side = 0; side < 2; side++) {
        snprintf(name, sizeof name, "%s.1.%s", layer, side ? "bias" : "weight");
        assert_int_equal(sk_model_find_tensor(model, name, &t, NULL), SK_OK);
        t.data[5] = side ? 60 : 100;
    }
    sk_model_changed(model);
    assert_int_equal(sk_model_forward(model, pictures.bytes, 4, 1, before, NULL, NULL, NULL, NULL), SK_OK);
    observe_highest(model, &pictures, layer_named(model, layer), &highest);
    assert_true(highest > 40);
    assert_int_equal(sk_equalise_channels(model, &pictures, 16, 1, &channels, NULL), SK_OK);
    assert_true(channels >= 1);
    observe_highest(model, &pictures, layer_named(model, layer), &highest);
    assert_true(highest <= 16.001f && highest > 15);
    assert_int_equal(sk_model_forward(model, pictures.bytes, 4, 1, after, NULL, NULL, NULL, NULL), SK_OK);
    for (int i = 0; i < 8; i++) assert_float_equal(after[i], before[i], tolerance);
    /* Knees that moved earlier in the network move what comes later a little. */
    assert_int_equal(sk_equalise_channels(model, &pictures, 18, 1, &channels, NULL), SK_OK);
    assert_int_equal(channels, 0);
    sk_model_free(model);
    sk_quant_pictures_free(&pictures);
}

static void test_equalise(void **unused) {
    (void)unused;
    equalise_one("features.2.block.0", 1e-4);
    equalise_one("features.0", .05);
}

/* ---- runs ---------------------------------------------------------------------------------------------------- */
static sk_train_options qat_options(sk_qat_scheme scheme) {
    sk_train_options options = small_options();
    options.qat = scheme;
    options.pretrained = first;
    options.freeze_bn = 1;
    options.lr = 1e-4f;
    options.dropout = 0;
    options.distill = 0.5f;
    options.qat_pull = scheme == SK_QAT_NPU ? 1e-3f : 0;
    return options;
}

static void test_threads(void **unused) {
    sk_train_options options = qat_options(SK_QAT_ENGINE);
    (void)unused;
    train(paint, "engine", &options);
    options.threads = 2;
    train(paint, "engine2", &options);
    assert_same_run("engine", "engine2");
    options = qat_options(SK_QAT_NPU);
    train(paint, "npu", &options);
}

typedef struct stopper {
    int left;
} stopper;
static int stop_soon(void *user) { return ((stopper *)user)->left-- <= 0; }

static void test_resume(void **unused) {
    (void)unused;
    for (int scheme = SK_QAT_ENGINE; scheme <= SK_QAT_NPU; scheme++) {
        const int npu = scheme == SK_QAT_NPU;
        const char *whole = npu ? "npu" : "engine", *name = npu ? "cut_npu" : "cut_engine";
        sk_train_options options = qat_options((sk_qat_scheme)scheme);
        char *dir = in_root(name);
        int calls = 0;
        for (sk_status status = SK_ERR_CANCELLED; status == SK_ERR_CANCELLED; calls++) {
            stopper stop = {11}; /* a little more than an epoch's questions */
            const sk_hooks hooks = {.cancelled = stop_soon, .user = &stop};
            sk_error err = {0};
            status = sk_train(paint, dir, &options, &hooks, NULL, NULL, &err);
            if (status != SK_OK && status != SK_ERR_CANCELLED) fail_msg("%s", err.message);
            options.resume = 1;
            assert_true(calls < 20);
        }
        assert_true(calls > 1);
        assert_same_run(whole, name);
        sk_free(dir);
    }
}

static void test_errors(void **unused) {
    sk_train_options options = qat_options(SK_QAT_ENGINE);
    (void)unused;
    options.pretrained = NULL;
    expect_failure(paint, "bad", &options, SK_ERR_ARGUMENT, "--pretrained");
    options = qat_options(SK_QAT_ENGINE);
    options.freeze_bn = 0;
    expect_failure(paint, "bad", &options, SK_ERR_ARGUMENT, "--freeze-bn");
    options = qat_options(SK_QAT_ENGINE);
    options.head_epochs = 1;
    expect_failure(paint, "bad", &options, SK_ERR_ARGUMENT, "--head-epochs");
}

/* ---- the rounded network and the integer engine --------------------------------------------------------------- */
static void set_fake(const sk_model *model, sk_fake *fake) {
    const sk_ranges *ranges = sk_model_ranges(model);
    assert_non_null(ranges);
    for (int i = 0; i < ranges->layers; i++) {
        sk_quantizer *q = &fake->output[i];
        *q = (sk_quantizer){.on = 1, .low = (double)ranges->end[i][0], .high = (double)ranges->end[i][1],
                            .equal = ranges->equal[i], .pull_low = -HUGE_VAL, .pull_high = HUGE_VAL};
    }
}

/* Pictures of the kind that was trained on, and between the two kinds. */
static uint8_t *paint_pictures(int count) {
    const size_t size = SIZE * SIZE * 3;
    uint8_t *pictures = sk_alloc((size_t)count, size);
    assert_non_null(pictures);
    for (size_t i = 0; i < (size_t)count; i++) {
        sk_rng rng = sk_rng_make(3, 1, i);
        const int red = (int)sk_rng_below(&rng, 151), blue = 150 - red;
        for (size_t k = 0; k < size; k += 3) {
            pictures[i * size + k] = (uint8_t)(red + (int)sk_rng_below(&rng, 100));
            pictures[i * size + k + 1] = (uint8_t)sk_rng_below(&rng, 200);
            pictures[i * size + k + 2] = (uint8_t)(blue + (int)sk_rng_below(&rng, 100));
        }
    }
    return pictures;
}

/* What is trained is what the integers compute. */
static void compare_with_integers(const char *name, sk_quant_per per) {
    enum { PICTURES = 200 };
    const size_t size = SIZE * SIZE * 3;
    char *run = in_root(name), *path = in_root("engine.skn");
    uint8_t *pictures = paint_pictures(PICTURES);
    float *logits = sk_alloc(2 * PICTURES, sizeof *logits);
    sk_fake *fake = sk_calloc(1, sizeof *fake);
    sk_model *model = NULL;
    sk_engine *engine = NULL;
    sk_cache *cache = NULL;
    sk_rt *rt = NULL;
    sk_error err = {0};
    size_t bad = 0;
    sk_quant_options options;
    assert_int_equal(sk_model_read(run, &model, &err), SK_OK);
    assert_string_equal(sk_quant_recipe_of(model), "learned");
    assert_int_equal(sk_quant_recipe("learned", &options, &err), SK_OK);
    options.pictures = 8;
    options.per = per;
    assert_int_equal(sk_cache_open(paint, 0, 1, NULL, &cache, &bad, &err), SK_OK);
    if (sk_quantize(model, paint, cache, path, &options, NULL, NULL, &err) != SK_OK) fail_msg("%s", err.message);
    if (sk_rt_open(path, &rt, &err) != SK_OK) fail_msg("%s", err.message);
    set_fake(model, fake);
    fake->per_tensor = per == SK_QUANT_PER_TENSOR;
    const sk_engine_options engine_options = {.batch = PICTURES, .threads = 1, .freeze_bn = 1, .fake = fake};
    if (sk_engine_create(model, &engine_options, &engine, &err) != SK_OK) fail_msg("%s", err.message);
    assert_int_equal(sk_engine_predict(engine, pictures, PICTURES, logits, &err), SK_OK);
    int same = 0, most = 0, sum = 0;
    const double scale = fake->output[sk_model_layer_count(model) - 1].scale;
    const double zero = -128 - (double)fake->output[sk_model_layer_count(model) - 1].least;
    for (int i = 0; i < PICTURES; i++) {
        int8_t codes[2];
        sk_rt_run(rt, pictures + (size_t)i * size, codes, NULL);
        for (int c = 0; c < 2; c++) {
            const int off = abs((int)lround((double)logits[2 * i + c] / scale + zero) - codes[c]);
            most = off > most ? off : most;
            sum += off;
        }
        same += (codes[1] > codes[0]) == (logits[2 * i + 1] > logits[2 * i]) || codes[1] == codes[0];
    }
    printf("# %d of %d verdicts; codes of the logits are %.2f apart, %d at most\n", same, PICTURES,
           sum / (2.0 * PICTURES), most);
    assert_true(same == PICTURES && most <= 4 && sum <= 4 * PICTURES);
    sk_rt_close(rt);
    sk_engine_free(engine);
    sk_cache_close(cache);
    sk_model_free(model);
    sk_free(fake);
    sk_free(logits);
    sk_free(pictures);
    sk_free(path);
    sk_free(run);
}

static void test_engine(void **unused) {
    (void)unused;
    compare_with_integers("engine", SK_QUANT_PER_CHANNEL);
}

static void test_engine_per_tensor(void **unused) {
    sk_train_options options = qat_options(SK_QAT_ENGINE);
    sk_model *models[2] = {NULL};
    sk_tensor stem[2];
    (void)unused;
    options.qat_per = SK_QUANT_PER_TENSOR;
    train(paint, "tensor", &options);
    for (int i = 0; i < 2; i++) {
        char *run = in_root(i ? "tensor" : "engine");
        assert_int_equal(sk_model_read(run, &models[i], NULL), SK_OK);
        assert_int_equal(sk_model_tensor(models[i], 0, &stem[i], NULL), SK_OK);
        sk_free(run);
    }
    assert_memory_not_equal(stem[0].data, stem[1].data, stem[0].count * sizeof(float));
    for (int i = 0; i < 2; i++) sk_model_free(models[i]);
    compare_with_integers("tensor", SK_QUANT_PER_TENSOR);
}

enum { BATCH = 16 };

static sk_engine *stepped(sk_model *model, sk_fake *fake, const uint8_t *pictures) {
    const sk_engine_options options = {.batch = BATCH, .threads = 1, .freeze_bn = 1, .fake = fake};
    sk_engine *engine = NULL;
    sk_error err = {0};
    int labels[BATCH];
    for (int i = 0; i < BATCH; i++) labels[i] = i % 2;
    assert_int_equal(sk_engine_create(model, &options, &engine, &err), SK_OK);
    assert_int_equal(sk_engine_step(engine, pictures, labels, BATCH, 1, NULL, NULL, &err), SK_OK);
    return engine;
}

/* Cosine between the gradient of the rounded network and that of the float one. */
static double likeness(sk_model *model, sk_fake *fake, const uint8_t *pictures) {
    sk_engine *exact = stepped(model, NULL, pictures), *rounded = stepped(model, fake, pictures);
    double dot = 0, norm[2] = {0};
    sk_error err = {0};
    for (size_t i = 0; i < sk_model_tensor_count(model); i++) {
        sk_tensor tensor;
        const float *a = sk_engine_gradient(exact, i), *b = sk_engine_gradient(rounded, i);
        assert_int_equal(sk_model_tensor(model, i, &tensor, &err), SK_OK);
        for (size_t k = 0; a && k < tensor.count; k++) {
            dot += (double)a[k] * (double)b[k];
            norm[0] += (double)a[k] * (double)a[k];
            norm[1] += (double)b[k] * (double)b[k];
        }
    }
    sk_engine_free(exact);
    sk_engine_free(rounded);
    return dot / sqrt(norm[0] * norm[1]);
}

/* Rounding moves the gradient a little, but not elsewhere: a sign or a term that is forgotten would. First with every
 * layer's output as it is, then with one after the other rounded, then all. */
static void test_gradient(void **unused) {
    uint8_t *pictures = paint_pictures(BATCH);
    sk_model *model = NULL;
    sk_fake *fake = sk_calloc(1, sizeof *fake);
    sk_error err = {0};
    char *run = in_root("engine");
    (void)unused;
    assert_int_equal(sk_model_read(run, &model, &err), SK_OK);
    const double weights = likeness(model, fake, pictures);
    double least = 1;
    int worst = -1;
    set_fake(model, fake);
    const int layers = sk_model_ranges(model)->layers;
    fake->output[layers - 1].low *= 4; /* these pictures go beyond what the logits of the few trained ones were */
    fake->output[layers - 1].high *= 4;
    for (int i = 0; i < layers; i++) fake->output[i].on = 0;
    for (int i = 0; i < layers; i++) {
        fake->output[i].on = 1;
        const double cosine = likeness(model, fake, pictures);
        if (cosine < least) least = cosine, worst = i;
        fake->output[i].on = 0;
    }
    for (int i = 0; i < layers; i++) fake->output[i].on = 1;
    const double all = likeness(model, fake, pictures);
    printf("# cosine of the gradients: weights rounded %.4f, one layer %.4f at least (%s), all %.4f\n", weights, least,
           sk_model_layer(model, (size_t)worst)->name, all);
    assert_true(weights > 0.95 && least > 0.9 && all > 0.8);
    sk_model_free(model);
    sk_free(fake);
    sk_free(pictures);
    sk_free(run);
}

/* A file whose ranges are not of its network is refused with its name. */
static void test_broken_ranges(void **unused) {
    char *run = in_root("engine");
    sk_model *model = NULL;
    sk_error err = {0};
    (void)unused;
    assert_int_equal(sk_model_read(run, &model, &err), SK_OK);
    static const char *const broken[] = {"", "features.0\t0\t1\n", "features.0\tx\t1\n", "features.0\t1\t2\n",
                                         "other\t0\t1\n"};
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        assert_int_equal(sk_model_parse_ranges(model, broken[i], &err), SK_ERR_FORMAT);
        assert_non_null(sk_model_ranges(model)); /* what was there is kept */
    }
    char *text = sk_model_ranges_text(model);
    assert_non_null(text);
    assert_int_equal(sk_model_parse_ranges(model, text, &err), SK_OK);
    char *again = sk_model_ranges_text(model);
    assert_string_equal(text, again);
    sk_free(again);
    sk_free(text);
    sk_model_free(model);
    sk_free(run);
}

static int begin(void **state) {
    sk_train_options options = small_options();
    if (setup(state) != 0) return 1;
    options.epochs = 4;
    train(paint, "float", &options);
    first = in_root("float");
    return 0;
}

static int end(void **state) {
    sk_free(first);
    return teardown(state);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_torch), cmocka_unit_test(test_factors), cmocka_unit_test(test_pull),
        cmocka_unit_test(test_equalise),
        cmocka_unit_test(test_errors),        cmocka_unit_test(test_threads), cmocka_unit_test(test_resume),
        cmocka_unit_test(test_engine),        cmocka_unit_test(test_engine_per_tensor),
        cmocka_unit_test(test_gradient),      cmocka_unit_test(test_broken_ranges),
    };
    return cmocka_run_group_tests_name("qat", tests, begin, end);
}
