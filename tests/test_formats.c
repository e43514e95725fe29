/* SPDX-License-Identifier: Apache-2.0 */
/* Model files from outside: round trips, checkpoints that PyTorch itself wrote (tests/fixtures/make_pth.py), and
 * thousands of damaged files, which must give an error or a whole result and never touch memory that is not theirs. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "formats/json.h"
#include "formats/pickle.h"
#include "formats/readers.h"
#include "siskin/quant.h"

static char work[64];

static char *in_work(const char *name) {
    char *path = sk_path_join(work, name);
    assert_non_null(path);
    return path;
}

static int make_work(void **state) {
    (void)state;
    strcpy(work, "/tmp/siskin-formats-XX"
                 "XX"
                 "XX");
    return mkdtemp(work) ? 0 : -1;
}

static int remove_work(void **state) {
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", work);
    return system(command);
}

static void fill(sk_tensor_file *file, int reversed) {
    const int shape[4] = {2, 3, 1, 2};
    float data[12];
    for (int i = 0; i < 12; i++) data[i] = (float)i / 8 - 1;
    memset(file, 0, sizeof *file);
    for (int i = 0; i < 3; i++) switch (reversed ? 2 - i : i) {
        case 0: assert_int_equal(sk_tensors_add(file, "z.weight", 4, shape, data, NULL), SK_OK); break;
        case 1: assert_int_equal(sk_tensors_add(file, "a.bias", 1, shape + 1, data, NULL), SK_OK); break;
        default: assert_int_equal(sk_tensors_add_i64(file, "m.num_batches_tracked", INT64_C(1) << 40, NULL), SK_OK);
        }
    assert_int_equal(sk_tensors_set_meta(file, reversed ? "k2" : "k1", "\"quoted\"\n\xc3\xa4", NULL), SK_OK);
    assert_int_equal(sk_tensors_set_meta(file, reversed ? "k1" : "k2", "\"quoted\"\n\xc3\xa4", NULL), SK_OK);
}

static void round_trip(void **state) {
    (void)state;
    sk_tensor_file file, other;
    uint8_t *bytes = NULL, *again = NULL;
    size_t size = 0, size_again = 0;
    uint64_t header = 0;
    char *path = in_work("round.safetensors"), *path2 = in_work("round2.safetensors");
    fill(&file, 0);
    fill(&other, 1);
    assert_int_equal(sk_tensors_write_safetensors(path, &file, NULL), SK_OK);
    assert_int_equal(sk_tensors_write_safetensors(path2, &other, NULL), SK_OK);
    sk_tensors_free(&other);
    assert_int_equal(sk_file_read(path, &bytes, &size, NULL), SK_OK);
    assert_int_equal(sk_file_read(path2, &again, &size_again, NULL), SK_OK);
    assert_int_equal(size, size_again);
    assert_memory_equal(bytes, again, size);
    memcpy(&header, bytes, 8);
    assert_int_equal(header % 8, 0);
    assert_int_equal(size, 8 + header + 8 + 15 * 4);

    assert_int_equal(sk_tensors_read(path, &other, NULL), SK_OK);
    assert_int_equal(other.count, 3);
    const sk_tensor_entry *weight = sk_tensors_find(&other, "z.weight");
    assert_non_null(weight);
    assert_int_equal(weight->rank, 4);
    assert_memory_equal(weight->shape, file.items[0].shape, sizeof weight->shape);
    assert_memory_equal(weight->data, file.items[0].data, 48);
    const sk_tensor_entry *steps = sk_tensors_find(&other, "m.num_batches_tracked");
    assert_non_null(steps);
    assert_true(steps->is_i64 && steps->i64 == INT64_C(1) << 40 && steps->rank == 0);
    assert_string_equal(sk_tensors_meta(&other, "k1"), "\"quoted\"\n\xc3\xa4");
    assert_null(sk_tensors_find(&other, "nothing"));
    assert_null(sk_tensors_meta(&other, "nothing"));
    sk_tensors_free(&other);
    sk_tensors_free(&file);
    sk_free(bytes);
    sk_free(again);
    sk_free(path);
    sk_free(path2);
}

static void adding_refuses(void **state) {
    (void)state;
    sk_tensor_file file = {0};
    const int good[1] = {2}, bad[2] = {2, -1}, large[4] = {65536, 65536, 65536, 65536};
    assert_int_equal(sk_tensors_add(&file, "a", 1, good, NULL, NULL), SK_OK);
    assert_true(file.items[0].data[0] == 0.f && file.items[0].data[1] == 0.f);
    assert_int_equal(sk_tensors_add(&file, "a", 1, good, NULL, NULL), SK_ERR_FORMAT);
    assert_int_equal(sk_tensors_add(&file, "b", 2, bad, NULL, NULL), SK_ERR_FORMAT);
    assert_int_equal(sk_tensors_add(&file, "b", 4, large, NULL, NULL), SK_ERR_FORMAT);
    assert_int_equal(sk_tensors_add(&file, "b", 5, large, NULL, NULL), SK_ERR_UNSUPPORTED);
    assert_int_equal(file.count, 1);
    sk_tensors_free(&file);
}

/* A safetensors file of this header and `data_size` bytes 0, 1, 2, ... */
static uint8_t *compose(const char *header, size_t data_size, size_t *size) {
    const uint64_t length = strlen(header);
    uint8_t *bytes = sk_alloc(8 + (size_t)length + data_size, 1);
    assert_non_null(bytes);
    memcpy(bytes, &length, 8);
    memcpy(bytes + 8, header, (size_t)length);
    for (size_t i = 0; i < data_size; i++) bytes[8 + length + i] = (uint8_t)i;
    *size = 8 + (size_t)length + data_size;
    return bytes;
}

#define T(dtype, shape, offsets) "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static void safetensors_strict(void **state) {
    (void)state;
    static const struct {
        const char *header;
        size_t data;
        sk_status status;
        const char *says;
    } cases[] = {
        {"{\"a\":" T("F32", "[2]", "[0,8]") "}", 8, SK_OK, ""},
        {"{\"a\":" T("F32", "[2]", "[0,8]") "}  ", 8, SK_OK, ""},
        {"{\"a\":" T("F32", "[]", "[0,4]") ",\"b\":" T("F16", "[2]", "[4,8]") "}", 8, SK_OK, ""},
        {"{\"a\":" T("F32", "[2]", "[0,8]") "}", 7, SK_ERR_FORMAT, "truncated"},
        {"{\"a\":" T("F32", "[2]", "[0,8]") "}", 9, SK_ERR_FORMAT, "after the last"},
        {"{\"a\":" T("F32", "[2]", "[0,8]") "} x", 8, SK_ERR_FORMAT, "bytes after the JSON"},
        {"{\"a\":" T("F32", "[3]", "[0,8]") "}", 8, SK_ERR_FORMAT, "3 values"},
        {"{\"a\":" T("F32", "[2]", "[0,8]") ",\"b\":" T("F32", "[1]", "[4,8]") "}", 8, SK_ERR_FORMAT, "overlaps"},
        {"{\"a\":" T("F32", "[1]", "[0,4]") ",\"b\":" T("F32", "[1]", "[8,12]") "}", 12, SK_ERR_FORMAT, "hole"},
        {"{\"a\":" T("F32", "[1]", "[4,8]") "}", 8, SK_ERR_FORMAT, "hole"},
        {"{\"a\":" T("F32", "[1]", "[0,4]") ",\"a\":" T("F32", "[1]", "[4,8]") "}", 8, SK_ERR_FORMAT, "twice"},
        {"{\"a\":" T("F32", "[1,1,1,1,1]", "[0,4]") "}", 4, SK_ERR_FORMAT, "4 dimensions"},
        {"{\"a\":" T("F32", "[0]", "[0,0]") "}", 0, SK_ERR_FORMAT, "dimension of 0"},
        {"{\"a\":" T("F32", "[-1]", "[0,4]") "}", 4, SK_ERR_FORMAT, "dimension"},
        {"{\"a\":" T("F32", "[1.5]", "[0,4]") "}", 4, SK_ERR_FORMAT, "dimension"},
        {"{\"a\":" T("F32", "[1]", "[4,0]") "}", 4, SK_ERR_FORMAT, "data_offsets"},
        {"{\"a\":" T("F32", "[1]", "[-4,0]") "}", 4, SK_ERR_FORMAT, "data_offsets"},
        {"{\"a\":" T("F32", "[1]", "[0,1e300]") "}", 4, SK_ERR_FORMAT, "data_offsets"},
        {"{\"a\":" T("F32", "[65536,65536,65536,65536]", "[0,4]") "}", 4, SK_ERR_FORMAT, "larger"},
        {"{\"a\":" T("U4", "[1]", "[0,4]") "}", 4, SK_ERR_UNSUPPORTED, "type U4"},
        {"{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, SK_ERR_FORMAT, "dtype is missing"},
        {"{\"__metadata__\":{\"k\":1}}", 0, SK_ERR_FORMAT, "not a text"},
        {"{\"a\":7}", 0, SK_ERR_FORMAT, "data_offsets"},
        {"{\"a\":", 0, SK_ERR_FORMAT, "JSON"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sk_tensor_file file;
        sk_error err = {0};
        size_t size = 0;
        uint8_t *bytes = compose(cases[i].header, cases[i].data, &size);
        const sk_status status = sk_tensors_read_memory(bytes, size, "FILE", &file, &err);
        if (status != cases[i].status || !strstr(err.message, cases[i].says))
            fail_msg("%s: %d %s", cases[i].header, (int)status, err.message);
        if (status != SK_OK) assert_true(file.count == 0 && !file.items && !file.meta && strstr(err.message, "FILE"));
        sk_tensors_free(&file);
        sk_free(bytes);
    }
}

static void number_formats(void **state) {
    (void)state;
    const uint16_t halves[] = {0x3c00, 0xc000, 0x0001, 0x03ff, 0x7bff, 0x7c00, 0x8000, 0x3555};
    const float expected[] = {1.f, -2.f, 0x1p-24f, 1023 * 0x1p-24f, 65504.f, INFINITY, -0.f, 0.333251953125f};
    float out[8];
    sk_numbers_to_float(SK_NUMBER_F16, (const uint8_t *)halves, 8, 1, out);
    assert_memory_equal(out, expected, sizeof out);
    const uint16_t nan = 0x7e01;
    sk_numbers_to_float(SK_NUMBER_F16, (const uint8_t *)&nan, 1, 1, out);
    assert_true(isnan(out[0]));
    const uint16_t brain[] = {0x3f80, 0xc040, 0x7f80};
    sk_numbers_to_float(SK_NUMBER_BF16, (const uint8_t *)brain, 3, 1, out);
    assert_true(out[0] == 1.f && out[1] == -3.f && isinf(out[2]));
    const double wide[] = {0.1, 7, -3};
    sk_numbers_to_float(SK_NUMBER_F64, (const uint8_t *)wide, 2, 2, out);
    assert_true(out[0] == 0.1f && out[1] == -3.f);
}

/* Values of the fixtures are index/8 in PyTorch's order. */
static void check_fixture(const char *name) {
    static const struct {
        const char *name;
        int rank, shape[4];
    } tensors[] = {{"conv.weight", 4, {2, 3, 2, 2}},
                   {"half", 2, {2, 3}},
                   {"bfloat", 1, {4}},
                   {"double", 1, {5}},
                   {"part", 2, {4, 6}}};
    char path[512];
    sk_tensor_file file;
    sk_error err = {0};
    snprintf(path, sizeof path, "%s/tests/fixtures/%s", SK_SOURCE_DIR, name);
    if (sk_tensors_read(path, &file, &err) != SK_OK) fail_msg("%s", err.message);
    assert_int_equal(file.count, 9);
    for (size_t t = 0; t < sizeof tensors / sizeof *tensors; t++) {
        const sk_tensor_entry *entry = sk_tensors_find(&file, tensors[t].name);
        assert_non_null(entry);
        assert_int_equal(entry->rank, tensors[t].rank);
        assert_memory_equal(entry->shape, tensors[t].shape, sizeof entry->shape);
        for (size_t i = 0; i < entry->count; i++) assert_true(entry->data[i] == (float)i / 8);
    }
    const sk_tensor_entry *entry = sk_tensors_find(&file, "transposed");
    assert_true(entry && entry->rank == 2 && entry->shape[0] == 3 && entry->shape[1] == 2);
    for (size_t i = 0; i < 6; i++) assert_true(entry->data[i] == (float)i / 8);
    entry = sk_tensors_find(&file, "expanded");
    assert_true(entry && entry->count == 3 && entry->data[0] == .5f && entry->data[2] == .5f);
    entry = sk_tensors_find(&file, "scalar");
    assert_true(entry && entry->rank == 0 && entry->count == 1 && entry->data[0] == .25f);
    entry = sk_tensors_find(&file, "bn.num_batches_tracked");
    assert_true(entry && entry->is_i64 && entry->i64 == INT64_C(1234567890123));
    sk_tensors_free(&file);
}

static void checkpoints(void **state) {
    (void)state;
    check_fixture("tiny.pth");
    check_fixture("tiny_stream.pth");
    check_fixture("tiny_wrapped.pth");
}

static void foreign_class_is_refused(void **state) {
    (void)state;
    sk_tensor_file file;
    sk_error err = {0};
    assert_int_equal(sk_tensors_read(SK_SOURCE_DIR "/tests/fixtures/tiny_args.pth", &file, &err), SK_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "argparse.Namespace"));
    assert_int_equal(file.count, 0);
}

/* ---- hostile checkpoints: the older stream put together by hand, since no checksum shields it ------------------- */
#define OP_STORAGE "(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0aX\3\0\0\0cpu"
#define OP_BEGIN "\x80\2}X\1\0\0\0wctorch._utils\n_rebuild_tensor_v2\n(" OP_STORAGE

static void put_stream(sk_text *text, const void *pickle, size_t size, int64_t stored) {
    static const char head[] = "\x80\2\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\2M\xe9\3."
                               "\x80\2}X\x0d\0\0\0little_endian\x88s.";
    static const char keys[] = "\x80\2]X\1\0\0\0\x61\x61.";
    static const float values[4] = {1, 2, 3, 4};
    sk_text_add_bytes(text, head, sizeof head - 1);
    sk_text_add_bytes(text, pickle, size);
    sk_text_add_bytes(text, keys, sizeof keys - 1);
    sk_text_add_bytes(text, &stored, sizeof stored);
    sk_text_add_bytes(text, values, sizeof values);
}

/* A tensor `w` of a storage of `numel` values at `offset`, two dimensions. */
static sk_status read_view_file(int numel, int offset, const int shape[2], const int stride[2], int64_t stored,
                                float *first, sk_error *err) {
    sk_text pickle = {0}, file = {0};
    sk_tensor_file out;
    const int numbers[2][2] = {{shape[0], shape[1]}, {stride[0], stride[1]}};
    sk_text_add_bytes(&pickle, OP_BEGIN, sizeof OP_BEGIN - 1);
    sk_text_add_bytes(&pickle, "J", 1);
    sk_text_add_bytes(&pickle, &numel, 4);
    sk_text_add_bytes(&pickle, "tQJ", 3);
    sk_text_add_bytes(&pickle, &offset, 4);
    for (int i = 0; i < 2; i++) {
        sk_text_add_bytes(&pickle, "J", 1);
        sk_text_add_bytes(&pickle, &numbers[i][0], 4);
        sk_text_add_bytes(&pickle, "J", 1);
        sk_text_add_bytes(&pickle, &numbers[i][1], 4);
        sk_text_add_bytes(&pickle, "\x86", 1);
    }
    sk_text_add_bytes(&pickle, "\x89NtRs.", 6);
    put_stream(&file, pickle.data, pickle.size, stored);
    assert_false(pickle.failed || file.failed);
    const sk_status status = sk_tensors_read_memory((const uint8_t *)file.data, file.size, "made", &out, err);
    *first = status == SK_OK ? out.items[0].data[out.items[0].count - 1] : 0;
    sk_tensors_free(&out);
    sk_text_free(&pickle);
    sk_text_free(&file);
    return status;
}

static void views_stay_inside(void **state) {
    (void)state;
    static const struct {
        int numel, offset, shape[2], stride[2];
        int64_t stored;
        sk_status status;
        float last;
    } cases[] = {
        {4, 0, {2, 2}, {2, 1}, 4, SK_OK, 4},
        {4, 0, {2, 2}, {1, 2}, 4, SK_OK, 4},
        {4, 1, {2, 1}, {1, 1}, 4, SK_OK, 3},
        {4, 1, {2, 2}, {2, 1}, 4, SK_ERR_FORMAT, 0},  /* one past the end */
        {4, -1, {1, 1}, {1, 1}, 4, SK_ERR_FORMAT, 0}, /* before the beginning */
        {4, 4, {1, 1}, {1, 1}, 4, SK_ERR_FORMAT, 0},
        {4, 3, {2, 2}, {-1, -1}, 4, SK_ERR_FORMAT, 0},
        {4, 0, {2, 2}, {0x7fffffff, 1}, 4, SK_ERR_FORMAT, 0},
        {4, 0, {0x7fffffff, 0x7fffffff}, {0, 0}, 4, SK_ERR_FORMAT, 0},
        {4, 0, {16384, 16384}, {0, 0}, 4, SK_ERR_FORMAT, 0}, /* a gigabyte out of four values */
        {4, 0, {0, 2}, {1, 1}, 4, SK_ERR_FORMAT, 0},
        {4, 0, {-2, 2}, {1, 1}, 4, SK_ERR_FORMAT, 0},
        {5, 0, {2, 2}, {2, 1}, 4, SK_ERR_FORMAT, 0}, /* pickle and storage differ in size */
        {3, 0, {1, 1}, {2, 1}, 4, SK_ERR_FORMAT, 0},
        {0, 0, {1, 1}, {1, 1}, 4, SK_ERR_FORMAT, 0},
        {4, 0, {2, 2}, {2, 1}, 5, SK_ERR_FORMAT, 0}, /* storage longer than the file */
        {4, 0, {2, 2}, {2, 1}, -1, SK_ERR_FORMAT, 0},
        {4, 0, {2, 2}, {2, 1}, INT64_MAX, SK_ERR_FORMAT, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sk_error err = {0};
        float last = 0;
        const sk_status status = read_view_file(cases[i].numel, cases[i].offset, cases[i].shape, cases[i].stride,
                                                cases[i].stored, &last, &err);
        if (status != cases[i].status || last != cases[i].last)
            fail_msg("case %zu: %d %s, last value %g", i, (int)status, err.message, (double)last);
    }
}

static void hostile_pickles(void **state) {
    (void)state;
#define P(text)                                                                                                        \
    { text, sizeof text - 1 }
    static const struct {
        const char *bytes;
        size_t size;
    } programs[] = {
        P("cos\nsystem\n(X\4\0\0\0truetR."),
        P("\x8c\x05posix\x8c\6system\x93(X\4\0\0\0truetR."),
        P("cbuiltins\neval\n(X\1\0\0\0\x31tR."),
        P("ios\nsystem\n."),
        P("(cos\nsystem\nX\4\0\0\0trueo."),
        P("}(X\1\0\0\0\x61u."),
        P("ctorch\nFloatStorage\n)R."),
        P("ccollections\nOrderedDict\nK\1\x85R."),
        P("ctorch._utils\n_rebuild_tensor_v2\n)R."),
        P("ctorch._utils\n_rebuild_parameter\n)R."),
        P("K\1Q."),
        P(")Q."),
        P("h\0."),
        P("q\0."),
        P("r\xff\xff\xff\xff."),
        P("]r\xff\xff\xff\x7f."),
        P("K\1K\2\x87."),
        P("t."),
        P("u."),
        P("a."),
        P("s."),
        P("0."),
        P("."),
        P("(."),
        P(")K\1a."),
        P("K\1K\2."),
        P("}K\1b"),
        P("X\xff\xff\xff\xff."),
        P("\x8a\xff."),
        P("\x8a\x09\1\1\1\1\1\1\1\1\1."),
        P("b."),
        P("K\1Nb."),
        P("R."),
        P("\x93."),
        P(""),
        P("\x95\0\0"),
        P("cos"),
        P("\xff"),
    };
#undef P
    const long before = sk_memory_live();
    for (size_t i = 0; i < sizeof programs / sizeof *programs; i++) {
        sk_pickle pickle = {0};
        sk_error err = {0};
        const uint8_t *bytes = (const uint8_t *)programs[i].bytes;
        const sk_status status = sk_pickle_run(&pickle, bytes, programs[i].size, "P", &err);
        if (status != SK_ERR_FORMAT && status != SK_ERR_UNSUPPORTED) fail_msg("pickle %zu: %d", i, (int)status);
        sk_pickle_free(&pickle);
    }
    /* A list inside itself is a value like any other: nothing walks it. */
    sk_pickle pickle = {0};
    assert_int_equal(sk_pickle_run(&pickle, (const uint8_t *)"]q\0h\0a.", 7, "P", NULL), SK_OK);
    sk_pickle_free(&pickle);
    /* A megabyte of opcodes, each making a value: stopped by the limit, not by the memory. */
    uint8_t *many = malloc(1 << 20);
    memset(many, '}', 1 << 20);
    assert_int_equal(sk_pickle_run(&pickle, many, 1 << 20, "P", NULL), SK_ERR_FORMAT);
    sk_pickle_free(&pickle);
    memset(many, '(', 1 << 20);
    assert_int_equal(sk_pickle_run(&pickle, many, 1 << 20, "P", NULL), SK_ERR_FORMAT);
    sk_pickle_free(&pickle);
    free(many);
    assert_int_equal(sk_memory_live(), before);
}

static void names_the_unreadable(void **state) {
    (void)state;
    sk_tensor_file file;
    sk_error err = {0};
    assert_int_equal(sk_tensors_read("/nonexistent/model.pth", &file, &err), SK_ERR_IO);
    assert_non_null(strstr(err.message, "/nonexistent/model.pth"));
    char *path = in_work("text.pth");
    assert_int_equal(sk_file_write(path, "hello", 5, NULL), SK_OK);
    assert_int_equal(sk_tensors_read(path, &file, &err), SK_ERR_FORMAT);
    assert_non_null(strstr(err.message, "text.pth: not a model file"));
    assert_int_equal(sk_file_write(path, "\x89SKN\r\n\x1a\n________", 16, NULL), SK_OK);
    assert_int_equal(sk_tensors_read(path, &file, &err), SK_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "a float model is wanted"));
    assert_int_equal(sk_file_write(path, "", 0, NULL), SK_OK);
    assert_int_not_equal(sk_tensors_read(path, &file, &err), SK_OK);
    sk_free(path);
}

/* ---- damage --------------------------------------------------------------------------------------------------- */
typedef struct sample {
    uint8_t *bytes;
    size_t size;
} sample;

static sample load(const char *name) {
    sample s = {0};
    char path[512];
    snprintf(path, sizeof path, "%s/%s", SK_SOURCE_DIR, name);
    assert_int_equal(sk_file_read(path, &s.bytes, &s.size, NULL), SK_OK);
    return s;
}

static sample load_written(void) {
    sample s = {0};
    sk_tensor_file file;
    char *path = in_work("sample.safetensors");
    fill(&file, 0);
    assert_int_equal(sk_tensors_write_safetensors(path, &file, NULL), SK_OK);
    assert_int_equal(sk_file_read(path, &s.bytes, &s.size, NULL), SK_OK);
    sk_tensors_free(&file);
    sk_free(path);
    return s;
}

/* Reads from a heap block of exactly the size, so that the sanitizer sees the first byte too many. */
static sk_status try_read(const uint8_t *bytes, size_t size) {
    sk_tensor_file file;
    sk_error err = {0};
    uint8_t *exact = malloc(size ? size : 1);
    assert_non_null(exact);
    memcpy(exact, bytes, size);
    const sk_status status = sk_tensors_read_memory(exact, size, "damaged", &file, &err);
    if (status != SK_OK) assert_true(err.message[0] && err.code == status && file.count == 0);
    for (size_t i = 0; i < file.count; i++)
        for (size_t k = 0; k < file.items[i].count; k++) {
            volatile float touched = file.items[i].data[k];
            (void)touched;
        }
    sk_tensors_free(&file);
    free(exact);
    return status;
}

static void damage(const sample *s, int truncation_may_pass) {
    sk_rng rng = sk_rng_make(1, 2, 3);
    uint8_t *copy = malloc(s->size);
    assert_non_null(copy);
    assert_int_equal(try_read(s->bytes, s->size), SK_OK);
    for (size_t length = 0; length < s->size; length++)
        if (try_read(s->bytes, length) == SK_OK && !truncation_may_pass)
            fail_msg("cut at %zu of %zu and still read", length, s->size);
    for (size_t i = 0; i < s->size; i++) {
        memcpy(copy, s->bytes, s->size);
        copy[i] ^= (uint8_t)(1u << (i % 8));
        try_read(copy, s->size);
        copy[i] = s->bytes[i] == 0xff ? 0 : 0xff;
        try_read(copy, s->size);
    }
    for (int round = 0; round < 3000; round++) {
        memcpy(copy, s->bytes, s->size);
        for (uint32_t k = 1 + sk_rng_below(&rng, 4); k > 0; k--)
            copy[sk_rng_below(&rng, (uint32_t)s->size)] = (uint8_t)sk_rng_next(&rng);
        try_read(copy, s->size);
    }
    free(copy);
}

static void damaged_files(void **state) {
    (void)state;
    sample samples[] = {load("tests/fixtures/tiny.pth"), load("tests/fixtures/tiny_stream.pth"),
                        load("tests/fixtures/tiny_wrapped.pth"), load_written(), load("fuzz/seeds/onnx/folded")};
    const long before = sk_memory_live();
    /* protobuf has no end: an ONNX file cut between two metadata pairs is whole. */
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) damage(&samples[i], i == 4);
    assert_int_equal(sk_memory_live(), before);
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) sk_free(samples[i].bytes);
}

static void memory_runs_out(void **state) {
    (void)state;
    sample samples[] = {load("tests/fixtures/tiny.pth"), load("tests/fixtures/tiny_stream.pth"), load_written(),
                        load("fuzz/seeds/onnx/folded")};
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) {
        const long before = sk_memory_live();
        int failures = 0;
        for (long n = 0;; n++) {
            sk_tensor_file file;
            sk_error err = {0};
            sk_memory_fail_at(n, 1);
            const sk_status status = sk_tensors_read_memory(samples[i].bytes, samples[i].size, "sample", &file, &err);
            sk_memory_fail_at(-1, 0);
            if (status == SK_OK) {
                sk_tensors_free(&file);
                break;
            }
            failures++;
            assert_int_equal(status, SK_ERR_MEMORY);
            assert_int_equal(sk_memory_live(), before);
        }
        assert_true(failures > 10);
        sk_free(samples[i].bytes);
    }
}

static void disk_is_full(void **state) {
    (void)state;
    sk_tensor_file file;
    char *path = in_work("full.safetensors");
    fill(&file, 0);
    for (long n = 0; n < 3; n++) {
        sk_error err = {0};
        sk_file_fail_at(n);
        assert_int_equal(sk_tensors_write_safetensors(path, &file, &err), SK_ERR_IO);
        sk_file_fail_at(-1);
        assert_non_null(strstr(err.message, "full.safetensors"));
        assert_false(sk_path_exists(path));
    }
    for (long n = 0; n < 3; n++) {
        sk_memory_fail_at(n, 1);
        assert_int_not_equal(sk_tensors_write_safetensors(path, &file, NULL), SK_OK);
        sk_memory_fail_at(-1, 0);
        assert_false(sk_path_exists(path));
    }
    sk_tensors_free(&file);
    sk_free(path);
}

/* ---- the card, JSON, real files --------------------------------------------------------------------------------- */
static void card_travels(void **state) {
    (void)state;
    sk_tensor_file file = {0};
    sk_card card = sk_card_default(SK_ARCH_V3_LARGE), back = sk_card_default(SK_ARCH_V3_SMALL);
    int found = 1;
    assert_int_equal(sk_tensors_get_card(&file, &back, &found, NULL), SK_OK);
    assert_int_equal(found, 0);
    card.size = 256;
    card.crops = 3;
    card.threshold = 0.1f + 0.2f;
    card.penalty = 1.f / 3;
    card.temperature = 1.7f;
    strcpy(card.class_names, "nobird,bird");
    strcpy(card.run_id, "r1");
    assert_int_equal(sk_tensors_set_card(&file, &card, NULL), SK_OK);
    assert_string_equal(sk_tensors_meta(&file, "siskin.mean"), "0.485,0.456,0.406");
    assert_int_equal(sk_tensors_get_card(&file, &back, &found, NULL), SK_OK);
    assert_int_equal(found, 1);
    assert_true(back.arch == card.arch && back.size == 256 && back.crops == 3 && back.classes == card.classes);
    assert_true(back.threshold == card.threshold && back.penalty == card.penalty);
    assert_true(back.temperature == card.temperature);
    assert_memory_equal(back.mean, card.mean, sizeof card.mean);
    assert_memory_equal(back.std, card.std, sizeof card.std);
    assert_string_equal(back.class_names, "nobird,bird");
    assert_string_equal(back.run_id, "r1");
    static const char *const wrong[][2] = {
        {"siskin.size", "12"}, {"siskin.size", "224x"},     {"siskin.mean", "1,2"}, {"siskin.std", "0,1,1"},
        {"siskin.crops", "2"}, {"siskin.threshold", "nan"}, {"siskin.arch", "vgg"},
        {"siskin.temperature", "0"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        sk_tensor_file bad = {0};
        assert_int_equal(sk_tensors_set_meta(&bad, wrong[i][0], wrong[i][1], NULL), SK_OK);
        assert_int_not_equal(sk_tensors_get_card(&bad, &back, NULL, NULL), SK_OK);
        sk_tensors_free(&bad);
    }
    sk_tensors_free(&file);
}

static void json_limits(void **state) {
    (void)state;
    cJSON *root = NULL;
    sk_error err = {0};
    sk_text text = {0};
    for (int i = 0; i < 100; i++) sk_text_add(&text, "[");
    assert_int_equal(sk_json_parse(text.data, text.size, "deep", &root, &err), SK_ERR_FORMAT);
    assert_non_null(strstr(err.message, "nested"));
    sk_text_free(&text);

    sk_text_add(&text, "{\"n\":");
    sk_json_put_number(&text, 0.1);
    sk_text_add(&text, ",\"s\":");
    sk_json_put_string(&text, "a\"\\\n\x01\xff\xc3\xa4");
    sk_text_add(&text, ",\"none\":");
    sk_json_put_number(&text, NAN);
    sk_text_add(&text, "}");
    assert_string_equal(text.data, "{\"n\":0.1,\"s\":\"a\\\"\\\\\\u000a\\u0001\\ufffd\xc3\xa4\",\"none\":null}");
    assert_int_equal(sk_json_parse(text.data, text.size, "made", &root, &err), SK_OK);
    double number = 0;
    int64_t whole = 0;
    const char *string = NULL;
    assert_int_equal(sk_json_number(root, "n", 0, 1, "made", &number, &err), SK_OK);
    assert_true(number == 0.1);
    assert_int_equal(sk_json_number(root, "n", 1, 2, "made", &number, &err), SK_ERR_FORMAT);
    assert_int_equal(sk_json_integer(root, "n", 0, 1, "made", &whole, &err), SK_ERR_FORMAT);
    assert_int_equal(sk_json_string(root, "s", "made", &string, &err), SK_OK);
    assert_int_equal(sk_json_string(root, "n", "made", &string, &err), SK_ERR_FORMAT);
    assert_int_equal(sk_json_number(root, "absent", 0, 1, "made", &number, &err), SK_ERR_FORMAT);
    assert_string_equal(err.message, "made: absent is missing");
    cJSON_Delete(root);
    sk_text_free(&text);
}

/* ---- ONNX -------------------------------------------------------------------------------------------------------- */

/* A network whose batch norms do something. */
static sk_model *make_model(sk_arch arch) {
    sk_card card = sk_card_default(arch);
    sk_model *model = NULL;
    sk_rng rng = sk_rng_make(7, 7, 7);
    card.size = 96;
    card.crops = 3;
    strcpy(card.run_id, "r2");
    assert_int_equal(sk_model_create(&card, 1, &model, NULL), SK_OK);
    for (size_t i = 0; i < sk_model_tensor_count(model); i++) {
        sk_tensor tensor;
        assert_int_equal(sk_model_tensor(model, i, &tensor, NULL), SK_OK);
        for (size_t k = 0; k < tensor.count; k++)
            if (tensor.rank == 1)
                tensor.data[k] = (sk_has_suffix(tensor.name, "weight") ? .8f : .1f) + (float)sk_rng_uniform(&rng) / 4;
    }
    return model;
}

static void run_model(sk_model *model, float *logits) {
    uint8_t *images = malloc(2 * 96 * 96 * 3);
    sk_rng rng = sk_rng_make(1, 1, 1);
    for (size_t i = 0; i < 2 * 96 * 96 * 3; i++) images[i] = (uint8_t)sk_rng_next(&rng);
    assert_int_equal(sk_model_forward(model, images, 2, 1, logits, NULL, NULL, NULL, NULL), SK_OK);
    free(images);
}

static void onnx_there_and_back(void **state) {
    (void)state;
    char *path = in_work("model.onnx"), *again = in_work("again.onnx");
    for (int arch = 0; arch < 2; arch++) {
        sk_model *model = make_model((sk_arch)arch), *back = NULL;
        float logits[4], logits_back[4];
        uint8_t *first = NULL, *second = NULL;
        size_t size = 0, size_second = 0;
        assert_int_equal(sk_export_onnx(model, path, NULL), SK_OK);
        sk_error err = {0};
        if (sk_model_read(path, &back, &err) != SK_OK) fail_msg("%s", err.message);
        assert_memory_equal(sk_model_card(back), sk_model_card(model), sizeof(sk_card));
        run_model(model, logits);
        run_model(back, logits_back);
        for (int i = 0; i < 4; i++) assert_true(fabsf(logits[i] - logits_back[i]) <= 1e-6f * fabsf(logits[i]) + 1e-7f);
        assert_true(logits[0] != logits[2]);
        /* The folded weights are the same to the last bit, so that a second export is the same file. */
        assert_int_equal(sk_export_onnx(back, again, NULL), SK_OK);
        assert_int_equal(sk_file_read(path, &first, &size, NULL), SK_OK);
        assert_int_equal(sk_file_read(again, &second, &size_second, NULL), SK_OK);
        assert_int_equal(size, size_second);
        assert_memory_equal(first, second, size);
        sk_free(first);
        sk_free(second);
        sk_model_free(model);
        sk_model_free(back);
    }
    sk_free(path);
    sk_free(again);
}

static void onnx_export_under_failure(void **state) {
    (void)state;
    char *path = in_work("failing.onnx");
    sk_model *model = make_model(SK_ARCH_V3_SMALL);
    const long before = sk_memory_live();
    int failures = 0;
    for (long n = 0;; n += 1 + n / 16) {
        sk_error err = {0};
        sk_memory_fail_at(n, 1);
        const sk_status status = sk_export_onnx(model, path, &err);
        sk_memory_fail_at(-1, 0);
        assert_int_equal(sk_memory_live(), before);
        if (status == SK_OK) break;
        failures++;
        assert_int_equal(status, SK_ERR_MEMORY);
        assert_false(sk_path_exists(path));
    }
    assert_true(failures > 20);
    sk_file_fail_at(0);
    assert_int_equal(sk_export_onnx(model, "/nonexistent/x.onnx", NULL), SK_ERR_IO);
    sk_file_fail_at(-1);
    sk_model_free(model);
    sk_free(path);
}

static void foreign_onnx_is_refused(void **state) {
    (void)state;
    sample s = load("fuzz/seeds/onnx/folded");
    sk_tensor_file file;
    sk_error err = {0};
    assert_int_equal(sk_tensors_read_memory(s.bytes, s.size, "mine", &file, &err), SK_OK);
    const sk_tensor_entry *beta = sk_tensors_find(&file, "features.0.1.bias");
    assert_true(beta && beta->count == 2 && beta->data[0] == 3.f && beta->data[1] == 4.f);
    assert_null(sk_tensors_find(&file, "features.0.0.bias"));
    assert_non_null(sk_tensors_find(&file, "classifier.3.bias"));
    assert_string_equal(sk_tensors_meta(&file, "siskin.run_id"), "r1");
    sk_tensors_free(&file);
    s.bytes[4] = 'x'; /* the producer */
    assert_int_equal(sk_tensors_read_memory(s.bytes, s.size, "theirs", &file, &err), SK_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "not an ONNX file written by siskin"));
    sk_free(s.bytes);
}

static void real_backbone(void **state) {
    (void)state;
    const char *shared = getenv("SISKIN_SHARED");
    char path[512];
    sk_tensor_file file;
    sk_error err = {0};
    size_t values = 0;
    snprintf(path, sizeof path, "%s/weights/mobilenet_v3_small_imagenet_backbone.safetensors",
             shared ? shared : SK_SOURCE_DIR "/../shared");
    if (!sk_path_exists(path)) {
        print_message("left out: no %s\n", path);
        skip();
    }
    if (sk_tensors_read(path, &file, &err) != SK_OK) fail_msg("%s", err.message);
    assert_int_equal(file.count, 206);
    for (size_t i = 0; i < file.count; i++)
        if (!strstr(file.items[i].name, "running_")) values += file.items[i].count;
    assert_int_equal(values, 927008);
    sk_tensors_free(&file);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),
        cmocka_unit_test(adding_refuses),
        cmocka_unit_test(number_formats),
        cmocka_unit_test(safetensors_strict),
        cmocka_unit_test(checkpoints),
        cmocka_unit_test(foreign_class_is_refused),
        cmocka_unit_test(views_stay_inside),
        cmocka_unit_test(hostile_pickles),
        cmocka_unit_test(names_the_unreadable),
        cmocka_unit_test(damaged_files),
        cmocka_unit_test(memory_runs_out),
        cmocka_unit_test(disk_is_full),
        cmocka_unit_test(card_travels),
        cmocka_unit_test(json_limits),
        cmocka_unit_test(real_backbone),
        cmocka_unit_test(onnx_there_and_back),
        cmocka_unit_test(onnx_export_under_failure),
        cmocka_unit_test(foreign_onnx_is_refused),
    };
    return cmocka_run_group_tests(tests, make_work, remove_work);
}
