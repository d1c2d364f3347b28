-- Who may do what. PUBLIC: nothing. Two roles, granted to nobody, carry the rights; whose calendars a role sees is
-- decided by the owner of each, inside the functions.
--   calsync_reader    asks who is busy
--   calsync_operator  subscribes, feeds and syncs calendars, too, and asks why a slot is blocked (which shows titles)

DO $$
DECLARE
    wanted pg_catalog.name;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['calsync_reader', 'calsync_operator']::pg_catalog.name[] LOOP
        -- Roles belong to the cluster: another database may have brought them.
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles AS r WHERE r.rolname OPERATOR(pg_catalog.=) wanted) THEN
            EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', wanted);
        END IF;
    END LOOP;
END $$;

REVOKE ALL ON ALL TABLES IN SCHEMA calsync FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA calsync FROM PUBLIC;
GRANT USAGE ON SCHEMA calsync TO calsync_reader, calsync_operator;
GRANT SELECT ON calsync.status TO calsync_reader, calsync_operator;

REVOKE ALL ON FUNCTION
    calsync_subscribe(text, text, text, text, text, jsonb), calsync_unsubscribe(text), calsync_pause(text),
    calsync_resume(text), calsync_sync(text), calsync_resync(text), calsync_apply_delta(jsonb),
    calsync_add_credential(text, text, jsonb), calsync_drop_credential(text), calsync_rotate_key(),
    calsync_webhook(jsonb, text),
    calsync_busy(tstzrange, text[], calsync.busy_status[]), calsync_busy_union(tstzrange, text[], calsync.busy_status[]),
    calsync_busy(tstzrange, text[], calsync.busy_status[], text), calsync_is_free(tstzrange, text[]),
    calsync_is_free(tstzrange, text[], text), calsync_free(tstzrange, text[], tstzmultirange, interval),
    calsync_slots(tstzrange, text[], interval, interval, text, tstzmultirange, interval, interval, interval, integer),
    calsync_group_slots(tstzrange, jsonb, interval, interval, text, tstzmultirange, interval, interval, interval, integer),
    calsync_open_hours(tstzrange, text, jsonb, jsonb), calsync_freebusy(jsonb), calsync_coverage(text[]), calsync_explain(tstzrange, text[]), calsync_version()
FROM PUBLIC;
REVOKE ALL ON PROCEDURE calsync_run(integer) FROM PUBLIC;

GRANT EXECUTE ON FUNCTION
    calsync_busy(tstzrange, text[], calsync.busy_status[]), calsync_busy_union(tstzrange, text[], calsync.busy_status[]),
    calsync_busy(tstzrange, text[], calsync.busy_status[], text), calsync_is_free(tstzrange, text[]),
    calsync_is_free(tstzrange, text[], text), calsync_free(tstzrange, text[], tstzmultirange, interval),
    calsync_slots(tstzrange, text[], interval, interval, text, tstzmultirange, interval, interval, interval, integer),
    calsync_group_slots(tstzrange, jsonb, interval, interval, text, tstzmultirange, interval, interval, interval, integer),
    calsync_open_hours(tstzrange, text, jsonb, jsonb), calsync_freebusy(jsonb), calsync_coverage(text[]), calsync_version()
TO calsync_reader, calsync_operator;
GRANT EXECUTE ON FUNCTION
    calsync_subscribe(text, text, text, text, text, jsonb), calsync_unsubscribe(text), calsync_pause(text),
    calsync_resume(text), calsync_sync(text), calsync_resync(text), calsync_apply_delta(jsonb),
    calsync_add_credential(text, text, jsonb), calsync_drop_credential(text),
    calsync_explain(tstzrange, text[]), calsync.explain_lines(tstzrange, text[])
TO calsync_operator;
GRANT EXECUTE ON PROCEDURE calsync_run(integer) TO calsync_operator;

-- What an operator looks at and does; for all calendars of the database calsync_cleanup, for the role's own the others.
GRANT SELECT ON calsync.progress, calsync.stat_provider TO calsync_reader, calsync_operator;
-- Numbers without names of calendars: of all databases.
GRANT SELECT ON calsync.stat_worker TO calsync_operator;
REVOKE ALL ON FUNCTION calsync.worker_lines() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION calsync.worker_lines() TO calsync_operator;
REVOKE ALL ON FUNCTION
    calsync_check(text[]), calsync_repair(text[]), calsync_cleanup(), calsync_health(), calsync_changes(bigint, text[])
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    calsync_health(), calsync_changes(bigint, text[]), calsync.change_lines(bigint, text[])
TO calsync_reader, calsync_operator;
GRANT EXECUTE ON FUNCTION calsync_check(text[]), calsync_repair(text[]), calsync_cleanup() TO calsync_operator;

-- Last of all: a worker may start as soon as this commits.
SELECT calsync.announce();
