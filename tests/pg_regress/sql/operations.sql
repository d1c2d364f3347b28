-- What an operator does: check, repair, clean, follow the change feed.
\set ECHO none
\i words.sql

SELECT calsync_subscribe('room', 'none', options => '{"changes": true}') IS NOT NULL AS subscribed;
SELECT calsync_apply_delta(pg_temp.list('room', 'one', pg_temp.event('a', 1, '08:00', '09:00'),
    pg_temp.event('s', 1, '12:00', '12:30', '{"recurrence": ["RRULE:FREQ=DAILY;COUNT=3"]}'),
    pg_temp.event('old', -60, '08:00', '09:00')));

-- All is well.
SELECT * FROM calsync_check();
SELECT * FROM calsync_repair();

-- Damage, as a superuser can do it.
DELETE FROM calsync.occurrence WHERE event_id = 's';
SELECT calendar, problem, event_id, regexp_replace(detail, 'at .*', 'at <time>') AS detail FROM calsync_check();
SELECT * FROM calsync_repair();
SELECT * FROM calsync_check();
DELETE FROM calsync.busy;
SELECT calendar, problem, event_id, regexp_replace(detail, 'at .*', 'at <time>') AS detail FROM calsync_check('{room}');
SELECT * FROM calsync_repair('{room}');
INSERT INTO calsync.event (subscription_id, event_id, kind, busy_status) VALUES (0, 'c', 'unreadable', 'busy');
SELECT * FROM calsync_check();
SELECT * FROM calsync_check('{room}');
SELECT * FROM calsync_repair();
UPDATE calsync.subscription SET full_synced_at = NULL, covered = 'empty' WHERE calendar = 'room';
SELECT calendar, problem, event_id FROM calsync_check();
SELECT * FROM calsync_repair();
SELECT * FROM calsync_check();
SELECT sync_token IS NULL AS must_be_fed_anew FROM calsync.status WHERE calendar = 'room';

-- Of calendars that there are.
SELECT pg_temp.refusal($$ SELECT calsync_check('{cellar}') $$);
SELECT pg_temp.refusal($$ SELECT calsync_repair('{NULL}') $$);

-- What is past goes.
SELECT complete FROM calsync_apply_delta(pg_temp.list('room', 'two', pg_temp.event('a', 1, '08:00', '09:00'),
    pg_temp.event('s', 1, '12:00', '12:30', '{"recurrence": ["RRULE:FREQ=DAILY;COUNT=3"]}'),
    pg_temp.event('old', -60, '08:00', '09:00')));
SELECT * FROM calsync_cleanup();
SELECT events FROM calsync.status WHERE calendar = 'room';

-- The change feed: what happened to which event.
SELECT max(change_id) AS seen FROM calsync_changes() \gset
SELECT complete FROM calsync_apply_delta(pg_temp.changes('room', 'two', 'three', pg_temp.cancelled('a'),
    pg_temp.event('b', 2, '08:00', '09:00', '{"transparency": "transparent"}'),
    pg_temp.event('s2', 2, '15:00', '16:00', jsonb_build_object('recurringEventId', 's',
        'originalStartTime', jsonb_build_object('dateTime', pg_temp.at(2, '12:00'))))));
SELECT event_id, what, pg_temp.shown(before) AS before, pg_temp.shown(after) AS after, busy_status_before, busy_status_after
FROM calsync_changes(:seen, '{room}') ORDER BY event_id;

-- A cursor belongs to one calendar, and to what is kept of it.
SELECT pg_temp.refusal('SELECT calsync_changes(1)');
SELECT pg_temp.refusal('SELECT calsync_changes(NULL)');
SELECT calsync_unsubscribe('room');
SELECT calsync_subscribe('room', 'none', options => '{"changes": true}') IS NOT NULL AS subscribed;
SELECT complete FROM calsync_apply_delta(pg_temp.list('room', 'one', pg_temp.event('a', 1, '08:00', '09:00')));
SELECT pg_temp.refusal($$ SELECT calsync_changes(1, '{room}') $$);

-- Who may: a reader asks for health, of what it may see; changes are for detail and operators, the rest for operators.
CREATE ROLE regress_calsync_reader IN ROLE calsync_reader;
CREATE ROLE regress_calsync_operator IN ROLE calsync_operator;
CREATE ROLE regress_calsync_other IN ROLE calsync_operator;
SET ROLE regress_calsync_operator;
SELECT calsync_subscribe('mine', 'none', options => '{"changes": true}') IS NOT NULL AS subscribed;
SELECT complete FROM calsync_apply_delta(pg_temp.list('mine', 'one', pg_temp.event('a', 1, '08:00', '09:00')));
SELECT calendar, event_id, what FROM calsync_changes();
RESET ROLE;
DELETE FROM calsync.busy;
INSERT INTO calsync.event (subscription_id, event_id, kind, busy_status) VALUES (0, 'c', 'unreadable', 'busy');
UPDATE calsync.sync_run SET finished_at = finished_at - interval '8 days'
WHERE subscription_id = (SELECT subscription_id FROM calsync.subscription WHERE calendar = 'mine');
SET ROLE regress_calsync_operator;
SELECT calendar, problem FROM calsync_check();
SET ROLE regress_calsync_other;
SELECT calendar, problem FROM calsync_check();
SELECT * FROM calsync_repair();
SELECT * FROM calsync_cleanup() WHERE removed > 0;
SELECT calendar, event_id, what FROM calsync_changes();
SELECT pg_temp.refusal($$ SELECT calsync_changes(0, '{mine}') $$);
SELECT calsync_health() -> 'never_synced' AS never_synced, calsync_health() -> 'calendars' -> 'active' AS active;
SELECT count(*) FROM calsync.progress;
SELECT count(*) FROM calsync.stat_provider;
SET ROLE regress_calsync_reader;
SELECT pg_temp.refusal('SELECT calsync_changes()');
SELECT calsync_health() -> 'calendars' -> 'active' AS active;
SELECT pg_temp.refusal('SELECT calsync_check()');
SELECT pg_temp.refusal('SELECT calsync_repair()');
SELECT pg_temp.refusal('SELECT calsync_cleanup()');
SELECT count(*) FROM calsync.owned_subscription;
SET ROLE regress_calsync_operator;
SELECT * FROM calsync_cleanup() WHERE removed > 0;
RESET ROLE;
SELECT calendar, problem FROM calsync_check() ORDER BY 1;
SELECT calendar, problem, action FROM calsync_repair() ORDER BY 1;
SELECT calendar, problem FROM calsync_check();
SELECT calsync_unsubscribe('room'), calsync_unsubscribe('mine');
DROP ROLE regress_calsync_reader, regress_calsync_operator, regress_calsync_other;
