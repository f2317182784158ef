#!/usr/bin/env bash
# A server under mixed traffic: its memory and its descriptors must not grow. Usage: soak.sh RDE
set -euo pipefail
rde=$1
seconds=${SOAK_SECONDS:-600}
folder=$(mktemp -d)
server=
trap '[[ -z $server ]] || kill "$server" 2> /dev/null || true; rm -rf "$folder"' EXIT
head -c 64M /dev/urandom > "$folder/file"
mkfifo "$folder/hello"
"$rde" --json serve --listen "unix://$folder/socket" --listen tcp://127.0.0.1:0 --file "$folder/file" > "$folder/hello" &
server=$!
exec 3< "$folder/hello"
read -r hello <&3
addresses=$(grep -oE '(unix|tcp)://[^"]+' <<< "$hello")

resident() { awk '/^VmRSS/ { print $2 }' "/proc/$server/status"; }
descriptors() { find "/proc/$server/fd" | wc -l; }
round() {
    for address in $addresses; do
        "$rde" get "$address/file" -o "$folder/out" > /dev/null
        cmp "$folder/file" "$folder/out"
        "$rde" ping "$address" -c 100 -i 0us > /dev/null
        for operation in get put message; do
            "$rde" perf "$operation" "$address" --iterations 10000 --sizes 8,4KiB > /dev/null
        done
    done
}

round # what is set up once is set up now
start_kib=$(resident) start_fds=$(descriptors)
rounds=0
while ((rounds == 0 || SECONDS < seconds)); do
    round
    rounds=$((rounds + 1))
done
end_kib=$(resident) end_fds=$(descriptors)
echo "$rounds rounds: $start_kib -> $end_kib KiB resident, $start_fds -> $end_fds descriptors"
((end_kib <= start_kib + start_kib / 20)) || { echo "soak.sh: memory grew" >&2; exit 1; }
((end_fds <= start_fds)) || { echo "soak.sh: descriptors leak" >&2; exit 1; }
kill -TERM "$server"
wait "$server"
server=
