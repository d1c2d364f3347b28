#!/usr/bin/env bash
# The tour of `make demo`; scripts/demo.sh has started the fake Google and the cluster. What is shown is what psql
# says; beside it, unseen, every answer is checked.
set -euo pipefail
. "$(dirname "$0")/../scripts/env.sh"
. "$ROOT/scripts/fake_google.sh"
. "$ROOT/demo/company.sh"
. "$ROOT/demo/show.sh"
TEAM="'{anna@example.com,ben@example.com,carol@example.com}'"

tell "pg_calsync keeps a copy of people's calendars in Postgres and answers who is busy, in SQL. In this tour, of some ten
seconds, the server, the background worker and the HTTP are real; a fake on this machine plays the part of Google."

# ----------------------------------------------------------------------------------------------------------------------
chapter "Subscribe"
tell "Install the extension, and give the application's role the right to use it:"
sql "CREATE ROLE app LOGIN;"
sql "CREATE DATABASE calendars OWNER app;"
as_postgres_in_calendars
sql "CREATE EXTENSION pg_calsync;"
sql "GRANT calsync_operator, calsync_detail TO app;"
as_app
tell "Anna and Ben work in Vienna, Carol in New York. One call each; the worker fetches their events at once:"
sql "SELECT calsync_subscribe(who || '@example.com') FROM unnest('{anna,ben,carol}'::text[]) AS who;"
await "the first sync" 20 "(SELECT bool_and(state = 'active') FROM calsync.status)"
sql "SELECT calendar, state, time_zone, events, date_trunc('second', synced_at) AS synced_at
FROM calsync.status ORDER BY calendar;"
check "three calendars are in sync" "(SELECT count(*) = 3 AND bool_and(state = 'active') AND sum(flagged) = 0
    AND array_agg(time_zone ORDER BY calendar) = '{Europe/Vienna,Europe/Vienna,America/New_York}'
    FROM calsync.status)"

# ----------------------------------------------------------------------------------------------------------------------
chapter "Who is busy?"
tell "Next week, as seen in Vienna. All three have a weekly stand-up on Monday, 15:30 in Vienna; this time it was moved to
Tuesday. Wednesday is an all-day off-site: from midnight to midnight where each of them lives, so Carol's begins later.
On Thursday Ben is out of office; on Friday he has declined an interview, which is no reason to call him busy."
sql "SELECT * FROM calsync_busy('[$MON, $MON2)',
                           $TEAM);"
busy_is anna "[$MON, $MON2)" "[$TUE 11:00, $TUE 11:15)" "[$WED 00:00, $THU 00:00)" "[$THU 14:00, $THU 15:00)"
busy_is ben "[$MON, $MON2)" "[$TUE 11:00, $TUE 11:15)" "[$WED 00:00, $THU 00:00)" "[$THU 12:00, $THU 18:00)"
busy_is carol "[$MON, $MON2)" "[$TUE 11:00, $TUE 11:15)" \
    "[$WED 00:00 America/New_York, $THU 00:00 America/New_York)" \
    "[$THU 09:00 America/New_York, $THU 10:30 America/New_York)"
tell "The stand-up of the Monday after was deleted. Is everybody free at that time? And on Wednesday?"
sql "SELECT calsync_is_free('[$MON2 15:30, $MON2 15:45)', team) AS monday,
       calsync_is_free('[$WED 10:00, $WED 11:00)', team) AS wednesday
FROM CAST($TEAM AS text[]) AS team;"
check "the deleted stand-up is free, the off-site is not" \
    "calsync_is_free('[$MON2 15:30, $MON2 15:45)', $TEAM)
    AND NOT calsync_is_free('[$WED 10:00, $WED 11:00)', $TEAM)"
check "a declined invitation is free" "calsync_is_free('[$FRI, $FRI 23:59]', '{ben@example.com}')
    AND (SELECT count(*) = 1 AND NOT bool_or(blocks) FROM calsync_explain('[$FRI, $FRI 23:59]', '{ben@example.com}'))"
tell "Support wants to know why Ben's Friday is free:"
sql "SELECT summary, during, busy_status, blocks, reason
FROM calsync_explain('[$FRI, $FRI 23:59]', '{ben@example.com}');"
tell "When is anybody busy on Thursday? One multirange, ready for further arithmetic:"
sql "SELECT calsync_busy_union('[$THU, $FRI)',
                          $TEAM);"
check "Thursday's union" "calsync_busy_union('[$THU, $FRI)', $TEAM)
    = tstzmultirange('[$THU, $THU America/New_York)', '[$THU 12:00, $THU 18:00)')"

# ----------------------------------------------------------------------------------------------------------------------
chapter "Join it with your own tables"
sql "CREATE TABLE booking (customer text, host text, during tstzrange);"
sql "INSERT INTO booking VALUES
  ('Dorn', 'anna@example.com',  '[$THU 10:00, $THU 11:00)'),
  ('Ebner', 'ben@example.com',  '[$THU 13:00, $THU 14:00)'),
  ('Fox',  'carol@example.com', '[$FRI 16:00, $FRI 17:00)');"
tell "Which bookings can their hosts not keep?"
CLASHES="SELECT customer, host, busy AS clashes_with
FROM booking CROSS JOIN LATERAL calsync_busy(during, ARRAY[host]);"
sql "$CLASHES"
check "Ebner's booking clashes" "(SELECT array_agg(customer) = '{Ebner}'
    FROM booking CROSS JOIN LATERAL calsync_busy(during, ARRAY[host]))"

# ----------------------------------------------------------------------------------------------------------------------
chapter "Across the change of clocks"
tell "On $CHANGE the clocks change in Vienna. The stand-up stays at 15:30 there, and so moves for everybody else:"
BEFORE=$(day "$CHANGE - 7 days") AFTER=$(day "$CHANGE + 9 days")
sql "SELECT lower(busy) AT TIME ZONE 'Europe/Vienna' AS vienna,
       lower(busy) AT TIME ZONE 'America/New_York' AS new_york,
       lower(busy) AT TIME ZONE 'UTC' AS utc
FROM calsync_busy('[$BEFORE, $AFTER)', '{carol@example.com}');"
check "the stand-up stays at 15:30 in Vienna" "(SELECT count(*) = 3
    AND bool_and((lower(busy) AT TIME ZONE 'Europe/Vienna')::time = '15:30')
    AND count(DISTINCT (lower(busy) AT TIME ZONE 'UTC')::time) = 2
    FROM calsync_busy('[$BEFORE, $AFTER)', '{carol@example.com}'))"

# ----------------------------------------------------------------------------------------------------------------------
chapter "It never says \"free\" out of ignorance"
tell "A calendar that it does not know, and a time that it does not hold, are errors with an SQLSTATE and the way out:"
FAR=$(day "$MON + 700 days")
sql_fails SC001 "SELECT calsync_is_free('[$FRI 10:00, $FRI 11:00)', '{dave@example.com}');"
sql_fails SC002 "SELECT calsync_is_free('[$FAR 10:00, $FAR 11:00)', '{anna@example.com}');"
tell "What it does hold:"
sql "SELECT calendar, lower(covered)::date AS from, upper(covered)::date AS to, usable, reason
FROM calsync_coverage('{anna@example.com,dave@example.com}');"
check "all calendars are usable for a year" "(SELECT count(*) = 3 AND bool_and(usable)
    AND bool_and(covered @> tstzrange(now() - '29 days'::interval, now() + '364 days'::interval))
    FROM calsync_coverage())"

# ----------------------------------------------------------------------------------------------------------------------
chapter "An answer is a range of an index"
tell "No statement is planned and run inside: of each calendar, the function reads one range of an index, and the interval
after it. EXPLAIN counts the pages of 8 kB it looked at, for all three calendars:"
show_pages "SELECT * FROM calsync_busy('[$MON, $MON2)',
                           $TEAM)"

# ----------------------------------------------------------------------------------------------------------------------
chapter "Somebody moves an event"
tell "In Google, Anna's customer call moves from Thursday 14:00 to 10:00, where Dorn has a booking with her.
The worker polls every five minutes; a webhook, or a button, would not wait but call calsync_sync:"
call='{"start": {"dateTime": "'$THU'T10:00:00", "timeZone": "Europe/Vienna"},
 "end": {"dateTime": "'$THU'T11:00:00", "timeZone": "Europe/Vienna"}}'
shell "curl -X PATCH $FAKE_CONTROL/calendars/anna@example.com/events/customercall -d '
$call'"
measure_from_change at_google PATCH /calendars/anna@example.com/events/customercall "$call"
sql "SELECT calsync_sync('anna@example.com');"
measure_to_answer "calsync_is_free('[$THU 14:00, $THU 15:00)', '{anna@example.com}')
    AND NOT calsync_is_free('[$THU 10:00, $THU 11:00)', '{anna@example.com}')"
sql "$CLASHES"
check "Dorn's booking clashes now" "(SELECT array_agg(customer ORDER BY customer) = '{Dorn,Ebner}'
    FROM booking CROSS JOIN LATERAL calsync_busy(during, ARRAY[host]))"
tell "From the change at Google to the changed answer: $MEASURED ms, of which a good part went into starting curl and psql."

# ----------------------------------------------------------------------------------------------------------------------
chapter "Google goes down, and comes back"
at_google POST /outage '{"mode": "refuse"}'
tell "Google refuses connections from now on. We ask for a sync all the same:"
sql "SELECT calsync_sync();"
await "the worker to notice" 10 "(SELECT bool_and(state = 'backoff') FROM calsync.status)"
sql "SELECT calendar, state, failures, date_trunc('second', next_sync_at) AS next_try, last_error
FROM calsync.status ORDER BY calendar;"
check "the failure is told" "(SELECT bool_and(last_error <> '' AND failures > 0) FROM calsync.status)"
tell "Answers go on, from the copy, until it is older than calsync.max_staleness (a day); then they become errors:"
sql "SELECT * FROM calsync_busy('[$THU, $FRI)', '{anna@example.com}');"
busy_is anna "[$THU, $FRI)" "[$THU 10:00, $THU 11:00)"
at_google POST /outage '{"mode": "none"}'
tell "Google is back. Nobody needs to do anything: the worker tries again, first after a second, then ever more slowly."
await "the worker's next try" 60 "(SELECT bool_and(state = 'active') FROM calsync.status)"
sql "SELECT calendar, state, failures, date_trunc('second', synced_at) AS synced_at
FROM calsync.status ORDER BY calendar;"
check "all is well again" "(SELECT bool_and(failures = 0 AND last_error IS NULL) FROM calsync.status)"

tell "That was the demo; each answer above was checked, too. Its cluster and its Google are gone now.
  make play    a psql prompt on such a cluster, with such a Google, to try things
  README.md    how to install it, and everything else"
