#!/usr/bin/env bash
# Runs google_feed.py against the fake Google, in a cluster of its own:
#   scripts/with_cluster.sh examples/test_google_feed.sh
set -euo pipefail
. "$(dirname "$0")/../scripts/env.sh"
. "$ROOT/scripts/fake_google.sh"

start_fake_google
createdb feed
export PGDATABASE=feed
psql -X -q -c "CREATE EXTENSION pg_calsync" -c "CREATE ROLE app LOGIN" -c "GRANT calsync_operator TO app" \
    -c "GRANT CREATE ON SCHEMA public TO app"
export PGUSER=app

feed() { "$PG_CALSYNC_PYTHON" "$ROOT/examples/google_feed.py" --calendar alice@example.com --endpoint "${FAKE_API%/calendar/v3}"; }
story=''
expect() { # WHAT GOT WANTED
    [ "$2" = "$3" ] || die "$1" "got:    $2" "wanted: $3"
    story+="  $1"$'\n'
}
day=$(date -u -d '+3 days' +%F)
meeting() { echo "{\"id\": \"$1\", \"start\": {\"dateTime\": \"${day}T$2:00Z\"}, \"end\": {\"dateTime\": \"${day}T$3:00Z\"}}"; }
busy() {
    PGTZ=UTC psql -X -q -A -t -c "SELECT string_agg(to_char(lower(busy), 'HH24:MI-') || to_char(upper(busy), 'HH24:MI'), ' ')
        FROM calsync_busy('[$day, $day 23:59]', '{alice@example.com}')"
}

events=/calendars/alice@example.com/events
at_google POST /calendars '{"id": "alice@example.com", "timeZone": "Europe/Vienna"}'
at_google POST $events "[$(meeting aaaaa1 08:00 09:00), $(meeting bbbbb2 10:00 11:00), $(meeting ccccc3 12:00 13:00)]"
expect "the first round lists the calendar" \
    "$(feed)" "alice@example.com: in full: 3 inserted, 0 updated, 0 deleted, 0 unchanged"
expect "and its events are busy time" "$(busy)" "08:00-09:00 10:00-11:00 12:00-13:00"

at_google PATCH $events/aaaaa1 "$(meeting aaaaa1 14:00 15:00)"
at_google DELETE $events/bbbbb2
expect "the second round asks only for what changed" \
    "$(feed)" "alice@example.com: what changed: 0 inserted, 1 updated, 1 deleted, 0 unchanged"
expect "and moves and deletes" "$(busy)" "12:00-13:00 14:00-15:00"
expect "a round without news" "$(feed)" "alice@example.com: what changed: 0 inserted, 0 updated, 0 deleted, 0 unchanged"

at_google POST /expire-sync-tokens
at_google DELETE $events/ccccc3
expect "a token that Google has forgotten (410) leads to a full list" "$(feed | tail -n 1)" \
    "alice@example.com: in full: 0 inserted, 0 updated, 1 deleted, 1 unchanged"
expect "which also sweeps" "$(busy)" "14:00-15:00"

psql -X -q -c "UPDATE calendar_feed SET sync_token = 'of another day'"
at_google POST $events "$(meeting ddddd4 16:00 17:00)"
expect "a token that neither side knows leads to a full list" "$(feed | tail -n 1)" \
    "alice@example.com: in full: 1 inserted, 0 updated, 0 deleted, 1 unchanged"

psql -X -q -o /dev/null -c "SELECT calsync_resync('alice@example.com')"
expect "a cache that stands elsewhere (SC004) leads to a full list" "$(feed | sed -n 1p)" \
    "alice@example.com: sync token conflict for calendar \"alice@example.com\"; listing it in full"
expect "with nothing lost" "$(busy)" "14:00-15:00 16:00-17:00"

at_google PATCH /quirks '{"pageSizeCap": 1}'
psql -X -q -c "TRUNCATE calendar_feed"
expect "pages are staged and become visible together" \
    "$(feed)" "alice@example.com: in full: 0 inserted, 0 updated, 0 deleted, 2 unchanged"
printf 'google_feed.py:\n%s' "$story"
