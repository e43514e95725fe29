/* SPDX-License-Identifier: Apache-2.0 */
/* Which tensors are weights, what batch norm follows each, and which of them a user's patterns mean. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "formats/tensors.h"
#include "net/net.h"
#include "siskin/text.h"
#include "weights/weights.h"

static sk_status find(const sk_model *model, const char *layer, const char *suffix, sk_tensor *out, sk_error *err) {
    char name[96];
    snprintf(name, sizeof name, "%s%s", layer, suffix);
    return sk_model_find_tensor(model, name, out, err);
}

static sk_status make_site(const sk_model *model, size_t index, sk_site *site, sk_error *err) {
    const sk_layer *layer = sk_model_layer(model, index);
    sk_tensor gamma = {0}, beta = {0}, variance = {0};
    sk_status status = find(model, layer->name, layer->has_bn ? ".0.weight" : ".weight", &site->weight, err);
    if (status == SK_OK && layer->has_bn) status = find(model, layer->name, ".1.weight", &gamma, err);
    if (status == SK_OK && layer->has_bn) status = find(model, layer->name, ".1.bias", &beta, err);
    if (status == SK_OK && layer->has_bn) status = find(model, layer->name, ".1.running_var", &variance, err);
    if (status != SK_OK) return status;
    site->layer = layer;
    site->index = index;
    site->gamma = gamma.data;
    site->beta = beta.data;
    site->variance = variance.data;
    site->channels = (size_t)site->weight.shape[0];
    site->size = site->weight.count / site->channels;
    return SK_OK;
}

double sk_site_scale(const sk_site *site, size_t c) {
    return site->gamma ? (double)site->gamma[c] / sqrt((double)site->variance[c] + SK_BN_EPS) : 1;
}

sk_status sk_site_check(const sk_site *site, sk_error *err) {
    for (size_t i = 0; i < site->weight.count; i++)
        if (!isfinite(site->weight.data[i]) || !isfinite(sk_site_scale(site, i / site->size)))
            return sk_fail(err, SK_ERR_DATA, "%s has a value that is not a finite number, raw or folded",
                           site->weight.name);
    return SK_OK;
}

/* ---- patterns -------------------------------------------------------------------------------------------------- */
static const char *layer_name(const void *user, int index) {
    const sk_model *model = user;
    for (size_t i = 0; i < sk_model_layer_count(model); i++)
        if (sk_model_weight_count(model, i) && index-- == 0) return sk_model_layer(model, i)->name;
    return NULL;
}

static sk_status no_such(const sk_model *model, const char *pattern, sk_error *err) {
    const char *near = sk_nearest(pattern, layer_name, model);
    if (near) return sk_fail(err, SK_ERR_ARGUMENT, "no layer fits '%.80s'; did you mean %s?", pattern, near);
    return sk_fail(err, SK_ERR_ARGUMENT, "no layer fits '%.80s'; `siskin net` lists them", pattern);
}

/* Every pattern has to mean something: a slip of the pen would else go unseen. */
static sk_status check_patterns(const sk_model *model, const char *layers, sk_error *err) {
    char pattern[128] = "";
    while (sk_layer_next_pattern(&layers, pattern)) {
        int found = 0;
        for (size_t i = 0; !found && i < sk_model_layer_count(model); i++)
            found = sk_model_weight_count(model, i) && sk_layer_fits_pattern(sk_model_layer(model, i), pattern);
        if (!found) return no_such(model, pattern, err);
    }
    return *layers || !pattern[0] ? no_such(model, layers, err) : SK_OK;
}

sk_status sk_sites_make(const sk_model *model, const char *layers, sk_site **out, size_t *count, sk_error *err) {
    const size_t all = sk_model_layer_count(model);
    sk_status status = SK_OK;
    *out = NULL;
    *count = 0;
    if (layers) status = check_patterns(model, layers, err);
    if (status != SK_OK) return status;
    sk_site *sites = sk_calloc(all, sizeof *sites);
    if (!sites) return sk_fail_memory(err, "the layers");
    for (size_t i = 0; status == SK_OK && i < all; i++)
        if (sk_model_weight_count(model, i) && sk_layer_fits(sk_model_layer(model, i), layers))
            status = make_site(model, i, &sites[(*count)++], err);
    if (status == SK_OK) *out = sites;
    else sk_free(sites);
    return status;
}

/* ---- files ------------------------------------------------------------------------------------------------------ */
static sk_status read_backbone(const char *path, sk_arch arch, sk_model **out, sk_error *err) {
    const sk_card card = sk_card_default(arch);
    char note[512] = "";
    sk_status status = sk_model_create(&card, 0, out, err);
    if (status != SK_OK) return status;
    status = sk_model_load_pretrained(*out, path, note, sizeof note, err);
    /* A classifier of another shape is a fault of a whole model, not a backbone. */
    if (status == SK_OK && !note[0]) status = sk_fail(err, SK_ERR_MISMATCH, "%s: not a backbone", path);
    if (status == SK_OK) return SK_OK;
    sk_model_free(*out);
    *out = NULL;
    return status;
}

sk_status sk_weights_read(const char *path, sk_model **out, int *whole, sk_error *err) {
    const sk_status status = sk_model_read(path, out, err);
    *whole = status == SK_OK;
    if (status != SK_ERR_MISMATCH) return status;
    if (read_backbone(path, SK_ARCH_V3_SMALL, out, NULL) == SK_OK) return SK_OK;
    if (read_backbone(path, SK_ARCH_V3_LARGE, out, NULL) == SK_OK) return SK_OK;
    return status; /* with the first sentence */
}

sk_status sk_weights_write_backbone(const sk_model *model, const char *source, const char *path, sk_error *err) {
    sk_tensor_file file = {0};
    sk_status status = sk_tensors_read(source, &file, err);
    for (size_t i = 0; status == SK_OK && i < file.count; i++) {
        sk_tensor tensor;
        if (sk_model_find_tensor(model, file.items[i].name, &tensor, NULL) != SK_OK) continue;
        if (tensor.count == file.items[i].count) memcpy(file.items[i].data, tensor.data, tensor.count * sizeof(float));
    }
    if (status == SK_OK) status = sk_tensors_write_safetensors(path, &file, err);
    sk_tensors_free(&file);
    return status;
}
