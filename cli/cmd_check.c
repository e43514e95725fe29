/* SPDX-License-Identifier: Apache-2.0 */
/* siskin check: does anything the model is tested on leak into training? */
#include "cli.h"
#include "siskin/dataset.h"

static const cli_option options[] = {
    {0, "fix", CLI_FLAG, NULL, NULL, "first take the earlier split's copy of each near-duplicate out of use"}, {0}};

static void print_json(const char *dir, const sk_check_report *r, size_t dropped, int leak)
{
    printf("{\"dataset\":");
    cli_json_string(stdout, dir);
    for (int s = SK_SPLIT_NONE; s <= SK_SPLIT_TEST; s++)
        printf(",\"%s\":{\"bird\":%zu,\"nobird\":%zu,\"unknown\":%zu}", s ? sk_split_name((sk_split)s) : "none",
               r->counts[s][2], r->counts[s][1], r->counts[s][0]);
    printf(",\"groups_in_two_splits\":%zu,\"web_in_test\":%zu,\"held_out_outside_test\":%zu,"
           "\"near_duplicates\":%zu,\"same_camera_pairs\":%zu,\"web_in_val\":%zu,\"unreadable\":%zu,"
           "\"dropped\":%zu,\"leak\":%s}\n",
           r->groups_in_two_splits, r->web_in_test, r->heldout_outside_test, r->near_duplicates,
           r->same_camera_pairs, r->web_in_val, r->unreadable, dropped, leak ? "true" : "false");
}

static void print_text(const sk_check_report *r, size_t dropped, int leak)
{
    for (int s = SK_SPLIT_NONE; s <= SK_SPLIT_TEST; s++) {
        const size_t nobird = r->counts[s][1], bird = r->counts[s][2], unknown = r->counts[s][0];
        if (s || nobird + bird + unknown)
            printf("%-5s %7zu bird %7zu nobird %5zu unknown  %5.1f %% bird\n", s ? sk_split_name((sk_split)s) : "none",
                   bird, nobird, unknown, bird + nobird ? 100.0 * (double)bird / (double)(bird + nobird) : 0.0);
    }
    printf("groups in two splits %zu, web in test %zu, held-out outside test %zu, near-duplicates across splits "
           "%zu\n",
           r->groups_in_two_splits, r->web_in_test, r->heldout_outside_test, r->near_duplicates);
    printf("look-alike frames of one camera across splits %zu (no leak), web pictures in val %zu (no leak), "
           "unreadable files %zu\n", r->same_camera_pairs, r->web_in_val, r->unreadable);
    if (dropped)
        printf("%zu near-duplicates taken out of use (label unknown)\n", dropped);
    printf("%s%s%s\n", cli_color(stdout, leak ? "red" : "green"), leak ? "leak found" : "no leak",
           cli_color(stdout, "reset"));
}

static int run(cli *c)
{
    sk_check_report r = {0};
    sk_error err = {0};
    size_t dropped = 0;
    const char *dir = cli_arg(c, 0);
    if (cli_flag(c, "fix") && sk_dataset_drop_duplicates(dir, cli_hooks(c), &dropped, &err) != SK_OK)
        return cli_fail(c, &err);
    const sk_status status = sk_dataset_check(dir, cli_hooks(c), &r, &err);
    /* A leak is a finding and comes with the report; anything else is a failure of the check itself. */
    const int leak = r.groups_in_two_splits + r.web_in_test + r.heldout_outside_test + r.near_duplicates > 0;
    if (status != SK_OK && !(status == SK_ERR_DATA && leak))
        return cli_fail(c, &err);
    if (cli_json(c))
        print_json(dir, &r, dropped, leak);
    else if (!cli_quiet(c))
        print_text(&r, dropped, leak);
    return leak ? CLI_FINDING : CLI_OK;
}

const cli_verb verb_check = {
    "check",
    "proves that the splits do not leak",
    "DATASET",
    1,
    1,
    options,
    run,
    .description =
        "Looks for groups in two splits, web pictures in test, held-out pictures outside test, and "
        "near-duplicate "
        "pictures across splits, also mirrored ones; counts labels per split and names unreadable files. Ends with "
        "exit code 3 if "
        "it finds a leak.\n\n"
        "Frames of one fixed camera look alike because the background does; those are counted but are no leak.\n\n"
        "With --fix, of each near-duplicate pair the copy in the earlier split (train before val before test) is "
        "labelled "
        "unknown, which takes it out of use; its row stays in dataset.tsv.",
    .examples = "siskin check birds\nsiskin check birds --fix\n"};
