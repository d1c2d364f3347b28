#!/usr/bin/env bash
# `make bench`: measures the read path and the ingest against the peer's SQL, on a cluster of its own, release build.
# What is measured, and what it gave: bench/README.md.
#
#   SCALE=10              thousands of calendars of 500 events: 5 million events, 12 GB; 1 for a tenth, 100 for ten times
#   ROUNDS=3 SECONDS_EACH=5   each statement is measured ROUNDS times, in turn with the others; the median counts
#   ONLY='busy_3x7 peer*'     only these of bench/queries, besides lookup; the ingest and the worker only where it says
#                         ingest, polling
#   PROFILE=1             afterwards, where the time goes (bench/profile.sh)
#   KEEP=1                leaves the cluster running and says where
#   CLUSTER=<directory>   measures reads on a cluster that was kept
#   BUILD=0               takes the release build that is already there
set -euo pipefail
. "$(dirname "$0")/env.sh"
cd "$ROOT/bench"

SCALE=${SCALE:-10} ROUNDS=${ROUNDS:-3} SECONDS_EACH=${SECONDS_EACH:-5} ONLY=${ONLY:-*}
CALENDARS=$((SCALE * 1000)) EVENTS=500 HISTORY=200000

# A second private copy of Postgres, so that a release build there and a dev build for the tests never meet.
stage_bench_postgres() {
    local shared=$STAGED_PG
    STAGED_PG=$STAGE/pg-bench
    STAGED_BIN=$STAGED_PG/lib/postgresql/$PG_MAJOR/bin
    STAGED_PG_CONFIG=$STAGED_BIN/pg_config
    if ! cmp -s "$shared/version" "$STAGED_PG/version"; then
        rm -rf "$STAGED_PG"
        cp -a "$shared" "$STAGED_PG"
    fi
    [ "${BUILD:-1}" = 0 ] || install_staged release
}

start_cluster() {
    home=$(mktemp -d /tmp/calsync-bench.XXXXXX)
    [ "$(id -u)" != 0 ] || chown postgres "$home"
    trap stop_cluster EXIT
    as_server "$STAGED_BIN/initdb" -D "$home/data" -U postgres -A trust -E UTF8 --locale=C --no-sync >/dev/null
    # fsync and full_page_writes off: what is measured is work, not the disk. Autovacuum off and a VACUUM before measuring: the same state in
    # every run. No worker: nothing runs beside the one client. 20 years are covered, so that the long history is.
    cat >>"$home/data/postgresql.conf" <<CONF
listen_addresses = ''
unix_socket_directories = '$home'
shared_preload_libraries = 'pg_calsync, pg_stat_statements'
pg_stat_statements.track = none
fsync = off
autovacuum = off
shared_buffers = '$(awk '/MemTotal/ { print int($2 / 4096) }' /proc/meminfo) MB'
full_page_writes = off
max_wal_size = '2GB'
checkpoint_timeout = '1h'
timezone = 'UTC'
calsync.databases = ''
calsync.horizon = '7300d'
calsync.retention = '7300d'
CONF
    as_server "$STAGED_BIN/pg_ctl" -D "$home/data" -l "$home/log" -w -s start
    export PGHOST=$home PGDATABASE=postgres
}

stop_cluster() {
    if [ -n "${KEEP:-}" ]; then
        say "the cluster is still running: psql -h $home -U postgres; stop it with $STAGED_BIN/pg_ctl -D $home/data stop"
        return
    fi
    as_server "$STAGED_BIN/pg_ctl" -D "$home/data" -m immediate -s stop || true
    rm -rf "$home"
}

# run ROLE [psql arguments]
run() { local role=$1; shift; "$STAGED_BIN/psql" -X -q -A -t -v ON_ERROR_STOP=1 -U "$role" "$@"; }

fill() {
    local started=$SECONDS part sessions=()
    run postgres -f schema.sql
    say "making $((CALENDARS * EVENTS)) events in $CALENDARS calendars, and one calendar of $HISTORY"
    run postgres -v calendars="$CALENDARS" -v events="$EVENTS" -v history="$HISTORY" -f generate.sql
    say "filling the peer's table"
    run postgres -f load_peer.sql
    say "filling ours, through calsync_apply_delta, in two sessions ($((SECONDS - started)) s so far)"
    started=$SECONDS
    for part in 0 1; do run booking -v part=$part -v parts=2 -f load_calsync.sql & sessions+=($!); done
    for part in "${sessions[@]}"; do wait "$part"; done
    run postgres -c 'VACUUM ANALYZE' -c CHECKPOINT
    say "filled in $((SECONDS - started)) s"
}

# CPU time of all backends that have ended, in clock ticks: what their parent has waited for. A backend outlives its
# client for a moment, so this waits until only the server's own processes are left.
ended_cpu() {
    local server; server=$(head -n 1 "$home/data/postmaster.pid")
    while grep -aqs '^postgres: booking ' $(sed 's|\([0-9]*\) |/proc/\1/cmdline |g' "/proc/$server/task/$server/children"); do
        sleep 0.05
    done
    sleep 0.05
    cut -d' ' -f16-17 "/proc/$server/stat" | awk '{ print $1 + $2 }'
}

# measure SCRIPT [SECONDS] [CLIENTS]: prints transactions a second, and microseconds of the server's CPU a transaction
measure() {
    local before; before=$(ended_cpu)
    "$STAGED_BIN/pgbench" -n -M prepared -c "${3:-1}" -j "${3:-1}" -T "${2:-$SECONDS_EACH}" -U booking \
        -D calendars="$CALENDARS" -D today="$(date -u -d "$(date -u +%F)" +%s)" -f "queries/$1.sql" postgres \
        >"$home/pgbench" 2>>"$home/pgbench.log" || { tail -n 3 "$home/pgbench.log" >&2; exit 1; }
    awk -v cpu="$(($(ended_cpu) - before))" -v hertz="$(getconf CLK_TCK)" '
        /^number of transactions actually processed/ { done = $NF }
        /^tps = / { print $3, cpu / hertz / done * 1e6 }' "$home/pgbench"
}

wanted() {
    local pattern patterns
    read -ra patterns <<<"$ONLY"
    for pattern in "${patterns[@]}"; do
        # shellcheck disable=SC2254
        case $1 in $pattern) return 0 ;; esac
    done
    return 1
}

reads() {
    local script scripts=() round result
    for script in lookup empty_function busy_3x7 peer_raw_3x7 peer_merged_3x7 busy_50x30 peer_raw_50x30 peer_merged_50x30 \
                  busy_500x30 peer_merged_500x30 union_50x30 peer_union_50x30 union_500x30 peer_union_500x30 \
                  is_free_10 peer_is_free_10 busy_1x14 slots_1x14 slots_1x14_first_20 group_slots \
                  busy_history_short busy_history_long peer_merged_history_short peer_merged_history_long; do
        if [ "$script" = lookup ] || wanted "$script"; then scripts+=("$script"); fi
    done
    say "measuring ${#scripts[@]} statements, $ROUNDS rounds of $SECONDS_EACH s each ($((${#scripts[@]} * ROUNDS * SECONDS_EACH)) s)"
    for script in "${scripts[@]}"; do measure "$script" 1 >/dev/null; done
    for ((round = 0; round < ROUNDS; round++)); do
        for script in "${scripts[@]}"; do
            result=$(measure "$script")
            echo "$script $result"
        done
    done >"$home/reads"
    awk -f reads.awk "$home/reads"
}

# Whether a second client gets as much done as the first. The look-up by key tells what the machine itself allows: each
# client has a pgbench thread and a backend, so two clients want four processors.
two_clients() {
    wanted two_clients || return 0
    local script round
    for ((round = 0; round < ROUNDS; round++)); do
        for script in lookup busy_3x7 busy_50x30; do
            echo "$script $(measure "$script" "$SECONDS_EACH" 1 | cut -d' ' -f1) $(measure "$script" "$SECONDS_EACH" 2 | cut -d' ' -f1)"
        done
    done >"$home/two-clients"
    echo
    awk '{ one[$1] += $2; two[$1] += $3 }
        END { for (script in one) printf "two clients against one, %s: x%.2f\n", script, two[script] / one[script] }' \
        "$home/two-clients" | sort
}

ingest() {
    wanted ingest && [ -z "${CLUSTER:-}" ] || return 0
    say "writing the statements of the ingest"
    run postgres -v script="$home/ingest-statements.sql" -f ingest.sql
    say "measuring the ingest"
    { echo '\timing on'; cat "$home/ingest-statements.sql"; } >"$home/ingest-script.sql"
    run booking -f "$home/ingest-script.sql" >"$home/ingest" 2>&1 || { tail -n 5 "$home/ingest" >&2; exit 1; }
    awk -f ingest.awk "$home/ingest"
    run postgres -v calendars="$CALENDARS" -f check_ingest.sql
}

# The worker against the fake Google, in a cluster of its own: tests/integration/examples/polling.rs.
polling() {
    wanted polling && [ -z "${CLUSTER:-}" ] || return 0
    say "measuring the worker: 2,000 calendars, 100,000 polls, 100,000 events (four minutes)"
    echo
    (cd "$ROOT" && PG_CALSYNC_PG_BIN=$STAGED_BIN cargo run --locked --release --quiet --package calsync-integration \
        --example polling)
}

buffers() {
    echo
    echo "Buffers of a warm one-week question, calendar with 1,000 and with $HISTORY events (ours, the peer's merged):"
    run booking -f buffers.sql | grep -E '^@|^  Buffers|^ +Buffers' | awk '/^@/ { name = substr($0, 3); n = 0; next } !n++ { print "  " name ": " $0 }' | tail -n 4
}

load=$(cut -d' ' -f1 /proc/loadavg)
stage_bench_postgres
awk -v load="$load" 'BEGIN { exit load < 0.7 }' && say "load $load: other work on this machine will show in the figures"
if [ -n "${CLUSTER:-}" ]; then
    home=$CLUSTER; export PGHOST=$home PGDATABASE=postgres
else
    start_cluster
    fill
fi
say "checking that both sides give the same answers"
run postgres -v calendars="$CALENDARS" -f check.sql
echo
echo "$("$STAGED_BIN/postgres" --version), $(nproc) cores ($(awk -F': ' '/model name/ { print $2; exit }' /proc/cpuinfo)), $(awk '/MemTotal/ { printf "%.0f GB", $2 / 1048576 }' /proc/meminfo), $(uname -sr), load $load before"
echo "$(date -u +%F), commit $(git -C "$ROOT" describe --always --dirty), $CALENDARS calendars x $EVENTS events, $ROUNDS rounds x $SECONDS_EACH s"
echo
reads
two_clients
buffers
ingest
polling
[ -z "${PROFILE:-}" ] || . ./profile.sh
