#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# ./test.sh: installs what is missing (Debian, root), builds with gcc, with MPI, and with clang + ASan + UBSan, warnings
# as errors, runs all tests, closes with `N passed, N failed[, N skipped]`. With ../shared beside the project (or SISKIN_SHARED)
# the tests use its real data too.
set -u
cd "$(dirname "$0")" || exit 1
started=$(date +%s)
passed=0 failed=0 skipped=0
say() { printf '\n== %s (%d s)\n' "$1" $(($(date +%s) - started)); }
good() { passed=$((passed + 1)); echo "ok: $1"; }
bad() { failed=$((failed + 1)); echo "FAILED: $1"; }
finish() {
    line="$passed passed, $failed failed"
    [ "$skipped" = 0 ] || line="$line, $skipped skipped"
    echo
    echo "$line"
    [ "$failed" = 0 ]
    exit
}
trap 'echo; echo "interrupted"; exit 130' INT TERM

say "packages"
if tools/install-packages.sh test demo; then good "packages are there"; else bad "packages"; finish; fi
shared=${SISKIN_SHARED:-$PWD/../shared}
if [ -d "$shared/data" ]; then export SISKIN_SHARED="$shared"; echo "real data: $shared"; fi

# build NAME DIR COMPILER OPTIONS...: configures if need be, then builds $targets, or all; the log is shown only when it
# fails.
targets=
build() {
    name=$1 dir=$2 compiler=$3
    shift 3
    say "$name"
    if { CC=$compiler meson setup --reconfigure "$dir" "$@" -Dwerror=true 2>&1 ||
         CC=$compiler meson setup --wipe "$dir" "$@" -Dwerror=true 2>&1 ||
         CC=$compiler meson setup "$dir" "$@" -Dwerror=true; } >"$dir.log" 2>&1 &&
        ninja -C "$dir" $targets >>"$dir.log" 2>&1; then
        good "$name"
    else
        bad "$name"
        grep -B 2 -A 12 -m 3 -E 'error:|FAILED|ERROR|undefined reference' "$dir.log" || tail -n 30 "$dir.log"
        return 1
    fi
}

# tests DIR SUITES: runs them, adds to the counts what tools/count-tests.py finds in meson's log.
tests() {
    dir=$1
    shift
    meson test -C "$dir" --no-rebuild --print-errorlogs "$@" 2>&1 | grep -v -E '^(ninja|Full log|$)'
    counts=$(python3 tools/count-tests.py "$dir/meson-logs/testlog.json") || counts="0 1 0"
    # shellcheck disable=SC2086
    set -- $counts
    passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
    echo "$1 passed, $2 failed, $3 skipped"
}

if build "gcc, warnings as errors" build gcc -Dtests=true; then
    say "unit and house tests"
    tests build --num-processes 2 --no-suite slow
    say "slow tests"
    tests build --num-processes 1 --suite slow
fi
targets="siskin tests/test_sync tools/make-demo-clips"
if build "gcc with MPI" build-mpi gcc -Dmpi=enabled; then
    say "training in several processes"
    tests build-mpi --num-processes 1 sync house-mpi
fi
targets=
if build "clang, address and undefined-behaviour sanitizers" build-asan clang \
    -Db_sanitize=address,undefined -Db_lundef=false -Doptimization=1; then
    say "unit tests under the sanitizers"
    export ASAN_OPTIONS=detect_leaks=1:abort_on_error=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
    export LSAN_OPTIONS=suppressions=$PWD/tests/lsan.txt:print_suppressions=0
    tests build-asan --num-processes 2 --timeout-multiplier 5 --suite unit
fi

say "left out"
if [ -d "$shared/data" ]; then echo "nothing for want of real data"
else echo "no ../shared beside the project: the tests on real clips and photographs (frame-exactness, decoding of all" \
          "files, a short training, the accuracy of the shipped model) are left out"; fi
finish
