-- After the ingest both must agree again. Of the calendar that came in ten pages only our side was timed: the peer's
-- rows for it are filled in here.
INSERT INTO "CalendarCacheEvent"
SELECT row.* FROM bench.event AS e, LATERAL bench.peer_row(e, 1) AS row WHERE e.calendar = 'ingest0@example.com';
SELECT format('after the ingest both agree on %s calendars, %s busy intervals in them', count(*), sum(bench.same_answer(
    tstzrange(now() - interval '370 days', now() + interval '370 days'), ARRAY['ingest' || c || '@example.com'])))
FROM generate_series(0, 10) AS c;
