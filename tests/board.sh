#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# usage: board.sh SOURCE SISKIN SISKIN_BOARD STANDIN_LIBRARY
# The board's program from outside: the verdicts of the desk on the same pixels, raw frames, an NPU that answers, fails or
# does not open, and every bad input as one sentence with an exit code.
set -u
source=$1 siskin=$(realpath "$2") board=$(realpath "$3") standin=$(realpath "$4")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
model=$source/models/bird-small.skn
bad=0
fault() { echo "FAULT: $1"; bad=1; }

# refused EXIT WORDS ARGUMENT...: fails with this code and one line on stderr that has these words.
refused() {
    code=$1 words=$2
    shift 2
    "$board" "$@" >out 2>err
    is=$?
    [ "$is" = "$code" ] || fault "siskin-board $*: exit $is instead of $code"
    [ "$(wc -l <err)" = 1 ] || fault "siskin-board $*: not one line: $(cat err)"
    grep -q -- "$words" err || fault "siskin-board $*: no '$words' in: $(cat err)"
}

/usr/bin/python3 - <<'PYTHON' || { echo "left out: python3-pil is missing"; exit 77; }
import math
try:
    from PIL import Image
except ImportError:
    raise SystemExit(1)
def scene(name, w, h):
    image = Image.new("RGB", (w, h))
    put = image.load()
    for y in range(h):
        for x in range(w):
            grey = int(128 + 100 * math.sin(x / 23) * math.cos(y / 31))
            put[x, y] = (grey, grey, grey) if name == "grey" else (grey, x * 255 // w, (x // 9 + y // 7) % 2 * 150)
    image.save(name + ".png")
    image.save(name + ".ppm")
    open(name + ".rgb", "wb").write(image.tobytes())
    # A grey frame is the same in NV12, exactly.
    open(name + ".nv12", "wb").write(image.convert("L").tobytes() + b"\x80" * (w * h // 2))
scene("wide", 640, 360)
scene("grey", 640, 360)
scene("tall", 300, 400)
PYTHON

# The same pixels, the same verdict as on the desk, for each way to look.
for crops in 1 3 squeeze; do
    for name in wide tall grey; do
        "$siskin" classify --json --crops "$crops" "$model" "$name.png" >desk.json 2>err || fault "siskin classify: $(cat err)"
        "$board" classify --json --crops "$crops" "$model" "$name.ppm" >board.json 2>err || fault "classify: $(cat err)"
        python3 - "$crops $name" <<'PYTHON' || bad=1
import json, sys
desk = json.load(open("desk.json"))
desk = desk[0] if isinstance(desk, list) else desk.get("pictures", [desk])[0] if isinstance(desk, dict) else desk
board = json.loads(open("board.json").readline())
p = desk.get("p") or desk.get("probabilities")
if len(p) != len(board["p"]) or max(abs(a - b) for a, b in zip(p, board["p"])) > 1e-5:
    print("FAULT:", sys.argv[1], "desk", p, "board", board["p"])
    sys.exit(1)
PYTHON
    done
    # Raw frames: RGB as the PPM, a grey NV12 frame as its RGB.
    "$board" classify --logits --crops "$crops" "$model" wide.ppm | sed 's/^[^ ]*//' >a
    "$board" classify --logits --crops "$crops" --frame 640x360 --format rgb "$model" wide.rgb | sed 's/^[^ ]*//' >b
    cmp -s a b || fault "crops $crops: a raw RGB frame gives other logits than the PPM"
    "$board" classify --logits --crops "$crops" "$model" grey.ppm | sed 's/^[^ ]*//' >a
    "$board" classify --logits --crops "$crops" --frame 640x360 --format nv12 "$model" grey.nv12 | sed 's/^[^ ]*//' >b
    cmp -s a b || fault "crops $crops: a grey NV12 frame gives other logits than its RGB"
    [ -s a ] || fault "no logits"
done

# The NPU.
export SISKIN_STANDIN=channels=16
"$board" classify --npu "$model" --library "$standin" "$model" wide.ppm >out 2>err || fault "NPU: $(cat err)"
grep -q ', npu, ' out || fault "the NPU did not answer: $(cat out)"
SISKIN_STANDIN=fail=100 "$board" classify --json --deadline 20 --npu "$model" --library "$standin" "$model" wide.ppm grey.ppm >out 2>err ||
    fault "failing NPU: $(cat err)"
[ "$(grep -c '"backend":"cpu".*on the CPU' out)" = 2 ] || fault "a failing NPU is not told: $(cat out)"
sed 's/,"ms".*//; s/"backend":"[a-z]*"//' out >a
"$board" classify --json "$model" wide.ppm grey.ppm | sed 's/,"ms".*//; s/"backend":"[a-z]*"//' >b
cmp -s a b || fault "the CPU's verdicts differ when it stands in for the NPU"
"$board" classify --npu "$model" --library /nonexistent.so "$model" wide.ppm >out 2>err || fault "a missing library ends the work"
grep -q 'cannot open /nonexistent.so' err && grep -q ', cpu, ' out || fault "a missing library: $(cat out err)"
"$board" info --npu "$model" --library "$standin" "$model" >out 2>err
grep -q 'librknnmrt 2.3.2' out && grep -q 'NHWC, 16 elements for 2 classes' out || fault "info: $(cat out err)"
"$board" info --json --npu "$model" --library "$standin" "$model" | python3 -c 'import json, sys; json.load(sys.stdin)["npu"]["scale"]' ||
    fault "info --json is no JSON"
"$board" bench --runs 3 --json --npu "$model" --library "$standin" "$model" |
    python3 -c 'import json, sys; d = json.load(sys.stdin); sys.exit(not (d["npu_runs"] == 3 and 0 <= d["min_ms"] <= d["max_ms"]))' ||
    fault "bench --json"

# Bad input.
head -c 1000 wide.ppm >cut.ppm
printf 'P6\n# a comment\n2 99999999999 255\n' >hostile.ppm
head -c 2000 "$model" >cut.skn
: >empty.ppm
refused 1 'cut.ppm: not a whole PPM' classify "$model" cut.ppm
refused 1 'hostile.ppm: not a whole PPM' classify "$model" hostile.ppm
refused 1 'empty.ppm' classify "$model" empty.ppm
refused 1 'No such file' classify "$model" missing.ppm
refused 1 'cut.skn' classify cut.skn wide.ppm
refused 1 'missing.skn' info missing.skn
refused 1 'frame as --frame says' classify --frame 641x360 --format rgb "$model" wide.rgb
refused 1 'NV12 frame as --frame says' classify --frame 640x358 --format nv12 "$model" grey.nv12
refused 1 'neither a PPM' classify "$model" wide.rgb
refused 1 'no file' classify "$model"
refused 2 'help' classify
refused 2 'verb' frobnicate
refused 2 'verb'
refused 2 '--nonsense' classify --nonsense 1 "$model" wide.ppm
refused 2 'squash' classify --crops squash "$model" wide.ppm
refused 2 '1.5' classify --threshold 1.5 "$model" wide.ppm
refused 2 '--frame' classify --format nv12 "$model" grey.nv12
"$board" classify "$model" missing.ppm wide.ppm >out 2>err && fault "a missing file among others: exit 0"
grep -q 'wide.ppm: ' out || fault "one missing file keeps the others from being judged"
if [ -c /dev/full ]; then
    "$board" classify "$model" wide.ppm >/dev/full 2>err && fault "a full disk: exit 0"
    grep -q 'standard output' err || fault "a full disk: $(cat err)"
fi
"$board" help | grep -q -- '--deadline' || fault "no help"
[ "$bad" = 0 ] && echo "siskin-board: as the desk on 9 pictures, raw frames, NPU, bad input"
exit "$bad"
