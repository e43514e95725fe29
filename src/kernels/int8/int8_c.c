/* SPDX-License-Identifier: Apache-2.0 */
/* The reference: plain C that defines every bit of the int8 executor, and runs on the board. Weight rows are contiguous
 * along the sum, so that the inner loops are dot products a compiler can vectorise (NEON's too). */
#include <stdlib.h>
#include <string.h>

#include "kernels/int8/int8.h"

static size_t packed_bytes(const sk_q_layer *layer) {
    (void)layer;
    return 0;
}

static void pack(const sk_q_layer *layer, void *packed) {
    (void)layer;
    (void)packed;
}

static size_t scratch_bytes(const sk_q_layer *layer) {
    /* a row of zero points and the patch of one output pixel, or the sums of one output pixel and the row */
    return (size_t)layer->in_c + (layer->op == SK_OP_DEPTHWISE ? sizeof(int32_t) * (size_t)layer->in_c
                                                               : (size_t)sk_gemm_depth(layer));
}

/* Four rows of weights at a time, so that each input is loaded and widened once for all of them. */
static void dot4(const int8_t *restrict x, const int8_t *restrict w, size_t row, int n, int32_t *restrict sums) {
    const int8_t *restrict w1 = w + row, *restrict w2 = w1 + row, *restrict w3 = w2 + row;
    int32_t a = 0, b = 0, c = 0, d = 0;
    for (int i = 0; i < n; i++) {
        a += (int16_t)(x[i] * w[i]); /* fits: 128 * 127 */
        b += (int16_t)(x[i] * w1[i]);
        c += (int16_t)(x[i] * w2[i]);
        d += (int16_t)(x[i] * w3[i]);
    }
    sums[0] = a;
    sums[1] = b;
    sums[2] = c;
    sums[3] = d;
}

static int32_t dot(const int8_t *restrict x, const int8_t *restrict w, int n) {
    int32_t sum = 0;
    for (int i = 0; i < n; i++) {
        sum += (int16_t)(x[i] * w[i]);
    }
    return sum;
}

static void gemm_pixel(const sk_q_layer *layer, const int8_t *x, int8_t *out) {
    const int depth = sk_gemm_depth(layer);
    int c = 0;
    for (; c + 4 <= layer->out_c; c += 4) {
        int32_t sums[4];
        dot4(x, layer->weight + layer->row * (size_t)c, layer->row, depth, sums);
        for (int k = 0; k < 4; k++) {
            out[c + k] = sk_finish(layer, layer->bias[c + k] + sums[k], c + k);
        }
    }
    for (; c < layer->out_c; c++) {
        out[c] = sk_finish(layer, layer->bias[c] + dot(x, layer->weight + layer->row * (size_t)c, depth), c);
    }
}

static void gemm(const sk_q_layer *layer, const int8_t *in, int8_t *out, void *scratch) {
    const size_t in_c = (size_t)layer->in_c, out_c = (size_t)layer->out_c;
    if (layer->kernel == 1 && layer->stride == 1) {
        const size_t pixels = (size_t)layer->out_h * (size_t)layer->out_w;
        for (size_t i = 0; i < pixels; i++) {
            gemm_pixel(layer, in + i * in_c, out + i * out_c);
        }
        return;
    }
    int8_t *outside = scratch, *patch = outside + in_c;
    const int8_t *taps[SK_MAX_TAPS];
    memset(outside, layer->zero_in, in_c);
    for (int y = 0; y < layer->out_h; y++) {
        for (int x = 0; x < layer->out_w; x++) {
            sk_taps(layer, in, outside, y, x, taps);
            for (int t = 0; t < layer->kernel * layer->kernel; t++) {
                memcpy(patch + in_c * (size_t)t, taps[t], in_c);
            }
            gemm_pixel(layer, patch, out);
            out += out_c;
        }
    }
}

static void multiply_add(const int8_t *restrict x, const int8_t *restrict w, int n, int32_t *restrict sums) {
    for (int c = 0; c < n; c++) {
        sums[c] += (int16_t)(x[c] * w[c]);
    }
}

static void depthwise(const sk_q_layer *layer, const int8_t *in, int8_t *out, void *scratch) {
    int32_t *sums = scratch;
    int8_t *outside = (int8_t *)(sums + layer->in_c);
    const int8_t *taps[SK_MAX_TAPS];
    const int count = layer->kernel * layer->kernel;
    memset(outside, layer->zero_in, (size_t)layer->in_c);
    for (int y = 0; y < layer->out_h; y++) {
        for (int x = 0; x < layer->out_w; x++) {
            sk_taps(layer, in, outside, y, x, taps);
            memcpy(sums, layer->bias, sizeof *sums * (size_t)layer->out_c);
            for (int t = 0; t < count; t++) {
                multiply_add(taps[t], layer->weight + layer->row * (size_t)t, layer->out_c, sums);
            }
            for (int c = 0; c < layer->out_c; c++) {
                out[c] = sk_finish(layer, sums[c], c);
            }
            out += layer->out_c;
        }
    }
}

static void pool(const sk_q_layer *layer, const int8_t *in, int8_t *out) {
    const int pixels = layer->in_h * layer->in_w;
    for (int c = 0; c < layer->in_c; c++) {
        int32_t sum = -layer->zero_in * pixels;
        for (int i = 0; i < pixels; i++) {
            sum += in[(size_t)i * (size_t)layer->in_c + (size_t)c];
        }
        out[c] = sk_clamp8(sk_requant(sum, layer->mult2, layer->shift) + layer->zero_out, layer->low, layer->high);
    }
}

static void scale(const sk_q_layer *layer, const int8_t *in, const int8_t *gate, int8_t *out) {
    const int pixels = layer->in_h * layer->in_w;
    for (int i = 0; i < pixels; i++) {
        for (int c = 0; c < layer->in_c; c++) {
            const float factor = (float)(gate[c] - layer->zero_in2) * layer->factor;
            out[c] = sk_code(layer, (float)(in[c] - layer->zero_in) * factor);
        }
        in += layer->in_c;
        out += layer->in_c;
    }
}

static void add(const sk_q_layer *layer, const int8_t *in, const int8_t *in2, int8_t *out) {
    const size_t count = (size_t)layer->in_h * (size_t)layer->in_w * (size_t)layer->in_c;
    for (size_t i = 0; i < count; i++) {
        const float a = (float)(in[i] - layer->zero_in) * layer->factor;
        const float b = (float)(in2[i] - layer->zero_in2) * layer->factor2;
        out[i] = sk_code(layer, a + b);
    }
}

void sk_int8_c_input(const int8_t *table, const uint8_t *image, size_t pixels, int8_t *out) {
    for (size_t i = 0; i < 3 * pixels; i += 3) {
        out[i] = table[image[i]];
        out[i + 1] = table[256 + image[i + 1]];
        out[i + 2] = table[512 + image[i + 2]];
    }
}

const sk_int8_kernels sk_int8_c = {
    .name = "c",
    .packed_bytes = packed_bytes,
    .pack = pack,
    .scratch_bytes = scratch_bytes,
    .gemm = gemm,
    .depthwise = depthwise,
    .pool = pool,
    .scale = scale,
    .add = add,
    .input = sk_int8_c_input,
};

static const sk_int8_kernels *reference(void) {
    return &sk_int8_c;
}

#if defined(SK_HAVE_AVX2) && !defined(SK_HAVE_AVXVNNI) /* the compiler cannot build it; the name still holds back */
const sk_int8_kernels *sk_int8_avxvnni(void) {
    return NULL;
}
#endif

/* Widest first. */
static const struct path {
    const char *name;
    const sk_int8_kernels *(*get)(void); /* gives NULL if the CPU has it not */
} paths[] = {
#ifdef SK_HAVE_AVX2
    {"avx512", sk_int8_avx512},
    {"avxvnni", sk_int8_avxvnni},
    {"avx2", sk_int8_avx2},
#endif
    {"c", reference},
};
enum { PATHS = sizeof paths / sizeof *paths };

static int find(const char *name) {
    for (int i = 0; i < PATHS; i++) {
        if (strcmp(paths[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

const sk_int8_kernels *sk_int8_path(const char *name) {
    const int path = find(name);
    return path < 0 ? NULL : paths[path].get();
}

const sk_int8_kernels *sk_int8_choose(void) {
    const char *wanted = getenv("SISKIN_CPU");
    int path = wanted ? find(wanted) : 0;
    path = path < 0 ? 0 : path;
    while (!paths[path].get()) {
        path++;
    }
    return paths[path].get();
}
