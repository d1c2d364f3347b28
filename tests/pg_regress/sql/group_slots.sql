-- When are enough of each group free? And who is.
\set ECHO none
\i words.sql

SELECT count(calsync_subscribe(calendar, 'none')) AS subscribed FROM unnest('{anna,ben,cleo,big,small}'::text[]) AS calendar;
SELECT calsync_apply_delta(pg_temp.list('anna', 'one', pg_temp.event('a', 1, '09:00', '10:00')));
SELECT calsync_apply_delta(pg_temp.list('ben', 'one', pg_temp.event('a', 1, '09:30', '10:30')));
SELECT calsync_apply_delta(pg_temp.list('cleo', 'one', pg_temp.event('a', 1, '10:30', '11:00')));
SELECT calsync_apply_delta(pg_temp.list('big', 'one', pg_temp.event('a', 1, '08:00', '09:00')));
SELECT calsync_apply_delta(pg_temp.list('small', 'one'));

-- Collective: all of them.
SELECT pg_temp.shown(slot), calendars FROM calsync_group_slots(pg_temp.between(1, '08:00', '12:00'),
    '[{"all": true, "calendars": ["anna", "ben", "cleo"]}]', '30 min', '30 min');

-- Round robin: any of them; all that are free are named, in the order of the groups.
SELECT pg_temp.shown(slot), calendars FROM calsync_group_slots(pg_temp.between(1, '09:00', '11:00'),
    '[{"any": 1, "calendars": ["cleo", "ben", "anna"]}]', '30 min', '30 min');

-- Two people and one of two rooms.
SELECT pg_temp.shown(slot), calendars FROM calsync_group_slots(pg_temp.between(1, '08:00', '11:00'),
    '[{"any": 2, "calendars": ["anna", "ben", "cleo"]}, {"any": 1, "calendars": ["big", "small"]}]', '30 min', '30 min');

-- Anna in any case, and one of the others; who is in two groups counts in both and is named once.
SELECT pg_temp.shown(slot), calendars FROM calsync_group_slots(pg_temp.between(1, '08:00', '11:00'),
    '[{"all": true, "calendars": ["anna"]}, {"any": 2, "calendars": ["anna", "ben", "cleo"]}]', '30 min', '30 min');

-- The other arguments are those of calsync_slots.
SELECT pg_temp.shown(slot), calendars FROM calsync_group_slots(pg_temp.during(1, 2), '[{"any": 1, "calendars": ["anna", "ben"]}]', '30 min', '1 hour',
    'Asia/Kolkata', tstzmultirange(pg_temp.between(1, '08:00', '11:00')), '10 min', '10 min', '1 hour', 2);

-- Malformed groups are refused, with the place.
SELECT pg_temp.refusal(format('SELECT calsync_group_slots(pg_temp.during(1, 2), %L, ''30 min'')', groups))
FROM unnest(ARRAY['{}', '[]', '[7]', '[{"any": 1}]', '[{"calendars": ["anna"]}]', '[{"all": true, "any": 1, "calendars": ["anna"]}]',
                  '[{"all": false, "calendars": ["anna"]}]', '[{"all": true, "calendars": []}]', '[{"all": true, "calendars": ["anna", 7]}]',
                  '[{"all": true, "calendars": ["anna"]}, {"any": 3, "calendars": ["ben", "cleo", "ben"]}]',
                  '[{"any": 0, "calendars": ["anna"]}]', '[{"any": 1, "calendar": ["anna"]}]']::jsonb[]) AS groups;
SELECT pg_temp.refusal($$ SELECT calsync_group_slots(pg_temp.during(1, 2), NULL, '30 min') $$);
SELECT pg_temp.refusal($$ SELECT calsync_group_slots(pg_temp.during(1, 2), '[{"any": 1, "calendars": ["anna", "zoe", "yan"]}]', '30 min') $$);

SELECT count(calsync_unsubscribe(calendar)) FROM unnest('{anna,ben,cleo,big,small}'::text[]) AS calendar;
