/* SPDX-License-Identifier: Apache-2.0 */
/* Layer by layer: our forecast of the vendor's int8 (sk_vendor) beside the vendor's simulator, and both beside float.
 * The toolkit's accuracy analysis leaves every tensor of its simulator as a .npy file (NCHW, float), under the names
 * that the exported ONNX gave them: those of our layers. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "rknn/rknn.h"

typedef struct sums {
    double own, theirs, real;         /* squares */
    double own_theirs, own_real, theirs_real, difference;
    int found;
} sums;

typedef struct comparing {
    sk_model *model;
    const sk_rknn_options *options;
    sk_rknn_job job;
    sk_quant_pictures pictures;
    sk_vendor *vendor;
    size_t layers;
    float **real, **own; /* per layer, NHWC, of the picture at hand */
    sums *sums;
    int failed;
} comparing;

static void keep_real(void *user, size_t layer, const float *data, int n, int h, int w, int channels) {
    comparing *c = user;
    const size_t count = (size_t)n * (size_t)h * (size_t)w * (size_t)channels;
    if (layer >= c->layers || count != sk_layer_values(sk_model_layer(c->model, layer))) return;
    const float *factor = c->job.form.factor[layer]; /* in the units of the other two */
    for (size_t i = 0; i < count; i++) c->real[layer][i] = data[i] / (factor ? factor[i % (size_t)channels] : 1);
}

static void keep_own(void *user, size_t layer, const float *data) {
    const comparing *c = user;
    memcpy(c->own[layer], data, sk_layer_values(sk_model_layer(c->model, layer)) * sizeof *data);
}

/* ---- their tensors ----------------------------------------------------------------------------------------------- */

/* A .npy of `count` floats; *out is released with sk_free. 0 if there is no such file, or another number of them. */
static int read_npy(const char *path, size_t count, float **out) {
    uint8_t *bytes = NULL;
    size_t size = 0;
    *out = NULL;
    if (sk_file_read(path, &bytes, &size, NULL) != SK_OK) return 0;
    const size_t header = size >= 12 ? (bytes[6] == 1 ? 10u + bytes[8] + 256u * bytes[9]
                                                      : 12u + bytes[8] + 256u * bytes[9] + 65536u * bytes[10])
                                     : 0;
    const int fits = header && memcmp(bytes, "\x93NUMPY", 6) == 0 && header < size &&
                     size - header == count * sizeof(float) && memmem(bytes, header, "'<f4'", 5) &&
                     memmem(bytes, header, "'fortran_order': False", 22);
    if (fits && (*out = sk_alloc(count, sizeof(float)))) memcpy(*out, bytes + header, count * sizeof(float));
    sk_free(bytes);
    return *out != NULL;
}

static void add(comparing *c, size_t index, const float *theirs) {
    const sk_layer *l = sk_model_layer(c->model, index);
    const size_t pixels = (size_t)l->out_h * (size_t)l->out_w, channels = (size_t)l->out_c;
    sums *s = &c->sums[index];
    s->found++;
    for (size_t p = 0; p < pixels; p++)
        for (size_t k = 0; k < channels; k++) {
            const double own = (double)c->own[index][p * channels + k], real = (double)c->real[index][p * channels + k];
            const double other = (double)theirs[k * pixels + p];
            s->own += own * own;
            s->theirs += other * other;
            s->real += real * real;
            s->own_theirs += own * other;
            s->own_real += own * real;
            s->theirs_real += other * real;
            s->difference += (own - other) * (own - other);
        }
}

static sk_status read_theirs(comparing *c, sk_error *err) {
    for (size_t i = 0; i < c->layers; i++) {
        const sk_layer *l = sk_model_layer(c->model, i);
        const char *name = i + 1 == c->layers ? "logits" : l->name;
        char *path = sk_format("%s/analysis/simulator/npy/%s.npy", c->job.folder, name);
        float *theirs = NULL;
        if (!path) return sk_fail_memory(err, "a path");
        char *end = path + strlen(path) - strlen(".npy");
        for (char *at = path + strlen(c->job.folder) + strlen("/analysis/simulator/npy/"); at < end; at++)
            if (*at == '.' || *at == '/') *at = '_';
        if (read_npy(path, sk_layer_values(l), &theirs)) add(c, i, theirs);
        sk_free(theirs);
        sk_free(path);
    }
    return SK_OK;
}

static sk_status analyse(comparing *c, int picture, const sk_hooks *hooks, int count, sk_error *err) {
    const uint8_t *bytes = c->pictures.bytes + c->pictures.picture_bytes * (size_t)picture;
    const int classes = sk_model_card(c->model)->classes;
    float *logits = sk_alloc((size_t)classes, sizeof *logits);
    char request[128], *folder = sk_path_join(c->job.folder, "analysis");
    sk_status status = logits && folder ? SK_OK : sk_fail_memory(err, "the tensors");
    snprintf(request, sizeof request,
             "{\"do\":\"analyse\",\"picture\":\"calibration/%04d.png\",\"folder\":\"analysis\"}", picture);
    if (status == SK_OK)
        status = sk_model_forward(c->model, bytes, 1, 1, logits, NULL, keep_real, c, err);
    if (status == SK_OK) sk_vendor_run(c->vendor, bytes, logits, NULL, keep_own, c);
    if (status == SK_OK) status = sk_bridge_ask(c->job.bridge, request, NULL, 0, NULL, err);
    if (status == SK_OK) status = read_theirs(c, err);
    if (status == SK_OK) status = sk_folder_remove(folder, err);
    sk_progress(hooks, "compare", "pictures", (uint64_t)picture + 1, (uint64_t)count);
    sk_free(logits);
    sk_free(folder);
    return status;
}

/* ---- verdicts ---------------------------------------------------------------------------------------------------- */

static int best(const float *logits, int classes) {
    int most = 0;
    for (int i = 1; i < classes; i++) most = logits[i] > logits[most] ? i : most;
    return most;
}

/* The same verdicts of the three on pictures that are judged by their centre alone. */
static sk_status count_verdicts(const comparing *c, const sk_quant_pictures *pictures, sk_rknn_comparison *out,
                                const sk_hooks *hooks, sk_error *err) {
    const sk_card *card = sk_model_card(c->model);
    const size_t classes = (size_t)card->classes;
    float *real = sk_alloc(classes, sizeof *real), *theirs = sk_alloc(classes, sizeof *theirs);
    float *own = sk_alloc(classes, sizeof *own);
    sk_status status = real && theirs && own ? SK_OK : sk_fail_memory(err, "the logits");
    if (status == SK_OK) status = sk_bridge_ask(c->job.bridge, "{\"do\":\"simulate\"}", NULL, 0, NULL, err);
    for (int i = 0; status == SK_OK && i < pictures->count; i++) {
        const uint8_t *bytes = pictures->bytes + pictures->picture_bytes * (size_t)i;
        status = sk_model_forward(c->model, bytes, 1, 1, real, NULL, NULL, NULL, err);
        if (status == SK_OK)
            status = sk_rknn_run(c->job.bridge, bytes, 1, card->size, card->classes, sk_model_feature_count(c->model),
                                 theirs, NULL, err);
        if (status != SK_OK) break;
        sk_vendor_run(c->vendor, bytes, own, NULL, NULL, NULL);
        const int a = best(own, card->classes), b = best(theirs, card->classes), f = best(real, card->classes);
        out->own_theirs += a == b;
        out->own_float += a == f;
        out->theirs_float += b == f;
        sk_progress(hooks, "verdicts", "pictures", (uint64_t)i + 1, (uint64_t)pictures->count);
    }
    out->pictures = pictures->count;
    sk_free(real);
    sk_free(theirs);
    sk_free(own);
    return status;
}

/* ---- all of it --------------------------------------------------------------------------------------------------- */

/* `normal` is forecast without a look at the toolkit; how the others search is known to the toolkit alone. */
static sk_status make_own(comparing *c, const sk_hooks *hooks, sk_error *err) {
    if (c->options->algorithm != SK_RKNN_NORMAL)
        return sk_rknn_forecast(c->job.bridge, c->model, &c->job.form, &c->vendor, err);
    return sk_vendor_observe(c->model, &c->job.form, &c->pictures, c->options->by_layer, hooks, &c->vendor, err);
}

static sk_status take_room(comparing *c, sk_error *err) {
    c->layers = sk_model_layer_count(c->model);
    c->real = sk_calloc(c->layers, sizeof *c->real);
    c->own = sk_calloc(c->layers, sizeof *c->own);
    c->sums = sk_calloc(c->layers, sizeof *c->sums);
    int ok = c->real && c->own && c->sums;
    for (size_t i = 0; ok && i < c->layers; i++) {
        c->real[i] = sk_calloc(sk_layer_values(sk_model_layer(c->model, i)), sizeof(float));
        c->own[i] = sk_calloc(sk_layer_values(sk_model_layer(c->model, i)), sizeof(float));
        ok = c->real[i] && c->own[i];
    }
    return ok ? SK_OK : sk_fail_memory(err, "the tensors");
}

static double ratio(double a, double b) { return b > 0 ? a / sqrt(b) : NAN; }

static sk_status fill(const comparing *c, sk_rknn_comparison *out, sk_error *err) {
    out->layers = sk_calloc(c->layers, sizeof *out->layers);
    if (!out->layers) return sk_fail_memory(err, "the comparison");
    out->first = -1;
    for (size_t i = 0; i < c->layers; i++) {
        const sums *s = &c->sums[i];
        sk_rknn_pair *p = &out->layers[i];
        snprintf(p->name, sizeof p->name, "%s", sk_model_layer(c->model, i)->name);
        p->found = s->found > 0;
        p->cosine = ratio(s->own_theirs, s->own * s->theirs);
        p->error = s->theirs > 0 ? sqrt(s->difference / s->theirs) : NAN;
        p->own_float = ratio(s->own_real, s->own * s->real);
        p->theirs_float = ratio(s->theirs_real, s->theirs * s->real);
        out->found += (size_t)p->found;
        if (out->first < 0 && p->cosine < SK_RKNN_ALIKE) out->first = (int)i;
    }
    out->count = c->layers;
    return out->found ? SK_OK
                      : sk_fail(err, SK_ERR_UNSUPPORTED, "the toolkit's analysis has none of the network's "
                                                         "tensors: is it "
                                                         "of another version?");
}

static void release(comparing *c) {
    for (size_t i = 0; i < c->layers; i++) {
        if (c->real) sk_free(c->real[i]);
        if (c->own) sk_free(c->own[i]);
    }
    sk_free(c->real);
    sk_free(c->own);
    sk_free(c->sums);
    sk_quant_pictures_free(&c->pictures);
    sk_vendor_free(c->vendor);
    sk_rknn_job_close(&c->job);
}

static sk_status verdicts(const comparing *c, const sk_dataset *dataset, const sk_cache *cache, sk_split part,
                          sk_rknn_comparison *out, const sk_hooks *hooks, sk_error *err) {
    sk_quant_pictures others = {0};
    if (part == SK_SPLIT_TRAIN) return count_verdicts(c, &c->pictures, out, hooks, err);
    sk_status status = sk_quant_gather(sk_model_card(c->model), dataset, cache, part, &others, err);
    if (status == SK_OK) status = count_verdicts(c, &others, out, hooks, err);
    sk_quant_pictures_free(&others);
    return status;
}

sk_status sk_rknn_compare(sk_model *model, const sk_dataset *calibration, const sk_cache *cache,
                          const sk_rknn_options *options, int pictures, sk_split part, const sk_hooks *hooks,
                          sk_rknn_comparison *out, sk_error *err) {
    comparing c = {.model = model, .options = options};
    memset(out, 0, sizeof *out);
    sk_status status = sk_rknn_job_open(model, calibration, cache, options, hooks, &c.job, err);
    if (status == SK_OK) status = take_room(&c, err);
    if (status == SK_OK)
        status = sk_quant_draw(sk_model_card(model), calibration, cache, options->pictures, options->seed, NULL,
                               &c.pictures, err);
    if (status == SK_OK) status = sk_rknn_job_build(&c.job, model, options, "logits,avgpool", err);
    if (status == SK_OK) status = make_own(&c, hooks, err);
    const int count = pictures < c.pictures.count ? pictures : c.pictures.count;
    for (int i = 0; status == SK_OK && i < count; i++) status = analyse(&c, i, hooks, count, err);
    if (status == SK_OK) status = fill(&c, out, err);
    if (status == SK_OK) status = verdicts(&c, calibration, cache, part, out, hooks, err);
    release(&c);
    if (status != SK_OK) sk_rknn_comparison_free(out);
    return status;
}

void sk_rknn_comparison_free(sk_rknn_comparison *comparison) {
    sk_free(comparison->layers);
    memset(comparison, 0, sizeof *comparison);
}
