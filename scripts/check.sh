#!/usr/bin/env bash
# Everything that has to hold before a change lands, cheapest first. Stops at the first thing that does not.
#
#   RESEAL_VECTORS=DIR  the official test vectors; without it the tests that need them say that they were skipped
#   RESEAL_CACHE=DIR    where the build of AWS's own library is kept (default: ~/.cache/reseal)
set -euo pipefail
cd "$(dirname "$0")/.."

begun=$SECONDS
step() {
    printf '\n== %s (after %d s)\n' "$1" $((SECONDS - begun))
    shift
    printf '$ %s\n' "$*"
    "$@"
}

step 'Format' cargo fmt --all --check
step 'Lints' cargo clippy --locked --all-targets -- -D warnings
step 'Tests' cargo test --locked
step 'Lambda: lints' cargo clippy --locked --features lambda --lib --bin reseal-lambda --test lambda -- -D warnings
step 'Lambda: the function' cargo test --locked --features lambda --test lambda
step 'Lambda: its events' cargo test --locked --features lambda --lib cli::lambda
step 'Documentation' env RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps
if command -v cargo-deny >/dev/null; then
    step 'Dependencies' cargo deny --offline check bans licenses sources
else
    printf '\n== Dependencies: skipped, cargo-deny is not installed\n'
fi
step 'Demo' cargo run --locked --release -- demo
step 'Simulation' scripts/simulate.sh 0 20000
step 'Interoperability' scripts/interop.sh
step 'The demo, and the official client' scripts/demo.sh --items 2000

printf '\nEverything holds (%d s).\n' $((SECONDS - begun))
