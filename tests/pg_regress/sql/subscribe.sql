-- Subscribing: which calendars are kept, and by which names.
\set ECHO none
\i words.sql

-- A calendar that the application feeds by itself.
SELECT calsync_subscribe('room', provider => 'none', time_zone => 'Europe/Vienna') AS room \gset
SELECT calendar, provider, owner = current_user AS mine, remote_id, time_zone, options, state, isempty(covered) AS nothing_covered
FROM calsync.subscription WHERE subscription_id = :room;

-- Saying the same twice is harmless: it is the same subscription.
SELECT calsync_subscribe('room', 'none', time_zone => 'Europe/Vienna') = :room AS same;

-- Saying something else is refused, not silently kept.
SELECT pg_temp.refusal($$ SELECT calsync_subscribe('room', 'none', remote_id => 'other', options => '{"store": "full"}') $$);

-- Google's calendars. Rolled back here, or a worker would ask Google about them.
BEGIN;
SELECT calsync_add_credential('team', 'google', '{}');
SELECT calsync_subscribe('alice@example.com', credential => 'team') IS NOT NULL AS subscribed;
SELECT calsync_subscribe('acme:alice', remote_id => 'alice@example.com') IS NOT NULL AS the_same_under_another_name;
SELECT calendar, provider, remote_id, credential, state, next_sync_at <= now() AS due
FROM calsync.subscription WHERE provider = 'google' ORDER BY calendar;
SELECT pg_temp.refusal($$ SELECT calsync_drop_credential('team') $$);
ROLLBACK;

-- What cannot be meant is refused.
SELECT pg_temp.refusal($$ SELECT calsync_subscribe(NULL) $$);
SELECT pg_temp.refusal($$ SELECT calsync_subscribe('') $$);
SELECT pg_temp.refusal($$ SELECT calsync_subscribe(repeat('x', 1025)) $$);
SELECT pg_temp.refusal($$ SELECT calsync_subscribe('a', 'outlook') $$);
SELECT pg_temp.refusal($$ SELECT calsync_subscribe('a', NULL) $$);
SELECT pg_temp.refusal($$ SELECT calsync_subscribe('a', remote_id => '') $$);
SELECT pg_temp.refusal($$ SELECT calsync_subscribe('a', time_zone => 'Vienna') $$);
SELECT pg_temp.refusal($$ SELECT calsync_subscribe('a', credential => 'nobody''s') $$);
SELECT pg_temp.refusal($$ SELECT calsync_subscribe('a', options => '[]') $$);
SELECT pg_temp.refusal($$ SELECT calsync_subscribe('a', options => '{"max_stalenes": 5}') $$);
SELECT pg_temp.refusal($$ SELECT calsync_subscribe('a', options => '{"max_staleness": "soon"}') $$);
SELECT pg_temp.refusal($$ SELECT calsync_subscribe('a', options => '{"store": "everything"}') $$);
SELECT pg_temp.refusal($$ SELECT calsync_subscribe('a', options => '{"incremental": "no"}') $$);
SELECT pg_temp.refusal($$ SELECT calsync_subscribe('a', options => '{"busy": {"tentative": "maybe"}}') $$);
SELECT pg_temp.refusal($$ SELECT calsync_subscribe('a', options => '{"busy": {"holiday": "free"}}') $$);

-- Everything an option can say.
SELECT calsync_subscribe('choosy', 'none', options => '{
    "store": "busy_only", "max_staleness": "6h", "incremental": true,
    "busy": {"declined": "tentative", "working_location": "working_elsewhere", "birthday": "free", "transparent": "free",
             "out_of_office": "busy", "tentative": "free", "needs_action": "free", "focus_time": "out_of_office",
             "from_gmail": "tentative"}}') IS NOT NULL AS subscribed;
SELECT max_staleness FROM calsync.subscription WHERE calendar = 'choosy';

-- A secret that is none is told by its keys, and never repeated in the error.
SELECT pg_temp.refusal($$ SELECT calsync_add_credential('c', 'google', '{"refresh_token": "hunter2"}') $$);
SELECT pg_temp.refusal($$ SELECT calsync_add_credential('c', 'google', '"hunter2"') $$);
SELECT pg_temp.refusal($$ SELECT calsync_add_credential('c', 'google', '{"client_id": "a", "client_secret": "hunter2", "refreshToken": "hunter2"}') $$);
SELECT pg_temp.refusal($$ SELECT calsync_add_credential('c', 'google', '{"file": "secret.json"}') $$);
SELECT pg_temp.refusal($$ SELECT calsync_add_credential('c', 'none', '{}') $$);
SELECT pg_temp.refusal($$ SELECT calsync_add_credential('', 'google', '{}') $$);
SELECT pg_temp.refusal($$ SELECT calsync_add_credential('c', 'google', NULL) $$);
-- Nor is one that was typed as a name.
SELECT pg_temp.refusal($$ SELECT calsync_add_credential('{"token": "hunter2"}', 'google', '{}') $$);
SELECT pg_temp.refusal($$ SELECT calsync_subscribe('a', credential => ' {"token": "hunter2"}') $$);
-- It has a bound.
SELECT pg_temp.refusal($$ SELECT calsync_add_credential('c', 'google', jsonb_build_object('token', repeat('hunter2', 2000))) $$);
SELECT pg_temp.refusal($$ SELECT calsync_add_credential('c', 'google', jsonb_build_object('token', repeat('hunter2', 10000))) $$);
SELECT calsync_add_credential('c', 'google', '{}');
SELECT calsync_add_credential('c', 'google', '{}');
SELECT calsync_add_credential('c', 'google', '{"token": "hunter2"}');
SELECT length(secret) > 40 AS sealed, position('hunter2' IN encode(secret, 'escape')) = 0 AS unreadable
FROM calsync.credential WHERE name = 'c';
SELECT calsync_rotate_key() AS sealed_anew;
SELECT calsync_rotate_key(false) AS sealed_anew;
SELECT pg_temp.refusal($$ SELECT calsync_rotate_key(NULL) $$);
SELECT calsync_drop_credential('c') AS there_was_one, calsync_drop_credential('c') AS another;

-- Pausing and resuming. What the application feeds is never due, and neither is what is paused.
SELECT calsync_sync('room') AS due;
SELECT calsync_pause('room');
SELECT calsync_pause('room');
SELECT state, next_sync_at FROM calsync.subscription WHERE calendar = 'room';
SELECT calsync_resume('room');
SELECT calsync_resume('room');
SELECT state, next_sync_at FROM calsync.subscription WHERE calendar = 'room';
BEGIN;
SELECT calsync_subscribe('alice') IS NOT NULL AS subscribed;
SELECT calsync_sync('alice') AS due, calsync_sync() AS all_due;
SELECT calsync_pause('alice');
SELECT calsync_sync('alice') AS due, calsync_sync() AS all_due;
SELECT state, next_sync_at FROM calsync.subscription WHERE calendar = 'alice';
SELECT calsync_resume('alice');
SELECT state, next_sync_at <= now() AS due FROM calsync.subscription WHERE calendar = 'alice';
ROLLBACK;

-- Resyncing drops the token: the next delta must be a full list. Until then the answers stay.
SELECT calsync_apply_delta(pg_temp.list('room', 'one', pg_temp.event('a', 1, '08:00', '09:00')));
SELECT calsync_resync('room');
SELECT sync_token FROM calsync.subscription WHERE calendar = 'room';
SELECT pg_temp.shown(busy) FROM calsync_busy(pg_temp.during(0, 7), '{room}');
SELECT pg_temp.refused_delta(pg_temp.changes('room', 'one', 'two'));

-- A calendar that nobody subscribed is an error everywhere but where one asks to forget it.
SELECT pg_temp.refusal($$ SELECT calsync_pause('nobody''s') $$);
SELECT pg_temp.refusal($$ SELECT calsync_resume('nobody') $$);
SELECT pg_temp.refusal($$ SELECT calsync_resync('nobody') $$);
SELECT pg_temp.refusal($$ SELECT calsync_sync('nobody') $$);
SELECT pg_temp.refusal($$ SELECT calsync_pause(NULL) $$);
SELECT calsync_unsubscribe('nobody');
SELECT pg_temp.refusal($$ SELECT calsync_unsubscribe(NULL) $$);

-- Forgetting leaves nothing behind.
SELECT calsync_unsubscribe('room'), calsync_unsubscribe('choosy'), calsync_unsubscribe('room') AS again;
SELECT (SELECT count(*) FROM calsync.subscription) AS subscriptions, (SELECT count(*) FROM calsync.event) AS events,
       (SELECT count(*) FROM calsync.occurrence) AS occurrences, (SELECT count(*) FROM calsync.busy) AS busy,
       (SELECT count(*) FROM calsync.sync_run) AS history, (SELECT count(*) FROM calsync.staged_round) AS staged;
