#!/bin/sh
# Builds SeaweedFS's own `weed` from its Go module, for `RDE_WEED=… cargo test --test seaweedfs`.
# usage: build-weed.sh OUTPUT [VERSION]; needs Go 1.26 and the Go module proxy. Writes only OUTPUT and a scratch folder.
set -eu
output=${1:?usage: build-weed.sh OUTPUT [VERSION]}
version=${2:-v0.0.0-20260608063757-78da9572aee7}
case $output in /*) ;; *) output=$PWD/$output ;; esac
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
go mod init weed-build
go get "github.com/seaweedfs/seaweedfs/weed@$version"
CGO_ENABLED=0 go build -o "$output" github.com/seaweedfs/seaweedfs/weed
"$output" version
