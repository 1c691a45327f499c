#!/usr/bin/env bash
# Follows a table's stream while applications write, and shows that the tail keeps up and loses nothing: scripts/soak.rs.
#
#   scripts/soak.sh [--seconds N] [--writes-per-second N] [--customers N] [--seed N]
#
# Without arguments: 10 minutes, 100 writes per second by eight writers to 2000 customers. Prints a table of what the tail
# did and took. Exits 1 when an item is lost, resurrected, changed, unreadable or in plaintext, when reseal wrote more
# often than the applications, when the tail's memory grew, or when it lagged behind by 5 s; it keeps the files then.
#
# RESEAL_BIN names a reseal that is built already.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
finish() {
    local code=$?
    if [ "$code" -eq 0 ]; then rm -rf "$work"; else echo "what is left of it: $work" >&2; fi
}
trap finish EXIT
trap 'exit 130' INT TERM

if [ -z "${RESEAL_BIN:-}" ]; then
    cargo build --quiet --release
    RESEAL_BIN=${CARGO_TARGET_DIR:-target}/release/reseal
fi
# The test itself is no faster for being optimised: the stand-ins and the tail are processes of their own.
cargo run --quiet --example soak -- --reseal "$(realpath "$RESEAL_BIN")" --work "$work" "$@"
