#!/usr/bin/env bash
# CPU time of sealing and opening items, reseal beside the official library: a Markdown table for docs/BENCHMARKS.md.
# They work in turns on the same items, one thread each, so that a busy machine disturbs both alike. The official
# library is built as interop.sh does, reseal as for a release.
set -euo pipefail
cd "$(dirname "$0")/.."

interop_target=${RESEAL_CACHE:-$HOME/.cache/reseal}/interop-target
CARGO_TARGET_DIR=$interop_target cargo build --quiet --release --workspace --manifest-path tests/interop/Cargo.toml
cargo bench --quiet --bench beside_official --no-run

official_version=$(sed -n '/^name = "aws-db-esdk"$/{n;s/version = "\(.*\)"/\1/p}' tests/interop/Cargo.lock)
printf '%s, %s, %s cores, %s, aws-db-esdk %s\n\n' "$(date -u +%F)" \
    "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo 2>/dev/null | head -1)" "$(getconf _NPROCESSORS_ONLN)" \
    "$(rustc --version)" "$official_version"
BENCHMARK_KEY=$(head -c 32 /dev/urandom | base64) \
    "$interop_target/release/compare" cargo bench --quiet --bench beside_official
