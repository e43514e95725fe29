/* SPDX-License-Identifier: Apache-2.0 */
/* Model files as lists of named float32 tensors plus text metadata, whatever the format on disk. Internal.
 * One shape of data for safetensors, PyTorch checkpoints and ONNX, so that the network knows no file format. */
#ifndef SK_FORMATS_TENSORS_H
#define SK_FORMATS_TENSORS_H

#include "base/base.h"
#include "siskin/model.h"

#define SK_TENSORS_MAX 4096            /* tensors in one file */
#define SK_TENSOR_COUNT_MAX (1u << 28) /* values in one tensor */

typedef struct sk_tensor_entry {
    char *name;
    int rank; /* 0: a scalar of one value */
    int shape[4];
    size_t count;
    float *data; /* never NULL; of an int64 scalar its value as float */
    int is_i64;  /* an int64 scalar such as num_batches_tracked, exact in `i64` */
    int64_t i64;
} sk_tensor_entry;

typedef struct sk_tensor_meta {
    char *key, *value;
} sk_tensor_meta;

/* Initialise with {0}. Order is that of adding or of the file. */
typedef struct sk_tensor_file {
    sk_tensor_entry *items;
    size_t count, capacity;
    sk_tensor_meta *meta;
    size_t meta_count, meta_capacity;
} sk_tensor_file;

/* Copies `data` (NULL: zeros). FORMAT if the name is there already, the rank above 4 or a dimension negative. */
sk_status sk_tensors_add(sk_tensor_file *file, const char *name, int rank, const int *shape, const float *data,
                         sk_error *err);
sk_status sk_tensors_add_i64(sk_tensor_file *file, const char *name, int64_t value, sk_error *err);
const sk_tensor_entry *sk_tensors_find(const sk_tensor_file *file, const char *name); /* NULL if there is none */
sk_status sk_tensors_set_meta(sk_tensor_file *file, const char *key, const char *value, sk_error *err);
const char *sk_tensors_meta(const sk_tensor_file *file, const char *key); /* NULL if there is none */
/* Releases the contents and leaves {0}. */
void sk_tensors_free(sk_tensor_file *file);

/* The card as metadata pairs ("siskin.arch", "siskin.size", ...; docs/formats.md). */
sk_status sk_tensors_set_card(sk_tensor_file *file, const sk_card *card, sk_error *err);
/* Overwrites the members of *card that the metadata name and leaves the others; *found (may be NULL) says whether
 * there was a card at all. FORMAT for a value out of range. */
sk_status sk_tensors_get_card(const sk_tensor_file *file, sk_card *card, int *found, sk_error *err);

/* Reads safetensors, a torch.save checkpoint (zip or the older stream) or ONNX written by siskin, told apart by
 * content. A prefix `module.` of all names is taken off. Whatever the format, *out holds torchvision's names; an ONNX
 * (batch norm folded) comes back with batch norms that change nothing. *out is overwritten; {0} on failure. */
sk_status sk_tensors_read(const char *path, sk_tensor_file *out, sk_error *err);
/* The same from memory; `what` names it in messages. */
sk_status sk_tensors_read_memory(const uint8_t *bytes, size_t size, const char *what, sk_tensor_file *out,
                                 sk_error *err);
/* Same contents give the same bytes, in whatever order they were added. Written aside and renamed. */
sk_status sk_tensors_write_safetensors(const char *path, const sk_tensor_file *file, sk_error *err);
#endif
