#!/usr/bin/env bash
# A second opinion: runs tests/local_kms.rs, which the local KMS keeps, against a KMS that somebody else wrote. What each
# is known not to keep is in docs/SAFETY.md, "The local KMS".
#
#   scripts/kms-contract.sh moto|ministack
set -euo pipefail
cd "$(dirname "$0")/.."
cache="${RESEAL_CACHE:-$HOME/.cache/reseal}"
case "${1:-}" in
moto) packages=('moto[server]==5.2.5') ;;
# Without cryptography its symmetric keys do not encrypt, and it has no RSA.
ministack) packages=('ministack==1.5.33' 'cryptography==50.0.2') ;;
*)
    echo 'usage: scripts/kms-contract.sh moto|ministack' >&2
    exit 2
    ;;
esac
venv="$cache/kms-contract-$1"
if [[ ! -x "$venv/bin/python" ]]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet "${packages[@]}"
fi
cargo test --locked --no-run --test local_kms
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
log="$cache/kms-contract-$1.log"
if [[ $1 == moto ]]; then
    "$venv/bin/moto_server" -H 127.0.0.1 -p "$port" >"$log" 2>&1 &
else
    GATEWAY_PORT=$port "$venv/bin/ministack" >"$log" 2>&1 &
fi
server=$!
trap 'kill "$server" 2>/dev/null' EXIT
until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
    kill -0 "$server" || { cat "$log" >&2; exit 1; }
    sleep 0.2
done
# Those left out are about what only the local KMS has.
own=(--skip a_rotation_reaches_every_region --skip an_rsa_pair_that_is_known --skip answers_are_held_back
    --skip each_region_has_rules --skip keys_and_states_outlive --skip moving_a_blob_takes --skip rules_deny
    --skip the_same_rules --skip what_is_not_supported)
RESEAL_KMS_ENDPOINT="http://127.0.0.1:$port" cargo test --locked --test local_kms --no-fail-fast -- "${own[@]}"
