#!/usr/bin/env bash
# Has AWS's own client library open a sample of sealed items, and compares what comes out.
#
#   scripts/opens.sh RESEAL FOLDER
#
# FOLDER holds job.toml, sealed.jsonl, expected.jsonl, and what `RESEAL local --data` serves the keys from: FOLDER itself,
# or stand-ins in it. The library is built as scripts/interop.sh builds it. Exits 1 when an item does not open, or is not
# as expected.
set -euo pipefail
reseal=$(realpath "$1")
folder=$(realpath "$2")
cd "$(dirname "$0")/.."

server=
trap '[ -z "$server" ] || { kill "$server" && wait "$server"; } 2>/dev/null || true' EXIT

interop_target=${RESEAL_CACHE:-$HOME/.cache/reseal}/interop-target
CARGO_TARGET_DIR=$interop_target cargo build --quiet --release --workspace --manifest-path tests/interop/Cargo.toml

interop_target=$(realpath "$interop_target")
cd "$folder"
if grep -qE 'aws-kms|hierarchy' job.toml; then
    data=.
    [ ! -d stand-ins ] || data=stand-ins
    "$reseal" local --data "$data" >local.env &
    server=$!
    for _ in $(seq 300); do
        ! grep -q AWS_SECRET_ACCESS_KEY local.env || break
        kill -0 "$server" 2>/dev/null || break
        sleep 0.1
    done
    # shellcheck source=/dev/null
    . ./local.env
fi
"$interop_target/release/official" open --job job.toml <sealed.jsonl >opened.jsonl
"$interop_target/release/cases" opened --job job.toml expected.jsonl opened.jsonl
printf 'the official client opens %d of them, as they should be\n' "$(wc -l <opened.jsonl)"
