# To be sourced. `serve moto|ministack LOG` installs a stand-in for AWS that somebody else wrote into
# ${RESEAL_CACHE:-~/.cache/reseal}, starts it on a free port of this machine, and sets `server`, its process, `endpoint`,
# and `python`, which has its packages. Who sources it stops it.
serve() {
    local packages venv port
    case $1 in
    moto) packages=('moto[server]==5.2.5') ;;
    # Without cryptography its symmetric keys do not encrypt, and it has no RSA.
    ministack) packages=('ministack==1.5.33' 'cryptography==50.0.2') ;;
    *) return 2 ;;
    esac
    venv=${RESEAL_CACHE:-$HOME/.cache/reseal}/stand-in-$1
    python=$venv/bin/python
    if [[ ! -x $python ]]; then
        python3 -m venv "$venv"
        "$venv/bin/pip" install --quiet "${packages[@]}"
    fi
    port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    if [[ $1 == moto ]]; then
        "$venv/bin/moto_server" -H 127.0.0.1 -p "$port" >"$2" 2>&1 &
    else
        GATEWAY_PORT=$port "$venv/bin/ministack" >"$2" 2>&1 &
    fi
    server=$!
    until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
        kill -0 "$server" || { cat "$2" >&2; return 1; }
        sleep 0.2
    done
    endpoint=http://127.0.0.1:$port
}
