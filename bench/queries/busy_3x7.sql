\set a random(1, :calendars)
\set b random(1, :calendars)
\set c random(1, :calendars)
\set from :today + random(-330, 320) * 86400 + random(0, 86399)
\set to :from + 7 * 86400
SELECT calendar, busy FROM calsync_busy(tstzrange(to_timestamp(:from), to_timestamp(:to)), ARRAY['person' || :a || '@example.com', 'person' || :b || '@example.com', 'person' || :c || '@example.com']);
