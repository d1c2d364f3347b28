-- The peer's table: the same events in the same order, then its indexes, the one that was added later included.
INSERT INTO "CalendarCacheEvent"
SELECT row.* FROM bench.event AS e, LATERAL bench.peer_row(e, 1) AS row WHERE e.calendar NOT LIKE 'ingest%';
CREATE UNIQUE INDEX "CalendarCacheEvent_selectedCalendarId_externalId_key"
    ON "CalendarCacheEvent" ("selectedCalendarId", "externalId");
CREATE INDEX "CalendarCacheEvent_start_end_status_idx" ON "CalendarCacheEvent" (start, "end", status);
CREATE INDEX "CalendarCacheEvent_selectedCalendarId_iCalUID_idx"
    ON "CalendarCacheEvent" ("selectedCalendarId", "iCalUID");
CREATE INDEX "CalendarCacheEvent_selectedCalendarId_start_end_idx"
    ON "CalendarCacheEvent" ("selectedCalendarId", start, "end");
