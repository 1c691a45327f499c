#!/usr/bin/env bash
# The demo, and then AWS's own client library on a sample of 200 of its items (scripts/opens.sh).
#
#   scripts/demo.sh [arguments of reseal demo]
#
# RESEAL_BIN names a reseal that is built already.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

if [ -z "${RESEAL_BIN:-}" ]; then
    cargo build --quiet --locked --release
    RESEAL_BIN=${CARGO_TARGET_DIR:-target}/release/reseal
fi
"$RESEAL_BIN" demo --keep "$work" "$@"
scripts/opens.sh "$RESEAL_BIN" "$work"
