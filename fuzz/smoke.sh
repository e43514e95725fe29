#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# usage: smoke.sh SOURCE_DIR NAME [SECONDS] [SEED_FILE...]
# Builds fuzz/fuzz_NAME.c with libFuzzer, ASan and UBSan (sources and libs as its head comment says) and runs it for a
# few seconds. A real hunt: smoke.sh . NAME 3600 corpus/*. A million mutations, however long they take:
#   SISKIN_FUZZ_RUNS=1000000 fuzz/smoke.sh . skn 36000
# Exit 77: clang or its runtime is missing.
set -eu
source=$1
name=$2
seconds=${3:-5}
shift; shift; [ $# -gt 0 ] && shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
echo 'int LLVMFuzzerTestOneInput(const unsigned char *b, unsigned long n); int LLVMFuzzerTestOneInput(const unsigned char *b, unsigned long n) { return n > 9 && b[0] ? 0 : 0; }' > "$work/probe.c"
if ! clang -fsanitize=fuzzer,address "$work/probe.c" -o "$work/probe" 2> "$work/probe.log"; then
    echo "left out: clang with libFuzzer (Debian's clang, libclang-rt-14-dev) is missing"
    exit 77
fi
cd "$source"
sources=$(sed -n '/sources:/,/libs:/p' "fuzz/fuzz_$name.c" | tr '\n' ' ' | sed 's/.*sources://; s/libs:.*//; s/ \* / /g')
libs=$(sed -n '/libs:/p' "fuzz/fuzz_$name.c" | sed 's/.*libs://; s/\*\/.*//')
# shellcheck disable=SC2086
clang -std=gnu11 -g -O1 -D_GNU_SOURCE -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -Iinclude -Isrc \
    -Isrc/formats "fuzz/fuzz_$name.c" $sources -o "$work/fuzz" $libs
mkdir "$work/corpus"
for seed in "fuzz/seeds/$name"/* "$@"; do [ -f "$seed" ] && cp "$seed" "$work/corpus/"; done
"$work/fuzz" -max_total_time="$seconds" -runs="${SISKIN_FUZZ_RUNS:--1}" -rss_limit_mb=3000 -timeout=30 -max_len=20000 -print_final_stats=0 \
    -artifact_prefix="${SISKIN_FUZZ_OUT:-/tmp}/siskin-$name-" "$work/corpus" 2>&1 | tail -5 > "$work/log" || true
cat "$work/log"
grep -q '^Done ' "$work/log"
