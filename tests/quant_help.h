/* SPDX-License-Identifier: Apache-2.0 */
/* A small network of int8_net.h through the quantiser: calibration pictures, the file, its error on other pictures. */
#ifndef SK_TEST_QUANT_HELP_H
#define SK_TEST_QUANT_HELP_H

#include <cmocka.h>

#include "int8_net.h"
#include "siskin/rt.h"

enum { HELD_OUT = 40 };

/* Pictures first, first + 1, ... of side x side pixels. */
static inline sk_quant_pictures make_pictures(int side, int count, uint64_t first) {
    sk_quant_pictures p = {.picture_bytes = (size_t)side * (size_t)side * 3, .count = count};
    p.bytes = sk_alloc((size_t)count, p.picture_bytes);
    p.labels = sk_calloc((size_t)count, sizeof *p.labels);
    for (int i = 0; i < count; i++) {
        net_picture(side, first + (uint64_t)i, p.bytes + p.picture_bytes * (size_t)i);
        p.labels[i] = i & 1;
    }
    return p;
}

static inline sk_quant_net folded(const test_net *net) {
    return (sk_quant_net){&net->card, net->layers, net->count, net->weight, net->bias, NULL};
}

/* The bytes of a .skn; sk_free them. */
static inline uint8_t *quantise(const test_net *net, const sk_quant_pictures *pictures, const sk_quant_options *options,
                                size_t *size, double *agreement) {
    const sk_quant_net n = folded(net);
    sk_quant_report report = {0};
    sk_error err = {0};
    uint8_t *bytes = NULL;
    if (sk_quant_run(&n, pictures, options, NULL, NULL, &bytes, size, &report, &err) != SK_OK) {
        fail_msg("%s", err.message);
    }
    *agreement = report.agreement;
    return bytes;
}

/* Of the pooled features on pictures that were not calibrated with: squared error, squared mean error per channel. */
static inline void held_out_error(test_net *net, const uint8_t *bytes, size_t size, double *square, double *mean) {
    enum { MOST = 64 };
    const int side = net->card.size, channels = net->layers[net->count - 3].out_c;
    double bias[MOST] = {0};
    uint8_t *picture = malloc((size_t)side * (size_t)side * 3);
    sk_rt *rt = NULL;
    sk_error err = {0};
    assert_true(picture && channels <= MOST);
    if (sk_rt_open_memory(bytes, size, &rt, &err) != SK_OK) {
        fail_msg("%s", err.message);
    }
    *square = *mean = 0;
    for (int i = 0; i < HELD_OUT; i++) {
        int8_t logits[2], features[MOST];
        net_picture(side, 1000 + (uint64_t)i, picture);
        net_run(net, picture);
        sk_rt_run(rt, picture, logits, features);
        for (int k = 0; k < channels; k++) {
            const double off = (double)sk_rt_feature_value(rt, features[k]) - (double)net->out[net->count - 3][k];
            *square += off * off;
            bias[k] += off / HELD_OUT;
        }
    }
    for (int k = 0; k < channels; k++) {
        *mean += bias[k] * bias[k];
    }
    sk_rt_close(rt);
    free(picture);
}

/* Quantises with every so many-th allocation failing, the first ones one by one, until none does: each failure is told
 * as such, and nothing stays allocated. `shown`: pictures for the explanation, or NULL. Returns how often it failed. */
static inline int runs_out_of_memory(const test_net *net, const sk_quant_pictures *pictures,
                                     const sk_quant_options *options, const sk_quant_pictures *shown) {
    const sk_quant_net n = folded(net);
    const long live = sk_memory_live();
    int failed = 0, done = 0;
    for (long fail = 0; !done; fail += 1 + fail / 40) {
        sk_quant_report report = {0};
        uint8_t *bytes = NULL;
        size_t size = 0;
        sk_error err = {0};
        sk_memory_fail_at(fail, 0);
        const sk_status status = sk_quant_run(&n, pictures, options, shown, NULL, &bytes, &size, &report, &err);
        sk_memory_fail_at(-1, 0);
        done = status == SK_OK;
        failed += !done;
        assert_true(done || status == SK_ERR_MEMORY);
        if (done) {
            sk_free(bytes);
            sk_quant_layers_free(report.explained);
        }
        assert_int_equal(sk_memory_live(), live);
    }
    return failed;
}
#endif
