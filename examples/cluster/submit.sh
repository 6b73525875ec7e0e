#!/usr/bin/env bash
# Hand a study to a cluster and leave: bash submit.sh --backbones smollm2 --data /shared/msd --out /shared/runs/msd
# Paths are those of the head, and absolute: it runs there. DASHBOARD is the dashboard's address (of a far head: through
# `ssh -L 8265:127.0.0.1:8265 head`), PYTHON the interpreter on the head that has this suite.
#   ray job logs --follow ID     ray job stop ID, which ends it as SIGTERM does     bench status /shared/runs/msd
set -euo pipefail
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}
exec ray job submit --address "${DASHBOARD:-http://127.0.0.1:8265}" ${NO_WAIT:+--no-wait} -- \
    "${PYTHON:-python}" -m bench run --address auto "$@"
