/* SPDX-License-Identifier: Apache-2.0 */
/* Keys of a training run that are named on the command line, as text. */
#include "train_keys.h"

/* NULL: not given; of a flag "yes" or "no". */
static const char *given_text(const cli *c, const sk_train_key *key, int *contradicts) {
    char off[64];
    if (key->type != SK_KEY_FLAG) return cli_given(c, key->option) ? cli_string(c, key->option) : NULL;
    snprintf(off, sizeof off, "no-%s", key->option);
    *contradicts = cli_flag(c, key->option) && cli_flag(c, off);
    return cli_flag(c, key->option) ? "yes" : cli_flag(c, off) ? "no" : NULL;
}

sk_status cli_each_key(const cli *c,
                       sk_status (*set)(void *user, const char *name, const char *text, sk_error *err), void *user,
                       sk_error *err) {
    for (size_t i = 0; sk_train_key_at(i); i++) {
        const sk_train_key *key = sk_train_key_at(i);
        int contradicts = 0;
        const char *text = given_text(c, key, &contradicts);
        if (contradicts) {
            err->code = SK_ERR_ARGUMENT;
            snprintf(err->message, sizeof err->message, "--%s and --no-%s contradict each other; give one of them",
                     key->option, key->option);
            return err->code;
        }
        if (!text) continue;
        const sk_status status = set(user, key->name, text, err);
        if (status != SK_OK) return status;
    }
    return SK_OK;
}
