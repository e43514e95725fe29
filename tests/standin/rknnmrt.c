/* SPDX-License-Identifier: Apache-2.0 */
/* A stand-in for the vendor's librknnmrt.so, written from its documentation: structures by their documented byte
 * offsets and not by our declarations, so that a wrong declaration shows. Its "network" is a weighted sum of the
 * picture's bytes.
 * SISKIN_STANDIN (KEY=VALUE,...), read at rknn_init, says how it behaves:
 *   attr=376|372   size of tensor_attr it insists on         version=TEXT   API version
 *   stride=N       pixels per input row                      layout=nhwc|nchw|nc1hwc2|flat, channels=N of the output
 *   size=N, classes=N  of the model                          nhwc=no        the query for NHWC outputs is refused
 *   fail=P, silent=P   per cent of the runs that return -1, or 0 without an answer; slow=MS
 *   init=CODE, memory=N (the N-th create_mem fails), query=CODE, setmem=CODE, custom=TEXT
 *   bad=scale|nan|zero|bytes|row|type|dims|counts            an attribute that cannot be */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if UINTPTR_MAX == 0xffffffffu
typedef uint32_t context;
#else
typedef uint64_t context;
#endif

typedef struct memory { /* rknn_tensor_mem */
    void *virt_addr;
    uint64_t phys_addr;
    int32_t fd, offset;
    uint32_t size, flags;
    void *priv_data;
} memory;

static char behaviour[512];
static int live, runs, memories;
static memory *input, *output;

/* For tests: contexts and memories not yet given back, and runs so far. */
int standin_live(void) { return live; }
int standin_runs(void) { return runs; }

static const char *text(const char *key, const char *otherwise) {
    static char value[512];
    char copy[512], *rest = copy;
    snprintf(copy, sizeof copy, "%s", behaviour);
    for (char *item; (item = strtok_r(rest, ",", &rest));) {
        char *equals = strchr(item, '=');
        if (equals && (size_t)(equals - item) == strlen(key) && strncmp(item, key, strlen(key)) == 0) {
            snprintf(value, sizeof value, "%s", equals + 1);
            return value;
        }
    }
    return otherwise;
}

static int number(const char *key, int otherwise) {
    const char *value = text(key, NULL);
    return value ? atoi(value) : otherwise;
}

static int is(const char *key, const char *value) { return strcmp(text(key, ""), value) == 0; }
static int size(void) { return number("size", 224); }
static int row_pixels(void) { return number("stride", size()); }
static int classes(void) { return number("classes", 2); }
static int channels(void) { return number("channels", classes()); }

static void put(unsigned char *attr, int offset, uint32_t value) { memcpy(attr + offset, &value, 4); }

/* Documented offsets in rknn_tensor_attr. */
enum { DIM_COUNT = 4, DIMS = 8, NAME = 72, ELEMENTS = 328, BYTES = 332, FORMAT = 336, TYPE = 340, QUANT = 344,
       ZERO = 352, SCALE = 356, W_STRIDE = 360, STRIDE_BYTES = 364, PASS = 368 };

static void input_attr(unsigned char *attr) {
    const uint32_t side = (uint32_t)size(), row = (uint32_t)row_pixels();
    put(attr, DIM_COUNT, 4);
    put(attr, DIMS, 1);
    put(attr, DIMS + 4, side);
    put(attr, DIMS + 8, is("bad", "dims") ? 4000000000u : side);
    put(attr, DIMS + 12, 3);
    strcpy((char *)attr + NAME, "input");
    put(attr, ELEMENTS, side * side * 3);
    put(attr, BYTES, side * side * 3);
    put(attr, FORMAT, 1);
    put(attr, TYPE, 2); /* int8 unless the caller asks for uint8 */
    put(attr, QUANT, 2);
    put(attr, W_STRIDE, is("bad", "row") ? 3 : row == side ? 0 : row);
    put(attr, STRIDE_BYTES, side * row * 3);
}

static uint32_t output_bytes(void) {
    const uint32_t c = (uint32_t)channels();
    return is("layout", "nc1hwc2") ? (c + 15) / 16 * 16 : c;
}

static void output_attr(unsigned char *attr) {
    const uint32_t c = (uint32_t)channels();
    const int blocked = is("layout", "nc1hwc2"), flat = is("layout", "flat"), planes = is("layout", "nchw");
    float scale = is("bad", "scale") ? -1.f : is("bad", "nan") ? NAN : .125f;
    put(attr, DIM_COUNT, blocked ? 5 : flat ? 2 : 4);
    const uint32_t nhwc[] = {1, 1, 1, c}, nchw[] = {1, c, 1, 1}, c2[] = {1, (c + 15) / 16, 1, 1, 16}, two[] = {1, c};
    memcpy(attr + DIMS, blocked ? c2 : flat ? two : planes ? nchw : nhwc, blocked ? 20 : flat ? 8 : 16);
    put(attr, ELEMENTS, output_bytes());
    put(attr, BYTES, output_bytes());
    put(attr, FORMAT, blocked ? 2 : planes ? 0 : flat ? 0 : 1);
    put(attr, TYPE, is("bad", "type") ? 0 : 2);
    put(attr, QUANT, 2);
    put(attr, ZERO, is("bad", "zero") ? 70000u : (uint32_t)-53);
    memcpy(attr + SCALE, &scale, 4);
    put(attr, STRIDE_BYTES, is("bad", "bytes") ? 1 : output_bytes());
}

int rknn_init(context *ctx, void *model, uint32_t bytes, uint32_t flags, void *extend) {
    const char *says = getenv("SISKIN_STANDIN");
    snprintf(behaviour, sizeof behaviour, "%s", says ? says : "");
    if (!model || bytes || flags || extend || number("init", 0)) {
        return number("init", -5);
    }
    runs = memories = 0;
    input = output = NULL;
    live++;
    *ctx = 77;
    return 0;
}

int rknn_destroy(context ctx) {
    live -= ctx == 77;
    return ctx == 77 ? 0 : -7;
}

static int attr_query(int what, unsigned char *info, uint32_t bytes) {
    const uint32_t want = (uint32_t)number("attr", 376);
    uint32_t index;
    memcpy(&index, info, 4);
    if (bytes != want || index != 0) {
        return -5;
    }
    if (what == 8) {
        input_attr(info);
        return 0;
    }
    if (what == 11 && is("nhwc", "no")) {
        return -5;
    }
    output_attr(info);
    return 0;
}

int rknn_query(context ctx, int what, void *info, uint32_t bytes) {
    if (ctx != 77 || number("query", 0)) {
        return ctx != 77 ? -7 : number("query", 0);
    }
    if (what == 0 && bytes == 8) {
        const uint32_t counts[] = {1, is("bad", "counts") ? 3 : 1};
        memcpy(info, counts, 8);
        return 0;
    }
    if (what == 5 && bytes == 512) {
        snprintf(info, 256, "%s", text("version", "2.3.2 (stand-in)"));
        snprintf((char *)info + 256, 256, "0.9.2");
        return 0;
    }
    if (what == 6 && bytes == 64) {
        const uint32_t sizes[] = {1700000, 400000};
        memset(info, 0, bytes);
        memcpy(info, sizes, 8);
        return 0;
    }
    if (what == 7 && bytes == 1024) {
        snprintf(info, 1024, "%s", text("custom", ""));
        return 0;
    }
    return what == 8 || what == 9 || what == 11 ? attr_query(what, info, bytes) : -5;
}

memory *rknn_create_mem(context ctx, uint32_t bytes) {
    if (ctx != 77 || ++memories == number("memory", 0)) {
        return NULL;
    }
    memory *m = calloc(1, sizeof *m);
    m->virt_addr = malloc(bytes); /* exactly: a byte too far is seen by the sanitizer */
    m->size = bytes;
    live++;
    return m;
}

int rknn_destroy_mem(context ctx, memory *m) {
    (void)ctx;
    free(m->virt_addr);
    free(m);
    live--;
    return 0;
}

int rknn_set_io_mem(context ctx, memory *m, unsigned char *attr) {
    uint32_t type, format;
    if (ctx != 77 || number("setmem", 0)) {
        return number("setmem", -7);
    }
    memcpy(&type, attr + TYPE, 4);
    memcpy(&format, attr + FORMAT, 4);
    if (strcmp((char *)attr + NAME, "input") == 0) {
        input = m;
        return type == 3 && format == 1 && attr[PASS] == 0 ? 0 : -8; /* uint8 NHWC alone */
    }
    output = m;
    return type == 2 ? 0 : -9;
}

#ifndef STANDIN_WITHOUT_SYNC
int rknn_mem_sync(context ctx, memory *m, int direction) {
    return ctx == 77 && m && direction >= 1 && direction <= 3 ? 0 : -5;
}
#endif

#ifndef STANDIN_WITHOUT_RUN
/* The answer for class c: what a test computes again from the picture it gave. */
static signed char answer(const unsigned char *picture, int row, int c) {
    const int side = size();
    long sum = 0;
    for (int y = 0; y < side; y++) {
        for (int x = 0; x < side * 3; x++) {
            sum += picture[(long)y * row * 3 + x] * ((y * 7 + x * 5 + c * 11) % 13);
        }
    }
    return (signed char)(sum % 251 - 125);
}

int rknn_run(context ctx, void *extend) {
    if (ctx != 77 || extend || !input || !output) {
        return -7;
    }
    const int lot = runs++ * 37 % 100, slow = number("slow", 0);
    const struct timespec wait = {slow / 1000, slow % 1000 * 1000000L};
    nanosleep(&wait, NULL);
    if (lot < number("fail", 0)) {
        return -1;
    }
    if (lot < number("silent", 0)) {
        return 0;
    }
    memset(output->virt_addr, 0x33, output->size);
    for (int c = 0; c < classes(); c++) {
        ((signed char *)output->virt_addr)[c] = answer(input->virt_addr, row_pixels(), c);
    }
    return 0;
}
#endif
