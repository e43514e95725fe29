/* SPDX-License-Identifier: Apache-2.0 */
/* The model's card in a .rknn's custom string: one JSON object with the keys that siskin's other model files use. */
#include <stdio.h>
#include <string.h>

#include "formats/tensors.h"
#include "rknn/rknn.h"

#define PREFIX "siskin."

char *sk_rknn_card_text(const sk_card *card, const sk_rknn_options *options) {
    sk_tensor_file file = {0};
    sk_text text = {0};
    const sk_status status = sk_tensors_set_card(&file, card, NULL);
    sk_text_add(&text, "{\"siskin\":\"%s\"", SK_VERSION);
    for (size_t i = 0; status == SK_OK && i < file.meta_count; i++) {
        sk_text_add(&text, ",\"%s\":", file.meta[i].key + strlen(PREFIX));
        sk_json_put_string(&text, file.meta[i].value);
    }
    sk_text_add(&text, ",\"algorithm\":\"%s\",\"method\":\"%s\",\"equalised\":%s,\"refined\":%s,"
                       "\"pictures\":%d,\"seed\":%llu}",
                sk_rknn_algorithm_name(options->algorithm), options->by_layer ? "layer" : "channel",
                options->equalise ? "true" : "false", options->refine ? "true" : "false", options->pictures,
                (unsigned long long)options->seed);
    sk_tensors_free(&file);
    if (status != SK_OK || text.failed) sk_text_free(&text);
    return text.data;
}

int sk_rknn_card_parse(const char *text, sk_card *card, char algorithm[24]) {
    cJSON *root = NULL;
    sk_tensor_file file = {0};
    int found = 0;
    *card = sk_card_default(SK_ARCH_V3_SMALL);
    algorithm[0] = 0;
    sk_status status = sk_json_parse(text, strlen(text), "the custom string", &root, NULL);
    const int ours = status == SK_OK && cJSON_IsString(cJSON_GetObjectItemCaseSensitive(root, "siskin"));
    for (const cJSON *item = ours ? root->child : NULL; status == SK_OK && item; item = item->next) {
        char key[64];
        snprintf(key, sizeof key, PREFIX "%.50s", item->string);
        if (cJSON_IsString(item)) status = sk_tensors_set_meta(&file, key, item->valuestring, NULL);
    }
    if (ours && status == SK_OK) status = sk_tensors_get_card(&file, card, &found, NULL);
    const cJSON *name = ours ? cJSON_GetObjectItemCaseSensitive(root, "algorithm") : NULL;
    if (cJSON_IsString(name)) snprintf(algorithm, 24, "%.23s", name->valuestring);
    sk_tensors_free(&file);
    cJSON_Delete(root);
    return status == SK_OK && found;
}
