#!/bin/sh
# Fetches a UCX newer than Debian's, so that both can be measured: the Python wheel libucx-cu12 (no GPU needed).
# usage: fetch-ucx.sh FOLDER; the libraries end up in FOLDER/lib. Does nothing when they are there.
set -eu
version=1.22.0
folder=${1:?usage: fetch-ucx.sh FOLDER}
if [ -f "$folder/lib/libucp.so.0" ]; then exit 0; fi
mkdir -p "$folder"
work=$(mktemp -d "$folder/fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
python3 -m pip download --quiet --no-deps --dest "$work" "libucx-cu12==$version"
python3 -m zipfile -e "$work"/libucx_cu12-*.whl "$work/wheel"
rm -rf "$folder/lib"
mv "$work/wheel/libucx/lib" "$folder/lib"
echo "UCX $version is in $folder/lib"
