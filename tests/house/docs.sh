#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# docs.sh SOURCE PROGRAM: every `siskin VERB --option` of the documents is understood by the program, every file of the
# tree that a document names exists, and the two READMEs show the same commands.
set -u
source=$1 siskin=$(realpath "$2") bad=0
cd "$source" || exit 1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
for document in README.md README.zh.md CONTRIBUTING.md docs/*.md models/*.md; do
    [ -f "$document" ] || continue
    # Continued lines are joined first.
    sed -e ':a' -e '/\\$/{N;s/\\\n//;ba' -e '}' "$document" | grep -oE '(^|[` ]|build/)siskin [a-z]+ [^`|]*' >"$dir/calls"
    while read -r _ verb rest; do
        "$siskin" "$verb" --help >"$dir/help" 2>/dev/null || continue # prose, e.g. "siskin is"
        for option in $(echo "$rest" | sed 's/#.*//' | grep -oE '(^| )--?[a-z][a-z0-9-]*' | sort -u); do
            sed -n '/^Options:/,/^Examples:/p' "$dir/help" | grep -qE -- "(^| )$option([ ,]|\$)" ||
                { echo "$document: siskin $verb has no option $option"; bad=1; }
        done
    done <"$dir/calls"
    for file in $(grep -oE '`(src|include|docs|tests|tools|cli|models|bench|fuzz|cross|share)/[A-Za-z0-9_./-]+`' "$document" | tr -d "\`" | grep -v VERB); do
        [ -e "$file" ] || [ -e "build/$file" ] || { echo "$document names $file, which does not exist"; bad=1; }
    done
    for link in $(grep -oE '\]\([^)#: ]+' "$document" | sed 's/^](//'); do
        [ -e "$(dirname "$document")/$link" ] || { echo "$document links to $link, which does not exist"; bad=1; }
    done
done
for document in README.md README.zh.md; do
    sed -n '/^```sh/,/^```/p' "$document" | sed 's/ *#.*//' >"$dir/$document"
done
cmp -s "$dir/README.md" "$dir/README.zh.md" || { echo "README.md and README.zh.md show different commands"; diff "$dir/README.md" "$dir/README.zh.md"; bad=1; }
exit $bad
