#!/bin/sh
# Does ucx_raw measure what UCX's own ucx_perftest measures? Half round trips of an 8 B active message, in turn.
# usage: compare_perftest.sh UCX_RAW [ROUNDS]
set -eu
raw=${1:?usage: compare_perftest.sh UCX_RAW [ROUNDS]}
rounds=${2:-5}
port=13377
export UCX_NET_DEVICES=lo UCX_WARN_UNUSED_ENV_VARS=n

perftest() {
    taskset -c 1 ucx_perftest -p $port -t ucp_am_lat -s 8 >/dev/null 2>&1 &
    server=$!
    # The server is ready when its port accepts; a refused client simply tries again.
    tries=0
    until out=$(taskset -c 0 ucx_perftest 127.0.0.1 -p $port -t ucp_am_lat -s 8 -n "$1" -w 1000 -f 2>/dev/null) &&
        [ -n "$out" ]; do
        tries=$((tries + 1))
        [ $tries -lt 100 ] || { echo "ucx_perftest does not answer" >&2; kill $server; exit 1; }
    done
    wait $server
    # Iterations, then the median, the mean and the mean of the last interval, in microseconds.
    echo "$out" | awk '$1 ~ /^[0-9]+$/ { line = $0 } END { split(line, f); print f[2] }'
}

printf '%-10s %16s %16s\n' transport 'ucx_raw us' 'ucx_perftest us'
for pair in posix,cma:1000000 tcp:50000; do
    UCX_TLS=${pair%:*}
    export UCX_TLS
    for _ in $(seq "$rounds"); do
        ours=$("$raw" am_lat | sed 's/.*"half_round_trip_us":\([0-9.]*\).*/\1/')
        printf '%-10s %16s %16s\n' "$UCX_TLS" "$ours" "$(perftest "${pair#*:}")"
    done
done
