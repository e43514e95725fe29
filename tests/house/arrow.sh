#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# arrow.sh SOURCE: who may include whom. The house stands only as long as no room reaches into one that rests on it.
set -u
cd "$1" || exit 1
bad=0

# Rooms of src/ that each room may include (internal headers), and public headers it may use.
allowed() {
    case $1 in
    base) rooms='base' public='status hooks text' ;;
    image) rooms='base image' public='status hooks image video augment' ;;
    kernels) rooms='base kernels' public='status hooks model' ;;
    net) rooms='base kernels net formats' public='status hooks model' ;;
    formats) rooms='base image net formats' public='status hooks image model quant' ;;
    data) rooms='base image data formats' public='status hooks image video dataset' ;;
    weights) rooms='base net formats weights' public='status hooks text image dataset model quant weights' ;;
    train) rooms='base image kernels net formats data quant weights train report' public='status hooks text image dataset model train keys augment ranks weights report quant' ;;
    quant) rooms='base kernels net formats quant rt data' public='status hooks image dataset model quant rt classifier' ;;
    npu) rooms='base npu' public='status rt npu' ;;
    rt) rooms='base kernels/int8 rt' public='status hooks rt classifier' ;;
    predict) rooms='base image net formats rt predict kernels/int8' public='status hooks image video model rt classifier' ;;
    eval) rooms='base image data net predict eval formats' public='status hooks image dataset model classifier eval' ;;
    report) rooms='base image data eval predict formats report' public='status hooks image dataset model classifier eval train weights quant report' ;;
    rknn) rooms='base formats rknn' public='status hooks image dataset model quant classifier rt rknn' ;;
    sweep) rooms='base formats train report sweep' public='status hooks text dataset model classifier train eval report sweep' ;;
    *) rooms='' public='' ;;
    esac
}

report() { echo "$1: may not include $2"; bad=1; }

for file in $(find src -name '*.[ch]'); do
    room=$(echo "$file" | cut -d/ -f2)
    allowed "$room"
    [ -n "$rooms" ] || { echo "$file: unknown room $room; add it to tests/house/arrow.sh"; bad=1; continue; }
    # int8 kernels serve the board: they rest on base alone, as rt does.
    case $file in src/kernels/int8/*) rooms='base kernels/int8 rt' public='status model rt' ;; esac
    for include in $(sed -n 's/^ *# *include *"\([^"]*\)".*/\1/p' "$file"); do
        case $include in
        siskin/*)
            name=$(basename "$include" .h)
            case " $public " in *" $name "*) ;; *) report "$file" "$include" ;; esac ;;
        */*)
            from=$(dirname "$include")
            ok=0
            for r in $rooms; do case $from in "$r" | "$r"/*) ok=1 ;; esac; done
            [ $ok = 1 ] || report "$file" "$include" ;;
        esac
    done
done
for file in cli/*.c cli/*.h; do
    for include in $(sed -n 's/^ *# *include *"\([^"]*\)".*/\1/p' "$file"); do
        case $include in siskin/*.h | cli.h | internal.h | train_keys.h | verbs.inc) ;; *) report "$file" "$include" ;; esac
    done
    if grep -nE '# *include *<(spng|turbojpeg|libav|cairo|cjson|zip|onnx)' "$file"; then
        echo "$file: the program sees public headers only"
        bad=1
    fi
done
# The board runtime: libc and libm, no threads, no OpenMP.
if grep -rnE '# *include *<(omp|pthread|spng|turbojpeg|libav|cairo|cjson|zip)|# *pragma omp' src/rt src/npu src/kernels/int8 src/predict/crops.c; then
    echo "the board runtime needs libc and libm only"
    bad=1
fi
exit $bad
