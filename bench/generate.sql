-- The events, reproducible but for the day they are built on. Variables: calendars, events (of each), history (of the
-- one with a long history).
--
-- Office hours in UTC, quarter-hour grid, 15 minutes to 2 hours, one in ten tentative, one in fifty an all-day event of
-- one to three days; 500 events over two years around today. Nothing keeps them from overlapping.

SELECT setseed(0.42) \g /dev/null

INSERT INTO bench.event
SELECT 'person' || c || '@example.com', n, at, at + length, all_day, random() < 0.1
FROM generate_series(1, :calendars) AS c, generate_series(1, :events) AS n,
     LATERAL (SELECT random() < 0.02 + 0 * n AS all_day, date_trunc('day', now(), 'UTC') AS today,
                     make_interval(days => floor(random() * 730)::integer - 365 + 0 * (c + n)) AS day,
                     make_interval(mins => 480 + 15 * floor(random() * 40)::integer + 0 * (c + n)) AS minutes,
                     floor(random() * 8)::integer + 0 * (c + n) AS size) AS dice,
     LATERAL (SELECT CASE WHEN all_day THEN today + day ELSE today + day + minutes END AS at,
                     CASE WHEN all_day THEN make_interval(days => 1 + size % 3)
                          ELSE make_interval(mins => 15 * (1 + size)) END AS length) AS event;

-- A long history, 20 years to either side, and the same calendar of which only the 1,000 events around today are kept:
-- the weeks that are asked for hold the same events in both.
INSERT INTO bench.event
SELECT 'long-history@example.com', n, at, at + make_interval(mins => 15 * (1 + floor(random() * 2)::integer)), false,
       random() < 0.1
FROM generate_series(1, :history) AS n,
     LATERAL (SELECT date_trunc('minute', date_trunc('day', now(), 'UTC')
                     + (n - :history / 2) * (interval '14400 days' / :history)) AS at) AS spread;
INSERT INTO bench.event
SELECT 'short-history@example.com', n, starts_at, ends_at, all_day, tentative
FROM bench.event WHERE calendar = 'long-history@example.com' AND abs(n - :history / 2) < 500;

-- For the ingest: their own calendars, of 2,500 events each, and one of 25,000. Not loaded beforehand.
INSERT INTO bench.event
SELECT 'ingest' || c || '@example.com', n, at, at + interval '30 min', false, false
FROM generate_series(0, 10) AS c, generate_series(1, CASE c WHEN 0 THEN 25000 ELSE 2500 END) AS n,
     LATERAL (SELECT date_trunc('day', now(), 'UTC') - interval '365 days'
                     + make_interval(mins => 15 * floor(random() * 70000)::integer + 0 * (c + n)) AS at) AS dice;

INSERT INTO bench.customer
SELECT n, 'Customer ' || n, 'customer' || n || '@example.com' FROM generate_series(1, 1000000) AS n;

INSERT INTO bench.pick
SELECT p, array_agg('person' || (1 + (p * 7919 + i * 13::bigint) % :calendars) || '@example.com')
FROM generate_series(1, 1000) AS p, generate_series(1, 50) AS i GROUP BY p;
INSERT INTO bench.pick_500
SELECT p, array_agg('person' || (1 + (p * 7919 + i * 19::bigint) % :calendars) || '@example.com')
FROM generate_series(1, 100) AS p, generate_series(1, 500) AS i GROUP BY p;

GRANT SELECT ON ALL TABLES IN SCHEMA bench TO booking;
CREATE INDEX ON bench.event (calendar, n);
VACUUM ANALYZE bench.event, bench.customer, bench.pick, bench.pick_500;
