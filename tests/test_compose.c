/* SPDX-License-Identifier: Apache-2.0 */
/* siskin compose, library and program: what it writes against what was asked for, both labels alike, the same bytes for
 * any number of threads, and the mistakes that it refuses. */
#include "data_help.h"

#define PATCHES "birds,beasts,held:nobird"

/* A disc before another colour: `hue` tells the pictures apart. */
static void write_thing(const char *path, int hue, int width, int height)
{
    sk_image image;
    assert_int_equal(sk_image_create(width, height, &image, NULL), SK_OK);
    sk_rng rng = sk_rng_make((uint64_t)hue, 1, 1);
    for (int i = 0; i < width * height; i++) {
        const double x = (i % width - width * 0.5) / (width * 0.3), y = (i / width - height * 0.5) / (height * 0.3);
        const int in = x * x + y * y < 1, noise = (int)sk_rng_below(&rng, 16);
        image.data[i * 3] = (uint8_t)((in ? 40 + hue * 9 % 180 : 150) + noise);
        image.data[i * 3 + 1] = (uint8_t)((in ? 70 : 160) + noise);
        image.data[i * 3 + 2] = (uint8_t)((in ? 60 + hue * 5 % 90 : 170) + noise);
    }
    assert_int_equal(sk_image_write(path, &image, 95, NULL), SK_OK);
    sk_image_free(&image);
}

static int make_set(void **state)
{
    if (start(state))
        return 1;
    sk_text rows = {0};
    make_dir(at("set"));
    for (int i = 0; i < 24; i++) {
        static const char *const lines[] = {"bird\tbirds\tbirds\theld-out\ttest", "nobird\tbeasts\tbeasts\tclip\ttest",
                                            "nobird\tyard\tyard\tclip\ttest", "nobird\theld\theld\tweb\ttrain",
                                            "bird\tmixed\tmixed\tclip\ttrain", "nobird\tmixed\tmixed\tclip\ttest"};
        const int row = i % 6;
        if (row == 2)
            write_scene(at("set/%d.png", i), (uint64_t)i + 1, 300, 200);
        else
            write_thing(at("set/%d.png", i), i, 120, 100);
        sk_text_add(&rows, "%d.png\t\t\t%s\n", i, lines[row]);
    }
    write_dataset("set", rows.data);
    sk_text_free(&rows);
    return 0;
}

static sk_compose_options asked(void)
{
    sk_compose_options o = sk_compose_defaults();
    o.patches = "birds,beasts";
    o.grounds = "yard";
    o.count = 5;
    return o;
}

static sk_status compose(const char *out, const sk_compose_options *o, sk_compose_report *report, sk_error *err)
{
    sk_dataset *set = open_dataset(at("set"));
    memset(err, 0, sizeof *err);
    const sk_status status = sk_dataset_compose(set, at("%s", out), o, &hooks, report, err);
    sk_dataset_close(set);
    return status;
}

static void writes_a_dataset(void **state)
{
    (void)state;
    sk_compose_options o = asked();
    sk_compose_report report;
    sk_error err;
    if (compose("a", &o, &report, &err) != SK_OK)
        fail_msg("%s", err.message);
    assert_int_equal(report.pictures, 50);
    assert_int_equal(report.patches[SK_LABEL_BIRD][SK_SPLIT_TEST], 4);
    assert_int_equal(report.patches[SK_LABEL_NOBIRD][SK_SPLIT_TEST], 4);
    assert_int_equal(report.grounds[SK_SPLIT_TRAIN], 0);
    sk_dataset *set = open_dataset(at("a"));
    assert_int_equal(sk_dataset_size(set), 50);
    int birds = 0;
    for (size_t i = 0; i < 50; i++) {
        const sk_sample *s = sk_dataset_sample(set, i);
        sk_image image;
        assert_int_equal(sk_image_read(s->path, &image, NULL), SK_OK);
        assert_int_equal(image.width, SK_CACHE_SIDE);
        assert_int_equal(image.height, SK_CACHE_SIDE);
        sk_image_free(&image);
        assert_int_equal(s->split, SK_SPLIT_TEST);
        assert_int_equal(s->role, SK_ROLE_HELDOUT);
        assert_memory_equal(s->source, "composite-", 10);
        assert_non_null(strstr(s->group, s->label == SK_LABEL_BIRD ? "/birds" : "/beasts"));
        birds += s->label == SK_LABEL_BIRD;
    }
    assert_int_equal(birds, 25);
    sk_dataset_close(set);
    assert_int_equal(sk_dataset_check(at("a"), &hooks, &(sk_check_report){{{0}}}, &err), SK_OK);
}

/* Rows of compose.tsv, as numbers. */
typedef struct origin {
    char kind[16], label[16], ground[160];
    int x, y, width, height;
    double visible;
} origin;

static size_t read_origin(const char *path, origin *rows, size_t most)
{
    sk_table t = {0};
    size_t n = 0;
    assert_int_equal(sk_table_read(path, &t, NULL), SK_OK);
    static const char *const names[] = {"kind", "label", "ground", "x", "y", "width", "height", "visible"};
    for (size_t r = 0; r < t.rows && n < most; r++, n++) {
        const char *cells[8];
        for (int k = 0; k < 8; k++)
            cells[k] = sk_table_cell(&t, r, sk_table_column(&t, names[k]));
        origin *o = &rows[n];
        snprintf(o->kind, sizeof o->kind, "%s", cells[0]);
        snprintf(o->label, sizeof o->label, "%s", cells[1]);
        snprintf(o->ground, sizeof o->ground, "%s", cells[2]);
        o->x = atoi(cells[3]);
        o->y = atoi(cells[4]);
        o->width = atoi(cells[5]);
        o->height = atoi(cells[6]);
        o->visible = atof(cells[7]);
    }
    sk_table_free(&t);
    return n;
}

/* What each kind promises; and picture N of both labels has one ground. */
static void kinds_keep_their_word(void **state)
{
    (void)state;
    sk_compose_options o = asked();
    sk_error err;
    o.kinds = "small,cut";
    o.count = 30;
    o.seed = 9;
    assert_int_equal(compose("b", &o, NULL, &err), SK_OK);
    static origin rows[120];
    assert_int_equal(read_origin(at("b/compose.tsv"), rows, 120), 120);
    int same = 0;
    for (size_t i = 0; i < 120; i++) {
        const origin *r = &rows[i];
        /* The disc is .6 of the picture's width and height. */
        const double side = (r->width > r->height ? r->width : r->height) * 0.6 / SK_CACHE_SIDE;
        if (strcmp(r->kind, "small") == 0) {
            assert_true(side > 0.10 && side < 0.40);
            assert_true(r->visible > 0.97);
        } else {
            assert_true(side > 0.40 && side < 1);
            assert_true(r->visible > 0.37 && r->visible < 0.73);
        }
        if (strcmp(r->label, "nobird") == 0) {
            assert_string_equal(rows[i + 30].label, "bird");
            same += strcmp(r->ground, rows[i + 30].ground) == 0;
        }
    }
    assert_true(same >= 57); /* but for an object that could not be seen on it */
}

static void same_bytes_for_any_threads(void **state)
{
    (void)state;
    sk_compose_options o = asked();
    sk_error err;
    char command[500];
    o.count = 3;
    o.threads = 1;
    assert_int_equal(compose("one", &o, NULL, &err), SK_OK);
    o.threads = 4;
    assert_int_equal(compose("four", &o, NULL, &err), SK_OK);
    o.seed = 2;
    assert_int_equal(compose("seed", &o, NULL, &err), SK_OK);
    snprintf(command, sizeof command, "diff -r '%s' '%s'", at("one"), at("four"));
    assert_int_equal(system(command), 0);
    snprintf(command, sizeof command, "cmp -s '%s/pictures/small-bird-00001.png' '%s/pictures/small-bird-00001.png'",
             at("one"), at("seed"));
    assert_int_not_equal(system(command), 0);
}

static void refuses(const sk_compose_options *o, sk_status status, const char *words)
{
    sk_error err;
    assert_int_equal(compose("refused", o, NULL, &err), status);
    if (!strstr(err.message, words))
        fail_msg("\"%s\" lacks \"%s\"", err.message, words);
    assert_false(sk_path_exists(at("refused/dataset.tsv")));
}

static void mistakes_are_told(void **state)
{
    (void)state;
    sk_compose_options o = asked();
    o.kinds = "small,huge";
    refuses(&o, SK_ERR_ARGUMENT, "kind `huge` is not one of small, dark, cut, night, blur");
    o.kinds = "small,small";
    refuses(&o, SK_ERR_ARGUMENT, "kind `small` is named twice");
    o = asked();
    o.count = 0;
    refuses(&o, SK_ERR_ARGUMENT, "1 to 100000");
    o = asked();
    o.patches = "birds,nowhere:bird";
    refuses(&o, SK_ERR_ARGUMENT, "has no source `nowhere`");
    o.patches = "birds,beasts:beast";
    refuses(&o, SK_ERR_ARGUMENT, "has no source `beasts:beast`");
    o.patches = "birds,,beasts";
    refuses(&o, SK_ERR_ARGUMENT, "has no source ``");
    o.patches = "birds";
    refuses(&o, SK_ERR_ARGUMENT, "patches: `birds` gives no readable nobird picture; name another source");
    o = asked();
    o.grounds = "birds";
    refuses(&o, SK_ERR_ARGUMENT, "grounds: `birds` gives no readable nobird picture");
    o = asked();
    o.grounds = NULL;
    refuses(&o, SK_ERR_ARGUMENT, "no sources of grounds are named");
    o = asked();
    o.ground_split = SK_SPLIT_VAL;
    refuses(&o, SK_ERR_ARGUMENT, "nobird picture of split val");
}

/* Pictures that were trained on, beside others: only when asked for, and then counted. */
static void train_is_not_mixed_silently(void **state)
{
    (void)state;
    sk_compose_options o = asked();
    sk_compose_report report;
    sk_error err;
    o.patches = PATCHES;
    refuses(&o, SK_ERR_ARGUMENT, "4 of the 12 patches are from the training part");
    o.patches = "birds,mixed:nobird";
    o.grounds = "yard,held";
    refuses(&o, SK_ERR_ARGUMENT, "4 of the 8 grounds are from the training part");
    o.ground_split = SK_SPLIT_TEST;
    o.patches = PATCHES;
    o.mix_patches = 1;
    o.count = 8;
    assert_int_equal(compose("mixed", &o, &report, &err), SK_OK);
    assert_int_equal(report.patches[SK_LABEL_NOBIRD][SK_SPLIT_TRAIN], 4);
    assert_int_equal(report.patches[SK_LABEL_NOBIRD][SK_SPLIT_TEST], 4);
    assert_int_equal(report.grounds[SK_SPLIT_TRAIN], 0);
}

static int stop_at_once(void *user)
{
    (void)user;
    return 1;
}

static void stops_and_fails_without_a_table(void **state)
{
    (void)state;
    const sk_hooks stop = {.cancelled = stop_at_once};
    sk_compose_options o = asked();
    sk_error err = {0};
    sk_dataset *set = open_dataset(at("set"));
    assert_int_equal(sk_dataset_compose(set, at("stopped"), &o, &stop, NULL, &err), SK_ERR_CANCELLED);
    assert_false(sk_path_exists(at("stopped/dataset.tsv")));
    o.count = 1;
    o.threads = 1;
    for (long n = 0; n < 12; n++) { /* the disk is full at the n-th write: ten pictures, two tables */
        sk_file_fail_at(n);
        assert_int_equal(sk_dataset_compose(set, at("full"), &o, NULL, NULL, &err), SK_ERR_IO);
        sk_file_fail_at(-1);
        assert_false(sk_path_exists(at("full/dataset.tsv")));
    }
    const long before = sk_memory_live();
    for (long n = 0;; n += 7) {
        sk_memory_fail_at(n, 1);
        const sk_status status = sk_dataset_compose(set, at("memory"), &o, NULL, NULL, &err);
        sk_memory_fail_at(-1, 0);
        assert_int_equal(sk_memory_live(), before);
        if (status == SK_OK)
            break;
        assert_false(sk_path_exists(at("memory/dataset.tsv")));
    }
    sk_dataset_close(set);
}

/* The program: its words, its exit codes. */
static int call(const char *arguments, char *out, size_t size)
{
    const char *program = getenv("SISKIN_PROGRAM");
    char command[1000];
    if (!program)
        skip();
    snprintf(command, sizeof command, "cd '%s' && '%s' compose %s 2>&1", work, program, arguments);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    const size_t n = fread(out, 1, size - 1, pipe);
    out[n] = 0;
    return WEXITSTATUS(pclose(pipe));
}

static void program_from_outside(void **state)
{
    (void)state;
    char out[4000];
    assert_int_equal(call("set -o p --patches birds,beasts --grounds yard -n 2 --kinds dark,night", out,
                          sizeof out), 0);
    assert_non_null(strstr(out, "p: 8 pictures, half with a bird"));
    assert_non_null(strstr(out, "bird patches:   2 test"));
    assert_non_null(strstr(out, "next: siskin eval MODEL p --split test"));
    assert_int_equal(call("set -o p --patches birds,beasts --grounds yard", out, sizeof out), 2);
    assert_non_null(strstr(out, "p/dataset.tsv is there already: choose another folder or remove it"));
    assert_int_equal(call("set -o q --patches " PATCHES " --grounds yard", out, sizeof out), 2);
    assert_non_null(strstr(out, "choose one split, or `any` to mix them"));
    assert_int_equal(call("set -o q --patches " PATCHES " --patches-from any --grounds yard -n 4 --json", out,
                          sizeof out), 0);
    assert_non_null(strstr(out, "\"nobird_patches\":{\"none\":0,\"train\":2,\"val\":0,\"test\":2}"));
    assert_non_null(strstr(out, "flattered"));
    assert_int_equal(call("set -o r --patches birds,beasts --grounds yard --grounds-from half", out, sizeof out), 2);
    assert_non_null(strstr(out, "--grounds-from must be one of train|val|test|any"));
    assert_int_equal(call("nothing -o r --patches birds,beasts --grounds yard", out, sizeof out), 1);
    assert_int_equal(call("set --patches birds,beasts --grounds yard", out, sizeof out), 2);
    assert_int_equal(call("set -o /proc/none/r --patches birds,beasts --grounds yard -n 1", out, sizeof out), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_a_dataset),           cmocka_unit_test(kinds_keep_their_word),
        cmocka_unit_test(same_bytes_for_any_threads), cmocka_unit_test(mistakes_are_told),
        cmocka_unit_test(train_is_not_mixed_silently), cmocka_unit_test(stops_and_fails_without_a_table),
        cmocka_unit_test(program_from_outside),
    };
    return cmocka_run_group_tests(tests, make_set, finish);
}
