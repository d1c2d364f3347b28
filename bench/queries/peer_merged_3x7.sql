\set a random(1, :calendars)
\set b random(1, :calendars)
\set c random(1, :calendars)
\set from :today + random(-330, 320) * 86400 + random(0, 86399)
\set to :from + 7 * 86400
SELECT "selectedCalendarId", range_agg(tsrange(start, "end")) * tsmultirange(tsrange(to_timestamp(:from) AT TIME ZONE 'UTC', to_timestamp(:to) AT TIME ZONE 'UTC'))
FROM "CalendarCacheEvent"
WHERE "selectedCalendarId" IN ('person' || :a || '@example.com', 'person' || :b || '@example.com', 'person' || :c || '@example.com')
  AND start < to_timestamp(:to) AT TIME ZONE 'UTC' AND "end" > to_timestamp(:from) AT TIME ZONE 'UTC'
GROUP BY "selectedCalendarId";
