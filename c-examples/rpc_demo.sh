#!/usr/bin/env bash
# A server of calls and its client as processes, one call after the other. Usage: rpc_demo.sh SERVER CLIENT ADDRESS
set -euo pipefail
folder=$(mktemp -d)
server=
trap '[[ -z $server ]] || kill "$server" 2> /dev/null || true; rm -rf "$folder"' EXIT
mkfifo "$folder/said"
"$1" "$3" > "$folder/said" &
server=$!
read -r address < "$folder/said"
call() { echo "$*"; "$client" "$address" "$@" | sed 's/^/  /'; }
client=$2
call echo "every call is answered once"
# Longer than what fits a completion, and than what fits a frame.
call echo "$(printf 'x%.0s' {1..100})"
call echo "$(printf 'y%.0s' {1..5000})" | md5sum | cut -c 1-8
call put colour blue
call put colour green
call get colour
call delete colour
if "$client" "$address" get colour; then
    echo "a deleted key is still there" >&2
    exit 1
fi
"$client" "$address" stop
wait "$server"
server=
echo "the server has ended"
