#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# style.sh SOURCE: licence line and purpose at the head of each file, length of files and lines, no tabs, no leftovers.
set -u
cd "$1" || exit 1
bad=0
fault() { echo "$1: $2"; bad=1; }
for file in $(find src include cli tests fuzz bench tools cross recipes share .ci -type f | grep -E '\.(c|h|sh|py|ini)$|meson\.build$') \
    meson.build meson_options.txt test.sh demo.sh .ci/run; do
    head -n 3 "$file" | grep -q 'SPDX-License-Identifier: Apache-2.0' || fault "$file" "no SPDX line in the first three"
    lines=$(wc -l <"$file")
    [ "$lines" -le 800 ] || fault "$file" "$lines lines; 800 are the most"
    case $file in *.c | *.h) ;; *) continue ;; esac
    sed -n 2p "$file" | grep -q '^/\*' || fault "$file" "the second line does not begin the comment that says what the file is for"
    long=$(awk 'length($0) > 120 { print NR; exit }' "$file")
    [ -z "$long" ] || fault "$file:$long" "longer than 120 characters"
    tab=$(grep -n -m 1 -P '\t' "$file" | cut -d: -f1)
    [ -z "$tab" ] || fault "$file:$tab" "a tab"
    tail=$(grep -n -m 1 -E ' +$' "$file" | cut -d: -f1)
    [ -z "$tail" ] || fault "$file:$tail" "blanks at the end of the line"
    left=$(grep -n -m 1 -wE 'TODO|FIXME|XXX|HACK' "$file" | cut -d: -f1)
    [ -z "$left" ] || fault "$file:$left" "an unfinished mark"
done
exit $bad
