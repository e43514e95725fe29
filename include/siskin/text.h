/* SPDX-License-Identifier: Apache-2.0 */
/* Words of the user. */
#ifndef SISKIN_TEXT_H
#define SISKIN_TEXT_H

#ifdef __cplusplus
extern "C" {
#endif

/* The known word that `word` was probably meant to be (at most two letters changed, added or left out), or NULL.
 * name(user, i) gives the known words, NULL past the last. */
const char *sk_nearest(const char *word, const char *(*name)(const void *user, int index), const void *user);

#ifdef __cplusplus
}
#endif
#endif
