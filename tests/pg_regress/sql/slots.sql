-- When could a meeting be held? Where slots begin, what keeps them apart from what is there, and how many there are.
\set ECHO none
\i words.sql

SELECT count(calsync_subscribe(calendar, 'none')) AS subscribed FROM unnest('{anna,ben}'::text[]) AS calendar;
SELECT calsync_apply_delta(pg_temp.list('anna', 'one', pg_temp.event('a', 1, '09:00', '10:00'), pg_temp.event('b', 1, '11:00', '12:00')));
SELECT calsync_apply_delta(pg_temp.list('ben', 'one', pg_temp.event('a', 1, '09:30', '10:30')));

-- On the steps, wherever everybody is free; by default every quarter of an hour.
SELECT pg_temp.shown(slot) FROM calsync_slots(pg_temp.between(1, '08:00', '13:00'), '{anna,ben}', '30 min', '30 min') AS slot;
SELECT pg_temp.shown(slot) FROM calsync_slots(pg_temp.between(1, '08:00', '13:00'), '{anna,ben}', '45 min') AS slot;
SELECT pg_temp.shown(slot) FROM calsync_slots(pg_temp.between(1, '08:07', '13:00'), '{anna}', '2 hours') AS slot;

-- Buffers are of the new meeting: nothing else may take place in them, though they may lie outside of the window.
SELECT pg_temp.shown(slot) FROM calsync_slots(pg_temp.between(1, '10:00', '13:00'), '{anna}', '30 min', '30 min', buffer_before => '1 min') AS slot;
SELECT pg_temp.shown(slot) FROM calsync_slots(pg_temp.between(1, '10:00', '13:00'), '{anna}', '30 min', '30 min', buffer_after => '30 min') AS slot;
SELECT pg_temp.shown(slot) FROM calsync_slots(pg_temp.between(1, '10:00', '11:00'), '{anna}', '30 min', '30 min', buffer_after => '20 min', buffer_before => '20 min') AS slot;

-- Within one of the hours.
SELECT pg_temp.shown(slot) FROM calsync_slots(pg_temp.during(1, 2), '{anna}', '30 min', '30 min',
    hours => tstzmultirange(pg_temp.between(1, '08:15', '09:15'), pg_temp.between(1, '12:00', '12:45'), pg_temp.between(1, '12:45', '13:00'))) AS slot;

-- Local time: in Kolkata, 5:30 from Greenwich, full hours are Greenwich's half hours; in Kathmandu its quarters.
SELECT pg_temp.shown(slot) FROM calsync_slots(pg_temp.between(2, '08:00', '10:00'), '{anna}', '30 min', '1 hour', 'Asia/Kolkata') AS slot;
SELECT pg_temp.shown(slot) FROM calsync_slots(pg_temp.between(2, '08:00', '10:00'), '{anna}', '30 min', '1 hour', 'Asia/Kathmandu') AS slot;

-- A step that does not divide the day begins anew at midnight.
SELECT pg_temp.shown(slot) FROM calsync_slots(pg_temp.during(2, 4), '{anna}', '1 hour', '7 hours') AS slot;

-- Days on which the clocks change: the hour that is skipped has no slots, the one that occurs twice has them twice.
SET calsync.on_uncovered = 'ignore';
SELECT lower(slot) AT TIME ZONE 'Europe/Vienna' AS vienna, lower(slot) AT TIME ZONE 'UTC' AS utc
FROM calsync_slots('[2050-03-27 00:00+00, 2050-03-27 02:00+00)', '{anna}', '30 min', '30 min', 'Europe/Vienna') AS slot;
SELECT lower(slot) AT TIME ZONE 'Europe/Vienna' AS vienna, lower(slot) AT TIME ZONE 'UTC' AS utc
FROM calsync_slots('[2050-10-30 00:00+00, 2050-10-30 02:00+00)', '{anna}', '30 min', '30 min', 'Europe/Vienna') AS slot;
RESET calsync.on_uncovered;

-- The first so many.
SELECT pg_temp.shown(slot) FROM calsync_slots(pg_temp.between(1, '08:00', '13:00'), '{anna}', '30 min', max_results => 2) AS slot;

-- Nothing that is past or too near, by now(): that of the transaction.
SELECT count(*) FROM calsync_slots(tstzrange(now() - interval '1 day', now()), '{anna}', '1 min', '1 min');
SELECT min(lower(slot)) >= now() + interval '25 hours' AS with_notice, min(lower(slot)) < now() + interval '27 hours' AS and_soon
FROM calsync_slots(tstzrange(now() - interval '9 days', now() + interval '5 days'), '{ben}', '5 min', '5 min', min_notice => '25 hours') AS slot;

-- What is not covered is no slot: neither in the window nor in a buffer. What hours leave out need not be covered.
SELECT upper(covered) AS horizon FROM calsync.subscription WHERE calendar = 'anna' \gset
SELECT pg_temp.refusal(format($$ SELECT calsync_slots(tstzrange(%1$L::timestamptz - '1 hour'::interval, %1$L::timestamptz + '1 min'::interval), '{anna}', '30 min') $$, :'horizon'));
SELECT pg_temp.refusal(format($$ SELECT calsync_slots(tstzrange(%1$L::timestamptz - '1 hour'::interval, %1$L::timestamptz), '{anna}', '30 min', buffer_after => '1 min') $$, :'horizon'));
SELECT pg_temp.refusal($$ SELECT calsync_slots(pg_temp.during(1, 2), '{anna,zoe}', '30 min') $$);
SELECT count(*) FROM calsync_slots(pg_temp.during(1, 4000), '{anna}', '30 min', '30 min', hours => tstzmultirange(pg_temp.between(1, '08:00', '10:00')));

-- An empty window has no slots, and calendars that do not exist are told even so.
SELECT count(*) FROM calsync_slots('empty', '{anna}', '30 min');
SELECT pg_temp.refusal($$ SELECT calsync_slots('empty', '{zoe}', '30 min') $$);

-- Bad arguments.
SELECT pg_temp.refusal(format('SELECT calsync_slots(pg_temp.during(1, 2), %s)', arguments))
FROM unnest(ARRAY[$$ '{anna}', '0' $$, $$ '{anna}', '-30 min' $$, $$ '{anna}', '1 month' $$, $$ '{anna}', NULL $$,
                  $$ '{anna}', '30 min', '0' $$, $$ '{anna}', '30 min', '-5 min' $$, $$ '{anna}', '30 min', '25 hours' $$, $$ '{anna}', '30 min', '1 year' $$,
                  $$ '{anna}', '30 min', NULL $$, $$ '{anna}', '30 min', time_zone => 'Mars/Olympus' $$, $$ '{anna}', '30 min', time_zone => NULL $$,
                  $$ '{anna}', '30 min', buffer_before => '-1 min' $$, $$ '{anna}', '30 min', buffer_after => '1 month' $$,
                  $$ '{anna}', '30 min', min_notice => '-1 day' $$, $$ '{anna}', '30 min', max_results => 0 $$,
                  $$ '{}', '30 min' $$, $$ '{anna,NULL}', '30 min' $$, $$ NULL, '30 min' $$]) AS arguments;
SELECT pg_temp.refusal($$ SELECT calsync_slots(NULL, '{anna}', '30 min') $$);
SELECT pg_temp.refusal($$ SELECT calsync_slots('[now,)', '{anna}', '30 min') $$);
SELECT pg_temp.refusal($$ SELECT calsync_slots('[2100-06-01,2100-06-02)', '{anna}', '30 min', time_zone => 'Europe/Vienna') $$);
SELECT pg_temp.refusal($$ SELECT calsync_slots('[294276-12-31 00:00Z,294276-12-31 23:00Z)', '{anna}', '30 min') $$);
SELECT pg_temp.refusal($$ SELECT calsync_slots(pg_temp.during(1, 2), '{anna}', '30 min', time_zone => '+02') $$);
SELECT pg_temp.refusal($$ SELECT calsync_slots(pg_temp.during(1, 9), '{anna}', '30 min', '1 second') $$);

SELECT count(calsync_unsubscribe(calendar)) FROM unnest('{anna,ben}'::text[]) AS calendar;
