/* SPDX-License-Identifier: Apache-2.0 */
/* Models and files: which tensors of a file belong where in the network. The formats themselves live in formats/. */
#include <stdio.h>
#include <string.h>

#include "formats/tensors.h"
#include "net/model.h"

static int same_shape(const sk_param *p, const sk_tensor_entry *t) {
    if (p->rank != t->rank) return 0;
    for (int i = 0; i < p->rank; i++)
        if (p->shape[i] != t->shape[i]) return 0;
    return 1;
}

static int is_classifier(const char *name) { return !strncmp(name, "classifier.", 11); }

/* A run folder stands for its best weights. */
static sk_status open_file(const char *path, sk_tensor_file *file, sk_error *err) {
    char *inner = sk_path_is_dir(path) ? sk_path_join(path, "best.safetensors") : sk_strdup(path);
    sk_status status;

    if (!inner) return sk_fail_memory(err, "a file name");
    status = sk_tensors_read(inner, file, err);
    sk_free(inner);
    return status;
}

/* The network of a file without a card, from the widths of its tensors. */
static sk_status guess_card(const sk_tensor_file *file, const char *path, sk_card *card, sk_error *err) {
    const sk_tensor_entry *hidden = sk_tensors_find(file, "classifier.0.weight");
    const sk_tensor_entry *last = sk_tensors_find(file, "classifier.3.weight");

    if (!hidden || !last || hidden->rank != 2 || last->rank != 2)
        return sk_fail(err, SK_ERR_MISMATCH,
                       "%s: not a whole MobileNetV3: it has no classifier.0.weight and "
                       "classifier.3.weight of rank 2",
                       path);
    *card = sk_card_default(hidden->shape[0] == 1280 ? SK_ARCH_V3_LARGE : SK_ARCH_V3_SMALL);
    card->classes = last->shape[0];
    if (card->classes != 2) snprintf(card->class_names, sizeof card->class_names, "%d classes", card->classes);
    return SK_OK;
}

static sk_status copy_tensor(sk_param *p, const sk_tensor_file *file, const char *path, sk_error *err) {
    const sk_tensor_entry *t = sk_tensors_find(file, p->name);

    if (!t)
        return sk_fail(err, SK_ERR_MISMATCH, "%s: tensor %s is missing: the file is of another network", path, p->name);
    if (!same_shape(p, t))
        return sk_fail(err, SK_ERR_MISMATCH, "%s: tensor %s has another shape: the file is of another network", path,
                       p->name);
    memcpy(p->data, t->data, p->count * sizeof *p->data);
    return SK_OK;
}

sk_status sk_model_read(const char *path, sk_model **out, sk_error *err) {
    sk_tensor_file file = {0};
    sk_model *model = NULL;
    sk_card card = sk_card_default(SK_ARCH_V3_SMALL);
    int found = 0;
    sk_status status;

    *out = NULL;
    status = open_file(path, &file, err);
    if (status != SK_OK) return status;
    status = sk_tensors_get_card(&file, &card, &found, err);
    if (status == SK_OK && !found) status = guess_card(&file, path, &card, err);
    if (status == SK_OK) status = sk_model_create(&card, 0, &model, err);
    for (int i = 0; status == SK_OK && i < sk_model_net(model)->param_count; i++)
        status = copy_tensor(&sk_model_net(model)->params[i], &file, path, err);
    if (status == SK_OK && sk_tensors_meta(&file, SK_RANGES_KEY)) {
        status = sk_model_parse_ranges(model, sk_tensors_meta(&file, SK_RANGES_KEY), err);
        if (status != SK_OK) sk_error_prefix(err, status, "%s", path);
    }
    sk_tensors_free(&file);
    if (status == SK_OK) *out = model;
    else sk_model_free(model);
    return status;
}

sk_status sk_model_load_pretrained(sk_model *model, const char *path, char *note, size_t note_size, sk_error *err) {
    sk_net *net = sk_model_net(model);
    sk_tensor_file file = {0};
    sk_status status = open_file(path, &file, err);
    int left_out = 0;

    if (note && note_size) note[0] = '\0';
    /* All is checked before anything is copied, so that a file that does not fit leaves the model as it was. */
    for (int i = 0; status == SK_OK && i < net->param_count; i++) {
        const sk_param *p = &net->params[i];
        const sk_tensor_entry *t = sk_tensors_find(&file, p->name);
        const int fits = t && same_shape(p, t);

        left_out += !fits && is_classifier(p->name);
        if (!fits && !is_classifier(p->name))
            status = sk_fail(err, SK_ERR_MISMATCH, "%s: tensor %s %s: it is not the backbone of %s", path, p->name,
                             t ? "has another shape" : "is missing", sk_arch_name(net->card.arch));
    }
    for (int i = 0; status == SK_OK && i < net->param_count; i++) {
        const sk_tensor_entry *t = sk_tensors_find(&file, net->params[i].name);

        if (t && same_shape(&net->params[i], t)) memcpy(net->params[i].data, t->data, t->count * sizeof(float));
    }
    if (status == SK_OK && left_out && note)
        snprintf(note, note_size,
                 "%d tensors of the classifier are missing in %s or of another size and start at random", left_out,
                 path);
    sk_model_changed(model);
    sk_tensors_free(&file);
    return status;
}

sk_status sk_model_save_ranges(const sk_model *model, sk_tensor_file *file, sk_error *err) {
    char *text;
    sk_status status;

    if (!sk_model_ranges(model)) return SK_OK;
    text = sk_model_ranges_text(model);
    status = text ? sk_tensors_set_meta(file, SK_RANGES_KEY, text, err) : sk_fail_memory(err, "the ranges");
    sk_free(text);
    return status;
}

sk_status sk_model_write(const sk_model *model, const char *path, sk_error *err) {
    sk_tensor_file file = {0};
    sk_status status = sk_tensors_set_card(&file, sk_model_card(model), err);
    const size_t count = sk_model_tensor_count(model);

    if (status == SK_OK) status = sk_model_save_ranges(model, &file, err);
    for (size_t i = 0; status == SK_OK && i < count; i++) {
        const sk_param *p = sk_model_param(model, i);

        status = sk_tensors_add(&file, p->name, p->rank, p->shape, p->data, err);
        if (status == SK_OK && sk_has_suffix(p->name, ".running_var")) { /* torch's load_state_dict asks for it */
            char name[80];

            snprintf(name, sizeof name, "%.*s.num_batches_tracked", (int)(strlen(p->name) - strlen(".running_var")),
                     p->name);
            status = sk_tensors_add_i64(&file, name, 0, err);
        }
    }
    if (status == SK_OK) status = sk_tensors_write_safetensors(path, &file, err);
    sk_tensors_free(&file);
    return status;
}
