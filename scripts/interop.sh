#!/usr/bin/env bash
# Interoperability with AWS's own client library, in both directions.
#
#   scripts/interop.sh [--seed N] [--count N] [--case PATTERN]
#
# For every case of `cases list` (keyring, algorithm suite, header version, shape of the items) each program seals
# the same items, and each opens what either has sealed:
#   * sealed items have the form that the job asks for, attributes that are not encrypted are untouched;
#   * opened items equal the originals, encrypted numbers and sets in canonical form, with every keyring that should do:
#     a replica in another Region, each child of a multi-keyring;
#   * damaged items, items of another table and items under another key are refused, line by line, with exit code 4.
# Cases `*.stored` go on: the items, half of them sealed by either program, are put into a table, `reseal run` at depth
# "rewrap" moves them from keyring to keyring and at last to the other suite, and after each move both programs open
# them with the new keyring alone, and with the old one alone neither does.
# Cases `keystore.*` seal under a branch key while either program rotates it and `reseal keystore rewrap` moves it to
# another KMS key; everything opens throughout, with either program.
# Prints a line per case and at the end "N passed, M failed" (one check is one program doing one file of one case).
# Exits 1 when a check fails.
#
# Needs Rust and a C compiler. The first build of the official library takes about 15 minutes of CPU; it is kept in
# ${RESEAL_CACHE:-~/.cache/reseal}/interop-target, outside the clone. KMS in two Regions and DynamoDB are `reseal
# local`, on free ports of this machine; it is stopped at the end, however that comes. RESEAL_BIN names a reseal that is
# built already.
set -euo pipefail
cd "$(dirname "$0")/.."
shopt -s nullglob

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

# keystore PROGRAM create|new-branch-key|rotate ...: the same command of either program.
keystore() {
    local which=$1
    shift
    case $which in
        official) "$official" keystore "$@" ;;
        reseal) "$reseal" keystore "$@" --json --execute ;;
    esac
}

start_local() {
    export AWS_CONFIG_FILE=$work/aws.config AWS_SHARED_CREDENTIALS_FILE=$work/no-credentials XDG_STATE_HOME=$work/state
    unset AWS_PROFILE
    "$reseal" local --kms-region eu-west-1 >"$work/local.out" 2>"$work/local.err" &
    server=$!
    for _ in $(seq 300); do
        ! grep -q RESEAL_KMS_EU_WEST_1 "$work/local.out" || break
        kill -0 "$server" 2>/dev/null || break
        sleep 0.1
    done
    grep '^export ' "$work/local.out" >"$work/local.env" || { cat "$work/local.err" >&2; exit 1; }
    # shellcheck source=/dev/null
    . "$work/local.env"
    # By profile: the variable would name one endpoint for both Regions.
    local profile='[%s]\nservices = %s\n[services %s]\nkms =\n  endpoint_url = %s\n'
    # shellcheck disable=SC2059
    {
        printf "$profile" default home home "$AWS_ENDPOINT_URL_KMS"
        printf "$profile" 'profile away' away away "$RESEAL_KMS_EU_WEST_1"
    } >"$AWS_CONFIG_FILE"
    unset AWS_ENDPOINT_URL_KMS
}

# aes BITS NUMBER, rsa PADDING FILE, kms TYPE ARN [MORE FIELDS], branch MAKER FIELDS: a keyring as job files have it.
aes() {
    printf '{ type = "raw-aes", namespace = "acme", name = "ключ 1", key_file = "%s/aes-%s-%s.key" }' "$work" "$@"
}
rsa() {
    printf '{ type = "raw-rsa", namespace = "acme", name = "ключ 2", padding = "%s", key_file = "%s" }' \
        "$1" "$fixtures/$2-for-tests-only.private.pem"
}
kms() {
    printf '{ type = "%s", key_arn = "%s"%s }' "$1" "$2" "${3:+, $3}"
}
branch() {
    printf '{ type = "hierarchy", key_store_table = "keys-of-%s", key_store_name = "ключи of %s", kms_key_arn = "%s", %s }' \
        "$1" "$1" "$store_key" "$2"
}

# Makes keys of all kinds, and writes the file of keyrings over them.
make_keyrings() {
    local bits number padding maker author id store
    fixtures=$PWD/tests/fixtures
    for number in 1 2; do
        # One length as bytes, the others in Base64.
        head -c 32 /dev/urandom >"$work/aes-256-$number.key"
        for bits in 128 192; do
            head -c $((bits / 8)) /dev/urandom | base64 >"$work/aes-$bits-$number.key"
        done
    done
    local one two three region_key other_region_key replica rsa_key other_rsa_key
    one=$("$official" create-key)
    two=$("$official" create-key)
    three=$("$official" create-key)
    region_key=$("$official" create-key --multi-region)
    other_region_key=$("$official" create-key --multi-region)
    replica=$("$official" replicate-key --key-arn "$region_key" --region eu-west-1)
    rsa_key=$("$official" create-key --rsa)
    other_rsa_key=$("$official" create-key --rsa)
    "$official" public-key --key-arn "$rsa_key" >"$work/kms-rsa.public.pem"
    store_key=$("$official" create-key)
    for maker in "${programs[@]}"; do
        store=(--table "keys-of-$maker" --name "ключи of $maker")
        keystore "$maker" create "${store[@]}" >/dev/null
        for author in "${programs[@]}"; do
            keystore "$author" new-branch-key "${store[@]}" --kms-key-arn "$store_key" --branch-key-id "by $author" \
                --context team=orders --context "страна=fr" >/dev/null
        done
        # Without an id: a random one.
        keystore "$maker" new-branch-key "${store[@]}" --kms-key-arn "$store_key" >"$work/made-of-$maker"
    done
    # The question mark stands for the partition key of each case.
    local profile='profile = "away"' by_item='branch_key_attribute = "?", branch_keys ='
    {
        cat <<TOML
[raw-aes]
key = $(aes 256 1)
others = [$(aes 256 2)]
[aws-kms]
key = $(kms aws-kms "$one")
others = [$(kms aws-kms "$two")]
[aws-kms-mrk]
key = $(kms aws-kms-mrk "$region_key")
readers = [$(kms aws-kms-mrk "$replica" "$profile"), $(kms aws-kms "$region_key")]
others = [$(kms aws-kms-mrk "$other_region_key"), $(kms aws-kms "$replica" "$profile")]
[aws-kms-rsa-oaep-sha1]
key = $(kms aws-kms-rsa "$rsa_key" 'padding = "oaep-sha1"')
others = [$(kms aws-kms-rsa "$rsa_key" 'padding = "oaep-sha256"')]
[aws-kms-rsa-oaep-sha256]
key = $(kms aws-kms-rsa "$rsa_key" "padding = \"oaep-sha256\", public_key_file = \"$work/kms-rsa.public.pem\"")
others = [$(kms aws-kms-rsa "$other_rsa_key" 'padding = "oaep-sha256"')]
[multi]
key = { type = "multi", generator = $(kms aws-kms "$three"), children = [$(aes 192 1), $(rsa oaep-sha512 rsa2048)] }
readers = [$(kms aws-kms "$three"), $(aes 192 1), $(rsa oaep-sha512 rsa2048)]
others = [{ type = "multi", generator = $(kms aws-kms "$two"), children = [$(aes 192 2), $(rsa oaep-sha512 rsa3072)] }]
[hierarchy-per-item]
key = $(branch official "$by_item { 1 = \"by official\", \"téñ 2\" = \"by reseal\" }")
others = [$(branch official "$by_item { 1 = \"by reseal\", \"téñ 2\" = \"by official\" }")]
TOML
        for bits in 128 192; do
            printf '[raw-aes-%s]\nkey = %s\nothers = [%s]\n' "$bits" "$(aes "$bits" 1)" "$(aes "$bits" 2)"
        done
        for padding in pkcs1 oaep-sha1 oaep-sha256 oaep-sha384 oaep-sha512; do
            printf '[raw-rsa-%s]\nkey = %s\nothers = [%s]\n' "$padding" \
                "$(rsa "$padding" rsa2048)" "$(rsa "$padding" rsa3072)"
        done
        for maker in "${programs[@]}"; do
            id=$(grep -Eo '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}' "$work/made-of-$maker" | head -n 1)
            printf '[hierarchy-of-%s]\nkey = %s\nothers = [%s]\n' "$maker" \
                "$(branch "$maker" "branch_key_id = \"$id\"")" "$(branch "$maker" 'branch_key_id = "by official"')"
        done
    } >"$work/keyrings.toml"
}

passed=0
failed=0
# check WHAT COMMAND...: counts the command's outcome, and says on failure what was being done and why it failed.
check() {
    local what=$1
    shift
    if "$@" >/dev/null 2>"$work/why"; then
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
    expect 0 item "$1" open --job "$2" <"$3" >opened && "$cases" opened --job job.toml items.jsonl opened
}
refuses() {
    expect 4 item "$1" open --job "$2" <"$3" >refused && "$cases" refused --count "$(wc -l <"$3")" refused
}

# read_by_all WHAT DIRECTORY FILE: both programs open the file with each keyring of the directory that should do, and
# refuse it with each that should not.
read_by_all() {
    local opener job
    for opener in "${programs[@]}"; do
        for job in "$2"/job.toml "$2"/reader-*.toml; do
            check "$1, $opener opens with $(basename "$job")" opens "$opener" "$job" "$3"
        done
        for job in "$2"/other-*.toml; do
            check "$1, $opener refuses with $(basename "$job")" refuses "$opener" "$job" "$3"
        done
    done
}

# The whole way through the keyrings, and at its end the other suite.
ways=(aws-kms hierarchy-of-official raw-rsa-oaep-sha256 multi aws-kms-mrk hierarchy-of-reseal aws-kms-rsa-oaep-sha256
    raw-aes)

moves() {
    expect 0 "$reseal" run --job "$1/move.toml" --execute --state-dir "$1/state" >"$1/report" &&
        expect 0 "$official" get --job job.toml <items.jsonl >"$1/sealed" &&
        "$cases" rewrapped stored "$1/sealed" && "$cases" sealed --job "$1/job.toml" items.jsonl "$1/sealed"
}
stores() {
    expect 0 "$official" put --job job.toml <"$1" && expect 0 "$official" get --job job.toml <items.jsonl >stored
}

rewraps() {
    local from=raw-aes to half other_suite
    half=$(($(wc -l <items.jsonl) / 2))
    { head -n "$half" official.sealed && tail -n "+$((half + 1))" reseal.sealed; } >mixed.sealed
    check "a table of both" stores mixed.sealed
    for to in "${ways[@]}"; do
        [[ $name$to != *.ecdsa.*aws-kms-rsa* ]] || continue
        other_suite=()
        [ "$to" != raw-aes ] || other_suite=(--other-suite)
        "$cases" rewrap --job job.toml --keyrings "$work/keyrings.toml" --from "$from" --to "$to" "${other_suite[@]}" \
            --out "$to"
        check "reseal rewraps from $from to $to" moves "$to"
        [ -s "$to/sealed" ] || return 0
        read_by_all "rewrapped from $from to $to" "$to" "$to/sealed"
        cp "$to/sealed" stored
        from=$to
    done
}

run_case() {
    local name=$1 right=true sealer opener
    "$cases" generate --case "$name" --seed "$seed" --count "$count" --keyrings "$work/keyrings.toml" --out "$work/case"
    pushd "$work/case" >/dev/null
    for sealer in "${programs[@]}"; do
        check "$sealer seals" seals "$sealer"
        [ -s "$sealer.sealed" ] || continue
        "$cases" damage --job job.toml --seed "$seed" "$sealer.sealed" >"$sealer.damaged"
        read_by_all "$sealer seals" . "$sealer.sealed"
        for opener in "${programs[@]}"; do
            check "$sealer seals, $opener refuses damaged items" refuses "$opener" job.toml "$sealer.damaged"
        done
    done
    if [[ $name == *.stored ]]; then
        rewraps
    fi
    finish_case
}

finish_case() {
    local done_items
    done_items=$(wc -l <items.jsonl)
    items=$((items + done_items))
    popd >/dev/null
    rm -rf "$work/case"
    if $right; then
        printf 'ok   %s: %d items\n' "$name" "$done_items"
    fi
}

under_version() {
    seals "$1" && "$cases" under --version "$2" "$1.sealed" && mv "$1.sealed" "$3"
}

# In run_keystore: all branch keys of the store, whoever has made them.
reads_keys() {
    local each
    for each in "$id" 'by official' 'by reseal'; do
        expect 0 "$official" keystore read "${store[@]}" --kms-key-arn "$1" --branch-key-id "$each" || return
    done
}

# Branch keys of a store that one program has made, rotated by either and moved to another KMS key.
run_keystore() {
    local name=$1 right=true maker=${1#keystore.of-} moved account id sealer rotator opener version before file
    local store=(--table "keys-of-$maker" --name "ключи of $maker") rounds=(none "${programs[@]}")
    "$cases" generate --case "hierarchy-of-$maker.hmac.v1.one" --seed "$seed" --count "$count" \
        --keyrings "$work/keyrings.toml" --out "$work/case"
    pushd "$work/case" >/dev/null
    id=$(sed -n 's/^branch_key_id = "\(.*\)"$/\1/p' job.toml)
    for opener in "${programs[@]}"; do
        check "$opener finds the key store" expect 0 keystore "$opener" create "${store[@]}"
    done
    check 'official reads branch key and beacon key' reads_keys "$store_key"
    version=
    for rotator in "${rounds[@]}"; do
        before=$version
        if [ "$rotator" != none ]; then
            check "$rotator rotates" expect 0 keystore "$rotator" rotate "${store[@]}" --kms-key-arn "$store_key" \
                --branch-key-id "$id"
        fi
        version=$("$reseal" keystore describe "${store[@]}" --branch-key-id "$id" |
            sed -n 's/.*branch:ACTIVE  = \(branch:version:\)\?\([^ ]*\).*/\2/p')
        check "after $rotator has rotated there is a new version" test "$version" != "$before"
        for sealer in "${programs[@]}"; do
            check "$sealer seals after $rotator has rotated" under_version "$sealer" "$version" "$rotator-$sealer.round"
        done
    done
    for file in *.round; do
        for opener in "${programs[@]}"; do
            check "$opener opens $file" opens "$opener" job.toml "$file"
        done
    done
    check 'official reads branch key and beacon key, rotated' reads_keys "$store_key"
    moved=$("$official" create-key)
    sed "s|^kms_key_arn = .*|kms_key_arn = \"$moved\"|" job.toml >moved.toml
    account=$(cut -d : -f 5 <<<"$moved")
    sed "s|^kms_key_arn = .*|key_store_readers = \"discovery\"\naccounts = [\"$account\"]|" job.toml >discovery.toml
    check 'reseal moves the branch keys' expect 0 "$reseal" keystore rewrap "${store[@]}" --to-kms-key-arn "$moved" \
        --key-store-readers discovery --execute
    check 'official reads branch key and beacon key under the new KMS key' reads_keys "$moved"
    for file in *.round; do
        for opener in "${programs[@]}"; do
            check "$opener opens $file under the new KMS key" opens "$opener" moved.toml "$file"
            check "$opener opens $file under the KMS key of the rows" opens "$opener" discovery.toml "$file"
        done
    done
    # One item: after a branch key that it could not have, the official library waits a second before it asks again.
    head -n 1 "none-$maker.round" >one
    sed 's|^key_store_name = .*|key_store_name = "keys"|' moved.toml >renamed.toml
    for opener in "${programs[@]}"; do
        check "$opener refuses under the old KMS key" refuses "$opener" job.toml one
        check "$opener refuses with another name of the key store" refuses "$opener" renamed.toml one
    done
    finish_case
}

items=0
start_local
make_keyrings
for name in $("$cases" list) "${programs[@]/#/keystore.of-}"; do
    # shellcheck disable=SC2053
    [[ $name == $pattern ]] || continue
    case $name in
        keystore.*) run_keystore "$name" ;;
        *) run_case "$name" ;;
    esac
done
printf '%d items; %d passed, %d failed\n' "$items" "$passed" "$failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
