#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# mpi.sh PROGRAM CLIPMAKER yes|no: training in several processes from outside: the bytes of one process, one voice, one
# sentence when a rank is killed, and a run that can be resumed. Skipped in a build without MPI.
set -u
siskin=$(realpath "$1") maker=$(realpath "$2") bad=0
fault() { echo "FAULT: $*"; bad=1; }
if [ "$3" != yes ]; then
    # Such a build has to say so instead of letting two processes write into one folder.
    if OMPI_COMM_WORLD_SIZE=2 "$siskin" train none -o none >/dev/null 2>err.$$ || ! grep -q 'built without MPI' err.$$; then
        fault "a build without MPI takes part in an mpirun: $(cat err.$$)"
    fi
    rm -f err.$$
    [ $bad = 0 ] || exit 1
    echo "skipped: built without MPI (meson -Dmpi=enabled)"
    exit 77
fi
command -v mpirun >/dev/null || { echo "skipped: openmpi-bin is not installed"; exit 77; }
[ -d /usr/share/tuxpaint/stamps/animals/birds ] || { echo "skipped: tuxpaint-stamps-default is not installed"; exit 77; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
# Open MPI puts its sockets below TMPDIR, and a long path does not fit.
export SISKIN_MPI_TEST=$dir TMPDIR=/tmp OMPI_MCA_btl_vader_single_copy_mechanism=none OMPI_MCA_rmaps_base_oversubscribe=1
together() {
    ranks=$1
    shift
    # shellcheck disable=SC2086 # options, parted by blanks
    mpirun --allow-run-as-root --oversubscribe --bind-to none ${mpirun_more-} -np "$ranks" "$siskin" "$@" </dev/null
}
same() { # same RUN RUN
    for file in best.safetensors last.safetensors; do cmp -s "$1/$file" "$2/$file" || fault "$file of $1 and $2 differ"; done
    # The time and the speed are the last columns.
    cut -f 1-7 "$1/log.tsv" >a.tsv
    cut -f 1-7 "$2/log.tsv" | cmp -s a.tsv - || fault "log.tsv of $1 and $2 differ"
}

"$maker" --clips 8 clips >/dev/null || { echo "the clip maker fails"; exit 1; }
"$siskin" import clips/frames.tsv -o birds -q && "$siskin" split birds --ratio 6:2:2 --seed 3 -q || exit 1
train="train birds --recipe seed --epochs 3 --batch 9 --seed 5 --threads 1"

"$siskin" $train -o one -q || exit 1
for ranks in 2 4; do
    rm -f birds/*.skc # rank 0 makes it again while the others wait
    together $ranks $train -o many$ranks >out 2>err || fault "$ranks ranks fail: $(cat err)"
    same one many$ranks
    [ "$(grep -c 'epoch 2/3 .*val loss' err)" = 1 ] || fault "epoch 2 is not told once: $(cat err)"
    [ "$(wc -l <out)" = 1 ] || fault "the result is not told once: $(cat out)"
done

# A run of one process goes on with two.
"$siskin" $train --epochs 1 -o longer -q && together 2 train birds -o longer --resume --epochs 3 --threads 1 -q >out 2>err ||
    fault "a run is not resumed by two ranks: $(cat err)"
same one longer

# Each mistake is told once.
together 2 $train -o one >out 2>err && fault "a run is written over"
[ "$(grep -c 'already holds a run' err)" = 1 ] || fault "a mistake is not told once: $(cat err)"
together 3 $train -o three >out 2>err && fault "three ranks are accepted"
grep -q 'start 2, 4, 8 or 16' err || fault "three ranks are not explained: $(cat err)"

# Ctrl-C at mpirun: it asks its processes to stop and kills them a second later; given more time they say what is kept.
mpirun_more="--mca odls_base_sigkill_timeout 30"
together 2 $train --epochs 500 -o stopped >out 2>err &
pid=$!
n=0
while [ ! -s stopped/last.safetensors ] && [ $n -lt 600 ]; do sleep 0.05; n=$((n + 1)); done
kill -INT "$(pgrep -P $pid mpirun || echo $pid)"
wait $pid && fault "mpirun ends well although it was stopped"
[ "$(grep -c '^siskin train: .*--resume' err)" = 1 ] || fault "a stopped mpirun does not say once how to go on: $(cat err)"
[ -s stopped/state.safetensors ] || fault "nothing is left of a stopped run"
mpirun_more=

# kill -9 of either rank in the middle of an epoch.
for victim in 0 1; do
    run=lost$victim
    together 2 $train -o $run >out 2>err &
    pid=$!
    n=0
    while [ ! -s $run/last.safetensors ] && [ $n -lt 600 ]; do sleep 0.05; n=$((n + 1)); done
    for environ in /proc/[0-9]*/environ; do
        set -- $(tr '\0' '\n' 2>/dev/null <"$environ" | grep -xE "SISKIN_MPI_TEST=$dir|OMPI_COMM_WORLD_RANK=$victim")
        child=${environ#/proc/}
        [ $# = 2 ] && kill -9 "${child%/environ}"
    done
    wait $pid && fault "mpirun ends well although rank $victim is lost"
    [ "$(grep -c '^siskin train: .*--resume' err)" = 1 ] || fault "the loss of rank $victim is not told once: $(cat err)"
    [ -s $run/state.safetensors ] || fault "nothing is left of $run"
    together 2 train birds -o $run --resume --threads 1 -q >out 2>err || fault "$run is not resumed: $(cat err)"
    same one $run
done
[ $bad = 0 ] && echo "2 and 4 ranks give the bytes of one; a lost rank is told once and resumed, Ctrl-C too"
exit $bad
