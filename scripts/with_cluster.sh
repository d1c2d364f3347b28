#!/usr/bin/env bash
# Runs a command against a throw-away cluster of the private Postgres, reached through PGHOST and PGUSER. Lines in
# PG_CALSYNC_CONF are added to its configuration. What the user's environment says to psql or Rust plays no part.
set -euo pipefail
. "$(dirname "$0")/env.sh"
unset PGHOSTADDR PGPORT PGDATABASE PGSERVICE PGPASSWORD PGSSLMODE PGOPTIONS PGTZ PGDATESTYLE PGCLIENTENCODING
unset PGCLUSTER RUST_BACKTRACE
home=$(mktemp -d /tmp/calsync.XXXXXX)
[ "$(id -u)" != 0 ] || chown postgres "$home"
stop() { as_server "$STAGED_BIN/pg_ctl" -D "$home/data" -m immediate -s stop || true; rm -rf "$home"; }
trap stop EXIT
as_server "$STAGED_BIN/initdb" -D "$home/data" -U postgres -A trust -E UTF8 --locale=C --no-sync >/dev/null
cat >>"$home/data/postgresql.conf" <<CONF
listen_addresses = ''
unix_socket_directories = '$home'
shared_preload_libraries = 'pg_calsync'
fsync = off
${PG_CALSYNC_CONF:-}
CONF
as_server "$STAGED_BIN/pg_ctl" -D "$home/data" -l "$home/log" -w -s start \
    || { cat "$home/log" >&2; die "the cluster did not start"; }
export PGHOST=$home PGUSER=postgres PATH=$STAGED_BIN:$PATH
"$@"
