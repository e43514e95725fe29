/* SPDX-License-Identifier: Apache-2.0 */
/* The program: finds the verb and runs it. */
#include <stdio.h>

int main(void) {
    puts("siskin " SK_VERSION);
    return 0;
}
