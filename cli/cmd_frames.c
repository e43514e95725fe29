/* SPDX-License-Identifier: Apache-2.0 */
/* siskin frames: candidate frames of unlabelled clips. */
#include "cli.h"
#include "siskin/dataset.h"

static const cli_option options[] = {
    {'o', "output", CLI_STRING, "FOLDER", NULL, "folder for frames.tsv and the pictures", .required = 1},
    {'n', "per-clip", CLI_INT, "N", "6", "most frames per clip", .least = 1, .most = 10000},
    {0, "min-gap", CLI_DOUBLE, "SECONDS", "0.5", "least time between two frames of a clip", .least = 0, .most = 86400},
    CLI_MAX_BAD("clips"),
    {0}};

static int run(cli *c)
{
    sk_frames_options o = sk_frames_defaults();
    o.per_clip = (int)cli_int(c, "per-clip");
    o.min_gap_s = cli_double(c, "min-gap");
    o.max_bad = (int)cli_int(c, "max-bad");
    size_t picked = 0;
    sk_error err = {0};
    const char *dir = cli_string(c, "output");
    if (sk_frames_pick(cli_args(c), (size_t)cli_count(c), dir, &o, cli_hooks(c), &picked, &err) != SK_OK)
        return cli_fail(c, &err);
    if (cli_json(c)) {
        printf("{\"folder\":");
        cli_json_string(stdout, dir);
        printf(",\"clips\":%d,\"frames\":%zu}\n", cli_count(c), picked);
    } else if (!cli_quiet(c)) {
        printf("%zu frames of %d clips in %s/frames; write bird or nobird into the label column of %s/frames.tsv\n",
               picked, cli_count(c), dir, dir);
        printf("next: siskin import %s/frames.tsv -o DATASET\n", dir);
    }
    return CLI_OK;
}

const cli_verb verb_frames = {
    "frames",
    "picks frames of clips for labelling",
    "CLIP...",
    1,
    -1,
    options,
    run,
    .description =
        "Picks a few frames of every clip, spread in time and unlike each other, writes them as JPEG pictures to look "
        "at and lists them in frames.tsv, where each label is `unknown` until you change it to bird or nobird. "
        "`siskin import` reads the table as it is. A frames.tsv that is there already is never replaced.",
    .examples = "siskin frames feeder/*.mp4 -n 6 -o to-label\n"};
