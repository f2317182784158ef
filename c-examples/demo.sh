#!/usr/bin/env bash
# The demo: `transfer serve` and `transfer fetch` as two processes. Usage: demo.sh TRANSFER [FILE]
# Without a file it makes one of DEMO_MIB (256) MiB and removes it afterwards.
set -euo pipefail
transfer=$1
file=${2:-}
if [[ -z $file ]]; then
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    file=$folder/file
    head -c "${DEMO_MIB:-256}M" /dev/urandom > "$file"
fi
"$transfer" serve "$file" | "$transfer" fetch
