#!/usr/bin/env bash
# The tree must build anywhere: no path of somebody's machine, no host but the public ones in tests/hosts.txt. And its files
# must be short.
set -euo pipefail
cd "$(dirname "$0")/.."
found=0
# The brackets keep this line from finding itself.
if git grep -nIE '(^|[^A-Za-z0-9_.~-])/([h]ome|[r]oot|[w]ork|[U]sers)/' -- . ':!tests/tree.sh'; then
    echo "tree.sh: paths of a machine" >&2
    found=1
fi
hosts=$(git grep -hoIE 'https?://[A-Za-z0-9.-]+' -- . | sed 's|.*//||' | sort -u)
if unknown=$(comm -23 <(echo "$hosts") <(sort tests/hosts.txt) | grep .); then
    echo "tree.sh: hosts that are not in tests/hosts.txt:" "$unknown" >&2
    found=1
fi
if grep '^source = ' Cargo.lock | grep -v '"registry+https://github.com/rust-lang/crates.io-index"'; then
    echo "tree.sh: Cargo.lock takes packages from elsewhere than crates.io" >&2
    found=1
fi
# A file is one noun: 400 lines, and no more than 500.
if git ls-files -z '*.rs' '*.go' | xargs -0 wc -l | awk '$2 != "total" && $1 > 500' | grep .; then
    echo "tree.sh: files of more than 500 lines" >&2
    found=1
fi
exit $found
