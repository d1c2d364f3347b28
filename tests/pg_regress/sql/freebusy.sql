-- Google's freeBusy.query, answered from the cache.
\set ECHO none
\i words.sql

SELECT count(calsync_subscribe(calendar, 'none')) AS subscribed FROM unnest('{anna,ben,new}'::text[]) AS calendar;
SELECT calsync_apply_delta(pg_temp.list('anna', 'one', pg_temp.event('a', 1, '09:00', '10:00'), pg_temp.event('b', 1, '10:00', '10:30'),
    pg_temp.event('c', 1, '12:00', '13:00', '{"transparency": "transparent"}'), pg_temp.days('d', 2, 3)));
SELECT calsync_apply_delta(pg_temp.list('ben', 'one'));

-- A request about two days for these calendars, and the answer's calendars, with days from today for dates.
\o /dev/null
CREATE FUNCTION pg_temp.request(more jsonb, VARIADIC ids text[]) RETURNS jsonb LANGUAGE sql
AS $$ SELECT jsonb_build_object('timeMin', pg_temp.at(1, '00:00'), 'timeMax', pg_temp.at(3, '00:00'),
                                'items', (SELECT jsonb_agg(jsonb_build_object('id', id)) FROM unnest(ids) AS id)) || more $$;
CREATE FUNCTION pg_temp.calendars(request jsonb) RETURNS SETOF text LANGUAGE sql
AS $$ SELECT c.key || ' ' || replace(replace(replace(c.value::text, to_char(pg_temp.today() + 1, 'YYYY-MM-DD'), '<+1>'),
                                             to_char(pg_temp.today() + 2, 'YYYY-MM-DD'), '<+2>'),
                                     to_char(pg_temp.today() + 3, 'YYYY-MM-DD'), '<+3>')
      FROM jsonb_each(calsync_freebusy(request) -> 'calendars') AS c ORDER BY c.key $$;
\o

SELECT key FROM jsonb_each(calsync_freebusy(pg_temp.request('{}', 'anna'))) ORDER BY key;
SELECT calsync_freebusy(pg_temp.request('{"timeMin": "2026-01-01T10:00:00+01:00", "timeMax": "2026-01-01T11:00:00.5Z", "items": []}', 'anna'));

-- Without items, as with none.
SELECT calsync_freebusy('{"timeMin": "2026-01-01T10:00:00Z", "timeMax": "2026-01-01T11:00:00Z"}');
SELECT calsync_freebusy('{"timeMin": "2016-12-31T23:59:60Z", "timeMax": "2017-01-01T11:00:00Z", "items": null}');

-- Merged and clipped; a calendar that is unknown is an error of its own. In UTC, or in the zone that is asked for.
SELECT pg_temp.calendars(pg_temp.request('{}', 'anna', 'ben', 'zoe', 'anna'));
SELECT pg_temp.calendars(pg_temp.request('{"timeZone": "Asia/Kolkata"}', 'anna'));

-- Google's limits are lifted; one that the client sets is kept. Groups there are none.
SELECT pg_temp.calendars(pg_temp.request('{"calendarExpansionMax": 1, "groupExpansionMax": 100}', 'anna'));
SELECT pg_temp.calendars(pg_temp.request('{"calendarExpansionMax": 1}', 'anna', 'ben'));
SELECT count(*) FROM pg_temp.calendars(pg_temp.request('{}', VARIADIC array_fill('anna'::text, '{3}') || (SELECT array_agg('nobody' || n) FROM generate_series(1, 60) AS n)));

-- What is not known is an error of its calendar, and told as busy, too.
SELECT pg_temp.calendars(pg_temp.request('{}', 'ben', 'new'));
UPDATE calsync.subscription SET gone_at = now() WHERE calendar = 'ben';
SELECT pg_temp.calendars(pg_temp.request('{}', 'ben', 'new'));
SET calsync.on_uncovered = 'busy';
SELECT pg_temp.calendars(pg_temp.request('{}', 'ben', 'new', 'zoe'));
SET calsync.on_uncovered = 'ignore';
SELECT pg_temp.calendars(pg_temp.request('{}', 'ben', 'new', 'zoe'));
RESET calsync.on_uncovered;

-- Bad requests.
SELECT pg_temp.refusal(format('SELECT calsync_freebusy(%L)', request))
FROM unnest(ARRAY['[]', '{}', '{"timeMin": "2026-01-01", "timeMax": "2026-01-02T00:00:00Z", "items": []}', '{"timeMin": "2026-01-01T00:00:00", "timeMax": "2026-01-02T00:00:00Z", "items": []}',
                  '{"timeMin": "2026-01-02T00:00:00Z", "timeMax": "2026-01-02T01:00:00+01:00", "items": []}',
                  '{"timeMin": "2026-01-01T00:00:00Z", "timeMax": "2026-01-02T00:00:00Z", "items": "anna"}', '{"timeMin": "2026-01-01T00:00:00Z", "timeMax": "2026-01-02T00:00:00Z", "items": ["anna"]}',
                  '{"timeMin": "2026-01-01T00:00:00Z", "timeMax": "2026-01-02T00:00:00Z", "items": [], "timeZone": "UTC+2"}',
                  '{"timeMin": "2026-01-01T00:00:00.0000001Z", "timeMax": "2026-01-01T00:00:00.0000002Z", "items": []}',
                  '{"timeMin": "2026-01-01T00:00:00Z", "timeMax": "2026-01-02T00:00:00Z", "items": [], "timeZone": "Mars/Olympus"}',
                  '{"timeMin": "2026-01-01T00:00:00Z", "timeMax": "2026-01-02T00:00:00Z", "items": [], "calendarExpansionMax": "50"}']::jsonb[]) AS request;
SELECT pg_temp.refusal($$ SELECT calsync_freebusy(NULL) $$);

SELECT count(calsync_unsubscribe(calendar)) FROM unnest('{anna,ben,new}'::text[]) AS calendar;
