#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# headers.sh SOURCE: every public header compiles alone, as C11 and as C++, with nothing of a third party in sight.
set -u
source=$1 bad=0
cc=${CC:-gcc} cxx=${CXX:-g++}
for header in "$source"/include/siskin/*.h; do
    name=siskin/$(basename "$header")
    for way in "$cc -std=c11 -x c" "$cxx -std=c++11 -x c++"; do
        # Twice: the include guard is part of the promise.
        if ! printf '#include "%s"\n#include "%s"\n' "$name" "$name" |
            $way -pedantic -Wall -Wextra -Werror -fsyntax-only -I "$source/include" -; then
            echo "$name does not compile alone with: $way"
            bad=1
        fi
    done
    if grep -nE '#include *[<"]' "$header" | grep -vE '<(stddef|stdint|stdbool)\.h>|"siskin/[a-z]+\.h"'; then
        echo "$name includes more than siskin's headers and the language's types"
        bad=1
    fi
done
exit $bad
