/* SPDX-License-Identifier: Apache-2.0 */
/* The vendor's library, opened at run time: a program that is built once runs on boards with and without it. */
#include <string.h>

#include "npu/npu.h"

#ifdef SK_WITH_NPU
#include <dlfcn.h>

static const char *const names[] = {"rknn_init",       "rknn_destroy",     "rknn_query",      "rknn_run",
                                    "rknn_create_mem", "rknn_destroy_mem", "rknn_set_io_mem", "rknn_mem_sync"};
#define NAMES (sizeof names / sizeof *names)
_Static_assert(sizeof(sk_rknn_calls) == NAMES * sizeof(void *), "one name for each call");

sk_status sk_npu_library_open(const char *path, void **library, sk_rknn_calls *calls, sk_error *err) {
    const char *name = path ? path : "librknnmrt.so";
    *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!*library) {
        const char *why = dlerror();
        return sk_fail(err, SK_ERR_IO, "cannot open %s: %.200s; put the vendor's librknnmrt.so (armhf-uclibc) into "
                       "/oem/usr/lib and LD_LIBRARY_PATH, or leave the NPU out", name, why ? why : "no reason given");
    }
    for (size_t i = 0; i < NAMES; i++) {
        void *call = dlsym(*library, names[i]);
        if (!call && i + 1 < NAMES) { /* rknn_mem_sync alone may be missing */
            sk_npu_library_close(*library);
            *library = NULL;
            return sk_fail(err, SK_ERR_UNSUPPORTED, "%s has no %s: it is no librknnmrt for RV1103 of release 1.6 or "
                           "later", name, names[i]);
        }
        memcpy((char *)calls + i * sizeof call, &call, sizeof call);
    }
    return SK_OK;
}

void sk_npu_library_close(void *library) {
    if (library) {
        dlclose(library);
    }
}
#else
sk_status sk_npu_library_open(const char *path, void **library, sk_rknn_calls *calls, sk_error *err) {
    (void)path;
    *library = NULL;
    *calls = (sk_rknn_calls){0};
    return sk_fail(err, SK_ERR_UNSUPPORTED, "this build cannot open librknnmrt.so: build with -Dnpu=true and without "
                   "-static");
}

void sk_npu_library_close(void *library) {
    (void)library;
}
#endif

const char *sk_npu_code_text(int code) {
    static const char *const texts[] = {
        "success",
        "failure without a reason",
        "a timeout",
        "that the NPU is not available",
        "that memory is short: stop rkipc (RkLunch-stop.sh) or enlarge the CMA",
        "that a parameter is invalid",
        "that the model is invalid: convert it with a toolkit of the runtime's version, or stop rkipc",
        "that the context is invalid",
        "that the input is invalid",
        "that the output is invalid",
        "that the model is of another device",
        "that the model was compiled ahead of its time: convert it again",
        "that the model was optimised for another release: convert it again",
        "that the model is for another chip: convert it for rv1103",
    };
    const int index = -code;
    return index >= 0 && index < (int)(sizeof texts / sizeof *texts) ? texts[index] : "an unknown error";
}
