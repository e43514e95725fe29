/* SPDX-License-Identifier: Apache-2.0 */
/* siskin weights: what an int8 converter will meet in a model, pulling it in, and one model from several. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "siskin/report.h"
#include "siskin/weights.h"

static const cli_option options[] = {
    {'o', "output", CLI_STRING, "PATH", NULL,
     "inspect: folder for tables and figures; adjust: model to write; average: too"},
    {0, "on", CLI_CHOICE, "WHICH", "folded", "weights as they are, or as batch norm scales them",
     .choices = "raw|folded"},
    {0, "layers", CLI_STRING, "GLOB,...", NULL, "only layers or tensors with such names"},
    {'d', "dataset", CLI_STRING, "DATASET", NULL,
     "inspect: ranges of activations over it; adjust: accuracy before and after"},
    {'n', "pictures", CLI_INT, "N", "100", "inspect: pictures of the training part", .least = 1, .most = 100000},
    {0, "seed", CLI_INT, "N", "1", "inspect: seed of their draw", .least = 0, .most = 9007199254740992.0},
    {'m', "method", CLI_CHOICE, "NAME", NULL, "adjust: what the limits are", .choices = "sigma|percentile|tukey"},
    {'k', "k", CLI_DOUBLE, "K", NULL, "adjust: deviations (3), percentile (99.9) or interquartile ranges (3)"},
    {0, "per", CLI_CHOICE, "GROUP", "tensor", "adjust: limits of a whole tensor or of each output channel",
     .choices = "tensor|channel"},
    {0, "picture", CLI_STRING, "PATH", NULL, "adjust: draw before and after as PATH.png and PATH.svg"},
    {'s', "split", CLI_CHOICE, "PART", "val", "adjust: part of the dataset that is judged",
     .choices = "train|val|test"},
    CLI_THREADS,
    CLI_MAX_BAD("pictures"),
    {0}};

typedef struct work {
    sk_classifier *classifier; /* NULL: a backbone, in `backbone` */
    sk_model *backbone, *model; /* model: whichever it is */
    sk_dataset *dataset;
    sk_cache *cache;
    sk_weights *weights, *before;
    sk_activations *activations;
    sk_evaluation *evaluations[2];
    sk_adjust_row *rows;
    size_t count;
    const char *layers;
    int only_features;
} work;

static void finish(work *w) {
    sk_adjust_rows_free(w->rows);
    for (int i = 0; i < 2; i++) sk_evaluation_free(w->evaluations[i]);
    sk_activations_free(w->activations);
    sk_weights_free(w->weights);
    sk_weights_free(w->before);
    sk_cache_close(w->cache);
    sk_dataset_close(w->dataset);
    sk_model_free(w->backbone);
    sk_classifier_close(w->classifier);
}

/* ---- what both do ------------------------------------------------------------------------------------------------ */
static sk_status open_dataset(cli *c, work *w, sk_error *err) {
    size_t bad = 0;
    if (!cli_given(c, "dataset")) return SK_OK;
    const sk_status status = sk_dataset_open(cli_string(c, "dataset"), &w->dataset, err);
    if (status != SK_OK) return status;
    return sk_cache_open(w->dataset, (int)cli_int(c, "max-bad"), (int)cli_int(c, "threads"), cli_hooks(c), &w->cache,
                         &bad, err);
}

/* Without a classifier in the file only the features are looked at. */
static sk_status open_backbone(cli *c, work *w, sk_error *err) {
    int whole = 0;
    const sk_status status = sk_weights_read(cli_arg(c, 1), &w->backbone, &whole, err);
    if (status != SK_OK) return status;
    w->model = w->backbone;
    w->layers = cli_given(c, "layers") || whole ? cli_string(c, "layers") : "features.*";
    if (whole) return SK_OK;
    cli_note(c, "%s has no classifier: its features alone are looked at", cli_arg(c, 1));
    w->only_features = 1;
    return SK_OK;
}

/* An option of another action would be passed over in silence. */
static const char *foreign_option(cli *c, const char *action) {
    const char *own = strcmp(action, "inspect") == 0 ? "inspect:" : "adjust:";
    const char *other = strcmp(action, "inspect") == 0 ? "adjust:" : "inspect:";
    const int averages = strcmp(action, "average") == 0;
    for (int i = 0; options[i].name; i++) {
        const int foreign = averages ? strcmp(options[i].name, "output") != 0
                                     : strstr(options[i].help, other) && !strstr(options[i].help, own);
        if (foreign && cli_given(c, options[i].name)) return options[i].name;
    }
    return NULL;
}

/* ---- inspect ----------------------------------------------------------------------------------------------------- */
static void print_weights(const sk_weights *w, int folded) {
    printf("%-26s %8s %18s %8s %8s %8s %9s %8s %8s\n", folded ? "folded weights of" : "raw weights of", "count",
           "range", "mean |w|", "std |w|", "kurtosis", "channels", "dB chan.", "dB tens.");
    for (size_t i = 0; i < w->count; i++) {
        const sk_weight_row *row = &w->rows[i];
        const sk_weight_stats *s = folded ? &row->folded : &row->raw;
        const char *colour = cli_color(stdout, row->outlier.found ? "red" : "reset");
        printf("%s%-26s %8zu %8.3f %9.3f %8.3f %8.3f %8.1f %8.3gx %8.1f %8.1f%s\n", colour, row->layer, row->count,
               s->min, s->max, s->abs_mean, s->abs_std, s->kurtosis, s->channel_ratio, s->snr_channel, s->snr_tensor,
               cli_color(stdout, "reset"));
    }
}

/* As rknn-toolkit2 prints it. */
static void print_outliers(const sk_weights *w) {
    if (!w->outliers) {
        printf("\nrknn-toolkit2 will not warn of outliers\n");
        return;
    }
    printf("\nrknn-toolkit2 will say of %zu tensors: found outlier value, this may affect quantization accuracy\n"
           "%-34s %8s %8s %14s\n",
           w->outliers, "const name", "abs_mean", "abs_std", "outlier value");
    for (size_t i = 0; i < w->count; i++) {
        const sk_outlier *o = &w->rows[i].outlier;
        if (o->found) printf("%-34s %8.2f %8.2f %14.3f\n", w->rows[i].name, o->abs_mean, o->abs_std, o->value);
    }
}

static void print_activations(const sk_activations *a) {
    printf("\n%-26s %9s %9s %9s %9s %9s\n", "outputs of", "low", "high", "step", "in lobe", "channels");
    for (size_t i = 0; i < a->count; i++) {
        const sk_activation_row *row = &a->rows[i];
        char lobe[16] = "-";
        if (row->lobe > 0) snprintf(lobe, sizeof lobe, "%.1f", row->lobe);
        printf("%-26s %9.3f %9.3f %9.4f %9s %8.3gx\n", row->layer.name, (double)row->low, (double)row->high, row->step,
               lobe, row->channel_ratio);
    }
}

static sk_status tell_inspection(cli *c, const work *w, sk_error *err) {
    if (cli_json(c)) {
        uint8_t *bytes = NULL;
        size_t size = 0;
        const sk_status status = sk_weights_json(cli_arg(c, 1), w->weights, w->activations, &bytes, &size, err);
        if (status == SK_OK) fwrite(bytes, 1, size, stdout);
        sk_free_bytes(bytes);
        return status;
    }
    if (cli_quiet(c)) return SK_OK;
    print_weights(w->weights, strcmp(cli_string(c, "on"), "folded") == 0);
    print_outliers(w->weights);
    if (w->activations) print_activations(w->activations);
    return SK_OK;
}

static sk_status inspect(cli *c, work *w, sk_error *err) {
    sk_status status = open_backbone(c, w, err);
    if (status == SK_OK) status = open_dataset(c, w, err);
    if (status == SK_OK) status = sk_weights_inspect(w->model, w->layers, &w->weights, err);
    if (status == SK_OK && w->dataset)
        status = sk_weights_activations(w->model, w->layers, w->dataset, w->cache, (int)cli_int(c, "pictures"),
                                        (uint64_t)cli_int(c, "seed"), cli_hooks(c), &w->activations, err);
    if (status == SK_OK && cli_given(c, "output"))
        status = sk_weights_write(cli_string(c, "output"), cli_arg(c, 1), w->weights, w->activations, cli_hooks(c),
                                  err);
    return status == SK_OK ? tell_inspection(c, w, err) : status;
}

/* ---- adjust ------------------------------------------------------------------------------------------------------ */
static sk_adjust method_of(const char *name) {
    return strcmp(name, "sigma") == 0 ? SK_ADJUST_SIGMA : *name == 'p' ? SK_ADJUST_PERCENTILE : SK_ADJUST_TUKEY;
}

/* To be judged a model needs its classifier. */
static sk_status open_judged(cli *c, work *w, sk_error *err) {
    const sk_status status = sk_classifier_open(cli_arg(c, 1), &w->classifier, err);
    if (status != SK_OK) return status;
    w->model = sk_classifier_model(w->classifier);
    w->layers = cli_string(c, "layers");
    if (w->model) return SK_OK;
    snprintf(err->message, sizeof err->message, "%s is an int8 model; its weights are adjusted before it is made",
             cli_arg(c, 1));
    return err->code = SK_ERR_UNSUPPORTED;
}

static sk_status judge(cli *c, work *w, int after, sk_error *err) {
    sk_split split = SK_SPLIT_VAL;
    if (!w->dataset) return SK_OK;
    const sk_card *card = sk_classifier_card(w->classifier);
    sk_status status = sk_split_parse(cli_string(c, "split"), &split, err);
    const sk_eval_options o = {.split = split, .crops = (sk_crops)card->crops, .threshold = card->threshold,
                               .penalty = card->penalty, .threads = (int)cli_int(c, "threads"),
                               .max_bad = (int)cli_int(c, "max-bad")};
    if (status == SK_OK)
        status = sk_evaluate(w->classifier, w->dataset, w->cache, &o, cli_hooks(c), &w->evaluations[after], err);
    return status;
}

static sk_status write_model(cli *c, const work *w, sk_error *err) {
    const char *path = cli_string(c, "output");
    return w->only_features ? sk_weights_write_backbone(w->model, cli_arg(c, 1), path, err)
                            : sk_model_write(w->model, path, err);
}

static void print_rows(const work *w, size_t moved, size_t total) {
    printf("%-34s %8s %8s %8s %10s %18s    %18s\n", "tensor", "count", "moved", "share", "most by", "before", "after");
    for (size_t i = 0; i < w->count; i++) {
        const sk_adjust_row *r = &w->rows[i];
        if (r->moved)
            printf("%-34s %8zu %8zu %7.3f%% %10.4f %8.3f %9.3f    %8.3f %9.3f\n", r->name, r->count, r->moved,
                   100. * (double)r->moved / (double)r->count, r->largest_move, r->min, r->max, r->new_min, r->new_max);
    }
    printf("%zu of %zu weights moved (%.3f %%); outliers that rknn-toolkit2 will warn of: %zu, before %zu\n", moved,
           total, 100. * (double)moved / (double)total, w->weights->outliers, w->before->outliers);
}

static void print_json_rows(cli *c, const work *w, size_t moved, size_t total) {
    printf("{\"model\":");
    cli_json_string(stdout, cli_string(c, "output"));
    printf(",\"method\":\"%s\",\"on\":\"%s\",\"per\":\"%s\",\"moved\":%zu,\"count\":%zu,"
           "\"outliers\":{\"before\":%zu,\"after\":%zu},\"tensors\":[",
           cli_string(c, "method"), cli_string(c, "on"), cli_string(c, "per"), moved, total, w->before->outliers,
           w->weights->outliers);
    for (size_t i = 0; i < w->count; i++) {
        const sk_adjust_row *r = &w->rows[i];
        printf("%s{\"tensor\":\"%s\",\"count\":%zu,\"moved\":%zu,\"share\":%.9g,\"largest_move\":%.9g,"
               "\"before\":[%.9g,%.9g],\"after\":[%.9g,%.9g]}",
               i ? "," : "", r->name, r->count, r->moved, (double)r->moved / (double)r->count, r->largest_move, r->min,
               r->max, r->new_min, r->new_max);
    }
    printf("]");
}

static sk_status print_accuracy(cli *c, const work *w, sk_error *err) {
    sk_comparison d;
    if (!w->dataset) return SK_OK;
    const sk_status status = sk_evaluation_compare(w->evaluations[0], w->evaluations[1], &d, err);
    if (status != SK_OK) return status;
    const double before = sk_evaluation_metrics(w->evaluations[0]).accuracy;
    const double after = sk_evaluation_metrics(w->evaluations[1]).accuracy;
    if (cli_json(c))
        printf(",\"accuracy\":{\"split\":\"%s\",\"pictures\":%zu,\"before\":%.6f,\"after\":%.6f,\"flips\":%zu,"
               "\"mcnemar_p\":%.6g}",
               cli_string(c, "split"), d.n, before, after, d.flips, d.mcnemar_p);
    else if (!cli_quiet(c))
        printf("float accuracy on %zu pictures of %s: %.2f %%, before %.2f %%; %zu verdicts differ, McNemar's p %.3g\n",
               d.n, cli_string(c, "split"), 100 * after, 100 * before, d.flips, d.mcnemar_p);
    return SK_OK;
}

static sk_status tell_adjustment(cli *c, const work *w, sk_error *err) {
    size_t moved = 0, total = 0;
    for (size_t i = 0; i < w->count; i++) {
        moved += w->rows[i].moved;
        total += w->rows[i].count;
    }
    if (cli_json(c)) print_json_rows(c, w, moved, total);
    else if (!cli_quiet(c)) print_rows(w, moved, total);
    const sk_status status = print_accuracy(c, w, err);
    if (cli_json(c)) printf("}\n");
    return status;
}

static sk_status adjust(cli *c, work *w, sk_error *err) {
    const sk_adjust_options o = {.method = method_of(cli_string(c, "method")),
                                 .k = cli_given(c, "k") ? (float)cli_double(c, "k") : 0,
                                 .on = strcmp(cli_string(c, "on"), "raw") == 0 ? SK_ADJUST_RAW : SK_ADJUST_FOLDED,
                                 .per = *cli_string(c, "per") == 'c' ? SK_ADJUST_CHANNEL : SK_ADJUST_TENSOR};
    sk_status status = sk_adjust_check(&o, err);
    if (status == SK_OK) status = cli_given(c, "dataset") ? open_judged(c, w, err) : open_backbone(c, w, err);
    if (status == SK_OK) status = open_dataset(c, w, err);
    if (status == SK_OK) status = sk_weights_inspect(w->model, w->layers, &w->before, err);
    if (status == SK_OK) status = judge(c, w, 0, err);
    sk_adjust_options chosen = o;
    chosen.layers = w->layers;
    if (status == SK_OK) status = sk_weights_adjust(w->model, &chosen, &w->rows, &w->count, err);
    if (status == SK_OK) status = sk_weights_inspect(w->model, w->layers, &w->weights, err);
    if (status == SK_OK) status = judge(c, w, 1, err);
    if (status == SK_OK) status = write_model(c, w, err);
    if (status == SK_OK && cli_given(c, "picture"))
        status = sk_plot_weights(cli_string(c, "picture"), "Largest weights of each layer's channels, adjusted",
                                 w->weights, w->before, err);
    return status == SK_OK ? tell_adjustment(c, w, err) : status;
}

/* ---- average ----------------------------------------------------------------------------------------------------- */
static sk_status read_all(cli *c, sk_model **models, int count, sk_error *err) {
    sk_status status = SK_OK;
    for (int i = 0; status == SK_OK && i < count; i++) status = sk_model_read(cli_arg(c, 1 + i), &models[i], err);
    return status;
}

static int average(cli *c) {
    const int count = cli_count(c) - 1;
    sk_error err = {0};
    sk_model **models = calloc((size_t)count, sizeof *models);
    sk_status status = models ? read_all(c, models, count, &err) : SK_ERR_MEMORY;
    if (!models) snprintf(err.message, sizeof err.message, "out of memory for a list of %d models", count);
    if (status == SK_OK) status = sk_weights_average(models[0], models + 1, (size_t)count - 1, &err);
    if (status == SK_OK) status = sk_model_write(models[0], cli_string(c, "output"), &err);
    for (int i = 0; models && i < count; i++) sk_model_free(models[i]);
    free(models);
    if (status != SK_OK) return cli_fail(c, &err);
    if (cli_json(c)) {
        printf("{\"model\":");
        cli_json_string(stdout, cli_string(c, "output"));
        printf(",\"models\":%d}\n", count);
    } else if (!cli_quiet(c)) {
        printf("%s: mean of %d models; next: siskin calibrate\n", cli_string(c, "output"), count);
    }
    return CLI_OK;
}

/* ---- the verb ---------------------------------------------------------------------------------------------------- */
static int run(cli *c) {
    const char *action = cli_arg(c, 0);
    const int inspects = strcmp(action, "inspect") == 0, averages = strcmp(action, "average") == 0;
    if (!inspects && !averages && strcmp(action, "adjust") != 0)
        return cli_usage(c, "'%s' is none of inspect, adjust and average", action);
    const char *foreign = foreign_option(c, action);
    if (foreign) return cli_usage(c, "--%s is not for %s", foreign, action);
    if (averages && cli_count(c) < 3) return cli_usage(c, "a mean needs two models or more");
    if (!averages && cli_count(c) > 2) return cli_usage(c, "%s takes one model", action);
    if (!inspects && !averages && !cli_given(c, "method")) return cli_usage(c, "--method NAME is missing");
    if (!inspects && !cli_given(c, "output")) return cli_usage(c, "-o PATH (--output) is missing");
    if (cli_given(c, "split") && !cli_given(c, "dataset"))
        return cli_usage(c, "--split is of --dataset DATASET, which is missing");
    if (averages) return average(c);
    work w = {0};
    sk_error err = {0};
    const sk_status status = inspects ? inspect(c, &w, &err) : adjust(c, &w, &err);
    const int code = status == SK_OK ? CLI_OK : cli_fail(c, &err);
    finish(&w);
    return code;
}

const cli_verb verb_weights = {
    "weights",
    "shows outliers of a model's weights and activations, pulls weights in, averages models",
    "inspect|adjust|average MODEL...",
    2,
    -1,
    options,
    run,
    .description =
        "MODEL is a run folder, a safetensors file, a PyTorch checkpoint or an ONNX file written by siskin; a backbone "
        "without classifier will do. Folded weights, those that batch norm has scaled, are what an int8 converter "
        "gets.\n\n"
        "`inspect` prints of each weight tensor its range, mean and deviation of magnitudes, kurtosis (3 is a normal "
        "distribution), by how much the largest channel surpasses the median one, and the signal-to-noise ratio that "
        "int8 with a scale per channel or per tensor leaves; then the table of outliers that rknn-toolkit2 will warn "
        "of. With a dataset also how far the outputs of every layer reach, and how many steps of int8 are left for the "
        "lobe of hard-swish. With -o tables and figures are written into a folder, docs/formats.md.\n\n"
        "`adjust` clamps weights to limits: mean and K deviations of a tensor or channel (sigma), the percentiles K "
        "and 100 - K (percentile), or K interquartile ranges beyond the quartiles (tukey). Folded weights are clamped "
        "and mapped back through batch norm. It says what it moved and, with a dataset, what that did to the accuracy. "
        "`siskin train` has the same as --adjust; docs/quantization.md says what helps int8.\n\n"
        "`average` writes the mean of the weights of two models or more (Wortsman et al. 2022, model soups): trainings "
        "with other seeds, all from the same first weights, classifier included, and with frozen batch norm. One model "
        "then does about what all of them would do together; docs/recipes.md has figures. The temperature of its card "
        "is 1 until siskin calibrate fits another.",
    .examples = "siskin weights inspect run\n"
                "siskin weights inspect run --dataset birds -n 100 -o weights\n"
                "siskin weights adjust run -o adjusted.safetensors --method sigma --k 3 --dataset birds\n"
                "siskin weights adjust backbone.pth -o tame.safetensors -m tukey --layers 'features.*.block.1'\n"
                "siskin weights average run-seed1 run-seed2 run-seed3 -o bird.safetensors\n"};
