-- Who may do what. PUBLIC: nothing. The roles of roles.sql are granted to nobody; whose calendars a role sees is decided by
-- the owner of each, inside the functions and by row security. calsync_detail and calsync_operator are members of
-- calsync_reader, and so may do what it may.

REVOKE ALL ON ALL TABLES IN SCHEMA calsync FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA calsync FROM PUBLIC;
GRANT USAGE ON SCHEMA calsync TO calsync_reader;
-- What functions take and return, so that views and tables can hold it.
GRANT USAGE ON TYPE calsync.busy_status, calsync.subscription_state, calsync.delta_result, calsync.explanation
TO calsync_reader, calsync_worker;
GRANT SELECT ON calsync.status, calsync.shares TO calsync_reader;

REVOKE ALL ON FUNCTION
    calsync_share(text, text), calsync_accept_share(text, text), calsync_unshare(text, text, text),
    calsync_subscribe(text, text, text, text, text, jsonb), calsync_unsubscribe(text), calsync_pause(text),
    calsync_resume(text), calsync_sync(text), calsync_resync(text), calsync_apply_delta(jsonb),
    calsync_add_credential(text, text, jsonb), calsync_drop_credential(text), calsync_rotate_key(boolean), calsync_keys(),
    calsync_webhook(jsonb, text),
    calsync_busy(tstzrange, text[], calsync.busy_status[], text),
    calsync_busy_union(tstzrange, text[], calsync.busy_status[]),
    calsync_is_free(tstzrange, text[], text), calsync_free(tstzrange, text[], tstzmultirange, interval),
    calsync_slots(tstzrange, text[], interval, interval, text, tstzmultirange, interval, interval, interval, integer),
    calsync_group_slots(tstzrange, jsonb, interval, interval, text, tstzmultirange, interval, interval, interval, integer),
    calsync_open_hours(tstzrange, text, jsonb, jsonb), calsync_freebusy(jsonb), calsync_coverage(text[]),
    calsync_explain(tstzrange, text[]), calsync_events(text[]), calsync_version()
FROM PUBLIC;
REVOKE ALL ON PROCEDURE calsync_run(integer) FROM PUBLIC;

GRANT EXECUTE ON FUNCTION
    calsync_busy(tstzrange, text[], calsync.busy_status[], text),
    calsync_busy_union(tstzrange, text[], calsync.busy_status[]),
    calsync_is_free(tstzrange, text[], text), calsync_free(tstzrange, text[], tstzmultirange, interval),
    calsync_slots(tstzrange, text[], interval, interval, text, tstzmultirange, interval, interval, interval, integer),
    calsync_group_slots(tstzrange, jsonb, interval, interval, text, tstzmultirange, interval, interval, interval, integer),
    calsync_open_hours(tstzrange, text, jsonb, jsonb), calsync_freebusy(jsonb), calsync_coverage(text[]), calsync_version()
TO calsync_reader;
GRANT EXECUTE ON FUNCTION
    calsync_subscribe(text, text, text, text, text, jsonb), calsync_unsubscribe(text), calsync_pause(text),
    calsync_resume(text), calsync_sync(text), calsync_resync(text), calsync_apply_delta(jsonb),
    calsync_add_credential(text, text, jsonb), calsync_drop_credential(text), calsync_share(text, text)
TO calsync_operator;
-- Not the tables, although row security would show no foreign row: Postgres tries its own comparisons on all rows first, and
-- EXPLAIN counts what they leave.
GRANT EXECUTE ON FUNCTION calsync_explain(tstzrange, text[]), calsync.explain_lines(tstzrange, text[]), calsync_events(text[])
TO calsync_detail;
-- A reader may accept and refuse what somebody shares with him. The others are what views and row security ask.
GRANT EXECUTE ON FUNCTION calsync_accept_share(text, text), calsync_unshare(text, text, text), calsync.owns(name), calsync.shared()
TO calsync_reader;
GRANT SELECT ON calsync.visible_subscription, calsync.owned_subscription TO calsync_reader;
GRANT EXECUTE ON PROCEDURE calsync_run(integer) TO calsync_operator;

-- What an operator looks at and does.
GRANT SELECT ON calsync.progress, calsync.stat_provider TO calsync_reader;
-- Numbers without names of calendars: of all databases.
GRANT SELECT ON calsync.stat_worker TO calsync_operator;
REVOKE ALL ON FUNCTION calsync.worker_lines() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION calsync.worker_lines() TO calsync_operator;
REVOKE ALL ON FUNCTION
    calsync_check(text[]), calsync_repair(text[]), calsync_cleanup(), calsync_health(), calsync_changes(bigint, text[])
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION calsync_health() TO calsync_reader;
-- Which event changed when, without what it is: also for whoever feeds the calendar.
GRANT EXECUTE ON FUNCTION calsync_changes(bigint, text[]), calsync.change_lines(bigint, text[])
TO calsync_detail, calsync_operator;
GRANT EXECUTE ON FUNCTION calsync_check(text[]), calsync_repair(text[]), calsync_cleanup() TO calsync_operator;
-- Of all roles' credentials: for who owns the tables.
GRANT EXECUTE ON FUNCTION calsync_rotate_key(boolean), calsync_keys() TO calsync_worker;

-- Last of all: a worker may start as soon as this commits.
SELECT calsync.announce();
