/* SPDX-License-Identifier: Apache-2.0 */
/* Sweeps from outside: slips of the pen in a grid, intervals against published values of t, runs with the bytes of runs
 * trained alone, whatever stopped the sweep in between. */
#include <math.h>
#include <signal.h>
#include <sys/wait.h>

#include "formats/json.h"
#include "siskin/sweep.h"
#include "train_help.h"

static char *judge; /* folder of a dataset with a test part, of two sources */

static void make_judge(void) {
    char table[512], picture[600];
    sk_error err = {0};
    judge = in_root("garden");
    assert_int_equal(sk_make_dirs(judge, &err), SK_OK);
    snprintf(table, sizeof table, "%s/table.tsv", judge);
    FILE *file = fopen(table, "w");
    assert_non_null(file);
    fprintf(file, "path\tlabel\tsource\tgroup\trole\tsplit\n");
    for (unsigned i = 0; i < 12; i++) {
        snprintf(picture, sizeof picture, "%s/p%02u.png", judge, i);
        draw(picture, (int)(i % 2), 1000 + i);
        fprintf(file, "p%02u.png\t%s\t%s\tg%u\ttest\ttest\n", i, i % 2 ? "bird" : "nobird",
                i < 8 ? "cam b" : "cam a", i);
    }
    fclose(file);
    const char *inputs[] = {table};
    sk_import_options options = sk_import_defaults();
    sk_import_report report;
    options.birds_per_clip = options.empties_per_clip = 0;
    if (sk_dataset_import(inputs, 1, judge, &options, NULL, &report, &err) != SK_OK) fail_msg("%s", err.message);
}

/* ---- the grid --------------------------------------------------------------------------------------------------- */

static sk_sweep *new_sweep(void) {
    sk_sweep *sweep = NULL;
    assert_int_equal(sk_sweep_create(&sweep, NULL), SK_OK);
    return sweep;
}

static void test_slips(void **unused) {
    (void)unused;
    static const char *const cases[][3] = {{"lrr=1", "", "unknown key 'lrr'; did you mean lr?"},
                                           {"=1", "", "names no key"},
                                           {"lr", "", "no axis of a grid"},
                                           {"lr=", "", "a value of lr is empty"},
                                           {"lr=1e-4,,1e-3", "", "a value of lr is empty"},
                                           {"lr=1e-4, ", "", "a value of lr is empty"},
                                           {"lr=1e-4,0.0001", "", "lr has the value 0.0001 twice"},
                                           {"freeze_bn=yes,true", "", "twice"},
                                           {"recipe=seed,seed", "", "recipe has the value seed twice"},
                                           {"lr=1e-4,fast", "", "lr must be a number"},
                                           {"optimizer=adam,lion", "", "must be one of adam|adamw|sgd"},
                                           {"recipe=seed,none", "", "there is no recipe none"},
                                           {"seed=1,2", "", "see --seeds"},
                                           {"threads=1,2", "", "no axis"},
                                           {"lr=1e-4", "lr=1e-3", "already an axis"},
                                           {"augment.paste=0", "augment-paste=1", "already an axis"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sk_sweep *sweep = new_sweep();
        sk_error err = {0};
        sk_status status = sk_sweep_vary(sweep, cases[i][0], &err);
        if (cases[i][1][0]) {
            assert_int_equal(status, SK_OK);
            status = sk_sweep_vary(sweep, cases[i][1], &err);
        }
        if (status == SK_OK || !strstr(err.message, cases[i][2])) fail_msg("%s: \"%s\"", cases[i][0], err.message);
        sk_sweep_free(sweep);
    }
    sk_sweep *sweep = new_sweep();
    sk_error err = {0};
    assert_int_equal(sk_sweep_fix(sweep, "lr", "1e-3", &err), SK_OK);
    assert_int_equal(sk_sweep_vary(sweep, "lr=1,2", &err), SK_ERR_ARGUMENT);
    assert_int_equal(sk_sweep_fix(sweep, "lr", "1e-2", &err), SK_ERR_ARGUMENT);
    assert_int_equal(sk_sweep_seeds(sweep, 0, &err), SK_ERR_ARGUMENT);
    sk_sweep_free(sweep);
}

static void test_grid_file(void **unused) {
    (void)unused;
    static const char good[] = "# mine\n\n lr = 1e-4 , 1e-3 # two\nrecipe=seed,feeder\r\n";
    static const char bad[] = "lr = 1e-4\nepochs = 3, x\n";
    char *path = in_root("grid.txt");
    sk_error err = {0};
    sk_sweep *sweep = new_sweep();
    assert_int_equal(sk_file_write(path, good, sizeof good - 1, NULL), SK_OK);
    if (sk_sweep_vary_file(sweep, path, &err) != SK_OK) fail_msg("%s", err.message);
    assert_int_equal(sk_sweep_vary(sweep, "lr=1", &err), SK_ERR_ARGUMENT);
    assert_int_equal(sk_sweep_vary(sweep, "recipe=seed", &err), SK_ERR_ARGUMENT);
    sk_sweep_free(sweep);
    sweep = new_sweep();
    assert_int_equal(sk_file_write(path, bad, sizeof bad - 1, NULL), SK_OK);
    assert_int_equal(sk_sweep_vary_file(sweep, path, &err), SK_ERR_FORMAT);
    assert_non_null(strstr(err.message, "grid.txt:2: epochs must be a whole number"));
    sk_sweep_free(sweep);
    sweep = new_sweep();
    assert_int_equal(sk_sweep_vary_file(sweep, "/nowhere/grid.txt", &err), SK_ERR_IO);
    sk_sweep_free(sweep);
    sk_free(path);
}

/* ---- intervals -------------------------------------------------------------------------------------------------- */

/* t of 0.975: the table of Student's distribution in the NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.2. */
static void test_student(void **unused) {
    (void)unused;
    static const struct {
        size_t degrees;
        double t;
    } table[] = {{1, 12.706}, {2, 4.303}, {3, 3.182}, {4, 2.776},   {5, 2.571},   {9, 2.262},
                 {10, 2.228}, {19, 2.093}, {30, 2.042}, {60, 2.000}, {100, 1.984}, {999, 1.962}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        assert_true(fabs(sk_student_t(table[i].degrees) - table[i].t) < .00051);
    assert_true(isnan(sk_student_t(0)));
}

/* By hand: the mean is .93, the squares .0009 + .0001 + .0016, the deviation their half's root, .0360555; half the
 * interval is 4.302653 * .0360555 / sqrt(3) = .089567. */
static void test_summary(void **unused) {
    (void)unused;
    const double values[] = {.90, NAN, .92, .97}, none[] = {NAN};
    const sk_summary s = sk_summarise(values, 4), one = sk_summarise(values, 1), empty = sk_summarise(none, 1);
    assert_int_equal(s.n, 3);
    assert_true(fabs(s.mean - .93) < 1e-12 && fabs(s.sd - .0360555) < 1e-6);
    assert_true(fabs(s.low - (.93 - .089567)) < 1e-5 && fabs(s.high - (.93 + .089567)) < 1e-5);
    assert_true(one.n == 1 && one.mean == .90 && isnan(one.sd) && isnan(one.low));
    assert_true(empty.n == 0 && isnan(empty.mean));
}

/* Two seeds at .3 and .6: the half of the interval is 12.706 * .15, so both ends would lie where no share can; a loss
 * has no upper end. */
static void test_possible(void **unused) {
    (void)unused;
    const double values[] = {.3, .6};
    const sk_summary share = sk_summarise_measure(values, 2, SK_MEASURE_SHARE),
                     loss = sk_summarise_measure(values, 2, SK_MEASURE_LOSS),
                     one = sk_summarise_measure(values, 1, SK_MEASURE_AREA);
    assert_true(share.low == 0 && share.high == 1 && fabs(share.mean - .45) < 1e-12);
    assert_true(loss.low == 0 && fabs(loss.high - (.45 + 12.7062 * .15)) < 1e-4);
    assert_true(isnan(one.low) && isnan(one.high));
}

/* ---- runs -------------------------------------------------------------------------------------------------------- */

static const char *const fixed[][2] = {{"recipe", "seed"}, {"size", "32"},  {"epochs", "2"},
                                       {"batch", "10"},    {"seed", "5"},   {"threads", "2"}};

/* Two rates, two seeds. */
static sk_sweep *small_sweep(void) {
    sk_sweep *sweep = new_sweep();
    sk_error err = {0};
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
        if (sk_sweep_fix(sweep, fixed[i][0], fixed[i][1], &err) != SK_OK) fail_msg("%s", err.message);
    assert_int_equal(sk_sweep_vary(sweep, "lr=1e-3,2e-3", &err), SK_OK);
    assert_int_equal(sk_sweep_seeds(sweep, 2, &err), SK_OK);
    assert_int_equal(sk_sweep_judge(sweep, judge, &err), SK_OK);
    return sweep;
}

static sk_status run_sweep(const char *name, int jobs, const sk_hooks *hooks, sk_error *err) {
    char *dir = in_root(name), *data = in_root("paint");
    sk_sweep *sweep = small_sweep();
    sk_status status = sk_sweep_run(sweep, data, dir, jobs, hooks, err);
    if (status == SK_OK) status = sk_sweep_write(sweep, dir, err);
    sk_sweep_free(sweep);
    sk_free(dir);
    sk_free(data);
    return status;
}

static const char *const run_names[] = {"lr=1e-3-seed5", "lr=1e-3-seed6", "lr=2e-3-seed5", "lr=2e-3-seed6"};

/* All but the column of seconds. */
static void assert_same_table(const char *a, const char *b) {
    size_t size = 0;
    char *text[2] = {(char *)slurp(a, "sweep.tsv", &size), (char *)slurp(b, "sweep.tsv", &size)}, *save[2], *cell[2];
    int at[2] = {0};
    cell[0] = strtok_r(text[0], "\t", &save[0]);
    cell[1] = strtok_r(text[1], "\t", &save[1]);
    for (int n = 0; cell[0] && cell[1]; n++) {
        /* run lr seed state epochs_run best_epoch val_accuracy val_loss seconds ... */
        if (n % 14 != 8) assert_string_equal(cell[0], cell[1]);
        cell[0] = strtok_r(NULL, "\t", &save[0]);
        cell[1] = strtok_r(NULL, "\t", &save[1]);
        at[0]++;
    }
    assert_true(!cell[0] && !cell[1] && at[0] > 4 * 13);
    sk_free(text[0]);
    sk_free(text[1]);
}

static void assert_same_sweep(const char *a, const char *b) {
    for (int i = 0; i < 4; i++) {
        char x[128], y[128];
        snprintf(x, sizeof x, "%s/%s", a, run_names[i]);
        snprintf(y, sizeof y, "%s/%s", b, run_names[i]);
        assert_same_run(x, y);
    }
    assert_same_table(a, b);
}

static void test_as_alone(void **unused) {
    (void)unused;
    sk_error err = {0};
    if (run_sweep("sweep", 1, NULL, &err) != SK_OK) fail_msg("%s", err.message);
    for (int i = 0; i < 4; i++) {
        sk_train_options o = sk_train_defaults(SK_ARCH_V3_SMALL);
        char name[64];
        assert_int_equal(sk_recipe_read("seed", &o, &err), SK_OK);
        o.card.size = 32;
        o.epochs = 2;
        o.batch = 10;
        o.lr = i < 2 ? 1e-3f : 2e-3f;
        o.seed = 5 + (uint64_t)(i % 2);
        o.threads = 1;
        snprintf(name, sizeof name, "sweep/%s", run_names[i]);
        train(paint, "alone", &o);
        assert_same_run("alone", name);
        char *alone = in_root("alone");
        remove_tree(alone);
        sk_free(alone);
    }
    if (run_sweep("many", 200, NULL, &err) != SK_OK) fail_msg("%s", err.message);
    assert_same_sweep("sweep", "many");
}

/* Number `column` of a row of sweep.tsv. */
static double cell(const char *row, int column) {
    for (; column; column--) row = strchr(row, '\t') + 1;
    return strtod(row, NULL);
}

static void test_tables(void **unused) {
    (void)unused;
    static const char head[] = "run\tlr\tseed\tstate\tepochs_run\tbest_epoch\tval_accuracy\tval_loss\tseconds\t"
                               "garden.accuracy\tgarden.roc_area\tgarden.loss\tgarden.source.cam a\t"
                               "garden.source.cam b\terror\n";
    size_t size = 0;
    char *table = (char *)slurp("sweep", "sweep.tsv", &size);
    assert_memory_equal(table, head, sizeof head - 1);
    const char *row = table + sizeof head - 1;
    cJSON *json = NULL;
    char *path = in_root("sweep/sweep.json");
    assert_int_equal(sk_json_read(path, &json, NULL), SK_OK);
    const cJSON *configs = cJSON_GetObjectItem(json, "configurations"), *runs = cJSON_GetObjectItem(json, "runs");
    assert_int_equal(cJSON_GetArraySize(configs), 2);
    assert_int_equal(cJSON_GetArraySize(runs), 4);
    double sum = 0, values[2];
    for (int i = 0; i < 4; i++) {
        /* 8 of one camera, 4 of the other: the whole is their weighted mean. */
        assert_true(fabs(cell(row, 9) - (4 * cell(row, 12) + 8 * cell(row, 13)) / 12) < 1e-6);
        assert_int_equal((int)cell(row, 4), 2);
        if (i < 2) sum += values[i] = cell(row, 11);
        row = strchr(row, '\n') + 1;
    }
    assert_int_equal(*row, 0);
    const cJSON *loss = cJSON_GetObjectItem(
        cJSON_GetObjectItem(cJSON_GetArrayItem(configs, 0), "measures"), "garden.loss");
    assert_true(fabs(cJSON_GetObjectItem(loss, "mean")->valuedouble - sum / 2) < 1e-6);
    /* Of two values: the deviation is their distance by the root of two, half the interval 12.7062 times its half. */
    const double half = 12.7062 * fabs(values[0] - values[1]) / 2;
    assert_true(fabs(cJSON_GetObjectItem(loss, "high")->valuedouble - sum / 2 - half) < 1e-4 * half + 1e-7);
    cJSON_Delete(json);
    sk_free(path);
    sk_free(table);
    static const char *const files[] = {"sweep.png", "sweep.svg", "sweep_sources.png", "sweep_sources.svg",
                                        "sweep.html", "lr=1e-3-seed5/curves.png"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        sk_free(slurp("sweep", files[i], &size));
        assert_true(size > 1000);
    }
}

/* ---- what can come between ------------------------------------------------------------------------------------- */

typedef struct stopper {
    int left;
    uint64_t seen, planned;
} stopper;
static int stop_soon(void *user) { return ((stopper *)user)->left-- <= 0; }
static void see(void *user, const char *stage, const char *unit, uint64_t done, uint64_t total) {
    stopper *s = user;
    (void)unit;
    if (strcmp(stage, "sweep") != 0) return;
    assert_true(done <= total);
    s->seen = done;
    s->planned = total;
}

static void test_stop(void **unused) {
    (void)unused;
    int stops = 0;
    sk_status status = SK_ERR_CANCELLED;
    for (int n = 0; n < 200 && status != SK_OK; n++) {
        stopper user = {.left = 1 + n / 2};
        const sk_hooks hooks = {.user = &user, .cancelled = stop_soon, .progress = see};
        sk_error err = {0};
        status = run_sweep("stopped", 1 + n % 2, &hooks, &err);
        if (status == SK_OK) {
            assert_int_equal(user.seen, user.planned);
            break;
        }
        if (status != SK_ERR_CANCELLED) fail_msg("%s", err.message);
        assert_non_null(strstr(err.message, "of 4 runs; the same call goes on"));
        stops++;
    }
    assert_int_equal(status, SK_OK);
    assert_true(stops > 0);
    assert_same_sweep("sweep", "stopped");
    /* Once more: nothing is trained again. */
    stopper user = {.left = 1 << 20};
    const sk_hooks hooks = {.user = &user, .cancelled = stop_soon, .progress = see};
    assert_int_equal(run_sweep("stopped", 1, &hooks, NULL), SK_OK);
    assert_int_equal(user.planned, 4 * 12); /* the pictures of the garden alone */
    assert_same_sweep("sweep", "stopped");
}

static void test_kill(void **unused) {
    (void)unused;
    unsigned wait_us = 60000;
    int done = 0, kills = 0;
    for (int n = 0; n < 100 && !done; n++) {
        const pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            execl("/proc/self/exe", "test_sweep", "--child", root, (char *)NULL);
            _exit(3);
        }
        usleep(wait_us);
        wait_us += wait_us / 3;
        kill(pid, SIGKILL);
        int how = 0;
        assert_int_equal(waitpid(pid, &how, 0), pid);
        kills += WIFSIGNALED(how) != 0;
        done = WIFEXITED(how);
        if (done) assert_int_equal(WEXITSTATUS(how), 0);
    }
    assert_true(done && kills > 1);
    assert_same_sweep("sweep", "killed");
}

static void test_full_disk(void **unused) {
    (void)unused;
    int failures = 0;
    for (long n = 0;; n += 1 + n / 3) {
        sk_error err = {0};
        sk_file_fail_at(n);
        const sk_status status = run_sweep("full", 1 + (int)(n % 2), NULL, &err);
        sk_file_fail_at(-1);
        if (status == SK_OK) break;
        if (status != SK_ERR_IO || !strstr(err.message, "No space left")) fail_msg("%d: %s", status, err.message);
        failures++;
    }
    assert_true(failures > 5);
    assert_same_sweep("sweep", "full");
}

static void test_no_memory(void **unused) {
    (void)unused;
    sk_status status = SK_ERR_MEMORY;
    int failures = 0;
    for (long n = 0; status != SK_OK; n += 1 + n / 2) {
        sk_error err = {0};
        sk_sweep *sweep = small_sweep();
        char *dir = in_root("starved"), *data = in_root("paint");
        const long live = sk_memory_live();
        sk_memory_fail_at(n, 0);
        status = sk_sweep_run(sweep, data, dir, 1, NULL, &err);
        if (status == SK_OK) status = sk_sweep_write(sweep, dir, &err);
        sk_memory_fail_at(-1, 0);
        sk_sweep_free(sweep);
        assert_true(sk_memory_live() < live);
        if (status != SK_OK && status != SK_ERR_MEMORY) fail_msg("%d: %s", status, err.message);
        failures += status != SK_OK;
        sk_free(dir);
        sk_free(data);
    }
    assert_true(failures > 5);
}

/* ---- outcomes that are none -------------------------------------------------------------------------------------- */

static char told[4096];
static void keep_warning(void *user, sk_log_level level, const char *text) {
    (void)user;
    if (level == SK_LOG_WARNING) snprintf(told, sizeof told, "%s", text);
}

static void test_diverging(void **unused) {
    (void)unused;
    const sk_hooks hooks = {.log = keep_warning};
    for (int all = 0; all < 2; all++) {
        sk_sweep *sweep = new_sweep();
        sk_error err = {0};
        char *dir = in_root(all ? "hopeless" : "mixed"), *data = in_root("paint");
        size_t done, failed, total;
        for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
            assert_int_equal(sk_sweep_fix(sweep, fixed[i][0], fixed[i][1], &err), SK_OK);
        assert_int_equal(sk_sweep_vary(sweep, all ? "lr=900,1000" : "lr=1000,1e-3", &err), SK_OK);
        assert_int_equal(sk_sweep_seeds(sweep, 1, &err), SK_OK);
        const sk_status status = sk_sweep_run(sweep, data, dir, 1, &hooks, &err);
        sk_sweep_counts(sweep, &done, &failed, &total);
        assert_int_equal(total, 2);
        assert_int_equal(failed, all ? 2 : 1);
        assert_int_equal(status, all ? SK_ERR_DATA : SK_OK);
        if (all) assert_non_null(strstr(err.message, "every run has failed, the first with: epoch 1"));
        assert_non_null(strstr(told, "seed5: epoch 1"));
        if (!all) {
            size_t size = 0;
            char *table = (char *)slurp("mixed", "sweep.tsv", &size);
            assert_non_null(strstr(table, "lr=1000-seed5\t1000\t5\tfailed\t"));
            assert_non_null(strstr(table, "lr=1e-3-seed5\t1e-3\t5\tdone\t"));
            assert_int_equal(sk_sweep_summary(sweep, 0, 0).n, 0);
            assert_int_equal(sk_sweep_summary(sweep, 1, 0).n, 1);
            assert_int_equal(sk_sweep_write(sweep, dir, &err), SK_OK);
            sk_free(table);
        }
        sk_sweep_free(sweep);
        sk_free(dir);
        sk_free(data);
    }
}

static void refused(const char *axis, const char *judged, const char *dir_name, const char *data_name, sk_status code,
                    const char *part) {
    sk_sweep *sweep = new_sweep();
    sk_error err = {0};
    char *dir = in_root(dir_name), *data = in_root(data_name);
    sk_status status = SK_OK;
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
        if (strncmp(axis, fixed[i][0], strlen(fixed[i][0])) != 0)
            assert_int_equal(sk_sweep_fix(sweep, fixed[i][0], fixed[i][1], &err), SK_OK);
    assert_int_equal(sk_sweep_vary(sweep, axis, &err), SK_OK);
    if (judged) status = sk_sweep_judge(sweep, judged, &err);
    if (status == SK_OK) status = sk_sweep_run(sweep, data, dir, 1, NULL, &err);
    if (status != code || !strstr(err.message, part)) fail_msg("%s: %d, \"%s\"", axis, status, err.message);
    sk_sweep_free(sweep);
    sk_free(dir);
    sk_free(data);
}

static void test_refused(void **unused) {
    (void)unused;
    char *paint_dir = in_root("paint");
    refused("warmup=0,50", NULL, "x", "paint", SK_ERR_ARGUMENT, "warmup=50: --warmup of 50 epochs is longer");
    refused("batch=10,1000", NULL, "x", "paint", SK_ERR_ARGUMENT, "at most --batch 48");
    refused("dropout=0", paint_dir, "x", "paint", SK_ERR_DATA, "it cannot judge");
    refused("dropout=0", "/nowhere/else", "x", "paint", SK_ERR_IO, "/nowhere/else");
    refused("dropout=0", NULL, "x", "nothing", SK_ERR_IO, "nothing");
    /* A run of that name with other options. */
    sk_train_options o = small_options();
    train(paint, "y/lr=1e-3-seed5", &o);
    refused("lr=1e-3", NULL, "y", "paint", SK_ERR_MISMATCH, "lr=1e-3-seed5: cannot resume");
    sk_free(paint_dir);
}

static int child(const char *folder) {
    sk_error err = {0};
    snprintf(root, sizeof root, "%s", folder);
    judge = in_root("garden");
    return run_sweep("killed", 2, NULL, &err) == SK_OK ? 0 : 1;
}

static int start(void **state) {
    if (setup(state)) return 1;
    make_judge();
    return 0;
}

static int finish(void **state) {
    sk_free(judge);
    return teardown(state);
}

int main(int argc, char **argv) {
    if (argc == 3 && !strcmp(argv[1], "--child")) return child(argv[2]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slips), cmocka_unit_test(test_grid_file), cmocka_unit_test(test_student),
        cmocka_unit_test(test_summary), cmocka_unit_test(test_possible), cmocka_unit_test(test_as_alone),
        cmocka_unit_test(test_tables), cmocka_unit_test(test_stop), cmocka_unit_test(test_kill),
        cmocka_unit_test(test_full_disk), cmocka_unit_test(test_no_memory), cmocka_unit_test(test_diverging),
        cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests_name("sweep", tests, start, finish);
}
