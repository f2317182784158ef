#!/usr/bin/env bash
# Builds weed-rdma and both readers against an installed copy of the release build, and measures; rows named `seaweedfs …` in
# TARGET/bench.json.
#   benches/seaweedfs/run.sh TARGET [PREFIX]    without a prefix it installs into a folder of its own
set -euo pipefail
target=$(realpath "$1") prefix=${2:-}
cd "$(dirname "$0")"
out=$target/bench-seaweedfs
mkdir -p "$out"
if [[ -z $prefix ]]; then
    prefix=$out/installed
    make -C ../.. --no-print-directory -s install PREFIX="$prefix" PROFILE=release
fi
export PKG_CONFIG_PATH=$prefix/lib/pkgconfig LD_LIBRARY_PATH=$prefix/lib GOFLAGS='-mod=readonly -buildvcs=false' GOTOOLCHAIN=local
read -ra flags <<< "$(pkg-config --cflags --libs rdma_engine)"
"${CC:-cc}" -std=c11 -O2 -Wall -Wextra -Werror c/needle.c -o "$out/needle" "${flags[@]}"
go build -C ../../go/seaweedfs -o "$out/weed-rdma" ./cmd/weed-rdma
go build -o "$out/rdweed-bench" .
"$out/rdweed-bench" run "$out/weed-rdma" "$out/needle" "$target"
