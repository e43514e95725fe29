/* SPDX-License-Identifier: Apache-2.0 */
/* Names of the networks and the card that travels with every model: defaults and limits. */
#include <math.h>
#include <string.h>

#include "net/net.h"

const char *sk_op_name(sk_op op) {
    static const char *const names[] = {"conv", "depthwise", "pointwise", "pool", "scale", "add", "linear"};
    return names[op];
}

const char *sk_arch_name(sk_arch arch) {
    return arch == SK_ARCH_V3_LARGE ? "mobilenet_v3_large" : "mobilenet_v3_small";
}

sk_status sk_arch_parse(const char *text, sk_arch *out, sk_error *err) {
    if (text && (!strcmp(text, "small") || !strcmp(text, "mobilenet_v3_small"))) *out = SK_ARCH_V3_SMALL;
    else if (text && (!strcmp(text, "large") || !strcmp(text, "mobilenet_v3_large"))) *out = SK_ARCH_V3_LARGE;
    else return sk_fail(err, SK_ERR_ARGUMENT, "unknown network '%s': use small or large", text ? text : "");
    return SK_OK;
}

sk_card sk_card_default(sk_arch arch) {
    return (sk_card){
        .arch = arch,
        .size = 224,
        .classes = 2,
        .mean = {0.485f, 0.456f, 0.406f},
        .std = {0.229f, 0.224f, 0.225f},
        .class_names = "nobird,bird",
        .crops = 1,
        .threshold = 0.5f,
        .penalty = 0.8f,
        .temperature = 1,
    };
}

sk_status sk_card_check(const sk_card *card, sk_error *err) {
    if (card->arch != SK_ARCH_V3_SMALL && card->arch != SK_ARCH_V3_LARGE)
        return sk_fail(err, SK_ERR_ARGUMENT, "unknown network %d: use small or large", (int)card->arch);
    if (card->size < 32 || card->size > SK_NET_MAX_SIZE)
        return sk_fail(err, SK_ERR_ARGUMENT, "input size %d is out of range: use 32 to %d", card->size,
                       SK_NET_MAX_SIZE);
    if (card->classes < 2 || card->classes > SK_NET_MAX_CLASSES)
        return sk_fail(err, SK_ERR_ARGUMENT, "%d classes are out of range: use 2 to %d", card->classes,
                       SK_NET_MAX_CLASSES);
    for (int i = 0; i < 3; i++)
        if (!isfinite(card->mean[i]) || !isfinite(card->std[i]) || card->std[i] <= 0)
            return sk_fail(err, SK_ERR_ARGUMENT, "the normalisation of channel %d is not usable: std must be positive",
                           i);
    if (!(card->temperature >= SK_TEMPERATURE_LEAST && card->temperature <= SK_TEMPERATURE_MOST))
        return sk_fail(err, SK_ERR_ARGUMENT, "temperature %g is out of range: use %g to %g", (double)card->temperature,
                       (double)SK_TEMPERATURE_LEAST, (double)SK_TEMPERATURE_MOST);
    return SK_OK;
}
