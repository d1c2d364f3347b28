-- Who is busy: what counts, how it is cut and merged, and what is never answered.
\set ECHO none
\i words.sql

SELECT calsync_subscribe('alice', 'none') IS NOT NULL, calsync_subscribe('bob', 'none') IS NOT NULL AS subscribed;

-- What an event makes of its time.
SELECT calsync_apply_delta(pg_temp.list('alice', 'one',
    pg_temp.event('meeting', 1, '01:00', '02:00'),
    pg_temp.event('invitation', 1, '03:00', '04:00', '{"attendees": [{"self": true, "responseStatus": "needsAction"}]}'),
    pg_temp.event('accepted', 1, '05:00', '06:00', '{"attendees": [{"responseStatus": "declined"}, {"self": true, "responseStatus": "accepted"}]}'),
    pg_temp.event('declined', 1, '07:00', '08:00', '{"attendees": [{"self": true, "responseStatus": "declined"}]}'),
    pg_temp.event('maybe', 1, '09:00', '10:00', '{"attendees": [{"self": true, "responseStatus": "tentative"}]}'),
    pg_temp.event('tentative', 1, '11:00', '12:00', '{"status": "tentative"}'),
    pg_temp.event('transparent', 1, '13:00', '14:00', '{"transparency": "transparent"}'),
    pg_temp.event('away', 1, '15:00', '16:00', '{"eventType": "outOfOffice"}'),
    pg_temp.event('focus', 1, '17:00', '18:00', '{"eventType": "focusTime"}'),
    pg_temp.event('home', 1, '19:00', '20:00', '{"eventType": "workingLocation"}'),
    pg_temp.event('flight', 1, '21:00', '22:00', '{"eventType": "fromGmail"}'),
    pg_temp.event('reminder', 1, '23:00', '23:00'),
    pg_temp.days('birthday', 1, 2, '{"eventType": "birthday", "transparency": "transparent"}')));
SELECT event_id, busy_status FROM calsync.event ORDER BY starts_at, event_id;

-- By default tentative, busy and out_of_office block.
SELECT calendar, pg_temp.shown(busy) FROM calsync_busy(pg_temp.during(1, 2), '{alice}');
SELECT pg_temp.shown(busy) FROM calsync_busy(pg_temp.during(1, 2), '{alice}', '{tentative}');
SELECT pg_temp.shown(busy) FROM calsync_busy(pg_temp.during(1, 2), '{alice}', '{out_of_office,tentative}');
SELECT pg_temp.shown(busy) FROM calsync_busy(pg_temp.during(1, 2), '{alice}', '{free}');
SELECT pg_temp.shown(busy) FROM calsync_busy(pg_temp.during(1, 2), '{alice}', '{working_elsewhere}');
SELECT pg_temp.refusal($$ SELECT calsync_busy(pg_temp.during(1, 2), '{alice}', '{}') $$);

-- Overlapping and touching events are one interval, of whatever status; calendars stay apart.
SELECT calsync_apply_delta(pg_temp.list('alice', 'two',
    pg_temp.event('a', 1, '08:00', '09:00'), pg_temp.event('b', 1, '09:00', '10:00', '{"status": "tentative"}'),
    pg_temp.event('c', 1, '09:30', '11:00'), pg_temp.event('d', 1, '10:00', '10:30'), pg_temp.event('e', 1, '11:01', '12:00')));
SELECT calsync_apply_delta(pg_temp.list('bob', 'one',
    pg_temp.event('a', 1, '10:00', '14:00'), pg_temp.days('off', 3, 4, '{"eventType": "outOfOffice"}')));
SELECT calendar, pg_temp.shown(busy) FROM calsync_busy(pg_temp.during(0, 7), '{alice,bob}');
SELECT pg_temp.shown(busy) FROM calsync_busy(pg_temp.during(0, 7), '{alice}', '{busy}');

-- In the order asked for; a name that comes twice counts once.
SELECT calendar, pg_temp.shown(busy) FROM calsync_busy(pg_temp.during(0, 2), '{bob,alice,bob}');

-- The union of all, as one multirange.
SELECT pg_temp.shown(piece) FROM unnest(calsync_busy_union(pg_temp.during(0, 7), '{alice,bob}')) AS piece;
SELECT calsync_busy_union(pg_temp.during(5, 7), '{alice,bob}');

-- Clipped to what was asked.
SELECT pg_temp.shown(busy) FROM calsync_busy(tstzrange(pg_temp.at(1, '09:15')::timestamptz, pg_temp.at(1, '11:30')::timestamptz), '{alice}');
SELECT pg_temp.shown(busy) FROM calsync_busy(tstzrange(pg_temp.at(1, '09:15')::timestamptz, pg_temp.at(1, '09:45')::timestamptz), '{alice}');

-- Half open: an event is over at its end, and has not begun before its start.
SELECT calsync_is_free(tstzrange(pg_temp.at(1, '11:00')::timestamptz, pg_temp.at(1, '11:01')::timestamptz), '{alice}') AS between_two,
       calsync_is_free(tstzrange(pg_temp.at(1, '11:00')::timestamptz, pg_temp.at(1, '11:01')::timestamptz, '[]'), '{alice}') AS with_the_next_start,
       calsync_is_free(tstzrange(pg_temp.at(1, '07:00')::timestamptz, pg_temp.at(1, '08:00')::timestamptz), '{alice}') AS before,
       calsync_is_free(tstzrange(pg_temp.at(1, '12:00')::timestamptz, pg_temp.at(1, '13:00')::timestamptz), '{alice}') AS after,
       calsync_is_free(tstzrange(pg_temp.at(1, '12:00')::timestamptz, pg_temp.at(1, '13:00')::timestamptz), '{alice,bob}') AS both,
       calsync_is_free(pg_temp.during(2, 3), '{alice,bob}') AS a_free_day;
SELECT pg_temp.shown(busy) FROM calsync_busy(tstzrange(pg_temp.at(1, '08:00')::timestamptz, pg_temp.at(1, '08:00')::timestamptz, '[]'), '{alice}');

-- An empty window asks nothing, but still of calendars that there are. No calendars, no answer.
SELECT count(*) FROM calsync_busy('empty', '{alice}');
SELECT calsync_is_free('empty', '{alice}');
SELECT pg_temp.refusal($$ SELECT calsync_is_free('empty', '{alice,nobody}') $$);
SELECT pg_temp.refusal($$ SELECT calsync_busy(pg_temp.during(1, 2), '{}') $$);

-- NULL is never an answer: each is refused rather than taken for "free".
SELECT pg_temp.refusal($$ SELECT calsync_busy(NULL, '{alice}') $$);
SELECT pg_temp.refusal($$ SELECT calsync_busy(pg_temp.during(1, 2), NULL) $$);
SELECT pg_temp.refusal($$ SELECT calsync_busy(pg_temp.during(1, 2), '{alice,NULL}') $$);
SELECT pg_temp.refusal($$ SELECT calsync_busy(pg_temp.during(1, 2), '{alice}', '{busy,NULL}') $$);
SELECT pg_temp.refusal($$ SELECT calsync_is_free(NULL, '{alice}') $$);
SELECT pg_temp.refusal($$ SELECT calsync_busy_union(NULL, '{alice}') $$);

-- Unknown (SC001), never fed (SC002), outside the window (SC002), stale (SC003): refused, with the fix.
SELECT calsync_subscribe('new', 'none') IS NOT NULL, calsync_subscribe('fresh', 'none', options => '{"max_staleness": "1h"}') IS NOT NULL AS subscribed;
SELECT calsync_apply_delta(pg_temp.list('fresh', 'one', pg_temp.event('a', 1, '08:00', '09:00')));
SELECT pg_temp.refusal($$ SELECT calsync_busy(pg_temp.during(1, 2), '{alice,nobody}') $$);
SELECT pg_temp.refusal($$ SELECT calsync_busy(pg_temp.during(1, 2), '{alice,new}') $$);
SELECT pg_temp.refusal($$ SELECT calsync_busy(pg_temp.during(1, 4000), '{alice}') $$);
SELECT pg_temp.refusal($$ SELECT calsync_busy(pg_temp.during(-4000, 1), '{alice}') $$);
SELECT pg_temp.refusal($$ SELECT calsync_busy('(,)', '{alice}') $$);
-- However many there are, the message counts them and DETAIL names them all.
DO $$
DECLARE
    message text; detail text; hint text;
BEGIN
    PERFORM calsync_is_free(pg_temp.during(1, 2), (SELECT array_agg('nobody' || n ORDER BY n) FROM generate_series(1, 25) AS n));
EXCEPTION WHEN SQLSTATE 'SC001' THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    ASSERT message LIKE '25 of 25 calendars cannot answer: "nobody1", % "nobody20" and 5 more', message;
    ASSERT cardinality(regexp_split_to_array(detail, E'\n')) = 25 AND detail LIKE '%calendar "nobody25" is unknown:%', detail;
    ASSERT hint LIKE 'SELECT * FROM calsync_coverage(calendars);%', hint;
END $$;
SELECT pg_temp.refusal($$ SELECT calsync_busy('(-infinity,infinity)', '{alice}') $$);
SELECT calendar, pg_temp.shown(busy) FROM calsync_busy(pg_temp.during(1, 2), '{fresh}');
UPDATE calsync.subscription SET synced_at = now() - interval '61 min' WHERE calendar IN ('fresh', 'bob');
SELECT pg_temp.refusal($$ SELECT calsync_busy(pg_temp.during(1, 2), '{fresh}') $$);
SELECT calsync_pause('fresh');
SELECT pg_temp.refusal($$ SELECT calsync_busy(pg_temp.during(1, 2), '{fresh}') $$);

-- calsync.max_staleness is about calendars that are synced: what the application feeds is as fresh as it says.
SET calsync.max_staleness = '1h';
SELECT count(*) FROM calsync_busy(pg_temp.during(1, 2), '{bob}');
BEGIN;
SELECT calsync_subscribe('carol') IS NOT NULL AS subscribed;
SELECT calsync_apply_delta(pg_temp.list('carol', 'one', pg_temp.event('a', 1, '08:00', '09:00')));
SELECT calendar, pg_temp.shown(busy) FROM calsync_busy(pg_temp.during(1, 2), '{carol}');
UPDATE calsync.subscription SET synced_at = now() - interval '61 min' WHERE calendar = 'carol';
SELECT pg_temp.refusal($$ SELECT calsync_busy(pg_temp.during(1, 2), '{carol}') $$);
SET LOCAL calsync.max_staleness = '62min';
SELECT calendar, pg_temp.shown(busy) FROM calsync_busy(pg_temp.during(1, 2), '{carol}');
ROLLBACK;

-- calsync.on_uncovered = busy: what is not known counts as busy.
SET calsync.on_uncovered = 'busy';
SELECT calendar, pg_temp.shown(busy) FROM calsync_busy(pg_temp.during(1, 2), '{alice,new,nobody,fresh}');
SELECT calsync_is_free(pg_temp.during(2, 3), '{alice}') AS alice, calsync_is_free(pg_temp.during(2, 3), '{new}') AS new;
SELECT lower(busy) = upper(s.covered) AS from_the_end_of_cover, pg_temp.shown(upper(busy)) AS till
FROM calsync_busy(pg_temp.during(2, 12000), '{alice}') CROSS JOIN calsync.subscription AS s WHERE s.calendar = 'alice';
SELECT pg_temp.shown(lower(busy)) AS since, upper(busy) = lower(s.covered) AS till_the_start_of_cover
FROM calsync_busy(pg_temp.during(-4000, 1), '{alice}') CROSS JOIN calsync.subscription AS s WHERE s.calendar = 'alice';
SELECT count(*), bool_or(lower_inf(busy)) AS from_the_beginning, bool_or(upper_inf(busy)) AS to_the_end FROM calsync_busy('(,)', '{alice}');
SELECT count(*) FROM calsync_busy('(-infinity,infinity)', '{alice}');
SELECT count(*) FROM calsync_busy('[-infinity,294276-12-31 23:59:59.999999+00]', '{alice}');
SELECT count(*) FROM calsync_busy('[-infinity,-infinity]', '{alice}');
SELECT count(*) FROM calsync_busy('empty', '{nobody}');
-- In an empty window nobody is busy, but who is unknown is not known to be free.
SELECT calsync_is_free('empty', '{alice,new}') AS known, calsync_is_free('empty', '{alice,nobody}') AS unknown;
-- The answer lies within the window, also where that ends at what Postgres calls infinity.
SELECT during, bool_and(busy <@ during) AS busy_within, calsync_busy_union(during, '{alice}') <@ during AS union_within
FROM unnest('{"[2026-01-01,infinity)","[2026-01-01,infinity]","(-infinity,2026-01-01)","[-infinity,2026-01-01)","[-infinity,294276-12-31 23:59:59.999999+00]","(,)"}'::tstzrange[]) AS during,
    LATERAL calsync_busy(during, '{alice,nobody}') AS b
GROUP BY during ORDER BY during;

-- calsync.on_uncovered = ignore: answers from what is there, and may say "free" out of ignorance.
SET calsync.on_uncovered = 'ignore';
SELECT calendar, pg_temp.shown(busy) FROM calsync_busy(pg_temp.during(1, 2), '{alice,new,nobody,fresh}');
SELECT count(*) FROM calsync_busy('(,)', '{alice}');
SELECT calsync_is_free(pg_temp.during(1, 2), '{nobody}');
SELECT calsync_is_free('empty', '{nobody}');
RESET calsync.on_uncovered;

-- Or for one call; null leaves it to the setting.
SELECT calendar, pg_temp.shown(busy) FROM calsync_busy(pg_temp.during(1, 2), '{nobody}', on_uncovered => 'busy');
SELECT calsync_is_free(during => pg_temp.during(1, 2), calendars => '{nobody}', on_uncovered => 'busy');
SELECT calsync_is_free('empty', '{nobody}', 'busy');
SELECT pg_temp.refusal($$ SELECT calsync_is_free('empty', '{nobody}', NULL) $$);

-- The answer is an index range, whatever else is in the plan: joined with the application's own tables.
SELECT s.calendar, pg_temp.shown(b.busy)
FROM calsync.subscription AS s, calsync_busy(pg_temp.during(0, 7), ARRAY[s.calendar]) AS b
WHERE s.calendar IN ('alice', 'bob') ORDER BY s.calendar, b.busy;

SELECT count(calsync_unsubscribe(calendar)) FROM unnest('{alice,bob,new,fresh}'::text[]) AS calendar;
