-- The peer's table: the same events in the same order, then its indexes.
INSERT INTO "CalendarCacheEvent"
SELECT (bench.peer_row(e, 1)).* FROM bench.event AS e WHERE calendar NOT LIKE 'ingest%';
