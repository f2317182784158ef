#!/usr/bin/env bash
# Prints rdma_engine.pc, or rdma_engine_static.pc. Usage: pc.sh PREFIX LIBDIR VERSION [NAME]
set -euo pipefail
cd "$(dirname "$0")/.."
# What a program needs beside the static library: the Rust standard library's own list. UCX is loaded at run time.
# rustc replaces its output file: as root it would replace a device.
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
private=$(echo | rustc --crate-type staticlib --crate-name probe --print native-static-libs -o "$folder/probe.a" - 2>&1 |
    sed -n 's/^note: native-static-libs: //p')
[[ -n $private ]] || { echo "pc.sh: rustc did not say which libraries it needs" >&2; exit 1; }
sed -e "s|@PREFIX@|$1|" -e "s|@LIBDIR@|$2|" -e "s|@VERSION@|$3|" -e "s|@PRIVATE@|$private|" "${4:-rdma_engine}.pc.in"
