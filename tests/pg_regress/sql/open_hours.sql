-- When somebody works: weekly hours in local time, and what is different on single dates.
\set ECHO none
\i words.sql
SET TimeZone = 'Europe/Vienna';

-- Several intervals a day; touching ones become one.
SELECT unnest(calsync_open_hours('[2026-11-23, 2026-11-30)', 'Europe/Vienna',
    '[{"days": ["mon", "tue"], "start": "09:00", "end": "12:00"}, {"days": ["Monday"], "start": "13:00", "end": "17:30"},
      {"days": ["tue"], "start": "12:00", "end": "14:00"}]')) AS open;

-- Clipped to the window.
SELECT unnest(calsync_open_hours('[2026-11-23 10:00, 2026-11-23 11:00)', 'Europe/Vienna', '[{"days": ["mon"], "start": "09:00", "end": "12:00"}]')) AS open;

-- Past midnight: hours belong to the day they begin on. The first belong to the Sunday before the window.
SELECT unnest(calsync_open_hours('[2026-11-23, 2026-11-30)', 'Europe/Vienna', '[{"days": ["fri", "sun"], "start": "22:00", "end": "02:00"}]',
    '[{"date": "2026-11-28", "closed": true}]')) AS open;

-- Overrides replace the hours of their dates; a closure beats the others.
SELECT unnest(calsync_open_hours('[2026-12-21, 2026-12-28)', 'Europe/Vienna',
    '[{"days": ["mon", "tue", "wed", "thu", "fri"], "start": "09:00", "end": "17:00"}]',
    '[{"date": "2026-12-22", "start": "08:00", "end": "09:00"}, {"date": "2026-12-22", "start": "20:00", "end": "24:00"},
      {"from": "2026-12-24", "to": "2027-01-06", "closed": true}, {"date": "2026-12-25", "start": "10:00", "end": "11:00"}]')) AS open;

-- Somebody else's hours: in their zone.
SELECT unnest(calsync_open_hours('[2026-11-23, 2026-11-24)', 'Asia/Kolkata', '[{"days": ["mon"], "start": "09:00", "end": "17:00"}]')) AS open;

-- Days of 23 and of 25 hours; what begins in the hour that is skipped begins after it.
SELECT upper(open) - lower(open) AS length, open FROM unnest(
    calsync_open_hours('[2026-03-29, 2026-03-30)', 'Europe/Vienna', '[{"days": ["sun"], "start": "00:00", "end": "24:00"}]')
    + calsync_open_hours('[2026-10-25, 2026-10-26)', 'Europe/Vienna', '[{"days": ["sun"], "start": "00:00", "end": "24:00"}]')
    + calsync_open_hours('[2026-03-29, 2026-03-30)', 'Europe/Vienna', '[{"days": ["sun"], "start": "02:30", "end": "04:00"}]')) AS open;

-- Hours of two at once, and of either.
SELECT calsync_open_hours(day, 'UTC', '[{"days": ["mon"], "start": "08:00", "end": "12:00"}]')
     * calsync_open_hours(day, 'UTC', '[{"days": ["mon"], "start": "10:00", "end": "14:00"}]') AS both,
       calsync_open_hours(day, 'UTC', '[]') AS nothing
FROM tstzrange('2026-11-23', '2026-11-24') AS day;
SELECT calsync_open_hours('empty', 'UTC', '[]');

-- Bad arguments, with the place.
SELECT pg_temp.refusal(format('SELECT calsync_open_hours(''[2026-11-23, 2026-11-24)'', ''UTC'', %L)', weekly))
FROM unnest(ARRAY['{}', '[1]', '[{"days": "mon", "start": "09:00", "end": "10:00"}]', '[{"days": ["mon", "funday"], "start": "09:00", "end": "10:00"}]',
                  '[{"days": [1], "start": "09:00", "end": "10:00"}]', '[{"days": ["mon"], "start": "9", "end": "10:00"}]', '[{"days": ["mon"], "start": "09:00"}]',
                  '[{"days": ["mon"], "start": "24:00", "end": "10:00"}]', '[{"days": ["mon"], "start": "09:00", "end": "09:00"}]',
                  '[{"days": ["mon"], "from": "09:00", "end": "09:00"}]']::jsonb[]) AS weekly;
SELECT pg_temp.refusal(format('SELECT calsync_open_hours(''[2026-11-23, 2026-11-24)'', ''UTC'', ''[]'', %L)', overrides))
FROM unnest(ARRAY['{}', '[{"closed": true}]', '[{"date": "24.12.2026", "closed": true}]', '[{"date": "2026-12-24"}]', '[{"date": "2026-12-24", "closed": false}]',
                  '[{"date": "2026-12-24", "closed": true, "start": "09:00", "end": "10:00"}]', '[{"from": "2026-12-24", "to": "2026-12-23", "closed": true}]']::jsonb[]) AS overrides;
SELECT pg_temp.refusal($$ SELECT calsync_open_hours('[2026-11-23,)', 'UTC', '[]') $$);
SELECT pg_temp.refusal($$ SELECT calsync_open_hours('[2026-11-23, 2226-11-23)', 'UTC', '[]') $$);
SELECT pg_temp.refusal($$ SELECT calsync_open_hours('[1900-01-01, 2026-11-23)', 'UTC', '[]') $$);
SELECT calsync_open_hours('[2000-01-01 00:00+00, 2100-01-01 00:00+00)', 'UTC', '[]');
SELECT pg_temp.refusal($$ SELECT calsync_open_hours('[2026-11-23, 2026-11-24)', 'Mars/Olympus', '[]') $$);
SELECT zone, pg_temp.refusal(format('SELECT calsync_open_hours(''[2026-11-23, 2026-11-24)'', %L, ''[]'')', zone)) FROM unnest('{UTC+2,+03,GMT-5}'::text[]) AS zone;
SELECT pg_temp.refusal(format('SELECT calsync_open_hours(''[2026-11-23, 2026-11-24)'', ''UTC'', ''[]'', %L)', overrides))
FROM unnest(ARRAY['[{"date": "+2026-11-25", "closed": true}]', '[{"date": " 2026-11-25", "closed": true}]', '[{"date": 1e400, "closed": true}]']::jsonb[]) AS overrides;
SELECT pg_temp.refusal($$ SELECT calsync_open_hours(NULL, 'UTC', '[]') $$);
SELECT pg_temp.refusal($$ SELECT calsync_open_hours('[2026-11-23, 2026-11-24)', NULL, '[]') $$);
SELECT pg_temp.refusal($$ SELECT calsync_open_hours('[2026-11-23, 2026-11-24)', 'UTC', NULL) $$);
SELECT pg_temp.refusal($$ SELECT calsync_open_hours('[2026-11-23, 2026-11-24)', 'UTC', '[]', NULL) $$);
