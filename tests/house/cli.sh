#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# cli.sh PROGRAM: the program from outside: help, mistakes in the call, missing and broken files, a full disk.
set -u
siskin=$(realpath "$1") bad=0
. "$(dirname "$(realpath "$0")")/expect.sh"
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1

verbs=$("$siskin" --help | awk '/^  [a-z]/ { print $1 }')
[ "$(echo "$verbs" | wc -l)" -ge 9 ] || { echo "siskin --help names too few verbs: $verbs"; bad=1; }
"$siskin" --version | grep -qE '^siskin [0-9]+\.[0-9]+\.[0-9]+$' || { echo "siskin --version"; bad=1; }
expect 2 "unknown verb 'nonsense'; try 'siskin --help'" nonsense
expect 2 "did you mean 'train'?" trian
expect 2 "unknown option '--nonsense'" --nonsense

for verb in $verbs; do
    "$siskin" "$verb" --help >out 2>err || { echo "$verb --help fails"; bad=1; }
    [ ! -s err ] || { echo "$verb --help writes to stderr"; bad=1; }
    for part in "Usage: siskin $verb" Options: --json --quiet Examples:; do
        grep -qF -- "$part" out || { echo "$verb --help lacks $part"; bad=1; }
    done
    awk 'length($0) > 100 { print "wide help: " $0; bad = 1 } END { exit bad }' out || bad=1
    "$siskin" help "$verb" | cmp -s - out || { echo "siskin help $verb differs from siskin $verb --help"; bad=1; }
    expect 2 "siskin $verb: unknown option --nonsense; try 'siskin $verb --help'" "$verb" --nonsense
    expect 2 "siskin $verb: unknown option -Z" "$verb" -Z
    expect 2 "--json takes no value" "$verb" --json=1
    # The examples of the help are calls that the program understands (option names only).
    sed -n '/^Examples:/,$p' out | grep -oE '(^| )--?[a-z][a-z-]*' | sort -u >used
    while read -r option; do
        sed -n '/^Options:/,/^Examples:/p' out | grep -qE -- "(^| )$option([ ,]|\$)" ||
            { echo "$verb: an example uses $option, which is not in its options"; bad=1; }
    done <used
    "$siskin" man "$verb" >page || { echo "siskin man $verb fails"; bad=1; }
    for section in NAME SYNOPSIS DESCRIPTION OPTIONS EXAMPLES 'EXIT STATUS'; do
        grep -qx ".SH $section" page || { echo "siskin-$verb.1 lacks $section"; bad=1; }
    done
    if command -v groff >/dev/null && [ -n "$(groff -man -Tutf8 -ww -z page 2>&1)" ]; then
        echo "siskin-$verb.1: groff warns:"
        groff -man -Tutf8 -ww -z page
        bad=1
    fi
    "$siskin" "$verb" --help >/dev/full 2>err
    [ $? = 1 ] || { echo "$verb --help on a full disk does not fail"; bad=1; }
done

# Results that could not be written are a failure too.
"$siskin" net >/dev/full 2>err
[ $? = 1 ] && grep -q 'No space left' err || { echo "siskin net on a full disk: $(cat err)"; bad=1; }

# Missing, empty, broken and mislabelled files are named.
: >empty.tsv
: >empty.safetensors
head -c 5000 /dev/urandom >noise.safetensors
cp noise.safetensors noise.skn
cp noise.safetensors noise.pth
cp noise.safetensors noise.onnx
printf 'path\tlabel\nnowhere.jpg\tbird\n' >one.tsv
expect 1 "nowhere.tsv" import nowhere.tsv -o d -q
expect 1 "empty.tsv" import empty.tsv -o d -q
expect 2 "(--output) is missing" import one.tsv
expect 1 "no-dataset" split no-dataset -q
expect 1 "no-dataset" check no-dataset -q
expect 1 "no-dataset" train no-dataset -o run -q
expect 2 "--epochs must be a whole number" train no-dataset -o run --epochs ten -q
expect 2 "--freeze-bn and --no-freeze-bn contradict each other" train no-dataset -o run --freeze-bn --no-freeze-bn -q
expect 2 "--false-alarms must be a number from 0 to 1, not '2'" calibrate noise.skn no-dataset -o out.skn --false-alarms 2
expect 2 "--ratio" split no-dataset --ratio 6:x -q
for model in nowhere.safetensors empty.safetensors noise.safetensors noise.skn noise.pth noise.onnx; do
    expect 1 "$model" classify "$model" one.tsv -q
    expect 1 "$model" eval "$model" no-dataset -q
done
for file in nowhere.pth noise.pth noise.safetensors; do expect 1 "$file" export "$file" --onnx out.onnx -q; done
expect 2 "'inspec' is none of inspect, adjust and average" weights inspec noise.safetensors
expect 2 "--method must be one of sigma|percentile|tukey, not 'nonsense'" weights adjust noise.pth --method nonsense
expect 2 "--method NAME is missing" weights adjust noise.pth -o out.safetensors
expect 2 "(--output) is missing" weights adjust noise.pth --method sigma
expect 2 "--per is not for inspect" weights inspect noise.pth --per channel
expect 2 "--split is of --dataset" weights adjust noise.pth --method sigma -o out.safetensors --split test
expect 2 "a mean needs two models" weights average noise.pth -o out.safetensors
expect 2 "--seed is not for average" weights average noise.pth noise.pth --seed 3 -o out.safetensors
expect 2 "adjust takes one model" weights adjust noise.pth noise.pth --method sigma -o out.safetensors
expect 1 "noise.pth" weights average noise.pth noise.pth -o out.safetensors
expect 2 "k of percentile is 3" weights adjust noise.pth --method percentile --k 3 -o out.safetensors
for file in nowhere.pth noise.safetensors noise.skn; do
    expect 1 "$file" weights inspect "$file" -q -o d
    expect 1 "$file" weights adjust "$file" --method sigma -o out.safetensors -q
done
for left in d run out.onnx out.safetensors *.part; do
    [ ! -e "$left" ] || { echo "a failed call left $left behind"; bad=1; }
done
exit $bad
