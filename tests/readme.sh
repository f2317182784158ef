#!/usr/bin/env bash
# Runs every ```sh block of the documents, each in its own shell in this folder, with the project installed as the
# documents say. A block that starts with ```sh no-run is for reading only (it would run this script again).
set -euo pipefail
cd "$(dirname "$0")/.."
# The same folder each time: Go keeps what pkg-config said once.
stage=$PWD/target/readme
rm -rf "$stage"
mkdir -p "$stage"
trap 'rm -rf "$stage"' EXIT
# Toolchains stay where they are, and what Go has fetched and compiled; what the documents put at home goes away again.
if command -v go > /dev/null; then
    GOCACHE=$(go env GOCACHE) GOMODCACHE=$(go env GOMODCACHE)
    export GOCACHE GOMODCACHE GOTOOLCHAIN=local
    . tests/seaweedfs/goflags.sh
fi
export CARGO_HOME=${CARGO_HOME:-$HOME/.cargo} RUSTUP_HOME=${RUSTUP_HOME:-$HOME/.rustup}
export HOME=$stage/home DEMO_MIB=8
export PATH=$HOME/.local/bin:$PATH PKG_CONFIG_PATH=$HOME/.local/lib/pkgconfig
mkdir "$HOME"
for document in README.md CONTRIBUTING.md docs/seaweedfs.md; do
    awk -v out="$stage/block" '
        /^```sh$/ { open = 1; count++; next }
        /^```/    { open = 0 }
        open      { print > sprintf("%s-%02d", out, count) }' "$document"
    for block in "$stage"/block-*; do
        [[ -e $block ]] || continue
        echo "== $document: $(head -1 "$block")"
        bash -euo pipefail "$block" < /dev/null
        rm "$block"
    done
done
