#!/usr/bin/env bash
# Kills a run with SIGKILL again and again while applications write, and shows that nothing is lost: scripts/kill.rs.
# Then AWS's own client library opens a sample of what is in the table (scripts/opens.sh).
#
#   scripts/kill.sh [--tail] [--seed N] [--items N] [--kills N] [--keyring raw-aes|aws-kms]
#
# Without arguments: 20 000 items, 20 kills, seed 1; some minutes. Everything is drawn from the seed but the machine's
# own timing. With --tail the run follows the table's stream as well. Exits 1 when an item is lost, resurrected, changed
# or unreadable, or, with --tail, when somebody's writes are more than they should be; it keeps the files then.
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
reseal=$(realpath "$RESEAL_BIN")
# The test itself is no faster for being optimised: the stand-ins and the run are processes of their own.
cargo run --quiet --example kill -- --reseal "$reseal" --work "$work" "$@"

scripts/opens.sh "$reseal" "$work"
