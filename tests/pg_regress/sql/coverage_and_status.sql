-- How calendars stand: calsync_coverage, which never fails, and the view calsync.status.
\set ECHO none
\i words.sql

SELECT calsync_subscribe('alice', 'none', time_zone => 'Europe/Vienna') IS NOT NULL,
       calsync_subscribe('bob', 'none', options => '{"max_staleness": "1h"}') IS NOT NULL,
       calsync_subscribe('new', 'none') IS NOT NULL AS subscribed;
SELECT calsync_apply_delta(pg_temp.list('alice', 'one', pg_temp.event('a', 1, '08:00', '09:00'), pg_temp.event('b', 1, '10:00', '11:00')));
SELECT calsync_apply_delta(pg_temp.list('bob', 'one'));

-- All that the role may see, by name; or those asked for, in the order asked.
SELECT calendar, covered @> now() AS covers_now, synced_at <= now() AS synced, state, usable, reason FROM calsync_coverage();
SELECT calendar, state, usable, reason FROM calsync_coverage('{new,nobody,alice,new}');
SELECT count(*) FROM calsync_coverage('{}');
SELECT pg_temp.refusal($$ SELECT calsync_coverage('{alice,NULL}') $$);

-- The window: at least from now - calsync.retention to now + calsync.horizon.
SELECT lower(covered) <= now() - current_setting('calsync.retention')::interval + interval '1 min' AS back_far_enough,
       upper(covered) >= now() + current_setting('calsync.horizon')::interval AS far_enough_ahead
FROM calsync_coverage('{alice}');

-- Each reason there can be for an answer to be refused.
UPDATE calsync.subscription SET synced_at = now() - interval '61 min' WHERE calendar = 'bob';
SELECT calendar, state, usable, reason FROM calsync_coverage('{bob}');
UPDATE calsync.subscription SET state = 'gone', gone_at = now() WHERE calendar = 'alice';
SELECT calendar, state, usable, reason FROM calsync_coverage('{alice}');
SELECT pg_temp.refusal($$ SELECT calsync_busy(pg_temp.during(1, 2), '{alice}') $$);
UPDATE calsync.subscription SET state = 'backoff', gone_at = NULL, last_error = '503 backendError' WHERE calendar IN ('alice', 'new');
SELECT calendar, state, usable, reason FROM calsync_coverage('{alice,new}');
SELECT pg_temp.refusal($$ SELECT calsync_busy(pg_temp.during(1, 2), '{new}') $$);
UPDATE calsync.subscription SET state = 'active', last_error = NULL, covered = tstzrange(now() - interval '2 days', now() - interval '1 day') WHERE calendar = 'alice';
SELECT calendar, state, usable, reason FROM calsync_coverage('{alice}');

-- The next delta slides the window to where it should be.
SELECT calsync_apply_delta(pg_temp.changes('alice', 'one', 'two'));
SELECT calendar, state, usable, reason FROM calsync_coverage('{alice}');
SELECT pg_temp.shown(busy) FROM calsync_busy(pg_temp.during(1, 2), '{alice}');

-- One row a calendar, for people.
SELECT calendar, state, provider, owner = current_user AS mine, time_zone, events, flagged, failures, last_error
FROM calsync.status ORDER BY calendar;
SELECT attname, format_type(atttypid, atttypmod) AS type
FROM pg_catalog.pg_attribute WHERE attrelid = 'calsync.status'::regclass AND attnum > 0 ORDER BY attnum;

-- An event whose rule can be read but not expanded is flagged, and blocks its first occurrence.
SELECT calsync_apply_delta(pg_temp.changes('alice', 'two', 'three',
    pg_temp.event('odd', 2, '08:00', '09:00', '{"recurrence": ["RRULE:FREQ=SECONDLY"]}')));
SELECT flagged FROM calsync.status WHERE calendar = 'alice';
SELECT problem FROM calsync.event WHERE problem IS NOT NULL;
SELECT pg_temp.shown(busy) FROM calsync_busy(pg_temp.during(1, 7), '{alice}');

-- History: rounds that were full or brought something.
SELECT s.calendar, r.full_sync, r.outcome, r.pages, r.inserted, r.updated, r.deleted, r.unchanged, r.error
FROM calsync.sync_run AS r JOIN calsync.subscription AS s USING (subscription_id) ORDER BY r.run_id;

SELECT count(calsync_unsubscribe(calendar)) FROM unnest('{alice,bob,new}'::text[]) AS calendar;
