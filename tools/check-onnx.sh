#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# check-onnx.sh BUILD [MODEL [PICTURE...]]: exported ONNX in onnxruntime gives siskin's logits within 1e-4, for random
# networks and for MODEL. onnxruntime is installed from PyPI into BUILD/venv-onnx; exit 77 if that cannot be had.
set -u
build=${1:?usage: check-onnx.sh BUILD [MODEL [PICTURE...]]}
tools=$(cd "$(dirname "$0")" && pwd)
[ $# -ge 1 ] && shift
model=${1:-}
[ $# -ge 1 ] && shift
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
echo "ONNX agrees"
