/* SPDX-License-Identifier: Apache-2.0 */
/* siskin compose: a test set of small, dark, cut-off, night and blurred objects, pasted on empty frames. */
#include "cli.h"
#include "siskin/dataset.h"

#include <string.h>

static const cli_option options[] = {
    {'o', "output", CLI_STRING, "OUT", NULL, "folder of the new dataset", .required = 1},
    {0, "patches", CLI_STRING, "SOURCE[:LABEL],...", NULL, "sources of what is pasted, of both labels", .required = 1},
    {0, "grounds", CLI_STRING, "SOURCE,...", NULL, "sources whose nobird samples are the grounds", .required = 1},
    {0, "patches-from", CLI_CHOICE, "SPLIT", NULL, "split of the patches; any allows train beside the others",
     .choices = "train|val|test|any"},
    {0, "grounds-from", CLI_CHOICE, "SPLIT", NULL, "split of the grounds; any allows train beside the others",
     .choices = "train|val|test|any"},
    {0, "kinds", CLI_STRING, "KIND,...", "small,dark,cut,night,blur", "what is made"},
    {'n', "count", CLI_INT, "N", "100", "pictures per kind and label", .least = 1, .most = 100000},
    {'s', "seed", CLI_INT, "N", "1", "the same seed makes the same pictures", .least = 0, .most = 9007199254740992.0},
    CLI_THREADS,
    CLI_MAX_BAD("pictures"),
    {0}};

/* "12 train, 100 test" */
static const char *splits(const size_t counts[4], char *text, size_t size)
{
    size_t n = 0;
    static const char *const names[] = {"no split", "train", "val", "test"};
    text[0] = 0;
    for (int s = 0; s < 4 && n < size; s++)
        if (counts[s])
            n += (size_t)snprintf(text + n, size - n, "%s%zu %s", n ? ", " : "", counts[s], names[s]);
    return text;
}

static void json_splits(const char *name, const size_t counts[4])
{
    printf(",\"%s\":{\"none\":%zu,\"train\":%zu,\"val\":%zu,\"test\":%zu}", name, counts[0], counts[1], counts[2],
           counts[3]);
}

static void print_report(cli *c, const char *dir, const sk_compose_report *r)
{
    char text[160];
    if (cli_json(c)) {
        printf("{\"dataset\":");
        cli_json_string(stdout, dir);
        printf(",\"pictures\":%zu,\"unclear\":%zu", r->pictures, r->unclear);
        json_splits("bird_patches", r->patches[SK_LABEL_BIRD]);
        json_splits("nobird_patches", r->patches[SK_LABEL_NOBIRD]);
        json_splits("grounds", r->grounds);
        printf("}\n");
    } else if (!cli_quiet(c)) {
        printf("%s: %zu pictures, half with a bird; %zu whose object is hard to see\n", dir, r->pictures, r->unclear);
        printf("bird patches:   %s\n", splits(r->patches[SK_LABEL_BIRD], text, sizeof text));
        printf("nobird patches: %s\n", splits(r->patches[SK_LABEL_NOBIRD], text, sizeof text));
        printf("grounds:        %s\n", splits(r->grounds, text, sizeof text));
        printf("next: siskin eval MODEL %s --split test\n", dir);
    }
}

/* The option's split; `any` allows the mixture. */
static sk_split part(cli *c, const char *option, int *mix)
{
    const char *text = cli_string(c, option);
    sk_split split = SK_SPLIT_NONE;
    if (text && strcmp(text, "any") == 0)
        *mix = 1;
    else if (text)
        sk_split_parse(text, &split, NULL);
    return split;
}

static int run(cli *c)
{
    sk_compose_options o = sk_compose_defaults();
    sk_compose_report report = {0};
    sk_dataset *dataset = NULL;
    sk_error err = {0};
    const char *dir = cli_string(c, "output");
    o.patches = cli_string(c, "patches");
    o.grounds = cli_string(c, "grounds");
    o.kinds = cli_string(c, "kinds");
    o.patch_split = part(c, "patches-from", &o.mix_patches);
    o.ground_split = part(c, "grounds-from", &o.mix_grounds);
    o.count = (int)cli_int(c, "count");
    o.seed = (uint64_t)cli_int(c, "seed");
    o.threads = (int)cli_int(c, "threads");
    o.max_bad = (int)cli_int(c, "max-bad");
    sk_status status = sk_dataset_open(cli_arg(c, 0), &dataset, &err);
    if (status == SK_OK)
        status = sk_dataset_compose(dataset, dir, &o, cli_hooks(c), &report, &err);
    sk_dataset_close(dataset);
    if (status != SK_OK)
        return cli_fail(c, &err);
    if (report.patches[0][SK_SPLIT_TRAIN] || report.patches[1][SK_SPLIT_TRAIN] || report.grounds[SK_SPLIT_TRAIN])
        cli_note(c, "some of the material is from the training part: a model trained on it is flattered by this test");
    print_report(c, dir, &report);
    return CLI_OK;
}

const cli_verb verb_compose = {
    "compose",
    "makes a test set of small, dark, cut-off, night and blurred objects",
    "DATASET",
    1,
    1,
    options,
    run,
    .description =
        "Cuts the objects out of a dataset's pictures with a soft mask and pastes them on its empty frames: `small` "
        "(side .12 to .35 of the frame), `dark` (backlit and under-exposed), `cut` (30 to 60 % beyond the border), "
        "`night` (grey, lit from the camera, noisy), `blur` (motion, defocus). The result is a dataset of its own "
        "whose sources are composite-small and so on, all in the test part, for `siskin eval`.\n\n"
        "Both labels are made alike and in equal number: picture N of a kind has the same ground, place and light for "
        "both, and only what is pasted differs, so the traces of pasting say nothing about the label. An object that "
        "would hardly differ from its ground is tried on another.\n\n"
        "A source gives patches of both its labels, or with :bird or :nobird of one. Material of the training part "
        "beside other material is refused unless --patches-from or --grounds-from says so; what it was made of stands "
        "in compose.tsv.",
    .examples = "siskin compose birds -o stress --patches garden,cats:nobird --grounds feeder --grounds-from test\n"
                "siskin compose birds -o small --patches garden,cats --grounds feeder --kinds small -n 500 --seed 2\n"};
