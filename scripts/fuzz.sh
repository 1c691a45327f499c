#!/usr/bin/env bash
# Fuzzes everything that reads bytes of others: header, footer, encrypted data keys, attribute values, whole items,
# DynamoDB JSON, job file, journal.
#
#   scripts/fuzz.sh MINUTES [TARGET...]
#
# Builds the targets of tests/fuzz once, runs each for so many minutes, two at a time, and prints a table. Exits 1 when
# there is a finding, and says how to see it again and how to make it small. What a target learns is kept under
# tests/fuzz/target, so that the next run goes on from there; it begins with the committed tests/fuzz/corpus.
#
# Needs a stable Rust and a C++ compiler; installs cargo-fuzz if it is missing. The build takes some minutes, because
# every dependency is built once more with coverage counters, and fuzzing is never done: for both reasons this is no part
# of .ci/run. The committed corpora are, as tests/corpus.rs.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! [[ ${1:-} =~ ^[1-9][0-9]*$ ]]; then
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"
    exit 2
fi
minutes=$1
shift

if ! command -v cargo-fuzz >/dev/null; then
    echo 'installing cargo-fuzz'
    cargo install --quiet --locked cargo-fuzz
fi
fuzz=(--fuzz-dir tests/fuzz --sanitizer none)
cargo fuzz build "${fuzz[@]}"
if [ $# -eq 0 ]; then
    mapfile -t targets < <(cargo fuzz list --fuzz-dir tests/fuzz)
else
    targets=("$@")
fi

out=tests/fuzz/target
bin=$out/$(rustc -vV | sed -n 's/^host: //p')/release
# The journal's target writes files: in memory where that can be.
work=$(mktemp -d -p "$([ -w /dev/shm ] && echo /dev/shm || echo "${TMPDIR:-/tmp}")")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

# run TARGET: leaves its log, and a file for each finding. libFuzzer ends a target at its first one.
run() {
    mkdir -p "$out/corpus/$1" "$out/artifacts/$1"
    touch "$work/$1.begun"
    TMPDIR=$work "$bin/$1" "$out/corpus/$1" "tests/fuzz/corpus/$1" -max_total_time=$((minutes * 60)) -max_len=4096 \
        -timeout=10 -rss_limit_mb=512 -print_final_stats=1 -dict=tests/fuzz/words.dict \
        "-artifact_prefix=$out/artifacts/$1/" >"$out/$1.log" 2>&1 || touch "$work/$1.failed"
}
export -f run
export out bin work minutes
printf '%s\n' "${targets[@]}" | xargs -P 2 -I '{}' bash -c 'run {}'

findings=()
failed=0
printf '%-10s %14s %14s %14s\n' target executions 'corpus files' 'new findings'
for target in "${targets[@]}"; do
    mapfile -t new < <(find "$out/artifacts/$target" -type f -newer "$work/$target.begun")
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$out/$target.log")
    corpus=$(find "$out/corpus/$target" "tests/fuzz/corpus/$target" -type f | wc -l)
    printf '%-10s %14s %14s %14s\n' "$target" "${executions:-none}" "$corpus" "${#new[@]}"
    findings+=("${new[@]}")
    if [ -e "$work/$target.failed" ] || [ -z "$executions" ]; then
        failed=1
        echo "  $target did not run to its end: $out/$target.log"
    fi
done
for finding in "${findings[@]}"; do
    target=$(basename "$(dirname "$finding")")
    printf '\n%s\n  again:  cargo fuzz run %s %s %s\n  small:  cargo fuzz tmin %s %s %s\n' \
        "$finding" "${fuzz[*]}" "$target" "$finding" "${fuzz[*]}" "$target" "$finding"
done
exit "$failed"
