/* SPDX-License-Identifier: Apache-2.0 */
/* siskin import: tables and folders per class become a dataset. */
#include "cli.h"
#include "siskin/dataset.h"

static const cli_option options[] = {
    {'o', "output", CLI_STRING, "DATASET", NULL, "folder of the dataset to create or replace", .required = 1},
    {0, "root", CLI_STRING, "DIR", NULL, "folder of the tables' relative paths (default: each table's own)"},
    {0, "birds", CLI_INT, "N", "4", "most bird frames kept per clip, 0 for all", .least = 0, .most = 100000},
    {0, "empties", CLI_INT, "N", "2", "most empty frames kept per clip, 0 for all", .least = 0, .most = 100000},
    {0, "min-gap", CLI_DOUBLE, "SECONDS", "0.4", "least time between two kept frames of a label", .least = 0,
     .most = 86400},
    CLI_MAX_BAD("files"),
    {0}};

static int run(cli *c)
{
    sk_import_options o = sk_import_defaults();
    o.root = cli_string(c, "root");
    o.birds_per_clip = (int)cli_int(c, "birds");
    o.empties_per_clip = (int)cli_int(c, "empties");
    o.min_gap_s = cli_double(c, "min-gap");
    o.max_bad = (int)cli_int(c, "max-bad");
    sk_import_report r = {0};
    sk_error err = {0};
    const char *dir = cli_string(c, "output");
    if (sk_dataset_import(cli_args(c), (size_t)cli_count(c), dir, &o, cli_hooks(c), &r, &err) != SK_OK)
        return cli_fail(c, &err);
    if (cli_json(c)) {
        printf("{\"dataset\":");
        cli_json_string(stdout, dir);
        printf(",\"rows\":%zu,\"kept\":%zu,\"bird\":%zu,\"nobird\":%zu,\"unknown\":%zu,\"bad\":%zu,\"clips\":%zu,"
               "\"clip_frames_dropped\":%zu}\n",
               r.rows, r.kept, r.birds, r.nobirds, r.unknown, r.bad, r.clips, r.clip_frames_dropped);
    } else if (!cli_quiet(c)) {
        printf("%s: %zu of %zu rows kept: %zu bird, %zu nobird, %zu unknown\n", dir, r.kept, r.rows, r.birds, r.nobirds,
               r.unknown);
        printf("%zu clips, %zu of their frames not chosen; %zu unreadable files\n", r.clips, r.clip_frames_dropped,
               r.bad);
        printf("next: siskin split %s\n", dir);
    }
    return CLI_OK;
}

const cli_verb verb_import = {
    "import",
    "makes a dataset from tables and folders",
    "TABLE|FOLDER...",
    1,
    -1,
    options,
    run,
    .description =
        "A table is tab-separated text whose header names `label` (bird, nobird or unknown) and `path` or `video`; it "
        "may "
        "name `frame` (0-based number of a clip's decoded frame), `time_s`, `source`, `group`, `role` and `split`. "
        "Paths are "
        "relative to the table; a video may also lie in the `videos` folder beside it. A folder holds one sub-folder "
        "per "
        "class: bird, and nobird, no_bird, no-bird, empty or background.\n\n"
        "Of every clip a few frames are kept that are spread in time and unlike each other. Pictures without a role "
        "count "
        "as web pictures and go to the training part only; the role `test` holds a source out for testing; `clip` lets "
        "pictures of your own camera go anywhere.\n\n"
        "Every file is decoded once, into the dataset's cache. Files that cannot be read are named and left out.",
    .examples = "siskin import feeder/frames.tsv photos.tsv -o birds\n"
                "siskin import my-photos/ --max-bad 10 -o birds\n"};
