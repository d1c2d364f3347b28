-- What an operator looks at and does. The bodies of the functions are in src/api.

CREATE FUNCTION calsync_check(calendars text[] DEFAULT NULL)
RETURNS TABLE (calendar text, problem text, event_id text, detail text)
LANGUAGE c STABLE ROWS 10 COST 100000 AS 'MODULE_PATHNAME', 'calsync_check_wrapper';
COMMENT ON FUNCTION calsync_check IS
    'What is stored and does not hold together, in these calendars or in all that the role owns: nothing, if all is '
    'well. Derives what is derived anew and compares; changes nothing. calendar is null for rows of no subscription, '
    'which only the owner of the tables is shown';

CREATE FUNCTION calsync_repair(calendars text[] DEFAULT NULL)
RETURNS TABLE (calendar text, problem text, action text)
LANGUAGE c VOLATILE ROWS 10 COST 100000 AS 'MODULE_PATHNAME', 'calsync_repair_wrapper';
COMMENT ON FUNCTION calsync_repair IS
    'Mends what calsync_check finds and says what it did: what is derived is derived anew; for what only the provider '
    'knows the token is dropped, so that the next sync is full. Holds the calendars it mends until the transaction ends';

CREATE FUNCTION calsync_cleanup()
RETURNS TABLE (what text, removed bigint)
LANGUAGE c VOLATILE ROWS 5 COST 100000 AS 'MODULE_PATHNAME', 'calsync_cleanup_wrapper';
COMMENT ON FUNCTION calsync_cleanup IS
    'Removes what is past its time, of the calendars that the role owns, and says how much: what the worker does once a day. '
    'Of all, where the role is a superuser or a member of calsync_worker. Holds them until the transaction ends';

CREATE FUNCTION calsync_health()
RETURNS jsonb LANGUAGE c STABLE COST 10000 AS 'MODULE_PATHNAME', 'calsync_health_wrapper';
COMMENT ON FUNCTION calsync_health IS
    'For a monitor: does a worker run, how do the calendars stand that the role may see, and what should be looked at '
    '("problems", each with a hint; "ok" where there is none)';

CREATE FUNCTION calsync.change_lines(since bigint, calendars text[])
RETURNS TABLE (calendar text, change_id bigint, event_id text, what text, before tstzrange, after tstzrange,
               busy_status_before text, busy_status_after text, changed_at timestamptz)
LANGUAGE c STABLE ROWS 100 AS 'MODULE_PATHNAME', 'calsync_change_lines_wrapper';
COMMENT ON FUNCTION calsync.change_lines IS 'Internal: calsync_changes before its statuses are typed';

CREATE FUNCTION calsync_changes(since bigint DEFAULT 0, calendars text[] DEFAULT NULL)
RETURNS TABLE (calendar text, change_id bigint, event_id text, what text, before tstzrange, after tstzrange,
               busy_status_before calsync.busy_status, busy_status_after calsync.busy_status, changed_at timestamptz)
LANGUAGE sql STABLE ROWS 100
BEGIN ATOMIC
    SELECT l.calendar, l.change_id, l.event_id, l.what, l.before, l.after, l.busy_status_before::calsync.busy_status,
           l.busy_status_after::calsync.busy_status, l.changed_at
    FROM calsync.change_lines(since, calendars) AS l;
END;
COMMENT ON FUNCTION calsync_changes IS
    'The change feed of calendars whose option changes is true: what happened to which event after the change since, in '
    'order. since belongs to one calendar, so with it exactly one must be named; 0: all that is kept, of these or of all';

-- Row security looks rows up in these two, so that they can have no OFFSET 0 (see views.sql): hence no names in them.
CREATE VIEW calsync.visible_subscription WITH (security_barrier) AS
SELECT s.subscription_id FROM calsync.subscription AS s
WHERE calsync.owns(s.owner) OR s.subscription_id OPERATOR(pg_catalog.=) ANY ((SELECT calsync.shared())::pg_catalog.int8[]);
COMMENT ON VIEW calsync.visible_subscription IS 'Internal: the calendars that row security shows events of';

CREATE VIEW calsync.owned_subscription WITH (security_barrier) AS
SELECT s.subscription_id FROM calsync.subscription AS s WHERE calsync.owns(s.owner);
COMMENT ON VIEW calsync.owned_subscription IS
    'Internal: the calendars that row security shows shares and the history of';

-- Each view shows the calendars of the roles that the reader is a member of; of shared ones nothing.
CREATE VIEW calsync.progress WITH (security_barrier) AS
SELECT s.calendar,
       s.owner,
       r.expected_sync_token IS NULL AS full_sync,
       r.round OPERATOR(pg_catalog.=) 0 AS fed_by_application,
       r.pages,
       (SELECT pg_catalog.count(*) FROM calsync.staged_event AS e
        WHERE e.subscription_id OPERATOR(pg_catalog.=) r.subscription_id
          AND e.round OPERATOR(pg_catalog.=) r.round) AS events,
       r.started_at,
       s.leased_until
FROM calsync.staged_round AS r
JOIN calsync.subscription AS s ON s.subscription_id OPERATOR(pg_catalog.=) r.subscription_id
WHERE calsync.owns(s.owner) AND (r.round OPERATOR(pg_catalog.=) 0 OR r.round OPERATOR(pg_catalog.=) s.lease)
ORDER BY r.started_at
OFFSET 0;
COMMENT ON VIEW calsync.progress IS
    'Rounds of which pages have come and more are awaited: how many pages, how many events, since when. A round of one '
    'page is never here';

CREATE VIEW calsync.stat_provider WITH (security_barrier) AS
SELECT s.provider,
       s.owner,
       s.credential,
       pg_catalog.count(DISTINCT s.subscription_id) AS calendars,
       pg_catalog.count(r.run_id) AS runs,
       pg_catalog.count(r.run_id) FILTER (WHERE r.full_sync) AS full_syncs,
       pg_catalog.count(r.run_id) FILTER (WHERE r.outcome OPERATOR(pg_catalog.=) 'token_lost') AS tokens_lost,
       pg_catalog.count(r.run_id) FILTER (WHERE r.outcome OPERATOR(pg_catalog.=) 'failed') AS failures,
       pg_catalog.max(r.finished_at) FILTER (WHERE r.outcome OPERATOR(pg_catalog.=) 'failed') AS last_failure_at,
       (pg_catalog.array_agg(r.error ORDER BY r.finished_at DESC)
            FILTER (WHERE r.outcome OPERATOR(pg_catalog.=) 'failed'))[1] AS last_failure,
       pg_catalog.sum(r.pages) AS pages,
       pg_catalog.sum(r.inserted) AS inserted,
       pg_catalog.sum(r.updated) AS updated,
       pg_catalog.sum(r.deleted) AS deleted,
       pg_catalog.avg(r.finished_at OPERATOR(pg_catalog.-) r.started_at)
            FILTER (WHERE r.outcome OPERATOR(pg_catalog.=) 'committed') AS average_duration,
       pg_catalog.min(r.started_at) AS since
FROM calsync.subscription AS s
LEFT JOIN calsync.sync_run AS r ON r.subscription_id OPERATOR(pg_catalog.=) s.subscription_id
WHERE calsync.owns(s.owner)
GROUP BY s.provider, s.owner, s.credential
ORDER BY s.provider, s.owner, s.credential
OFFSET 0;
COMMENT ON VIEW calsync.stat_provider IS
    'How it goes with each credential, from calsync.sync_run: of the past week, without the rounds that brought no news';

CREATE FUNCTION calsync.worker_lines()
RETURNS TABLE (database oid, pid integer, started_at timestamptz, config_loaded_at timestamptz,
               last_answer_at timestamptz, under_way integer, width integer, requests bigint, answers bigint,
               failures bigint)
LANGUAGE c VOLATILE ROWS 5 AS 'MODULE_PATHNAME', 'calsync_worker_lines_wrapper';
COMMENT ON FUNCTION calsync.worker_lines IS 'Internal: calsync.stat_worker before its databases have names';

CREATE VIEW calsync.stat_worker AS
SELECT d.datname AS database, w.pid, w.started_at, w.config_loaded_at, w.last_answer_at, w.under_way, w.width,
       w.requests, w.answers, w.failures
FROM calsync.worker_lines() AS w JOIN pg_catalog.pg_database AS d ON d.oid OPERATOR(pg_catalog.=) w.database
ORDER BY d.datname;
COMMENT ON VIEW calsync.stat_worker IS
    'One row a running worker of the cluster, since it started. config_loaded_at: since when it goes by the configuration '
    'that it goes by, as pg_conf_load_time() tells it of a session; under_way: rounds claimed; width: how many may be, which '
    'grows with each answer up to calsync.max_concurrency and falls back in an outage; failures: of the answers, none '
    'at all included';
