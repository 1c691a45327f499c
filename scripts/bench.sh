#!/usr/bin/env bash
# What the engine costs, beside the SDK and the format alone and beside boto3: Markdown tables for docs/BENCHMARKS.md.
#
#   scripts/bench.sh [ROUNDS]
#
# The service is a process on this machine that answers at once and whose time is not counted (benches/engine). Every
# worker is a process of its own that reads its own CPU clock; they work in turns, ROUNDS times (11), so that a busy
# machine disturbs all alike. Then: the tail's page function, memory, answers that come late, and a minute under each budget.
#
# Needs Rust, a C compiler, and Python 3 with venv; boto3 and cryptography are installed into
# ${RESEAL_CACHE:-~/.cache/reseal}/bench-venv, outside the clone.
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=${1:-11}
venv=${RESEAL_CACHE:-$HOME/.cache/reseal}/bench-venv
if ! "$venv/bin/python" -c 'import boto3, cryptography' 2>/dev/null; then
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet boto3 cryptography
fi
cargo bench --quiet --locked --bench engine --bench engine_memory --no-run

printf '%s, %s, %s cores, %s, %s\n\n' "$(date -u +%F)" \
    "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo 2>/dev/null | head -1)" "$(getconf _NPROCESSORS_ONLN)" \
    "$(rustc --version)" "$("$venv/bin/python" -c 'import sys, boto3, cryptography as c
print(f"Python {sys.version.split()[0]}, boto3 {boto3.__version__}, cryptography {c.__version__}")')"
cargo bench --quiet --locked --bench engine -- compare "$rounds" "$venv/bin/python"
cargo bench --quiet --locked --bench engine -- records "$rounds"
cargo bench --quiet --locked --bench engine_memory -- memory
cargo bench --quiet --locked --bench engine -- latency
cargo bench --quiet --locked --bench engine -- budgets
