#!/usr/bin/env bash
# Installs into a folder of its own, builds and runs C programs against that copy, uninstalls, finds nothing left.
set -euo pipefail
cd "$(dirname "$0")/.."
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
trap 'echo "install.sh: line $LINENO failed" >&2' ERR
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)

layout() { (cd "$stage" && find . -not -type d | sort); }

# Debian's multiarch folder under a DESTDIR, as a package would.
make --no-print-directory -s install DESTDIR="$stage" PREFIX=/usr LIBDIR=/usr/lib/multi-arch
diff <(layout) <(cat << END
./usr/bin/rde
./usr/include/rdma_engine.h
./usr/include/rdma_engine.hpp
./usr/lib/multi-arch/librdma_engine.a
./usr/lib/multi-arch/librdma_engine.so
./usr/lib/multi-arch/librdma_engine.so.0
./usr/lib/multi-arch/librdma_engine.so.$version
./usr/lib/multi-arch/pkgconfig/rdma_engine.pc
./usr/lib/multi-arch/pkgconfig/rdma_engine_static.pc
END
)
grep -qx 'libdir=/usr/lib/multi-arch' "$stage/usr/lib/multi-arch/pkgconfig/rdma_engine.pc"
make --no-print-directory -s uninstall DESTDIR="$stage" PREFIX=/usr LIBDIR=/usr/lib/multi-arch
[[ -z $(layout) ]] || { echo "install.sh: uninstall left:" >&2; layout >&2; exit 1; }
rm -rf "${stage:?}"/*

# A prefix that programs can be built against.
make --no-print-directory -s install PREFIX="$stage"
export PKG_CONFIG_PATH=$stage/lib/pkgconfig
[[ $(pkg-config --modversion rdma_engine) == "$version" ]]
readelf -d "$stage/lib/librdma_engine.so" | grep -q 'SONAME.*\[librdma_engine\.so\.0\]'
[[ $("$stage/bin/rde" --version) == "rde $version" ]]

# The C and C++ tests of the interface: plain, under the sanitizers, under valgrind.
mkdir "$stage/c"
echo "== C and C++: gcc"
tests/c/run.sh "$stage/c/gcc" -O2 -g
echo "== C and C++: clang, address and undefined behaviour"
CC=clang CXX=clang++ tests/c/run.sh "$stage/c/sanitizers" -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all
# Fair: threads that spin would keep the one thread at a time that valgrind runs from the others.
echo "== C and C++: valgrind"
RUNNER="valgrind --quiet --fair-sched=yes --error-exitcode=9 --leak-check=full --show-leak-kinds=definite
    --errors-for-leak-kinds=definite --suppressions=tests/c/valgrind.supp" tests/c/run.sh "$stage/c/valgrind" -O1 -g

mkdir "$stage/examples"
read -ra shared <<< "$(pkg-config --cflags --libs rdma_engine) -Wl,-rpath,$stage/lib"
read -ra static <<< "$(pkg-config --cflags rdma_engine) $stage/lib/librdma_engine.a $(pkg-config --libs-only-l --static rdma_engine | sed 's/-lrdma_engine//')"
for compiler in gcc clang; do
    for kind in shared static; do
        declare -n flags=$kind
        for name in hello epoll_loop transfer kv; do
            sources=("c-examples/$name.c")
            [[ $name != transfer ]] || sources+=(c-examples/sha256.c)
            "$compiler" -std=c11 -O2 -Wall -Wextra -Wpedantic -Werror "${sources[@]}" -o "$stage/examples/$name-$kind" "${flags[@]}"
        done
        echo "== examples: $compiler, $kind"
        [[ $("$stage/examples/hello-$kind") == "Hello from the other side's memory." ]]
        [[ $("$stage/examples/kv-$kind" "$stage/store-$compiler-$kind" | tail -1) == "user000498: the value of user 498" ]]
        # A short message, an empty one, and one too long to travel in a completion.
        long=$(printf 'x%.0s' {1..1000})
        [[ $(printf 'one\n\n%s\nlast' "$long" | "$stage/examples/epoll_loop-$kind") == $'one\n\n'"$long"$'\nlast' ]]
    done
done
# A server of calls and its client in C, and both in one program in C++.
for kind in shared static; do
    declare -n flags=$kind
    for name in rpc_server rpc_client; do
        cc -std=c11 -O2 -Wall -Wextra -Wpedantic -Werror "c-examples/$name.c" -o "$stage/examples/$name-$kind" "${flags[@]}"
    done
    c++ -std=c++17 -O2 -Wall -Wextra -Wpedantic -Werror c-examples/rpc.cc -o "$stage/examples/rpc-$kind" "${flags[@]}" -pthread
    echo "== examples: calls, $kind"
    for address in tcp://127.0.0.1:0 "unix://$stage/rpc.sock"; do
        c-examples/rpc_demo.sh "$stage/examples/rpc_server-$kind" "$stage/examples/rpc_client-$kind" "$address" > "$stage/said"
        [[ $(grep -A1 'get colour' "$stage/said" | tail -1) == "  green" ]]
        [[ $(tail -1 "$stage/said") == "the server has ended" ]]
    done
    diff <("$stage/examples/rpc-$kind") <(printf 'connected: OK\nEVERY CALL IS ANSWERED ONCE\nstop: OK\n')
done
g++ -std=c++17 -O2 -Wall -Wextra -Wpedantic -Werror c-examples/eloqstore.cc -o "$stage/examples/eloqstore" "${shared[@]}"
echo "store_path=store-gcc-shared" > "$stage/options.txt"
[[ $("$stage/examples/eloqstore" "$stage/options.txt") == "users.7: 1000 entries, 30890 bytes" ]]
DEMO_MIB=8 c-examples/demo.sh "$stage/examples/transfer-shared" | tee "$stage/table"
[[ $(grep -c ' same$' "$stage/table") == 2 ]]
# A pipe gets no progress bar.
DEMO_MIB=1 c-examples/demo.sh "$stage/examples/transfer-shared" > "$stage/table" 2>&1
if grep -q $'\r' "$stage/table"; then
    echo "install.sh: the demo draws a bar where there is no terminal" >&2
    exit 1
fi
