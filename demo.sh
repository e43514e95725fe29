#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# ./demo.sh: the whole way on clips that it makes itself. Installs what is missing (Debian, root), builds, makes a dozen
# small feeder clips, then: import, split by clip, check, fine-tune, evaluate, quantise, compare float with int8, report.
set -eu
cd "$(dirname "$0")"
started=$(date +%s)
say() { printf '\n== %s (%d s)\n' "$1" $(($(date +%s) - started)); }
run() { echo "\$ $*" >&2; "$@"; }
trap 'code=$?; [ $code = 0 ] || printf "\nthe demo failed in the step above (exit %d)\n" $code >&2' EXIT

say "packages"
tools/install-packages.sh demo
started=$(date +%s)

say "build"
if [ ! -f build/build.ninja ]; then meson setup build -Dtests=false >build.log 2>&1 || { mkdir -p build; cat build.log; exit 1; }; fi
rm -f build.log
ninja -C build -k 1 >build/ninja.log 2>&1 || { tail -n 30 build/ninja.log; exit 1; }
siskin=build/siskin demo=build/demo
rm -rf "$demo"
mkdir -p "$demo"

say "clips"
run build/tools/make-demo-clips "$demo/clips"
table=$(ls "$demo"/clips/*.tsv)

say "dataset"
run $siskin import "$table" -o "$demo/birds"
run $siskin split "$demo/birds" --ratio 6:2:2 --seed 1
run $siskin check "$demo/birds"

say "training"
set --
[ ! -f models/bird-small.safetensors ] || set -- --pretrained models/bird-small.safetensors
run $siskin train "$demo/birds" -o "$demo/run" --recipe seed --freeze-bn --epochs 4 --batch 16 --lr 1e-4 --seed 1 "$@"

say "evaluation of the float model"
run $siskin eval "$demo/run" "$demo/birds" --split test --crops 1

say "int8"
run $siskin quantize "$demo/run" --calibration "$demo/birds" -n 100 -o "$demo/bird.skn"
run $siskin export "$demo/run" --onnx "$demo/bird.onnx"
run $siskin eval "$demo/bird.skn" "$demo/birds" --split test --crops 3 --penalty .8 >"$demo/int8-3.txt"
cat "$demo/int8-3.txt"

say "float against int8, report"
run $siskin eval "$demo/run" "$demo/birds" --split test --compare "$demo/bird.skn" -o "$demo/report" >"$demo/both.txt"
cat "$demo/both.txt"

say "verdicts on a clip"
run $siskin classify "$demo/bird.skn" "$(ls "$demo"/clips/*.mp4 | head -n 1)"

say "done"
[ -s "$demo/report/report.html" ] || { echo "the report is missing" >&2; exit 1; }
ls -l "$demo/run/best.safetensors" "$demo/bird.skn" | awk '{ printf "%-32s %.2f MB\n", $NF, $5 / 1e6 }'
accuracy() { awk -v nth="$2" '/^accuracy +[0-9]/ && ++n == nth { print $2 " % " $NF " " $(NF - 1) " " $(NF - 2) }' "$1" |
    sed 's/\([0-9.]* %\) \([0-9]*\)) of (\([0-9]*\)/\1 (\3 of \2)/'; }
echo "test pictures right: float $(accuracy "$demo/both.txt" 1), int8 $(accuracy "$demo/both.txt" 2)," \
    "int8 with three crops $(accuracy "$demo/int8-3.txt" 1)"
echo "report: $PWD/$demo/report/report.html"
echo "demo: ok, $(($(date +%s) - started)) seconds"
