#!/usr/bin/env bash
# The long checks of `make check` that need a nightly toolchain. What cannot run here is said, and fails.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${FUZZ_SECONDS:-60}

cargo +nightly --version > /dev/null || { echo "Run: rustup toolchain install nightly --component miri" >&2; exit 1; }

echo "== Miri: handles and queues"
cargo +nightly miri test --locked --lib --no-default-features -- handle queue ring

if [[ -d fuzz ]]; then
    cargo +nightly fuzz --version > /dev/null || { echo "Run: cargo install cargo-fuzz" >&2; exit 1; }
    for target in $(cargo +nightly fuzz list); do
        echo "== fuzz $target for $seconds s"
        cargo +nightly fuzz run "$target" -- -max_total_time="$seconds" -verbosity=0
    done
fi
