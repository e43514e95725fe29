#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# usage: armhf.sh SOURCE MAKE_INT8_CASE DESK_BOARD_PROGRAM [PICTURES]
# Builds the board runtime alone for armv7 (cross/armhf.ini, static) and asks for the same logits, bit for bit, from it
# under qemu-arm, from the C reference and from the fastest kernels of the desk. Prints size and memory of the board
# program. Exit 77: the cross compiler or qemu is missing.
set -eu
source=$1 make_case=$2 desk=$3 pictures=${4:-24}
for tool in arm-linux-gnueabihf-gcc qemu-arm-static meson ninja; do
    command -v "$tool" > /dev/null || { echo "left out: $tool is missing (gcc-arm-linux-gnueabihf, qemu-user-static)"; exit 77; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
meson setup "$work/build" "$source" --cross-file "$source/cross/armhf.ini" -Drt_only=true --buildtype=release \
    > "$work/log" 2>&1 || { cat "$work/log"; exit 1; }
ninja -C "$work/build" -j2 > "$work/log" 2>&1 || { cat "$work/log"; exit 1; }
board=$work/build/board/siskin-board
file=$(arm-linux-gnueabihf-readelf -h "$board" | grep -c 'Machine: *ARM')
[ "$file" = 1 ] || { echo "$board is no ARM program"; exit 1; }
if arm-linux-gnueabihf-readelf -d "$board" | grep -q NEEDED; then
    echo "$board wants shared libraries"
    exit 1
fi
for shipped in "" "$source/models/bird-small.skn"; do
    [ -z "$shipped" ] || [ -f "$shipped" ] || continue
    rm -rf "$work/case"
    mkdir "$work/case"
    # shellcheck disable=SC2086
    model=$("$make_case" "$work/case" "$pictures" $shipped)
    "$desk" -q "$model" "$work"/case/*.raw > "$work/fast" 2> "$work/fast.err"
    SISKIN_CPU=c "$desk" -q "$model" "$work"/case/*.raw > "$work/c" 2> "$work/c.err"
    qemu-arm-static -cpu cortex-a7 "$board" -q "$model" "$work"/case/*.raw > "$work/arm" 2> "$work/arm.err"
    [ "$(wc -l < "$work/arm")" = "$pictures" ] || { echo "the board program answered too few pictures"; exit 1; }
    [ "$(sed 's/.*logits//' "$work/arm" | sort -u | wc -l)" -gt 2 ] || { echo "all answers are alike: nothing is tested"; exit 1; }
    for other in c arm; do
        cmp "$work/fast" "$work/$other" || { echo "$model: logits of $other differ"; exit 1; }
    done
    echo "$(basename "$model"): $pictures pictures, same logits from AVX2 or best, C and armv7; board: $(cat "$work/arm.err")" \
        "(qemu's own memory included)"
done
arm-linux-gnueabihf-strip -o "$work/stripped" "$board"
echo "board program, static, stripped: $(wc -c < "$work/stripped") bytes"
