#!/usr/bin/env bash
# Go beside C: the same gets from the same process, in turn; medians of ROUNDS (5) rounds, in nanoseconds.
#   benches/go/run.sh [PREFIX]    an installed copy; without one it installs the release build into a folder of its own
set -euo pipefail
cd "$(dirname "$0")"
folder=$(mktemp -d)
server=
trap '[[ -z $server ]] || kill "$server" 2> /dev/null || true; rm -rf "$folder"' EXIT
prefix=${1:-$folder/installed}
[[ -n ${1:-} ]] || make -C ../.. --no-print-directory -s install PREFIX="$prefix" PROFILE=release
export PKG_CONFIG_PATH=$prefix/lib/pkgconfig LD_LIBRARY_PATH=$prefix/lib GOFLAGS=-mod=mod GOTOOLCHAIN=local
read -ra flags <<< "$(pkg-config --cflags --libs rdma_engine)"
"${CC:-cc}" -std=c11 -O2 -Wall -Wextra -Werror c/get.c -o "$folder/get_c" "${flags[@]}"
go build -o "$folder/get_go" .

mkfifo "$folder/hold"
: > "$folder/ticket"
"$folder/get_go" serve < "$folder/hold" > "$folder/ticket" &
server=$!
exec 9> "$folder/hold"
until read -r address key < "$folder/ticket"; do kill -0 "$server" && sleep 0.05; done

middle() { tr ' ' '\n' | sort -g | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }
column() { awk -v n="$1" '{print $n}' "$2" | middle; }
printf '%-10s %-7s %6s | %9s %9s %9s | %9s %9s %9s %12s\n' transport driver bytes 'C one' 'Go one' over \
    'C 64' 'Go 64' over '64 routines'
for transports in 7 2; do
    for driver in caller thread; do
        for size in 8 4096; do
            rm -f "$folder"/*.figures
            for _ in $(seq "${ROUNDS:-5}"); do
                "$folder/get_c" "$address" "$key" $transports $driver $size >> "$folder/c.figures"
                "$folder/get_go" "$address" "$key" $transports $driver $size >> "$folder/go.figures"
            done
            c1=$(column 1 "$folder/c.figures") g1=$(column 1 "$folder/go.figures")
            c64=$(column 2 "$folder/c.figures") g64=$(column 2 "$folder/go.figures") g=$(column 3 "$folder/go.figures")
            awk -v t="$([[ $transports == 7 ]] && echo mapped || echo tcp)" -v d=$driver -v s=$size -v a="$c1" -v b="$g1" \
                -v c="$c64" -v e="$g64" -v g="$g" 'BEGIN {printf "%-10s %-7s %6d | %9.0f %9.0f %+9.0f | %9.0f %9.0f %+9.0f %12.0f\n",
                t, d, s, a, b, b - a, c, e, e - c, g}'
        done
    done
done
