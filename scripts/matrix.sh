#!/usr/bin/env bash
# Rotates a table from every keyring to every other, both suites, both depths: scripts/matrix.sh [ITEMS]
set -euo pipefail
cd "$(dirname "$0")/.."
RESEAL_MATRIX_ITEMS=${1:-500} cargo test --locked --release --test run rotate
