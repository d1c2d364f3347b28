\set pick random(1, 100)
\set from :today + random(-330, 300) * 86400 + random(0, 86399)
\set to :from + 30 * 86400
SELECT calendar, busy FROM calsync_busy(tstzrange(to_timestamp(:from), to_timestamp(:to)), (SELECT p.calendars FROM bench.pick_500 AS p WHERE p.pick_id = :pick));
