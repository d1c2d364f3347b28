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
DENY_VERSION=0.20.2
DENY=${XDG_CACHE_HOME:-$HOME/.cache}/pg_calsync/cargo-deny-$DENY_VERSION

if [ "$(id -u)" = 0 ]; then
    # The server's user must be able to reach it, and root's home is closed: hence not below the checkout.
    STAGE=/var/cache/pg_calsync/$(printf %s "$ROOT" | cksum | cut -d' ' -f1)
    as_server() { setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }
else
    STAGE=$ROOT/target/stage
    as_server() { "$@"; }
fi
STAGED_PG=$STAGE/pg
STAGED_BIN=$STAGED_PG/lib/postgresql/$PG_MAJOR/bin
STAGED_PG_CONFIG=$STAGED_BIN/pg_config
export PG_CALSYNC_STAGE=$STAGE
export PG_CALSYNC_PYTHON=$STAGE/python/bin/python3

if [ -t 2 ]; then say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }; else say() { printf '==> %s\n' "$*" >&2; }; fi
die() { printf 'error: %s\n' "$1" >&2; shift; for line in "$@"; do printf '  %s\n' "$line" >&2; done; exit 1; }

# pgrx' build script watches its configuration file; while that is missing, each build builds pgrx anew.
make_pgrx_home() {
    mkdir -p "$ROOT/target/pgrx-home"
    [ -e "$ROOT/target/pgrx-home/config.toml" ] || : >"$ROOT/target/pgrx-home/config.toml"
}

# Builds the extension for a server and lays out what would be installed below target/package; `release` or `dev`.
# Needs cargo-pgrx, but neither `cargo pgrx init` nor anything in the user's ~/.pgrx.
package_extension() {
    local pg_config=$1 profile=$2 major flags=()
    major=$("$pg_config" --version | sed -E 's/^PostgreSQL ([0-9]+).*/\1/')
    [ "$major" = "$PG_MAJOR" ] || die "this is Postgres $major, according to $pg_config" \
        "pg_calsync 0.1.0 is for Postgres $PG_MAJOR: make PG_CONFIG=/usr/lib/postgresql/$PG_MAJOR/bin/pg_config"
    [ "$profile" = release ] || flags=(--debug)
    say "building pg_calsync for Postgres $major, $profile (two to four minutes the first time)"
    make_pgrx_home
    (cd "$ROOT" && PGRX_HOME=$ROOT/target/pgrx-home PGRX_PG_CONFIG_PATH=$pg_config PATH=$TOOLS/bin:$PATH \
        cargo pgrx package --package pg_calsync --pg-config "$pg_config" --no-default-features --features "pg$major" \
        --out-dir "$ROOT/target/package/$profile" "${flags[@]}" >"$ROOT/target/package.log" 2>&1) \
        || { tail -n 60 "$ROOT/target/package.log" >&2; die "the build failed" "The whole log is in target/package.log"; }
}

# Installs into the private copy of Postgres.
install_staged() {
    local profile=$1
    package_extension "$STAGED_PG_CONFIG" "$profile"
    cp -a "$ROOT/target/package/$profile$STAGED_PG/." "$STAGED_PG/"
}
