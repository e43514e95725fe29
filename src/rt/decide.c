/* SPDX-License-Identifier: Apache-2.0 */
/* The decision rule over the crops of one frame. It lives in the board runtime so that desk and board share it. */
#include "siskin/classifier.h"

sk_verdict sk_decide(const float *p, int crops, float threshold, float penalty) {
    sk_verdict verdict = {0};
    verdict.crops = crops < 1 ? 1 : crops > 3 ? 3 : crops;
    for (int i = 0; i < verdict.crops; i++) {
        verdict.p[i] = p[i];
    }
    if (p[0] >= threshold) {
        verdict.bird = 1;
        return verdict;
    }
    for (int i = 1; i < verdict.crops; i++) {
        if (p[i] >= penalty) {
            verdict.bird = 1;
            verdict.deciding = i;
            return verdict;
        }
    }
    return verdict;
}
