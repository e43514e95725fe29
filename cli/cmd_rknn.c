/* SPDX-License-Identifier: Apache-2.0 */
/* siskin rknn: the vendor's toolkit for the NPU of RV1103 and its kin. */
#include <math.h>
#include <string.h>

#include "cli.h"
#include "siskin/rknn.h"

static const cli_option options[] = {
    {'d', "dir", CLI_STRING, "DIR", NULL, "folder of the toolkit; else $SISKIN_RKNN, else ~/.local/share/siskin/rknn"},
    {0, "again", CLI_FLAG, NULL, NULL, "setup: install anew even if all is well"},
    {'t', "target", CLI_CHOICE, "CHIP", NULL, "info: the chip that the file must be for; lint: the chip to judge for",
     .choices = "rv1103|rv1103b|rv1106|rv1106b"},
    {'c', "calibration", CLI_STRING, "DATASET", NULL, "compare: dataset whose training part is calibrated with"},
    {'a', "algorithm", CLI_CHOICE, "NAME", "normal", "compare: range of activations",
     .choices = "normal|mmse|kl_divergence"},
    {0, "method", CLI_CHOICE, "NAME", "channel", "compare: scale of weights per channel or per layer",
     .choices = "channel|layer"},
    {0, "equalise", CLI_FLAG, NULL, NULL, "compare: as of siskin export"},
    {0, "refine", CLI_FLAG, NULL, NULL, "compare: as of siskin export"},
    {0, "split", CLI_CHOICE, "PART", "train",
     "compare: part whose verdicts are counted; train: the calibration pictures", .choices = "train|val|test"},
    {0, "device", CLI_STRING, "SERIAL", NULL, "board: which one, if several are connected"},
    {0, "files", CLI_STRING, "DIR", NULL, "board setup: folder with the vendor's librknnmrt.so and rknn_server"},
    {0, "dry-run", CLI_FLAG, NULL, NULL, "board setup: only show the steps"},
    {0, "yes", CLI_FLAG, NULL, NULL, "board setup: carry them out"},
    {'n', "pictures", CLI_INT, "N", "20", "compare: calibration pictures drawn", .least = 1, .most = 9999},
    {0, "tensors", CLI_INT, "N", "1", "compare: pictures whose tensors are compared", .least = 1, .most = 1000},
    CLI_THREADS,
    CLI_MAX_BAD("pictures"),
    {0}};

static int setup(cli *c) {
    sk_error err = {0};
    int was_there = 0;
    if (sk_rknn_setup(cli_string(c, "dir"), cli_flag(c, "again"), cli_hooks(c), &was_there, &err) != SK_OK)
        return cli_fail(c, &err);
    if (cli_json(c)) printf("{\"ready\":true,\"was_there\":%s}\n", was_there ? "true" : "false");
    else if (!cli_quiet(c)) printf(was_there ? "the toolkit is there already\n" : "the toolkit is installed\n");
    return CLI_OK;
}

/* Members of a JSON object that has some already. */
static void print_texts(const char *const *keys, const char *const *texts, int count) {
    for (int i = 0; i < count; i++) {
        printf(",\"%s\":", keys[i]);
        cli_json_string(stdout, texts[i]);
    }
}

static void doctor_json(const sk_rknn_health *h) {
    printf("{\"dir\":");
    cli_json_string(stdout, h->dir);
    printf(",\"ready\":%s,\"items\":[", h->ready ? "true" : "false");
    for (size_t i = 0; i < h->count; i++) {
        const char *const texts[] = {h->items[i].name, h->items[i].found, h->items[i].wanted, h->items[i].remedy};
        static const char *const keys[] = {"name", "found", "wanted", "remedy"};
        printf("%s{\"ok\":%s", i ? "," : "", h->items[i].ok ? "true" : "false");
        print_texts(keys, texts, 4);
        printf("}");
    }
    printf("]}\n");
}

static int doctor(cli *c) {
    sk_error err = {0};
    sk_rknn_health h;
    if (sk_rknn_doctor(cli_string(c, "dir"), cli_hooks(c), &h, &err) != SK_OK) return cli_fail(c, &err);
    if (cli_json(c)) doctor_json(&h);
    for (size_t i = 0; !cli_json(c) && !cli_quiet(c) && i < h.count; i++) {
        const sk_rknn_item *item = &h.items[i];
        printf("%s%-8s%s %-24s %s", cli_color(stdout, item->ok ? "green" : "red"), item->ok ? "ok" : "missing",
               cli_color(stdout, "reset"), item->name, item->found[0] ? item->found : "-");
        if (!item->ok && item->wanted[0]) printf(" where %s is wanted", item->wanted);
        if (!item->ok) printf(": %s", item->remedy);
        printf("\n");
    }
    if (!cli_json(c) && !cli_quiet(c))
        printf(h.ready ? "\nready: siskin export RUN --rknn rv1103 --calibration DATASET -o bird.rknn\n"
                       : "\nnot ready: see above\n");
    return h.ready ? CLI_OK : CLI_FINDING;
}

/* ---- lint -------------------------------------------------------------------------------------------------------- */

static const char *severity(const sk_rknn_finding *f) {
    return f->severity == SK_RKNN_ERROR ? "error" : f->severity == SK_RKNN_WARNING ? "warning" : "note";
}

static void lint_json(const char *path, const char *target, const sk_rknn_lint *l) {
    printf("{\"file\":");
    cli_json_string(stdout, path);
    printf(",\"target\":\"%s\"", target);
    printf(",\"nodes\":%zu,\"errors\":%d,\"warnings\":%d,\"predicts\":\"%s\",\"findings\":[", l->nodes, l->errors,
           l->warnings, l->predicts);
    for (size_t i = 0; i < l->count; i++) {
        const sk_rknn_finding *f = &l->findings[i];
        const char *const texts[] = {f->node, f->what, f->source, f->remedy};
        static const char *const keys[] = {"node", "what", "source", "remedy"};
        printf("%s{\"severity\":\"%s\",\"rule\":\"%s\"", i ? "," : "", severity(f), f->rule);
        print_texts(keys, texts, 4);
        printf("}");
    }
    printf("]}\n");
}

static int lint(cli *c) {
    sk_error err = {0};
    sk_rknn_lint l;
    const char *path = cli_arg(c, 1);
    const char *target = cli_given(c, "target") ? cli_string(c, "target") : sk_rknn_defaults().target;
    if (sk_rknn_lint_file(path, target, &l, &err) != SK_OK) return cli_fail(c, &err);
    if (cli_json(c)) lint_json(path, target, &l);
    for (size_t i = 0; !cli_json(c) && !cli_quiet(c) && i < l.count; i++) {
        const sk_rknn_finding *f = &l.findings[i];
        printf("%s%s%s %s%s%s: %s\n    %s [%s]\n", cli_color(stdout, f->severity == SK_RKNN_ERROR ? "red" : "yellow"),
               severity(f), cli_color(stdout, "reset"), f->rule, f->node[0] ? " at " : "", f->node, f->what, f->remedy,
               f->source);
    }
    if (!cli_json(c) && !cli_quiet(c))
        printf("%s for %s: %zu nodes, %d errors, %d warnings; to expect: %s\n", path, target, l.nodes, l.errors,
               l.warnings,
               strcmp(l.predicts, "npu") == 0   ? "every layer on the NPU"
               : strcmp(l.predicts, "cpu") == 0 ? "a layer on the CPU"
                                                : "no conversion");
    const int code = l.errors ? CLI_FINDING : CLI_OK;
    sk_rknn_lint_free(&l);
    return code;
}

/* ---- info -------------------------------------------------------------------------------------------------------- */

static void info_json(const sk_rknn_info *i) {
    const char *const texts[] = {i->version, i->compiler, i->target, i->framework, i->input_name, i->custom};
    static const char *const keys[] = {"version", "compiler", "target", "framework", "input", "custom"};
    printf("{\"bytes\":%llu,\"body\":\"%016llx\"", (unsigned long long)i->file_bytes, (unsigned long long)i->body);
    print_texts(keys, texts, 6);
    printf(",\"shape\":[%d,%d,%d,%d],\"inputs\":%d,\"outputs\":%d,\"internal_bytes\":%u,\"weight_bytes\":%u,"
           "\"card\":%s}\n",
           i->input_shape[0], i->input_shape[1], i->input_shape[2], i->input_shape[3], i->inputs, i->outputs,
           i->internal_bytes, i->weight_bytes, i->has_card ? "true" : "false");
}

static void info_text(const char *path, const sk_rknn_info *i) {
    printf("%s: .rknn of %.2f MB for %s, made by toolkit %s\n", path, (double)i->file_bytes / 1e6,
           i->target[0] ? i->target : "an unknown chip", i->version[0] ? i->version : "of unknown version");
    printf("compiler   %s\nframework  %s\ninput      %s [%d,%d,%d,%d], %d in all, %d output%s\n", i->compiler,
           i->framework, i->input_name, i->input_shape[0], i->input_shape[1], i->input_shape[2], i->input_shape[3],
           i->inputs, i->outputs, i->outputs == 1 ? "" : "s");
    printf("memory     %.2f KB of activations, %.2f KB of weights\nbody       %016llx\n", i->internal_bytes / 1024.0,
           i->weight_bytes / 1024.0, (unsigned long long)i->body);
    if (i->has_card) {
        const sk_card *k = &i->card;
        printf("card       %s, %d x %d, classes %s, crops %d, threshold %g, penalty %g, temperature %g, %s%s%s\n",
               sk_arch_name(k->arch), k->size, k->size, k->class_names, k->crops, (double)k->threshold,
               (double)k->penalty, (double)k->temperature, i->algorithm, k->run_id[0] ? ", run " : "", k->run_id);
    } else {
        printf("card       none of siskin%s%s\n", i->custom[0] ? "; custom string: " : "", i->custom);
    }
}

static int info(cli *c) {
    sk_error err = {0};
    sk_rknn_info i;
    const char *path = cli_arg(c, 1), *target = cli_string(c, "target");
    if (sk_rknn_info_read(path, &i, &err) != SK_OK) return cli_fail(c, &err);
    if (target && strcmp(i.target, target) != 0) {
        err.code = SK_ERR_MISMATCH;
        snprintf(err.message, sizeof err.message, "%.200s is for %s, not for %s: convert it with --rknn %s", path,
                 i.target, target, target);
        return cli_fail(c, &err);
    }
    if (cli_json(c)) info_json(&i);
    else if (!cli_quiet(c)) info_text(path, &i);
    return CLI_OK;
}

/* ---- compare ---------------------------------------------------------------------------------------------------- */

static void compare_json(const sk_rknn_comparison *r) {
    printf("{\"pictures\":%d,\"own_theirs\":%d,\"own_float\":%d,\"theirs_float\":%d,\"first\":", r->pictures,
           r->own_theirs, r->own_float, r->theirs_float);
    if (r->first < 0) printf("null");
    else cli_json_string(stdout, r->layers[r->first].name);
    printf(",\"layers\":[");
    for (size_t i = 0; i < r->count; i++) {
        const sk_rknn_pair *p = &r->layers[i];
        const double numbers[] = {p->cosine, p->error, p->own_float, p->theirs_float};
        static const char *const keys[] = {"cosine", "error", "own_float", "theirs_float"};
        printf("%s{\"name\":", i ? "," : "");
        cli_json_string(stdout, p->name);
        for (int k = 0; k < 4; k++) {
            if (isfinite(numbers[k])) printf(",\"%s\":%.6f", keys[k], numbers[k]);
            else printf(",\"%s\":null", keys[k]);
        }
        printf("}");
    }
    printf("]}\n");
}

static const char *number(char text[16], double value) {
    if (isfinite(value)) snprintf(text, 16, "%.4f", value);
    else snprintf(text, 16, "-");
    return text;
}

static void compare_text(const sk_rknn_comparison *r) {
    char a[16], b[16], d[16], e[16];
    printf("%-28s %10s %10s %12s %12s\n", "layer", "cosine", "error", "ours: float", "theirs: float");
    for (size_t i = 0; i < r->count; i++) {
        const sk_rknn_pair *p = &r->layers[i];
        printf("%-28s %10s %10s %12s %12s%s\n", p->name, number(a, p->cosine), number(b, p->error),
               number(d, p->own_float), number(e, p->theirs_float), (int)i == r->first ? "  <- differs" : "");
    }
    if (r->first < 0) printf("\nno layer's cosine is below %g\n", SK_RKNN_ALIKE);
    else printf("\nfirst layer that differs (cosine below %g): %s\n", SK_RKNN_ALIKE, r->layers[r->first].name);
    printf("same verdict on %d pictures: ours and theirs %d, ours and float %d, theirs and float %d\n",
           r->pictures, r->own_theirs, r->own_float, r->theirs_float);
}

static int compare(cli *c) {
    sk_error err = {0};
    sk_rknn_options o = sk_rknn_defaults();
    sk_rknn_comparison result = {0};
    sk_model *model = NULL;
    sk_dataset *dataset = NULL;
    sk_cache *cache = NULL;
    sk_split part = SK_SPLIT_TRAIN;
    size_t bad = 0;
    if (!cli_given(c, "calibration")) return cli_usage(c, "compare needs --calibration DATASET");
    o.toolkit = cli_string(c, "dir");
    o.target = cli_given(c, "target") ? cli_string(c, "target") : o.target;
    o.pictures = (int)cli_int(c, "pictures");
    o.by_layer = cli_string(c, "method")[0] == 'l';
    o.equalise = cli_flag(c, "equalise");
    o.refine = cli_flag(c, "refine");
    o.threads = (int)cli_int(c, "threads");
    sk_status status = sk_rknn_algorithm_parse(cli_string(c, "algorithm"), &o.algorithm, &err);
    if (!status) status = sk_split_parse(cli_string(c, "split"), &part, &err);
    if (!status) status = sk_model_read(cli_arg(c, 1), &model, &err);
    if (!status) status = sk_dataset_open(cli_string(c, "calibration"), &dataset, &err);
    if (!status)
        status = sk_cache_open(dataset, (int)cli_int(c, "max-bad"), (int)cli_int(c, "threads"), cli_hooks(c), &cache,
                               &bad, &err);
    if (!status)
        status = sk_rknn_compare(model, dataset, cache, &o, (int)cli_int(c, "tensors"), part, cli_hooks(c), &result,
                                 &err);
    sk_cache_close(cache);
    sk_dataset_close(dataset);
    sk_model_free(model);
    if (status) return cli_fail(c, &err);
    if (cli_json(c)) compare_json(&result);
    else if (!cli_quiet(c)) compare_text(&result);
    sk_rknn_comparison_free(&result);
    return CLI_OK;
}

/* ---- board ------------------------------------------------------------------------------------------------------ */

static void board_json(const sk_rknn_board *b) {
    const char *trouble = sk_rknn_board_trouble(b);
    const char *const texts[] = {b->serial, b->machine, b->chip, b->library, b->server, trouble ? trouble : ""};
    static const char *const keys[] = {"serial", "machine", "chip", "library", "server", "trouble"};
    printf("{\"ready\":%s", trouble ? "false" : "true");
    print_texts(keys, texts, 6);
    printf(",\"server_runs\":%s,\"rkipc_runs\":%s,\"free_kb\":%ld,\"cma_kb\":%ld}\n", b->server_runs ? "true" : "false",
           b->rkipc_runs ? "true" : "false", b->free_kb, b->cma_kb);
}

static int board_check(cli *c, const sk_rknn_board *b) {
    const char *trouble = sk_rknn_board_trouble(b);
    if (cli_json(c)) board_json(b);
    else if (!cli_quiet(c)) {
        printf("board      %s, %s, %s\n", b->serial, b->machine, b->chip);
        printf("library    %s\nserver     %s, %s\nrkipc      %s\n", b->library[0] ? b->library : "-",
               b->server[0] ? b->server : "-", b->server_runs ? "runs" : "does not run",
               b->rkipc_runs ? "runs" : "does not run");
        printf("memory     %ld kB free, %ld kB of CMA\n\n%s\n", b->free_kb, b->cma_kb,
               trouble ? trouble : "ready: siskin eval RUN DATASET --backend rknn-board");
    }
    return trouble ? CLI_FINDING : CLI_OK;
}

static int board_setup(cli *c, const sk_rknn_board *b) {
    sk_error err = {0};
    sk_rknn_plan plan;
    sk_rknn_board after;
    if (!cli_given(c, "files") || cli_flag(c, "dry-run") == cli_flag(c, "yes"))
        return cli_usage(c, "board setup needs --files DIR and one of --dry-run and --yes");
    if (sk_rknn_board_plan(b, cli_string(c, "files"), &plan, &err) != SK_OK) return cli_fail(c, &err);
    for (int i = 0; i < plan.count && cli_flag(c, "dry-run"); i++) {
        const sk_rknn_step *step = &plan.steps[i];
        printf("%d. %s\n   adb -s %s %s%s%s%s%s\n", i + 1, step->what, b->serial, step->from[0] ? "push " : "shell '",
               step->from, step->from[0] ? " " : "", step->to, step->from[0] ? "" : "'");
    }
    if (cli_flag(c, "dry-run")) return CLI_OK;
    if (sk_rknn_board_setup(b, &plan, cli_hooks(c), &after, &err) != SK_OK) return cli_fail(c, &err);
    return board_check(c, &after);
}

static int board(cli *c) {
    sk_error err = {0};
    sk_rknn_board b;
    const char *what = cli_arg(c, 1);
    const int checks = strcmp(what, "check") == 0;
    if (!checks && strcmp(what, "setup") != 0) return cli_usage(c, "'board %s' is not known: choose check or setup",
                                                                what);
    if (sk_rknn_board_find(cli_string(c, "device"), cli_hooks(c), &b, &err) != SK_OK) return cli_fail(c, &err);
    return checks ? board_check(c, &b) : board_setup(c, &b);
}

static int run(cli *c) {
    static const struct {
        const char *name;
        int arguments;
        int (*run)(cli *c);
    } actions[] = {{"setup", 0, setup}, {"doctor", 0, doctor}, {"lint", 1, lint},
                   {"info", 1, info},   {"compare", 1, compare}, {"board", 1, board}};
    const char *name = cli_arg(c, 0);
    for (size_t i = 0; i < sizeof actions / sizeof *actions; i++) {
        if (strcmp(name, actions[i].name) != 0) continue;
        if (cli_count(c) != 1 + actions[i].arguments)
            return cli_usage(c, actions[i].arguments ? "%s needs one argument" : "%s takes no argument", name);
        return actions[i].run(c);
    }
    return cli_usage(c, "'%s' is not known: choose setup, doctor, lint, info, compare or board", name);
}

const cli_verb verb_rknn = {
    "rknn",
    "looks after Rockchip's toolkit and models for the NPU",
    "setup|doctor|lint FILE|info FILE|compare MODEL|board check|board setup",
    1,
    2,
    options,
    run,
    .description =
        "Models for the NPU of RV1103, RV1106 and the like are made by Rockchip's rknn-toolkit2, a Python package. "
        "Nothing else of siskin needs Python.\n\n"
        "setup installs it: pinned versions in a venv of siskin's own (0.6 GB), over Debian's python3-torch. doctor "
        "says what is there, in which version, what is missing and how to get it; exit status 3 if models cannot be "
        "converted yet.\n\n"
        "lint reads any ONNX file and tells, with node, source and remedy, what it will meet on its way to the NPU: "
        "what fails in conversion, what fails only on the board, what costs further layers. Exit status 3 if there "
        "is an error.\n\n"
        "info tells what can be read of a .rknn without the vendor's software: versions, chip, input, memory, the "
        "model's card, and a hash of its commands and weights, which conversions of the same input share (the files "
        "differ: the toolkit leaves parts of its memory in them).\n\n"
        "compare has the toolkit quantise the float MODEL and sets every tensor of our forecast of it beside the one "
        "of the vendor's simulator: cosine, error, both beside float, the first layer that differs, and on how many "
        "pictures the verdicts agree. The algorithm normal is forecast from the calibration pictures alone, mmse and "
        "kl_divergence with the ranges that the toolkit found.\n\n"
        "board check asks a board that is connected by USB, through adb, what is on it, and says what keeps models "
            "from "
        "running there (exit status 3). board setup puts the vendor's library and server onto it, stops rkipc and "
            "starts "
        "the server; --dry-run shows each step, --yes takes them.",
    .examples = "siskin rknn setup\nsiskin rknn doctor --json\nsiskin rknn lint bird.onnx --target rv1103\n"
                "siskin rknn info bird.rknn --target rv1103\n"
                "siskin rknn compare run --calibration birds --algorithm normal\n"
                "siskin rknn board check\nsiskin rknn board setup --files rknpu2 --dry-run\n"};
