-- Four calendars; step 1: a full sync, 2: a delta of all changed, 3: of none changed.
SELECT set_config('bench.step', :'step', false) \g /dev/null
\echo
SELECT (ARRAY['full sync', 'delta, all changed', 'delta, none changed'])[:step];
DO $$
DECLARE
    step integer := current_setting('bench.step');
BEGIN
    FOR i IN 1 .. 4 LOOP
        IF step = 1 THEN PERFORM calsync_subscribe('profile' || i, 'none'); END IF;
        PERFORM calsync_apply_delta((SELECT body FROM bench.page WHERE revision = least(step, 2))
            || jsonb_build_object('calendar', 'profile' || i, 'nextSyncToken', 'token' || step)
            || CASE step WHEN 1 THEN '{}' ELSE jsonb_build_object('expectedSyncToken', 'token' || step - 1) END);
        COMMIT;
    END LOOP;
END $$;
