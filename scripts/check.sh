#!/usr/bin/env bash
# The long checks of `make check` that need a nightly toolchain. What cannot run here is said, and fails.
#   FUZZ_SECONDS=60 scripts/check.sh [TARGET...]    TARGET: "miri", or one of `cargo fuzz list`; without any, all
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${FUZZ_SECONDS:-60}

scripts/setup.sh check
mapfile -t targets < <(cargo +nightly fuzz list)
wanted=("$@")
((${#wanted[@]})) || wanted=(miri "${targets[@]}")

for target in "${wanted[@]}"; do
    if [[ $target == miri ]]; then
        echo "== Miri: handles, inboxes and slots"
        cargo +nightly miri test --locked --lib --no-default-features -- engine::{handle,inbox,slots}::
    else
        echo "== fuzz $target for $seconds s"
        # What it finds stays out of the tree: the first folder is written to.
        mkdir -p "fuzz/target/corpus/$target" "fuzz/corpus/$target"
        cargo +nightly fuzz run "$target" "fuzz/target/corpus/$target" "fuzz/corpus/$target" -- -max_total_time="$seconds" -verbosity=0
    fi
done
