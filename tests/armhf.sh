#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# usage: armhf.sh SOURCE MAKE_INT8_CASE DESK_BOARD_PROGRAM STANDIN_LIBRARY [PICTURES]
# Builds the board runtime alone for armv7 (cross/armhf.ini, static) and asks for the same logits, bit for bit, from it
# under qemu-arm, from the C reference and from the fastest kernels of the desk. Prints size and memory of the board
# program. Exit 77: the cross compiler or qemu is missing.
set -eu
source=$1 make_case=$2 desk=$3 standin=$4 pictures=${5:-24}
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
    "$desk" classify --logits "$model" "$work"/case/*.raw > "$work/fast" 2> "$work/fast.err"
    SISKIN_CPU=c "$desk" classify --logits "$model" "$work"/case/*.raw > "$work/c" 2> "$work/c.err"
    qemu-arm-static -cpu cortex-a7 "$board" classify --logits "$model" "$work"/case/*.raw > "$work/arm" 2> "$work/arm.err"
    [ "$(wc -l < "$work/arm")" = "$pictures" ] || { echo "the board program answered too few pictures"; exit 1; }
    [ "$(sed 's/.*logits//' "$work/arm" | sort -u | wc -l)" -gt 2 ] || { echo "all answers are alike: nothing is tested"; exit 1; }
    for other in c arm; do
        cmp "$work/fast" "$work/$other" || { echo "$model: logits of $other differ"; exit 1; }
    done
    qemu-arm-static -cpu cortex-a7 "$board" bench --runs 1 "$model" > "$work/bench"
    echo "$(basename "$model"): $pictures pictures, same logits from AVX2 or best, C and armv7; board: $(tail -n 1 "$work/bench")" \
        "(qemu's own memory included)"
done
arm-linux-gnueabihf-strip -o "$work/stripped" "$board"
echo "board program, static, stripped: $(wc -c < "$work/stripped") bytes"

export QEMU_LD_PREFIX=/usr/arm-linux-gnueabihf
# With the NPU the program is linked dynamically; the stand-in of the vendor's library answers on armv7 as on the desk,
# which proves the structures of a 32-bit board.
meson setup "$work/npu" "$source" --cross-file "$source/cross/armhf.ini" -Drt_only=true -Dnpu=true --buildtype=release \
    -Dc_link_args=-Wl,--gc-sections > "$work/log" 2>&1 || { cat "$work/log"; exit 1; }
ninja -C "$work/npu" -j2 > "$work/log" 2>&1 || { cat "$work/log"; exit 1; }
arm-linux-gnueabihf-gcc -O1 -shared -fPIC -o "$work/librknnmrt.so" "$source/tests/standin/rknnmrt.c" -lm
model=$source/models/bird-small.skn
for behaviour in channels=16 attr=372,stride=240 layout=nc1hwc2,nhwc=no fail=80; do
    export SISKIN_STANDIN=$behaviour
    qemu-arm-static -cpu cortex-a7 "$work/npu/board/siskin-board" classify --logits --npu "$model" \
        --library "$work/librknnmrt.so" "$model" "$work"/case/*.raw > "$work/arm" 2> "$work/arm.err" ||
        { cat "$work/arm.err"; exit 1; }
    "$desk" classify --logits --npu "$model" --library "$standin" "$model" "$work"/case/*.raw > "$work/fast"
    [ -s "$work/arm" ] && cmp "$work/fast" "$work/arm" || { echo "stand-in NPU, $behaviour: logits of armv7 differ"; exit 1; }
done
echo "stand-in NPU on armv7: same logits as on the desk in four behaviours"

# uClibc has less than glibc: every outside call of runtime and program must be on the list of those it has.
arm-linux-gnueabihf-nm -u "$work/npu/libsiskin-rt.a" "$work"/npu/board/siskin-board.p/*.o 2> /dev/null |
    awk '$1 == "U" { print $2 }' | grep -vE '^(sk_|board_|__aeabi_|_GLOBAL_OFFSET_TABLE_)' | sort -u > "$work/calls"
unknown=$(grep -vxF -f "$source/tests/uclibc-calls.txt" "$work/calls" || true)
[ -s "$work/calls" ] && [ -z "$unknown" ] || { echo "calls that uClibc may not have: $unknown"; exit 1; }
echo "$(wc -l < "$work/calls") outside calls, all in uClibc"
