/* SPDX-License-Identifier: Apache-2.0 */
/* What may be asked of an adjustment. Apart from the rest, so that whoever only reads options needs no network. */
#include "weights/weights.h"

float sk_adjust_default_k(sk_adjust method) { return method == SK_ADJUST_PERCENTILE ? 99.9f : 3; }

sk_status sk_adjust_check(const sk_adjust_options *o, sk_error *err) {
    static const struct {
        const char *name;
        double least, most;
    } of[] = {{"none", 0, 100}, {"sigma", .1, 100}, {"percentile", 50.1, 100}, {"tukey", 0, 100}};
    const double k = (double)o->k;
    if ((unsigned)o->method > SK_ADJUST_TUKEY) return sk_fail(err, SK_ERR_ARGUMENT, "no such method of adjusting");
    if (k == 0 || (k >= (double)(float)of[o->method].least && k <= of[o->method].most)) return SK_OK;
    return sk_fail(err, SK_ERR_ARGUMENT, "k of %s is %g; it has to be from %g to %g, or 0 for %g", of[o->method].name,
                   k, of[o->method].least, of[o->method].most, (double)sk_adjust_default_k(o->method));
}
