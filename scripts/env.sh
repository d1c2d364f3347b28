# Sourced by every script here: where things are, and who runs the server. Sets nothing up.
#
# STAGE      a private copy of Postgres, the Python environment, the demo's cluster. The extension is installed into
#            that copy, so that neither `make test` nor `make demo` writes into the server of this machine.
# PG_CONFIG  of that private copy
# as_server  runs a command as the user that may run Postgres: Postgres refuses root

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PG_MAJOR=15
PGRX_VERSION=0.18.1
TOOLS=${XDG_CACHE_HOME:-$HOME/.cache}/pg_calsync/cargo-pgrx-$PGRX_VERSION

if [ "$(id -u)" = 0 ]; then
    # The server's user must be able to reach it, and root's home is closed: hence not below the checkout.
    STAGE=/var/cache/pg_calsync/$(printf %s "$ROOT" | cksum | cut -d' ' -f1)
    as_server() { setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }
else
    STAGE=$ROOT/target/stage
    as_server() { "$@"; }
fi
STAGED_PG=$STAGE/pg
export PG_CALSYNC_STAGE=$STAGE
export PG_CALSYNC_PYTHON=$STAGE/python/bin/python3

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$1" >&2; shift; for line in "$@"; do printf '  %s\n' "$line" >&2; done; exit 1; }
