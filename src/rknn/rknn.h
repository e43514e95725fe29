/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this room share: the folder of the toolkit, work folders, the Python side. Internal. */
#ifndef SK_RKNN_RKNN_H
#define SK_RKNN_RKNN_H

#include "formats/json.h"
#include "rknn/child.h"
#include "siskin/quant.h"
#include "siskin/rknn.h"

#define SK_DEBIAN_PYTHON "/usr/bin/python3" /* the one that Debian's python3-torch belongs to */

/* Files of share/, inside the program. */
extern const char sk_rknn_requirements[], sk_rknn_bridge_script[];

/* `dir`, else $SISKIN_RKNN, else $XDG_DATA_HOME/siskin/rknn, else ~/.local/share/siskin/rknn, absolute; *out is
 * released with sk_free. */
sk_status sk_rknn_dir(const char *dir, char **out, sk_error *err);

/* The pinned packages one by one: 1 while there is one. `index` counts from 0. */
int sk_rknn_package(int index, char name[48], char version[16]);

typedef struct sk_bridge sk_bridge;

/* Copies the next line of *log without its colours; 0 at the end. */
int sk_rknn_log_line(const char **log, char *out, size_t size);

/* ---- folders (folder.c) --------------------------------------------------------------------------------------- */
/* A new folder in $TMPDIR or /tmp, for sk_folder_remove and sk_free. */
sk_status sk_folder_temporary(char **out, sk_error *err);
/* With all that is in it; links are not followed. What is not there is fine. */
sk_status sk_folder_remove(const char *path, sk_error *err);

/* ---- jobs of the toolkit (job.c) ------------------------------------------------------------------------------- */
/* What conversion, simulation and comparison begin with. */
typedef struct sk_rknn_job {
    char *dir, *folder; /* of the toolkit; work folder */
    int keep;           /* the work folder stays */
    sk_bridge *bridge;
    int pictures;
    sk_vendor_form form; /* what model.onnx was written from */
} sk_rknn_job;
/* Writes model.onnx, calibration/NNNN.png and calibration.txt into the work folder and starts the toolkit there. */
sk_status sk_rknn_job_open(sk_model *model, const sk_dataset *dataset, const sk_cache *cache,
                           const sk_rknn_options *options, const sk_hooks *hooks, sk_rknn_job *job, sk_error *err);
/* Has the toolkit load and quantise it; `outputs`: names of values parted by commas, NULL for the model's own. */
sk_status sk_rknn_job_build(sk_rknn_job *job, const sk_model *model, const sk_rknn_options *options,
                            const char *outputs, sk_error *err);
void sk_rknn_job_close(sk_rknn_job *job);
/* Is it a chip that this is made for? Errors: ARGUMENT, with the list. */
sk_status sk_rknn_check_target(const char *target, sk_error *err);
/* Before a conversion (lint.c): warnings to the hooks; the first error ends it unless `despite`. Errors: as
 * sk_rknn_lint_file, UNSUPPORTED. */
sk_status sk_rknn_lint_gate(const char *onnx, const char *target, int despite, const sk_hooks *hooks, sk_error *err);
/* The card and how the model was made, as JSON of at most 1024 bytes; released with sk_free, NULL: out of memory. */
char *sk_rknn_card_text(const sk_card *card, const sk_rknn_options *options);
/* The card out of such a text; 0 if it is none. */
int sk_rknn_card_parse(const char *text, sk_card *card, char algorithm[24]);

/* Answers n pictures in the simulator: logits, and pooled features if not NULL (simulate.c). The model was built with
 * the outputs "logits,avgpool" and the simulator started. */
sk_status sk_rknn_run(sk_bridge *bridge, const uint8_t *images, int n, int size, int classes, int features,
                      float *logits, float *out_features, sk_error *err);

/* Our forecast with the ranges that the toolkit has just chosen (ranges.c); *out is released with sk_vendor_free.
 * Errors: UNSUPPORTED, MISMATCH (another version of the toolkit), MEMORY. */
sk_status sk_rknn_forecast(sk_bridge *bridge, const sk_model *model, const sk_vendor_form *form, sk_vendor **out,
                           sk_error *err);

/* ---- the Python side (bridge.c) ------------------------------------------------------------------------------- */
/* `dir` as sk_rknn_dir gives it; `folder`: where the toolkit works, for the script and what it leaves about. */
sk_status sk_bridge_open(const char *dir, const char *folder, const sk_hooks *hooks, sk_bridge **out, sk_error *err);
/* Sends `json`, one object, and `size` bytes behind it. *answer (NULL: not wanted) is released with cJSON_Delete. A
 * failure that the toolkit tells becomes SK_ERR_UNSUPPORTED with its own last sentence. */
sk_status sk_bridge_ask(sk_bridge *bridge, const char *json, const void *bytes, size_t size, cJSON **answer,
                        sk_error *err);
sk_status sk_bridge_read(sk_bridge *bridge, void *bytes, size_t size, sk_error *err);
const char *sk_bridge_log(const sk_bridge *bridge);
void sk_bridge_close(sk_bridge *bridge);
#endif
