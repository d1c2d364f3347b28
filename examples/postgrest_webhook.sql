-- A receiver for push notifications where PostgREST serves the database: no process of its own.
--
--   psql -v ON_ERROR_STOP=1 -v schema=api -v web_role=web_anon -f examples/postgrest_webhook.sql
--
-- schema: one that PostgREST exposes (db-schemas). web_role: as whom it serves requests without a token (db-anon-role); it
-- gets two rights, to look into that schema and to hand notifications over. Afterwards, in postgresql.conf:
--
--   calsync.webhook_url = 'https://your.host/rpc/receive_calendar_notification'
--
-- If pg_calsync was installed into another schema than public, say so in the function.

\if :{?schema} \else \set schema api \endif
\if :{?web_role} \else \set web_role web_anon \endif

BEGIN;
SELECT pg_catalog.format('CREATE ROLE %I NOLOGIN', :'web_role')
WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = :'web_role') \gexec
SELECT pg_catalog.format('CREATE SCHEMA %I', :'schema')
WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = :'schema') \gexec

CREATE FUNCTION :"schema".receive_calendar_notification() RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    headers jsonb;
BEGIN
    BEGIN
        -- PostgREST: the headers of the request, names in lower case.
        headers := nullif(current_setting('request.headers', true), '')::jsonb;
    EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
        -- A NUL in one of them, say: no notification, which is answered 400. An error would be logged with the headers.
        NULL;
    END;
    -- PostgREST: the status of the answer.
    PERFORM set_config('response.status', public.calsync_webhook(headers)::text, true);
END $$;
COMMENT ON FUNCTION :"schema".receive_calendar_notification IS
    'For Google''s servers: takes a push notification from the headers of the request and answers 200, 400, 403 or 404';

REVOKE ALL ON FUNCTION :"schema".receive_calendar_notification FROM PUBLIC;
GRANT USAGE ON SCHEMA :"schema" TO :"web_role";
GRANT EXECUTE ON FUNCTION :"schema".receive_calendar_notification TO :"web_role";
GRANT EXECUTE ON FUNCTION public.calsync_webhook(jsonb, text) TO :"web_role";
COMMIT;
-- PostgREST learns of it.
NOTIFY pgrst, 'reload schema';
