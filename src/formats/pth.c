/* SPDX-License-Identifier: Apache-2.0 */
/* PyTorch checkpoints: a zip of data.pkl and data/KEY (torch >= 1.6), or the older stream of pickles followed by the
 * storages. Finds the state_dict, alone or under "state_dict", "model_state_dict" or "model", and copies its tensors.
 * Values written never exceed the file's size in bytes, whatever strides of 0 or shared storages promise. */
#include <string.h>

#include <zip.h>

#include "formats/pickle.h"
#include "formats/readers.h"

typedef struct pth_storage {
    const pk_value *key; /* NULL: nothing loaded */
    const uint8_t *bytes;
    uint8_t *owned; /* of the zip: a copy of the entry */
    size_t size;
} pth_storage;

typedef struct pth_source {
    const char *what;
    size_t budget; /* values that may still be written */
    zip_t *zip;    /* NULL: a stream */
    char *prefix;  /* of the zip's entries, "archive/" */
    pth_storage current;
    pth_storage *table; /* of a stream: every storage */
    size_t table_count;
} pth_source;

/* ---- one entry of the zip ---------------------------------------------------------------------------------- */
static sk_status read_entry(const pth_source *source, const char *name, uint64_t size_max, uint8_t **out, size_t *size,
                            sk_error *err) {
    zip_stat_t stat;
    zip_file_t *entry = NULL;
    uint8_t *bytes = NULL;
    sk_status status = SK_OK;
    if (zip_stat(source->zip, name, 0, &stat) != 0)
        return sk_fail(err, SK_ERR_FORMAT, "cannot read %s: entry %.80s is missing", source->what, name);
    if (!(stat.valid & ZIP_STAT_SIZE) || !(stat.valid & ZIP_STAT_COMP_METHOD) || stat.comp_method != ZIP_CM_STORE ||
        stat.encryption_method != ZIP_EM_NONE)
        return sk_fail(err, SK_ERR_UNSUPPORTED, "cannot read %s: entry %.80s is compressed, torch.save never does that",
                       source->what, name);
    if (stat.size > size_max)
        return sk_fail(err, SK_ERR_FORMAT, "cannot read %s: entry %.80s is of %llu bytes, more than expected",
                       source->what, name, (unsigned long long)stat.size);
    entry = zip_fopen(source->zip, name, 0);
    bytes = entry ? sk_alloc((size_t)stat.size + 1, 1) : NULL;
    if (!entry)
        status = sk_fail(err, SK_ERR_FORMAT, "cannot read %s: entry %.80s: %s", source->what, name,
                         zip_strerror(source->zip));
    else if (!bytes) status = sk_fail_memory(err, source->what);
    /* The second read makes libzip compare the checksum. */
    else if (zip_fread(entry, bytes, stat.size) != (zip_int64_t)stat.size ||
             zip_fread(entry, bytes + stat.size, 1) != 0)
        status = sk_fail(err, SK_ERR_FORMAT, "cannot read %s: entry %.80s is damaged", source->what, name);
    if (entry) zip_fclose(entry);
    if (status != SK_OK) {
        sk_free(bytes);
        return status;
    }
    *out = bytes;
    *size = (size_t)stat.size;
    return SK_OK;
}

/* ---- storages ---------------------------------------------------------------------------------------------- */
static int same_key(const pk_value *a, const pk_value *b) {
    return a && b && a->length == b->length && memcmp(a->text, b->text, a->length) == 0;
}

static sk_status load_storage(pth_source *source, const pk_value *key, uint64_t size, sk_error *err) {
    if (!same_key(source->current.key, key)) {
        sk_free(source->current.owned);
        memset(&source->current, 0, sizeof source->current);
        if (source->zip) {
            char *name = sk_format("%sdata/%.*s", source->prefix, key->length < 64 ? (int)key->length : 64, key->text);
            if (!name) return sk_fail_memory(err, source->what);
            const sk_status status =
                memchr(key->text, 0, key->length)
                    ? sk_fail(err, SK_ERR_FORMAT, "cannot read %s: bad storage key", source->what)
                    : read_entry(source, name, size, &source->current.owned, &source->current.size, err);
            sk_free(name);
            if (status != SK_OK) return status;
            source->current.bytes = source->current.owned;
            source->current.key = key;
        } else {
            for (size_t i = 0; i < source->table_count; i++)
                if (same_key(source->table[i].key, key)) source->current = source->table[i];
        }
    }
    if (!source->current.key || source->current.size != size)
        return sk_fail(err, SK_ERR_FORMAT, "cannot read %s: storage %.*s is missing or of another size", source->what,
                       key->length < 64 ? (int)key->length : 64, key->text);
    return SK_OK;
}

/* ---- tensors ----------------------------------------------------------------------------------------------- */
typedef struct pth_view {
    sk_number type;
    uint64_t numel;
    int rank, small[4];
    int64_t shape[4], stride[4], offset;
    size_t count;
    const pk_value *key;
} pth_view;

/* Everything about the tensor, checked: the farthest element lies inside the storage. */
static sk_status read_view(const sk_pickle *p, const pk_value *tensor, const char *name, pth_view *view,
                           sk_error *err) {
    const pk_value *arguments = &p->values[tensor->number];
    const pk_value *storage = sk_pickle_item(p, arguments, 0, PK_STORAGE);
    const pk_value *shape = sk_pickle_item(p, arguments, 2, PK_TUPLE);
    const pk_value *strides = sk_pickle_item(p, arguments, 3, PK_TUPLE);
    const pk_value *id = &p->values[storage->number];
    const int64_t numel = sk_pickle_item(p, id, 4, PK_INT)->number;
    memset(view, 0, sizeof *view);
    view->type = (sk_number)sk_pickle_item(p, id, 1, PK_GLOBAL)->number;
    view->key = sk_pickle_item(p, id, 2, PK_TEXT);
    view->offset = sk_pickle_item(p, arguments, 1, PK_INT)->number;
    if (shape->count > 4 || strides->count != shape->count)
        return sk_fail(err, SK_ERR_UNSUPPORTED, "tensor %.80s has more than 4 dimensions", name);
    if (numel <= 0 || numel > SK_TENSOR_COUNT_MAX || view->offset < 0 || view->offset >= numel)
        return sk_fail(err, SK_ERR_FORMAT, "tensor %.80s lies outside its storage", name);
    view->numel = (uint64_t)numel;
    view->rank = (int)shape->count;
    for (int i = 0; i < view->rank; i++) {
        const pk_value *size = sk_pickle_item(p, shape, (size_t)i, PK_INT);
        const pk_value *stride = sk_pickle_item(p, strides, (size_t)i, PK_INT);
        if (!size || !stride || stride->number < 0 || stride->number > SK_TENSOR_COUNT_MAX)
            return sk_fail(err, SK_ERR_FORMAT, "tensor %.80s has a broken shape", name);
        view->shape[i] = size->number;
        view->stride[i] = stride->number;
    }
    const sk_status status = sk_shape_count(name, view->rank, view->shape, &view->count, err);
    if (status != SK_OK) return status;
    int64_t last = view->offset;
    for (int i = 0; i < view->rank; i++) {
        view->small[i] = (int)view->shape[i];
        last += (view->shape[i] - 1) * view->stride[i]; /* each factor below 2^28 + 1 */
    }
    return last < numel ? SK_OK : sk_fail(err, SK_ERR_FORMAT, "tensor %.80s lies outside its storage", name);
}

static void copy_view(const pth_view *view, const uint8_t *bytes, float *out) {
    int64_t shape[4] = {1, 1, 1, 1}, stride[4] = {0, 0, 0, 0};
    const size_t size = sk_number_size(view->type);
    for (int i = 0; i < view->rank; i++) {
        shape[4 - view->rank + i] = view->shape[i];
        stride[4 - view->rank + i] = view->stride[i];
    }
    for (int64_t a = 0; a < shape[0]; a++)
        for (int64_t b = 0; b < shape[1]; b++)
            for (int64_t c = 0; c < shape[2]; c++, out += shape[3]) {
                const int64_t at = view->offset + a * stride[0] + b * stride[1] + c * stride[2];
                sk_numbers_to_float(view->type, bytes + (size_t)at * size, (size_t)shape[3], (size_t)stride[3], out);
            }
}

static sk_status add_tensor(pth_source *source, const sk_pickle *p, const pk_value *tensor, const char *name,
                            sk_tensor_file *out, sk_error *err) {
    pth_view view;
    sk_status status = read_view(p, tensor, name, &view, err);
    if (status != SK_OK) return sk_error_prefix(err, status, "cannot read %s", source->what);
    if (view.count > source->budget)
        return sk_fail(err, SK_ERR_FORMAT, "cannot read %s: its tensors are larger than the file", source->what);
    source->budget -= view.count;
    status = load_storage(source, view.key, view.numel * sk_number_size(view.type), err);
    if (status != SK_OK) return status;
    if (view.type == SK_NUMBER_I64 && view.count == 1)
        status = sk_tensors_add_i64(out, name, sk_number_i64(source->current.bytes + view.offset * 8), err);
    else if ((status = sk_tensors_add(out, name, view.rank, view.small, NULL, err)) == SK_OK)
        copy_view(&view, source->current.bytes, out->items[out->count - 1].data);
    return status == SK_OK ? SK_OK : sk_error_prefix(err, status, "cannot read %s", source->what);
}

static int holds_tensor(const sk_pickle *p, const pk_value *dict) {
    for (size_t i = 0; dict->type == PK_DICT && i + 1 < dict->count; i += 2)
        if (p->values[dict->items[i]].type == PK_TEXT && p->values[dict->items[i + 1]].type == PK_TENSOR) return 1;
    return 0;
}

static const pk_value *find_state_dict(const sk_pickle *p) {
    static const char *const wrappers[] = {"state_dict", "model_state_dict", "model"};
    const pk_value *root = &p->values[p->root];
    if (holds_tensor(p, root)) return root;
    for (size_t w = 0; w < sizeof wrappers / sizeof *wrappers; w++)
        for (size_t i = 0; root->type == PK_DICT && i + 1 < root->count; i += 2)
            if (sk_pickle_is_text(&p->values[root->items[i]], wrappers[w]) &&
                holds_tensor(p, &p->values[root->items[i + 1]]))
                return &p->values[root->items[i + 1]];
    return NULL;
}

static sk_status add_state_dict(pth_source *source, const sk_pickle *p, sk_tensor_file *out, sk_error *err) {
    const pk_value *dict = find_state_dict(p);
    if (!dict)
        return sk_fail(err, SK_ERR_FORMAT,
                       "cannot read %s: no state_dict in it, alone or under \"state_dict\" or \"model\"", source->what);
    for (size_t i = 0; i + 1 < dict->count; i += 2) {
        const pk_value *key = &p->values[dict->items[i]], *value = &p->values[dict->items[i + 1]];
        if (key->type != PK_TEXT || value->type != PK_TENSOR) continue; /* counters and settings beside the tensors */
        if (key->length == 0 || key->length > 512 || memchr(key->text, 0, key->length))
            return sk_fail(err, SK_ERR_FORMAT, "cannot read %s: a tensor's name is broken", source->what);
        char *name = sk_format("%.*s", (int)key->length, key->text);
        if (!name) return sk_fail_memory(err, source->what);
        const sk_status status = add_tensor(source, p, value, name, out, err);
        sk_free(name);
        if (status != SK_OK) return status;
    }
    return SK_OK;
}

/* ---- the zip ------------------------------------------------------------------------------------------------ */
static sk_status find_prefix(pth_source *source, sk_error *err) {
    static const char wanted[] = "data.pkl";
    const zip_int64_t count = zip_get_num_entries(source->zip, 0);
    for (zip_int64_t i = 0; i < count; i++) {
        const char *name = zip_get_name(source->zip, (zip_uint64_t)i, 0);
        const size_t length = name ? strlen(name) : 0, end = sizeof wanted - 1;
        if (length < end || strcmp(name + length - end, wanted) != 0 || (length > end && name[length - end - 1] != '/'))
            continue;
        source->prefix = sk_format("%.*s", (int)(length - end), name);
        return source->prefix ? SK_OK : sk_fail_memory(err, source->what);
    }
    return sk_fail(err, SK_ERR_FORMAT, "cannot read %s: a zip file, but not a PyTorch checkpoint (no data.pkl)",
                   source->what);
}

/* torch >= 1.12 says the byte order; older ones are little-endian. */
static sk_status check_byte_order(const pth_source *source, sk_error *err) {
    uint8_t *text = NULL;
    size_t size = 0;
    char *name = sk_format("%sbyteorder", source->prefix);
    sk_status status = name ? SK_OK : sk_fail_memory(err, source->what);
    if (name && zip_name_locate(source->zip, name, 0) >= 0) {
        status = read_entry(source, name, 16, &text, &size, err);
        if (status == SK_OK && (size != 6 || memcmp(text, "little", 6) != 0))
            status = sk_fail(err, SK_ERR_UNSUPPORTED, "cannot read %s: not little-endian", source->what);
    }
    sk_free(text);
    sk_free(name);
    return status;
}

sk_status sk_pth_parse_zip(const uint8_t *bytes, size_t size, const char *what, sk_tensor_file *out, sk_error *err) {
    pth_source source = {.what = what, .budget = size};
    sk_pickle pickle = {0};
    uint8_t *program = NULL;
    size_t program_size = 0;
    char *name = NULL;
    sk_status status = SK_OK;
    zip_error_t zip_error;
    zip_error_init(&zip_error);
    zip_source_t *buffer = zip_source_buffer_create(bytes, size, 0, &zip_error);
    source.zip = buffer ? zip_open_from_source(buffer, ZIP_RDONLY, &zip_error) : NULL;
    if (!source.zip) {
        status = sk_fail(err, SK_ERR_FORMAT, "cannot read %s: %s (truncated?)", what, zip_error_strerror(&zip_error));
        if (buffer) zip_source_free(buffer);
        goto done;
    }
    status = find_prefix(&source, err);
    if (status == SK_OK) status = check_byte_order(&source, err);
    if (status == SK_OK && !(name = sk_format("%sdata.pkl", source.prefix))) status = sk_fail_memory(err, what);
    if (status == SK_OK) status = read_entry(&source, name, SK_PICKLE_SIZE_MAX, &program, &program_size, err);
    if (status == SK_OK) status = sk_pickle_run(&pickle, program, program_size, what, err);
    if (status == SK_OK) status = add_state_dict(&source, &pickle, out, err);
done:
    sk_pickle_free(&pickle);
    sk_free(source.current.owned);
    sk_free(source.prefix);
    sk_free(program);
    sk_free(name);
    if (source.zip) zip_discard(source.zip);
    zip_error_fini(&zip_error);
    return status;
}

/* ---- the stream -------------------------------------------------------------------------------------------- */

/* sys_info: {"protocol_version": 1001, "little_endian": True, ...}. Advances *at. */
static sk_status read_system(const uint8_t *bytes, size_t size, size_t *at, const char *what, sk_error *err) {
    sk_pickle system = {0};
    sk_status status = sk_pickle_run(&system, bytes + *at, size - *at, what, err);
    if (status == SK_OK) {
        const pk_value *dict = &system.values[system.root];
        int little = 0;
        for (size_t i = 0; dict->type == PK_DICT && i + 1 < dict->count; i += 2)
            if (sk_pickle_is_text(&system.values[dict->items[i]], "little_endian"))
                little = system.values[dict->items[i + 1]].type == PK_BOOL && system.values[dict->items[i + 1]].number;
        if (!little)
            status = sk_fail(err, SK_ERR_UNSUPPORTED, "cannot read %s: not a little-endian PyTorch checkpoint", what);
        *at += system.used;
    }
    sk_pickle_free(&system);
    return status;
}

/* Bytes of one value of the storage `key`, 0 if no tensor names it. */
static size_t storage_item_size(const sk_pickle *p, const pk_value *key) {
    for (size_t i = 0; i < p->count; i++)
        if (p->values[i].type == PK_STORAGE) {
            const pk_value *id = &p->values[p->values[i].number];
            if (same_key(sk_pickle_item(p, id, 2, PK_TEXT), key))
                return sk_number_size((sk_number)sk_pickle_item(p, id, 1, PK_GLOBAL)->number);
        }
    return 0;
}

/* After the list of keys: for each its number of values (int64) and the values. */
static sk_status read_table(pth_source *source, const sk_pickle *p, const sk_pickle *keys, const uint8_t *bytes,
                            size_t size, size_t at, sk_error *err) {
    const pk_value *list = &keys->values[keys->root];
    if (list->type != PK_LIST || list->count > SK_TENSORS_MAX)
        return sk_fail(err, SK_ERR_FORMAT, "cannot read %s: no list of storages", source->what);
    source->table = sk_calloc(list->count + 1, sizeof *source->table);
    if (!source->table) return sk_fail_memory(err, source->what);
    for (size_t i = 0; i < list->count; i++) {
        const pk_value *key = sk_pickle_item(keys, list, i, PK_TEXT);
        const size_t item = key ? storage_item_size(p, key) : 0;
        const int64_t count = size - at >= 8 ? sk_number_i64(bytes + at) : -1;
        if (item == 0 || count < 0 || (uint64_t)count > (size - at - 8) / item)
            return sk_fail(err, SK_ERR_FORMAT, "cannot read %s: storage %zu is broken or cut off", source->what, i);
        source->table[source->table_count++] =
            (pth_storage){.key = key, .bytes = bytes + at + 8, .size = (size_t)count * item};
        at += 8 + (size_t)count * item;
    }
    return SK_OK;
}

sk_status sk_pth_parse_stream(const uint8_t *bytes, size_t size, const char *what, sk_tensor_file *out, sk_error *err) {
    /* The pickled magic number 0x1950a86a20f9469cfc6c and the pickled protocol 1001. */
    static const uint8_t magic[] = {0x80, 2,    0x8a, 10,  0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a,
                                    0xa8, 0x50, 0x19, '.', 0x80, 2,    'M',  0xe9, 3,    '.'};
    pth_source source = {.what = what, .budget = size};
    sk_pickle pickle = {0}, keys = {0};
    size_t at = sizeof magic;
    if (size < sizeof magic || memcmp(bytes, magic, sizeof magic) != 0)
        return sk_fail(err, SK_ERR_FORMAT, "cannot read %s: a pickle, but not a PyTorch checkpoint", what);
    sk_status status = read_system(bytes, size, &at, what, err);
    if (status == SK_OK) status = sk_pickle_run(&pickle, bytes + at, size - at, what, err);
    if (status == SK_OK) {
        at += pickle.used;
        status = sk_pickle_run(&keys, bytes + at, size - at, what, err);
    }
    if (status == SK_OK) status = read_table(&source, &pickle, &keys, bytes, size, at + keys.used, err);
    if (status == SK_OK) status = add_state_dict(&source, &pickle, out, err);
    sk_free(source.table);
    sk_pickle_free(&pickle);
    sk_pickle_free(&keys);
    return status;
}
