# SPDX-License-Identifier: Apache-2.0
# expect.sh: sourced by the tests that look at the program $siskin from outside, in a folder of their own.

fault() { echo "FAULT: $*"; bad=1; }

# expect CODE WORDS ARGS...: exit code, nothing on stdout, one line on stderr that holds WORDS, within $limit (15)
# seconds; tmp/ is empty afterwards and none of the files of $halves is there.
expect() {
    code=$1 words=$2
    shift 2
    began=$(date +%s)
    "$siskin" "$@" >out 2>err </dev/null
    got=$?
    if [ $got != "$code" ] || [ -s out ] || [ "$(wc -l <err)" != 1 ] || ! grep -qF -- "$words" err; then
        fault "siskin $*: exit $got instead of $code, or not one line on stderr with \"$words\":"
        head -n 5 out err
    fi
    [ $(($(date +%s) - began)) -lt "${limit:-15}" ] || fault "siskin $*: took ${limit:-15} seconds or longer"
    [ ! -d tmp ] || [ -z "$(ls tmp)" ] || { fault "siskin $*: left tmp/$(ls tmp)"; rm -rf tmp/*; }
    for half in ${halves-}; do [ ! -e "$half" ] || { fault "siskin $*: left $half"; rm -rf "$half"; }; done
}
