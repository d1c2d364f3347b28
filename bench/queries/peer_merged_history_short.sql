\set from :today + random(-25, 18) * 86400 + random(0, 86399)
\set to :from + 7 * 86400
SELECT "selectedCalendarId", range_agg(tsrange(start, "end")) * tsmultirange(tsrange(to_timestamp(:from) AT TIME ZONE 'UTC', to_timestamp(:to) AT TIME ZONE 'UTC'))
FROM "CalendarCacheEvent"
WHERE "selectedCalendarId" IN ('short-history@example.com')
  AND start < to_timestamp(:to) AT TIME ZONE 'UTC' AND "end" > to_timestamp(:from) AT TIME ZONE 'UTC'
GROUP BY "selectedCalendarId";
