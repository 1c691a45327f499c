#!/usr/bin/env bash
# A second opinion: runs what our own stand-ins keep against stand-ins that somebody else wrote. What each is known not to
# keep is in docs/SAFETY.md, "The simulator" and "The local KMS".
#
#   scripts/contract.sh moto|ministack         tests/contract.rs, which the simulation and the embedded DynamoDB keep
#   scripts/contract.sh moto|ministack kms     tests/local_kms.rs, which the local KMS keeps
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/stand-in.bash
usage() {
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 2
}
case "${2:-dynamodb}" in
dynamodb) tests=contract variable=RESEAL_CONTRACT_ENDPOINT own=() ;;
kms)
    tests=local_kms variable=RESEAL_KMS_ENDPOINT
    # About what only the local KMS has.
    own=(--skip a_rotation_reaches_every_region --skip an_rsa_pair_that_is_known --skip answers_are_held_back
        --skip each_region_has_rules --skip keys_and_states_outlive --skip moving_a_blob_takes --skip rules_deny
        --skip the_same_rules --skip what_is_not_supported)
    ;;
*) usage ;;
esac
[[ ${1:-} == moto || ${1:-} == ministack ]] || usage
cargo test --locked --no-run --test "$tests"
log=$(mktemp)
trap 'kill "$server" 2>/dev/null; rm -f "$log"' EXIT
serve "$1" "$log"
env "$variable=$endpoint" cargo test --locked --test "$tests" --no-fail-fast -- "${own[@]}"
