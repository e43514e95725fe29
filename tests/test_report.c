/* SPDX-License-Identifier: Apache-2.0 */
/* Figures and report on handmade outcomes: files that decode, a page that needs nothing else, faults survived. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "formats/json.h"
#include "report/page.h"

static char folder[256];

static int make_folder(void **state) {
    (void)state;
    const char *keep = getenv("SISKIN_KEEP_FIGURES"); /* a folder to look at the figures in */
    if (keep) {
        snprintf(folder, sizeof folder, "%s", keep);
        return sk_make_dirs(folder, NULL) != SK_OK;
    }
    char *at = folder + snprintf(folder, sizeof folder, "/tmp/siskin-report-");
    memset(at, 'X', 6); /* what mkdtemp fills in */
    at[6] = 0;
    return mkdtemp(folder) == NULL;
}

static int drop_folder(void **state) {
    (void)state;
    char command[320];
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    return getenv("SISKIN_KEEP_FIGURES") ? 0 : system(command);
}

static const char *in_folder(const char *name) {
    static char path[600];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

/* ---- handmade evaluations ---------------------------------------------------------------------------------------- */

enum { FEATURES = 12 };

/* A picture that differs from sample to sample: sky, ground and a blob. */
static void made_picture(const void *user, size_t sample, sk_image *out) {
    static uint8_t pixels[360 * 256 * 3];
    (void)user;
    *out = (sk_image){sample % 5 == 4 ? 256 : 360, 256, pixels};
    if (sample % 17 == 3) out->data = NULL;
    sk_rng rng = sk_rng_make(9, sample, 0);
    const int cx = (int)sk_rng_below(&rng, 200) + 28, cy = (int)sk_rng_below(&rng, 200) + 28;
    const uint8_t hue = (uint8_t)sk_rng_below(&rng, 200);
    for (int y = 0; y < out->height; y++)
        for (int x = 0; x < out->width; x++) {
            uint8_t *p = pixels + ((size_t)y * (size_t)out->width + (size_t)x) * 3;
            const int blob = (x - cx) * (x - cx) + (y - cy) * (y - cy) < 1600;
            p[0] = (uint8_t)(blob ? hue : y / 2);
            p[1] = (uint8_t)(blob ? 80 : 100 + y / 3);
            p[2] = (uint8_t)(blob ? 40 : 255 - y);
        }
}

static const char *const sources[] = {"feeder-cam north", "photos/wikimedia <Commons> & friends", "inaturalist",
                                      "a-very-long-source-name-that-somebody-gave-to-the-second-garden-camera"};
static char names[4000][140], groups[40][64];

/* `wrong` of `n` outcomes are wrong; classes: 3 both, 1 only no bird, 2 only bird. */
static sk_evaluation *make(size_t n, size_t wrong, int classes, sk_crops crops, uint64_t seed, int features) {
    const sk_eval_options options = {.split = SK_SPLIT_TEST, .crops = crops, .threshold = .5f, .penalty = .8f};
    sk_evaluation *e = NULL;
    sk_rng rng = sk_rng_make(seed, 0, 0);
    assert_int_equal(sk_evaluation_create(&options, n, features ? FEATURES : 0, &e, NULL), SK_OK);
    for (size_t i = 0; i < 40; i++)
        snprintf(groups[i], sizeof groups[i], "clip-2024-05-%02zu_07-%02zu-11.mp4", i % 31, i);
    for (size_t i = 0; i < n; i++) {
        const int bird = classes == 3 ? (int)sk_rng_below(&rng, 2) : classes == 2;
        const int bad = i * wrong / n != (i + 1) * wrong / n, says = bird != bad;
        snprintf(names[i], sizeof names[i],
                 i % 3 ? "/data/x/IMG_%04zu.jpg"
                       : "/data/Garden_camera_2024-05-17T06-31-22_recording_with_a_long_name_%zu.mp4",
                 i);
        if (i % 50 == 7)
            snprintf(names[i], sizeof names[i],
                     "/data/M\xc3\xb6nchsgrasm\xc3\xbc"
                     "cke \xff broken & <b>.jpg");
        e->samples[i] = (sk_sample){.path = names[i],
                                    .frame = i % 3 ? -1 : (int64_t)i * 7,
                                    .time_s = -1,
                                    .label = bird ? SK_LABEL_BIRD : SK_LABEL_NOBIRD,
                                    .source = sources[i % 4],
                                    .group = groups[i % 40],
                                    .split = SK_SPLIT_TEST};
        const double strength = 1 - pow(sk_rng_uniform(&rng), 3) * .5;
        float p[3] = {0};
        for (int k = 0; k < 3; k++) p[k] = (float)(says ? fmax(.5, strength) : fmin(.499, 1 - strength));
        e->outcomes[i] = (sk_outcome){i, sk_decide(p, sk_crops_count(crops), .5f, .8f)};
        for (size_t d = 0; features && d < FEATURES; d++)
            e->features[i * FEATURES + d] = (float)(sk_rng_normal(&rng) + (d == (size_t)says + 2 * (i % 3) ? 6 : 0));
    }
    e->n = n;
    e->unlabelled = 3;
    e->unreadable = 1;
    return e;
}

static sk_page_input input_of(const sk_evaluation *e, const sk_evaluation *other) {
    sk_page_input in = {.evaluation = e,
                        .other = other,
                        .model_path = "runs/2024-05-17 small/best & <final>.safetensors",
                        .other_name = other ? "bird-small.skn" : NULL,
                        .card = sk_card_default(SK_ARCH_V3_SMALL),
                        .feature_count = e->feature_count,
                        .dataset_dir = "/data/birds",
                        .dataset_counts = {{1, 0, 0}, {0, 1131, 1500}, {0, 200, 210}, {3, 210, 230}},
                        .pictures = {made_picture, NULL},
                        .tsne = sk_tsne_defaults()};
    in.tsne.iterations = e->n > 500 ? 150 : 400;
    snprintf(in.card.run_id, sizeof in.card.run_id, "5f3a9c1e");
    return in;
}

/* A look at each of the first `n` outcomes, in all three lists; the first map is empty. */
static sk_looks *make_looks(const sk_evaluation *e, size_t n) {
    enum { SIZE = 32 };
    sk_looks *looks = sk_calloc(1, sizeof *looks);
    *looks = (sk_looks){.method = SK_SALIENCY_CAM, .size = SIZE, .count = 3 * n, .wrong = n + 5};
    looks->looks = sk_calloc(3 * n + 1, sizeof *looks->looks);
    looks->rows = sk_calloc(2, sizeof *looks->rows);
    looks->row_count = 2;
    looks->rows[0] = (sk_border_row){sources[1], SK_LABEL_NOBIRD, 0, NAN};
    looks->rows[1] = (sk_border_row){sources[3], SK_LABEL_BIRD, 12, .345};
    for (size_t i = 0; i < 3 * n; i++) {
        sk_look *look = &looks->looks[i];
        *look = (sk_look){(sk_look_list)(i / n), i % n % e->n, sk_alloc(SIZE * SIZE, 3),
                          sk_calloc(SIZE * SIZE, sizeof(float)), i ? .25 : NAN};
        for (size_t k = 0; k < SIZE * SIZE; k++) {
            for (size_t c = 0; c < 3; c++) look->image[3 * k + c] = (uint8_t)(k * (c + 1) >> 2);
            if (i) look->map[k] = (float)exp(-fabs((double)(k % SIZE) - (double)(i % SIZE)) / 4);
        }
    }
    return looks;
}

/* ---- what a written file must be --------------------------------------------------------------------------------- */

static void check_png(const char *path, int least_width) {
    sk_image image = {0};
    sk_error err = {0};
    if (sk_image_read(path, &image, &err)) fail_msg("%s", err.message);
    assert_true(image.width >= least_width);
    /* Not one colour alone: something was drawn. */
    size_t other = 0;
    for (size_t i = 3; i < (size_t)image.width * (size_t)image.height * 3; i++)
        other += image.data[i] != image.data[i % 3];
    assert_true(other > 2000);
    sk_image_free(&image);
}

/* Tags balance, quotes close; enough to catch text that was not escaped. */
static void check_markup(const char *text, size_t size, int html) {
    char stack[64][24];
    size_t depth = 0;
    for (size_t i = 0; i < size; i++) {
        if (text[i] != '<' || text[i + 1] == '!' || text[i + 1] == '?') continue;
        const int closing = text[i + 1] == '/';
        char name[24] = "";
        size_t used = 0, at = i + 1 + (size_t)closing;
        for (; at < size && strchr(" >/\n", text[at]) == NULL && used < 23; at++) name[used++] = text[at];
        name[used] = 0;
        assert_true(used > 0);
        int quoted = 0;
        for (; at < size && (quoted || text[at] != '>'); at++) quoted ^= text[at] == '"';
        assert_true(at < size);
        const int empty =
            text[at - 1] == '/' ||
            (html && (!strcmp(name, "meta") || !strcmp(name, "img") || !strcmp(name, "br") || !strcmp(name, "source")));
        if (closing) {
            assert_true(depth > 0);
            assert_string_equal(stack[--depth], name);
        } else if (!empty) {
            assert_true(depth < 64);
            memcpy(stack[depth++], name, sizeof name);
        }
        i = at;
    }
    assert_int_equal(depth, 0);
}

static char *read_text(const char *path, size_t *size) {
    static uint8_t *bytes; /* static for gcc 12, which takes the jump out of fail_msg for the end of its life */
    sk_error err = {0};
    if (sk_file_read(path, &bytes, size, &err)) fail_msg("%s", err.message);
    return (char *)bytes;
}

static void check_figure(const char *name) {
    char path[600];
    size_t size;
    snprintf(path, sizeof path, "%s/%s.png", folder, name);
    check_png(path, 640);
    snprintf(path, sizeof path, "%s/%s.svg", folder, name);
    char *svg = read_text(path, &size);
    assert_non_null(strstr(svg, "<svg"));
    check_markup(svg, size, 0);
    sk_free(svg);
}

static void check_page(const char *path) {
    size_t size;
    char *html = read_text(path, &size);
    assert_int_equal(size, strlen(html));
    check_markup(html, size, 1);
    static const char *const outside[] = {"http:", "https:", "<script", "<link", "@import", "url(", "src=\"/", "file:"};
    for (size_t i = 0; i < sizeof outside / sizeof *outside; i++) assert_null(strstr(html, outside[i]));
    for (const char *at = html; (at = strstr(at, "src=\"")) != NULL; at++)
        if (strncmp(at + 5, "data:image/", 11)) fail_msg("the page reads another file: %.40s", at);
    assert_non_null(strstr(html, "name=\"viewport\""));
    assert_non_null(strstr(html, "prefers-color-scheme:dark"));
    static const char *const broken[] = {">nan", ">-nan", " nan", "nan %", "inf %", ">inf"};
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) assert_null(strstr(html, broken[i]));
    sk_free(html);
}

static double svg_height(const char *name) {
    char path[600];
    size_t size;
    double height = 0;
    snprintf(path, sizeof path, "%s/%s.svg", folder, name);
    char *svg = read_text(path, &size);
    const char *at = strstr(svg, " height=\"");
    if (!at || sscanf(at, " height=\"%lf", &height) != 1) fail_msg("%s has no height", path);
    sk_free(svg);
    return height;
}

/* ---- tests ------------------------------------------------------------------------------------------------------- */

static void curves(void **state) {
    (void)state;
    sk_epoch_log log[100];
    for (int i = 0; i < 100; i++)
        log[i] = (sk_epoch_log){.epoch = i + 1,
                                .train_loss = .7 * exp(-i / 12.) + .02,
                                .val_loss = .6 * exp(-i / 10.) + .1 + i * .0004,
                                .train_accuracy = 1 - .3 * exp(-i / 8.) - .004,
                                .val_accuracy = .968 - .25 * exp(-i / 9.) + .002 * (i % 5),
                                .is_best = i == 0 || i == 64};
    const size_t counts[] = {0, 1, 2, 100};
    for (size_t i = 0; i < 4; i++) {
        char name[32], path[300];
        snprintf(name, sizeof name, "curves%zu", counts[i]);
        snprintf(path, sizeof path, "%s/%s", folder, name);
        assert_int_equal(sk_plot_curves(path, log, counts[i], NULL), SK_OK);
        check_figure(name);
    }
    /* A learning rate that changes has a panel of its own below. */
    const double low = svg_height("curves100");
    for (int i = 0; i < 100; i++) log[i].lr = 5e-4;
    assert_int_equal(sk_plot_curves(in_folder("curves_rate"), log, 100, NULL), SK_OK);
    assert_true(svg_height("curves_rate") == low);
    for (int i = 0; i < 100; i++) log[i].lr = 5e-4 * (100 - i) / 100;
    assert_int_equal(sk_plot_curves(in_folder("curves_rate"), log, 100, NULL), SK_OK);
    check_figure("curves_rate");
    assert_true(svg_height("curves_rate") > low + 100);
    log[1].val_loss = NAN; /* a run that diverged must still be drawn */
    log[2].train_loss = HUGE_VAL;
    assert_int_equal(sk_plot_curves(in_folder("curves_nan"), log, 5, NULL), SK_OK);
    check_figure("curves_nan");
}

static void confusion(void **state) {
    (void)state;
    const size_t counts[2][2] = {{1234567, 12}, {0, 98765}}, none[2][2] = {{0, 0}, {0, 5}};
    assert_int_equal(sk_plot_confusion(in_folder("confusion_big"), NULL, counts, NULL), SK_OK);
    check_figure("confusion_big");
    assert_int_equal(sk_plot_confusion(in_folder("confusion_one"),
                                       "A title that is much too long for a figure of this "
                                       "width and has to be shortened somewhere in its middle",
                                       none, NULL),
                     SK_OK);
    check_figure("confusion_one");
}

static void write_log(void) {
    sk_text text = {0};
    sk_text_add(&text, "epoch\ttrain_loss\ttrain_accuracy\tval_loss\tval_accuracy\tbest\tseconds\timages_per_second\n");
    for (int i = 1; i <= 20; i++)
        sk_text_add(&text, "%d\t%.6f\t%.6f\t%.6f\t%.6f\t%d\t10\t100\n", i, 1. / i, 1 - .4 / i, 1.1 / i, 1 - .5 / i,
                    i < 16);
    assert_int_equal(sk_make_dirs(in_folder("run"), NULL), SK_OK);
    assert_int_equal(sk_file_write(in_folder("run/log.tsv"), text.data, text.size, NULL), SK_OK);
    sk_text_free(&text);
}

typedef struct scene {
    const char *dir;
    size_t n, wrong;
    int classes, other, run;
    sk_crops crops;
} scene;

/* No wrong verdict, very many, one class only, one picture. */
static const scene scenes[] = {{"many", 1250, 215, 3, 1, 1, SK_CROPS_THREE},
                               {"usual", 420, 17, 3, 0, 0, SK_CROPS_ONE},
                               {"right", 300, 0, 3, 1, 0, SK_CROPS_ONE},
                               {"birds", 90, 6, 2, 0, 0, SK_CROPS_SQUEEZE},
                               {"single", 1, 1, 1, 0, 0, SK_CROPS_ONE}};

/* Of two sources: `garden & co` with 10 pictures, 3 of which change, and `woods`. */
static sk_shortcut_row shortcut_rows[2] = {{"garden & co", SK_LABEL_NOBIRD, 10, 3, .25},
                                           {"woods", SK_LABEL_BIRD, 4, 0, -.125}};
#define ROWS shortcut_rows, 2
static const sk_shortcut shortcuts[SK_SHORTCUT_COUNT] = {
    {"a", {10, 4}, {3, 0}, {.25, -.125}, ROWS}, {"b", {0, 4}, {0, 1}, {0, 1}, ROWS}, {"c", {0}, {0}, {0}, ROWS},
    {"d", {1, 1}, {1, 1}, {1, -1}, ROWS},       {"e", {0}, {0}, {0}, ROWS},          {"f", {0}, {0}, {0}, ROWS}};

static void report(void **state) {
    (void)state;
    write_log();
    char run[300], dir[300], path[600];
    snprintf(run, sizeof run, "%s/run", folder);
    for (size_t i = 0; i < sizeof scenes / sizeof *scenes; i++) {
        const scene *s = &scenes[i];
        sk_evaluation *e = make(s->n, s->wrong, s->classes, s->crops, 4, 1);
        sk_evaluation *other = s->other ? make(s->n, s->wrong + 9, s->classes, s->crops, 4, 0) : NULL;
        sk_page_input in = input_of(e, other);
        sk_looks *looks = i == 4 ? NULL : make_looks(e, i == 2 ? 0 : i == 0 ? 70 : 7);
        in.looks = looks;
        in.shortcuts = looks ? shortcuts : NULL;
        in.card.temperature = i == 1 ? 1 : 1.6f;
        if (s->run) in.run_dir = run;
        sk_error err = {0};
        snprintf(dir, sizeof dir, "%s/%s", folder, s->dir);
        if (sk_page_write(dir, &in, NULL, &err)) fail_msg("%s", err.message);
        static const char *const figures[] = {
            "confusion",          "roc",           "histogram", "tsne", "reliability", "saliency_certain",
            "saliency_uncertain", "saliency_wrong"};
        for (size_t k = 0; k < (looks ? 8 : 5); k++) {
            snprintf(path, sizeof path, "%s/%s", s->dir, figures[k]);
            check_figure(path);
        }
        snprintf(path, sizeof path, "%s/wrong.png", dir);
        check_png(path, 640);
        snprintf(path, sizeof path, "%s/report.html", dir);
        check_page(path);
        sk_looks_free(looks);
        sk_evaluation_free(e);
        sk_evaluation_free(other);
    }
}

static double number(const cJSON *object, const char *key) {
    double value = NAN;
    sk_error err = {0};
    if (sk_json_number(object, key, -HUGE_VAL, HUGE_VAL, "document", &value, &err)) fail_msg("%s", err.message);
    return value;
}

static void document(void **state) {
    (void)state;
    sk_evaluation *e = make(210, 12, 3, SK_CROPS_THREE, 1, 0), *other = make(210, 15, 3, SK_CROPS_THREE, 1, 0);
    sk_page_input in = input_of(e, other);
    sk_looks *looks = make_looks(e, 4);
    in.looks = looks;
    in.shortcuts = shortcuts;
    in.card.temperature = 2;
    sk_page page;
    sk_text text = {0}, again = {0};
    assert_int_equal(sk_page_make(&in, &page, NULL), SK_OK);
    sk_page_json(&page, &text);
    sk_page_json(&page, &again);
    assert_int_equal(text.size, again.size);
    assert_memory_equal(text.data, again.data, text.size);
    cJSON *json = NULL;
    sk_error err = {0};
    if (sk_json_parse(text.data, text.size, "document", &json, &err)) fail_msg("%s", err.message);
    const cJSON *metrics = cJSON_GetObjectItem(json, "metrics");
    const sk_metrics m = sk_evaluation_metrics(e);
    assert_true(number(metrics, "accuracy") == m.accuracy && number(metrics, "roc_area") == m.roc_area);
    assert_true(number(metrics, "accuracy_low") == m.accuracy_low);
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(json, "wrong")), 12);
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(json, "pictures")), 210);
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(json, "sources")), 4);
    const cJSON *wrong = cJSON_GetArrayItem(cJSON_GetObjectItem(json, "wrong"), 0);
    assert_string_not_equal(cJSON_GetObjectItem(wrong, "label")->valuestring,
                            cJSON_GetObjectItem(wrong, "verdict")->valuestring);
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(wrong, "p")), 3);
    const cJSON *compared = cJSON_GetObjectItem(json, "comparison");
    assert_true(number(compared, "mcnemar_p") == page.comparison.mcnemar_p);
    assert_true(number(compared, "flips") == (double)page.comparison.flips);
    const cJSON *calibration = cJSON_GetObjectItem(json, "calibration");
    assert_true(number(calibration, "temperature") == 2);
    assert_true(number(calibration, "ece") == sk_evaluation_calibration(e, 1).ece);
    assert_true(number(cJSON_GetObjectItem(calibration, "without_temperature"), "nll") ==
                sk_evaluation_calibration(e, 2).nll);
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(calibration, "bins")), SK_CALIBRATION_BINS);
    const cJSON *saliency = cJSON_GetObjectItem(json, "saliency"), *rows = cJSON_GetObjectItem(saliency, "sources");
    assert_string_equal(cJSON_GetObjectItem(saliency, "method")->valuestring, "cam");
    assert_true(number(cJSON_GetArrayItem(rows, 1), "border_share") == .345);
    assert_true(cJSON_IsNull(cJSON_GetObjectItem(cJSON_GetArrayItem(rows, 0), "border_share")));
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(saliency, "pictures")), 12);
    const cJSON *changes = cJSON_GetObjectItem(json, "shortcuts"), *first = cJSON_GetArrayItem(changes, 0);
    assert_int_equal(cJSON_GetArraySize(changes), SK_SHORTCUT_COUNT);
    assert_true(number(cJSON_GetObjectItem(first, "nobird"), "flips") == 3);
    assert_true(number(cJSON_GetObjectItem(first, "bird"), "mean_dp") == -.125);
    const cJSON *places = cJSON_GetObjectItem(first, "sources"), *garden = cJSON_GetArrayItem(places, 0);
    assert_int_equal(cJSON_GetArraySize(places), 2);
    assert_string_equal(cJSON_GetObjectItem(garden, "name")->valuestring, "garden & co");
    assert_string_equal(cJSON_GetObjectItem(garden, "label")->valuestring, "nobird");
    assert_true(number(garden, "flips") == 3 && number(garden, "n") == 10 && number(garden, "mean_dp") == .25);
    sk_looks_free(looks);
    cJSON_Delete(json);
    sk_text_free(&text);
    sk_text_free(&again);
    sk_page_free(&page);
    sk_evaluation_free(e);
    sk_evaluation_free(other);
}

/* Every write of the report fails once: told, nothing half-written stays, nothing leaks. */
static void write_faults(void **state) {
    (void)state;
    sk_evaluation *e = make(30, 3, 3, SK_CROPS_ONE, 2, 1);
    sk_page_input in = input_of(e, NULL);
    in.tsne.iterations = 3;
    char dir[300], command[400], path[600];
    snprintf(dir, sizeof dir, "%s/faults", folder);
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    assert_int_equal(system(command), 0);
    const long live = sk_memory_live();
    sk_status status = SK_ERR_IO;
    long at = 0;
    for (; at < 400 && status; at++) {
        sk_error err = {0};
        sk_file_fail_at(at);
        status = sk_page_write(dir, &in, NULL, &err);
        sk_file_fail_at(-1);
        assert_true(status == SK_OK || (status == SK_ERR_IO && err.message[0]));
        assert_int_equal(sk_memory_live(), live);
        snprintf(path, sizeof path, "%s/report.html", dir);
        assert_int_equal(sk_path_exists(path) != 0, status == SK_OK);
        snprintf(command, sizeof command, "test -z \"$(find '%s' -name '*.part')\"", dir);
        assert_int_equal(system(command), 0);
    }
    assert_int_equal(status, SK_OK);
    assert_true(at > 8); /* there were writes to fail */
    sk_evaluation_free(e);
}

static sk_status whole_page(const sk_page_input *in, sk_error *err) {
    sk_page page;
    sk_text json = {0}, html = {0};
    sk_status status = sk_page_make(in, &page, err);
    if (!status) {
        sk_page_json(&page, &json);
        status = json.failed ? sk_fail_memory(err, "the document") : sk_page_html(&page, &html, err);
    }
    sk_text_free(&json);
    sk_text_free(&html);
    sk_page_free(&page);
    return status;
}

static sk_status one_figure(const sk_page_input *in, sk_error *err) {
    const size_t counts[2][2] = {{1, 2}, {3, 4}};
    (void)in;
    return sk_plot_confusion(in_folder("memory"), NULL, counts, err);
}

static void memory_faults(void **state) {
    (void)state;
    sk_evaluation *e = make(6, 2, 3, SK_CROPS_THREE, 2, 0);
    sk_looks *looks = make_looks(e, 2);
    sk_page_input in = input_of(e, NULL);
    in.looks = looks;
    sk_status (*const works[])(const sk_page_input *, sk_error *) = {whole_page, one_figure};
    for (size_t w = 0; w < 2; w++) {
        const long live = sk_memory_live(), first = sk_memory_count();
        assert_int_equal(works[w](&in, NULL), SK_OK);
        const long all = sk_memory_count() - first;
        long tried = 0, failed = 0;
        for (long at = 0; at<all; at += at> 40 && at < all - 10 ? 1 + all / 40 : 1) {
            sk_error err = {0};
            sk_memory_fail_at(at, 0);
            const sk_status status = works[w](&in, &err);
            sk_memory_fail_at(-1, 0);
            assert_true(status == SK_OK || (status == SK_ERR_MEMORY && err.message[0]));
            failed += status != SK_OK;
            tried++;
            assert_int_equal(sk_memory_live(), live);
        }
        print_message("%ld allocations, %ld tries, %ld told\n", all, tried, failed);
        assert_int_equal(failed, tried);
    }
    sk_looks_free(looks);
    sk_evaluation_free(e);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(curves),       cmocka_unit_test(confusion),
                                       cmocka_unit_test(report),       cmocka_unit_test(document),
                                       cmocka_unit_test(write_faults), cmocka_unit_test(memory_faults)};
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
