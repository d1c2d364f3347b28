-- Each twice in one session: the second is warm and planned.
PREPARE ours (text) AS SELECT * FROM calsync_busy(tstzrange(now(), now() + interval '7 days'), ARRAY[$1]);
PREPARE theirs (text) AS
    SELECT "selectedCalendarId", range_agg(tsrange(start, "end")) FROM "CalendarCacheEvent"
    WHERE "selectedCalendarId" IN ($1) AND start < now() + interval '7 days' AND "end" > now() GROUP BY 1;
\echo @ ours, short history
EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF, SUMMARY OFF) EXECUTE ours ('short-history@example.com');
\echo @ theirs, short history
EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF, SUMMARY OFF) EXECUTE theirs ('short-history@example.com');
\echo @ ours, long history
EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF, SUMMARY OFF) EXECUTE ours ('long-history@example.com');
\echo @ theirs, long history
EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF, SUMMARY OFF) EXECUTE theirs ('long-history@example.com');
\echo @ ours, short history
EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF, SUMMARY OFF) EXECUTE ours ('short-history@example.com');
\echo @ theirs, short history
EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF, SUMMARY OFF) EXECUTE theirs ('short-history@example.com');
\echo @ ours, long history
EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF, SUMMARY OFF) EXECUTE ours ('long-history@example.com');
\echo @ theirs, long history
EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF, SUMMARY OFF) EXECUTE theirs ('long-history@example.com');
