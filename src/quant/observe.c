/* SPDX-License-Identifier: Apache-2.0 */
/* Watches the float network on the calibration pictures: extremes of every tensor, then histograms. Each thread has its
 * own counts, which are whole numbers or extremes, so that their sum does not depend on who counted what. */
#include <string.h>

#include "quant/quant.h"

typedef struct slot {
    sk_float_run run;
    sk_range *ranges;
    float **channels; /* as job->equal while extremes are sought */
} slot;

typedef struct observer {
    sk_quant_job *job;
    slot *slots;
    int bins, first, end; /* pictures of this round */
} observer;

static sk_status open_slot(const sk_quant_job *j, slot *s, int bins) {
    const size_t n = j->net->count;
    s->ranges = sk_calloc(n, sizeof *s->ranges);
    s->channels = sk_calloc(n, sizeof *s->channels);
    if (!s->ranges || !s->channels) {
        return sk_fail_memory(j->err, "the ranges");
    }
    for (size_t i = 0; i < n; i++) {
        s->ranges[i] = j->ranges[i];
        s->ranges[i].bins = NULL;
        if (bins) {
            s->ranges[i].bins = sk_calloc(SK_RANGE_BINS, sizeof *s->ranges[i].bins);
        } else if (j->equal[i]) {
            s->channels[i] = sk_calloc(2 * (size_t)j->net->layers[i].out_c, sizeof **s->channels);
        }
        if (bins ? !s->ranges[i].bins : j->equal[i] && !s->channels[i]) {
            return sk_fail_memory(j->err, "the histograms");
        }
    }
    return sk_float_run_create(j->floats, &s->run, j->err);
}

static void close_slot(const sk_quant_job *j, slot *s) {
    for (size_t i = 0; i < j->net->count; i++) {
        if (s->ranges) {
            sk_free(s->ranges[i].bins);
        }
        if (s->channels) {
            sk_free(s->channels[i]);
        }
    }
    sk_free(s->ranges);
    sk_free(s->channels);
    sk_float_run_free(&s->run);
}

static void look(const observer *o, slot *s, size_t layer) {
    const sk_quant_job *j = o->job;
    const sk_layer *l = &j->net->layers[layer];
    const float *data = s->run.tensor[layer + 1];
    const size_t values = sk_layer_values(l);
    if (o->bins) {
        sk_range_count(&s->ranges[layer], j->equal[layer], data, sk_layer_pixels(l), l->out_c);
        return;
    }
    sk_range_widen(&s->ranges[layer], data, values);
    for (size_t i = 0; s->channels[layer] && i < values; i += (size_t)l->out_c) {
        sk_channels_widen(s->channels[layer], s->channels[layer] + l->out_c, data + i, l->out_c);
    }
}

static sk_status watch(void *user, int index, sk_error *err) {
    const observer *o = user;
    sk_quant_job *j = o->job;
    slot *s = &o->slots[index];
    (void)err;
    for (int p = o->first + index; p < o->end; p += j->threads) {
        sk_float_run_picture(j->floats, &s->run, j->pictures->bytes + j->pictures->picture_bytes * (size_t)p);
        for (size_t i = 0; i < j->net->count; i++) {
            sk_float_run_layer(j->floats, &s->run, i);
            look(o, s, i);
        }
        const float *logits = s->run.tensor[j->net->count];
        for (int c = 0, best = 0; c < j->net->card->classes; c++) {
            best = logits[c] > logits[best] ? c : best;
            j->classes[p] = best;
        }
    }
    return SK_OK;
}

static void gather(sk_quant_job *j, const slot *s) {
    for (size_t i = 0; i < j->net->count; i++) {
        sk_range *r = &j->ranges[i];
        const sk_range *mine = &s->ranges[i];
        for (int b = 0; mine->bins && b < SK_RANGE_BINS; b++) {
            r->bins[b] += mine->bins[b];
        }
        if (mine->bins) {
            continue;
        }
        r->low = mine->low < r->low ? mine->low : r->low;
        r->high = mine->high > r->high ? mine->high : r->high;
        for (int c = 0; s->channels[i] && c < j->net->layers[i].out_c; c++) {
            float *low = j->equal[i] + c, *high = low + j->net->layers[i].out_c;
            const float mine_low = s->channels[i][c], mine_high = s->channels[i][c + j->net->layers[i].out_c];
            *low = mine_low < *low ? mine_low : *low;
            *high = mine_high > *high ? mine_high : *high;
        }
    }
}

sk_status sk_quant_observe(sk_quant_job *j, int bins) {
    observer o = {.job = j, .bins = bins, .slots = sk_calloc((size_t)j->threads, sizeof *o.slots)};
    sk_status status = o.slots ? SK_OK : sk_fail_memory(j->err, "the threads' ranges");
    for (size_t i = 0; bins && status == SK_OK && i < j->net->count; i++) {
        j->ranges[i].bins = sk_calloc(SK_RANGE_BINS, sizeof *j->ranges[i].bins);
        status = j->ranges[i].bins ? SK_OK : sk_fail_memory(j->err, "the histograms");
    }
    for (int i = 0; status == SK_OK && i < j->threads; i++) {
        status = open_slot(j, &o.slots[i], bins);
    }
    const int count = j->pictures->count, round = 4 * j->threads;
    for (o.first = 0; status == SK_OK && o.first < count; o.first = o.end) {
        if (sk_cancelled(j->hooks)) {
            status = sk_fail(j->err, SK_ERR_CANCELLED, "quantisation was stopped");
            break;
        }
        o.end = o.first + round < count ? o.first + round : count;
        status = sk_parallel(0, j->threads, j->threads, watch, &o, j->err);
        sk_progress(j->hooks, bins ? "histograms" : "ranges", "images", (uint64_t)o.end, (uint64_t)count);
    }
    for (int i = 0; o.slots && i < j->threads; i++) {
        if (status == SK_OK) {
            gather(j, &o.slots[i]);
        }
        close_slot(j, &o.slots[i]);
    }
    sk_free(o.slots);
    return status;
}
