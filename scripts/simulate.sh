#!/usr/bin/env bash
# Runs the engine in simulated worlds: applications at its worst moments, services that fail, processes that die.
#
#   scripts/simulate.sh FROM COUNT       so many worlds, from this seed on; stops at the first in which an invariant of
#                                        docs/SAFETY.md is violated, and shows it, made smaller
#   scripts/simulate.sh SEED 1 --trace   one world, step by step
#   scripts/simulate.sh 0 1000 --mistakes   plants each known mistake and counts the seeds until it is caught
set -euo pipefail
cd "$(dirname "$0")/.."
exec cargo run --locked --release --quiet --example simulate -- "${@:-0}"
