#!/usr/bin/env bash
# The Go package against an installed copy: gofmt, vet, tests, examples; with the race detector, with all of cgo's
# checks and the collector always running; without cgo; with the archive linked in.
#   tests/go.sh [PREFIX]    an installed copy; without one it installs into a folder of its own
set -euo pipefail
cd "$(dirname "$0")/.."
trap 'echo "go.sh: line $LINENO failed" >&2' ERR
prefix=${1:-}
if [[ -z $prefix ]]; then
    # The same folder each time: Go keeps what pkg-config said once.
    prefix=$PWD/target/go
    rm -rf "$prefix"
    trap 'rm -rf "$prefix"' EXIT
    make --no-print-directory -s install PREFIX="$prefix"
fi
command -v go > /dev/null || { echo "Go is missing: install Go 1.24 or newer from https://go.dev/dl" >&2; exit 1; }
export PKG_CONFIG_PATH=$prefix/lib/pkgconfig LD_LIBRARY_PATH=$prefix/lib GOFLAGS=-mod=readonly GOTOOLCHAIN=local
cd go
unformatted=$(gofmt -l .)
[[ -z $unformatted ]] || { echo "go.sh: gofmt: $unformatted" >&2; exit 1; }
go vet ./...
CGO_ENABLED=0 go vet ./...
run() { # WHAT COMMAND...
    echo "== Go: $1"
    shift
    "$@"
}
run "tests and examples" go test -count=1 -timeout 120s ./...
run "race detector" go test -race -count=1 -timeout 300s ./...
run "cgo's checks, collector always on" env GOEXPERIMENT=cgocheck2 GOGC=1 go test -count=1 -timeout 300s ./...
run "without cgo" env CGO_ENABLED=0 go test -count=1 -timeout 60s ./...
run "linked into the program" env -u LD_LIBRARY_PATH go test -tags rdma_engine_static -count=1 -timeout 120s -run 'Example|TestGetAndPut' ./...
