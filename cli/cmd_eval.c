/* SPDX-License-Identifier: Apache-2.0 */
/* siskin eval: a model over a split of a dataset; figures and tables on stdout, or one JSON document, and a folder with
 * the report. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "siskin/report.h"
#include "siskin/rknn.h"

static const cli_option options[] = {
    {'s', "split", CLI_CHOICE, "PART", "test", "part of the dataset to judge", .choices = "train|val|test"},
    {0, "crops", CLI_CHOICE, "RULE", NULL, "crops per picture; the model's own rule if not given",
     .choices = "1|3|squeeze"},
    {0, "threshold", CLI_DOUBLE, "P", NULL, "p of the centre crop that says bird; the model's own if not given",
     .least = 0.000001, .most = 0.999999},
    {0, "penalty", CLI_DOUBLE, "P", NULL, "p that a side crop must reach; the model's own if not given",
     .least = 0.000001, .most = 1},
    {0, "backend", CLI_CHOICE, "NAME", "own", "who computes: siskin, or the int8 simulator of Rockchip's toolkit",
     .choices = "own|rknn-sim|rknn-board"},
    {0, "device", CLI_STRING, "SERIAL", NULL, "rknn-board: which board, if several are connected"},
    {'a', "algorithm", CLI_CHOICE, "NAME", "mmse", "rknn: range of activations",
     .choices = "normal|mmse|kl_divergence"},
    {0, "method", CLI_CHOICE, "NAME", "channel", "rknn: scale of weights per channel or per layer",
     .choices = "channel|layer"},
    {0, "equalise", CLI_FLAG, NULL, NULL, "rknn: as of siskin export"},
    {0, "refine", CLI_FLAG, NULL, NULL, "rknn: as of siskin export"},
    {'c', "calibration", CLI_STRING, "DATASET2", NULL, "rknn: dataset of the calibration pictures, else DATASET"},
    {'n', "pictures", CLI_INT, "N", "100", "rknn: calibration pictures drawn", .least = 1, .most = 9999},
    {0, "toolkit", CLI_STRING, "DIR", NULL, "rknn: folder of `siskin rknn setup`"},
    {0, "compare", CLI_STRING, "MODEL2", NULL, "second model over the same pictures, e.g. the int8 one"},
    {'o', "output", CLI_STRING, "DIR", NULL, "folder for report.html, evaluation.json and the figures"},
    {0, "saliency", CLI_INT, "N", NULL, "show what the model looked at: N certain, N uncertain and the wrong pictures",
     .least = 1, .most = 200},
    {0, "saliency-method", CLI_CHOICE, "NAME", "auto", "auto: cam for float models, occlusion for int8",
     .choices = "auto|cam|occlusion"},
    {0, "shortcuts", CLI_FLAG, NULL, NULL, "judge again with frames, camera text, less resolution and no colour"},
    {0, "perplexity", CLI_DOUBLE, "P", "30", "of the t-SNE map", .least = 1, .most = 1000},
    {0, "iterations", CLI_INT, "N", "1000", "of the t-SNE map", .least = 1, .most = 100000},
    {0, "seed", CLI_INT, "N", "0", "of the t-SNE map", .least = 0, .most = 9e15},
    CLI_MAX_BAD("pictures"),
    CLI_THREADS,
    {0}};

typedef struct work {
    sk_dataset *dataset;
    sk_cache *cache;
    sk_classifier *model, *other_model;
    sk_evaluation *evaluation, *other;
    sk_looks *looks;
    sk_shortcut shortcuts[SK_SHORTCUT_COUNT];
    sk_eval_options eval;
    sk_report_options report;
    int simulated;
    char run[4096], label[4200];
} work;

/* ---- text -------------------------------------------------------------------------------------------------------- */

static const char *percent(char text[32], double value) {
    if (isfinite(value)) snprintf(text, 32, "%.2f %%", value * 100);
    else snprintf(text, 32, "-");
    return text;
}

static const char *fraction(char text[32], double value) {
    if (isfinite(value)) snprintf(text, 32, "%.4f", value);
    else snprintf(text, 32, "-");
    return text;
}

static void print_metrics(const sk_metrics *m) {
    char a[32], b[32], c[32], d[32];
    const size_t right = m->confusion[0][0] + m->confusion[1][1];
    printf("%saccuracy   %s%s   95 %% interval %.2f - %.2f %%   (%zu of %zu)\n", cli_color(stdout, "bold"),
           percent(a, m->accuracy), cli_color(stdout, "reset"), m->accuracy_low * 100, m->accuracy_high * 100, right,
           m->n);
    printf("precision  %s   recall %s   F1 %s   ROC area %s\n\n", percent(a, m->precision), percent(b, m->recall),
           fraction(c, m->f1), fraction(d, m->roc_area));
    printf("%-16s %12s %12s\n", "label \\ verdict", "no bird", "bird");
    printf("%-16s %12zu %12zu\n", "no bird", m->confusion[0][0], m->confusion[0][1]);
    printf("%-16s %12zu %12zu\n", "bird", m->confusion[1][0], m->confusion[1][1]);
}

static void print_calibration(const work *w) {
    const double temperature = (double)sk_classifier_card(w->model)->temperature;
    const sk_calibration now = sk_evaluation_calibration(w->evaluation, 1);
    printf("\ncalibration of p, 15 bins: ECE %.4f   NLL %.4f   Brier %.4f   temperature %.4g\n", now.ece, now.nll,
           now.brier, temperature);
    if (temperature < 1 || temperature > 1) {
        const sk_calibration raw = sk_evaluation_calibration(w->evaluation, temperature);
        printf("without the temperature:    ECE %.4f   NLL %.4f   Brier %.4f\n", raw.ece, raw.nll, raw.brier);
    }
}

static void print_looks(const sk_looks *looks) {
    int width = 10;
    for (size_t i = 0; i < looks->row_count; i++) {
        const int length = (int)strlen(looks->rows[i].source);
        if (length > width) width = length < 48 ? length : 48;
    }
    printf("\nsaliency by %s: share of it in the outer %.0f %% of the sides (%.1f %% if it were even)\n",
           sk_saliency_method_name(looks->method), SK_BORDER * 100, SK_BORDER_AREA * 100);
    printf("%-*s %-8s %8s %9s\n", width, "source", "label", "pictures", "border");
    for (size_t i = 0; i < looks->row_count; i++) {
        char a[32];
        printf("%-*s %-8s %8zu %9s\n", width, looks->rows[i].source,
               looks->rows[i].label == SK_LABEL_BIRD ? "bird" : "no bird", looks->rows[i].n,
               percent(a, looks->rows[i].share));
    }
}

static void print_shortcuts(const sk_shortcut *shortcuts) {
    printf("\n%-18s %-26s %-26s\n", "shortcuts", "no bird: changed, p moves", "bird: changed, p moves");
    for (int i = 0; i < SK_SHORTCUT_COUNT; i++) {
        printf("%-18s", shortcuts[i].name);
        for (int label = 0; label < SK_CLASS_COUNT; label++) {
            const size_t n = shortcuts[i].n[label];
            if (n)
                printf(" %5zu %6.1f %%  %+.3f   ", shortcuts[i].flips[label],
                       100. * (double)shortcuts[i].flips[label] / (double)n, shortcuts[i].mean_dp[label]);
            else printf(" %-26s", "-");
        }
        printf("\n");
    }
}

/* Sources and labels down, changes across. */
static void print_shortcut_rows(const sk_shortcut *shortcuts) {
    int width = 10;
    for (size_t k = 0; k < shortcuts[0].row_count; k++) {
        const int length = (int)strlen(shortcuts[0].rows[k].source);
        if (length > width) width = length < 48 ? length : 48;
    }
    printf("\nverdicts changed, %%\n%-*s %-8s %8s", width, "source", "label", "pictures");
    for (int i = 0; i < SK_SHORTCUT_COUNT; i++) printf(" %16s", shortcuts[i].name);
    printf("\n");
    for (size_t k = 0; k < shortcuts[0].row_count; k++) {
        const sk_shortcut_row *first = &shortcuts[0].rows[k];
        printf("%-*s %-8s %8zu", width, first->source, first->label == SK_LABEL_BIRD ? "bird" : "no bird", first->n);
        for (int i = 0; i < SK_SHORTCUT_COUNT; i++)
            printf(" %16.1f", 100. * (double)shortcuts[i].rows[k].flips / (double)first->n);
        printf("\n");
    }
}

static int print_slices(cli *c, const sk_evaluation *evaluation, int by_group, sk_error *err) {
    sk_slice *slices = NULL;
    size_t count = 0;
    if (sk_evaluation_slices(evaluation, by_group, &slices, &count, err) != SK_OK) return cli_fail(c, err);
    int width = 10;
    for (size_t i = 0; i < count; i++) {
        const int length = (int)strlen(slices[i].name);
        if (length > width) width = length < 48 ? length : 48;
    }
    printf("\n%-*s %8s %7s %9s   %-16s %7s %7s %8s\n", width, by_group ? "group" : "source", "pictures", "birds",
           "accuracy", "95 % interval", "missed", "alarms", "ROC area");
    for (size_t i = 0; i < count; i++) {
        const sk_metrics *m = &slices[i].metrics;
        char a[32], b[32], interval[32];
        snprintf(interval, sizeof interval, "%.1f - %.1f %%", m->accuracy_low * 100, m->accuracy_high * 100);
        printf("%-*s %8zu %7zu %9s   %-16s %7zu %7zu %8s\n", width, slices[i].name, m->n,
               m->confusion[1][0] + m->confusion[1][1], percent(a, m->accuracy), interval, m->confusion[1][0],
               m->confusion[0][1], fraction(b, m->roc_area));
    }
    sk_slices_free(slices);
    return CLI_OK;
}

static void print_error(const sk_outcome *o, const sk_sample *s) {
    printf("  %-7s p %.3f", s->label == SK_LABEL_BIRD ? "bird" : "no bird", (double)o->verdict.p[0]);
    for (int k = 1; k < o->verdict.crops; k++) printf(" %.3f", (double)o->verdict.p[k]);
    printf("  %s", s->path);
    if (s->frame >= 0) printf(" frame %lld", (long long)s->frame);
    printf("\n");
}

/* The most certain errors first: they are the ones to look at. */
static int print_wrong(cli *c, const work *w, sk_error *err) {
    size_t *list = NULL, count = 0;
    if (sk_evaluation_wrong(w->evaluation, &list, &count, err) != SK_OK) return cli_fail(c, err);
    printf("\nwrong pictures: %zu\n", count);
    for (size_t i = 0; i < count; i++) {
        const sk_outcome *o = sk_evaluation_outcome(w->evaluation, list[i]);
        print_error(o, sk_dataset_sample(w->dataset, o->sample));
    }
    sk_wrong_free(list);
    return CLI_OK;
}

static void print_compared(const sk_comparison *d, const char *name, int width) {
    char a[32], interval[48];
    snprintf(interval, sizeof interval, "%+.2f to %+.2f", d->difference_low * 100, d->difference_high * 100);
    printf("%-*s %8zu %+8.2f   %-18s %6zu %9s %9.2g %9.2g", width, name, d->n, d->accuracy_difference * 100, interval,
           d->flips, percent(a, d->flip_rate), d->mean_dp, d->max_dp);
    if (isfinite(d->mean_cosine)) printf(" %9.5f %9.5f", d->mean_cosine, d->least_cosine);
    printf("\n");
}

static int print_comparison(cli *c, const sk_evaluation *first, const sk_evaluation *second, const char *name,
                            sk_error *err) {
    sk_comparison d;
    sk_compared_source *sources = NULL;
    size_t count = 0;
    if (sk_evaluation_compare(first, second, &d, err) != SK_OK ||
        sk_evaluation_compare_sources(first, second, &sources, &count, err) != SK_OK)
        return cli_fail(c, err);
    const sk_metrics m = sk_evaluation_metrics(second);
    printf("\ncompared with %s\n", name);
    print_metrics(&m);
    printf("\naccuracy %+.2f points, 95 %% interval over pairs %+.2f to %+.2f; only the first is right on %zu, only "
           "the second on %zu, McNemar's exact test p %.4g\n\n",
           d.accuracy_difference * 100, d.difference_low * 100, d.difference_high * 100, d.only_first, d.only_second,
           d.mcnemar_p);
    int width = 10;
    for (size_t i = 0; i < count; i++) {
        const int length = (int)strlen(sources[i].name);
        if (length > width) width = length < 48 ? length : 48;
    }
    printf("%-*s %8s %8s   %-18s %6s %9s %9s %9s%s\n", width, "source", "pictures", "points", "95 % interval", "flips",
           "of them", "mean dp", "max dp", isfinite(d.mean_cosine) ? " mean cos. least cos." : "");
    for (size_t i = 0; i < count; i++) print_compared(&sources[i].comparison, sources[i].name, width);
    print_compared(&d, "all", width);
    sk_compared_free(sources);
    return CLI_OK;
}

/* ---- work -------------------------------------------------------------------------------------------------------- */

static void finish(work *w) {
    sk_looks_free(w->looks);
    sk_shortcuts_free(w->shortcuts);
    sk_evaluation_free(w->evaluation);
    sk_evaluation_free(w->other);
    sk_classifier_close(w->model);
    sk_classifier_close(w->other_model);
    sk_cache_close(w->cache);
    sk_dataset_close(w->dataset);
}

/* MODEL itself or the folder around it, if there is a log of a training run. */
static const char *run_of(const char *model, char *out, size_t size) {
    char log[4200];
    for (int up = 0; up < 2; up++) {
        snprintf(out, size, "%s", model);
        char *slash = strrchr(out, '/');
        if (up && slash) *slash = 0;
        else if (up) snprintf(out, size, ".");
        snprintf(log, sizeof log, "%s/log.tsv", out);
        FILE *file = fopen(log, "r");
        if (file) {
            fclose(file);
            return out;
        }
    }
    return NULL;
}

/* What the command line says, else what the model's card says. */
static sk_status choose(cli *c, work *w, sk_error *err) {
    const sk_card *card = sk_classifier_card(w->model);
    sk_eval_options *e = &w->eval;
    e->crops = (sk_crops)card->crops;
    e->threshold = cli_given(c, "threshold") ? (float)cli_double(c, "threshold") : card->threshold;
    e->penalty = cli_given(c, "penalty") ? (float)cli_double(c, "penalty") : card->penalty;
    e->threads = (int)cli_int(c, "threads");
    e->max_bad = (int)cli_int(c, "max-bad");
    e->with_features = cli_given(c, "output") || cli_given(c, "compare");
    w->report.tsne = sk_tsne_defaults();
    w->report.tsne.perplexity = cli_double(c, "perplexity");
    w->report.tsne.iterations = (int)cli_int(c, "iterations");
    w->report.tsne.seed = (uint64_t)cli_int(c, "seed");
    w->report.tsne.threads = e->threads;
    const sk_status status = cli_given(c, "crops") ? sk_crops_parse(cli_string(c, "crops"), &e->crops, err) : SK_OK;
    return status ? status : sk_split_parse(cli_string(c, "split"), &e->split, err);
}

static sk_status test_shortcuts(cli *c, work *w, sk_error *err) {
    if (!cli_flag(c, "shortcuts")) return SK_OK;
    w->report.shortcuts = w->shortcuts;
    return sk_evaluation_shortcuts(w->evaluation, w->model, w->cache, cli_hooks(c), w->shortcuts, err);
}

static sk_status look(cli *c, work *w, sk_error *err) {
    sk_saliency_method method;
    if (!cli_given(c, "saliency")) return SK_OK;
    sk_status status = sk_saliency_method_parse(cli_string(c, "saliency-method"), &method, err);
    if (!status)
        status = sk_evaluation_looks(w->evaluation, w->model, w->cache, method, (size_t)cli_int(c, "saliency"),
                                     cli_hooks(c), &w->looks, err);
    w->report.looks = w->looks;
    return status;
}

/* Puts the simulator in the place of the float model that was opened. */
static sk_status simulate(cli *c, work *w, sk_error *err) {
    const char *other = cli_string(c, "calibration");
    sk_rknn_options o = sk_rknn_defaults();
    sk_dataset *dataset = NULL;
    sk_cache *cache = NULL;
    sk_classifier *simulator = NULL;
    size_t bad = 0;
    o.toolkit = cli_string(c, "toolkit");
    o.by_layer = cli_string(c, "method")[0] == 'l';
    o.equalise = cli_flag(c, "equalise");
    o.refine = cli_flag(c, "refine");
    o.threads = w->eval.threads;
    if (strcmp(cli_string(c, "backend"), "rknn-board") == 0)
        o.board = cli_given(c, "device") ? cli_string(c, "device") : "";
    o.pictures = (int)cli_int(c, "pictures");
    sk_status status = sk_rknn_algorithm_parse(cli_string(c, "algorithm"), &o.algorithm, err);
    if (!status && other) status = sk_dataset_open(other, &dataset, err);
    if (!status && other)
        status = sk_cache_open(dataset, w->eval.max_bad, w->eval.threads, cli_hooks(c), &cache, &bad, err);
    if (!status)
        status = sk_rknn_simulate(sk_classifier_model(w->model), other ? dataset : w->dataset, other ? cache : w->cache,
                                  &o, cli_hooks(c), &simulator, err);
    sk_cache_close(cache);
    sk_dataset_close(dataset);
    if (status) return status;
    sk_classifier_close(w->model);
    w->model = simulator;
    snprintf(w->label, sizeof w->label, "%s in %s (%s, %s, %s%s%d pictures)", cli_arg(c, 0), cli_string(c, "backend"),
             cli_string(c, "algorithm"), cli_string(c, "method"), o.equalise ? "equalised, " : "",
             o.refine ? "refined, " : "", o.pictures);
    return SK_OK;
}

static sk_status evaluate(cli *c, work *w, sk_error *err) {
    const sk_hooks *hooks = cli_hooks(c);
    const char *model = cli_arg(c, 0), *second = cli_string(c, "compare");
    size_t bad = 0;
    sk_status status = sk_classifier_open(model, &w->model, err);
    if (!status && w->simulated && !sk_classifier_model(w->model)) {
        err->code = status = SK_ERR_UNSUPPORTED;
        snprintf(err->message, sizeof err->message, "%.300s is int8 already: the simulator needs the float model",
                 model);
    }
    if (!status && second) status = sk_classifier_open(second, &w->other_model, err);
    if (!status) status = choose(c, w, err);
    if (!status) status = sk_dataset_open(cli_arg(c, 1), &w->dataset, err);
    if (!status) status = sk_cache_open(w->dataset, w->eval.max_bad, w->eval.threads, hooks, &w->cache, &bad, err);
    if (!status && w->simulated) status = simulate(c, w, err);
    if (!status) status = sk_evaluate(w->model, w->dataset, w->cache, &w->eval, hooks, &w->evaluation, err);
    if (!status && second) {
        status = sk_evaluate(w->other_model, w->dataset, w->cache, &w->eval, hooks, &w->other, err);
    }
    w->report.model_path = w->label[0] ? w->label : model;
    w->report.run_dir = run_of(model, w->run, sizeof w->run);
    w->report.other = w->other;
    if (!status) status = look(c, w, err);
    if (!status) status = test_shortcuts(c, w, err);
    w->report.other_name = second;
    if (!status && cli_given(c, "output"))
        status = sk_report_write(cli_string(c, "output"), w->evaluation, w->model, w->dataset, w->cache, &w->report,
                                 hooks, err);
    return status;
}

static int print_json(cli *c, const work *w, sk_error *err) {
    uint8_t *bytes = NULL;
    size_t size = 0;
    if (sk_report_json(w->evaluation, w->model, w->dataset, &w->report, &bytes, &size, err) != SK_OK)
        return cli_fail(c, err);
    fwrite(bytes, 1, size, stdout);
    sk_free_bytes(bytes);
    return CLI_OK;
}

static int print_text(cli *c, const work *w, sk_error *err) {
    const sk_metrics m = sk_evaluation_metrics(w->evaluation);
    const char *crops = w->eval.crops == SK_CROPS_THREE ? "3 crops"
                        : w->eval.crops == SK_CROPS_ONE ? "1 crop"
                                                        : "squeezed";
    printf("%s on %s of %s: %zu pictures, %s, threshold %g", w->report.model_path, sk_split_name(w->eval.split),
           sk_dataset_dir(w->dataset), m.n, crops, (double)w->eval.threshold);
    if (w->eval.crops == SK_CROPS_THREE) printf(", penalty %g", (double)w->eval.penalty);
    printf("\n\n");
    print_metrics(&m);
    print_calibration(w);
    int code = print_slices(c, w->evaluation, 0, err);
    if (!code) code = print_slices(c, w->evaluation, 1, err);
    if (code) return code;
    if (w->looks) print_looks(w->looks);
    if (w->report.shortcuts) {
        print_shortcuts(w->shortcuts);
        print_shortcut_rows(w->shortcuts);
    }
    code = print_wrong(c, w, err);
    if (!code && w->other) code = print_comparison(c, w->evaluation, w->other, w->report.other_name, err);
    if (!code && cli_given(c, "output")) printf("\nreport: %s/report.html\n", cli_string(c, "output"));
    return code;
}

static int run(cli *c) {
    sk_error err = {0};
    work w = {.simulated = strcmp(cli_string(c, "backend"), "own") != 0};
    int code = CLI_OK;
    if (evaluate(c, &w, &err) != SK_OK) code = cli_fail(c, &err);
    else if (cli_json(c)) code = print_json(c, &w, &err);
    else if (!cli_quiet(c)) code = print_text(c, &w, &err);
    finish(&w);
    return code;
}

const cli_verb verb_eval = {
    "eval",
    "judges a model on a part of a dataset",
    "MODEL DATASET",
    2,
    2,
    options,
    run,
    .description =
        "Runs MODEL (a run folder, safetensors, .pth, .skn, or ONNX written by siskin) over every labelled, "
        "readable picture of one part of DATASET. Prints accuracy with Wilson's 95 % interval, the confusion "
        "matrix, precision, recall, F1 and ROC area, the same per source and per group, and the wrong pictures with "
        "p of bird for every crop.\n\n"
        "With -o it writes a folder: report.html, one file to look at and to pass on, the figures (confusion "
        "matrix, ROC curve, histogram of the score, reliability diagram, t-SNE map of the pooled features, contact "
        "sheet of the wrong pictures) as PNG and SVG, and evaluation.json. --json prints that document.\n\n"
        "With --saliency the report also shows what the model looked at, as heat maps beside the pictures, by the "
        "class activation map (cam: float models) or by blurring away one place after the other (occlusion: any "
        "model, some 80 times slower); and, per source and label, how much of it lies at the pictures' border, "
        "where a model looks that has learnt frames or overlaid text instead of birds.\n\n"
        "With --shortcuts the same pictures are judged again with a black frame, a date in a corner, a bar with "
        "text, from 128 and 192 pixels, and without colour: how many verdicts change for each label, and which way "
        "p moves; and how many change in each source.\n\n"
        "With --backend rknn-sim Rockchip's toolkit (siskin rknn setup) quantises the float MODEL as siskin export "
        "--rknn does and its simulator of the NPU answers, some 30 ms a picture: the same pictures, rule and "
        "report. With rknn-board a board that is connected by USB answers (siskin rknn board check).\n\n"
        "With --compare a second model judges the same pictures by the same rule: difference of accuracy with its "
        "interval over pairs (Newcombe 1998), verdicts that flip, mean and largest change of p, cosine of the pooled "
        "features, per source and on the whole, and McNemar's exact test.",
    .examples = "siskin eval run birds -o report\n"
                "siskin eval run birds --saliency 24 --shortcuts -o report\n"
                "siskin eval run birds --crops 3 --penalty 0.8 --compare bird.skn -o report\n"
                "siskin eval bird.skn birds --split val --json > val.json\n"
                "siskin eval run birds --backend rknn-sim --algorithm mmse --compare bird.skn\n"};
