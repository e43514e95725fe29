#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# rknn-toolkit.sh SOURCE PROGRAM MODELMAKER BUILD: the vendor's real toolkit, installed into BUILD/rknn from PyPI if that
# can be done (exit 77 with the reason if not): the lint says what the toolkit does with every small model, conversions
# repeat, the simulator answers.
set -u
source=$1 siskin=$(realpath "$2") maker=$(realpath "$3") bad=0
export SISKIN_RKNN=$4/rknn
fault() { echo "FAULT: $*"; bad=1; }
if ! timeout 400 "$siskin" rknn setup -q 2>"$4/rknn-setup.log"; then
    echo "left out: the vendor's toolkit cannot be installed: $(cat "$4/rknn-setup.log")"
    exit 77
fi
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
"$siskin" rknn doctor -q || fault "the doctor does not agree with setup"

mkdir models && "$maker" models || { echo "the maker of models fails"; exit 1; }
"$SISKIN_RKNN/bin/python" -I "$source/tests/rknn_truth.py" "$dir/models" >truth.tsv 2>truth.err
while IFS="$(printf '\t')" read -r name _ expected _; do
    got=$(awk -F'\t' -v name="$name" '$1 == name { print $2 }' truth.tsv)
    [ "$got" = "$expected" ] || fault "$name: the toolkit does '$got', the lint expects '$expected'"
    "$siskin" rknn lint "models/$name.onnx" --json 2>/dev/null | grep -q "\"predicts\":\"$expected\"" ||
        fault "$name: the lint does not predict '$expected'"
done <models/models.tsv
echo "lint and toolkit compared on $(wc -l <truth.tsv) models"

python3 "$source/tests/plain_pictures.py" pictures
"$siskin" import pictures -o birds -q && "$siskin" split birds --ratio 6:2:2 --seed 1 -q || exit 1
model=$source/models/bird-small.safetensors
for i in 1 2; do
    "$siskin" export "$model" --rknn rv1103 --algorithm normal -c birds -n 6 -o bird$i.rknn --json >report$i 2>err ||
        fault "export: $(cat err)"
    "$siskin" rknn info bird$i.rknn --target rv1103 --json >info$i || fault "info"
done
python3 - <<'END' || bad=1
import json
one, two = (json.load(open("report%d" % i)) for i in (1, 2))
assert one["body"] == two["body"], "two conversions give different commands or weights"
assert one["cpu_layers"] == 0 and len(one["layers"]) > 80 and one["cycles"]["total"] > 1e6, one
assert "features.5.block.1.0.weight" in [o["name"] for o in one["outliers"]], one["outliers"]
assert not one["messages"], one["messages"]
assert 2.2e6 < one["bytes"] < 2.6e6 and 300 < one["internal_kb"] < 500
info = json.load(open("info1"))
assert info["body"] == one["body"] and info["card"] and info["target"] == "rv1103" and info["version"] == "2.5.0"
assert json.loads(info["custom"])["algorithm"] == "normal"
END
# Channels in units of their own: the first layer as two convolutions and their product, all on the NPU.
"$siskin" export "$model" --rknn rv1103 --algorithm normal --equalise -c birds -n 6 -o equal.rknn --keep equal --json >report3 2>err ||
    fault "export --equalise: $(cat err)"
python3 - <<'END' || bad=1
import json
one, three = (json.load(open("report%d" % i)) for i in (1, 3))
assert three["cpu_layers"] == 0 and len(three["layers"]) == len(one["layers"]) + 2, three
assert [l["type"] for l in three["layers"][1:4]] == ["ConvClip", "ConvClip", "Mul"], three["layers"][1:4]
END
# Refined weights: those that were moved lie on the codes that the toolkit chooses, so that its rounding leaves them there,
# and our forecast of that form, its two gates included, is what its simulator computes.
"$siskin" export "$model" --rknn rv1103 --algorithm normal --equalise --refine -c birds -n 6 -o refined.rknn --keep refined \
    -q 2>err || fault "export --refine: $(cat err)"
(cd refined && "$SISKIN_RKNN/bin/python" -I - ../equal/model.onnx model.onnx) >rounding 2>&1 <<'END' || fault "--refine: $(tail -3 rounding)"
import sys
import numpy
import onnx
from rknn.api import RKNN

def weights(path):
    tensors = onnx.load(path).graph.initializer
    return {t.name: onnx.numpy_helper.to_array(t).astype(float) for t in tensors if t.name.endswith("weight")}

before, after = (weights(path) for path in sys.argv[1:])
rknn = RKNN()
rknn.config(target_platform="rv1103", quantized_algorithm="normal")
assert rknn.load_onnx(model=sys.argv[2]) == 0 and rknn.build(do_quantization=True, dataset="calibration.txt") == 0
table, moved, total = rknn.rknn_base.quantizer.quant_tab, 0, 0
for name, w in after.items():
    scale, zero = (numpy.array(table[name][k], float).reshape(-1, *[1] * (w.ndim - 1)) for k in ("scale", "zero_point"))
    code, changed = w / scale + zero, w != before[name]
    inner = changed & (numpy.rint(code) > -128) & (numpy.rint(code) < 127)
    assert not inner.any() or numpy.abs(code - numpy.rint(code))[inner].max() < 2e-3, name
    moved, total = moved + changed.sum(), total + w.size
assert moved > 0.02 * total, (moved, total)
END
# MODEL and on how many of the six the verdicts must agree: one drawn picture lies near .5 for the shipped model.
compare_refined() {
    "$siskin" rknn compare "$1" --calibration birds --algorithm normal --equalise --refine -n 6 --json >pairs 2>err ||
        fault "compare --refine: $(cat err)"
    python3 -c 'import json, sys
d = json.load(open("pairs")); rows = {r["name"]: r for r in d["layers"]}
names = "features.0", "features.1.block.0", "features.2.block.2", "features.4.block.3", "avgpool"
assert min(rows[n]["cosine"] for n in names) > 0.999, d
assert d["own_theirs"] >= int(sys.argv[1]) and d["pictures"] == 6, d' "$2" ||
        fault "compare --refine: $(head -c 400 pairs)"
}
compare_refined "$source/models/seed-small.safetensors" 6
compare_refined "$model" 5
"$siskin" eval "$model" birds --split train --backend rknn-sim --algorithm normal -n 6 --json >sim 2>err || fault "eval: $(cat err)"
grep -q '"n":' sim || fault "the simulator's evaluation: $(head -c 300 sim)"
# The first layer has no history: there our integers and the vendor's must be the same but for rounding.
"$siskin" rknn compare "$model" --calibration birds --algorithm normal -n 6 --json >pairs 2>err || fault "compare: $(cat err)"
python3 -c 'import json
d = json.load(open("pairs")); rows = {r["name"]: r for r in d["layers"]}
assert rows["features.0"]["cosine"] > 0.999 and d["pictures"] == 6
assert sum(r["cosine"] is not None for r in d["layers"]) > 50, d' || fault "compare: $(head -c 400 pairs)"
# With the toolkit's own ranges all that is left between the two is the order of float sums.
"$siskin" rknn compare "$model" --calibration birds --algorithm mmse --method layer -n 2 --json >pairs 2>err ||
    fault "compare with the toolkit's ranges: $(cat err)"
python3 -c 'import json
d = json.load(open("pairs")); rows = {r["name"]: r for r in d["layers"]}
assert min(rows[n]["cosine"] for n in ("features.0", "features.1.block.0", "features.2.block.2", "features.4.block.3")) > 0.9999
assert d["own_theirs"] >= 0.9 * d["pictures"] > 0, d' || fault "compare with ranges: $(head -c 400 pairs)"
# A full disk, at each of the toolkit's stages.
mkdir small
if mount -t tmpfs -o size=7m tmpfs small 2>/dev/null; then
    trap 'umount "$dir/small"; rm -rf "$dir"' EXIT
    for size in 7 14 28; do
        mount -o remount,size=${size}m small
        TMPDIR=$dir/small "$siskin" export "$model" --rknn rv1103 --algorithm normal -c birds -n 3 -o bad.rknn -q >out 2>err
        [ $? = 1 ] && [ "$(wc -l <err)" = 1 ] && grep -q 'the disk is full' err && [ ! -e bad.rknn ] && [ -z "$(ls small)" ] ||
            fault "a disk of $size MB: $(cat err); left $(ls small)"
    done
else
    echo "left out: no disk of a few MB can be mounted here, a full one is tried with the stand-in alone"
fi
printf 'no picture\n' >bad.onnx
"$siskin" export bad.onnx --rknn rv1103 -c birds -o bad.rknn -q 2>err
[ $? = 1 ] && [ "$(wc -l <err)" = 1 ] && [ ! -e bad.rknn ] || fault "an ONNX that is none: $(cat err)"
exit $bad
