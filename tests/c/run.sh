#!/bin/sh
# Compiles the C and C++ tests against the installed library and runs them:
#   PKG_CONFIG_PATH=PREFIX/lib/pkgconfig tests/c/run.sh BUILD_DIR [CFLAGS...]
# CC, CXX: the compilers. RUNNER: put before each program, such as "valgrind ...". TESTS: only these, by name.
# With a sanitizer in CFLAGS, checks that the programs really carry it.
set -eu
[ $# -ge 1 ] || { echo "usage: $0 BUILD_DIR [CFLAGS...]" >&2; exit 2; }
build=$1
shift
here=$(cd "$(dirname "$0")" && pwd)
cpp=$here/../cpp
mkdir -p "$build"
pkg-config --exists rdma_engine || { echo "rdma_engine.pc is not found: make install, and set PKG_CONFIG_PATH" >&2; exit 2; }
libdir=$(pkg-config --variable=libdir rdma_engine)
warnings="-Wall -Wextra -Wpedantic -Werror"
# Unquoted on purpose: these are lists of flags.
flags="$warnings -pthread $(pkg-config --cflags rdma_engine)"
libs="$(pkg-config --libs rdma_engine) -Wl,-rpath,$libdir"

# To a sanitizer a child without its parent's threads, and a program that ends in the middle, look as if they leaked.
case " $* " in *-fsanitize=*) export RDE_LEAKS_CHECKED=1 ;; esac

passed=0
failed=0
check() { # NAME: runs a program that was built
    name=$1
    if ${RUNNER:-} "$build/$name" >"$build/$name.log" 2>&1; then
        passed=$((passed + 1))
        sed "s/^/$name: /" "$build/$name.log"
        echo "PASS $name"
    else
        code=$?
        failed=$((failed + 1))
        sed "s/^/$name: /" "$build/$name.log"
        echo "FAIL $name (exit code $code)"
    fi
}

wanted() { # NAME: whether TESTS asks for it
    [ -z "${TESTS:-}" ] && return 0
    case " $TESTS " in *" $1 "*) return 0 ;; esac
    return 1
}

for source in "$here"/*.c; do
    name=$(basename "$source" .c)
    case $name in double_include_b) continue ;; esac
    wanted "$name" || continue
    # valgrind runs one thread at a time, which makes no races, and follows forks into children without their threads.
    case "${RUNNER:-} $name" in *valgrind*\ races | *valgrind*\ process) continue ;; esac
    extra=
    [ "$name" = double_include_a ] && extra=$here/double_include_b.c
    ${CC:-cc} -std=c11 $flags "$@" -o "$build/$name" "$source" $extra $libs
    check "$name"
done
for source in "$cpp"/*.cc; do
    name=$(basename "$source" .cc)
    wanted "$name" || continue
    ${CXX:-c++} -std=c++17 $flags "$@" -o "$build/$name" "$source" $libs
    check "$name"
done
if wanted header_only; then
    # The C header from C++, and the C++ header without exceptions.
    ${CXX:-c++} -std=c++17 $flags "$@" -x c++ -o "$build/header_only_cc" "$here/header_only.c" -x none $libs
    check header_only_cc
    ${CXX:-c++} -std=c++17 $flags "$@" -fno-exceptions -fno-rtti -fsyntax-only "$cpp/raii.cc"
fi
case " $* " in
*-fsanitize=*address*)
    for program in "$build"/*; do
        [ -x "$program" ] && [ -f "$program" ] || continue
        nm "$program" | grep -q __asan_init || { echo "FAIL $program has no AddressSanitizer"; failed=$((failed + 1)); }
    done
    ;;
esac
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
