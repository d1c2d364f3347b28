\set a random(1, :calendars)
\set b random(1, :calendars)
\set c random(1, :calendars)
\set d random(1, :calendars)
\set e random(1, :calendars)
\set f random(1, :calendars)
\set g random(1, :calendars)
\set h random(1, :calendars)
\set i random(1, :calendars)
\set j random(1, :calendars)
\set from :today + random(-330, 330) * 86400 + random(32, 70) * 900
\set to :from + 1800
SELECT calsync_is_free(tstzrange(to_timestamp(:from), to_timestamp(:to)), ARRAY[
    'person' || :a || '@example.com', 'person' || :b || '@example.com', 'person' || :c || '@example.com', 'person' || :d || '@example.com', 'person' || :e || '@example.com',
    'person' || :f || '@example.com', 'person' || :g || '@example.com', 'person' || :h || '@example.com', 'person' || :i || '@example.com', 'person' || :j || '@example.com']);
