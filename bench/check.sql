-- Both sides must give the same answer, or nothing is measured. Any difference is an ERROR.
-- 100 random windows of a month, a week or half an hour, over 50 or 3 random calendars and the two histories.
-- Variable: calendars.
SELECT setseed(0.7) \g /dev/null
SELECT format('100 windows agree, %s busy intervals and %s free windows in them', sum(compared), count(*) FILTER (WHERE compared = 0))
FROM (
    SELECT bench.same_answer(
        tstzrange(at, at + (ARRAY['30 days', '7 days', '30 min'])[1 + i % 3]::interval),
        ARRAY(SELECT DISTINCT 'person' || 1 + floor(random() * :calendars + 0 * i)::integer || '@example.com'
              FROM generate_series(1, CASE WHEN i % 2 = 0 THEN 3 ELSE 50 END))
        || CASE WHEN i % 4 = 0 THEN ARRAY['long-history@example.com', 'short-history@example.com'] ELSE '{}' END)
    FROM (SELECT i, now() + (random() * 690 - 350) * interval '1 day' AS at
          FROM generate_series(1, 100) AS i OFFSET 0) AS random_window
) AS answer (compared);
SELECT 1 / (bench.same_answer(tstzrange(now() - interval '15 days', now() + interval '15 days'),
            ARRAY['long-history@example.com', 'short-history@example.com']) > 100)::integer \g /dev/null
