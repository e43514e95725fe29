#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# install.sh BUILD: what `ninja install` puts down is complete, and a stranger's program builds with pkg-config alone.
set -u
build=$1 bad=0
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
DESTDIR=$dir/root meson install -C "$build" --no-rebuild >"$dir/log" 2>&1 || { tail "$dir/log"; exit 1; }
prefix=$(dirname "$(dirname "$(find "$dir/root" -path '*/bin/siskin')")")
for file in bin/siskin include/siskin/model.h include/siskin/rt.h share/man/man1/siskin.1 share/man/man1/siskin-train.1 \
    share/bash-completion/completions/siskin share/zsh/site-functions/_siskin; do
    [ -s "$prefix/$file" ] || { echo "not installed: $file"; bad=1; }
done
bash -n "$prefix/share/bash-completion/completions/siskin" || bad=1
answer=$(bash -c '. "$1"; COMP_WORDS=(siskin train --pre); COMP_CWORD=2; _siskin; echo "${COMPREPLY[*]}"' bash \
    "$prefix/share/bash-completion/completions/siskin")
[ "$answer" = --pretrained ] || { echo "bash completes 'siskin train --pre' to '$answer'"; bad=1; }
# Absolute paths of the file must not depend on where it was staged.
for library in siskin siskin-rt; do
    pc=$(find "$prefix" -name "$library.pc")
    [ -n "$pc" ] || { echo "not installed: $library.pc"; bad=1; continue; }
    export PKG_CONFIG_PATH="$(dirname "$pc")"
    case $library in
    siskin) printf '#include <siskin/model.h>\n#include <stdio.h>\nint main(void) { puts(sk_arch_name(SK_ARCH_V3_SMALL)); return 0; }\n' >"$dir/a.c" ;;
    *) printf '#include <siskin/rt.h>\n#include <stdio.h>\nint main(void) { sk_rt *rt; puts(sk_status_name(sk_rt_open("/nowhere", &rt, 0))); return 0; }\n' >"$dir/a.c" ;;
    esac
    # shellcheck disable=SC2046
    if ! gcc -Wall -Werror "$dir/a.c" -o "$dir/a" $(pkg-config --define-variable=prefix="$prefix" --cflags --libs "$library"); then
        echo "a program does not build with pkg-config $library"
        bad=1
        continue
    fi
    LD_LIBRARY_PATH=$(dirname "$(find "$prefix" -name 'libsiskin.so.0')") "$dir/a" >"$dir/out" || bad=1
    case $library:$(cat "$dir/out") in
    siskin:mobilenet_v3_small | siskin-rt:input/output) ;;
    *) echo "the program with $library answers: $(cat "$dir/out")"; bad=1 ;;
    esac
done
exit $bad
