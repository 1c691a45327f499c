#!/usr/bin/env bash
# Rotates a table from every keyring to every other, both suites, both depths, and a large table under one branch key.
#
#   scripts/matrix.sh [ITEMS [LARGE]]      items of the one table (500) and of the other (100000)
set -euo pipefail
cd "$(dirname "$0")/.."
export RESEAL_MATRIX_ITEMS=${1:-500} RESEAL_LARGE_ITEMS=${2:-100000}
cargo test --locked --release --test run -- every_pair
cargo test --locked --release --test run -- --ignored --nocapture a_large_table
