# Sourced by tour.sh: showing statements as psql would, checking answers, waiting, measuring.

export PGTZ=Europe/Vienna PGDATESTYLE=ISO PGCLIENTENCODING=UTF8
bold='' plain=''
if [ -t 1 ]; then bold=$(printf '\033[1m') plain=$(printf '\033[0m'); fi
chapters=0

as_postgres_in_calendars() { export PGDATABASE=calendars; prompt='calendars=#'; }
as_app() { export PGUSER=app; prompt='calendars=>'; }
export PGDATABASE=postgres; prompt='postgres=#'

tell() { printf '%s\n\n' "$1"; }
chapter() { chapters=$((chapters + 1)); printf '%s%s. %s%s\n\n' "$bold" "$chapters" "$1" "$plain"; }
quietly() { psql -X -q -A -t -v ON_ERROR_STOP=1 "$@"; }
wrong() { printf '\nerror: the demo went wrong: %s\n' "$1" >&2; exit 1; }

# A statement as typed at psql's prompt: the lines after the first have a prompt of their own.
typed() { printf '%s%s %s%s\n' "$bold" "$prompt" "${1//$'\n'/$'\n'${prompt/=/-} }" "$plain"; }
shell() { printf '%s$ %s%s\n\n' "$bold" "$1" "$plain"; }

# Shows a statement and what psql answers.
sql() {
    local answer
    typed "$1"
    answer=$(psql -X -P pager=off -c "$1" 2>&1) || { printf '%s\n' "$answer"; wrong "a statement failed"; }
    printf '%s\n\n' "$answer"
}

# Shows a statement that must fail with this SQLSTATE.
sql_fails() {
    local answer
    typed "$2"
    answer=$(psql -X -P pager=off -v VERBOSITY=verbose -c "$2" 2>&1) && wrong "a statement should have failed"
    printf '%s\n\n' "$(grep -v '^LOCATION:' <<<"$answer")"
    grep -q "^ERROR:  $1: " <<<"$answer" || wrong "a statement should have failed with $1"
}

# Checks unseen that a condition holds.
check() { [ "$(quietly -c "SELECT $2")" = t ] || wrong "not so: $1"; }

# Checks that NAME@example.com is busy DURING just at these times.
busy_is() {
    local calendar=$1@example.com during=$2; shift 2
    local wanted; wanted=$(printf ", '%s'" "$@")
    check "when $calendar is busy" "(SELECT array_agg(busy) = ARRAY[${wanted#, }]::tstzrange[]
        FROM calsync_busy('$during', '{$calendar}'))"
}

# Waits until a condition holds.
await() {
    local what=$1 seconds=$2 condition=$3
    printf '(waiting for %s)\n\n' "$what"
    for _ in $(seq $((seconds * 10))); do
        [ "$(quietly -c "SELECT $condition")" != t ] || return 0
        sleep 0.1
    done
    psql -X -x -c 'SELECT * FROM calsync.status' >&2
    wrong "waited $seconds s for $what"
}

# Runs what changes something, and takes the time before it.
measure_from_change() { CHANGED_AT=$(date +%s%3N); "$@"; }

# Waits for the answer to become true; MEASURED: milliseconds since the change. More than a second is a failure.
measure_to_answer() {
    quietly -c "DO \$\$
        BEGIN
            FOR i IN 1 .. 2000 LOOP
                EXIT WHEN $1;
                PERFORM pg_sleep(0.002);
            END LOOP;
        END \$\$"
    MEASURED=$(($(date +%s%3N) - CHANGED_AT))
    check "the answer has changed" "$1"
    [ "$MEASURED" -le 1000 ] || wrong "from change to answer it took $MEASURED ms"
}

# Shows how many pages of tables and indexes a query looks at, the second time in its session: the first also reads the
# catalog.
show_pages() {
    local explain="EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF, SUMMARY OFF)" answer
    typed "$explain
$1;"
    answer=$(psql -X -q -P pager=off -c "DO 'BEGIN PERFORM * FROM (${1//\'/\'\'}) AS first; END'" -c "$explain $1")
    printf '%s\n\n' "$answer"
    [ "$(sed -n 's/.*Buffers: shared hit=//p' <<<"$answer")" -le 24 ] || wrong "busy time is not read through its index"
}
