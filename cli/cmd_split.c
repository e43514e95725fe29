/* SPDX-License-Identifier: Apache-2.0 */
/* siskin split: train, val and test parts by group. */
#include <ctype.h>
#include <stdlib.h>

#include "cli.h"
#include "siskin/dataset.h"

static const cli_option options[] = {
    {0, "ratio", CLI_STRING, "A:B:C", "6:2:2", "shares of train, val and test among the clips"},
    {0, "val-photos", CLI_DOUBLE, "SHARE", "0", "share of each photo source that is validated on", .least = 0,
     .most = 0.9},
    {0, "seed", CLI_INT, "N", "0", "seed of the shuffle", .least = 0, .most = 9e15},
    {0}};

static int parse_ratio(const char *text, double parts[3])
{
    for (int i = 0; i < 3; i++) {
        char *end = NULL;
        if (!isdigit((unsigned char)*text) && *text != '.')
            return 0;
        parts[i] = strtod(text, &end);
        if (end == text || *end != (i < 2 ? ':' : 0))
            return 0;
        text = end + 1;
    }
    return 1;
}

static void print_counts(cli *c, const char *dir, size_t counts[4][3])
{
    if (cli_json(c)) {
        printf("{\"dataset\":");
        cli_json_string(stdout, dir);
        for (int s = SK_SPLIT_TRAIN; s <= SK_SPLIT_TEST; s++)
            printf(",\"%s\":{\"bird\":%zu,\"nobird\":%zu}", sk_split_name((sk_split)s), counts[s][2], counts[s][1]);
        printf("}\n");
    } else if (!cli_quiet(c)) {
        for (int s = SK_SPLIT_TRAIN; s <= SK_SPLIT_TEST; s++)
            printf("%-5s %7zu bird %7zu nobird\n", sk_split_name((sk_split)s), counts[s][2], counts[s][1]);
        printf("next: siskin check %s\n", dir);
    }
}

static int run(cli *c)
{
    sk_split_options o = sk_split_defaults();
    size_t counts[4][3] = {{0}};
    sk_dataset *dataset = NULL;
    sk_error err = {0};
    const char *dir = cli_arg(c, 0);
    if (!parse_ratio(cli_string(c, "ratio"), o.parts))
        return cli_usage(c, "--ratio '%s' is not of the form 6:2:2", cli_string(c, "ratio"));
    o.val_photos = cli_double(c, "val-photos");
    o.seed = (uint64_t)cli_int(c, "seed");
    if (sk_dataset_split(dir, &o, &err) != SK_OK || sk_dataset_open(dir, &dataset, &err) != SK_OK)
        return cli_fail(c, &err);
    for (size_t i = 0; i < sk_dataset_size(dataset); i++) {
        const sk_sample *s = sk_dataset_sample(dataset, i);
        counts[s->split][s->label + 1]++;
    }
    sk_dataset_close(dataset);
    print_counts(c, dir, counts);
    return CLI_OK;
}

const cli_verb verb_split = {
    "split",
    "splits a dataset by clip",
    "DATASET",
    1,
    1,
    options,
    run,
    .description =
        "Assigns every group (a clip, or a set of photographs) to one of train, val and test, so that both labels are "
        "spread over the parts in the given ratio. The same seed gives the same split, whatever the order of "
        "the rows. Web pictures go to train and held-out pictures to test, whatever the ratio.\n\n"
        "Few clips are soon all told right, and then say little about epochs, thresholds and temperature. With "
        "--val-photos some of the web pictures are validated on instead of trained on: of every source that share, "
        "by whole groups; a source of one group stays in train.",
    .examples = "siskin split birds --ratio 6:2:2 --seed 1\nsiskin split birds --val-photos 0.1 --seed 1\n"};
