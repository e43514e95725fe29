/* SPDX-License-Identifier: Apache-2.0 */
/* The lint ahead of a conversion: warnings go to the hooks, an error ends it unless that is waived. The rules
 * themselves are tried in house/rknn.sh, on many files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "formats/onnx_build.h"
#include "rknn/rknn.h"

static char path[] = "/tmp/siskin-lint-XXXXXX", told[400];
static int warnings;

static void listen(void *user, sk_log_level level, const char *text) {
    (void)user;
    warnings += level == SK_LOG_WARNING;
    snprintf(told, sizeof told, "%s", text);
}

static const sk_hooks hooks = {.log = listen};

/* input -> first -> second -> logits */
static void write_graph(const char *first, const char *second) {
    sk_onnx b = {0};
    const char *const in[] = {"input"}, *const between[] = {"between"};
    const sk_card card = {.size = 32, .classes = 2};
    sk_onnx_node(&b, first, "one", in, 1, "between");
    sk_onnx_node(&b, second, "two", between, 1, "logits");
    assert_int_equal(sk_onnx_write(&b, &card, 13, path, NULL), SK_OK);
    sk_onnx_free(&b);
    warnings = 0;
    told[0] = 0;
}

static int begin(void **state) {
    (void)state;
    const int file = mkstemp(path);
    return file < 0 ? -1 : close(file);
}

static int end(void **state) {
    (void)state;
    return unlink(path);
}

static void test_clean(void **state) {
    (void)state;
    write_graph("Relu", "Tanh");
    assert_int_equal(sk_rknn_lint_gate(path, "rv1103", 0, &hooks, NULL), SK_OK);
    assert_int_equal(warnings, 0);
}

static void test_warning(void **state) {
    (void)state;
    write_graph("Relu", "Exp");
    assert_int_equal(sk_rknn_lint_gate(path, "rv1106", 0, &hooks, NULL), SK_OK);
    assert_int_equal(warnings, 1);
    assert_non_null(strstr(told, "cpu-slow at two: Exp; do it outside"));
}

static void test_error(void **state) {
    (void)state;
    sk_error err = {0};
    write_graph("Sin", "Cos");
    assert_int_equal(sk_rknn_lint_gate(path, "rv1103", 0, &hooks, &err), SK_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "2 errors in the network, first cpu-op at one: Sin; replace it"));
    assert_non_null(strstr(err.message, "--despite-lint"));
    assert_int_equal(warnings, 0);
    assert_int_equal(sk_rknn_lint_gate(path, "rv1103", 1, &hooks, &err), SK_OK);
    assert_int_equal(warnings, 2);
}

static void test_target(void **state) {
    (void)state;
    sk_error err = {0};
    write_graph("Relu", "Tanh");
    assert_int_equal(sk_rknn_lint_gate(path, "rk3588", 0, &hooks, &err), SK_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "choose rv1103, rv1103b, rv1106 or rv1106b"));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_clean), cmocka_unit_test(test_warning),
                                       cmocka_unit_test(test_error), cmocka_unit_test(test_target)};
    return cmocka_run_group_tests(tests, begin, end);
}
