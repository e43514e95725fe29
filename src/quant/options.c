/* SPDX-License-Identifier: Apache-2.0 */
/* Names and defaults of the steps of quantisation. */
#include <string.h>

#include "net/model.h"
#include "quant/quant.h"

static const char *const observers[] = {"normal", "mmse", "percentile", "kl", "learned"};
static const char *const equalisations[] = {"none", "depthwise", "all"};

static sk_status parse(const char *what, const char *text, const char *const *names, int count, int *out,
                       sk_error *err) {
    for (int i = 0; i < count; i++) {
        if (text && strcmp(text, names[i]) == 0) {
            *out = i;
            return SK_OK;
        }
    }
    return sk_fail(err, SK_ERR_ARGUMENT, "%s '%s' is not known: choose %s, ... or %s", what, text ? text : "", names[0],
                   names[count - 1]);
}

sk_status sk_quant_observer_parse(const char *text, sk_quant_observer *out, sk_error *err) {
    int found = 0;
    const sk_status status = parse("observer", text, observers, 5, &found, err);
    *out = (sk_quant_observer)found;
    return status;
}

const char *sk_quant_observer_name(sk_quant_observer observer) {
    return observers[observer];
}

sk_status sk_quant_equalise_parse(const char *text, sk_quant_equalise_scope *out, sk_error *err) {
    int found = 0;
    const sk_status status = parse("equalisation", text, equalisations, 3, &found, err);
    *out = (sk_quant_equalise_scope)found;
    return status;
}

const char *sk_quant_equalise_name(sk_quant_equalise_scope scope) {
    return equalisations[scope];
}

sk_quant_options sk_quant_defaults(void) {
    return (sk_quant_options){.observer = SK_QUANT_MMSE, .percentile = 99.99, .per = SK_QUANT_PER_CHANNEL,
                              .weights = SK_QUANT_WEIGHTS_MMSE, .equalise = SK_QUANT_EQUALISE_DEPTHWISE,
                              .correct_bias = 1, .adaround = 1, .pictures = 100, .seed = 1};
}

sk_status sk_quant_recipe(const char *name, sk_quant_options *out, sk_error *err) {
    *out = sk_quant_defaults();
    if (name && strcmp(name, "seed") == 0) {
        out->observer = SK_QUANT_NORMAL;
        out->weights = SK_QUANT_WEIGHTS_MAX;
        out->equalise = SK_QUANT_EQUALISE_NONE;
        out->correct_bias = out->adaround = 0;
    } else if (name && strcmp(name, "learned") == 0) {
        out->observer = SK_QUANT_LEARNED;
        out->weights = SK_QUANT_WEIGHTS_MAX;
        out->correct_bias = out->adaround = 0;
    } else if (!name || strcmp(name, "best") != 0) {
        return sk_fail(err, SK_ERR_ARGUMENT, "recipe '%s' is not known: choose best, learned or seed",
                       name ? name : "");
    }
    return SK_OK;
}

const char *sk_quant_recipe_of(const sk_model *model) {
    return sk_model_ranges(model) ? "learned" : "best";
}

int sk_quant_method(const sk_quant_options *o) {
    return (int)o->observer | (int)o->per << 8 | (int)o->weights << 9 | (int)o->equalise << 10 |
           (o->correct_bias != 0) << 12 | (o->adaround != 0) << 13 | (o->reconstruct != 0) << 14;
}
