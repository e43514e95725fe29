/* SPDX-License-Identifier: Apache-2.0 */
/* One model from several trainings that began with the same weights: the mean of their tensors (Wortsman et al. 2022,
 * Model soups: averaging weights of multiple fine-tuned models improves accuracy without increasing inference time). */
#include <math.h>

#include "weights/weights.h"

static sk_status check_value(const sk_tensor *tensor, size_t at, sk_error *err) {
    if (isfinite(tensor->data[at])) return SK_OK;
    return sk_fail(err, SK_ERR_DATA, "%s has a value that is not a finite number", tensor->name);
}

/* Running statistics describe the activations of the weights they were measured with. Those of a mean of weights lie
 * nowhere between them, so all models have to have kept the same ones. */
static sk_status check_tensor(const sk_tensor *first, const sk_tensor *other, sk_error *err) {
    for (size_t i = 0; i < first->count; i++) {
        sk_status status = check_value(first, i, err);
        if (status == SK_OK) status = check_value(other, i, err);
        if (status != SK_OK) return status;
        if (!first->trainable && fabsf(first->data[i] - other->data[i]) > 0)
            return sk_fail(err, SK_ERR_MISMATCH,
                           "%s differs between the models: average trainings that began with the same weights and kept "
                           "their batch norm statistics (--freeze-bn)",
                           first->name);
    }
    return SK_OK;
}

static sk_status check(const sk_model *model, const sk_model *other, sk_error *err) {
    const sk_card *a = sk_model_card(model), *b = sk_model_card(other);
    sk_status status = SK_OK;
    if (a->arch != b->arch || a->classes != b->classes || a->size != b->size)
        return sk_fail(err, SK_ERR_MISMATCH,
                       "%s of %d classes at %d pixels and %s of %d at %d have no mean: average one network",
                       sk_arch_name(a->arch), a->classes, a->size, sk_arch_name(b->arch), b->classes, b->size);
    for (size_t i = 0; status == SK_OK && i < sk_model_tensor_count(model); i++) {
        sk_tensor first, second;
        status = sk_model_tensor(model, i, &first, err);
        if (status == SK_OK) status = sk_model_tensor(other, i, &second, err);
        if (status == SK_OK) status = check_tensor(&first, &second, err);
    }
    return status;
}

static sk_status average_tensor(sk_model *model, sk_model *const *others, size_t count, size_t index, sk_error *err) {
    sk_tensor mean, part;
    sk_status status = sk_model_tensor(model, index, &mean, err);
    if (status != SK_OK || !mean.trainable) return status;
    double *sums = sk_alloc(mean.count, sizeof *sums);
    if (!sums) return sk_fail_memory(err, "the mean of a tensor");
    for (size_t i = 0; i < mean.count; i++) sums[i] = (double)mean.data[i];
    for (size_t k = 0; status == SK_OK && k < count; k++) {
        status = sk_model_tensor(others[k], index, &part, err);
        for (size_t i = 0; status == SK_OK && i < mean.count; i++) sums[i] += (double)part.data[i];
    }
    for (size_t i = 0; status == SK_OK && i < mean.count; i++) mean.data[i] = (float)(sums[i] / (double)(count + 1));
    sk_free(sums);
    return status;
}

sk_status sk_weights_average(sk_model *model, sk_model *const *others, size_t count, sk_error *err) {
    sk_card card = *sk_model_card(model);
    sk_status status = SK_OK;
    for (size_t k = 0; status == SK_OK && k < count; k++) status = check(model, others[k], err);
    for (size_t i = 0; status == SK_OK && i < sk_model_tensor_count(model); i++)
        status = average_tensor(model, others, count, i, err);
    if (status != SK_OK) return status;
    card.temperature = 1;
    card.run_id[0] = 0;
    sk_model_set_card(model, &card);
    return SK_OK;
}
