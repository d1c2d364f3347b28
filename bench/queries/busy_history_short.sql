\set from :today + random(-25, 18) * 86400 + random(0, 86399)
\set to :from + 7 * 86400
SELECT calendar, busy FROM calsync_busy(tstzrange(to_timestamp(:from), to_timestamp(:to)), ARRAY['short-history@example.com']);
