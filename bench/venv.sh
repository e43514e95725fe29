# SPDX-License-Identifier: Apache-2.0
# Sourced by the benches: bench_venv "MODULES" PACKAGE... sets venv to the folder of a virtual environment
# ($SISKIN_BENCH_VENV) in which Python imports MODULES, and installs PACKAGEs from PyPI into it if it does not yet.
# shellcheck shell=bash
bench_venv() {
    local modules=$1 name
    shift
    name=$(basename "$0")
    venv=${SISKIN_BENCH_VENV:-/var/tmp/siskin-bench-venv}
    if [ -x "$venv/bin/python" ] && "$venv/bin/python" -c "import $modules" 2>/dev/null; then return; fi
    echo "bench/$name: installing $* into $venv" >&2
    [ -x "$venv/bin/python" ] || python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet "$@"
}
