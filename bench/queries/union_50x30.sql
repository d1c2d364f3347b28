\set pick random(1, 1000)
\set from :today + random(-330, 300) * 86400 + random(0, 86399)
\set to :from + 30 * 86400
SELECT calsync_busy_union(tstzrange(to_timestamp(:from), to_timestamp(:to)), (SELECT p.calendars FROM bench.pick AS p WHERE p.pick_id = :pick));
