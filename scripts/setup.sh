#!/usr/bin/env bash
# Installs what is missing, on Debian and its like; elsewhere says what to install. Silent when all is there.
# `setup.sh demo` leaves out what only tests need.
# `setup.sh bench` adds what raw UCX and RocksDB are measured with, `setup.sh check` a nightly toolchain with Miri, and cargo-fuzz.
set -euo pipefail

# Programs to build and test with, and the Debian packages that have them.
declare -A needed=(
    [gcc]=gcc [g++]=g++ [clang]=clang [pkg-config]=pkg-config [valgrind]=valgrind [git]=git [ip]=iproute2 [curl]=curl
)
[[ ${1:-} != demo ]] || needed=([gcc]=gcc)
missing=()
for program in "${!needed[@]}"; do
    PATH=$PATH:/sbin:/usr/sbin command -v "$program" > /dev/null || missing+=("${needed[$program]}")
done
# UCX is loaded at run time: the library, no headers. One that RDE_UCX_LIBRARY names is as good.
ucx_is_there() {
    [[ -n ${RDE_UCX_LIBRARY:-} && -e $RDE_UCX_LIBRARY ]] || PATH=$PATH:/sbin:/usr/sbin ldconfig -p | grep -q 'libucp\.so\.0'
}
ucx_is_there || missing+=(libucx0)
[[ -e /usr/include/stdio.h ]] || missing+=(libc6-dev)
if [[ ${1:-} == bench ]]; then
    [[ -e /usr/include/ucp/api/ucp.h ]] || missing+=(libucx-dev)
    command -v ucx_perftest > /dev/null || missing+=(ucx-utils)
    command -v fio > /dev/null || missing+=(fio)
    [[ -e /usr/include/rocksdb/c.h ]] || missing+=(librocksdb-dev)
    # RocksDB's binding is made by libclang.
    compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' > /dev/null || missing+=(libclang-dev)
fi

install() {
    if ! command -v apt-get > /dev/null; then
        echo "Please install, by the names your system gives them: $* (UCX 1.13 or newer, libucp.so.0)." >&2
        exit 1
    fi
    local as_root=()
    if ((EUID != 0)); then
        command -v sudo > /dev/null || { echo "As root: apt-get install $*" >&2; exit 1; }
        as_root=(sudo)
    fi
    echo "Installing $*"
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" > /dev/null || {
        # The lists of packages may be missing or old.
        "${as_root[@]}" apt-get update > /dev/null
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" > /dev/null
    }
}
if ((${#missing[@]})); then install "${missing[@]}"; fi

# The sanitizers' libraries come beside the compiler, under its version.
if [[ ${1:-} != demo ]]; then
    asan=$(clang -print-file-name="libclang_rt.asan-$(uname -m).a")
    [[ -e $asan ]] || install "libclang-rt-$(clang -dumpversion | cut -d. -f1)-dev"
fi

if ! command -v cargo > /dev/null; then
    echo "Rust is missing: install rustup from https://rustup.rs, then run: rustup toolchain install stable" >&2
    exit 1
fi
wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$(dirname "$0")/../Cargo.toml")
have=$(rustc --version | cut -d' ' -f2)
if [[ $(printf '%s\n' "$wanted" "$have" | sort -V | head -1) != "$wanted" ]]; then
    echo "Rust $have is too old: $wanted or newer is needed. Run: rustup update stable" >&2
    exit 1
fi
[[ ${1:-} != demo ]] || exit 0
for component in rustfmt clippy; do
    cargo "${component/rustfmt/fmt}" --version > /dev/null 2>&1 || rustup component add "$component"
done
if [[ ${1:-} == check ]]; then
    command -v rustup > /dev/null || { echo "rustup is missing: install it from https://rustup.rs" >&2; exit 1; }
    cargo +nightly --version > /dev/null 2>&1 || rustup toolchain install nightly --profile minimal
    cargo +nightly miri --version > /dev/null 2>&1 || rustup component add --toolchain nightly miri rust-src
    cargo fuzz --version > /dev/null 2>&1 || cargo install --locked cargo-fuzz
fi
