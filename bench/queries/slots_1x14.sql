\set a random(1, :calendars)
\set from :today + random(1, 300) * 86400
\set to :from + 14 * 86400
SELECT * FROM calsync_slots(tstzrange(to_timestamp(:from), to_timestamp(:to)), ARRAY['person' || :a || '@example.com'], '30 min', '30 min', 'UTC');
