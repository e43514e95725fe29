/* SPDX-License-Identifier: Apache-2.0 */
/* Weights looked at, pulled in and averaged. Expected numbers are worked out by hand or with numpy's
 * definitions of mean, std and quantile; the eight rows of torchvision's backbone are those of rknn-toolkit2 2.5.0,
 * checked with numpy. */
#include <math.h>

#include "formats/tensors.h"
#include "siskin/classifier.h"
#include "siskin/report.h"
#include "train_help.h"
#include "weights/weights.h"

#define DW "features.1.block.0.0.weight" /* 16 x 1 x 3 x 3 */
enum { CHANNELS = 16, TAPS = 9, COUNT = CHANNELS * TAPS };

static sk_model *make_model(void) {
    sk_card card = sk_card_default(SK_ARCH_V3_SMALL);
    sk_model *model = NULL;
    card.size = SIZE;
    assert_int_equal(sk_model_create(&card, 3, &model, NULL), SK_OK);
    return model;
}

static sk_tensor tensor_of(const sk_model *model, const char *name) {
    sk_tensor tensor;
    assert_int_equal(sk_model_find_tensor(model, name, &tensor, NULL), SK_OK);
    return tensor;
}

/* Batch norm behind the depthwise layer scales channel c by scale[c]. */
static void set_scale(sk_model *model, const float *scale) {
    const sk_tensor gamma = tensor_of(model, "features.1.block.0.1.weight");
    const sk_tensor variance = tensor_of(model, "features.1.block.0.1.running_var");
    for (size_t c = 0; c < CHANNELS; c++) {
        gamma.data[c] = scale[c];
        variance.data[c] = 1 - 1e-3f;
    }
}

static void near(double is, double should, double by) {
    if (!(fabs(is - should) <= by)) fail_msg("%.12g instead of %.12g", is, should);
}

/* ---- outliers ---------------------------------------------------------------------------------------------------- */
static void test_outlier(void **unused) {
    (void)unused;
    float values[1000];
    for (int i = 0; i < 1000; i++) values[i] = i % 2 ? .5f : -.5f;
    values[77] = -10;
    sk_outlier o = sk_weight_outlier(values, 1000);
    assert_int_equal(o.found, 1);
    near(o.share, 1 / (1 + 999 * exp(-9.5)), 1e-12);
    near(o.limit, pow(.5, log10(5)), 1e-12);
    near(o.abs_mean, .5, 1e-12);
    near(o.abs_std, 0, 1e-12);
    near(o.value, -10, 0);
    assert_int_equal(sk_weight_outlier(values, 200).found, 0); /* so few are never called out */
    values[300] = 10;
    assert_int_equal(sk_weight_outlier(values, 1000).found, 0); /* two alike hide each other */
    values[300] = 9;
    assert_int_equal(sk_weight_outlier(values, 1000).found, 1);
    /* Not free of scale: the same tensor at a tenth. */
    for (int i = 0; i < 1000; i++) values[i] /= 10;
    assert_int_equal(sk_weight_outlier(values, 1000).found, 0);
    assert_int_equal(sk_weight_outlier(values, 0).found, 0);
}

static void test_eight_rows(void **unused) {
    (void)unused;
    static const char *const rows[] = {"features.3.block.1.0.weight 0.49 0.82 11.148",
                                       "features.4.block.1.0.weight 0.35 1.01 -16.123",
                                       "features.5.block.1.0.weight 0.64 1.96 -36.970",
                                       "features.6.block.1.0.weight 0.81 1.94 28.650",
                                       "features.7.block.1.0.weight 0.54 1.84 -30.605",
                                       "features.8.block.1.0.weight 0.65 1.50 -21.298",
                                       "features.10.block.1.0.weight 0.69 1.36 18.266",
                                       "features.11.block.1.0.weight 0.45 0.83 -17.958"};
    const char *shared = getenv("SISKIN_SHARED");
    char path[600];
    snprintf(path, sizeof path, "%s/weights/mobilenet_v3_small_imagenet_backbone.safetensors",
             shared ? shared : SK_SOURCE_DIR "/../shared");
    if (!sk_path_exists(path)) {
        print_message("left out: %s is not there\n", path);
        skip();
    }
    sk_model *model = NULL;
    sk_weights *w = NULL;
    sk_error err = {0};
    int whole = 1;
    size_t found = 0;
    if (sk_weights_read(path, &model, &whole, &err) != SK_OK) fail_msg("%s", err.message);
    assert_int_equal(whole, 0);
    assert_int_equal(sk_weights_inspect(model, "features.*", &w, &err), SK_OK);
    assert_int_equal(w->count, 52);
    assert_int_equal(w->outliers, 8);
    for (size_t i = 0; i < w->count; i++) {
        const sk_outlier *o = &w->rows[i].outlier;
        char row[160];
        if (!o->found) continue;
        snprintf(row, sizeof row, "%s %.2f %.2f %.3f", w->rows[i].name, o->abs_mean, o->abs_std, o->value);
        assert_string_equal(row, rows[found]);
        found++;
    }
    sk_weights_free(w);
    sk_model_free(model);
}

/* ---- figures ----------------------------------------------------------------------------------------------------- */
static const sk_weight_row *row_of(const sk_weights *w, const char *name) {
    for (size_t i = 0; i < w->count; i++)
        if (strcmp(w->rows[i].name, name) == 0) return &w->rows[i];
    fail_msg("no row of %s", name);
    return NULL;
}

static void test_figures(void **unused) {
    (void)unused;
    sk_model *model = make_model();
    const sk_tensor w = tensor_of(model, DW);
    float scale[CHANNELS];
    sk_weights *all = NULL, *one = NULL;
    sk_error err = {0};
    /* Channel c alternates between -+ 1; batch norm doubles each channel after the other. */
    for (int i = 0; i < COUNT; i++) w.data[i] = i % 2 ? 1 : -1;
    for (int c = 0; c < CHANNELS; c++) scale[c] = ldexpf(c % 3 ? -1 : 1, c);
    set_scale(model, scale);
    assert_int_equal(sk_weights_inspect(model, NULL, &all, &err), SK_OK);
    assert_int_equal(all->count, 54);
    const sk_weight_row *row = row_of(all, DW);
    assert_string_equal(row->layer, "features.1.block.0");
    assert_int_equal(row->count, COUNT);
    near(row->raw.min, -1, 0);
    near(row->raw.abs_mean, 1, 0);
    near(row->raw.abs_std, 0, 0);
    near(row->raw.kurtosis, 1, 1e-12);
    near(row->raw.channel_ratio, 1, 0);
    assert_true(isinf(row->raw.snr_tensor) && isinf(row->folded.snr_channel)); /* all are whole codes */
    near(row->folded.max, 32768, .01);
    near(row->folded.abs_mean, 65535. / 16, .01);
    near(row->folded.channel_ratio, 32768 / 192., 1e-3);
    near((double)row->folded_peaks[5], 32, 1e-4);
    /* One scale for all: step 258.0, the channels up to 128 are lost, 256 is one step. */
    double power = 0, error = 0;
    for (int c = 0; c < CHANNELS; c++) {
        const double v = ldexp(1, c), step = 32768. / 127;
        power += v * v;
        error += pow(v - step * floor(v / step + .5), 2);
    }
    near(row->folded.snr_tensor, 10 * log10(power / error), 1e-3);
    near(row->histogram_end, 32768, .01);
    uint32_t counted[2] = {0, 0};
    for (int b = 0; b < SK_WEIGHT_BINS; b++)
        for (int k = 0; k < 2; k++) counted[k] += row->histogram[k][b];
    assert_int_equal(counted[0], COUNT);
    assert_int_equal(counted[1], COUNT);
    assert_int_equal(row->histogram[0][SK_WEIGHT_BINS / 2], COUNT);
    /* Patterns of layers and of tensors; a slip is told. */
    assert_int_equal(sk_weights_inspect(model, "features.0,features.*.block.2.fc1.weight", &one, &err), SK_OK);
    assert_int_equal(one->count, 1 + 8);
    sk_weights_free(one);
    assert_int_equal(sk_weights_inspect(model, "features.0,feature.12", &one, &err), SK_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "did you mean features.12?"));
    assert_int_equal(sk_weights_inspect(model, "features.99", &one, &err), SK_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "no layer fits 'features.99'"));
    assert_int_equal(sk_weights_inspect(model, "", &one, &err), SK_ERR_ARGUMENT);
    w.data[7] = NAN;
    assert_int_equal(sk_weights_inspect(model, NULL, &one, &err), SK_ERR_DATA);
    assert_non_null(strstr(err.message, DW));
    sk_weights_free(all);
    sk_model_free(model);
}

/* ---- adjusting --------------------------------------------------------------------------------------------------- */
static sk_adjust_row adjusted(sk_model *model, sk_adjust method, float k, sk_adjust_on on, sk_adjust_per per) {
    const sk_adjust_options o = {method, k, on, per, "features.1.block.0"};
    sk_adjust_row *rows = NULL;
    size_t count = 0;
    sk_error err = {0};
    if (sk_weights_adjust(model, &o, &rows, &count, &err) != SK_OK) fail_msg("%s", err.message);
    assert_int_equal(count, 1);
    const sk_adjust_row row = rows[0];
    assert_string_equal(row.name, DW);
    assert_int_equal(row.count, COUNT);
    sk_adjust_rows_free(rows);
    return row;
}

static void test_limits(void **unused) {
    (void)unused;
    sk_model *model = make_model();
    const sk_tensor w = tensor_of(model, DW);
    /* 143 zeros and a 12: mean 1/12, deviation sqrt(1 - 1/144). */
    for (int i = 0; i < COUNT; i++) w.data[i] = 0;
    w.data[100] = 12;
    sk_adjust_row row = adjusted(model, SK_ADJUST_SIGMA, 0, SK_ADJUST_RAW, SK_ADJUST_TENSOR);
    const double high = 1 / 12. + 3 * sqrt(1 - 1 / 144.);
    assert_int_equal(row.moved, 1);
    near(row.largest_move, 12 - high, 1e-6);
    near((double)w.data[100], high, 1e-6);
    near(row.max, 12, 0);
    near(row.new_max, high, 1e-6);
    /* 0..143: quartiles 35.75 and 107.25, so a tenth of the distance beyond them is 28.6 and 114.4. */
    for (int i = 0; i < COUNT; i++) w.data[(i * 5) % COUNT] = (float)i;
    row = adjusted(model, SK_ADJUST_TUKEY, .1f, SK_ADJUST_RAW, SK_ADJUST_TENSOR);
    assert_int_equal(row.moved, 29 + 29);
    near(row.new_min, 28.6, 1e-5);
    near(row.new_max, 114.4, 1e-5);
    /* The 10th and 90th percentile of 0..143 are 14.3 and 128.7. */
    for (int i = 0; i < COUNT; i++) w.data[(i * 7) % COUNT] = (float)i;
    row = adjusted(model, SK_ADJUST_PERCENTILE, 90, SK_ADJUST_RAW, SK_ADJUST_TENSOR);
    assert_int_equal(row.moved, 15 + 15);
    near(row.new_max, 128.7, 1e-4);
    assert_int_equal(adjusted(model, SK_ADJUST_PERCENTILE, 100, SK_ADJUST_RAW, SK_ADJUST_TENSOR).moved, 0);
    /* Per channel of nine, 0..8 times c + 1: the 75th percentile is 6 (c + 1), so 0, 1, 7 and 8 move in each. */
    for (int i = 0; i < COUNT; i++) w.data[i] = (float)((i % TAPS) * (i / TAPS + 1));
    row = adjusted(model, SK_ADJUST_PERCENTILE, 75, SK_ADJUST_RAW, SK_ADJUST_CHANNEL);
    assert_int_equal(row.moved, 4 * CHANNELS);
    near((double)w.data[COUNT - 1], 6 * 16, 1e-4);
    sk_model_free(model);
}

static void test_bad_options(void **unused) {
    (void)unused;
    sk_model *model = make_model();
    const sk_tensor w = tensor_of(model, DW);
    float kept[COUNT];
    sk_error err = {0};
    static const struct {
        sk_adjust_options o;
        const char *words;
    } bad[] = {{{.method = SK_ADJUST_SIGMA, .k = .05f}, "from 0.1 to 100"},
               {{.method = SK_ADJUST_SIGMA, .k = -1}, "k of sigma is -1"},
               {{.method = SK_ADJUST_SIGMA, .k = NAN}, "k of sigma"},
               {{.method = SK_ADJUST_PERCENTILE, .k = 5}, "from 50.1 to 100, or 0 for 99.9"},
               {{.method = SK_ADJUST_TUKEY, .k = 101}, "from 0 to 100"},
               {{.method = (sk_adjust)9}, "no such method"},
               {{.method = SK_ADJUST_NONE}, "need a method"},
               {{.method = SK_ADJUST_SIGMA, .layers = "features.77"}, "no layer fits"}};
    memcpy(kept, w.data, sizeof kept);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(sk_weights_adjust(model, &bad[i].o, NULL, NULL, &err), SK_ERR_ARGUMENT);
        if (!strstr(err.message, bad[i].words)) fail_msg("\"%s\" does not say \"%s\"", err.message, bad[i].words);
    }
    /* Whatever allocation fails, nothing has moved. */
    const sk_adjust_options o = {.method = SK_ADJUST_TUKEY, .k = .5f};
    sk_status status = SK_ERR_MEMORY;
    for (long n = 0; status != SK_OK; n++) {
        sk_adjust_row *rows = NULL;
        size_t count = 0;
        const long live = sk_memory_live();
        sk_memory_fail_at(n, 0);
        status = sk_weights_adjust(model, &o, &rows, &count, &err);
        sk_memory_fail_at(-1, 0);
        if (status != SK_OK) assert_int_equal(status, SK_ERR_MEMORY);
        if (status != SK_OK) assert_memory_equal(kept, w.data, sizeof kept);
        sk_adjust_rows_free(rows);
        assert_int_equal(sk_memory_live(), live);
    }
    assert_memory_not_equal(kept, w.data, sizeof kept);
    sk_model_free(model);
}

/* Folded weights are in the limits of the folded tensor, those inside keep their bytes, biases stay. */
static void test_folded(void **unused) {
    (void)unused;
    sk_model *model = make_model();
    const sk_tensor w = tensor_of(model, DW);
    float scale[CHANNELS], before[COUNT], folded[COUNT], bias[2][CHANNELS];
    double sum = 0, squares = 0;
    size_t layer = 0, moved = 0;
    for (int c = 0; c < CHANNELS; c++) scale[c] = (c % 2 ? -1.f : 1.f) * (c == 5 ? 0 : 1 + (float)c * .7f);
    set_scale(model, scale);
    while (strcmp(sk_model_layer(model, layer)->name, "features.1.block.0") != 0) layer++;
    memcpy(before, w.data, sizeof before);
    assert_int_equal(sk_model_folded(model, layer, folded, bias[0], NULL), SK_OK);
    for (int i = 0; i < COUNT; i++) sum += (double)folded[i];
    for (int i = 0; i < COUNT; i++) squares += pow((double)folded[i] - sum / COUNT, 2);
    const double mean = sum / COUNT, reach = 1.5 * sqrt(squares / COUNT);
    const sk_adjust_row row = adjusted(model, SK_ADJUST_SIGMA, 1.5f, SK_ADJUST_FOLDED, SK_ADJUST_TENSOR);
    float now[COUNT];
    assert_int_equal(sk_model_folded(model, layer, now, bias[1], NULL), SK_OK);
    assert_memory_equal(bias[0], bias[1], sizeof bias[0]);
    for (int i = 0; i < COUNT; i++) {
        const int outside = fabs((double)folded[i] - mean) > reach;
        moved += (size_t)outside;
        near((double)now[i], outside ? mean + copysign(reach, (double)folded[i] - mean) : (double)folded[i], 1e-5);
        if (!outside) assert_memory_equal(&before[i], &w.data[i], sizeof(float));
    }
    assert_int_equal(row.moved, moved);
    assert_true(moved > 5 && moved < COUNT / 2);
    near(row.new_max, mean + reach, 1e-5);
    sk_model_free(model);
}

/* ---- holding and pulling ----------------------------------------------------------------------------------------- */
static sk_limits *limits_of(sk_model *model, sk_adjust_on on, float k) {
    const sk_adjust_options o = {.method = SK_ADJUST_SIGMA, .k = k, .on = on, .layers = "features.1.*"};
    sk_limits *limits = NULL;
    assert_int_equal(sk_limits_create(model, &o, &limits, NULL), SK_OK);
    return limits;
}

static void test_keep(void **unused) {
    (void)unused;
    sk_model *model = make_model();
    const sk_tensor w = tensor_of(model, DW), gamma = tensor_of(model, "features.1.block.0.1.weight");
    float scale[CHANNELS], weights[COUNT];
    for (int c = 0; c < CHANNELS; c++) scale[c] = c % 2 ? 1.f : -1.f;
    set_scale(model, scale);
    sk_limits *folded = limits_of(model, SK_ADJUST_FOLDED, 6), *raw = limits_of(model, SK_ADJUST_RAW, 6);
    const float *bounds = folded->bounds[0][0];
    sk_limits_keep(folded);
    assert_memory_equal(gamma.data, scale, sizeof scale); /* all were inside */
    /* A channel grows tenfold by its gamma: gamma comes back, the weights stay, the others stand still. */
    gamma.data[3] *= 10;
    memcpy(weights, w.data, sizeof weights);
    sk_limits_keep(folded);
    assert_memory_equal(weights, w.data, sizeof weights);
    double most = 0;
    for (int i = 3 * TAPS; i < 4 * TAPS; i++) {
        const double f = (double)w.data[i] * (double)gamma.data[3] / sqrt(1 - 1e-3 + 1e-3);
        most = fmax(most, f / (double)bounds[f > 0]);
    }
    near(most, 1, 1e-5); /* as far as it may go and no further */
    for (int c = 0; c < CHANNELS; c++)
        if (c != 3) assert_true(gamma.data[c] == scale[c]);
    /* Raw limits know nothing of gamma and clamp. */
    gamma.data[3] = 50;
    w.data[40] = 100;
    sk_limits_keep(raw);
    assert_true(gamma.data[3] == 50);
    assert_true(w.data[40] == raw->bounds[0][0][1]);
    sk_limits_free(folded);
    sk_limits_free(raw);
    sk_model_free(model);
}

/* One step at a small rate is rate times the gradient, which central differences of the penalty give. */
static void check_gradient(sk_model *model, const sk_limits *limits, const char *name, size_t at) {
    const sk_tensor t = tensor_of(model, name);
    const float value = t.data[at], h = fabsf(value) * 1e-2f + 1e-2f, up = value + h, down = value - h;
    t.data[at] = up;
    const double more = sk_limits_pull(limits, 0);
    t.data[at] = down;
    const double less = sk_limits_pull(limits, 0);
    t.data[at] = value;
    float *kept = sk_alloc(t.count, sizeof *kept);
    sk_model *copy = make_model();
    const double slope = (more - less) / ((double)up - (double)down), rate = .25;
    for (size_t i = 0; i < sk_model_tensor_count(model); i++) { /* the step moves every parameter */
        sk_tensor from, to;
        assert_int_equal(sk_model_tensor(model, i, &from, NULL), SK_OK);
        assert_int_equal(sk_model_tensor(copy, i, &to, NULL), SK_OK);
        memcpy(to.data, from.data, from.count * sizeof(float));
    }
    const double penalty = sk_limits_pull(limits, rate);
    near(((double)value - (double)t.data[at]) / rate, slope, 1e-3 * fabs(slope) + 1e-4);
    assert_true(sk_limits_pull(limits, 0) < penalty);
    for (size_t i = 0; i < sk_model_tensor_count(model); i++) {
        sk_tensor from, to;
        assert_int_equal(sk_model_tensor(copy, i, &from, NULL), SK_OK);
        assert_int_equal(sk_model_tensor(model, i, &to, NULL), SK_OK);
        memcpy(to.data, from.data, from.count * sizeof(float));
    }
    sk_free(kept);
    sk_model_free(copy);
}

static void test_penalty(void **unused) {
    (void)unused;
    for (int on = 0; on < 2; on++) {
        sk_model *model = make_model();
        float scale[CHANNELS];
        for (int c = 0; c < CHANNELS; c++) scale[c] = c % 2 ? .5f : -1.4f;
        set_scale(model, scale);
        sk_limits *limits = limits_of(model, (sk_adjust_on)on, 6);
        near(sk_limits_pull(limits, 0), 0, 0); /* weights drawn from a normal distribution: none is out */
        const sk_tensor w = tensor_of(model, DW), gamma = tensor_of(model, "features.1.block.0.1.weight");
        const sk_tensor beta = tensor_of(model, "features.1.block.0.1.bias");
        w.data[10] = 9;
        w.data[30] = -7;
        check_gradient(model, limits, DW, 10);
        check_gradient(model, limits, DW, 30);
        check_gradient(model, limits, DW, 31); /* inside: none */
        if (on == SK_ADJUST_RAW) { /* limits of folded weights take batch norm for a constant */
            gamma.data[2] = -3;
            gamma.data[4] = 1;
            beta.data[4] = -5;
            check_gradient(model, limits, "features.1.block.0.1.weight", 2);
            check_gradient(model, limits, "features.1.block.0.1.weight", 4);
            check_gradient(model, limits, "features.1.block.0.1.bias", 4);
            check_gradient(model, limits, "features.1.block.0.1.bias", 7);
        }
        sk_limits_free(limits);
        sk_model_free(model);
    }
}

/* ---- activations ------------------------------------------------------------------------------------------------- */
typedef struct seen {
    size_t layer, count;
    float *values; /* of channel 1 */
} seen;
static void collect(void *user, size_t layer, const float *data, int n, int h, int w, int c) {
    seen *s = user;
    if (layer != s->layer) return;
    for (int i = 0; i < n * h * w; i++) s->values[s->count++] = data[(ptrdiff_t)i * c + 1];
}
static int ascending(const void *a, const void *b) {
    return (*(const float *)a > *(const float *)b) - (*(const float *)a < *(const float *)b);
}

static void test_activations(void **unused) {
    (void)unused;
    sk_model *model = make_model();
    sk_cache *cache = NULL;
    sk_activations *a = NULL, *again = NULL;
    sk_error err = {0};
    size_t bad = 0;
    assert_int_equal(sk_cache_open(paint, 0, 1, NULL, &cache, &bad, &err), SK_OK);
    if (sk_weights_activations(model, NULL, paint, cache, 1000, 1, NULL, &a, &err) != SK_OK)
        fail_msg("%s", err.message);
    assert_int_equal(a->pictures, 48); /* all of the training part */
    assert_int_equal(a->count, sk_model_layer_count(model));
    /* Channel 1 of the stem, with every value at hand. */
    seen s = {.values = malloc(48 * 16 * 16 * sizeof(float))};
    uint8_t *image = malloc((size_t)SIZE * SIZE * 3);
    for (size_t i = 0; i < sk_dataset_size(paint); i++) {
        sk_image picture;
        if (sk_dataset_sample(paint, i)->split != SK_SPLIT_TRAIN) continue;
        sk_cache_image(cache, i, &picture);
        assert_int_equal(sk_crops_prepare(&picture, SK_CROPS_ONE, SIZE, image, &err), SK_OK);
        assert_int_equal(sk_model_forward(model, image, 1, 1, NULL, NULL, collect, &s, &err), SK_OK);
    }
    assert_int_equal(s.count, 48 * 16 * 16);
    qsort(s.values, s.count, sizeof *s.values, ascending);
    const float *is = a->rows[0].channel[1];
    const double width = (double)s.values[s.count - 1] - (double)s.values[0];
    static const double shares[] = {.001, .01, .5, .99, .999};
    assert_true(is[SK_ACT_MIN] == s.values[0] && is[SK_ACT_MAX] == s.values[s.count - 1]);
    for (int p = 0; p < 5; p++)
        near((double)is[SK_ACT_P01 + p], (double)s.values[(size_t)(shares[p] * (double)s.count)], width / 100);
    assert_true(a->rows[0].low <= is[SK_ACT_MIN] && a->rows[0].high >= is[SK_ACT_MAX]);
    near(a->rows[0].step, ((double)a->rows[0].high - (double)a->rows[0].low) / 255, 1e-9);
    near(a->rows[0].lobe, .375 / a->rows[0].step, 1e-9);
    assert_int_equal(sk_weights_activations(model, "features.1*", paint, cache, 5, 9, NULL, &again, &err), SK_OK);
    assert_int_equal(again->pictures, 5);
    assert_string_equal(again->rows[0].layer.name, "features.1.block.0");
    sk_activations_free(again);
    assert_int_equal(sk_weights_activations(model, "nothing", paint, cache, 5, 9, NULL, &again, &err), SK_ERR_ARGUMENT);
    assert_int_equal(sk_weights_activations(model, NULL, paint, cache, 0, 9, NULL, &again, &err), SK_ERR_ARGUMENT);
    sk_activations_free(a);
    free(s.values);
    free(image);
    sk_cache_close(cache);
    sk_model_free(model);
}

/* ---- files ------------------------------------------------------------------------------------------------------- */
static void test_backbone(void **unused) {
    (void)unused;
    sk_model *model = make_model(), *back = NULL;
    sk_tensor_file file = {0}, out = {0};
    sk_error err = {0};
    int whole = 1;
    char *path = in_root("backbone.safetensors"), *copy = in_root("tame.safetensors");
    for (size_t i = 0; i < sk_model_tensor_count(model); i++) {
        sk_tensor t;
        assert_int_equal(sk_model_tensor(model, i, &t, NULL), SK_OK);
        if (strncmp(t.name, "features.", 9) == 0)
            assert_int_equal(sk_tensors_add(&file, t.name, t.rank, t.shape, t.data, NULL), SK_OK);
    }
    assert_int_equal(sk_tensors_write_safetensors(path, &file, &err), SK_OK);
    if (sk_weights_read(path, &back, &whole, &err) != SK_OK) fail_msg("%s", err.message);
    assert_int_equal(whole, 0);
    tensor_of(back, DW).data[4] = 42;
    sk_file_fail_at(0);
    assert_int_equal(sk_weights_write_backbone(back, path, copy, &err), SK_ERR_IO);
    sk_file_fail_at(-1);
    assert_int_equal(sk_path_exists(copy), 0);
    assert_int_equal(sk_weights_write_backbone(back, path, copy, &err), SK_OK);
    assert_int_equal(sk_tensors_read(copy, &out, &err), SK_OK);
    assert_int_equal(out.count, file.count);
    assert_true(sk_tensors_find(&out, DW)->data[4] == 42);
    sk_model_free(back);
    sk_tensors_free(&out);
    /* A file of something else: no backbone either. */
    sk_tensors_free(&file);
    assert_int_equal(sk_tensors_add(&file, "conv1.weight", 1, (int[]){3}, NULL, NULL), SK_OK);
    assert_int_equal(sk_tensors_write_safetensors(path, &file, &err), SK_OK);
    assert_int_equal(sk_weights_read(path, &back, &whole, &err), SK_ERR_MISMATCH);
    sk_tensors_free(&file);
    sk_free(path);
    sk_free(copy);
    sk_model_free(model);
}

/* ---- averaging --------------------------------------------------------------------------------------------------- */
static void test_average(void **unused) {
    (void)unused;
    sk_model *models[3] = {make_model(), make_model(), make_model()};
    sk_error err = {0};
    sk_card card = *sk_model_card(models[0]);
    card.temperature = 3;
    snprintf(card.run_id, sizeof card.run_id, "first");
    sk_model_set_card(models[0], &card);
    const sk_tensor a = tensor_of(models[0], DW), b = tensor_of(models[1], DW), c = tensor_of(models[2], DW);
    const sk_tensor bias = tensor_of(models[2], "classifier.3.bias");
    const float kept = a.data[8];
    a.data[7] = 1, b.data[7] = 2.5f, c.data[7] = -5; /* mean -.5 */
    bias.data[1] = 6;                                /* beside 0 and 0 */
    assert_int_equal(sk_weights_average(models[0], models + 1, 2, &err), SK_OK);
    near((double)a.data[7], -.5, 1e-7);
    near((double)a.data[8], (double)kept, 0);
    near((double)tensor_of(models[0], "classifier.3.bias").data[1], 2, 1e-6);
    assert_true(b.data[7] == 2.5f && c.data[7] == -5);
    assert_true(sk_model_card(models[0])->temperature == 1 && !*sk_model_card(models[0])->run_id);

    /* Statistics of other weights, values that are none, another network: nothing is changed. */
    const sk_tensor variance = tensor_of(models[2], "features.1.block.0.1.running_var");
    const float was = variance.data[3];
    variance.data[3] = was + 1;
    assert_int_equal(sk_weights_average(models[0], models + 1, 2, &err), SK_ERR_MISMATCH);
    assert_non_null(strstr(err.message, "features.1.block.0.1.running_var"));
    variance.data[3] = was;
    b.data[7] = NAN;
    assert_int_equal(sk_weights_average(models[0], models + 1, 2, &err), SK_ERR_DATA);
    b.data[7] = 2.5f;
    card.size = SIZE + 32;
    sk_model_set_card(models[1], &card);
    assert_int_equal(sk_weights_average(models[0], models + 1, 2, &err), SK_ERR_MISMATCH);
    near((double)a.data[7], -.5, 1e-7);
    sk_memory_fail_at(0, 0);
    assert_int_equal(sk_weights_average(models[0], models + 2, 1, &err), SK_ERR_MEMORY);
    sk_memory_fail_at(-1, 0);
    for (int i = 0; i < 3; i++) sk_model_free(models[i]);
}

static void test_report(void **unused) {
    (void)unused;
    sk_model *model = make_model();
    sk_cache *cache = NULL;
    sk_weights *w = NULL, *other = NULL;
    sk_activations *a = NULL;
    sk_error err = {0};
    size_t bad = 0, size = 0;
    const char *layers = "features.0,features.1.*";
    char *dir = in_root("weights");
    assert_int_equal(sk_cache_open(paint, 0, 1, NULL, &cache, &bad, &err), SK_OK);
    assert_int_equal(sk_weights_inspect(model, layers, &w, &err), SK_OK);
    assert_int_equal(sk_weights_activations(model, layers, paint, cache, 4, 1, NULL, &a, &err), SK_OK);
    /* A disk that is full at any moment ends it with one sentence and leaves no half file. */
    sk_status status = SK_ERR_IO;
    for (long n = 0; status != SK_OK; n++) {
        sk_file_fail_at(n);
        status = sk_weights_write(dir, "m", w, a, NULL, &err);
        sk_file_fail_at(-1);
        if (status != SK_OK) assert_int_equal(status, SK_ERR_IO);
    }
    static const char *const names[] = {"weights.tsv",     "weights.json", "weights.png",     "weights.svg",
                                        "activations.tsv", "channels.tsv", "activations.svg",
                                        "histograms/features.0.png"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        uint8_t *bytes = slurp("weights", names[i], &size);
        assert_true(size > 100);
        sk_free(bytes);
    }
    char *table = (char *)slurp("weights", "channels.tsv", &size);
    size_t lines = 0;
    for (size_t i = 0; i < size; i++) lines += table[i] == '\n';
    size_t channels = 0;
    for (size_t i = 0; i < a->count; i++) channels += (size_t)a->rows[i].layer.out_c;
    assert_int_equal(lines, 1 + channels);
    sk_free(table);
    /* Before and after have to be of the same layers. */
    assert_int_equal(sk_weights_inspect(model, "features.0", &other, &err), SK_OK);
    char *path = in_root("mixed");
    assert_int_equal(sk_plot_weights(path, NULL, w, other, &err), SK_ERR_MISMATCH);
    sk_free(path);
    sk_free(dir);
    sk_weights_free(w);
    sk_weights_free(other);
    sk_activations_free(a);
    sk_cache_close(cache);
    sk_model_free(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_outlier),     cmocka_unit_test(test_eight_rows),  cmocka_unit_test(test_figures),
        cmocka_unit_test(test_limits),      cmocka_unit_test(test_bad_options), cmocka_unit_test(test_folded),
        cmocka_unit_test(test_keep),        cmocka_unit_test(test_penalty),     cmocka_unit_test(test_activations),
        cmocka_unit_test(test_backbone),    cmocka_unit_test(test_average),     cmocka_unit_test(test_report)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
