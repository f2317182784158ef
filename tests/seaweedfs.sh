#!/usr/bin/env bash
# SeaweedFS: builds weed-rdma, which is SeaweedFS's own weed with the engine, and holds what is read through the engine
# against what it answers over HTTP. Everything runs on loopback, telemetry off.
# RDE_FILES is how many files (2,000), RDE_TEST_SEED repeats a run.
set -euo pipefail
cd "$(dirname "$0")/.."
trap 'echo "seaweedfs.sh: line $LINENO failed" >&2' ERR
# The same folder each time: Go keeps what pkg-config said once, and compiles nothing anew because of it.
folder=$PWD/target/seaweedfs
rm -rf "$folder"
mkdir -p "$folder"
trap 'rm -rf "$folder"' EXIT
prefix=$folder/installed
make --no-print-directory -s install PREFIX="$prefix"
command -v go > /dev/null || { echo "Go is missing: install Go 1.26.6 or newer from https://go.dev/dl" >&2; exit 1; }
export PKG_CONFIG_PATH=$prefix/lib/pkgconfig LD_LIBRARY_PATH=$prefix/lib GOTOOLCHAIN=local
. tests/seaweedfs/goflags.sh
export RDE_WEED=$folder/weed-rdma RDE_NEEDLES=$folder/needles

step() { # WHAT COMMAND...
    echo "== SeaweedFS: $1 ($SECONDS s)"
    shift
    "$@"
}
unformatted=$(gofmt -l go/seaweedfs)
[[ -z $unformatted ]] || { echo "seaweedfs.sh: gofmt: $unformatted" >&2; exit 1; }
read -ra flags <<< "$(pkg-config --cflags --libs rdma_engine)"
step "a reader in C" "${CC:-cc}" -std=c11 -O2 -Wall -Wextra -Wpedantic -Werror tests/seaweedfs/needles.c -o "$RDE_NEEDLES" "${flags[@]}"
step "weed-rdma" go build -C go/seaweedfs -o "$RDE_WEED" ./cmd/weed-rdma
step "vet" go vet -C go/seaweedfs ./...
step "the package" go test -C go/seaweedfs -count=1 -timeout 120s . ./cmd/...
step "same bytes and verdicts as HTTP" go test -C go/seaweedfs -count=1 -timeout 400s -v ./proof
# A minute more: the same without an exporter, for `make check`.
[[ -z ${RDE_SLOW:-} ]] || step "the volumes on disk, from Rust" cargo test --locked --test seaweedfs -- --ignored
echo "== SeaweedFS: done ($SECONDS s)"
