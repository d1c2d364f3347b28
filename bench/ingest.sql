-- Writes the statements of the ingest: a script for psql, in which "@ label|events" precedes what is timed together.
-- Both sides get literal text, as an application would send it, and commit once a page.

CREATE TEMP TABLE line (place serial, side text, page integer, step integer, text text);

-- Ours: 10 calendars of 2,500 events, a page each: a full sync, a delta in which every event was moved and renamed, a
-- delta that says nothing new.
INSERT INTO line (side, page, step, text)
SELECT 'ours', c, step, format(E'\\echo @ calsync %s, one page of 2,500 events|2500\nSELECT * FROM calsync_apply_delta(%L);',
           (ARRAY['full sync', 'delta, all changed', 'delta, none changed'])[step],
           jsonb_build_object('calendar', e.calendar, 'timeZone', 'UTC',
               'items', jsonb_agg(bench.item(e, least(step, 2)) ORDER BY n), 'nextSyncToken', 'token' || step)
           || CASE step WHEN 1 THEN '{}' ELSE jsonb_build_object('expectedSyncToken', 'token' || step - 1) END)
FROM generate_series(1, 10) AS c CROSS JOIN generate_series(1, 3) AS step
     JOIN bench.event AS e ON e.calendar = 'ingest' || c || '@example.com'
GROUP BY c, step, e.calendar;

-- Theirs: the same events in batches of 1,000, in one transaction.
INSERT INTO line (side, page, step, text)
SELECT 'theirs', c, step, format(E'\\echo @ peer upsert, %s, 1,000 rows a statement|2500\nBEGIN;\n%s\nCOMMIT;',
           (ARRAY['new rows', 'all changed', 'none changed'])[step], string_agg(statement, E'\n' ORDER BY batch))
FROM (
    SELECT c, step, (n - 1) / 1000 AS batch, format(
        'INSERT INTO "CalendarCacheEvent" VALUES %s ON CONFLICT ("selectedCalendarId", "externalId") DO UPDATE SET '
        '"externalEtag" = excluded."externalEtag", "iCalUID" = excluded."iCalUID", summary = excluded.summary, '
        'description = excluded.description, location = excluded.location, start = excluded.start, '
        '"end" = excluded."end", "isAllDay" = excluded."isAllDay", "timeZone" = excluded."timeZone", '
        'status = excluded.status, "updatedAt" = excluded."updatedAt";',
        string_agg(format('(%L, %L, %L, %L, %L, %L, %L, %L, %L, %L, %L, %L, %L, %L, %L)',
            r.id, r."selectedCalendarId", r."externalId", r."externalEtag", r."iCalUID", r.summary, r.description,
            r.location, r.start, r."end", r."isAllDay", r."timeZone", r.status, r."createdAt", r."updatedAt"),
            ', ' ORDER BY n)) AS statement
    FROM generate_series(1, 10) AS c CROSS JOIN generate_series(1, 3) AS step
         JOIN bench.event AS e ON e.calendar = 'ingest' || c || '@example.com',
         LATERAL bench.peer_row(e, least(step, 2)) AS r
    GROUP BY 1, 2, 3
) AS batches
GROUP BY c, step;

-- A day's life: a delta of one event in a calendar of 2,500.
INSERT INTO line (side, page, step, text)
SELECT 'ours', n, 4, format(E'\\echo @ calsync delta of one event|1\nSELECT * FROM calsync_apply_delta(%L);',
           jsonb_build_object('calendar', e.calendar, 'timeZone', 'UTC', 'items', jsonb_build_array(bench.item(e, 3)),
               'expectedSyncToken', 'token' || n + 2, 'nextSyncToken', 'token' || n + 3))
FROM bench.event AS e WHERE calendar = 'ingest1@example.com' AND n <= 50;
INSERT INTO line (side, page, step, text)
SELECT 'theirs', n, 4, format(
    E'\\echo @ peer upsert of one event|1\nINSERT INTO "CalendarCacheEvent" VALUES (%L, %L, %L, %L, %L, %L, %L, %L, %L, %L, %L, %L, %L, %L, %L) '
    'ON CONFLICT ("selectedCalendarId", "externalId") DO UPDATE SET '
    '"externalEtag" = excluded."externalEtag", summary = excluded.summary, start = excluded.start, '
    '"end" = excluded."end", "updatedAt" = excluded."updatedAt";',
    r.id, r."selectedCalendarId", r."externalId", r."externalEtag", r."iCalUID", r.summary, r.description,
    r.location, r.start, r."end", r."isAllDay", r."timeZone", r.status, r."createdAt", r."updatedAt")
FROM bench.event AS e, LATERAL bench.peer_row(e, 3) AS r WHERE calendar = 'ingest1@example.com' AND n <= 50;

-- A long full sync: 10 pages, staged until the last.
INSERT INTO line (side, page, step, text)
SELECT 'ours', 1, 5, format(E'\\echo @ calsync full sync, ten pages of 2,500 events|2500\nSELECT * FROM calsync_apply_delta(%L);',
           jsonb_build_object('calendar', calendar, 'timeZone', 'UTC', 'items', jsonb_agg(bench.item(e, 1) ORDER BY n))
           || CASE (n - 1) / 2500 WHEN 9 THEN '{"nextSyncToken": "token1"}'::jsonb ELSE '{"nextPageToken": "more"}' END)
FROM bench.event AS e WHERE calendar = 'ingest0@example.com' GROUP BY calendar, (n - 1) / 2500 ORDER BY (n - 1) / 2500;
\pset tuples_only on
\pset format unaligned
\o :script
SELECT format('SELECT calsync_subscribe(%L, %L);', 'ingest' || c || '@example.com', 'none') FROM generate_series(0, 10) AS c;
SELECT text FROM line ORDER BY step, page, side, place;
\o
