#!/usr/bin/env bash
# A Ray cluster by hand, a terminal a machine; Ctrl-C ends what it started.
#   bash by_hand.sh head 10.0.0.1                  on the first machine, with its own address
#   bash by_hand.sh node 10.0.0.2 10.0.0.1         on every other one: its own address, the first one's
#   python -m bench run --address 10.0.0.1:6379 …  on any of them
# What follows the addresses is handed to `ray start`, as in: by_hand.sh node 10.0.0.2 10.0.0.1 --num-gpus 8
# PORT, DASHBOARD_PORT, CLIENT_PORT and TEMP name others than Ray's own. RAY_AUTH_TOKEN_PATH is a file that every machine
# has with the same content: who knows it may run anything on the cluster, who does not is turned away.
set -euo pipefail
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token} RAY_USAGE_STATS_ENABLED=0
export MALLOC_ARENA_MAX=1   # Tune's threads would each keep 50 MB a trial
port=${PORT:-6379} role=${1:?head or node} own=${2:?the address of this machine}

if [ ! -s "$RAY_AUTH_TOKEN_PATH" ]; then
    [ "$role" = head ] || { echo "copy $RAY_AUTH_TOKEN_PATH from the head first" >&2; exit 2; }
    mkdir -p "$(dirname "$RAY_AUTH_TOKEN_PATH")"
    (umask 077 && python3 -c 'import secrets; print(secrets.token_hex(32), end="")' > "$RAY_AUTH_TOKEN_PATH")
fi

if [ "$role" = head ]; then
    shift 2
    exec ray start --block --head --node-ip-address "$own" --port "$port" --dashboard-host 127.0.0.1 \
        --dashboard-port "${DASHBOARD_PORT:-8265}" --ray-client-server-port "${CLIENT_PORT:-10001}" \
        --temp-dir "${TEMP:-/tmp/ray}" "$@"
fi
head=${3:?the address of the head}
shift 3
exec ray start --block --address "$head:$port" --node-ip-address "$own" "$@"
