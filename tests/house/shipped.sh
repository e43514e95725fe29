#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# shipped.sh SOURCE PROGRAM: the shipped models open, agree with each other, and reach what models/figures.tsv claims
# on the photographs of ../shared that no training has seen (lines: model, crops, source, accuracy in percent).
set -u
source=$1 siskin=$(realpath "$2") bad=0
shared=${SISKIN_SHARED:-$source/../shared}
models=$source/models
[ -f "$models/bird-small.safetensors" ] || { echo "skipped: no shipped model in models/"; exit 77; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
fault() { echo "FAULT: $*"; bad=1; }

# float and int8 give the same decision on stamps that are clearly a bird, and no bird on a plain picture.
stamps=/usr/share/tuxpaint/stamps/animals
for model in bird-small.safetensors bird-small.skn; do
    "$siskin" classify "$models/$model" "$stamps/birds" --json -q >"$model.json" 2>err || { [ -d $stamps ] && fault "classify $model: $(cat err)"; }
done
if [ -d $stamps ]; then
    total=$(wc -l <bird-small.skn.json)
    grep -oE '"path":"[^"]*"|"decision":"[a-z]*"' bird-small.safetensors.json >float.txt
    grep -oE '"path":"[^"]*"|"decision":"[a-z]*"' bird-small.skn.json >int8.txt
    differ=$(diff float.txt int8.txt | grep -c '^<')
    echo "stamps of birds: $total, float and int8 differ on $differ"
    [ "$total" -ge 20 ] && [ $((differ * 10)) -le "$total" ] || fault "float and int8 differ on $differ of $total"
fi

[ -d "$shared/data" ] || { echo "left out: no ../shared beside the project, the accuracy of the shipped model is not measured"; exit $bad; }
[ -f "$models/figures.tsv" ] || { echo "left out: no models/figures.tsv to hold the model to"; exit $bad; }
awk -F'\t' 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == "role") role = i } NR == 1 || $role == "test"' \
    "$shared/data/photos.tsv" >heldout.tsv
"$siskin" import heldout.tsv --root "$shared/data" -o set -q && "$siskin" split set --ratio 6:2:2 --seed 1 -q ||
    { echo "the held-out photographs cannot be imported"; exit 1; }
grep -v '^#' "$models/figures.tsv" >figures
while read -r model crops name claim; do
    [ -f "$model.$crops.json" ] || "$siskin" eval "$models/$model" set --split test --crops "$crops" --json -q \
        >"$model.$crops.json" || fault "eval $model --crops $crops fails"
    got=$(python3 -c 'import json, sys
d = json.load(open(sys.argv[1]))
rows = {s["name"]: s["accuracy"] for s in d["sources"]}
rows["all"] = d["metrics"]["accuracy"]
print("%.2f" % (100 * rows[sys.argv[2]]))' "$model.$crops.json" "$name") || { fault "no source $name"; continue; }
    echo "$model, crops $crops, $name: $got %, claimed $claim %"
    # One picture of a source of fifty is two points; decoders may differ by a level between versions.
    awk -v a="$got" -v b="$claim" 'BEGIN { exit !(a - b < 2.2 && b - a < 2.2) }' || fault "$model: $got is not the claimed $claim"
done <figures

# Weights clamped at one deviation ruin the model, and `weights adjust --dataset` says by how much.
adjusted="weights adjust $models/bird-small.safetensors -o tame.safetensors --method sigma --k 1"
"$siskin" $adjusted --dataset set --split test --json -q >adjusted.json &&
    "$siskin" eval "$models/bird-small.safetensors" set --json -q >before.json &&
    "$siskin" eval tame.safetensors set --json -q >after.json || fault "weights adjust --dataset, or eval of what it wrote, fails"
python3 -c 'import json
told, before, after = (json.load(open(f)) for f in ("adjusted.json", "before.json", "after.json"))
told = told["accuracy"]
assert told["flips"] > 0 and told["pictures"] == after["metrics"]["n"]
assert abs(told["before"] - before["metrics"]["accuracy"]) < 1e-6
assert abs(told["after"] - after["metrics"]["accuracy"]) < 1e-6' || fault "weights adjust --dataset: $(tail -c 200 adjusted.json)"
exit $bad
