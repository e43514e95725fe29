/* SPDX-License-Identifier: Apache-2.0 */
/* From the two files to a handle that can run: library, model, version, attributes, memory, each proved before the
 * next. */
#include <stdlib.h>
#include <string.h>

#include "npu/npu.h"

#define OLDEST_MAJOR 1
#define OLDEST_MINOR 6
#define DEADLINE_MS 2000
#define MOST_DEADLINE_MS 60000

/* The first question to the runtime: a release of the wrong age answers everything else wrongly. */
static sk_status handshake(sk_npu *npu, sk_error *err) {
    sk_rknn_version version = {{0}, {0}};
    const int code = npu->calls.query(npu->context, SK_RKNN_SDK_VERSION, &version, sizeof version);
    if (code) {
        return sk_fail(err, SK_ERR_UNSUPPORTED, "librknnmrt does not tell its version: it says %s",
                       sk_npu_code_text(code));
    }
    memcpy(npu->info.api, version.api, sizeof npu->info.api - 1);
    memcpy(npu->info.driver, version.driver, sizeof npu->info.driver - 1);
    char *end = NULL;
    const long major = strtol(npu->info.api, &end, 10), minor = *end == '.' ? strtol(end + 1, NULL, 10) : -1;
    if (end == npu->info.api || minor < 0) {
        return sk_fail(err, SK_ERR_UNSUPPORTED, "librknnmrt tells '%.40s' as its version, which is none: the library "
                       "is damaged or of another kind", npu->info.api);
    }
    if (major < OLDEST_MAJOR || (major == OLDEST_MAJOR && minor < OLDEST_MINOR)) {
        return sk_fail(err, SK_ERR_UNSUPPORTED, "librknnmrt is version %.40s; %d.%d or later is needed", npu->info.api,
                       OLDEST_MAJOR, OLDEST_MINOR);
    }
    return SK_OK;
}

/* What is good to know and not needed to run. */
static void ask_details(sk_npu *npu) {
    sk_rknn_sizes sizes = {0};
    if (npu->calls.query(npu->context, SK_RKNN_MEM_SIZE, &sizes, sizeof sizes) == 0) {
        npu->info.weight_bytes = sizes.weight;
        npu->info.working_bytes = sizes.internal;
    }
    sk_rknn_custom custom = {{0}};
    if (npu->calls.query(npu->context, SK_RKNN_CUSTOM_STRING, &custom, sizeof custom) == 0) {
        memcpy(npu->info.custom, custom.text, sizeof npu->info.custom - 1);
    }
    const char *run = sk_rt_get_info(npu->cpu)->run_id;
    npu->info.other_run = *run && strstr(npu->info.custom, "run_id") && !strstr(npu->info.custom, run);
}

static sk_status make_memory(sk_npu *npu, sk_rknn_attr *attr, sk_rknn_memory **memory, sk_error *err) {
    *memory = npu->calls.create_memory(npu->context, attr->size_with_stride);
    if (!*memory || !(*memory)->address || (*memory)->size < attr->size_with_stride) {
        return sk_fail(err, SK_ERR_MEMORY, "the NPU has no %u bytes for a picture or its answer: stop rkipc "
                       "(RkLunch-stop.sh) or enlarge the CMA", attr->size_with_stride);
    }
    memset((*memory)->address, 0, attr->size_with_stride);
    const int code = npu->calls.set_memory(npu->context, *memory, attr);
    if (code) {
        return sk_fail(err, SK_ERR_UNSUPPORTED, "the NPU does not take memory for its input or output: it says %s",
                       sk_npu_code_text(code));
    }
    return SK_OK;
}

static sk_status open_model(sk_npu *npu, const char *path, sk_error *err) {
    sk_map file = {0}; /* an unreadable file is told in our words; the runtime reads it by itself */
    sk_status status = sk_file_map(path, &file, err);
    if (status != SK_OK) {
        return status;
    }
    sk_file_unmap(&file);
    char name[512];
    if (strlen(path) >= sizeof name) {
        return sk_fail(err, SK_ERR_ARGUMENT, "the model's path is longer than %zu characters", sizeof name - 1);
    }
    memcpy(name, path, strlen(path) + 1);
    const int code = npu->calls.init(&npu->context, name, 0, 0, NULL);
    if (code) {
        return sk_fail(err, code == -4 ? SK_ERR_MEMORY : SK_ERR_FORMAT, "the NPU refuses %s: it says %s", path,
                       sk_npu_code_text(code));
    }
    npu->initialised = 1;
    status = handshake(npu, err);
    sk_rknn_attr in, out;
    if (status == SK_OK) {
        status = sk_npu_attributes(npu, &in, &out, err);
    }
    if (status == SK_OK) {
        status = make_memory(npu, &in, &npu->input, err);
    }
    if (status == SK_OK) {
        status = make_memory(npu, &out, &npu->output, err);
    }
    if (status == SK_OK) {
        ask_details(npu);
    }
    return status;
}

sk_status sk_npu_open(const char *model_path, sk_rt *cpu, const sk_npu_options *options, sk_npu **out, sk_error *err) {
    *out = NULL;
    const int deadline = options && options->deadline_ms ? options->deadline_ms : DEADLINE_MS;
    if (!model_path || !cpu || deadline < 1 || deadline > MOST_DEADLINE_MS) {
        return sk_fail(err, SK_ERR_ARGUMENT, "the NPU needs a model, the network on the CPU and a deadline of 1 to "
                       "%d ms", MOST_DEADLINE_MS);
    }
    sk_npu *npu = sk_calloc(1, sizeof *npu);
    if (!npu) {
        return sk_fail_memory(err, "the NPU");
    }
    npu->cpu = cpu;
    npu->size = sk_rt_get_info(cpu)->size;
    npu->classes = sk_rt_get_info(cpu)->classes;
    npu->deadline_ms = deadline;
    npu->codes = sk_alloc((size_t)npu->classes, 1);
    sk_status status = npu->codes ? sk_npu_library_open(options ? options->library : NULL, &npu->library, &npu->calls,
                                                        err)
                                  : sk_fail_memory(err, "the NPU");
    if (status == SK_OK) {
        status = open_model(npu, model_path, err);
    }
    if (status != SK_OK) {
        sk_npu_close(npu);
        return status;
    }
    *out = npu;
    return SK_OK;
}

void sk_npu_close(sk_npu *npu) {
    if (!npu) {
        return;
    }
    if (npu->input) {
        npu->calls.destroy_memory(npu->context, npu->input);
    }
    if (npu->output) {
        npu->calls.destroy_memory(npu->context, npu->output);
    }
    if (npu->initialised) {
        npu->calls.destroy(npu->context);
    }
    sk_npu_library_close(npu->library);
    sk_free(npu->offsets);
    sk_free(npu->codes);
    sk_free(npu);
}

const sk_npu_info *sk_npu_get_info(const sk_npu *npu) {
    return &npu->info;
}
