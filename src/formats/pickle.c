/* SPDX-License-Identifier: Apache-2.0 */
/* The opcodes of pickle protocols 2 to 5 that occur in checkpoints of tensors. Every opcode reads at least one byte and
 * makes at most one value, so time and memory are bounded by the input, and both by the limits of pickle.h. */
#include "formats/pickle.h"

#include <string.h>

typedef struct reader {
    const uint8_t *bytes;
    size_t size, at;
    const char *what;
    sk_error *err;
} reader;

#define TRY(call)                                                                                                      \
    do {                                                                                                               \
        const sk_status s_ = (call);                                                                                   \
        if (s_ != SK_OK) return s_;                                                                                    \
    } while (0)

static sk_status broken(const reader *in, const char *why) {
    return sk_fail(in->err, SK_ERR_FORMAT, "cannot read %s: broken pickle at byte %zu (%s)", in->what, in->at, why);
}

static sk_status take(reader *in, size_t count, const uint8_t **out) {
    if (count > in->size - in->at) return broken(in, "truncated");
    *out = in->bytes + in->at;
    in->at += count;
    return SK_OK;
}

static sk_status take_uint(reader *in, size_t count, uint64_t *out) {
    const uint8_t *bytes = NULL;
    TRY(take(in, count, &bytes));
    *out = 0;
    for (size_t i = 0; i < count; i++) *out |= (uint64_t)bytes[i] << (8 * i);
    return SK_OK;
}

/* Doubles an array that holds `count` elements until one more fits. */
static sk_status grow(const reader *in, void **array, size_t *capacity, size_t count, size_t size) {
    if (count < *capacity) return SK_OK;
    if (count >= 4 * SK_PICKLE_VALUES_MAX) return broken(in, "too many values");
    const size_t wanted = *capacity ? *capacity * 2 : 8;
    void *moved = sk_realloc(*array, *capacity, wanted, size);
    if (!moved) return sk_fail_memory(in->err, "a pickle");
    *array = moved;
    *capacity = wanted;
    return SK_OK;
}

static sk_status push(sk_pickle *p, const reader *in, uint32_t value) {
    void *stack = p->stack;
    const sk_status status = grow(in, &stack, &p->stack_capacity, p->depth, sizeof *p->stack);
    p->stack = stack;
    if (status == SK_OK) p->stack[p->depth++] = value;
    return status;
}

static sk_status push_new(sk_pickle *p, const reader *in, pk_type type, int64_t number) {
    void *values = p->values;
    if (p->count >= SK_PICKLE_VALUES_MAX) return broken(in, "too many values");
    const sk_status status = grow(in, &values, &p->capacity, p->count, sizeof *p->values);
    p->values = values;
    if (status != SK_OK) return status;
    memset(&p->values[p->count], 0, sizeof *p->values);
    p->values[p->count].type = type;
    p->values[p->count].number = number;
    return push(p, in, (uint32_t)p->count++);
}

static sk_status push_text(sk_pickle *p, reader *in, size_t length_bytes) {
    uint64_t length = 0;
    const uint8_t *text = NULL;
    TRY(take_uint(in, length_bytes, &length));
    if (length > in->size - in->at) return broken(in, "truncated text");
    TRY(take(in, (size_t)length, &text));
    TRY(push_new(p, in, PK_TEXT, 0));
    p->values[p->count - 1].text = (const char *)text;
    p->values[p->count - 1].length = (size_t)length;
    return SK_OK;
}

static sk_status push_int(sk_pickle *p, reader *in, size_t bytes) {
    uint64_t raw = 0;
    TRY(take_uint(in, bytes, &raw));
    return push_new(p, in, PK_INT, bytes == 4 ? (int64_t)(int32_t)(uint32_t)raw : (int64_t)raw);
}

/* LONG1: little-endian two's complement. Longer than eight bytes is no size, offset or stride. */
static sk_status push_long(sk_pickle *p, reader *in) {
    uint64_t length = 0, raw = 0;
    TRY(take_uint(in, 1, &length));
    if (length > 8) return broken(in, "number of more than 64 bits");
    TRY(take_uint(in, (size_t)length, &raw));
    if (length > 0 && length < 8 && raw >> (8 * length - 1)) raw |= UINT64_MAX << (8 * length);
    int64_t value;
    memcpy(&value, &raw, sizeof value);
    return push_new(p, in, PK_INT, value);
}

static sk_status top(const sk_pickle *p, const reader *in, size_t below, pk_type type, pk_value **out) {
    if (p->depth <= below) return broken(in, "empty stack");
    *out = &p->values[p->stack[p->depth - 1 - below]];
    return (*out)->type == type ? SK_OK : broken(in, "value of another type expected");
}

static sk_status find_mark(const sk_pickle *p, const reader *in, size_t *first) {
    for (size_t i = p->depth; i > 0; i--)
        if (p->values[p->stack[i - 1]].type == PK_MARK) {
            *first = i;
            return SK_OK;
        }
    return broken(in, "no mark");
}

/* Moves the values above stack position `first` into the container and cuts the stack to `depth`. */
static sk_status move_items(sk_pickle *p, const reader *in, uint32_t container, size_t first, size_t depth) {
    pk_value *value = &p->values[container];
    for (size_t i = first; i < p->depth; i++) {
        void *items = value->items;
        if (p->values[p->stack[i]].type == PK_MARK) return broken(in, "mark inside a container");
        const sk_status status = grow(in, &items, &value->capacity, value->count, sizeof *value->items);
        value->items = items;
        if (status != SK_OK) return status;
        value->items[value->count++] = p->stack[i];
    }
    p->depth = depth;
    return SK_OK;
}

static sk_status make_tuple(sk_pickle *p, const reader *in, size_t first, size_t depth) {
    TRY(push_new(p, in, PK_TUPLE, 0));
    const uint32_t tuple = p->stack[--p->depth];
    if (first > p->depth) return broken(in, "empty stack");
    TRY(move_items(p, in, tuple, first, depth));
    return push(p, in, tuple);
}

static sk_status add_items(sk_pickle *p, const reader *in, size_t first, size_t depth, pk_type type) {
    if (depth == 0 || first > p->depth) return broken(in, "empty stack");
    const uint32_t container = p->stack[depth - 1];
    if (p->values[container].type != type || (type == PK_DICT && (p->depth - first) % 2))
        return broken(in, "items for no container");
    return move_items(p, in, container, first, depth);
}

static sk_status memo_put(sk_pickle *p, const reader *in, uint64_t index) {
    if (p->depth == 0 || index >= SK_PICKLE_VALUES_MAX) return broken(in, "bad memo");
    if (index >= p->memo_size) {
        size_t wanted = p->memo_size ? p->memo_size : 256;
        while (wanted <= index) wanted *= 2;
        uint32_t *memo = sk_realloc(p->memo, p->memo_size, wanted, sizeof *memo);
        if (!memo) return sk_fail_memory(in->err, "a pickle");
        memset(memo + p->memo_size, 0xff, (wanted - p->memo_size) * sizeof *memo);
        p->memo = memo;
        p->memo_size = wanted;
    }
    p->memo[index] = p->stack[p->depth - 1];
    p->memo_count = index + 1 > p->memo_count ? (size_t)index + 1 : p->memo_count;
    return SK_OK;
}

static sk_status memo_get(sk_pickle *p, reader *in, size_t bytes) {
    uint64_t index = 0;
    TRY(take_uint(in, bytes, &index));
    if (index >= p->memo_size || p->memo[index] == UINT32_MAX) return broken(in, "memo entry that was never put");
    return push(p, in, p->memo[index]);
}

static int same(const char *text, size_t length, const char *name) {
    return strlen(name) == length && memcmp(text, name, length) == 0;
}

static sk_status push_global(sk_pickle *p, const reader *in, const char *module, size_t module_length, const char *name,
                             size_t name_length) {
    static const struct {
        const char *module, *name;
        int number;
    } known[] = {{"torch", "FloatStorage", SK_NUMBER_F32},
                 {"torch", "HalfStorage", SK_NUMBER_F16},
                 {"torch", "BFloat16Storage", SK_NUMBER_BF16},
                 {"torch", "DoubleStorage", SK_NUMBER_F64},
                 {"torch", "LongStorage", SK_NUMBER_I64},
                 {"collections", "OrderedDict", PK_GLOBAL_DICT},
                 {"torch._utils", "_rebuild_tensor_v2", PK_GLOBAL_TENSOR},
                 {"torch._utils", "_rebuild_parameter", PK_GLOBAL_PARAMETER}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (same(module, module_length, known[i].module) && same(name, name_length, known[i].name))
            return push_new(p, in, PK_GLOBAL, known[i].number);
    const int shown = module_length < 60 ? (int)module_length : 60,
              shown_name = name_length < 60 ? (int)name_length : 60;
    return sk_fail(in->err, SK_ERR_UNSUPPORTED,
                   "cannot read %s: it holds %.*s.%.*s; save the weights alone: torch.save(model.state_dict(), ...)",
                   in->what, shown, module, shown_name, name);
}

static sk_status op_global(sk_pickle *p, reader *in) {
    const char *text[2];
    size_t length[2];
    for (int i = 0; i < 2; i++) {
        const uint8_t *start = in->bytes + in->at, *end = memchr(start, '\n', in->size - in->at);
        if (!end) return broken(in, "truncated class name");
        text[i] = (const char *)start;
        length[i] = (size_t)(end - start);
        in->at += length[i] + 1;
    }
    return push_global(p, in, text[0], length[0], text[1], length[1]);
}

static sk_status op_stack_global(sk_pickle *p, reader *in) {
    pk_value *module = NULL, *name = NULL;
    TRY(top(p, in, 0, PK_TEXT, &name));
    TRY(top(p, in, 1, PK_TEXT, &module));
    p->depth -= 2;
    return push_global(p, in, module->text, module->length, name->text, name->length);
}

static sk_status op_persistent_id(sk_pickle *p, const reader *in) {
    pk_value *id = NULL;
    TRY(top(p, in, 0, PK_TUPLE, &id));
    const pk_value *type = sk_pickle_item(p, id, 1, PK_GLOBAL), *first = sk_pickle_item(p, id, 0, PK_TEXT);
    if (!first || !sk_pickle_is_text(first, "storage") || !type || type->number > SK_NUMBER_I64 ||
        !sk_pickle_item(p, id, 2, PK_TEXT) || !sk_pickle_item(p, id, 4, PK_INT))
        return broken(in, "not the persistent id of a storage");
    return push_new(p, in, PK_STORAGE, p->stack[--p->depth]);
}

/* Only three callables exist, and their "calls" are done here. */
static sk_status op_reduce(sk_pickle *p, const reader *in) {
    pk_value *arguments = NULL, *callable = NULL;
    TRY(top(p, in, 0, PK_TUPLE, &arguments));
    TRY(top(p, in, 1, PK_GLOBAL, &callable));
    const uint32_t tuple = p->stack[p->depth - 1];
    p->depth -= 2;
    switch (callable->number) {
    case PK_GLOBAL_DICT:
        return arguments->count == 0 ? push_new(p, in, PK_DICT, 0) : broken(in, "OrderedDict with arguments");
    case PK_GLOBAL_TENSOR:
        if (!sk_pickle_item(p, arguments, 0, PK_STORAGE) || !sk_pickle_item(p, arguments, 1, PK_INT) ||
            !sk_pickle_item(p, arguments, 2, PK_TUPLE) || !sk_pickle_item(p, arguments, 3, PK_TUPLE))
            return broken(in, "tensor with unknown arguments");
        return push_new(p, in, PK_TENSOR, tuple);
    case PK_GLOBAL_PARAMETER:
        if (!sk_pickle_item(p, arguments, 0, PK_TENSOR)) return broken(in, "parameter without tensor");
        return push(p, in, arguments->items[0]);
    default: return broken(in, "call of a storage class");
    }
}

/* One opcode with its operand; 1 in *done after STOP. */
static sk_status step(sk_pickle *p, reader *in, int *done) {
    uint64_t op = 0, number = 0;
    size_t mark = 0;
    const uint8_t *skipped = NULL;
    pk_value *value = NULL;
    TRY(take_uint(in, 1, &op));
    switch (op) {
    case 0x80: return take(in, 1, &skipped); /* PROTO */
    case 0x95: return take(in, 8, &skipped); /* FRAME */
    case '(': return push_new(p, in, PK_MARK, 0);
    case 'N': return push_new(p, in, PK_NONE, 0);
    case 0x88: return push_new(p, in, PK_BOOL, 1);
    case 0x89: return push_new(p, in, PK_BOOL, 0);
    case 'J': return push_int(p, in, 4);
    case 'K': return push_int(p, in, 1);
    case 'M': return push_int(p, in, 2);
    case 0x8a: return push_long(p, in);
    case 'G': TRY(take(in, 8, &skipped)); return push_new(p, in, PK_FLOAT, 0);
    case 'X':
    case 'T': return push_text(p, in, 4); /* BINUNICODE, BINSTRING */
    case 0x8c:
    case 'U': return push_text(p, in, 1); /* SHORT_ of both */
    case '}': return push_new(p, in, PK_DICT, 0);
    case ']': return push_new(p, in, PK_LIST, 0);
    case ')': return push_new(p, in, PK_TUPLE, 0);
    case 't': TRY(find_mark(p, in, &mark)); return make_tuple(p, in, mark, mark - 1);
    case 0x85:
    case 0x86:
    case 0x87:
        mark = (size_t)op - 0x84;
        return p->depth < mark ? broken(in, "empty stack") : make_tuple(p, in, p->depth - mark, p->depth - mark);
    case 'a': return p->depth < 2 ? broken(in, "empty stack") : add_items(p, in, p->depth - 1, p->depth - 1, PK_LIST);
    case 's': return p->depth < 3 ? broken(in, "empty stack") : add_items(p, in, p->depth - 2, p->depth - 2, PK_DICT);
    case 'e': TRY(find_mark(p, in, &mark)); return add_items(p, in, mark, mark - 1, PK_LIST);
    case 'u': TRY(find_mark(p, in, &mark)); return add_items(p, in, mark, mark - 1, PK_DICT);
    case 'q': TRY(take_uint(in, 1, &number)); return memo_put(p, in, number);
    case 'r': TRY(take_uint(in, 4, &number)); return memo_put(p, in, number);
    case 0x94: return memo_put(p, in, p->memo_count); /* MEMOIZE */
    case 'h': return memo_get(p, in, 1);
    case 'j': return memo_get(p, in, 4);
    case 'c': return op_global(p, in);
    case 0x93: return op_stack_global(p, in);
    case 'Q': return op_persistent_id(p, in);
    case 'R': return op_reduce(p, in);
    case 'b': /* BUILD: attributes of an OrderedDict; nothing here uses them */
        TRY(top(p, in, 1, PK_DICT, &value));
        p->depth--;
        return SK_OK;
    case '0': return p->depth ? (p->depth--, SK_OK) : broken(in, "empty stack");
    case '.': *done = 1; return p->depth == 1 ? SK_OK : broken(in, "stack not empty at the end");
    default:
        return sk_fail(in->err, SK_ERR_UNSUPPORTED,
                       "cannot read %s: pickle opcode 0x%02x at byte %zu does not occur in a state_dict", in->what,
                       (unsigned)op, in->at - 1);
    }
}

sk_status sk_pickle_run(sk_pickle *pickle, const uint8_t *bytes, size_t size, const char *what, sk_error *err) {
    reader in = {bytes, size < SK_PICKLE_SIZE_MAX ? size : SK_PICKLE_SIZE_MAX, 0, what, err};
    int done = 0;
    memset(pickle, 0, sizeof *pickle);
    while (!done) TRY(step(pickle, &in, &done));
    pickle->root = pickle->stack[0];
    pickle->used = in.at;
    return pickle->values[pickle->root].type == PK_MARK ? broken(&in, "mark at the end") : SK_OK;
}

void sk_pickle_free(sk_pickle *pickle) {
    for (size_t i = 0; i < pickle->count; i++) sk_free(pickle->values[i].items);
    sk_free(pickle->values);
    sk_free(pickle->stack);
    sk_free(pickle->memo);
    memset(pickle, 0, sizeof *pickle);
}

int sk_pickle_is_text(const pk_value *value, const char *text) {
    return value->type == PK_TEXT && same(value->text, value->length, text);
}

const pk_value *sk_pickle_item(const sk_pickle *pickle, const pk_value *container, size_t index, pk_type type) {
    if (index >= container->count) return NULL;
    const pk_value *item = &pickle->values[container->items[index]];
    return item->type == type ? item : NULL;
}
