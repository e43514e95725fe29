#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# check-onnx.sh BUILD [MODEL [PICTURE|DATASET...]]: exported ONNX in onnxruntime gives siskin's logits, float within 1e-4,
# int8 (QDQ) the very same; for random networks and for MODEL, by default the shipped ones; on noise and
# on PICTUREs (of a DATASET: its test part), by default photographs of the real data or of Debian's tuxpaint.
# onnxruntime comes from PyPI into BUILD/venv-onnx; exit 77 if that cannot be had.
set -u
build=${1:?usage: check-onnx.sh BUILD [MODEL [PICTURE...]]}
tools=$(cd "$(dirname "$0")" && pwd)
shift
model=$tools/../models/bird-small.safetensors
[ -f "$model" ] || model=
if [ $# -ge 1 ]; then
    model=$1
    shift
fi
if [ $# = 0 ]; then
    for folder in "${SISKIN_SHARED:-$tools/../../shared}/data" /usr/share/tuxpaint; do
        # shellcheck disable=SC2046 # none of these names has a blank
        [ ! -d "$folder" ] || [ $# -gt 0 ] || set -- $(find "$folder" -name '*.jpg' | grep -v ' ' | sort | head -n 6)
    done
fi
venv=$build/venv-onnx
if ! "$venv/bin/python" -c 'import numpy, onnxruntime' 2>/dev/null; then
    if ! { python3 -m venv "$venv" &&
           timeout 180 "$venv/bin/pip" install --disable-pip-version-check -q --retries 1 --timeout 15 numpy onnxruntime
         } >"$build/venv-onnx.log" 2>&1; then
        echo "left out: onnxruntime cannot be installed from PyPI (see $build/venv-onnx.log)"
        exit 77
    fi
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
check() { # NAME MODEL PICTURE...
    name=$1
    shift
    from=$1
    shift
    "$build/tools/dump-logits" "$from" "$work/$name" "$@" && "$venv/bin/python" "$tools/check-onnx.py" "$work/$name"
}
check random-small random:small "$@" || exit 1
check random-large random:large "$@" || exit 1
check random-160-7 random:small:160:7 "$@" || exit 1
[ -z "$model" ] || check model "$model" "$@" || exit 1
[ "${model##*/}" != bird-small.safetensors ] || check int8 "${model%.safetensors}.skn" "$@" || exit 1
echo "ONNX agrees"
