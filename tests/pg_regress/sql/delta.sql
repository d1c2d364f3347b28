-- Feeding the cache: calsync_apply_delta takes a provider's answer with the calendar's name added.
\set ECHO none
\i words.sql

SELECT calsync_subscribe('room', 'none') IS NOT NULL AS subscribed;

-- A full list: no expectedSyncToken. What is returned: (calendar, inserted, updated, deleted, unchanged, full_sync,
-- complete, sync_token).
SELECT calsync_apply_delta(pg_temp.list('room', 'one',
    pg_temp.event('a', 1, '08:00', '09:00'), pg_temp.event('b', 2, '08:00', '09:00')));

-- A delta: fetched with the token that the cache stands at. It is merged.
SELECT * FROM calsync_apply_delta(pg_temp.changes('room', 'one', 'two',
    pg_temp.event('b', 2, '10:00', '11:00'), pg_temp.event('c', 3, '08:00', '09:00'), pg_temp.cancelled('a')));
SELECT pg_temp.shown(busy) FROM calsync_busy(pg_temp.during(0, 7), '{room}');

-- An event that did not change is not written.
SELECT calsync_apply_delta(pg_temp.changes('room', 'two', 'three', pg_temp.event('c', 3, '08:00', '09:00')));

-- A delta without news still moves the token.
SELECT calsync_apply_delta(pg_temp.changes('room', 'three', 'four'));

-- A full list replaces: what it does not hold is gone.
SELECT calsync_apply_delta(pg_temp.list('room', 'five', pg_temp.event('d', 4, '08:00', '09:00')));
SELECT pg_temp.shown(busy) FROM calsync_busy(pg_temp.during(0, 7), '{room}');

-- A delta from any other token than the cache's is a conflict, and changes nothing: lost, doubled or overtaken.
SELECT pg_temp.refused_delta(pg_temp.changes('room', 'four', 'five', pg_temp.cancelled('d')));
SELECT sync_token FROM calsync.subscription WHERE calendar = 'room';

-- Page by page: readers see nothing of it until the last page comes.
SELECT calsync_apply_delta('{"calendar": "room", "pageToken": null, "nextPageToken": "p2"}' || jsonb_build_object(
    'items', jsonb_build_array(pg_temp.event('e', 1, '08:00', '09:00'))));
SELECT pg_temp.shown(busy) FROM calsync_busy(pg_temp.during(0, 7), '{room}');
SELECT calsync_apply_delta('{"calendar": "room", "pageToken": "p2", "nextPageToken": "p3", "items": []}');
SELECT calsync_apply_delta('{"calendar": "room", "pageToken": "p3", "nextSyncToken": "six"}' || jsonb_build_object(
    'items', jsonb_build_array(pg_temp.event('f', 2, '08:00', '09:00'))));
SELECT pg_temp.shown(busy) FROM calsync_busy(pg_temp.during(0, 7), '{room}');

-- pageToken is optional: pages then follow in the order in which they come.
SELECT calsync_apply_delta('{"calendar": "room", "expectedSyncToken": "six", "nextPageToken": "p2"}'
    || jsonb_build_object('items', jsonb_build_array(pg_temp.cancelled('e'))));
SELECT calsync_apply_delta('{"calendar": "room", "expectedSyncToken": "six", "nextSyncToken": "seven", "items": []}');
SELECT pg_temp.shown(busy) FROM calsync_busy(pg_temp.during(0, 7), '{room}');

-- A page out of order is a conflict. "pageToken": null begins anew.
SELECT calsync_apply_delta('{"calendar": "room", "expectedSyncToken": "seven", "nextPageToken": "p2", "items": []}');
SELECT pg_temp.refused_delta('{"calendar": "room", "expectedSyncToken": "seven", "pageToken": "p3",
    "nextSyncToken": "eight", "items": []}');
SELECT calsync_apply_delta('{"calendar": "room", "expectedSyncToken": "seven", "pageToken": null,
    "nextSyncToken": "eight", "items": []}');
SELECT pg_temp.refused_delta('{"calendar": "room", "expectedSyncToken": "eight", "pageToken": "p2",
    "nextSyncToken": "nine", "items": []}');
SELECT count(*) AS staged FROM calsync.staged_round;

-- The calendar's zone comes with the list: all-day events run from local midnight to local midnight.
SELECT calsync_apply_delta(pg_temp.list('room', 'nine', pg_temp.days('trip', 3, 5)));
SELECT pg_temp.shown(busy) FROM calsync_busy(pg_temp.during(0, 7), '{room}');
SELECT calsync_apply_delta(pg_temp.changes('room', 'nine', 'ten') || '{"timeZone": "Asia/Kolkata"}');
SELECT pg_temp.shown(busy) FROM calsync_busy(pg_temp.during(0, 7), '{room}');

-- A series, one occurrence moved and one deleted.
SELECT calsync_apply_delta(pg_temp.changes('room', 'ten', 'eleven', pg_temp.cancelled('trip'),
    pg_temp.event('s', 1, '08:00', '08:30', '{"recurrence": ["RRULE:FREQ=DAILY;COUNT=4"]}'),
    pg_temp.event('s_moved', 2, '12:00', '12:30', jsonb_build_object('recurringEventId', 's',
        'originalStartTime', jsonb_build_object('dateTime', pg_temp.at(2, '08:00')))),
    pg_temp.cancelled('s_deleted') || jsonb_build_object('recurringEventId', 's',
        'originalStartTime', jsonb_build_object('dateTime', pg_temp.at(3, '08:00')))));
SELECT pg_temp.shown(busy) FROM calsync_busy(pg_temp.during(0, 7), '{room}');
SELECT event_id, kind, busy_status FROM calsync.event ORDER BY event_id;

-- Deleting the series deletes its occurrences, moved ones too.
SELECT calsync_apply_delta(pg_temp.changes('room', 'eleven', 'twelve', pg_temp.cancelled('s')));
SELECT count(*) AS events FROM calsync.event;

-- What cannot be understood is never half applied: SC005 names what is wrong, and nothing changes.
SELECT pg_temp.refusal('SELECT calsync_apply_delta(NULL)');
SELECT pg_temp.refused_delta('"room"');
SELECT pg_temp.refused_delta('[]');
SELECT pg_temp.refused_delta('{"items": [], "nextSyncToken": "x"}');
SELECT pg_temp.refused_delta('{"calendar": 5, "items": [], "nextSyncToken": "x"}');
SELECT pg_temp.refused_delta('{"calendar": "", "items": [], "nextSyncToken": "x"}');
SELECT pg_temp.refused_delta('{"calendar": "nobody", "items": [], "nextSyncToken": "x"}');
SELECT pg_temp.refused_delta('{"calendar": "room", "nextSyncToken": "x"}');
SELECT pg_temp.refused_delta('{"calendar": "room", "items": {}, "nextSyncToken": "x"}');
SELECT pg_temp.refused_delta('{"calendar": "room", "items": []}');
SELECT pg_temp.refused_delta('{"calendar": "room", "items": [], "nextSyncToken": "x", "nextPageToken": "y"}');
SELECT pg_temp.refused_delta('{"calendar": "room", "items": [], "nextSyncToken": ""}');
SELECT pg_temp.refused_delta('{"calendar": "room", "items": [], "nextSyncToken": 7}');
SELECT pg_temp.refused_delta('{"calendar": "room", "items": [], "nextSyncToken": "x", "expectedSyncToken": {}}');
SELECT pg_temp.refused_delta('{"calendar": "room", "items": [], "nextSyncToken": "x", "pageToken": 1}');
SELECT pg_temp.refused_delta('{"calendar": "room", "items": [], "nextSyncToken": "x", "timeZone": "Mars/Olympus"}');
SELECT pg_temp.refused_delta(pg_temp.list('room', 'x', 'null'));
SELECT pg_temp.refused_delta(pg_temp.list('room', 'x', '{}'));
SELECT pg_temp.refused_delta(pg_temp.list('room', 'x', '{"id": 5}'));
SELECT pg_temp.refused_delta(pg_temp.list('room', 'x', '{"id": "ok", "status": "cancelled"}', '{"id": "a"}'));
SELECT pg_temp.refused_delta(pg_temp.list('room', 'x', pg_temp.event('a', 1, '08:00', '09:00', '{"end": {"dateTime": "noon"}}')));
SELECT pg_temp.refused_delta(pg_temp.list('room', 'x', pg_temp.event('a', 1, '08:00', '07:00')));
SELECT pg_temp.refused_delta(pg_temp.list('room', 'x', pg_temp.days('a', 2, 1)));
SELECT pg_temp.refused_delta(pg_temp.list('room', 'x', pg_temp.event('a', 1, '08:00', '09:00', '{"end": {"date": "2026-01-01"}}')));
SELECT pg_temp.refused_delta(pg_temp.list('room', 'x', pg_temp.event('a', 1, '08:00', '09:00', '{"start": {"dateTime": "2026-01-01T08:00:00"}}')));
SELECT pg_temp.refused_delta(pg_temp.list('room', 'x', pg_temp.event('a', 1, '08:00', '09:00', '{"start": {"dateTime": "2026-01-01T08:00:00Z", "timeZone": "Mars/Olympus"}}')));
SELECT pg_temp.refused_delta(pg_temp.list('room', 'x', pg_temp.event('a', 1, '08:00', '09:00', '{"status": "perhaps"}')));
SELECT pg_temp.refused_delta(pg_temp.list('room', 'x', pg_temp.event('a', 1, '08:00', '09:00', '{"recurrence": "RRULE:FREQ=DAILY"}')));
SELECT pg_temp.refused_delta(pg_temp.list('room', 'x', pg_temp.event('a', 1, '08:00', '09:00', '{"recurrence": ["RRULE:FREQ=DAILY", "RRULE:FREQ=SOMETIMES"]}')));
SELECT pg_temp.refused_delta(pg_temp.list('room', 'x', pg_temp.event('a', 1, '08:00', '09:00', '{"recurringEventId": "s"}')));
SELECT pg_temp.refused_delta(pg_temp.list('room', 'x', pg_temp.event('a', 1, '08:00', '09:00', '{"recurringEventId": "a"}')));
SELECT pg_temp.refused_delta(pg_temp.list('room', 'x', pg_temp.event('a', 1, '08:00', '09:00', '{"attendees": [{"self": "yes"}]}')));
SELECT pg_temp.refused_delta(pg_temp.list('room', 'x', (repeat('[', 500) || repeat(']', 500))::jsonb));
SELECT sync_token, (SELECT count(*) FROM calsync.event) AS events FROM calsync.subscription WHERE calendar = 'room';

-- How the session writes times makes no difference, whether a page is staged or not.
SET DateStyle = 'German, DMY';
SET TimeZone = 'Pacific/Kiritimati';
SET IntervalStyle = 'sql_standard';
SELECT calsync_apply_delta(pg_temp.list('room', 'last') - 'nextSyncToken' || '{"pageToken": null, "nextPageToken": "p2",
    "timeZone": "UTC"}' || jsonb_build_object('items', jsonb_build_array(pg_temp.event('a', 1, '08:00', '09:00',
    '{"updated": "2026-02-03T04:05:06.789Z"}'), pg_temp.days('b', 3, 4))));
SELECT calsync_apply_delta(pg_temp.list('room', 'last', pg_temp.event('a', 1, '08:00', '09:30',
    '{"updated": "2026-02-03T04:05:06.788Z"}'), pg_temp.days('c', 5, 6)));
SET DateStyle = 'ISO';
SET TimeZone = 'UTC';
RESET IntervalStyle;
SELECT pg_temp.shown(busy) FROM calsync_busy(pg_temp.during(0, 7), '{room}');

SELECT calsync_unsubscribe('room');
