#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# rknn-board.sh SOURCE PROGRAM: a connected board, with stand-ins for adb and the toolkit (tests/standin): every way that
# it can fail is one sentence within seconds, and setup does what its plan says.
set -u
source=$1 siskin=$(realpath "$2") bad=0
/usr/bin/python3 -c 'import venv, numpy' 2>/dev/null || { echo "skipped: /usr/bin/python3 with venv and numpy is not installed"; exit 77; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
. "$source/tests/house/expect.sh"
mkdir tmp board files wrong empty
export TMPDIR=$dir/tmp SISKIN_RKNN=$dir/toolkit STANDIN= STANDIN_PIDS=$dir/pids STANDIN_BOARD=$dir/board STANDIN_ADB=
plain=$PATH
PATH=$source/tests/standin/bin:$PATH

# finding WORDS: check says that the board is not ready, in these words.
finding() {
    "$siskin" rknn board check --json >out 2>err
    [ $? = 3 ] && python3 -c 'import json, sys
d = json.load(open("out")); sys.exit(not (not d["ready"] and sys.argv[1] in d["trouble"]))' "$1" ||
        fault "board check ($STANDIN_ADB): $(cat out err)"
}

# ---- which board ----------------------------------------------------------------------------------------------------
PATH=$(dirname "$(command -v sh)") expect 1 "there is no adb on PATH" rknn board check
STANDIN_ADB=none expect 1 "no board is connected" rknn board check
STANDIN_ADB=fail expect 1 "cannot bind" rknn board check
STANDIN_ADB=two expect 1 "2 boards are connected (board1, board2): choose one with --device" rknn board check
STANDIN_ADB=two expect 1 "there is no board board3" rknn board check --device board3
STANDIN_ADB=unauthorized expect 1 "does not trust this computer" rknn board check
STANDIN_ADB=permissions expect 1 "udev" rknn board check
STANDIN_ADB=offline expect 1 "is offline" rknn board check
STANDIN_ADB=hang expect 1 "does not answer adb within 10 seconds" rknn board check
STANDIN_ADB=sh expect 1 "does not run the questions" rknn board check
"$siskin" rknn board check >out 2>err || fault "a good board: $(cat out err)"
grep -q 'board1, armv7l' out && grep -q '^ready' out || fault "check tells: $(cat out)"

# ---- what is on it --------------------------------------------------------------------------------------------------
STANDIN_ADB=nolib finding "no librknnmrt.so"
STANDIN_ADB=noserver finding "rknn_server does not run"
STANDIN_ADB=rkipc finding "rkipc runs"
STANDIN_ADB=old finding "different versions"
STANDIN_ADB=second finding "two librknnmrt.so"
STANDIN_ADB=memory finding "less than 6 MB"

# ---- setup ----------------------------------------------------------------------------------------------------------
python3 - <<'END'
head = b"\x7fELF\x01\x01\x01".ljust(18, b"\0") + b"\x28\0"
for name in ("librknnmrt.so", "rknn_server"):
    open("files/" + name, "wb").write(head.ljust(100, b"\0"))
    open("wrong/" + name, "wb").write(b"\x7fELF\x02\x01\x01".ljust(100, b"\0"))
END
expect 2 "--dry-run and --yes" rknn board setup --files files
expect 2 "--files" rknn board setup --yes
expect 1 "empty/librknnmrt.so" rknn board setup --files empty --dry-run
expect 1 "no program for a 32-bit ARM" rknn board setup --files wrong --yes
STANDIN_ADB=foreign expect 1 "is a aarch64" rknn board setup --files files --yes
rm -f board/*
STANDIN_ADB="nolib old noserver rkipc second" "$siskin" rknn board setup --files files --dry-run >out 2>err || fault "dry run: $(cat err)"
[ "$(grep -c '   adb -s board1 ' out)" = 6 ] || fault "the plan: $(cat out)"
[ ! -e board/shell ] && [ ! -e board/rknn_server ] || fault "a dry run did something"
STANDIN_ADB="nolib old noserver rkipc second" "$siskin" rknn board setup --files files --yes >out 2>err || fault "setup: $(cat out err)"
cmp -s files/rknn_server board/rknn_server && cmp -s files/librknnmrt.so board/librknnmrt.so || fault "the files did not arrive"
grep -q RkLunch board/shell && grep -q 'rm -f /usr/lib/librknnmrt.so' board/shell || fault "steps are missing: $(cat board/shell)"
STANDIN_ADB=full expect 1 "No space left on device" rknn board setup --files files --yes
STANDIN_ADB=dies expect 1 "start the server" rknn board setup --files files --yes

rm -f board/*
# ---- evaluation on it ------------------------------------------------------------------------------------------------
python3 "$source/tests/plain_pictures.py" pictures
"$siskin" import pictures -o birds -q && "$siskin" split birds --ratio 6:2:2 --seed 1 -q || { echo "no dataset"; exit 1; }
/usr/bin/python3 -m venv --without-pip --system-site-packages toolkit || { echo "no venv"; exit 1; }
cp -r "$source/tests/standin/rknn" "$(ls -d toolkit/lib/python3*/site-packages)/"
eval="eval $source/models/bird-small.safetensors birds --split train -n 8 -q --backend rknn-board"
STANDIN_ADB=none expect 1 "no board is connected" $eval
STANDIN_ADB=noserver expect 1 "rknn_server does not run" $eval
STANDIN=pipe expect 1 "another version than the toolkit" $eval
STANDIN=oom expect 1 "out of memory" $eval
STANDIN=silence expect 1 "does not answer in time" $eval
"$siskin" $eval --json >board.json 2>err || fault "eval on the board: $(cat err)"
"$siskin" eval "$source/models/bird-small.safetensors" birds --split train -n 8 -q --backend rknn-sim --json >sim.json 2>err || fault "sim: $(cat err)"
python3 - <<'END' || fault "the board's figures are not the simulator's"
import json
a, b = json.load(open("board.json")), json.load(open("sim.json"))
drop = lambda d: {k: v for k, v in d.items() if k not in ("model", "label", "seconds", "date")}
assert drop(a) == drop(b), (a, b)
END
[ "$bad" = 0 ] && echo "a connected board: 30 ways to fail, setup, evaluation"
exit "$bad"
