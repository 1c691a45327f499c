#!/usr/bin/env bash
# A second opinion: runs tests/contract.rs, which the simulation and the embedded DynamoDB keep, against a DynamoDB that
# somebody else wrote. What each is known not to keep is in docs/SAFETY.md, "The simulator".
#
#   scripts/contract.sh moto|ministack
set -euo pipefail
cd "$(dirname "$0")/.."
cache="${RESEAL_CACHE:-$HOME/.cache/reseal}"
case "${1:-}" in
moto) package='moto[server]==5.2.5' ;;
ministack) package='ministack==1.5.33' ;;
*)
    echo 'usage: scripts/contract.sh moto|ministack' >&2
    exit 2
    ;;
esac
venv="$cache/contract-$1"
if [[ ! -x "$venv/bin/python" ]]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet "$package"
fi
cargo test --locked --no-run --test contract
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
log="$cache/contract-$1.log"
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
RESEAL_CONTRACT_ENDPOINT="http://127.0.0.1:$port" cargo test --locked --test contract --no-fail-fast
