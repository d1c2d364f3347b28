\set pick random(1, 1000)
\set from :today + random(-330, 300) * 86400 + random(0, 86399)
\set to :from + 30 * 86400
SELECT range_agg(tsrange(start, "end")) * tsmultirange(tsrange(to_timestamp(:from) AT TIME ZONE 'UTC', to_timestamp(:to) AT TIME ZONE 'UTC'))
FROM "CalendarCacheEvent"
WHERE "selectedCalendarId" = ANY ((SELECT p.calendars FROM bench.pick AS p WHERE p.pick_id = :pick)::text[])
  AND start < to_timestamp(:to) AT TIME ZONE 'UTC' AND "end" > to_timestamp(:from) AT TIME ZONE 'UTC';
