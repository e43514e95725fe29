#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# rknn.sh SOURCE PROGRAM MODELMAKER: the way to the vendor's toolkit from outside, with a stand-in for it (tests/standin): what is
# read of its log and file, and that everything that goes wrong is one sentence, no half file, no process left over.
set -u
source=$1 siskin=$(realpath "$2") maker=$(realpath "$3") bad=0
/usr/bin/python3 -c 'import venv' 2>/dev/null || { echo "skipped: /usr/bin/python3 with venv is not installed"; exit 77; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
. "$source/tests/house/expect.sh"
halves="bird.rknn bird.rknn.part"
mkdir tmp
export TMPDIR=$dir/tmp SISKIN_RKNN=$dir/toolkit STANDIN= STANDIN_PIDS=$dir/pids

python3 "$source/tests/plain_pictures.py" pictures
"$siskin" import pictures -o birds -q && "$siskin" split birds --ratio 6:2:2 --seed 1 -q || { echo "no dataset"; exit 1; }
model=$source/models/bird-small.safetensors
convert="export $model --rknn rv1103 --calibration birds -n 8 -o bird.rknn -q"

# ---- no toolkit, half of one, something else in its place ---------------------------------------------------------
expect 1 "run \`siskin rknn setup\`" $convert
"$siskin" rknn doctor >out 2>err
[ $? = 3 ] && grep -q 'siskin rknn setup' out || fault "doctor without a toolkit: $(cat out err)"
mkdir other && : >other/file
expect 1 "other is there and is no Python venv" rknn setup --again --dir other
expect 1 "a file of this name is in the way" rknn setup --again --dir pictures/bird/1.png/x
# An installation that was cut off before, and now fails: neither is left.
if /usr/bin/python3 -c 'import torch, psutil, ensurepip' 2>/dev/null && [ "$(df --output=avail -k . | tail -n 1)" -gt 1200000 ]; then
    mkdir -p half.part/bin && : >half.part/bin/python
    limit=120 PIP_NO_INDEX=1 expect 1 "cannot install the toolkit: pip says: " rknn setup --dir half -q
    [ ! -e half ] && [ ! -e half.part ] || fault "a failed installation leaves $(ls -d half*)"
else
    echo "left out: Debian's python3-torch or 1.2 GB of disk is missing, a cut installation is not tried"
fi
/usr/bin/python3 -m venv --without-pip --system-site-packages toolkit || { echo "no venv"; exit 1; }
site=$(ls -d toolkit/lib/python3*/site-packages)
"$siskin" rknn doctor --json >out 2>err
[ $? = 3 ] && python3 -c 'import json
d = json.load(open("out")); i = {x["name"]: x for x in d["items"]}
assert not d["ready"] and not i["rknn-toolkit2"]["ok"] and i["rknn-toolkit2"]["wanted"] == "2.5.0"
assert not i["toolkit starts"]["ok"] and "--again" in i["toolkit starts"]["remedy"]' || fault "doctor on an empty venv: $(cat out err)"
expect 1 "No module named 'rknn'" $convert
cp -r "$source/tests/standin/rknn" "$site/"
grep -v '^#' "$source/share/rknn-requirements.txt" | while IFS='=' read -r name _ version; do
    mkdir "$site/$name-$version.dist-info"
    printf 'Metadata-Version: 2.1\nName: %s\nVersion: %s\n' "$name" "$version" >"$site/$name-$version.dist-info/METADATA"
done
STANDIN=import expect 1 "\`siskin rknn doctor\` says what is missing" $convert
rm -f bird.rknn.log

# ---- all is well ----------------------------------------------------------------------------------------------------
if ! "$siskin" $convert --json --keep kept >out 2>err; then fault "export: $(cat err)"; fi
python3 - "$source" <<'END' || fault "the report of the conversion: $(cat out)"
import json, os, struct
d = json.load(open("out"))
assert [l["name"] for l in d["layers"]] == ["InputOperator:input", "Conv:features.0", "OutputOperator:logits"], d["layers"]
assert d["cpu_layers"] == 0 and d["cycles"] == {"ddr": 57137, "npu": 112896, "total": 112896}
assert d["internal_kb"] == 379.75 and d["weight_kb"] == 1919.94 and d["pictures"] == 8
assert d["outliers"] == [{"name": "features.0.0.weight", "mean": 0.63, "std": 3.04, "value": -38.886}]
assert [m["text"] for m in d["messages"]] == ["build: a warning that nobody knows"], d["messages"]
assert d["bytes"] == os.path.getsize("bird.rknn")
assert "Quantizating" in open("bird.rknn.log").read() and "Network Layer" in open("bird.rknn.log").read()
lines = open("kept/calibration.txt").read().split()
assert len(lines) == 8
for line in lines:  # exactly the network's size: anything else would be stretched without a word
    head = open("kept/" + line, "rb").read(24)
    assert struct.unpack(">II", head[16:24]) == (224, 224)
END
"$siskin" rknn info bird.rknn --json >info || fault "info fails"
python3 -c 'import json
d = json.load(open("info")); c = json.loads(d["custom"])
assert d["target"] == "rv1103" and d["version"] == "2.5.0" and d["shape"] == [1, 3, 224, 224] and d["card"]
assert d["internal_bytes"] == 388864 and d["weight_bytes"] == 1966022 and d["framework"] == "ONNX"
assert c["class_names"] == "nobird,bird" and c["size"] == "224" and c["algorithm"] == "mmse" and c["pictures"] == 8' ||
    fault "info: $(cat info)"
grep -aq 'features.0.gate.weight' kept/model.onnx && fault "channels in units of their own without --equalise"
"$siskin" $convert --equalise --keep equal || fault "export --equalise fails"
grep -aq 'features.0.gate.weight' equal/model.onnx || fault "--equalise changes nothing in the ONNX"
"$siskin" rknn info bird.rknn --json | python3 -c 'import json, sys
assert json.loads(json.load(sys.stdin)["custom"])["equalised"] is True' || fault "the card does not tell --equalise"
"$siskin" $convert --equalise --refine --keep refined || fault "export --refine fails"
cmp -s equal/model.onnx refined/model.onnx && fault "--refine changes nothing in the ONNX"
"$siskin" rknn info bird.rknn --json | python3 -c 'import json, sys
assert json.loads(json.load(sys.stdin)["custom"])["refined"] is True' || fault "the card does not tell --refine"
"$siskin" $convert || fault "the conversion after it fails"
cp bird.rknn one.rknn
"$siskin" $convert || fault "the second conversion fails"
cmp -s one.rknn bird.rknn && fault "the stand-in's files should differ like the vendor's"
"$siskin" rknn info bird.rknn --json >info2
[ "$(grep -o '"body":"[0-9a-f]*"' info)" = "$(grep -o '"body":"[0-9a-f]*"' info2)" ] || fault "the body of two conversions differs"
rm -f bird.rknn
STANDIN=cpu "$siskin" export "$model" --rknn rv1103 -c birds -n 8 -o bird.rknn >out 2>err
[ $? = 3 ] && grep -q 'Sin:wave (Sin) was left to the CPU' err || fault "a layer on the CPU is not told: $(cat out err)"
rm -f bird.rknn*

# ---- lint: no toolkit is needed ---------------------------------------------------------------------------------------
mkdir models && "$maker" models || fault "the maker of models fails"
[ "$(wc -l <models/models.tsv)" -ge 90 ] || fault "too few models: $(wc -l <models/models.tsv)"
while IFS="$(printf '\t')" read -r name rules outcome _; do
    "$siskin" rknn lint "models/$name.onnx" --json >"models/$name.json" 2>err
    code=$?
    [ $code = 0 ] || [ $code = 3 ] || fault "lint $name ends with $code: $(cat err)"
done <models/models.tsv
python3 - <<'END' || bad=1
import json
for line in open("models/models.tsv"):
    name, rules, outcome, _ = line.rstrip("\n").split("\t")
    d = json.load(open("models/%s.json" % name))
    got = ",".join(f["rule"] for f in d["findings"] if f["severity"] != "note") or "-"
    assert (got, d["predicts"]) == (rules, outcome), "lint %s: %s, %s instead of %s, %s" % (name, got, d["predicts"], rules, outcome)
    assert all(f["source"] and f["remedy"] and f["what"] for f in d["findings"]), name
    assert (d["errors"] > 0) == (outcome == "fail" or "cpu-op" in rules or "pool-pad" in rules), name
notes = {n: [f["what"] for f in json.load(open("models/%s.json" % n))["findings"] if f["severity"] == "note"]
         for n in ("global-pool-7", "global-pool-32", "global-pool-192", "input-width-30")}
assert notes["global-pool-7"] == ["rows of 7 pixels lie 16 apart on the board"], notes
assert notes["global-pool-32"] == ["over 32 x 32: becomes 2 convolutions, windows of 7, 5"], notes
assert notes["global-pool-192"] == ["over 192 x 192: becomes 3 convolutions, windows of 7, 7, 4"], notes
assert notes["input-width-30"] == ["rows of 30 pixels lie 32 apart on the board"], notes
END
"$siskin" rknn lint kept/model.onnx --json >lint.json || fault "lint of our own ONNX: $(cat lint.json)"
python3 -c 'import json
d = json.load(open("lint.json"))
assert d["predicts"] == "npu" and d["errors"] == d["warnings"] == 0
assert sum(f["rule"] == "global-pool" for f in d["findings"]) == 6' || fault "lint of our own ONNX: $(cat lint.json)"
"$siskin" rknn lint kept/model.onnx --target rv1103b --json >lint.json || fault "lint for rv1103b: $(cat lint.json)"
python3 -c 'import json
d = json.load(open("lint.json"))
assert d["target"] == "rv1103b" and [f["rule"] for f in d["findings"]].count("chip") == 1' || fault "lint for rv1103b: $(cat lint.json)"
expect 2 "must be one of rv1103|rv1103b|rv1106|rv1106b, not 'rk3588'" rknn lint kept/model.onnx --target rk3588
expect 1 "models/plain.onnx: not an ONNX file written by siskin" export models/plain.onnx --rknn rv1103 -c birds -o bird.rknn -q
expect 1 "LICENSE: not an ONNX file, or a damaged one" rknn lint "$source/LICENSE"
head -c 3000 kept/model.onnx >cut.onnx
expect 1 "cut.onnx: not an ONNX file, or a damaged one" rknn lint cut.onnx
expect 1 "nowhere.onnx" rknn lint nowhere.onnx
python3 - "$siskin" <<'END' || bad=1
import random, subprocess, sys
good = bytearray(open("models/mul-gate.onnx", "rb").read()[:700])
draw = random.Random(1)
for _ in range(150):
    data = bytearray(good)
    for _ in range(draw.choice((1, 2, 8))):
        data[draw.randrange(len(data))] = draw.randrange(256)
    open("case.onnx", "wb").write(data)
    r = subprocess.run([sys.argv[1], "rknn", "lint", "case.onnx", "-q"], capture_output=True)
    if r.returncode not in (0, 1, 3):
        sys.exit("lint on damaged bytes ends with %d: %r" % (r.returncode, r.stderr))
END

# ---- the simulator as a backend of eval -------------------------------------------------------------------------------
if /usr/bin/python3 -c 'import numpy' 2>/dev/null; then
    "$siskin" eval "$model" birds --split train --backend rknn-sim -n 8 --compare "$source/models/bird-small.skn" --json \
        >sim.json 2>err || fault "eval in the simulator: $(cat err)"
    # The stand-in's logits are 128 - mean and mean - 128: bird where the picture is bright.
    python3 -c 'import json
d = json.load(open("sim.json"))
assert "rknn-sim (mmse, channel, 8 pictures)" in d["model"]["path"], d["model"]
assert d["metrics"]["n"] >= 12' || fault "eval in the simulator: $(head -c 600 sim.json)"
    cp -r birds noval && sed -i 's/\tval$/\ttrain/' noval/dataset.tsv
    "$siskin" rknn compare "$model" --calibration birds --algorithm normal -n 6 --json >pairs.json 2>err ||
        fault "compare: $(cat err)"
    python3 -c 'import json
d = json.load(open("pairs.json"))
rows = {r["name"]: r for r in d["layers"]}
assert len(rows) > 60 and d["pictures"] == 6 and d["first"] == "features.0"
# all ones beside a real tensor; a file of another shape and those that are missing are not compared
assert 0 < abs(rows["features.0"]["cosine"]) < 0.99 and rows["features.12"]["cosine"] is None
assert abs(abs(rows["classifier.3"]["cosine"]) - 1) < 0.1 and rows["features.3"]["error"] is None
assert 0 <= d["own_theirs"] <= 6 and rows["features.0"]["own_float"] > 0.9' || fault "compare: $(head -c 600 pairs.json)"
    STANDIN=bare expect 1 "none of the network" rknn compare "$model" --calibration birds -n 6 -q
    STANDIN=ranges expect 1 "this version tells no ranges" rknn compare "$model" -c birds -a mmse -n 6 -q
    expect 1 "15 ranges for features.0.0.weight, not 16" rknn compare "$model" -c birds -a mmse -n 6 -q
    expect 3 "no readable picture in its val part" rknn compare "$model" -c noval --split val -n 6 -q
    expect 2 "compare needs --calibration" rknn compare "$model"
    STANDIN=none expect 1 "inference returned nothing" eval "$model" birds --split train --backend rknn-sim -n 8 -q
    expect 1 "is int8 already: the simulator needs the float model" eval "$source/models/bird-small.skn" birds --backend rknn-sim -q
    expect 1 "runs on the board alone" eval one.rknn birds -q
else
    echo "left out: /usr/bin/python3 has no numpy, the simulator's backend is not tried"
fi

# ---- what goes wrong ------------------------------------------------------------------------------------------------
expect 2 "--rknn needs -o FILE" export "$model" --rknn rv1103
expect 2 "choose what to write" export "$model"
expect 1 "no-dataset" export "$model" --rknn rv1103 -c no-dataset -o bird.rknn -q
STANDIN=build expect 1 "Rockchip's toolkit says: The image of /x/y.png is invalid!" $convert
[ -s bird.rknn.log ] || fault "the log of a failed conversion is not kept"
STANDIN=config expect 1 "Invalid target_platform" $convert
STANDIN=return expect 1 "build returned -1" $convert
STANDIN=exit expect 1 "Rockchip's toolkit says" $convert
STANDIN=crash expect 1 "ended by signal 11" $convert
STANDIN=silent expect 1 "no table of layers" $convert
STANDIN=other expect 1 "wrote a model for rv1106" $convert
expect 1 "is for rv1103, not for rv1106" rknn info one.rknn --target rv1106
head -c 600 one.rknn >cut.rknn
expect 1 "cut.rknn: the .rknn file is cut off or damaged" rknn info cut.rknn
expect 1 "not a .rknn file" rknn info "$model"
expect 1 "nowhere.rknn" rknn info nowhere.rknn
# Every byte cut off and every length changed ends in a sentence, never in a crash.
python3 - "$siskin" <<'END' || bad=1
import subprocess, sys
good = open("one.rknn", "rb").read()
cases = [good[:n] for n in range(0, 160, 9)] + [good[:n] for n in range(160, len(good), 301)]
for at in list(range(16, 24)) + list(range(64, 68)) + list(range(len(good) - 200, len(good) - 192)):
    for value in (0, 1, 127, 255):
        cases.append(good[:at] + bytes([value]) + good[at + 1:])
for data in cases:
    open("case.rknn", "wb").write(data)
    r = subprocess.run([sys.argv[1], "rknn", "info", "case.rknn"], capture_output=True, text=True)
    if r.returncode not in (0, 1) or (r.returncode == 1 and r.stderr.count("\n") != 1):
        sys.exit("info on a damaged file of %d bytes ends with %d: %s" % (len(data), r.returncode, r.stderr))
END
cp -r birds gone && rm -rf gone/*.skc && sed -i "s|$dir/pictures|$dir/elsewhere|g" gone/dataset.tsv && mv pictures away
"$siskin" export "$model" --rknn rv1103 -c gone -n 8 -o bird.rknn -q >out 2>err
[ $? = 3 ] && [ "$(wc -l <err)" = 1 ] && [ ! -e bird.rknn ] || fault "calibration pictures that are missing: $(cat err)"
mv away pictures
# A disk that is full (a limit on file sizes gives the same failures): the ONNX does not fit.
(trap '' XFSZ; ulimit -f 1000; "$siskin" $convert >out 2>err)
[ $? = 1 ] && [ "$(wc -l <err)" = 1 ] && grep -q 'model.onnx' err && [ -z "$(ls tmp)" ] && [ ! -e bird.rknn ] ||
    fault "a full disk: $(cat err); $(ls tmp)"
# The ONNX does, what the toolkit writes does not.
(trap '' XFSZ; ulimit -f 14000; STANDIN=disk expect 1 "the disk is full where Rockchip's toolkit works" $convert; exit $bad) || bad=1
mkdir bird.rknn
"$siskin" $convert >out 2>err
[ $? = 1 ] && [ "$(wc -l <err)" = 1 ] && grep -q 'bird.rknn' err || fault "a folder as output: $(cat err)"
rmdir bird.rknn

# Ctrl-C and worse in the middle: the toolkit and what it started are gone.
gone() { # PID: within a second
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        [ -d "/proc/$1" ] && ! grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null || return 0
        sleep 0.1
    done
    return 1
}
for signal in INT TERM KILL; do
    rm -f pids
    STANDIN=hang "$siskin" $convert >out 2>err &
    pid=$!
    n=0
    while [ ! -s pids ] && [ $n -lt 300 ]; do sleep 0.1; n=$((n + 1)); done
    kill -$signal $pid
    wait $pid 2>/dev/null
    code=$?
    read -r toolkit child <pids
    gone "$toolkit" || { fault "SIG$signal leaves the toolkit running"; kill -KILL "$toolkit"; }
    if [ $signal != KILL ]; then
        [ $code = 130 ] && [ "$(wc -l <err)" = 1 ] || fault "SIG$signal ends the conversion with $code: $(cat err)"
        gone "$child" || fault "SIG$signal leaves a child of the toolkit running"
        [ -z "$(ls tmp)" ] || fault "SIG$signal leaves tmp/$(ls tmp)"
    fi
    kill -KILL "$child" 2>/dev/null
    [ ! -e bird.rknn ] && [ ! -e bird.rknn.part ] || fault "SIG$signal leaves half a model"
done
exit $bad
