/* SPDX-License-Identifier: Apache-2.0 */
/* Datasets: a folder with dataset.tsv, its splits, its leak check and its decoded cache. */
#ifndef SISKIN_DATASET_H
#define SISKIN_DATASET_H

#include <stddef.h>
#include <stdint.h>

#include "siskin/hooks.h"
#include "siskin/image.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum sk_label { SK_LABEL_UNKNOWN = -1, SK_LABEL_NOBIRD = 0, SK_LABEL_BIRD = 1 } sk_label;
typedef enum sk_split { SK_SPLIT_NONE = 0, SK_SPLIT_TRAIN, SK_SPLIT_VAL, SK_SPLIT_TEST } sk_split;
/* Where a picture may go: a clip's frame anywhere; a web picture to train or val; a held-out picture to test only. */
typedef enum sk_role { SK_ROLE_CLIP = 0, SK_ROLE_WEB, SK_ROLE_HELDOUT } sk_role;

#define SK_CLASS_COUNT 2 /* logits index = sk_label: 0 nobird, 1 bird */

typedef struct sk_sample {
    const char *path;   /* absolute */
    int64_t frame;      /* 0-based decoded frame of a clip, -1 for a picture */
    double time_s;      /* -1 if not known */
    sk_label label;
    const char *source; /* e.g. camera or collection */
    const char *group;  /* clip or photo source: never in two splits */
    sk_role role;
    sk_split split;
} sk_sample;

typedef struct sk_dataset sk_dataset;

/* `dir` holds dataset.tsv (docs/formats.md). */
sk_status sk_dataset_open(const char *dir, sk_dataset **out, sk_error *err);
void sk_dataset_close(sk_dataset *dataset);
const char *sk_dataset_dir(const sk_dataset *dataset);
size_t sk_dataset_size(const sk_dataset *dataset);
/* Valid until the dataset is closed. */
const sk_sample *sk_dataset_sample(const sk_dataset *dataset, size_t index);

const char *sk_label_name(sk_label label); /* "bird", "nobird", "unknown" */
const char *sk_split_name(sk_split split); /* "train", "val", "test", "" */
sk_status sk_split_parse(const char *text, sk_split *out, sk_error *err);

/* ---- import -------------------------------------------------------------------------------------------- */
typedef struct sk_import_options {
    const char *root;          /* folder of the tables' relative paths; NULL: each table's own */
    int birds_per_clip;        /* most bird frames kept per clip (seed: 4); 0 keeps all */
    int empties_per_clip;      /* most empty frames kept per clip (seed: 2); 0 keeps all */
    double min_gap_s;          /* least distance in time between two kept frames of a label, default 0.4 */
    int max_bad;               /* more unreadable files than this end the import, default 100 */
} sk_import_options;
typedef struct sk_import_report {
    size_t rows, kept, unknown, bad, birds, nobirds, clips, clip_frames_dropped;
} sk_import_report;
sk_import_options sk_import_defaults(void);
/* `inputs`: tables (.tsv) or folders with one sub-folder per class. Creates or replaces `dir`/dataset.tsv. */
sk_status sk_dataset_import(const char *const *inputs, size_t count, const char *dir, const sk_import_options *options,
                            const sk_hooks *hooks, sk_import_report *report, sk_error *err);

/* ---- candidate frames of unlabelled clips -------------------------------------------------------------- */
typedef struct sk_frames_options {
    int per_clip;      /* most frames per clip, default 6 */
    double min_gap_s;  /* default 0.5 */
    int max_bad;
} sk_frames_options;
sk_frames_options sk_frames_defaults(void);
/* Writes `dir`/frames.tsv (video, frame, time_s, label=unknown) and `dir`/frames/NAME.jpg to look at. */
sk_status sk_frames_pick(const char *const *clips, size_t count, const char *dir, const sk_frames_options *options,
                         const sk_hooks *hooks, size_t *picked, sk_error *err);

/* ---- split and check ----------------------------------------------------------------------------------- */
typedef struct sk_split_options {
    double parts[3];   /* train, val and test of the clips: non-negative, not all 0; default 6, 2, 2 */
    double val_photos; /* share of each source's web pictures that goes to val, 0 to 0.9; default 0 */
    uint64_t seed;     /* 0 */
} sk_split_options;
sk_split_options sk_split_defaults(void);
/* Assigns splits by group, stratified by label, from the seed alone; web to train (and val), held-out to test. A source
 * whose web pictures are one group stays in train whole. Rewrites dataset.tsv. Errors: ARGUMENT, DATA (a group that is
 * both web and held-out), IO. */
sk_status sk_dataset_split(const char *dir, const sk_split_options *options, sk_error *err);

typedef struct sk_check_report {
    size_t counts[4][3];          /* [split][0 unknown, 1 nobird, 2 bird] */
    size_t groups_in_two_splits, web_in_test, heldout_outside_test, near_duplicates, unreadable;
    size_t same_camera_pairs;     /* look-alike frames of one fixed camera in two splits: told, not a leak */
    size_t web_in_val;            /* told, not a leak: they tune thresholds and temperature, the test stays clean */
} sk_check_report;
/* Each finding is told through hooks->log. Returns SK_ERR_DATA if there is a leak. */
sk_status sk_dataset_check(const char *dir, const sk_hooks *hooks, sk_check_report *report, sk_error *err);
/* Takes one picture of each near-duplicate pair across splits out of use (label unknown), always the one of the
 * earlier split (train before val before test), so that the test set stays what it is. Rewrites dataset.tsv. */
sk_status sk_dataset_drop_duplicates(const char *dir, const sk_hooks *hooks, size_t *dropped, sk_error *err);

/* ---- decoded cache ------------------------------------------------------------------------------------- */
/* Pictures with the shorter side at 256, RGB, in one mmap-ed file in the dataset's folder. */
#define SK_CACHE_SIDE 256
typedef struct sk_cache sk_cache;
/* Builds what is missing or stale (size or time of a source file changed), in parallel, then maps it. Pictures that
 * cannot be read are counted in *bad and named through hooks->log; more than max_bad end with SK_ERR_DATA. */
sk_status sk_cache_open(const sk_dataset *dataset, int max_bad, int threads, const sk_hooks *hooks, sk_cache **out,
                        size_t *bad, sk_error *err);
void sk_cache_close(sk_cache *cache);
/* The cached picture of sample `index`; data NULL if it could not be read or its label is unknown. `image->data` points
 * into the map: never free or write it. Thread-safe. */
void sk_cache_image(const sk_cache *cache, size_t index, sk_image *image);

/* ---- composites: pictures to test with ------------------------------------------------------------------ */
typedef struct sk_compose_options {
    const char *patches;   /* sources of what is pasted, parted by commas: SOURCE or SOURCE:LABEL (bird, nobird) */
    const char *grounds;   /* sources of what it is pasted on: their nobird samples */
    const char *kinds;     /* some of small, dark, cut, night, blur, parted by commas; NULL: all */
    sk_split patch_split, ground_split; /* take samples of this split only; SK_SPLIT_NONE: of any */
    int mix_patches, mix_grounds; /* allow samples of train beside those of other splits */
    int count;             /* pictures per kind and label, default 100, at most 100000 */
    uint64_t seed;         /* 1 */
    int max_bad, threads;  /* of the cache; 100, all cores */
} sk_compose_options;
typedef struct sk_compose_report {
    size_t pictures;
    size_t patches[SK_CLASS_COUNT][4]; /* [label][split]: different pictures pasted */
    size_t grounds[4];                 /* [split]: different grounds */
    size_t unclear;                    /* pictures whose object hardly differs from its surroundings */
} sk_compose_report;
sk_compose_options sk_compose_defaults(void);
/* Writes `dir` as a dataset of its own: pictures/KIND-LABEL-NUMBER.png (SK_CACHE_SIDE square), compose.tsv (what each
 * was made of) and dataset.tsv (source composite-KIND, group composite-KIND/SOURCE of the patch, role held-out, split
 * test). Number N of a kind has the same ground, place and light for both labels; only what is pasted differs. The
 * same options give the same bytes for any number of threads. A dataset that is there already is not replaced.
 * Errors: ARGUMENT (a source, kind or split that gives nothing; train mixed with test), IO, DATA, CANCELLED. */
sk_status sk_dataset_compose(const sk_dataset *dataset, const char *dir, const sk_compose_options *options,
                             const sk_hooks *hooks, sk_compose_report *report, sk_error *err);

#ifdef __cplusplus
}
#endif
#endif
