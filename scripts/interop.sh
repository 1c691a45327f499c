#!/usr/bin/env bash
# Interoperability with AWS's own client library, in both directions.
#
#   scripts/interop.sh [--seed N] [--count N] [--case PATTERN]
#
# For every case of `cases list` (keyring, algorithm suite, header version, shape of the items) each program seals
# the same items, and each opens what either has sealed:
#   * sealed items have the form that the job asks for, attributes that are not encrypted are untouched;
#   * opened items equal the originals, encrypted numbers and sets in canonical form;
#   * damaged items, items of another table and items under another key are refused, line by line, with exit code 4.
# Prints a line per case and at the end "N passed, M failed" (one check is one program doing one file of one case).
# Exits 1 when a check fails.
#
# Needs Rust and a C compiler. The first build of the official library takes about 15 minutes of CPU; it is kept in
# ${RESEAL_CACHE:-~/.cache/reseal}/interop-target, outside the clone. KMS is `reseal local`, on a free port of this
# machine; it is stopped at the end, however that comes. RESEAL_BIN names a reseal that is built already.
set -euo pipefail
cd "$(dirname "$0")/.."

seed=1
count=20
pattern='*'
while [ $# -gt 0 ]; do
    case "$1" in
        --seed) seed=$2 ;;
        --count) count=$2 ;;
        --case) pattern=$2 ;;
        *) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"; exit 2 ;;
    esac
    shift 2
done

work=$(mktemp -d)
server=
finish() {
    [ -z "$server" ] || { kill "$server" && wait "$server"; } 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

interop_target=${RESEAL_CACHE:-$HOME/.cache/reseal}/interop-target
# The whole workspace at once: a part alone would choose other features and build the official library again.
CARGO_TARGET_DIR=$interop_target cargo build --quiet --release --workspace --manifest-path tests/interop/Cargo.toml
if [ -z "${RESEAL_BIN:-}" ]; then
    cargo build --quiet --release
    RESEAL_BIN=${CARGO_TARGET_DIR:-target}/release/reseal
fi
reseal=$(realpath "$RESEAL_BIN")
official=$(realpath "$interop_target/release/official")
cases=$(realpath "$interop_target/release/cases")
programs=(official reseal)

# item PROGRAM seal|open ...: the same command of either program.
item() {
    local which=$1
    shift
    case $which in
        official) "$official" "$@" ;;
        reseal) "$reseal" item "$@" ;;
    esac
}

start_kms() {
    "$reseal" local >"$work/local.out" 2>"$work/local.err" &
    server=$!
    for _ in $(seq 300); do
        ! grep -q AWS_SECRET_ACCESS_KEY "$work/local.out" || break
        kill -0 "$server" 2>/dev/null || break
        sleep 0.1
    done
    grep '^export AWS_' "$work/local.out" >"$work/local.env" || { cat "$work/local.err" >&2; exit 1; }
    # shellcheck source=/dev/null
    . "$work/local.env"
}

# two_keys CREATE-KEY OPTIONS...: two KMS keys for the next cases.
two_keys() {
    local first second
    first=$("$official" create-key "$@")
    second=$("$official" create-key "$@")
    key_arns=(--key-arn "$first" --key-arn "$second")
}

passed=0
failed=0
# check WHAT COMMAND...: counts the command's outcome, and says on failure what was being done and why it failed.
check() {
    local what=$1
    shift
    if "$@" 2>"$work/why"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        right=false
        printf 'FAIL %s: %s: %s\n' "$name" "$what" "$(head -c 600 "$work/why" | tr '\n' ' ')"
    fi
}

# expect CODE COMMAND...: fails unless the command ends with that exit code.
expect() {
    local expected=$1 code=0
    shift
    "$@" || code=$?
    [ "$code" -eq "$expected" ] || { echo "exit code $code, not $expected" >&2; return 1; }
}

# These run in `check`, where `set -e` does not hold: hence the chains.
seals() {
    expect 0 item "$1" seal --job job.toml <items.jsonl >"$1.sealed" &&
        "$cases" sealed --job job.toml items.jsonl "$1.sealed"
}
opens() {
    expect 0 item "$1" open --job job.toml <"$2.sealed" >opened && "$cases" opened --job job.toml items.jsonl opened
}
refuses() {
    expect 4 item "$1" open --job "$2" <"$3" >refused && "$cases" refused --count "$count" refused
}

run_case() {
    local name=$1 right=true sealer opener other
    "$cases" generate --case "$name" --seed "$seed" --count "$count" "${key_arns[@]}" --out "$work/case"
    pushd "$work/case" >/dev/null
    for sealer in "${programs[@]}"; do
        check "$sealer seals" seals "$sealer"
        "$cases" damage --job job.toml --seed "$seed" "$sealer.sealed" >"$sealer.damaged" || continue
        for opener in "${programs[@]}"; do
            check "$sealer seals, $opener opens" opens "$opener" "$sealer"
            check "$sealer seals, $opener refuses damaged items" refuses "$opener" job.toml "$sealer.damaged"
            for other in table key; do
                check "$sealer seals, $opener refuses with another $other" refuses "$opener" "other-$other.toml" "$sealer.sealed"
            done
        done
    done
    popd >/dev/null
    rm -rf "$work/case"
    if $right; then
        printf 'ok   %s: %d items\n' "$name" "$count"
    fi
}

key_arns=()
items=0
for name in $("$cases" list); do
    # shellcheck disable=SC2053
    [[ $name == $pattern ]] || continue
    if [[ $name == aws-kms* || $name == multi.* ]]; then
        [ -n "$server" ] || start_kms
        case $name in
            aws-kms-mrk.*) two_keys --multi-region ;;
            aws-kms-rsa-*) two_keys --rsa ;;
            *) two_keys ;;
        esac
    fi
    run_case "$name"
    items=$((items + count))
done
printf '%d items; %d passed, %d failed\n' "$items" "$passed" "$failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
