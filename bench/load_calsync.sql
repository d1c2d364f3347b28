-- Our tables, the way any application fills them: calsync_apply_delta, one commit a page; a full sync of one page a
-- calendar, or of pages of 2,500. Variables: part, parts (several of these run at once).
SELECT set_config('bench.part', :'part', false), set_config('bench.parts', :'parts', false) \g /dev/null

DO $load$
DECLARE
    wanted record;
    page   jsonb;
BEGIN
    FOR wanted IN
        SELECT calendar, min(n) AS lowest, max(n) AS highest FROM bench.event WHERE calendar NOT LIKE 'ingest%'
            AND abs(hashtext(calendar)) % current_setting('bench.parts')::integer = current_setting('bench.part')::integer
        GROUP BY calendar
    LOOP
        PERFORM calsync_subscribe(wanted.calendar, 'none', time_zone => 'UTC');
        FOR low IN wanted.lowest .. wanted.highest BY 2500 LOOP
            SELECT jsonb_build_object('calendar', wanted.calendar, 'timeZone', 'UTC', 'items', jsonb_agg(bench.item(e, 1)))
                   || CASE WHEN low + 2500 <= wanted.highest THEN '{"nextPageToken": "more"}'::jsonb
                           ELSE '{"nextSyncToken": "token1"}' END
            INTO page FROM bench.event AS e
            WHERE e.calendar = wanted.calendar AND e.n >= low AND e.n < low + 2500;
            PERFORM calsync_apply_delta(page);
            COMMIT;
        END LOOP;
    END LOOP;
END $load$;
