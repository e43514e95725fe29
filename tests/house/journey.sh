#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# journey.sh PROGRAM CLIPMAKER: the whole way from outside on small made-up clips: import to verdict, stopping and
# resuming, the same bytes for any number of threads, JSON that parses, a planted leak that is found.
set -u
siskin=$(realpath "$1") maker=$(realpath "$2") bad=0
[ -d /usr/share/tuxpaint/stamps/animals/birds ] || { echo "skipped: tuxpaint-stamps-default is not installed"; exit 77; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
fault() { echo "FAULT: $*"; bad=1; }
# ok ARGS...: must succeed, quietly.
ok() {
    "$siskin" "$@" >out 2>err </dev/null && return 0
    fault "siskin $* ended with $?:"
    cat out err
    return 1
}
# classify gives one JSON document per line.
json() { ok "$@" --json && { python3 -m json.tool $([ "$1" != classify ] || echo --json-lines) <out >parsed 2>err || fault "siskin $* --json is no JSON: $(head -c 300 out)"; }; }

"$maker" --clips 8 clips >/dev/null || { echo "the clip maker fails"; exit 1; }
json import clips/frames.tsv -o birds || exit 1
json split birds --ratio 6:2:2 --seed 3
cp birds/dataset.tsv once.tsv
ok split birds --ratio 6:2:2 --seed 3
cmp -s once.tsv birds/dataset.tsv || fault "split is not a function of the seed"
ok split birds --ratio 6:2:2 --seed 4
cmp -s once.tsv birds/dataset.tsv && fault "another seed gives the same split"
cp once.tsv birds/dataset.tsv
json check birds

# A clip of the training part, copied under another name and put into the test part, is a leak: exit 3.
cp -r birds leaky
rm -f leaky/*.skc
clip=$(awk -F'\t' 'NR == 1 { for (i = 1; i <= NF; i++) col[$i] = i } $col["split"] == "train" { print $col["path"]; exit }' once.tsv)
cp "$clip" "$dir/copy.mp4"
awk -F'\t' -v OFS='\t' -v clip="$clip" -v copy="$dir/copy.mp4" 'NR == 1 { for (i = 1; i <= NF; i++) col[$i] = i }
    { print } $col["path"] == clip { $col["path"] = copy; $col["source"] = $col["group"] = "copy"; $col["split"] = "test"; print }' \
    once.tsv >leaky/dataset.tsv
"$siskin" check leaky >out 2>err
[ $? = 3 ] || fault "a near-duplicate across splits is not found: $(cat out err)"

# Threads do not change bytes; a stopped and resumed run ends like an unbroken one.
train="train birds --epochs 3 --batch 8 --seed 5 -q"
ok $train -o one --threads 1 || exit 1
ok $train -o two --threads 2
for file in best.safetensors last.safetensors; do
    cmp -s one/$file two/$file || fault "$file depends on the number of threads"
done
"$siskin" $train -o three --threads 2 2>err &
pid=$!
n=0
while [ ! -s three/last.safetensors ] && [ $n -lt 600 ]; do sleep 0.1; n=$((n + 1)); done
kill -INT $pid
wait $pid
code=$?
case $code in 130 | 0) ;; *) fault "Ctrl-C ends train with $code: $(cat err)" ;; esac
[ $code = 0 ] || ok $train -o three --threads 2 --resume
cmp -s one/last.safetensors three/last.safetensors || fault "a stopped and resumed run ends with other bytes"
"$siskin" $train -o four --threads 2 2>err &
pid=$!
n=0
while [ ! -s four/last.safetensors ] && [ $n -lt 600 ]; do sleep 0.1; n=$((n + 1)); done
kill -KILL $pid
wait $pid 2>/dev/null
[ "$(wc -l <four/log.tsv)" -gt 3 ] || ok $train -o four --threads 2 --resume
cmp -s one/last.safetensors four/last.safetensors || fault "a killed and resumed run ends with other bytes"
python3 -m json.tool <one/run.json >/dev/null || fault "run.json is no JSON"
[ "$(wc -l <one/log.tsv)" = 4 ] || fault "log.tsv has not one line per epoch and a header"
"$siskin" train birds -o one --epochs 1 -q >out 2>err && fault "train overwrites a run folder without --resume"

# A flag switches off what a recipe switches on.
printf '[train]\nepochs = 1\nbatch = 8\nfreeze_bn = yes\nfreeze_features = yes\n' >frozen.ini
ok train birds -o thawed --recipe frozen.ini --no-freeze-bn --no-freeze-features -q
grep -q '"freeze_bn": false' thawed/run.json && grep -q '"freeze_features": false' thawed/run.json ||
    fault "--no-freeze-bn does not switch off what the recipe says"

# A sweep: the bytes of runs trained alone, also if it was stopped or killed; a table that a program can read.
sweep="sweep birds --grid lr=1e-4,1e-3 --grid recipe=seed,feeder --seeds 2 --seed 4 --epochs 2 --batch 8 --size 64"
json $sweep -o swept --jobs 2 || exit 1
cp parsed swept.json
python3 -c 'import csv, json, math
document, rows = json.load(open("swept.json")), list(csv.DictReader(open("swept/sweep.tsv"), delimiter="\t"))
assert len(rows) == len(document["runs"]) == 8 and len(document["configurations"]) == 4
for c in document["configurations"]:
    mine = [float(r["test.loss"]) for r in rows if all(r[k] == v for k, v in c["values"].items())]
    told = c["measures"]["test.loss"]
    assert len(mine) == told["n"] == 2 and math.isclose(told["mean"], sum(mine) / 2, rel_tol=1e-6)
    assert math.isclose(told["sd"], abs(mine[0] - mine[1]) / math.sqrt(2), rel_tol=1e-4, abs_tol=1e-7)' ||
    fault "sweep.tsv and sweep.json do not agree"
ok train birds -o alone --recipe feeder --lr 1e-3 --seed 5 --epochs 2 --batch 8 --size 64 -q
for file in best.safetensors last.safetensors; do
    cmp -s alone/$file swept/lr=1e-3,recipe=feeder-seed5/$file || fault "$file of a sweep is not that of a run alone"
done
for signal in INT KILL; do
    "$siskin" $sweep -o broken$signal -q 2>err &
    pid=$!
    n=0
    while [ ! -s broken$signal/sweep.tsv ] && [ $n -lt 600 ]; do sleep 0.05; n=$((n + 1)); done
    kill -$signal $pid
    wait $pid 2>/dev/null
    [ $signal = KILL ] || grep -q 'of 8 runs; the same call goes on with broken' err || fault "a stopped sweep says: $(cat err)"
    ok $sweep -o broken$signal -q
    for run in swept/*-seed*; do
        cmp -s $run/last.safetensors broken$signal/${run#swept/}/last.safetensors || fault "$run differs after SIG$signal"
    done
done

# Random first weights have no statistics to keep, whatever the recipe says; first weights have.
grep -q '"freeze_bn": false' one/run.json && grep -q '"head_epochs": 0' one/run.json ||
    fault "the recipe freezes the batch norm of random weights"
ok train birds -o tuned --pretrained one --epochs 1 --batch 8 -q
grep -q '"freeze_bn": true' tuned/run.json || fault "the recipe does not keep the statistics of the first weights"

# Every kind of model gives an evaluation and verdicts; the ONNX and the safetensors say the same.
for observer in normal percentile mmse kl; do
    json quantize one --calibration birds -n 20 --observer $observer --per tensor --weights max --adaround no -o $observer.skn
done
json quantize one --calibration birds -n 20 --recipe seed -o seed.skn
json quantize one --calibration birds -n 20 --equalise all -o best.skn
ok quantize one --calibration birds -n 20 --equalise all --threads 1 -o again.skn
cmp -s best.skn again.skn || fault "the .skn depends on the number of threads"
ok quantize one --calibration birds -n 20 --act16 'features.0,features.*.block.0' -o wide.skn --json
grep -q '"int16_layers":12' out && grep -q 'NPU' err || fault "quantize --act16 does not say how many layers it means, or where they run"
"$siskin" export wide.skn --onnx-qdq -o wide.onnx >out 2>err && fault "16-bit activations are exported as 8-bit ONNX"
grep -q -e --act16 err || fault "export does not say what 16-bit activations need: $(cat err)"
json export one --onnx one.onnx
for model in one one/best.safetensors one.onnx mmse.skn wide.skn; do
    json eval $model birds --split test
    cp parsed "eval-$(basename $model).json"
    for crops in 1 3 squeeze; do json classify $model clips/feeder-01.mp4 --crops $crops; done
done
grep -q accuracy eval-one.json || fault "eval --json names no accuracy"
ok eval one birds --split test -o report
[ -s report/report.html ] || fault "eval -o writes no report.html"
ok eval one birds --split test --saliency 2 --shortcuts -o looked
for figure in reliability saliency_certain saliency_uncertain saliency_wrong; do
    [ -s looked/$figure.png ] && [ -s looked/$figure.svg ] || fault "eval --saliency writes no $figure"
done
ok classify mmse.skn clips/feeder-01.mp4 --saliency sheet.png
[ -s sheet.png ] && [ -s sheet.svg ] || fault "classify --saliency writes no sheet"
for model in one mmse.skn; do
    json calibrate $model birds --false-alarms .1 -o calibrated
    mv parsed fitted
    json eval calibrated birds --split val
    python3 -c 'import json
a, b = json.load(open("fitted")), json.load(open("parsed"))
assert abs(a["temperature"] / b["calibration"]["temperature"] - 1) < 1e-6 and a["after"]["nll"] > 0
(_, alarms), (_, found) = b["metrics"]["confusion"]
assert abs(a["after"]["threshold"] / b["rule"]["threshold"] - 1) < 1e-6 and alarms <= .1 * a["nobird"]
assert (a["after"]["false_alarms"], a["after"]["birds_found"]) == (alarms, found)' ||
        fault "temperature and threshold of siskin calibrate $model are not in the model that it writes"
done
# An adjustment tells the accuracy of the model that it read and of the one that it writes.
json weights adjust one -o tame.safetensors --method sigma --k .1 --dataset birds --split test --picture tame
cp parsed tame.json
json eval one birds --split test --compare tame.safetensors
python3 -c 'import json
told, found = json.load(open("tame.json"))["accuracy"], json.load(open("parsed"))
c = found["comparison"]
assert told["pictures"] == found["metrics"]["n"] and told["flips"] == c["flips"]
assert abs(told["before"] - found["metrics"]["accuracy"]) < 1e-6
assert abs(told["after"] - c["other_metrics"]["accuracy"]) < 1e-6' ||
    fault "weights adjust --dataset does not tell what eval finds: $(tail -c 200 tame.json)"
[ -s tame.png ] && [ -s tame.svg ] || fault "weights adjust --picture writes no picture"
grep -qE '(src|href)="(https?:)?//' report/report.html && fault "report.html fetches something from elsewhere"
SISKIN_CPU=c ok classify mmse.skn clips/feeder-02.mp4 --json && sed 's/"ms":[^,}]*//g' out >c.json
ok classify mmse.skn clips/feeder-02.mp4 --json && sed 's/"ms":[^,}]*//g' out >fast.json
cmp -s c.json fast.json || fault "int8 verdicts depend on the kernels"

# One of many pictures cannot be read: quiet or not, it is named, and the others are judged.
"$siskin" classify mmse.skn nowhere.jpg clips/feeder-02.mp4 --json -q >out 2>err
[ $? = 1 ] && grep -q 'nowhere.jpg' err && grep -q 'feeder-02' out || fault "classify -q with an unreadable picture: $(cat err)"

# A full disk: an error that says so, and no half file.
for call in "quantize one --calibration birds -n 4 -o /dev/full" "export one --onnx /dev/full"; do
    "$siskin" $call -q >out 2>err
    [ $? = 1 ] && grep -q 'No space left' err || fault "siskin $call on a full disk: $(cat err)"
done
[ -z "$(find . -name '*.part')" ] || fault "left behind: $(find . -name '*.part' | head -n 3)"
# Broken files among good ones are named and left out.
mkdir -p mixed/bird mixed/nobird
ok frames clips/feeder-01.mp4 clips/feeder-03.mp4 -o picked
i=0
for picture in picked/frames/*.jpg; do i=$((i + 1)); cp "$picture" "mixed/$([ $((i % 2)) = 0 ] && echo bird || echo nobird)/$i.jpg"; done
head -c 300 mixed/nobird/1.jpg >mixed/bird/truncated.jpg
: >mixed/bird/empty.jpg
echo "no picture" >mixed/nobird/text.png
"$siskin" import mixed -o mixed-set >out 2>err || fault "import gives up on three broken files: $(cat err)"
for name in truncated.jpg empty.jpg text.png; do grep -q "$name" err || fault "import does not name the broken $name"; done
"$siskin" import mixed -o mixed-set --max-bad 1 >out 2>err && fault "import --max-bad 1 accepts three broken files"
[ $bad = 0 ] && echo "the whole way holds"
exit $bad
