#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# install-packages.sh [test] [demo]: installs what is missing of packages.txt for building and the named uses.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
missing=
for package in $(awk -v uses=" all $* " '!/^#/ && NF == 2 && index(uses, " " $2 " ") { print $1 }' "$here/packages.txt"); do
    case $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) in
    *' installed') ;;
    *) missing="$missing $package" ;;
    esac
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ]; then
    echo "packages are missing; as root: apt-get install --no-install-recommends$missing" >&2
    exit 1
fi
echo "installing:$missing"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # the list is split on purpose
if ! { apt-get update -q && apt-get install -q -y --no-install-recommends $missing; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "cannot install the packages: see the lines above" >&2
    exit 1
fi
