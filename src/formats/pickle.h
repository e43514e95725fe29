/* SPDX-License-Identifier: Apache-2.0 */
/* A pickle machine that knows only what torch.save of a state_dict writes. It builds values and never calls, imports
 * or runs anything: a class is an entry of a fixed list, everything else is refused by name. Internal. */
#ifndef SK_FORMATS_PICKLE_H
#define SK_FORMATS_PICKLE_H

#include "formats/readers.h"

#define SK_PICKLE_SIZE_MAX ((size_t)16 << 20)
#define SK_PICKLE_VALUES_MAX ((size_t)1 << 18)

typedef enum pk_type {
    PK_NONE = 0,
    PK_BOOL,    /* number */
    PK_INT,     /* number */
    PK_FLOAT,   /* value not kept: nothing here needs one */
    PK_TEXT,    /* text, length: not NUL-terminated */
    PK_TUPLE,   /* items */
    PK_LIST,    /* items */
    PK_DICT,    /* items: key, value, key, value... */
    PK_GLOBAL,  /* number: pk_global */
    PK_STORAGE, /* number: index of the tuple of the persistent id */
    PK_TENSOR,  /* number: index of the tuple of arguments (storage, offset, shape, strides, ...) */
    PK_MARK
} pk_type;

/* The first ones are storages, in the order of sk_number. */
typedef enum pk_global { PK_GLOBAL_DICT = SK_NUMBER_I64 + 1, PK_GLOBAL_TENSOR, PK_GLOBAL_PARAMETER } pk_global;

typedef struct pk_value {
    pk_type type;
    int64_t number;
    const char *text;
    size_t length;
    uint32_t *items;
    size_t count, capacity;
} pk_value;

typedef struct sk_pickle {
    pk_value *values;
    size_t count, capacity;
    uint32_t *stack;
    size_t depth, stack_capacity;
    uint32_t *memo; /* UINT32_MAX: unset */
    size_t memo_size, memo_count;
    uint32_t root;
    size_t used; /* bytes of input up to and with STOP */
} sk_pickle;

/* Runs one pickle; `bytes` must outlive the machine. Free with sk_pickle_free, also after a failure. */
sk_status sk_pickle_run(sk_pickle *pickle, const uint8_t *bytes, size_t size, const char *what, sk_error *err);
void sk_pickle_free(sk_pickle *pickle);

int sk_pickle_is_text(const pk_value *value, const char *text);
/* Item `index` of a tuple, list or dict if it is of `type`, else NULL. */
const pk_value *sk_pickle_item(const sk_pickle *pickle, const pk_value *container, size_t index, pk_type type);
#endif
