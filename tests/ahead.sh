#!/usr/bin/env bash
# Runs a command, and compiles SeaweedFS's packages meanwhile with what time the command leaves: for tests/seaweedfs.sh, which
# compiles what is missing, and says what is wrong.
#   tests/ahead.sh COMMAND...
set -euo pipefail
cd "$(dirname "$0")/.."
if command -v go > /dev/null; then
    . tests/seaweedfs/goflags.sh
    (
        cd go/seaweedfs
        export GOTOOLCHAIN=local
        # Not the engine's own package, which needs the library.
        packages=$(go list -deps -f '{{if not .Standard}}{{.ImportPath}}{{end}}' ./... | grep -v '^rdma-engine')
        exec nice -n 19 go build $packages
    ) > /dev/null 2>&1 &
    ahead=$!
    unset GOFLAGS
    trap 'kill $ahead 2> /dev/null || true; wait $ahead 2> /dev/null || true' EXIT
fi
"$@"
