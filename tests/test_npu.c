/* SPDX-License-Identifier: Apache-2.0 */
/* The NPU through the vendor's interface, against a stand-in that is written from the vendor's documentation
 * (standin/rknnmrt.c): answers in every layout, a runtime that fails, lies, dawdles or is of another age. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "siskin/npu.h"

#define SIZE 224
#define MODEL SK_SOURCE_DIR "/models/bird-small.skn"

static sk_rt *cpu;
static uint8_t *picture;
static int (*live)(void), (*runs)(void);

static int begin(void **state) {
    (void)state;
    sk_error err = {0};
    picture = malloc(SIZE * SIZE * 3);
    void *library = dlopen(STANDIN, RTLD_NOW);
    if (!picture || !library || sk_rt_open(MODEL, &cpu, &err) != SK_OK) {
        return -1;
    }
    *(void **)&live = dlsym(library, "standin_live");
    *(void **)&runs = dlsym(library, "standin_runs");
    for (int i = 0; i < SIZE * SIZE * 3; i++) {
        picture[i] = (uint8_t)sk_hash64((uint64_t)i);
    }
    return live && runs ? 0 : -1;
}

static int end(void **state) {
    (void)state;
    sk_rt_close(cpu);
    free(picture);
    return 0;
}

static sk_status open_as(const char *behaviour, const char *library, int deadline, sk_npu **npu, sk_error *err) {
    setenv("SISKIN_STANDIN", behaviour, 1);
    const sk_npu_options options = {library, deadline};
    return sk_npu_open(MODEL, cpu, &options, npu, err); /* any readable file is a model to the stand-in */
}

static sk_npu *opened(const char *behaviour, const char *library, int deadline) {
    sk_npu *npu = NULL;
    sk_error err = {0};
    if (open_as(behaviour, library, deadline, &npu, &err) != SK_OK) {
        fail_msg("%s: %s", behaviour, err.message);
    }
    return npu;
}

/* The stand-in's network, computed from the picture without any padding. */
static float expected(int c) {
    long sum = 0;
    for (int y = 0; y < SIZE; y++) {
        for (int x = 0; x < SIZE * 3; x++) {
            sum += picture[y * SIZE * 3 + x] * ((y * 7 + x * 5 + c * 11) % 13);
        }
    }
    return (float)(sum % 251 - 125 + 53) * .125f;
}

static void expect_npu(sk_npu *npu, const char *what) {
    float logits[2];
    sk_npu_outcome outcome;
    picture[17]++; /* another picture each time */
    sk_npu_run(npu, picture, logits, &outcome);
    if (outcome.on_cpu || logits[0] != expected(0) || logits[1] != expected(1)) {
        fail_msg("%s: on_cpu %d (%s), logits %g %g instead of %g %g", what, outcome.on_cpu, outcome.note,
                 (double)logits[0], (double)logits[1], (double)expected(0), (double)expected(1));
    }
}

static void expect_cpu(sk_npu *npu, int tried) {
    const sk_rt_info *info = sk_rt_get_info(cpu);
    float logits[2];
    int8_t codes[2];
    sk_npu_outcome outcome;
    sk_npu_run(npu, picture, logits, &outcome);
    assert_int_equal(outcome.on_cpu, 1);
    assert_int_equal(outcome.tries > 0, tried);
    assert_non_null(strstr(outcome.note, "on the CPU"));
    sk_rt_run(cpu, picture, codes, NULL);
    for (int c = 0; c < 2; c++) {
        assert_true(logits[c] == (float)(codes[c] - info->logit_zero_point) * info->logit_scale);
    }
}

static void closed(sk_npu *npu) {
    sk_npu_close(npu);
    assert_int_equal(live(), 0);
}

static void test_layouts(void **state) {
    (void)state;
    static const char *const behaviours[] = {
        "", "attr=372", "stride=240", "channels=16", "channels=32,attr=372,stride=256", "layout=flat",
        "layout=nchw,channels=8",
        "layout=nc1hwc2,nhwc=no", "layout=nc1hwc2,nhwc=no,attr=372,stride=225", "layout=flat,channels=16"};
    for (size_t i = 0; i < sizeof behaviours / sizeof *behaviours; i++) {
        sk_npu *npu = opened(behaviours[i], STANDIN, 0);
        expect_npu(npu, behaviours[i]);
        expect_npu(npu, behaviours[i]);
        const sk_npu_info *info = sk_npu_get_info(npu);
        assert_int_equal(info->attr_bytes, strstr(behaviours[i], "372") ? 372 : 376);
        assert_string_equal(info->driver, "0.9.2");
        assert_int_equal(info->weight_bytes, 1700000);
        closed(npu);
    }
}

static void test_failing_runs(void **state) {
    (void)state;
    sk_npu *npu = opened("fail=80", STANDIN, 5000);
    for (int i = 0; i < 40; i++) {
        expect_npu(npu, "80 % of the runs fail");
    }
    assert_true(runs() >= 160 && runs() < 400);
    closed(npu);
    npu = opened("silent=60", STANDIN, 5000);
    for (int i = 0; i < 40; i++) {
        expect_npu(npu, "60 % of the runs write nothing");
    }
    closed(npu);
}

static void test_cpu_answers(void **state) {
    (void)state;
    static const char *const behaviours[] = {"fail=100", "silent=100"};
    for (int b = 0; b < 2; b++) {
        sk_npu *npu = opened(behaviours[b], STANDIN, 30);
        for (int rest = 8; rest <= 64; rest *= 2) { /* longer each time */
            expect_cpu(npu, 1);
            for (int i = 0; i < rest; i++) {
                expect_cpu(npu, 0);
            }
        }
        expect_cpu(npu, 1);
        for (int i = 0; i < 64; i++) { /* and no longer than this */
            expect_cpu(npu, 0);
        }
        expect_cpu(npu, 1);
        closed(npu);
    }
}

static void test_slow(void **state) {
    (void)state;
    sk_npu *npu = opened("slow=60", STANDIN, 20);
    float logits[2];
    sk_npu_outcome outcome;
    sk_npu_run(npu, picture, logits, &outcome);
    assert_int_equal(outcome.on_cpu, 0);
    assert_int_equal(outcome.tries, 1);
    assert_non_null(strstr(outcome.note, "late"));
    assert_true(outcome.ms >= 60 && logits[0] == expected(0));
    closed(npu);
    npu = opened("slow=60,fail=100", STANDIN, 20); /* no second try after the deadline */
    sk_npu_run(npu, picture, logits, &outcome);
    assert_int_equal(outcome.on_cpu, 1);
    assert_int_equal(outcome.tries, 1);
    closed(npu);
}

static void test_refusals(void **state) {
    (void)state;
    static const struct {
        const char *behaviour, *words;
        sk_status status;
    } cases[] = {
        {"version=1.2.0", "1.6 or later", SK_ERR_UNSUPPORTED},
        {"version=0.9.9c", "1.6 or later", SK_ERR_UNSUPPORTED},
        {"version=\x01\x02??", "which is none", SK_ERR_UNSUPPORTED},
        {"query=-7", "does not tell its version", SK_ERR_UNSUPPORTED},
        {"init=-6", "model is invalid", SK_ERR_FORMAT},
        {"init=-13", "another chip", SK_ERR_FORMAT},
        {"init=-4", "memory is short", SK_ERR_MEMORY},
        {"init=-77", "unknown error", SK_ERR_FORMAT},
        {"memory=1", "CMA", SK_ERR_MEMORY},
        {"memory=2", "CMA", SK_ERR_MEMORY},
        {"setmem=-5", "does not take memory", SK_ERR_UNSUPPORTED},
        {"size=256", "256 x 256", SK_ERR_MISMATCH},
        {"classes=1", "no room for 2 classes", SK_ERR_MISMATCH},
        {"bad=scale", "different releases", SK_ERR_MISMATCH},
        {"bad=nan", "different releases", SK_ERR_MISMATCH},
        {"bad=zero", "different releases", SK_ERR_MISMATCH},
        {"bad=bytes", "no room", SK_ERR_MISMATCH},
        {"bad=row", "cannot be", SK_ERR_MISMATCH},
        {"bad=dims", "export both", SK_ERR_MISMATCH},
        {"bad=type", "int8", SK_ERR_UNSUPPORTED},
        {"bad=counts", "3 outputs", SK_ERR_MISMATCH},
        {"attr=500", "does not describe its input", SK_ERR_FORMAT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sk_npu *npu = NULL;
        sk_error err = {0};
        const sk_status status = open_as(cases[i].behaviour, STANDIN, 0, &npu, &err);
        if (status != cases[i].status || npu || !strstr(err.message, cases[i].words)) {
            fail_msg("%s: status %d, '%s'", cases[i].behaviour, status, err.message);
        }
        assert_int_equal(live(), 0);
    }
}

static void test_libraries(void **state) {
    (void)state;
    sk_npu *npu = NULL;
    sk_error err = {0};
    assert_int_equal(open_as("", "/nonexistent/librknnmrt.so", 0, &npu, &err), SK_ERR_IO);
    assert_non_null(strstr(err.message, "/nonexistent/librknnmrt.so"));
    assert_int_equal(open_as("", STANDIN_WITHOUT_RUN, 0, &npu, &err), SK_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "rknn_run"));
    npu = opened("fail=50", STANDIN_WITHOUT_SYNC, 0); /* an old one: no mark, but answers */
    expect_npu(npu, "no rknn_mem_sync");
    sk_npu_close(npu);
    const sk_npu_options options = {STANDIN, 0};
    assert_int_equal(sk_npu_open("/nonexistent.rknn", cpu, &options, &npu, &err), SK_ERR_IO);
    assert_non_null(strstr(err.message, "/nonexistent.rknn"));
    const sk_npu_options late = {STANDIN, 60001};
    assert_int_equal(sk_npu_open(MODEL, cpu, &late, &npu, &err), SK_ERR_ARGUMENT);
}

static void test_other_run(void **state) {
    (void)state;
    char behaviour[256];
    sk_npu *npu = opened("custom={\"run_id\": \"elsewhere\"}", STANDIN, 0);
    assert_int_equal(sk_npu_get_info(npu)->other_run, *sk_rt_get_info(cpu)->run_id != '\0');
    closed(npu);
    snprintf(behaviour, sizeof behaviour, "custom={\"run_id\": \"%s\"}", sk_rt_get_info(cpu)->run_id);
    npu = opened(behaviour, STANDIN, 0);
    assert_int_equal(sk_npu_get_info(npu)->other_run, 0);
    closed(npu);
}

static void test_memory(void **state) {
    (void)state;
    sk_npu *npu = NULL;
    sk_error err = {0};
    for (long n = 0; n < 64; n++) {
        sk_memory_fail_at(n, 1);
        const sk_status status = open_as("channels=16", STANDIN, 0, &npu, &err);
        sk_memory_fail_at(-1, 0);
        assert_int_equal(live(), status == SK_OK ? 3 : 0);
        if (status == SK_OK) {
            break;
        }
        assert_int_equal(status, SK_ERR_MEMORY);
        assert_null(npu);
    }
    assert_non_null(npu);
    const long count = sk_memory_count();
    expect_npu(npu, "no memory is taken while running");
    assert_int_equal(sk_memory_count(), count);
    closed(npu);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layouts),  cmocka_unit_test(test_failing_runs), cmocka_unit_test(test_cpu_answers),
        cmocka_unit_test(test_slow),     cmocka_unit_test(test_refusals),     cmocka_unit_test(test_libraries),
        cmocka_unit_test(test_other_run), cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests_name("npu", tests, begin, end);
}
