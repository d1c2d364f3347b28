\set a random(1, :calendars - 13)
\set from :today + random(1, 300) * 86400
\set to :from + 14 * 86400
SELECT * FROM calsync_group_slots(tstzrange(to_timestamp(:from), to_timestamp(:to)),
    (SELECT jsonb_build_array(jsonb_build_object('any', 2, 'calendars', jsonb_agg('person' || :a + n || '@example.com') FILTER (WHERE n <= 10)),
                              jsonb_build_object('any', 1, 'calendars', jsonb_agg('person' || :a + n || '@example.com') FILTER (WHERE n > 10)))
     FROM generate_series(1, 13) AS n), '30 min', '15 min', 'UTC');
