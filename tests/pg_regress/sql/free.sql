-- When all are free: within the window and the hours, and long enough.
\set ECHO none
\i words.sql

SELECT count(calsync_subscribe(calendar, 'none')) AS subscribed FROM unnest('{anna,ben}'::text[]) AS calendar;
SELECT calsync_apply_delta(pg_temp.list('anna', 'one', pg_temp.event('a', 1, '09:00', '10:00'), pg_temp.event('b', 1, '11:00', '12:00'),
    pg_temp.event('maybe', 1, '15:00', '16:00', '{"status": "tentative"}'), pg_temp.event('no', 1, '16:00', '17:00', '{"transparency": "transparent"}')));
SELECT calsync_apply_delta(pg_temp.list('ben', 'one', pg_temp.event('a', 1, '09:30', '10:30')));

-- Between and around all events of everybody.
SELECT pg_temp.shown(free) FROM calsync_free(pg_temp.during(1, 2), '{anna,ben}') AS free;
SELECT pg_temp.shown(free) FROM calsync_free(pg_temp.during(2, 3), '{anna,ben,anna}') AS free;

-- Only what is long enough; exactly as long is.
SELECT pg_temp.shown(free) FROM calsync_free(pg_temp.during(1, 2), '{anna,ben}', min_length => '1 hour') AS free;
SELECT pg_temp.shown(free) FROM calsync_free(pg_temp.during(1, 2), '{anna,ben}', min_length => '30 min') AS free LIMIT 2;

-- Only in the hours: any multirange.
SELECT pg_temp.shown(free) FROM calsync_free(pg_temp.during(1, 2), '{anna,ben}',
    tstzmultirange(pg_temp.between(1, '08:00', '09:15'), pg_temp.between(1, '10:15', '11:15'), pg_temp.between(5, '10:00', '11:00'))) AS free;
SELECT count(*) FROM calsync_free(pg_temp.during(1, 2), '{anna,ben}', '{}') AS free;

-- What the hours leave out need not be known.
SELECT pg_temp.shown(free) FROM calsync_free(pg_temp.during(1, 4000), '{anna,ben}', tstzmultirange(pg_temp.between(1, '08:00', '10:00'))) AS free;
SELECT pg_temp.shown(free) FROM calsync_free('(,)', '{anna,ben}', tstzmultirange(pg_temp.between(1, '08:00', '10:00'))) AS free;
SELECT pg_temp.refusal($$ SELECT calsync_free(pg_temp.during(1, 4000), '{zoe}', '{}') $$);

-- An empty window has no free time.
SELECT count(*) FROM calsync_free('empty', '{anna}') AS free;

-- Bad arguments.
SELECT pg_temp.refusal($$ SELECT calsync_free(pg_temp.during(1, 2), '{anna}', NULL, '-1 min') $$);
SELECT pg_temp.refusal($$ SELECT calsync_free(pg_temp.during(1, 2), '{anna}', NULL, '1 month') $$);
SELECT pg_temp.refusal($$ SELECT calsync_free(pg_temp.during(1, 2), '{anna}', NULL, NULL) $$);
SELECT pg_temp.refusal($$ SELECT calsync_free(pg_temp.during(1, 2), '{}') $$);
SELECT pg_temp.refusal($$ SELECT calsync_free(NULL, '{anna}') $$);
SELECT pg_temp.refusal($$ SELECT calsync_free(pg_temp.during(1, 2), NULL) $$);

-- Several who cannot answer are named by one error; its code is that of what must be mended first.
SELECT calsync_subscribe('new', 'none') IS NOT NULL AS subscribed;
SELECT pg_temp.refusal($$ SELECT calsync_free(pg_temp.during(1, 2), '{anna,new,zoe,yan}') $$);
SELECT pg_temp.refusal($$ SELECT calsync_free(pg_temp.during(1, 2000), '{anna,new,ben}') $$);
SELECT pg_temp.refusal($$ SELECT calsync_free('(,)', '{anna}') $$);

-- Counted as busy instead, for the session or for one call; "ignore" is no argument.
SET calsync.on_uncovered = 'busy';
SELECT count(*) FROM calsync_free(pg_temp.during(1, 2), '{anna,new}');
SELECT bool_and(free <@ s.covered) AS within_cover FROM calsync_free('(,)', '{anna}') AS free, calsync.subscription AS s WHERE s.calendar = 'anna';
RESET calsync.on_uncovered;
SELECT calendar, pg_temp.shown(busy) FROM calsync_busy(pg_temp.during(2, 3), '{anna,zoe}', NULL, 'busy');
SELECT calsync_is_free(pg_temp.during(2, 3), '{zoe}', 'busy'), calsync_is_free(pg_temp.during(2, 3), '{anna}', 'busy');
SELECT pg_temp.refusal($$ SELECT calsync_is_free(pg_temp.during(2, 3), '{zoe}', 'error') $$);
SELECT pg_temp.refusal($$ SELECT calsync_is_free(pg_temp.during(2, 3), '{zoe}', 'ignore') $$);
SELECT pg_temp.refusal($$ SELECT calsync_busy(pg_temp.during(2, 3), '{zoe}', NULL, 'free') $$);

SELECT count(calsync_unsubscribe(calendar)) FROM unnest('{anna,ben,new}'::text[]) AS calendar;
