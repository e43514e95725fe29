#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# usage: clips.sh MAKE_DEMO_CLIPS SISKIN: the demonstration's clips are the same for the same seed, others for another,
# and can be imported with every frame that their table names. Exit 77: the tuxpaint packages are missing.
set -eu
make=$1
siskin=$2
if [ ! -d /usr/share/tuxpaint/stamps ] || [ ! -d /usr/share/tuxpaint/templates ]; then
    echo "left out: tuxpaint-stamps-default and tuxpaint-data are not installed"
    exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "$1"; exit 1; }
"$make" --clips 3 --seed 5 "$work/a" > /dev/null
"$make" --clips 3 --seed 5 "$work/b" > /dev/null
"$make" --clips 3 --seed 6 "$work/c" > /dev/null
diff -r "$work/a" "$work/b" > /dev/null || fail "the same seed gives other files"
cmp -s "$work/a/feeder-01.mp4" "$work/c/feeder-01.mp4" && fail "another seed gives the same clip"
[ "$(ls "$work/a" | wc -l)" -eq 4 ] || fail "three clips and a table are expected, nothing else"
[ "$(head -n 1 "$work/a/frames.tsv")" = "$(printf 'video\tframe\ttime_s\tlabel')" ] || fail "header of frames.tsv"
grep -q '	bird$' "$work/a/frames.tsv" || fail "no bird"
grep -q '	nobird$' "$work/a/frames.tsv" || fail "no frame without a bird"
"$siskin" import "$work/a/frames.tsv" -o "$work/set" --max-bad 0 > "$work/log" 2>&1 || { cat "$work/log"; fail "import"; }
"$make" --clips 0 "$work/d" > /dev/null 2>&1 && fail "no clips at all should be refused"
"$make" --tuxpaint "$work/none" "$work/d" > "$work/log" 2>&1 && fail "a missing folder should be told"
grep -q "$work/none" "$work/log" || fail "the message should name the missing file"
echo "clips: same seed, same bytes; imported without a bad frame"
